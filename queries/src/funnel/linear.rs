//! The plain ordered funnel of one unit in one pass: no exclusions, nothing held constant, no two events whose order
//! could matter and is not told.
//!
//! In: the rows of one unit by time. Out: what [`super::chain`] would find, without its lists.
//!
//! Why it is exact. Going through the events in order, `starts[i]` is the latest entry from which a chain of `i + 1` steps
//! has been found; it only grows. A chain can be made one step longer by an event exactly when the one with the latest entry
//! can, because the window counts from the entry. So the first event that makes the highest level is the earliest end, its
//! entry is the latest start, and walking from that entry to the first event of each step gives every step as early as
//! possible; it ends at the same event, for no chain of this level ends earlier.

use super::buckets::Layout;
use super::outcome::UnitOutcome;
use super::validate::{Funnel, MAX_STEPS, Order};

const NONE: usize = usize::MAX;

/// Whether the funnel is one this pass can answer.
pub(super) fn is_plain(funnel: &Funnel) -> bool {
    funnel.order == Order::Ordered
        && funnel.exclusions.is_empty()
        && funnel.hold.is_empty()
        && funnel.periods.is_empty()
}

/// Fills `outcome`; false when no try starts in the range.
pub(super) fn evaluate<const N: usize>(
    funnel: &Funnel,
    layout: &Layout,
    rows: &[[u64; N]],
    outcome: &mut UnitOutcome,
) -> bool {
    let range = funnel.from_ms..funnel.to_ms;
    if funnel.first_time {
        let first = rows.iter().find(|row| layout.steps(row) & 1 == 1);
        if !first.is_some_and(|row| range.contains(&Layout::time_ms(row))) {
            return false;
        }
    }
    let steps = funnel.steps.len();
    let mut starts = [NONE; MAX_STEPS];
    let (mut level, mut entry) = (0, NONE);
    outcome.latest_start = i64::MIN;
    for (index, row) in rows.iter().enumerate() {
        let time = Layout::time_ms(row);
        let mut bits = layout.steps(row);
        // From the last step down, so that an event never follows itself.
        while bits != 0 {
            let step = bits.ilog2() as usize;
            bits ^= 1 << step;
            let start = match step.checked_sub(1) {
                Some(previous) => starts[previous],
                None if range.contains(&time) => {
                    outcome.latest_start = time;
                    index
                }
                None => continue,
            };
            if start == NONE || time - Layout::time_ms(&rows[start]) > funnel.window_ms {
                continue;
            }
            starts[step] = start;
            if step == level {
                (level, entry) = (step + 1, start);
            }
        }
        if level == steps {
            // Nothing later is reported, and a unit that has finished is never open.
            break;
        }
    }
    if level == 0 {
        return false;
    }
    outcome.level = level;
    outcome.times.clear();
    outcome.values.clear();
    let mut at = entry;
    for step in 0..level {
        at += rows[at..].iter().position(|row| layout.steps(row) >> step & 1 == 1).unwrap_or(0);
        outcome.times.push(Layout::time_ms(&rows[at]));
        if funnel.breakdown.is_some() {
            outcome.values.push(layout.value(&rows[at]));
        }
        at += 1;
    }
    true
}
