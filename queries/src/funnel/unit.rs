//! One unit's events brought into the order of the rules: which of them come one after the other and which have no order.
//!
//! In: the rows of one unit, in any order. Out: a [`Timeline`]: events sorted, each in a *slot*. Events of one slot have no
//! order between them; slots are numbered by time. A slot is a millisecond whose events do not all carry a sequence number
//! of one instance, or else the events of one sequence number. Only events the funnel looks at take part: an event that fits
//! nothing cannot change the order of two that do.

use super::validate::Order;

/// One event as the scan sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Sequence number inside the instance; 0: missing.
    pub seq: u64,
    /// The instance; 0: missing.
    pub instance: u64,
    /// Bit `i`: fits step `i`.
    pub steps: u32,
    /// Bit `i`: fits exclusion `i`.
    pub exclusions: u32,
    /// Values held constant, as one number; 0: one is missing.
    pub hold: u64,
    /// Number of the breakdown value in the scan's table; 0: missing.
    pub value: u32,
    /// Counts as another event in a strict funnel.
    pub visible: bool,
}

/// The events of one unit in slots.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// Sorted by slot.
    pub events: Vec<Event>,
    /// Slot of each event.
    pub slot_of: Vec<u32>,
    /// Time of each slot; ascending.
    pub slot_time: Vec<i64>,
    /// Index of the first event of each slot, and the number of events at the end.
    pub slot_start: Vec<u32>,
}

impl Timeline {
    /// Takes the events out of `events`, leaving it empty with its room kept.
    pub(super) fn fill(&mut self, events: &mut Vec<Event>, order: Order) {
        self.events.clear();
        self.slot_of.clear();
        self.slot_time.clear();
        self.slot_start.clear();
        let is_looked_at =
            |event: &Event| event.steps != 0 || event.exclusions != 0 || (order == Order::Strict && event.visible);
        self.events.extend(events.drain(..).filter(is_looked_at));
        if !self.events.is_sorted_by_key(|event| event.time_ms) {
            self.events.sort_unstable_by_key(|event| event.time_ms);
        }
        let mut start = 0;
        while start < self.events.len() {
            let time = self.events[start].time_ms;
            let length = self.events[start..].iter().take_while(|event| event.time_ms == time).count();
            self.add_millisecond(start, start + length);
            start += length;
        }
        self.slot_start.push(index_u32(self.events.len()));
    }

    fn add_millisecond(&mut self, start: usize, end: usize) {
        let group = &mut self.events[start..end];
        let instance = group[0].instance;
        let is_ordered = group.iter().all(|event| event.seq != 0 && event.instance != 0 && event.instance == instance);
        if group.len() > 1 && is_ordered {
            group.sort_unstable_by_key(|event| event.seq);
        }
        for index in start..end {
            let begins = index == start || (is_ordered && self.events[index].seq != self.events[index - 1].seq);
            if begins {
                self.slot_start.push(index_u32(index));
                self.slot_time.push(self.events[index].time_ms);
            }
            self.slot_of.push(index_u32(self.slot_time.len() - 1));
        }
    }

    /// Indices of the events of a slot.
    pub(super) fn slot_events(&self, slot: u32) -> std::ops::Range<usize> {
        let slot = slot as usize;
        self.slot_start[slot] as usize..self.slot_start[slot + 1] as usize
    }

    /// Whether every slot holds one event.
    pub(super) fn is_total_order(&self) -> bool {
        self.slot_time.len() == self.events.len()
    }

    /// Groups of events that may form chains together: those that fit a step, split by the values held constant.
    ///
    /// Calls `each` with the indices of one group, ascending.
    pub(super) fn for_each_group(&self, hold: bool, mut each: impl FnMut(&[u32])) {
        let fits = |index: &u32| self.events[*index as usize].steps != 0;
        let mut members: Vec<u32> = (0..index_u32(self.events.len())).filter(fits).collect();
        if !hold {
            each(&members);
            return;
        }
        members.retain(|index| self.events[*index as usize].hold != 0);
        members.sort_by_key(|index| self.events[*index as usize].hold);
        for group in members.chunk_by(|a, b| self.events[*a as usize].hold == self.events[*b as usize].hold) {
            each(group);
        }
    }
}

/// An index as 32 bits. A unit with more than 4 billion events does not fit a statement's memory long before.
pub(super) fn index_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
