//! Claims about the embedded engine, through ordinary ClickHouse clients and by killing it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gemba_ingest::engine::{EngineConfig, EngineError, Supervisor};
use gemba_tests::binary;
use gemba_tests::engine::{self, Answer, client, database, memory, shared};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// How long anything here may take before it counts as failed.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, PartialEq, clickhouse::Row, Serialize, Deserialize)]
struct Visit {
    at: i64,
    name: String,
    kinds: Vec<u32>,
    note: Option<String>,
    share: f64,
}

#[derive(Debug, clickhouse::Row, Serialize)]
struct Mark {
    worker: u32,
    n: u64,
}

fn post(engine: &Supervisor, path_and_query: &str, body: &str) -> Answer {
    engine::post(engine, path_and_query, engine.password(), body.as_bytes())
}

/// A handle on a process, to signal it and to wait for its end.
fn handle(process: u32) -> OwnedFd {
    let pid = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

/// Waits for the end of a process; false when it does not come.
fn ends(process: &OwnedFd, within: Duration) -> bool {
    let mut poll = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec::try_from(within).unwrap();
    rustix::event::poll(&mut poll, Some(&timeout)).unwrap() == 1
}

#[tokio::test]
async fn the_rust_client_writes_and_reads_typed_rows() {
    let client = database("rust_client").await;
    client
        .query(
            "CREATE TABLE visits (at Int64, name LowCardinality(String), kinds Array(UInt32), note Nullable(String), \
             share Float64) ENGINE = MergeTree ORDER BY at",
        )
        .execute()
        .await
        .unwrap();
    let rows: Vec<Visit> = (0..50_000)
        .map(|at| Visit {
            at,
            name: format!("name {}", at % 7),
            kinds: vec![1, 2],
            note: (at % 2 == 0).then(|| "ü'\\\n".into()),
            share: 0.5,
        })
        .collect();
    let mut insert = client.insert::<Visit>("visits").await.unwrap();
    for row in &rows {
        insert.write(row).await.unwrap();
    }
    insert.end().await.unwrap();
    let read = client.query("SELECT ?fields FROM visits ORDER BY at").fetch_all::<Visit>().await.unwrap();
    assert!(read == rows);
    let count: u64 = client
        .query("SELECT count() FROM visits WHERE name = {name:String} AND at >= {from:Int64}")
        .param("name", "name 3")
        .param("from", 49_000)
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(count, rows.iter().filter(|row| row.name == "name 3" && row.at >= 49_000).count() as u64);
    let error = client.query("SELECT * FROM missing").execute().await.unwrap_err().to_string();
    assert!(error.contains("Code: 60.") && error.contains("UNKNOWN_TABLE"), "{error}");
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_result_reaches_the_rust_client() {
    let client = database("middle").await;
    let mut rows =
        client.query("SELECT number FROM numbers(5000000) WHERE NOT throwIf(number = 4000000)").fetch::<u64>().unwrap();
    let mut read = 0_u64;
    let error = loop {
        match rows.next().await {
            Ok(Some(number)) => {
                assert_eq!(number, read);
                read += 1;
            }
            Ok(None) => panic!("the result ended as if it were whole, after {read} rows"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(read > 1000, "the result was not streamed: {read} rows");
    assert!(error.contains("Code: 395."), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_works_unmodified() {
    database("python_client").await;
    let output = engine::run_python_client(shared(), "python_client");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("every check passed"), "{out}\n{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_works_unmodified() {
    database("node_client").await;
    let output = engine::run_node_client(shared(), "node_client");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("every check passed"), "{out}\n{err}");
}

#[tokio::test]
async fn five_million_rows_flow_out_in_constant_memory() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine::start(folder.path());
    let process = engine.process_id().unwrap();
    let client = client(&engine);
    let read = async |rows: u64| {
        let sql = format!("SELECT number, toString(number) FROM numbers({rows})");
        let mut bytes = 0;
        let mut cursor = client.query(&sql).fetch_bytes("RowBinary").unwrap();
        while let Some(piece) = cursor.next().await.unwrap() {
            bytes += piece.len();
        }
        bytes
    };
    // The first results warm up what stays: threads, caches, the allocator's pages.
    read(500_000).await;
    let before = memory(process, "VmRSS");
    let bytes = read(5_000_000).await;
    let grown = memory(process, "VmHWM").saturating_sub(before);
    assert_eq!(bytes, 78_888_890);
    // A result of 79 MB; what waits on the way is 1 MiB here, 1 MiB in the pipe and a few blocks in the engine.
    assert!(grown < 40_000_000, "{grown} bytes for a result of {bytes}");
    engine.stop().await;
}

#[test]
fn errors_come_with_code_status_and_text() {
    let engine = shared();
    let check = |path: &str, body: &str, status: u16, code: &str, text: &str| {
        let answer = post(engine, path, body);
        assert_eq!((answer.status, answer.header("x-clickhouse-exception-code")), (status, code), "{answer:?}");
        let start = format!("Code: {code}. DB::Exception: ");
        assert!(answer.text.starts_with(&start) && answer.text.contains(text), "{}", answer.text);
        assert!(answer.text.ends_with("(official build))\n"), "{}", answer.text);
        assert!(!answer.text.contains("OUTFILE"), "{}", answer.text);
    };
    check("/", "SELEC 1", 400, "62", "SYNTAX_ERROR");
    check("/", "SELECT 1 FROM", 400, "62", "SYNTAX_ERROR");
    check("/", "SELECT * FROM missing", 404, "60", "UNKNOWN_TABLE");
    check("/?database=missing", "SELECT 1", 404, "81", "UNKNOWN_DATABASE");
    check("/?no_such_setting=1", "SELECT 1", 404, "115", "UNKNOWN_SETTING");
    check("/", "SELECT 1; SELECT 2", 400, "62", "Multi-statements");
    check("/", "", 400, "62", "Empty query");
    check("/", "exit", 400, "62", "SYNTAX_ERROR");
    check("/?query=INSERT%20INTO%20missing%20FORMAT%20CSV", "1\n", 404, "60", "UNKNOWN_TABLE");
    check("/?wait_end_of_query=1", "SELECT throwIf(number = 3000000) FROM numbers(4000000)", 500, "395", "throwIf");
    check(
        "/?max_execution_time=1",
        "SELECT sleepEachRow(0.1) FROM numbers(100) SETTINGS max_block_size = 1",
        408,
        "159",
        "TIMEOUT",
    );
}

#[test]
fn a_wrong_password_is_refused() {
    let engine = shared();
    for password in ["", "wrong"] {
        let answer = engine::post(engine, "/", password, b"SELECT 1");
        assert_eq!((answer.status, answer.header("x-clickhouse-exception-code")), (403, "516"), "{answer:?}");
    }
    assert_eq!(post(engine, "/", "SELECT 1").text, "1\n");
}

#[test]
fn answers_carry_what_clients_read() {
    let engine = shared();
    let answer = post(engine, "/?query_id=my-id&default_format=JSONCompact", "SELECT 1 AS a");
    assert_eq!(answer.header("x-clickhouse-query-id"), "my-id");
    assert_eq!(answer.header("x-clickhouse-format"), "JSONCompact");
    assert_eq!(answer.header("content-type"), "application/json; charset=UTF-8");
    assert!(!answer.header("x-clickhouse-timezone").is_empty());
    assert!(!answer.header("x-clickhouse-server-display-name").is_empty());
    assert!(answer.header("x-clickhouse-summary").contains("\"read_rows\":\""), "{answer:?}");
    assert_eq!(post(engine, "/?compress=0", "SELECT 1 FORMAT CSVWithNames").text, "\"1\"\n1\n");
}

#[test]
fn nothing_of_one_request_is_seen_by_the_next() {
    let engine = shared();
    let sql = "SELECT getSetting('max_threads') = 7, currentDatabase()";
    assert_eq!(post(engine, "/?max_threads=7&database=system", sql).text, "1\tsystem\n");
    post(engine, "/", "SET max_threads = 7");
    post(engine, "/", "USE system");
    post(engine, "/", "CREATE TEMPORARY TABLE leaked (a UInt8)");
    for _ in 0..10 {
        assert_eq!(post(engine, "/", sql).text, "0\tdefault\n");
    }
    assert_eq!(post(engine, "/", "SELECT * FROM leaked").status, 404);
}

#[test]
fn a_session_keeps_its_own() {
    let engine = shared();
    let path = "/?session_id=keeps";
    post(engine, path, "CREATE TEMPORARY TABLE kept AS SELECT 5 AS a");
    post(engine, path, "SET max_threads = 3");
    assert_eq!(post(engine, path, "SELECT a FROM kept").text, "5\n");
    assert_eq!(post(engine, "/?session_id=keeps&max_threads=7", "SELECT getSetting('max_threads')").text, "7\n");
    assert_eq!(post(engine, path, "SELECT getSetting('max_threads')").text, "3\n");
    assert_eq!(post(engine, "/?session_id=other", "SELECT a FROM kept").status, 404);
    let missing = post(engine, "/?session_id=missing&session_check=1", "SELECT 1");
    assert_eq!(missing.header("x-clickhouse-exception-code"), "372");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_write_and_read_at_once() {
    let client = database("at_once").await;
    client
        .query("CREATE TABLE t (worker UInt32, n UInt64) ENGINE = MergeTree ORDER BY (worker, n)")
        .execute()
        .await
        .unwrap();
    let mut tasks = Vec::new();
    for worker in 0..12_u32 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..5_u64 {
                let mut insert = client.insert::<Mark>("t").await.unwrap();
                for n in 0..1000 {
                    insert.write(&Mark { worker, n: round * 1000 + n }).await.unwrap();
                }
                insert.end().await.unwrap();
                let sql = "SELECT count() FROM t WHERE worker = ?";
                let own: u64 = client.query(sql).bind(worker).fetch_one().await.unwrap();
                assert_eq!(own, (round + 1) * 1000);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let all: (u64, u64) = client.query("SELECT count(), uniqExact(worker, n) FROM t").fetch_one().await.unwrap();
    assert_eq!(all, (60_000, 60_000));
}

/// Asks again and again until the answer is as wanted, or patience ends.
fn until(engine: &Supervisor, sql: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = post(engine, "/", sql);
        if answer.text.trim_end() == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}: {answer:?}");
    }
}

#[test]
fn a_client_that_goes_away_cancels_its_query() {
    let engine = shared();
    for (id, sql) in [
        // One that works without a result, and one that is blocked by a client that does not read.
        ("goes-away-1", "SELECT sum(sleepEachRow(0.05)) FROM numbers(100000) SETTINGS max_block_size = 1"),
        ("goes-away-2", "SELECT number FROM system.numbers FORMAT RowBinary"),
    ] {
        let address = engine.url().replace("http://", "");
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(
            stream,
            "POST /?query_id={id} HTTP/1.1\r\nHost: {address}\r\nX-ClickHouse-Key: {}\r\nContent-Length: {}\r\n\r\n{sql}",
            engine.password(),
            sql.len()
        )
        .unwrap();
        let running = format!("SELECT count() FROM system.processes WHERE query_id = '{id}'");
        until(engine, &running, "1");
        drop(stream);
        until(engine, &running, "0");
    }
}

#[test]
fn a_query_is_killed_by_the_id_its_client_gave() {
    let engine = shared();
    std::thread::scope(|scope| {
        let query = scope.spawn(|| {
            let sql = "SELECT sum(sleepEachRow(0.05)) FROM numbers(100000) SETTINGS max_block_size = 1";
            post(engine, "/?query_id=to-be-killed", sql)
        });
        until(engine, "SELECT count() FROM system.processes WHERE query_id = 'to-be-killed'", "1");
        post(engine, "/", "KILL QUERY WHERE query_id = 'to-be-killed' SYNC");
        let answer = query.join().unwrap();
        assert_eq!(answer.header("x-clickhouse-exception-code"), "394", "{answer:?}");
    });
    assert_eq!(post(engine, "/", "SELECT count() FROM system.processes WHERE query_id = 'to-be-killed'").text, "0\n");
}

#[test]
fn an_insert_whose_client_dies_stores_nothing() {
    let engine = shared();
    post(engine, "/", "CREATE OR REPLACE TABLE half (a UInt64) ENGINE = MergeTree ORDER BY a");
    let address = engine.url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(
        stream,
        "POST /?query=INSERT%20INTO%20half%20FORMAT%20TSV&query_id=half HTTP/1.1\r\nHost: {address}\r\n\
         X-ClickHouse-Key: {}\r\nContent-Length: 1000\r\n\r\n1\n2\n3\n",
        engine.password()
    )
    .unwrap();
    until(engine, "SELECT count() FROM system.processes WHERE query_id = 'half'", "1");
    drop(stream);
    until(engine, "SELECT count() FROM system.processes WHERE query_id = 'half'", "0");
    assert_eq!(post(engine, "/", "SELECT count() FROM half").text, "0\n");
}

#[test]
fn blocks_in_clickhouses_own_framing_go_both_ways() {
    let engine = shared();
    post(engine, "/", "CREATE OR REPLACE TABLE framed (a UInt64) ENGINE = MergeTree ORDER BY a");
    let agent: ureq::Agent = ureq::Agent::new_with_defaults();
    let send = |query: &str, body: &[u8]| {
        let mut answer = agent
            .post(format!("{}/?{query}", engine.url()))
            .header("X-ClickHouse-Key", engine.password())
            .send(body)
            .unwrap();
        let mut bytes = Vec::new();
        answer.body_mut().as_reader().read_to_end(&mut bytes).unwrap();
        bytes
    };
    // What the engine compresses it must understand itself, and the official client below has the same framing.
    let framed = send("compress=1", b"SELECT number FROM numbers(100000) FORMAT RowBinary");
    assert!(framed.len() < 800_000, "{}", framed.len());
    send("decompress=1&query=INSERT%20INTO%20framed%20FORMAT%20RowBinary", &framed);
    assert_eq!(post(engine, "/", "SELECT count(), sum(a) FROM framed").text, "100000\t4999950000\n");
}

#[test]
fn parts_are_merged_in_the_background() {
    let engine = shared();
    post(engine, "/", "CREATE OR REPLACE TABLE merged (a UInt64) ENGINE = MergeTree ORDER BY a");
    for n in 0..12 {
        post(engine, "/", &format!("INSERT INTO merged VALUES ({n})"));
    }
    until(
        engine,
        "SELECT count() < 12 AND sum(rows) = 12 FROM system.parts WHERE active AND table = 'merged' AND database = 'default'",
        "1",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_is_back_within_two_seconds_with_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine::start(folder.path());
    post(&engine, "/", "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a SETTINGS fsync_after_insert = 1");
    post(&engine, "/", "INSERT INTO t VALUES (1), (2)");
    let url = engine.url();
    for kill in 1..=3 {
        let process = handle(engine.process_id().unwrap());
        rustix::process::pidfd_send_signal(&process, Signal::KILL).unwrap();
        assert!(ends(&process, PATIENCE));
        let killed = Instant::now();
        // The socket outlives the engine, so this waits for the next one instead of failing.
        assert_eq!(post(&engine, "/", "SELECT sum(a) FROM t").text, "3\n");
        assert!(killed.elapsed() < Duration::from_secs(2), "{:?} after kill {kill}", killed.elapsed());
    }
    assert_eq!((engine.restarts(), engine.url()), (3, url));
    let last = handle(engine.process_id().unwrap());
    engine.stop().await;
    assert!(ends(&last, Duration::ZERO), "stopped, but its process is still there");
}

#[test]
fn a_second_holder_of_the_data_folder_is_refused_by_name_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let first = engine::start(folder.path());
    let config = EngineConfig {
        data_dir: folder.path().to_owned(),
        program: Some(binary::gemba().to_owned()),
        ..EngineConfig::default()
    };
    match Supervisor::start(config) {
        Err(EngineError::Refused(message)) => {
            let holder = format!("in use by process {}", first.process_id().unwrap());
            assert!(message.contains(&holder), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(post(&first, "/", "SELECT 1").text, "1\n");
}

/// The engine's process of a server's data folder, once there is one.
fn engine_of(data: &Path, server: &OwnedFd) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for lock in [data.join("engine/engine.lock"), data.join("engine.lock")] {
            if let Some(process) = std::fs::read_to_string(lock).ok().and_then(|text| text.trim().parse().ok()) {
                return process;
            }
        }
        assert!(!ends(server, Duration::from_millis(20)), "the server ended before it had an engine");
        assert!(Instant::now() < deadline, "no engine in {}", data.display());
    }
}

#[test]
fn a_killed_server_leaves_no_engine_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Command::new(binary::gemba())
        .args(["serve", "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--data"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let of_server = handle(server.id());
    let of_engine = handle(engine_of(folder.path(), &of_server));
    rustix::process::pidfd_send_signal(&of_server, Signal::KILL).unwrap();
    server.wait().unwrap();
    assert!(ends(&of_engine, Duration::from_secs(20)), "the engine outlived its server");
}

#[test]
fn an_engine_alone_stops_in_order_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(binary::gemba())
        .args(["engine", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path())
        .env("GEMBA_ENGINE_PASSWORD", "secret")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    assert!(line.contains("http://127.0.0.1:"), "{line}");
    rustix::process::pidfd_send_signal(handle(child.id()), Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
}
