//! Rows gathered by unit, so that ClickHouse need not sort them.
//!
//! In: rows in any order, each a few words: [`Layout`] says which. Out: the rows of one unit at a time, by time. A row goes
//! to one of 256 buckets by the hash of its unit; a bucket is split once more and sorted piece by piece, and buckets are
//! independent, so that several threads can work on them. Holds all rows: the caller watches [`Shelf::bytes`].

use super::block::Block;
use super::sql::Columns;
use super::unit::Event;
use super::validate::Funnel;
use std::ops::Range;

/// Buckets as a power of two. Measured (`benches/scan.rs`): filling 1,024 of them takes a quarter longer, since each row then
/// goes to a page whose address the processor no longer remembers; 64 gain nothing more and make sorting slower.
const BUCKET_BITS: u32 = 8;
/// Rows of a chunk: what a bucket grows by. Chosen: 8 KiB of plain rows, so that what is allotted and unused stays small.
const CHUNK_ROWS: usize = 512;
/// Rows of a part that a bucket is split into before it is sorted, as a power of two, about. Measured (`benches/scan.rs` with ten
/// times the rows): 4 to 16 are alike, and a twentieth quicker than 80, which a fixed number of parts comes to there.
const PART_ROWS_BITS: u32 = 3;
/// Most parts of a bucket, as a power of two. Chosen: their ends stay in the processor's second cache.
const MAX_PART_BITS: u32 = 15;
/// Rows of a block that are packed before they go to their buckets. Chosen: they stay in the processor's nearest cache.
const STRIDE: usize = 512;
/// A bucket of fewer rows is sorted as it is.
const MIN_ROWS_TO_SPLIT: usize = 64;

/// Beginning of the 44 bits a time is kept in, 1900-01-01: ClickHouse's `DateTime64` holds nothing before it and nothing
/// after 2299, 43.6 bits later.
const ORIGIN_MS: i64 = -2_208_988_800_000;
const TIME_BITS: u32 = 44;
/// Bits of masks that fit beside the time; more go into a word of their own.
const MASK_BITS: u32 = 18;

/// How a row is kept: the unit; a word of `derived`, time, masks and `visible`, by which the rows of a unit are sorted;
/// then what else the plan's rows have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    steps: u32,
    exclusions: u32,
    /// Word of the masks where they do not fit beside the time.
    masks: Option<usize>,
    value: Option<usize>,
    hold: Option<usize>,
    /// Word of the sequence number; the instance follows. The last words of all, since they say nothing but the order.
    order: Option<usize>,
    words: usize,
}

impl Layout {
    pub(super) fn new(funnel: &Funnel, columns: Columns) -> Self {
        let bits = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (steps, exclusions) = (bits(funnel.steps.len()), bits(funnel.exclusions.len()));
        let mut words = 2;
        let mut word = |is_there: bool, width: usize| {
            let at = is_there.then_some(words);
            words += if is_there { width } else { 0 };
            at
        };
        let masks = word(steps + exclusions > MASK_BITS, 1);
        let value = word(columns.value, 1);
        let hold = word(columns.hold, 1);
        let order = word(columns.order, 2);
        Self { steps, exclusions, masks, value, hold, order, words }
    }

