//! The answer of a funnel: counts, rates, times, groups, periods.
//!
//! In: what the scan made of each unit. Out: a [`FunnelAnswer`], whose JSON is the answer of `POST /api/v1/funnel`.
//!
//! Invariants:
//! 1. For every step but the last: count = count of the next + lost + open.
//! 2. The groups of a breakdown sum to the whole, step by step.
//! 3. A percentile is a value that was seen: the one of nearest rank.

use super::outcome::UnitOutcome;
use super::validate::Funnel;
use super::values::Values;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};

/// The answer of a funnel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FunnelAnswer {
    /// One entry a step, in order.
    pub steps: Vec<StepAnswer>,
    /// Units that entered and left the funnel because every try was hit by an exclusion.
    pub excluded: u64,
    /// Events of the range that fit a step and have no unit.
    pub without_unit: u64,
    /// One entry a group, largest first, then `other`, missing and not reached; empty without a breakdown.
    pub breakdown: Vec<GroupAnswer>,
    /// One entry a period, in order; empty without an interval.
    pub over_time: Vec<PeriodAnswer>,
    /// A unit that has not finished is open while a window of its ends after this instant; RFC 3339.
    pub as_of: String,
    /// The units that dropped at the step asked for, latest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Vec<DroppedUnit>>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepAnswer {
    /// Index from 0.
    pub step: usize,
    /// The event as asked for.
    pub label: String,
    /// Units that reached it; with `order: any`, that did at least this many steps.
    pub count: u64,
    /// Share of those that reached the first step, 0..1; null when nobody did.
    pub rate_from_first: Option<f64>,
    /// Share of those that reached the previous step, 0..1; 1 at the first step; null when nobody did.
    pub rate_from_previous: Option<f64>,
    /// Units that reached it and can no longer reach the next.
    pub lost: u64,
    /// Units that reached it and not the next, and still have time.
    pub open: u64,
    /// Time from the previous step; null at the first step and when nobody reached this one.
    pub time_from_previous_ms: Option<TimesAnswer>,
    /// The same times counted by length, from the shortest bucket that holds one to the longest; empty where there are none.
    #[serde(default)]
    pub times_histogram: Vec<TimeBucket>,
}

impl StepAnswer {
    /// The step as cells of a table: step, label, count, the two rates, lost, open, and of the time from the previous step
    /// average, p50 and p90.
    pub fn cells(&self) -> [Value; 10] {
        let times = self.time_from_previous_ms;
        [
            json!(self.step),
            json!(self.label),
            json!(self.count),
            json!(self.rate_from_first),
            json!(self.rate_from_previous),
            json!(self.lost),
            json!(self.open),
            json!(times.map(|times| times.avg)),
            json!(times.map(|times| times.p50)),
            json!(times.map(|times| times.p90)),
        ]
    }
}

/// Upper bounds of the buckets of times, inclusive, in milliseconds: lengths people think in, so that the steps of a funnel
/// and two funnels can be laid side by side. What is longer is in one more bucket without a bound.
pub const TIME_BUCKETS_MS: [i64; 26] = [
    10,
    100,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    1_800_000,
    3_600_000,
    7_200_000,
    21_600_000,
    43_200_000,
    86_400_000,
    172_800_000,
    259_200_000,
    604_800_000,
    1_209_600_000,
    2_592_000_000,
    7_776_000_000,
    15_552_000_000,
    31_536_000_000,
];

/// How many times lie above the bound of the bucket before and at or below this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeBucket {
    /// Longest time in it, one of [`TIME_BUCKETS_MS`]; null: longer than all of them.
    pub up_to_ms: Option<i64>,
    /// Units.
    pub count: u64,
}

/// Times of all units that reached a step, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TimesAnswer {
    /// Arithmetic mean.
    pub avg: f64,
    /// Median by nearest rank.
    pub p50: i64,
    /// 90th percentile by nearest rank.
    pub p90: i64,
}

/// One group of a breakdown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupAnswer {
    /// The value with its type; `other` for the rest, null where it is missing or its step was not reached.
    pub value: Value,
    /// `value`, `other`, `missing` or `not_reached`.
    pub group: &'static str,
    /// As in the whole answer.
    pub steps: Vec<StepAnswer>,
}

