//! The plain strict funnel of one unit in one pass: no exclusions, nothing held constant, no two events whose order could matter
//! and is not told.
//!
//! In: the rows of one unit by time. Out: what [`super::chain`] would find, without its lists.
//!
//! Why it is exact. A chain that has come to step `i` is *alive* as long as every other event since then fits step `i`: the next event
//! of step `i + 1` goes on with it, whatever came between. Of the chains alive at a step the one with the latest entry can do all that
//! another could, because the window counts from the entry. What has come less far has entered no earlier, because chains are closed
//! under taking the later event step by step; so a step that is come to anew has its latest entry. One entry for each step says
//! everything then, and the first event that makes the highest level is the earliest end, with the latest start of all that end there.
//!
//! Which events are the steps between is told backwards from that end: step `i` is the earliest event that a chain from the entry comes
//! to as step `i` and from which nothing but repeats lies before step `i + 1`. It is as early as any chain has it, because chains are
//! closed under taking the earlier event, too (see [`super::chain`]).

use super::buckets::Layout;
use super::linear::begins_in_range;
use super::outcome::UnitOutcome;
use super::validate::{Funnel, MAX_STEPS};

/// Looks at units; keeps its room from one to the next.
#[derive(Debug, Default)]
pub(super) struct StrictPass {
    /// For each row from the entry on, the steps at which a chain from there comes to it.
    reached: Vec<u32>,
}

impl StrictPass {
    /// Fills `outcome`; false when no try starts in the range.
    pub(super) fn evaluate<const N: usize>(
        &mut self,
        funnel: &Funnel,
        layout: &Layout,
        rows: &[[u64; N]],
        outcome: &mut UnitOutcome,
    ) -> bool {
        if !begins_in_range(funnel, layout, rows) {
            return false;
        }
        let range = funnel.from_ms..funnel.to_ms;
        let steps = funnel.steps.len();
        // The entry of what is alive at each step, where its bit is set.
        let (mut entries, mut alive) = ([0; MAX_STEPS], 0_u32);
        let (mut level, mut entry, mut end) = (0, 0, 0);
        outcome.latest_start = i64::MIN;
        for (index, row) in rows.iter().enumerate() {
            let time = Layout::time_ms(row);
            let fits = layout.steps(row);
            let (mut bits, mut begun) = (fits, 0);
            // From the last step down, so that an event never follows itself.
            while bits != 0 {
                let step = bits.ilog2() as usize;
                bits ^= 1 << step;
                let start = match step.checked_sub(1) {
                    Some(previous) if alive >> previous & 1 == 1 => entries[previous],
                    None if range.contains(&time) => {
                        outcome.latest_start = time;
                        index
                    }
                    _ => continue,
                };
                if time - Layout::time_ms(&rows[start]) > funnel.window_ms {
                    continue;
                }
                (entries[step], begun) = (start, begun | 1 << step);
                if step == level {
                    (level, entry, end) = (step + 1, start, index);
                }
            }
            if level == steps {
                // Nothing later is reported, and a unit that has finished is never open.
                break;
            }
            alive = still_alive(alive, fits, Layout::is_visible(row)) | begun;
        }
        if level == 0 {
            return false;
        }
        outcome.level = level;
        self.report(funnel, layout, (&rows[entry..=end], level), outcome);
        true
    }

    /// Times and values of the chain that takes the first of these rows for its entry and the last for its last step.
    fn report<const N: usize>(
        &mut self,
        funnel: &Funnel,
        layout: &Layout,
        (rows, level): (&[[u64; N]], usize),
        outcome: &mut UnitOutcome,
    ) {
        let mut alive = 0_u32;
        self.reached.clear();
        for row in rows {
            let fits = layout.steps(row);
            let reached = if self.reached.is_empty() { 1 } else { fits & alive << 1 };
            self.reached.push(reached);
            alive = still_alive(alive, fits, Layout::is_visible(row)) | reached;
        }
        outcome.times.clear();
        outcome.values.clear();
        let mut at = rows.len() - 1;
        for step in (0..level).rev() {
            if step + 1 < level {
                let behind = at;
                for before in (0..behind).rev() {
                    if self.reached[before] >> step & 1 == 1 {
                        at = before;
                    }
                    if still_alive(1 << step, layout.steps(&rows[before]), Layout::is_visible(&rows[before])) == 0 {
                        break;
                    }
                }
            }
            outcome.times.push(Layout::time_ms(&rows[at]));
            if funnel.breakdown.is_some() {
                outcome.values.push(layout.value(&rows[at]));
            }
        }
        outcome.times.reverse();
        outcome.values.reverse();
    }
}

/// Which of the steps that chains are alive at they still are after an event that fits these steps.
fn still_alive(alive: u32, fits: u32, is_visible: bool) -> u32 {
    if is_visible { alive & fits } else { alive }
}
