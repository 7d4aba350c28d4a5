//! Scope across services, over real sockets: an axum server inside the layer, clients that send, leave and lie.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here ends the test")]

mod support;

use axum::Router;
use axum::extract::MatchedPath;
use axum::routing::get;
use gemba::web::{Layer, propagate};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use support::{attributes, bodies, flush, text};
use tokio::sync::Notify;

const SECRET: &str = "x-from-our-own";

/// Starts recording to a server of this test, once.
fn start() {
    static GUARD: OnceLock<gemba::Guard> = OnceLock::new();
    GUARD.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::thread::spawn(move || support::serve(&stream.unwrap()));
            }
        });
        let config = gemba::Config::new("web-test").endpoint(endpoint).without_environment();
        config.baggage_to(["orders.internal", ".trusted.example", "localhost", "[::1]"]).start().unwrap()
    });
}

/// A server on a runtime of its own; `entered` is told when a handler that never answers has begun.
fn serve(entered: &Arc<Notify>) -> SocketAddr {
    let entered = Arc::clone(entered);
    let layer = Layer::new()
        .route(|request| Some(request.extensions.get::<MatchedPath>()?.as_str().to_owned()))
        .trust(|request| request.headers.contains_key(SECRET))
        .identify(|request, scope| match request.headers.get("x-user") {
            Some(user) => scope.user(user.to_str().unwrap()),
            None => scope,
        });
    let router = Router::new()
        .route(
            "/orders/{id}",
            get(|| async {
                gemba::feature!("web.order");
                "done"
            }),
        )
        .route(
            "/next",
            get(|| async {
                let mut headers = http::HeaderMap::new();
                propagate("example.com", &mut headers);
                headers["traceparent"].to_str().unwrap().to_owned()
            }),
        )
        .route(
            "/forward",
            get(|headers: http::HeaderMap| async move { ask_by_reqwest(headers["x-next"].to_str().unwrap()).await }),
        )
        .route("/broken", get(|| async { http::StatusCode::SERVICE_UNAVAILABLE }))
        .route("/panics", get(|| async { assert!(std::hint::black_box(false), "on purpose") }))
        .route(
            "/never",
            get(move || async move {
                gemba::attempt!("web.never")
                    .run_async(async {
                        entered.notify_one();
                        std::future::pending::<()>().await;
                    })
                    .await;
            }),
        )
        .layer(layer);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
    });
    address
}

/// Asks the next service for `url`, as the documentation of [`propagate`] says for reqwest.
async fn ask_by_reqwest(url: &str) -> String {
    // Whatever proxy the environment of the test names, the server is here.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(url).header(SECRET, "1").build().unwrap();
    let host = request.url().host_str().unwrap_or_default().to_owned();
    propagate(&host, request.headers_mut());
    client.execute(request).await.unwrap().text().await.unwrap()
}

/// Sends a request and leaves the connection open.
fn send(server: SocketAddr, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n{headers}\r\n").unwrap();
    stream
}

/// Sends a request and reads the answer to its end; its status, 0 when the connection was closed without one.
fn get_status(server: SocketAddr, path: &str, headers: &str) -> u16 {
    let mut reader = BufReader::new(send(server, path, headers));
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    reader.read_to_end(&mut Vec::new()).unwrap();
    status
}

/// Server spans of a user, oldest first.
fn spans_of(user: &str) -> Vec<Span> {
    let requests: Vec<ExportTraceServiceRequest> = bodies("/v1/traces");
    let scopes = requests.into_iter().flat_map(|request| request.resource_spans).flat_map(|spans| spans.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans);
    let mut spans: Vec<_> =
        spans.filter(|span| text(&attributes(span.attributes.clone()), "user.id") == user).collect();
    spans.sort_by_key(|span| span.start_time_unix_nano);
    spans
}

