//! Exponential histograms of durations, scale 6, as OpenTelemetry defines them.
//!
//! In: durations in nanoseconds. Out: counts of buckets, bucket `i` holding the durations `d` (in seconds) with
//! `base^i < d <= base^(i+1)` and `base = 2^(1/64)`, so that a quantile is right to 1.1 %. Exact: no duration lands in a
//! neighbour's bucket through rounding. Count, sum, smallest and largest are exact too. Pure; no clock, no lock.

/// Buckets per factor of two: 2^[`HISTOGRAM_SCALE`](gemba_conventions::HISTOGRAM_SCALE).
const BUCKETS_PER_OCTAVE: usize = 64;

/// Index of the bucket below the first bound inside the octave of 1 ns: 64 * log2(10^9) = 1913.43, and one more.
const FIRST_INDEX: i32 = -1914;

/// Bounds of buckets inside one octave of nanoseconds, `10^9 * 2^(j / 64)` scaled into [2^63, 2^64) and rounded down.
/// A whole number is above a bound if and only if it is above the bound rounded down, so comparing is exact. Computed
/// with 80 decimal digits; a test compares every neighbourhood of a bound with arbitrary precision.
#[rustfmt::skip]
const BOUNDS: [u64; BUCKETS_PER_OCTAVE] = [
    0x8099_2abb_83a5_34a2, 0x81ff_a7a9_549c_a6e3, 0x836a_0bee_9d9d_5401, 0x84d8_626d_3118_d396,
    0x864a_b625_376b_7b77, 0x87c1_1235_836d_16a3, 0x893b_81db_e7ed_5966, 0x8aba_1075_8e1e_a3cf,
    0x8c3c_c97f_4cf1_aadd, 0x8dc3_b896_0164_a7d9, 0x8f4e_e976_e7c8_b4cc, 0x90de_67ff_f600_044c,
    0x9272_4030_36b7_aa56, 0x940a_7e28_259f_b382, 0x95a7_2e2a_0ca4_4f7c, 0x9748_5c9a_622a_db60,
    0x98ee_1600_2855_a076, 0x9a98_6705_4d51_2391, 0x9c47_5c77_0cad_e96d, 0x9dfb_0346_51c9_9c68,
    0x9fb3_6888_1b4a_8811, 0xa170_9975_dfb0_6757, 0xa332_a36d_f2fd_8a6a, 0xa4f9_93f3_ed7b_61ca,
    0xa6c5_78b1_139d_848c, 0xa896_5f74_bf06_5071, 0xaa6c_5634_c8b0_4b16, 0xac47_6b0d_f43f_745f,
    0xae27_ac44_5c7d_c318, 0xb00d_2843_e106_0dc2, 0xb1f7_eda0_9520_aa93, 0xb3e8_0b17_2fd5_1af7,
    0xb5dd_8f8d_7d34_1ffd, 0xb7d8_8a12_d0dd_9ea0, 0xb9d9_09e0_79c5_c456, 0xbbdf_1e5a_373c_e5c6,
    0xbdea_d70e_af3d_9b5a, 0xbffc_43b7_e604_a922, 0xc213_743b_b6f6_4957, 0xc430_78ac_4ed4_7ae7,
    0xc653_6148_a749_ff7d, 0xc87c_3e7d_03cd_bec3, 0xcaab_20e3_6fe2_4ee5, 0xcce0_1944_3eb5_6ce4,
    0xcf1b_3896_8c23_39b8, 0xd15c_9000_bf21_1c1f, 0xd3a4_30d9_0d94_3190, 0xd5f2_2ca6_0197_43e0,
    0xd846_951f_0034_440a, 0xdaa1_7c2c_d195_55db, 0xdd02_f3ea_2ab1_8362, 0xdf6b_0ea4_3879_3a89,
    0xe1d9_dedb_2c86_c2b2, 0xe44f_7742_cb56_e3dd, 0xe6cb_eac2_fc0e_04aa, 0xe94f_4c78_59ce_1066,
    0xebd9_afb4_c6a1_8262, 0xee6b_2800_0000_0000, 0xf103_c918_34f0_f723, 0xf3a3_a6f2_9dd0_c333,
    0xf64a_d5bc_15bc_e751, 0xf8f9_69d9_b5ab_f948, 0xfbaf_77e9_7135_e555, 0xfe6d_14c2_b511_4024,
];

