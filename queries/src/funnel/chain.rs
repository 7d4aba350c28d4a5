//! Chains in order: `ordered` and `strict` funnels of one unit.
//!
//! In: a [`Timeline`] and the rules of a funnel. Out: the best chain, the level of each try.
//!
//! Why this is exact. Write a chain as the slots of its steps, s0 <= s1 <= .. . Every rule is a lower bound on one slot, an
//! upper bound on one slot, or "no barrier lies strictly between s_f and s_t" (exclusions; in a strict funnel also: no event
//! that does not fit step j between s_j and s_j+1). Such rules are closed under taking the earlier slot step by step, and so
//! is "the steps that share a slot are filled by distinct events", because the steps of one slot are a run and a part of a
//! run that can be filled can be filled. So the chains of one entry have an earliest member in every step at once, and
//! raising steps only where a rule forces it arrives there. It is also the reported one.
//!
//! Why it is fast. With a later entry every lower bound only grows, so the cursor of each step moves forward over all
//! entries of a unit: linear in its events for each length of chain, whatever the stream.

use super::matching::{MaskCount, can_fill};
use super::outcome::Chain;
use super::unit::Timeline;
use std::collections::HashMap;

/// Slots that must not lie strictly between two steps.
#[derive(Debug, Clone, Default)]
pub(super) struct Barrier {
    /// The step after which it counts.
    pub from: usize,
    /// The step before which it counts.
    pub to: usize,
    /// Ascending.
    pub slots: Vec<u32>,
}

impl Barrier {
    fn is_between(&self, after: u32, before: u32) -> bool {
        self.last_before(before).is_some_and(|slot| slot > after)
    }

    fn last_before(&self, before: u32) -> Option<u32> {
        let index = self.slots.partition_point(|&slot| slot < before);
        index.checked_sub(1).map(|index| self.slots[index])
    }
}

/// The rules that hold for a unit.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Number of steps of the funnel.
    pub steps: usize,
    /// Longest time from first to last step.
    pub window_ms: i64,
    /// Barriers that define a strict chain; empty in an ordered funnel.
    pub strict: Vec<Barrier>,
    /// Barriers of exclusions.
    pub exclusions: Vec<Barrier>,
}

/// A step-0 event to start from: its slot and what it fits.
#[derive(Debug, Clone, Copy)]
struct Entry {
    slot: u32,
    mask: u32,
}

/// Which barriers a search heeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heed {
    /// Only those that define a chain.
    Strict,
    /// Those of exclusions as well.
    All,
}

/// Positions in the slot lists of the steps, each a lower bound for every later entry.
#[derive(Debug, Clone, Default)]
struct Cursors {
    /// Of the greedy search.
    greedy: Vec<usize>,
    /// By length of chain, of the search among strict chains.
    strict: Vec<Vec<usize>>,
    /// By length of chain, of the search among chains that are not hit.
    clean: Vec<Vec<usize>>,
}

impl Cursors {
    fn new(steps: usize, rules: &Rules) -> Self {
        let by_length = |wanted: bool| if wanted { vec![vec![0; steps]; steps + 1] } else { Vec::new() };
        Self {
            greedy: vec![0; steps],
            strict: by_length(!rules.strict.is_empty()),
            clean: by_length(!rules.exclusions.is_empty()),
        }
    }

    fn raise_to(&mut self, other: &Self) {
        let raise = |mine: &mut Vec<usize>, theirs: &Vec<usize>| {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
        };
        raise(&mut self.greedy, &other.greedy);
        self.strict.iter_mut().zip(&other.strict).for_each(|(mine, theirs)| raise(mine, theirs));
        self.clean.iter_mut().zip(&other.clean).for_each(|(mine, theirs)| raise(mine, theirs));
    }
}

/// Searches chains in one group of a unit's events.
pub(super) struct ChainSearch<'a> {
    timeline: &'a Timeline,
    rules: &'a Rules,
    /// Whether a slot can hold two events of the group.
    has_ties: bool,
    /// Slots by step, ascending, each once.
    step_slots: Vec<Vec<u32>>,
    /// Masks by slot, for slots with several events of the group.
    masks: HashMap<u32, Vec<MaskCount>>,
    /// The chain found last.
    found: Vec<u32>,
}

