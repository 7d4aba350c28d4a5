//! TLS on addresses that other machines reach: who speaks it, how it is renewed, and what does not get in.

use crate::otel_clients::{self, PYTHON_PACKAGES};
use gemba_ingest::config::TlsFiles;
use gemba_ingest::http::tls::{Certificate, TlsError};
use gemba_tests::certificate::Authority;
use gemba_tests::client::{bare, send};
use gemba_tests::packages;
use gemba_tests::server::{Server, serve_command};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const ROLE: &str = "TLS_ROLE";
pub(crate) const EVENTS: u64 = 250;
/// How long a handshake may take at the servers of these claims.
const HANDSHAKE: Duration = Duration::from_secs(1);

async fn start() -> (Server, Authority, TempDir) {
    start_for(None).await
}

/// A server whose addresses can be reached from other machines, and whose certificate is for `localhost`; it asks clients for
/// certificates of `client_ca`.
pub(crate) async fn start_for(client_ca: Option<PathBuf>) -> (Server, Authority, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    authority.renew();
    let files = TlsFiles { certificate: authority.certificate(), key: authority.key(), client_ca };
    let server = Server::start_with(|config| {
        config.listen = "0.0.0.0:0".parse().unwrap();
        config.grpc_listen = Some("0.0.0.0:0".parse().unwrap());
        config.tls = Some(files);
        config.tls_refresh = Duration::from_millis(50);
        config.limits.header_timeout = HANDSHAKE;
    })
    .await;
    (server, authority, folder)
}

pub(crate) fn port(server: &Server) -> u16 {
    let url = server.running.url();
    assert!(url.starts_with("https://0.0.0.0:"), "{url}");
    url.rsplit(':').next().unwrap().parse().unwrap()
}

pub(crate) fn https(server: &Server) -> String {
    format!("https://localhost:{}", port(server))
}

/// A connection that trusts the certificates in the file `ca` and offers `protocols`.
async fn connect(server: &Server, ca: &Path, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(("127.0.0.1", port(server))).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
}

/// The certificate a connection was shown.
fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

pub(crate) async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn opentelemetry_sdks_that_trust_the_certificate_lose_nothing_over_http_and_grpc() {
    let (server, authority, _folder) = start().await;
    let packages = packages::python(PYTHON_PACKAGES);
    let grpc = format!("https://localhost:{}", server.running.grpc_address().unwrap().port());
    for (protocol, address, service) in
        [("http/protobuf", https(&server), "python_http"), ("grpc", grpc, "python_grpc")]
    {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &packages).env("OTEL_EXPORTER_OTLP_CERTIFICATE", authority.ca());
        // The HTTP library prefers a list of authorities that the machine names over the exporter's own.
        python.env("REQUESTS_CA_BUNDLE", authority.ca()).arg(packages::script("otel.py"));
        otel_clients::run_at(python, &address, &server.keys.ingest, protocol, service).await;
        server.flush().await;
        otel_clients::check(&server, service).await;
    }
}

/// A process that records, for the next claim and those of `tls_clients`.
pub(crate) fn recorder(server: &Server, ca: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["tls::child", "--exact", "--nocapture"]).env(ROLE, "record").env("GEMBA_CA", ca);
    command.env("GEMBA_ENDPOINT", https(server)).env("GEMBA_KEY", &server.keys.ingest);
    command
}

