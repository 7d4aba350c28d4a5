//! Which ids are known to have their row in ClickHouse, so that it is not sent anew with every cut.
//!
//! In: ids of cuts that are stored. Out: whether the row of an id can be left out. Only for tables where writing a row
//! twice changes nothing (units, resources): an id that is forgotten here costs one row more, so a table of fixed size
//! does, in which an id takes the place of another. Without it a busy server wrote two rows of `units` for every
//! five events, and looking for their first sight in a cut was a third of decoding (`tests/benches/load`).

use std::sync::atomic::{AtomicU64, Ordering};

/// Places, 8 bytes each. Chosen: three times the people and sessions at work at a time on a server with 300,000 of them.
const PLACES: usize = 1 << 20;
/// Places an id may have: as many as a line of the processor's cache holds, so that looking at all costs one wait for memory.
const WAYS: usize = 8;
/// How long an id is known. Chosen: what somebody removes from the tables by hand comes back with the next event after
/// this time, and rows written once in ten minutes cost nothing.
const ERA_MS: i64 = 10 * 60 * 1_000;

/// The ids; shared by all rows of a server.
#[derive(Debug)]
pub(crate) struct StoredIds {
    /// An id and its era, mixed; 0 where nothing is known. An id is a keyed 64-bit hash: two that meet are one anyway.
    lines: Box<[Line]>,
}

/// The places of ids that share their low bits.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; WAYS]);

impl Default for StoredIds {
    fn default() -> Self {
        Self { lines: (0..PLACES / WAYS).map(|_| Line::default()).collect() }
    }
}

/// Number of the ten minutes that a receive time (ms since the Unix epoch) lies in.
pub(super) fn era(received_ms: i64) -> u64 {
    received_ms.div_euclid(ERA_MS).cast_unsigned()
}

fn mixed(id: u64, era: u64) -> u64 {
    // 2^64 over the golden ratio, odd: eras differ in all bits.
    id ^ era.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl StoredIds {
    fn line(&self, id: u64) -> &[AtomicU64] {
        // Low bits of a hash are as good as any.
        let index = id % (PLACES / WAYS) as u64;
        self.lines.get(usize::try_from(index).unwrap_or(0)).map_or(&[], |line| &line.0)
    }

    /// Whether the id was noted in this era.
    #[inline]
    pub(super) fn contains(&self, id: u64, era: u64) -> bool {
        // Relaxed: whoever notes an id has waited for ClickHouse to store it; nothing else is read on the strength of it.
        let wanted = mixed(id, era);
        // All are looked at: eight comparisons without a branch cost less than one branch guessed wrong.
        self.line(id).iter().fold(false, |found, place| found | (place.load(Ordering::Relaxed) == wanted))
    }

    /// Forgets an id whose row was removed, together with those it shares a line with: their rows are written once more.
    pub(crate) fn forget(&self, id: u64) {
        for place in self.line(id) {
            place.store(0, Ordering::Relaxed);
        }
    }

    /// Notes an id whose row is stored.
    pub(super) fn note(&self, id: u64, era: u64) {
        if self.contains(id, era) {
            return;
        }
        let line = self.line(id);
        let is_empty = |place: &&AtomicU64| place.load(Ordering::Relaxed) == 0;
        // Whoever is replaced is chosen by bits that did not choose the line.
        let by_chance = usize::try_from(id >> 61).unwrap_or(0);
        if let Some(place) = line.iter().find(is_empty).or_else(|| line.get(by_chance)) {
            place.store(mixed(id, era), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_in_the_era_it_was_noted_in_until_others_take_its_place() {
        let ids = StoredIds::default();
        let (now, later) = (era(1_763_900_000_000), era(1_763_900_000_000 + ERA_MS));
        assert_ne!(now, later);
        ids.note(7, now);
        assert!(ids.contains(7, now));
        assert!(!ids.contains(7, later));
        assert!(!ids.contains(8, now));
        // Ids of one line: eight of them have room, one more takes the place that its upper bits choose.
        let lines = (PLACES / WAYS) as u64;
        let others: Vec<u64> = (1..=WAYS as u64).map(|number| 7 + number * lines).collect();
        for id in &others {
            assert!(!ids.contains(*id, now));
            ids.note(*id, now);
            ids.note(*id, now);
            assert!(ids.contains(*id, now), "{id}");
        }
        let known = others.iter().chain([&7]).filter(|id| ids.contains(**id, now)).count();
        assert_eq!((known, ids.contains(7, now)), (WAYS, false));
        ids.forget(7);
        assert!(others.iter().all(|id| !ids.contains(*id, now)), "the whole line is written once more");
    }
}
