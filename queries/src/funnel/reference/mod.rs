//! The oracle: the rules of a funnel in the plainest form, for tests.
//!
//! In: whole events, links between anonymous units and people, properties, a checked [`Funnel`]. Out: a [`FunnelAnswer`] to
//! be compared with the one of the fast path. It shares no code with the statement or the scan: it evaluates conditions on
//! plain events, lists *every* chain of a unit and picks by the words of the rules. Its time grows exponentially with the
//! events of a unit; a dozen is what it is for.
//!
//! Here is which events belong to whom and fit what; `known` says what is known of people and tenants, `chains` what
//! becomes of one unit, `tally` what that makes together.
//!
//! It deliberately does not optimise, stream or talk to anything.

mod chains;
mod known;
mod tally;

use super::answer::FunnelAnswer;
use super::matcher::{Comparison, Condition, Matcher, NameKind, Scalar, Test};
use super::validate::{CountBy, Funnel};
use chains::{Fate, fate};
use gemba_conventions::EventKind;
use jiff::Timestamp;
pub use known::{PlainProperty, Subject, told};
use std::collections::BTreeMap;
use tally::{group_answers, period_answer, step_answers};

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

/// Answers the funnel over all these events, in whatever order they come, where no properties are known.
pub fn answer(funnel: &Funnel, events: &[PlainEvent], links: &[PlainLink]) -> FunnelAnswer {
    answer_knowing(funnel, events, links, &[])
}

/// The same where these properties are known.
pub fn answer_knowing(
    funnel: &Funnel,
    events: &[PlainEvent],
    links: &[PlainLink],
    properties: &[PlainProperty],
) -> FunnelAnswer {
    let events = &told(events, links, properties);
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
