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

/// An export request around one record as JSON, without the record: what is left of its containers when all other
/// records are taken away. [`close`] puts a record into it. Empty where it cannot be shown whole.
pub(super) fn envelope(signal: Signal, around: &Around<'_>) -> String {
    let words = match signal {
        Signal::Logs => ["resourceLogs", "scopeLogs", "logRecords"],
        Signal::Traces => ["resourceSpans", "scopeSpans", "spans"],
        Signal::Metrics => ["resourceMetrics", "scopeMetrics", "metrics"],
    };
    let first = |container: &'_ [u8]| -> Vec<u8> {
        // The first field of either container is what its records have in common.
        let fields = Message::new(container).map_while(Result::ok);
        fields
            .filter_map(|field| if let (1, Field::Bytes(bytes)) = field { Some(bytes) } else { None })
            .last()
            .unwrap_or_default()
            .to_vec()
    };
    let resource = show(json_schema::resource(), &first(around.resource));
    let scope = show(json_schema::scope(), &first(around.scope));
    let mut text = format!(
        "{{\"{}\":[{{\"resource\":{},\"{}\":[{{\"scope\":{},\"{}\":[",
        words[0], resource.text, words[1], scope.text, words[2]
    );
    if let Some(metric) = &around.metric {
        text.push_str("{\"name\":");
        quote(metric.name, &mut text);
        text.push_str(",\"unit\":");
        quote(metric.unit, &mut text);
        // Writing to a String cannot fail.
        let _infallible =
            write!(text, ",\"{}\":{{\"aggregationTemporality\":{},\"dataPoints\":[", metric.data, metric.temporality);
    }
    if resource.is_cut || scope.is_cut || text.len() > MAX_BYTES { String::new() } else { text }
}

/// The request that an envelope and its records, between commas, are.
pub(crate) fn close(signal: Signal, envelope: &str, records: &str) -> String {
    let end = if signal == Signal::Metrics { "]}}]}]}]}" } else { "]}]}]}" };
    format!("{envelope}{records}{end}")
}

/// The containers a record lies in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Around<'a> {
    /// The message with the resource.
    pub(super) resource: &'a [u8],
    /// The message with the scope.
    pub(super) scope: &'a [u8],
    /// Of data points: their metric.
    pub(super) metric: Option<AroundPoint<'a>>,
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
