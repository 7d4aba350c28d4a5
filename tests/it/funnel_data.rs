//! Funnels over real people: the answers worked out for the data, by a program of its own, come out of the real engine.
//!
//! Excerpts live in `tests/data`; where the whole data sets lie in `shared/data` beside the checkout, they are asked too.

use crate::funnel::{question, row, store};
use flate2::read::GzDecoder;
use gemba_conventions::EventKind;
use gemba_ingest::store::select::Limits;
use gemba_ingest::store::{Client, funnel};
use gemba_queries::funnel::StepAnswer;
use gemba_queries::funnel::matcher::Scalar;
use gemba_queries::funnel::reference::PlainEvent;
use gemba_tests::server::Server;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A window longer than any data set stands for "no window".
const NO_WINDOW_S: i64 = 10 * 365 * 86_400;

struct DataSet {
    folder: PathBuf,
    answers: Value,
}

impl DataSet {
    fn open(folder: PathBuf) -> Self {
        let answers = serde_json::from_reader(File::open(folder.join("answers.json")).unwrap()).unwrap();
        Self { folder, answers }
    }

    /// The events: rows of the CSV file with names of columns.
    fn events(&self, file: &str, time: &str) -> Vec<PlainEvent> {
        let mut text = String::new();
        GzDecoder::new(File::open(self.folder.join(file)).unwrap()).read_to_string(&mut text).unwrap();
        let mut lines = text.lines();
        let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
        let mut numbers: HashMap<String, u64> = HashMap::new();
        let mut number = |text: &str| {
            let next = numbers.len() as u64 + 1;
            *numbers.entry(text.to_owned()).or_insert(next)
        };
        let mut events = Vec::new();
        for line in lines {
            let cells: BTreeMap<&str, &str> = columns.iter().copied().zip(line.split(',')).collect();
            let attribute = |key: &str| Some((key.to_owned(), Scalar::Text((*cells.get(key)?).to_owned())));
            events.push(PlainEvent {
                unit: Some(number(&format!("user {}", cells["user_id"]))),
                session: cells.get("session_id").map(|session| number(&format!("session {session}"))),
                tenant: String::new(),
                time_ms: milliseconds(cells[time]),
                seq: None,
                kind: EventKind::Event,
                name: cells["event"].to_owned(),
                attributes: attribute("platform").into_iter().collect(),
            });
        }
        assert_eq!(events.len() as u64, self.answers["rows"].as_u64().unwrap());
        events
    }
}

/// `2014-06-01 12:00:00` in UTC.
fn milliseconds(text: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    // Days of the civil calendar since 1970, by counting in years that begin in March.
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    (days * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19)) * 1000
}

/// Where the whole data sets lie, if they do.
fn whole(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    path.join("answers.json").exists().then_some(path)
}

fn excerpt(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// What the worked answers say about a step, in milliseconds; the average is rounded to a tenth of a second.
fn check_step(funnel: &str, wanted: &Value, step: &StepAnswer) {
    let context = format!("{funnel}, step {}: {step:?}", step.step);
    assert_eq!(step.count, wanted["counts"][step.step].as_u64().unwrap(), "{context}");
    let Some(average_s) = wanted["avg_s"][step.step].as_f64() else {
        assert_eq!(step.time_from_previous_ms, None, "{context}");
        return;
    };
    let times = step.time_from_previous_ms.expect(&context);
    assert!((times.avg / 1000.0 - average_s).abs() <= 0.0501, "{context}, worked out {average_s}");
    if let Some(p50_s) = wanted["p50_s"][step.step].as_i64() {
        assert_eq!(
            (times.p50, times.p90),
            (p50_s * 1000, wanted["p90_s"][step.step].as_i64().unwrap() * 1000),
            "{context}"
        );
    }
    // The usual median lies between two values where their number is even; the nearest rank is the lower of them.
    let median_ms = wanted["median_s"][step.step].as_f64().unwrap() * 1000.0;
    if step.count % 2 == 1 {
        assert!((times.p50 as f64 - median_ms).abs() < 0.5, "{context}");
    } else {
        assert!(times.p50 as f64 <= median_ms, "{context}");
    }
}

async fn check_all(client: &Client, project: u32, data: &DataSet, file: &str, time: &str, corrections: &Value) {
    store(client, "events", data.events(file, time).iter().map(|event| row(project, event))).await;
    let funnels = data.answers["funnels"].as_object().unwrap();
    assert!(funnels.len() >= 4);
    for (name, wanted) in funnels {
        let steps: Vec<Value> =
            wanted["steps"].as_array().unwrap().iter().map(|event| json!({"event": event})).collect();
        let by_session = wanted["by"] == "session_id";
        let funnel = question(json!({
            "steps": steps, "window_ms": wanted["window_s"].as_i64().unwrap_or(NO_WINDOW_S) * 1000,
            "from": "2009-01-01", "to": "2025-01-01", "count_by": if by_session { "session" } else { "user" },
        }));
        let answer = funnel::answer(client, &funnel, project, Limits::default()).await.unwrap();
        let mut wanted = wanted.clone();
        if let Some(corrected) = corrections[name].as_object() {
            for (key, value) in corrected {
                wanted[key] = value.clone();
            }
        }
        for step in &answer.steps {
            check_step(name, &wanted, step);
        }
        assert_eq!((answer.excluded, answer.without_unit), (0, 0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_did_on_cross_validated_is_answered_as_worked_out() {
    let server = Server::start().await;
    let client = &server.running.app().store;
    let name = "stackexchange-stats";
    check_all(client, 2001, &DataSet::open(excerpt(name)), "events.csv.gz", "ts", &Value::Null).await;
    if let Some(folder) = whole(name) {
        // People who asked three questions in one second had asked before: worked out from the question before, while
        // the latest start of a chain that ends in that second lies in it.
        let corrections =
            json!({"ask3-30d": {"avg_s": [null, 668_462.9, 520_437.5], "median_s": [null, 425_765.5, 338_430.0]}});
        check_all(client, 2002, &DataSet::open(folder), "events.csv.gz", "ts", &corrections).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_did_in_a_shop_is_answered_as_worked_out() {
    let server = Server::start().await;
    let client = &server.running.app().store;
    let name = "ecom-retentioneering";
    check_all(client, 2001, &DataSet::open(excerpt(name)), "ecom.csv.gz", "timestamp", &Value::Null).await;
    if let Some(folder) = whole(name) {
        // One person viewed a product and put it into the cart in the same second, and had viewed one a week before.
        let corrections = json!({"six steps by user 30d": {
            "avg_s": [null, 138_863.4, 133_920.1, 171_010.4, 186_180.2, 125_750.0],
            "median_s": [null, 287.5, 322.0, 405.0, 414.0, 416.5],
        }});
        check_all(client, 2002, &DataSet::open(folder), "ecom.csv.gz", "timestamp", &corrections).await;
    }
}
