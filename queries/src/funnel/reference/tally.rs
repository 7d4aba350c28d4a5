//! What the units of a funnel make together: counts, times, groups and periods.
//!
//! In: a funnel and what became of each unit. Out: the parts of a [`FunnelAnswer`](super::FunnelAnswer).

use super::super::answer::{GroupAnswer, PeriodAnswer, StepAnswer, TIME_BUCKETS_MS, TimeBucket, TimesAnswer};
use super::super::validate::{Attribution, Funnel};
use super::chains::Fate;
use jiff::Timestamp;
use std::collections::BTreeMap;

fn level(fate: &Fate) -> usize {
    fate.chain.as_ref().map_or(0, |chain| chain.places.len())
}

fn share(part: u64, whole: u64) -> Option<f64> {
    if whole == 0 { None } else { Some(part as f64 / whole as f64) }
}

pub(super) fn step_answers(funnel: &Funnel, fates: &[&Fate]) -> Vec<StepAnswer> {
    let steps = funnel.steps.len();
    let reached = |step: usize| fates.iter().filter(|fate| level(fate) > step).count() as u64;
    let mut answers = Vec::new();
    for step in 0..steps {
        let stayed: Vec<&&Fate> = fates.iter().filter(|fate| level(fate) == step + 1 && step + 1 < steps).collect();
        let still_open = |fate: &&&&Fate| fate.latest_start.saturating_add(funnel.window_ms) > funnel.as_of_ms;
        let open = stayed.iter().filter(still_open).count();
        let mut times: Vec<i64> = Vec::new();
        for fate in fates {
            if let Some(chain) = &fate.chain
                && step > 0
                && chain.places.len() > step
            {
                times.push(chain.places[step].0 - chain.places[step - 1].0);
            }
        }
        times.sort_unstable();
        // Nearest rank: the first value such that at least p percent of all values are at most this large.
        let percentile = |percent: usize| {
            let enough =
                |time: &&i64| times.iter().filter(|other| other <= time).count() * 100 >= percent * times.len();
            times.iter().find(enough).copied().unwrap_or(0)
        };
        let time_from_previous_ms = (!times.is_empty()).then(|| TimesAnswer {
            avg: times.iter().sum::<i64>() as f64 / times.len() as f64,
            p50: percentile(50),
            p90: percentile(90),
        });
        answers.push(StepAnswer {
            step,
            label: funnel.steps[step].label.clone(),
            count: reached(step),
            rate_from_first: share(reached(step), reached(0)),
            rate_from_previous: share(reached(step), if step == 0 { reached(0) } else { reached(step - 1) }),
            lost: (stayed.len() - open) as u64,
            open: open as u64,
            time_from_previous_ms,
            times_histogram: time_buckets(&times),
        });
    }
    answers
}

/// Counts every time in the first bucket it fits, then drops the empty buckets before the first and after the last.
fn time_buckets(times: &[i64]) -> Vec<TimeBucket> {
    let mut counts = [0; TIME_BUCKETS_MS.len() + 1];
    for time in times {
        let fitting = TIME_BUCKETS_MS.iter().position(|bound| time <= bound);
        counts[fitting.unwrap_or(TIME_BUCKETS_MS.len())] += 1;
    }
    let bound = |place: usize| TIME_BUCKETS_MS.get(place).copied();
    let all: Vec<TimeBucket> =
        counts.iter().enumerate().map(|(place, &count)| TimeBucket { up_to_ms: bound(place), count }).collect();
    let holds = |bucket: &TimeBucket| bucket.count > 0;
    match (all.iter().position(holds), all.iter().rposition(holds)) {
        (Some(first), Some(last)) => all[first..=last].to_vec(),
        _ => Vec::new(),
    }
}

pub(super) fn group_answers(funnel: &Funnel, fates: &[&Fate]) -> Vec<GroupAnswer> {
    let mut not_reached = Vec::new();
    let mut groups: BTreeMap<Vec<u8>, Vec<&Fate>> = BTreeMap::new();
    for &fate in fates {
        let Some(chain) = &fate.chain else { continue };
        let value = match funnel.attribution {
            Attribution::First => chain.values.first(),
            Attribution::Last => chain.values.last(),
            Attribution::Step(step) => chain.values.get(step),
        };
        match value {
            Some(value) => groups.entry(value.clone()).or_default().push(fate),
            None => not_reached.push(fate),
        }
    }
    let missing = groups.remove(&Vec::new()).unwrap_or_default();
    let mut ranked: Vec<(Vec<u8>, Vec<&Fate>)> = groups.into_iter().collect();
    // The map is in byte order and the sort is stable.
    ranked.sort_by_key(|(_, fates)| std::cmp::Reverse(fates.len()));
    let mut answers = Vec::new();
    let mut other = Vec::new();
    for (place, (value, fates)) in ranked.into_iter().enumerate() {
        if place >= funnel.breakdown_limit {
            other.extend(fates);
            continue;
        }
        let text = String::from_utf8_lossy(&value[1..]).into_owned();
        let value = match value[0] {
            b'n' => serde_json::from_str(&text).unwrap_or_default(),
            b'b' => serde_json::Value::Bool(text == "true"),
            _ => serde_json::Value::String(text),
        };
        answers.push(GroupAnswer { value, group: "value", steps: step_answers(funnel, &fates) });
    }
    if !other.is_empty() {
        answers.push(GroupAnswer { value: "other".into(), group: "other", steps: step_answers(funnel, &other) });
    }
    for (fates, group) in [(missing, "missing"), (not_reached, "not_reached")] {
        if !fates.is_empty() {
            let steps = step_answers(funnel, &fates);
            answers.push(GroupAnswer { value: serde_json::Value::Null, group, steps });
        }
    }
    answers
}

pub(super) fn period_answer(funnel: &Funnel, fates: &[Fate], period: usize) -> PeriodAnswer {
    let levels: Vec<(usize, i64)> = fates.iter().filter_map(|fate| fate.periods.get(&period).copied()).collect();
    let steps = 0..funnel.steps.len();
    let counts: Vec<u64> =
        steps.clone().map(|step| levels.iter().filter(|(level, _)| *level > step).count() as u64).collect();
    let still_open = |step: usize| {
        let stayed = levels.iter().filter(|(level, _)| *level == step + 1 && step + 1 < funnel.steps.len());
        stayed.filter(|(_, start)| start.saturating_add(funnel.window_ms) > funnel.as_of_ms).count() as u64
    };
    let start = Timestamp::from_millisecond(funnel.periods[period])
        .map_or_else(|_| String::new(), |at| at.display_with_offset(funnel.tz.to_offset(at)).to_string());
    PeriodAnswer {
        start,
        rate: share(counts[counts.len() - 1], counts[0]),
        counts,
        open: steps.map(still_open).collect(),
        excluded: levels.iter().filter(|(level, _)| *level == 0).count() as u64,
    }
}
