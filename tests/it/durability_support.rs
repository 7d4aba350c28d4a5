//! What the claims about kills share: a load that repeats what was not acknowledged, the engine behind a server, and the
//! books that must add up.

use gemba_ingest::rows::Table;
use gemba_ingest::store::{Client, StoreConfig};
use gemba_tests::client::{bare, send};
use gemba_tests::server::{Keys, Process};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, and the same on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Die(pub(crate) u64);

impl Die {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// One request: events whose attribute `id` is found nowhere else, and one record that a rule rejects.
pub(crate) fn request(ids: &[String], time_ms: u64) -> Vec<u8> {
    let mut log_records: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(index, id)| LogRecord {
            time_unix_nano: (time_ms + index as u64) * 1_000_000,
            event_name: ["cart", "pay", "search"][index % 3].into(),
            attributes: vec![
                attribute("id", any_value::Value::StringValue(id.clone())),
                attribute("user.id", any_value::Value::StringValue(format!("user-{}", index % 7))),
                attribute("amount", any_value::Value::DoubleValue(index as f64)),
            ],
            ..LogRecord::default()
        })
        .collect();
    log_records.push(LogRecord { time_unix_nano: time_ms * 1_000_000, ..LogRecord::default() });
    let service = attribute("service.name", any_value::Value::StringValue("load".into()));
    let resource = Some(Resource { attributes: vec![service], ..Resource::default() });
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

/// What was sent so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) acknowledged: u64,
    pub(crate) repeated: u64,
}

#[derive(Debug)]
struct Gate {
    is_open: bool,
    /// Connections with a request not acknowledged yet.
    busy: usize,
}

#[derive(Debug)]
struct Shared {
    /// Addresses of the nodes, taken in turn.
    urls: Mutex<Vec<String>>,
    key: String,
    gate: Mutex<Gate>,
    changed: Condvar,
    stopping: AtomicBool,
    repeated: AtomicU64,
    acknowledged: Mutex<HashSet<String>>,
}

/// Connections that send one request after the other and repeat each until it is acknowledged.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Connections, waiting to be resumed.
    pub(crate) fn start(connections: usize, url: &str, key: &str) -> Self {
        let shared = Arc::new(Shared {
            urls: Mutex::new(vec![url.to_owned()]),
            key: key.to_owned(),
            gate: Mutex::new(Gate { is_open: false, busy: 0 }),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            repeated: AtomicU64::new(0),
            acknowledged: Mutex::new(HashSet::new()),
        });
        let threads = (0..connections)
            .map(|connection| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.send_for_ever(connection))
            })
            .collect();
        Self { shared, threads }
    }

    pub(crate) fn point_to(&self, url: &str) {
        self.balance(&[url]);
    }

    /// Each request, and each try of it, goes to the next of these nodes.
    pub(crate) fn balance(&self, urls: &[&str]) {
        *self.shared.urls.lock().unwrap() = urls.iter().map(|url| (*url).to_owned()).collect();
    }

    /// How many events were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.shared.acknowledged.lock().unwrap().len()
    }

    pub(crate) fn resume(&self) {
        self.shared.gate.lock().unwrap().is_open = true;
        self.shared.changed.notify_all();
    }

    /// Waits until every request begun is acknowledged, and begins no other.
    pub(crate) fn pause(&self) {
        let mut gate = self.shared.gate.lock().unwrap();
        gate.is_open = false;
        while gate.busy > 0 {
            let (back, waited) = self.shared.changed.wait_timeout(gate, Duration::from_mins(2)).unwrap();
            gate = back;
            assert!(!waited.timed_out(), "requests are not acknowledged any more");
        }
    }

    pub(crate) fn stop(self) -> Sent {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.resume();
        for thread in self.threads {
            thread.join().unwrap();
        }
        Sent {
            acknowledged: self.shared.acknowledged.lock().unwrap().len() as u64,
            repeated: self.shared.repeated.load(Ordering::Relaxed),
        }
    }

    /// All books: events against what was acknowledged, the projection against raw, the ledger.
    pub(crate) async fn check(&self, serve: &Process, keys: &Keys, context: &str) {
        flush(&serve.url, keys).await;
        let engine = engine_of(serve).expect("an engine after everything is stored");
        self.check_store(&engine.store, &[&serve.url], context).await;
    }

    /// The same in a store of several nodes, all of which have stored everything.
    pub(crate) async fn check_store(&self, store: &Client, urls: &[&str], context: &str) {
        let stored = texts(store, "SELECT strings['id'] FROM events WHERE project = 1").await;
        let acknowledged = self.shared.acknowledged.lock().unwrap().clone();
        check_exactly_once(&stored, &acknowledged, context);
        check_projection(store, context).await;
        let nothing_pending = async || {
            for url in urls {
                if send(bare("GET", &format!("{url}/readyz"), None)).await.json()["pending_records"] != 0 {
                    return false;
                }
            }
            true
        };
        check_ledger(store, nothing_pending, context).await;
    }
}

