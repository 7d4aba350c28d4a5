//! A key opens its own project and nothing else: every route, every parameter and every saved query is tried.
//!
//! Routes are read from the source of the router and queries from the catalogue, so that a new one is either tried here or
//! fails here.

use gemba_ingest::store::export::TABLES;
use gemba_queries::Catalog;
use gemba_tests::client::{Answer, bare, post, send};
use gemba_tests::export::{event, logs, now_ns, query_span, traces};
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

const PROTOBUF: &str = "application/x-protobuf";
/// Text that stands in everything the other project sends.
const SECRET: &str = "secret_of_the_other_project";

/// Which key a route under `/api/v1/` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Any,
    Read,
    Admin,
}

/// Methods and paths.
type Requests = &'static [(&'static str, &'static str)];

/// Every first segment below `/api/v1/` with the requests it is tried with.
const ROUTES: &[(&str, Takes, Requests)] = &[
    ("flush", Takes::Any, &[("POST", "flush")]),
    ("queries", Takes::Read, &[("GET", "queries"), ("GET", "queries/feature_usage")]),
    ("funnel", Takes::Read, &[("POST", "funnel")]),
    ("saved", Takes::Read, &[("GET", "saved")]),
    ("cohorts", Takes::Read, &[("GET", "cohorts")]),
    ("export", Takes::Read, &[("GET", "export/events")]),
    ("fingerprint", Takes::Read, &[("POST", "fingerprint")]),
    ("project", Takes::Read, &[("GET", "project")]),
    (
        "projects",
        Takes::Admin,
        &[
            ("GET", "projects"),
            ("POST", "projects"),
            ("DELETE", "projects/other"),
            ("POST", "projects/other/rotate"),
            ("POST", "projects/other/forget"),
            ("POST", "projects/other/limits"),
            ("POST", "projects/other/retention"),
            ("POST", "projects/other/origins"),
            ("GET", "projects/other/usage"),
            ("GET", "projects/other/set-aside"),
            ("POST", "projects/other/set-aside/retry"),
            ("GET", "projects/other/filter"),
        ],
    ),
    ("backups", Takes::Admin, &[("POST", "backups")]),
    ("audit", Takes::Admin, &[("GET", "audit")]),
];

/// The first segments that the router of the API knows, read from its source.
fn routed() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ingest/src/http/route.rs");
    let text = std::fs::read_to_string(file).unwrap();
    let api = text.split("async fn api(").nth(1).and_then(|rest| rest.split("\n}\n").next()).unwrap();
    let arms = api.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once('"'));
    arms.filter(|(_, rest)| rest.contains("=>")).map(|(name, _)| name.to_owned()).collect()
}

