//! The exact evaluator: rows in, the answer out.
//!
//! In: rows of a [`FunnelPlan`](super::FunnelPlan) in any order. Out: a [`FunnelAnswer`]. It holds the rows until it is told
//! that all rows of their units have come, then looks at one unit after the other on as many threads as the machine has
//! cores. What stays are counts, and for each unit that entered the times of its chain, which percentiles need. No I/O, no
//! clock, no engine.
//!
//! Rows may come without their order inside a millisecond, which few units need and which costs as much to fetch as all the
//! rest; the units that need it are named and asked for again.
//!
//! The rules are those in the documentation of [`super`]; [`super::linear`], [`super::linear_strict`], [`super::chain`] and
//! [`super::any_order`] say why the searches are exact and linear.

use super::answer::{FunnelAnswer, Tally};
use super::any_order::AnchorSearch;
use super::block::Block;
use super::buckets::{Bucket, Layout, Shelf, Sorter, with_buckets};
use super::chain::{Barrier, ChainSearch, Rules};
use super::linear;
use super::linear_strict::StrictPass;
use super::outcome::{Chain, UnitOutcome};
use super::sql::Columns;
use super::unit::{Event, Timeline, index_u32};
use super::unordered::{Again, Unordered};
use super::validate::{Funnel, Order};
use super::values::Values;
use std::cmp::Ordering;
use std::sync::{Mutex, PoisonError};

/// Most threads that look at units. Chosen: a question shares the machine with others.
const MAX_THREADS: usize = 8;
/// Fewer rows than this are looked at by the thread that asks. Chosen: some milliseconds of work.
const MIN_BYTES_FOR_THREADS: usize = 1 << 20;

/// Computes a funnel over rows that arrive in any order.
#[derive(Debug)]
pub struct FunnelScan {
    funnel: Funnel,
    tally: Tally,
    values: Values,
    layout: Layout,
    shelf: Shelf,
    unordered: Unordered,
}

impl FunnelScan {
    /// A scan that has seen nothing and expects rows with all the columns of [`Funnel::plan`].
    pub fn new(funnel: Funnel) -> Self {
        let layout = Layout::new(&funnel, Columns::of(&funnel, true));
        Self {
            tally: Tally::new(&funnel),
            values: Values::default(),
            shelf: Shelf::new(&layout),
            layout,
            funnel,
            unordered: Unordered::default(),
        }
    }

    /// Says which columns the rows that follow have. To be called before the first row or after [`Self::settle`].
    ///
    /// With the order inside a millisecond, the rows that follow are all of the funnel's, or those asked for
    /// [once more](Self::unordered).
    pub fn expect(&mut self, columns: Columns) {
        self.layout = Layout::new(&self.funnel, columns);
        self.shelf = Shelf::new(&self.layout);
        if self.layout.has_order() {
            self.shelf.put(std::mem::take(&mut self.unordered).settled());
        }
    }

    /// The number of a breakdown value, to be put into [`Event::value`].
    pub fn value(&mut self, bytes: &[u8]) -> u32 {
        self.values.number(bytes)
    }

    /// Takes the rows of a block, whose columns are those expected.
    pub(super) fn take(&mut self, block: &Block<'_>) {
        let Self { funnel, tally, layout, shelf, .. } = self;
        shelf.take(layout, block, |row| {
            let time_ms = u64::from_le_bytes(block.time[row]).cast_signed();
            let is_looked_at = block.steps.get(row) != 0 && (funnel.from_ms..funnel.to_ms).contains(&time_ms);
            tally.without_unit += u64::from(is_looked_at);
        });
    }

    /// Memory of the rows held, in bytes. It is free again after [`Self::settle`], but for the rows of units whose order is missing.
    pub fn bytes(&self) -> usize {
        self.shelf.bytes() + self.unordered.bytes()
    }

    /// Memory of the breakdown's values and of what is counted for each, in bytes, by reckoning. It stays until the end.
    pub fn values_bytes(&self) -> usize {
        self.values.held_bytes()
    }

    /// Looks at the units whose rows are held and lets the rows go: no more rows of these units will come, save those of
    /// [`Self::unordered`].
    pub fn settle(&mut self) {
        let shelf = std::mem::replace(&mut self.shelf, Shelf::new(&self.layout));
        let is_small = shelf.bytes() < MIN_BYTES_FOR_THREADS;
        with_buckets!(shelf, buckets => self.look_at(buckets.into_filled(), is_small));
    }

