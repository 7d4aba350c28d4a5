//! What a question may take, on the real engine: time, memory, size of the answer, nothing but reading, two at a time.
//!
//! Each claim also asks the same within the limit, so that it would not hold without it.

use gemba_ingest::store::select::{Limits, Selection, select};
use gemba_ingest::store::{Client, StoreError, funnel};
use gemba_queries::BoundQuery;
use gemba_queries::funnel::FunnelRequest;
use gemba_tests::client::{bare, send};
use gemba_tests::database::Engine;
use gemba_tests::server::Server;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// ClickHouse's codes (src/Common/ErrorCodes.cpp).
const TIMEOUT_EXCEEDED: u32 = 159;
const READONLY: u32 = 164;
const MEMORY_LIMIT_EXCEEDED: u32 = 241;
const TOO_MANY_ROWS_OR_BYTES: u32 = 396;

/// 2026-06-01.
const NOW_MS: i64 = 1_780_272_000_000;

async fn ask(store: &Client, sql: &str, limits: Limits) -> Result<Selection, StoreError> {
    let bound = BoundQuery { sql: sql.to_owned(), params: Vec::new(), range_ms: None };
    select(store, &bound, limits).await
}

async fn refusal(store: &Client, sql: &str, limits: Limits) -> u32 {
    let error = ask(store, sql, limits).await.expect_err(sql);
    let is_limit = matches!(error, StoreError::TooHeavy { .. });
    assert_eq!((error.is_retryable(), error.code() == Some(READONLY)), (!is_limit, !is_limit), "{error:?}");
    error.code().unwrap_or_else(|| panic!("{sql}: {error:?}"))
}

/// The body of an answer sent in chunks, which must be whole.
fn unchunked(answer: &[u8]) -> Vec<u8> {
    let end_of = |text: &[u8], wanted: &[u8]| text.windows(wanted.len()).position(|window| window == wanted).unwrap();
    let mut rest = &answer[end_of(answer, b"\r\n\r\n") + 4..];
    let mut body = Vec::new();
    loop {
        let line = end_of(rest, b"\r\n");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[line + 2..][..size]);
        rest = &rest[line + 2 + size + 2..];
    }
}