/// The span of a user whose connection ends before the server has dropped the handler.
fn await_span_of(user: &str) -> Span {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        flush();
        if let Some(span) = spans_of(user).pop() {
            return span;
        }
        assert!(Instant::now() < deadline, "the handler was not dropped");
        // The server has its own time to notice.
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn records_of(user: &str, event: &str) -> Vec<LogRecord> {
    let requests: Vec<ExportLogsServiceRequest> = bodies("/v1/logs");
    let scopes = requests.into_iter().flat_map(|request| request.resource_logs).flat_map(|logs| logs.scope_logs);
    let records = scopes.flat_map(|scope| scope.log_records).filter(|record| record.event_name == event);
    records.filter(|record| text(&attributes(record.attributes.clone()), "user.id") == user).collect()
}

fn status_of(span: &Span) -> String {
    let of = attributes(span.attributes.clone());
    of.get("http.response.status_code").map_or(String::new(), |status| format!("{status:?}"))
}

#[test]
fn a_request_becomes_one_server_span_with_route_and_person_and_what_runs_inside_belongs_to_it() {
    start();
    let server = serve(&Arc::default());
    assert_eq!(get_status(server, "/orders/17?secret=1", "x-user: ann\r\n"), 200);
    assert_eq!(get_status(server, "/broken", "x-user: ann\r\n"), 503);
    flush();
    let spans = spans_of("ann");
    let names: Vec<_> = spans.iter().map(|span| (span.name.as_str(), span.kind, status_of(span))).collect();
    assert_eq!(
        names,
        [("GET /orders/{id}", 2, "IntValue(200)".to_owned()), ("GET /broken", 2, "IntValue(503)".to_owned())]
    );
    assert_eq!(text(&attributes(spans[0].attributes.clone()), "http.route"), "/orders/{id}");
    assert_eq!(spans[0].parent_span_id, Vec::<u8>::new());
    assert_ne!(spans[0].trace_id, spans[1].trace_id);
    assert_eq!(spans[0].status, None);
    assert_eq!(spans[1].status.as_ref().unwrap().code, 2);
    let used = records_of("ann", "gemba.feature.used");
    assert_eq!((&used[0].trace_id, &used[0].span_id), (&spans[0].trace_id, &spans[0].span_id));
}

#[test]
fn a_stranger_cannot_say_who_he_is_or_where_he_comes_from() {
    start();
    let server = serve(&Arc::default());
    let lies = "x-user: bob\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
        baggage: user.id=admin,gemba.tenant=acme,session.id=s\r\n";
    assert_eq!(get_status(server, "/orders/1", lies), 200);
    flush();
    let spans = spans_of("bob");
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].parent_span_id, Vec::<u8>::new());
    assert_ne!(spans[0].trace_id[..2], [0x0a, 0xf7]);
    let said = attributes(spans[0].attributes.clone());
    assert_eq!((text(&said, "gemba.tenant"), text(&said, "session.id")), ("", ""));
    assert!(spans_of("admin").is_empty());
}

#[test]
fn one_service_hands_trace_and_identity_to_the_next_and_only_to_listed_hosts() {
    start();
    let server = serve(&Arc::default());
    // What the first service would send from inside a request of its own.
    let headers_for = |host: &str| {
        let mut headers = http::HeaderMap::new();
        gemba::scope().user("eve, the 1st").session("very secret").tenant("acme").run(|| propagate(host, &mut headers));
        headers
    };
    let headers = headers_for("Orders.internal");
    let baggage = headers["baggage"].to_str().unwrap();
    assert!(!baggage.contains("secret"), "{baggage}");
    for stranger in ["example.com", "orders.internal.example.com", "untrusted.example"] {
        assert!(!headers_for(stranger).contains_key("baggage"), "{stranger}");
    }
    assert!(headers_for("a.trusted.example").contains_key("baggage"));

    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(get_status(server, "/orders/2", &format!("{SECRET}: 1\r\n{trace}\r\nbaggage: {baggage}\r\n")), 200);
    gemba::scope().user("eve, the 1st").session("very secret").run(|| gemba::feature!("web.first"));
    flush();
    let spans = spans_of("eve, the 1st");
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].trace_id[..2], [0x0a, 0xf7]);
    assert_eq!(spans[0].parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    let said = attributes(spans[0].attributes.clone());
    assert_eq!(text(&said, "gemba.tenant"), "acme");
    // Both services send the same hash of the session.
    let first = attributes(records_of("eve, the 1st", "gemba.feature.used").pop().unwrap().attributes);
    assert_eq!(text(&said, "session.id"), text(&first, "session.id"));
    assert_eq!(text(&said, "session.id").len(), 32);

    // A trusted sender that is not ours means the session itself, whatever it looks like.
    let session = "0123456789abcdef0123456789abcdef";
    let theirs = format!("{SECRET}: 1\r\nbaggage: user.id=eva,session.id={session}\r\n");
    assert_eq!(get_status(server, "/orders/3", &theirs), 200);
    gemba::scope().user("evi").session(session).run(|| gemba::feature!("web.hashed"));
    flush();
    let said = attributes(spans_of("eva").pop().unwrap().attributes);
    let own = attributes(records_of("evi", "gemba.feature.used").pop().unwrap().attributes);
    assert_ne!(text(&said, "session.id"), session);
    assert_eq!(text(&said, "session.id"), text(&own, "session.id"));
}

