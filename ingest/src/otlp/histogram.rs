//! The buckets of histogram points: read, checked, and brought to the form of the table.
//!
//! Scale 6 is what the table holds. Finer scales fold down exactly, because every finer bucket lies in one coarser one;
//! coarser ones are kept as the explicit bounds they are, so nothing is invented.

use super::sink::Fault;
use super::wire::{Field, Malformed, Message, push_fixed64, push_varints, zigzag32};
use crate::outcome::Reason;
use gemba_conventions::HISTOGRAM_SCALE;

/// Index that stands for the zero bucket.
pub(super) const ZERO_BUCKET: i32 = i32::MIN;
/// Most buckets of a point; chosen: SDKs stop at 160 (OpenTelemetry SDK, exponential histogram, `MaxSize`).
const MAX_BUCKETS: usize = 4096;

/// Buckets in the form of the table: either `scaled` or the other two are used.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Buckets {
    /// Index at scale 6 → count, ascending, none zero.
    pub(super) scaled: Vec<(i32, u64)>,
    /// Upper bounds, inclusive, ascending, in seconds.
    pub(super) bounds: Vec<f64>,
    /// Counts; one more than bounds.
    pub(super) bound_counts: Vec<u64>,
}

/// The buckets of an explicit histogram point.
#[derive(Debug, Default)]
pub(super) struct Explicit {
    counts: Vec<u64>,
    bounds: Vec<u64>,
}

impl Explicit {
    pub(super) fn clear(&mut self) {
        self.counts.clear();
        self.bounds.clear();
    }

    /// Reads field 6 (`bucket_counts`) or 7 (`explicit_bounds`).
    pub(super) fn read(&mut self, number: u32, field: Field<'_>) -> Result<(), Malformed> {
        push_fixed64(field, if number == 6 { &mut self.counts } else { &mut self.bounds })
    }

    /// The buckets of a point of `count` values.
    pub(super) fn buckets(&self, count: u64) -> Result<Buckets, Fault> {
        // Both empty is allowed and means that only count and sum are known.
        let bound_counts = match (&*self.counts, &*self.bounds) {
            ([], []) => vec![count],
            (counts, bounds) if counts.len() == bounds.len() + 1 => counts.to_vec(),
            _ => return Err(invalid("bucket_counts must have one entry more than explicit_bounds")),
        };
        if bound_counts.len() > MAX_BUCKETS {
            return Err(too_many());
        }
        let bounds: Vec<f64> = self.bounds.iter().map(|bits| f64::from_bits(*bits)).collect();
        let rising = bounds.iter().zip(bounds.iter().skip(1)).all(|(left, right)| left < right);
        if !rising || bounds.iter().any(|bound| !bound.is_finite()) {
            return Err(invalid("explicit_bounds must be finite and rising"));
        }
        Ok(Buckets { scaled: Vec::new(), bounds, bound_counts })
    }
}

/// The buckets of an exponential histogram point.
#[derive(Debug, Default)]
pub(super) struct Exponential {
    scale: i32,
    zero_count: u64,
    offset: i32,
    counts: Vec<u64>,
    /// Values below zero; no duration is, so they count as zero.
    negative: Vec<u64>,
}

impl Exponential {
    pub(super) fn clear(&mut self) {
        self.counts.clear();
        self.negative.clear();
        (self.scale, self.zero_count, self.offset) = (0, 0, 0);
    }

