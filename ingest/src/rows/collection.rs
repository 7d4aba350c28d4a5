//! Columns of which a row holds several values: arrays, and maps with their keys.
//!
//! Value in: one collection per row. Value out: where each row's entries end, then the entries, as ClickHouse's Native format has them.

use super::attributes::{Attributes, Cell};
use super::column::{Column, Fixed, LOW_CARDINALITY_VERSION, LowCardinality, Order, Text, Word};

/// Where the entries of rows end when rows are written in this order, and the entries in that order. `ends` is where they end as they
/// were pushed.
fn ordered_entries(ends: &Fixed<u64>, order: &[u32]) -> (Fixed<u64>, Vec<u32>) {
    let all: Vec<u64> = ends.words().collect();
    let mut ordered = Fixed::default();
    let mut entries = Vec::with_capacity(all.last().map_or(0, |end| usize::try_from(*end).unwrap_or(0)));
    for row in order {
        let row = *row as usize;
        let start = row.checked_sub(1).and_then(|before| all.get(before)).copied().unwrap_or(0);
        let end = all.get(row).copied().unwrap_or(start);
        entries.extend((start..end).map(|entry| u32::try_from(entry).unwrap_or(u32::MAX)));
        ordered.push(entries.len() as u64);
    }
    (ordered, entries)
}

/// The value column of an attribute map, and which attributes belong into it.
pub(crate) trait MapValues: Column {
    /// The cell's value in this column's type, `None` where it is of another.
    fn of<'a>(cell: &'a Cell<'a>, rendered: &'a str) -> Option<Self::Value<'a>>;
}

impl MapValues for Text {
    #[inline]
    fn of<'a>(cell: &'a Cell<'a>, rendered: &'a str) -> Option<&'a [u8]> {
        cell.text(rendered).map(str::as_bytes)
    }
}

impl MapValues for Fixed<f64> {
    #[inline]
    fn of<'a>(cell: &'a Cell<'a>, _: &'a str) -> Option<f64> {
        cell.number()
    }
}

impl MapValues for Fixed<bool> {
    #[inline]
    fn of<'a>(cell: &'a Cell<'a>, _: &'a str) -> Option<bool> {
        cell.boolean()
    }
}

/// A `Map(LowCardinality(String), V)` column, fed with the attributes of a record whose type is `V`.
#[derive(Debug, Default)]
pub(crate) struct AttributeMap<V> {
    /// Entries up to and with each row.
    offsets: Fixed<u64>,
    keys: LowCardinality,
    values: V,
    /// Where the keys of the row before begin: the next row probably has the same ones in the same order.
    previous: usize,
}

impl<V: MapValues> Column for AttributeMap<V> {
    type Value<'a> = &'a Attributes<'a>;

    #[inline]
    fn push(&mut self, attributes: &Attributes<'_>) {
        let start = self.keys.indexes.len();
        let mut guess = self.previous;
        for entry in attributes.entries() {
            if let Some(value) = V::of(&entry.cell, attributes.rendered()) {
                self.keys.push_like(guess, entry.key);
                guess += 1;
                self.values.push(value);
            }
        }
        self.previous = start;
        self.offsets.push(self.keys.indexes.len() as u64);
    }

    fn encode(&self, order: Order<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&LOW_CARDINALITY_VERSION.to_le_bytes());
        let ordered = order.map(|order| ordered_entries(&self.offsets, order));
        let (ends, entries) =
            ordered.as_ref().map_or((&self.offsets, None), |(ends, entries)| (ends, Some(&entries[..])));
        ends.encode(None, out);
        self.keys.encode_data(entries, out);
        self.values.encode(entries, out);
    }

    fn bytes(&self) -> usize {
        self.offsets.bytes() + self.keys.bytes() + self.values.bytes()
    }

    fn mark(&mut self) {
        self.offsets.mark();
        self.keys.mark();
        self.values.mark();
    }

    fn rollback(&mut self) {
        self.offsets.rollback();
        self.keys.rollback();
        self.values.rollback();
    }

    fn clear(&mut self) {
        self.offsets.clear();
        self.keys.clear();
        self.values.clear();
        self.previous = 0;
    }
}

/// An `Array(T)` column of fixed-width values.
#[derive(Debug, Default)]
pub(crate) struct List<T> {
    offsets: Fixed<u64>,
    values: Fixed<T>,
    total: u64,
    marked: u64,
}

impl<T: Word + 'static> Column for List<T> {
    type Value<'a> = &'a [T];

    fn push(&mut self, values: &[T]) {
        for value in values {
            self.values.push(*value);
        }
        self.total += values.len() as u64;
        self.offsets.push(self.total);
    }

    fn encode(&self, order: Order<'_>, out: &mut Vec<u8>) {
        let ordered = order.map(|order| ordered_entries(&self.offsets, order));
        let (ends, entries) =
            ordered.as_ref().map_or((&self.offsets, None), |(ends, entries)| (ends, Some(&entries[..])));
        ends.encode(None, out);
        self.values.encode(entries, out);
    }

    fn bytes(&self) -> usize {
        self.offsets.bytes() + self.values.bytes()
    }

    fn mark(&mut self) {
        self.offsets.mark();
        self.values.mark();
        self.marked = self.total;
    }

    fn rollback(&mut self) {
        self.offsets.rollback();
        self.values.rollback();
        self.total = self.marked;
    }

    fn clear(&mut self) {
        self.offsets.clear();
        self.values.clear();
        self.total = 0;
        self.marked = 0;
    }
}

/// A `Map(Int32, UInt64)` column: histogram bucket → count.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    indexes: List<i32>,
    counts: Fixed<u64>,
}

impl Column for Buckets {
    type Value<'a> = &'a [(i32, u64)];

    fn push(&mut self, buckets: &[(i32, u64)]) {
        for (index, count) in buckets {
            self.indexes.values.push(*index);
            self.counts.push(*count);
        }
        self.indexes.total += buckets.len() as u64;
        self.indexes.offsets.push(self.indexes.total);
    }

    fn encode(&self, order: Order<'_>, out: &mut Vec<u8>) {
        self.indexes.encode(order, out);
        let entries = order.map(|order| ordered_entries(&self.indexes.offsets, order).1);
        self.counts.encode(entries.as_deref(), out);
    }

    fn bytes(&self) -> usize {
        self.indexes.bytes() + self.counts.bytes()
    }

    fn mark(&mut self) {
        self.indexes.mark();
        self.counts.mark();
    }

    fn rollback(&mut self) {
        self.indexes.rollback();
        self.counts.rollback();
    }

    fn clear(&mut self) {
        self.indexes.clear();
        self.counts.clear();
    }
}
