//! Requests in few words.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
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
