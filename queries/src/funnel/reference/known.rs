//! What is known of people and tenants, told to each of their events.
//!
//! In: events, links, properties. Out: the same events, each with what its person and its tenant are known for as attributes of
//! their own: `user:KEY` and `tenant:KEY` with the latest value of a property, whenever the event was, and `flag:KEY` with the
//! variant of the person's first exposure, from that millisecond on.

use super::super::matcher::Scalar;
use super::{PlainEvent, PlainLink, person_of};
use gemba_conventions::{EventKind, attribute, event};
use std::collections::BTreeMap;

/// Whom a property is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A person, by number.
    User(u64),
    /// A tenant, by name.
    Tenant(String),
}

/// One thing that was said of a person or a tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainProperty {
    /// Whom it is about.
    pub subject: Subject,
    /// Which property.
    pub key: String,
    /// What it is.
    pub value: Scalar,
    /// When it was said, milliseconds since the Unix epoch.
    pub time_ms: i64,
}

/// Gives each event what is known of its person and its tenant.
pub fn told(events: &[PlainEvent], links: &[PlainLink], properties: &[PlainProperty]) -> Vec<PlainEvent> {
    events.iter().map(|event| one_told(event, events, links, properties)).collect()
}

fn one_told(
    event: &PlainEvent,
    events: &[PlainEvent],
    links: &[PlainLink],
    properties: &[PlainProperty],
) -> PlainEvent {
    let mut told = event.clone();
    // An attribute cannot be asked for under such a key.
    told.attributes.retain(|key, _| !["user:", "tenant:", "flag:"].iter().any(|prefix| key.starts_with(prefix)));
    let person = person_of(event, links);
    for (prefix, subject) in
        [("user:", person.map(Subject::User)), ("tenant:", Some(Subject::Tenant(event.tenant.clone())))]
    {
        let mut said: Vec<&PlainProperty> =
            properties.iter().filter(|property| Some(&property.subject) == subject.as_ref()).collect();
        // The last one said of a key stays; of those said at once the greatest in writing.
        said.sort_by_key(|property| (property.time_ms, written(&property.value)));
        for property in said {
            told.attributes.insert(format!("{prefix}{}", property.key), property.value.clone());
        }
    }
    if let Some(person) = person {
        for (flag, (time_ms, variant)) in first_exposures(person, events, links) {
            if event.time_ms >= time_ms {
                told.attributes.insert(format!("flag:{flag}"), Scalar::Text(variant));
            }
        }
    }
    told
}

/// When a person was first shown each flag, and which variant: of several in one millisecond that of the least sequence
/// number, where none is the least, then the least variant.
fn first_exposures(person: u64, events: &[PlainEvent], links: &[PlainLink]) -> BTreeMap<String, (i64, String)> {
    let text = |event: &PlainEvent, key: &str| match event.attributes.get(key) {
        Some(Scalar::Text(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let mut seen = Vec::new();
    for shown in events.iter().filter(|shown| person_of(shown, links) == Some(person)) {
        let variant = text(shown, attribute::FLAG_VARIANT).or_else(|| text(shown, attribute::FLAG_VARIANT_OLD));
        if shown.kind == EventKind::Event
            && shown.name == event::FLAG_EVALUATION
            && let (Some(flag), Some(variant)) = (text(shown, attribute::FLAG_KEY), variant)
        {
            seen.push((shown.time_ms, shown.seq.map_or(0, |(seq, _)| seq), variant, flag));
        }
    }
    seen.sort();
    let mut first = BTreeMap::new();
    for (time_ms, _, variant, flag) in seen {
        first.entry(flag).or_insert((time_ms, variant));
    }
    first
}

/// A value in writing, with a letter for its type.
fn written(value: &Scalar) -> String {
    match value {
        Scalar::Text(text) => format!("s{text}"),
        Scalar::Number(number) => format!("n{number}"),
        Scalar::Flag(flag) => format!("b{flag}"),
    }
}
