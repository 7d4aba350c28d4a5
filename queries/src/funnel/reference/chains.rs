//! What becomes of one unit, by listing every chain of its events.
//!
//! In: a funnel and the events of one unit. Out: its [`Fate`]: the reported chain, where there is a clean one.

use super::super::matcher::{Matcher, Scalar};
use super::super::validate::{Funnel, Order};
use super::{PlainEvent, fits};
use std::collections::BTreeMap;

/// Place of an event in the order of its unit: events of equal place have no order.
pub(super) type Place = (i64, u64);

/// An event with what the funnel needs to know of it.
struct Looked<'a> {
    event: &'a PlainEvent,
    place: Place,
    hold: Option<Vec<Vec<u8>>>,
    value: Vec<u8>,
}

/// A chain: indices of events by step.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) places: Vec<Place>,
    pub(super) values: Vec<Vec<u8>>,
}

/// What became of one unit.
pub(super) struct Fate {
    pub(super) chain: Option<Found>,
    pub(super) latest_start: i64,
    /// By period: the longest clean try that starts in it, and the latest start of one.
    pub(super) periods: BTreeMap<usize, (usize, i64)>,
}

/// The events the funnel looks at, each with its place.
fn looked_at<'a>(funnel: &Funnel, events: &[&'a PlainEvent]) -> Vec<Looked<'a>> {
    let is_of_interest = |event: &PlainEvent| {
        funnel.steps.iter().any(|step| fits(&step.matcher, event))
            || funnel.exclusions.iter().any(|exclusion| fits(&exclusion.matcher, event))
            || (funnel.order == Order::Strict && fits(&Matcher::default(), event))
    };
    let events: Vec<&PlainEvent> = events.iter().copied().filter(|event| is_of_interest(event)).collect();
    let place = |event: &PlainEvent| {
        let mut same_ms = events.iter().filter(|other| other.time_ms == event.time_ms);
        match event.seq {
            Some((seq, instance)) if same_ms.all(|other| other.seq.is_some_and(|(_, its)| its == instance)) => {
                (event.time_ms, seq)
            }
            _ => (event.time_ms, 0),
        }
    };
    let value = |event: &PlainEvent, key: &String| match event.attributes.get(key) {
        None => Vec::new(),
        Some(Scalar::Text(text)) => format!("s{text}").into_bytes(),
        Some(Scalar::Number(number)) => format!("n{number}").into_bytes(),
        Some(Scalar::Flag(flag)) => format!("b{flag}").into_bytes(),
    };
    let look = |event: &&'a PlainEvent| {
        let held: Vec<Vec<u8>> = funnel.hold.iter().map(|key| value(event, key)).collect();
        Looked {
            event,
            place: place(event),
            hold: held.iter().all(|value| !value.is_empty()).then_some(held),
            value: funnel.breakdown.as_ref().map_or_else(Vec::new, |key| value(event, key)),
        }
    };
    events.iter().map(look).collect()
}

/// What became of a unit; `None` when it did not enter.
pub(super) fn fate(funnel: &Funnel, events: &[&PlainEvent]) -> Option<Fate> {
    let events = looked_at(funnel, events);
    let starts: Vec<usize> = (0..events.len())
        .filter(|&index| match funnel.order {
            Order::Any => funnel.steps.iter().any(|step| fits(&step.matcher, events[index].event)),
            _ => fits(&funnel.steps[0].matcher, events[index].event),
        })
        .collect();
    let in_range = |index: usize| {
        let time = events[index].event.time_ms;
        time >= funnel.from_ms && time < funnel.to_ms
    };
    if funnel.first_time {
        let first = starts.iter().copied().min_by_key(|&index| events[index].event.time_ms)?;
        if !in_range(first) {
            return None;
        }
    }
    let mut fate: Option<Fate> = None;
    for &start in starts.iter().filter(|&&index| in_range(index)) {
        if events[start].hold.is_none() {
            continue;
        }
        let reported = match funnel.order {
            Order::Any => anchor_chains(funnel, &events, start),
            _ => clean_longest_chains(funnel, &events, start),
        };
        let fate = fate.get_or_insert(Fate { chain: None, latest_start: i64::MIN, periods: BTreeMap::new() });
        let level = reported.first().map_or(0, |chain| chain.places.len());
        let time = events[start].event.time_ms;
        if let Some(period) = (0..funnel.periods.len()).rfind(|&period| funnel.periods[period] <= time) {
            let (best, latest_start) = fate.periods.entry(period).or_insert((0, i64::MIN));
            *best = level.max(*best);
            if level > 0 {
                *latest_start = time.max(*latest_start);
            }
        }
        if level > 0 {
            fate.latest_start = fate.latest_start.max(time);
        }
        for chain in reported {
            if fate.chain.as_ref().is_none_or(|known| is_better(&chain, known)) {
                fate.chain = Some(chain);
            }
        }
    }
    fate
}

