//! What one node asks of the others, where something goes wrong: who starts, stops or cannot answer meanwhile, and clocks that differ.

use crate::pair::{PATIENCE, Pair, until};
use crate::set_aside::invalid_utf8_at;
use gemba_ingest::store::Client;
use gemba_ingest::store::leases::{self, Lease};
use gemba_tests::client::{bare, post, send};
use gemba_tests::engine;
use gemba_tests::export::{event, logs, now_ns};
use gemba_tests::server::{Keys, Process};
use serde_json::json;
use std::fs::File;

const PROTOBUF: &str = "application/x-protobuf";
const LATE: &str = "SELECT count() FROM events WHERE name = 'late'";

/// Has a node acknowledge an event.
async fn acknowledged(url: &str, key: &str) {
    let body = logs("claims", vec![event(now_ns(), "late", &[("user.id", "ann")])]);
    assert_eq!(send(post(&format!("{url}/v1/logs"), key, PROTOBUF, body)).await.status, 200);
}

/// Waits until so many nodes have answered who asks.
async fn answered(store: &Client, asks: &Lease, nodes: u64) {
    let answers =
        format!("SELECT uniqExact(name) FROM leases WHERE startsWith(name, 'answer/{:016x}/')", asks.holder());
    until("answered", async || store.number(&answers).await.unwrap() == nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stopped_during_a_backup_ends_in_time_says_so_and_inserts_nothing_before_it_is_over_when_started_again()
{
    let folder = tempfile::tempdir().unwrap();
    let engine = engine::start(&folder.path().join("engine"));
    let (url, data, log) = (engine.url(), folder.path().join("node"), folder.path().join("said"));
    let start = || {
        let arguments = [
            ["--clickhouse", &url, "--clickhouse-password", engine.password()],
            ["--drain-timeout", "1", "--no-own-use", "--no-grpc-listen"],
        ];
        Process::start_logged(&data, &arguments.concat(), File::create(&log).unwrap().into())
    };
    let node = start();
    let (keys, store) = (Keys::of(&data), engine::store(&engine));
    leases::prepare(&store).await.unwrap();
    // As another node asks while it makes a backup.
    let asks = leases::wait(&store, "ask/still", PATIENCE).await.unwrap();
    answered(&store, &asks, 1).await;
    acknowledged(&node.url, &keys.ingest).await;
    assert_eq!(tokio::task::spawn_blocking(|| node.stop()).await.unwrap(), Some(0));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("inserts are kept still") && said.contains("stored at the next start"), "{said}");

    let node = start();
    answered(&store, &asks, 2).await;
    acknowledged(&node.url, &keys.ingest).await;
    let ready = send(bare("GET", &format!("{}/readyz", node.url), None)).await.json();
    assert_eq!((&ready["ready"], &ready["pending_records"]), (&json!(true), &json!(2)), "{ready}");
    assert_eq!(store.number(LATE).await.unwrap(), 0);
    asks.give_up().await;
    until("stored", async || store.number(LATE).await.unwrap() == 2).await;
    assert_eq!(tokio::task::spawn_blocking(|| node.stop()).await.unwrap(), Some(0));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_answer_may_have_come_through_keeps_to_it() {
    let pair = Pair::start().await;
    let no_answers = "ALTER TABLE leases ADD CONSTRAINT no_answers CHECK NOT startsWith(name, 'answer/')";
    pair.store().execute(no_answers).await.unwrap();
    let failed = "SELECT toUInt64(sum(value)) FROM system.errors WHERE name = 'VIOLATED_CONSTRAINT'";
    let asks = leases::wait(pair.store(), "ask/still", PATIENCE).await.unwrap();
    for node in &pair.nodes {
        until("still", async || node.app().pipeline.is_kept_still()).await;
    }
    acknowledged(pair.nodes[1].url(), &pair.keys.ingest).await;
    // Each answers several times more.
    let before = pair.number(failed).await;
    until("answered in vain", async || pair.number(failed).await >= before + 8).await;
    assert_eq!(pair.number(LATE).await, 0);
    pair.store().execute("ALTER TABLE leases DROP CONSTRAINT no_answers").await.unwrap();
    answered(pair.store(), &asks, 2).await;
    assert_eq!(pair.number(LATE).await, 0);
    asks.give_up().await;
    pair.flush().await;
    assert_eq!(pair.number(LATE).await, 1);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forgetting_reaches_what_a_node_acknowledged_whose_clock_is_ahead() {
    let pair = Pair::start().await;
    acknowledged(pair.nodes[0].url(), &pair.keys.ingest).await;
    pair.flush().await;
    // This claim plays a third node, five seconds ahead.
    pair.store().execute("INSERT INTO leases (name, term, holder) VALUES ('node/third', 1, 3)").await.unwrap();
    let forgetting = pair.admin("POST", 0, "projects/default/forget", r#"{"user":"ann"}"#);
    let playing = async {
        let asked = "SELECT max(holder) FROM leases WHERE name = 'ask/stored'";
        until("asked", async || pair.number(asked).await > 0).await;
        let holder = pair.number(asked).await;
        let ahead = "INSERT INTO events SELECT * REPLACE (now64(3) + INTERVAL 5 SECOND AS received) FROM events \
                     WHERE name = 'late'";
        pair.store().execute(ahead).await.unwrap();
        let answer = format!(
            "INSERT INTO leases (name, term, holder) SELECT 'answer/{holder:016x}/third', \
             toUnixTimestamp64Milli(now64(3) + INTERVAL 5 SECOND), 3"
        );
        pair.store().execute(&answer).await.unwrap();
    };
    let (forgotten, ()) = tokio::join!(forgetting, playing);
    let answer = forgotten.json();
    assert_eq!((&answer["deleted"]["events"], &answer["remaining"]), (&json!(2), &json!(0)), "{answer}");
    assert_eq!(pair.number(LATE).await, 0);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_was_broken_off_forgets_the_keys_of_what_it_had_moved() {
    let pair = Pair::start().await;
    let began = now_ns();
    let body = invalid_utf8_at((0..400).map(|number| began + number));
    let sent = post(&format!("{}/v1/logs", pair.nodes[0].url()), &pair.keys.ingest, PROTOBUF, body);
    assert_eq!(send(sent).await.status, 200);
    pair.flush().await;
    let store = pair.store();
    store.execute("CREATE TABLE backup AS set_aside ENGINE = Memory").await.unwrap();
    store.execute("INSERT INTO backup SELECT * FROM set_aside").await.unwrap();
    let set_aside = "SELECT count() FROM set_aside";
    assert_eq!(pair.number(set_aside).await, 400);
    let retry = async || pair.admin("POST", 0, "projects/default/set-aside/retry", "{}").await;
    let breaking_off = async {
        // One page is moved; the rows of the second cannot go.
        until("begun", async || pair.number(set_aside).await == 200).await;
        store.execute("SYSTEM STOP MERGES set_aside").await.unwrap();
        of_another(store, 7).await;
    };
    let (broken, ()) = tokio::join!(retry(), breaking_off);
    assert_eq!(broken.status, 503, "{broken:?}");
    store.execute("SYSTEM START MERGES set_aside").await.unwrap();
    let unfinished = "SELECT count() FROM system.mutations WHERE table = 'set_aside' AND NOT is_done";
    until("finished", async || pair.number(unfinished).await == 0).await;
    of_another(store, 0).await;

    // All of it comes back with a backup. What was under way when it was broken off may stay known.
    store.execute("TRUNCATE TABLE set_aside").await.unwrap();
    store.execute("INSERT INTO set_aside SELECT * FROM backup").await.unwrap();
    let again = retry().await;
    let again = again.json();
    assert_eq!((&again["retried"], &again["repeated"]), (&json!(200), &json!(200)), "{again}");
    pair.stop().await;
}

/// Gives the turn for upkeep to another holder, or to nobody.
async fn of_another(store: &Client, holder: u64) {
    let sql = format!(
        "INSERT INTO leases (name, term, holder) SELECT 'upkeep', max(term) + 1000, {holder} FROM leases WHERE name = 'upkeep'"
    );
    store.execute(&sql).await.unwrap();
}