impl<'a> ChainSearch<'a> {
    /// A search among `members`, indices of events that fit a step, ascending.
    pub(super) fn new(timeline: &'a Timeline, rules: &'a Rules, members: &[u32]) -> Self {
        let mut step_slots = vec![Vec::new(); rules.steps];
        let mut masks: HashMap<u32, Vec<MaskCount>> = HashMap::new();
        let has_ties = !timeline.is_total_order();
        for &index in members {
            let mask = timeline.events[index as usize].steps;
            let slot = timeline.slot_of[index as usize];
            let mut bits = mask;
            while bits != 0 {
                let slots: &mut Vec<u32> = &mut step_slots[bits.trailing_zeros() as usize];
                if slots.last() != Some(&slot) {
                    slots.push(slot);
                }
                bits &= bits - 1;
            }
            if has_ties && timeline.slot_events(slot).len() > 1 {
                let groups = masks.entry(slot).or_default();
                match groups.iter_mut().find(|group| group.mask == mask) {
                    Some(group) => group.count += 1,
                    None => groups.push(MaskCount { mask, count: 1 }),
                }
            }
        }
        Self { timeline, rules, has_ties, step_slots, masks, found: vec![0; rules.steps] }
    }

    /// Runs through the tries in ascending order. `starts` says which entries lie in the range; `each` gets the entry's
    /// slot and the reported chain of the try, or `None` where every longest chain is hit.
    pub(super) fn run(&mut self, starts: impl Fn(i64) -> bool, mut each: impl FnMut(u32, Option<Chain>)) {
        let mut cursors = Cursors::new(self.rules.steps, self.rules);
        let entries = std::mem::take(&mut self.step_slots[0]);
        // Step 0 needs no cursor, so its list can be lent out for good.
        for &slot in &entries {
            if !starts(self.timeline.slot_time[slot as usize]) {
                continue;
            }
            let classes = self.entry_masks(slot);
            if let [mask] = classes[..] {
                let entry = Entry { slot, mask };
                let chain = self.reported(entry, &mut cursors);
                each(slot, chain);
                continue;
            }
            // Entries without an order between them: each starts from the bounds of the slots before; afterwards the
            // bounds of all hold, since later chains lie behind all of them.
            let before = cursors.clone();
            for mask in classes {
                let mut own = before.clone();
                let chain = self.reported(Entry { slot, mask }, &mut own);
                each(slot, chain);
                cursors.raise_to(&own);
            }
        }
    }

    /// Different masks of the events in a slot that fit step 0.
    fn entry_masks(&self, slot: u32) -> Vec<u32> {
        if let Some(groups) = self.masks.get(&slot) {
            return groups.iter().map(|group| group.mask).filter(|mask| mask & 1 != 0).collect();
        }
        let event = self.timeline.slot_events(slot).start;
        vec![self.timeline.events[event].steps]
    }

    /// The earliest of the longest chains of an entry that is not hit.
    fn reported(&mut self, entry: Entry, cursors: &mut Cursors) -> Option<Chain> {
        let level = if self.rules.strict.is_empty() {
            self.reach(entry, self.rules.steps, &mut cursors.greedy)
        } else {
            self.reach_strict(entry, &mut cursors.strict)
        };
        let is_hit = self.is_hit(entry, level);
        if is_hit && !self.settle(entry, level, Heed::All, &mut cursors.clean[level]) {
            return None;
        }
        Some(Chain { slots: self.found[..level].to_vec(), entry_mask: entry.mask })
    }

    fn limit(&self, entry: Entry) -> i64 {
        self.timeline.slot_time[entry.slot as usize].saturating_add(self.rules.window_ms)
    }

    /// Steps that can be reached one after the other when nothing lies in their way, `length` at most; leaves the earliest
    /// chain in `found`.
    fn reach(&mut self, entry: Entry, length: usize, cursors: &mut [usize]) -> usize {
        let limit = self.limit(entry);
        self.found[0] = entry.slot;
        let mut run_start = 0;
        for (step, cursor) in cursors.iter_mut().enumerate().take(length).skip(1) {
            match self.next_slot(entry, step, run_start, cursor) {
                Some(slot) if self.timeline.slot_time[slot as usize] <= limit => {
                    if slot != self.found[step - 1] {
                        run_start = step;
                    }
                    self.found[step] = slot;
                }
                _ => return step,
            }
        }
        length
    }