/// What that process is; by itself it has no role and ends at once.
#[test]
fn child() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let guard = gemba::Config::new("shop").release("1.0").shutdown_timeout(Duration::from_secs(5)).start().unwrap();
    (0..EVENTS).for_each(|number| gemba::feature!("tls.used", number = number));
    drop(guard);
    let stats = gemba::stats();
    println!("delivered {} of {}", stats.delivered, stats.recorded);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_sdk_and_command_line_work_over_tls_and_send_no_key_to_a_stranger() {
    let (server, authority, folder) = start().await;
    let stranger = tempfile::tempdir().unwrap();
    let strange_ca = Authority::new(stranger.path()).ca();
    let strange = output(recorder(&server, &strange_ca)).await;
    let talk = String::from_utf8_lossy(&strange.stdout);
    assert!(talk.contains("delivered 0 of "), "{talk}");
    assert_eq!(server.number("SELECT count() FROM ledger").await, 0);
    let known = output(recorder(&server, &authority.ca())).await;
    let talk = String::from_utf8_lossy(&known.stdout);
    assert!(
        known.status.success() && !talk.contains("delivered 0"),
        "{talk}{}",
        String::from_utf8_lossy(&known.stderr)
    );
    server.flush().await;
    assert_eq!(server.number("SELECT count() FROM events WHERE name = 'tls.used'").await, EVENTS);

    let ask = |ca: Option<&Path>| {
        let mut command = Command::new(gemba_tests::binary::gemba());
        command.args(["query", "feature_usage", "--from", "now - 1d", "--format", "json"]);
        command.args(["--url", &https(&server), "--key", &server.keys.read]);
        command.arg("--data").arg(folder.path()).args(ca.iter().flat_map(|ca| [Path::new("--ca"), ca]));
        output(command)
    };
    let answer = ask(Some(&authority.ca())).await;
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["rows"].as_array().map(Vec::len), Some(1), "{answer}");
    for ca in [None, Some(strange_ca.as_path())] {
        let refused = ask(ca).await;
        let talk = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{talk}");
        assert!(talk.contains("certificate") && talk.contains("--ca"), "{talk}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_and_http_2_are_agreed_on_and_a_renewed_certificate_is_shown_without_a_restart() {
    let (server, authority, _folder) = start().await;
    for (offered, agreed) in [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)] {
        let stream = connect(&server, &authority.ca(), offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed.map(str::as_bytes));
    }
    let mut before = connect(&server, &authority.ca(), &["http/1.1"]).await.unwrap();
    let first = shown(&before);
    let second = authority.renew();
    assert_ne!(first, second);
    let deadline = Instant::now() + Duration::from_mins(1);
    // Each look is a new connection; nothing else tells that the server has read the files again.
    while shown(&connect(&server, &authority.ca(), &[]).await.unwrap()) != second {
        assert!(Instant::now() < deadline, "the renewed certificate is not shown");
    }
    before.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    before.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn files_that_do_not_fit_each_other_are_told_and_the_certificate_before_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let first = authority.renew();
    let files = TlsFiles { certificate: authority.certificate(), key: authority.key(), client_ca: None };
    let certificate = Certificate::load(files).unwrap();
    let shown = || certificate.shown().cert[0].to_vec();
    let key_before = std::fs::read(authority.key()).unwrap();
    assert!(!certificate.refresh().unwrap());

    // The new certificate beside the key of the old one: the moment between the two files, or a mistake.
    let second = authority.renew();
    let key = std::fs::read(authority.key()).unwrap();
    std::fs::write(authority.key(), &key_before).unwrap();
    let refused = certificate.refresh();
    assert!(matches!(refused, Err(TlsError::Pair { .. })), "{refused:?}");
    assert_eq!(shown(), first);
    let whole = std::fs::read(authority.certificate()).unwrap();
    std::fs::write(authority.certificate(), "no certificate").unwrap();
    let refused = certificate.refresh();
    assert!(matches!(refused, Err(TlsError::Empty { .. })), "{refused:?}");
    assert_eq!(shown(), first);

    std::fs::write(authority.key(), key).unwrap();
    std::fs::write(authority.certificate(), whole).unwrap();
    assert!(certificate.refresh().unwrap());
    assert_eq!(shown(), second);
}

/// An address of this machine beyond loopback; nothing is sent to find it.
fn own_address() -> IpAddr {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").expect("this claim needs an address beyond loopback");
    socket.local_addr().unwrap().ip()
}

