//! The tracing layer counts what sqlx logs, knows the scope and the trace, and says when a filter hides the queries.
//!
//! sqlx's events are made here by its own logger, through a real SQLite.

use gemba::query::{Dialect, QueryLayer, fingerprint, is_hidden};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;
use sqlx::sqlite::SqlitePoolOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::Duration;
use tracing::Instrument as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;

static RECEIVED: Mutex<Vec<(String, Vec<u8>)>> = Mutex::new(Vec::new());

fn serve(stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap().to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        RECEIVED.lock().unwrap().push((path, zstd::stream::decode_all(&body[..]).unwrap()));
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

fn bodies<M: prost::Message + Default>(path: &str) -> Vec<M> {
    let received = RECEIVED.lock().unwrap();
    received.iter().filter(|(of, _)| of == path).map(|(_, body)| M::decode(&body[..]).unwrap()).collect()
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    let found = attributes.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_ref()?.value.as_ref());
    if let Some(Value::StringValue(text)) = found { text } else { "" }
}

#[test]
fn queries_that_sqlx_logs_are_counted_in_the_scope_and_trace_of_their_span() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(&stream.unwrap()));
        }
    });
    let _gemba = gemba::Config::new("layer-test").endpoint(endpoint).without_environment().start().unwrap();
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let subscriber = tracing_subscriber::registry()
        .with(LevelFilter::DEBUG)
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("test")))
        .with(QueryLayer::new(Dialect::Sqlite));
    // SQLite works on a thread of its own, so the subscriber must be the process's.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    assert!(!is_hidden());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let short = "SELECT 12345 AS x";
    let long = "SELECT 'logged', 1 + 2, 3 + 4, 5 + 6 AS many_words_make_a_statement";
    let mut trace = String::new();
    runtime.block_on(async {
        let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        let work = async {
            let span = tracing::info_span!("request");
            let context = tracing_opentelemetry::OpenTelemetrySpanExt::context(&span);
            trace = opentelemetry::trace::TraceContextExt::span(&context).span_context().trace_id().to_string();
            let queries = async {
                sqlx::query(short).fetch_all(&pool).await.unwrap();
                for _ in 0..3 {
                    sqlx::query(long).fetch_all(&pool).await.unwrap();
                }
            };
            queries.instrument(span).await;
        };
        gemba::scope().user("layered").run_async(work).await;
        // Its worker has logged the last query when the connection is closed.
        pool.close().await;
    });
    gemba::flush(Duration::from_secs(20)).unwrap();

    let count = |sql: &str| -> u64 {
        let wanted = fingerprint(Dialect::Sqlite, sql).hex();
        let requests = bodies::<ExportMetricsServiceRequest>("/v1/metrics");
        let scopes =
            requests.into_iter().flat_map(|request| request.resource_metrics).flat_map(|all| all.scope_metrics);
        let points = scopes.flat_map(|scope| scope.metrics).filter_map(|metric| match metric.data {
            Some(Data::ExponentialHistogram(histogram)) => Some(histogram.data_points),
            _ => None,
        });
        points
            .flatten()
            .filter(|point| text(&point.attributes, "gemba.query.fingerprint") == wanted)
            .map(|point| point.count)
            .sum()
    };
    assert_eq!((count(short), count(long)), (1, 3));
    let requests = bodies::<ExportLogsServiceRequest>("/v1/logs");
    let scopes = requests.into_iter().flat_map(|request| request.resource_logs).flat_map(|all| all.scope_logs);
    let usage = scopes.flat_map(|scope| scope.log_records).filter(|record| record.event_name == "gemba.query.usage");
    assert!(usage.into_iter().any(|record| text(&record.attributes, "user.id") == "layered"), "the scope is known");
    let requests = bodies::<ExportTraceServiceRequest>("/v1/traces");
    let scopes = requests.into_iter().flat_map(|request| request.resource_spans).flat_map(|all| all.scope_spans);
    let wanted = fingerprint(Dialect::Sqlite, long).hex();
    let samples: Vec<_> = scopes
        .flat_map(|scope| scope.spans)
        .filter(|span| text(&span.attributes, "gemba.query.fingerprint") == wanted)
        .collect();
    assert_eq!(samples.len(), 1, "one ordinary sample a minute");
    assert_eq!(text(&samples[0].attributes, "gemba.query.sample"), "ordinary");
    let hex: String = samples[0].trace_id.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    assert_eq!(hex, trace, "the sample belongs to the request's trace");
}

#[test]
fn a_filter_that_hides_the_queries_is_noticed() {
    let hidden = tracing_subscriber::registry().with(QueryLayer::new(Dialect::Sqlite)).with(LevelFilter::INFO);
    tracing::subscriber::with_default(hidden, || assert!(is_hidden()));
    let open = tracing_subscriber::registry().with(QueryLayer::new(Dialect::Sqlite)).with(LevelFilter::DEBUG);
    tracing::subscriber::with_default(open, || assert!(!is_hidden()));
    let without = tracing_subscriber::registry().with(LevelFilter::INFO);
    tracing::subscriber::with_default(without, || assert!(!is_hidden(), "no layer, nothing to hide"));
}
