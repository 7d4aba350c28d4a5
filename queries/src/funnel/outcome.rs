//! What a funnel makes of one unit, and which of two chains is the one that is reported.

use std::cmp::Ordering;

/// A chain that could be reported. Slots order it; times and values are read off when it has won.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chain {
    /// Slot of each step reached; never empty.
    pub slots: Vec<u32>,
    /// Step mask of the first event: in an unordered slot it tells entries of different reach apart.
    pub entry_mask: u32,
}

impl Chain {
    /// Highest level, then earliest end, then latest start, then each step as early as possible. Less is better.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        (other.slots.len().cmp(&self.slots.len()))
            .then_with(|| self.slots.last().cmp(&other.slots.last()))
            .then_with(|| other.slots.first().cmp(&self.slots.first()))
            .then_with(|| self.slots.cmp(&other.slots))
    }
}

/// What a funnel makes of one unit that entered it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitOutcome {
    /// Steps reached by the longest clean try; 0: every try was hit by an exclusion.
    pub level: usize,
    /// Time of each step of the reported chain, as many as `level`.
    pub times: Vec<i64>,
    /// Number of the breakdown value at each step of the reported chain; empty without a breakdown.
    pub values: Vec<u32>,
    /// Latest start of a clean try; decides between open and lost.
    pub latest_start: i64,
    /// What became of it in each period in which a try starts.
    pub periods: Vec<PeriodOutcome>,
}

/// What a funnel makes of the tries of a unit that start in one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeriodOutcome {
    /// Index of the period.
    pub period: u32,
    /// Steps reached by the longest clean try, 0 where all tries of the period were hit.
    pub level: u8,
    /// Latest start of a clean try.
    pub latest_start: i64,
}

impl UnitOutcome {
    /// Notes a try that starts at this time, in this period.
    pub(super) fn note_period(&mut self, period: u32, level: u8, start: i64) {
        let latest_start = if level > 0 { start } else { i64::MIN };
        match self.periods.iter_mut().rev().find(|known| known.period == period) {
            Some(known) => {
                known.level = level.max(known.level);
                known.latest_start = latest_start.max(known.latest_start);
            }
            None => self.periods.push(PeriodOutcome { period, level, latest_start }),
        }
    }
}
