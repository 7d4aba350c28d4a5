//! A ring's records as OTLP log records: what repeats is encoded once and copied.
//!
//! In: a record taken apart. Out: one log record in the outbox. A call site's name and keys are encoded at its first record;
//! who and where a context is, at the context's first record; each record adds times, order and values. Only who holds
//! the drain's lock is here.
//!
//! Invariant: what is kept of a context is forgotten before its slot can be used again ([`Records::forget`]).

use super::drain::{Ending, Record, static_ref};
use super::encode::{self, Attributes, Buffer, Cursor, Key, LOG_ATTRIBUTES};
use super::outbox::Outbox;
use crate::callsite::{Callsite, StepDeclaration};
use crate::context::{ContextId, Resolved, Retired};
use crate::flag;
use crate::hex;
use crate::local::RecordKind;
use crate::value::{self, Read};
use gemba_conventions::{attribute, event};
use std::collections::BTreeMap;
use std::ptr;

/// Contexts whose encoding is kept; a power of two. Chosen: more than requests are usually under way at once, 64 KiB with
/// ids of usual length.
const KEPT_CONTEXTS: usize = 256;

static SEQ: Key = Key::new(attribute::SEQ);
static ATTEMPT_ID: Key = Key::new(attribute::ATTEMPT_ID);
static DURATION_NS: Key = Key::new(attribute::DURATION_NS);
static START_TIME: Key = Key::new(attribute::START_TIME);

/// Event name of a record, and the key its call site's name goes under.
type Naming = (&'static str, &'static str);

const FEATURE_USED: Naming = (event::FEATURE_USED, attribute::FEATURE_NAME);
const FEATURE_STARTED: Naming = (event::FEATURE_STARTED, attribute::FEATURE_NAME);
const FEATURE_ENDED: Naming = (event::FEATURE_ENDED, attribute::FEATURE_NAME);
const FLAG_EVALUATED: Naming = (event::FLAG_EVALUATION, attribute::FLAG_KEY);

/// What is kept of a call site.
#[derive(Debug)]
struct Site {
    /// Severity, event name and the call site's own name, by kind: used or evaluated, started, ended. Empty until the first
    /// of its kind.
    heads: [Vec<u8>; 3],
    /// None: what is under it may not leave the process.
    keys: Vec<Option<Key>>,
    /// Most bytes its keys take, and the order's.
    room: usize,
}

/// What is kept of a context: the feature it lies inside of, the attempt, then who, where and in which trace.
#[derive(Debug, Default)]
struct Kept {
    id: ContextId,
    bytes: Vec<u8>,
    /// Where the attempt begins in `bytes`, and where it ends.
    attempt: (usize, usize),
}

/// What is kept from record to record.
#[derive(Debug)]
pub(crate) struct Records {
    sites: Vec<Site>,
    contexts: Vec<Kept>,
    /// Severity, event name, funnel and step, by the address of the declaration.
    steps: BTreeMap<usize, Vec<u8>>,
    /// For what is encoded for one record only.
    scratch: Buffer,
}

impl Records {
    pub(crate) const fn new() -> Self {
        Self { sites: Vec::new(), contexts: Vec::new(), steps: BTreeMap::new(), scratch: Buffer::new() }
    }

    /// What the context says is kept, so it belongs to no test's capture.
    #[inline]
    pub(crate) fn keeps(&self, id: ContextId) -> bool {
        id == ContextId::NONE || self.contexts.get(place(id)).is_some_and(|kept| kept.id == id)
    }

    /// Forgets the contexts whose slots are about to be returned.
    pub(crate) fn forget(&mut self, retired: &Retired) {
        for id in retired.ids() {
            if let Some(kept) = self.contexts.get_mut(place(*id))
                && kept.id == *id
            {
                kept.id = ContextId::NONE;
            }
        }
    }

