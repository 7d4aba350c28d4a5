//! The plain ordered funnel of one unit in one pass: no exclusions, nothing held constant, no two events whose order
//! could matter and is not told.
//!
//! In: the rows of one unit by time. Out: what [`super::chain`] would find, without its lists. Or that the order of some events
//! in one millisecond matters and is to be asked for ([`evaluate_without_order`]).
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

/// Whether the funnel is one that a single pass can answer: this one, or that of [`super::linear_strict`].
pub(super) fn is_plain(funnel: &Funnel) -> bool {
    funnel.order != Order::Any && funnel.exclusions.is_empty() && funnel.hold.is_empty() && funnel.periods.is_empty()
}

/// Whether the first event that can begin a try lies in the range, where that is asked.
pub(super) fn begins_in_range<const N: usize>(funnel: &Funnel, layout: &Layout, rows: &[[u64; N]]) -> bool {
    let first = || rows.iter().find(|row| layout.steps(row) & 1 == 1);
    !funnel.first_time || first().is_some_and(|row| (funnel.from_ms..funnel.to_ms).contains(&Layout::time_ms(row)))
}

/// Fills `outcome`; false when no try starts in the range.
pub(super) fn evaluate<const N: usize>(
    funnel: &Funnel,
    layout: &Layout,
    rows: &[[u64; N]],
    outcome: &mut UnitOutcome,
) -> bool {
    let range = funnel.from_ms..funnel.to_ms;
    if !begins_in_range(funnel, layout, rows) {
        return false;
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

/// Which chains are looked for where the order of events in one millisecond is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Those that take at most one event of a millisecond: they are chains in whatever order the events are.
    One,
    /// Those that take several, where there are several, in the order that suits them, even one of them twice: whatever the
    /// order, all chains are among them.
    Any,
}

/// The same where rows do not tell the order of events in one millisecond: whether a try starts in the range, and `None` where it
/// depends on that order what is reported.
///
/// Why it is exact. The chains of any order lie between the two sets of [`Within`]. What is reported is the best of a set by a total
/// order; where the best of the larger set is in the smaller one, it is the best of every set between. Of its breakdown values the one
/// at a step is told where all events that can be meant have it: those that fit the step at its time.
pub(super) fn evaluate_without_order<const N: usize>(
    funnel: &Funnel,
    layout: &Layout,
    rows: &[[u64; N]],
    (outcome, other): (&mut UnitOutcome, &mut UnitOutcome),
) -> Option<bool> {
    let is_entered = evaluate_milliseconds(funnel, layout, rows, Within::Any, outcome);
    if !is_entered {
        // Entries are the same in both.
        return Some(false);
    }
    evaluate_milliseconds(funnel, layout, rows, Within::One, other);
    if outcome != other {
        return None;
    }
    if funnel.breakdown.is_some() {
        for (step, &time) in outcome.times.iter().enumerate() {
            let from = rows.partition_point(|row| Layout::time_ms(row) < time);
            let together = rows[from..].iter().take_while(|row| Layout::time_ms(row) == time);
            let mut values = together.filter(|row| layout.steps(row) >> step & 1 == 1).map(|row| layout.value(row));
            let value = values.next()?;
            if values.any(|other| other != value) {
                return None;
            }
            outcome.values.push(value);
        }
    }
    Some(true)
}

/// As [`evaluate`], a millisecond at a time.
fn evaluate_milliseconds<const N: usize>(
    funnel: &Funnel,
    layout: &Layout,
    rows: &[[u64; N]],
    within: Within,
    outcome: &mut UnitOutcome,
) -> bool {
    let range = funnel.from_ms..funnel.to_ms;
    let milliseconds = || rows.chunk_by(|a, b| Layout::time_ms(a) == Layout::time_ms(b));
    // Time, steps that an event fits, and whether a step may follow another inside it.
    let told = |rows: &[[u64; N]]| {
        let bits = rows.iter().fold(0, |bits, row| bits | layout.steps(row));
        (Layout::time_ms(&rows[0]), bits, within == Within::Any && rows.len() > 1)
    };
    if !begins_in_range(funnel, layout, rows) {
        return false;
    }
    let steps = funnel.steps.len();
    // Times of entries, not places: that is all a chain needs of them.
    let mut starts = [i64::MIN; MAX_STEPS];
    let (mut level, mut entry) = (0, i64::MIN);
    outcome.latest_start = i64::MIN;
    for (time, bits, chains) in milliseconds().map(told) {
        let mut take = |step: usize| {
            if bits >> step & 1 == 0 {
                return;
            }
            let start = match step.checked_sub(1) {
                Some(previous) => starts[previous],
                None if range.contains(&time) => {
                    outcome.latest_start = time;
                    time
                }
                None => return,
            };
            if start == i64::MIN || time - start > funnel.window_ms {
                return;
            }
            starts[step] = start;
            if step == level {
                (level, entry) = (step + 1, start);
            }
        };
        // Upwards a step may follow one of the same millisecond, downwards never.
        if chains {
            (0..steps).for_each(&mut take);
        } else {
            (0..steps).rev().for_each(&mut take);
        }
        if level == steps {
            break;
        }
    }
    if level == 0 {
        return false;
    }
    outcome.level = level;
    outcome.times.clear();
    outcome.values.clear();
    let mut walk = milliseconds().map(told).skip_while(|(time, ..)| *time < entry).peekable();
    for step in 0..level {
        while walk.next_if(|(_, bits, _)| bits >> step & 1 == 0).is_some() {}
        let Some((time, _, chains)) = walk.peek().copied() else { break };
        outcome.times.push(time);
        if !chains {
            walk.next();
        }
    }
    true
}
