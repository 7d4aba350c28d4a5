//! Funnels on the real engine: the statement, the stream and the scan together answer what the reference answers.

use gemba_conventions::EventKind;
use gemba_ingest::store::funnel;
use gemba_ingest::store::select::Limits;
use gemba_queries::funnel::matcher::Scalar;
use gemba_queries::funnel::reference::{self, PlainEvent, PlainLink, PlainProperty, Subject};
use gemba_queries::funnel::{Fetch, Funnel, FunnelRequest};
use gemba_queries::{Population, population};
use gemba_tests::server::Server;
use gemba_tests::stored::{Random, event_row, link_row, seconds, store};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// "Now" of all questions, behind every event.
const NOW_MS: i64 = 1_800_000_000_000;

/// Beginning of the random streams, 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;

fn question(json: Value) -> Funnel {
    FunnelRequest::parse(json).unwrap().validate(NOW_MS, NOW_MS).unwrap()
}

/// A property as a row of the table `properties`.
fn property_row(project: u32, property: &PlainProperty) -> Value {
    let (subject, unit, tenant) = match &property.subject {
        Subject::User(unit) => ("user", *unit, ""),
        Subject::Tenant(tenant) => ("tenant", 0, tenant.as_str()),
    };
    let mut row = json!({
        "project": project, "subject": subject, "unit": unit, "tenant": tenant, "time": seconds(property.time_ms),
        "received": seconds(NOW_MS), "record": 1,
    });
    let (map, value) = match &property.value {
        Scalar::Text(text) => ("strings", json!(text)),
        Scalar::Number(number) => ("numbers", json!(number)),
        Scalar::Flag(flag) => ("bools", json!(flag)),
    };
    row[map] = json!({ &property.key: value });
    row
}

/// Names that would break a statement that pasted them.
const NAMES: [&str; 5] = ["a", "b'); --", "c\\ \"`", "x\u{0}\t\n", "\u{4e2d}\u{1F980}"];

fn random_event(random: &mut Random) -> PlainEvent {
    let mut attributes = BTreeMap::new();
    let plans = [
        None,
        Some(Scalar::Text("5".to_owned())),
        Some(Scalar::Number(5.0)),
        Some(Scalar::Number(0.1)),
        Some(Scalar::Flag(true)),
        Some(Scalar::Text("it's \\ \u{0}".to_owned())),
    ];
    attributes.extend(random.pick(&plans).map(|plan| ("pl'an".to_owned(), plan)));
    attributes.extend(
        random
            .pick(&[None, Some("1.0"), Some("2.0")])
            .map(|release| ("service.version".to_owned(), Scalar::Text(release.to_owned()))),
    );
    if !random.one_in(4) {
        attributes.insert("cart".to_owned(), Scalar::Number(f64::from(u32::try_from(random.below(2)).unwrap())));
    }
    let kinds = [EventKind::Event, EventKind::Event, EventKind::Event, EventKind::Used, EventKind::Step];
    let others = [EventKind::Started, EventKind::Ended];
    PlainEvent {
        unit: (!random.one_in(12)).then(|| 1 + random.below(4)),
        session: random.one_in(2).then(|| 1000 + random.below(2)),
        tenant: random.pick(&["", "t", "u'"]).to_owned(),
        time_ms: START_MS + random.time(12) + if random.one_in(6) { 86_400_000 } else { 0 },
        seq: (!random.one_in(3)).then(|| (1 + random.below(4), 1 + random.below(2))),
        kind: if random.one_in(6) { random.pick(&others) } else { random.pick(&kinds) },
        name: random.pick(&NAMES).to_owned(),
        attributes,
    }
}

