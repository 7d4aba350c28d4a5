//! Where normalised records go: rows, or a fate with a reason; and what all records share: time, identity, ids.
//!
//! Every record passes [`Sink::take`] exactly once.

use super::json_schema::Schema;
use super::keys::{Key, Known};
use super::resource::Resource;
use super::show::{Around, show};
use super::value::{Value, ValueError};
use super::wire::Malformed;
use super::{Choice, Origin, Signal};
use crate::identity::IdDomain;
use crate::outcome::{Fate, Reason, Tally};
use crate::rows::{FingerprintCache, Seen, SetAsideRow, TableSet, UnitRow};
use std::borrow::Cow;

/// How far ahead of receipt a record's time may lie before it is queried at receipt, in milliseconds (10 minutes: more
/// than any clock kept by NTP is off, less than any bucket a person looks at).
pub(super) const MAX_AHEAD_MS: i64 = 10 * 60 * 1000;
/// Bytes of what lies around records that one request may leave behind with those set aside, beyond its own length. Each gets a
/// copy, so a large resource would otherwise come once for every record of a few bytes. Chosen: a
/// thousand records of an ordinary resource.
pub(super) const MAX_AROUND: usize = 1 << 20;
/// Nanoseconds in a millisecond.
pub(super) const NS_PER_MS: i64 = 1_000_000;

/// Why a record did not become rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) fate: Fate,
    pub(super) reason: Reason,
    /// What is wrong and what to do, naming the field; empty where the client is told nothing.
    pub(super) detail: Cow<'static, str>,
}

/// What stops a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The whole body is malformed.
    Malformed(Malformed),
    /// Only this record does not become rows.
    Refused(Refusal),
}

impl Fault {
    /// Not kept, and the client is told.
    pub(super) fn rejected(reason: Reason, detail: &'static str) -> Self {
        Self::Refused(Refusal { fate: Fate::Rejected, reason, detail: Cow::Borrowed(detail) })
    }

    /// Kept aside, and the client is told.
    pub(super) fn set_aside(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(Refusal { fate: Fate::SetAside, reason, detail: detail.into() })
    }

    /// Nothing Gemba keeps, and nothing wrong with it.
    pub(super) fn ignored(reason: Reason) -> Self {
        Self::Refused(Refusal { fate: Fate::Ignored, reason, detail: Cow::Borrowed("") })
    }

    /// One of our own records lacks what it cannot do without.
    pub(super) fn missing(what: &'static str) -> Self {
        Self::set_aside(Reason::MissingAttribute, format!("attribute {what} is missing or empty"))
    }

    /// One of our own records carries a value outside its set or range.
    pub(super) fn invalid(what: &'static str, rule: &'static str) -> Self {
        Self::set_aside(Reason::InvalidAttribute, format!("attribute {what} is invalid: {rule}"))
    }
}

impl From<Malformed> for Fault {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl From<ValueError> for Fault {
    fn from(error: ValueError) -> Self {
        match error {
            ValueError::Malformed(error) => Self::Malformed(error),
            ValueError::Refused(Reason::TooDeep) => {
                Self::set_aside(Reason::TooDeep, "an attribute nests arrays or maps deeper than 64; send it flat")
            }
            ValueError::Refused(reason) => Self::set_aside(reason, "a string is not valid UTF-8"),
        }
    }
}

/// What records lie in, as far as it can be used, and what becomes of them where it cannot.
pub(super) fn usable<T: Default>(read: Result<T, Fault>) -> Result<(T, Option<Refusal>), Malformed> {
    match read {
        Ok(read) => Ok((read, None)),
        Err(Fault::Refused(refusal)) => Ok((T::default(), Some(refusal))),
        Err(Fault::Malformed(error)) => Err(error),
    }
}

/// When something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct When {
    /// Nanoseconds since the Unix epoch.
    pub(super) ns: i64,
    /// The time sent, in milliseconds, where it lay too far ahead and receipt stands in for it.
    pub(super) sent_ms: Option<i64>,
}

impl When {
    /// Milliseconds since the Unix epoch, floored.
    #[inline]
    pub(super) fn ms(self) -> i64 {
        self.ns.div_euclid(NS_PER_MS)
    }
}

/// Who something happened to: hashes, 0 where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) unit: u64,
    pub(super) session: u64,
}

