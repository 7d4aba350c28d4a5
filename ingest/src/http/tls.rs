//! TLS on addresses that other machines reach: certificate and key from files, taken anew when they are renewed.
//!
//! In: the files' paths. Out: a [`TlsAcceptor`] that agrees on HTTP/1.1 or HTTP/2 with the client, TLS 1.2 and 1.3. Where authorities
//! of clients are named nobody gets in without a certificate of one of them; who a client is, is still what its key says.

use crate::config::TlsFiles;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

const CERTIFICATE: &str = "certificate";
const AUTHORITY: &str = "certificate for --tls-client-ca";

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or holds nothing of the kind in PEM.
    #[error("{} is no {kind} in PEM", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        kind: &'static str,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file of certificates without any.
    #[error("{} holds no {kind}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        kind: &'static str,
    },
    /// A certificate that clients' cannot be checked against.
    #[error("{} holds a certificate for --tls-client-ca that is no authority's", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// Authorities that clients' certificates cannot be checked against.
    #[error("clients' certificates cannot be checked by --tls-client-ca")]
    Clients(#[source] VerifierBuilderError),
    /// A key that is another certificate's, or of a kind that is not known.
    #[error("the key {} does not fit the certificate {}", key.display(), certificate.display())]
    Pair {
        /// File of the key.
        key: PathBuf,
        /// File of the certificate.
        certificate: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// Settings that contradict each other.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// The certificate to show and those to ask for, and where they come from.
#[derive(Debug)]
pub struct Certificate {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    shown: RwLock<Arc<Shown>>,
}

/// What the files held when they were read last.
#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    /// Of the authorities whose certificates clients have to show; none, and nobody has to.
    authorities: Vec<CertificateDer<'static>>,
    config: Arc<ServerConfig>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let shown = RwLock::new(Arc::new(Shown::read(&files, &provider)?));
        Ok(Arc::new(Self { files, provider, shown }))
    }

    /// What makes a connection of it that begins now.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.now().config))
    }

    /// What new connections are shown.
    pub fn shown(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.now().key)
    }

    fn now(&self) -> Arc<Shown> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again; true when they hold other certificates, which hold for new connections from now on. While one
    /// of the two is written and not yet the other, the pair does not fit and the old ones stay.
    ///
    /// # Errors
    /// [`TlsError`]; the old certificates stay.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let found = Shown::read(&self.files, &self.provider)?;
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        if shown.key.cert == found.key.cert && shown.authorities == found.authorities {
            return Ok(false);
        }
        // With what clients have agreed on under the old one: nobody resumes past an authority that is gone.
        *shown = Arc::new(found);
        Ok(true)
    }
}

impl Shown {
    fn read(files: &TlsFiles, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let (certificate, key) = (&files.certificate, &files.key);
        let chain = certificates(certificate, CERTIFICATE)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(failed(key, "private key"))?;
        let pair = CertifiedKey::from_der(chain, private, provider);
        let pair = pair.map_err(|source| {
            let (key, certificate) = (key.clone(), certificate.clone());
            TlsError::Pair { key, certificate, source }
        })?;
        let key = Arc::new(pair);
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Setup)?;
        let (builder, authorities) = match &files.client_ca {
            None => (builder.with_no_client_auth(), Vec::new()),
            Some(path) => {
                let authorities = certificates(path, AUTHORITY)?;
                let mut roots = RootCertStore::empty();
                for authority in &authorities {
                    let added = roots.add(authority.clone());
                    added.map_err(|source| TlsError::Authority { path: path.clone(), source })?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
                let verifier = verifier.build().map_err(TlsError::Clients)?;
                (builder.with_client_cert_verifier(verifier), authorities)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&key))));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { key, authorities, config: Arc::new(config) })
    }
}

fn failed(path: &Path, kind: &'static str) -> impl FnOnce(pem::Error) -> TlsError + use<> {
    let path = path.to_owned();
    move |source| TlsError::File { path, kind, source }
}

/// All certificates of a file, at least one.
fn certificates(path: &Path, kind: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(failed(path, kind))?;
    if found.is_empty() { Err(TlsError::Empty { path: path.to_owned(), kind }) } else { Ok(found) }
}
