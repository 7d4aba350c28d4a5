//! Real statement logs fall into the groups that PostgreSQL's own parser sees.
//!
//! The excerpt in `data/sql-statements` is always checked; the full logs are checked as well where the folder with the
//! shared data lies beside the checkout.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use gemba::query::{Dialect, fingerprint};
use serde_json::Value;

/// One group of statements of a log.
#[derive(Default)]
struct Group {
    calls: u64,
    total_us: u64,
    max_us: u64,
    text: String,
}

fn inflate(path: &Path) -> String {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The records of a CSV text (RFC 4180), without its first line.
fn records(csv: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut chars) = (false, csv.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                field.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            c => field.push(c),
        }
    }
    records.remove(0);
    records
}

/// Milliseconds with three decimals as whole microseconds.
fn microseconds(ms: &str) -> u64 {
    let (whole, part) = ms.split_once('.').unwrap_or((ms, ""));
    whole.parse::<u64>().unwrap() * 1000 + format!("{part:0<3}").parse::<u64>().unwrap()
}

/// The groups of each log, by fingerprint.
fn grouped(csv: &str) -> BTreeMap<String, BTreeMap<u64, Group>> {
    let mut logs: BTreeMap<String, BTreeMap<u64, Group>> = BTreeMap::new();
    for record in records(csv) {
        let print = fingerprint(Dialect::Postgres, &record[9]);
        let group = logs.entry(record[0].clone()).or_default().entry(print.hash).or_default();
        let us = microseconds(&record[7]);
        group.calls += 1;
        group.total_us += us;
        group.max_us = group.max_us.max(us);
        group.text = print.text;
    }
    logs
}

/// Compares the groups of each log that `answers` knows with them.
fn check(logs: &BTreeMap<String, BTreeMap<u64, Group>>, answers: &Value) {
    let answers = answers["logs"].as_object().unwrap();
    assert!(answers.len() >= 3);
    for (log, answer) in answers {
        let groups = &logs[log];
        let texts: Vec<&str> = groups.values().map(|group| group.text.as_str()).collect();
        let expected = answer["distinct_fingerprints"].as_u64().unwrap();
        assert_eq!(groups.len() as u64, expected, "{log}: {texts:#?}");
        for top in answer["top_by_total_time"].as_array().unwrap() {
            let example = top["example"].as_str().unwrap();
            // Examples are cut to 120 characters: such a one names the group whose text begins alike.
            let whole = fingerprint(Dialect::Postgres, example).hash;
            let calls = top["calls"].as_u64().unwrap();
            let total_us = microseconds(&top["total_ms"].to_string());
            let max_us = microseconds(&top["max_ms"].to_string());
            let is_same = |group: &Group| (group.calls, group.total_us, group.max_us) == (calls, total_us, max_us);
            let found = if example.chars().count() < 120 {
                groups.get(&whole).is_some_and(is_same)
            } else {
                groups.values().any(is_same)
            };
            assert!(found, "{log}: {example}: {calls} calls, {total_us} us, at most {max_us} us: {texts:#?}");
        }
    }
}

fn answers(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn excerpt() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sql-statements")
}

#[test]
fn statements_of_real_logs_fall_into_the_groups_of_the_parser() {
    let logs = grouped(&inflate(&excerpt().join("statements.csv.gz")));
    check(&logs, &answers(&excerpt().join("answers.json")));
    for group in logs.values().flat_map(BTreeMap::values) {
        // From the passwords and names in the logs.
        for secret in ["FLPDx", "qsGMsWLc", "jones", "Yardley", "Zimbabwe"] {
            assert!(!group.text.contains(secret), "{}", group.text);
        }
    }
}

#[test]
fn the_full_logs_fall_into_the_groups_of_the_parser() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/sql-logs");
    let Ok(folder) = folder.canonicalize() else {
        // Not on every machine; the excerpt holds the same claims.
        return;
    };
    let logs = grouped(&inflate(&folder.join("postgres_statements.csv.gz")));
    check(&logs, &answers(&folder.join("answers.json")));
}
