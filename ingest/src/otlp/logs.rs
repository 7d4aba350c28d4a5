//! Log records into rows: features, attempts, funnel steps and foreign events here, our bookkeeping records in
//! `records.rs`.

use super::fields::Fields;
use super::keys::{Key, KeySet};
use super::records;
use super::resource::{Resource, Scope};
use super::sink::{Fault, Sink, When, span_id, trace_id, usable};
use super::value::{Value, key_value, utf8};
use super::wire::{Field, Malformed, Message};
use crate::outcome::Reason;
use crate::rows::{EventRow, day_of_ms};
use gemba_conventions::{EventKind, Outcome, attribute, event, is_valid_name};

/// Longest event name, in bytes (advised by the semantic conventions, general/events).
const MAX_EVENT_NAME_BYTES: usize = 256;
/// Bit of `events.flags`: the time sent lay too far ahead; receipt stands in for it and the time sent is kept in
/// `numbers['gemba.time_sent_ms']`.
const FLAG_TIME_REPLACED: u8 = 1;
/// Key of the time sent where it was replaced.
const TIME_SENT_MS: &str = "gemba.time_sent_ms";

/// Attributes that become columns on every event.
const EVENT_KEYS: KeySet = KeySet::of(&[
    Key::UserId,
    Key::EnduserId,
    Key::EnduserPseudoId,
    Key::SessionId,
    Key::AnonymousId,
    Key::Tenant,
    Key::Feature,
    Key::Attempt,
    Key::Seq,
    Key::ErrorType,
    Key::EventNameOld,
]);
/// And on the end of an attempt.
const ENDED_KEYS: KeySet = EVENT_KEYS.and(KeySet::of(&[
    Key::Outcome,
    Key::OutcomeInferred,
    Key::OutcomeReason,
    Key::DurationNs,
    Key::StartTime,
]));
/// And on a funnel step.
const STEP_KEYS: KeySet = EVENT_KEYS.and(KeySet::of(&[Key::Funnel, Key::Step]));

/// One log record, read but not understood yet.
#[derive(Debug, Default)]
pub(super) struct Record<'a> {
    time: u64,
    observed: u64,
    severity: u64,
    severity_text: &'a [u8],
    name: &'a [u8],
    body: Option<&'a [u8]>,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    /// The scope's attributes and then the record's.
    pub(super) pairs: Vec<&'a [u8]>,
    /// The attributes, once they are read.
    pub(super) fields: Fields<'a>,
    /// Buffer for the name of a funnel step.
    text: String,
}

impl<'a> Record<'a> {
    /// Reads the record's own fields, keeping the buffers of the one before.
    #[inline]
    fn read(&mut self, bytes: &'a [u8], scope: &Scope<'a>) -> Result<(), Malformed> {
        self.fields.clear();
        self.pairs.clear();
        self.pairs.extend_from_slice(&scope.pairs);
        (self.time, self.observed, self.severity) = (0, 0, 0);
        (self.severity_text, self.name, self.body, self.trace_id, self.span_id) = (&[], &[], None, &[], &[]);
        for field in Message::new(bytes) {
            match field? {
                (1, Field::Fixed64(time)) => self.time = time,
                (2, Field::Varint(severity)) => self.severity = severity,
                (3, Field::Bytes(text)) => self.severity_text = text,
                (5, Field::Bytes(body)) => self.body = Some(body),
                (6, Field::Bytes(pair)) => self.pairs.push(pair),
                (9, Field::Bytes(id)) => self.trace_id = id,
                (10, Field::Bytes(id)) => self.span_id = id,
                (11, Field::Fixed64(time)) => self.observed = time,
                (12, Field::Bytes(name)) => self.name = name,
                _ => {}
            }
        }
        Ok(())
    }

    /// The event's name: the field, else the deprecated attribute.
    fn name(&self) -> Result<&'a str, Fault> {
        let mut name = utf8(self.name)?;
        if name.is_empty() {
            for pair in &self.pairs {
                if let (attribute::EVENT_NAME_OLD, Value::Text(text)) = key_value(pair)? {
                    name = text;
                }
            }
        }
        match name.len() {
            0 => Err(Fault::rejected(
                Reason::MissingEventName,
                "event_name is empty; only log records with a name are events, plain log lines are not kept",
            )),
            1..=MAX_EVENT_NAME_BYTES => Ok(name),
            _ => Err(Fault::set_aside(
                Reason::EventNameTooLong,
                "event_name is longer than 256 bytes; put what varies into attributes",
            )),
        }
    }
}

