//! What makes requests: whom it trusts with https, and what it shows of itself.
//!
//! In: files of certificates. Out: the agent, or which file cannot be used.

use crate::config::Tls;
use crate::guard::InitError;
#[cfg(feature = "tls")]
use std::path::Path;
use ureq::Agent;
#[cfg(feature = "tls")]
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// What makes requests.
#[cfg_attr(
    not(feature = "tls"),
    expect(
        unused_variables,
        clippy::unnecessary_wraps,
        reason = "a build without encryption has refused every address that asks for it"
    )
)]
pub(crate) fn agent(tls: Option<&Tls>) -> Result<Agent, InitError> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("gemba/", env!("CARGO_PKG_VERSION")));
    #[cfg(feature = "tls")]
    let config = match tls {
        Some(tls) => config.tls_config(tls_config(tls)?),
        None => config,
    };
    Ok(config.build().into())
}

#[cfg(feature = "tls")]
fn tls_config(tls: &Tls) -> Result<TlsConfig, InitError> {
    let mut config = TlsConfig::builder();
    if let Some(path) = &tls.ca {
        config = config.root_certs(RootCerts::new_with_certs(&certificates(path, invalid_ca)?));
    }
    if let Some((certificate, key)) = &tls.client {
        let chain = certificates(certificate, invalid_client)?;
        let failed = |problem: String| invalid_client(key, problem);
        let pem = std::fs::read(key).map_err(|error| failed(error.to_string()))?;
        let private = PrivateKey::from_pem(&pem).map_err(|error| failed(error.to_string()))?;
        config = config.client_cert(Some(ClientCert::new_with_certs(&chain, private)));
    }
    Ok(config.build())
}

#[cfg(feature = "tls")]
fn invalid_ca(path: &Path, problem: String) -> InitError {
    InitError::InvalidCa { path: path.to_owned(), problem }
}

#[cfg(feature = "tls")]
fn invalid_client(path: &Path, problem: String) -> InitError {
    InitError::InvalidClientCertificate { path: path.to_owned(), problem }
}

/// All certificates of a file, at least one.
#[cfg(feature = "tls")]
fn certificates(
    path: &Path,
    failed: impl Fn(&Path, String) -> InitError,
) -> Result<Vec<Certificate<'static>>, InitError> {
    let pem = std::fs::read(path).map_err(|error| failed(path, error.to_string()))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| failed(path, error.to_string()))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(failed(path, "it is empty".to_owned())) } else { Ok(found) }
}