/// A key of the other project's kind and of each role of the own one, and whether the route takes it.
async fn with_key(server: &Server, method: &str, path: &str, key: Option<&str>) -> Answer {
    let mut request = bare(method, &server.url(&format!("/api/v1/{path}")), key);
    if method == "POST" {
        *request.body_mut() = "{}".into();
    }
    send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_api_takes_its_role_and_refuses_all_others() {
    let listed: BTreeSet<String> = ROUTES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(listed, routed(), "a route that is not tried here");
    let server = Server::start().await;
    Project::create(server.running.url(), &server.keys, "other").await;
    let keys = &server.keys;
    for (_, takes, requests) in ROUTES {
        for (method, path) in *requests {
            for wrong in [None, Some("gr_unknown"), Some("")] {
                assert_eq!(with_key(&server, method, path, wrong).await.status, 401, "{method} {path} {wrong:?}");
            }
            for (key, role) in [(&keys.ingest, Takes::Any), (&keys.read, Takes::Read), (&keys.admin, Takes::Admin)] {
                if *takes == Takes::Any || *takes == role {
                    continue;
                }
                let answer = with_key(&server, method, path, Some(key)).await;
                assert_eq!(answer.status, 403, "{method} {path} with {role:?}: {answer:?}");
                assert_eq!(answer.json()["error"]["code"], "wrong_key_role");
            }
        }
    }
    // Data goes in with an ingest key alone.
    for path in ["/v1/logs", "/v1/traces", "/v1/metrics"] {
        for key in [&keys.read, &keys.admin] {
            assert_eq!(send(post(&server.url(path), key, PROTOBUF, "")).await.status, 403, "{path}");
        }
    }
    assert_eq!(
        with_key(&server, "GET", "projects", Some(&keys.admin)).await.json()["projects"].as_array().unwrap().len(),
        3
    );
}

/// Everything a project can send, with a text in every place that takes one.
async fn fill(project: &Project, text: &str) {
    let at = now_ns();
    let records = [
        ("gemba.feature.used", vec![("gemba.feature.name", "search")]),
        ("gemba.feature.started", vec![("gemba.feature.name", "export"), ("gemba.attempt.id", "0102030405060708")]),
        ("gemba.funnel.step", vec![("gemba.funnel.name", "checkout"), ("gemba.step.name", "cart")]),
        ("gemba.identify", vec![]),
        ("gemba.user.set", vec![]),
        (text, vec![]),
    ];
    let records = records.into_iter().map(|(name, mut pairs)| {
        pairs.extend([("user.id", text), ("session.id", text), ("gemba.tenant", text), ("note", text)]);
        event(at, name, &pairs)
    });
    let service = format!("service-{text}");
    project.send("/v1/logs", vec![logs(&service, records.collect())]).await;
    let span = query_span(1, at - 1_000_000_000, 900_000_000, "postgresql", &format!("SELECT {text} FROM t"));
    project.send("/v1/traces", vec![traces(&service, vec![span])]).await;
    project.flush().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_parameter_export_or_funnel_of_one_project_shows_another_s_data() {
    let server = Server::start().await;
    let own = Project::default_of(server.running.url(), &server.keys);
    let other = Project::create(server.running.url(), &server.keys, "other").await;
    fill(&own, "of_our_own").await;
    fill(&other, SECRET).await;
    let projects = send(bare("GET", &server.url("/api/v1/projects"), Some(&server.keys.admin))).await.json();
    let number = projects["projects"][2]["id"].as_u64().unwrap().to_string();
    let shows = |answer: &Answer| String::from_utf8_lossy(&answer.body).contains(SECRET);

    let mut seen = false;
    let check = |answer: &Answer, what: &str, may_echo: bool| {
        assert!([200, 400, 404].contains(&answer.status.as_u16()), "{what}: {answer:?}");
        assert!(may_echo && answer.status == 400 || !shows(answer), "{what} shows the other project: {answer:?}");
    };
    for query in Catalog::builtin().unwrap().iter() {
        let path = format!("/api/v1/queries/{}", query.name);
        let of_other = other.get(&path).await;
        seen |= shows(&of_other);
        check(&own.get(&path).await, &query.name, false);
        // The number, under any name, and in place of every parameter.
        for name in ["project", "project_id", "tenant_id", "param_project", "database", "user", "query"] {
            check(&own.get(&format!("{path}?{name}={number}")).await, &format!("{path} {name}"), false);
        }
        for param in &query.params {
            for value in [
                &number,
                SECRET,
                "x'%20OR%20project%20%3D%203%20--",
                "1)%20UNION%20ALL%20SELECT%20*%20FROM%20events%20--",
                "%5C%27%20OR%201=1",
                "{project:UInt32}",
            ] {
                let what = format!("{path}?{}={value}", param.name);
                check(&own.get(&what).await, &what, true);
            }
        }
    }
    assert!(seen, "the other project's own answers hold the text");
    for table in TABLES {
        for more in ["", "?project=3", "?project=3&tz=UTC&format=csv"] {
            let path = format!("/api/v1/export/{}{more}", table.name);
            check(&own.get(&path).await, &path, false);
        }
    }
    assert!(shows(&other.get("/api/v1/export/events").await));
    for name in ["../events", "control", "units", "ledger", "events%20WHERE%201", "system.tables"] {
        assert_eq!(own.get(&format!("/api/v1/export/{name}")).await.status, 404, "{name}");
    }
    for question in [
        json!({"steps": [{"event": "search"}, {}], "breakdown": "note"}),
        json!({"steps": [{"event": "search"}, {}], "breakdown": "user.id", "count_by": "tenant"}),
        json!({"steps": [{"event": format!("event:{SECRET}")}, {}]}),
        json!({"steps": [{"event": "x' OR project = 3 --"}, {"event": "search"}], "breakdown": "note"}),
        json!({"steps": [{"event": "search", "where": {"note' OR '1": "x"}}, {}], "breakdown": "a'] OR project = 3"}),
        json!({"steps": [{"event": "search"}, {}], "project": 3}),
    ] {
        let url = server.url("/api/v1/funnel");
        let answer = send(post(&url, &own.read_key, "application/json", question.to_string())).await;
        assert!([200, 400].contains(&answer.status.as_u16()), "{question}: {answer:?}");
        let counted = answer.json()["steps"][0]["count"].as_u64().unwrap_or(0);
        let echoes = question.to_string().contains(SECRET);
        assert!((echoes && counted == 0) || !shows(&answer), "{question}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sender_says_of_projects_does_not_move_its_rows() {
    let server = Server::start().await;
    let other = Project::create(server.running.url(), &server.keys, "other").await;
    let pairs = [("gemba.project", "other"), ("project", "3"), ("project_id", "3"), ("user.id", "ann")];
    let body = logs("claims", vec![event(now_ns(), "moved", &pairs)]);
    let url = server.url("/v1/logs?project=other");
    let mut request = post(&url, &server.keys.ingest, PROTOBUF, body);
    request.headers_mut().insert("x-gemba-project", "other".parse().unwrap());
    assert_eq!(send(request).await.status, 200);
    // The same key of a batch in two projects is two batches.
    for key in [&server.keys.ingest, &other.ingest_key] {
        let mut request = post(&server.url("/v1/logs"), key, PROTOBUF, logs("claims", vec![event(1, "twice", &[])]));
        request.headers_mut().insert("idempotency-key", "one-and-the-same".parse().unwrap());
        assert_eq!(send(request).await.status, 200);
    }
    server.flush().await;
    let rows = "SELECT count() FROM events WHERE name = 'moved' AND project = ";
    assert_eq!((server.number(&format!("{rows}1")).await, server.number(&format!("{rows}3")).await), (1, 0));
    assert_eq!(server.number("SELECT count() FROM events WHERE name = 'twice'").await, 2);
    assert_eq!(server.number("SELECT uniqExact(project) FROM events WHERE name = 'twice'").await, 2);
    // One person in both is two people to anybody who sees both.
    other.send("/v1/logs", vec![logs("claims", vec![event(now_ns(), "moved", &[("user.id", "ann")])])]).await;
    other.flush().await;
    assert_eq!(server.number("SELECT uniqExact(unit) FROM events WHERE name = 'moved'").await, 2);
}