    /// Packs rows of a block: one column after the other, which leaves nothing to decide for each row.
    #[inline]
    fn pack_rows<const N: usize>(&self, block: &Block<'_>, range: Range<usize>, rows: &mut Vec<[u64; N]>) {
        let from_bytes = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        rows.clear();
        rows.extend(block.unit[range.clone()].iter().zip(&block.time[range.clone()]).map(|(unit, time)| {
            let mut words = [0; N];
            words[0] = from_bytes(unit);
            words[1] = time_word(from_bytes(time).cast_signed());
            words
        }));
        let (word, shift) = self.mask_place();
        let masks = [(Some(block.steps), shift), (block.exclusions, shift + self.steps)];
        for (masks, shift) in masks {
            let mut rows = rows.iter_mut();
            let into_row = |mask: u64| rows.next().into_iter().for_each(|row| row[word] |= mask << shift);
            if let Some(masks) = masks {
                masks.each(range.clone(), into_row);
            }
        }
        for (flags, bit) in [(block.visible, 0), (block.derived, 63)] {
            let flags = flags.map_or(&[][..], |flags| &flags[range.clone()]);
            rows.iter_mut().zip(flags).for_each(|(row, flag)| row[1] |= u64::from(*flag != 0) << bit);
        }
        if let (Some(at), Some(values)) = (self.value, block.values) {
            rows.iter_mut().zip(&values[range.clone()]).for_each(|(row, value)| row[at] = u64::from(*value));
        }
        let order = self.order.zip(block.order);
        let words = [
            self.hold.zip(block.hold),
            order.map(|(at, (seq, _))| (at, seq)),
            order.map(|(at, (_, instance))| (at + 1, instance)),
        ];
        for (at, column) in words.into_iter().flatten() {
            rows.iter_mut().zip(&column[range.clone()]).for_each(|(row, word)| row[at] = from_bytes(word));
        }
    }

    /// Word of the masks, and by how many bits those of the steps are shifted in it.
    fn mask_place(&self) -> (usize, u32) {
        self.masks.map_or((1, 1), |word| (word, 0))
    }

    pub(super) fn is_derived<const N: usize>(row: &[u64; N]) -> bool {
        row[1] >> 63 == 1
    }

    pub(super) fn time_ms<const N: usize>(row: &[u64; N]) -> i64 {
        Self::time_of(row[1])
    }

    /// Whether it counts as another event in a strict funnel.
    pub(super) fn is_visible<const N: usize>(row: &[u64; N]) -> bool {
        row[1] & 1 == 1
    }

    /// The time in a row's second word.
    pub(super) fn time_of(word: u64) -> i64 {
        ((word & !(1 << 63)) >> (MASK_BITS + 1)).cast_signed() + ORIGIN_MS
    }

    /// The steps an event fits.
    #[inline]
    pub(super) fn steps<const N: usize>(&self, row: &[u64; N]) -> u32 {
        low_bits(self.masks(row), self.steps)
    }

    /// The number of an event's breakdown value.
    pub(super) fn value<const N: usize>(&self, row: &[u64; N]) -> u32 {
        self.value.map_or(0, |at| low_bits(row[at], 32))
    }

    #[inline]
    fn masks<const N: usize>(&self, row: &[u64; N]) -> u64 {
        let (word, shift) = self.mask_place();
        row[word] >> shift
    }

    pub(super) fn event<const N: usize>(&self, row: &[u64; N]) -> Event {
        let (seq, instance) = self.order.map_or((0, 0), |at| (row[at], row[at + 1]));
        Event {
            time_ms: Self::time_ms(row),
            seq,
            instance,
            steps: self.steps(row),
            exclusions: low_bits(self.masks(row) >> self.steps, self.exclusions),
            hold: self.hold.map_or(0, |at| row[at]),
            value: self.value(row),
            visible: Self::is_visible(row),
        }
    }

    /// Whether it matters in which order these two come; both are events of one unit in one millisecond.
    ///
    /// Of two that fit the same one step, with the same values, a chain takes one, and at the same time whichever it is. Two
    /// that fit the same two steps can follow each other, and then it matters whether one is known to be the first.
    fn is_order_seen<const N: usize>(&self, a: &[u64; N], b: &[u64; N]) -> bool {
        let told = self.order.unwrap_or(N);
        a[1..told] != b[1..told] || self.steps(a).count_ones() > 1
    }

    /// Whether the order of two events in one millisecond matters. `rows` are those of one unit, by time.
    pub(super) fn has_ties<const N: usize>(&self, rows: &[[u64; N]]) -> bool {
        let is_tie = |a, b| Self::time_ms(a) == Self::time_ms(b) && self.is_order_seen(a, b);
        rows.windows(2).any(|pair| is_tie(&pair[0], &pair[1]))
    }

