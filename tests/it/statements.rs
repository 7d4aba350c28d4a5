//! Real statement logs: they fall into the groups that PostgreSQL's own parser sees, and sent as spans over OTLP with
//! their own times they are ranked by the server as worked out.
//!
//! The excerpt in `data/sql-statements` is always checked; the full logs are checked as well where the folder with the
//! shared data lies beside the checkout.

use gemba::query::{Dialect, fingerprint};
use gemba_tests::client::{post, send};
use gemba_tests::data::{BATCH_RECORDS, DataSet, utc_ns};
use gemba_tests::export;
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A statement of a log.
struct Statement {
    log: String,
    time_ns: u64,
    duration_us: u64,
    text: String,
}

/// One group of statements of a log.
#[derive(Default)]
struct Group {
    /// Durations of the calls, ascending.
    durations_us: Vec<u64>,
    /// Normalised.
    text: String,
}

impl Group {
    fn calls(&self) -> u64 {
        self.durations_us.len() as u64
    }

    fn total_us(&self) -> u64 {
        self.durations_us.iter().sum()
    }

    fn max_us(&self) -> u64 {
        *self.durations_us.last().unwrap()
    }

    /// The duration that `percent` of the calls do not exceed, by nearest rank.
    fn percentile_us(&self, percent: usize) -> u64 {
        self.durations_us[(self.durations_us.len() * percent).div_ceil(100) - 1]
    }

    /// The same as the worked answers take it: the duration with that share of the calls before it.
    fn worked_percentile_us(&self, percent: usize) -> u64 {
        self.durations_us[self.durations_us.len() * percent / 100]
    }
}

/// Groups by fingerprint.
type Groups = BTreeMap<u64, Group>;

/// Milliseconds with three decimals as whole microseconds.
fn microseconds(ms: &str) -> u64 {
    let (whole, part) = ms.split_once('.').unwrap_or((ms, ""));
    whole.parse::<u64>().unwrap() * 1000 + format!("{part:0<3}").parse::<u64>().unwrap()
}

fn statements(data: &DataSet, file: &str) -> Vec<Statement> {
    let table = data.table(file);
    let [log, time, duration, text] = ["log", "ts", "duration_ms", "sql"].map(|name| table.column(name));
    let statement = |row: &csv::StringRecord| Statement {
        log: row[log].to_owned(),
        time_ns: utc_ns(&row[time]),
        duration_us: microseconds(&row[duration]),
        text: row[text].to_owned(),
    };
    table.rows.iter().map(statement).collect()
}

/// The groups of each log, by fingerprint.
fn grouped<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> BTreeMap<&'a str, Groups> {
    let mut logs: BTreeMap<&str, Groups> = BTreeMap::new();
    for statement in statements {
        let print = fingerprint(Dialect::Postgres, &statement.text);
        let group = logs.entry(&statement.log).or_default().entry(print.hash).or_default();
        group.durations_us.push(statement.duration_us);
        group.text = print.text;
    }
    for group in logs.values_mut().flat_map(BTreeMap::values_mut) {
        group.durations_us.sort_unstable();
    }
    logs
}

fn answered_logs(answers: &Value) -> &Map<String, Value> {
    let logs = answers["logs"].as_object().unwrap();
    assert!(logs.len() >= 3);
    logs
}

/// The heaviest statements of a log, as worked out.
fn heaviest(answer: &Value) -> &[Value] {
    answer["top_by_total_time"].as_array().unwrap()
}

/// The group that the example of a worked answer names. Examples are cut to 120 characters: then it is the one of the
/// same figures.
fn group_of<'a>(groups: &'a Groups, top: &Value) -> Option<(u64, &'a Group)> {
    let example = top["example"].as_str().unwrap();
    let figure = |name: &str| microseconds(&top[name].to_string());
    let wanted = (top["calls"].as_u64().unwrap(), figure("total_ms"), figure("max_ms"));
    let is_same = |group: &Group| (group.calls(), group.total_us(), group.max_us()) == wanted;
    let whole = (example.chars().count() < 120).then(|| fingerprint(Dialect::Postgres, example).hash);
    let mut fitting = groups.iter().filter(|(hash, group)| whole.is_none_or(|whole| whole == **hash) && is_same(group));
    fitting.next().map(|(hash, group)| (*hash, group))
}

/// Compares the groups of each log that `answers` knows with them.
fn check_groups(logs: &BTreeMap<&str, Groups>, answers: &Value) {
    for (log, answer) in answered_logs(answers) {
        let groups = &logs[log.as_str()];
        let texts: Vec<&str> = groups.values().map(|group| group.text.as_str()).collect();
        let expected = answer["distinct_fingerprints"].as_u64().unwrap();
        assert_eq!(groups.len() as u64, expected, "{log}: {texts:#?}");
        for top in heaviest(answer) {
            assert!(group_of(groups, top).is_some(), "{log}: {top}: {texts:#?}");
        }
    }
}

