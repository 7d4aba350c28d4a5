//! What the server says to OTLP over gRPC: statements of the OTLP specification, each as a claim.

use gemba_tests::client::{Answer, call};
use gemba_tests::export::{events, gzip};
use gemba_tests::server::Server;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message as _;

const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const PROFILES: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";

const OK: &str = "0";
const INVALID_ARGUMENT: &str = "3";
const PERMISSION_DENIED: &str = "7";
const RESOURCE_EXHAUSTED: &str = "8";
const UNIMPLEMENTED: &str = "12";
const UNAUTHENTICATED: &str = "16";

/// Path, headers, flag, message, and the code of the answer.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u8, &'a [u8], &'a str);

fn message(answer: &Answer) -> ExportLogsServiceResponse {
    ExportLogsServiceResponse::decode(&answer.body[5..]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_three_services_take_data_on_their_own_port_and_on_the_main_one() {
    let server = Server::start().await;
    let bearer = format!("Bearer {}", server.keys.ingest);
    let headers = [("authorization", bearer.as_str())];
    let own = format!("http://{}", server.running.grpc_address().unwrap());
    for (index, url) in [own.as_str(), server.running.url()].into_iter().enumerate() {
        let answer = call(url, LOGS, &headers, 0, &events(&["plain"], &index.to_string())).await;
        assert_eq!((answer.status.as_u16(), answer.trailer("grpc-status")), (200, OK), "{answer:?}");
        assert_eq!(answer.header("content-type"), "application/grpc");
        assert!(message(&answer).partial_success.is_none());
        let compressed = gzip(&events(&["gzipped"], &index.to_string()));
        let answer = call(url, LOGS, &[headers[0], ("grpc-encoding", "gzip")], 1, &compressed).await;
        assert_eq!(answer.trailer("grpc-status"), OK);
        for path in [TRACES, METRICS] {
            assert_eq!(call(url, path, &headers, 0, &[]).await.trailer("grpc-status"), OK, "{path}");
        }
    }
    server.flush().await;
    for name in ["plain", "gzipped"] {
        assert_eq!(server.number(&format!("SELECT count() FROM events WHERE name = '{name}'")).await, 2, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_the_code_that_clients_understand() {
    let server = Server::start_with(|config| config.limits.max_body_bytes = 1 << 20).await;
    let url = server.running.url();
    let ingest = format!("Bearer {}", server.keys.ingest);
    let read = format!("Bearer {}", server.keys.read);
    let key = ("authorization", ingest.as_str());
    let large = vec![0_u8; 2 << 20];
    let bomb = gzip(&large);
    let body = events(&["a"], "m");
    let gzipped = [key, ("grpc-encoding", "gzip")];
    let cases: [Case<'_>; 8] = [
        (LOGS, &[], 0, &body, UNAUTHENTICATED),
        (LOGS, &[("authorization", read.as_str())], 0, &body, PERMISSION_DENIED),
        (LOGS, &[key], 0, b"\x07garbage", INVALID_ARGUMENT),
        (LOGS, &gzipped, 1, b"not gzip", INVALID_ARGUMENT),
        (LOGS, &gzipped, 1, &bomb, RESOURCE_EXHAUSTED),
        (LOGS, &[key], 0, &large, RESOURCE_EXHAUSTED),
        (LOGS, &[key, ("grpc-encoding", "snappy")], 1, &body, UNIMPLEMENTED),
        (PROFILES, &[key], 0, &body, UNIMPLEMENTED),
    ];
    for (path, headers, flag, sent, code) in cases {
        let answer = call(url, path, headers, flag, sent).await;
        assert_eq!(answer.status, 200, "gRPC carries its errors in the trailers");
        assert_eq!(answer.trailer("grpc-status"), code, "{path} {headers:?}");
        assert!(!answer.trailer("grpc-message").is_empty(), "{path} {headers:?}");
        assert_eq!(answer.trailer("grpc-status-details-bin"), "", "no RetryInfo: not to be sent again");
    }
    server.flush().await;
    assert_eq!(server.number("SELECT count() FROM events").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_five_mebibytes_passes_where_other_stacks_stop_at_four() {
    let server = Server::start().await;
    let bearer = format!("Bearer {}", server.keys.ingest);
    let marker = "x".repeat(60 << 10);
    let body = events(&["large"; 90], &marker);
    assert!(body.len() > 5 << 20);
    let answer = call(server.running.url(), LOGS, &[("authorization", &bearer)], 0, &body).await;
    assert_eq!(answer.trailer("grpc-status"), OK, "{answer:?}");
    server.flush().await;
    assert_eq!(server.number("SELECT count() FROM events").await, 90);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_makes_a_caller_wait_instead_of_refusing_what_some_clients_would_drop() {
    // Room for one of the messages at a time, and a client that drops a batch on UNAVAILABLE would lose the others.
    let server = Server::start_with(|config| config.limits.max_bodies_bytes = 96 << 10).await;
    let bearer = format!("Bearer {}", server.keys.ingest);
    let bodies: Vec<_> = (0..4).map(|index| events(&["large"], &index.to_string().repeat(60 << 10))).collect();
    let gzipped: Vec<_> = bodies.iter().map(|body| gzip(body)).collect();
    let calls: Vec<_> = [(0, bodies), (1, gzipped)]
        .into_iter()
        .flat_map(|(flag, bodies)| bodies.into_iter().map(move |body| (flag, body)))
        .map(|(flag, body)| {
            let (url, bearer) = (server.running.url().to_owned(), bearer.clone());
            tokio::spawn(async move {
                call(&url, LOGS, &[("authorization", &bearer), ("grpc-encoding", "gzip")], flag, &body).await
            })
        })
        .collect();
    for one in calls {
        let answer = one.await.unwrap();
        assert_eq!(answer.trailer("grpc-status"), OK, "{answer:?}");
    }
    server.flush().await;
    // A message and the same one compressed have one body: repeats, if they came after.
    assert_eq!(server.number("SELECT uniqExact(strings['marker']) FROM events").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_success_counts_and_explains() {
    let server = Server::start().await;
    let bearer = format!("Bearer {}", server.keys.ingest);
    let answer = call(server.running.url(), LOGS, &[("authorization", &bearer)], 0, &events(&["a", ""], "m")).await;
    assert_eq!(answer.trailer("grpc-status"), OK);
    let partial = message(&answer).partial_success.unwrap();
    assert_eq!(partial.rejected_log_records, 1);
    assert!(!partial.error_message.is_empty());
}
