//! Groups that are compared, and whom figures stand for: young tries, people left out of an experiment, releases that run side by
//! side, senders that record a part of their people.

use crate::questions_support::{MINUTE_NS, RANGE, START_NS, encoded, get, leave_out, record, refused};
use gemba_tests::export;
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use serde_json::{Value, json};

const DAY: u64 = 24 * 60;

/// Ten people each enter on the first and on the tenth day; three of the first and all of two of the second go on within a minute.
async fn two_weeks(project: &Project) {
    let mut did = Vec::new();
    let names: Vec<String> = (0..20).map(|number| format!("u{number}")).collect();
    let pairs: Vec<[(&str, &str); 2]> = names
        .iter()
        .enumerate()
        .map(|(number, name)| [("user.id", name.as_str()), ("team", if number < 10 { "first" } else { "second" })])
        .collect();
    for (number, pairs) in pairs.iter().enumerate() {
        let minute = if number < 10 { 0 } else { 9 * DAY };
        did.push((minute, "enter", &pairs[..]));
        if [0, 1, 2, 10, 11].contains(&number) {
            did.push((minute + 1, "leave", &pairs[..]));
        }
    }
    record(project, &did).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_were_quick_are_not_compared_before_the_slow_have_had_their_time() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    two_weeks(&shop).await;
    let compared = async |more: Value| {
        let mut asked = json!({
            "steps": [{"event": "enter"}, {"event": "leave"}], "window_ms": 86_400_000,
            "from": "2026-03-09", "to": "2026-03-20", "compare": {"from": "2026-03-01", "to": "2026-03-09"},
        });
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = shop.funnel(&asked).await;
        let comparison = answer["comparison"].clone();
        let found = comparison["steps"][1]["from_first"].clone();
        (answer, comparison, found)
    };
    // An hour after the second ten entered: two have left, of eight nobody knows.
    let (answer, comparison, found) = compared(json!({"as_of": "2026-03-11T11:00:00Z"})).await;
    assert_eq!((&answer["steps"][1]["count"], &answer["steps"][0]["open"]), (&json!(2), &json!(8)));
    assert_eq!((&found["head"]["of"], &found["verdict"]), (&json!(0), &json!("nothing to compare")), "{comparison}");
    assert_eq!((&found["base"]["reached"], &found["base"]["of"]), (&json!(3), &json!(10)));
    assert_eq!(comparison["until"], "2026-03-10T11:00:00.001Z");
    // A day later all are known.
    let (_, comparison, found) = compared(json!({"as_of": "2026-03-12T11:00:00Z"})).await;
    assert_eq!((&found["head"]["reached"], &found["head"]["of"]), (&json!(2), &json!(10)), "{comparison}");
    assert_eq!(
        (&found["verdict"], &comparison["base_until"]),
        (&json!("could be chance"), &json!("2026-03-09T00:00:00Z"))
    );
    // No window of the range has ended.
    let (_, comparison, found) = compared(json!({"as_of": "2026-03-09T12:00:00Z"})).await;
    assert_eq!((&comparison["until"], &found["verdict"]), (&Value::Null, &json!("nothing to compare")), "{comparison}");

    // Two values of a breakdown, also one that is not shown.
    let teams = json!({
        "from": "2026-03-01", "as_of": "2026-03-11T11:00:00Z", "breakdown": "team", "breakdown_limit": 1,
        "compare": {"values": ["first", "second"]},
    });
    let (answer, comparison, found) = compared(teams.clone()).await;
    assert_eq!(answer["breakdown"].as_array().unwrap().len(), 2, "one and the rest: {answer}");
    assert_eq!((&found["base"]["of"], &found["head"]["of"]), (&json!(10), &json!(0)), "{comparison}");
    let mut later = teams;
    later["as_of"] = json!("2026-03-20");
    let (_, comparison, found) = compared(later).await;
    assert_eq!((&found["base"]["reached"], &found["head"]["reached"]), (&json!(3), &json!(2)), "{comparison}");

    // As a saved question, whose parameters are named when they cannot be used.
    let path = "/api/v1/queries/funnel_comparison?steps=enter,leave&from=2026-03-09&to=2026-03-20";
    let answer = get(&shop, &format!("{path}&base_from=2026-03-01&base_to=2026-03-09")).await;
    let row = answer["rows"][0].as_array().unwrap();
    assert_eq!((&row[3], &row[4], &row[6], &row[7]), (&json!(3), &json!(10), &json!(2), &json!(10)), "{answer}");
    let (code, message) = refused(&shop, &format!("{path}&base_from=2026-03-09&base_to=2026-03-09")).await;
    assert!(code == "invalid_field" && message.starts_with("base_from"), "{code} {message}");
    let values = "attribute=team&base_value=second&value=third";
    let (_, message) = refused(&shop, &format!("{path}&{values}")).await;
    assert!(message.starts_with("value"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bots_are_left_out_of_an_experiment() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    let shown = ("feature_flag.key", "new");
    let variant = ("feature_flag.result.variant", "on");
    for (number, agent) in [(0, "Firefox"), (1, "Firefox"), (2, "robot"), (3, "")] {
        let user = format!("u{number}");
        let mut pairs = vec![shown, variant, ("user.id", user.as_str())];
        if !agent.is_empty() {
            pairs.push(("agent", agent));
        }
        record(&shop, &[(0, "feature_flag.evaluation", &pairs), (1, "pay", &[("user.id", &user)])]).await;
    }
    let users = async |more: &str| {
        let path = format!("/api/v1/queries/experiment_results?{RANGE}&flag=new&goal=pay{more}");
        get(&shop, &path).await["rows"][0][1].as_u64()
    };
    assert_eq!(users("").await, Some(4));
    // Where people did something afterwards is nothing of where they were shown it.
    let elsewhere = format!("&where={}", encoded(&json!({"service.name": "api"}).to_string()));
    assert_eq!(users(&elsewhere).await, Some(4));
    let one = format!("&where={}", encoded(&json!({"user.id": "u1"}).to_string()));
    assert_eq!(users(&one).await, Some(1));
    let bots = json!({"exclude": [{"attr": "agent", "op": "contains", "value": "bot"}]});
    leave_out(&shop, &server.keys.admin, &bots).await;
    assert_eq!((users("").await, users("&filter=off").await), (Some(3), Some(4)));
    // What an exposure does not say is no reason to leave it out; what it says is.
    let others = json!({"exclude": [{"attr": "agent", "op": "ne", "value": "Firefox"}]});
    leave_out(&shop, &server.keys.admin, &others).await;
    assert_eq!(users("").await, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_funnel_is_that_of_the_release_that_came_last_however_often_an_older_one_declares_again() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    let declare = async |release: &str, minute: u64, steps: &[&str]| {
        let positions: Vec<String> = (0..steps.len()).map(|position| position.to_string()).collect();
        let records = steps.iter().zip(&positions).map(|(step, position)| {
            let name = format!("way.{step}");
            let pairs = [
                ("gemba.catalog.kind", "step"),
                ("gemba.catalog.name", name.as_str()),
                ("gemba.funnel.name", "way"),
                ("gemba.catalog.position", position.as_str()),
            ];
            export::event(START_NS + minute * MINUTE_NS, "gemba.catalog", &pairs)
        });
        let sender = [("service.name", "shop"), ("service.version", release)];
        shop.send("/v1/logs", vec![export::logs_of(&sender, records.collect())]).await;
        shop.flush().await;
    };
    declare("1", 0, &["in", "out"]).await;
    let before = jiff::Timestamp::now();
    declare("2", 60, &["in", "through", "out"]).await;
    // Both run side by side, and the old one declares last.
    declare("1", 120, &["in", "out"]).await;
    let labels = async |more: &str| {
        let path = format!("/api/v1/queries/funnel?{RANGE}&funnel=way{more}");
        let answer = get(&shop, &path).await;
        let label = answer["columns"].as_array().unwrap().iter().position(|column| column["name"] == "label").unwrap();
        answer["rows"].as_array().unwrap().iter().map(|row| row[label].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(labels("").await, ["step:way.in", "step:way.through", "step:way.out"]);
    let then = format!("&as_of={}", encoded(&before.to_string()));
    assert_eq!(labels(&then).await, ["step:way.in", "step:way.out"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_people_says_how_many_one_of_them_stands_for() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    let weights = async || {
        let asked =
            json!({"steps": [{"event": "enter"}, {"event": "leave"}], "from": "2026-03-01", "to": "2026-04-01"});
        let of =
            async |name: &str| get(&shop, &format!("/api/v1/queries/{name}?{RANGE}")).await["sampling_weight"].clone();
        [of("feature_usage").await, of("slow_queries").await, shop.funnel(&asked).await["sampling_weight"].clone()]
    };
    record(&shop, &[(0, "enter", &[("user.id", "ann")])]).await;
    assert_eq!(weights().await, [Value::Null, Value::Null, Value::Null]);
    for (rate, month) in [("0.25", 0), ("0.5", 0), ("0.01", 60 * DAY)] {
        let sender = [("service.name", "shop"), ("gemba.sample_rate", rate)];
        let at = START_NS + month * MINUTE_NS;
        let records = vec![export::event(at, "enter", &[("user.id", "bob")])];
        shop.send("/v1/logs", vec![export::logs_of(&sender, records)]).await;
    }
    shop.flush().await;
    // The largest of the senders in the range; queries are not sampled with people.
    assert_eq!(weights().await, [json!(4.0), Value::Null, json!(4.0)]);
    assert_eq!(
        refused(&shop, &format!("/api/v1/queries/feature_usage?{RANGE}&split_by=user.id")).await.0,
        "invalid_parameter"
    );
}