#[test]
fn headers_that_a_service_hands_on_do_not_let_their_sender_say_who_he_is() {
    start();
    let theirs = ["user.id=admin;gemba, keep=1;x", "gemba.tenant=evil;gemba", "session.id = 7", "other=2"];
    let handed_on = |user: &str, host: &str| {
        let mut headers = http::HeaderMap::new();
        for list in theirs {
            headers.append("baggage", list.parse().unwrap());
        }
        gemba::scope().user(user).run(|| propagate(host, &mut headers));
        headers.get_all("baggage").iter().map(|list| list.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // What is ours comes first, since a reader may look at so many members and no more.
    assert_eq!(handed_on("eve", "orders.internal"), ["user.id=eve;gemba", " keep=1;x", "other=2"]);
    assert_eq!(handed_on("", "orders.internal"), [" keep=1;x", "other=2"]);
    assert_eq!(handed_on("eve", "example.com"), [" keep=1;x", "other=2"]);
}

/// Gives the headers of the request as those of the answer.
struct Mirror;

impl tower_service::Service<http::Request<()>> for Mirror {
    type Response = http::HeaderMap;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<http::HeaderMap, std::convert::Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<()>) -> Self::Future {
        std::future::ready(Ok(request.headers().clone()))
    }
}

#[test]
fn a_clients_layer_knows_the_host_by_the_address_or_the_header() {
    use tower_layer::Layer as _;
    use tower_service::Service as _;
    start();
    let baggage = |address: &str, host: &str| {
        let request = http::Request::get(address).header("host", host).body(()).unwrap();
        let mut client = gemba::web::ClientLayer::new().layer(Mirror);
        let headers = gemba::scope().user("eve").run(|| client.call(request).into_inner()).unwrap();
        headers.contains_key("baggage")
    };
    assert!(baggage("http://orders.internal/", "example.com"));
    assert!(baggage("/", "orders.internal"));
    assert!(baggage("/", "orders.internal:8080"));
    assert!(baggage("/", "[::1]:8080"));
    assert!(!baggage("/", "example.com"));
    assert!(!baggage("/", "orders.internal@example.com"));
}

/// What a handler behind the layer would hand on as `traceparent`.
fn handed_on(server: SocketAddr, headers: &str) -> String {
    let mut answer = String::new();
    send(server, "/next", headers).read_to_string(&mut answer).unwrap();
    answer.lines().last().unwrap().to_owned()
}

#[test]
fn the_sampled_flag_of_a_trusted_sender_is_handed_on_and_a_trace_that_begins_here_is_sampled() {
    start();
    let server = serve(&Arc::default());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
    for (sent, handed) in [("00", "00"), ("01", "01"), ("02", "00"), ("03", "01")] {
        let headers = format!("{SECRET}: 1\r\ntraceparent: {trace}-{sent}\r\n");
        let next = handed_on(server, &headers);
        assert!(next.starts_with(&trace[..36]) && next.ends_with(&format!("-{handed}")), "{sent}: {next}");
    }
    let stranger = handed_on(server, &format!("traceparent: {trace}-00\r\n"));
    assert!(!stranger.starts_with(&trace[..36]) && stranger.ends_with("-01"), "{stranger}");
}

#[test]
fn when_the_client_leaves_the_attempt_is_cancelled_and_the_server_did_not_fail() {
    start();
    let entered = Arc::new(Notify::new());
    let server = serve(&entered);
    let client = send(server, "/never", "x-user: joe\r\n");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(entered.notified());
    drop(client);
    let span = await_span_of("joe");
    assert_eq!((span.name.as_str(), status_of(&span), span.status), ("GET /never", String::new(), None));
    assert_eq!(text(&attributes(span.attributes), "error.type"), "client_left");
    let ended = attributes(records_of("joe", "gemba.feature.ended").pop().unwrap().attributes);
    assert_eq!(text(&ended, "gemba.outcome"), "cancelled");
    assert_eq!(text(&ended, "http.route"), "/never");
}

#[test]
fn a_handler_that_panics_is_a_failed_request() {
    start();
    let server = serve(&Arc::default());
    assert_eq!(get_status(server, "/panics", "x-user: pat\r\n"), 0);
    let span = await_span_of("pat");
    assert_eq!(span.status.unwrap().code, 2);
    assert_eq!(text(&attributes(span.attributes), "error.type"), "panic");
}

/// Answers with the headers it was sent, one a line; a hyper service without any framework.
#[derive(Clone)]
struct Echo;

impl<B> tower_service::Service<http::Request<B>> for Echo {
    type Response = http::Response<String>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<http::Response<String>, std::convert::Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        gemba::feature!("web.echo");
        let lines = request.headers().iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
        std::future::ready(Ok(http::Response::new(lines.collect())))
    }
}

