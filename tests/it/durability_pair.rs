//! Two nodes on one store: what is sent to both is stored once, and they can be restarted one after the other.
//!
//! The engine runs by itself, and both nodes are told its address as they would be told a server's. What this does not
//! prove: replicas of ClickHouse, of which the engine is none.

use crate::durability_support::{Load, flush, kill_now, request};
use gemba_tests::client::{post, send};
use gemba_tests::engine;
use gemba_tests::server::{Keys, Process};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// An engine and two nodes on it.
struct Pair {
    engine: gemba_ingest::engine::Supervisor,
    nodes: Vec<Process>,
    keys: Keys,
    folder: TempDir,
}

fn start_node(folder: &Path, number: usize, engine: &gemba_ingest::engine::Supervisor) -> Process {
    let url = engine.url();
    let arguments = ["--clickhouse", &url, "--clickhouse-password", engine.password(), "--no-own-use"];
    Process::start(&folder.join(format!("node{number}")), &arguments)
}

impl Pair {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine::start(&folder.path().join("engine"));
        // The first node makes the projects and their keys, the second finds them.
        let nodes = (0..2).map(|number| start_node(folder.path(), number, &engine)).collect();
        let keys = Keys::of(&folder.path().join("node0"));
        Self { engine, nodes, keys, folder }
    }

    fn urls(&self) -> [&str; 2] {
        [&self.nodes[0].url, &self.nodes[1].url]
    }

    /// Starts a node again that has ended.
    fn start_again(&mut self, number: usize) {
        self.nodes.insert(number, start_node(self.folder.path(), number, &self.engine));
    }

    async fn stop(mut self) {
        for node in self.nodes.drain(..) {
            assert_eq!(node.stop(), Some(0));
        }
        self.engine.stop().await;
    }

    async fn flush(&self) {
        for url in self.urls() {
            flush(url, &self.keys).await;
        }
    }

    async fn number(&self, sql: &str) -> u64 {
        engine::store(&self.engine).number(sql).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_to_both_nodes_of_a_pair_is_stored_once() {
    let mut pair = Pair::start();
    let instance = "0f3c1f7e-0000-4000-8000-00000000000";
    let mut sent = 0_u64;
    let mut events = 0;
    for round in 0..3 {
        for batch in 0..20_u64 {
            let ids: Vec<_> = (0..=batch).map(|index| format!("{round}-{batch}-{index}")).collect();
            let body = request(&ids, 1_790_000_000_000);
            let mut posts = Vec::new();
            for url in pair.urls() {
                let mut post =
                    post(&format!("{url}/v1/logs"), &pair.keys.ingest, "application/x-protobuf", body.clone());
                // Of Gemba's SDK, of another client, and none at all.
                let key = [Some(format!("{instance}{round}-{batch}")), Some(format!("other-{round}-{batch}")), None];
                if let Some(key) = &key[usize::try_from(batch % 3).unwrap()] {
                    post.headers_mut().insert("idempotency-key", key.parse().unwrap());
                }
                posts.push(post);
            }
            let second = posts.remove(1);
            // At the same moment, and one after the other.
            let (one, other) = if batch % 2 == 0 {
                tokio::join!(send(posts.remove(0)), send(second))
            } else {
                (send(posts.remove(0)).await, send(second).await)
            };
            assert_eq!((one.status.as_u16(), other.status.as_u16()), (200, 200));
            sent += 1;
            events += ids.len() as u64;
        }
        pair.flush().await;
        let context = format!("round {round}");
        assert_eq!(pair.number("SELECT count() FROM events").await, events, "{context}");
        assert_eq!(pair.number("SELECT uniqExact(strings['id']) FROM events").await, events, "{context}");
        // Of each batch one copy is a repeat: its events; the record that a rule rejects is rejected in both.
        let repeats = "SELECT sum(records) FROM ledger FINAL WHERE fate = 'deduplicated'";
        assert_eq!(pair.number(repeats).await, events, "{context}");
        assert_eq!(
            pair.number("SELECT sum(records) FROM ledger FINAL WHERE fate = 'received'").await,
            2 * (events + sent)
        );
        if round == 1 {
            // Killed and started again, they claim what they had not finished once more.
            for number in [0, 1] {
                let node = pair.nodes.remove(number);
                kill_now(node.id());
                drop(node);
                pair.start_again(number);
            }
        }
    }
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_made_on_one_node_works_on_the_other() {
    let pair = Pair::start();
    let [first, second] = pair.urls();
    let created =
        post(&format!("{first}/api/v1/projects"), &pair.keys.admin, "application/json", r#"{"name":"shared"}"#);
    let created = send(created).await;
    assert!(created.status.is_success(), "{:?}", created.body);
    let created = created.json();
    let key = created["ingest_key"].as_str().unwrap_or_else(|| panic!("{created}"));
    let sent = || {
        post(
            &format!("{second}/v1/logs"),
            key,
            "application/x-protobuf",
            request(&["shared".to_owned()], 1_790_000_000_000),
        )
    };
    let deadline = Instant::now() + Duration::from_mins(1);
    // The node looks for news by itself; it tells nobody when it has.
    while send(sent()).await.status != 200 {
        assert!(Instant::now() < deadline, "the key stays unknown");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pair.flush().await;
    assert_eq!(pair.number("SELECT count() FROM events WHERE strings['id'] = 'shared'").await, 1);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_two_nodes_loses_and_doubles_nothing() {
    let mut pair = Pair::start();
    let load = Load::start(4, pair.urls()[0], &pair.keys.ingest);
    load.balance(&pair.urls());
    for round in 0..3 {
        for number in [0, 1] {
            let before = load.acknowledged();
            load.resume();
            while load.acknowledged() < before + 500 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // Under load: in order in two of three rounds, by a kill in the other.
            let node = pair.nodes.remove(number);
            if round == 1 {
                kill_now(node.id());
                drop(node);
            } else {
                let stopped = tokio::task::spawn_blocking(move || node.stop()).await.unwrap();
                assert_eq!(stopped, Some(0));
            }
            pair.start_again(number);
            load.balance(&pair.urls());
        }
        load.pause();
        pair.flush().await;
        load.check_store(&engine::store(&pair.engine), &pair.urls(), &format!("round {round}")).await;
    }
    let sent = load.stop();
    assert!(sent.repeated > 0, "no request met a node that was away: {sent:?}");
    pair.stop().await;
}
