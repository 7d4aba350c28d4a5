//! Steps in any order: funnels with `order: any` of one unit.
//!
//! In: a [`Timeline`] and the rules. Out: for each anchor how many steps can be done, and when.
//!
//! The sets of events that can fill distinct steps form a matroid, so taking events by time and keeping each that lets the
//! matching grow gives the largest matching, and for every k the earliest time by which k steps are done, all at once. An
//! event that cannot grow the matching never can later, and neither can another event of the same mask; so at most as many
//! events are looked at as there are steps and different masks, however long the stream.

use super::matching::StepMatching;
use super::unit::Timeline;
use std::cmp::Ordering;

/// What one anchor reaches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// Slots at which 1, 2, .. steps are done; the first is the anchor's.
    pub slots: Vec<u32>,
    /// Index of the event that did it.
    pub events: Vec<u32>,
}

/// Searches the anchors of one group of a unit's events.
pub(super) struct AnchorSearch<'a, C> {
    timeline: &'a Timeline,
    /// Order of two breakdown values.
    compare: C,
    steps: usize,
    window_ms: i64,
    /// Slots of excluded events, ascending: progress ends at the first one behind the anchor.
    ends: &'a [u32],
    /// Events by mask, by slot and then value.
    lists: Vec<(u32, Vec<u32>)>,
}

impl<'a, C: Fn(u32, u32) -> Ordering> AnchorSearch<'a, C> {
    /// A search among `members`, indices of events that fit a step, ascending.
    pub(super) fn new(
        timeline: &'a Timeline,
        members: &[u32],
        (steps, window_ms): (usize, i64),
        ends: &'a [u32],
        compare: C,
    ) -> Self {
        let mut lists: Vec<(u32, Vec<u32>)> = Vec::new();
        for &index in members {
            let mask = timeline.events[index as usize].steps;
            match lists.iter_mut().find(|(known, _)| *known == mask) {
                Some((_, list)) => list.push(index),
                None => lists.push((mask, vec![index])),
            }
        }
        let mut search = Self { timeline, compare, steps, window_ms, ends, lists };
        if !timeline.is_total_order() {
            let mut lists = std::mem::take(&mut search.lists);
            for (_, list) in &mut lists {
                list.sort_by(|a, b| search.order(*a, *b));
            }
            search.lists = lists;
        }
        search
    }

    fn order(&self, a: u32, b: u32) -> Ordering {
        let value = |index: u32| self.timeline.events[index as usize].value;
        self.slot(a).cmp(&self.slot(b)).then_with(|| (self.compare)(value(a), value(b)))
    }

    fn slot(&self, index: u32) -> u32 {
        self.timeline.slot_of[index as usize]
    }

    /// Runs through the anchors. `starts` says which lie in the range.
    pub(super) fn run(&self, starts: impl Fn(i64) -> bool, mut each: impl FnMut(u32, &Progress)) {
        // Per list: the next anchor, and the first event at or behind the slot of the anchor.
        let mut next = vec![0; self.lists.len()];
        let mut first = vec![0; self.lists.len()];
        let mut progress = Progress::default();
        loop {
            let heads = (0..self.lists.len()).filter_map(|list| Some((list, *self.lists[list].1.get(next[list])?)));
            let Some((list, anchor)) = heads.min_by_key(|(_, index)| self.slot(*index)) else { return };
            let slot = self.slot(anchor);
            // Of anchors that share slot and mask the first has the least value and reaches the same.
            let same = self.lists[list].1[next[list]..].iter().take_while(|index| self.slot(**index) == slot).count();
            next[list] += same;
            if !starts(self.timeline.slot_time[slot as usize]) {
                continue;
            }
            for (list, (_, events)) in self.lists.iter().enumerate() {
                while first[list] < events.len() && self.slot(events[first[list]]) < slot {
                    first[list] += 1;
                }
            }
            self.follow(anchor, list, &first, &mut progress);
            each(slot, &progress);
        }
    }

    /// Takes events by time from the anchor on.
    fn follow(&self, anchor: u32, anchor_list: usize, first: &[usize], progress: &mut Progress) {
        let slot = self.slot(anchor);
        let limit = self.timeline.slot_time[slot as usize].saturating_add(self.window_ms);
        let end = self.ends.get(self.ends.partition_point(|&end| end <= slot)).copied().unwrap_or(u32::MAX);
        let mut matching = StepMatching::default();
        let mut heads: Vec<Option<usize>> = first.iter().map(|&position| Some(position)).collect();
        progress.slots.clear();
        progress.events.clear();
        matching.add(self.lists[anchor_list].0);
        progress.slots.push(slot);
        progress.events.push(anchor);
        while (matching.size() as usize) < self.steps {
            let mut best: Option<(usize, u32)> = None;
            for (list, head) in heads.iter_mut().enumerate() {
                let Some(position) = head else { continue };
                if self.lists[list].1.get(*position) == Some(&anchor) {
                    *position += 1;
                }
                let Some(&index) = self.lists[list].1.get(*position) else { continue };
                if best.is_none_or(|(_, other)| self.order(index, other).is_lt()) {
                    best = Some((list, index));
                }
            }
            let Some((list, index)) = best else { return };
            let at = self.slot(index);
            if at > end || self.timeline.slot_time[at as usize] > limit {
                return;
            }
            if matching.add(self.lists[list].0) {
                progress.slots.push(at);
                progress.events.push(index);
                heads[list] = heads[list].map(|position| position + 1);
            } else {
                heads[list] = None;
            }
        }
    }
}