    /// Length of the longest strict chain; leaves the earliest one in `found`.
    fn reach_strict(&mut self, entry: Entry, cursors: &mut [Vec<usize>]) -> usize {
        self.found[0] = entry.slot;
        let mut level = 1;
        let mut chain = self.found.clone();
        while level < self.rules.steps && self.settle(entry, level + 1, Heed::Strict, &mut cursors[level + 1]) {
            level += 1;
            chain.copy_from_slice(&self.found);
        }
        self.found.copy_from_slice(&chain);
        self.found[0] = entry.slot;
        level
    }

    /// The first slot from the cursor on in which `step` can follow the chain found so far, whose steps from `run_start`
    /// on share one slot.
    fn next_slot(&self, entry: Entry, step: usize, run_start: usize, cursor: &mut usize) -> Option<u32> {
        let slots = &self.step_slots[step];
        let previous = self.found[step - 1];
        while *cursor < slots.len() && slots[*cursor] < previous {
            *cursor += 1;
        }
        if slots.get(*cursor) == Some(&previous) && !self.can_share(entry, previous, run_start, step) {
            *cursor += 1;
        }
        slots.get(*cursor).copied()
    }

    /// Whether the steps from `first` to `last` can all be filled in this slot.
    fn can_share(&self, entry: Entry, slot: u32, first: usize, last: usize) -> bool {
        if !self.has_ties {
            return false;
        }
        let Some(groups) = self.masks.get(&slot) else { return false };
        if first == 0 { can_fill(groups, 1..=last, Some(entry.mask)) } else { can_fill(groups, first..=last, None) }
    }

    /// Whether the chain in `found`, of this length, is hit by an exclusion.
    fn is_hit(&self, entry: Entry, level: usize) -> bool {
        let limit = self.limit(entry);
        self.rules.exclusions.iter().filter(|barrier| barrier.from < level).any(|barrier| {
            let after = self.found[barrier.from];
            if barrier.to < level {
                barrier.is_between(after, self.found[barrier.to])
            } else {
                self.last_until(barrier, limit).is_some_and(|slot| slot > after)
            }
        })
    }

    /// The last slot of a barrier at or before an instant.
    fn last_until(&self, barrier: &Barrier, limit: i64) -> Option<u32> {
        let index = barrier.slots.partition_point(|&slot| self.timeline.slot_time[slot as usize] <= limit);
        index.checked_sub(1).map(|index| barrier.slots[index])
    }

    /// Finds the earliest chain of this length that heeds the barriers and leaves it in `found`. The cursors end as lower
    /// bounds for later entries, whether or not there is one.
    fn settle(&mut self, entry: Entry, length: usize, heed: Heed, cursors: &mut [usize]) -> bool {
        let limit = self.limit(entry);
        loop {
            if self.reach(entry, length, cursors) < length {
                return false;
            }
            match self.raise(length, limit, heed, cursors) {
                Raised::Nothing => return true,
                Raised::Some => {}
                Raised::Entry => return false,
            }
        }
    }

    /// Raises the cursors of steps that have a barrier behind them. The entry cannot be raised.
    fn raise(&self, length: usize, limit: i64, heed: Heed, cursors: &mut [usize]) -> Raised {
        let between = |barrier: &Barrier| barrier.last_before(self.found[barrier.to]);
        // A strict barrier binds two steps of the chain; an exclusion also what comes after its end.
        let strict = self.rules.strict.iter().filter(|barrier| barrier.to < length);
        let strict = strict.map(|barrier| (barrier.from, between(barrier)));
        let exclusions: &[Barrier] = if heed == Heed::All { &self.rules.exclusions } else { &[] };
        let exclusions = exclusions.iter().filter(|barrier| barrier.from < length).map(|barrier| {
            let last = if barrier.to < length { between(barrier) } else { self.last_until(barrier, limit) };
            (barrier.from, last)
        });
        let mut raised = Raised::Nothing;
        for (step, last) in strict.chain(exclusions) {
            let Some(last) = last.filter(|&slot| slot > self.found[step]) else { continue };
            if step == 0 {
                return Raised::Entry;
            }
            let cursor = &mut cursors[step];
            *cursor += self.step_slots[step][*cursor..].partition_point(|&slot| slot < last);
            raised = Raised::Some;
        }
        raised
    }
}

/// What heeding the barriers changed.
enum Raised {
    Nothing,
    Some,
    /// A barrier behind the entry: no chain from here.
    Entry,
}
