//! What any question takes beside its own parameters (`cohort`, `where`, `filter`, `split_by`, `as_of`), what is saved under a
//! name, and what a caller says of itself over gRPC: none of it crosses from one project to another.
//!
//! Both projects use the same names for everything, so that what crosses changes a number and not only a text. What is known at
//! an instant is asked for while the other project is there and after it was deleted: an answer that is the same held nothing
//! of it.

use gemba_queries::Catalog;
use gemba_tests::client::{Answer, bare, call, post, send};
use gemba_tests::export::{event, logs, now_ns, query_span, traces};
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use serde_json::{Value, json};

const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// Stands in what the other project alone has.
const SECRET: &str = "secret_of_the_other_project";

/// Sends use of one feature, a funnel, properties of people, a foreign event and a query, of each of these people.
async fn fill(project: &Project, people: &[&str]) {
    let at = now_ns() - 2_000_000_000;
    let records = people.iter().flat_map(|who| {
        let plan = if *who == SECRET { SECRET } else { "pro" };
        let records = [
            (0, "gemba.feature.used", [("gemba.feature.name", "search"), ("team", plan)]),
            (1, "gemba.funnel.step", [("gemba.funnel.name", "checkout"), ("gemba.step.name", "cart")]),
            (2, "gemba.funnel.step", [("gemba.funnel.name", "checkout"), ("gemba.step.name", "pay")]),
            (3, "gemba.user.set", [("plan", plan), ("team", plan)]),
            (4, "order.placed", [("team", plan), ("plan", plan)]),
        ];
        records.into_iter().map(move |(after, name, pairs)| {
            let mut pairs = pairs.to_vec();
            pairs.extend([("user.id", *who), ("session.id", *who), ("gemba.tenant", "acme")]);
            event(at + after * 1_000_000, name, &pairs)
        })
    });
    project.send("/v1/logs", vec![logs("shop", records.collect())]).await;
    let spans = people.iter().zip(1..).map(|(_, number)| query_span(number, at, 900_000_000, "postgresql", "SELECT 1"));
    project.send("/v1/traces", vec![traces("shop", spans.collect())]).await;
    project.flush().await;
}

struct Two {
    server: Server,
    own: Project,
    other: Project,
}

impl Two {
    /// Ann in the own project; Ann, Bea and somebody with the secret in the other.
    async fn start() -> Self {
        let server = Server::start().await;
        let own = Project::default_of(server.running.url(), &server.keys);
        let other = Project::create(server.running.url(), &server.keys, "other").await;
        fill(&own, &["ann"]).await;
        fill(&other, &["ann", "bea", SECRET]).await;
        Self { server, own, other }
    }

    async fn with(&self, method: &str, path: &str, key: &str, body: &Value) -> Answer {
        let mut request = bare(method, &self.server.url(path), Some(key));
        if !body.is_null() {
            *request.body_mut() = body.to_string().into();
            request.headers_mut().insert("content-type", "application/json".parse().unwrap());
        }
        send(request).await
    }

    /// Puts something of a project's under a name, for the first time.
    async fn put(&self, project: &Project, path: &str, body: Value) {
        let answer = self.with("PUT", path, &project.read_key, &body).await;
        assert_eq!(answer.status, 201, "{path}: {answer:?}");
        assert!(answer.json()["version"].is_null() || answer.json()["version"] == 1, "{path}: {answer:?}");
    }
}

fn shows(answer: &Answer) -> bool {
    String::from_utf8_lossy(&answer.body).contains(SECRET)
}

