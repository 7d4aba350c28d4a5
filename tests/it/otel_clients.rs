//! Applications with OpenTelemetry's own SDKs, unmodified: everything they send arrives exactly, and an ordinary web shop
//! that is instrumented from outside shows which queries its routes run.
//!
//! Statements of the OTLP specification that only a real client proves: A1, A3, A4, A8, A13, A16, A20, A31, A32 (HTTP), B1,
//! B2, B7, B8 (gRPC), C1, C3 (ids and times as SDKs write them), D1, E1, E4, E8, E10, E12 (cumulative points twice), F1, F2,
//! F3, F5, F8, F10, F11 (database conventions as instrumentations send them).

use gemba_tests::binary;
use gemba_tests::packages;
use gemba_tests::postgres::Postgres;
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use serde_json::{Map, Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What an instrumented application in Python installs.
pub(crate) const PYTHON_PACKAGES: &[&str] = &[
    "opentelemetry-sdk==1.45.1",
    "opentelemetry-exporter-otlp-proto-http==1.45.1",
    "opentelemetry-exporter-otlp-proto-grpc==1.45.1",
    "opentelemetry-distro==0.66b1",
    "opentelemetry-instrumentation-flask==0.66b1",
    "opentelemetry-instrumentation-sqlalchemy==0.66b1",
    "opentelemetry-instrumentation-psycopg2==0.66b1",
    "flask==3.1.3",
    // 2.1 is not instrumented by the version above.
    "sqlalchemy==2.0.58",
    "psycopg2-binary==2.9.13",
];
/// The JavaScript SDK and its exporters for all three protocols.
const NODE_PACKAGES: &[&str] = &[
    "@opentelemetry/api@1.9.1",
    "@opentelemetry/api-logs@0.223.1",
    "@opentelemetry/resources@2.12.1",
    "@opentelemetry/sdk-logs@0.223.1",
    "@opentelemetry/sdk-metrics@2.12.1",
    "@opentelemetry/sdk-trace-node@2.12.1",
    "@opentelemetry/exporter-logs-otlp-http@0.223.1",
    "@opentelemetry/exporter-logs-otlp-proto@0.223.1",
    "@opentelemetry/exporter-logs-otlp-grpc@0.223.1",
    "@opentelemetry/exporter-metrics-otlp-http@0.223.0",
    "@opentelemetry/exporter-metrics-otlp-proto@0.223.0",
    "@opentelemetry/exporter-metrics-otlp-grpc@0.223.0",
    "@opentelemetry/exporter-trace-otlp-http@0.223.1",
    "@opentelemetry/exporter-trace-otlp-proto@0.223.1",
    "@opentelemetry/exporter-trace-otlp-grpc@0.223.1",
];

/// Addresses of a server by protocol.
fn address(server: &Server, protocol: &str) -> String {
    match protocol {
        "grpc" => format!("http://{}", server.running.grpc_address().unwrap()),
        _ => server.running.url().to_owned(),
    }
}

/// Runs a client program to its end.
async fn run(command: Command, server: &Server, protocol: &str, service: &str) {
    run_at(command, &address(server, protocol), &server.keys.ingest, protocol, service).await;
}

/// The same, sending to an address of its own.
pub(crate) async fn run_at(mut command: Command, address: &str, key: &str, protocol: &str, service: &str) {
    command.arg(address).arg(key).arg(protocol).arg(service);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("sent"), "{service}: {out}\n{err}");
}

fn the_row_of(rows: &[Map<String, Value>], column: &str, value: &str) -> Map<String, Value> {
    let mut found = rows.iter().filter(|row| row[column] == value);
    let row = found.next().unwrap_or_else(|| panic!("no row with {column} {value}: {rows:#?}")).clone();
    assert!(found.next().is_none(), "several rows with {column} {value}: {rows:#?}");
    row
}

