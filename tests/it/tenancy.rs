//! Projects and keys: who may do what, and that a deleted project leaves nothing.

use gemba_ingest::config::{ClickHouseTarget, ServeConfig};
use gemba_ingest::pipeline::HoldFor;
use gemba_tests::client::{Answer, bare, post, send};
use gemba_tests::engine;
use gemba_tests::export::events;
use gemba_tests::server::{Keys, Server, config};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PROTOBUF: &str = "application/x-protobuf";

async fn create(server: &Server, name: &str) -> Answer {
    let body = json!({"name": name}).to_string();
    send(post(&server.url("/api/v1/projects"), &server.keys.admin, "application/json", body)).await
}

/// Names of the parts of the table `events` that are on the disk, in use or not.
async fn parts(server: &Server) -> Vec<String> {
    let sql = "SELECT name FROM system.parts WHERE database = currentDatabase() AND table = 'events'";
    server.running.app().store.raw().query(sql).fetch_all::<String>().await.unwrap()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_project_s_keys_work_at_once_and_its_rows_bear_its_number() {
    let server = Server::start().await;
    let answer = create(&server, "shop").await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["project"], "shop");
    let key = answer.json()["ingest_key"].as_str().unwrap().to_owned();
    assert_eq!(send(post(&server.url("/v1/logs"), &key, PROTOBUF, events(&["a", "b"], "m"))).await.status, 200);
    assert_eq!(server.send_logs(events(&["a"], "n")).await.status, 200);
    server.flush().await;
    let listed = send(bare("GET", &server.url("/api/v1/projects"), Some(&server.keys.admin))).await.json();
    let id_of = |name: &str| {
        let projects = listed["projects"].as_array().unwrap();
        projects.iter().find(|project| project["project"] == name).unwrap()["id"].as_u64().unwrap()
    };
    for (name, rows) in [("shop", 2), ("default", 1)] {
        let sql = format!("SELECT count() FROM events WHERE project = {}", id_of(name));
        assert_eq!(server.number(&sql).await, rows, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_admin_token_manages_projects_and_bad_names_are_explained() {
    let server = Server::start().await;
    for (key, status) in [("ga_wrong", 401), (server.keys.ingest.as_str(), 403), (server.keys.read.as_str(), 403)] {
        for (method, path) in [("GET", "/api/v1/projects"), ("DELETE", "/api/v1/projects/default")] {
            let answer = send(bare(method, &server.url(path), Some(key))).await;
            assert_eq!(answer.status, status, "{method} {path} {key}");
            assert!(answer.json()["error"]["hint"].is_string());
        }
    }
    assert_eq!(create(&server, "shop").await.status, 201);
    for (name, status, code) in
        [("shop", 409, "name_taken"), ("No Good", 400, "invalid_name"), ("", 400, "invalid_name")]
    {
        let answer = create(&server, name).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"]["code"].as_str().unwrap()),
            (status, code),
            "{name}"
        );
    }
    let url = server.url("/api/v1/projects");
    let answer = send(post(&url, &server.keys.admin, "application/json", r#"{"nom":"x"}"#)).await;
    assert_eq!(answer.status, 400);
    let answer = send(bare("DELETE", &server.url("/api/v1/projects/none"), Some(&server.keys.admin))).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["code"].as_str().unwrap()), (404, "unknown_project"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rotating_lets_old_keys_hold_for_the_grace_asked_for_and_no_longer() {
    let server = Server::start().await;
    let url = server.url("/api/v1/projects/default/rotate");
    let rotate = async |body: &'static str| {
        let answer = send(post(&url, &server.keys.admin, "application/json", body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["ingest_key"].as_str().unwrap().to_owned()
    };
    let send_with =
        async |key: &str| send(post(&server.url("/v1/logs"), key, PROTOBUF, events(&["a"], "m"))).await.status.as_u16();
    let first = server.keys.ingest.clone();
    let second = rotate(r#"{"grace_seconds":3600}"#).await;
    assert_eq!((send_with(&first).await, send_with(&second).await), (200, 200), "both hold");
    let third = rotate(r#"{"grace_seconds":1}"#).await;
    for _ in 0..100 {
        if send_with(&second).await == 401 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let found = (send_with(&first).await, send_with(&second).await, send_with(&third).await);
    assert_eq!(found, (401, 401, 200), "the shorter grace holds for the oldest key, too");
    let fourth = rotate("").await;
    assert_eq!((send_with(&third).await, send_with(&fourth).await), (401, 200), "without a grace at once");
    let wrong = send(post(&url, &server.keys.admin, "application/json", r#"{"grace":1}"#)).await;
    assert_eq!(wrong.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_kept_as_hashes_only() {
    let server = Server::start().await;
    let made = create(&server, "shop").await.json();
    let secrets = [&server.keys.admin, &server.keys.ingest, made["ingest_key"].as_str().unwrap()].map(str::to_owned);
    let stored = "SELECT concat(id, payload) FROM control";
    let stored = server.running.app().store.raw().query(stored).fetch_all::<String>().await.unwrap().join("\n");
    let snapshot = std::fs::read_to_string(server.running.data().join("control.json")).unwrap();
    for secret in &secrets {
        // Its digits alone would do to use it.
        assert!(!stored.contains(&secret[3..]) && !snapshot.contains(&secret[3..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_project_leaves_no_row_no_key_and_no_number_to_reuse() {
    let server = Server::start().await;
    let made = create(&server, "shop").await.json();
    let key = made["ingest_key"].as_str().unwrap().to_owned();
    let marker = "marker-that-must-vanish";
    let body = events(&["a", "b", ""], marker);
    assert_eq!(send(post(&server.url("/v1/logs"), &key, PROTOBUF, body)).await.status, 200);
    assert_eq!(server.send_logs(events(&["a"], "stays")).await.status, 200);

    server.flush().await;
    let before = parts(&server).await;
    assert!(!before.is_empty());

    let answer = send(bare("DELETE", &server.url("/api/v1/projects/shop"), Some(&server.keys.admin))).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let answer = answer.json();
    assert_eq!(answer["project"], "shop");
    assert_eq!(answer["remaining"], 0);
    assert_eq!(answer["deleted"]["events"], 2, "{answer}");

    assert_eq!(send(post(&server.url("/v1/logs"), &key, PROTOBUF, events(&["a"], "m"))).await.status, 401);
    assert_eq!(server.number(&format!("SELECT count() FROM events WHERE strings['marker'] = '{marker}'")).await, 0);
    assert_eq!(server.number("SELECT count() FROM events").await, 1, "the other project keeps its rows");
    let kept = parts(&server).await.into_iter().find(|part| before.contains(part));
    assert_eq!(kept, None, "a part that held rows of the project is still on the disk");
    for file in files(&server.running.data().join("log")) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(marker.len()).any(|window| window == marker.as_bytes());
        assert!(!found, "{} still holds a record of the project", file.display());
    }

    assert_eq!(create(&server, "shop").await.status, 201, "the name is free again");
    let listed = send(bare("GET", &server.url("/api/v1/projects"), Some(&server.keys.admin))).await.json();
    let ids: Vec<u64> = listed["projects"].as_array().unwrap().iter().map(|one| one["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 4], "the number is not");
}

/// Sends DELETE for a project; answers the status and what the answer says.
async fn delete(server: &Server, name: &str) -> (u16, Value) {
    let url = server.url(&format!("/api/v1/projects/{name}"));
    let answer = send(bare("DELETE", &url, Some(&server.keys.admin))).await;
    (answer.status.as_u16(), answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_came_before_everything_was_stored_is_finished_by_sending_it_again() {
    let server = Server::start_with(|config| config.limits.erase_timeout = Duration::from_secs(1)).await;
    let key = create(&server, "shop").await.json()["ingest_key"].as_str().unwrap().to_owned();
    let held = server.running.app().pipeline.hold_inserts(HoldFor::Upkeep, Duration::from_secs(10)).await.unwrap();
    assert_eq!(send(post(&server.url("/v1/logs"), &key, PROTOBUF, events(&["a"], "m"))).await.status, 200);
    for _ in 0..2 {
        let (status, answer) = delete(&server, "shop").await;
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("not_deleted_yet")), "{answer}");
        assert!(answer["error"]["hint"].as_str().unwrap().contains("DELETE again"), "{answer}");
    }
    drop(held);
    server.flush().await;
    assert_eq!(server.number("SELECT count() FROM events").await, 1, "what was on its way is there by now");
    let (status, answer) = delete(&server, "shop").await;
    assert_eq!((status, &answer["remaining"], &answer["deleted"]["events"]), (200, &json!(0), &json!(1)), "{answer}");
    assert_eq!(server.number("SELECT count() FROM events").await, 0);
    // Whoever did not hear that asks once more; and whoever has the name next is deleted like anybody.
    let (status, answer) = delete(&server, "shop").await;
    assert_eq!((status, &answer["remaining"], &answer["deleted"]), (200, &json!(0), &json!({})), "{answer}");
    assert_eq!(create(&server, "shop").await.status, 201);
    assert_eq!(delete(&server, "shop").await.0, 200);
    let listed = send(bare("GET", &server.url("/api/v1/projects"), Some(&server.keys.admin))).await;
    assert!(!listed.json().to_string().contains("shop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_to_be_gone_while_a_question_keeps_its_files_on_the_disk() {
    let server = Server::start_with(|config| config.limits.erase_timeout = Duration::from_secs(1)).await;
    let key = create(&server, "shop").await.json()["ingest_key"].as_str().unwrap().to_owned();
    assert_eq!(send(post(&server.url("/v1/logs"), &key, PROTOBUF, events(&["a", "b"], "m"))).await.status, 200);
    server.flush().await;
    let before = parts(&server).await;
    let store = server.running.app().store.clone();
    let reading = tokio::spawn(async move {
        let slow =
            "SELECT sum(sleepEachRow(5)) FROM events SETTINGS function_sleep_max_microseconds_per_block = 60000000";
        store.raw().query(slow).fetch_one::<u64>().await
    });
    let at_work = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT sum(sleepEachRow%'";
    while server.number(at_work).await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..2 {
        let (status, answer) = delete(&server, "shop").await;
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("not_deleted_yet")), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("events"), "{answer}");
        assert!(parts(&server).await.iter().any(|part| before.contains(part)));
    }
    assert_eq!(reading.await.unwrap().unwrap(), 0);
    let (status, answer) = delete(&server, "shop").await;
    assert_eq!((status, &answer["remaining"]), (200, &json!(0)), "{answer}");
    let kept = parts(&server).await.into_iter().find(|part| before.contains(part));
    assert_eq!(kept, None, "a part that held rows of the project is still on the disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_revoked_on_one_node_opens_nothing_on_another_that_is_making_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine::start(&folder.path().join("engine"));
    let node = |name: &str| {
        let (url, user, password) = (engine.url(), engine.user().to_owned(), engine.password().to_owned());
        let clickhouse = Some(ClickHouseTarget { url, user, password, database: "default".to_owned(), cluster: None });
        ServeConfig { clickhouse, ..config(&folder.path().join(name)) }
    };
    let first = gemba_ingest::serve::start(node("first")).await.unwrap();
    let keys = Keys::of(&folder.path().join("first"));
    let second = gemba_ingest::serve::start(node("second")).await.unwrap();
    // Held as long as a backup is made.
    let upkeep = second.app().upkeep.lock().await;
    let url = format!("{}/v1/logs", second.url());
    let seen = gemba_tests::project::Project::create(first.url(), &keys, "seen").await;
    let sends = async |key: &str, expected: u16| {
        for round in 0..100 {
            let body = events(&["a"], &format!("{key}{round}"));
            if send(post(&url, key, PROTOBUF, body)).await.status.as_u16() == expected {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    };
    // From here on it has looked for what the other node did once at least.
    assert!(sends(&seen.ingest_key, 200).await, "the new project is not known");
    assert!(sends(&keys.ingest, 200).await);
    let rotate = format!("{}/api/v1/projects/default/rotate", first.url());
    assert_eq!(send(post(&rotate, &keys.admin, "application/json", "")).await.status, 200);
    assert!(sends(&keys.ingest, 401).await, "the revoked key still opens the project");
    drop(upkeep);
    assert!(first.stop().await && second.stop().await);
    engine.stop().await;
}