/// The headers that arrive when `user` sends a request through the client's layer, from inside the server's.
async fn echoed(user: &str, server: SocketAddr) -> String {
    use http_body_util::BodyExt as _;
    use tower_layer::Layer as _;
    use tower_service::Service as _;
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let mut client = gemba::web::ClientLayer::new().layer(client);
    let request = http::Request::get(format!("http://localhost:{}/", server.port())).body(String::new()).unwrap();
    let work = async {
        let answer = client.call(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    };
    gemba::scope().user(user).run_async(work).await
}

#[test]
fn hyper_alone_serves_inside_the_layer_and_its_client_hands_the_scope_on() {
    start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let headers = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let layer = Layer::new().trust(|_| true).route(|_| Some("/echo".to_owned()));
        tokio::spawn(async move {
            let service = hyper_util::service::TowerToHyperService::new(tower_layer::Layer::layer(&layer, Echo));
            let (stream, _) = listener.accept().await.unwrap();
            let connection = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
            connection.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await.unwrap();
        });
        echoed("hal", address).await
    });
    assert!(headers.contains("baggage: user.id=hal;gemba\n"), "localhost is listed: {headers}");
    flush();
    let span = await_span_of("hal");
    assert_eq!((span.name.as_str(), status_of(&span)), ("GET /echo", "IntValue(200)".to_owned()));
    let used = records_of("hal", "gemba.feature.used");
    assert_eq!(used.len(), 1, "the next service knows who it was");
    assert_eq!(used[0].span_id, span.span_id);
}

#[test]
fn what_reqwest_sends_by_the_documented_recipe_goes_on_in_the_same_trace_and_with_the_same_person() {
    start();
    let (first, second) = (serve(&Arc::default()), serve(&Arc::default()));
    // By its name the second is listed, by its number it is a stranger.
    for next in [format!("localhost:{}", second.port()), second.to_string()] {
        let headers = format!("x-user: rex\r\nx-next: http://{next}/orders/7\r\n");
        assert_eq!(get_status(first, "/forward", &headers), 200);
    }
    flush();
    let spans = spans_of("rex");
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["GET /forward", "GET /orders/{id}", "GET /forward"]);
    assert_eq!((&spans[1].trace_id, &spans[1].parent_span_id), (&spans[0].trace_id, &spans[0].span_id));
    let used = records_of("rex", "gemba.feature.used");
    assert_eq!(used.len(), 1, "the next service knows who it was, when it may");
    assert_eq!((&used[0].trace_id, &used[0].span_id), (&spans[1].trace_id, &spans[1].span_id));
    let nobodys: Vec<_> =
        spans_of("").into_iter().filter(|span| span.parent_span_id == spans[2].span_id).map(|span| span.name).collect();
    assert_eq!(nobodys, ["GET /orders/{id}"], "a trace names nobody and goes to every host");
}
