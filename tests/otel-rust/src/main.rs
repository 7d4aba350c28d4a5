//! What an application with OpenTelemetry's own Rust SDK and `opentelemetry-otlp` sends: address, ingest key, protocol and
//! service are the arguments. The same records as `otel.py` and `otel.mjs` in `harness/clients`: numbers from 0, so that nothing
//! can be missing or twice.

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::{Span as _, SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::{
    Compression, LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
    WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

/// Where a signal goes and how.
#[derive(Debug, Clone, Copy)]
struct Target<'a> {
    address: &'a str,
    key: &'a str,
    /// As in `OTEL_EXPORTER_OTLP_PROTOCOL`.
    protocol: &'a str,
}

impl Target<'_> {
    fn protocol(&self) -> Protocol {
        if self.protocol == "http/json" { Protocol::HttpJson } else { Protocol::HttpBinary }
    }

    fn headers(&self) -> HashMap<String, String> {
        HashMap::from([("authorization".to_owned(), format!("Bearer {}", self.key))])
    }

    fn metadata(&self) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", format!("Bearer {}", self.key).parse().unwrap());
        metadata
    }
}

/// An exporter of a signal: the builders have no trait in common to write this once without a macro.
macro_rules! exporter {
    ($builder:expr, $target:expr, $signal:literal) => {
        if $target.protocol == "grpc" {
            let builder = $builder.with_tonic().with_endpoint($target.address).with_metadata($target.metadata());
            builder.with_compression(Compression::Gzip).build().unwrap()
        } else {
            let builder = $builder.with_http().with_protocol($target.protocol()).with_headers($target.headers());
            let builder = builder.with_endpoint(format!("{}/v1/{}", $target.address, $signal));
            builder.with_compression(Compression::Gzip).build().unwrap()
        }
    };
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, key, protocol, service] = arguments.as_slice() else {
        panic!("arguments: address, key, protocol, service");
    };
    // The gRPC channel works on a runtime; the exporters' own threads wait for it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = (protocol == "grpc").then(|| runtime.enter());
    send(Target { address, key, protocol }, service);
    println!("sent");
}

/// Sends everything and shuts the SDK down.
fn send(target: Target<'_>, service: &str) {
    let resource = Resource::builder()
        .with_service_name(service.to_owned())
        .with_attribute(KeyValue::new("service.version", "7"))
        .with_attribute(KeyValue::new("service.instance.id", service.to_owned()))
        .build();
    send_logs(target, resource.clone());
    send_spans(target, resource.clone());
    send_metrics(target, resource);
}

fn send_logs(target: Target<'_>, resource: Resource) {
    let exporter = exporter!(LogExporter::builder(), target, "logs");
    let logs = SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let logger = logs.logger("claims");
    let began = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    for n in 0..700_i32 {
        let mut record = logger.create_log_record();
        record.set_event_name("page.opened");
        record.set_timestamp(began + Duration::from_millis(n.unsigned_abs().into()));
        record.set_severity_number(Severity::Info);
        record.add_attribute("user.id", format!("user-{}", n % 7));
        record.add_attribute("n", n);
        record.add_attribute("is_even", n % 2 == 0);
        record.add_attribute("share", f64::from(n) / 8.0);
        record.add_attribute("tags", AnyValue::ListAny(Box::new(vec!["ü".into(), n.to_string().into()])));
        logger.emit(record);
    }
    for n in 0..3 {
        let mut record = logger.create_log_record();
        record.set_timestamp(began);
        record.set_body(format!("plain line {n}").into());
        logger.emit(record);
    }
    logs.shutdown().unwrap();
}

fn send_spans(target: Target<'_>, resource: Resource) {
    let exporter = exporter!(SpanExporter::builder(), target, "traces");
    let traces = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
    let tracer = traces.tracer("claims");
    for n in 0..100_i64 {
        let served = tracer.span_builder("GET /orders/{id}").with_kind(SpanKind::Server).with_attributes([
            KeyValue::new("http.route", "/orders/{id}"),
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("http.response.status_code", 200),
        ]);
        let served = Context::new().with_span(served.start_with_context(&tracer, &Context::new()));
        let work = served.with_span(tracer.start_with_context("work", &served));
        for number in n * 3..n * 3 + 3 {
            let query = tracer.span_builder("SELECT").with_kind(SpanKind::Client).with_attributes([
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.query.text", format!("SELECT * FROM orders WHERE id = {number}")),
                KeyValue::new("db.response.returned_rows", number),
            ]);
            query.start_with_context(&tracer, &work).end();
        }
        work.span().end();
        served.span().end();
    }
    traces.shutdown().unwrap();
}

fn send_metrics(target: Target<'_>, resource: Resource) {
    let exporter = exporter!(MetricExporter::builder(), target, "metrics");
    let reader = PeriodicReader::builder(exporter).with_interval(Duration::from_hours(1)).build();
    let metrics = SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build();
    let duration = metrics.meter("claims").f64_histogram("db.client.operation.duration").with_unit("s").build();
    for n in 0..500_i32 {
        let attributes = [
            KeyValue::new("db.system.name", "mysql"),
            KeyValue::new("db.query.text", "SELECT name FROM parcel WHERE id = ?"),
        ];
        duration.record(f64::from(n) / 1000.0, &attributes);
    }
    metrics.force_flush().unwrap();
    // Collects and sends once more: the same cumulative points again.
    metrics.shutdown().unwrap();
}
