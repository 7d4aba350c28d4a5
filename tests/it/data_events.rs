//! What real people did, sent over OTLP with its own times and asked through the HTTP API, is answered as a program of
//! its own has worked it out.
//!
//! Excerpts live in `tests/data` and come in both ways: as protobuf log records of a foreign client and by `gemba
//! import`. Where the whole data sets lie in `shared/data` beside the checkout, they are sent and asked too.

use gemba_tests::data::{BATCH_RECORDS, DataSet, utc_ns};
use gemba_tests::export;
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A window longer than any data set stands for "no window".
const NO_WINDOW_S: i64 = 10 * 365 * 86_400;
/// A range that holds every event of every set.
const EVER: (&str, &str) = ("2009-01-01", "2025-01-01");
const DAY_MS: i64 = 86_400_000;

/// A set of events, and which of its columns mean what.
struct Events {
    name: &'static str,
    file: &'static str,
    time: &'static str,
    session: Option<&'static str>,
}

const CROSS_VALIDATED: Events =
    Events { name: "stackexchange-stats", file: "events.csv.gz", time: "ts", session: None };
const SHOP: Events =
    Events { name: "ecom-retentioneering", file: "ecom.csv.gz", time: "timestamp", session: Some("session_id") };

impl Events {
    /// Export requests as a foreign client sends them: no `gemba.*` attribute, no order inside a second.
    fn requests(&self, data: &DataSet) -> Vec<Vec<u8>> {
        let table = data.table(self.file);
        let (time, name, user) = (table.column(self.time), table.column("event"), table.column("user_id"));
        let further: Vec<(&str, usize)> = [("session.id", self.session), ("platform", Some("platform"))]
            .into_iter()
            .filter_map(|(key, column)| Some((key, table.find(column?)?)))
            .collect();
        let record = |row: &csv::StringRecord| {
            let mut attributes = vec![("user.id", &row[user])];
            attributes.extend(further.iter().map(|(key, column)| (*key, &row[*column])));
            export::event(utc_ns(&row[time]), &row[name], &attributes)
        };
        table
            .rows
            .chunks(BATCH_RECORDS)
            .map(|rows| export::logs(self.name, rows.iter().map(record).collect()))
            .collect()
    }

    async fn send(&self, project: &Project, data: &DataSet) {
        project.send("/v1/logs", self.requests(data)).await;
        project.flush().await;
    }