/// What the three programs send, as it must lie in the tables and come out of the saved questions.
pub(crate) async fn check(server: &Server, service: &str) {
    let number = async |what: &str, from: &str| {
        server.number(&format!("SELECT toUInt64({what}) FROM {from} WHERE service = '{service}'")).await
    };
    let exact = "toUnixTimestamp64Milli(time) = 1790000000000 + numbers['n'] AND numbers['share'] = numbers['n'] / 8 \
        AND bools['is_even'] = (numbers['n'] % 2 = 0) AND strings['tags'] = concat('[\"ü\",\"', toString(numbers['n']), '\"]') \
        AND name = 'page.opened' AND release = '7'";
    assert_eq!(number("count()", "events").await, 700, "{service}");
    assert_eq!(number("uniqExact(numbers['n'])", "events").await, 700, "{service}");
    assert_eq!(number(&format!("countIf({exact})"), "events").await, 700, "{service}");
    assert_eq!(number("uniqExact(unit)", "events").await, 7, "{service}");
    assert_eq!(number("count()", "query_samples").await, 300, "{service}");
    assert_eq!(number("uniqExact(rows)", "query_samples").await, 300, "{service}");
    assert_eq!(number("uniqExact(trace_id)", "query_samples").await, 100, "{service}");
    assert_eq!(number("count()", "requests").await, 100, "{service}");

    let project = Project::default_of(server.running.inner_url(), &server.keys);
    let rows = project.ask("slow_queries", &[("service", service)]).await;
    assert_eq!(rows.len(), 2, "{service}: {rows:#?}");
    let spans = the_row_of(&rows, "system", "postgresql");
    assert_eq!(
        (&spans["calls"], &spans["sources"], &spans["text"], &spans["routes"]),
        (&json!(300), &json!(["span"]), &json!("SELECT * FROM orders WHERE id = ?"), &json!(["/orders/{id}"])),
        "{service}"
    );
    let points = the_row_of(&rows, "system", "mysql");
    assert_eq!((&points["calls"], &points["sources"]), (&json!(500), &json!(["metric"])), "{service}: {points:?}");
    assert!((points["duration_ms_total"].as_f64().unwrap() - 124_750.0).abs() < 0.01, "{service}: {points:?}");
    let routes = project.ask("requests_by_route", &[("service", service)]).await;
    assert_eq!((routes.len(), &routes[0]["requests"]), (1, &json!(100)), "{service}");
}

