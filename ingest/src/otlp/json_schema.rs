//! Which JSON key is which protobuf field, for the fields the decoder reads (opentelemetry-proto 1.11).

use super::Signal;

/// The fields of a message.
pub(super) type Schema = &'static [FieldSpec];

/// One field.
#[derive(Debug)]
pub(super) struct FieldSpec {
    /// JSON key.
    pub(super) name: &'static str,
    /// Field number.
    pub(super) number: u32,
    /// Type.
    pub(super) kind: Kind,
    /// Whether JSON has an array of it.
    pub(super) repeated: bool,
}

/// Type of a field. Repeated numbers are written unpacked, which protobuf readers must take.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A message, and whether it nests attribute values.
    Message(fn() -> Schema, bool),
    Text,
    /// Base64 in JSON.
    Bytes,
    /// Bytes that are hexadecimal in JSON: trace and span ids.
    Hex,
    Bool,
    Double,
    Fixed64,
    SFixed64,
    Fixed32,
    UInt64,
    Int64,
    SInt32,
    /// An integer in JSON, never a name.
    Enum,
}

const fn one(name: &'static str, number: u32, kind: Kind) -> FieldSpec {
    FieldSpec { name, number, kind, repeated: false }
}

const fn many(name: &'static str, number: u32, kind: Kind) -> FieldSpec {
    FieldSpec { name, number, kind, repeated: true }
}

