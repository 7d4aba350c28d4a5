//! What was stored can be taken out, by nobody but its readers, and read back into another project with equal answers.

use gemba_tests::client::{bare, post, send};
use gemba_tests::data::{BATCH_RECORDS, DataSet, utc_ns};
use gemba_tests::export;
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;

/// The time of the first record, 2026-03-01T10:00:00Z.
const START_MS: u64 = 1_772_359_200_000;

fn value(value: &Value) -> Value {
    match value {
        Value::String(text) => json!({"stringValue": text}),
        Value::Bool(flag) => json!({"boolValue": flag}),
        Value::Number(number) if number.is_f64() => json!({"doubleValue": number}),
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::Array(items) => json!({"arrayValue": {"values": items.iter().map(self::value).collect::<Vec<_>>()}}),
        _ => panic!("no attribute: {value}"),
    }
}

fn pairs(object: &Value) -> Vec<Value> {
    object.as_object().unwrap().iter().map(|(key, cell)| json!({"key": key, "value": value(cell)})).collect()
}

/// Records of all kinds: features, attempts with every outcome, steps, foreign events, an identity learned late.
fn records() -> Vec<(&'static str, Value)> {
    let outcomes = ["completed", "failed", "abandoned", "cancelled", "panicked"];
    let mut records = vec![
        ("gemba.feature.used", json!({"gemba.feature.name": "search", "user.id": "ann", "hits": 5, "kind": "price"})),
        (
            "gemba.feature.used",
            json!({"gemba.feature.name": "search", "user.id": "bob", "session.id": "s-1", "hits": 5.5}),
        ),
        (
            "cart",
            json!({"session.id": "s-2", "plan": "5", "big": 9_007_199_254_740_993_i64, "gift": true, "tags": ["a", 1]}),
        ),
        (
            "pay",
            json!({"user.id": "carl", "session.id": "s-2", "gemba.tenant": "acme", "note": "a,\"b\"\nc", "empty": ""}),
        ),
        ("cart", json!({"gemba.anonymous.id": "device-7"})),
        ("pay", json!({"user.id": "dora", "plan": 5})),
        ("gemba.identify", json!({"user.id": "carl", "session.id": "s-2"})),
        ("gemba.identify", json!({"user.id": "dora", "gemba.anonymous.id": "device-7"})),
        ("nobody", json!({"why": "no identity"})),
        (
            "gemba.funnel.step",
            json!({"gemba.funnel.name": "shop.checkout", "gemba.step.name": "pay", "user.id": "ann"}),
        ),
    ];
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let attempt =
            json!({"gemba.feature.name": "review.write", "gemba.attempt.id": format!("a-{number}"), "user.id": "ann"});
        let mut ended = attempt.clone();
        ended["gemba.outcome"] = json!(outcome);
        ended["gemba.duration_ns"] = json!(1_500_000 * (number + 1));
        if outcome == "failed" {
            ended["error.type"] = json!("Timeout");
        }
        if outcome == "abandoned" {
            ended["gemba.outcome.inferred"] = json!(true);
        }
        records.extend([("gemba.feature.started", attempt), ("gemba.feature.ended", ended)]);
    }
    records
}

/// One request as JSON; half of the records come from another service and release.
fn request() -> String {
    let mut of_services = [Vec::new(), Vec::new()];
    for (number, (name, attributes)) in records().into_iter().enumerate() {
        let time_ns = (START_MS + number as u64 * 7_200_000) * 1_000_000;
        of_services[number % 2].push(json!({
            "timeUnixNano": time_ns.to_string(), "eventName": name, "attributes": pairs(&attributes),
            "traceId": format!("{:032x}", number + 1), "spanId": format!("{:016x}", number + 1),
        }));
    }
    let resources = [
        json!({"service.name": "web", "service.version": "1.0", "service.instance.id": "i-1"}),
        json!({"service.name": "app", "service.version": "2.0", "deployment.environment.name": "test"}),
    ];
    let of_resources: Vec<Value> = resources
        .iter()
        .zip(of_services)
        .map(|(resource, records)| {
            json!({"resource": {"attributes": pairs(resource)}, "scopeLogs": [{"logRecords": records}]})
        })
        .collect();
    json!({"resourceLogs": of_resources}).to_string()
}

