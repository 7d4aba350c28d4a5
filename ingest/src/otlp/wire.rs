//! Reads protobuf messages in place: fields are views of the body, nothing is copied.
//!
//! In: the bytes of one message. Out: its fields in order, or where they stop making sense. Unknown fields are the
//! caller's to skip, groups (wire types 3 and 4, long deprecated) are skipped here. Every length is checked against what
//! is left, so no input reads out of bounds or takes more than linear time.

use super::DecodeError;

/// The bytes are not a protobuf message; says what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl From<Malformed> for DecodeError {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Protobuf(what)
    }
}

/// A field's value as the wire type gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'a> {
    /// Integers, enums, booleans.
    Varint(u64),
    /// `fixed64`, `sfixed64`, `double`.
    Fixed64(u64),
    /// Strings, bytes, messages, packed repeated numbers.
    Bytes(&'a [u8]),
    /// `fixed32`, `sfixed32`, `float`.
    Fixed32(u32),
}

/// The fields of one message.
#[derive(Debug, Clone)]
pub(super) struct Message<'a> {
    rest: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads `bytes` as a message.
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field; `None` after a trailing group.
    #[expect(
        clippy::inline_always,
        reason = "a call for each of some thirty fields of a record, its result through memory, was a seventh of decoding"
    )]
    #[inline(always)]
    fn field(&mut self) -> Result<Option<(u32, Field<'a>)>, Malformed> {
        while !self.rest.is_empty() {
            let key = varint(&mut self.rest)?;
            let number = u32::try_from(key >> 3).map_err(|_| Malformed("field number out of range"))?;
            if number == 0 {
                return Err(Malformed("field number 0"));
            }
            let field = match key & 7 {
                0 => Field::Varint(varint(&mut self.rest)?),
                1 => Field::Fixed64(u64::from_le_bytes(array(&mut self.rest)?)),
                2 => Field::Bytes(self.bytes()?),
                5 => Field::Fixed32(u32::from_le_bytes(array(&mut self.rest)?)),
                3 => {
                    self.skip_group()?;
                    continue;
                }
                _ => return Err(Malformed("unknown wire type")),
            };
            return Ok(Some((number, field)));
        }
        Ok(None)
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = varint(&mut self.rest)?;
        let length = usize::try_from(length).map_err(|_| Malformed("length out of range"))?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Malformed("length beyond the end"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Skips to the end of a group whose start was read, whatever groups it holds; counts instead of recursing.
    #[cold]
    fn skip_group(&mut self) -> Result<(), Malformed> {
        let mut open = 1_usize;
        while open > 0 {
            match varint(&mut self.rest)? & 7 {
                0 => drop_value(varint(&mut self.rest)?),
                1 => drop_value(array::<8>(&mut self.rest)?),
                2 => drop_value(self.bytes()?),
                3 => open += 1,
                4 => open -= 1,
                5 => drop_value(array::<4>(&mut self.rest)?),
                _ => return Err(Malformed("unknown wire type")),
            }
        }
        Ok(())
    }
}

fn drop_value<T: Copy>(_: T) {}

impl<'a> Iterator for Message<'a> {
    type Item = Result<(u32, Field<'a>), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        field.transpose()
    }
}

/// Reads a LEB128 varint of at most 64 bits.
#[inline]
fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    match rest.split_first() {
        Some((byte, after)) if *byte < 0x80 => {
            *rest = after;
            Ok(u64::from(*byte))
        }
        _ => long_varint(rest),
    }
}

fn long_varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0_u64;
    for (position, byte) in rest.iter().enumerate().take(10) {
        // The tenth byte holds the 64th bit only.
        if position == 9 && *byte > 1 {
            return Err(Malformed("varint beyond 64 bits"));
        }
        value |= u64::from(byte & 0x7f) << (7 * position);
        if *byte < 0x80 {
            *rest = rest.get(position + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err(Malformed(if rest.len() < 10 { "varint cut short" } else { "varint beyond 64 bits" }))
}

#[inline]
fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (array, after) = rest.split_first_chunk::<N>().ok_or(Malformed("fixed-width value cut short"))?;
    *rest = after;
    Ok(*array)
}

/// A signed integer as protobuf's `int64` and `int32` carry it.
#[inline]
pub(super) fn signed(value: u64) -> i64 {
    value.cast_signed()
}

/// A `sint32`: zigzag. Values beyond 32 bits saturate.
pub(super) fn zigzag32(value: u64) -> i32 {
    let magnitude = (value >> 1).cast_signed();
    let value = if value & 1 == 0 { magnitude } else { !magnitude };
    i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX })
}

/// Appends a repeated field of 64-bit values to `values`: packed, or a single one.
pub(super) fn push_fixed64(field: Field<'_>, values: &mut Vec<u64>) -> Result<(), Malformed> {
    match field {
        Field::Fixed64(value) => values.push(value),
        Field::Bytes(mut bytes) => {
            values.reserve(bytes.len() / 8);
            while !bytes.is_empty() {
                values.push(u64::from_le_bytes(array(&mut bytes)?));
            }
        }
        _ => return Err(Malformed("repeated fixed64 of another wire type")),
    }
    Ok(())
}

/// Appends a repeated varint field to `values`: packed, or a single one.
pub(super) fn push_varints(field: Field<'_>, values: &mut Vec<u64>) -> Result<(), Malformed> {
    match field {
        Field::Varint(value) => values.push(value),
        Field::Bytes(mut bytes) => {
            while !bytes.is_empty() {
                values.push(varint(&mut bytes)?);
            }
        }
        _ => return Err(Malformed("repeated varint of another wire type")),
    }
    Ok(())
}

/// Appends a field key.
pub(super) fn put_tag(field: u32, wire_type: u8, out: &mut Vec<u8>) {
    put_varint((u64::from(field) << 3) | u64::from(wire_type), out);
}

/// Appends a varint.
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a length-delimited field.
pub(super) fn put_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_tag(field, 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Field<'_>)>, Malformed> {
        Message::new(bytes).collect()
    }

    #[test]
    fn reads_every_wire_type_and_skips_groups() {
        let bytes = [
            0x08, 0x96, 0x01, // 1: varint 150
            0x11, 1, 0, 0, 0, 0, 0, 0, 0, // 2: fixed64
            0x1b, 0x23, 0x08, 0x01, 0x24, 0x1c, // 3: a group holding a group
            0x22, 0x02, b'h', b'i', // 4: bytes
            0x2d, 1, 0, 0, 0, // 5: fixed32
        ];
        let expected =
            vec![(1, Field::Varint(150)), (2, Field::Fixed64(1)), (4, Field::Bytes(b"hi")), (5, Field::Fixed32(1))];
        assert_eq!(fields(&bytes), Ok(expected));
    }

    #[test]
    fn every_cut_of_a_message_is_an_error_or_ends_between_fields() {
        let bytes = [0x08, 0x96, 0x01, 0x22, 0x02, b'h', b'i'];
        for end in 0..bytes.len() {
            assert_eq!(fields(&bytes[..end]).is_ok(), [0, 3].contains(&end), "{end}");
        }
        assert!(fields(&[0x00, 0x01]).is_err());
        assert!(fields(&[0x0f]).is_err());
        assert!(fields(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).is_err());
        assert!(fields(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).is_err());
    }

    #[test]
    fn zigzag_reads_both_signs() {
        for (wire, value) in [(0, 0), (1, -1), (2, 1), (4_294_967_295, i32::MIN), (u64::MAX, i32::MIN)] {
            assert_eq!(zigzag32(wire), value);
        }
    }
}