/// What an answer says but for how long it took.
fn said(answer: &Answer) -> Value {
    let mut body = answer.json();
    body.as_object_mut().unwrap().remove("elapsed_ms");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn no_view_of_a_question_holds_anything_of_another_project() {
    let two = Two::start().await;
    let Two { own, other, .. } = &two;
    for (project, users) in [(own, json!(["ann"])), (other, json!(["ann", "bea", SECRET]))] {
        two.put(project, "/api/v1/cohorts/same", json!({"users": users})).await;
    }
    let theirs = json!({"did": {"event": "search"}});
    two.put(other, "/api/v1/cohorts/theirs", theirs).await;
    // In the other project whoever is known by this plan is left out; that is everybody in the own one.
    let exclude = json!({"exclude": [{"attr": "user:plan", "op": "eq", "value": "pro"}]});
    let path = "/api/v1/projects/other/filter";
    assert_eq!(two.with("PUT", path, &two.server.keys.admin, &exclude).await.status, 200);
    let as_of = jiff::Timestamp::now().to_string();

    let views = [
        "filter=on",
        "cohort=same&where={\"user:plan\":\"pro\"}&filter=off",
        "split_by=user:plan&where={\"team\":\"pro\"}",
    ];
    let encoded = |view: &str| view.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
    let mut asked = Vec::new();
    for query in Catalog::builtin().unwrap().iter() {
        // The questions with parameters that have no default are asked with those of the funnel.
        let needs = query.params.iter().any(|param| param.name == "steps");
        let own_params = if needs { "&steps=checkout.cart,checkout.pay" } else { "" };
        for view in views {
            asked.push(format!("/api/v1/queries/{}?as_of={as_of}{own_params}&{}", query.name, encoded(view)));
        }
    }
    let funnel = |view: Value| {
        let mut question = json!({"steps": [{"event": "checkout.cart"}, {"event": "checkout.pay"}]});
        question.as_object_mut().unwrap().extend(view.as_object().unwrap().clone());
        question
    };
    let funnels = [
        funnel(json!({"cohort": "same"})),
        funnel(json!({"breakdown": "user:plan"})),
        funnel(json!({"filter": [{"attr": "user:plan", "op": "set"}]})),
        funnel(json!({"compare": {"cohort": "same"}})),
    ];
    let post_funnel = async |question: &Value| {
        two.with("POST", &format!("/api/v1/funnel?as_of={as_of}"), &own.read_key, question).await
    };
    let (mut before, mut answered, mut differ) = (Vec::new(), 0, 0);
    for path in &asked {
        let answer = own.get(path).await;
        assert!([200, 400].contains(&answer.status.as_u16()) && !shows(&answer), "{path}: {answer:?}");
        if answer.status == 200 {
            answered += 1;
            // Without its filter the other project would be told of three people.
            if let Some(path) = path.strip_suffix("filter=on") {
                let of_other = other.get(&format!("{path}filter=off")).await;
                differ += usize::from(of_other.status == 200 && of_other.json()["rows"] != answer.json()["rows"]);
            }
            assert_eq!(answer.json()["filter"]["applied"], false, "{path}");
        }
        before.push(said(&answer));
    }
    for question in &funnels {
        let answer = post_funnel(question).await;
        assert_eq!(answer.status, 200, "{question}: {answer:?}");
        assert_eq!(answer.json()["steps"][0]["count"], 1, "{question}: {answer:?}");
        before.push(said(&answer));
    }
    assert!(answered > 50 && differ > 10, "{answered} answered, {differ} of them otherwise in the other project");
    let gone = two.with("DELETE", "/api/v1/projects/other", &two.server.keys.admin, &Value::Null).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let mut after = Vec::new();
    for path in &asked {
        after.push(said(&own.get(path).await));
    }
    for question in &funnels {
        after.push(said(&post_funnel(question).await));
    }
    let names = asked.iter().cloned().chain(funnels.iter().map(Value::to_string));
    for ((name, before), after) in names.zip(before).zip(after) {
        assert_eq!(before, after, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_parameter_of_a_view_is_more_than_a_value() {
    let two = Two::start().await;
    let hostile = [
        "cohort=x'%20OR%20project%20=%203%20--",
        "cohort=theirs",
        "where=%7B%22team'%20OR%20project%20=%203%20--%22:%22x%22%7D",
        "where=%7B%22user:plan')%20OR%20(1=1%22:%22x%22%7D",
        "where=%7B%22project%22:3%7D",
        "where=%5B%7B%22attr%22:%22team%22,%22op%22:%22contains%22,%22value%22:%22%25'%20OR%201=1%20--%22%7D%5D",
        "split_by=team'%5D%20OR%20project%20=%203%20--",
        "split_by=user:plan')%20UNION%20ALL%20SELECT%20toString(unit)%20FROM%20events%20--",
        "split_by=%7Bproject:UInt32%7D",
        "filter=off%20OR%201=1",
        "as_of=2020-01-01'%20OR%20project%20=%203%20--",
        "as_of=now&tz=UTC'%20OR%20project%20=%203%20--",
    ];
    // One question of each way to be answered; what a view is made of is the same for all.
    let steps = "steps=checkout.cart,checkout.pay";
    for name in ["feature_usage?", "retention?", "trends?series=search", &format!("funnel_over_time?{steps}")] {
        let plain = two.own.get(&format!("/api/v1/queries/{name}")).await;
        assert_eq!(plain.status, 200, "{name}: {plain:?}");
        for view in hostile {
            let path = format!("/api/v1/queries/{name}&{view}");
            let answer = two.own.get(&path).await;
            assert!([200, 400].contains(&answer.status.as_u16()) && !shows(&answer), "{path}: {answer:?}");
        }
    }
    // A key in the URL does not stand beside the one in the header.
    let path = format!("/api/v1/project?key={}", two.other.read_key);
    assert_eq!(two.own.get(&path).await.json()["project"], "default");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_under_a_name_is_another_project_s_own() {
    let two = Two::start().await;
    let Two { own, other, server } = &two;
    let question = json!({"query": "feature_usage", "title": SECRET});
    let funnel = json!({"funnel": {"steps": [{"event": "checkout.cart"}, {"event": "checkout.pay"}]}, "title": SECRET});
    two.put(other, "/api/v1/saved/theirs", question.clone()).await;
    two.put(other, "/api/v1/saved/their_funnel", funnel).await;
    two.put(other, "/api/v1/saved/same", question).await;
    two.put(other, "/api/v1/cohorts/theirs", json!({"did": {"event": "search", "where": {"team": SECRET}}})).await;
    two.put(other, "/api/v1/cohorts/same", json!({"users": ["ann", "bea"]})).await;
    // The first version of each in the own project.
    two.put(own, "/api/v1/saved/same", json!({"query": "feature_usage"})).await;
    two.put(own, "/api/v1/cohorts/same", json!({"users": ["ann", "bea", SECRET]})).await;

    for (method, path) in [
        ("GET", "saved/theirs"),
        ("GET", "saved/theirs/answer"),
        ("GET", "saved/theirs/answer?version=1"),
        ("GET", "saved/their_funnel/answer?format=csv"),
        ("DELETE", "saved/theirs"),
        ("GET", "cohorts/theirs"),
        ("DELETE", "cohorts/theirs"),
    ] {
        let answer = two.with(method, &format!("/api/v1/{path}"), &own.read_key, &Value::Null).await;
        assert_eq!((answer.status.as_u16(), shows(&answer)), (404, false), "{method} {path}: {answer:?}");
    }
    for (path, list) in [("saved", "saved"), ("cohorts", "cohorts")] {
        let answer = own.get(&format!("/api/v1/{path}")).await;
        assert_eq!((answer.json()[list].as_array().unwrap().len(), shows(&answer)), (1, false), "{path}: {answer:?}");
    }
    // People of that name in the other project are other people.
    let rows = own.ask("feature_usage", &[("cohort", "same")]).await;
    assert_eq!(rows[0]["uses"].as_u64(), Some(1), "{rows:?}");

    // A cohort of the other project is none here, whoever names it.
    let steps = json!([{"event": "checkout.cart"}, {"event": "checkout.pay"}]);
    for (method, path, body) in [
        ("POST", "funnel", json!({"steps": steps, "cohort": "theirs"})),
        ("POST", "funnel", json!({"steps": steps, "compare": {"cohort": "theirs"}})),
        ("PUT", "cohorts/mine", json!({"funnel": {"steps": steps, "cohort": "theirs"}, "reached": 0})),
        ("GET", "saved/same/answer?cohort=theirs", Value::Null),
    ] {
        let answer = two.with(method, &format!("/api/v1/{path}"), &own.read_key, &body).await;
        assert_eq!(answer.status, 400, "{method} {path} {body}: {answer:?}");
        assert_eq!(answer.json()["error"]["code"], "unknown_cohort", "{method} {path} {body}");
    }
    // Members are chosen among the own people, whatever the choice is made of.
    for (name, choice, members) in [
        ("who_did", json!({"did": {"event": "search"}}), 1),
        ("who_paid", json!({"funnel": {"steps": steps}, "reached": 1}), 1),
        ("by_property", json!({"where": [{"attr": "user:plan", "op": "set"}]}), 1),
        ("by_secret", json!({"where": [{"attr": "user:plan", "op": "eq", "value": SECRET}]}), 0),
        ("hostile", json!({"did": {"event": "x' OR project = 3 --"}}), 0),
        ("hostile_key", json!({"did": {"event": "search", "where": {"a'] != '' OR project = 3 --": "x"}}}), 0),
    ] {
        let answer = two.with("PUT", &format!("/api/v1/cohorts/{name}"), &own.read_key, &choice).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["members"]), (201, &json!(members)), "{name}: {answer:?}");
    }

    // What was tried changed nothing of the other project's.
    assert_eq!(other.get("/api/v1/saved").await.json()["saved"].as_array().unwrap().len(), 3);
    assert_eq!(other.get("/api/v1/cohorts/theirs").await.json()["members"], 1);
    assert_eq!(other.get("/api/v1/saved/same").await.json()["title"], SECRET);
    assert!(shows(&other.get("/api/v1/saved/theirs").await));

    // Nor does an act on one project touch another: limits, origins, filter and what is set aside are named by the path.
    let refused = vec![event(now_ns(), "kept", &[("user.id", SECRET), ("note", &"x".repeat(3 << 20))])];
    let sent = post(&server.url("/v1/logs"), &other.ingest_key, "application/x-protobuf", logs(SECRET, refused));
    assert_eq!(send(sent).await.status, 200);
    other.flush().await;
    let admin = &server.keys.admin;
    let aside =
        async |name: &str| two.with("GET", &format!("/api/v1/projects/{name}/set-aside"), admin, &Value::Null).await;
    let kept = aside("other").await.json();
    let id = kept["items"][0]["id"].as_str().unwrap_or_else(|| panic!("{kept}")).to_owned();
    assert!(!shows(&aside("default").await));
    let retried = two.with("POST", "/api/v1/projects/default/set-aside/retry", admin, &json!({"ids": [id]})).await;
    assert_eq!((retried.status.as_u16(), &retried.json()["retried"]), (200, &json!(0)), "{retried:?}");
    assert_eq!(aside("other").await.json(), kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_a_grpc_call_do_not_move_its_rows() {
    let two = Two::start().await;
    let Two { own, other, server } = &two;
    let bearer = format!("Bearer {}", own.ingest_key);
    let key = other.ingest_key.as_str();
    let metadata = [
        ("x-gemba-project", "other"),
        ("gemba-project", "3"),
        ("project", "3"),
        ("x-scope-orgid", "other"),
        ("tenant", "other"),
        ("x-api-key", key),
        ("gemba-key", key),
    ];
    let paths = [LOGS.to_owned(), format!("{LOGS}?project=other"), format!("{LOGS}?key={key}")];
    let mut calls = 0;
    for path in &paths {
        for one in metadata {
            calls += 1;
            let pairs = [("gemba.project", "other"), ("project_id", "3"), ("user.id", "ann")];
            let body = logs("claims", vec![event(now_ns(), "moved", &pairs)]);
            let headers = [("authorization", bearer.as_str()), one];
            let answer = call(server.running.url(), path, &headers, 0, &body).await;
            assert_eq!(answer.trailer("grpc-status"), "0", "{path} {one:?}: {answer:?}");
        }
    }
    // Without a key of its own none of them opens anything.
    for one in metadata {
        let body = logs("claims", vec![event(now_ns(), "moved", &[])]);
        let answer = call(server.running.url(), LOGS, &[one], 0, &body).await;
        assert_eq!(answer.trailer("grpc-status"), "16", "{one:?}: {answer:?}");
    }
    server.flush().await;
    let rows = "SELECT count() FROM events WHERE name = 'moved' AND project";
    assert_eq!((server.number(&format!("{rows} = 1")).await, server.number(&format!("{rows} != 1")).await), (calls, 0));
}
