//! Forgetting a person: nothing is left of them, everything else stays, and the books balance.

use crate::durability_support::{check_ledger, check_projection};
use gemba_ingest::store::Client;
use gemba_tests::binary;
use gemba_tests::client::{bare, post, send};
use gemba_tests::export::{event, events_json, logs, now_ns};
use gemba_tests::project::Project;
use gemba_tests::server::{Keys, Server, config};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const PROTOBUF: &str = "application/x-protobuf";
/// Whom the claims forget: text that is found nowhere by chance.
const PERSON: &str = "person-who-must-vanish";

/// Places where a text stands in any table: in every column of text, and in every value of a map or list.
async fn places(store: &Client, text: &str) -> Vec<String> {
    let sql = "SELECT c.table, c.name FROM system.columns AS c INNER JOIN system.tables AS t \
               ON t.database = c.database AND t.name = c.table WHERE c.database = currentDatabase() \
               AND t.engine LIKE '%MergeTree'";
    let mut found = Vec::new();
    for (table, column) in store.raw().query_raw(sql).fetch_all::<(String, String)>().await.unwrap() {
        let sql = format!("SELECT count() FROM `{table}` WHERE position(toString(`{column}`), '{text}') > 0");
        let rows = store.number(&sql).await.unwrap();
        if rows > 0 {
            found.push(format!("{table}.{column}: {rows}"));
        }
    }
    found.sort();
    found
}

/// Records of the person: anonymous first, then known, in a session and with properties; one is set aside.
async fn live(url: &str, key: &str) {
    let at = now_ns();
    let of = |name: &str, pairs: &[(&str, &str)]| event(at, name, pairs);
    let body = logs(
        "claims",
        vec![
            of("cart", &[("session.id", "the-session")]),
            of("gemba.identify", &[("session.id", "the-session"), ("user.id", PERSON)]),
            of("gemba.user.set", &[("user.id", PERSON), ("plan", "pro")]),
            of("pay", &[("session.id", "another-session"), ("user.id", PERSON), ("email", PERSON)]),
            of("", &[("user.id", PERSON)]),
            of(&"x".repeat(300), &[("user.id", PERSON)]),
            of("pay", &[("session.id", "shared-session"), ("user.id", PERSON)]),
            of("pay", &[("session.id", "shared-session"), ("user.id", "ann")]),
            of("invite", &[("user.id", "ann"), ("guest", PERSON)]),
            of("cart", &[("session.id", "ann-s")]),
            // Too large to be kept: set aside with its reason.
            of("large", &[("user.id", PERSON), ("text", &"y".repeat(2 << 20))]),
        ],
    );
    let answer = send(post(&format!("{url}/v1/logs"), key, PROTOBUF, body)).await;
    assert_eq!(answer.status, 200);
}

