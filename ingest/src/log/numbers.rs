//! Which numbers of one instance were seen: exact, and small for what really comes.
//!
//! In: numbers, mostly rising. Out: whether one was seen. The newest numbers are ranges, so an instance that has sent all of its
//! batches here is one range. Behind a balancer each of two nodes sees every other number: such fragments, once there are
//! more than [`MAX_RANGES`], go oldest first into words of 64 bits, a bit a number, and long ranges are laid beside them.
//!
//! Invariants:
//! 1. A number that was not seen is never taken for one that was: it would be acknowledged and lost.
//! 2. What is kept is bounded; beyond it the oldest are forgotten, so that a repeat of them would be stored again. They are counted.
//!    Weeks of batches lie in between, and our SDK keeps none for longer than one (its spool's `max_age`, unless told otherwise).

use std::collections::BTreeMap;

/// Most ranges of the newest numbers. Chosen: gaps come from requests in flight and from spooled batches; a thousand of them
/// at once is far beyond what an SDK keeps open.
pub(super) const MAX_RANGES: usize = 1_024;
/// Numbers from which on an older range stays one, because as bits it would take more room.
const LONG: u64 = 128;
/// Most words, and most long ranges. Chosen: every other number of 4 million, which is 48 days of a batch a second; 2 MiB.
const MAX_WORDS: usize = 1 << 16;
const BITS: u64 = 64;

/// Numbers seen.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The newest: ranges with both ends in it, rising, never touching each other.
    newest: Vec<(u64, u64)>,
    /// Older than all of those: ranges of [`LONG`] numbers and more, rising.
    long: Vec<(u64, u64)>,
    /// Older ones that lie alone or in short ranges: number / 64, and a bit for each of the 64.
    words: BTreeMap<u64, u64>,
}

impl Numbers {
    /// Those of [`Self::newest`], [`Self::long`] and [`Self::words`]; `None` for what none of these ever is.
    pub(super) fn of_parts(newest: Vec<(u64, u64)>, long: Vec<(u64, u64)>, words: BTreeMap<u64, u64>) -> Option<Self> {
        let has_ranges = [&newest, &long].into_iter().flatten().all(|(first, last)| first <= last);
        let has_words = words.iter().all(|(word, bits)| *word <= u64::MAX / BITS && *bits != 0);
        (has_ranges && has_words).then_some(Self { newest, long, words })
    }

    /// The newest, as ranges.
    pub(super) fn newest(&self) -> &[(u64, u64)] {
        &self.newest
    }

    /// Older ones in long ranges.
    pub(super) fn long(&self) -> &[(u64, u64)] {
        &self.long
    }

    /// Older ones as words.
    pub(super) fn words(&self) -> &BTreeMap<u64, u64> {
        &self.words
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        place(&self.newest, number).is_some()
            || self.words.get(&(number / BITS)).is_some_and(|word| word & bit(number) != 0)
            || place(&self.long, number).is_some()
    }

    /// Notes a number, and says how many older ones were forgotten for it.
    pub(super) fn insert(&mut self, number: u64) -> u64 {
        if self.contains(number) {
            return 0;
        }
        if self.is_old(number) {
            *self.words.entry(number / BITS).or_default() |= bit(number);
            return self.bound();
        }
        join(&mut self.newest, number);
        if self.newest.len() <= MAX_RANGES {
            return 0;
        }
        for (first, last) in self.newest.drain(..MAX_RANGES / 2) {
            if last - first >= LONG - 1 {
                self.long.push((first, last));
            } else {
                for number in first..=last {
                    *self.words.entry(number / BITS).or_default() |= bit(number);
                }
            }
        }
        self.bound()
    }

    /// Takes a number back.
    pub(super) fn remove(&mut self, number: u64) {
        if split(&mut self.newest, number) || split(&mut self.long, number) {
            return;
        }
        if let Some(word) = self.words.get_mut(&(number / BITS)) {
            *word &= !bit(number);
            if *word == 0 {
                self.words.remove(&(number / BITS));
            }
        }
    }

    /// Whether the number lies before something that is kept as old, so that it must be old as well.
    fn is_old(&self, number: u64) -> bool {
        let last_word = self.words.last_key_value().map(|(word, bits)| word * BITS + u64::from(bits.ilog2()));
        let last_long = self.long.last().map(|(_, last)| *last);
        last_word.max(last_long).is_some_and(|last| number < last)
    }

    fn bound(&mut self) -> u64 {
        let mut forgotten = 0;
        while self.words.len() > MAX_WORDS {
            forgotten += self.words.pop_first().map_or(0, |(_, word)| u64::from(word.count_ones()));
        }
        if let Some(beyond @ 1..) = self.long.len().checked_sub(MAX_WORDS) {
            forgotten += self.long.drain(..beyond).map(|(first, last)| last - first + 1).sum::<u64>();
        }
        forgotten
    }
}

