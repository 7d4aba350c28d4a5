//! What the server says to OTLP over HTTP: statements of the OTLP specification, each as a claim.
//!
//! Which claims cover which statements of the checklist (ids as there):
//! * A, HTTP: this file (A1 to A11, A13 to A17, A19 to A22, A24 to A30, A33, A34); `otlp/tests/responses.rs` of the server for
//!   the bodies of answers (A13, A14, A16, A18, A20, A21, A25); `serve_cli.rs` and `config.rs` for defaults (A11, A29);
//!   `otel_clients.rs` for what only real clients show (A3, A4, A12, A23, A31, A32); A22 again in `durability_outage.rs`.
//! * B, gRPC: `protocol_grpc.rs`, and `otel_clients.rs` (B1, B2, B7).
//! * C, JSON; D, logs; E, resources, spans, points; F, databases; G, users, sessions, flags: the tests in `otlp/tests` of
//!   the server, whose names begin with the statements' ids; what instrumentations really send: `otel_clients.rs` (D1, E1,
//!   E8, E10, E12, F1, F2, F3, F5, F8, F10, F11).

use bytes::Bytes;
use gemba_tests::client::{bare, post, send, send_all, send_h2, send_raw};
use gemba_tests::export::{events, events_json, gunzip, gzip};
use gemba_tests::server::Server;
use http_body_util::Full;
use hyper::body::Frame;
use hyper::{Request, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message as _;
use serde_json::json;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const PATHS: [&str; 3] = ["/v1/logs", "/v1/traces", "/v1/metrics"];

/// `google.rpc.Status`: the message is field 2.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_in_either_encoding_can_be_queried_after_a_flush() {
    let server = Server::start().await;
    let answer = server.send_logs(events(&["sign_up", "pay"], "m")).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, PROTOBUF));
    assert!(answer.body.is_empty(), "full success in protobuf is the empty message");
    let answer = send(post(&server.url("/v1/logs"), &server.keys.ingest, JSON, events_json(&["pay"], "m"))).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, JSON));
    assert_eq!(answer.json(), json!({}));
    server.flush().await;
    assert_eq!(server.number("SELECT count() FROM events WHERE name = 'pay'").await, 2);
    assert_eq!(server.number("SELECT count() FROM events WHERE strings['marker'] = 'm'").await, 3);
    assert!(server.running.stop().await, "everything acknowledged is stored when the server has stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_request_succeeds_on_every_path() {
    let server = Server::start().await;
    for path in PATHS {
        for (content_type, sent, expected) in [(PROTOBUF, "", ""), (JSON, "{}", "{}")] {
            let answer = send(post(&server.url(path), &server.keys.ingest, content_type, sent)).await;
            assert_eq!(answer.status, StatusCode::OK, "{path} {content_type}");
            assert_eq!(answer.body, expected, "{path} {content_type}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_types_and_encodings_are_taken_as_http_writes_them_and_others_refused_with_415() {
    let server = Server::start().await;
    let key = &server.keys.ingest;
    let url = server.url("/v1/logs");
    for (content_type, status) in [
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("text/plain", 415),
        ("application/xml", 415),
    ] {
        let answer = send(post(&url, key, content_type, "{}")).await;
        assert_eq!(answer.status, status, "{content_type}");
    }
    let body = events(&["a"], "m");
    let sends: [(&str, Vec<u8>, u16); 7] = [
        ("gzip", gzip(&body), 200),
        ("GZIP", gzip(&events(&["b"], "m")), 200),
        ("identity", events(&["c"], "m"), 200),
        ("zstd", zstd::encode_all(&events(&["d"], "m")[..], 1).unwrap(), 200),
        ("br", body.clone(), 415),
        ("gzip", gzip(&body)[..20].to_vec(), 400),
        ("zstd", body.clone(), 400),
    ];
    for (encoding, sent, status) in sends {
        let mut request = post(&url, key, PROTOBUF, sent);
        request.headers_mut().insert("content-encoding", encoding.parse().unwrap());
        let answer = send(request).await;
        assert_eq!(answer.status, status, "{encoding}");
        if status >= 400 {
            assert_eq!(answer.header("content-type"), PROTOBUF);
            assert!(!Status::decode(answer.body).unwrap().message.is_empty(), "{encoding}");
        }
    }
    server.flush().await;
    assert_eq!(server.number("SELECT count() FROM events").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_gets_413_as_sent_as_chunks_and_when_inflated() {
    let server = Server::start_with(|config| config.limits.max_body_bytes = 1 << 20).await;
    let key = &server.keys.ingest;
    let url = server.url("/v1/logs");
    let large = vec![0_u8; 2 << 20];

    let announced = send(post(&url, key, PROTOBUF, large.clone())).await;
    let mut bomb = post(&url, key, JSON, gzip(&large));
    bomb.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    let inflated = send(bomb).await;
    let pieces = (0..32).map(|_| Bytes::from(vec![0_u8; 64 << 10]));
    let chunked = Request::post(&url)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", PROTOBUF)
        .body(Pieces(pieces.collect()))
        .unwrap();
    let chunked = send(chunked).await;

    for (answer, content_type) in [(&announced, PROTOBUF), (&inflated, JSON), (&chunked, PROTOBUF)] {
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answer.header("content-type"), content_type);
        assert_eq!(answer.header("retry-after"), "", "413 is not to be sent again");
    }
    assert!(inflated.json()["message"].as_str().unwrap().contains("1048576"), "{:?}", inflated.json());
}

/// A body of unknown length that comes in pieces.
struct Pieces(VecDeque<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_what_it_needs_is_a_partial_success_with_count_and_reason() {
    let server = Server::start().await;
    let answer = server.send_logs(events(&["a", "", "b", ""], "m")).await;
    assert_eq!(answer.status, StatusCode::OK);
    let partial = ExportLogsServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_log_records, 2);
    assert!(partial.error_message.contains("event"), "{}", partial.error_message);

    let body = events_json(&["a", ""], "m");
    let answer = send(post(&server.url("/v1/logs"), &server.keys.ingest, JSON, body)).await;
    // proto3 JSON writes 64-bit integers as strings.
    assert_eq!(answer.json()["partialSuccess"]["rejectedLogRecords"], json!("1"));
    assert!(answer.json()["partialSuccess"]["errorMessage"].is_string());

    let metrics = send(bare("GET", &server.url("/metrics"), None)).await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(text.contains("gemba_records_rejected_total{reason=\"missing_event_name\"} 3\n"), "{text}");
    server.flush().await;
    assert_eq!(server.number("SELECT count() FROM events").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn undecodable_data_gets_400_with_a_status_in_the_request_s_type() {
    let server = Server::start().await;
    for path in PATHS {
        for (content_type, garbage) in [(PROTOBUF, "\u{7}garbage"), (JSON, "{\"resourceLogs\": 7"), (JSON, "[]")] {
            let answer = send(post(&server.url(path), &server.keys.ingest, content_type, garbage)).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {content_type}");
            assert_eq!(answer.header("content-type"), content_type);
            let message = if content_type == JSON {
                answer.json()["message"].as_str().unwrap().to_owned()
            } else {
                Status::decode(answer.body).unwrap().message
            };
            assert!(!message.is_empty(), "{path} {content_type}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_methods_and_paths_are_told_apart() {
    let server = Server::start().await;
    let key = Some(server.keys.ingest.as_str());
    for (method, path, status) in [
        ("GET", "/v1/logs", 405),
        ("PUT", "/v1/traces", 405),
        ("POST", "/v1development/profiles", 404),
        ("POST", "/v1/other", 404),
        ("GET", "/api/v1/nothing", 404),
        ("POST", "/healthz", 405),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
    ] {
        let answer = send(bare(method, &server.url(path), key)).await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let mut request = bare("GET", &server.url("/v1/logs"), key);
    request.headers_mut().insert("content-type", PROTOBUF.parse().unwrap());
    let answer = send(request).await;
    assert_eq!((answer.header("content-type"), answer.header("allow")), (PROTOBUF, "POST, OPTIONS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_wrong_key_gets_401_and_a_key_of_another_role_403_with_typed_bodies() {
    let server = Server::start().await;
    let url = server.url("/v1/logs");
    for (key, status) in [("gi_wrong", 401), (server.keys.read.as_str(), 403), (server.keys.admin.as_str(), 403)] {
        for content_type in [PROTOBUF, JSON] {
            let answer = send(post(&url, key, content_type, events(&["a"], "m"))).await;
            assert_eq!(answer.status, status, "{key}");
            assert_eq!(answer.header("content-type"), content_type);
            assert_eq!(answer.header("www-authenticate"), if status == 401 { "Bearer" } else { "" });
            if content_type == PROTOBUF {
                assert!(!Status::decode(answer.body).unwrap().message.is_empty());
            } else {
                assert!(answer.json()["message"].is_string());
            }
        }
    }
    assert_eq!(send(bare("POST", &url, None)).await.status, 401);
    let mut in_the_url = post(&format!("{url}?key={}", server.keys.ingest), "x", JSON, "{}");
    in_the_url.headers_mut().remove("authorization");
    assert_eq!(send(in_the_url).await.status, 200);
    assert_eq!(send(bare("POST", &server.url("/api/v1/flush"), None)).await.status, 401);
    server.flush().await;
    assert_eq!(server.number("SELECT count() FROM events").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_bodies_many_posts_on_one_connection_and_http2_work() {
    let server = Server::start().await;
    let key = &server.keys.ingest;
    let url = server.url("/v1/logs");

    let body = events(&["chunked"], "m");
    let pieces = body.chunks(7).map(Bytes::copy_from_slice);
    let chunked = Request::post(&url)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", PROTOBUF)
        .body(Pieces(pieces.collect()))
        .unwrap();
    assert_eq!(send(chunked).await.status, 200);

    let posts = (0..20).map(|index| post(&url, key, PROTOBUF, events(&["kept_alive"], &index.to_string())));
    assert!(send_all(posts).await.iter().all(|answer| answer.status == 200));

    let posts = (0..50).map(|index| post(&url, key, PROTOBUF, events(&["http2"], &index.to_string()))).collect();
    assert!(send_h2(posts).await.iter().all(|answer| answer.status == 200));

    server.flush().await;
    for (name, count) in [("chunked", 1), ("kept_alive", 20), ("http2", 50)] {
        assert_eq!(server.number(&format!("SELECT count() FROM events WHERE name = '{name}'")).await, count, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_may_send_from_configured_origins_only() {
    let server = Server::start_with(|config| config.cors_origins = vec!["https://shop.example".into()]).await;
    for (origin, allowed) in [("https://shop.example", "https://shop.example"), ("https://evil.example", "")] {
        for path in PATHS {
            let mut preflight = bare("OPTIONS", &server.url(path), None);
            let headers = preflight.headers_mut();
            headers.insert("origin", origin.parse().unwrap());
            headers.insert("access-control-request-method", "POST".parse().unwrap());
            headers.insert("access-control-request-headers", "content-type,x-own".parse().unwrap());
            let answer = send(preflight).await;
            assert_eq!(answer.status, StatusCode::NO_CONTENT);
            assert_eq!(answer.header("access-control-allow-origin"), allowed, "{path}");
            assert_eq!(answer.header("access-control-allow-headers"), "content-type,x-own");
            let mut sent = post(&server.url(path), &server.keys.ingest, JSON, "{}");
            sent.headers_mut().insert("origin", origin.parse().unwrap());
            assert_eq!(send(sent).await.header("access-control-allow-origin"), allowed, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_lose_their_connection_and_others_do_not_wait_for_them() {
    let server = Server::start_with(|config| {
        config.limits.header_timeout = Duration::from_millis(300);
        config.limits.body_stall_timeout = Duration::from_millis(300);
        config.limits.idle_timeout = Duration::from_millis(800);
    })
    .await;
    let url = server.running.url().to_owned();
    let patience = Duration::from_secs(20);
    let half_a_head = {
        let url = url.clone();
        tokio::task::spawn_blocking(move || send_raw(&url, b"POST /v1/logs HTTP/1.1\r\nhost: x\r\n", patience))
    };
    let silent = {
        let url = url.clone();
        tokio::task::spawn_blocking(move || send_raw(&url, b"", patience))
    };
    let half_a_body = {
        let head = format!(
            "POST /v1/logs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: {JSON}\r\ncontent-length: 100\r\n\r\n{{",
            server.keys.ingest
        );
        tokio::task::spawn_blocking(move || send_raw(&url, head.as_bytes(), patience))
    };
    assert_eq!(server.send_logs(events(&["a"], "m")).await.status, 200);
    // Each returns because the server closed, long before the client's own patience ends.
    let started = std::time::Instant::now();
    assert!(!half_a_head.await.unwrap().contains("200 OK"));
    assert_eq!(silent.await.unwrap(), "");
    let answer = half_a_body.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    assert!(started.elapsed() < patience / 2, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait_until_one_is_free_and_idle_ones_make_room() {
    const CONNECTIONS: usize = 4;
    let server = Server::start_with(|config| {
        config.limits.max_connections = CONNECTIONS;
        config.limits.body_stall_timeout = Duration::from_mins(1);
        config.limits.idle_timeout = Duration::from_secs(2);
    })
    .await;
    let address = server.running.url().strip_prefix("http://").unwrap().to_owned();
    let asked = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let head = format!(
        "POST /v1/logs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: {JSON}\r\ncontent-length: 2\r\n\
         expect: 100-continue\r\n\r\n",
        server.keys.ingest
    );
    let mut answer = [0; 12];
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server waits for the body, so no connection is idle while others are opened.
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100");
        held.push(stream);
    }
    let mut late = tokio::net::TcpStream::connect(&address).await.unwrap();
    late.write_all(asked).await.unwrap();
    let at_once = tokio::time::timeout(Duration::from_millis(300), late.read_exact(&mut answer)).await;
    assert!(at_once.is_err(), "a connection beyond the limit was answered");
    for stream in &mut held {
        stream.write_all(b"{}").await.unwrap();
    }
    // Nobody says another word: the idle ones are closed and the late one is answered.
    late.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    for mut stream in held {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.contains("HTTP/1.1 200"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_answers_503_with_retry_after_and_never_a_status_that_loses_data() {
    let server = Server::start_with(|config| config.limits.max_bodies_bytes = 8 << 10).await;
    let answer = server.send_logs(vec![0_u8; 64 << 10]).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(answer.header("content-type"), PROTOBUF);
    // Room is given back: a body that fits passes.
    assert_eq!(server.send_logs(events(&["a"], "m")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_stay_short_and_are_compressed_only_where_the_sender_takes_it() {
    let server = Server::start().await;
    let mut plain = Bytes::new();
    for (accepted, is_gzip) in [("", false), ("br", false), ("gzip;q=0", false), ("deflate, gzip", true)] {
        // Each of ten thousand records is rejected; the answer says so once.
        let mut request =
            post(&server.url("/v1/logs"), &server.keys.ingest, PROTOBUF, events(&vec![""; 10_000], accepted));
        request.headers_mut().insert("accept-encoding", accepted.parse().unwrap());
        let answer = send(request).await;
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, PROTOBUF));
        assert_eq!(answer.header("content-encoding"), if is_gzip { "gzip" } else { "" }, "{accepted}");
        assert!(answer.body.len() < 1 << 10, "{}", answer.body.len());
        let body = if is_gzip { Bytes::from(gunzip(&answer.body)) } else { answer.body };
        if accepted.is_empty() {
            plain = body.clone();
        }
        assert_eq!(body, plain, "{accepted}");
    }
    let partial = ExportLogsServiceResponse::decode(plain).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_log_records, 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn exporters_may_post_under_a_configured_path_and_under_no_other() {
    let server = Server::start_with(|config| config.otlp_prefix = "/telemetry".into()).await;
    for (prefix, status) in [("/telemetry", 200), ("", 200), ("/other", 404), ("/telemetry/telemetry", 404)] {
        for path in PATHS {
            let answer = send(post(&server.url(&format!("{prefix}{path}")), &server.keys.ingest, JSON, "{}")).await;
            assert_eq!(answer.status, status, "{prefix}{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_under_the_same_idempotency_key_is_acknowledged_and_stored_once() {
    let server = Server::start().await;
    let body = events(&["once"], "m");
    for _ in 0..3 {
        let mut request = post(&server.url("/v1/logs"), &server.keys.ingest, PROTOBUF, body.clone());
        request.headers_mut().insert("idempotency-key", "batch-1".parse().unwrap());
        assert_eq!(send(request).await.status, 200);
    }
    let mut bad = post(&server.url("/v1/logs"), &server.keys.ingest, PROTOBUF, body);
    bad.headers_mut().insert("idempotency-key", "two words".parse().unwrap());
    assert_eq!(send(bad).await.status, 400);
    server.flush().await;
    assert_eq!(server.number("SELECT count() FROM events").await, 1);
    let metrics = send(bare("GET", &server.url("/metrics"), None)).await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(text.contains("gemba_records_deduplicated_total 2\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_large_are_refused() {
    let server = Server::start_with(|config| config.limits.max_header_bytes = 16 << 10).await;
    let mut request = post(&server.url("/v1/logs"), &server.keys.ingest, JSON, "{}");
    request.headers_mut().insert("x-large", "a".repeat(32 << 10).parse().unwrap());
    let answer = send(request).await;
    assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let small: Request<Full<Bytes>> = post(&server.url("/v1/logs"), &server.keys.ingest, JSON, "{}");
    assert_eq!(send(small).await.status, 200);
}
