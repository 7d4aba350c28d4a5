//! Records as OTLP protobuf, written by hand: no message structs, no tree, one buffer per signal.
//!
//! In: names, times and attributes. Out: the bytes of OTLP messages (opentelemetry-proto 1.x, field numbers beside each
//! function). Pure: no clock, no I/O. A length goes in front of its message after the message is written, into the room that
//! a message of its kind usually needs; one of another size is moved by a byte or two.

mod answer;
mod keyed;
mod signals;

pub(crate) use answer::rejected_records;
pub(crate) use keyed::{Cursor, Key, short_record};
pub(crate) use signals::{ExponentialPoint, Span, SpanKind, counter, exponential_histogram, span};

use crate::context::Trace;

/// Growing protobuf bytes.
#[derive(Debug, Default, Clone)]
pub(crate) struct Buffer {
    /// The first `len` are written; what follows is room, whatever is in it, so that room is made once for many messages.
    bytes: Vec<u8>,
    len: usize,
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;

/// Bytes of a varint.
fn varint_len(value: u64) -> usize {
    // 7 bits a byte, at least one byte.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

impl From<Vec<u8>> for Buffer {
    /// An empty buffer that uses the memory of `bytes`.
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, len: 0 }
    }
}

impl Buffer {
    pub(crate) const fn new() -> Self {
        Self { bytes: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets what was written and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }

    /// The room behind what is written, `more` bytes at least.
    #[inline]
    fn room(&mut self, more: usize) -> &mut [u8] {
        let needed = self.len + more;
        if self.bytes.len() < needed {
            self.grow(needed);
        }
        self.bytes.get_mut(self.len..).unwrap_or_default()
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        /// Chosen: a small message.
        const LEAST: usize = 64;
        self.bytes.resize(needed.max(2 * self.bytes.len()).max(LEAST), 0);
    }

    /// Appends bytes as they are.
    #[inline]
    pub(crate) fn encoded(&mut self, bytes: &[u8]) {
        if let Some(room) = self.room(bytes.len()).get_mut(..bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.encoded(&[(value & 0x7f) as u8 | 0x80]);
            value >>= 7;
        }
        self.encoded(&[(value & 0x7f) as u8]);
    }

    fn tag(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    /// A varint field: uint, int, bool, enum.
    pub(crate) fn uint(&mut self, field: u64, value: u64) {
        self.tag(field, VARINT);
        self.varint(value);
    }

    /// A `sint32` field.
    pub(crate) fn sint(&mut self, field: u64, value: i64) {
        self.uint(field, ((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// A `fixed64` field.
    pub(crate) fn fixed64(&mut self, field: u64, value: u64) {
        self.tag(field, FIXED64);
        self.encoded(&value.to_le_bytes());
    }

    /// A `double` field.
    pub(crate) fn double(&mut self, field: u64, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    /// A `bytes` or `string` field.
    pub(crate) fn blob(&mut self, field: u64, value: &[u8]) {
        self.tag(field, BYTES);
        self.varint(value.len() as u64);
        self.encoded(value);
    }

    /// A message field, written by `write`; below 128 bytes it is not moved.
    pub(crate) fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        self.tag(field, BYTES);
        let length_at = self.len;
        self.encoded(&[0]);
        write(self);
        self.set_length(length_at, 1);
    }

    /// Writes the length of the message that goes from `length_at` to the end, where there is room for `room` bytes of it, and
    /// moves the message if it takes more or less.
    fn set_length(&mut self, length_at: usize, room: usize) {
        let length = self.len - length_at - room;
        let width = varint_len(length as u64);
        if width != room {
            self.room(width.saturating_sub(room));
            self.bytes.copy_within(length_at + room..self.len, length_at + width);
            self.len = length_at + width + length;
        }
        let mut rest = length as u64;
        for (index, byte) in self.bytes.iter_mut().skip(length_at).take(width).enumerate() {
            let more = if index + 1 < width { 0x80 } else { 0 };
            *byte = (rest & 0x7f) as u8 | more;
            rest >>= 7;
        }
    }

    /// A packed repeated `uint64` field.
    pub(crate) fn packed(&mut self, field: u64, values: impl Iterator<Item = u64>) {
        self.message(field, |inner| values.for_each(|value| inner.varint(value)));
    }
}

/// Writes attributes (`KeyValue` messages) under one field number of the message around them.
#[derive(Debug)]
pub(crate) struct Attributes<'a> {
    buffer: &'a mut Buffer,
    field: u64,
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(buffer: &'a mut Buffer, field: u64) -> Self {
        Self { buffer, field }
    }

    /// Bytes written so far, also before these attributes.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The head of a `KeyValue` whose `AnyValue` takes `value_len` bytes.
    fn head(&mut self, key: &str, value_len: usize) {
        let pair = 1 + varint_len(key.len() as u64) + key.len() + 1 + varint_len(value_len as u64) + value_len;
        self.buffer.tag(self.field, BYTES);
        self.buffer.varint(pair as u64);
        self.buffer.blob(1, key.as_bytes());
        self.buffer.tag(2, BYTES);
        self.buffer.varint(value_len as u64);
    }

    /// A text; `AnyValue.string_value` = 1.
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.bytes(key, value.as_bytes());
    }

    /// A text, given as the bytes it is made of.
    fn bytes(&mut self, key: &str, value: &[u8]) {
        self.head(key, 1 + varint_len(value.len() as u64) + value.len());
        self.buffer.blob(1, value);
    }

    /// A text, left out when empty.
    pub(crate) fn some_text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    /// `AnyValue.bool_value` = 2.
    pub(crate) fn flag(&mut self, key: &str, value: bool) {
        self.head(key, 2);
        self.buffer.uint(2, u64::from(value));
    }

    /// `AnyValue.int_value` = 3.
    pub(crate) fn integer(&mut self, key: &str, value: i64) {
        let word = value.cast_unsigned();
        self.head(key, 1 + varint_len(word));
        self.buffer.uint(3, word);
    }

    /// An unsigned number; beyond the range of OTLP's integers it becomes a text, so that nothing is rounded.
    pub(crate) fn unsigned(&mut self, key: &str, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.integer(key, value),
            Err(_) => self.text(key, &value.to_string()),
        }
    }

    /// `AnyValue.double_value` = 4.
    pub(crate) fn float(&mut self, key: &str, value: f64) {
        self.head(key, 9);
        self.buffer.double(4, value);
    }

    /// An array of texts; `AnyValue.array_value` = 5, `ArrayValue.values` = 1.
    pub(crate) fn texts<'t>(&mut self, key: &str, values: impl Iterator<Item = &'t str>) {
        self.array(key, |array| values.for_each(|value| array.message(1, |any| any.blob(1, value.as_bytes()))));
    }

    /// An array of integers.
    pub(crate) fn integers(&mut self, key: &str, values: impl Iterator<Item = i64>) {
        self.array(key, |array| values.for_each(|value| array.message(1, |any| any.uint(3, value.cast_unsigned()))));
    }

    fn array(&mut self, key: &str, write: impl FnOnce(&mut Buffer)) {
        self.buffer.message(self.field, |pair| {
            pair.blob(1, key.as_bytes());
            pair.message(2, |any| any.message(5, write));
        });
    }
}

/// Appends one `LogRecord` (field 2 of `ScopeLogs`).
pub(crate) fn log_record(
    items: &mut Buffer,
    time_ns: u64,
    event_name: &str,
    trace: Trace,
    attributes: impl FnOnce(&mut Attributes<'_>),
) {
    items.tag(2, BYTES);
    // Nearly all are between 128 bytes and 16 KiB.
    let length_at = items.len();
    items.encoded(&[0; 2]);
    items.encoded(&times(time_ns));
    named(items, event_name);
    attributes(&mut Attributes::new(items, LOG_ATTRIBUTES));
    traced(items, trace);
    items.set_length(length_at, 2);
}

/// When a log record happened and when it was observed: fields 1 and 11, both fixed64. The order of fields says nothing in
/// protobuf.
#[inline]
fn times(time_ns: u64) -> [u8; 18] {
    let time = time_ns.to_le_bytes();
    let mut times = [0; 18];
    times[0] = 0x09;
    times[1..9].copy_from_slice(&time);
    times[9] = 0x59;
    times[10..].copy_from_slice(&time);
    times
}

/// Field of `LogRecord.attributes`.
pub(crate) const LOG_ATTRIBUTES: u64 = 6;

/// The name of a `LogRecord`, and its severity.
pub(crate) fn named(record: &mut Buffer, event_name: &str) {
    // SeverityNumber INFO = 9: some collectors drop records without a severity.
    record.uint(2, 9);
    record.blob(12, event_name.as_bytes());
}

/// The span a `LogRecord` belongs to, if there is one.
pub(crate) fn traced(record: &mut Buffer, trace: Trace) {
    if trace != Trace::default() {
        record.blob(9, &trace.trace_id);
        record.blob(10, &trace.span_id);
    }
}

/// Puts the whole export request around `items` into `out`: `Export*ServiceRequest` and `Resource*`, `Scope*` are alike in
/// all signals (resource = 1, scope part = 2; scope = 1, items = 2).
pub(crate) fn request(out: &mut Vec<u8>, resource: impl FnOnce(&mut Attributes<'_>), items: &[u8]) {
    let mut resource_part = Buffer::default();
    resource_part.message(1, |out| resource(&mut Attributes::new(out, 1)));
    let mut scope = Buffer::default();
    scope.message(1, |out| {
        out.blob(1, b"gemba");
        out.blob(2, env!("CARGO_PKG_VERSION").as_bytes());
    });
    // The lengths are known, so the items are copied once.
    let scope_len = scope.len() + items.len();
    let group_len = resource_part.len() + 1 + varint_len(scope_len as u64) + scope_len;
    let mut request = Buffer::from(std::mem::take(out));
    request.room(group_len + 8);
    request.tag(1, BYTES);
    request.varint(group_len as u64);
    request.encoded(resource_part.as_slice());
    request.tag(2, BYTES);
    request.varint(scope_len as u64);
    request.encoded(scope.as_slice());
    request.encoded(items);
    *out = request.into_bytes();
}