    /// Encodes one record.
    pub(crate) fn send(
        &mut self,
        outbox: &mut Outbox,
        record: &Record<'_>,
        ending: impl FnOnce(&mut &[u8]) -> Option<Ending>,
    ) {
        let mut values = record.values;
        let kind = record.kind;
        if kind == RecordKind::Used as u8 {
            let (site, kept) = look_up(&mut self.sites, &mut self.contexts, record);
            let (room, order) = (site.room + values.len(), record.seq);
            let (head, keys) = site.head(0, record.callsite, FEATURE_USED);
            let who = kept.since_attempt();
            outbox.record(record.time_ns, head.len() + who.len() + room, |out| {
                out.encoded(head);
                out.encoded(who);
                rest(out, keys, order, values);
            });
        } else if kind == RecordKind::Started as u8 {
            let Some(attempt) = value::take_word(&mut values) else { return };
            let (site, kept) = look_up(&mut self.sites, &mut self.contexts, record);
            let (room, order) = (site.room + ATTEMPT_ID.room() + 16 + values.len(), record.seq);
            let (head, keys) = site.head(1, record.callsite, FEATURE_STARTED);
            let who = kept.identity();
            outbox.record(record.time_ns, head.len() + who.len() + room, |out| {
                out.encoded(head);
                out.text(&ATTEMPT_ID, &hex::digits(attempt));
                out.encoded(who);
                rest(out, keys, order, values);
            });
        } else if kind == RecordKind::Ended as u8 {
            let Some(ending) = ending(&mut values) else { return };
            ended(&mut self.scratch, &ending);
            let (site, kept) = look_up(&mut self.sites, &mut self.contexts, record);
            let room = ATTEMPT_ID.room() + 16 + DURATION_NS.room() + START_TIME.room() + SEQ.room();
            let (head, _) = site.head(2, record.callsite, FEATURE_ENDED);
            let (who, how) = (kept.identity(), self.scratch.as_slice());
            outbox.record(record.time_ns, head.len() + who.len() + how.len() + room, |out| {
                out.encoded(head);
                out.text(&ATTEMPT_ID, &hex::digits(ending.attempt));
                out.encoded(who);
                out.encoded(how);
                out.unsigned(&DURATION_NS, ending.duration_ns);
                out.unsigned(&START_TIME, ending.start_ns);
                // The values came with the beginning.
                out.unsigned(&SEQ, record.seq);
            });
        } else if kind == RecordKind::Step as u8 {
            let Some(step) = value::take_word(&mut values).and_then(static_ref::<StepDeclaration>) else { return };
            let head = self.steps.entry(ptr::from_ref(step) as usize).or_insert_with(|| step_head(step));
            let (site, kept) = look_up(&mut self.sites, &mut self.contexts, record);
            let (room, order) = (site.room + values.len(), record.seq);
            outbox.record(record.time_ns, head.len() + kept.bytes.len() + room, |out| {
                out.encoded(head);
                out.encoded(&kept.bytes);
                rest(out, &site.keys, order, values);
            });
        } else if kind == RecordKind::Evaluated as u8 {
            let values = flag::as_it_may_leave(record.callsite, values);
            let (site, kept) = look_up(&mut self.sites, &mut self.contexts, record);
            let (room, order) = (site.room + values.len(), record.seq);
            let (head, keys) = site.head(0, record.callsite, FLAG_EVALUATED);
            outbox.record(record.time_ns, head.len() + kept.bytes.len() + room, |out| {
                out.encoded(head);
                out.encoded(&kept.bytes);
                rest(out, keys, order, &values);
            });
        } else if kind == RecordKind::Served as u8 {
            #[cfg(feature = "tower")]
            crate::web::layer::send(outbox, record);
        } else {
            self.send_identity(outbox, record);
        }
    }

    /// Encodes who somebody is, or what is known about a user or tenant.
    fn send_identity(&mut self, outbox: &mut Outbox, record: &Record<'_>) {
        let mut values = record.values;
        let mut text = || match value::take(&mut values) {
            Some(Read::Text(text)) => text,
            _ => "",
        };
        let trace = record.context().trace;
        if record.kind == RecordKind::Identify as u8 {
            let (user, session, anonymous) = (text(), text(), text());
            outbox.log(record.time_ns, event::IDENTIFY, trace, |attributes| {
                attributes.some_text(attribute::USER_ID, user);
                attributes.some_text(attribute::SESSION_ID, session);
                attributes.some_text(attribute::ANONYMOUS_ID, anonymous);
                attributes.unsigned(attribute::SEQ, record.seq);
            });
            return;
        }
        let (name, key) = if record.kind == RecordKind::UserSet as u8 {
            (event::USER_SET, attribute::USER_ID)
        } else {
            (event::TENANT_SET, attribute::TENANT)
        };
        let id = text();
        self.scratch.clear();
        encode::named(&mut self.scratch, name);
        Attributes::new(&mut self.scratch, LOG_ATTRIBUTES).some_text(key, id);
        encode::traced(&mut self.scratch, trace);
        let (site, who) = (site(&mut self.sites, record.callsite), self.scratch.as_slice());
        outbox.record(record.time_ns, who.len() + site.room + values.len(), |out| {
            out.encoded(who);
            rest(out, &site.keys, record.seq, values);
        });
    }
}