fn number(answer: &Value, field: &str) -> u64 {
    answer[field].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_person_is_nowhere_everybody_else_stays_and_the_books_balance() {
    let server = Server::start().await;
    let store = server.running.app().store.clone();
    live(server.running.url(), &server.keys.ingest).await;
    let other = Project::create(server.running.url(), &server.keys, "other").await;
    live(&other.url, &other.ingest_key).await;
    server.flush().await;
    assert!(!places(&store, PERSON).await.is_empty());
    let set_aside = server.number("SELECT count() FROM set_aside WHERE project = 1").await;
    assert!(set_aside > 0);

    let url = server.url("/api/v1/projects/default/forget");
    let body = json!({"user": PERSON}).to_string();
    let answer = send(post(&url, &server.keys.admin, "application/json", body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    assert_eq!((number(&answer, "remaining"), number(&answer, "units")), (0, 2), "{answer}");
    assert_eq!(number(&answer["deleted"], "events"), 3, "{answer}");
    assert_eq!(answer["mentions"], json!({"events": 1}), "what ann recorded stays and is told: {answer}");

    let left = places(&store, PERSON).await;
    let of_other = ["events.strings: 3", "set_aside.body: ", "units.id: 1"];
    assert!(left.len() == 3 && left.iter().zip(of_other).all(|(left, other)| left.starts_with(other)), "{left:?}");
    for session in ["the-session", "another-session"] {
        let rows = server.number(&format!("SELECT count() FROM units WHERE project = 1 AND id = '{session}'")).await;
        assert_eq!(rows, 0, "{session}");
    }
    assert_eq!(server.number("SELECT count() FROM units WHERE project = 1 AND id = 'shared-session'").await, 1);
    assert_eq!(server.number("SELECT count() FROM events WHERE project = 1").await, 3, "ann's");
    check_ledger(&store, async || true, "after forgetting").await;
    check_projection(&store, "after forgetting").await;
    let losses = Project::default_of(server.running.url(), &server.keys).ask("losses", &[]).await;
    let term = |name: &str| losses.iter().find(|row| row["term"] == name).map(|row| row["records"].clone());
    assert_eq!(term("forgotten"), Some(json!(5)), "3 events, a link and a property: {losses:?}");
    assert_eq!(term("unexplained"), Some(json!(0)));

    // Neither the log, the snapshot nor the record of acts holds the id; files of the engine are compressed.
    for folder in ["log", "."] {
        for entry in std::fs::read_dir(server.running.data().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                let found = bytes.windows(PERSON.len()).any(|window| window == PERSON.as_bytes());
                // The other project keeps what it has, but its segment was stored and went as well.
                assert!(!found, "{}", path.display());
            }
        }
    }

    // Who comes back is a new person, known by id at once.
    live(server.running.url(), &server.keys.ingest).await;
    server.flush().await;
    assert_eq!(server.number(&format!("SELECT count() FROM units WHERE project = 1 AND id = '{PERSON}'")).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_does_not_bring_a_forgotten_person_back() {
    let folder = tempfile::tempdir().unwrap();
    let running = gemba_ingest::serve::start(config(folder.path())).await.unwrap();
    let keys = Keys::of(folder.path());
    let project = Project::default_of(running.url(), &keys);
    live(running.url(), &keys.ingest).await;
    project.flush().await;
    let url = format!("{}/api/v1/backups", running.url());
    assert_eq!(send(post(&url, &keys.admin, "application/json", r#"{"name":"before"}"#)).await.status, 201);
    let forget = Command::new(binary::gemba())
        .args(["forget", "--user", PERSON, "--json", "--url", running.url(), "--data"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(forget.status.success(), "{forget:?}");
    let audited = send(bare("GET", &format!("{}/api/v1/audit", running.url()), Some(&keys.admin))).await.json();
    let acts: Vec<_> =
        audited["acts"].as_array().unwrap().iter().map(|act| (&act["action"], &act["outcome"])).collect();
    let done = json!("done");
    assert_eq!(acts, [(&json!("project.forget"), &done), (&json!("backup.make"), &done)], "{audited}");
    assert!(!audited.to_string().contains(PERSON));
    assert!(running.stop().await);

    // The same data folder with its tombstones, and an engine that has lost everything but the backup.
    let engine = folder.path().join("engine");
    let saved = folder.path().join("saved");
    std::fs::rename(&engine, &saved).unwrap();
    copy(&saved.join("backups/before"), &engine.join("backups/before"));
    let restore =
        Command::new(binary::gemba()).args(["restore", "before", "--data"]).arg(folder.path()).output().unwrap();
    assert!(restore.status.success(), "{restore:?}");
    let running = gemba_ingest::serve::start(config(folder.path())).await.unwrap();
    let store = running.app().store.clone();
    let user = format!("SELECT count() FROM units WHERE id = '{PERSON}'");
    for _ in 0..600 {
        if store.number(&user).await.unwrap() == 0 && running.app().upkeep.try_lock().is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(places(&store, PERSON).await, ["events.strings: 1"], "what ann recorded");
    check_ledger(&store, async || true, "restored").await;
    assert!(running.stop().await);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_killed_is_counted_once() {
    use gemba_ingest::store::removals::{self, Pass, Why};
    let server = Server::start().await;
    let store = server.running.app().store.clone();
    for marker in ["one", "two"] {
        let answer = server.send_logs(logs("claims", vec![event(now_ns(), marker, &[("user.id", marker)])])).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(
        send(post(&server.url("/v1/logs"), &server.keys.ingest, "application/json", events_json(&[""], "m")))
            .await
            .status,
        200
    );
    server.flush().await;
    // Killed before the statement was sent: nothing was removed, so nothing counts.
    Pass::begin(Why::Forgotten).intend(&store, "events", "", "name = 'one'").await.unwrap();
    // Killed after ClickHouse took it in: it counts.
    let taken = Pass::begin(Why::Forgotten);
    taken.intend(&store, "events", "", "name = 'two'").await.unwrap();
    store.execute(&format!("ALTER TABLE events DELETE WHERE name = 'two' AND {}", taken.marker())).await.unwrap();
    removals::settle(&store).await.unwrap();
    let states = "SELECT count() FROM removals FINAL WHERE state = 'done' AND records = 1";
    assert_eq!(server.number(states).await, 1);
    assert_eq!(server.number("SELECT count() FROM removals FINAL WHERE state = 'void' AND records = 0").await, 1);
    check_ledger(&store, async || true, "settled").await;
}

/// Forgets somebody of the default project; the answer's status.
async fn forget_user(server: &Server, user: &str) -> (u16, Value) {
    let url = server.url("/api/v1/projects/default/forget");
    let answer = send(post(&url, &server.keys.admin, "application/json", json!({"user": user}).to_string())).await;
    (answer.status.as_u16(), answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_broken_off_is_settled_before_the_next_one() {
    let server = Server::start().await;
    let store = server.running.app().store.clone();
    let at = now_ns();
    let of = |user: &str| event(at, "pay", &[("user.id", user)]);
    assert_eq!(server.send_logs(logs("claims", vec![of("ann"), of("bob"), of("eve")])).await.status, 200);
    server.flush().await;
    // As where a turn was lost: one statement was taken in by ClickHouse, the other was not, and replaced parts were to go at once.
    let intend = "INSERT INTO removals (project, reason, pass, table_name, partition, received, records, rows, state) \
                  VALUES (1, 'forgotten', 7, 'events', '', now64(3), 1, 1, 'intended'), \
                  (1, 'forgotten', 8, 'events', '', now64(3), 1, 1, 'intended')";
    store.execute(intend).await.unwrap();
    let unit = "unit IN (SELECT unit FROM units WHERE project = 1 AND id = 'ann')";
    store
        .execute(&format!("ALTER TABLE events DELETE WHERE {unit} AND 7 = 7 SETTINGS mutations_sync = 2"))
        .await
        .unwrap();
    // Of a table that forgetting does not look at, so that nothing else puts it back.
    store.execute("ALTER TABLE catalog MODIFY SETTING old_parts_lifetime = 0").await.unwrap();
    let at_once = "SELECT count() FROM system.tables WHERE engine_full LIKE '%old_parts_lifetime = 0%'";
    assert_eq!(server.number(at_once).await, 1);

    let (status, answer) = forget_user(&server, "bob").await;
    assert_eq!((status, number(&answer["deleted"], "events")), (200, 1), "{answer}");
    let states = "SELECT groupArray(concat(toString(pass), ' ', toString(state), ' ', toString(records))) FROM \
                  (SELECT pass, state, records FROM removals FINAL WHERE pass < 10 ORDER BY pass)";
    let states: Vec<String> = store.raw().query_raw(states).fetch_one().await.unwrap();
    assert_eq!(states, ["7 done 1", "8 void 0"]);
    assert_eq!(server.number(at_once).await, 0, "replaced parts are kept again");
    let losses = Project::default_of(server.running.url(), &server.keys).ask("losses", &[]).await;
    let term = |name: &str| losses.iter().find(|row| row["term"] == name).map(|row| row["records"].clone());
    assert_eq!((term("forgotten"), term("unexplained")), (Some(json!(2)), Some(json!(0))), "{losses:?}");
}