    /// What has not been counted because the rows did not tell the order of events inside a millisecond, and it matters: rows of
    /// these units at these instants are to be pushed once more, after [`Self::expect`], with `seq` and `instance_id`.
    ///
    /// `None` where these are more than `max` units or instants, or have more rows than are kept: a scan of all rows with their
    /// order is to begin anew.
    pub fn unordered(&mut self, max: usize) -> Option<Again> {
        self.unordered.again(max)
    }

    /// The answer over all rows taken.
    pub fn finish(mut self) -> FunnelAnswer {
        self.settle();
        self.tally.finish(&self.funnel, &self.values)
    }

    fn look_at<const N: usize>(&mut self, buckets: Vec<Bucket<N>>, is_small: bool) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let threads = if is_small { 1 } else { cores };
        let queue = Mutex::new(buckets);
        let (funnel, values, layout) = (&self.funnel, &self.values, &self.layout);
        let work = || {
            let mut looker = Looker::new(funnel, values, layout);
            let mut sorter = Sorter::default();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some(bucket) = next else { break (looker.tally, looker.unordered) };
                looker.look_at(sorter.sort(&bucket));
            }
        };
        let (tally, unordered) = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let (mut tally, mut unordered) = work();
            for other in others {
                match other.join() {
                    Ok((their_tally, their_unordered)) => {
                        tally.merge(their_tally, funnel);
                        unordered.merge(their_unordered);
                    }
                    // A bug; the caller's thread carries it on.
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            (tally, unordered)
        });
        self.tally.merge(tally, &self.funnel);
        self.unordered.merge(unordered);
    }
}

/// Looks at units one after the other; each thread has its own.
struct Looker<'a> {
    funnel: &'a Funnel,
    values: &'a Values,
    layout: &'a Layout,
    is_plain: bool,
    tally: Tally,
    unordered: Unordered,
    outcome: UnitOutcome,
    other_outcome: UnitOutcome,
    strict: StrictPass,
    events: Vec<Event>,
    timeline: Timeline,
}

impl<'a> Looker<'a> {
    fn new(funnel: &'a Funnel, values: &'a Values, layout: &'a Layout) -> Self {
        Self {
            funnel,
            values,
            layout,
            is_plain: linear::is_plain(funnel),
            tally: Tally::new(funnel),
            unordered: Unordered::default(),
            outcome: UnitOutcome::default(),
            other_outcome: UnitOutcome::default(),
            strict: StrictPass::default(),
            events: Vec::new(),
            timeline: Timeline::default(),
        }
    }

    /// Looks at the units of a sorted bucket.
    fn look_at<const N: usize>(&mut self, rows: &[[u64; N]]) {
        for unit in rows.chunk_by(|a, b| a[0] == b[0] && Layout::is_derived(a) == Layout::is_derived(b)) {
            if Layout::is_derived(&unit[0]) {
                let gap = self.funnel.session_gap_ms;
                let is_near = |a: &[u64; N], b: &[u64; N]| Layout::time_ms(b) - Layout::time_ms(a) <= gap;
                unit.chunk_by(is_near).for_each(|session| self.look_at_unit(session));
            } else {
                self.look_at_unit(unit);
            }
        }
    }

    fn look_at_unit<const N: usize>(&mut self, rows: &[[u64; N]]) {
        let unit = rows[0][0];
        let range = self.funnel.from_ms..self.funnel.to_ms;
        let enters = |row| self.layout.steps(row) & 1 == 1 && range.contains(&Layout::time_ms(row));
        if self.funnel.order != Order::Any && !rows.iter().any(enters) {
            return;
        }
        let has_ties = self.layout.has_ties(rows);
        if has_ties && !self.layout.has_order() {
            let found = (&mut self.outcome, &mut self.other_outcome);
            let can_do_without = self.is_plain && self.funnel.order == Order::Ordered;
            match can_do_without
                .then(|| linear::evaluate_without_order(self.funnel, self.layout, rows, found))
                .flatten()
            {
                Some(true) => self.tally.add(unit, &self.outcome, self.funnel),
                Some(false) => {}
                None => self.unordered.keep(self.layout, rows),
            }
        } else if self.is_plain && !has_ties {
            let is_entered = match self.funnel.order {
                Order::Strict => self.strict.evaluate(self.funnel, self.layout, rows, &mut self.outcome),
                _ => linear::evaluate(self.funnel, self.layout, rows, &mut self.outcome),
            };
            if is_entered {
                self.tally.add(unit, &self.outcome, self.funnel);
            }
        } else {
            self.events.extend(rows.iter().map(|row| self.layout.event(row)));
            self.timeline.fill(&mut self.events, self.funnel.order);
            if let Some(outcome) = evaluate(self.funnel, &self.timeline, self.values) {
                self.tally.add(unit, &outcome, self.funnel);
            }
        }
    }
}

