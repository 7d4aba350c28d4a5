//! ClickHouse away, slow, answering errors, full of parts, read-only, at full load: nothing is lost or doubled, memory stays
//! flat, requests go on being acknowledged, and `/readyz` and the metrics say what is wrong while it is.
//!
//! `GEMBA_OUTAGE_SECONDS` asks for longer troubles than the second each has in the suite; `.ci/long` gives them ten minutes.
//! What this does not prove: a disk that fills up during an outage (the log's own tests).

use crate::durability_support::{Load, flush, kill_now};
use gemba_tests::client::{bare, send};
use gemba_tests::engine;
use gemba_tests::server::{Keys, Process};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Most memory of the server, the engine not counted (`VmHWM`; issue: 300 MB at full load).
const MAX_MEMORY_BYTES: u64 = 300 << 20;
/// How long anything here may take before it counts as failed.
const PATIENCE: Duration = Duration::from_mins(2);

/// What is wrong with ClickHouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing.
    None,
    /// Connections are closed at once.
    Away,
    /// Each piece of a request takes this long.
    Slow(Duration),
    /// Inserts are answered with this error.
    Refuses(u16, &'static str),
}

const TROUBLES: [Trouble; 6] = [
    Trouble::Away,
    Trouble::Slow(Duration::from_millis(200)),
    Trouble::Refuses(500, "Code: 252. DB::Exception: Too many parts (3001). (TOO_MANY_PARTS)"),
    Trouble::Refuses(500, "Code: 242. DB::Exception: Table is in readonly mode. (TABLE_IS_READ_ONLY)"),
    Trouble::Refuses(500, "Code: 164. DB::Exception: Cannot execute query in readonly mode. (READONLY)"),
    Trouble::Refuses(502, "<html>502 Bad Gateway</html>"),
];

/// Something between the server and ClickHouse that makes trouble.
#[derive(Debug)]
pub(crate) struct Between {
    pub(crate) address: String,
    trouble: Arc<Mutex<Trouble>>,
}

impl Between {
    pub(crate) async fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let trouble = Arc::new(Mutex::new(Trouble::None));
        let (to, shared) = (to.to_owned(), Arc::clone(&trouble));
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (to, trouble) = (to.clone(), Arc::clone(&shared));
                // Either side may break off whenever it likes.
                tokio::spawn(async move { forward(client, &to, &trouble).await.unwrap_or_default() });
            }
        });
        Self { address, trouble }
    }

    pub(crate) fn make(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = trouble;
    }
}