/// For each 128th of an octave, how many bounds lie below its beginning. Bounds are at least 1/92 of an octave apart, so
/// at most one more lies inside.
const BELOW: [u8; 128] = below();

const fn below() -> [u8; 128] {
    let mut table = [0_u8; 128];
    let mut slot = 0_usize;
    let mut bound = 0_usize;
    let mut count = 0_u8;
    while slot < 128 {
        let begin = (1_u64 << 63) + ((slot as u64) << 56);
        while bound < BUCKETS_PER_OCTAVE && BOUNDS[bound] < begin {
            bound += 1;
            count += 1;
        }
        table[slot] = count;
        slot += 1;
    }
    table
}

/// The bucket of a duration; `None` for 0, which belongs to the zero bucket.
///
/// # Examples
/// ```
/// use gemba::query::bucket_index;
/// assert_eq!(bucket_index(0), None);
/// // 64 buckets for each doubling.
/// assert_eq!(bucket_index(2_000).zip(bucket_index(1_000)).map(|(two, one)| two - one), Some(64));
/// ```
#[inline]
pub fn bucket_index(ns: u64) -> Option<i16> {
    let zeros = ns.leading_zeros();
    let scaled = ns.checked_shl(zeros)?;
    let slot = usize::try_from((scaled >> 56) & 0x7f).unwrap_or(0);
    let below = BELOW.get(slot).copied().unwrap_or(0);
    let next = BOUNDS.get(usize::from(below)).copied().unwrap_or(u64::MAX);
    let in_octave = i32::from(below) + i32::from(scaled > next);
    let octave = i32::try_from(63 - zeros).unwrap_or(0);
    i16::try_from(FIRST_INDEX + octave * 64 + in_octave).ok()
}

/// The middle of a bucket (geometric), in nanoseconds.
fn middle_ns(index: i16) -> f64 {
    1e9 * ((f64::from(index) + 0.5) / 64.0).exp2()
}

/// Where buckets were found last, by the low bits of their index: durations of one query lie in neighbouring buckets, and a
/// search by halves took half of the time of counting one. A place that is wrong by now is seen to be, so none has to be kept
/// right when buckets move.
#[derive(Debug, Clone, Copy, Default)]
struct Places([u8; Self::KEPT]);

impl Places {
    /// A power of two. Chosen: a quarter of an octave.
    const KEPT: usize = 16;

    const fn new() -> Self {
        Self([0; Self::KEPT])
    }

    /// Where the bucket was.
    #[inline]
    fn of(self, index: i16) -> usize {
        self.0.get(Self::slot(index)).map_or(0, |place| usize::from(*place))
    }

    #[inline]
    fn keep(&mut self, index: i16, place: usize) {
        // Beyond 255 buckets the rest is searched for.
        if let (Some(kept), Ok(place)) = (self.0.get_mut(Self::slot(index)), u8::try_from(place)) {
            *kept = place;
        }
    }

    #[inline]
    fn slot(index: i16) -> usize {
        usize::from(index.cast_unsigned()) % Self::KEPT
    }
}

/// Where something was found is no part of what is equal.
impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// One histogram; empty it owns no memory.
///
/// # Examples
/// ```
/// let mut times = gemba::query::Histogram::new();
/// times.record(2_000_000);
/// assert_eq!((times.count(), times.max_ns()), (1, 2_000_000));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// Non-empty buckets in the order of their indices.
    buckets: Vec<(i16, u64)>,
    places: Places,
    count: u64,
    zero_count: u64,
    sum_ns: u64,
    min_ns: u64,
    max_ns: u64,
}

