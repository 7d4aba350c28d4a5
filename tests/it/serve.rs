//! Starting, stopping and dying: `gemba serve` as a process of its own.

use crate::durability_support::kill_now;
use gemba_ingest::pipeline::HoldFor;
use gemba_tests::binary;
use gemba_tests::client::{bare, call, post, send};
use gemba_tests::export::events;
use gemba_tests::server::{Keys, Process, Server, config, serve_command};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

const PROTOBUF: &str = "application/x-protobuf";

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_writes_credentials_for_their_owner_only_and_later_starts_keep_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials.json");
    let server = Process::start(folder.path(), &[]);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let keys = Keys::of(folder.path());
    assert!(keys.admin.starts_with("ga_") && keys.ingest.starts_with("gi_") && keys.read.starts_with("gr_"));
    let text = std::fs::read(&path).unwrap();
    assert_eq!(server.stop(), Some(0));

    let server = Process::start(folder.path(), &[]);
    assert_eq!(std::fs::read(&path).unwrap(), text);
    let sent = send(post(&format!("{}/v1/logs", server.url), &keys.ingest, PROTOBUF, events(&["a"], "m"))).await;
    assert_eq!(sent.status, 200);
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_ones_own_is_looked_at_before_the_server_answers() {
    let folder = tempfile::tempdir().unwrap();
    let queries = tempfile::tempdir().unwrap();
    let file = queries.path().join("ours.sql");
    let head = "-- title: Ours\n-- question: How many?\n-- grain: one row\n-- param event: which | at most 256 bytes\n\
                -- column uses: count | uses | exact\n";
    let read = "FROM events WHERE project = {project:UInt32} AND name = {event:String}";
    for (body, told) in [
        (
            format!("SELECT\n    count() AS uses\n{read} AND\n    AND 1"),
            ":9: clickhouse refuses the statement: Syntax error",
        ),
        (format!("SELECT count(colour) AS uses {read}"), ":6: clickhouse refuses the statement: Unknown expression"),
        (format!("SELECT count() AS used {read}"), ":6: the header names the columns uses, the statement answers used"),
        ("SELECT count() AS uses FROM events".to_owned(), ":6: table events must be read as FROM events"),
    ] {
        std::fs::write(&file, format!("{head}{body}\n")).unwrap();
        let arguments = ["--queries", queries.path().to_str().unwrap()];
        let output = serve_command(folder.path(), &arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{body}");
        let talk = String::from_utf8(output.stderr).unwrap();
        assert!(
            talk.contains(&format!("{}{told}", file.display())) && talk.contains("\nhint: mend the file"),
            "{talk}"
        );
    }
    std::fs::write(&file, format!("{head}SELECT count() AS uses {read}\n")).unwrap();
    let server = Process::start(folder.path(), &["--queries", queries.path().to_str().unwrap()]);
    let keys = Keys::of(folder.path());
    let url = format!("{}/api/v1/queries/ours?event=a", server.url);
    let answer = send(bare("GET", &url, Some(&keys.read))).await;
    assert_eq!(answer.json()["rows"], serde_json::json!([[0]]));
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_serve_on_the_same_folder_is_refused_and_names_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let first = Process::start(folder.path(), &[]);
    let second = serve_command(folder.path(), &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let talk = String::from_utf8(second.stderr).unwrap();
    assert!(talk.contains("in use by another gemba") && talk.contains(&first.id().to_string()), "{talk}");
    assert!(talk.contains("\nhint: "), "{talk}");
    assert_eq!(send(bare("GET", &format!("{}/healthz", first.url), None)).await.status, 200);
    assert_eq!(first.stop(), Some(0));
}

#[test]
fn listening_beyond_this_machine_needs_a_word() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [["--listen", "0.0.0.0:0"], ["--grpc-listen", "0.0.0.0:0"]] {
        let mut command = Command::new(binary::gemba());
        let output = command.args(["serve", "--data"]).arg(folder.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let talk = String::from_utf8(output.stderr).unwrap();
        assert!(talk.contains("unencrypted") && talk.contains("--insecure-listen"), "{talk}");
    }
}

#[test]
fn wrong_arguments_exit_with_2_and_help_with_0() {
    for (arguments, code) in [
        (&["serve", "--nonsense"][..], 2),
        (&["nonsense"], 2),
        (&[], 2),
        (&["serve", "--help"], 0),
        (&["--version"], 0),
    ] {
        let output = Command::new(binary::gemba()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_stores_what_is_acknowledged_and_exits_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path(), &[]);
    let keys = Keys::of(folder.path());
    for index in 0..20 {
        let body = events(&["kept"; 50], &index.to_string());
        assert_eq!(send(post(&format!("{}/v1/logs", server.url), &keys.ingest, PROTOBUF, body)).await.status, 200);
    }
    assert_eq!(server.stop(), Some(0));

    // A server of this process on the same folder, whose store can be asked.
    let running = gemba_ingest::serve::start(config(folder.path())).await.unwrap();
    let stored = running.app().store.number("SELECT count() FROM events WHERE name = 'kept'").await.unwrap();
    assert_eq!(stored, 1_000);
    assert_eq!(running.app().pipeline.status().pending_records, 0);
    assert!(running.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_stopping_readyz_says_no_and_connections_are_told_to_leave_while_what_still_comes_is_taken() {
    const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    let server = Server::start().await;
    let (url, grpc) = (server.running.url().to_owned(), format!("http://{}", server.running.grpc_address().unwrap()));
    let bearer = format!("Bearer {}", server.keys.ingest);
    let headers = [("authorization", bearer.as_str())];
    // Storing what is acknowledged takes as long as this is held.
    let app = std::sync::Arc::clone(server.running.app());
    let held = app.pipeline.hold_inserts(HoldFor::Upkeep, Duration::from_secs(10)).await.unwrap();
    assert_eq!(server.send_logs(events(&["before"], "m")).await.status, 200);
    let address = server.running.grpc_address().unwrap();
    let io = hyper_util::rt::TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap());
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake::<_, _, String>(executor, io).await.unwrap();
    let open = tokio::spawn(connection);
    while app.open_connections() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let data = server.running.data().to_owned();
    let stopping = tokio::spawn(server.running.stop());
    let left = tokio::time::timeout(Duration::from_secs(5), open).await;
    assert!(left.is_ok() && sender.is_closed(), "a connection at rest is not told to leave");
    assert!(!stopping.is_finished());
    assert_eq!(send(bare("GET", &format!("{url}/readyz"), None)).await.status, 503);
    assert_eq!(send(bare("GET", &format!("{url}/healthz"), None)).await.status, 200);
    let answer = call(&grpc, LOGS, &headers, 0, &events(&["late"], "grpc")).await;
    assert_eq!(answer.trailer("grpc-status"), "0", "{answer:?}");
    let sent = send(post(&format!("{url}/v1/logs"), &server.keys.ingest, PROTOBUF, events(&["late"], "http"))).await;
    assert_eq!(sent.status, 200);
    drop(held);
    assert!(stopping.await.unwrap(), "everything acknowledged is stored");

    let running = gemba_ingest::serve::start(config(&data)).await.unwrap();
    for (name, count) in [("before", 1), ("late", 2)] {
        let sql = format!("SELECT count() FROM events WHERE name = '{name}'");
        assert_eq!(running.app().store.number(&sql).await.unwrap(), count, "{name}");
    }
    assert!(running.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_log_is_closed_data_is_refused_for_another_node_to_take() {
    let server = Server::start().await;
    server.running.app().close_intake();
    let answer = server.send_logs(events(&["a"], "m")).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_says_no_and_why_while_the_log_is_full_and_new_data_is_refused() {
    let server = Server::start_with(|config| config.max_log_bytes = 1).await;
    let ready = async || send(bare("GET", &server.url("/readyz"), None)).await;
    assert_eq!(ready().await.status, 200, "an empty log has room");
    assert_eq!(server.send_logs(events(&["a"], "m")).await.status, 200);
    let mut refused = None;
    for round in 0..200 {
        let answer = server.send_logs(events(&["a"], &round.to_string())).await;
        if answer.status == 503 {
            refused = Some(answer);
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!refused.unwrap().header("retry-after").is_empty());
    let answer = ready().await;
    let told = answer.json();
    let fields = ["ready", "accepts_data", "refusing"].map(|field| told[field].clone());
    assert_eq!((answer.status.as_u16(), fields), (503, [false.into(), false.into(), "log_full".into()]), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_engine_does_not_stop_acknowledging_and_nothing_is_lost() {
    let server = Server::start().await;
    let url = server.url("/v1/logs");
    let engine = server.running.app().engine.clone().unwrap();
    let mut sent = 0;
    for round in 0..5 {
        if round == 1 {
            let id = engine.process_id().unwrap().to_string();
            assert!(Command::new("kill").args(["-9", &id]).status().unwrap().success());
        }
        for index in 0..20 {
            let body = events(&["kept"; 5], &format!("{round}-{index}"));
            assert_eq!(send(post(&url, &server.keys.ingest, PROTOBUF, body)).await.status, 200);
            sent += 5;
        }
    }
    server.flush().await;
    assert_eq!(engine.restarts(), 1);
    assert_eq!(server.number("SELECT count() FROM events").await, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_is_answered_when_questions_are_answered_again_even_if_everything_was_stored_before() {
    let server = Server::start().await;
    let sent = server.send_logs(events(&["kept"; 5], "m")).await;
    assert_eq!(sent.status, 200);
    server.flush().await;
    let engine = server.running.app().engine.clone().unwrap();
    // The second death in a row is followed by a pause before the restart.
    for _ in 0..3 {
        kill_now(i32::try_from(engine.process_id().unwrap()).unwrap());
        server.flush().await;
        assert_eq!(server.number("SELECT count() FROM events WHERE name = 'kept'").await, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_clickhouse_away_a_server_that_knows_its_projects_starts_and_acknowledges() {
    let folder = tempfile::tempdir().unwrap();
    let running = gemba_ingest::serve::start(config(folder.path())).await.unwrap();
    let keys = Keys::of(folder.path());
    assert!(running.stop().await);

    // Nothing listens on port 1; the same folder, so the control snapshot is there.
    let away = ["--clickhouse", "http://127.0.0.1:1", "--drain-timeout", "1"];
    let server = Process::start(folder.path(), &away);
    let answer = send(post(&format!("{}/v1/logs", server.url), &keys.ingest, PROTOBUF, events(&["a"], "m"))).await;
    assert_eq!(answer.status, 200);
    let ready = send(bare("GET", &format!("{}/readyz", server.url), None)).await;
    assert_eq!(ready.status, 200);
    assert_eq!(server.stop(), Some(0));

    let running = gemba_ingest::serve::start(config(folder.path())).await.unwrap();
    assert!(running.app().pipeline.flush(std::time::Duration::from_secs(30)).await);
    assert_eq!(running.app().store.number("SELECT count() FROM events").await.unwrap(), 1);
    assert!(running.stop().await);
}

#[test]
fn without_clickhouse_a_first_start_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let output = serve_command(folder.path(), &["--clickhouse", "http://127.0.0.1:1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let talk = String::from_utf8(output.stderr).unwrap();
    assert!(talk.contains("ClickHouse") && talk.contains("hint: the first start needs ClickHouse"), "{talk}");
}