/// What is kept of the record's call site and context, encoded now if need be.
#[inline]
fn look_up<'a>(sites: &'a mut Vec<Site>, contexts: &'a mut Vec<Kept>, record: &Record<'_>) -> (&'a mut Site, &'a Kept) {
    if contexts.is_empty() {
        contexts.resize_with(KEPT_CONTEXTS, Kept::default);
    }
    let id = record.context_id;
    let Some(kept) = contexts.get_mut(place(id)) else { unreachable!("a place is below the number kept") };
    // Nobody's entry is never filled: it says nothing.
    if kept.id != id {
        kept.fill(id, &record.context());
    }
    (site(sites, record.callsite), kept)
}

/// Where a context's encoding is kept. Slots are handed out in order, so those alive at once are neighbours; nobody has
/// place 0 for itself.
fn place(id: ContextId) -> usize {
    if id == ContextId::NONE { 0 } else { 1 + id.0 as usize % (KEPT_CONTEXTS - 1) }
}

/// What is kept of a call site, made at its first record.
#[inline]
fn site<'a>(sites: &'a mut Vec<Site>, callsite: &'static Callsite) -> &'a mut Site {
    let place = callsite.place().unwrap_or_else(|| {
        // What may leave is settled at the start, before anything is sent.
        let of = |key: &&'static str| callsite.lets_go_of(key).then(|| Key::new(key));
        let keys: Vec<_> = callsite.keys().iter().map(of).collect();
        let room = SEQ.room() + keys.iter().flatten().map(Key::room).sum::<usize>();
        sites.push(Site { heads: [const { Vec::new() }; 3], keys, room });
        callsite.set_place(sites.len() - 1);
        sites.len() - 1
    });
    match sites.get_mut(place) {
        Some(site) => site,
        None => unreachable!("a place is that of a site kept here"),
    }
}

impl Site {
    /// The beginning of a record of this kind, and the keys.
    #[inline]
    fn head(&mut self, kind: usize, callsite: &Callsite, (event_name, key): Naming) -> (&[u8], &[Option<Key>]) {
        let Some(head) = self.heads.get_mut(kind) else { return (&[], &[]) };
        if head.is_empty() {
            let mut out = Buffer::new();
            encode::named(&mut out, event_name);
            Attributes::new(&mut out, LOG_ATTRIBUTES).text(key, callsite.name());
            *head = out.into_bytes();
        }
        (head, &self.keys)
    }
}

/// The order and the call site's own attributes.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the place in the buffer stays in a register only if no call comes between")]
fn rest(out: &mut Cursor<'_>, keys: &[Option<Key>], seq: u64, mut values: &[u8]) {
    out.unsigned(&SEQ, seq);
    for key in keys {
        let Some(value) = value::take_bytes(&mut values) else { return };
        let Some(key) = key else { continue };
        match value {
            Read::Absent => {}
            Read::Integer(value) => out.integer(key, value),
            Read::Unsigned(value) => out.unsigned(key, value),
            Read::Float(value) => out.float(key, value),
            Read::Bool(value) => out.flag(key, value),
            Read::Text(value) => out.text(key, value),
        }
    }
}

/// Severity, event name, funnel and step.
fn step_head(step: &StepDeclaration) -> Vec<u8> {
    let mut out = Buffer::new();
    encode::named(&mut out, event::FUNNEL_STEP);
    let mut attributes = Attributes::new(&mut out, LOG_ATTRIBUTES);
    attributes.text(attribute::FUNNEL_NAME, step.funnel());
    attributes.text(attribute::STEP_NAME, step.step());
    out.into_bytes()
}

impl Kept {
    fn fill(&mut self, id: ContextId, context: &Resolved<'_>) {
        let mut out = Buffer::from(std::mem::take(&mut self.bytes));
        let mut attributes = Attributes::new(&mut out, LOG_ATTRIBUTES);
        attributes.some_text(attribute::FEATURE_NAME, context.feature.unwrap_or_default());
        let begin = attributes.len();
        if context.attempt != 0 {
            attributes.text(attribute::ATTEMPT_ID, &attempt_id(context.attempt));
        }
        self.attempt = (begin, attributes.len());
        attributes.some_text(attribute::USER_ID, context.user);
        attributes.some_text(attribute::SESSION_ID, context.session);
        attributes.some_text(attribute::TENANT, context.tenant);
        attributes.some_text(attribute::HTTP_ROUTE, context.route);
        encode::traced(&mut out, context.trace);
        self.bytes = out.into_bytes();
        self.id = id;
    }

    /// The attempt, if there is one, and who, where and in which trace.
    fn since_attempt(&self) -> &[u8] {
        self.bytes.get(self.attempt.0..).unwrap_or_default()
    }