impl Histogram {
    /// An empty histogram.
    ///
    /// # Examples
    /// ```
    /// let mut times = gemba::query::Histogram::new();
    /// assert_eq!((times.count(), times.heap_bytes()), (0, 0));
    /// ```
    pub const fn new() -> Self {
        Self { buckets: Vec::new(), places: Places::new(), count: 0, zero_count: 0, sum_ns: 0, min_ns: 0, max_ns: 0 }
    }

    /// Adds one duration.
    ///
    /// # Examples
    /// ```
    /// let mut times = gemba::query::Histogram::new();
    /// times.record(1_500);
    /// assert_eq!(times.sum_ns(), 1_500);
    /// ```
    #[inline]
    pub fn record(&mut self, ns: u64) {
        match bucket_index(ns) {
            Some(index) => self.add(index, 1),
            None => self.zero_count += 1,
        }
        self.min_ns = if self.count == 0 { ns } else { self.min_ns.min(ns) };
        self.max_ns = self.max_ns.max(ns);
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.count += 1;
    }

    #[inline]
    fn add(&mut self, index: i16, count: u64) {
        match self.buckets.get_mut(self.places.of(index)) {
            Some((at, counted)) if *at == index => *counted += count,
            _ => self.search_and_add(index, count),
        }
    }

    #[inline(never)]
    fn search_and_add(&mut self, index: i16, count: u64) {
        let place = match self.buckets.binary_search_by_key(&index, |(at, _)| *at) {
            Ok(place) => {
                if let Some((_, counted)) = self.buckets.get_mut(place) {
                    *counted += count;
                }
                place
            }
            Err(place) => {
                self.buckets.insert(place, (index, count));
                place
            }
        };
        self.places.keep(index, place);
    }

    /// Adds everything the other one holds.
    ///
    /// # Examples
    /// ```
    /// let mut times = gemba::query::Histogram::new();
    /// times.record(1_500);
    /// let mut all = times.clone();
    /// all.merge(&times);
    /// assert_eq!((all.count(), all.sum_ns()), (2, 3_000));
    /// ```
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else {
            for (index, count) in &other.buckets {
                self.add(*index, *count);
            }
        }
        self.min_ns = if self.count == 0 { other.min_ns } else { self.min_ns.min(other.min_ns) };
        self.max_ns = self.max_ns.max(other.max_ns);
        self.count += other.count;
        self.zero_count += other.zero_count;
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// Durations recorded.
    ///
    /// # Examples
    /// ```
    /// let mut times = gemba::query::Histogram::new();
    /// times.record(0);
    /// assert_eq!(times.count(), 1);
    /// ```
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Durations of 0 ns, which lie in no bucket.
    ///
    /// # Examples
    /// ```
    /// let mut times = gemba::query::Histogram::new();
    /// times.record(0);
    /// assert_eq!((times.zero_count(), times.buckets().len()), (1, 0));
    /// ```
    pub fn zero_count(&self) -> u64 {
        self.zero_count
    }

    /// Sum of the durations in nanoseconds; stops at `u64::MAX`, 584 years.
    ///
    /// # Examples
    /// ```
    /// let mut times = gemba::query::Histogram::new();
    /// times.record(u64::MAX);
    /// times.record(1);
    /// assert_eq!(times.sum_ns(), u64::MAX);
    /// ```
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// Shortest duration in nanoseconds; 0 when empty.
    ///
    /// # Examples
    /// ```
    /// let mut times = gemba::query::Histogram::new();
    /// for ns in [30, 20] {
    ///     times.record(ns);
    /// }
    /// assert_eq!(times.min_ns(), 20);
    /// ```
    pub fn min_ns(&self) -> u64 {
        self.min_ns
    }

