//! Where clients are asked for certificates nobody gets in without one, and everybody can show one: OpenTelemetry's SDK, curl, our own
//! SDK and command line.

use crate::otel_clients::{self, PYTHON_PACKAGES};
use crate::tls::{EVENTS, https, output, port, recorder, start_for};
use gemba_tests::certificate::Authority;
use gemba_tests::client::{bare, send};
use gemba_tests::packages;
use gemba_tests::server::{Server, serve_command};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Files of a certificate and its key.
type Pair = (PathBuf, PathBuf);

/// A server that asks for certificates of an authority of clients, that authority and one that is none of its business.
struct Asking {
    server: Server,
    ca: PathBuf,
    clients: Authority,
    strangers: Authority,
    _folders: [TempDir; 3],
}

impl Asking {
    async fn start() -> Self {
        let [of_clients, of_strangers] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (clients, strangers) = (Authority::new(of_clients.path()), Authority::new(of_strangers.path()));
        let (server, authority, folder) = start_for(Some(clients.ca())).await;
        Self { server, ca: authority.ca(), clients, strangers, _folders: [folder, of_clients, of_strangers] }
    }

    /// Asks something over a connection that shows a certificate, or none, until it is answered. With TLS 1.3 a client learns that it
    /// is refused when it reads.
    async fn answered(&self, shown: Option<&Pair>) -> std::io::Result<()> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        };
        let stream = TcpStream::connect(("127.0.0.1", port(&self.server))).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await?;
        stream.write_all(REQUEST).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"HTTP/1.1 200");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_certificate_of_the_authority_and_another_authority_needs_no_restart() {
    let asking = Asking::start().await;
    let (known, strange) = (asking.clients.client("shop"), asking.strangers.client("shop"));
    asking.answered(Some(&known)).await.unwrap();
    for shown in [None, Some(&strange)] {
        assert!(asking.answered(shown).await.is_err(), "{shown:?} got in");
    }
    // Whoever is on the server itself does not leave it.
    let inside = format!("{}/healthz", asking.server.running.inner_url());
    assert_eq!(send(bare("GET", &inside, None)).await.status, 200);

    std::fs::copy(asking.strangers.ca(), asking.clients.ca()).unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    // Each look is a new connection; nothing else tells that the server has read the file again.
    while asking.answered(Some(&strange)).await.is_err() {
        assert!(Instant::now() < deadline, "the other authority is not heeded");
    }
    assert!(asking.answered(Some(&known)).await.is_err(), "the authority before goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn opentelemetrys_sdk_and_curl_show_their_certificates_and_lose_nothing() {
    let asking = Asking::start().await;
    let server = &asking.server;
    let (certificate, key) = asking.clients.client("python");
    let packages = packages::python(PYTHON_PACKAGES);
    let grpc = format!("https://localhost:{}", server.running.grpc_address().unwrap().port());
    for (protocol, address, service) in [("http/protobuf", https(server), "python_http"), ("grpc", grpc, "python_grpc")]
    {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &packages).env("OTEL_EXPORTER_OTLP_CERTIFICATE", &asking.ca);
        python.env("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &certificate);
        python.env("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key);
        python.env("REQUESTS_CA_BUNDLE", &asking.ca).arg(packages::script("otel.py"));
        otel_clients::run_at(python, &address, &server.keys.ingest, protocol, service).await;
        server.flush().await;
        otel_clients::check(server, service).await;
    }
    let curl = |shown: &[&Path]| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--cacert"]).arg(&asking.ca);
        for (option, file) in ["--cert", "--key"].iter().zip(shown) {
            command.arg(option).arg(file);
        }
        command.arg(format!("{}/healthz", https(server)));
        output(command)
    };
    let refused = curl(&[]).await;
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    assert_eq!(curl(&[&certificate, &key]).await.stdout, b"ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_sdk_and_command_line_show_their_certificates_or_say_what_is_missing() {
    let asking = Asking::start().await;
    let (server, ca) = (&asking.server, asking.ca.as_path());
    let (certificate, key) = asking.clients.client("shop");
    let talk = |output: &std::process::Output| {
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let record = |set: &[(&str, &Path)]| {
        let mut command = recorder(server, ca);
        command.envs(set.iter().copied());
        output(command)
    };
    let refused = record(&[]).await;
    assert!(talk(&refused).contains("delivered 0 of "), "{refused:?}");
    let half = record(&[("GEMBA_CLIENT_KEY", &key)]).await;
    assert!(talk(&half).contains("HalfAClientCertificate"), "{half:?}");
    let wrong = record(&[("GEMBA_CLIENT_CERTIFICATE", &certificate), ("GEMBA_CLIENT_KEY", &certificate)]).await;
    assert!(talk(&wrong).contains("InvalidClientCertificate"), "{wrong:?}");
    server.flush().await;
    assert_eq!(server.number("SELECT count() FROM ledger").await, 0);
    let known = record(&[("GEMBA_CLIENT_CERTIFICATE", &certificate), ("GEMBA_CLIENT_KEY", &key)]).await;
    assert!(known.status.success(), "{}", talk(&known));
    server.flush().await;
    assert_eq!(server.number("SELECT count() FROM events WHERE name = 'tls.used'").await, EVENTS);

    let ask = |shown: &[(&str, &Path)]| {
        let mut command = Command::new(gemba_tests::binary::gemba());
        command.args(["query", "feature_usage", "--from", "now - 1d", "--format", "json", "--ca"]).arg(ca);
        command.args(["--url", &https(server), "--key", &server.keys.read]).arg("--data").arg(ca.parent().unwrap());
        for (option, file) in shown {
            command.arg(option).arg(file);
        }
        output(command)
    };
    let both: [(&str, &Path); 2] = [("--client-certificate", &certificate), ("--client-key", &key)];
    let answered = ask(&both).await;
    assert!(answered.status.success() && talk(&answered).contains("tls.used"), "{answered:?}");
    let swapped: [(&str, &Path); 2] = [("--client-certificate", &key), ("--client-key", &certificate)];
    for (shown, problem) in [
        (&both[..0], "--client-certificate"),
        (&both[..1], "--client-key is given without the other"),
        (&swapped[..], "shop.key is no certificate for --client-certificate"),
    ] {
        let refused = ask(shown).await;
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(talk(&refused).contains(problem), "{problem}: {refused:?}");
    }
}

#[test]
fn a_file_that_holds_no_authority_is_named_with_its_setting() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    authority.renew();
    let (text, missing) = (folder.path().join("text"), folder.path().join("missing"));
    std::fs::write(&text, "no certificate").unwrap();
    let serve = |more: &[&Path]| {
        let mut command = Command::new(gemba_tests::binary::gemba());
        command
            .args(["serve", "--listen", "0.0.0.0:0", "--no-grpc-listen"])
            .arg("--data")
            .arg(folder.path().join("data"));
        command.arg("--tls-certificate").arg(authority.certificate()).arg("--tls-key").arg(authority.key());
        command.arg("--tls-client-ca").args(more).output().unwrap()
    };
    for (file, problem) in [
        (&text, "text holds no certificate for --tls-client-ca"),
        (&missing, "missing is no certificate for --tls-client-ca in PEM"),
    ] {
        let output = serve(&[file]);
        let talk = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{talk}");
        assert!(talk.contains(problem), "{problem}: {talk}");
    }
    let alone = serve_command(folder.path(), &["--tls-client-ca", text.to_str().unwrap()]).output().unwrap();
    assert_eq!(alone.status.code(), Some(2), "{}", String::from_utf8_lossy(&alone.stderr));
}