/// A connection that the server cannot take for one of its own machine: its source is no address of loopback and not the one
/// it was made to.
async fn connect_as_a_stranger(server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((own_address(), 0).into()).unwrap();
    socket.connect(([127, 0, 0, 1], port(server)).into()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_machines_that_do_not_encrypt_or_say_nothing_are_let_go() {
    let (server, authority, _folder) = start().await;
    let request = &b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"[..];
    let silent = TcpStream::connect(("127.0.0.1", port(&server))).await.unwrap();
    let openings =
        [(connect_as_a_stranger(&server).await, request), (connect_as_a_stranger(&server).await, b""), (silent, b"")];
    for (mut stream, opening) in openings {
        stream.write_all(opening).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(20 * HANDSHAKE, stream.read_to_end(&mut answer)).await;
        // A reset ends it as well.
        drop(read.expect("the connection is held"));
        assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    }
    let stranger = tempfile::tempdir().unwrap();
    assert!(connect(&server, &Authority::new(stranger.path()).ca(), &[]).await.is_err());
    assert!(connect(&server, &authority.ca(), &["spdy/3"]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_on_the_server_itself_needs_no_certificate() {
    let (server, _authority, folder) = start().await;
    let inside = server.running.inner_url();
    assert_eq!(inside, format!("http://127.0.0.1:{}", port(&server)), "the address that others reach with https");
    let ask = |url: &str| {
        let mut command = Command::new(gemba_tests::binary::gemba());
        command.args(["query", "feature_usage", "--from", "now - 1d", "--format", "json"]);
        command.args(["--url", url, "--key", &server.keys.read]).arg("--data").arg(folder.path());
        // Of use with https only.
        command.arg("--ca").arg(folder.path().join("missing.pem"));
        output(command)
    };
    for url in [inside.to_owned(), format!("http://{}:{}", own_address(), port(&server))] {
        let answer = ask(&url).await;
        assert!(answer.status.success(), "{url}: {}", String::from_utf8_lossy(&answer.stderr));
    }
    assert_eq!(send(bare("GET", &format!("{inside}/healthz"), None)).await.status, 200);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = ask(&format!("http://{free}")).await;
    let talk = String::from_utf8_lossy(&nobody.stderr);
    assert_eq!(nobody.status.code(), Some(1), "{talk}");
    assert!(talk.contains("https://") && talk.contains("--ca"), "{talk}");
}

/// What `gemba serve` says that does not start.
fn serve_on(listen: &str, folder: &Path, certificate: &str, key: &str) -> Output {
    let mut command = Command::new(gemba_tests::binary::gemba());
    command.args(["serve", "--listen", listen, "--grpc-listen", "127.0.0.1:0"]).arg("--data").arg(folder.join("data"));
    command.args(["--tls-certificate", certificate, "--tls-key", key]).output().unwrap()
}

#[test]
fn files_that_are_no_certificate_and_key_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    authority.renew();
    let (other, text, missing) =
        (folder.path().join("other.pem"), folder.path().join("text"), folder.path().join("missing"));
    std::fs::rename(authority.key(), &other).unwrap();
    authority.renew();
    std::fs::write(&text, "no certificate").unwrap();
    for (certificate, key, problem) in [
        (authority.certificate(), other.clone(), "other.pem does not fit the certificate"),
        (text.clone(), authority.key(), "text holds no certificate"),
        (missing.clone(), authority.key(), "missing is no certificate in PEM"),
        (authority.certificate(), text.clone(), "text is no private key in PEM"),
    ] {
        let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
        let output = serve_on("0.0.0.0:0", folder.path(), certificate, key);
        let talk = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{talk}");
        assert!(
            talk.contains(problem) && talk.contains("--tls-certificate takes the whole chain"),
            "{problem}: {talk}"
        );
    }
    let (certificate, key) = (authority.certificate(), authority.key());
    let unused = serve_on("127.0.0.1:0", folder.path(), certificate.to_str().unwrap(), key.to_str().unwrap());
    let talk = String::from_utf8(unused.stderr).unwrap();
    assert_eq!(unused.status.code(), Some(1), "{talk}");
    assert!(talk.contains("--tls-certificate is given") && talk.contains("--listen 0.0.0.0:4318"), "{talk}");
    let alone = serve_command(folder.path(), &["--tls-key", other.to_str().unwrap()]).output().unwrap();
    assert_eq!(alone.status.code(), Some(2), "{}", json!(String::from_utf8_lossy(&alone.stderr)));
}