impl Shared {
    fn send_for_ever(&self, connection: usize) {
        let mut die = Die(connection as u64);
        let instance = format!("{:08x}-0000-4000-8000-{connection:012x}", die.roll(1 << 32));
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            .build()
            .into();
        for batch in 0_u64.. {
            let mut gate = self.gate.lock().unwrap();
            while !gate.is_open {
                gate = self.changed.wait(gate).unwrap();
            }
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            gate.busy += 1;
            drop(gate);
            let ids: Vec<_> = (0..=die.roll(200)).map(|index| format!("{connection}-{batch}-{index}")).collect();
            let body = request(&ids, 1_790_000_000_000 + batch * 60_000);
            // Every fifth request is one of a client that gives no key.
            let key = (batch % 5 != 4).then(|| format!("{instance}-{batch}"));
            self.send_until_acknowledged(&agent, batch, key.as_deref(), &body);
            self.acknowledged.lock().unwrap().extend(ids);
            self.gate.lock().unwrap().busy -= 1;
            self.changed.notify_all();
        }
    }

    fn send_until_acknowledged(&self, agent: &ureq::Agent, batch: u64, key: Option<&str>, body: &[u8]) {
        for turn in batch.. {
            let url = {
                let urls = self.urls.lock().unwrap();
                format!("{}/v1/logs", urls[usize::try_from(turn).unwrap() % urls.len()])
            };
            let mut request = agent
                .post(&url)
                .header("authorization", &format!("Bearer {}", self.key))
                .header("content-type", "application/x-protobuf");
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            match request.send(body) {
                Ok(answer) if answer.status() == 200 => return,
                Ok(answer) => assert_eq!(answer.status(), 503, "a request was refused for good"),
                Err(_cut_off) => {}
            }
            self.repeated.fetch_add(1, Ordering::Relaxed);
            // As a client backs off; long enough for a server to be there again after a few tries.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Waits until everything acknowledged is stored; a server that just started may need several tries.
pub(crate) async fn flush(url: &str, keys: &Keys) {
    for _ in 0..4 {
        if send(bare("POST", &format!("{url}/api/v1/flush"), Some(&keys.ingest))).await.status == 200 {
            return;
        }
    }
    panic!("what was acknowledged is not stored after two minutes");
}

/// The engine behind a server.
pub(crate) struct Engine {
    pub(crate) process_id: i32,
    pub(crate) store: Client,
}

/// Finds the engine of a server by what the kernel knows: its child, the child's socket and password.
pub(crate) fn engine_of(serve: &Process) -> Option<Engine> {
    let id = serve.id();
    let process_id = std::fs::read_dir(format!("/proc/{id}/task"))
        .ok()?
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|children| children.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .find_map(|child| child.parse::<i32>().ok())?;
    let environment = std::fs::read(format!("/proc/{process_id}/environ")).ok()?;
    let password = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix("GEMBA_ENGINE_PASSWORD="))?
        .to_owned();
    // Standard input is the listening socket: `socket:[INODE]`.
    let socket = std::fs::read_link(format!("/proc/{process_id}/fd/0")).ok()?;
    let inode = socket.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let port = table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let local = fields.get(1).filter(|_| fields.get(9) == Some(&inode.as_str()))?;
        u16::from_str_radix(local.split_once(':')?.1, 16).ok()
    })?;
    let store = Client::new(StoreConfig {
        url: format!("http://127.0.0.1:{port}"),
        user: "default".into(),
        password,
        database: "default".into(),
        compress: false,
        cluster: None,
    });
    Some(Engine { process_id, store })
}

