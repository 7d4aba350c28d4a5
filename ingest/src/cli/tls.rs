//! How a subcommand speaks to a server with https: whom it trusts, and what it shows of itself.
//!
//! In: the files. Out: what makes requests, or a [`Failure`] that names the file and its option.

use super::Failure;
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// Files in PEM, read for https only.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsArgs {
    /// Certificate in PEM that a server with https is trusted by; without one the public authorities are
    #[arg(long, global = true, env = "GEMBA_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Certificate chain in PEM to show to a server that asks for one (--tls-client-ca)
    #[arg(long, global = true, env = "GEMBA_CLIENT_CERTIFICATE", value_name = "FILE")]
    pub client_certificate: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, global = true, env = "GEMBA_CLIENT_KEY", value_name = "FILE")]
    pub client_key: Option<PathBuf>,
}

impl TlsArgs {
    /// What makes requests to `url`, each within `timeout`.
    pub fn agent(&self, url: &str, timeout: Duration) -> Result<ureq::Agent, Failure> {
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(timeout));
        let is_encrypted = url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        if !is_encrypted {
            return Ok(config.build().into());
        }
        let mut tls = TlsConfig::builder();
        if let Some(path) = &self.ca {
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates(path, "--ca")?));
        }
        tls = match (&self.client_certificate, &self.client_key) {
            (None, None) => tls,
            (Some(certificate), Some(key)) => tls.client_cert(Some(client_certificate(certificate, key)?)),
            _ => {
                return Err(Failure::new(
                    "one of --client-certificate and --client-key is given without the other",
                    "a certificate is of use with its key only; give both, or neither",
                ));
            }
        };
        Ok(config.tls_config(tls.build()).build().into())
    }
}

fn client_certificate(certificate: &Path, key: &Path) -> Result<ClientCert, Failure> {
    let chain = certificates(certificate, "--client-certificate")?;
    let private = PrivateKey::from_pem(&read(key, "--client-key")?);
    let private = private.map_err(|error| failure(key, "--client-key", "private key", &error.to_string()))?;
    Ok(ClientCert::new_with_certs(&chain, private))
}

fn certificates(path: &Path, option: &str) -> Result<Vec<Certificate<'static>>, Failure> {
    let failed = |problem: &str| failure(path, option, "certificate", problem);
    let mut found = Vec::new();
    for item in parse_pem(&read(path, option)?) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| failed(&error.to_string()))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(failed("it holds none")) } else { Ok(found) }
}

fn read(path: &Path, option: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| failure(path, option, "file", &error.to_string()))
}

fn failure(path: &Path, option: &str, kind: &str, problem: &str) -> Failure {
    Failure::new(
        format!("{} is no {kind} for {option}: {problem}", path.display()),
        format!("{option} takes PEM, as `openssl` prints it"),
    )
}
