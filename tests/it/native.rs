//! Blocks in Native format, read back by the real engine: every table, every kind of column.
//!
//! The expected values are written out here, so that they share nothing with the code that encodes them.

use gemba_ingest::engine::{EngineConfig, Supervisor};
use gemba_ingest::identity::{IdHasher, ProjectId};
use gemba_ingest::otlp::{Encoding, Origin, Signal, decode};
use gemba_ingest::rows::{Rows, Table};
use gemba_ingest::store::{Client, InsertedBlock, StoreConfig, migrations};
use gemba_tests::binary;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// 2025-11-23T12:13:20Z, a Sunday: its week began on the 17th.
const RECEIVED_MS: i64 = 1_763_900_000_000;
const TIME_NS: &str = "1763899999998500000";

fn value_of(value: &Value) -> Value {
    match value {
        Value::String(text) => json!({ "stringValue": text }),
        Value::Bool(flag) => json!({ "boolValue": flag }),
        Value::Number(number) if number.is_f64() => json!({ "doubleValue": number }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::Array(values) => json!({"arrayValue": {"values": values.iter().map(value_of).collect::<Vec<_>>()}}),
        _ => json!({}),
    }
}

fn attributes(attributes: &Value) -> Value {
    let pairs = attributes.as_object().unwrap();
    pairs.iter().map(|(key, of)| json!({"key": key, "value": value_of(of)})).collect()
}

fn resource() -> Value {
    let of = json!({"service.name": "shop", "service.version": "1.2", "service.instance.id": "i-1", "deployment.environment.name": "test"});
    json!({ "attributes": attributes(&of) })
}

fn logs(records: &[(&str, Value)]) -> Value {
    let records: Vec<_> = records
        .iter()
        .map(|(name, of)| {
            json!({"eventName": name, "timeUnixNano": TIME_NS, "attributes": attributes(of),
                "traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": "00000000000000ff"})
        })
        .collect();
    json!({"resourceLogs": [{"resource": resource(), "scopeLogs": [{"logRecords": records}]}]})
}

fn spans() -> Value {
    let span = |kind: u8, of: Value| {
        json!({"kind": kind, "startTimeUnixNano": TIME_NS, "endTimeUnixNano": "1763899999998500123",
            "traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": "00000000000000ff", "attributes": attributes(&of)})
    };
    let query = json!({"db.system.name": "postgresql", "db.query.text": "SELECT 'secret' FROM users", "db.response.returned_rows": 3});
    let request = json!({"http.route": "/cart", "http.request.method": "GET", "http.response.status_code": 503});
    json!({"resourceSpans": [{"resource": resource(), "scopeSpans": [{"spans": [span(3, query), span(2, request)]}]}]})
}

fn points() -> Value {
    let ours = attributes(&json!({"gemba.query.fingerprint": "00000000000000ff"}));
    let foreign = attributes(&json!({"db.system.name": "mysql", "db.operation.name": "SELECT"}));
    let dropped = attributes(&json!({"gemba.reason": "ring_full", "gemba.callsite": "a.rs:1 search"}));
    let scaled = json!({"timeUnixNano": TIME_NS, "startTimeUnixNano": "1763899989000000000", "count": "9", "sum": 0.5,
        "min": 0.001, "max": 0.25, "scale": 6, "zeroCount": "1", "attributes": ours,
        "positive": {"offset": -200, "bucketCounts": ["1", "0", "7"]}});
    let explicit = json!({"timeUnixNano": TIME_NS, "count": "6", "sum": 1.25, "attributes": foreign,
        "explicitBounds": [0.001, 0.01], "bucketCounts": ["1", "2", "3"]});
    let sum = json!({"timeUnixNano": TIME_NS, "asInt": "4", "attributes": dropped});
    let name = "db.client.operation.duration";
    json!({"resourceMetrics": [{"resource": resource(), "scopeMetrics": [{"metrics": [
        {"name": name, "unit": "s", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [scaled]}},
        {"name": name, "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [explicit]}},
        {"name": "gemba.sdk.dropped", "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [sum]}},
    ]}]}]})
}

/// Requests that write rows to every table.
fn requests() -> Vec<(Signal, Value)> {
    let records = [
        (
            "cart.added",
            json!({"user.id": "ann", "gemba.tenant": "acme", "plan": "pro", "list": [1, "x"], "items": 3,
            "large": 9_007_199_254_740_993_i64, "price": 1.5, "new": true, "old": false, "gemba.seq": 42}),
        ),
        ("ünïcode 🛒", json!({})),
        (
            "gemba.feature.ended",
            json!({"gemba.feature.name": "search", "gemba.attempt.id": "a1", "session.id": "s1",
            "gemba.outcome": "failed", "gemba.outcome.inferred": true, "gemba.outcome.reason": "timeout",
            "gemba.duration_ns": 1_234_567, "error.type": "Io"}),
        ),
        ("gemba.identify", json!({"user.id": "ann", "session.id": "s1", "gemba.anonymous.id": "d1"})),
        ("gemba.tenant.set", json!({"gemba.tenant": "acme", "plan": "team", "seats": 5, "beta": true})),
        (
            "gemba.catalog",
            json!({"gemba.catalog.kind": "step", "gemba.catalog.name": "checkout.pay",
            "gemba.catalog.position": 2, "gemba.catalog.was": "checkout.buy", "code.file.path": "a.rs", "code.line.number": 7}),
        ),
        (
            "gemba.query.usage",
            json!({"gemba.query.usage.fingerprints": ["00000000000000ff", "other"],
            "gemba.query.usage.calls": [3, 4], "gemba.query.usage.total_ns": [300, 400], "gemba.query.usage.max_ns": [200, 250],
            "gemba.query.usage.rows": [30, 0], "gemba.query.usage.errors": [0, 1], "gemba.query.usage.code": ["a.rs:7", ""]}),
        ),
        ("gemba.feature.used", json!({})),
    ];
    // More distinct names than one byte and than two bytes can number.
    let names: Vec<String> = (0..70_000).map(|n| format!("name{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (&**name, json!({}))).collect();
    vec![
        (Signal::Logs, logs(&records)),
        (Signal::Traces, spans()),
        (Signal::Metrics, points()),
        (Signal::Logs, logs(&many)),
    ]
}

async fn rows_of(client: &Client, sql: &str) -> Vec<Value> {
    let mut cursor = client.raw().query_raw(sql).fetch_bytes("JSONEachRow").unwrap();
    let text = cursor.collect().await.unwrap();
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// What to read of each table, and what it must say.
#[expect(clippy::too_many_lines, reason = "one line a column of every table")]
fn expected() -> Vec<(&'static str, Value)> {
    let time = "2025-11-23 12:13:19.998";
    let trace = "0102030405060708090A0B0C0D0E0F10";
    vec![
        (
            "SELECT name, kind, day, time, seq, tenant, feature, outcome, outcome_inferred, outcome_reason, duration_ns,
                error_type, service, release, environment, hex(trace_id) AS trace, hex(span_id) AS span,
                mapSort(strings) AS strings, mapSort(numbers) AS numbers, mapSort(bools) AS bools, flags, received,
                record, batch, project, retention_class
            FROM events WHERE name IN ('cart.added', 'search', 'ünïcode 🛒') ORDER BY name",
            json!([
                {"name": "cart.added", "kind": "event", "day": "2025-11-23", "time": time, "seq": 42, "tenant": "acme",
                    "feature": "", "outcome": "", "outcome_inferred": false, "outcome_reason": "", "duration_ns": 0,
                    "error_type": "", "service": "shop", "release": "1.2", "environment": "test", "trace": trace,
                    "span": "FF", "strings": {"large": "9007199254740993", "list": "[1,\"x\"]", "plan": "pro"},
                    "numbers": {"items": 3, "large": 9_007_199_254_740_992_i64, "price": 1.5},
                    "bools": {"new": true, "old": false}, "flags": 0, "received": "2025-11-23 12:13:20.000",
                    "record": 1, "batch": 77, "project": 5, "retention_class": 2},
                {"name": "search", "kind": "ended", "day": "2025-11-23", "time": time, "seq": 0, "tenant": "",
                    "feature": "search", "outcome": "failed", "outcome_inferred": true, "outcome_reason": "timeout",
                    "duration_ns": 1_234_567, "error_type": "Io", "service": "shop", "release": "1.2",
                    "environment": "test", "trace": trace, "span": "FF", "strings": {}, "numbers": {}, "bools": {},
                    "flags": 0, "received": "2025-11-23 12:13:20.000", "record": 1, "batch": 77, "project": 5,
                    "retention_class": 2},
                {"name": "ünïcode 🛒", "kind": "event", "day": "2025-11-23", "time": time, "seq": 0, "tenant": "",
                    "feature": "", "outcome": "", "outcome_inferred": false, "outcome_reason": "", "duration_ns": 0,
                    "error_type": "", "service": "shop", "release": "1.2", "environment": "test", "trace": trace,
                    "span": "FF", "strings": {}, "numbers": {}, "bools": {}, "flags": 0,
                    "received": "2025-11-23 12:13:20.000", "record": 1, "batch": 77, "project": 5, "retention_class": 2},
            ]),
        ),
        (
            "SELECT count() AS events, uniqExact(name) AS names, countIf(name = 'name65537') AS one FROM events",
            json!([{"events": 70_003, "names": 70_003, "one": 1}]),
        ),
        (
            "SELECT fingerprint, day, calls, total_ns, max_ns, rows, errors, code, record FROM query_usage ORDER BY calls",
            json!([
                {"fingerprint": 255, "day": "2025-11-23", "calls": 3, "total_ns": 300, "max_ns": 200, "rows": 30,
                    "errors": 0, "code": "a.rs:7", "record": 1},
                {"fingerprint": 0, "day": "2025-11-23", "calls": 4, "total_ns": 400, "max_ns": 250, "rows": 0,
                    "errors": 1, "code": "", "record": 0},
            ]),
        ),
        (
            "SELECT source, temporality, time, start, system, count, sum_ns, min_ns, max_ns, mapSort(buckets) AS buckets,
                bounds, bound_counts FROM query_histograms ORDER BY source",
            json!([
                {"source": "sdk", "temporality": "delta", "time": time, "start": "2025-11-23 12:13:09.000", "system": "",
                    "count": 9, "sum_ns": 500_000_000, "min_ns": 1_000_000, "max_ns": 250_000_000,
                    "buckets": {"-2147483648": 1, "-200": 1, "-198": 7}, "bounds": [], "bound_counts": []},
                {"source": "metric", "temporality": "cumulative", "time": time, "start": time, "system": "mysql",
                    "count": 6, "sum_ns": 1_250_000_000, "min_ns": 0, "max_ns": 0, "buckets": {},
                    "bounds": [0.001, 0.01], "bound_counts": [1, 2, 3]},
            ]),
        ),
        (
            "SELECT system, summary, text, version, record FROM query_texts ORDER BY system",
            json!([
                {"system": "mysql", "summary": "SELECT", "text": "", "version": 0, "record": 0},
                {"system": "postgresql", "summary": "SELECT users", "text": "SELECT ? FROM users", "version": 1, "record": 0},
            ]),
        ),
        (
            "SELECT day, time, duration_ns, source, weight, system, rows, failed, hex(span_id) AS span FROM query_samples",
            json!([{"day": "2025-11-23", "time": "2025-11-23 12:13:19.998500000", "duration_ns": 123, "source": "span",
                "weight": 1, "system": "postgresql", "rows": 3, "failed": false, "span": "FF"}]),
        ),
        (
            "SELECT route, method, time, status_code, failed, error_type, hex(trace_id) AS trace FROM requests",
            json!([{"route": "/cart", "method": "GET", "time": "2025-11-23 12:13:19.998500000", "status_code": 503,
                "failed": true, "error_type": "503", "trace": trace}]),
        ),
        (
            "SELECT a.kind AS from_kind, a.id AS from, p.id AS to, record FROM identity_links
                JOIN units AS a ON a.unit = anonymous JOIN units AS p ON p.unit = person ORDER BY from",
            json!([
                {"from_kind": "anonymous", "from": "d1", "to": "ann", "record": 0},
                {"from_kind": "session", "from": "s1", "to": "ann", "record": 1},
            ]),
        ),
        (
            "SELECT id FROM events JOIN units USING (unit) WHERE name = 'cart.added'",
            json!([{"id": "ann"}]),
        ),
        (
            "SELECT subject, tenant, strings, numbers, bools FROM properties",
            json!([{"subject": "tenant", "tenant": "acme", "strings": {"plan": "team"}, "numbers": {"seats": 5}, "bools": {"beta": true}}]),
        ),
        (
            "SELECT kind, name, funnel, position, was, code FROM catalog",
            json!([{"kind": "step", "name": "checkout.pay", "funnel": "checkout", "position": 2, "was": "checkout.buy", "code": "a.rs:7"}]),
        ),
        (
            "SELECT kind, reason, callsite, records FROM sdk_reports",
            json!([{"kind": "dropped", "reason": "ring_full", "callsite": "a.rs:1 search", "records": 4}]),
        ),
        (
            "SELECT signal, reason, JSONExtractString(body, 'eventName') AS name FROM set_aside",
            json!([{"signal": "logs", "reason": "missing_attribute", "name": "gemba.feature.used"}]),
        ),
        (
            "SELECT service, release, environment, instance, mapSort(attributes) AS attributes, last_seen FROM resources",
            json!([{"service": "shop", "release": "1.2", "environment": "test", "instance": "i-1", "attributes":
                {"deployment.environment.name": "test", "service.instance.id": "i-1", "service.name": "shop", "service.version": "1.2"},
                "last_seen": "2025-11-23"}]),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_block_is_read_back_by_the_engine_as_it_was_meant() {
    let ids = IdHasher::new([3; 16]);
    let origin = Origin {
        project: ProjectId(5),
        retention_class: 2,
        received_ms: RECEIVED_MS,
        ids: &ids,
        reads_span_events: true,
    };
    let mut rows = Rows::new();
    for (signal, request) in requests() {
        decode(signal, Encoding::Json, request.to_string().as_bytes(), &origin, &mut rows).unwrap();
    }
    let blocks = rows.blocks();
    let tables: BTreeSet<Table> = blocks.iter().map(|block| block.table).collect();
    assert_eq!(tables.len(), Table::ALL.len(), "the requests reach every table");

    let folder = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        data_dir: folder.path().join("engine"),
        program: Some(binary::gemba().to_owned()),
        ..EngineConfig::default()
    };
    let engine = Supervisor::start(config).unwrap();
    let client = Client::new(StoreConfig {
        url: engine.url(),
        user: engine.user().to_owned(),
        password: engine.password().to_owned(),
        database: "default".to_owned(),
        compress: false,
        cluster: None,
    });
    migrations::up(&client).await.unwrap();
    for (position, block) in blocks.iter().enumerate() {
        let mut native = Vec::new();
        rows.encode(block, 77, &mut native);
        let table = block.table.name();
        client.insert_native(table, &format!("native-{position}"), "", native.into()).await.unwrap();
        if block.table.is_counted() {
            let partition = block.partition;
            let stored =
                InsertedBlock { table, retention_class: partition.retention_class, week: partition.week, batch: 77 };
            assert_eq!(client.count_batch(stored).await.unwrap(), block.rows, "{table}");
            let records = client.number(&format!("SELECT sum(record) FROM {table}")).await.unwrap();
            assert_eq!(records, block.records, "{table}");
        }
    }
    for (sql, rows) in expected() {
        assert_eq!(
            Value::Array(
                rows_of(&client, &format!("{sql} SETTINGS output_format_json_quote_64bit_integers = 0")).await
            ),
            rows,
            "{sql}"
        );
    }
    engine.stop().await;
}