/// SIGKILL, and waits until the process runs no more; one that is gone already is as dead.
pub(crate) fn kill_now(process_id: i32) {
    signal(process_id, libc::SIGKILL);
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_running(process_id) {
        assert!(Instant::now() < deadline, "process {process_id} outlives SIGKILL");
        // Only a parent is told of a death.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the kernel still runs it; a dead child that its parent has not taken notice of does not run.
fn is_running(process_id: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{process_id}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X'])))
}

/// SIGINT.
pub(crate) fn interrupt(process_id: i32) {
    signal(process_id, libc::SIGINT);
}

#[expect(unsafe_code, reason = "the standard library signals only children of its own, and only to kill them")]
fn signal(process_id: i32, signal: i32) {
    // SAFETY: a system call on two numbers, no memory is touched.
    unsafe {
        libc::kill(process_id, signal);
    }
}

/// Column 1 of an answer, as text, one entry a row.
pub(crate) async fn texts(store: &Client, sql: &str) -> Vec<String> {
    store.raw().query_raw(sql).fetch_all::<String>().await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub(crate) fn check_exactly_once(stored: &[String], acknowledged: &HashSet<String>, context: &str) {
    let distinct: HashSet<&String> = stored.iter().collect();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !distinct.contains(id)).take(5).collect();
    assert!(lost.is_empty(), "{context}: lost {lost:?} of {}", acknowledged.len());
    assert_eq!(stored.len(), distinct.len(), "{context}: {} events are doubled", stored.len() - distinct.len());
    assert_eq!(stored.len(), acknowledged.len(), "{context}: more is stored than was sent");
}

/// The roll-up must equal a recount from raw.
pub(crate) async fn check_projection(store: &Client, context: &str) {
    let sql = |settings: &str| {
        format!(
            "SELECT concat(name, ' ', toString(kind), ' ', toString(toStartOfFifteenMinutes(time)), ' ', toString(count())) \
             FROM events GROUP BY name, kind, toStartOfFifteenMinutes(time) ORDER BY 1 SETTINGS {settings}"
        )
    };
    let raw = texts(store, &sql("optimize_use_projections = 0")).await;
    let rolled = texts(store, &sql("optimize_use_projections = 1, force_optimize_projection = 1")).await;
    assert!(!raw.is_empty(), "{context}");
    assert_eq!(raw, rolled, "{context}: the projection differs from a recount");
    let presence = |uses: &str, from: &str| {
        format!(
            "SELECT concat(toString(project), ' ', toString(at), ' ', toString(unit), ' ', toString(session), ' ', \
             toString(sum({uses}))) FROM {from} GROUP BY project, toStartOfFifteenMinutes(time) AS at, unit, session ORDER BY 1"
        )
    };
    let raw = format!("{} SETTINGS optimize_use_projections = 0", presence("kind != 'ended'", "events"));
    let raw = texts(store, &raw).await;
    let rolled_up = "(SELECT project, unit, session, `toStartOfFifteenMinutes(time)` AS time, \
        finalizeAggregation(`countIf(notEquals(kind, 'ended'))`) AS uses \
        FROM mergeTreeProjection(currentDatabase(), 'events', 'activity'))";
    assert_eq!(
        raw,
        texts(store, &presence("uses", rolled_up)).await,
        "{context}: who was there differs from a recount"
    );
}

/// received = stored + rejected + set aside + ignored + deduplicated + removed in every project, over all tables. `nothing_pending`
/// tells whether everything received by now is stored: Gemba's own use comes in whenever it likes, and while some of it is
/// on its way the books are read again.
pub(crate) async fn check_ledger(store: &Client, nothing_pending: impl AsyncFn() -> bool, context: &str) {
    let received =
        async || store.number("SELECT sum(records) FROM ledger FINAL WHERE fate = 'received'").await.unwrap();
    // A record that is set aside has a row in the table of that name, and is counted by its fate.
    let tables = Table::ALL.iter().filter(|table| table.is_counted() && **table != Table::SetAside);
    let mut entries: Vec<_> = tables
        .map(|table| {
            format!("SELECT project, '{table}' AS entry, sum(record) AS records FROM {table} GROUP BY project")
        })
        .collect();
    entries.push("SELECT project, toString(fate), sum(records) FROM ledger FINAL GROUP BY project, fate".to_owned());
    let removed = "SELECT project, toString(reason), sum(records) FROM removals FINAL WHERE state = 'done'";
    entries.push(format!("{removed} GROUP BY project, reason"));
    let books = format!(
        "SELECT concat(toString(project), ' ', entry, ' ', toString(records)) FROM ({}) ORDER BY 1",
        entries.join(" UNION ALL ")
    );
    for _ in 0..100 {
        // The ledger comes before the rows: those of all that stands in it now are there once nothing is pending.
        let before = received().await;
        let is_quiet = nothing_pending().await;
        let lines = texts(store, &books).await;
        if is_quiet && received().await == before {
            let mut unexplained: BTreeMap<&str, i64> = BTreeMap::new();
            for line in &lines {
                let fields: Vec<&str> = line.split(' ').collect();
                let records: i64 = fields[2].parse().unwrap();
                *unexplained.entry(fields[0]).or_default() += if fields[1] == "received" { records } else { -records };
            }
            assert!(
                unexplained.values().all(|records| *records == 0),
                "{context}: unexplained by project: {unexplained:?} {lines:#?}"
            );
            assert!(lines.iter().any(|line| line.starts_with("1 rejected ")), "{context}: {lines:#?}");
            return;
        }
    }
    panic!("{context}: there was never a moment with nothing on its way");
}
