//! Requests in few words.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

pub(super) trait IntoValue {
    fn any(self) -> AnyValue;
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

impl IntoValue for AnyValue {
    fn any(self) -> AnyValue {
        self
    }
}
impl IntoValue for &str {
    fn any(self) -> AnyValue {
        any(Value::StringValue(self.to_owned()))
    }
}
impl IntoValue for i64 {
    fn any(self) -> AnyValue {
        any(Value::IntValue(self))
    }
}
impl IntoValue for f64 {
    fn any(self) -> AnyValue {
        any(Value::DoubleValue(self))
    }
}
impl IntoValue for bool {
    fn any(self) -> AnyValue {
        any(Value::BoolValue(self))
    }
}
impl IntoValue for &[u8] {
    fn any(self) -> AnyValue {
        any(Value::BytesValue(self.to_vec()))
    }
}
impl IntoValue for Vec<AnyValue> {
    fn any(self) -> AnyValue {
        any(Value::ArrayValue(ArrayValue { values: self }))
    }
}
impl IntoValue for Vec<KeyValue> {
    fn any(self) -> AnyValue {
        any(Value::KvlistValue(KeyValueList { values: self }))
    }
}

pub(super) fn kv(key: &str, value: impl IntoValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value.any()), ..KeyValue::default() }
}

pub(super) fn array<V: IntoValue>(values: impl IntoIterator<Item = V>) -> AnyValue {
    values.into_iter().map(IntoValue::any).collect::<Vec<_>>().any()
}

pub(super) fn record(name: &str, attributes: Vec<KeyValue>) -> LogRecord {
    LogRecord {
        event_name: name.to_owned(),
        time_unix_nano: super::RECEIVED_NS - 1_500_000,
        attributes,
        ..LogRecord::default()
    }
}

pub(super) fn resource() -> Resource {
    Resource {
        attributes: vec![
            kv("service.name", "shop"),
            kv("service.version", "1.2.3"),
            kv("service.instance.id", "i-1"),
            kv("deployment.environment.name", "test"),
        ],
        ..Resource::default()
    }
}

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope { name: "lib".to_owned(), version: "9".to_owned(), ..InstrumentationScope::default() }
}

pub(super) fn logs_of(resource: Option<Resource>, log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let scope_logs = vec![ScopeLogs { scope: None, log_records, schema_url: String::new() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { resource, scope_logs, schema_url: String::new() }] }
}

pub(super) fn logs(records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    logs_of(Some(resource()), records)
}

pub(super) fn traces(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, schema_url: String::new() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: Some(resource()), scope_spans, schema_url: String::new() }],
    }
}

pub(super) fn metrics(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, schema_url: String::new() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource()),
            scope_metrics,
            schema_url: String::new(),
        }],
    }
}

pub(super) fn span(kind: i32, attributes: Vec<KeyValue>) -> Span {
    Span {
        trace_id: (1..=16).collect(),
        span_id: (1..=8).collect(),
        parent_span_id: (2..=9).collect(),
        name: "SELECT".to_owned(),
        kind,
        start_time_unix_nano: super::RECEIVED_NS - 2_000_000_001,
        end_time_unix_nano: super::RECEIVED_NS - 1_000_000_000,
        attributes,
        ..Span::default()
    }
}

pub(super) fn query_span(attributes: Vec<KeyValue>) -> Span {
    let mut all = vec![kv("db.system.name", "postgresql"), kv("db.query.text", "SELECT * FROM users WHERE id = 7")];
    all.extend(attributes);
    span(3, all)
}

pub(super) fn exponential(attributes: Vec<KeyValue>) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        attributes,
        start_time_unix_nano: super::RECEIVED_NS - 10_000_000_000,
        time_unix_nano: super::RECEIVED_NS - 1_000_000,
        count: 7,
        sum: Some(0.5),
        scale: 6,
        zero_count: 1,
        positive: Some(Buckets { offset: -200, bucket_counts: vec![1, 0, 5] }),
        min: Some(0.000_000_001),
        max: Some(0.25),
        ..ExponentialHistogramDataPoint::default()
    }
}

pub(super) fn explicit(attributes: Vec<KeyValue>) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes,
        start_time_unix_nano: super::RECEIVED_NS - 10_000_000_000,
        time_unix_nano: super::RECEIVED_NS - 1_000_000,
        count: 6,
        sum: Some(1.25),
        explicit_bounds: vec![0.001, 0.01, 0.1],
        bucket_counts: vec![1, 2, 3, 0],
        ..HistogramDataPoint::default()
    }
}

pub(super) fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Metric::default() }
}

pub(super) fn duration_exponential(points: Vec<ExponentialHistogramDataPoint>) -> Metric {
    let data = ExponentialHistogram { data_points: points, aggregation_temporality: 1 };
    metric("db.client.operation.duration", "s", Data::ExponentialHistogram(data))
}

pub(super) fn duration_explicit(points: Vec<HistogramDataPoint>) -> Metric {
    let data = Histogram { data_points: points, aggregation_temporality: 2 };
    metric("db.client.operation.duration", "s", Data::Histogram(data))
}

