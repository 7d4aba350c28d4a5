//! Dictionaries of low-cardinality columns: value → index, in the order values were first seen.
//!
//! The hash is seeded per process against crafted collisions; it decides where a lookup looks and never what is
//! written, so the bytes stay the same from run to run.

use super::column::{clear_capped, put_string};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::BuildHasher;

/// Distinct strings.
#[derive(Debug, Default)]
pub(crate) struct WordDictionary {
    /// The words as Native strings, one after another.
    wire: Vec<u8>,
    /// For each word, where its bytes begin and end in `wire`.
    spans: Vec<(usize, usize)>,
    table: HashTable<u32>,
    state: RandomState,
    /// Index of the empty word, which half of the columns of an event hold.
    empty: Option<u32>,
    marked: usize,
}

impl WordDictionary {
    /// The index of the empty word, if it was added.
    #[inline]
    pub(crate) fn empty(&self) -> Option<u32> {
        self.empty
    }

    /// The word of an index this dictionary gave out; empty for any other.
    #[inline]
    pub(crate) fn word(&self, index: u32) -> &[u8] {
        word(&self.wire, &self.spans, index)
    }

    /// The index of `value`, which is added when new.
    pub(crate) fn index(&mut self, value: &[u8]) -> u32 {
        let hash = self.state.hash_one(value);
        match self.table.find(hash, |index| same(self.word(*index), value)) {
            Some(index) => *index,
            None => self.add(hash, value),
        }
    }

    #[cold]
    fn add(&mut self, hash: u64, value: &[u8]) -> u32 {
        let Self { wire, spans, table, state, empty, .. } = self;
        let index = next_index(spans.len());
        table.insert_unique(hash, index, |index| state.hash_one(word(wire, spans, *index)));
        put_string(value, wire);
        spans.push((wire.len() - value.len(), wire.len()));
        if value.is_empty() {
            *empty = Some(index);
        }
        index
    }

    /// Distinct words.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// All words as Native strings.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// Bytes held, approximately.
    pub(crate) fn bytes(&self) -> usize {
        // 16 for the span, 4 and a share of control bytes in the table.
        self.wire.len() + self.spans.len() * 24
    }

    /// Remembers the present end.
    pub(crate) fn mark(&mut self) {
        self.marked = self.spans.len();
    }

    /// Forgets words added since the mark.
    pub(crate) fn rollback(&mut self) {
        while self.spans.len() > self.marked {
            let last = next_index(self.spans.len() - 1);
            let hash = self.state.hash_one(self.word(last));
            if let Ok(entry) = self.table.find_entry(hash, |index| *index == last) {
                entry.remove();
            }
            self.spans.pop();
        }
        self.empty = self.empty.filter(|index| (*index as usize) < self.marked);
        self.wire.truncate(self.spans.last().map_or(0, |(_, end)| *end));
    }

    /// Forgets all words.
    pub(crate) fn clear(&mut self) {
        clear_capped(&mut self.wire);
        clear_capped(&mut self.spans);
        self.table.clear();
        self.empty = None;
        self.marked = 0;
    }
}

/// Whether two short strings are equal. Measured: calling `memcmp` for strings of 5 to 20 bytes, some 25 a record, took
/// 30 % of decoding (`benches/decode.rs`); two loads that may overlap need no call.
#[inline]
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    if let (Some(left_head), Some(right_head), Some(left_tail), Some(right_tail)) =
        (left.first_chunk::<8>(), right.first_chunk::<8>(), left.last_chunk::<8>(), right.last_chunk::<8>())
    {
        return left_head == right_head && left_tail == right_tail && (left.len() <= 16 || left == right);
    }
    if let (Some(left_head), Some(right_head), Some(left_tail), Some(right_tail)) =
        (left.first_chunk::<4>(), right.first_chunk::<4>(), left.last_chunk::<4>(), right.last_chunk::<4>())
    {
        return left_head == right_head && left_tail == right_tail;
    }
    left.iter().zip(right).all(|(left, right)| left == right)
}

#[inline]
fn word<'a>(wire: &'a [u8], spans: &[(usize, usize)], index: u32) -> &'a [u8] {
    spans.get(index as usize).and_then(|(start, end)| wire.get(*start..*end)).unwrap_or_default()
}

/// Rows are cut long before 2^32 distinct values: at 64 MiB.
fn next_index(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Distinct numbers.
#[derive(Debug, Default)]
pub(crate) struct NumberDictionary {
    numbers: Vec<u64>,
    table: HashTable<u32>,
    state: RandomState,
    marked: usize,
}

impl NumberDictionary {
    /// The number of an index.
    #[inline]
    pub(crate) fn number(&self, index: u32) -> Option<u64> {
        self.numbers.get(index as usize).copied()
    }

    /// The index of `value`, which is added when new.
    pub(crate) fn index(&mut self, value: u64) -> u32 {
        let Self { numbers, table, state, .. } = self;
        let hash = state.hash_one(value);
        let at = |index: &u32| numbers.get(*index as usize).copied();
        match table.entry(hash, |index| at(index) == Some(value), |index| state.hash_one(at(index).unwrap_or_default()))
        {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let index = next_index(numbers.len());
                entry.insert(index);
                numbers.push(value);
                index
            }
        }
    }

    /// Distinct numbers.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// All numbers, little-endian.
    pub(crate) fn wire(&self) -> Vec<u8> {
        self.numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    /// Bytes held, approximately.
    pub(crate) fn bytes(&self) -> usize {
        self.numbers.len() * 16
    }

    /// Remembers the present end.
    pub(crate) fn mark(&mut self) {
        self.marked = self.numbers.len();
    }

    /// Forgets numbers added since the mark.
    pub(crate) fn rollback(&mut self) {
        while self.numbers.len() > self.marked {
            let last = next_index(self.numbers.len() - 1);
            let Some(number) = self.numbers.pop() else { return };
            if let Ok(entry) = self.table.find_entry(self.state.hash_one(number), |index| *index == last) {
                entry.remove();
            }
        }
    }

    /// Forgets all numbers.
    pub(crate) fn clear(&mut self) {
        clear_capped(&mut self.numbers);
        self.table.clear();
        self.marked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_the_same_only_if_every_byte_is() {
        let text: Vec<u8> = (0..40).collect();
        for length in 0..=text.len() {
            let left = &text[..length];
            let copy = left.to_vec();
            assert!(same(left, &copy), "{length}");
            assert!(length == 0 || !same(left, &left[1..]));
            for at in 0..length {
                let mut right = left.to_vec();
                right[at] ^= 1;
                assert!(!same(left, &right), "{length} {at}");
            }
        }
    }
}
