//! Exports of other products, imported as they are: people, the visitors they were, properties; and once, however often the
//! import is run.

use gemba_tests::project::Project;
use gemba_tests::server::Server;
use serde_json::{Value, json};
use std::path::Path;

/// Writes rows as NDJSON.
fn write(path: &Path, rows: &[Value]) {
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}

/// A visitor fills a cart, becomes ann, and pays; 3,000 others only look, which makes more than one batch.
fn posthog() -> Vec<Value> {
    let of = |second: u32, event: &str, id: &str, properties: Value| {
        let time = format!("2024-01-02 {:02}:{:02}:{:02}.000000+00:00", second / 3600, second / 60 % 60, second % 60);
        json!({"uuid": "u", "event": event, "timestamp": time, "distinct_id": id, "properties": properties})
    };
    let mut rows = vec![
        of(1, "cart", "v", json!({"$device_id": "v"})),
        of(2, "$identify", "ann", json!({"$anon_distinct_id": "v", "$set": {"plan": "pro"}})),
        of(3, "pay", "ann", json!({"amount": 5})),
    ];
    rows.extend((0..3_000).map(|n| of(10 + n, "$pageview", &format!("w{n}"), json!({"$is_identified": false}))));
    rows
}

/// The same person in Segment's words.
fn segment() -> Vec<Value> {
    let of = |second: u32, more: Value| {
        let mut row =
            json!({"messageId": "m", "timestamp": format!("2024-01-02T00:00:{second:02}Z"), "anonymousId": "v"});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    vec![
        of(1, json!({"type": "track", "event": "cart", "properties": {}})),
        of(2, json!({"type": "identify", "userId": "ann", "traits": {"plan": "pro"}})),
        of(3, json!({"type": "track", "event": "pay", "userId": "ann", "properties": {"amount": 5}})),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_broke_off_at_a_row_goes_on_behind_what_is_stored_once_the_row_is_mended() {
    const ROWS: u64 = 7_000;
    let server = Server::start().await;
    let project = Project::default_of(server.running.url(), &server.keys);
    let folder = tempfile::tempdir().unwrap();
    for (name, header, line, arguments, stored) in [
        (
            "events.csv",
            "ts,event,user_id",
            "2024-01-02T00:00:00Z,look,u",
            &["--time", "ts", "--event", "event", "--user", "user_id"][..],
            "events WHERE project = 1 AND name = 'look'",
        ),
        (
            "statements.csv",
            "ts,ms,sql",
            "2024-01-02T00:00:00Z,1.5,SELECT a FROM t",
            &["--time", "ts", "--sql", "sql", "--duration-ms", "ms"][..],
            "query_samples WHERE project = 1",
        ),
    ] {
        let file = folder.path().join(name);
        let write = |broken: bool| {
            let line = |number: u64| {
                let line = line.replace(",u", &format!(",u{number}"));
                if broken && number == 5_000 { line.replace("2024-01-02T", "someday ") } else { line }
            };
            let lines: Vec<String> = std::iter::once(header.to_owned()).chain((1..=ROWS).map(line)).collect();
            std::fs::write(&file, lines.join("\n")).unwrap();
        };
        write(true);
        let output = project.import(&file, arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains("row 5000"), "{name}: {told}");
        project.flush().await;
        let count = async || server.number(&format!("SELECT toUInt64(count()) FROM {stored}")).await;
        assert_eq!(count().await, 4_000, "{name}: two batches before the row");
        write(false);
        for _ in 0..2 {
            let output = project.import(&file, arguments);
            assert!(output.status.success(), "{name}: {output:?}");
            project.flush().await;
            assert_eq!(count().await, ROWS, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_posthog_or_segment_is_imported_once_and_its_people_are_found_again() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    for (preset, rows, records, number) in [("posthog", posthog(), 3_004, 3), ("segment", segment(), 4, 4)] {
        let project = Project::create(server.running.url(), &server.keys, preset).await;
        let file = folder.path().join(format!("{preset}.ndjson"));
        write(&file, &rows);
        for _ in 0..2 {
            let output = project.import(&file, &["--preset", preset]);
            let told = String::from_utf8_lossy(&output.stdout);
            assert_eq!(told, format!("imported {records} records, 0 refused\n"), "{output:?}");
        }
        project.flush().await;
        let count = async |from: &str| {
            server.number(&format!("SELECT toUInt64(count()) FROM {from} AND project = {number}")).await
        };
        assert_eq!(count("events WHERE 1").await, records - 2, "{preset}");
        assert_eq!(count("identity_links WHERE 1").await, 1, "{preset}");
        assert_eq!(count("properties WHERE strings['plan'] = 'pro'").await, 1, "{preset}");
        assert_eq!(count("events WHERE name = 'pay' AND numbers['amount'] = 5").await, 1, "{preset}");
        let question = json!({"steps": [{"event": "cart"}, {"event": "pay"}], "window_ms": 60_000,
            "from": "2024-01-01T00:00:00Z", "to": "2024-02-01T00:00:00Z"});
        assert_eq!(project.reached(&question).await, [1, 1], "{preset}: the visitor who filled the cart is who paid");
    }
}
