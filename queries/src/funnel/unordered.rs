//! Units whose events' order inside a millisecond matters and has not been told.
//!
//! In: their rows, without that order. Out: which units at which instants are to be asked for again ([`Again`]); then the rows of
//! all other instants, which need no order. So a second statement reads what lies at some instants, not all there is.

use super::buckets::Layout;

/// Rows that are kept at most, by a thread and in all. Chosen: 32 MiB of plain ones, far more than the units take that one may ask for by
/// number.
const MAX_ROWS: usize = 1 << 21;

/// What is to be asked for again, with its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// The units, each once. Empty: nothing is to be asked for.
    pub units: Vec<u64>,
    /// The instants, milliseconds since the Unix epoch, ascending, each once. A row of one of the units at one of these is
    /// wanted, whichever of the units the instant was found with.
    pub times_ms: Vec<i64>,
}

/// The units and their rows.
#[derive(Debug, Default)]
pub(super) struct Unordered {
    units: Vec<u64>,
    times_ms: Vec<i64>,
    /// The rows one after the other, each of `words` words.
    rows: Vec<u64>,
    words: usize,
    /// Too many rows to be kept: all are to be fetched once more.
    is_too_much: bool,
}

impl Unordered {
    /// Keeps the rows of one unit, by time.
    pub(super) fn keep<const N: usize>(&mut self, layout: &Layout, rows: &[[u64; N]]) {
        if self.is_too_much || self.rows.len() / N + rows.len() > MAX_ROWS {
            *self = Self { is_too_much: true, ..Self::default() };
            return;
        }
        self.words = N;
        self.units.push(rows[0][0]);
        layout.each_tie(rows, |time_ms| self.times_ms.push(time_ms));
        self.rows.extend_from_slice(rows.as_flattened());
    }

    /// Takes in what another thread, or another part of the units, kept.
    pub(super) fn merge(&mut self, other: Self) {
        let width = self.words.max(other.words).max(1);
        let rows = (self.rows.len() + other.rows.len()) / width;
        if self.is_too_much || other.is_too_much || rows > MAX_ROWS {
            *self = Self { is_too_much: true, ..Self::default() };
            return;
        }
        self.words = width;
        self.units.extend(other.units);
        self.times_ms.extend(other.times_ms);
        self.rows.extend(other.rows);
    }

    /// What is to be asked for; `None` where that is more than `max` units or instants, or more rows than were kept.
    pub(super) fn again(&mut self, max: usize) -> Option<Again> {
        self.sort_times();
        let fits = !self.is_too_much && self.units.len().max(self.times_ms.len()) <= max;
        fits.then(|| Again { units: self.units.clone(), times_ms: self.times_ms.clone() })
    }

    /// The rows at instants that are not asked for again, words in their old order.
    pub(super) fn settled(&mut self) -> impl Iterator<Item = &[u64]> {
        self.sort_times();
        let is_settled = |row: &&[u64]| self.times_ms.binary_search(&Layout::time_of(row[1])).is_err();
        self.rows.chunks_exact(self.words.max(1)).filter(is_settled)
    }

    fn sort_times(&mut self) {
        self.times_ms.sort_unstable();
        self.times_ms.dedup();
    }

    /// Memory of the rows, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.rows.len() * size_of::<u64>()
    }
}
