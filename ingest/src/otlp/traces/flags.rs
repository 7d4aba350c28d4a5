//! Evaluations of feature flags that are told as events of the span they were made in, as OpenTelemetry and OpenFeature did
//! before they were log records (semantic conventions, registry, feature flag, deprecated).
//!
//! In: a span. Out: a record of its own for each evaluation, whatever becomes of the span; it is about whom the span is about.

use super::super::json_schema;
use super::super::keys::{Key, KeySet, lookup};
use super::super::logs;
use super::super::resource::{Resource, Scope};
use super::super::sink::{Fault, Refusal, Sink};
use super::super::value::key_value;
use super::super::wire::{Field, Malformed, Message};
use super::Span;
use gemba_conventions::event;

/// What such an event is called; OpenFeature's hooks send it under the name of the log record, too.
const NAMES: [&[u8]; 2] = [b"feature_flag", event::FLAG_EVALUATION.as_bytes()];
/// Attributes of a span that say whom it is about.
const WHO: KeySet =
    KeySet::of(&[Key::UserId, Key::EnduserId, Key::EnduserPseudoId, Key::SessionId, Key::AnonymousId, Key::Tenant]);

pub(super) fn read<'a>(
    span: &Span<'a>,
    resource: &Resource<'_>,
    scope: &Scope<'a>,
    refused: Option<&Refusal>,
    sink: &mut Sink<'_>,
) -> Result<(), Malformed> {
    for bytes in &span.events {
        if is_evaluation(bytes)? {
            let schema = json_schema::span_event();
            sink.take_within(schema, refused, bytes, |sink| one(bytes, span, (resource, scope), sink))?;
        }
    }
    Ok(())
}

fn is_evaluation(bytes: &[u8]) -> Result<bool, Malformed> {
    let mut name: &[u8] = &[];
    for field in Message::new(bytes) {
        if let (2, Field::Bytes(text)) = field? {
            name = text;
        }
    }
    Ok(NAMES.contains(&name))
}

fn one<'a>(
    bytes: &'a [u8],
    span: &Span<'a>,
    (resource, scope): (&Resource<'_>, &Scope<'a>),
    sink: &mut Sink<'_>,
) -> Result<(), Fault> {
    let mut time = 0;
    let mut pairs = scope.pairs.clone();
    for pair in &span.pairs {
        let (key, _) = key_value(pair)?;
        if lookup(key).is_some_and(|key| WHO.contains(key)) {
            pairs.push(*pair);
        }
    }
    for field in Message::new(bytes) {
        match field? {
            (1, Field::Fixed64(sent)) => time = sent,
            (3, Field::Bytes(pair)) => pairs.push(pair),
            _ => {}
        }
    }
    let time = if time == 0 { span.start } else { time };
    logs::evaluation((time, span.trace_id, span.id), pairs, (resource, scope), sink)
}