pub(super) fn dropped(records: i64, attributes: Vec<KeyValue>) -> Metric {
    let value = Some(number_data_point::Value::AsInt(records));
    let time_unix_nano = super::RECEIVED_NS;
    let point = NumberDataPoint { attributes, time_unix_nano, value, ..NumberDataPoint::default() };
    let data = Sum { data_points: vec![point], aggregation_temporality: 1, is_monotonic: true };
    metric("gemba.sdk.dropped", "{record}", Data::Sum(data))
}

/// One query usage record of two entries.
pub(super) fn usage() -> LogRecord {
    let mut usage = record(
        "gemba.query.usage",
        vec![
            kv("user.id", "ann"),
            kv("gemba.feature.name", "search"),
            kv("gemba.funnel.name", "checkout"),
            kv("gemba.step.name", "pay"),
            kv("gemba.attempt.id", "a1"),
            kv("http.route", "/search"),
            kv("gemba.query.usage.fingerprints", array(["00000000000000ff", "other"])),
            kv("gemba.query.usage.code", array(["src/a.rs:7", ""])),
            kv("gemba.query.usage.calls", array([3, 4])),
            kv("gemba.query.usage.total_ns", array([300, 400])),
            kv("gemba.query.usage.max_ns", array([200, 250])),
            kv("gemba.query.usage.rows", array([30, 0])),
            kv("gemba.query.usage.errors", array([0, 1])),
        ],
    );
    usage.trace_id = vec![9; 16];
    usage
}

/// Requests that together write a row to every table.
pub(super) fn everything() -> (ExportLogsServiceRequest, ExportTraceServiceRequest, ExportMetricsServiceRequest) {
    let feature = || kv("gemba.feature.name", "search");
    let fingerprint = || kv("gemba.query.fingerprint", "00000000000000ff");
    let records = vec![
        record("gemba.feature.used", vec![feature(), kv("user.id", "ann"), kv("kind", "price")]),
        record("gemba.feature.started", vec![feature(), kv("gemba.attempt.id", "a1"), kv("session.id", "s1")]),
        record(
            "gemba.feature.ended",
            vec![
                feature(),
                kv("gemba.attempt.id", "a1"),
                kv("gemba.outcome", "failed"),
                kv("gemba.outcome.inferred", true),
                kv("gemba.outcome.reason", "timeout"),
                kv("gemba.duration_ns", 1_234_567),
                kv("error.type", "Io"),
                kv("gemba.seq", 42),
            ],
        ),
        record("gemba.funnel.step", vec![kv("gemba.funnel.name", "checkout"), kv("gemba.step.name", "pay")]),
        record("gemba.identify", vec![kv("user.id", "ann"), kv("session.id", "s1"), kv("gemba.anonymous.id", "d1")]),
        record("gemba.user.set", vec![kv("user.id", "ann"), kv("plan", "pro"), kv("seats", 5), kv("beta", false)]),
        record("gemba.tenant.set", vec![kv("gemba.tenant", "acme"), kv("plan", "team")]),
        record(
            "gemba.catalog",
            vec![
                kv("gemba.catalog.kind", "step"),
                kv("gemba.catalog.name", "checkout.pay"),
                kv("gemba.catalog.position", 2),
                kv("gemba.catalog.was", "checkout.buy"),
                kv("code.file.path", "src/shop.rs"),
                kv("code.line.number", 12),
            ],
        ),
        record(
            "gemba.query.declared",
            vec![
                fingerprint(),
                kv("gemba.query.fingerprint.version", 1),
                kv("db.system.name", "sqlite"),
                kv("gemba.query.name", "orders.by_user"),
                kv("db.query.summary", "SELECT orders"),
                kv("db.query.text", "SELECT * FROM orders WHERE user = ?"),
            ],
        ),
        usage(),
        record(
            "gemba.sdk.stopped",
            vec![
                kv("gemba.sdk.recorded", 10),
                kv("gemba.sdk.delivered", 7),
                kv("gemba.sdk.spooled", 2),
                kv("gemba.sdk.unconfirmed", 1),
            ],
        ),
        record("gemba.feature.used", vec![]),
        record(
            "foreign \"event\" ü",
            vec![
                kv("nested", vec![kv("a", array([1, 2])), kv("b", "x\"\n\u{1}")]),
                kv("bytes", &b"\x00\xff\x10"[..]),
                kv("big", i64::MAX),
                kv("gemba.tenant", "acme"),
            ],
        ),
    ];
    let spans = vec![
        query_span(vec![kv("db.namespace", "shop|public"), kv("db.response.returned_rows", 3)]),
        span(
            2,
            vec![kv("http.route", "/cart"), kv("http.request.method", "GET"), kv("http.response.status_code", 503)],
        ),
    ];
    let metrics_list = vec![
        duration_exponential(vec![exponential(vec![fingerprint(), feature()])]),
        duration_explicit(vec![explicit(vec![kv("db.system", "mssql"), kv("db.operation.name", "SELECT")])]),
        dropped(4, vec![kv("gemba.reason", "ring_full"), kv("gemba.callsite", "src/a.rs:1 search")]),
    ];
    (logs(records), traces(spans), metrics(metrics_list))
}