/// An export is made while it is read: it takes as long as its reader does, and one who stops reading keeps nothing busy.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_lasts_as_long_as_it_is_read_and_no_longer() {
    const ROWS: usize = 150_000;
    const PIECE: usize = 64 << 10;
    let idle = Duration::from_millis(800);
    let server = Server::start_with(|config| config.limits.idle_timeout = idle).await;
    let sql = format!(
        "INSERT INTO events (project, name, kind, day, unit, time, strings) SELECT 1, 'a', 'event', '2026-03-05', number + 1, \
         '2026-03-05 10:00:00', map('text', repeat('x', 200)) FROM numbers({ROWS}) SETTINGS async_insert = 0"
    );
    server.running.app().store.execute(&sql).await.unwrap();
    let asked = format!(
        "GET /api/v1/export/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
        server.keys.read
    );
    let address = server.running.url().strip_prefix("http://").unwrap().to_owned();
    let open = async || {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(asked.as_bytes()).await.unwrap();
        stream
    };
    // Several times as long as a connection may be idle, without ever being so.
    let mut slow = open().await;
    let (mut piece, mut text, started) = (vec![0; PIECE], Vec::new(), Instant::now());
    loop {
        let read = slow.read(&mut piece).await.unwrap();
        if read == 0 {
            break;
        }
        text.extend_from_slice(&piece[..read]);
        if started.elapsed() < idle * 4 {
            tokio::time::sleep(idle / 40).await;
        }
    }
    assert!(started.elapsed() >= idle * 4, "it was read too fast to tell: {:?}", started.elapsed());
    assert_eq!(String::from_utf8(unchunked(&text)).unwrap().lines().count(), ROWS);

    // One that stops reading is cut off, so that others get their turn.
    let mut stuck = open().await;
    stuck.read_exact(&mut piece).await.unwrap();
    // It has to wait for the turn that the stuck one holds.
    let next = bare("GET", &server.url("/api/v1/export/events"), Some(&server.keys.read));
    let next = send(next).await;
    assert_eq!((next.status.as_u16(), String::from_utf8_lossy(&next.body).lines().count()), (200, ROWS));
    let mut rest = Vec::new();
    let cut = stuck.read_to_end(&mut rest).await;
    assert!(cut.is_err() || !rest.ends_with(b"0\r\n\r\n"), "a reader that stopped got everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_ends_at_its_time_its_memory_and_the_size_of_its_answer_and_changes_nothing() {
    let engine = Engine::start();
    let store = engine.database("limits").await;
    let usual = Limits::default();

    let slow = "SELECT count() FROM numbers(25) WHERE sleepEachRow(0.1) = 0";
    assert_eq!(refusal(&store, slow, Limits { max_seconds: 1, ..usual }).await, TIMEOUT_EXCEEDED);
    assert_eq!(ask(&store, slow, usual).await.unwrap().rows.len(), 1);

    let large = "SELECT length(groupArray(number)) FROM numbers(10000000)";
    assert_eq!(refusal(&store, large, Limits { max_memory_bytes: 20 << 20, ..usual }).await, MEMORY_LIMIT_EXCEEDED);
    assert_eq!(ask(&store, large, usual).await.unwrap().rows[0][0], 10_000_000);

    let long = "SELECT number FROM numbers(101)";
    assert_eq!(refusal(&store, long, Limits { max_result_rows: 100, ..usual }).await, TOO_MANY_ROWS_OR_BYTES);
    assert_eq!(ask(&store, long, Limits { max_result_rows: 101, ..usual }).await.unwrap().rows.len(), 101);

    store.execute("CREATE TABLE kept (n UInt64) ENGINE = MergeTree ORDER BY n").await.unwrap();
    store.execute("INSERT INTO kept SETTINGS async_insert = 0 VALUES (1)").await.unwrap();
    for sql in [
        "INSERT INTO kept SELECT 2",
        "ALTER TABLE kept DELETE WHERE 1",
        "TRUNCATE TABLE kept",
        "DROP TABLE kept",
        "CREATE TABLE other (n UInt64) ENGINE = Memory",
        "OPTIMIZE TABLE kept FINAL",
    ] {
        assert_eq!(refusal(&store, sql, usual).await, READONLY, "{sql}");
    }
    assert_eq!(store.number("SELECT sum(n) FROM kept").await.unwrap(), 1);
    assert_eq!(store.number("SELECT count() FROM system.tables WHERE database = 'limits'").await.unwrap(), 1);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_funnel_that_comes_to_its_memory_is_too_heavy_as_any_question_is() {
    let server = Server::start().await;
    let store = &server.running.app().store;
    // What is joined is gathered before the first row is answered, so it is ClickHouse's memory that comes to its end.
    for sql in [
        "INSERT INTO identity_links (project, anonymous, person) SELECT 7, number + 10, 1 FROM numbers(1000000)",
        "INSERT INTO events (project, name, kind, day, unit, time) \
         SELECT 7, ['a', 'b'][number + 1], 'event', '2026-01-02', 1, toDateTime64('2026-01-02 00:00:00', 3) + number FROM numbers(2)",
    ] {
        store.raw().query_raw(sql).with_setting("async_insert", "0").execute().await.unwrap();
    }
    let question = json!({"steps": [{"event": "a"}, {"event": "b"}], "from": "2026-01-01", "to": "2026-01-05"});
    let funnel = FunnelRequest::parse(question).unwrap().validate(NOW_MS, NOW_MS).unwrap();
    let usual = Limits::default();
    let refused = funnel::answer(store, &funnel, 7, Limits { max_memory_bytes: 20 << 20, ..usual }).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooHeavy { code: MEMORY_LIMIT_EXCEEDED, .. }), "{refused:?}");
    assert_eq!(funnel::answer(store, &funnel, 7, usual).await.unwrap().steps[1].count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breakdown_by_something_else_each_time_is_too_heavy_and_does_not_take_the_server_with_it() {
    let server = Server::start().await;
    let store = &server.running.app().store;
    // Few bytes a row, so ClickHouse needs little at a time; what is counted for each value stays.
    let sql = "INSERT INTO events (project, name, kind, day, unit, time, strings) \
               SELECT 7, ['a', 'b'][number % 2 + 1], 'event', '2026-01-02', number + 1, '2026-01-02 00:00:00', \
               map('note', toString(number)) FROM numbers(200000)";
    store.raw().query_raw(sql).with_setting("async_insert", "0").execute().await.unwrap();
    let by_value_of = |attribution: &str| {
        let question = json!({
            "steps": [{"event": "a"}, {"event": "b"}], "from": "2026-01-01", "to": "2026-01-05", "breakdown": "note",
            "attribution": attribution,
        });
        FunnelRequest::parse(question).unwrap().validate(NOW_MS, NOW_MS).unwrap()
    };
    let funnel = by_value_of("last");
    let usual = Limits::default();
    let little = Limits { max_memory_bytes: 160 << 20, ..usual };
    // ClickHouse itself answers within them, so it is the values that are refused.
    let plan = funnel.plan(7).bound;
    let mut asked =
        store.raw().query_raw(&plan.sql).with_setting("max_memory_usage", little.max_memory_bytes.to_string());
    for (name, value) in &plan.params {
        asked = asked.param(name, value);
    }
    let rows = asked.fetch_bytes("Native").unwrap().collect().await.unwrap();
    assert!(rows.len() > 200_000 * 8, "{}", rows.len());
    let refused = funnel::answer(store, &funnel, 7, little).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooHeavy { code: MEMORY_LIMIT_EXCEEDED, .. }), "{refused:?}");
    assert_eq!(funnel::answer(store, &funnel, 7, usual).await.unwrap().steps[0].count, 100_000);
    // By the first step's values those of the second are not even read: half as many fit.
    assert_eq!(funnel::answer(store, &by_value_of("first"), 7, little).await.unwrap().steps[0].count, 100_000);
}

/// A question that takes about two seconds, as a team may write one.
const HEAVY: &str = "-- title: Heavy
-- question: Does this take long?
-- grain: one row
-- column n: count | rows | exact
-- caveats: none.
SELECT count() AS n FROM numbers(20) WHERE sleepEachRow(0.1) = 0
";

#[tokio::test(flavor = "multi_thread")]
async fn two_questions_run_at_a_time_and_all_others_wait_for_their_turn_and_are_answered() {
    const ASKED: usize = 5;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("heavy.sql"), HEAVY).unwrap();
    let server = Server::start_with(|config| config.queries = Some(folder.path().to_owned())).await;
    let asking: Vec<_> = (0..ASKED)
        .map(|_| {
            let request = bare("GET", &server.url("/api/v1/queries/heavy"), Some(&server.keys.read));
            tokio::spawn(async move { send(request).await })
        })
        .collect();
    let running = "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow%' AND query NOT LIKE '%system.processes%'";
    let mut most = 0;
    while asking.iter().any(|one| !one.is_finished()) {
        most = most.max(server.number(running).await);
    }
    for one in asking {
        let answer = one.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["rows"][0][0], 20);
        assert!(
            answer.json()["elapsed_ms"].as_u64().unwrap() >= 2_000,
            "the statement alone sleeps so long: {answer:?}"
        );
    }
    assert_eq!(most, 2, "as many as may run side by side, and never more");
}
