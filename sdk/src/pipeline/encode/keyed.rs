//! Attributes of log records under keys that come again and again: what a key needs on the wire is encoded once.
//!
//! In: a [`Key`] and a value. Out: the same bytes as `Attributes` writes, by copies of known size. Numbers become varints
//! without a loop.

use super::{Attributes, BYTES, Buffer, LOG_ATTRIBUTES, times, varint_len};

/// What one byte of a varint holds of a number.
const fn seven_bits(number: usize) -> u8 {
    (number as u64 & 0x7f) as u8
}

/// A key of a log record's attributes as it stands in front of each value: a `KeyValue` without its length and its value.
#[derive(Debug)]
pub(crate) struct Key {
    name: &'static str,
    /// Tag, room for the length, tag and length and text of the key, tag of the value.
    head: [u8; Self::ROOM],
    /// 0: the key is longer than [`MAX`](Self::MAX), so there is no head.
    len: usize,
}

impl Key {
    /// Copied as a whole, because a copy of known size costs two instructions. Chosen: two registers of 16 bytes.
    const ROOM: usize = 32;
    /// Longest key with a head.
    const MAX: usize = Self::ROOM - 5;

    pub(crate) const fn new(name: &'static str) -> Self {
        let mut head = [0; Self::ROOM];
        if name.len() > Self::MAX {
            return Self { name, head, len: 0 };
        }
        head[0] = ((LOG_ATTRIBUTES << 3 | BYTES) & 0x7f) as u8;
        head[2] = 0x0a;
        head[3] = seven_bits(name.len());
        let mut rest = name.as_bytes();
        let mut at = 4;
        while let [first, after @ ..] = rest {
            head[at] = *first;
            at += 1;
            rest = after;
        }
        head[at] = 0x12;
        Self { name, head, len: at + 1 }
    }

    /// Most bytes that the key takes with a number or around a text, copies of known size included.
    pub(crate) const fn room(&self) -> usize {
        /// Tags and lengths, an unsigned number as 20 digits, and what a copy writes beyond its end.
        const AROUND: usize = 48;
        if self.name.len() > Self::ROOM { self.name.len() + AROUND } else { Self::ROOM + AROUND }
    }
}

/// A number as `AnyValue` with its length in front.
#[derive(Debug, Clone, Copy)]
struct Number {
    bytes: [u8; 16],
    len: usize,
}

impl Number {
    /// `AnyValue.int_value` = 3; None from 2^56 on and for negative ones, whose varints are longer than a word.
    #[inline]
    fn integer(value: u64) -> Option<Self> {
        if value >> 56 != 0 {
            return None;
        }
        let len = varint_len(value);
        // Spreads 56 bits over eight bytes, seven bits each: halves, quarters, eighths.
        let spread = (value & 0x00ff_ffff_f000_0000) << 4 | value & 0x0fff_ffff;
        let spread = (spread & 0x0fff_c000_0fff_c000) << 2 | spread & 0x0000_3fff_0000_3fff;
        let spread = (spread & 0x3f80_3f80_3f80_3f80) << 1 | spread & 0x007f_007f_007f_007f;
        // All bytes but the last say that another follows.
        let word = spread | 0x8080_8080_8080_8080 & !(u64::MAX << (8 * (len - 1)));
        Some(Self::new(seven_bits(len + 1), 0x18, word))
    }

    /// `AnyValue.bool_value` = 2.
    #[inline]
    fn flag(value: bool) -> Self {
        Self::new(2, 0x10, u64::from(value))
    }

    /// `AnyValue.double_value` = 4.
    #[inline]
    fn float(value: f64) -> Self {
        Self::new(9, 0x21, value.to_bits())
    }

    /// `length` bytes: a tag and the rest of them from `word`.
    #[inline]
    fn new(length: u8, tag: u8, word: u64) -> Self {
        let whole = u128::from(word) << 16 | u128::from(tag) << 8 | u128::from(length);
        Self { bytes: whole.to_le_bytes(), len: usize::from(length) + 1 }
    }
}

