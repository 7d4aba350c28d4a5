//! Claims about funnels, checked on the scan and on the reference alike.

#![expect(clippy::needless_pass_by_value, reason = "JSON written in place reads best")]

mod native;
mod properties;
mod requests;
mod tables;

use super::reference::{self, PlainEvent, PlainLink};
use super::{Columns, Event, Funnel, FunnelAnswer, FunnelRequest, FunnelScan, NativeReader};
use crate::funnel::matcher::Scalar;
use crate::funnel::validate::{CountBy, Order};
use gemba_conventions::EventKind;
use std::collections::BTreeMap;

/// "Now" of all tests, far behind every event: nothing is open unless a test says `as_of`.
const NOW_MS: i64 = 4_000_000_000_000;

/// The funnel of a JSON question.
fn funnel(json: serde_json::Value) -> Funnel {
    FunnelRequest::parse(json).unwrap().validate(NOW_MS, NOW_MS).unwrap()
}

/// A foreign event of unit 1 without anything else.
fn event(name: &str, time_ms: i64) -> PlainEvent {
    PlainEvent {
        unit: Some(1),
        session: None,
        tenant: String::new(),
        time_ms,
        seq: None,
        kind: EventKind::Event,
        name: name.to_owned(),
        attributes: BTreeMap::new(),
    }
}

/// A row of a statement's answer.
struct Row {
    unit: u64,
    derived: bool,
    /// Without the number of the value, which the scan gives.
    event: Event,
    value: String,
}

/// What the statement would answer for these events, as rows in the order of `events` inside each unit.
fn rows(funnel: &Funnel, events: &[PlainEvent], links: &[PlainLink]) -> Vec<Row> {
    let mut holds: Vec<String> = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    for event in events {
        let seen = reference::passes(&funnel.filter, event);
        let bit = |(bit, matcher)| if seen && reference::fits(matcher, event) { 1u32 << bit } else { 0 };
        let steps = funnel.steps.iter().map(|step| &step.matcher).enumerate().map(bit).sum();
        let exclusions = funnel.exclusions.iter().map(|exclusion| &exclusion.matcher).enumerate().map(bit).sum();
        let is_of_user = matches!(event.kind, EventKind::Used | EventKind::Step | EventKind::Event);
        let visible = seen && is_of_user && funnel.order == Order::Strict;
        let first_link = links.iter().filter(|link| Some(link.anonymous) == event.unit);
        let first_link = first_link.min_by_key(|link| (link.time_ms, link.person));
        let person = first_link.map_or(event.unit.unwrap_or(0), |link| link.person);
        let (unit, derived) = match (funnel.count_by, event.session) {
            (CountBy::User, _) => (person, false),
            // Sessions and people are numbered apart, as hashes are.
            (CountBy::Session, Some(session)) => (session + 1_000_000, false),
            (CountBy::Session, None) => (person, true),
            (CountBy::Tenant, _) => (event.tenant.bytes().fold(0, |sum, byte| sum * 256 + u64::from(byte)), false),
        };
        let text = |key: &String| match event.attributes.get(key) {
            None => String::new(),
            Some(Scalar::Text(text)) => format!("s{text}"),
            Some(Scalar::Number(number)) => format!("n{number}"),
            Some(Scalar::Flag(flag)) => format!("b{flag}"),
        };
        let kept: Vec<String> = funnel.hold.iter().map(text).collect();
        let hold = if kept.is_empty() || kept.iter().any(String::is_empty) {
            0
        } else {
            let hold = kept.join("|");
            let known = holds.iter().position(|known| *known == hold);
            let index = known.unwrap_or_else(|| {
                holds.push(hold);
                holds.len() - 1
            });
            index as u64 + 1
        };
        let (seq, instance) = event.seq.unwrap_or((0, 0));
        let valued = funnel.valued_steps().map_or(u32::MAX, |steps| (1 << steps) - 1);
        let value = funnel.breakdown.as_ref().filter(|_| steps & valued != 0 || valued == u32::MAX);
        let value = value.map_or_else(String::new, text);
        let event = Event { time_ms: event.time_ms, seq, instance, steps, exclusions, hold, value: 0, visible };
        rows.push(Row { unit, derived: derived && unit != 0, event, value });
    }
    rows
}

/// Gives the rows to the scan as ClickHouse would.
fn feed(scan: &mut FunnelScan, columns: Columns, rows: &[&Row]) {
    scan.expect(columns);
    let bytes = native::answer(columns, rows);
    let mut reader = NativeReader::new(columns);
    reader.push(&bytes, scan).unwrap();
    reader.finish(scan).unwrap();
}

/// The scan's answer to these events, stored in this order.
fn scanned(funnel: &Funnel, events: &[PlainEvent], links: &[PlainLink]) -> FunnelAnswer {
    let mut scan = FunnelScan::new(funnel.clone());
    let rows = rows(funnel, events, links);
    feed(&mut scan, Columns::of(funnel, true), &rows.iter().collect::<Vec<_>>());
    scan.finish()
}

/// The same when the order inside a millisecond is fetched only for the units that need it.
fn scanned_twice(funnel: &Funnel, events: &[PlainEvent], links: &[PlainLink]) -> FunnelAnswer {
    let mut scan = FunnelScan::new(funnel.clone());
    let rows = rows(funnel, events, links);
    feed(&mut scan, Columns::of(funnel, false), &rows.iter().collect::<Vec<_>>());
    scan.settle();
    let again = scan.unordered(usize::MAX).expect("few rows are kept");
    let is_asked = |row: &&Row| again.units.contains(&row.unit) && again.times_ms.contains(&row.event.time_ms);
    feed(&mut scan, Columns::of(funnel, true), &rows.iter().filter(is_asked).collect::<Vec<_>>());
    scan.finish()
}

/// The answer both give, whatever the order of storage.
fn answer(funnel: &Funnel, events: &[PlainEvent]) -> FunnelAnswer {
    let expected = reference::answer(funnel, events, &[]);
    let mut stored = events.to_vec();
    for _ in 0..events.len().max(1) {
        assert_eq!(scanned(funnel, &stored, &[]), expected, "stored as {stored:#?}");
        stored.rotate_left(1);
    }
    stored.reverse();
    assert_eq!(scanned(funnel, &stored, &[]), expected, "stored as {stored:#?}");
    if funnel.tells_units_by_number() {
        assert_eq!(scanned_twice(funnel, &stored, &[]), expected, "order fetched apart, stored as {stored:#?}");
    }
    expected
}

/// Counts by step.
fn counts(answer: &FunnelAnswer) -> Vec<u64> {
    answer.steps.iter().map(|step| step.count).collect()
}
