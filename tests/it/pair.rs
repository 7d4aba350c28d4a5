//! Two nodes on one store: what one at a time may do, and what concerns both of them.
//!
//! Both run in this process on an engine of their own, so that a claim can keep one of them from storing.

use crate::durability_proxy::Proxy;
use gemba_ingest::config::{ClickHouseTarget, ServeConfig};
use gemba_ingest::engine::Supervisor;
use gemba_ingest::nodes;
use gemba_ingest::pipeline::HoldFor;
use gemba_ingest::serve::{self, Running, ServeError};
use gemba_ingest::store::Client;
use gemba_ingest::store::leases::{self, LeaseError};
use gemba_ingest::store::migrations::{self, LATEST, MigrationError};
use gemba_tests::client::{Answer, bare, post, send};
use gemba_tests::database::Engine;
use gemba_tests::engine;
use gemba_tests::export::{event, events, logs, now_ns};
use gemba_tests::project::Project;
use gemba_tests::server::{Keys, config};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinHandle;

const PROTOBUF: &str = "application/x-protobuf";
/// How long anything that must happen by itself may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// An engine and two nodes on it, the second behind a proxy.
pub(crate) struct Pair {
    pub(crate) engine: Supervisor,
    pub(crate) nodes: Vec<Running>,
    pub(crate) keys: Keys,
    proxy: Arc<Proxy>,
    folder: TempDir,
}

fn settings(folder: &Path, engine: &Supervisor, url: &str, name: &str) -> ServeConfig {
    let (url, user, password) = (url.to_owned(), engine.user().to_owned(), engine.password().to_owned());
    let clickhouse = Some(ClickHouseTarget { url, user, password, database: "default".to_owned(), cluster: None });
    ServeConfig { clickhouse, ..config(&folder.join(name)) }
}

/// Something in front of the engine that can be cut; also its address.
async fn proxy(engine: &Supervisor) -> (Arc<Proxy>, String) {
    let (proxy, address) = Proxy::start(engine.url().trim_start_matches("http://")).await;
    (proxy, format!("http://{address}"))
}