/// The answers that two projects with the same events must have in common.
async fn answers(project: &Project) -> Vec<Value> {
    let range = [("from", "2026-03-01"), ("to", "2026-03-05")];
    let mut answers = Vec::new();
    for (query, further) in [
        ("feature_usage", &[][..]),
        ("feature_usage", &[("breakdown", "release")]),
        ("feature_usage", &[("breakdown", "tenant")]),
        ("feature_completion", &[]),
        ("active_users", &[]),
        ("usage_over_time", &[("period", "hour")]),
    ] {
        let rows = project.ask(query, &[&range[..], further].concat()).await;
        assert!(!rows.is_empty(), "{query}");
        answers.push(json!(rows));
    }
    for question in [
        json!({"steps": [{"event": "cart"}, {"event": "pay"}], "breakdown": "service.version"}),
        json!({"steps": [{"event": "cart", "where": {"plan": "5"}}, {"event": "pay", "where": {"note": "a,\"b\"\nc"}}]}),
        json!({"steps": [{"event": "cart", "where": [{"attr": "gift", "op": "eq", "value": true}]}, {}], "count_by": "session"}),
        json!({"steps": [{"event": "search", "where": {"hits": 5}}, {"event": "step:shop.checkout.pay"}]}),
    ] {
        let mut question = question;
        question["from"] = json!("2026-03-01");
        question["to"] = json!("2026-03-05");
        let answer = project.funnel(&question).await;
        assert!(answer["steps"][0]["count"].as_u64().unwrap() > 0, "{question}");
        answers.push(json!([answer["steps"], answer["breakdown"]]));
    }
    answers
}