#[test]
fn statements_of_real_logs_fall_into_the_groups_of_the_parser() {
    let excerpt = DataSet::excerpt("sql-statements");
    let rows = statements(&excerpt, "statements.csv.gz");
    let logs = grouped(&rows);
    check_groups(&logs, &excerpt.answers);
    for group in logs.values().flat_map(BTreeMap::values) {
        // From the passwords and names in the logs.
        for secret in ["FLPDx", "qsGMsWLc", "jones", "Yardley", "Zimbabwe"] {
            assert!(!group.text.contains(secret), "{}", group.text);
        }
    }
}

#[test]
fn the_full_logs_fall_into_the_groups_of_the_parser() {
    let Some(whole) = DataSet::whole("sql-logs") else { return };
    let rows = statements(&whole, "postgres_statements.csv.gz");
    check_groups(&grouped(&rows), &whole.answers);
}

/// Sends every statement as the client span of an instrumented driver; each log is a service.
async fn send_spans(project: &Project, statements: &[Statement]) {
    let mut requests = Vec::new();
    let mut number = 0;
    for of_log in statements.chunk_by(|one, next| one.log == next.log) {
        for batch in of_log.chunks(BATCH_RECORDS) {
            let spans = batch.iter().map(|statement| {
                number += 1;
                export::query_span(
                    number,
                    statement.time_ns,
                    statement.duration_us * 1000,
                    "postgresql",
                    &statement.text,
                )
            });
            requests.push(export::traces(&batch[0].log, spans.collect()));
        }
    }
    project.send("/v1/traces", requests).await;
    project.flush().await;
}

/// The ranking of a log by the server: rows of `slow_queries`, the most total time first.
async fn ranking(project: &Project, log: &str) -> Vec<Map<String, Value>> {
    let params = [("from", "2010-01-01"), ("to", "2025-01-01"), ("limit", "10000"), ("service", log)];
    project.ask("slow_queries", &params).await
}

fn us(row: &Map<String, Value>, column: &str) -> u64 {
    microseconds(&format!("{:.3}", row[column].as_f64().unwrap()))
}

/// One row against a recount of its group. Percentiles of spans are exact to six digits.
fn check_row(log: &str, row: &Map<String, Value>, group: &Group) {
    let context = format!("{log}: {row:?}");
    assert_eq!(row["calls"], group.calls(), "{context}");
    assert_eq!(
        (us(row, "duration_ms_total"), us(row, "duration_ms_max")),
        (group.total_us(), group.max_us()),
        "{context}"
    );
    for (column, percent) in [("duration_ms_p50", 50), ("duration_ms_p95", 95), ("duration_ms_p99", 99)] {
        let exact = group.percentile_us(percent) as f64 / 1000.0;
        let found = row[column].as_f64().unwrap();
        // Half a unit of the sixth digit, and of the third decimal the answer is rounded to.
        assert!((found - exact).abs() <= exact * 5e-6 + 0.000_501, "{column} should be {exact}: {context}");
    }
    assert_eq!((&row["sources"], &row["system"]), (&json!(["span"]), &json!("postgresql")), "{context}");
    // Writings of one statement that differ in case are one group, whichever of them came first.
    let text = fingerprint(Dialect::Postgres, row["text"].as_str().unwrap());
    assert_eq!(row["fingerprint"], format!("{:016x}", text.hash), "{context}");
}

/// The whole ranking of each log against a recount, and its head against the worked answers.
async fn check_rankings(project: &Project, statements: &[Statement], answers: &Value) {
    // A database span without text is no query (three rows of a log have none).
    let (asked, without_text): (Vec<_>, Vec<_>) = statements.iter().partition(|statement| !statement.text.is_empty());
    for (log, groups) in &grouped(asked) {
        let rows = ranking(project, log).await;
        assert_eq!(rows.len(), groups.len(), "{log}");
        for row in &rows {
            let hash = u64::from_str_radix(row["fingerprint"].as_str().unwrap(), 16).unwrap();
            check_row(log, row, &groups[&hash]);
        }
        assert!(rows.is_sorted_by_key(|row| std::cmp::Reverse(us(row, "duration_ms_total"))), "{log}");
        let Some(answer) = answers["logs"].get(log) else { continue };
        let missing: Vec<_> = without_text.iter().filter(|statement| statement.log == *log).collect();
        let missing_us: u64 = missing.iter().map(|statement| statement.duration_us).sum();
        let calls: u64 = rows.iter().map(|row| row["calls"].as_u64().unwrap()).sum();
        let total_us: u64 = rows.iter().map(|row| us(row, "duration_ms_total")).sum();
        let max_us = rows.iter().map(|row| us(row, "duration_ms_max")).max().unwrap();
        assert_eq!(calls + missing.len() as u64, answer["statements"].as_u64().unwrap(), "{log}");
        assert_eq!(total_us + missing_us, microseconds(&answer["total_ms"].to_string()), "{log}");
        assert_eq!(max_us, microseconds(&answer["max_ms"].to_string()), "{log}");
        for (row, top) in rows.iter().zip(heaviest(answer)) {
            let (hash, group) = group_of(groups, top).unwrap();
            assert_eq!(row["fingerprint"], format!("{hash:016x}"), "{log}: {top}");
            for (percent, worked) in [(50, "p50_ms"), (95, "p95_ms")] {
                let worked_us = microseconds(&top[worked].to_string());
                assert_eq!(group.worked_percentile_us(percent), worked_us, "{log}: {top}");
            }
        }
    }
}

