//! OTLP JSON, rewritten as OTLP protobuf.
//!
//! In: JSON as the OTLP specification maps it ("JSON Protobuf Encoding"): lowerCamelCase keys, hexadecimal ids, enums as
//! integers, 64-bit integers as strings or numbers, `null` for defaults, unknown keys ignored at every depth. Out: the
//! protobuf of the same request, so that the rest of the decoder knows one form only. The text is read in one pass
//! without a tree; the tables in `json_schema.rs` say which key is which field.
//!
//! What it does not do: guess. A word where an enum's number belongs, an id that is not hexadecimal or a number out of
//! range refuse the body, naming the place.

use super::json_schema::{FieldSpec, Kind, Schema, request};
use super::value::MAX_DEPTH;
use super::wire::{put_bytes, put_tag, put_varint};
use super::{DecodeError, Signal};
use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use std::fmt;

/// Rewrites a request body.
pub(super) fn to_protobuf(signal: Signal, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    // A byte order mark is no JSON, yet some editors and frameworks write one.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut out = Vec::with_capacity(body.len() / 2);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    // Depth is bounded by the schema, and by MAX_DEPTH where the schema recurses; what is ignored is skipped by a loop.
    deserializer.disable_recursion_limit();
    MessageSeed { schema: request(signal), depth: 0, out: &mut out }
        .deserialize(&mut deserializer)
        .and_then(|_| deserializer.end())
        .map_err(|error| DecodeError::Json(error.to_string()))?;
    Ok(out)
}

/// A message: writes its fields to `out`.
struct MessageSeed<'o> {
    schema: Schema,
    /// Arrays and maps of attribute values around it.
    depth: usize,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    /// Whether there was a message, and not `null`.
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while let Some(spec) = map.next_key_seed(KeySeed(self.schema))? {
            let Some(spec) = spec else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            map.next_value_seed(FieldSeed { spec, depth: self.depth, out: &mut *self.out })?;
        }
        Ok(true)
    }
}

/// A key: which field it is, `None` if unknown.
struct KeySeed(Schema);

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Option<&'static FieldSpec>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Option<&'static FieldSpec>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|spec| spec.name == key))
    }
}

/// The value of a field, single or repeated.
struct FieldSeed<'o> {
    spec: &'static FieldSpec,
    depth: usize,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.spec.repeated { deserializer.deserialize_any(self) } else { self.element(deserializer) }
    }
}

impl FieldSeed<'_> {
    /// One value: a single field's, or one of a repeated field's.
    fn element<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { spec, depth, out } = self;
        let Kind::Message(schema, nests) = spec.kind else {
            return deserializer.deserialize_any(ScalarVisitor { spec, out });
        };
        let before = out.len();
        put_tag(spec.number, 2, out);
        let start = out.len();
        let present = if nests && depth >= MAX_DEPTH {
            // An empty array or map too deep stands for what is in it: the record is refused for its depth.
            deserializer.deserialize_ignored_any(IgnoredAny)?;
            true
        } else {
            let depth = depth + usize::from(nests);
            MessageSeed { schema: schema(), depth, out: &mut *out }.deserialize(deserializer)?
        };
        // `null` leaves a field out; in an array it stands for an empty message, which keeps its place.
        if !present && !spec.repeated {
            out.truncate(before);
            return Ok(());
        }
        insert_length(start, out);
        Ok(())
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of `{}`", self.spec.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { spec, depth, out } = self;
        while seq.next_element_seed(ElementSeed(FieldSeed { spec, depth, out: &mut *out }))?.is_some() {}
        Ok(())
    }
}

/// One element of a repeated field.
struct ElementSeed<'o>(FieldSeed<'o>);

impl<'de> DeserializeSeed<'de> for ElementSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.element(deserializer)
    }
}

/// Puts the length of everything from `start` before it. Moves those bytes once per level of nesting, which the schema
/// and [`MAX_DEPTH`] bound.
fn insert_length(start: usize, out: &mut Vec<u8>) {
    let end = out.len();
    put_varint((end - start) as u64, out);
    let width = out.len() - end;
    if let Some(tail) = out.get_mut(start..) {
        tail.rotate_right(width);
    }
}

/// A scalar: writes key and value.
struct ScalarVisitor<'o> {
    spec: &'static FieldSpec,
    out: &'o mut Vec<u8>,
}

