//! The oracle: the rules of a funnel in the plainest form, for tests.
//!
//! In: whole events, links between anonymous units and people, a checked [`Funnel`]. Out: a [`FunnelAnswer`] to be compared
//! with the one of the fast path. It shares no code with the statement or the scan: it evaluates conditions on plain
//! events, lists *every* chain of a unit and picks by the words of the rules. Its time grows exponentially with the events
//! of a unit; a dozen is what it is for.
//!
//! It deliberately does not optimise, stream or talk to anything.

use super::answer::{FunnelAnswer, GroupAnswer, PeriodAnswer, StepAnswer, TIME_BUCKETS_MS, TimeBucket, TimesAnswer};
use super::matcher::{Comparison, Condition, Matcher, NameKind, Scalar, Test};
use super::validate::{Attribution, CountBy, Funnel, Order};
use gemba_conventions::EventKind;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// One event as recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainEvent {
    /// Unit as recorded; `None`: nobody.
    pub unit: Option<u64>,
    /// Session; `None`: none was sent.
    pub session: Option<u64>,
    /// Tenant; empty: none.
    pub tenant: String,
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Sequence number and instance; `None`: not sent.
    pub seq: Option<(u64, u64)>,
    /// Kind.
    pub kind: EventKind,
    /// Name.
    pub name: String,
    /// Attributes by key.
    pub attributes: BTreeMap<String, Scalar>,
}

/// An anonymous unit turned out to be a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainLink {
    /// The anonymous unit.
    pub anonymous: u64,
    /// The person.
    pub person: u64,
    /// When that was learned.
    pub time_ms: i64,
}

/// Place of an event in the order of its unit: events of equal place have no order.
type Place = (i64, u64);

/// An event with what the funnel needs to know of it.
struct Looked<'a> {
    event: &'a PlainEvent,
    place: Place,
    hold: Option<Vec<Vec<u8>>>,
    value: Vec<u8>,
}

/// A chain: indices of events by step.
#[derive(Clone)]
struct Found {
    places: Vec<Place>,
    values: Vec<Vec<u8>>,
}

/// What became of one unit.
struct Fate {
    chain: Option<Found>,
    latest_start: i64,
    periods: BTreeMap<usize, usize>,
}

/// Answers the funnel over all these events, in whatever order they come.
pub fn answer(funnel: &Funnel, events: &[PlainEvent], links: &[PlainLink]) -> FunnelAnswer {
    let mut without_unit = 0;
    for event in events {
        let in_range = event.time_ms >= funnel.from_ms && event.time_ms < funnel.to_ms;
        let fits_some_step = funnel.steps.iter().any(|step| fits(&step.matcher, event));
        if unit_of(funnel, event, links).is_none() && in_range && fits_some_step && passes(&funnel.filter, event) {
            without_unit += 1;
        }
    }
    let fates: Vec<Fate> = units(funnel, events, links).iter().filter_map(|events| fate(funnel, events)).collect();
    let excluded = fates.iter().filter(|fate| fate.chain.is_none()).count();
    let whole: Vec<&Fate> = fates.iter().filter(|fate| fate.chain.is_some()).collect();
    FunnelAnswer {
        steps: step_answers(funnel, &whole),
        excluded: excluded as u64,
        without_unit,
        breakdown: if funnel.breakdown.is_some() { group_answers(funnel, &whole) } else { Vec::new() },
        over_time: (0..funnel.periods.len()).map(|period| period_answer(funnel, &fates, period)).collect(),
        as_of: Timestamp::from_millisecond(funnel.as_of_ms).map_or_else(|_| String::new(), |at| at.to_string()),
        // A list of units is no rule; the reference knows none.
        dropped: None,
    }
}

/// Whether an event fits a description.
pub fn fits(matcher: &Matcher, event: &PlainEvent) -> bool {
    let of_user = matches!(event.kind, EventKind::Used | EventKind::Step | EventKind::Event);
    let by_name = match &matcher.event {
        None => of_user,
        Some(name) => {
            let kind = match name.kind {
                NameKind::Plain => of_user || event.kind == EventKind::Started,
                NameKind::Feature => event.kind == EventKind::Used || event.kind == EventKind::Started,
                NameKind::Completed => event.kind == EventKind::Ended,
                NameKind::Step => event.kind == EventKind::Step,
                NameKind::Event => event.kind == EventKind::Event,
            };
            kind && event.name == name.name
        }
    };
    by_name && passes(&matcher.conditions, event)
}

