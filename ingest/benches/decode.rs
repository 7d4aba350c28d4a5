//! What one log record costs from bytes to encoded columns.
//!
//! One request of 500 records of a foreign event, about 250 bytes each with 6 attributes, as an OpenTelemetry SDK sends
//! them. `decode_encode` is what the server does per record between inflating and inserting; the blocks are encoded
//! once per 200 requests (100 k rows), as a cut is. `decode_json` is the same request as JSON.
//!
//! Run: `cargo bench -p gemba-ingest --bench decode`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gemba_ingest::identity::{IdHasher, ProjectId};
use gemba_ingest::otlp::{Encoding, Origin, Signal, decode};
use gemba_ingest::rows::Rows;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use std::hint::black_box;

const RECORDS: u64 = 500;
const REQUESTS_PER_CUT: u64 = 200;
const RECEIVED_MS: i64 = 1_763_900_000_000;

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn record(n: u64, start: u64) -> LogRecord {
    let pick =
        |words: &[&'static str]| words.iter().cycle().nth(usize::try_from(n).unwrap_or(0)).map_or("", |word| *word);
    LogRecord {
        time_unix_nano: start - n * 1_000_003,
        observed_time_unix_nano: start,
        severity_number: 9,
        event_name: pick(&["cart.viewed", "cart.added", "checkout.started", "checkout.paid"]).to_owned(),
        attributes: vec![
            text("user.id", format!("user-{:06}", n * 7919 % 5000)),
            text("session.id", format!("{:032x}", n * 104_729 % 9000)),
            text("app.screen.name", format!("screen {}", n % 12)),
            text("country", pick(&["de", "fr", "us", "jp", "br"])),
            attribute("cart.items", Value::IntValue((n % 9).cast_signed())),
            attribute("cart.total", Value::DoubleValue(n as f64 / 8.0)),
        ],
        ..LogRecord::default()
    }
}

fn request() -> ExportLogsServiceRequest {
    let start = u64::try_from(RECEIVED_MS).unwrap_or(0) * 1_000_000;
    let attributes = vec![
        text("service.name", "shop"),
        text("service.version", "1.42.0"),
        text("service.instance.id", "627cc493-f310-47de-96bd-71410b7dec09"),
        text("deployment.environment.name", "production"),
        text("telemetry.sdk.language", "rust"),
    ];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_logs: vec![ScopeLogs {
                scope: Some(InstrumentationScope { name: "shop".to_owned(), ..InstrumentationScope::default() }),
                log_records: (0..RECORDS).map(|n| record(n, start)).collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

fn bench(criterion: &mut Criterion) {
    let ids = IdHasher::new([7; 16]);
    let origin = Origin {
        project: ProjectId(1),
        retention_class: 0,
        received_ms: RECEIVED_MS,
        ids: &ids,
        reads_span_events: true,
    };
    let request = request();
    let protobuf = request.encode_to_vec();
    let json = serde_json::to_vec(&request).unwrap_or_default();
    let mut group = criterion.benchmark_group(format!("logs_{}_bytes_a_record", protobuf.len() as u64 / RECORDS));
    group.throughput(Throughput::Elements(RECORDS));
    for (name, encoding, body, encodes) in [
        ("decode", Encoding::Protobuf, &protobuf, false),
        ("decode_encode", Encoding::Protobuf, &protobuf, true),
        ("decode_json", Encoding::Json, &json, false),
    ] {
        let (mut rows, mut out, mut requests) = (Rows::new(), Vec::new(), 0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let tally = decode(Signal::Logs, encoding, black_box(body), &origin, &mut rows);
                assert!(tally.is_ok_and(|tally| tally.kept() == RECORDS));
                requests += 1;
                if requests == REQUESTS_PER_CUT {
                    requests = 0;
                    if encodes {
                        for key in rows.blocks() {
                            out.clear();
                            rows.encode(&key, 1, &mut out);
                            black_box(&out);
                        }
                    }
                    rows.clear();
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
