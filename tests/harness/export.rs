//! Export requests as OpenTelemetry clients send them.

use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use serde_json::json;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch, now.
pub fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.into())) };
    KeyValue { key: key.into(), value: Some(value), ..KeyValue::default() }
}

/// Log records with these event names (an empty one is no event), one request, protobuf. Each has a user and a marker.
pub fn events(names: &[&str], marker: &str) -> Vec<u8> {
    let log_records = names
        .iter()
        .map(|name| LogRecord {
            time_unix_nano: now_ns(),
            event_name: (*name).into(),
            attributes: vec![attribute("user.id", "ann"), attribute("marker", marker)],
            ..LogRecord::default()
        })
        .collect();
    let resource = Resource { attributes: vec![attribute("service.name", "claims")], ..Resource::default() };
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource: Some(resource), scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
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