/// One period of the conversion over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeriodAnswer {
    /// Where the period begins in the calendar, RFC 3339 with the zone's offset.
    pub start: String,
    /// Units by step, each counted once in every period where a try of it starts.
    pub counts: Vec<u64>,
    /// Units by step that reached it in this period, not the next, and still have time: a window of a clean try of the
    /// period ends after `as_of`. 0 at the last step.
    pub open: Vec<u64>,
    /// Units of the last step over units of the first, 0..1; null when nobody entered. While units are open it may still rise.
    pub rate: Option<f64>,
    /// Units all of whose tries of this period were hit by an exclusion.
    pub excluded: u64,
}

/// A unit that dropped at a step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DroppedUnit {
    /// When it did the step it dropped at, in its reported chain; milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The unit.
    #[serde(serialize_with = "as_hex")]
    pub unit: u64,
    /// Whether it still has time.
    pub open: bool,
    /// Its id as sent; null where it is not known. Not filled in by the scan.
    pub id: Option<String>,
    /// `user`, `session`, `anonymous` or `tenant`. Not filled in by the scan.
    pub id_kind: Option<String>,
    /// What it did after that; null where nothing. Not filled in by the scan.
    pub next: Option<Done>,
    /// What it did last of all. Not filled in by the scan.
    pub last: Option<Done>,
}

/// Something a unit did.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Done {
    /// Name of the event.
    pub event: String,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// 64 bits do not fit a JSON number everywhere.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
fn as_hex<S: serde::Serializer>(unit: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{unit:016x}"))
}

/// Group a unit belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    Value(u32),
    NotReached,
    Whole,
}

/// Counts of one group.
#[derive(Debug, Clone, Default)]
struct GroupTally {
    /// Units by level; index 0 is level 1.
    at_level: Vec<u64>,
    /// Those of them that are open.
    open: Vec<u64>,
    /// Times from the previous step, by step; index 0 is step 1.
    times: Vec<Vec<i64>>,
}

impl GroupTally {
    fn new(steps: usize) -> Self {
        Self { at_level: vec![0; steps], open: vec![0; steps], times: vec![Vec::new(); steps - 1] }
    }