    /// Calls `each` with the milliseconds in which it does.
    pub(super) fn each_tie<const N: usize>(&self, rows: &[[u64; N]], mut each: impl FnMut(i64)) {
        for together in rows.chunk_by(|a, b| Self::time_ms(a) == Self::time_ms(b)) {
            if self.has_ties(together) {
                each(Self::time_ms(&together[0]));
            }
        }
    }

    /// Whether the rows tell the order inside a millisecond.
    pub(super) fn has_order(&self) -> bool {
        self.order.is_some()
    }
}

/// The bits of a time in the word rows are sorted by.
fn time_word(time_ms: i64) -> u64 {
    let time = time_ms.saturating_sub(ORIGIN_MS).clamp(0, (1 << TIME_BITS) - 1).cast_unsigned();
    time << (MASK_BITS + 1)
}

fn low_bits(word: u64, bits: u32) -> u32 {
    u32::try_from(word & ((1 << bits) - 1)).unwrap_or(u32::MAX)
}

/// Rows of the width a layout asks for.
#[derive(Debug)]
pub(super) enum Shelf {
    /// Unit and time with masks: most funnels.
    Two(Buckets<2>),
    /// One word more.
    Three(Buckets<3>),
    /// With order.
    Four(Buckets<4>),
    /// With order and a breakdown.
    Five(Buckets<5>),
    /// With all there can be.
    Seven(Buckets<7>),
}

/// Does the same with the rows of a [`Shelf`], whatever their width.
macro_rules! with_buckets {
    ($shelf:expr, $buckets:ident => $body:expr) => {
        match $shelf {
            Shelf::Two($buckets) => $body,
            Shelf::Three($buckets) => $body,
            Shelf::Four($buckets) => $body,
            Shelf::Five($buckets) => $body,
            Shelf::Seven($buckets) => $body,
        }
    };
}
pub(super) use with_buckets;

impl Shelf {
    pub(super) fn new(layout: &Layout) -> Self {
        match layout.words {
            2 => Self::Two(Buckets::new()),
            3 => Self::Three(Buckets::new()),
            4 => Self::Four(Buckets::new()),
            5 => Self::Five(Buckets::new()),
            _ => Self::Seven(Buckets::new()),
        }
    }

    /// Takes the rows of a block that have a unit, and calls `without` with the place of each that has none.
    pub(super) fn take(&mut self, layout: &Layout, block: &Block<'_>, without: impl FnMut(usize)) {
        with_buckets!(self, buckets => buckets.take(layout, block, without));
    }

    /// Takes rows that were kept without what this layout has behind their words.
    pub(super) fn put<'a>(&mut self, rows: impl Iterator<Item = &'a [u64]>) {
        with_buckets!(self, buckets => buckets.put(rows));
    }

    /// Memory the rows take.
    pub(super) fn bytes(&self) -> usize {
        with_buckets!(self, buckets => buckets.rows * size_of_val(&buckets.spare))
    }
}

/// Rows of `N` words by the hash of their unit.
#[derive(Debug)]
pub(super) struct Buckets<const N: usize> {
    by_hash: Vec<Bucket<N>>,
    rows: usize,
    /// The width of a row.
    spare: [u64; N],
}

/// Rows of the units that share a hash.
#[derive(Debug)]
pub(super) struct Bucket<const N: usize> {
    full: Vec<Vec<[u64; N]>>,
    open: Vec<[u64; N]>,
}

impl<const N: usize> Buckets<N> {
    fn new() -> Self {
        Self { by_hash: Vec::new(), rows: 0, spare: [0; N] }
    }

    /// Makes the buckets, once there is something to put in.
    #[cold]
    fn make(&mut self) {
        self.by_hash.resize_with(1 << BUCKET_BITS, || Bucket { full: Vec::new(), open: Vec::new() });
    }