/// Reads an `ExportLogsServiceRequest`.
pub(super) fn read<'r>(body: &'r [u8], sink: &mut Sink<'r>) -> Result<(), Malformed> {
    let mut record = Record::default();
    for field in Message::new(body) {
        let (1, Field::Bytes(container)) = field? else { continue };
        let (resource, refused) = usable(Resource::read(container, sink))?;
        sink.around.enter_resource(container);
        for field in Message::new(container) {
            let (2, Field::Bytes(container)) = field? else { continue };
            let (scope, scope_refused) = usable(Scope::read(container))?;
            let refused = refused.as_ref().or(scope_refused.as_ref());
            sink.around.enter_scope(container);
            for field in Message::new(container) {
                let (2, Field::Bytes(bytes)) = field? else { continue };
                record.read(bytes, &scope)?;
                sink.take_of(refused, bytes, |sink| one(&mut record, &resource, &scope, sink))?;
            }
        }
    }
    Ok(())
}

fn one<'a>(
    record: &mut Record<'a>,
    resource: &Resource<'_>,
    scope: &Scope<'a>,
    sink: &mut Sink<'_>,
) -> Result<(), Fault> {
    let name = record.name()?;
    let when = sink.when(&[record.time, record.observed])?;
    let (kind, take) = match name {
        event::FEATURE_USED => (EventKind::Used, EVENT_KEYS),
        event::FEATURE_STARTED => (EventKind::Started, EVENT_KEYS),
        event::FEATURE_ENDED => (EventKind::Ended, ENDED_KEYS),
        event::FUNNEL_STEP => (EventKind::Step, STEP_KEYS),
        _ => match records::Bookkeeping::of(name) {
            Some(kind) => return records::read(kind, record, when, resource, sink),
            None => (EventKind::Event, EVENT_KEYS),
        },
    };
    if kind == EventKind::Event {
        foreign(record, scope)?;
    }
    record.fields.read(&record.pairs, take, true)?;
    if kind == EventKind::Event {
        rename_feature_flag(name, record);
        let old = record.fields.known.text(Key::EventNameOld);
        if !old.is_empty() && old != name {
            record.fields.attributes.set_text(attribute::EVENT_NAME_OLD, old);
        }
    }
    if let Some(sent_ms) = when.sent_ms {
        record.fields.attributes.set_integer(TIME_SENT_MS, sent_ms);
    }
    push(kind, name, record, when, resource, sink)
}

/// Takes an evaluation of a feature flag that was not sent as a log record: when and where it was made, and its attributes.
pub(super) fn evaluation<'a>(
    (time, trace_id, span_id): (u64, &'a [u8], &'a [u8]),
    pairs: Vec<&'a [u8]>,
    (resource, scope): (&Resource<'_>, &Scope<'a>),
    sink: &mut Sink<'_>,
) -> Result<(), Fault> {
    let name = event::FLAG_EVALUATION.as_bytes();
    one(&mut Record { time, name, trace_id, span_id, pairs, ..Record::default() }, resource, scope, sink)
}

/// What a foreign event has beside its attributes, as attributes that the record's own may override.
fn foreign<'a>(record: &mut Record<'a>, scope: &Scope<'a>) -> Result<(), Fault> {
    let Record { severity, severity_text, body, fields, .. } = record;
    if let Some(body) = body.map(Value::read).transpose()?.filter(|body| *body != Value::Empty) {
        fields.keep("body", body)?;
    }
    if *severity != 0 {
        fields.attributes.set_integer("severity_number", severity.cast_signed());
    } else if !severity_text.is_empty() {
        fields.attributes.set_text("severity_text", utf8(severity_text)?);
    }
    for (key, text) in [("otel.scope.name", scope.name), ("otel.scope.version", scope.version)] {
        if !text.is_empty() {
            fields.attributes.set_text(key, text);
        }
    }
    Ok(())
}

