//! The command line around the server: projects, migrations, check, backup and restore, rebuild.

use crate::durability_support::check_ledger;
use gemba_tests::binary;
use gemba_tests::client::{post, send};
use gemba_tests::export::events;
use gemba_tests::project::Project;
use gemba_tests::server::{Keys, Process, config};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const PROTOBUF: &str = "application/x-protobuf";

fn gemba(arguments: &[&str], data: &Path) -> Output {
    Command::new(binary::gemba()).args(arguments).arg("--data").arg(data).output().unwrap()
}

/// The command's JSON; it must have succeeded.
fn json(arguments: &[&str], data: &Path) -> Value {
    let output = gemba(arguments, data);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the command said on stderr; it must have failed.
fn complaint(arguments: &[&str], data: &Path) -> String {
    let output = gemba(arguments, data);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let talk = String::from_utf8(output.stderr).unwrap();
    assert!(talk.contains("error: ") && talk.contains("\nhint: "), "{talk}");
    talk
}

async fn stored(data: &Path, sql: &str) -> u64 {
    let running = gemba_ingest::serve::start(config(data)).await.unwrap();
    let number = running.app().store.number(sql).await.unwrap();
    assert!(running.stop().await);
    number
}

/// Copies a folder with all below it.
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

/// A data folder with so many events stored, and its keys.
async fn folder_with(count: usize) -> (tempfile::TempDir, Keys) {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path(), &[]);
    let keys = Keys::of(folder.path());
    let body = events(&vec!["kept"; count], "m");
    assert_eq!(send(post(&format!("{}/v1/logs", server.url), &keys.ingest, PROTOBUF, body)).await.status, 200);
    assert_eq!(server.stop(), Some(0));
    (folder, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_are_managed_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let server = Process::start(data, &[]);
    let address = server.url.clone();
    let url = ["--url", address.as_str()];
    let run = |arguments: &[&str]| json(&[arguments, &url, &["--json"]].concat(), data);

    let made = run(&["project", "create", "shop"]);
    assert_eq!(made["project"], "shop");
    assert!(made["read_key"].as_str().unwrap().starts_with("gr_"));
    let key = made["ingest_key"].as_str().unwrap();
    let logs = format!("{}/v1/logs", server.url);
    assert_eq!(send(post(&logs, key, PROTOBUF, events(&["a"], "m"))).await.status, 200);

    let names: Vec<Value> = run(&["project", "list"])["projects"].as_array().unwrap().clone();
    let names: Vec<&str> = names.iter().map(|one| one["project"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "gemba", "shop"]);

    let renewed = run(&["project", "rotate", "shop"]);
    assert_ne!(renewed["ingest_key"], made["ingest_key"]);
    let renewed = renewed["ingest_key"].as_str().unwrap();
    for key in [key, renewed] {
        assert_eq!(send(post(&logs, key, PROTOBUF, events(&["a"], "m"))).await.status, 200, "both hold for the grace");
    }
    let newest = run(&["project", "rotate", "shop", "--now"]);
    for (key, status) in [(key, 401), (renewed, 401), (newest["ingest_key"].as_str().unwrap(), 200)] {
        assert_eq!(send(post(&logs, key, PROTOBUF, events(&["a"], "m"))).await.status, status);
    }

    let talk = complaint(&[&["project", "delete", "shop"][..], &url].concat(), data);
    assert!(talk.contains("--yes"), "{talk}");
    let gone = run(&["project", "delete", "shop", "--yes"]);
    assert_eq!((&gone["remaining"], &gone["deleted"]["events"]), (&Value::from(0), &Value::from(4)));
    let talk = complaint(&[&["project", "create", "No Name"][..], &url].concat(), data);
    assert!(talk.contains("lower-case"), "{talk}");

    let stopped = tempfile::tempdir().unwrap();
    assert!(complaint(&["project", "list"], stopped.path()).contains("credentials.json"));
    assert_eq!(server.stop(), Some(0));
    assert!(complaint(&[&["project", "list"][..], &url].concat(), data).contains("is `gemba serve` running there?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_down_and_up_again_and_refuse_a_folder_in_use() {
    let (folder, _) = folder_with(3).await;
    let data = folder.path();
    let state = || json(&["migrate", "status", "--json"], data)["migrations"][0]["state"].clone();
    assert_eq!(state(), "applied");
    let undone = json(&["migrate", "down", "--to", "0", "--json"], data);
    assert!(!undone["undone"].as_array().unwrap().is_empty());
    assert_eq!(state(), "absent");
    json(&["migrate", "up", "--json"], data);
    assert_eq!(state(), "applied");
    assert!(complaint(&["migrate", "down", "--to", "99"], data).contains("99"));

    let server = Process::start(data, &[]);
    assert!(complaint(&["migrate", "status"], data).contains("in use by another gemba"));
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_nothing_wrong_in_a_good_folder_stopped_or_served() {
    let (folder, _) = folder_with(1).await;
    let data = folder.path();
    let found = json(&["check", "--json"], data);
    assert_eq!(found["good"], true, "{found}");
    let looked_at: Vec<&str> =
        found["findings"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert_eq!(looked_at, ["clock", "disk", "data folder", "clickhouse", "migrations", "data"]);

    let server = Process::start(data, &["--stale-after", "1h"]);
    let found = json(&["check", "--json", "--url", &server.url], data);
    assert_eq!(found["good"], true, "{found}");
    assert!(found.to_string().contains("takes data and stores it"), "{found}");
    assert!(found.to_string().contains("no project fell silent"), "{found}");
    assert_eq!(server.stop(), Some(0));
    // Ages are whole seconds, so the row is beyond none once one has passed since it came.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let output = gemba(&["check", "--json", "--stale-after", "0s"], data);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let bad = found["findings"].as_array().unwrap().iter().find(|one| one["good"] == false).unwrap();
    assert_eq!((bad["what"].as_str(), output.status.code()), (Some("data"), Some(1)), "{found}");

    let output = gemba(&["check", "--json", "--clickhouse", "http://127.0.0.1:1"], data);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let bad = found["findings"].as_array().unwrap().iter().find(|one| one["good"] == false).unwrap();
    assert_eq!(bad["what"], "clickhouse");
    assert!(!bad["remedy"].as_str().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_comes_back_whole_in_a_new_folder_with_its_keys() {
    let (folder, keys) = folder_with(7).await;
    let saved = json(&["backup", "one", "--json"], folder.path());
    assert_eq!(saved["rows"]["events"], 7);

    let other = tempfile::tempdir().unwrap();
    let backups = other.path().join("engine/backups");
    copy(&folder.path().join("engine/backups/one"), &backups.join("one"));
    let restored = json(&["restore", "one", "--json"], other.path());
    assert_eq!(restored["rows"], saved["rows"]);
    assert!(complaint(&["restore", "one"], other.path()).contains("holds data already"));
    assert!(complaint(&["restore", "none"], folder.path()).contains("holds data already"));
    assert!(complaint(&["backup", "../escape"], folder.path()).contains("is not a name of a backup"));

    let server = Process::start(other.path(), &[]);
    let logs = format!("{}/v1/logs", server.url);
    assert_eq!(send(post(&logs, &keys.ingest, PROTOBUF, events(&["kept"], "n"))).await.status, 200);
    assert_eq!(server.stop(), Some(0));
    assert_eq!(stored(other.path(), "SELECT count() FROM events").await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_server_at_work_holds_what_was_acknowledged_before_and_its_books_balance() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path(), &[]);
    let keys = Keys::of(folder.path());
    let logs = format!("{}/v1/logs", server.url);
    let project = Project::default_of(&server.url, &keys);
    // The record without a name is rejected.
    let body = events(&["kept", "kept", "paid", ""], "before");
    assert_eq!(send(post(&logs, &keys.ingest, PROTOBUF, body)).await.status, 200);

    // Requests go on all the while.
    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let (stop, logs, key) = (Arc::clone(&stop), logs.clone(), keys.ingest.clone());
        tokio::spawn(async move {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let body = events(&["load"; 20], &format!("load {sent}"));
                assert_eq!(send(post(&logs, &key, PROTOBUF, body)).await.status, 200);
                sent += 20;
            }
            sent
        })
    };
    let saved = json(&["backup", "one", "--json", "--url", &server.url], folder.path());
    assert!(saved["rows"]["events"].as_u64().unwrap() >= 3, "{saved}");
    let taken = complaint(&["backup", "one", "--url", &server.url], folder.path());
    assert!(taken.contains("there is a backup of this name"), "{taken}");
    let bad = complaint(&["backup", "../out", "--url", &server.url], folder.path());
    assert!(bad.contains("is not a name of a backup"), "{bad}");
    let url = format!("{}/api/v1/backups", server.url);
    for (key, status) in [("ga_wrong", 401), (keys.read.as_str(), 403)] {
        assert_eq!(send(post(&url, key, "application/json", r#"{"name":"two"}"#)).await.status, status);
    }
    stop.store(true, Ordering::Relaxed);
    let sent: u64 = load.await.unwrap();
    project.flush().await;
    let of_load = |rows: &[serde_json::Map<String, Value>]| {
        rows.iter().find(|row| row["feature"] == "load").map_or(0, |row| row["uses"].as_u64().unwrap())
    };
    let mut wanted = project.ask("feature_usage", &[]).await;
    assert_eq!(of_load(&wanted), sent, "what came during the backup is stored after it");
    assert_eq!(server.stop(), Some(0));

    let other = tempfile::tempdir().unwrap();
    copy(&folder.path().join("engine/backups/one"), &other.path().join("engine/backups/one"));
    assert_eq!(json(&["restore", "one", "--json"], other.path())["rows"], saved["rows"]);
    let running = gemba_ingest::serve::start(config(other.path())).await.unwrap();
    check_ledger(&running.app().store, async || true, "restored").await;
    let restored = Project { url: running.url().to_owned(), ..project };
    let mut found = restored.ask("feature_usage", &[]).await;
    assert!(of_load(&found) <= sent);
    for rows in [&mut wanted, &mut found] {
        rows.retain(|row| row["feature"] != "load");
    }
    assert_eq!(found.len(), 2);
    assert_eq!(found, wanted);
    assert!(running.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_roll_up_equals_the_recount() {
    let (folder, _) = folder_with(50).await;
    let range = ["rebuild", "--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z", "--json"];
    let rebuilt = json(&range, folder.path());
    assert_eq!(rebuilt["equal"], true, "{rebuilt}");
    for (index, rollup) in ["activity", "usage_by_quarter_hour"].into_iter().enumerate() {
        let one = &rebuilt["rebuilt"][index];
        assert_eq!((&one["table"], &one["rollup"]), (&Value::from("events"), &Value::from(rollup)), "{rebuilt}");
        assert_eq!(one["partitions"], 1, "{rebuilt}");
        assert!(one["groups_counted"].as_u64().unwrap() > 0, "{rebuilt}");
    }
    let swapped = ["rebuild", "--from", "2100-01-01T00:00:00Z", "--to", "2020-01-01T00:00:00Z"];
    assert!(complaint(&swapped, folder.path()).contains("before"));
}