/// Writes the parts of one log record, one after the other, into room that was made for all of them.
///
/// What does not fit is left out, which breaks the record: whoever makes the room counts [`Key::room`] for each key, the bytes
/// of each text, and the length of everything encoded before.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    room: &'a mut [u8],
    at: usize,
}

#[expect(clippy::inline_always, reason = "the place stays in a register only if no call comes between")]
impl Cursor<'_> {
    /// What was encoded before.
    #[inline(always)]
    pub(crate) fn encoded(&mut self, bytes: &[u8]) {
        self.put(bytes, bytes.len());
    }

    /// Writes `bytes`, of which the first `len` count: a copy of known size is two instructions.
    #[inline(always)]
    fn put(&mut self, bytes: &[u8], len: usize) {
        let room = self.room.get_mut(self.at..self.at + bytes.len());
        debug_assert!(room.is_some(), "room was made for less");
        if let Some(room) = room {
            room.copy_from_slice(bytes);
            self.at += len;
        }
    }

    /// Everything up to the value, whose length is given with its own length in front of it.
    #[inline(always)]
    fn key(&mut self, key: &Key, value_len: usize) {
        let length_at = self.at + 1;
        self.put(&key.head, key.len);
        if let Some(length) = self.room.get_mut(length_at) {
            // Callers see to it that this is below 128: one byte.
            *length = seven_bits(key.len - 2 + value_len);
        }
    }

    #[inline(always)]
    fn number(&mut self, key: &Key, number: Number) {
        self.key(key, number.len);
        self.put(&number.bytes, number.len);
    }

    /// An attribute that needs more than these short cuts.
    #[cold]
    #[inline(never)]
    fn long(&mut self, write: impl FnOnce(&mut Attributes<'_>)) {
        let mut out = Buffer::new();
        write(&mut Attributes::new(&mut out, LOG_ATTRIBUTES));
        self.put(out.as_slice(), out.len());
    }

    /// An integer.
    #[inline(always)]
    pub(crate) fn integer(&mut self, key: &Key, value: i64) {
        match Number::integer(value.cast_unsigned()) {
            Some(number) if key.len > 0 => self.number(key, number),
            _ => self.long(|attributes| attributes.integer(key.name, value)),
        }
    }

    /// An unsigned number; see [`Attributes::unsigned`].
    #[inline(always)]
    pub(crate) fn unsigned(&mut self, key: &Key, value: u64) {
        match Number::integer(value) {
            Some(number) if key.len > 0 => self.number(key, number),
            _ => self.long(|attributes| attributes.unsigned(key.name, value)),
        }
    }

    /// A truth value.
    #[inline(always)]
    pub(crate) fn flag(&mut self, key: &Key, value: bool) {
        if key.len > 0 {
            self.number(key, Number::flag(value));
        } else {
            self.long(|attributes| attributes.flag(key.name, value));
        }
    }

    /// A float.
    #[inline(always)]
    pub(crate) fn float(&mut self, key: &Key, value: f64) {
        if key.len > 0 {
            self.number(key, Number::float(value));
        } else {
            self.long(|attributes| attributes.float(key.name, value));
        }
    }

    /// A text, given as the bytes it is made of.
    #[inline(always)]
    pub(crate) fn text(&mut self, key: &Key, value: &[u8]) {
        /// With the longest key and five bytes around the text the whole stays below 128.
        const SHORT: usize = 90;
        if key.len > 0 && value.len() <= SHORT {
            self.key(key, value.len() + 3);
            let len = seven_bits(value.len());
            self.put(&[len + 2, 0x0a, len], 3);
            self.put(value, value.len());
        } else {
            self.long(|attributes| attributes.bytes(key.name, value));
        }
    }
}

