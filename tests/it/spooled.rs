//! The SDK's spool against the real server: what waited on disk, and was sent twice, is counted once.
//!
//! The recording process is this program again with `child` as the only test. Between it and the server stands a gate that can
//! be shut, and can swallow the server's answers.

use gemba_tests::client::{bare, send};
use gemba_tests::server::Server;
use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ROLE: &str = "SPOOLED_ROLE";
const EVENTS: u64 = 250;

/// What the gate does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Gate {
    /// Lets it through.
    Open = 0,
    /// Answers 503 itself.
    Shut = 1,
    /// Lets it through and cuts the connection instead of passing the answer on.
    Mute = 2,
}

/// A gate in front of the server.
struct Front {
    address: SocketAddr,
    gate: Arc<AtomicU8>,
    /// Requests the server answered.
    answered: Arc<AtomicU64>,
}

impl Front {
    fn start(server: &str, gate: Gate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server: SocketAddr = server.strip_prefix("http://").unwrap().parse().unwrap();
        let gate = Arc::new(AtomicU8::new(gate as u8));
        let answered = Arc::new(AtomicU64::new(0));
        let shared = (Arc::clone(&gate), Arc::clone(&answered));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (gate, answered) = shared.clone();
                std::thread::spawn(move || pass(&connection.unwrap(), server, &gate, &answered));
            }
        });
        Self { address, gate, answered }
    }
}

/// One HTTP message as it came: head and body; None at the end of the connection.
fn message(reader: &mut impl std::io::BufRead) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        bytes.extend(line.as_bytes());
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let head = bytes.len();
    bytes.resize(head + length, 0);
    reader.read_exact(&mut bytes[head..]).ok()?;
    Some(bytes)
}

fn pass(mut client: &TcpStream, server: SocketAddr, gate: &AtomicU8, answered: &AtomicU64) {
    let mut requests = BufReader::new(client);
    while let Some(request) = message(&mut requests) {
        if gate.load(Ordering::SeqCst) == Gate::Shut as u8 {
            client.write_all(b"HTTP/1.1 503 Shut\r\ncontent-length: 0\r\n\r\n").unwrap();
            continue;
        }
        let mut connection = TcpStream::connect(server).unwrap();
        connection.write_all(&request).unwrap();
        let answer = message(&mut BufReader::new(&connection)).unwrap();
        answered.fetch_add(1, Ordering::SeqCst);
        if gate.load(Ordering::SeqCst) == Gate::Mute as u8 {
            return;
        }
        client.write_all(&answer).unwrap();
    }
}

/// The recording process; by itself it has no role and ends at once.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let guard = gemba::Config::new("shop")
        .release("1.0")
        .send_interval(Duration::from_millis(20))
        .shutdown_timeout(Duration::from_secs(3))
        .start()
        .unwrap();
    if role == "record" {
        gemba::scope().user("u-7").run(|| {
            (0..EVENTS).for_each(|number| gemba::feature!("cart.view", number = number));
        });
    } else {
        let deadline = Instant::now() + Duration::from_mins(1);
        // The figures are what the sending thread does.
        while gemba::stats().adopted == 0 || gemba::stats().spooled > 0 {
            assert!(Instant::now() < deadline, "{:?}", gemba::stats());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    drop(guard);
    let stats = gemba::stats();
    assert_eq!((stats.dropped_total(), stats.unconfirmed, stats.pending), (0, 0, 0), "{stats:?}");
    assert_eq!(stats.recorded + stats.adopted, stats.delivered + stats.spooled, "{stats:?}");
}

async fn run_child(role: &'static str, front: &Front, key: &str, folder: &std::path::Path) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["spooled::child", "--exact", "--nocapture"])
        .env(ROLE, role)
        .env("GEMBA_ENDPOINT", format!("http://{}", front.address))
        .env("GEMBA_KEY", key)
        .env("GEMBA_SPOOL_DIR", folder);
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
}

async fn uses(server: &Server) -> u64 {
    server.flush().await;
    let url = server.url("/api/v1/queries/feature_usage?from=now%20-%201d");
    let answer = send(bare("GET", &url, Some(&server.keys.read))).await.json();
    let columns = answer["columns"].as_array().unwrap();
    let column = |name: &str| columns.iter().position(|column| column["name"] == name).unwrap();
    let (feature, uses) = (column("feature"), column("uses"));
    let rows = answer["rows"].as_array().unwrap();
    rows.iter().filter(|row| row[feature] == "cart.view").map(|row| row[uses].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_on_disk_and_was_sent_twice_is_counted_once() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();

    // The server is out of reach as long as the first process lives: nothing arrives.
    let front = Front::start(server.running.url(), Gate::Shut);
    run_child("record", &front, &server.keys.ingest, folder.path()).await;
    assert_eq!(front.answered.load(Ordering::SeqCst), 0);
    assert_eq!(uses(&server).await, 0);

    // The second sends it, the server stores it, and the answer is lost on the way: it stays on disk.
    let mute = Front::start(server.running.url(), Gate::Mute);
    run_child("record", &mute, &server.keys.ingest, folder.path()).await;
    assert!(mute.answered.load(Ordering::SeqCst) > 0);

    // The third sends everything, some of it for the second time.
    front.gate.store(Gate::Open as u8, Ordering::SeqCst);
    run_child("deliver", &front, &server.keys.ingest, folder.path()).await;
    assert_eq!(uses(&server).await, 2 * EVENTS);
    let repeated = server.number("SELECT sum(records) FROM ledger FINAL WHERE fate = 'deduplicated'").await;
    assert!(repeated > 0, "nothing was sent twice, so nothing was shown");
}
