//! A record as OTLP JSON, for people who look at what was set aside.
//!
//! In: the protobuf of a record, whatever is wrong with it. Out: JSON text of the fields the decoder knows, defaults left
//! out, invalid UTF-8 replaced, deep values and long texts cut, and whether anything was. Both encodings of a record show
//! the same, and what was not cut can be read again by `json.rs`.

use super::Signal;
use super::json_schema::{self, FieldSpec, Kind, Schema, is_oneof};
use super::value::{MAX_DEPTH, quote};
use super::wire::{Field, Message, push_fixed64, push_varints, signed, zigzag32};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;
use std::fmt::Write as _;

/// Longest text, in bytes; what is longer is cut and is no JSON any more.
const MAX_BYTES: usize = 64 << 10;

/// Most elements of a repeated field that are looked at.
const MAX_ELEMENTS: usize = 1024;

/// A record as text.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) text: String,
    /// Something was left out, so that the text is less than the record.
    pub(super) is_cut: bool,
}

/// The text of a record of this schema.
pub(super) fn show(schema: Schema, bytes: &[u8]) -> Shown {
    let (mut text, mut is_cut) = (String::new(), false);
    message(schema, bytes, 0, &mut text, &mut is_cut);
    is_cut |= text.len() > MAX_BYTES;
    text.truncate(text.floor_char_boundary(MAX_BYTES));
    Shown { text, is_cut }
}

/// The request that an envelope and its records, between commas, are.
pub(crate) fn close(signal: Signal, envelope: &str, records: &str) -> String {
    let end = if signal == Signal::Metrics { "]}}]}]}]}" } else { "]}]}]}" };
    format!("{envelope}{records}{end}")
}

/// The containers a record lies in.
#[derive(Debug, Default)]
pub(super) struct Around<'a> {
    /// The message with the resource.
    resource: &'a [u8],
    /// The message with the scope.
    scope: &'a [u8],
    /// Of data points: their metric.
    metric: Option<AroundPoint<'a>>,
    /// The beginnings of the three as JSON, each made when the first record in it asks, since there may be many records.
    texts: [Option<Shown>; 3],
}

impl<'a> Around<'a> {
    /// What follows lies in this message with a resource.
    pub(super) fn enter_resource(&mut self, resource: &'a [u8]) {
        *self = Self { resource, ..Self::default() };
    }

    /// And in this one with a scope.
    pub(super) fn enter_scope(&mut self, scope: &'a [u8]) {
        (self.scope, self.metric) = (scope, None);
        self.texts[1..].fill_with(|| None);
    }

    /// And in this metric.
    pub(super) fn enter_metric(&mut self, metric: AroundPoint<'a>) {
        (self.metric, self.texts[2]) = (Some(metric), None);
    }

    /// An export request around one record as JSON, without the record: what is left of its containers when all other
    /// records are taken away. [`close`] puts a record into it. Empty where it cannot be shown whole, or is longer than `most`.
    pub(super) fn envelope(&mut self, signal: Signal, most: usize) -> String {
        let [resources, scopes, records] = match signal {
            Signal::Logs => ["resourceLogs", "scopeLogs", "logRecords"],
            Signal::Traces => ["resourceSpans", "scopeSpans", "spans"],
            Signal::Metrics => ["resourceMetrics", "scopeMetrics", "metrics"],
        };
        let Self { resource, scope, metric, texts: [outer, middle, inner] } = self;
        let outer = outer.get_or_insert_with(|| {
            let Shown { text, is_cut } = show(json_schema::resource(), &common(resource));
            let mut text = format!("{{\"{resources}\":[{{\"resource\":{text}");
            if let Some(url) = schema_url(resource) {
                text.push_str(",\"schemaUrl\":");
                quote(&url, &mut text);
            }
            // Writing to a String cannot fail.
            let _infallible = write!(text, ",\"{scopes}\":[");
            Shown { text, is_cut }
        });
        let middle = middle.get_or_insert_with(|| {
            let Shown { text, is_cut } = show(json_schema::scope(), &common(scope));
            Shown { text: format!("{{\"scope\":{text},\"{records}\":["), is_cut }
        });
        let inner =
            inner.get_or_insert_with(|| Shown { text: metric.map_or_else(String::new, beginning), is_cut: false });
        let parts = [&*outer, &*middle, &*inner];
        let bytes: usize = parts.iter().map(|part| part.text.len()).sum();
        if parts.iter().any(|part| part.is_cut) || bytes > MAX_BYTES.min(most) {
            return String::new();
        }
        parts.map(|part| &*part.text).concat()
    }
}

/// The resource or scope of a container, which is what its records have in common. A field sent in pieces is all of them, one
/// behind the other, as the readers take it (Protocol Buffers, "Encoding", of repeated occurrences of a message).
fn common(container: &[u8]) -> Vec<u8> {
    let fields = Message::new(container).map_while(Result::ok);
    fields
        .filter_map(|field| if let (1, Field::Bytes(bytes)) = field { Some(bytes) } else { None })
        .flatten()
        .copied()
        .collect()
}

/// The schema's address of a container, where it has one; that of a resource is kept with it.
fn schema_url(container: &[u8]) -> Option<Cow<'_, str>> {
    let fields = Message::new(container).map_while(Result::ok);
    let urls = fields.filter_map(|field| if let (3, Field::Bytes(url)) = field { Some(url) } else { None });
    urls.last().filter(|url| !url.is_empty()).map(String::from_utf8_lossy)
}