/// What the funnel makes of one unit; `None` when no try starts in the range.
fn evaluate(funnel: &Funnel, timeline: &Timeline, values: &Values) -> Option<UnitOutcome> {
    if funnel.first_time {
        let entries = if funnel.order == Order::Any { u32::MAX } else { 1 };
        let first = timeline.events.iter().find(|event| event.steps & entries != 0)?;
        if !(funnel.from_ms..funnel.to_ms).contains(&first.time_ms) {
            return None;
        }
    }
    match funnel.order {
        Order::Any => evaluate_any(funnel, timeline, values),
        Order::Ordered | Order::Strict => evaluate_chains(funnel, timeline, values),
    }
}

fn evaluate_chains(funnel: &Funnel, timeline: &Timeline, values: &Values) -> Option<UnitOutcome> {
    let rules = rules(funnel, timeline);
    let mut outcome: Option<UnitOutcome> = None;
    let mut best: Option<(Chain, Vec<u32>)> = None;
    let starts = |time: i64| (funnel.from_ms..funnel.to_ms).contains(&time);
    timeline.for_each_group(!funnel.hold.is_empty(), |members| {
        ChainSearch::new(timeline, &rules, members).run(starts, |slot, chain| {
            let outcome = outcome.get_or_insert_default();
            let start = timeline.slot_time[slot as usize];
            note_try(funnel, outcome, start, chain.as_ref().map_or(0, |chain| chain.slots.len()));
            let Some(chain) = chain else { return };
            let ordering = best.as_ref().map_or(Ordering::Less, |(known, _)| chain.compare(known));
            if ordering.is_gt() || (ordering.is_eq() && funnel.breakdown.is_none()) {
                return;
            }
            let has_ties = !timeline.is_total_order();
            let is_split = funnel.breakdown.is_some();
            let chosen = if is_split && (has_ties || ordering.is_eq()) {
                choose(timeline, members, &chain, values)
            } else {
                Vec::new()
            };
            match &mut best {
                Some((_, known)) if ordering.is_eq() => {
                    if values.compare_all(&chosen, known).is_lt() {
                        best = Some((chain, chosen));
                    }
                }
                _ => best = Some((chain, chosen)),
            }
        });
    });
    let mut outcome = outcome?;
    if let Some((chain, chosen)) = best {
        outcome.level = chain.slots.len();
        outcome.times = chain.slots.iter().map(|&slot| timeline.slot_time[slot as usize]).collect();
        if funnel.breakdown.is_some() {
            let value = |&slot: &u32| timeline.events[timeline.slot_events(slot).start].value;
            outcome.values = if chosen.is_empty() { chain.slots.iter().map(value).collect() } else { chosen };
        }
    }
    Some(outcome)
}

fn evaluate_any(funnel: &Funnel, timeline: &Timeline, values: &Values) -> Option<UnitOutcome> {
    let ends = slots_where(timeline, |event| event.exclusions != 0);
    let mut outcome: Option<UnitOutcome> = None;
    let mut best: Option<(Chain, Vec<u32>)> = None;
    let starts = |time: i64| (funnel.from_ms..funnel.to_ms).contains(&time);
    timeline.for_each_group(!funnel.hold.is_empty(), |members| {
        let shape = (funnel.steps.len(), funnel.window_ms);
        let search = AnchorSearch::new(timeline, members, shape, &ends, |a, b| values.compare(a, b));
        search.run(starts, |slot, progress| {
            let outcome = outcome.get_or_insert_default();
            note_try(funnel, outcome, timeline.slot_time[slot as usize], progress.slots.len());
            let chain = Chain { slots: progress.slots.clone(), entry_mask: 0 };
            let ordering = best.as_ref().map_or(Ordering::Less, |(known, _)| chain.compare(known));
            if ordering.is_gt() || (ordering.is_eq() && funnel.breakdown.is_none()) {
                return;
            }
            let chosen: Vec<u32> = progress.events.iter().map(|&index| timeline.events[index as usize].value).collect();
            let is_better = match &best {
                Some((_, known)) if ordering.is_eq() => values.compare_all(&chosen, known).is_lt(),
                _ => true,
            };
            if is_better {
                best = Some((chain, chosen));
            }
        });
    });
    let mut outcome = outcome?;
    if let Some((chain, chosen)) = best {
        outcome.level = chain.slots.len();
        outcome.times = chain.slots.iter().map(|&slot| timeline.slot_time[slot as usize]).collect();
        outcome.values = if funnel.breakdown.is_some() { chosen } else { Vec::new() };
    }
    Some(outcome)
}

