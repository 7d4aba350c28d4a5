//! Export requests as OpenTelemetry clients send them.

use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch, now.
pub fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.into())) };
    KeyValue { key: key.into(), value: Some(value), ..KeyValue::default() }
}

fn attributes(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(key, value)| attribute(key, value)).collect()
}

fn resource(service: &str) -> Resource {
    Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() }
}

/// A log record: an event of this name at this time, nanoseconds since 1970, with attributes that are text.
pub fn event(time_unix_nano: u64, name: &str, pairs: &[(&str, &str)]) -> LogRecord {
    LogRecord { time_unix_nano, event_name: name.into(), attributes: attributes(pairs), ..LogRecord::default() }
}

/// A request of log records, protobuf.
pub fn logs(service: &str, log_records: Vec<LogRecord>) -> Vec<u8> {
    logs_of(&[("service.name", service)], log_records)
}

/// The same of a sender with these attributes.
pub fn logs_of(sender: &[(&str, &str)], log_records: Vec<LogRecord>) -> Vec<u8> {
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource = Some(Resource { attributes: attributes(sender), ..Resource::default() });
    let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

/// A client span as an instrumented database driver sends it; `number` makes its ids.
pub fn query_span(number: u64, start_ns: u64, duration_ns: u64, system: &str, text: &str) -> Span {
    Span {
        trace_id: u128::from(number + 1).to_be_bytes().to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        name: "statement".into(),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: start_ns,
        end_time_unix_nano: start_ns + duration_ns,
        attributes: attributes(&[("db.system.name", system), ("db.query.text", text)]),
        ..Span::default()
    }
}

/// A request of spans, protobuf.
pub fn traces(service: &str, spans: Vec<Span>) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { resource: Some(resource(service)), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// Log records with these event names (an empty one is no event), one request, protobuf. Each has a user and a marker.
pub fn events(names: &[&str], marker: &str) -> Vec<u8> {
    let pairs = [("user.id", "ann"), ("marker", marker)];
    logs("claims", names.iter().map(|name| event(now_ns(), name, &pairs)).collect())
}

/// The same in JSON.
pub fn events_json(names: &[&str], marker: &str) -> String {
    let records: Vec<_> = names
        .iter()
        .map(|name| {
            json!({"timeUnixNano": now_ns().to_string(), "eventName": name,
                "attributes": [{"key": "user.id", "value": {"stringValue": "ann"}},
                    {"key": "marker", "value": {"stringValue": marker}}]})
        })
        .collect();
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "claims"}}]});
    json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}).to_string()
}

/// gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What was compressed by gzip.
pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}