/// Waits until something is so that nobody tells of.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < PATIENCE, "never {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Pair {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl Fn(&mut ServeConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine::start(&folder.path().join("engine"));
        Self::start_on(folder, engine, change).await
    }

    /// Two nodes on an engine that runs already.
    pub(crate) async fn start_on(folder: TempDir, engine: Supervisor, change: impl Fn(&mut ServeConfig)) -> Self {
        let (proxy, proxied) = proxy(&engine).await;
        let start = async |url: &str, name: &str| {
            let mut config = settings(folder.path(), &engine, url, name);
            change(&mut config);
            Box::pin(serve::start(config)).await.unwrap()
        };
        let nodes = vec![start(&engine.url(), "first").await, start(&proxied, "second").await];
        let keys = Keys::of(&folder.path().join("first"));
        let pair = Self { engine, nodes, keys, proxy, folder };
        // Each knows of the other.
        pair.until("SELECT uniqExact(name) FROM leases WHERE startsWith(name, 'node/')", 2).await;
        pair
    }

    pub(crate) fn store(&self) -> &Client {
        &self.nodes[0].app().store
    }

    pub(crate) async fn number(&self, sql: &str) -> u64 {
        self.store().number(sql).await.unwrap()
    }

    /// Waits until a statement answers this.
    pub(crate) async fn until(&self, sql: &str, expected: u64) {
        let started = Instant::now();
        loop {
            let found = self.number(sql).await;
            if found == expected {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{sql} answers {found} and not {expected}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn admin(&self, method: &str, node: usize, path: &str, body: &str) -> Answer {
        let mut request = bare(method, &format!("{}/api/v1/{path}", self.nodes[node].url()), Some(&self.keys.admin));
        *request.body_mut() = body.to_owned().into();
        send(request).await
    }

    pub(crate) async fn flush(&self) {
        for node in &self.nodes {
            assert_eq!(
                send(bare("POST", &format!("{}/api/v1/flush", node.url()), Some(&self.keys.ingest))).await.status,
                200
            );
        }
    }

    /// Stops one of the nodes in order.
    pub(crate) async fn stop_one(mut self, node: usize) -> Self {
        assert!(self.nodes.remove(node).stop().await);
        self
    }

    pub(crate) async fn stop(self) {
        let Self { engine, nodes, keys: _, proxy: _, folder: _folder } = self;
        for node in nodes {
            assert!(node.stop().await);
        }
        engine.stop().await;
    }
}

/// Clients that send to both nodes of a pair until they are stopped.
struct Senders {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    running: Vec<JoinHandle<()>>,
}

impl Senders {
    /// Each request holds events of these names; one without a name is rejected, and stands in the ledger.
    fn start(pair: &Pair, names: &'static [&'static str]) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let taken = names.iter().filter(|name| !name.is_empty()).count() as u64;
        let sender = |number: usize| {
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let (url, key) = (format!("{}/v1/logs", pair.nodes[number % 2].url()), pair.keys.ingest.clone());
            tokio::spawn(async move {
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let body = events(names, &format!("{number}-{round}"));
                    assert_eq!(send(post(&url, &key, PROTOBUF, body)).await.status, 200);
                    acknowledged.fetch_add(taken, Ordering::SeqCst);
                }
            })
        };
        let running = (0..4).map(sender).collect();
        Self { stop, acknowledged, running }
    }

    /// Events acknowledged so far, without those that are rejected.
    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until so many more are acknowledged.
    async fn more(&self, events: u64) {
        let (target, started) = (self.acknowledged() + events, Instant::now());
        while self.acknowledged() < target {
            assert!(started.elapsed() < PATIENCE, "{} of {target}", self.acknowledged());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops them; how many events were acknowledged in all.
    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.running {
            sender.await.unwrap();
        }
        self.acknowledged.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_removes_is_not_settled_by_the_other_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine::start(&folder.path().join("engine"));
    let (proxy, proxied) = proxy(&engine).await;
    let first = serve::start(settings(folder.path(), &engine, &engine.url(), "first")).await.unwrap();
    let store = first.app().store.clone();
    let turn = nodes::turn(first.app()).await.unwrap();
    store
        .execute(
            "INSERT INTO removals (project, reason, pass, table_name, partition, received, records, rows, state) \
             VALUES (1, 'expired', 1, 'events', '', now64(3), 5, 5, 'intended')",
        )
        .await
        .unwrap();
    let second = serve::start(settings(folder.path(), &engine, &proxied, "second")).await.unwrap();
    let state = || store.number("SELECT toUInt64(state) FROM removals FINAL WHERE pass = 1");
    // Through several of its tries.
    let looks = || proxy.looks.load(Ordering::SeqCst);
    until("waiting for its turn", async || looks() >= 5).await;
    assert_eq!(state().await.unwrap(), 1, "intended");
    let refused = leases::wait(&store, "upkeep", Duration::ZERO).await.map(|lease| lease.holder());
    assert!(matches!(refused, Err(LeaseError::Held(_))), "{refused:?}");
    drop(turn);
    until("settled by the other node", async || state().await.unwrap() == 3).await;
    for node in [first, second] {
        assert!(node.stop().await);
    }
    engine.stop().await;
}

/// Has the second node acknowledge an event of a person, and answers what keeps it from storing it.
async fn pending_at_the_second(pair: &Pair, key: &str, person: &str) -> gemba_ingest::pipeline::Held {
    let held = pair.nodes[1].app().pipeline.hold_inserts(HoldFor::Upkeep, PATIENCE).await.unwrap();
    let body = logs("claims", vec![event(now_ns(), "late", &[("user.id", person), ("session.id", person)])]);
    assert_eq!(send(post(&format!("{}/v1/logs", pair.nodes[1].url()), key, PROTOBUF, body)).await.status, 200);
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn forgetting_and_deleting_reach_what_the_other_node_has_acknowledged_and_not_stored() {
    let pair = Pair::start().await;
    let shop = Project::create(pair.nodes[0].url(), &pair.keys, "shop").await;
    let default = Project::default_of(pair.nodes[0].url(), &pair.keys);
    for (project, acts) in
        [(&default, ("POST", "projects/default/forget", r#"{"user":"ann"}"#)), (&shop, ("DELETE", "projects/shop", ""))]
    {
        let (method, path, body) = acts;
        let url = format!("{}/v1/logs", pair.nodes[1].url());
        let known = async || send(post(&url, &project.ingest_key, PROTOBUF, "")).await.status == 200;
        until("known at the second", known).await;
        let held = pending_at_the_second(&pair, &project.ingest_key, "ann").await;
        let asked = "SELECT uniqExact(holder) FROM leases WHERE name = 'ask/stored' AND holder != 0";
        let before = pair.number(asked).await;
        let removing = pair.admin(method, 0, path, body);
        let letting_go = async {
            // As soon as it was asked to store it.
            pair.until(asked, before + 1).await;
            drop(held);
        };
        let (removed, ()) = tokio::join!(removing, letting_go);
        assert_eq!(removed.status, 200, "{path}: {removed:?}");
        assert_eq!(removed.json()["deleted"]["events"], 1, "{path}: {removed:?}");
        pair.flush().await;
        for table in ["events", "units"] {
            assert_eq!(
                pair.number(&format!("SELECT count() FROM {table} WHERE project != 2")).await,
                0,
                "{path} {table}"
            );
        }
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_stores_that_nobody_could_ask_goes_when_it_learns_who_was_forgotten() {
    let pair = Pair::start().await;
    let held = pending_at_the_second(&pair, &pair.keys.ingest, "ann").await;
    // To the first node the second is gone, as if it had been out of reach for long.
    pair.proxy.is_cut.send_replace(true);
    let name = format!("node/{:016x}", pair.nodes[1].app().node);
    let gone = format!(
        "INSERT INTO leases (name, term, holder) SELECT name, max(term) + 1000, 0 FROM leases WHERE name = '{name}' GROUP BY name"
    );
    pair.store().execute(&gone).await.unwrap();
    let forgotten = pair.admin("POST", 0, "projects/default/forget", r#"{"user":"ann"}"#).await;
    assert_eq!((forgotten.status.as_u16(), &forgotten.json()["deleted"]["events"]), (200, &serde_json::Value::Null));
    pair.proxy.is_cut.send_replace(false);
    drop(held);
    pair.flush().await;
    pair.until("SELECT count() FROM events WHERE project = 1", 0).await;
    pair.until("SELECT count() FROM units WHERE project = 1", 0).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_busy_pair_is_made_and_holds_what_both_had_acknowledged() {
    let pair = Pair::start().await;
    let senders = Senders::start(&pair, &["busy"; 5]);
    for round in 0..2 {
        senders.more(100).await;
        let before = senders.acknowledged();
        let saved = pair.admin("POST", round, "backups", &format!(r#"{{"name":"busy{round}"}}"#)).await;
        assert_eq!(saved.status, 201, "{saved:?}");
        let kept = saved.json()["rows"]["events"].as_u64().unwrap();
        assert!(kept >= before, "{kept} of {before} acknowledged before");
        assert!(senders.acknowledged() > before, "requests were acknowledged meanwhile");
    }
    let acknowledged = senders.stop().await;
    // Both store again, and all of it.
    pair.flush().await;
    assert_eq!(pair.number("SELECT count() FROM events WHERE name = 'busy'").await, acknowledged);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migrator_that_died_is_followed() {
    let engine = Engine::start();
    let store = engine.database("died").await;
    leases::prepare(&store).await.unwrap();
    let length = leases::LENGTH.as_secs();
    let sql =
        format!("INSERT INTO leases (name, term, holder, at) VALUES ('migrate', 1, 7, now64(3) - {})", length - 2);
    store.execute(&sql).await.unwrap();
    assert_eq!(migrations::up(&store).await.unwrap().len(), migrations::MIGRATIONS.len());
    engine.stop().await;
}

/// Brings the database to what a build after this one may make of it: migrations add tables, and columns with a default.
async fn migrate_beyond(store: &Client) {
    let sql = "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' \
               AND name NOT IN ('schema_migrations', 'leases')";
    for table in store.rows::<String>(sql).await.unwrap() {
        let add = format!(
            "ALTER TABLE `{table}` ADD COLUMN IF NOT EXISTS later String DEFAULT 'not told', ADD COLUMN IF NOT EXISTS sooner UInt64 DEFAULT 7 FIRST"
        );
        store.execute(&add).await.unwrap();
    }
    store.execute("CREATE TABLE IF NOT EXISTS later (project UInt32, received DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY project").await.unwrap();
    note(store, "applied", 1).await;
}

async fn note(store: &Client, state: &str, version: u64) {
    let number = LATEST + 1;
    let sql = format!(
        "INSERT INTO schema_migrations (number, name, checksum, state, version, gemba) \
         VALUES ({number}, 'later', 'of another build', '{state}', {version}, '99.0.0')"
    );
    store.execute(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_the_build_before_go_on_storing_when_another_has_migrated_and_start_again_as_the_new_one_only() {
    let mut pair = Pair::start().await;
    let senders = Senders::start(&pair, &["rolled", "rolled", ""]);
    senders.more(200).await;
    migrate_beyond(pair.store()).await;
    // Written with the schema from before, beside each other and beside what had come.
    senders.more(200).await;
    for node in [1, 0, 1] {
        let forgotten = pair.admin("POST", node, "projects/default/forget", r#"{"user":"ann"}"#).await;
        assert_eq!((forgotten.status.as_u16(), &forgotten.json()["remaining"]), (200, &0.into()), "{forgotten:?}");
        senders.more(200).await;
    }
    let sent = senders.stop().await;
    pair.flush().await;
    let losses = send(bare("GET", &format!("{}/api/v1/queries/losses", pair.nodes[0].url()), Some(&pair.keys.read)))
        .await
        .json();
    let term = |name: &str| {
        let rows = losses["rows"].as_array().unwrap();
        rows.iter().filter(|row| row[0] == name).map(|row| row[3].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((term("received"), term("rejected"), term("unexplained")), (sent / 2 * 3, sent / 2, 0), "{losses}");
    assert_eq!(term("stored") + term("forgotten"), sent, "{losses}");

    // A node that goes down between with something in its log is started again as the newer build.
    let held = pending_at_the_second(&pair, &pair.keys.ingest, "bea").await;
    let second = pair.nodes.remove(1);
    // As by a kill: it is gone with all its tasks before its inserts may go on.
    let pipeline = Arc::downgrade(&second.app().pipeline);
    drop(second);
    until("gone", async || pipeline.strong_count() == 0).await;
    drop(held);
    assert_eq!(pair.number("SELECT count() FROM events WHERE name = 'late'").await, 0, "it lies in the log");
    let settings = || settings(pair.folder.path(), &pair.engine, &pair.engine.url(), "second");
    let refused = serve::start(settings()).await.map(drop).unwrap_err();
    assert!(
        matches!(refused, ServeError::Migration(MigrationError::Newer { database, .. }) if database == LATEST + 1),
        "{refused}"
    );
    // This build stands in for it.
    note(pair.store(), "undone", 2).await;
    let again = serve::start(settings()).await.unwrap();
    pair.nodes.push(again);
    pair.flush().await;
    assert_eq!(pair.number("SELECT count() FROM events WHERE name = 'late'").await, 1);
    pair.stop().await;
}
