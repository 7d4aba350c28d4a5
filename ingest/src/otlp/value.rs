//! Attribute values (`AnyValue`): read in place, and written as JSON text where a column holds text.
//!
//! In: the bytes of an `AnyValue`. Out: a view of it. Arrays and maps stay bytes until somebody needs them.

use super::wire::{Field, Malformed, Message, signed};
use crate::outcome::Reason;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;
use std::fmt::Write as _;

/// Deepest nesting of arrays and maps that is read; chosen: real data nest to 4 or 5, and a frame of the recursion is
/// about 200 bytes, so the stack is never at risk.
pub(super) const MAX_DEPTH: usize = 64;

/// Why a value cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueError {
    /// The whole body is malformed.
    Malformed(Malformed),
    /// This record is refused.
    Refused(Reason),
}

impl From<Malformed> for ValueError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

/// An attribute value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// No value was set.
    Empty,
    /// A string.
    Text(&'a str),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// The bytes of an `ArrayValue`.
    Array(&'a [u8]),
    /// The bytes of a `KeyValueList`.
    Map(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// Reads a protobuf string.
///
/// Nearly all are short and ASCII. Measured with 15 keys and values of 2 to 32 bytes: `from_utf8` takes four times as long
/// as this look at whole words (10 and 2.5 ns), and a record has some eleven.
#[inline]
#[expect(unsafe_code, reason = "a second look at bytes known to be ASCII costs a tenth of decoding")]
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, ValueError> {
    if is_ascii(bytes) {
        // SAFETY: every byte is below 0x80, and such bytes are valid UTF-8 in any order.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).map_err(|_| ValueError::Refused(Reason::InvalidUtf8))
}

/// Whether no byte has its highest bit set. Words may overlap, so that there is no rest to go through byte by byte.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    if let Some(last) = bytes.last_chunk::<8>() {
        let mut seen = u64::from_le_bytes(*last);
        let mut rest = bytes;
        while let Some((word, after)) = rest.split_first_chunk::<8>() {
            seen |= u64::from_le_bytes(*word);
            rest = after;
        }
        return seen & HIGH == 0;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let seen = u32::from_le_bytes(*first) | u32::from_le_bytes(*last);
        return u64::from(seen) & HIGH == 0;
    }
    bytes.iter().fold(0, |seen, byte| seen | byte) < 0x80
}

impl<'a> Value<'a> {
    /// Reads an `AnyValue`. Of several fields the last wins, as in any oneof.
    #[inline]
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ValueError> {
        // One field and nothing else is what values are: a short string, a double, a small integer or a boolean.
        match bytes {
            [STRING, length @ 0..=0x7f, text @ ..] if usize::from(*length) == text.len() => {
                return utf8(text).map(Self::Text);
            }
            [DOUBLE, bits @ ..] if let Ok(bits) = <[u8; 8]>::try_from(bits) => {
                return Ok(Self::Double(f64::from_le_bytes(bits)));
            }
            [INT, number @ 0..=0x7f] => return Ok(Self::Int(i64::from(*number))),
            [BOOL, flag @ 0..=0x7f] => return Ok(Self::Bool(*flag != 0)),
            _ => {}
        }
        let mut value = Self::Empty;
        for field in Message::new(bytes) {
            value = match field? {
                (1, Field::Bytes(text)) => Self::Text(utf8(text)?),
                (2, Field::Varint(flag)) => Self::Bool(flag != 0),
                (3, Field::Varint(number)) => Self::Int(signed(number)),
                (4, Field::Fixed64(bits)) => Self::Double(f64::from_bits(bits)),
                (5, Field::Bytes(array)) => Self::Array(array),
                (6, Field::Bytes(map)) => Self::Map(map),
                (7, Field::Bytes(bytes)) => Self::Bytes(bytes),
                _ => value,
            };
        }
        Ok(value)
    }

    /// The value as a non-empty word: a string, or a number or boolean spelled out. `None` for everything else.
    pub(super) fn word(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(Cow::Borrowed(text)),
            Self::Int(number) => Some(Cow::Owned(number.to_string())),
            Self::Double(number) => Some(Cow::Owned(number.to_string())),
            Self::Bool(flag) => Some(Cow::Borrowed(if flag { "true" } else { "false" })),
            _ => None,
        }
    }

    /// The value as a whole number that is not negative.
    pub(super) fn count(self) -> Option<u64> {
        match self {
            Self::Int(number) => u64::try_from(number).ok(),
            Self::Text(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// Appends the value as text: strings as they are, bytes in base64, arrays and maps as JSON.
    pub(super) fn render(self, out: &mut String) -> Result<(), ValueError> {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Bytes(bytes) => STANDARD.encode_string(bytes, out),
            Self::Empty => {}
            other => other.render_json(0, out)?,
        }
        Ok(())
    }

    /// Appends the value as JSON. `depth` is how many arrays and maps are around it.
    fn render_json(self, depth: usize, out: &mut String) -> Result<(), ValueError> {
        // Writing to a String cannot fail.
        let _infallible = match self {
            Self::Empty => out.write_str("null"),
            Self::Text(text) => {
                quote(text, out);
                Ok(())
            }
            Self::Bool(flag) => write!(out, "{flag}"),
            Self::Int(number) => write!(out, "{number}"),
            // The shortest digits that read back; JSON has no words for the rest, proto3's JSON quotes them.
            Self::Double(number) if number.is_finite() => write!(out, "{number:?}"),
            Self::Double(number) if number.is_nan() => out.write_str("\"NaN\""),
            Self::Double(number) => out.write_str(if number > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }),
            Self::Bytes(bytes) => {
                out.push('"');
                STANDARD.encode_string(bytes, out);
                out.write_char('"')
            }
            Self::Array(_) | Self::Map(_) if depth >= MAX_DEPTH => return Err(ValueError::Refused(Reason::TooDeep)),
            Self::Array(array) => {
                out.push('[');
                for (position, value) in elements(array).enumerate() {
                    separate(position, out);
                    Self::read(value?)?.render_json(depth + 1, out)?;
                }
                out.write_char(']')
            }
            Self::Map(map) => {
                out.push('{');
                for (position, pair) in elements(map).enumerate() {
                    separate(position, out);
                    let (key, value) = key_value(pair?)?;
                    quote(key, out);
                    out.push(':');
                    value.render_json(depth + 1, out)?;
                }
                out.write_char('}')
            }
        };
        Ok(())
    }
}

/// The entries of an `ArrayValue` or `KeyValueList`: both are field 1, repeated.
pub(super) fn elements(bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Message::new(bytes).filter_map(|field| match field {
        Ok((1, Field::Bytes(element))) => Some(Ok(element)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// First byte of field 1 (`AnyValue.string_value`, `KeyValue.key`) and field 2 (`KeyValue.value`), length-delimited.
const STRING: u8 = 0x0a;
const VALUE: u8 = 0x12;
/// First bytes of the other values of one field: `AnyValue.bool_value`, `int_value` (varints), `double_value` (fixed64).
const BOOL: u8 = 0x10;
const INT: u8 = 0x18;
const DOUBLE: u8 = 0x21;

/// The bytes of a field of at most 127 bytes that begins here, and what follows it.
#[inline]
fn short(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match bytes {
        [first, length @ 0..=0x7f, rest @ ..] if *first == tag => rest.split_at_checked(usize::from(*length)),
        _ => None,
    }
}

/// Reads a `KeyValue`.
#[inline]
pub(super) fn key_value(bytes: &[u8]) -> Result<(&str, Value<'_>), ValueError> {
    // A short key, then a short value, is what most writers write.
    if let Some((key, rest)) = short(STRING, bytes)
        && let Some((value, [])) = short(VALUE, rest)
    {
        return Ok((utf8(key)?, Value::read(value)?));
    }
    let (mut key, mut value) = ("", Value::Empty);
    for field in Message::new(bytes) {
        match field? {
            (1, Field::Bytes(text)) => key = utf8(text)?,
            (2, Field::Bytes(any)) => value = Value::read(any)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn separate(position: usize, out: &mut String) {
    if position > 0 {
        out.push(',');
    }
}

/// Appends a JSON string.
pub(super) fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                // Writing to a String cannot fail.
                let _infallible = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_read_as_the_standard_library_reads_it_wherever_its_one_odd_byte_is() {
        for length in 0..40 {
            let ascii = vec![b'a'; length];
            assert_eq!(utf8(&ascii).ok(), std::str::from_utf8(&ascii).ok());
            for at in 0..length {
                for byte in [0, 0x7f, 0x80, 0xc3, 0xff] {
                    let mut bytes = ascii.clone();
                    bytes[at] = byte;
                    assert_eq!(is_ascii(&bytes), byte < 0x80, "{length} {at} {byte}");
                    assert_eq!(utf8(&bytes).ok(), std::str::from_utf8(&bytes).ok(), "{length} {at} {byte}");
                }
            }
        }
        assert_eq!(utf8("größer".as_bytes()), Ok("größer"));
    }
}