/// Highest level, earliest end, latest start, each step as early as possible, least values.
fn is_better(a: &Found, b: &Found) -> bool {
    if a.places.len() != b.places.len() {
        return a.places.len() > b.places.len();
    }
    if a.places.last() != b.places.last() {
        return a.places.last() < b.places.last();
    }
    if a.places.first() != b.places.first() {
        return a.places.first() > b.places.first();
    }
    (&a.places, &a.values) < (&b.places, &b.values)
}

fn found(events: &[Looked<'_>], chain: &[usize]) -> Found {
    Found {
        places: chain.iter().map(|&index| events[index].place).collect(),
        values: chain.iter().map(|&index| events[index].value.clone()).collect(),
    }
}

/// All longest chains of a try that no exclusion hits.
fn clean_longest_chains(funnel: &Funnel, events: &[Looked<'_>], start: usize) -> Vec<Found> {
    let mut all = Vec::new();
    extend(funnel, events, &mut vec![start], &mut all);
    let longest = all.iter().map(Vec::len).max().unwrap_or(0);
    let clean = all.iter().filter(|chain| chain.len() == longest && !is_hit(funnel, events, chain));
    clean.map(|chain| found(events, chain)).collect()
}

/// Lists every chain that begins with this one.
fn extend(funnel: &Funnel, events: &[Looked<'_>], chain: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
    all.push(chain.clone());
    let step = chain.len();
    if step == funnel.steps.len() {
        return;
    }
    let (first, last) = (chain[0], chain[step - 1]);
    for next in 0..events.len() {
        let can_follow = !chain.contains(&next)
            && fits(&funnel.steps[step].matcher, events[next].event)
            && events[next].hold == events[first].hold
            && events[next].place >= events[last].place
            && events[next].event.time_ms - events[first].event.time_ms <= funnel.window_ms;
        if can_follow && (funnel.order != Order::Strict || nothing_between(funnel, events, step - 1, last, next)) {
            chain.push(next);
            extend(funnel, events, chain, all);
            chain.pop();
        }
    }
}

/// Whether every other event a user causes between two chain events repeats the step just reached.
fn nothing_between(funnel: &Funnel, events: &[Looked<'_>], step: usize, from: usize, to: usize) -> bool {
    events.iter().all(|other| {
        let is_between = other.place > events[from].place && other.place < events[to].place;
        let is_other = fits(&Matcher::default(), other.event) && !fits(&funnel.steps[step].matcher, other.event);
        !(is_between && is_other)
    })
}

fn is_hit(funnel: &Funnel, events: &[Looked<'_>], chain: &[usize]) -> bool {
    funnel.exclusions.iter().any(|exclusion| {
        let Some(&from) = chain.get(exclusion.from_step) else { return false };
        events.iter().filter(|other| fits(&exclusion.matcher, other.event)).any(|other| {
            let is_after = other.place > events[from].place;
            let is_before_end = match chain.get(exclusion.to_step) {
                Some(&to) => other.place < events[to].place,
                None => other.event.time_ms - events[chain[0]].event.time_ms <= funnel.window_ms,
            };
            is_after && is_before_end
        })
    })
}

/// The best that can be done from an anchor, in any order of the steps.
fn anchor_chains(funnel: &Funnel, events: &[Looked<'_>], anchor: usize) -> Vec<Found> {
    let excluded = events.iter().filter(|other| {
        other.place > events[anchor].place
            && funnel.exclusions.iter().any(|exclusion| fits(&exclusion.matcher, other.event))
    });
    let end = excluded.map(|other| other.place).min();
    let usable: Vec<usize> = (0..events.len())
        .filter(|&index| {
            events[index].place >= events[anchor].place
                && events[index].event.time_ms - events[anchor].event.time_ms <= funnel.window_ms
                && events[index].hold == events[anchor].hold
                && end.is_none_or(|end| events[index].place <= end)
        })
        .collect();
    let mut sets = Vec::new();
    assign(funnel, events, &usable, 0, &mut Vec::new(), &mut sets);
    let most = sets.iter().map(Vec::len).max().unwrap_or(0);
    let mut chains = Vec::new();
    for mut set in sets {
        if set.len() == most && set.contains(&anchor) {
            set.sort_by_key(|&index| (index != anchor, events[index].place, events[index].value.clone()));
            chains.push(found(events, &set));
        }
    }
    chains
}

/// Lists every way to give steps distinct events, or none.
fn assign(
    funnel: &Funnel,
    events: &[Looked<'_>],
    usable: &[usize],
    step: usize,
    chosen: &mut Vec<usize>,
    sets: &mut Vec<Vec<usize>>,
) {
    if step == funnel.steps.len() {
        sets.push(chosen.clone());
        return;
    }
    assign(funnel, events, usable, step + 1, chosen, sets);
    for &index in usable {
        if !chosen.contains(&index) && fits(&funnel.steps[step].matcher, events[index].event) {
            chosen.push(index);
            assign(funnel, events, usable, step + 1, chosen, sets);
            chosen.pop();
        }
    }
}