/// Old names of `feature_flag.evaluation` (semantic conventions, registry, feature flag, deprecated).
const FEATURE_FLAG_NAMES: [(&str, &str); 4] = [
    ("feature_flag.variant", "feature_flag.result.variant"),
    ("feature_flag.provider_name", "feature_flag.provider.name"),
    ("feature_flag.evaluation.reason", "feature_flag.result.reason"),
    ("feature_flag.evaluation.error.message", "feature_flag.error.message"),
];

fn rename_feature_flag(name: &str, record: &mut Record<'_>) {
    if name == event::FLAG_EVALUATION {
        for (old, stable) in FEATURE_FLAG_NAMES {
            record.fields.attributes.rename(old, stable);
        }
    }
}

/// A valid name of a feature, funnel or step on one of our own records.
pub(super) fn own_name<'a>(what: &'static str, text: &'a str) -> Result<&'a str, Fault> {
    if text.is_empty() {
        return Err(Fault::missing(what));
    }
    if !is_valid_name(text) {
        return Err(Fault::invalid(what, "names match [a-z0-9_]+(\\.[a-z0-9_]+)*, at most 128 bytes"));
    }
    Ok(text)
}

fn push(
    kind: EventKind,
    name: &str,
    record: &mut Record<'_>,
    when: When,
    resource: &Resource<'_>,
    sink: &mut Sink<'_>,
) -> Result<(), Fault> {
    let known = &record.fields.known;
    let feature = known.word(Key::Feature);
    let attempt = sink.attempt(known);
    let mut outcome = 0;
    let name = match kind {
        EventKind::Event => name,
        EventKind::Used => own_name(attribute::FEATURE_NAME, &feature)?,
        EventKind::Started | EventKind::Ended => {
            if attempt == 0 {
                return Err(Fault::missing(attribute::ATTEMPT_ID));
            }
            if kind == EventKind::Ended {
                outcome = Outcome::parse(known.text(Key::Outcome)).ok_or_else(|| {
                    Fault::invalid(attribute::OUTCOME, "completed, failed, abandoned, cancelled or panicked")
                })? as u8;
            }
            own_name(attribute::FEATURE_NAME, &feature)?
        }
        EventKind::Step => {
            record.text.clear();
            record.text.push_str(own_name(attribute::FUNNEL_NAME, known.text(Key::Funnel))?);
            record.text.push('.');
            record.text.push_str(own_name(attribute::STEP_NAME, known.text(Key::Step))?);
            &record.text
        }
    };
    let identity = sink.identity(known, resource);
    let time = when.ms();
    let trace_id = trace_id(record.trace_id);
    let tenant = known.get(Key::Tenant).word().unwrap_or_else(|| resource.known.word(Key::Tenant));
    sink.set.events.push(
        true,
        EventRow {
            project: sink.origin.project.0,
            retention_class: sink.origin.retention_class,
            name,
            kind: kind as u8,
            day: day_of_ms(time),
            unit: identity.unit,
            time,
            seq: if resource.instance == 0 { 0 } else { known.get(Key::Seq).count().unwrap_or(0) },
            instance: resource.instance,
            resource: resource.hash,
            session: identity.session,
            tenant: &tenant,
            feature: &feature,
            attempt,
            outcome,
            outcome_inferred: known.get(Key::OutcomeInferred) == Value::Bool(true),
            outcome_reason: known.text(Key::OutcomeReason),
            duration_ns: known.get(Key::DurationNs).count().unwrap_or(0),
            error_type: known.text(Key::ErrorType),
            service: &resource.service,
            release: &resource.release,
            environment: &resource.environment,
            trace_id,
            // A span id says nothing without its trace.
            span_id: if trace_id == [0; 16] { 0 } else { span_id(record.span_id) },
            strings: &record.fields.attributes,
            numbers: &record.fields.attributes,
            bools: &record.fields.attributes,
            flags: if when.sent_ms.is_some() { FLAG_TIME_REPLACED } else { 0 },
            received: sink.origin.received_ms,
        },
    );
    Ok(())
}
