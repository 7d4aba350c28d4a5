//! A record as OTLP JSON, for people who look at what was set aside.
//!
//! In: the protobuf of a record, whatever is wrong with it. Out: JSON text of the fields the decoder knows, defaults left
//! out, invalid UTF-8 replaced, deep values and long texts cut. Both encodings of a record show the same.

use super::json_schema::{FieldSpec, Kind, Schema, is_oneof};
use super::value::{MAX_DEPTH, quote};
use super::wire::{Field, Message, push_fixed64, push_varints, signed, zigzag32};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;

/// Longest text, in bytes; what is longer is cut and is no JSON any more.
const MAX_BYTES: usize = 64 << 10;

/// Most elements of a repeated field that are looked at.
const MAX_ELEMENTS: usize = 1024;

/// The text of a record of this schema.
pub(super) fn show(schema: Schema, bytes: &[u8]) -> String {
    let mut out = String::new();
    message(schema, bytes, 0, &mut out);
    out.truncate(out.floor_char_boundary(MAX_BYTES));
    out
}

/// Writes the fields of a message in the order of its schema. A malformed rest is left out.
fn message(schema: Schema, bytes: &[u8], depth: usize, out: &mut String) {
    out.push('{');
    let mut first = true;
    for spec in schema {
        if out.len() > MAX_BYTES {
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
            repeated(spec, fields(), depth, &mut text);
        } else if let Some(field) = fields().last() {
            value(spec, field, depth, is_oneof(schema), &mut text);
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

fn repeated<'a>(spec: &FieldSpec, fields: impl Iterator<Item = Field<'a>>, depth: usize, out: &mut String) {
    let mut elements = Vec::new();
    for field in fields.take(MAX_ELEMENTS) {
        let mut numbers = Vec::new();
        match (spec.kind, field) {
            (Kind::Message(..), field) => elements.push(field),
            (Kind::UInt64, field) if push_varints(field, &mut numbers).is_ok() => {
                elements.extend(numbers.into_iter().map(Field::Varint));
            }
            (_, field) if push_fixed64(field, &mut numbers).is_ok() => {
                elements.extend(numbers.into_iter().map(Field::Fixed64));
            }
            _ => {}
        }
    }
    for (position, element) in elements.into_iter().enumerate() {
        if out.len() > MAX_BYTES {
            break;
        }
        out.push(if position == 0 { '[' } else { ',' });
        value(spec, element, depth, true, out);
    }
    if !out.is_empty() {
        out.push(']');
    }
}

/// Writes one value; nothing for a default unless `defaults`.
fn value(spec: &FieldSpec, field: Field<'_>, depth: usize, defaults: bool, out: &mut String) {
    let is_default = matches!(field, Field::Varint(0) | Field::Fixed64(0) | Field::Fixed32(0) | Field::Bytes(b""));
    if is_default && !defaults {
        return;
    }
    // Writing to a String cannot fail.
    let _infallible = match (spec.kind, field) {
        (Kind::Message(schema, nests), Field::Bytes(bytes)) => {
            if depth > MAX_DEPTH {
                out.write_str("\"..\"")
            } else {
                message(schema(), bytes, depth + usize::from(nests), out);
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
        _ => out.write_str("null"),
    };
}