    fn take(&mut self, layout: &Layout, block: &Block<'_>, mut without: impl FnMut(usize)) {
        let mut packed = Vec::with_capacity(STRIDE);
        for start in (0..block.unit.len()).step_by(STRIDE) {
            layout.pack_rows(block, start..block.unit.len().min(start + STRIDE), &mut packed);
            for (index, row) in packed.iter().enumerate() {
                if row[0] == 0 {
                    without(start + index);
                } else {
                    self.push(*row);
                }
            }
        }
    }

    fn put<'a>(&mut self, rows: impl Iterator<Item = &'a [u64]>) {
        for kept in rows {
            let mut row = [0; N];
            row.iter_mut().zip(kept).for_each(|(word, kept)| *word = *kept);
            self.push(row);
        }
    }

    #[inline]
    fn push(&mut self, row: [u64; N]) {
        if self.by_hash.is_empty() {
            self.make();
        }
        let bucket = &mut self.by_hash[top_bits(hash(row[0]), BUCKET_BITS)];
        if bucket.open.len() == CHUNK_ROWS {
            bucket.full.push(std::mem::replace(&mut bucket.open, Vec::with_capacity(CHUNK_ROWS)));
        }
        bucket.open.push(row);
        self.rows += 1;
    }

    /// The buckets that hold something.
    pub(super) fn into_filled(self) -> Vec<Bucket<N>> {
        let mut buckets = self.by_hash;
        buckets.retain(|bucket| !bucket.open.is_empty());
        buckets
    }
}

/// Spreads units whose numbers lie close together (Knuth's multiplicative hash).
fn hash(unit: u64) -> u64 {
    unit.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn top_bits(hash: u64, bits: u32) -> usize {
    usize::try_from(hash >> (64 - bits)).unwrap_or(0)
}

/// Sorts buckets; keeps its room from one to the next.
#[derive(Debug, Default)]
pub(super) struct Sorter<const N: usize> {
    rows: Vec<[u64; N]>,
    ends: Vec<u32>,
}

impl<const N: usize> Sorter<N> {
    /// The rows of a bucket by unit, `derived` and time.
    pub(super) fn sort(&mut self, bucket: &Bucket<N>) -> &[[u64; N]] {
        let count = bucket.full.len() * CHUNK_ROWS + bucket.open.len();
        let chunks = || bucket.full.iter().chain(std::iter::once(&bucket.open));
        if count < MIN_ROWS_TO_SPLIT {
            self.rows.clear();
            chunks().for_each(|chunk| self.rows.extend_from_slice(chunk));
            sort_rows(&mut self.rows);
            return &self.rows;
        }
        let part_bits = (count >> PART_ROWS_BITS).ilog2().min(MAX_PART_BITS);
        let part = |row: &[u64; N]| top_bits(hash(row[0]) << BUCKET_BITS, part_bits);
        self.ends.clear();
        self.ends.resize((1 << part_bits) + 1, 0);
        for row in chunks().flatten() {
            self.ends[part(row) + 1] += 1;
        }
        let mut sum = 0;
        for end in &mut self.ends {
            sum += *end;
            *end = sum;
        }
        // Room that held other rows is overwritten; only new room is cleared.
        self.rows.truncate(count);
        self.rows.resize(count, [0; N]);
        for row in chunks().flatten() {
            let next = &mut self.ends[part(row)];
            self.rows[*next as usize] = *row;
            *next += 1;
        }
        let mut start = 0;
        for &end in &self.ends[..1 << part_bits] {
            sort_rows(&mut self.rows[start..end as usize]);
            start = end as usize;
        }
        &self.rows
    }
}

fn sort_rows<const N: usize>(rows: &mut [[u64; N]]) {
    rows.sort_unstable_by_key(|row| (row[0], row[1]));
}