/// The rows of an export, attempts numbered as they come: their ids are not kept, only which records share one.
fn rows(project: &Project) -> Vec<Value> {
    let output = project.export(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut attempts = HashMap::new();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in &mut rows {
        if let Some(attempt) = row["attributes"].get_mut("gemba.attempt.id") {
            let next = attempts.len();
            *attempt = json!(attempts.entry(attempt.as_str().unwrap().to_owned()).or_insert(next));
        }
    }
    rows
}

fn exported_to(folder: &tempfile::TempDir, project: &Project, format: &str, further: &[&str]) -> PathBuf {
    let file = folder.path().join(format!("out.{format}"));
    let mut arguments = vec!["--format", format, "--output", file.to_str().unwrap()];
    arguments.extend(further);
    let output = project.export(&arguments);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn exported_events_read_back_give_the_same_answers_in_either_format() {
    let server = Server::start().await;
    let url = server.running.url();
    let first = Project::default_of(url, &server.keys);
    let answer = send(post(&format!("{url}/v1/logs"), &first.ingest_key, "application/json", request())).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, &b"{}"[..]));
    // No flush: an export holds what was acknowledged before it.
    let exported = rows(&first);
    assert_eq!(exported.len(), records().len());
    let times: Vec<&str> = exported.iter().map(|row| row["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(exported[2]["attributes"]["big"], 9_007_199_254_740_993_i64);
    assert_eq!((&exported[2]["session"], &exported[2]["resource"]["service.name"]), (&json!("s-2"), &json!("web")));

    let wanted = answers(&first).await;
    let folder = tempfile::tempdir().unwrap();
    for format in ["ndjson", "csv"] {
        let project = Project::create(url, &server.keys, format).await;
        let file = exported_to(&folder, &first, format, &[]);
        for run in 0..2 {
            let output = project.import(&file, &[]);
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            let talk = String::from_utf8_lossy(&output.stderr);
            assert_eq!(told, format!("imported {} records, 0 refused\n", exported.len()), "run {run}: {talk}");
        }
        project.flush().await;
        assert_eq!(answers(&project).await, wanted, "{format}");
        assert_eq!(rows(&project), exported, "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_one_project_and_the_range_asked_for() {
    let server = Server::start().await;
    let url = server.running.url();
    let shop = Project::default_of(url, &server.keys);
    let other = Project::create(url, &server.keys, "other").await;
    other.send("/v1/logs", vec![export::events(&["elsewhere"], "hidden-marker")]).await;
    let data = DataSet::excerpt("ecom-retentioneering");
    let table = data.table("ecom.csv.gz");
    let [time, name, user] = ["timestamp", "event", "user_id"].map(|name| table.column(name));
    let requests = table.rows.chunks(BATCH_RECORDS).map(|rows| {
        let records = rows.iter().map(|row| export::event(utc_ns(&row[time]), &row[name], &[("user.id", &row[user])]));
        export::logs("shop", records.collect())
    });
    shop.send("/v1/logs", requests.collect()).await;

    let exported = rows(&shop);
    assert_eq!(exported.len(), table.rows.len());
    assert!(!exported.iter().any(|row| row.to_string().contains("hidden-marker")));
    let output = shop.export(&["--from", "2024-03-01", "--to", "2024-04-01", "--format", "csv"]);
    let in_march = table.rows.iter().filter(|row| row[time].starts_with("2024-03-")).count();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), in_march + 1, "a header line and a row an event");
    assert!(text.starts_with("\"time\",\"event\",\"user\","), "{}", &text[..80]);
    let output = shop.export(&["--from", "2030-01-01", "--format", "csv"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1, "of nothing there is a header line");

    for (key, path, status, code) in [
        ("gr_wrong", "events", 401, "unknown_key"),
        (shop.ingest_key.as_str(), "events", 403, "wrong_key_role"),
        (shop.read_key.as_str(), "control", 404, "unknown_table"),
        (shop.read_key.as_str(), "events?from=soon", 400, "invalid_parameter"),
        (shop.read_key.as_str(), "events?project=2", 400, "unknown_parameter"),
        (shop.read_key.as_str(), "events?format=json", 400, "invalid_parameter"),
    ] {
        let answer = send(bare("GET", &format!("{url}/api/v1/export/{path}"), Some(key))).await;
        let found = (answer.status.as_u16(), answer.json()["error"]["code"].as_str().unwrap().to_owned());
        assert_eq!(found, (status, code.to_owned()), "{path}");
    }
    let output = shop.export(&["--table", "everything"]);
    let talk = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(talk.contains("everything") && talk.contains("hint: tables: events, query_usage"), "{talk}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exported_statements_read_back_give_the_same_ranking_and_every_table_can_be_taken_out() {
    let server = Server::start().await;
    let url = server.running.url();
    let first = Project::default_of(url, &server.keys);
    let statements = [("SELECT 1 FROM a WHERE b = 7", 3_000), ("SELECT 1 FROM a WHERE b = 9", 5_000), ("COMMIT", 27)];
    let spans = statements.iter().enumerate().map(|(number, (text, us))| {
        let start_ns = (START_MS + number as u64) * 1_000_000;
        export::query_span(number as u64, start_ns, us * 1000, "postgresql", text)
    });
    first.send("/v1/traces", vec![export::traces("shop", spans.collect())]).await;
    for table in ["events", "query_usage", "query_histograms", "query_texts", "query_samples", "requests"] {
        for format in ["ndjson", "csv"] {
            let output = first.export(&["--table", table, "--format", format]);
            assert!(output.status.success(), "{table}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = exported_to(&folder, &first, "csv", &["--table", "query_samples"]);
    let second = Project::create(url, &server.keys, "second").await;
    let arguments = ["--time", "time", "--sql", "text", "--duration-ms", "duration_ms", "--service", "shop"];
    let output = second.import(&file, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    second.flush().await;
    let range = [("from", "2026-03-01"), ("to", "2026-03-02")];
    let ranking = first.ask("slow_queries", &range).await;
    assert_eq!(ranking.len(), 2);
    assert_eq!((&ranking[0]["calls"], &ranking[0]["duration_ms_total"]), (&json!(2), &json!(8)));
    assert_eq!(second.ask("slow_queries", &range).await, ranking);
}
