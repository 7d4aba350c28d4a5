//! What operators set for a project: limits, retention, origins; what they are told: usage and the record of acts.

use crate::durability_support::check_ledger;
use gemba_ingest::pipeline::HoldFor;
use gemba_tests::binary;
use gemba_tests::client::{Answer, bare, call, post, send};
use gemba_tests::export::events;
use gemba_tests::project::Project;
use gemba_tests::server::{Keys, Server, config};
use prost::Message as _;
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

const PROTOBUF: &str = "application/x-protobuf";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

async fn manage(server: &Server, path: &str, body: Value) -> Value {
    let url = server.url(&format!("/api/v1/projects/default/{path}"));
    let answer = send(post(&url, &server.keys.admin, "application/json", body.to_string())).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

/// `google.rpc.Status` with the details it may carry.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Bytes of base64 without padding.
fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for chunk in text.as_bytes().chunks(4) {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 6 | digit(*byte)) << (6 * (4 - chunk.len()));
        bytes.extend(&bits.to_be_bytes()[1..chunk.len()]);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_beyond_its_limit_is_told_when_to_send_again_and_others_are_not_held_up() {
    let server = Server::start().await;
    let other = Project::create(server.running.url(), &server.keys, "other").await;
    manage(&server, "limits", json!({"per_second": 1})).await;
    // A burst of ten seconds' worth passes whole; the debt of 90 records has to be waited for.
    assert_eq!(server.send_logs(events(&["a"; 100], "m")).await.status, 200);
    let refused = server.send_logs(events(&["a"], "n")).await;
    assert_eq!((refused.status.as_u16(), refused.header("content-type")), (429, PROTOBUF));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((60..=91).contains(&wait), "{wait}");
    let status = Status::decode(refused.body.clone()).unwrap();
    assert!(status.message.contains("records a second"), "{status:?}");

    let bearer = format!("Bearer {}", server.keys.ingest);
    let headers = [("authorization", bearer.as_str())];
    let refused = call(server.running.url(), LOGS, &headers, 0, &events(&["a"], "o")).await;
    assert_eq!(refused.trailer("grpc-status"), "8", "RESOURCE_EXHAUSTED");
    let details = Status::decode(&*base64(refused.trailer("grpc-status-details-bin"))).unwrap();
    assert_eq!((details.code, &*details.details[0].type_url), (8, "type.googleapis.com/google.rpc.RetryInfo"));
    let delay = RetryInfo::decode(&*details.details[0].value).unwrap().retry_delay.unwrap();
    assert!((60..=91).contains(&delay.seconds), "{delay:?}");

    let sent = post(&format!("{}/v1/logs", other.url), &other.ingest_key, PROTOBUF, events(&["a"], "m"));
    assert_eq!(send(sent).await.status, 200);
    let metrics = String::from_utf8(send(bare("GET", &server.url("/metrics"), None)).await.body.to_vec()).unwrap();
    assert!(metrics.contains("gemba_requests_refused_total{reason=\"rate_limited\"} 2\n"), "{metrics}");
    manage(&server, "limits", json!({})).await;
    assert_eq!(server.send_logs(events(&["a"], "p")).await.status, 200, "no limit any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_s_quota_survives_a_restart_and_usage_tells_what_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let running = gemba_ingest::serve::start(config(folder.path())).await.unwrap();
    let keys = Keys::of(folder.path());
    let gemba = |url: &str, arguments: &[&str]| -> String {
        let output = Command::new(binary::gemba())
            .args(arguments)
            .args(["--url", url, "--data"])
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told = gemba(running.url(), &["project", "limit", "default", "--per-day", "50"]);
    assert_eq!(told, "project default may send 50 records a day\n");
    let send_to = async |url: &str, names: &[&str], marker: &str| -> Answer {
        send(post(&format!("{url}/v1/logs"), &keys.ingest, PROTOBUF, events(names, marker))).await
    };
    let body = events(&["a"; 48], "m");
    let bytes = body.len();
    for expected in [200, 200] {
        let answer = send(post(&format!("{}/v1/logs", running.url()), &keys.ingest, PROTOBUF, body.clone())).await;
        assert_eq!(answer.status, expected, "a repeat is not charged");
    }
    assert_eq!(send_to(running.url(), &["a", "", "a"], "n").await.status, 200, "the last one may overshoot");
    assert_eq!(send_to(running.url(), &["a"], "o").await.status, 429);
    let project = Project::default_of(running.url(), &keys);
    project.flush().await;
    assert!(running.stop().await);

    let running = gemba_ingest::serve::start(config(folder.path())).await.unwrap();
    let mut status = 200;
    for attempt in 0..200 {
        status = send_to(running.url(), &[], &attempt.to_string()).await.status.as_u16();
        if status == 429 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(status, 429, "what was sent before the restart counts");
    let usage: Value = serde_json::from_str(&gemba(running.url(), &["project", "usage", "default", "--json"])).unwrap();
    assert_eq!((&usage["today"], &usage["this_month"]), (&json!(51), &json!(51)), "{usage}");
    let day = &usage["days"][0];
    assert_eq!((&day["signal"], &day["records"], &day["deduplicated"]), (&json!("logs"), &json!(99), &json!(48)));
    assert_eq!(day["not_stored"], json!(1), "the record without a name");
    assert!(day["bytes"].as_u64().unwrap() >= bytes as u64, "{usage}");
    let table = gemba(running.url(), &["project", "usage", "default"]);
    assert!(table.contains("may send 50 records a day"), "{table}");

    let acts = gemba(running.url(), &["project", "audit"]);
    assert!(acts.contains("project.limits  default  done") && acts.contains("admin "), "{acts}");
    assert!(running.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_drops_whole_weeks_of_a_class_counts_them_and_answers_say_so() {
    let server = Server::start().await;
    let store = server.running.app().store.clone();
    let other = Project::create(server.running.url(), &server.keys, "other").await;
    let set = manage(&server, "retention", json!({"days": 10})).await;
    assert_eq!((&set["class"], &set["removed"]), (&json!(1), &json!({})));
    assert_eq!(server.send_logs(events(&["new", ""], "m")).await.status, 200);
    let sent = post(&format!("{}/v1/logs", other.url), &other.ingest_key, PROTOBUF, events(&["new"], "m"));
    assert_eq!(send(sent).await.status, 200);
    server.flush().await;
    assert_eq!(server.number("SELECT count() FROM events WHERE project = 1 AND retention_class = 1").await, 1);
    // As if received 40 days ago: in the class, before the class was chosen, and by the other project.
    let at = "now() - INTERVAL 40 DAY";
    for (project, class, rows, unit) in [(1, 1, 7, 71), (1, 0, 5, 72), (3, 0, 3, 73)] {
        store
            .execute(&format!(
                "INSERT INTO events (project, retention_class, name, kind, day, unit, time, received, record) \
                 SELECT {project}, {class}, 'old', 'used', toDate({at}), {unit}, {at}, {at}, 1 FROM numbers({rows})"
            ))
            .await
            .unwrap();
        for (sql, records) in [("ledger (project, log, cut, fate, signal, records, received)", rows)] {
            let row = format!("SELECT {project}, 9, {unit}, 'received', 'logs', {records}, {at}");
            store.execute(&format!("INSERT INTO {sql} {row}")).await.unwrap();
        }
        let id = format!("INSERT INTO units VALUES ({project}, {unit}, 'user', 'old-{unit}')");
        store.execute(&id).await.unwrap();
    }
    // And one that was set aside then: its fate stays in the books when its row goes.
    let aside = format!(
        "INSERT INTO set_aside (project, retention_class, time, signal, reason, body, received, record, batch) \
         SELECT 1, 1, {at}, 'logs', 'invalid_utf8', 'old', {at}, 1, 0"
    );
    let received = format!(
        "INSERT INTO ledger (project, log, cut, fate, signal, reason, records, received) \
         SELECT 1, 9, 70, fate, 'logs', if(fate = 'received', '', 'invalid_utf8'), 1, {at} \
         FROM (SELECT arrayJoin(['received', 'set_aside']) AS fate)"
    );
    for statement in [aside, received] {
        store.execute(&statement).await.unwrap();
    }
    let project = Project::default_of(server.running.url(), &server.keys);
    let range = "from=2020-01-01T00:00:00Z";
    let before = project.get(&format!("/api/v1/queries/feature_usage?{range}")).await.json();
    assert_eq!((&before["complete"], before.get("kept_from")), (&json!(true), None), "{before}");

    let known = jiff::Timestamp::now();
    let set = manage(&server, "retention", json!({"days": 10})).await;
    assert_eq!(set["removed"], json!({"events": 12, "set_aside": 1, "units": 2}), "{set}");
    assert_eq!(server.number("SELECT count() FROM events WHERE project = 1").await, 1, "what is new stays");
    assert_eq!(server.number("SELECT count() FROM events WHERE project = 3").await, 4, "another project's stays");
    assert_eq!(server.number("SELECT count() FROM units WHERE id LIKE 'old-%'").await, 1);
    check_ledger(&store, async || true, "expired").await;
    let losses = project.ask_anyway("losses", &[]).await;
    let expired = losses.iter().find(|row| row["term"] == "expired").unwrap();
    assert_eq!(expired["records"], 12, "{losses:?}");
    let unexplained = losses.iter().find(|row| row["term"] == "unexplained").unwrap();
    assert_eq!(unexplained["records"], 0, "{losses:?}");
    let after = project.get(&format!("/api/v1/queries/feature_usage?{range}")).await.json();
    assert_eq!(after["complete"], false, "{after}");
    assert!(after["kept_from"].is_string(), "{after}");
    let url = format!("/api/v1/queries/feature_usage?{range}&as_of={known}");
    let reproduced = &project.get(&url).await.json()["reproduced"];
    assert_eq!(reproduced["exactly"], false);
    assert!(reproduced["because"][0].as_str().unwrap().starts_with("12 records"), "{reproduced}");
    let url = format!("/api/v1/queries/feature_usage?{range}&as_of=now");
    let reproduced = &project.get(&url).await.json()["reproduced"];
    assert_eq!(reproduced["exactly"], true, "what went before that instant was not known then: {reproduced}");
    let week = project.get("/api/v1/queries/feature_usage").await.json();
    assert_eq!(week["complete"], true, "a range after it is complete: {week}");

    let again = manage(&server, "retention", json!({"days": 10})).await;
    assert_eq!(again["removed"], json!({}), "nothing is left to do");
    assert_eq!(manage(&server, "retention", json!({"days": null})).await["class"], 0);
    let url = server.url("/api/v1/projects/default/retention");
    for wrong in ["{}", r#"{"days":0}"#, r#"{"days":-1}"#] {
        assert_eq!(send(post(&url, &server.keys.admin, "application/json", wrong)).await.status, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_key_with_origins_works_for_pages_of_them_only_and_in_the_query_string_of_a_beacon() {
    let server = Server::start().await;
    manage(&server, "origins", json!({"origins": ["https://shop.example"]})).await;
    let beacon = |origin: Option<&str>, marker: &str| {
        let url = server.url(&format!("/v1/logs?key={}", server.keys.ingest));
        let mut request = bare("POST", &url, None);
        *request.body_mut() = events(&["seen"], marker).into();
        request.headers_mut().insert("content-type", PROTOBUF.parse().unwrap());
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        send(request)
    };
    for (origin, marker, status) in [
        (Some("https://shop.example"), "a", 200),
        (None, "b", 200),
        (Some("https://evil.example"), "c", 403),
        (Some("https://shop.example.evil"), "d", 403),
        (Some("null"), "e", 403),
    ] {
        let answer = beacon(origin, marker).await;
        assert_eq!(answer.status, status, "{origin:?}: {answer:?}");
    }
    // The new key after a rotation is bound to the same pages.
    let url = server.url("/api/v1/projects/default/rotate");
    let new =
        send(bare("POST", &url, Some(&server.keys.admin))).await.json()["ingest_key"].as_str().unwrap().to_owned();
    let mut request = post(&server.url("/v1/logs"), &new, PROTOBUF, events(&["seen"], "f"));
    request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    assert_eq!(send(request).await.status, 403);
    let url = server.url("/api/v1/projects/default/origins");
    for wrong in ["shop.example", "https://", "https://shop.example/path", "https://a,https://b", "*"] {
        let body = json!({"origins": [wrong]}).to_string();
        assert_eq!(send(post(&url, &server.keys.admin, "application/json", body)).await.status, 400, "{wrong}");
    }
    manage(&server, "origins", json!({"origins": []})).await;
    let mut request = post(&server.url("/v1/logs"), &new, PROTOBUF, events(&["seen"], "g"));
    request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    assert_eq!(send(request).await.status, 200, "the server's list holds again, which is any");
}

/// Samples of a metric: what stands in its braces, and its value.
async fn samples(server: &Server, name: &str) -> Vec<(String, f64)> {
    let answer = send(bare("GET", &server.url("/metrics"), None)).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    lines
        .filter_map(|rest| {
            let (labels, value) = rest.rsplit_once(' ')?;
            Some((labels.to_owned(), value.parse().unwrap()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_falls_silent_is_told_by_metric_readyz_and_check_until_rows_are_stored_again() {
    // Rows are of this moment or an hour old and more, so that no clock decides.
    let threshold = std::time::Duration::from_mins(10);
    let server = Server::start_with(|config| config.stale_after = Some(threshold)).await;
    let quiet = Project::create(server.running.url(), &server.keys, "quiet").await;
    let app = server.running.app();
    let look = async || gemba_ingest::freshness::look(app).await.unwrap();
    look().await;
    assert_eq!(samples(&server, "gemba_newest_row_age_seconds").await, [], "who never had a row has no age");
    server.send_logs(events(&["cart"], "one")).await;
    // Nothing of this project is kept, so it has no newest row.
    let nameless = post(&server.url("/v1/logs"), &quiet.ingest_key, PROTOBUF, events(&[""], "two"));
    assert_eq!(send(nameless).await.status, 200);
    server.flush().await;
    look().await;
    let ages = samples(&server, "gemba_newest_row_age_seconds").await;
    assert_eq!(ages.len(), 1, "{ages:?}");
    assert!(ages[0].0 == "{project=\"1\"}" && (0.0..600.0).contains(&ages[0].1), "{ages:?}");
    assert_eq!(samples(&server, "gemba_stale_projects").await, [(String::new(), 0.0)]);

    // An hour passes for the row, and another project's newest is found although it is days old.
    let store = &app.store;
    let back = "ALTER TABLE ledger DELETE WHERE project = 1 SETTINGS mutations_sync = 2";
    store.execute(back).await.unwrap();
    let old = "INSERT INTO ledger (project, log, cut, fate, signal, reason, records, received) \
               VALUES (1, 9, 1, 'received', 'logs', '', 5, now64(3) - INTERVAL 1 HOUR), \
               (3, 9, 1, 'received', 'logs', '', 5, now64(3) - INTERVAL 9 DAY)";
    store.execute(old).await.unwrap();
    let server = server.restart_with(|config| config.stale_after = Some(threshold)).await;
    gemba_ingest::freshness::look(server.running.app()).await.unwrap();
    let ages = samples(&server, "gemba_newest_row_age_seconds").await;
    assert_eq!(ages.len(), 2, "{ages:?}");
    assert!(
        (3_600.0..3_900.0).contains(&ages[0].1) && (9.0 * 86_400.0..9.1 * 86_400.0).contains(&ages[1].1),
        "{ages:?}"
    );
    assert_eq!(samples(&server, "gemba_stale_projects").await, [(String::new(), 2.0)]);
    let ready = send(bare("GET", &server.url("/readyz"), None)).await;
    assert_eq!(
        (ready.status.as_u16(), &ready.json()["stale_projects"]),
        (200, &json!(2)),
        "silence is no reason to send elsewhere"
    );
    let (code, found) = check(&server, &[]);
    assert!(code == Some(1) && found.contains("of 2 projects nothing was stored"), "{found}");
    server.send_logs(events(&["cart"], "three")).await;
    quiet_project(&server, &quiet).send("/v1/logs", vec![events(&["cart"], "four")]).await;
    server.flush().await;
    gemba_ingest::freshness::look(server.running.app()).await.unwrap();
    assert_eq!(samples(&server, "gemba_stale_projects").await, [(String::new(), 0.0)]);
    let (code, found) = check(&server, &[]);
    assert!(code == Some(0) && found.contains("no project fell silent"), "{found}");

    // A server that judges nobody gives no all-clear, and is no answer to somebody who wants one.
    let server = server.restart_with(|config| config.stale_after = None).await;
    let ready = send(bare("GET", &server.url("/readyz"), None)).await.json();
    assert!(ready.get("stale_projects").is_some_and(Value::is_null), "{ready}");
    for (options, expected) in [(&[][..], 0), (&["--stale-after", "30m"], 1)] {
        let (code, found) = check(&server, options);
        assert!(code == Some(expected) && found.contains("not judged: the server has no --stale-after"), "{found}");
    }
}

/// What `gemba check` ends with and says of a server at work.
fn check(server: &Server, options: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary::gemba());
    command.args(["check", "--json", "--url", server.running.url(), "--data"]).arg(server.running.data());
    let output = command.args(options).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// The project at the server's address after a restart.
fn quiet_project(server: &Server, project: &Project) -> Project {
    Project { url: server.running.url().to_owned(), ..project.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_metrics_in_the_deployment_page_is_what_the_server_serves() {
    let server = Server::start().await;
    let answer = send(bare("GET", &server.url("/metrics"), None)).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let kind = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} ")));
        line.unwrap_or_else(|| panic!("{name} has no type")).to_owned()
    };
    let served: Vec<[String; 3]> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
        .map(|(name, help)| [name.to_owned(), kind(name), help.trim_end_matches('.').to_owned()])
        .collect();
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../ingest/DEPLOYMENT.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut told = Vec::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("| `gemba_")) {
        let cells: Vec<&str> = line.trim_end_matches(" |").split(" | ").collect();
        let [name, kind, unit, meaning] = cells[..] else { panic!("{line}") };
        let name = format!("gemba_{}", name.trim_end_matches('`'));
        for (part, word) in [("_seconds", "s"), ("_bytes", "bytes"), ("_records_", "records")] {
            assert!(!name.contains(part) || unit == word, "{name} is told in {unit}");
        }
        assert!(!unit.is_empty(), "{name} has no unit");
        told.push([name, kind.to_owned(), meaning.to_owned()]);
    }
    assert_eq!(told, served, "the page and the server, in the order of /metrics");
    let named = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(['{', ' ']).next().unwrap());
    for name in named {
        assert!(served.iter().any(|[known, ..]| known == name), "{name} has a sample and no head");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_s_filter_is_changed_under_the_record_of_acts() {
    let server = Server::start().await;
    let url = server.url("/api/v1/projects/default/filter");
    let exclude = json!([{"attr": "user:internal", "op": "eq", "value": true}]);
    let put = |body: Value| {
        let mut request = post(&url, &server.keys.admin, "application/json", body.to_string());
        *request.method_mut() = hyper::Method::PUT;
        send(request)
    };
    assert_eq!(put(json!({"exclude": exclude})).await.status, 200);
    assert_eq!(put(json!({"exclude": 1})).await.status, 400, "what is refused unread is no act");
    assert_eq!(send(bare("DELETE", &url, Some(&server.keys.admin))).await.status, 200);
    assert_eq!(send(bare("GET", &url, Some(&server.keys.admin))).await.json()["exclude"], json!([]));
    let audited = send(bare("GET", &server.url("/api/v1/audit"), Some(&server.keys.admin))).await.json();
    let acts: Vec<_> = audited["acts"].as_array().unwrap().iter().collect();
    assert_eq!(acts.len(), 2, "{audited}");
    for (act, detail) in acts.iter().zip(["nothing is left out", &exclude.to_string()]) {
        let told = ["action", "subject", "outcome", "detail"].map(|field| act[field].as_str().unwrap());
        assert_eq!(told, ["project.filter", "default", "done", detail], "{audited}");
        assert!(act["actor"].as_str().unwrap().starts_with("admin "), "{audited}");
    }
}

/// A sample of `/metrics`.
async fn sample(url: &str, name: &str) -> u64 {
    let answer = send(bare("GET", &format!("{url}/metrics"), None)).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_counted_as_stored_when_they_are_also_those_that_the_process_before_acknowledged() {
    let server = Server::start_with(|config| config.drain_timeout = Duration::from_secs(1)).await;
    let stored = async |url: &str| sample(url, "gemba_records_stored_total").await;
    let url = server.running.url().to_owned();
    assert_eq!(server.send_logs(events(&["a", "b", ""], "m")).await.status, 200);
    server.flush().await;
    assert_eq!((sample(&url, "gemba_records_received_total").await, stored(&url).await), (3, 2));
    let app = std::sync::Arc::clone(server.running.app());
    let held = app.pipeline.hold_inserts(HoldFor::Upkeep, Duration::from_secs(10)).await.unwrap();
    assert_eq!(server.send_logs(events(&["a", "b", "c"], "n")).await.status, 200);
    assert_eq!((sample(&url, "gemba_records_pending").await, stored(&url).await), (3, 2));
    let data = server.running.data().to_owned();
    assert!(!server.running.stop().await, "three records are left in the log");
    drop(held);
    drop(app);

    let running = gemba_ingest::serve::start(config(&data)).await.unwrap();
    assert!(running.app().pipeline.flush(Duration::from_secs(30)).await);
    let found = (sample(running.url(), "gemba_records_received_total").await, stored(running.url()).await);
    assert_eq!(found, (0, 3), "received by the process before, stored by this one");
    assert!(running.stop().await);
}