/// Takes the records of one request.
#[derive(Debug)]
pub(super) struct Sink<'r> {
    pub(super) origin: &'r Origin<'r>,
    pub(super) signal: Signal,
    pub(super) set: &'r mut TableSet,
    pub(super) seen: &'r mut Seen,
    pub(super) fingerprints: &'r mut FingerprintCache,
    /// Schema of the present record, to show it where it is set aside.
    pub(super) schema: Schema,
    /// And what it lies in, so that it can be sent again.
    pub(super) around: Around<'r>,
    /// Bytes that may still be spent on that. Depends on the body alone, so that a replay gives the same rows.
    pub(super) around_left: usize,
    /// Which records become rows; all of them as a rule.
    pub(super) choice: Option<Choice<'r>>,
    pub(super) tally: Tally,
}

impl Sink<'_> {
    /// Takes one record, `bytes` as sent: turns it into rows with `read`, and counts what became of it.
    #[inline]
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        read: impl FnOnce(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Malformed> {
        let outcome = match self.choice {
            None => read(self),
            Some(choice) => self.choose(choice, read),
        };
        self.account(bytes, outcome)
    }

    /// The same for a record in something that may have been refused with all in it.
    #[inline]
    pub(super) fn take_of(
        &mut self,
        refused: Option<&Refusal>,
        bytes: &[u8],
        read: impl FnOnce(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Malformed> {
        match refused {
            None => self.take(bytes, read),
            Some(refusal) => self.take(bytes, |_| Err(Fault::Refused(refusal.clone()))),
        }
    }

    /// The same for a record told within one of another kind, of this schema. By itself it is no record of a request, so where it is
    /// set aside it is listed and cannot be taken in again.
    pub(super) fn take_within(
        &mut self,
        schema: Schema,
        refused: Option<&Refusal>,
        bytes: &[u8],
        read: impl FnOnce(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Malformed> {
        let schema = std::mem::replace(&mut self.schema, schema);
        let around_left = std::mem::take(&mut self.around_left);
        let outcome = self.take_of(refused, bytes, read);
        (self.schema, self.around_left) = (schema, around_left);
        outcome
    }

    #[cold]
    fn choose(&mut self, choice: Choice<'_>, read: impl FnOnce(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        let number = self.tally.received;
        let (from, to) = choice.only;
        if choice.refused.binary_search(&number).is_ok() {
            return Err(Fault::set_aside(Reason::RefusedByStore, choice.problem.to_owned()));
        }
        if (from..to).contains(&number) { read(self) } else { Ok(()) }
    }

    #[inline]
    fn account(&mut self, bytes: &[u8], outcome: Result<(), Fault>) -> Result<(), Malformed> {
        self.tally.received += 1;
        match outcome {
            Ok(()) => Ok(()),
            Err(Fault::Malformed(error)) => Err(error),
            Err(Fault::Refused(refusal)) => {
                self.refuse(bytes, refusal);
                Ok(())
            }
        }
    }

    #[cold]
    fn refuse(&mut self, bytes: &[u8], refusal: Refusal) {
        let Refusal { fate, reason, detail } = refusal;
        self.tally.add(fate, reason, 1);
        if fate == Fate::Ignored {
            return;
        }
        if self.tally.first_problem.is_none() {
            let what = match self.signal {
                Signal::Logs => "log record",
                Signal::Traces => "span",
                Signal::Metrics => "data point",
            };
            self.tally.first_problem = Some(format!("{what} {}: {reason}: {detail}", self.tally.received));
        }
        if fate == Fate::SetAside {
            let shown = show(self.schema, bytes);
            let context =
                if shown.is_cut { String::new() } else { self.around.envelope(self.signal, self.around_left) };
            self.around_left -= context.len();
            self.set.set_aside.push(
                true,
                SetAsideRow {
                    project: self.origin.project.0,
                    retention_class: self.origin.retention_class,
                    time: self.origin.received_ms,
                    signal: self.signal.as_str(),
                    reason: reason.as_str(),
                    detail: detail.as_bytes(),
                    body: shown.text.as_bytes(),
                    context: context.as_bytes(),
                    received: self.origin.received_ms,
                },
            );
        }
    }

    /// The first of these times that is known (not 0), in nanoseconds since the Unix epoch; else receipt.
    #[inline]
    pub(super) fn when(&self, times: &[u64]) -> Result<When, Fault> {
        let Some(ns) = times.iter().copied().find(|ns| *ns != 0) else {
            return Ok(When { ns: self.received_ns(), sent_ms: None });
        };
        let Ok(ns) = i64::try_from(ns) else {
            return Err(Fault::set_aside(Reason::TimeOutOfRange, "time_unix_nano lies after the year 2262"));
        };
        if ns / NS_PER_MS > self.origin.received_ms.saturating_add(MAX_AHEAD_MS) {
            return Ok(When { ns: self.received_ns(), sent_ms: Some(ns / NS_PER_MS) });
        }
        Ok(When { ns, sent_ms: None })
    }

    fn received_ns(&self) -> i64 {
        self.origin.received_ms.saturating_mul(NS_PER_MS)
    }

    /// Hashes an id of this project.
    #[inline]
    pub(super) fn hash(&self, domain: IdDomain, id: &[u8]) -> u64 {
        self.origin.ids.hash(self.origin.project, domain, id)
    }

    /// The hash of an id that people look up by; [`write_units`](Self::write_units) writes its row.
    #[inline]
    pub(super) fn unit(&mut self, domain: IdDomain, id: &str) -> u64 {
        let unit = self.hash(domain, id.as_bytes());
        let kind = match domain {
            IdDomain::Session => 2,
            IdDomain::Anonymous => 3,
            _ => 1,
        };
        self.seen.name(unit, kind, id);
        unit
    }

    /// Writes the rows of `units` for the ids of this request that are new.
    pub(super) fn write_units(&mut self) {
        let Self { origin, set, seen, .. } = self;
        let project = origin.project.0;
        seen.write_named(origin.received_ms, |unit, kind, id| {
            set.units.push(true, UnitRow { project, unit, kind, id });
        });
    }

    /// Who this is, by the record's attributes or else the resource's.
    pub(super) fn identity(&mut self, known: &Known<'_>, resource: &Resource<'_>) -> Identity {
        let find = |key| match known.get(key).word() {
            None => resource.known.get(key).word(),
            word => word,
        };
        let user = find(Key::UserId).or_else(|| find(Key::EnduserId)).or_else(|| find(Key::EnduserPseudoId));
        let session = find(Key::SessionId).map_or(0, |id| self.unit(IdDomain::Session, &id));
        let unit = match user {
            Some(id) => self.unit(IdDomain::User, &id),
            None if session != 0 => session,
            None => find(Key::AnonymousId).map_or(0, |id| self.unit(IdDomain::Anonymous, &id)),
        };
        Identity { unit, session }
    }

    /// The hash of the record's attempt, 0 without one.
    #[inline]
    pub(super) fn attempt(&self, known: &Known<'_>) -> u64 {
        match known.get(Key::Attempt) {
            Value::Text(id) if !id.is_empty() => self.hash(IdDomain::Attempt, id.as_bytes()),
            _ => 0,
        }
    }
}

/// A valid trace id: 16 bytes, not all zero; zeros otherwise.
#[inline]
pub(super) fn trace_id(bytes: &[u8]) -> [u8; 16] {
    bytes.try_into().unwrap_or_default()
}

/// A valid span id: 8 bytes, read so that the number's hexadecimal form is the id's; 0 otherwise.
#[inline]
pub(super) fn span_id(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}

/// `FUNNEL.STEP` where both are given, else empty.
pub(super) fn funnel_step(known: &Known<'_>) -> String {
    match (known.text(Key::Funnel), known.text(Key::Step)) {
        ("", _) | (_, "") => String::new(),
        (funnel, step) => format!("{funnel}.{step}"),
    }
}

/// `file:line`, or the function where no file is given, else empty.
pub(super) fn code(known: &Known<'_>) -> String {
    let file = known.first_text(&[Key::CodeFile, Key::CodeFileOld]);
    let line = known.get(Key::CodeLine).word().or_else(|| known.get(Key::CodeLineOld).word());
    match (file, line) {
        ("", _) => known.text(Key::CodeFunction).to_owned(),
        (file, None) => file.to_owned(),
        (file, Some(line)) => format!("{file}:{line}"),
    }
}

/// The fingerprint of 16 hexadecimal digits; 0 for `other`.
pub(super) fn parse_fingerprint(text: &str) -> Option<u64> {
    match text {
        gemba_conventions::OTHER => Some(0),
        // `from_str_radix` takes a sign, so the first digit is looked at as well.
        digits if digits.len() == 16 && !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        _ => None,
    }
}
