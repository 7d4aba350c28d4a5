//! Columns that keep their values in the very bytes ClickHouse's Native format wants, so that encoding is copying.
//!
//! Value in: one value per row, in the order of rows. Value out: the data part of one column of a Native block (client
//! revision 0, as over HTTP). Types are not checked here; `tables.rs` says which column has which type.
//!
//! Invariants:
//! 1. [`Column::rollback`] restores exactly the state at the last [`Column::mark`], dictionaries included.
//! 2. The bytes depend only on the values and their order.
//! 3. Rows are written as they were pushed, or in an [`Order`]; each of them once.

use super::dictionary::{NumberDictionary, WordDictionary, same};
use std::fmt::Debug;
use std::marker::PhantomData;

/// Capacity a buffer keeps when cleared, in bytes; chosen: a full cut (200 k rows) of 16-byte values is 3 MiB and its
/// attribute texts about 12 MiB, so steady work reallocates nothing, and one freak cut does not hold memory for ever.
pub(crate) const MAX_KEPT_BYTES: usize = 16 << 20;

/// The numbers of the rows in the order in which they are written; `None`: as they were pushed.
pub(crate) type Order<'a> = Option<&'a [u32]>;

/// A column being built.
pub(crate) trait Column: Debug + Default {
    /// What one row holds.
    type Value<'a>;