    /// Who, where and in which trace.
    fn identity(&self) -> &[u8] {
        self.bytes.get(self.attempt.1..).unwrap_or_default()
    }
}

/// How an attempt ended.
fn ended(out: &mut Buffer, ending: &Ending) {
    out.clear();
    let mut attributes = Attributes::new(out, LOG_ATTRIBUTES);
    attributes.text(attribute::OUTCOME, ending.outcome.as_str());
    if ending.is_inferred {
        attributes.flag(attribute::OUTCOME_INFERRED, true);
    }
    attributes.some_text(attribute::OUTCOME_REASON, ending.reason);
    attributes.some_text(attribute::ERROR_TYPE, ending.error);
}

/// The attempt's id on the wire: 16 hexadecimal digits.
pub(crate) fn attempt_id(id: u64) -> String {
    hex::digits(id).map(char::from).iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Encode;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Wire;
    use opentelemetry_proto::tonic::logs::v1::ScopeLogs;
    use proptest::prelude::*;

    static KEYS: [&str; 6] = [
        "n",
        "a.key.of.twenty_seven_bytes",
        "a.key.of.twenty_eight_bytes.",
        "a.key.of.thirty_two_bytes.exactly",
        "a.key.that.is.longer.than.anything.that.fits.into.two.registers.and.needs.two.bytes.of.length.too.when.it.is.this.long.as.here",
        "last",
    ];

    /// One of each type a value can have.
    fn value() -> impl Strategy<Value = Wire> {
        prop_oneof![
            any::<i64>().prop_map(Wire::IntValue),
            (0..56_u32).prop_map(|bit| Wire::IntValue(1 << bit)),
            any::<f64>().prop_filter("compared below", |float| !float.is_nan()).prop_map(Wire::DoubleValue),
            any::<bool>().prop_map(Wire::BoolValue),
            ".{0,40}".prop_map(Wire::StringValue),
            "[a-z]{80,200}".prop_map(Wire::StringValue),
            // Beyond OTLP's integers: sent as a text.
            (1_u64 << 63..).prop_map(|number| Wire::StringValue(format!("u64 {number}"))),
        ]
    }

    /// The bytes a value has in a ring.
    fn in_ring(value: &Wire) -> Vec<u8> {
        fn bytes(value: &(impl Encode + ?Sized)) -> Vec<u8> {
            let mut bytes = vec![0; value.encoded_len()];
            #[expect(unsafe_code, reason = "values are written through a pointer")]
            // SAFETY: there is room for `encoded_len` bytes.
            unsafe {
                value.encode(bytes.as_mut_ptr());
            }
            bytes
        }
        match value {
            Wire::IntValue(value) => bytes(value),
            Wire::DoubleValue(value) => bytes(value),
            Wire::BoolValue(value) => bytes(value),
            Wire::StringValue(value) => match value.strip_prefix("u64 ") {
                Some(number) => bytes(&number.parse::<u64>().unwrap()),
                None => bytes(value.as_str()),
            },
            _ => Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn any_values_arrive_as_they_were(values in proptest::collection::vec(value(), KEYS.len()), seq in any::<u64>()) {
            let keys: Vec<_> = KEYS.iter().map(|key| Some(Key::new(key))).collect();
            let ring: Vec<u8> = values.iter().flat_map(in_ring).collect();
            let room = SEQ.room() + keys.iter().flatten().map(Key::room).sum::<usize>() + ring.len();
            let mut items = Buffer::new();
            for _ in 0..2 {
                encode::short_record(&mut items, 7, room, |out| rest(out, &keys, seq >> 1, &ring));
            }
            let decoded = <ScopeLogs as prost::Message>::decode(items.as_slice()).unwrap();
            prop_assert_eq!(decoded.log_records.len(), 2);
            let expected = values.iter().map(|value| match value {
                Wire::StringValue(text) => Wire::StringValue(text.strip_prefix("u64 ").unwrap_or(text).to_owned()),
                other => other.clone(),
            });
            let order = ("gemba.seq".to_owned(), Wire::IntValue((seq >> 1).cast_signed()));
            let expected: Vec<_> =
                std::iter::once(order).chain(KEYS.iter().map(|key| (*key).to_owned()).zip(expected)).collect();
            for record in decoded.log_records {
                let attributes: Vec<_> = record
                    .attributes
                    .into_iter()
                    .map(|pair| (pair.key, pair.value.unwrap().value.unwrap()))
                    .collect();
                prop_assert_eq!(&attributes, &expected);
            }
        }
    }
}