/// The share of statements up to 10 ms of each log: exact, since spans are.
async fn check_service_level(project: &Project, statements: &[Statement], answers: &Value) {
    let params = [("from", "2010-01-01"), ("to", "2025-01-01"), ("max_ms", "10")];
    let rows = project.ask("query_service_level", &params).await;
    for log in answers["logs"].as_object().unwrap().keys() {
        let of_log = || statements.iter().filter(|statement| statement.log == *log && !statement.text.is_empty());
        let row = rows.iter().find(|row| row["service"] == *log).unwrap_or_else(|| panic!("{log}: {rows:?}"));
        let over = of_log().filter(|statement| statement.duration_us > 10_000).count() as u64;
        let all = of_log().count() as u64;
        assert_eq!(
            (&row["calls"], &row["over"], &row["within"]),
            (&json!(all), &json!(over), &json!(all - over)),
            "{log}"
        );
        assert_eq!(row["share_low"], row["share_high"], "{log}");
        // The worked share counts statements without text too, of which three are known.
        let worked = answers["logs"][log]["share_up_to_10ms"].as_f64().unwrap();
        assert!((row["share_low"].as_f64().unwrap() - worked).abs() <= 3.0 / all as f64 + 1e-6, "{log}: {row:?}");
    }
}

/// The books: every span received, those without text ignored, nothing unexplained.
async fn check_books(project: &Project, statements: &[Statement]) {
    let without_text = statements.iter().filter(|statement| statement.text.is_empty()).count() as u64;
    let sent = statements.len() as u64;
    let losses = project.ask("losses", &[]).await;
    let records = |term: &str| -> u64 {
        losses.iter().filter(|row| row["term"] == term).map(|row| row["records"].as_u64().unwrap()).sum()
    };
    let found = ["received", "stored", "ignored", "unexplained"].map(records);
    assert_eq!(found, [sent, sent - without_text, without_text, 0], "{losses:?}");
}

async fn check_asked(project: &Project, data: &DataSet, file: &str) {
    let rows = statements(data, file);
    send_spans(project, &rows).await;
    check_books(project, &rows).await;
    check_rankings(project, &rows, &data.answers).await;
    check_service_level(project, &rows, &data.answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_sent_as_spans_are_ranked_as_worked_out() {
    let server = Server::start().await;
    let sent = Project::default_of(server.running.url(), &server.keys);
    let excerpt = DataSet::excerpt("sql-statements");
    check_asked(&sent, &excerpt, "statements.csv.gz").await;

    // The same by `gemba import`, one log after the other out of one file.
    let imported = Project::create(server.running.url(), &server.keys, "imported").await;
    let rows = statements(&excerpt, "statements.csv.gz");
    for log in grouped(&rows).keys() {
        let only = format!("log={log}");
        let output = imported.import(
            &excerpt.file("statements.csv.gz"),
            &["--time", "ts", "--sql", "sql", "--duration-ms", "duration_ms", "--where", &only, "--service", log],
        );
        let (without_text, with_text): (Vec<_>, Vec<_>) =
            rows.iter().filter(|statement| statement.log == *log).partition(|statement| statement.text.is_empty());
        let left_out = match without_text.len() {
            0 => String::new(),
            rows => format!(", {rows} rows without a statement left out"),
        };
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(told, format!("imported {} records, 0 refused{left_out}\n", with_text.len()), "{talk}");
    }
    imported.flush().await;
    check_rankings(&imported, &rows, &excerpt.answers).await;

    // Whoever has a text finds its row: the API's fingerprint is the row's.
    let url = format!("{}/api/v1/fingerprint", sent.url);
    let text = "SELECT COUNT(*) FROM \"view_no_allocations\"";
    let body = json!({"dialect": "postgresql", "sql": text}).to_string();
    let print = send(post(&url, &sent.read_key, "application/json", body)).await.json();
    assert_eq!(ranking(&sent, "tempfile").await[0]["fingerprint"], print["fingerprint"]);

    let Some(whole) = DataSet::whole("sql-logs") else { return };
    let project = Project::create(server.running.url(), &server.keys, "whole").await;
    check_asked(&project, &whole, "postgres_statements.csv.gz").await;
}