fn random_question(random: &mut Random) -> Value {
    let step = |random: &mut Random| {
        let name = random.pick(&NAMES[..3]);
        match random.below(13) {
            0 => json!({}),
            1 => json!({"where": {"pl'an": 5}}),
            2 => json!({"event": name, "where": {"pl'an": "5"}}),
            3 => json!({"event": format!("completed:{name}")}),
            4 => json!({"event": format!("feature:{name}")}),
            5 => json!({"event": name, "where": [{"attr": "release", "op": "ne", "value": "1.0"}]}),
            6 => {
                json!({"event": name, "where": [{"attr": "pl'an", "op": "in", "value": [0.1, "it's \\ \u{0}", true]}]})
            }
            7 => json!({"where": [{"attr": "cart", "op": "le", "value": 0}, {"attr": "pl'an", "op": "set"}]}),
            8 => json!({"event": name, "where": [{"attr": "pl'an", "op": "contains", "value": "\\"}]}),
            9 => {
                let op = random.pick(&["lt", "le", "gt", "ge"]);
                let value = random.pick(&[json!(5), json!(0.1), json!("5"), json!("it")]);
                json!({"where": [{"attr": "pl'an", "op": op, "value": value}]})
            }
            _ => json!({"event": name}),
        }
    };
    let order = random.pick(&["ordered", "ordered", "strict", "any"]);
    let steps: Vec<Value> = (0..2 + random.below(3)).map(|_| step(random)).collect();
    let last = steps.len() - 1;
    let from = START_MS + random.time(4);
    let time = |ms: i64| jiff_time(ms);
    let mut json = json!({
        "order": order, "steps": steps, "window_ms": random.pick(&[1, 3, 6, 86_400_005]), "from": time(from),
        "to": time(from + 1 + random.time(10)), "session_gap_ms": 1 + random.time(3),
        "count_by": random.pick(&["user", "user", "session", "tenant"]), "as_of": time(START_MS + random.time(20)),
        "attribution": random.pick(&["first", "last", "step:1"]), "breakdown_limit": 2,
        "first_time": random.one_in(5),
    });
    if random.one_in(2) {
        json["exclude"] = match order {
            "any" => json!([{"event": NAMES[3], "from_step": 0, "to_step": last}]),
            _ => {
                json!([{"event": NAMES[3], "from_step": last - 1, "to_step": last}, {"event": NAMES[4], "from_step": 0, "to_step": 1}])
            }
        };
    }
    if random.one_in(2) {
        json["breakdown"] = json!(random.pick(&["pl'an", "release", "cart"]));
    }
    if random.one_in(5) {
        json["hold"] = json!(["cart"]);
    }
    if random.one_in(3) {
        json["interval"] = json!("day");
    }
    if random.one_in(5) {
        json["filter"] = json!([{"attr": "cart", "op": "set"}]);
    }
    json
}

fn jiff_time(ms: i64) -> String {
    format!("2026-01-01T00:00:00.{:03}Z", ms - START_MS)
}

/// Exclusions that could fit a step are refused; the question is then asked without them.
fn accepted(mut json: Value) -> Funnel {
    match FunnelRequest::parse(json.clone()).unwrap().validate(NOW_MS, NOW_MS) {
        Ok(funnel) => funnel,
        Err(error) => {
            assert!(error.field.starts_with("exclude"), "{error}");
            json["exclude"] = json!([]);
            question(json)
        }
    }
}

/// How many streams: what `GEMBA_FUNNEL_CASES` says (`.ci/long`), or those of the suite.
fn count(of_the_suite: u32) -> u32 {
    std::env::var("GEMBA_FUNNEL_CASES").map_or(of_the_suite, |count| count.parse().unwrap())
}