macro_rules! messages {
    ($($(#[$meta:meta])* $visibility:vis $message:ident [$($field:expr),+ $(,)?])+) => {$(
        $(#[$meta])*
        $visibility fn $message() -> Schema {
            static FIELDS: &[FieldSpec] = &[$($field),+];
            FIELDS
        }
    )+};
}

/// The request message of a signal.
pub(super) fn request(signal: Signal) -> Schema {
    match signal {
        Signal::Logs => logs_request(),
        Signal::Traces => trace_request(),
        Signal::Metrics => metrics_request(),
    }
}

/// The record of a signal; of metrics, a sum's point.
pub(super) fn record(signal: Signal) -> Schema {
    match signal {
        Signal::Logs => log_record(),
        Signal::Traces => span(),
        Signal::Metrics => number_point(),
    }
}

/// Whether a message is one of its fields, so that a default is a value as well.
pub(super) fn is_oneof(schema: Schema) -> bool {
    std::ptr::eq(schema, any_value())
}

const ATTRIBUTE: Kind = Kind::Message(key_value, false);
const ANY: Kind = Kind::Message(any_value, false);

messages! {
    any_value [
        one("stringValue", 1, Kind::Text),
        one("boolValue", 2, Kind::Bool),
        one("intValue", 3, Kind::Int64),
        one("doubleValue", 4, Kind::Double),
        one("arrayValue", 5, Kind::Message(array_value, true)),
        one("kvlistValue", 6, Kind::Message(key_value_list, true)),
        one("bytesValue", 7, Kind::Bytes),
    ]
    array_value [many("values", 1, ANY)]
    key_value_list [many("values", 1, ATTRIBUTE)]
    key_value [one("key", 1, Kind::Text), one("value", 2, ANY)]
    /// What all records of a container have in common.
    pub(super) resource [
        many("attributes", 1, ATTRIBUTE),
        one("droppedAttributesCount", 2, Kind::UInt64),
    ]
    /// Who recorded them.
    pub(super) scope [
        one("name", 1, Kind::Text),
        one("version", 2, Kind::Text),
        many("attributes", 3, ATTRIBUTE),
    ]
    logs_request [many("resourceLogs", 1, Kind::Message(resource_logs, false))]
    resource_logs [
        one("resource", 1, Kind::Message(resource, false)),
        many("scopeLogs", 2, Kind::Message(scope_logs, false)),
        one("schemaUrl", 3, Kind::Text),
    ]
    scope_logs [
        one("scope", 1, Kind::Message(scope, false)),
        many("logRecords", 2, Kind::Message(log_record, false)),
        one("schemaUrl", 3, Kind::Text),
    ]
    log_record [
        one("timeUnixNano", 1, Kind::Fixed64),
        one("severityNumber", 2, Kind::Enum),
        one("severityText", 3, Kind::Text),
        one("body", 5, ANY),
        many("attributes", 6, ATTRIBUTE),
        one("droppedAttributesCount", 7, Kind::UInt64),
        one("flags", 8, Kind::Fixed32),
        one("traceId", 9, Kind::Hex),
        one("spanId", 10, Kind::Hex),
        one("observedTimeUnixNano", 11, Kind::Fixed64),
        one("eventName", 12, Kind::Text),
    ]
    trace_request [many("resourceSpans", 1, Kind::Message(resource_spans, false))]
    resource_spans [
        one("resource", 1, Kind::Message(resource, false)),
        many("scopeSpans", 2, Kind::Message(scope_spans, false)),
        one("schemaUrl", 3, Kind::Text),
    ]
    scope_spans [
        one("scope", 1, Kind::Message(scope, false)),
        many("spans", 2, Kind::Message(span, false)),
        one("schemaUrl", 3, Kind::Text),
    ]
    span [
        one("traceId", 1, Kind::Hex),
        one("spanId", 2, Kind::Hex),
        one("traceState", 3, Kind::Text),
        one("parentSpanId", 4, Kind::Hex),
        one("name", 5, Kind::Text),
        one("kind", 6, Kind::Enum),
        one("startTimeUnixNano", 7, Kind::Fixed64),
        one("endTimeUnixNano", 8, Kind::Fixed64),
        many("attributes", 9, ATTRIBUTE),
        many("events", 11, Kind::Message(span_event, false)),
        one("status", 15, Kind::Message(status, false)),
        one("flags", 16, Kind::Fixed32),
    ]
    /// An event of a span.
    pub(super) span_event [
        one("timeUnixNano", 1, Kind::Fixed64),
        one("name", 2, Kind::Text),
        many("attributes", 3, ATTRIBUTE),
    ]
    status [one("message", 2, Kind::Text), one("code", 3, Kind::Enum)]
    metrics_request [many("resourceMetrics", 1, Kind::Message(resource_metrics, false))]
    resource_metrics [
        one("resource", 1, Kind::Message(resource, false)),
        many("scopeMetrics", 2, Kind::Message(scope_metrics, false)),
        one("schemaUrl", 3, Kind::Text),
    ]
    scope_metrics [
        one("scope", 1, Kind::Message(scope, false)),
        many("metrics", 2, Kind::Message(metric, false)),
        one("schemaUrl", 3, Kind::Text),
    ]
    metric [
        one("name", 1, Kind::Text),
        one("description", 2, Kind::Text),
        one("unit", 3, Kind::Text),
        one("gauge", 5, Kind::Message(gauge, false)),
        one("sum", 7, Kind::Message(sum, false)),
        one("histogram", 9, Kind::Message(histogram, false)),
        one("exponentialHistogram", 10, Kind::Message(exponential_histogram, false)),
        one("summary", 11, Kind::Message(summary, false)),
    ]
    gauge [many("dataPoints", 1, Kind::Message(number_point, false))]
    sum [
        many("dataPoints", 1, Kind::Message(number_point, false)),
        one("aggregationTemporality", 2, Kind::Enum),
        one("isMonotonic", 3, Kind::Bool),
    ]
    histogram [
        many("dataPoints", 1, Kind::Message(histogram_point, false)),
        one("aggregationTemporality", 2, Kind::Enum),
    ]
    exponential_histogram [
        many("dataPoints", 1, Kind::Message(exponential_point, false)),
        one("aggregationTemporality", 2, Kind::Enum),
    ]
    // Points that no one reads are only counted, so their fields are unknown here.
    summary [many("dataPoints", 1, Kind::Message(summary_point, false))]
    summary_point [one("timeUnixNano", 3, Kind::Fixed64)]
    number_point [
        one("startTimeUnixNano", 2, Kind::Fixed64),
        one("timeUnixNano", 3, Kind::Fixed64),
        one("asDouble", 4, Kind::Double),
        one("asInt", 6, Kind::SFixed64),
        many("attributes", 7, ATTRIBUTE),
        one("flags", 8, Kind::UInt64),
    ]
    /// Point of an explicit histogram.
    pub(super) histogram_point [
        one("startTimeUnixNano", 2, Kind::Fixed64),
        one("timeUnixNano", 3, Kind::Fixed64),
        one("count", 4, Kind::Fixed64),
        one("sum", 5, Kind::Double),
        many("bucketCounts", 6, Kind::Fixed64),
        many("explicitBounds", 7, Kind::Double),
        many("attributes", 9, ATTRIBUTE),
        one("flags", 10, Kind::UInt64),
        one("min", 11, Kind::Double),
        one("max", 12, Kind::Double),
    ]
    /// Point of an exponential histogram.
    pub(super) exponential_point [
        many("attributes", 1, ATTRIBUTE),
        one("startTimeUnixNano", 2, Kind::Fixed64),
        one("timeUnixNano", 3, Kind::Fixed64),
        one("count", 4, Kind::Fixed64),
        one("sum", 5, Kind::Double),
        one("scale", 6, Kind::SInt32),
        one("zeroCount", 7, Kind::Fixed64),
        one("positive", 8, Kind::Message(buckets, false)),
        one("negative", 9, Kind::Message(buckets, false)),
        one("flags", 10, Kind::UInt64),
        one("min", 12, Kind::Double),
        one("max", 13, Kind::Double),
    ]
    buckets [one("offset", 1, Kind::SInt32), many("bucketCounts", 2, Kind::UInt64)]
}