/// Whether an event meets all conditions.
pub fn passes(conditions: &[Condition], event: &PlainEvent) -> bool {
    conditions.iter().all(|condition| {
        let value = event.attributes.get(&condition.attr);
        match &condition.test {
            Test::In(wanted) => wanted.iter().any(|wanted| value == Some(wanted)),
            Test::NotEqual(unwanted) => value != Some(unwanted),
            Test::Contains(part) => match value {
                Some(Scalar::Text(text)) => text.contains(part.as_str()),
                _ => false,
            },
            Test::Compare(comparison, bound) => match (value, bound) {
                (Some(Scalar::Number(value)), Scalar::Number(bound)) => match comparison {
                    Comparison::Less => value < bound,
                    Comparison::LessOrEqual => value <= bound,
                    Comparison::Greater => value > bound,
                    Comparison::GreaterOrEqual => value >= bound,
                },
                (Some(Scalar::Text(value)), Scalar::Text(bound)) => match comparison {
                    Comparison::Less => value < bound,
                    Comparison::LessOrEqual => value <= bound,
                    Comparison::Greater => value > bound,
                    Comparison::GreaterOrEqual => value >= bound,
                },
                _ => false,
            },
            Test::Present(wanted) => value.is_some() == *wanted,
        }
    })
}

/// The person behind an event: what its unit was first linked to, else the unit itself.
fn person_of(event: &PlainEvent, links: &[PlainLink]) -> Option<u64> {
    let unit = event.unit?;
    let mut of_unit: Vec<&PlainLink> = links.iter().filter(|link| link.anonymous == unit).collect();
    of_unit.sort_by_key(|link| (link.time_ms, link.person));
    Some(of_unit.first().map_or(unit, |link| link.person))
}

/// Name of the unit an event belongs to; derived sessions are told apart later.
fn unit_of(funnel: &Funnel, event: &PlainEvent, links: &[PlainLink]) -> Option<String> {
    match funnel.count_by {
        CountBy::User => person_of(event, links).map(|person| format!("person {person}")),
        CountBy::Tenant => (!event.tenant.is_empty()).then(|| format!("tenant {}", event.tenant)),
        CountBy::Session => match event.session {
            Some(session) => Some(format!("session {session}")),
            None => person_of(event, links).map(|person| format!("derived {person}")),
        },
    }
}

/// The events of each unit that the funnel may see.
fn units<'a>(funnel: &Funnel, events: &'a [PlainEvent], links: &[PlainLink]) -> Vec<Vec<&'a PlainEvent>> {
    let mut by_name: BTreeMap<String, Vec<&PlainEvent>> = BTreeMap::new();
    for event in events {
        if let Some(unit) = unit_of(funnel, event, links) {
            by_name.entry(unit).or_default().push(event);
        }
    }
    let mut units = Vec::new();
    for (name, mut events) in by_name {
        if !name.starts_with("derived") {
            units.push(events);
            continue;
        }
        events.sort_by_key(|event| event.time_ms);
        let mut session: Vec<&PlainEvent> = Vec::new();
        for event in events {
            if session.last().is_some_and(|last| event.time_ms - last.time_ms > funnel.session_gap_ms) {
                units.push(std::mem::take(&mut session));
            }
            session.push(event);
        }
        units.push(session);
    }
    units.into_iter().map(|events| events.into_iter().filter(|event| passes(&funnel.filter, event)).collect()).collect()
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
fn fate(funnel: &Funnel, events: &[&PlainEvent]) -> Option<Fate> {
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
            let best = fate.periods.entry(period).or_insert(0);
            *best = level.max(*best);
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

fn level(fate: &Fate) -> usize {
    fate.chain.as_ref().map_or(0, |chain| chain.places.len())
}

fn share(part: u64, whole: u64) -> Option<f64> {
    if whole == 0 { None } else { Some(part as f64 / whole as f64) }
}

fn step_answers(funnel: &Funnel, fates: &[&Fate]) -> Vec<StepAnswer> {
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

fn group_answers(funnel: &Funnel, fates: &[&Fate]) -> Vec<GroupAnswer> {
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

fn period_answer(funnel: &Funnel, fates: &[Fate], period: usize) -> PeriodAnswer {
    let levels: Vec<usize> = fates.iter().filter_map(|fate| fate.periods.get(&period).copied()).collect();
    let counts: Vec<u64> =
        (0..funnel.steps.len()).map(|step| levels.iter().filter(|&&level| level > step).count() as u64).collect();
    let start = Timestamp::from_millisecond(funnel.periods[period])
        .map_or_else(|_| String::new(), |at| at.display_with_offset(funnel.tz.to_offset(at)).to_string());
    PeriodAnswer {
        start,
        rate: share(counts[counts.len() - 1], counts[0]),
        counts,
        excluded: levels.iter().filter(|&&level| level == 0).count() as u64,
    }
}