    /// Longest duration in nanoseconds; 0 when empty.
    ///
    /// # Examples
    /// ```
    /// let mut times = gemba::query::Histogram::new();
    /// for ns in [30, 20] {
    ///     times.record(ns);
    /// }
    /// assert_eq!(times.max_ns(), 30);
    /// ```
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// Non-empty buckets and their counts, in the order of their indices.
    ///
    /// # Examples
    /// ```
    /// let mut times = gemba::query::Histogram::new();
    /// for ns in [20, 20, 40] {
    ///     times.record(ns);
    /// }
    /// let counts: Vec<u64> = times.buckets().iter().map(|(_, count)| *count).collect();
    /// assert_eq!(counts, [2, 1]);
    /// ```
    pub fn buckets(&self) -> &[(i16, u64)] {
        &self.buckets
    }

    /// The buckets as OTLP wants them: index of the first, then a count for every index up to the last, written to
    /// `counts`. At most 4,096 counts: the buckets of all durations there are.
    ///
    /// # Examples
    /// ```
    /// let mut times = gemba::query::Histogram::new();
    /// for ns in [1_000, 2_000] {
    ///     times.record(ns);
    /// }
    /// let mut counts = Vec::new();
    /// let first = times.dense(&mut counts);
    /// assert_eq!(Some(first), gemba::query::bucket_index(1_000).map(i32::from));
    /// assert_eq!((counts.len(), counts[0], counts[1], counts[64]), (65, 1, 0, 1));
    /// ```
    pub fn dense(&self, counts: &mut Vec<u64>) -> i32 {
        counts.clear();
        let (Some((first, _)), Some((last, _))) = (self.buckets.first(), self.buckets.last()) else { return 0 };
        let first = i32::from(*first);
        let len = usize::try_from(i32::from(*last) - first + 1).unwrap_or(0);
        counts.resize(len, 0);
        for (index, count) in &self.buckets {
            let place = usize::try_from(i32::from(*index) - first).ok();
            if let Some(slot) = place.and_then(|place| counts.get_mut(place)) {
                *slot = *count;
            }
        }
        first
    }