    /// Reads field 6 (`scale`), 7 (`zero_count`), 8 (`positive`) or 9 (`negative`).
    pub(super) fn read(&mut self, number: u32, field: Field<'_>) -> Result<(), Malformed> {
        match (number, field) {
            (6, Field::Varint(scale)) => self.scale = zigzag32(scale),
            (7, Field::Fixed64(count)) => self.zero_count = count,
            (8 | 9, Field::Bytes(buckets)) => {
                for field in Message::new(buckets) {
                    match (number, field?) {
                        (8, (1, Field::Varint(offset))) => self.offset = zigzag32(offset),
                        (8, (2, field)) => push_varints(field, &mut self.counts)?,
                        (_, (2, field)) => push_varints(field, &mut self.negative)?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The buckets at scale 6, or as explicit bounds if the scale is coarser.
    pub(super) fn buckets(&self) -> Result<Buckets, Fault> {
        if self.counts.len() > MAX_BUCKETS {
            return Err(too_many());
        }
        let zero = self.negative.iter().fold(self.zero_count, |sum, count| sum.saturating_add(*count));
        let folded = self.scale.saturating_sub(i32::from(HISTOGRAM_SCALE));
        if folded < 0 { Ok(self.explicit(zero)) } else { self.scaled(zero, folded.min(63)) }
    }

    fn scaled(&self, zero: u64, folded: i32) -> Result<Buckets, Fault> {
        let mut scaled: Vec<(i32, u64)> = Vec::with_capacity(self.counts.len() + 1);
        if zero > 0 {
            scaled.push((ZERO_BUCKET, zero));
        }
        for (position, count) in (0_i64..).zip(&self.counts).filter(|(_, count)| **count > 0) {
            // Bucket i covers (base^i, base^(i+1)], so shifting keeps it inside the coarser bucket that holds it.
            let index = (i64::from(self.offset) + position) >> folded;
            let index = i32::try_from(index).ok().filter(|index| *index != ZERO_BUCKET);
            let index = index.ok_or_else(|| invalid("the bucket index is out of range"))?;
            match scaled.last_mut() {
                Some((last, sum)) if *last == index => *sum = sum.saturating_add(*count),
                _ => scaled.push((index, *count)),
            }
        }
        Ok(Buckets { scaled, ..Buckets::default() })
    }

    fn explicit(&self, zero: u64) -> Buckets {
        let mut buckets = Buckets::default();
        let mut below = zero;
        let first = self.counts.iter().position(|count| *count > 0).unwrap_or(self.counts.len());
        let last = self.counts.iter().rposition(|count| *count > 0).map_or(first, |last| last + 1);
        let filled = self.counts.get(first..last).unwrap_or_default();
        // Bound of bucket number n from the offset: 2^(index * 2^-scale); exact where the exponent is whole.
        let bound = |index: i64| (index as f64 * (-f64::from(self.scale)).exp2()).exp2();
        let start = i64::from(self.offset).saturating_add(i64::try_from(first).unwrap_or(i64::MAX));
        for (position, count) in (0_i64..).zip(filled) {
            let lower = bound(start.saturating_add(position));
            // Bounds that no double tells apart (very coarse scales, below the least or above the greatest double)
            // make one bucket.
            if lower.is_finite() && buckets.bounds.last().is_none_or(|last| *last < lower) {
                buckets.bounds.push(lower);
                buckets.bound_counts.push(below);
                below = 0;
            }
            below = below.saturating_add(*count);
        }
        let upper = bound(start.saturating_add(i64::try_from(filled.len()).unwrap_or(i64::MAX)));
        if !filled.is_empty() && upper.is_finite() && buckets.bounds.last().is_none_or(|last| *last < upper) {
            buckets.bounds.push(upper);
            buckets.bound_counts.push(below);
            below = 0;
        }
        buckets.bound_counts.push(below);
        buckets
    }
}

fn invalid(what: &'static str) -> Fault {
    Fault::set_aside(Reason::InvalidAttribute, what)
}

fn too_many() -> Fault {
    Fault::set_aside(Reason::TooLarge, "more than 4096 buckets")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(scale: i32, offset: i32, zero_count: u64, counts: &[u64]) -> Exponential {
        Exponential { scale, zero_count, offset, counts: counts.to_vec(), negative: Vec::new() }
    }

    #[test]
    fn finer_scales_fold_down_exactly() {
        let buckets = exponential(7, -3, 5, &[1, 2, 0, 4, 8]).buckets().expect("valid");
        // Indexes -3, -2, 0, 1 at scale 7 are -2, -1, 0, 0 at scale 6.
        assert_eq!(buckets.scaled, [(ZERO_BUCKET, 5), (-2, 1), (-1, 2), (0, 12)]);
        assert!(buckets.bounds.is_empty() && buckets.bound_counts.is_empty());
        assert_eq!(exponential(6, 10, 0, &[0, 3]).buckets().expect("valid").scaled, [(11, 3)]);
        assert_eq!(exponential(20, 1 << 20, 0, &[3]).buckets().expect("valid").scaled, [(64, 3)]);
        assert_eq!(exponential(i32::MAX, -1, 0, &[3]).buckets().expect("valid").scaled, [(-1, 3)]);
    }

    #[test]
    fn coarser_scales_keep_the_bounds_they_have() {
        let buckets = exponential(0, -2, 7, &[0, 1, 2, 0]).buckets().expect("valid");
        // Bucket -1 is (0.5, 1], bucket 0 is (1, 2].
        assert_eq!(buckets.bounds, [0.5, 1.0, 2.0]);
        assert_eq!(buckets.bound_counts, [7, 1, 2, 0]);
        let buckets = exponential(5, 32, 0, &[1]).buckets().expect("valid");
        assert_eq!((buckets.bounds[0], buckets.bound_counts), (2.0, vec![0, 1, 0]));
        let empty = exponential(2, 0, 9, &[]).buckets().expect("valid");
        assert_eq!((empty.bounds.len(), empty.bound_counts), (0, vec![9]));
    }

    #[test]
    fn extreme_scales_and_offsets_lose_no_count() {
        for scale in [i32::MIN, -11, -10, -1, 5] {
            for offset in [i32::MIN, -70_000, -1, 0, 70_000, i32::MAX] {
                let buckets = exponential(scale, offset, 1, &[1, 2, 3]).buckets().expect("valid");
                assert_eq!(buckets.bound_counts.iter().sum::<u64>(), 7, "{scale} {offset}");
                assert_eq!(buckets.bound_counts.len(), buckets.bounds.len() + 1);
                assert!(buckets.bounds.iter().zip(buckets.bounds.iter().skip(1)).all(|(left, right)| left < right));
            }
        }
        assert!(exponential(6, i32::MAX, 0, &[1, 1]).buckets().is_err());
        assert!(exponential(6, i32::MIN, 0, &[1]).buckets().is_err());
    }
}