/// Notes a try: its start, where it can still go on, and its period.
fn note_try(funnel: &Funnel, outcome: &mut UnitOutcome, start: i64, level: usize) {
    if level > 0 {
        outcome.latest_start = outcome.latest_start.max(start);
    }
    if !funnel.periods.is_empty() {
        let period = funnel.periods.partition_point(|&begins| begins <= start) - 1;
        outcome.note_period(index_u32(period), u8::try_from(level).unwrap_or(u8::MAX), start);
    }
}

fn rules(funnel: &Funnel, timeline: &Timeline) -> Rules {
    let steps = funnel.steps.len();
    let exclusions = funnel.exclusions.iter().enumerate().map(|(bit, exclusion)| Barrier {
        from: exclusion.from_step,
        to: exclusion.to_step,
        slots: slots_where(timeline, |event| event.exclusions >> bit & 1 == 1),
    });
    let strict_steps = if funnel.order == Order::Strict { 0..steps - 1 } else { 0..0 };
    let strict = strict_steps.map(|step| Barrier {
        from: step,
        to: step + 1,
        slots: slots_where(timeline, |event| event.visible && event.steps >> step & 1 == 0),
    });
    Rules { steps, window_ms: funnel.window_ms, strict: strict.collect(), exclusions: exclusions.collect() }
}

/// Slots with such an event, ascending, each once.
fn slots_where(timeline: &Timeline, test: impl Fn(&Event) -> bool) -> Vec<u32> {
    let mut slots: Vec<u32> = Vec::new();
    for (event, &slot) in timeline.events.iter().zip(&timeline.slot_of) {
        if test(event) && slots.last() != Some(&slot) {
            slots.push(slot);
        }
    }
    slots
}

/// The breakdown values of a chain: where several events of a slot could fill its steps, the least values in step order.
///
/// Step by step the least value that leaves the steps after it events to be filled with. Several events may have that value and
/// fit other steps besides, so all ways to go on are kept, as how many of each kind of event are left.
fn choose(timeline: &Timeline, members: &[u32], chain: &Chain, values: &Values) -> Vec<u32> {
    use super::matching::{MaskCount, can_fill};
    let mut chosen = Vec::with_capacity(chain.slots.len());
    for run in chain.slots.chunk_by(|a, b| a == b) {
        let from = members.partition_point(|&index| timeline.slot_of[index as usize] < run[0]);
        let to = members.partition_point(|&index| timeline.slot_of[index as usize] <= run[0]);
        // Events of one value that fit the same steps stand for each other.
        let mut kinds: Vec<(u32, u32)> = Vec::new();
        let mut left: Vec<u32> = Vec::new();
        for &index in &members[from..to] {
            let event = &timeline.events[index as usize];
            let kind = (event.value, event.steps);
            if let Some(known) = kinds.iter().position(|known| *known == kind) {
                left[known] += 1;
            } else {
                kinds.push(kind);
                left.push(1);
            }
        }
        let mut ways = vec![left];
        let first = chosen.len();
        let last = first + run.len() - 1;
        for step in first..=last {
            let fits = |mask: u32| mask >> step & 1 == 1 && (step != 0 || mask == chain.entry_mask);
            let rest_fits = |left: &[u32]| {
                let groups = kinds.iter().zip(left).filter(|(_, count)| **count > 0);
                let groups: Vec<MaskCount> =
                    groups.map(|((_, mask), count)| MaskCount { mask: *mask, count: *count }).collect();
                step == last || can_fill(&groups, step + 1..=last, None)
            };
            let mut least: Option<u32> = None;
            let mut next: Vec<Vec<u32>> = Vec::new();
            for way in &ways {
                for (place, &(value, mask)) in kinds.iter().enumerate() {
                    let ordering = least.map_or(Ordering::Less, |least| values.compare(value, least));
                    if way[place] == 0 || !fits(mask) || ordering.is_gt() {
                        continue;
                    }
                    let mut without = way.clone();
                    without[place] -= 1;
                    if !rest_fits(&without) {
                        continue;
                    }
                    if ordering.is_lt() {
                        least = Some(value);
                        next.clear();
                    }
                    if !next.contains(&without) {
                        next.push(without);
                    }
                }
            }
            // A chain that was found can be filled; an empty value would be the least harm.
            chosen.push(least.unwrap_or(0));
            if !next.is_empty() {
                ways = next;
            }
        }
    }
    chosen
}
