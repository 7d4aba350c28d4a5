//! TLS on addresses that other machines reach: certificate and key from files, taken anew when they are renewed.
//!
//! In: the files' paths. Out: a [`TlsAcceptor`] that agrees on HTTP/1.1 or HTTP/2 with the client, TLS 1.2 and 1.3. Asks clients for no
//! certificate: who they are is what their key says.

use crate::config::TlsFiles;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

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
    #[error("{} holds no certificate", .0.display())]
    Empty(PathBuf),
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

/// The certificate to show, and where it comes from.
#[derive(Debug)]
pub struct Certificate {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    shown: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let shown = RwLock::new(Arc::new(read(&files, &provider)?));
        Ok(Arc::new(Self { files, provider, shown }))
    }

    /// What makes connections of it.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Setup)?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// What new connections are shown.
    pub fn shown(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again; true when they hold another certificate, which new connections get from now on. While one
    /// of the two is written and not yet the other, the pair does not fit and the old one stays.
    ///
    /// # Errors
    /// [`TlsError`]; the old certificate stays.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let found = read(&self.files, &self.provider)?;
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        if shown.cert == found.cert {
            return Ok(false);
        }
        *shown = Arc::new(found);
        Ok(true)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown())
    }
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let failed = |path: &Path, kind| {
        let path = path.to_owned();
        move |source| TlsError::File { path, kind, source }
    };
    let (certificate, key) = (&files.certificate, &files.key);
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(failed(certificate, "certificate"))?;
    if chain.is_empty() {
        return Err(TlsError::Empty(certificate.clone()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(failed(key, "private key"))?;
    CertifiedKey::from_der(chain, private, provider).map_err(|source| TlsError::Pair {
        key: key.clone(),
        certificate: certificate.clone(),
        source,
    })
}
