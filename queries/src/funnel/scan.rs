//! The exact evaluator: rows by unit in, the answer out.
//!
//! In: rows of a [`FunnelPlan`](super::FunnelPlan), ordered by unit; inside a unit any order will do. Out: a
//! [`FunnelAnswer`]. It holds the events of one unit at a time, and for each unit that entered the times of its chain, which
//! percentiles need. No I/O, no clock, no engine.
//!
//! The rules are those in the documentation of [`super`]; [`super::chain`] and [`super::any_order`] say why the searches are
//! exact and linear.

use super::answer::{FunnelAnswer, Tally};
use super::any_order::AnchorSearch;
use super::chain::{Barrier, ChainSearch, Rules};
use super::outcome::{Chain, UnitOutcome};
use super::unit::{Event, Timeline, index_u32};
use super::validate::{Funnel, Order};
use super::values::Values;
use std::cmp::Ordering;

/// One row of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The unit; 0: the event has none.
    pub unit: u64,
    /// Whether the unit is a person whose events are to be split into sessions by pauses.
    pub derived: bool,
    /// The event.
    pub event: Event,
}

/// Computes a funnel over rows that arrive by unit.
#[derive(Debug)]
pub struct FunnelScan {
    funnel: Funnel,
    tally: Tally,
    values: Values,
    unit: u64,
    derived: bool,
    /// Time of the last event of a derived session.
    last_ms: i64,
    events: Vec<Event>,
    timeline: Timeline,
}

impl FunnelScan {
    /// A scan that has seen nothing.
    pub fn new(funnel: Funnel) -> Self {
        Self {
            tally: Tally::new(&funnel),
            funnel,
            values: Values::default(),
            unit: 0,
            derived: false,
            last_ms: i64::MIN,
            events: Vec::new(),
            timeline: Timeline::default(),
        }
    }

    /// The number of a breakdown value, to be put into [`Event::value`].
    pub fn value(&mut self, bytes: &[u8]) -> u32 {
        self.values.number(bytes)
    }

    /// Takes one row. Rows of a unit must arrive together; rows of derived sessions by time.
    pub fn push(&mut self, row: Row) {
        let is_paused = row.derived && row.event.time_ms.saturating_sub(self.last_ms) > self.funnel.session_gap_ms;
        if row.unit != self.unit || row.derived != self.derived || is_paused {
            self.end_unit();
            self.unit = row.unit;
            self.derived = row.derived;
        }
        self.last_ms = row.event.time_ms;
        if row.unit == 0 {
            self.count_without_unit(&row.event);
        } else {
            self.events.push(row.event);
        }
    }

    /// The answer over all rows taken.
    pub fn finish(mut self) -> FunnelAnswer {
        self.end_unit();
        self.tally.finish(&self.funnel, &self.values)
    }

    fn count_without_unit(&mut self, event: &Event) {
        let in_range = (self.funnel.from_ms..self.funnel.to_ms).contains(&event.time_ms);
        if event.steps != 0 && in_range {
            self.tally.without_unit += 1;
        }
    }

    fn end_unit(&mut self) {
        if self.events.is_empty() {
            return;
        }
        self.timeline.fill(&mut self.events, self.funnel.order);
        if let Some(outcome) = evaluate(&self.funnel, &self.timeline, &self.values) {
            self.tally.add(self.unit, &outcome, &self.funnel);
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
        outcome.note_period(index_u32(period), u8::try_from(level).unwrap_or(u8::MAX));
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
fn choose(timeline: &Timeline, members: &[u32], chain: &Chain, values: &Values) -> Vec<u32> {
    use super::matching::{MaskCount, can_fill};
    let mut chosen = Vec::with_capacity(chain.slots.len());
    let mut step = 0;
    for run in chain.slots.chunk_by(|a, b| a == b) {
        let from = members.partition_point(|&index| timeline.slot_of[index as usize] < run[0]);
        let to = members.partition_point(|&index| timeline.slot_of[index as usize] <= run[0]);
        let mut free: Vec<Event> = members[from..to].iter().map(|&index| timeline.events[index as usize]).collect();
        free.sort_by(|a, b| values.compare(a.value, b.value));
        let last = step + run.len() - 1;
        while step <= last {
            let fits = |event: &Event| event.steps >> step & 1 == 1 && (step != 0 || event.steps == chain.entry_mask);
            let rest_fits = |without: usize| {
                let others = free.iter().enumerate().filter(|(index, _)| *index != without);
                let groups: Vec<MaskCount> =
                    others.map(|(_, event)| MaskCount { mask: event.steps, count: 1 }).collect();
                step == last || can_fill(&groups, step + 1..=last, None)
            };
            let Some(index) = (0..free.len()).find(|&index| fits(&free[index]) && rest_fits(index)) else {
                // A chain that was found can be filled; an empty value would be the least harm.
                chosen.push(0);
                step += 1;
                continue;
            };
            chosen.push(free.remove(index).value);
            step += 1;
        }
    }
    chosen
}