/// The books of a server: so many plain log lines were refused, and nothing is unexplained.
async fn check_books(server: &Server, refused: u64) {
    let losses = Project::default_of(server.running.inner_url(), &server.keys).ask("losses", &[]).await;
    let records = |term: &str| -> u64 {
        losses.iter().filter(|row| row["term"] == term).map(|row| row["records"].as_u64().unwrap()).sum()
    };
    let found = ["rejected", "set_aside", "deduplicated", "unexplained"].map(records);
    assert_eq!(found, [refused, 0, 0, 0], "{losses:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_the_python_sdk_sends_arrives_exactly() {
    let server = Server::start().await;
    let packages = packages::python(PYTHON_PACKAGES);
    for (protocol, service) in [("http/protobuf", "python_http"), ("grpc", "python_grpc")] {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &packages).arg(packages::script("otel.py"));
        run(python, &server, protocol, service).await;
        server.flush().await;
        check(&server, service).await;
    }
    check_books(&server, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_the_javascript_sdk_sends_arrives_exactly() {
    let server = Server::start().await;
    let script = packages::node_script(&packages::node(NODE_PACKAGES), "otel.mjs");
    for (protocol, service) in [("http/json", "node_json"), ("http/protobuf", "node_protobuf"), ("grpc", "node_grpc")] {
        let mut node = Command::new("node");
        node.arg(&script);
        run(node, &server, protocol, service).await;
        server.flush().await;
        check(&server, service).await;
    }
    check_books(&server, 9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_the_rust_sdk_sends_arrives_exactly() {
    let server = Server::start().await;
    for (protocol, service) in [("http/json", "rust_json"), ("http/protobuf", "rust_protobuf"), ("grpc", "rust_grpc")] {
        run(Command::new(binary::otel_rust()), &server, protocol, service).await;
        server.flush().await;
        check(&server, service).await;
    }
    check_books(&server, 9).await;
}

/// The shop of `clients/shop.py` under `opentelemetry-instrument`.
struct Shop {
    process: Child,
    address: String,
}

impl Shop {
    fn start(database: &Path, variables: &[(&str, &str)]) -> Self {
        let packages = packages::python(PYTHON_PACKAGES);
        let mut command = Command::new("python3");
        command.arg(packages.join("bin/opentelemetry-instrument"));
        command.arg("python3").arg(packages::script("shop.py")).arg(database);
        command.env("PYTHONPATH", &packages).envs(variables.iter().copied());
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("http://"), "the shop said {line:?}: {:?}", process.wait_with_output());
        Self { process, address: line.trim().to_owned() }
    }

    /// Answers the status.
    fn ask(&self, method: &str, path: &str) -> u16 {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let url = format!("{}{path}", self.address);
        let answer = if method == "POST" { agent.post(&url).send_empty() } else { agent.get(&url).call() };
        answer.unwrap().status().as_u16()
    }

    /// Ends it in order, so that it sends what it still has.
    fn stop(self) {
        let output = self.process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What the shop's visitors do: 20 orders made, one of them twice, 10 looked at, all of one buyer listed twice.
fn visit(shop: &Shop) {
    for number in 1..=20 {
        assert_eq!(shop.ask("POST", &format!("/orders/{number}")), 201);
    }
    assert_eq!(shop.ask("POST", "/orders/7"), 409);
    for number in 1..=10 {
        assert_eq!(shop.ask("GET", &format!("/orders/{number}")), 200);
    }
    for _ in 0..2 {
        assert_eq!(shop.ask("GET", "/buyers/ann"), 200);
    }
    assert_eq!(shop.ask("GET", "/broken"), 500);
}

/// Each query is there once, with all its calls, its text without values, its errors and its route.
async fn check_shop(server: &Server, service: &str) {
    let project = Project::default_of(server.running.inner_url(), &server.keys);
    let rows = project.ask("slow_queries", &[("service", service)]).await;
    let of = |start: &str| {
        let found: Vec<_> = rows.iter().filter(|row| row["text"].as_str().unwrap().starts_with(start)).collect();
        assert_eq!(found.len(), 1, "{service}: {start}: {rows:#?}");
        let row = found[0];
        assert_eq!((&row["system"], &row["sources"]), (&json!("postgresql"), &json!(["span"])), "{service}: {row:?}");
        assert!(!row["summary"].as_str().unwrap().is_empty(), "{row:?}");
        (row["calls"].as_u64().unwrap(), row["errors"].as_u64().unwrap(), row["routes"].clone())
    };
    assert_eq!(of("INSERT INTO orders"), (21, 1, json!(["/orders/<int:number>"])));
    assert_eq!(of("SELECT orders.id"), (10, 0, json!(["/orders/<int:number>"])));
    assert_eq!(of("SELECT id FROM orders WHERE buyer = ?"), (2, 0, json!(["/buyers/<name>"])));
    assert_eq!(of("SELECT buyer FROM orders WHERE id = ?"), (40, 0, json!(["/buyers/<name>"])));
    assert!(rows.iter().all(|row| !row["text"].as_str().unwrap().contains("ann")), "{rows:#?}");

    let routes = project.ask("requests_by_route", &[("service", service)]).await;
    let mut found: Vec<_> = routes
        .iter()
        .map(|row| {
            let text = |column: &str| row[column].as_str().unwrap().to_owned();
            (text("method"), text("route"), row["requests"].as_u64().unwrap(), row["failed"].as_u64().unwrap())
        })
        .collect();
    found.sort();
    let expected = [
        ("GET", "/broken", 1, 1),
        ("GET", "/buyers/<name>", 2, 0),
        ("GET", "/orders/<int:number>", 10, 0),
        ("POST", "/orders/<int:number>", 21, 0),
    ];
    let expected = expected.map(|(method, route, all, failed)| (method.to_owned(), route.to_owned(), all, failed));
    assert_eq!(found, expected, "{service}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instrumented_shop_shows_its_queries_once_with_calls_errors_and_routes() {
    let server = Server::start().await;
    let headers = format!("authorization=Bearer%20{}", server.keys.ingest);
    // By default instrumentations send the old names; with `/dup` both. No language has more of both than Python.
    for (protocol, names, service) in [
        ("http/protobuf", "", "shop_old"),
        ("grpc", "database,http", "shop_new"),
        ("grpc", "database/dup,http/dup", "shop_dup"),
    ] {
        let address = address(&server, protocol);
        let variables = [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", headers.as_str()),
            ("OTEL_SERVICE_NAME", service),
            ("OTEL_SEMCONV_STABILITY_OPT_IN", names),
        ];
        tokio::task::block_in_place(|| {
            let postgres = Postgres::start();
            let shop = Shop::start(postgres.socket(), &variables);
            visit(&shop);
            shop.stop();
        });
        server.flush().await;
        check_shop(&server, service).await;
    }
}
