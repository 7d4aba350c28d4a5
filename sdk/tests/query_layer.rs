//! The tracing layer counts what sqlx logs, knows the scope and the trace, and says when a filter hides the queries.
//!
//! sqlx's events are made here by its own logger, through a real SQLite.

mod support;

use gemba::query::{Dialect, QueryLayer, fingerprint, is_hidden};
use opentelemetry::trace::TracerProvider as _;
use sqlx::sqlite::SqlitePoolOptions;
use support::{flush, points, samples, start, text, usage_of};
use tracing::Instrument as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;

#[test]
fn queries_that_sqlx_logs_are_counted_in_the_scope_and_trace_of_their_span() {
    start();
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
    flush();

    let count = |sql: &str| -> u64 {
        points(&fingerprint(Dialect::Sqlite, sql).hex()).iter().map(|(_, point)| point.count).sum()
    };
    assert_eq!((count(short), count(long)), (1, 3));
    let calls: i64 = usage_of("layered").iter().map(|line| line.1).sum();
    assert_eq!(calls, 4, "the scope is known");
    let samples = samples(&fingerprint(Dialect::Sqlite, long).hex());
    assert_eq!(samples.len(), 1, "one ordinary sample a minute");
    let (of, span) = &samples[0];
    assert_eq!(text(of, "gemba.query.sample"), "ordinary");
    let hex: String = span.trace_id.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
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