/// Where they begin: what `GEMBA_FUNNEL_SEED` says, or always the same ones.
fn seed(of_the_suite: u64) -> u64 {
    std::env::var("GEMBA_FUNNEL_SEED").map_or(of_the_suite, |seed| seed.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn random_streams_are_answered_as_the_reference_answers() {
    let server = Server::start().await;
    let client = &server.running.app().store;
    let mut random = Random(seed(2026));
    let mut cases = Vec::new();
    for project in 1000..1000 + count(230) {
        let events: Vec<PlainEvent> = (0..4 + random.below(14)).map(|_| random_event(&mut random)).collect();
        let links: Vec<PlainLink> = (0..random.below(3))
            .map(|_| PlainLink {
                anonymous: 1 + random.below(4),
                person: 1 + random.below(4),
                time_ms: START_MS + random.time(3),
            })
            .collect();
        cases.push((project, accepted(random_question(&mut random)), events, links));
    }
    let rows = cases.iter().flat_map(|(project, _, events, _)| events.iter().map(|event| event_row(*project, event)));
    store(client, "events", rows).await;
    let links = cases.iter().flat_map(|(project, _, _, links)| links.iter().map(|item| link_row(*project, item)));
    store(client, "identity_links", links).await;
    let mut entered = 0;
    for (project, funnel, events, links) in &cases {
        let answer = funnel::answer(client, funnel, *project, Limits::default()).await.unwrap();
        assert_eq!(answer, reference::answer(funnel, events, links), "project {project}: {funnel:#?}\n{events:#?}");
        entered += answer.steps[0].count;
    }
    assert!(entered > 100, "the streams must enter the funnels, {entered} did");
    // Where rows are fetched in parts, each comes in one of them.
    for (project, funnel, ..) in cases.iter().take(20) {
        let mut counts = Vec::new();
        for part in [(0, 1), (0, 3), (1, 3), (2, 3)] {
            let plan = funnel.plan_part(*project, &Fetch { part, ..Fetch::default() });
            let mut request = client.raw().query_raw(&format!("SELECT count() FROM ({})", plan.bound.sql));
            for (name, value) in &plan.bound.params {
                request = request.param(name, value);
            }
            counts.push(request.fetch_one::<u64>().await.unwrap());
        }
        assert_eq!(counts[0], counts[1..].iter().sum::<u64>(), "project {project}");
    }
}

/// A stream of people 1 and 2 and of 3 and 4, who are anonymous and may be linked to one of them; some are shown variants of
/// feature flags.
fn random_known(random: &mut Random) -> (Vec<PlainEvent>, Vec<PlainLink>, Vec<PlainProperty>) {
    let events = (0..8 + random.below(12)).map(|_| {
        let mut event = random_event(random);
        event.unit = (!random.one_in(12)).then(|| 1 + random.below(4));
        random.pick(&NAMES[..4]).clone_into(&mut event.name);
        if random.one_in(4) {
            "feature_flag.evaluation".clone_into(&mut event.name);
            let mut tell = |key: &str, values: &[&str]| {
                let value = Scalar::Text(random.pick(values).to_owned());
                drop(event.attributes.insert(key.to_owned(), value));
            };
            tell("feature_flag.key", &["ne'w", "other"]);
            tell("feature_flag.result.variant", &["on", "off", ""]);
            tell("feature_flag.variant", &["on", "old", ""]);
        }
        event
    });
    let events = events.collect();
    let links = (0..random.below(4)).map(|_| PlainLink {
        anonymous: 3 + random.below(2),
        person: 1 + random.below(2),
        time_ms: START_MS + random.time(3),
    });
    let links = links.collect();
    let values = [
        Scalar::Text("5".to_owned()),
        Scalar::Text("it's \\ \u{0}".to_owned()),
        Scalar::Number(5.0),
        Scalar::Number(0.1),
        Scalar::Flag(true),
    ];
    // Few instants, so that some things are said at once.
    let properties = (0..12 + random.below(8)).map(|_| PlainProperty {
        subject: match random.below(3) {
            0 => Subject::Tenant(random.pick(&["t", "u'"]).to_owned()),
            _ => Subject::User(1 + random.below(2)),
        },
        key: random.pick(&["pl'an", "seats"]).to_owned(),
        value: random.pick(&values),
        time_ms: START_MS + random.time(3),
    });
    (events, links, properties.collect())
}

/// A condition on a property.
fn random_condition(random: &mut Random) -> Value {
    let attr = random.pick(&["user:pl'an", "user:seats", "tenant:pl'an", "tenant:seats"]);
    let (op, value) = random.pick(&[
        ("eq", json!("5")),
        ("eq", json!(5)),
        ("eq", json!(true)),
        ("ne", json!("5")),
        ("ne", json!(0.1)),
        ("in", json!([5, "it's \\ \u{0}"])),
        ("contains", json!("\\")),
        ("lt", json!(5)),
        ("ge", json!("5")),
        ("set", json!(true)),
        ("set", json!(false)),
    ]);
    json!({"attr": attr, "op": op, "value": value})
}

/// A question about people and tenants by what is known of them.
fn random_question_about_properties(random: &mut Random) -> Value {
    let mut json = random_question(random);
    // All of the stream, so that most questions are entered by somebody.
    json["from"] = json!(jiff_time(START_MS));
    json["to"] = json!(jiff_time(START_MS + 12));
    for step in json["steps"].as_array_mut().unwrap() {
        if random.one_in(4) {
            step["where"] = json!([random_condition(random)]);
        }
    }
    for excluded in json["exclude"].as_array_mut().into_iter().flatten() {
        if random.one_in(3) {
            excluded["where"] = json!([random_condition(random)]);
        }
    }
    if random.one_in(6) {
        json["filter"] = json!([random_condition(random)]);
    }
    if !random.one_in(8) {
        json["breakdown"] =
            json!(random.pick(&["user:pl'an", "user:seats", "tenant:pl'an", "flag:ne'w", "flag:other"]));
    }
    json
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_and_variants_are_answered_as_the_reference_answers() {
    let server = Server::start().await;
    let client = &server.running.app().store;
    let mut random = Random(seed(545));
    let mut cases = Vec::new();
    for project in 2000..2000 + count(240) {
        let known = random_known(&mut random);
        let asked = random_question_about_properties(&mut random);
        // The population of a question narrows as its filter does, where no pauses are measured and no exposures hidden.
        let narrows = asked["count_by"] != "session" && !asked["breakdown"].as_str().unwrap_or("").starts_with("flag:");
        let only = if narrows && random.one_in(3) { vec![random_condition(&mut random)] } else { Vec::new() };
        let only = population::conditions("where", &json!(only).to_string()).unwrap();
        cases.push((project, accepted(asked), known, only));
    }
    let rows =
        cases.iter().flat_map(|(project, _, (events, ..), _)| events.iter().map(|event| event_row(*project, event)));
    store(client, "events", rows).await;
    let links =
        cases.iter().flat_map(|(project, _, (_, links, _), _)| links.iter().map(|link| link_row(*project, link)));
    store(client, "identity_links", links).await;
    let said = cases.iter().flat_map(|(project, _, (.., said), _)| said.iter().map(|one| property_row(*project, one)));
    store(client, "properties", said).await;
    let (mut entered, mut groups) = (0, 0);
    for (project, funnel, (events, links, properties), only) in &cases {
        let population = Population { only: only.clone(), ..Population::default() };
        let answer = funnel::answer_of(client, funnel, *project, Limits::default(), &population).await.unwrap();
        let mut narrowed = funnel.clone();
        narrowed.filter.extend(only.iter().cloned());
        let expected = reference::answer_knowing(&narrowed, events, links, properties);
        assert_eq!(
            answer, expected,
            "project {project}: {funnel:#?}\n{only:?}\n{events:#?}\n{links:?}\n{properties:#?}"
        );
        entered += answer.steps[0].count;
        groups += answer.breakdown.iter().filter(|group| group.group == "value").count();
    }
    assert!(entered > 100 && groups > 50, "{entered} units entered, {groups} groups were told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cohort_holds_the_people_with_these_ids_and_what_is_linked_to_them() {
    let server = Server::start().await;
    let client = &server.running.app().store;
    let mut events = Vec::new();
    for unit in [1, 2, 3] {
        for (name, time) in [("a", 0), ("b", 1)] {
            events.push(PlainEvent {
                unit: Some(unit),
                session: None,
                tenant: String::new(),
                time_ms: START_MS + time,
                seq: None,
                kind: EventKind::Event,
                name: name.to_owned(),
                attributes: BTreeMap::new(),
            });
        }
    }
    store(client, "events", events.iter().map(|event| event_row(77, event))).await;
    let unit = |unit: u64, id: &str| json!({"project": 77, "unit": unit, "kind": "user", "id": id});
    store(client, "units", [unit(1, "ann's"), unit(2, "bob")]).await;
    // Unit 3 was anonymous and turned out to be unit 1.
    store(client, "identity_links", [json!({"project": 77, "anonymous": 3, "person": 1, "time": "1767225600"})]).await;
    let ask = |more: Value| {
        let mut json = json!({"steps": [{"event": "a"}, {"event": "b"}], "from": "2026-01-01", "to": "2026-02-01"});
        for (key, value) in more.as_object().unwrap() {
            json[key] = value.clone();
        }
        question(json)
    };
    let expected = [
        (json!({}), 2),
        (json!({"cohort": {"users": ["ann's"]}}), 1),
        (json!({"cohort": {"users": ["nobody"]}}), 0),
        (json!({"filter": {"user.id": "ann's"}}), 1),
        (json!({"filter": [{"attr": "user.id", "op": "set", "value": false}]}), 1),
    ];
    for (more, people) in expected {
        let answer = funnel::answer(client, &ask(more.clone()), 77, Limits::default()).await.unwrap();
        assert_eq!(answer.steps[1].count, people, "{more}");
    }
    // Who dropped at the first step, and what they did then.
    let json = json!({"steps": [{"event": "b"}, {"event": "a"}], "dropped": {"step": 0}});
    let mut funnel = ask(json!({"dropped": {"step": 0}}));
    funnel.steps = question(json).steps;
    let late = [("c", 5), ("d", 9)].map(|(name, time)| PlainEvent {
        name: name.to_owned(),
        time_ms: START_MS + time,
        ..events[0].clone()
    });
    store(client, "events", late.iter().map(|event| event_row(77, event))).await;
    let dropped = funnel::answer(client, &funnel, 77, Limits::default()).await.unwrap().dropped.unwrap();
    let told: Vec<Value> = dropped.iter().map(|unit| serde_json::to_value(unit).unwrap()).collect();
    let person = |unit: &str, id: &str, next: Value, last: Value| json!({"at_ms": START_MS + 1, "unit": unit, "open": false, "id": id, "id_kind": "user", "next": next, "last": last});
    let done = |event: &str, time: i64| json!({"event": event, "at_ms": START_MS + time});
    assert_eq!(
        told,
        [
            person("0000000000000002", "bob", Value::Null, done("b", 1)),
            person("0000000000000001", "ann's", done("c", 5), done("d", 9)),
        ]
    );
    // Another project sees nothing.
    let other = funnel::answer(client, &ask(json!({})), 78, Limits::default()).await.unwrap();
    assert_eq!(other.steps[0].count, 0);
}