impl ScalarVisitor<'_> {
    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        let Self { spec, out } = self;
        let range = || E::custom(format_args!("`{}` is out of range: {value}", spec.name));
        match spec.kind {
            Kind::Fixed64 => {
                put_tag(spec.number, 1, out);
                out.extend_from_slice(&u64::try_from(value).map_err(|_| range())?.to_le_bytes());
            }
            Kind::SFixed64 => {
                put_tag(spec.number, 1, out);
                out.extend_from_slice(&i64::try_from(value).map_err(|_| range())?.to_le_bytes());
            }
            Kind::Fixed32 => {
                put_tag(spec.number, 5, out);
                out.extend_from_slice(&u32::try_from(value).map_err(|_| range())?.to_le_bytes());
            }
            Kind::UInt64 => {
                put_tag(spec.number, 0, out);
                put_varint(u64::try_from(value).map_err(|_| range())?, out);
            }
            Kind::Int64 => {
                put_tag(spec.number, 0, out);
                put_varint(i64::try_from(value).map_err(|_| range())?.cast_unsigned(), out);
            }
            Kind::Enum => {
                put_tag(spec.number, 0, out);
                put_varint(i64::from(i32::try_from(value).map_err(|_| range())?).cast_unsigned(), out);
            }
            Kind::SInt32 => {
                put_tag(spec.number, 0, out);
                let value = i32::try_from(value).map_err(|_| range())?;
                put_varint(u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()), out);
            }
            _ => return Err(E::invalid_type(Unexpected::Other("a number"), &Expecting(spec))),
        }
        Ok(())
    }

    fn double(self, value: f64) {
        put_tag(self.spec.number, 1, self.out);
        self.out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

struct Expecting(&'static FieldSpec);

impl serde::de::Expected for Expecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.0.kind {
            Kind::Enum => "an integer (OTLP JSON writes enums as integers)",
            Kind::Text => "a string",
            Kind::Bytes => "base64",
            Kind::Hex => "hexadecimal digits",
            Kind::Bool => "a boolean",
            Kind::Double => "a number",
            Kind::Message(..) => "an object",
            _ => "an integer",
        };
        write!(f, "{what} in `{}`", self.0.name)
    }
}

impl Visitor<'_> for ScalarVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        serde::de::Expected::fmt(&Expecting(self.spec), f)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if !matches!(self.spec.kind, Kind::Bool) {
            return Err(E::invalid_type(Unexpected::Bool(value), &self));
        }
        put_tag(self.spec.number, 0, self.out);
        put_varint(u64::from(value), self.out);
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        if matches!(self.spec.kind, Kind::Double) {
            self.double(value as f64);
            return Ok(());
        }
        self.integer(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        if matches!(self.spec.kind, Kind::Double) {
            self.double(value as f64);
            return Ok(());
        }
        self.integer(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if matches!(self.spec.kind, Kind::Double) {
            self.double(value);
            return Ok(());
        }
        // `1e3` is an integer as well; beyond 2^100 no field reaches.
        if value.fract() != 0.0 || value.abs() > 2_f64.powi(100) {
            return Err(E::invalid_type(Unexpected::Float(value), &self));
        }
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^100")]
        let whole = value as i128;
        self.integer(whole)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let refuse = |spec| Err(E::invalid_value(Unexpected::Str(text), &Expecting(spec)));
        let (spec, number) = (self.spec, self.spec.number);
        match spec.kind {
            Kind::Text => put_bytes(number, text.as_bytes(), self.out),
            Kind::Hex => match hex(text) {
                Some(id) => put_bytes(number, &id, self.out),
                None => return refuse(spec),
            },
            Kind::Bytes => match base64(text) {
                Some(bytes) => put_bytes(number, &bytes, self.out),
                None => return refuse(spec),
            },
            Kind::Double => match text {
                "NaN" => self.double(f64::NAN),
                "Infinity" => self.double(f64::INFINITY),
                "-Infinity" => self.double(f64::NEG_INFINITY),
                _ => match text.parse::<f64>() {
                    // Rust reads more words for infinity than proto3's JSON has.
                    Ok(value) if value.is_finite() => self.double(value),
                    _ => return refuse(spec),
                },
            },
            Kind::Enum | Kind::Bool | Kind::Message(..) => return refuse(spec),
            _ => match text.parse::<i128>() {
                Ok(value) if !text.starts_with('+') => return self.integer(value),
                _ => return refuse(spec),
            },
        }
        Ok(())
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.last()?)?)).collect()
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    // proto3's JSON takes both alphabets, padded or not.
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, config).decode(text).ok()
}