    /// Estimate of the quantile `q` in [0, 1], in nanoseconds: the middle of the bucket that holds the value of that rank,
    /// kept between the smallest and the largest. `None` when empty.
    ///
    /// # Examples
    /// ```
    /// let mut times = gemba::query::Histogram::new();
    /// assert_eq!(times.quantile_ns(0.5), None);
    /// (1..=100).for_each(|ms| times.record(ms * 1_000_000));
    /// let median_ms = times.quantile_ns(0.5).unwrap() / 1e6;
    /// // Half a bucket, 0.55 %.
    /// assert!((median_ms / 50.0 - 1.0).abs() < 0.0055, "{median_ms}");
    /// ```
    pub fn quantile_ns(&self, q: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0);
        let mut seen = self.zero_count as f64;
        if seen >= rank {
            return Some(0.0);
        }
        for (index, count) in &self.buckets {
            seen += *count as f64;
            if seen >= rank {
                return Some(middle_ns(*index).clamp(self.min_ns as f64, self.max_ns as f64));
            }
        }
        Some(self.max_ns as f64)
    }

    /// Bytes on the heap.
    ///
    /// # Examples
    /// ```
    /// let mut times = gemba::query::Histogram::new();
    /// times.record(5);
    /// assert!(times.heap_bytes() > 0);
    /// ```
    pub fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<(i16, u64)>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Little-endian digits of 32 bits.
    type Big = Vec<u32>;

    fn times(number: &Big, factor: u64) -> Big {
        let mut out = vec![0_u32; number.len() + 2];
        let parts = [factor & 0xffff_ffff, factor >> 32];
        for (shift, part) in parts.into_iter().enumerate() {
            let mut carry = 0_u64;
            for (at, digit) in number.iter().enumerate() {
                let sum = u64::from(out[at + shift]) + u64::from(*digit) * part + carry;
                out[at + shift] = u32::try_from(sum & 0xffff_ffff).unwrap();
                carry = sum >> 32;
            }
            let mut at = number.len() + shift;
            while carry > 0 {
                let sum = u64::from(out[at]) + carry;
                out[at] = u32::try_from(sum & 0xffff_ffff).unwrap();
                carry = sum >> 32;
                at += 1;
            }
        }
        while out.last() == Some(&0) {
            out.pop();
        }
        out
    }

    fn power64(base: u64, shift: u32) -> Big {
        let mut out = vec![1_u32];
        for _ in 0..64 {
            out = times(&out, base);
        }
        for _ in 0..shift {
            out = times(&out, 2);
        }
        out
    }

    fn is_greater(one: &Big, other: &Big) -> bool {
        (one.len(), one.iter().rev().collect::<Vec<_>>()) > (other.len(), other.iter().rev().collect::<Vec<_>>())
    }

    /// `ns` nanoseconds are more than `2^(index/64)` seconds, in whole numbers: ns^64 > 10^(9*64) * 2^index.
    fn is_above(ns: u64, index: i32) -> bool {
        let shift = index.unsigned_abs();
        if index >= 0 {
            is_greater(&power64(ns, 0), &power64(1_000_000_000, shift))
        } else {
            is_greater(&power64(ns, shift), &power64(1_000_000_000, 0))
        }
    }

    fn check(ns: u64) {
        let index = i32::from(bucket_index(ns).unwrap());
        assert!(is_above(ns, index), "{ns} ns is not above bucket {index}");
        assert!(!is_above(ns, index + 1), "{ns} ns is above bucket {index}");
    }

    #[test]
    fn every_power_and_its_neighbours_lie_in_the_bucket_of_the_definition() {
        assert_eq!(bucket_index(0), None);
        assert_eq!(bucket_index(1_000_000_000), Some(-1), "an upper bound belongs to its bucket");
        assert_eq!(bucket_index(1_000_000_001), Some(0));
        assert_eq!(bucket_index(2_000_000_000), Some(63));
        for ns in [1, 2, 3, 999_999_999, 500_000_000, 500_000_001, 1 << 40, u64::MAX, u64::MAX - 1] {
            check(ns);
        }
    }

    #[test]
    fn durations_beside_a_bound_lie_in_the_bucket_of_the_definition() {
        for index in (-1900_i16..2100).step_by(37) {
            let bound = 1e9 * (f64::from(index) / 64.0).exp2();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive bound below 2^63")]
            let near = bound as u64;
            for ns in near.saturating_sub(1).max(1)..=near + 1 {
                check(ns);
            }
        }
    }

    proptest! {
        #![proptest_config(super::super::cases(300))]

        #[test]
        fn any_duration_lies_in_the_bucket_of_the_definition(bits in 0_u32..64, noise in any::<u64>()) {
            check((noise >> bits).max(1));
        }

        #[test]
        fn merging_is_the_same_as_recording_all(one in prop::collection::vec(any::<u32>(), 0..50), two in prop::collection::vec(any::<u32>(), 0..50)) {
            let (mut a, mut b, mut all) = (Histogram::new(), Histogram::new(), Histogram::new());
            for ns in &one { a.record(u64::from(*ns)); all.record(u64::from(*ns)); }
            for ns in &two { b.record(u64::from(*ns)); all.record(u64::from(*ns)); }
            a.merge(&b);
            prop_assert_eq!(&a, &all);
            let mut counts = Vec::new();
            let offset = all.dense(&mut counts);
            prop_assert_eq!(counts.iter().sum::<u64>() + all.zero_count(), all.count());
            if let Some((first, _)) = all.buckets().first() {
                prop_assert_eq!(offset, i32::from(*first));
            }
        }

        #[test]
        fn a_quantile_is_right_to_a_bucket_width(mut values in prop::collection::vec(1_u64..10_000_000_000, 1..200), q in 0.0_f64..=1.0) {
            let mut histogram = Histogram::new();
            for ns in &values { histogram.record(*ns); }
            values.sort_unstable();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank of at most 200")]
            let rank = (q * values.len() as f64).ceil().max(1.0) as usize;
            let exact = values[rank - 1] as f64;
            let estimate = histogram.quantile_ns(q).unwrap();
            prop_assert!((estimate / exact - 1.0).abs() < 0.011, "{} for {}", estimate, exact);
        }
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(Histogram::new().quantile_ns(0.5), None);
    }
}
