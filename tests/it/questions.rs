//! Questions that are kept and asked again, and what is refused: over HTTP, as users do it.

use crate::questions_support::{RANGE, cell, delete, encoded, get, people, put, record, refused, request, said};
use gemba_tests::client::Answer;
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use hyper::Method;
use serde_json::{Value, json};

/// Names that would break a statement that pasted them.
const HOSTILE: [&str; 4] =
    ["it's \"quoted\"", "back\\slash\\'); DROP TABLE events; --", "\u{4e2d}\u{1F980}\u{202e}", "{x:String} ? %00"];

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_question_has_versions_and_is_answered_as_it_was_known_at_an_instant() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    let other = Project::create(server.running.url(), &server.keys, "other").await;
    people(&shop).await;
    let question = json!({"query": "feature_usage", "parameters": {"from": "2026-03-01", "to": "2026-04-01"}});
    let first = put(&shop, "/api/v1/saved/usage", &question).await;
    assert_eq!((&first["name"], &first["version"]), (&json!("usage"), &json!(1)));
    let funnel = json!({"steps": [{"event": "look"}, {"event": "pay"}], "from": "2026-03-01", "to": "2026-04-01"});
    put(&shop, "/api/v1/saved/paying", &json!({"title": "Who pays", "funnel": funnel})).await;

    let answer = get(&shop, "/api/v1/saved/usage/answer").await;
    assert_eq!(cell(&answer, ("feature", "look"), "users"), 3);
    assert_eq!(answer["saved"], json!({"name": "usage", "version": 1}));
    let as_of = answer["as_of"].as_str().unwrap().to_owned();
    let paying = get(&shop, "/api/v1/saved/paying/answer").await;
    assert_eq!((&paying["steps"][0]["count"], &paying["steps"][1]["count"]), (&json!(3), &json!(1)));

    // Later data change the answer, but not the one as it was known.
    record(
        &shop,
        &[(7, "look", &[("user.id", "late")]), (8, "gemba.identify", &[("session.id", "s-2"), ("user.id", "bob")])],
    )
    .await;
    assert_eq!(cell(&get(&shop, "/api/v1/saved/usage/answer").await, ("feature", "look"), "users"), 4);
    let again = get(&shop, &format!("/api/v1/saved/usage/answer?as_of={}", encoded(&as_of))).await;
    assert_eq!(again["rows"], answer["rows"]);
    assert_eq!(again["reproduced"], json!({"exactly": true, "because": [], "late_events": 1}));
    let again = get(&shop, &format!("/api/v1/saved/paying/answer?as_of={}", encoded(&as_of))).await;
    assert_eq!(again["steps"], paying["steps"]);
    // What was removed since is told.
    server.running.app().store.execute("DELETE FROM events WHERE project = 1 AND name = 'pay'").await.unwrap();
    let again = get(&shop, &format!("/api/v1/saved/usage/answer?as_of={}", encoded(&as_of))).await;
    assert_eq!(again["reproduced"]["exactly"], false);
    assert!(again["reproduced"]["because"][0].as_str().unwrap().contains("1 records"), "{}", again["reproduced"]);

    // Versions, parameters in the place of saved ones, and formats.
    let narrowed =
        json!({"query": "feature_usage", "parameters": {"from": "2026-03-01", "to": "2026-04-01", "kind": "feature"}});
    assert_eq!(put(&shop, "/api/v1/saved/usage", &narrowed).await["version"], 2);
    assert_eq!(get(&shop, "/api/v1/saved/usage/answer").await["rows"], json!([]));
    assert_eq!(get(&shop, "/api/v1/saved/usage/answer?kind=all").await["rows"].as_array().unwrap().len(), 1);
    assert_eq!(get(&shop, "/api/v1/saved/usage/answer?version=1").await["saved"]["version"], 1);
    let csv = shop.get("/api/v1/saved/usage/answer?format=csv").await;
    assert!(csv.body.starts_with(b"feature,kind"), "{:?}", csv.body);
    let told = get(&shop, "/api/v1/saved/usage").await;
    assert_eq!(told["versions"].as_array().unwrap().len(), 2);
    assert_eq!(get(&shop, "/api/v1/saved").await["saved"].as_array().unwrap().len(), 2);

    // Another project has none of it; deleting ends it.
    assert_eq!(get(&other, "/api/v1/saved").await, json!({"saved": []}));
    assert_eq!(refused(&other, "/api/v1/saved/usage").await.0, "unknown_saved");
    assert_eq!(delete(&shop, "/api/v1/saved/usage").await.json()["version"], 3);
    assert_eq!(refused(&shop, "/api/v1/saved/usage/answer").await.0, "unknown_saved");
    assert_eq!(delete(&shop, "/api/v1/saved/usage").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_funnel_is_answered_in_every_format_also_saved_and_over_time() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    people(&shop).await;
    let funnel = |more: Value| {
        let mut asked = json!({"steps": [{"event": "look"}, {"event": "pay"}], "from": "2026-03-02", "to": "2026-03-04",
            "window_ms": 3_600_000, "tz": "Asia/Kathmandu"});
        for (key, value) in more.as_object().unwrap() {
            asked[key] = value.clone();
        }
        asked
    };
    let lines = |answer: Answer| -> Vec<String> {
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        String::from_utf8(answer.body.to_vec()).unwrap().lines().map(str::to_owned).collect()
    };
    for (name, more, expected) in [
        (
            "steps",
            json!({}),
            [
                "step,event,count,rate_from_first,rate_from_previous,lost,open,time_from_previous_ms_avg,\
                 time_from_previous_ms_p50,time_from_previous_ms_p90",
                "0,look,3,1.0,1.0,2,0,,,",
            ],
        ),
        (
            // A day there begins at 18:15 of the day before.
            "over-time",
            json!({"interval": "day"}),
            [
                "period,local_time,step,label,count,rate_from_first,lost,open",
                "2026-03-01T18:15:00Z,2026-03-02 00:00,0,look,3,1.0,2,0",
            ],
        ),
        (
            "still-open",
            json!({"interval": "day", "as_of": "2026-03-02T10:30:00Z"}),
            [
                "period,local_time,step,label,count,rate_from_first,lost,open",
                "2026-03-01T18:15:00Z,2026-03-02 00:00,0,look,3,1.0,0,2",
            ],
        ),
        (
            "split",
            json!({"breakdown": "user:plan"}),
            [
                "group,value,step,event,count,rate_from_first,rate_from_previous,lost,open,time_from_previous_ms_avg,\
                 time_from_previous_ms_p50,time_from_previous_ms_p90",
                "value,free,0,look,1,1.0,1.0,1,0,,,",
            ],
        ),
    ] {
        let asked = funnel(more);
        let posted = request(&shop, Method::POST, "/api/v1/funnel?format=csv", &shop.read_key, &asked).await;
        assert_eq!(posted.headers["content-type"], "text/csv; charset=utf-8");
        let posted = lines(posted);
        assert_eq!(posted[..2], expected, "{name}");
        put(&shop, &format!("/api/v1/saved/{name}"), &json!({"funnel": asked})).await;
        assert_eq!(lines(shop.get(&format!("/api/v1/saved/{name}/answer?format=csv")).await), posted, "{name}");
        let objects = lines(shop.get(&format!("/api/v1/saved/{name}/answer?format=ndjson")).await);
        assert_eq!(objects.len() + 1, posted.len(), "{name}");
        assert!(objects.iter().all(|line| serde_json::from_str::<Value>(line).unwrap()["count"].is_u64()));
        let table = lines(shop.get(&format!("/api/v1/saved/{name}/answer?format=table")).await);
        assert!(table[0].contains("count"), "{table:?}");
    }
    for path in ["/api/v1/funnel?format=xml", "/api/v1/funnel?colour=red"] {
        let answer = request(&shop, Method::POST, path, &shop.read_key, &funnel(json!({}))).await;
        assert!(said(&answer).1.contains(["xml", "colour"][usize::from(path.ends_with("red"))]), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_not_saved() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    let steps = json!([{"event": "a"}, {"event": "b"}]);
    for (body, told) in [
        (json!({}), "either a query or a funnel"),
        (json!({"query": "feature_usage", "funnel": {"steps": steps}}), "either a query or a funnel"),
        (json!({"query": "nonsense"}), "nonsense"),
        (json!({"query": "feature_usage", "parameters": {"from": "someday"}}), "parameter from"),
        (json!({"query": "feature_usage", "parameters": {"nonsense": "1"}}), "nonsense"),
        (json!({"query": "feature_usage", "colour": "red"}), "colour"),
        (json!({"funnel": {"steps": [{"event": "a"}]}}), "steps"),
        (json!({"funnel": {"steps": steps, "window_ms": 0}}), "window_ms"),
        (json!({"funnel": {"steps": steps, "compare": {}}}), "compare"),
    ] {
        let answer = request(&shop, Method::PUT, "/api/v1/saved/x", &shop.read_key, &body).await;
        let (_, message) = said(&answer);
        assert!(message.contains(told), "{body}: {message}");
    }
    for name in ["No", "-a", "a%20b", "%27"] {
        let body = json!({"query": "feature_usage"});
        let answer = request(&shop, Method::PUT, &format!("/api/v1/saved/{name}"), &shop.read_key, &body).await;
        assert_eq!(said(&answer).0, "invalid_name", "{name}");
    }
    let answer =
        request(&shop, Method::PUT, "/api/v1/saved/x", &shop.ingest_key, &json!({"query": "feature_usage"})).await;
    assert_eq!(said(&answer).0, "wrong_key_role");
    assert_eq!(get(&shop, "/api/v1/saved").await, json!({"saved": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_sampled_rows_says_for_how_many_one_stands_and_how_exact_its_columns_are() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    let store = &server.running.app().store;
    // Two foreign spans, of which one stands for four calls.
    let spans = "INSERT INTO query_samples (project, fingerprint, day, time, duration_ns, source, weight, system, instance) \
                 VALUES (1, 7, '2026-03-02', '2026-03-02 10:00:00', 1000000, 'span', 4, 'mysql', 2), \
                 (1, 7, '2026-03-02', '2026-03-02 10:00:00', 1000000, 'span', 1, 'mysql', 2)";
    store.execute(spans).await.unwrap();
    let slow = get(&shop, &format!("/api/v1/queries/slow_queries?{RANGE}")).await;
    assert_eq!(slow["sampling_weight"], 4.0);
    let place = |name: &str| slow["columns"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
    assert_eq!(
        (&place("calls")["error_percent"], &place("duration_ms_p95")["error_percent"]),
        (&json!("0"), &json!("0.55"))
    );
    let latency = get(&shop, &format!("/api/v1/queries/query_latency?{RANGE}&fingerprint=0000000000000007")).await;
    assert_eq!((&latency["rows"][0][2], &latency["sampling_weight"]), (&json!(5), &json!(4.0)));
    let people = get(&shop, &format!("/api/v1/queries/feature_usage?{RANGE}")).await;
    assert_eq!(people["sampling_weight"], Value::Null, "what was counted one by one is not sampled");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_is_refused_by_its_name() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    for (query, name) in [
        ("feature_usage?nonsense=1", "nonsense"),
        ("feature_usage?limit=0", "limit"),
        ("feature_usage?from=2026-03-02&to=2026-03-01", "from"),
        ("feature_usage?tz=Mars", "tz"),
        ("feature_usage?filter=maybe", "filter"),
        ("feature_usage?where=%7B", "where"),
        ("feature_usage?split_by=", "split_by"),
        ("feature_usage?as_of=2262-01-01", "as_of"),
        ("funnel?steps=a,b&split_by=x", "split_by"),
        ("slow_queries?where=%7B%7D", "where"),
        ("person_timeline", "user"),
        ("trends?series=a&formula=A%20%2F%20B", "formula"),
        ("trends?series=a&formula=sleep(3)", "formula"),
        ("funnel_comparison?steps=a,b&attribute=release", "base_value"),
        ("retention?mode=sometimes", "mode"),
    ] {
        let (_, message) = refused(&shop, &format!("/api/v1/queries/{query}")).await;
        assert!(message.contains(name), "{query}: {message}");
    }
    let steps = |count: usize| vec![json!({"event": "a"}); count];
    let two = json!([{"event": "a"}, {"event": "b"}]);
    let excluding = |exclude: Value, order: &str| json!({"steps": two, "order": order, "exclude": [exclude]});
    for (body, field) in [
        (json!({"steps": two, "window_ms": 0}), "window_ms"),
        (json!({"steps": two, "window_ms": -1}), "window_ms"),
        (json!({"steps": two, "from": "2026-03-02", "to": "2026-03-02"}), "from"),
        (json!({"steps": steps(1)}), "steps"),
        (json!({"steps": steps(33)}), "steps"),
        (excluding(json!({"event": "x", "from_step": 0, "to_step": 2}), "ordered"), "exclude[0].to_step"),
        (excluding(json!({"event": "x", "from_step": 1, "to_step": 1}), "ordered"), "exclude[0].from_step"),
        (excluding(json!({"event": "b", "from_step": 0, "to_step": 1}), "ordered"), "exclude[0]"),
        (
            json!({"steps": [{"event": "a"}, {"event": "b"}, {"event": "c"}], "order": "any",
            "exclude": [{"event": "x", "from_step": 0, "to_step": 1}]}),
            "exclude[0].from_step",
        ),
        (
            json!({"steps": [{"event": "a", "where": [{"attr": "x", "op": "like", "value": "y"}]}, {}]}),
            "steps[0].where[0].op",
        ),
        (json!({"steps": two, "hold": ["user:plan"]}), "hold[0]"),
        (json!({"steps": two, "filter": {"flag:x": "on"}}), "filter[0].attr"),
        (json!({"steps": two, "compare": {"values": ["1", "2"]}}), "compare.values"),
        (json!({"steps": two, "compare": {"from": "2026-03-02", "to": "2026-03-01"}}), "compare.from"),
        (json!({"steps": two, "cohort": "nobody"}), "cohort"),
        (json!({"steps": two, "colour": "red"}), "colour"),
    ] {
        let answer = request(&shop, Method::POST, "/api/v1/funnel", &shop.read_key, &body).await;
        let (_, message) = said(&answer);
        assert!(message.contains(field), "{body}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_data_whatever_they_hold() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    for (index, name) in HOSTILE.into_iter().enumerate() {
        let minute = index as u64;
        record(&shop, &[(minute, name, &[("user.id", name), (name, name)]), (minute + 1, "end", &[("user.id", name)])])
            .await;
    }
    for name in HOSTILE {
        let funnel = json!({
            "steps": [{"event": name, "where": {name: name}}, {"event": "end"}], "from": "2026-03-01", "to": "2026-04-01",
            "filter": [{"attr": "user.id", "op": "eq", "value": name}], "breakdown": name, "hold": [], "as_of": "now",
        });
        let answer = shop.funnel(&funnel).await;
        assert_eq!(
            (&answer["steps"][1]["count"], &answer["breakdown"][0]["value"]),
            (&json!(1), &json!(name)),
            "{name}"
        );
        let put = put(&shop, "/api/v1/cohorts/one", &json!({"users": [name]})).await;
        assert_eq!(put["members"], 1);
        let conditions = encoded(&json!({name: name}).to_string());
        for more in ["cohort=one".to_owned(), format!("where={conditions}")] {
            let answer = get(&shop, &format!("/api/v1/queries/feature_usage?{RANGE}&{more}")).await;
            assert_eq!(cell(&answer, ("feature", name), "users"), 1, "{name} {more}");
            assert!(answer["rows"].as_array().unwrap().len() <= 2, "{more}: {answer}");
        }
        let series = encoded(&json!([{"event": name, "where": {name: name}}]).to_string());
        let path = format!("/api/v1/queries/trends?{RANGE}&period=month&series={series}&breakdown={}", encoded(name));
        assert_eq!(cell(&get(&shop, &path).await, ("value", name), "result"), 1.0, "{name}");
        let path = format!("/api/v1/queries/paths?{RANGE}&event={}", encoded(name));
        assert_eq!(get(&shop, &path).await["rows"][0][0], json!([name, "end"]), "{name}");
    }
    // A NUL is data where it can be sent, and refused by name where a parameter of ClickHouse cannot hold it.
    let nul = json!({"steps": [{"event": "a\u{0}b"}, {}], "filter": {"k\u{0}": "v\u{0}"}});
    assert_eq!(shop.funnel(&nul).await["steps"][0]["count"], 0);
    let (code, message) = refused(&shop, "/api/v1/queries/paths?event=a%00b").await;
    assert_eq!(code, "invalid_parameter");
    assert!(message.contains("event"), "{message}");
    assert_eq!(server.number("SELECT count() FROM events").await, 8, "and the table is still there");
}