/// Forwards bytes both ways, as the trouble of the moment allows.
async fn forward(mut client: TcpStream, to: &str, trouble: &Mutex<Trouble>) -> std::io::Result<()> {
    let now = || *trouble.lock().unwrap();
    let mut engine = TcpStream::connect(to).await?;
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    while now() != Trouble::Away {
        tokio::select! {
            read = client.read(&mut up) => {
                let sent = &up[..read?];
                let is_insert = [&b"INSERT+INTO"[..], b"INSERT%20INTO", b"INSERT INTO"]
                    .iter()
                    .any(|text| sent.windows(text.len()).any(|bytes| bytes == *text));
                if sent.is_empty() {
                    return Ok(());
                }
                match now() {
                    Trouble::Away => return Ok(()),
                    Trouble::Slow(pause) => tokio::time::sleep(pause).await,
                    Trouble::Refuses(status, text) if is_insert => {
                        let answer = format!(
                            "HTTP/1.1 {status} No\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
                            text.len()
                        );
                        client.write_all(answer.as_bytes()).await?;
                        // Until the sender has read it: closing at once could take the answer back.
                        while client.read(&mut up).await? > 0 {}
                        return Ok(());
                    }
                    Trouble::None | Trouble::Refuses(..) => {}
                }
                engine.write_all(sent).await?;
            }
            read = engine.read(&mut down) => match read? {
                0 => return Ok(()),
                read => client.write_all(&down[..read]).await?,
            },
            // A connection at rest learns that ClickHouse is gone.
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
    Ok(())
}

async fn ready(serve: &Process) -> Value {
    let answer = send(bare("GET", &format!("{}/readyz", serve.url), None)).await;
    assert_eq!(answer.status, 200, "the log goes on taking data: {:?}", answer.body);
    answer.json()
}

/// A sample of `/metrics`.
async fn metric(serve: &Process, name: &str) -> f64 {
    let answer = send(bare("GET", &format!("{}/metrics", serve.url), None)).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// Waits until `/readyz` says so.
async fn until(serve: &Process, what: &str, is_so: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = ready(serve).await;
        if is_so(&said) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {said}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// While it lasts: acknowledged all the while, and said to be so.
async fn suffer(serve: &Process, load: &Load, trouble: Trouble, lasts: Duration) {
    let before = load.acknowledged();
    if !matches!(trouble, Trouble::Slow(_)) {
        until(serve, "the problem is told", |said| said["store_problem"].is_string()).await;
        let said = ready(serve).await;
        if let Trouble::Refuses(_, text) = trouble {
            assert!(said["store_problem"].as_str().unwrap().contains(text), "{said}");
        }
        assert_eq!((&said["ready"], &said["accepts_data"]), (&true.into(), &true.into()), "{said}");
        assert!(metric(serve, "gemba_store_reachable").await < 0.5, "{said}");
        // The problem is told before anything waits for it to pass.
        until(serve, "what is acknowledged waits", |said| said["pending_records"] != 0).await;
        assert!(metric(serve, "gemba_records_pending").await > 0.0);
    }
    tokio::time::sleep(lasts).await;
    let deadline = Instant::now() + PATIENCE;
    while load.acknowledged() < before + 100 {
        assert!(Instant::now() < deadline, "{trouble:?}: requests are not acknowledged any more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_clickhouse_does_for_however_long_nothing_is_lost_and_the_server_tells_the_truth() {
    let seconds = std::env::var("GEMBA_OUTAGE_SECONDS").map_or(1, |text| text.parse().expect("GEMBA_OUTAGE_SECONDS"));
    let lasts = Duration::from_secs(seconds);
    let folder = tempfile::tempdir().unwrap();
    let engine = engine::start(&folder.path().join("engine"));
    let between = Between::start(engine.url().strip_prefix("http://").unwrap()).await;
    let data = folder.path().join("data");
    let arguments = ["--clickhouse", &between.address, "--clickhouse-password", engine.password()];
    let mut serve = Process::start(&data, &arguments);
    let keys = Keys::of(&data);
    let load = Load::start(4, &serve.url, &keys.ingest);
    for trouble in TROUBLES {
        between.make(trouble);
        load.resume();
        suffer(&serve, &load, trouble, lasts).await;
        if trouble == Trouble::Away {
            // Killed in the middle of it, and started again from what the disk holds.
            kill_now(serve.id());
            serve.wait(Duration::from_secs(10));
            serve = Process::start(&data, &arguments);
            load.point_to(&serve.url);
            suffer(&serve, &load, trouble, lasts).await;
        }
        let memory = engine::memory(u32::try_from(serve.id()).unwrap(), "VmHWM");
        assert!(memory < MAX_MEMORY_BYTES, "{trouble:?}: {memory} bytes");
        between.make(Trouble::None);
        load.pause();
        flush(&serve.url, &keys).await;
        let context = format!("{trouble:?}");
        until(&serve, &context, |said| said["store_problem"].is_null()).await;
        assert!(metric(&serve, "gemba_store_reachable").await > 0.5, "{context}");
        load.check_store(&engine::store(&engine), &[&serve.url], &context).await;
    }
    let sent = load.stop();
    println!("{} events acknowledged, {} requests repeated", sent.acknowledged, sent.repeated);
    assert_eq!(serve.stop(), Some(0));
    engine.stop().await;
}