    async fn import(&self, project: &Project, data: &DataSet) {
        let mut arguments = vec!["--time", self.time, "--event", "event", "--user", "user_id"];
        arguments.extend(self.session.iter().flat_map(|column| ["--session", column]));
        let output = project.import(&data.file(self.file), &arguments);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows = data.answers["rows"].as_u64().unwrap();
        assert_eq!(
            told,
            format!("imported {rows} records, 0 refused\n"),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        project.flush().await;
    }
}

fn counts(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect()
}

/// What the worked answers say about a step; they are in seconds, the average rounded to a tenth.
fn check_step(funnel: &str, wanted: &Value, step: &Value) {
    let context = format!("{funnel}: {step}");
    let number = usize::try_from(step["step"].as_u64().unwrap()).unwrap();
    assert_eq!(step["count"], wanted["counts"][number], "{context}");
    let times = &step["time_from_previous_ms"];
    let Some(average_s) = wanted["avg_s"][number].as_f64() else {
        assert_eq!(*times, Value::Null, "{context}");
        return;
    };
    let of = |name: &str| times[name].as_f64().unwrap_or_else(|| panic!("{context}"));
    assert!((of("avg") / 1000.0 - average_s).abs() <= 0.0501, "{context}, worked out {average_s}");
    for (ours, worked) in [("p50", "p50_s"), ("p90", "p90_s")] {
        if let Some(seconds) = wanted[worked][number].as_i64() {
            assert_eq!(times[ours], seconds * 1000, "{context}");
        }
    }
    // The usual median lies between two values where their number is even; the nearest rank is the lower of them.
    let median_ms = wanted["median_s"][number].as_f64().unwrap() * 1000.0;
    if step["count"].as_u64().unwrap() % 2 == 1 {
        assert!((of("p50") - median_ms).abs() < 0.5, "{context}");
    } else {
        assert!(of("p50") <= median_ms, "{context}");
    }
}

/// Every funnel of the worked answers; `corrections` replaces fields of some.
async fn check_funnels(project: &Project, answers: &Value, corrections: &Value) {
    let funnels = answers["funnels"].as_object().unwrap();
    assert!(funnels.len() >= 4);
    for (name, wanted) in funnels {
        let steps: Vec<Value> =
            wanted["steps"].as_array().unwrap().iter().map(|event| json!({"event": event})).collect();
        let by_session = wanted["by"] == "session_id";
        let question = json!({
            "steps": steps, "window_ms": wanted["window_s"].as_i64().unwrap_or(NO_WINDOW_S) * 1000,
            "from": EVER.0, "to": EVER.1, "count_by": if by_session { "session" } else { "user" },
        });
        let answer = project.funnel(&question).await;
        let mut wanted = wanted.clone();
        for (key, value) in corrections[name].as_object().into_iter().flatten() {
            wanted[key] = value.clone();
        }
        let steps = answer["steps"].as_array().unwrap();
        assert_eq!(steps.len(), wanted["counts"].as_array().unwrap().len(), "{name}");
        for step in steps {
            check_step(name, &wanted, step);
        }
        assert_eq!((&answer["excluded"], &answer["without_unit"]), (&json!(0), &json!(0)), "{name}");
        assert_eq!((&answer["complete"], &answer["known_loss"]["records"]), (&json!(true), &json!(0)), "{name}");
    }
}

/// Users of each event in a range, by `feature_usage`.
async fn users_by_event(project: &Project, range: (&str, &str)) -> BTreeMap<String, u64> {
    let rows = project.ask("feature_usage", &[("from", range.0), ("to", range.1)]).await;
    rows.iter().map(|row| (row["feature"].as_str().unwrap().to_owned(), row["users"].as_u64().unwrap())).collect()
}

/// Units with any event in a range: the first step of a funnel that takes everything.
async fn units(project: &Project, count_by: &str, range: (&str, &str)) -> u64 {
    let question = json!({"steps": [{}, {}], "window_ms": 1000, "count_by": count_by, "from": range.0, "to": range.1});
    project.reached(&question).await[0]
}

/// That nothing is missing and nothing doubled, whichever query counts it.
async fn check_totals(project: &Project, answers: &Value) {
    let rows = answers["rows"].as_u64().unwrap();
    let range = [("from", EVER.0), ("to", EVER.1)];
    let sum = |table: &[serde_json::Map<String, Value>], column: &str| -> u64 {
        table.iter().map(|row| row[column].as_u64().unwrap()).sum()
    };
    let usage = project.ask("feature_usage", &range).await;
    assert_eq!((sum(&usage, "uses"), sum(&usage, "uses_without_user")), (rows, 0));
    assert!(usage.iter().all(|row| row["kind"] == "event"), "{usage:?}");
    let by_month = [&range[..], &[("period", "month")]].concat();
    assert_eq!(sum(&project.ask("usage_over_time", &by_month).await, "uses"), rows);
    assert_eq!(sum(&project.ask("active_users", &range).await, "events"), rows);
    let losses = project.ask("losses", &[]).await;
    let term = |name: &str| losses.iter().find(|row| row["term"] == name).unwrap_or_else(|| panic!("{losses:?}"));
    for (name, records) in [("received", rows), ("stored", rows), ("unexplained", 0)] {
        assert_eq!(term(name)["records"], records, "{name}");
    }
    assert_eq!(units(project, "user", EVER).await, answers["users"].as_u64().unwrap());
}

/// Answers of `stackexchange-stats` beside its funnels.
async fn check_cross_validated(project: &Project, answers: &Value) {
    let of_june = ("2014-06-01", "2014-07-01");
    let mut found = users_by_event(project, of_june).await;
    found.insert("any".to_owned(), units(project, "user", of_june).await);
    let wanted: BTreeMap<String, u64> =
        serde_json::from_value(answers["users by event in 2014-06 (UTC)"].clone()).unwrap();
    assert_eq!(found, wanted);
    let unordered = json!({
        "steps": [{"event": "question"}, {"event": "answer"}, {"event": "badge"}], "order": "any",
        "window_ms": 30 * DAY_MS, "from": EVER.0, "to": EVER.1,
    });
    assert_eq!(project.reached(&unordered).await, counts(&answers["unordered question answer badge 30d"]));
    // Answers the whole set has, and its excerpt does not.
    if let Some(wanted) = answers["users with an event before their signup"].as_u64() {
        let before = project.ask("before_first", &[("event", "signup"), ("from", EVER.0), ("to", EVER.1)]).await;
        assert_eq!((&before[0]["before"], before[0]["users"].as_u64()), (&json!(""), Some(wanted)));
    }
    if let Some(months) =
        answers["retention: month of signup, active = question or answer in month k (UTC)"].as_object()
    {
        let params = [
            ("from", "2013-01-01"),
            ("to", "2014-01-01"),
            ("period", "month"),
            ("start", "signup"),
            ("returns", "question,answer"),
            ("periods", "6"),
        ];
        let rows = project.ask("retention", &params).await;
        for (month, wanted) in months {
            let of_month = || rows.iter().filter(|row| row["cohort"] == format!("{month}-01"));
            let returned: Vec<u64> = of_month().map(|row| row["returned"].as_u64().unwrap()).collect();
            assert_eq!(returned, counts(&wanted["active"]), "{month}");
            assert_eq!(of_month().next().unwrap()["users"], wanted["size"], "{month}");
        }
    }
}

/// Answers of `ecom-retentioneering` beside its funnels: the incidents its authors built in, by period and platform.
async fn check_shop(project: &Project, answers: &Value) {
    assert_eq!(units(project, "session", EVER).await, answers["sessions"].as_u64().unwrap());
    let worked = &answers["shipping-payment-purchase by session 1h, sessions that began in the period"];
    for (name, wanted) in worked.as_object().unwrap() {
        let (platform, range) = name.split_once(' ').unwrap();
        let (from, to) = range.split_once("..").unwrap();
        let filter =
            if platform == "all" { json!([]) } else { json!([{"attr": "platform", "op": "eq", "value": platform}]) };
        // No session of the set crosses the midnight of a period's end between its first event and its shipping, so
        // the range of entries is that of beginnings.
        let funnel = json!({
            "steps": [{"event": "shipping_details"}, {"event": "payment_details"}, {"event": "purchase"}],
            "window_ms": 3_600_000, "count_by": "session", "from": from, "to": to, "filter": filter,
        });
        assert_eq!(project.reached(&funnel).await, counts(&wanted["counts"]), "{name}");
        let begun = json!({
            "steps": [{}, {}], "window_ms": 1000, "count_by": "session", "first_time": true,
            "from": from, "to": to, "filter": filter,
        });
        assert_eq!(project.reached(&begun).await[0], wanted["sessions"].as_u64().unwrap(), "{name}");
    }
    // The bug of the mobile form: what was lost during it is more than chance, what came back after it as well.
    if worked["mobile 2024-01-01..2024-04-09"]["counts"] == json!([52, 28, 13]) {
        let compared = project
            .funnel(&json!({
                "steps": [{"event": "shipping_details"}, {"event": "payment_details"}], "window_ms": 3_600_000,
                "count_by": "session", "from": "2024-04-09", "to": "2024-05-10", "filter": {"platform": "mobile"},
                "compare": {"from": "2024-01-01", "to": "2024-04-09"},
            }))
            .await;
        let found = &compared["comparison"]["steps"][1]["from_first"];
        assert_eq!((&found["base"]["reached"], &found["head"]["reached"]), (&json!(28), &json!(16)), "{found}");
        assert_eq!(found["verdict"], "more than chance", "{found}");
    }
    let broken_down = project
        .funnel(&json!({
            "steps": [{"event": "shipping_details"}, {"event": "payment_details"}, {"event": "purchase"}],
            "window_ms": 3_600_000, "count_by": "session", "from": "2024-01-01", "to": "2024-04-09",
            "breakdown": "platform",
        }))
        .await;
    let groups = broken_down["breakdown"].as_array().unwrap();
    assert_eq!(groups.len(), 3, "{groups:?}");
    for group in groups {
        let wanted = &worked[format!("{} 2024-01-01..2024-04-09", group["value"].as_str().unwrap())]["counts"];
        let found: Vec<Value> = group["steps"].as_array().unwrap().iter().map(|step| step["count"].clone()).collect();
        assert_eq!(Value::from(found), *wanted, "{}", group["value"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_did_on_cross_validated_is_answered_as_worked_out() {
    let server = Server::start().await;
    let sent = Project::default_of(server.running.url(), &server.keys);
    let imported = Project::create(server.running.url(), &server.keys, "imported").await;
    let excerpt = DataSet::excerpt(CROSS_VALIDATED.name);
    CROSS_VALIDATED.send(&sent, &excerpt).await;
    CROSS_VALIDATED.import(&imported, &excerpt).await;
    for project in [sent, imported] {
        check_totals(&project, &excerpt.answers).await;
        check_funnels(&project, &excerpt.answers, &Value::Null).await;
        check_cross_validated(&project, &excerpt.answers).await;
    }
    let Some(whole) = DataSet::whole(CROSS_VALIDATED.name) else { return };
    let project = Project::create(server.running.url(), &server.keys, "whole").await;
    CROSS_VALIDATED.send(&project, &whole).await;
    check_totals(&project, &whole.answers).await;
    // People who asked three questions in one second had asked before: worked out from the question before, while the
    // latest start of a chain that ends in that second lies in it.
    let corrections =
        json!({"ask3-30d": {"avg_s": [null, 668_462.9, 520_437.5], "median_s": [null, 425_765.5, 338_430.0]}});
    check_funnels(&project, &whole.answers, &corrections).await;
    check_cross_validated(&project, &whole.answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_did_in_a_shop_is_answered_as_worked_out() {
    let server = Server::start().await;
    let sent = Project::default_of(server.running.url(), &server.keys);
    let imported = Project::create(server.running.url(), &server.keys, "imported").await;
    let excerpt = DataSet::excerpt(SHOP.name);
    SHOP.send(&sent, &excerpt).await;
    SHOP.import(&imported, &excerpt).await;
    for project in [sent, imported] {
        check_totals(&project, &excerpt.answers).await;
        check_funnels(&project, &excerpt.answers, &Value::Null).await;
        check_shop(&project, &excerpt.answers).await;
    }
    let Some(whole) = DataSet::whole(SHOP.name) else { return };
    let project = Project::create(server.running.url(), &server.keys, "whole").await;
    SHOP.send(&project, &whole).await;
    check_totals(&project, &whole.answers).await;
    // One person viewed a product and put it into the cart in the same second, and had viewed one a week before.
    let corrections = json!({"six steps by user 30d": {
        "avg_s": [null, 138_863.4, 133_920.1, 171_010.4, 186_180.2, 125_750.0],
        "median_s": [null, 287.5, 322.0, 405.0, 414.0, 416.5],
    }});
    check_funnels(&project, &whole.answers, &corrections).await;
    check_shop(&project, &whole.answers).await;
}