/// Appends one `LogRecord` that has its times and what `write` adds, at most `room` bytes.
#[inline]
pub(crate) fn short_record(items: &mut Buffer, time_ns: u64, room: usize, write: impl FnOnce(&mut Cursor<'_>)) {
    /// Field 2 of `ScopeLogs`, with room for a length of two bytes: nearly all are between 128 bytes and 16 KiB.
    const FRONT: [u8; 3] = [((2 << 3 | BYTES) & 0x7f) as u8, 0, 0];
    let length_at = items.len + 1;
    let mut cursor = Cursor { room: items.room(FRONT.len() + 18 + room), at: 0 };
    cursor.encoded(&FRONT);
    cursor.encoded(&times(time_ns));
    write(&mut cursor);
    let written = cursor.at;
    let length = written - FRONT.len();
    if (0x80..0x4000).contains(&length) {
        if let Some([low, high]) = cursor.room.get_mut(1..3) {
            (*low, *high) = (seven_bits(length) | 0x80, seven_bits(length >> 7));
        }
        items.len += written;
    } else {
        items.len += written;
        items.set_length(length_at, 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same attribute written in both ways.
    fn check(
        keyed: impl FnOnce(&mut Cursor<'_>, &Key),
        plain: impl FnOnce(&mut Attributes<'_>, &str),
        name: &'static str,
        text_len: usize,
    ) {
        let (key, mut other) = (Key::new(name), Buffer::default());
        let mut room = vec![0xaa; key.room() + text_len];
        let mut cursor = Cursor { room: &mut room, at: 0 };
        keyed(&mut cursor, &key);
        plain(&mut Attributes::new(&mut other, LOG_ATTRIBUTES), name);
        let written = cursor.at;
        assert_eq!(&room[..written], other.as_slice(), "{name}");
    }

    const NAMES: [&str; 4] = ["n", "gemba.seq", "a.key.of.twenty_seven_bytes", "a.key.of.more.than_27_bytes.at.all"];

    #[test]
    fn a_number_under_a_known_key_is_the_same_bytes() {
        let edges = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in edges.chain([u64::MAX, 0x0123_4567_89ab_cdef]) {
            for name in NAMES {
                check(|cursor, key| cursor.unsigned(key, value), |plain, key| plain.unsigned(key, value), name, 0);
                let signed = value.cast_signed();
                check(|cursor, key| cursor.integer(key, signed), |plain, key| plain.integer(key, signed), name, 0);
                let float = f64::from_bits(value);
                check(|cursor, key| cursor.float(key, float), |plain, key| plain.float(key, float), name, 0);
            }
        }
        for value in [false, true] {
            check(|cursor, key| cursor.flag(key, value), |plain, key| plain.flag(key, value), "ok", 0);
        }
    }

    #[test]
    fn a_text_of_any_length_under_a_known_key_is_the_same_bytes() {
        for len in (0..300).chain([16_383, 16_384, 70_000]) {
            let text = "x".repeat(len);
            for name in NAMES {
                check(|cursor, key| cursor.text(key, text.as_bytes()), |plain, key| plain.text(key, &text), name, len);
            }
        }
    }

    #[test]
    fn a_record_of_any_length_has_its_length_in_front() {
        for len in [0, 80, 90, 100, 110, 120, 130, 16_300, 16_350, 16_360, 16_400, 3_000_000] {
            let mut items = Buffer::default();
            let name = "x".repeat(len);
            super::super::log_record(&mut items, 7, &name, crate::context::Trace::default(), |_| ());
            let mut head = Buffer::new();
            super::super::named(&mut head, &name);
            short_record(&mut items, 7, head.len(), |cursor| cursor.encoded(head.as_slice()));
            let decoded = <opentelemetry_proto::tonic::logs::v1::ScopeLogs as prost::Message>::decode(items.as_slice());
            let records = decoded.unwrap().log_records;
            assert_eq!(records.len(), 2);
            for record in records {
                assert_eq!((record.time_unix_nano, record.observed_time_unix_nano), (7, 7));
                assert_eq!((record.event_name.len(), record.severity_number), (len, 9));
            }
        }
    }
}
