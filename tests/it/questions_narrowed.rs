//! Of whom questions are asked: cohorts, internal users and bots left out, properties and variants. Over HTTP, as users do it.

use crate::questions_support::{
    RANGE, cell, delete, encoded, get, lookers, people, put, record, refused, request, said,
};
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use hyper::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_cohort_narrows_funnels_and_questions_about_people_and_holds_no_ids() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    let other = Project::create(server.running.url(), &server.keys, "other").await;
    people(&shop).await;
    people(&other).await;
    let uploaded = put(&shop, "/api/v1/cohorts/friends", &json!({"users": ["ann", "bob", "nobody yet"]})).await;
    assert_eq!((&uploaded["members"], &uploaded["chosen_by"]), (&json!(3), &json!({"users": 3})));
    // ann's look was a session's before she was known.
    assert_eq!(lookers(&shop, "cohort=friends").await, 2);
    let did = json!({"did": {"event": "look", "at_least": 1, "from": "2026-03-01"}, "where": {"user:plan": "pro"}});
    assert_eq!(put(&shop, "/api/v1/cohorts/pro-lookers", &did).await["members"], 1);
    assert_eq!(lookers(&shop, "cohort=pro-lookers").await, 1);
    let did_not = json!({"did": {"event": "pay", "at_least": 0, "at_most": 0}});
    assert_eq!(put(&shop, "/api/v1/cohorts/not-payers", &did_not).await["members"], 2);
    let steps = json!([{"event": "look"}, {"event": "pay"}]);
    let funnel = json!({"steps": steps, "from": "2026-03-01", "to": "2026-04-01", "window_ms": 86_400_000});
    let lost = put(&shop, "/api/v1/cohorts/lost", &json!({"funnel": funnel, "step": 0})).await;
    assert_eq!(lost["members"], 2);
    // Who reached a step went on or did not.
    for (step, members) in [(0, 3), (1, 1)] {
        let reached = put(&shop, "/api/v1/cohorts/reached", &json!({"funnel": funnel, "reached": step})).await;
        assert_eq!((&reached["members"], &reached["chosen_by"]["reached"]), (&json!(members), &json!(step)));
    }
    assert_eq!(lookers(&shop, "cohort=reached").await, 1);

    let mut asked = funnel.clone();
    asked["cohort"] = json!("lost");
    let answer = shop.funnel(&asked).await;
    assert_eq!((&answer["steps"][0]["count"], &answer["steps"][1]["count"]), (&json!(2), &json!(0)));
    assert_eq!((&answer["cohort"]["name"], &answer["cohort"]["members"]), (&json!("lost"), &json!(2)));
    asked["cohort"] = json!("friends");
    asked["compare"] = json!({"cohort": "lost"});
    let compared = shop.funnel(&asked).await;
    let step = &compared["comparison"]["steps"][1]["from_first"];
    assert_eq!((&step["base"]["rate"], &step["head"]["rate"]), (&json!(0.0), &json!(0.5)));
    assert_eq!(step["verdict"], "could be chance");

    // Chosen anew it is another version; the questions of another project know neither.
    assert_eq!(put(&shop, "/api/v1/cohorts/friends", &json!({"users": ["ann"]})).await["version"], 2);
    assert_eq!(lookers(&shop, "cohort=friends").await, 1);
    assert_eq!(refused(&other, "/api/v1/queries/feature_usage?cohort=friends").await.0, "unknown_cohort");
    assert_eq!(get(&other, "/api/v1/cohorts").await, json!({"cohorts": []}));
    let (code, message) = refused(&shop, "/api/v1/queries/slow_queries?cohort=friends").await;
    assert_eq!(code, "invalid_parameter");
    assert!(message.contains("cohort") && message.contains("everybody"), "{message}");

    // Ids are nowhere: whoever is forgotten leaves no name in a cohort.
    let store = &server.running.app().store;
    assert_eq!(store.number("SELECT count() FROM saved WHERE position(payload, 'nobody yet') > 0").await.unwrap(), 0);
    assert_eq!(delete(&shop, "/api/v1/cohorts/friends").await.status, 200);
    assert_eq!(store.number("SELECT count() FROM cohort_members WHERE cohort = 'friends'").await.unwrap(), 0);
    assert_eq!(refused(&shop, "/api/v1/queries/feature_usage?cohort=friends").await.0, "unknown_cohort");
    put(&other, "/api/v1/saved/x", &json!({"query": "feature_usage"})).await;
    put(&other, "/api/v1/cohorts/x", &json!({"users": ["ann"]})).await;
    let gone = request(&other, Method::DELETE, "/api/v1/projects/other", &server.keys.admin, &Value::Null).await.json();
    assert_eq!(
        (&gone["remaining"], &gone["deleted"]["saved"], &gone["deleted"]["cohort_members"]),
        (&json!(0), &json!(2), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_a_cohort_name_the_field() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    let funnel = json!({"steps": [{"event": "a"}, {"event": "b"}]});
    for (body, field) in [
        (json!({}), "request"),
        (json!([]), "request"),
        (json!({"users": "ann"}), "users"),
        (json!({"users": [""]}), "users"),
        (json!({"users": ["a"], "funnel": funnel}), "request"),
        (json!({"funnel": funnel}), "step"),
        (json!({"funnel": funnel, "step": 1}), "step"),
        (json!({"funnel": funnel, "step": "0"}), "step"),
        (json!({"funnel": funnel, "reached": 2}), "reached"),
        (json!({"funnel": funnel, "reached": -1}), "reached"),
        (json!({"funnel": funnel, "reached": 0, "step": 0}), "reached"),
        (json!({"reached": 0}), "reached"),
        (json!({"users": ["a"], "step": 0}), "step"),
        (json!({"funnel": {"steps": [{}], "window_ms": 1}, "step": 0}), "steps"),
        (json!({"did": {"event": "a", "at_least": -1}}), "did.at_least"),
        (json!({"did": {"event": "a", "at_least": 3, "at_most": 2}}), "did.at_least"),
        (json!({"did": {"event": "a", "often": 2}}), "did.often"),
        (json!({"did": {"event": "a", "from": "someday"}}), "from"),
        (json!({"where": [{"attr": "user:plan", "op": "near", "value": 1}]}), "where[0].op"),
        (json!({"colour": "red"}), "colour"),
    ] {
        let answer = request(&shop, Method::PUT, "/api/v1/cohorts/x", &shop.read_key, &body).await;
        let (_, message) = said(&answer);
        assert!(message.contains(field), "{body}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_users_and_bots_are_left_out_and_every_answer_says_so() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    let other = Project::create(server.running.url(), &server.keys, "other").await;
    people(&shop).await;
    people(&other).await;
    assert_eq!(get(&shop, &format!("/api/v1/queries/feature_usage?{RANGE}")).await["filter"]["applied"], false);
    let path = "/api/v1/projects/default/filter";
    let filter = json!({"exclude": [
        {"attr": "user:internal", "op": "eq", "value": "yes"}, {"attr": "agent", "op": "contains", "value": "bot"},
    ]});
    assert_eq!(said(&request(&shop, Method::PUT, path, &shop.read_key, &filter).await).0, "wrong_key_role");
    let bad = json!({"exclude": [{"attr": "agent", "op": "near", "value": 1}]});
    assert!(said(&request(&shop, Method::PUT, path, &server.keys.admin, &bad).await).1.contains("exclude[0].op"));
    assert_eq!(request(&shop, Method::PUT, path, &server.keys.admin, &filter).await.json()["version"], 1);

    assert_eq!(lookers(&shop, "").await, 1, "ann is internal, also as the session she was; eve is a bot");
    assert_eq!(lookers(&shop, "filter=off").await, 3);
    assert_eq!(lookers(&other, "").await, 3);
    let answer = get(&shop, &format!("/api/v1/queries/feature_usage?{RANGE}")).await;
    assert_eq!((&answer["filter"]["applied"], &answer["filter"]["excludes"]), (&json!(true), &filter["exclude"]));
    let everybody = get(&shop, &format!("/api/v1/queries/slow_queries?{RANGE}")).await;
    assert_eq!(everybody["filter"]["applied"], false);
    assert!(everybody["filter"]["because"].as_str().unwrap().contains("everybody"));
    let funnel = json!({"steps": [{"event": "look"}, {"event": "pay"}], "from": "2026-03-01", "to": "2026-04-01"});
    let answer = shop.funnel(&funnel).await;
    assert_eq!((&answer["steps"][0]["count"], &answer["filter"]["applied"]), (&json!(1), &json!(true)));
    let whole = request(&shop, Method::POST, "/api/v1/funnel?filter=off", &shop.read_key, &funnel).await.json();
    assert_eq!((&whole["steps"][0]["count"], &whole["filter"]["because"]), (&json!(3), &json!("filter=off")));
    let trust = get(&shop, "/api/v1/queries/losses").await;
    assert_eq!(cell(&trust, ("term", "unexplained"), "records"), 0);
    assert_eq!(request(&shop, Method::DELETE, path, &server.keys.admin, &Value::Null).await.status, 200);
    assert_eq!(lookers(&shop, "").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_and_variants_filter_and_split_wherever_people_are_asked() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    people(&shop).await;
    let flag = |variant: &'static str| [("feature_flag.key", "new"), ("feature_flag.result.variant", variant)];
    let exposed = |user: &'static str, variant| [[("user.id", user)].as_slice(), &flag(variant)].concat();
    let (ann, bob) = (exposed("ann", "on"), exposed("bob", "off"));
    record(
        &shop,
        &[
            (10, "feature_flag.evaluation", &ann),
            (11, "feature_flag.evaluation", &bob),
            (12, "look", &[("user.id", "ann")]),
            (13, "look", &[("user.id", "bob")]),
            (14, "pay", &[("user.id", "ann")]),
            (15, "gemba.tenant.set", &[("gemba.tenant", "acme"), ("tier", "gold")]),
            (16, "look", &[("user.id", "eve"), ("gemba.tenant", "acme")]),
        ],
    )
    .await;
    let only = |json: &str| format!("where={}", encoded(json));
    assert_eq!(lookers(&shop, &only(r#"{"user:plan":"pro"}"#)).await, 1);
    assert_eq!(lookers(&shop, &only(r#"[{"attr":"user:plan","op":"ne","value":"pro"}]"#)).await, 2);
    assert_eq!(lookers(&shop, &only(r#"[{"attr":"user:plan","op":"set","value":false}]"#)).await, 1);
    assert_eq!(lookers(&shop, &only(r#"{"user:plan":5}"#)).await, Value::Null);
    assert_eq!(lookers(&shop, &only(r#"{"tenant:tier":"gold"}"#)).await, 1);
    assert_eq!(lookers(&shop, &only(r#"{"user.id":"ann"}"#)).await, 1);
    // Split by a property: a part for each value, one for those without.
    let split = get(&shop, &format!("/api/v1/queries/active_users?{RANGE}&split_by=user:plan")).await;
    let parts: Vec<&Value> = split["rows"].as_array().unwrap().iter().map(|row| &row[0]).collect();
    assert_eq!((split["columns"][0]["name"].as_str(), parts.contains(&&json!("pro"))), (Some("split"), true));
    assert!(parts.contains(&&json!("free")) && parts.contains(&&json!("(missing)")), "{parts:?}");
    let funnel = |breakdown: &str, from: &str| json!({"steps": [{"event": "look"}, {"event": "pay"}], "from": from, "to": "2026-04-01", "breakdown": breakdown});
    let groups = |answer: &Value| -> Vec<(Value, Value, Value)> {
        let groups = answer["breakdown"].as_array().unwrap();
        let counts = |group: &Value| [0, 1].map(|step: usize| group["steps"][step]["count"].clone());
        groups
            .iter()
            .map(|group| {
                let [a, b] = counts(group);
                (group["value"].clone(), a, b)
            })
            .collect()
    };
    let by_plan = groups(&shop.funnel(&funnel("user:plan", "2026-03-01")).await);
    assert_eq!(
        by_plan,
        [(json!("free"), json!(1), json!(0)), (json!("pro"), json!(1), json!(1)), (Value::Null, json!(1), json!(0))]
    );
    // The variant counts from the exposure on.
    let exposed = groups(&shop.funnel(&funnel("flag:new", "2026-03-02T10:12:00Z")).await);
    assert_eq!(
        exposed,
        [(json!("off"), json!(1), json!(0)), (json!("on"), json!(1), json!(1)), (Value::Null, json!(1), json!(0))]
    );
    let before = shop
        .funnel(&json!({"steps": [{"event": "look"}, {"event": "pay"}], "from": "2026-03-01",
        "to": "2026-03-02T10:09:00Z", "breakdown": "flag:new"}))
        .await;
    assert_eq!(groups(&before), [(Value::Null, json!(3), json!(1))]);
    let by_tenant = groups(&shop.funnel(&funnel("tenant:tier", "2026-03-02T10:16:00Z")).await);
    assert_eq!(by_tenant, [(json!("gold"), json!(1), json!(0))]);
    let series = encoded(r#"[{"event":"look","measure":"users"}]"#);
    let trend = get(
        &shop,
        &format!("/api/v1/queries/trends?from=2026-03-02&to=2026-03-03&series={series}&breakdown=user:plan"),
    )
    .await;
    assert_eq!(
        (cell(&trend, ("value", "pro"), "result"), cell(&trend, ("group", "missing"), "result")),
        (json!(1.0), json!(1.0))
    );
}