    fn add(&mut self, outcome: &UnitOutcome, is_open: bool) {
        self.at_level[outcome.level - 1] += 1;
        self.open[outcome.level - 1] += u64::from(is_open);
        for (times, pair) in self.times.iter_mut().zip(outcome.times.windows(2)) {
            times.push(pair[1] - pair[0]);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.at_level.iter_mut().zip(&other.at_level).for_each(|(mine, theirs)| *mine += theirs);
        self.open.iter_mut().zip(&other.open).for_each(|(mine, theirs)| *mine += theirs);
        self.times.iter_mut().zip(&other.times).for_each(|(mine, theirs)| mine.extend_from_slice(theirs));
    }

    fn entered(&self) -> u64 {
        self.at_level.iter().sum()
    }

    fn answer(mut self, funnel: &Funnel) -> Vec<StepAnswer> {
        let counts = counts_from_levels(&self.at_level);
        let last = counts.len() - 1;
        let step = |(step, wanted): (usize, &super::validate::Step)| {
            let open = if step == last { 0 } else { self.open[step] };
            let time_from_previous_ms = step.checked_sub(1).and_then(|index| summary(&mut self.times[index]));
            StepAnswer {
                step,
                label: wanted.label.clone(),
                count: counts[step],
                rate_from_first: rate(counts[step], counts[0]),
                rate_from_previous: rate(counts[step], counts[step.saturating_sub(1)]),
                lost: if step == last { 0 } else { self.at_level[step] - open },
                open,
                time_from_previous_ms,
                // The times have been sorted by their summary.
                times_histogram: step.checked_sub(1).map_or_else(Vec::new, |index| histogram(&self.times[index])),
            }
        };
        funnel.steps.iter().enumerate().map(step).collect()
    }
}

/// Units that reached each step, from units by the last step reached.
fn counts_from_levels(at_level: &[u64]) -> Vec<u64> {
    let mut counts = at_level.to_vec();
    for step in (1..counts.len()).rev() {
        counts[step - 1] += counts[step];
    }
    counts
}

fn rate(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Average and percentiles; `None` of nothing. Sorts the times.
fn summary(times: &mut [i64]) -> Option<TimesAnswer> {
    if times.is_empty() {
        return None;
    }
    times.sort_unstable();
    let sum: i128 = times.iter().map(|&time| i128::from(time)).sum();
    // Nearest rank: the smallest value that at least this share of all values does not exceed.
    let rank = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
    Some(TimesAnswer { avg: sum as f64 / times.len() as f64, p50: rank(50), p90: rank(90) })
}

/// Sorted times by bucket, without the empty buckets at either end.
fn histogram(sorted: &[i64]) -> Vec<TimeBucket> {
    let mut buckets = Vec::new();
    let mut before = 0;
    for up_to_ms in TIME_BUCKETS_MS.into_iter().map(Some).chain([None]) {
        let until = up_to_ms.map_or(sorted.len(), |bound| sorted.partition_point(|&time| time <= bound));
        if until > before || (!buckets.is_empty() && until < sorted.len()) {
            buckets.push(TimeBucket { up_to_ms, count: (until - before) as u64 });
        }
        before = until;
    }
    buckets
}

/// What the scan has counted so far.
#[derive(Debug)]
pub(super) struct Tally {
    /// Events without a unit.
    pub without_unit: u64,
    steps: usize,
    excluded: u64,
    groups: HashMap<Group, GroupTally>,
    /// Units by level in each period, and those of them that are open; level 0 counts the excluded.
    periods: Vec<Vec<(u64, u64)>>,
    /// The latest of the units that dropped at the step asked for; the earliest of them on top.
    dropped: BinaryHeap<Reverse<DroppedUnit>>,
}

impl Tally {
    pub(super) fn new(funnel: &Funnel) -> Self {
        let steps = funnel.steps.len();
        Self {
            without_unit: 0,
            steps,
            excluded: 0,
            groups: HashMap::new(),
            periods: vec![vec![(0, 0); steps + 1]; funnel.periods.len()],
            dropped: BinaryHeap::new(),
        }
    }

    pub(super) fn add(&mut self, unit: u64, outcome: &UnitOutcome, funnel: &Funnel) {
        let is_open = |level: usize, latest_start: i64| {
            level < self.steps && latest_start.saturating_add(funnel.window_ms) > funnel.as_of_ms
        };
        for of_period in &outcome.periods {
            let level = usize::from(of_period.level);
            let (units, open) = &mut self.periods[of_period.period as usize][level];
            *units += 1;
            *open += u64::from(level > 0 && is_open(level, of_period.latest_start));
        }
        if outcome.level == 0 {
            self.excluded += 1;
            return;
        }
        let is_open = is_open(outcome.level, outcome.latest_start);
        let group = match (&funnel.breakdown, funnel.value_step(outcome.level)) {
            (None, _) => Group::Whole,
            (Some(_), Some(step)) => Group::Value(outcome.values[step]),
            (Some(_), None) => Group::NotReached,
        };
        self.groups.entry(group).or_insert_with(|| GroupTally::new(self.steps)).add(outcome, is_open);
        if let Some(dropped) = funnel.dropped
            && (outcome.level == dropped.step + 1 || (dropped.reached && outcome.level > dropped.step))
        {
            let at_ms = outcome.times.last().copied().unwrap_or(0);
            let left = DroppedUnit { at_ms, unit, open: is_open, id: None, id_kind: None, next: None, last: None };
            self.list(left, funnel);
        }
    }

    /// Adds what another tally of the same funnel has counted, of other units.
    pub(super) fn merge(&mut self, other: Self, funnel: &Funnel) {
        self.without_unit += other.without_unit;
        self.excluded += other.excluded;
        for (group, tally) in other.groups {
            match self.groups.entry(group) {
                Entry::Occupied(mut known) => known.get_mut().merge(&tally),
                Entry::Vacant(free) => drop(free.insert(tally)),
            }
        }
        for (mine, theirs) in self.periods.iter_mut().flatten().zip(other.periods.iter().flatten()) {
            *mine = (mine.0 + theirs.0, mine.1 + theirs.1);
        }
        for Reverse(left) in other.dropped {
            self.list(left, funnel);
        }
    }

    /// Puts a unit on the list of those that dropped, if it is one of the latest.
    fn list(&mut self, left: DroppedUnit, funnel: &Funnel) {
        self.dropped.push(Reverse(left));
        if funnel.dropped.is_some_and(|dropped| self.dropped.len() > dropped.limit) {
            self.dropped.pop();
        }
    }

    pub(super) fn finish(self, funnel: &Funnel, values: &Values) -> FunnelAnswer {
        let mut whole = GroupTally::new(self.steps);
        self.groups.values().for_each(|group| whole.merge(group));
        let breakdown = match funnel.breakdown {
            None => Vec::new(),
            Some(_) => groups(self.groups, funnel, values),
        };
        let over_time = funnel.periods.iter().zip(&self.periods).map(|(&start, at_level)| {
            let (units, open): (Vec<u64>, Vec<u64>) = at_level.iter().copied().unzip();
            let counts = counts_from_levels(&units[1..]);
            PeriodAnswer {
                start: instant_in_zone(start, funnel),
                rate: rate(counts[counts.len() - 1], counts[0]),
                counts,
                open: open[1..].to_vec(),
                excluded: units[0],
            }
        });
        FunnelAnswer {
            steps: whole.answer(funnel),
            excluded: self.excluded,
            without_unit: self.without_unit,
            breakdown,
            over_time: over_time.collect(),
            as_of: Timestamp::from_millisecond(funnel.as_of_ms).map_or_else(|_| String::new(), |at| at.to_string()),
            dropped: funnel
                .dropped
                .map(|_| self.dropped.into_sorted_vec().into_iter().map(|Reverse(unit)| unit).collect()),
        }
    }
}

fn instant_in_zone(ms: i64, funnel: &Funnel) -> String {
    Timestamp::from_millisecond(ms)
        .map_or_else(|_| String::new(), |at| at.display_with_offset(funnel.tz.to_offset(at)).to_string())
}

/// The largest groups by units that entered, ties by bytes; the rest together; then those without a value.
fn groups(mut groups: HashMap<Group, GroupTally>, funnel: &Funnel, values: &Values) -> Vec<GroupAnswer> {
    let missing = groups.remove(&Group::Value(0));
    let not_reached = groups.remove(&Group::NotReached);
    let mut ranked: Vec<(&[u8], GroupTally)> = groups
        .into_iter()
        .map(|(group, tally)| match group {
            Group::Value(number) => (values.bytes(number), tally),
            Group::NotReached | Group::Whole => (&[][..], tally),
        })
        .collect();
    ranked.sort_by(|(a_bytes, a), (b_bytes, b)| b.entered().cmp(&a.entered()).then_with(|| a_bytes.cmp(b_bytes)));
    let rest = ranked.split_off(ranked.len().min(funnel.breakdown_limit));
    let mut answers: Vec<GroupAnswer> = ranked
        .into_iter()
        .map(|(bytes, tally)| GroupAnswer { value: typed(bytes), group: "value", steps: tally.answer(funnel) })
        .collect();
    if !rest.is_empty() {
        let mut other = GroupTally::new(funnel.steps.len());
        for (_, tally) in &rest {
            other.merge(tally);
        }
        answers.push(GroupAnswer { value: Value::from("other"), group: "other", steps: other.answer(funnel) });
    }
    for (tally, group) in [(missing, "missing"), (not_reached, "not_reached")] {
        if let Some(tally) = tally {
            answers.push(GroupAnswer { value: Value::Null, group, steps: tally.answer(funnel) });
        }
    }
    answers
}

/// The value behind the bytes of the plan's column `value`: a letter for the type, then its text.
fn typed(bytes: &[u8]) -> Value {
    let text = String::from_utf8_lossy(bytes.get(1..).unwrap_or_default()).into_owned();
    match bytes.first() {
        Some(b'n') => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(whole), _) => Value::from(whole),
            (_, Ok(number)) if number.is_finite() => Value::from(number),
            _ => Value::from(text),
        },
        Some(b'b') => Value::from(text == "true"),
        _ => Value::from(text),
    }
}