/// A metric up to its first point.
fn beginning(metric: AroundPoint<'_>) -> String {
    let mut text = "{\"name\":".to_owned();
    quote(metric.name, &mut text);
    text.push_str(",\"unit\":");
    quote(metric.unit, &mut text);
    // Writing to a String cannot fail.
    let _infallible =
        write!(text, ",\"{}\":{{\"aggregationTemporality\":{},\"dataPoints\":[", metric.data, metric.temporality);
    text
}

/// The metric of a data point.
#[derive(Debug, Clone, Copy)]
pub(super) struct AroundPoint<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'a str,
    /// Its kind, as JSON names it.
    pub(super) data: &'static str,
    pub(super) temporality: u64,
}

/// Writes the fields of a message in the order of its schema. A malformed rest is left out.
fn message(schema: Schema, bytes: &[u8], depth: usize, out: &mut String, is_cut: &mut bool) {
    *is_cut |= Message::new(bytes).any(|field| field.is_err());
    out.push('{');
    let mut first = true;
    for spec in schema {
        if out.len() > MAX_BYTES {
            *is_cut = true;
            break;
        }
        let fields = || {
            Message::new(bytes)
                .map_while(Result::ok)
                .filter(|(number, _)| *number == spec.number)
                .map(|(_, field)| field)
        };
        let mut text = String::new();
        if spec.repeated {
            repeated(spec, fields(), depth, &mut text, is_cut);
        } else if let Some(field) = fields().last() {
            value(spec, field, depth, is_oneof(schema), &mut text, is_cut);
        }
        if !text.is_empty() {
            if !first {
                out.push(',');
            }
            first = false;
            quote(spec.name, out);
            out.push(':');
            out.push_str(&text);
        }
    }
    out.push('}');
}

fn repeated<'a>(
    spec: &FieldSpec,
    mut fields: impl Iterator<Item = Field<'a>>,
    depth: usize,
    out: &mut String,
    is_cut: &mut bool,
) {
    let mut elements = Vec::new();
    for field in fields.by_ref().take(MAX_ELEMENTS) {
        let mut numbers = Vec::new();
        match (spec.kind, field) {
            (Kind::Message(..), field) => elements.push(field),
            (Kind::UInt64, field) if push_varints(field, &mut numbers).is_ok() => {
                elements.extend(numbers.into_iter().map(Field::Varint));
            }
            (_, field) if push_fixed64(field, &mut numbers).is_ok() => {
                elements.extend(numbers.into_iter().map(Field::Fixed64));
            }
            _ => *is_cut = true,
        }
    }
    *is_cut |= fields.next().is_some();
    for (position, element) in elements.into_iter().enumerate() {
        if out.len() > MAX_BYTES {
            *is_cut = true;
            break;
        }
        out.push(if position == 0 { '[' } else { ',' });
        value(spec, element, depth, true, out, is_cut);
    }
    if !out.is_empty() {
        out.push(']');
    }
}

/// Writes one value; nothing for a default unless `defaults`.
fn value(spec: &FieldSpec, field: Field<'_>, depth: usize, defaults: bool, out: &mut String, is_cut: &mut bool) {
    let is_default = matches!(field, Field::Varint(0) | Field::Fixed64(0) | Field::Fixed32(0) | Field::Bytes(b""));
    if is_default && !defaults {
        return;
    }
    // Writing to a String cannot fail.
    let _infallible = match (spec.kind, field) {
        (Kind::Message(schema, nests), Field::Bytes(bytes)) => {
            if depth > MAX_DEPTH {
                *is_cut = true;
                out.write_str("\"..\"")
            } else {
                message(schema(), bytes, depth + usize::from(nests), out, is_cut);
                Ok(())
            }
        }
        (Kind::Text, Field::Bytes(bytes)) => {
            quote(&String::from_utf8_lossy(bytes), out);
            Ok(())
        }
        (Kind::Bytes, Field::Bytes(bytes)) => write!(out, "\"{}\"", STANDARD.encode(bytes)),
        (Kind::Hex, Field::Bytes(bytes)) => {
            out.push('"');
            for byte in bytes {
                let _infallible = write!(out, "{byte:02x}");
            }
            out.write_char('"')
        }
        (Kind::Bool, Field::Varint(flag)) => write!(out, "{}", flag != 0),
        (Kind::Double, Field::Fixed64(bits)) => match f64::from_bits(bits) {
            number if number.is_finite() => write!(out, "{number:?}"),
            number => write!(out, "\"{number}\""),
        },
        (Kind::SFixed64, Field::Fixed64(bits)) => write!(out, "\"{}\"", signed(bits)),
        (Kind::Int64, Field::Varint(number)) => write!(out, "\"{}\"", signed(number)),
        (Kind::Enum, Field::Varint(number)) => write!(out, "{}", signed(number)),
        (Kind::SInt32, Field::Varint(number)) => write!(out, "{}", zigzag32(number)),
        (Kind::Fixed64, Field::Fixed64(number)) | (Kind::UInt64, Field::Varint(number)) => write!(out, "\"{number}\""),
        (Kind::Fixed32, Field::Fixed32(number)) => write!(out, "{number}"),
        // A field of another wire type than the schema's: unknown, and said so.
        _ => {
            *is_cut = true;
            out.write_str("null")
        }
    };
}