fn bit(number: u64) -> u64 {
    1 << (number % BITS)
}

/// Index of the first range that ends at or after `number`.
fn at(ranges: &[(u64, u64)], number: u64) -> usize {
    ranges.partition_point(|(_, last)| *last < number)
}

/// Index of the range that holds `number`.
fn place(ranges: &[(u64, u64)], number: u64) -> Option<usize> {
    let at = at(ranges, number);
    ranges.get(at).filter(|(first, _)| *first <= number).map(|_| at)
}

/// Adds a number that is in none of the ranges.
fn join(ranges: &mut Vec<(u64, u64)>, number: u64) {
    let at = at(ranges, number);
    let joins_before = at > 0 && ranges[at - 1].1.checked_add(1) == Some(number);
    let joins_after = ranges.get(at).is_some_and(|(first, _)| number.checked_add(1) == Some(*first));
    match (joins_before, joins_after) {
        (true, true) => {
            ranges[at - 1].1 = ranges[at].1;
            ranges.remove(at);
        }
        (true, false) => ranges[at - 1].1 = number,
        (false, true) => ranges[at].0 = number,
        (false, false) => ranges.insert(at, (number, number)),
    }
}

/// Takes a number out of the range that holds it; false where none does.
fn split(ranges: &mut Vec<(u64, u64)>, number: u64) -> bool {
    let Some(at) = place(ranges, number) else { return false };
    let (first, last) = ranges[at];
    match (first == number, last == number) {
        (true, true) => drop(ranges.remove(at)),
        (true, false) => ranges[at].0 = number + 1,
        (false, true) => ranges[at].1 = number - 1,
        (false, false) => {
            ranges[at].1 = number - 1;
            ranges.insert(at + 1, (number + 1, last));
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn every_other_number_of_many_is_told_from_those_between() {
        let mut numbers = Numbers::default();
        // Those below 1,000 in one piece, as long as there was one node.
        let forgotten: u64 = (0..1_000).chain((1_000..200_000).step_by(2)).map(|number| numbers.insert(number)).sum();
        assert_eq!(forgotten, 0);
        for number in 0..200_002 {
            let seen = number < 1_000 || (number < 200_000 && number % 2 == 0);
            assert_eq!(numbers.contains(number), seen, "{number}");
        }
        assert!(numbers.newest.len() <= MAX_RANGES && numbers.words.len() < 200_000 / 64 + 1);
        // What comes late fills its gap and no other, and can be taken back.
        for late in [1_001, 17_017, 199_999] {
            assert!(!numbers.contains(late));
            numbers.insert(late);
            assert!(numbers.contains(late) && !numbers.contains(late + 2), "{late}");
            numbers.remove(late);
            assert!(!numbers.contains(late) && numbers.contains(late - 1), "{late}");
        }
    }

    #[test]
    fn beyond_the_bound_the_oldest_are_forgotten_and_none_is_invented() {
        let mut numbers = Numbers::default();
        let step = BITS;
        let last = (MAX_WORDS as u64 + 2 * MAX_RANGES as u64) * step;
        let forgotten: u64 = (0..last).step_by(64).map(|number| numbers.insert(number)).sum();
        assert!(forgotten > 0 && numbers.words.len() <= MAX_WORDS);
        let kept = (0..last).step_by(64).filter(|number| numbers.contains(*number)).count() as u64;
        assert_eq!(kept + forgotten, last / step);
        assert!(!numbers.contains(0) && numbers.contains(last - step) && !numbers.contains(last - 1));
    }

    proptest! {
        /// Against a plain set, whatever is noted and taken back in whatever order.
        #[test]
        fn numbers_say_what_a_set_says(
            steps in proptest::collection::vec((0_u64..40_000, 1_usize..3_000, 1_usize..4, any::<bool>()), 0..60)
        ) {
            let (mut numbers, mut model) = (Numbers::default(), HashSet::new());
            for (from, count, stride, note) in steps {
                for number in (from..).step_by(stride).take(count) {
                    if note {
                        prop_assert_eq!(numbers.insert(number), 0);
                        model.insert(number);
                    } else {
                        numbers.remove(number);
                        model.remove(&number);
                    }
                }
            }
            for ranges in [numbers.newest(), numbers.long()] {
                prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", ranges);
            }
            for number in 0..60_000 {
                prop_assert_eq!(numbers.contains(number), model.contains(&number), "{}", number);
            }
        }
    }
}