    /// Appends the value of the next row.
    fn push(&mut self, value: Self::Value<'_>);
    /// Appends the column's data, serialisation prefix included, to `out`.
    fn encode(&self, order: Order<'_>, out: &mut Vec<u8>);
    /// Bytes held, approximately.
    fn bytes(&self) -> usize;
    /// Remembers the present end.
    fn mark(&mut self);
    /// Forgets everything pushed since the last mark.
    fn rollback(&mut self);
    /// Forgets everything, keeping capped capacity.
    fn clear(&mut self);
}

/// Empties a buffer, keeping at most [`MAX_KEPT_BYTES`] of it.
pub(crate) fn clear_capped<T>(buffer: &mut Vec<T>) {
    buffer.clear();
    buffer.shrink_to(MAX_KEPT_BYTES / size_of::<T>().max(1));
}

/// Appends `value` as LEB128, the lengths and counts of the Native format.
pub(crate) fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    loop {
        let low = value.to_le_bytes()[0];
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends a string as Native format writes it: length, bytes.
pub(crate) fn put_string(value: &[u8], out: &mut Vec<u8>) {
    put_varint(value.len(), out);
    out.extend_from_slice(value);
}

/// A value of fixed width and its little-endian form.
pub(crate) trait Word: Copy + Debug + Default {
    /// Byte array of the width.
    type Wire: AsRef<[u8]>;
    /// The bytes on the wire.
    fn to_wire(self) -> Self::Wire;
    /// The value of such bytes; nothing where they are fewer.
    fn of_wire(wire: &[u8]) -> Option<Self>;
}

/// Appends those of the equally long values in `wire` that `order` names.
fn put_ordered(width: usize, wire: &[u8], order: &[u32], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + order.len() * width, 0);
    let places = out.get_mut(start..).unwrap_or_default().chunks_exact_mut(width);
    for (place, row) in places.zip(order) {
        let at = *row as usize * width;
        if let Some(value) = wire.get(at..at + width) {
            place.copy_from_slice(value);
        }
    }
}

macro_rules! word {
    ($($type:ty),+) => {$(
        impl Word for $type {
            type Wire = [u8; size_of::<$type>()];
            #[inline]
            fn to_wire(self) -> Self::Wire {
                self.to_le_bytes()
            }

            #[inline]
            fn of_wire(wire: &[u8]) -> Option<Self> {
                Some(Self::from_le_bytes(*wire.first_chunk()?))
            }
        }
    )+};
}
word!(u8, u16, u32, u64, i8, i32, i64, f32, f64);

impl Word for bool {
    type Wire = [u8; 1];
    #[inline]
    fn to_wire(self) -> Self::Wire {
        [u8::from(self)]
    }

    #[inline]
    fn of_wire(wire: &[u8]) -> Option<Self> {
        wire.first().map(|byte| *byte != 0)
    }
}

impl Word for [u8; 16] {
    type Wire = Self;
    #[inline]
    fn to_wire(self) -> Self::Wire {
        self
    }

    #[inline]
    fn of_wire(wire: &[u8]) -> Option<Self> {
        wire.first_chunk().copied()
    }
}

/// A column of values of fixed width: integers, floats, enums, dates, `FixedString(16)`.
#[derive(Debug, Default)]
pub(crate) struct Fixed<T> {
    wire: Vec<u8>,
    marked: usize,
    word: PhantomData<T>,
}

impl<T: Word> Fixed<T> {
    /// The values as they were pushed.
    pub(super) fn words(&self) -> impl Iterator<Item = T> {
        self.wire.chunks_exact(size_of::<T::Wire>()).filter_map(T::of_wire)
    }
}

impl<T: Word> Column for Fixed<T> {
    type Value<'a> = T;

    #[inline]
    fn push(&mut self, value: T) {
        self.wire.extend_from_slice(value.to_wire().as_ref());
    }

    fn encode(&self, order: Order<'_>, out: &mut Vec<u8>) {
        match order {
            None => out.extend_from_slice(&self.wire),
            Some(order) => put_ordered(size_of::<T::Wire>(), &self.wire, order, out),
        }
    }

    fn bytes(&self) -> usize {
        self.wire.len()
    }

    fn mark(&mut self) {
        self.marked = self.wire.len();
    }

    fn rollback(&mut self) {
        self.wire.truncate(self.marked);
    }

    fn clear(&mut self) {
        clear_capped(&mut self.wire);
        self.marked = 0;
    }
}

/// A `String` column; ClickHouse strings are bytes, so any are allowed.
#[derive(Debug, Default)]
pub(crate) struct Text {
    wire: Vec<u8>,
    marked: usize,
}

impl Text {
    /// Where each of so many strings begins, its length in front of it.
    fn starts(&self, count: usize) -> Vec<usize> {
        let mut starts = Vec::with_capacity(count);
        let mut rest = self.wire.iter();
        while !rest.as_slice().is_empty() {
            starts.push(self.wire.len() - rest.as_slice().len());
            let (mut length, mut shift) = (0, 0);
            for byte in rest.by_ref() {
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            rest = rest.as_slice().get(length..).unwrap_or_default().iter();
        }
        starts
    }
}

impl Column for Text {
    type Value<'a> = &'a [u8];

    #[inline]
    fn push(&mut self, value: &[u8]) {
        put_string(value, &mut self.wire);
    }

    fn encode(&self, order: Order<'_>, out: &mut Vec<u8>) {
        let Some(order) = order else {
            out.extend_from_slice(&self.wire);
            return;
        };
        let starts = self.starts(order.len());
        for value in order {
            let start = starts.get(*value as usize).copied().unwrap_or(self.wire.len());
            let end = starts.get(*value as usize + 1).copied().unwrap_or(self.wire.len());
            out.extend_from_slice(self.wire.get(start..end).unwrap_or_default());
        }
    }

    fn bytes(&self) -> usize {
        self.wire.len()
    }

    fn mark(&mut self) {
        self.marked = self.wire.len();
    }

    fn rollback(&mut self) {
        self.wire.truncate(self.marked);
    }

    fn clear(&mut self) {
        clear_capped(&mut self.wire);
        self.marked = 0;
    }
}

/// Version of the dictionary serialisation: shared dictionaries with additional keys, the only one there is
/// (ClickHouse `SerializationLowCardinality`).
pub(super) const LOW_CARDINALITY_VERSION: u64 = 1;
/// The block brings its own keys, and they replace what the reader holds (same source).
const LOW_CARDINALITY_FLAGS: u64 = (1 << 9) | (1 << 10);

/// Writes the dictionary header, its keys, and the indexes in the narrowest width.
fn put_low_cardinality(distinct: usize, keys: &[u8], indexes: &[u32], order: Order<'_>, out: &mut Vec<u8>) {
    // A reader of no rows reads nothing, so nothing may be written.
    if indexes.is_empty() {
        return;
    }
    let width: u64 = if distinct <= 1 << 8 {
        0
    } else if distinct <= 1 << 16 {
        1
    } else {
        2
    };
    out.extend_from_slice(&(LOW_CARDINALITY_FLAGS | width).to_le_bytes());
    out.extend_from_slice(&(distinct as u64).to_le_bytes());
    out.extend_from_slice(keys);
    out.extend_from_slice(&(indexes.len() as u64).to_le_bytes());
    match order {
        None => put_indexes(width, indexes.iter().copied(), out),
        Some(order) => {
            let at = |row: &u32| indexes.get(*row as usize).copied().unwrap_or_default();
            put_indexes(width, order.iter().map(at), out);
        }
    }
}

/// Writes indexes of 1, 2 or 4 bytes.
fn put_indexes(width: u64, indexes: impl Iterator<Item = u32>, out: &mut Vec<u8>) {
    match width {
        0 => out.extend(indexes.map(|index| index.to_le_bytes()[0])),
        // Chunks of a known length, which an iterator over their bytes would not tell the compiler.
        1 => {
            for index in indexes {
                out.extend_from_slice(&index.to_le_bytes()[..2]);
            }
        }
        _ => {
            for index in indexes {
                out.extend_from_slice(&index.to_le_bytes());
            }
        }
    }
}

/// A `LowCardinality(String)` column.
#[derive(Debug, Default)]
pub(crate) struct LowCardinality {
    words: WordDictionary,
    pub(super) indexes: Vec<u32>,
    marked: usize,
}

impl LowCardinality {
    /// Appends a value that is probably the one at row `guess`: comparing bytes is cheaper than hashing them.
    #[inline]
    pub(super) fn push_like(&mut self, guess: usize, value: &str) {
        let index = match (self.words.empty(), self.indexes.get(guess)) {
            (Some(index), _) if value.is_empty() => index,
            (_, Some(&index)) if same(self.words.word(index), value.as_bytes()) => index,
            _ => self.words.index(value.as_bytes()),
        };
        self.indexes.push(index);
    }

    pub(super) fn encode_data(&self, order: Order<'_>, out: &mut Vec<u8>) {
        put_low_cardinality(self.words.len(), self.words.wire(), &self.indexes, order, out);
    }

    /// The words, and for each row the index of its own.
    pub(super) fn parts(&self) -> (&WordDictionary, &[u32]) {
        (&self.words, &self.indexes)
    }
}

impl Column for LowCardinality {
    type Value<'a> = &'a str;

    #[inline]
    fn push(&mut self, value: &str) {
        self.push_like(self.indexes.len().wrapping_sub(1), value);
    }

    fn encode(&self, order: Order<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&LOW_CARDINALITY_VERSION.to_le_bytes());
        self.encode_data(order, out);
    }

    fn bytes(&self) -> usize {
        self.words.bytes() + self.indexes.len() * 4
    }

    fn mark(&mut self) {
        self.words.mark();
        self.marked = self.indexes.len();
    }

    fn rollback(&mut self) {
        self.words.rollback();
        self.indexes.truncate(self.marked);
    }

    fn clear(&mut self) {
        self.words.clear();
        clear_capped(&mut self.indexes);
        self.marked = 0;
    }
}

/// A `LowCardinality(UInt64)` column.
#[derive(Debug, Default)]
pub(crate) struct LowCardinalityNumber {
    numbers: NumberDictionary,
    indexes: Vec<u32>,
    marked: usize,
}

impl Column for LowCardinalityNumber {
    type Value<'a> = u64;

    #[inline]
    fn push(&mut self, value: u64) {
        let index = match self.indexes.last() {
            Some(&index) if self.numbers.number(index) == Some(value) => index,
            _ => self.numbers.index(value),
        };
        self.indexes.push(index);
    }

    fn encode(&self, order: Order<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&LOW_CARDINALITY_VERSION.to_le_bytes());
        put_low_cardinality(self.numbers.len(), &self.numbers.wire(), &self.indexes, order, out);
    }

    fn bytes(&self) -> usize {
        self.numbers.bytes() + self.indexes.len() * 4
    }

    fn mark(&mut self) {
        self.numbers.mark();
        self.marked = self.indexes.len();
    }

    fn rollback(&mut self) {
        self.numbers.rollback();
        self.indexes.truncate(self.marked);
    }

    fn clear(&mut self) {
        self.numbers.clear();
        clear_capped(&mut self.indexes);
        self.marked = 0;
    }
}
