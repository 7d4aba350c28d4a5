//! For tests and simulations: what a piece of code recorded, and a wall clock that can be moved.
//!
//! In: a closure. Out: the events it recorded, complete and in the order of their times. Works without a server and without
//! `init!`, beside other tests in parallel: events are told apart by their scope, not by when they happen.

use crate::callsite::StepDeclaration;
use crate::local::RecordKind;
use crate::pipeline::drain::{self, Ending, Record};
use crate::value::{self, Read};
use crate::{clock, flag, scope, state};
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What an [`Event`] is.
///
/// ```
/// use gemba::testing::{EventKind, captured};
/// let events = captured(|| gemba::attempt!("checkout").complete());
/// let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
/// assert_eq!(kinds, [EventKind::Started, EventKind::Ended]);
/// ```
#[doc(inline)]
pub use gemba_conventions::EventKind;

/// How the attempt of an [`Event`] ended.
///
/// ```
/// use gemba::testing::{Outcome, captured};
/// let events = captured(|| drop(gemba::attempt!("checkout").run(|| "forty".parse::<u32>())));
/// assert_eq!(events[1].outcome, Some(Outcome::Failed));
/// ```
#[doc(inline)]
pub use gemba_conventions::Outcome;

/// One thing that was recorded, as the server would see it.
///
/// ```
/// let events = gemba::testing::captured(|| gemba::scope().user("u-7").run(|| gemba::feature!("search.filter")));
/// assert_eq!((events[0].name.as_str(), events[0].user.as_str()), ("search.filter", "u-7"));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// A feature used, started or ended, a step, or `Event` for identity records and evaluated flags.
    pub kind: EventKind,
    /// The feature's name; `FUNNEL.STEP` for a step; `gemba.identify` and the like for identity records,
    /// `feature_flag.evaluation` for a flag, whose key is the first attribute.
    pub name: String,
    /// When it happened.
    pub time: SystemTime,
    /// Nanoseconds since the process started, strictly rising on a thread.
    pub seq: u64,
    /// The user of the scope, or of the identity record; empty for nobody.
    pub user: String,
    /// Hash of the session; empty for none.
    pub session: String,
    /// The tenant; empty for none.
    pub tenant: String,
    /// The attempt it begins, ends or lies inside of; 0 for none.
    pub attempt: u64,
    /// How the attempt ended; only on ended.
    pub outcome: Option<Outcome>,
    /// The outcome was concluded from a drop.
    pub is_inferred: bool,
    /// Why it ended so, where the outcome alone does not say; else empty.
    pub reason: String,
    /// Type or kind of the error; empty for none.
    pub error: String,
    /// How long the attempt took; only on ended.
    pub duration: Option<Duration>,
    /// The call site's attributes that were present, in its order.
    pub attributes: Vec<(&'static str, Attribute)>,
}

impl Event {
    /// The attribute of this key.
    ///
    /// ```
    /// use gemba::testing::{Attribute, captured};
    /// let events = captured(|| gemba::feature!("search.filter", n = 3_u32));
    /// assert_eq!(events[0].attribute("n"), Some(&Attribute::Unsigned(3)));
    /// assert_eq!(events[0].attribute("m"), None);
    /// ```
    pub fn attribute(&self, key: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|(of, _)| *of == key).map(|(_, value)| value)
    }
}

/// The value of an attribute.
///
/// ```
/// use gemba::testing::{Attribute, captured};
/// let events = captured(|| gemba::feature!("search.filter", kind = "price"));
/// assert_eq!(events[0].attributes, [("kind", Attribute::Text("price".into()))]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// A signed integer.
    Integer(i64),
    /// An unsigned integer.
    Unsigned(u64),
    /// A float, or a duration in seconds.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Text(String),
}

/// Captures under way and what they hold.
static CAPTURES: Mutex<Option<HashMap<u32, Vec<Event>>>> = Mutex::new(None);

/// Number of captures under way.
static UNDER_WAY: AtomicU32 = AtomicU32::new(0);

/// A capture under way; ends when dropped.
struct Capture(u32);

impl Capture {
    fn begin() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        clock::start();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut captures = CAPTURES.lock().unwrap_or_else(PoisonError::into_inner);
        captures.get_or_insert_default().insert(id, Vec::new());
        drop(captures);
        UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        state::hold();
        Self(id)
    }

    fn finish(self) -> Vec<Event> {
        drain::pass();
        let mut captures = CAPTURES.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = captures.as_mut().and_then(|captures| captures.remove(&self.0)).unwrap_or_default();
        drop(captures);
        events.sort_by_key(|event| (event.time, event.seq));
        events
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        state::release();
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
        let mut captures = CAPTURES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(captures) = captures.as_mut() {
            captures.remove(&self.0);
        }
    }
}

/// Whether a test captures, so that no thread may be without a ring.
pub(crate) fn is_under_way() -> bool {
    UNDER_WAY.load(Ordering::Relaxed) > 0
}

/// Drains a full ring on the recording thread itself: a test wants all of its events, and may wait for them. False when
/// nothing is captured or this very thread is draining already.
#[cold]
pub(crate) fn make_room() -> bool {
    is_under_way() && drain::pass_unless_draining()
}

/// Runs `work` and gives back what it recorded, on this thread and in every scope opened inside it, wherever that ran; those
/// events are not sent. What a thread or task without a [scope](crate::scope()) records is not seen.
///
/// ```
/// let events = gemba::testing::captured(|| gemba::feature!("search.filter", kind = "price"));
/// assert_eq!(events[0].name, "search.filter");
/// assert_eq!(events[0].attribute("kind"), Some(&gemba::testing::Attribute::Text("price".into())));
/// ```
pub fn captured(work: impl FnOnce()) -> Vec<Event> {
    let capture = Capture::begin();
    scope().capture(capture.0).run(work);
    capture.finish()
}

/// As [`captured`], around a future.
///
/// ```
/// # async fn check() {
/// let events = gemba::testing::captured_async(async {
///     // A task begins without a scope: take the test's along.
///     # fn spawn<F: Future>(future: F) -> F { future }
///     let task = spawn(gemba::scope().run_async(async { gemba::feature!("search.filter") }));
///     task.await;
/// })
/// .await;
/// assert_eq!(events.len(), 1);
/// # }
/// ```
pub async fn captured_async(work: impl Future<Output = ()>) -> Vec<Event> {
    let capture = Capture::begin();
    scope().capture(capture.0).run_async(work).await;
    capture.finish()
}

/// Makes `time` the wall time for everything recorded from now on in this process, as a simulation of days in seconds needs
/// it; it goes on from there at the usual pace. What was recorded before keeps its time, and what is aggregated over
/// time is closed first when a quarter of an hour is crossed. Cheap enough to be called for each simulated request;
/// backwards is allowed.
///
/// ```standalone_crate
/// use std::time::{Duration, SystemTime};
/// let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
/// let events = gemba::testing::captured(|| {
///     gemba::testing::set_time(noon);
///     gemba::feature!("search.filter");
/// });
/// assert!(events[0].time.duration_since(noon).unwrap() < Duration::from_secs(60));
/// ```
pub fn set_time(time: SystemTime) {
    drain::shift_clock(time);
}

/// Keeps one record for its capture.
pub(crate) fn keep(record: &Record<'_>, ending: impl FnOnce(&mut &[u8]) -> Option<Ending>) {
    let Some(event) = event_of(record, ending) else { return };
    let mut captures = CAPTURES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(events) = captures.as_mut().and_then(|captures| captures.get_mut(&record.context().capture)) {
        events.push(event);
    }
}

fn event_of(record: &Record<'_>, ending: impl FnOnce(&mut &[u8]) -> Option<Ending>) -> Option<Event> {
    if record.kind == RecordKind::Served as u8 {
        // A span, not an event.
        return None;
    }
    let context = record.context();
    let mut values = record.values;
    let evaluated;
    let mut event = Event {
        kind: EventKind::Used,
        name: record.callsite.name().to_owned(),
        time: clock::from_epoch_ns(record.time_ns),
        seq: record.seq,
        user: context.user.to_owned(),
        session: context.session.to_owned(),
        tenant: context.tenant.to_owned(),
        attempt: context.attempt,
        outcome: None,
        is_inferred: false,
        reason: String::new(),
        error: String::new(),
        duration: None,
        attributes: Vec::new(),
    };
    let text = |values: &mut &[u8]| match value::take(values) {
        Some(Read::Text(text)) => text.to_owned(),
        _ => String::new(),
    };
    if record.kind == RecordKind::Started as u8 {
        event.kind = EventKind::Started;
        event.attempt = value::take_word(&mut values)?;
    } else if record.kind == RecordKind::Ended as u8 {
        let ending = ending(&mut values)?;
        event.kind = EventKind::Ended;
        event.attempt = ending.attempt;
        event.outcome = Some(ending.outcome);
        event.is_inferred = ending.is_inferred;
        ending.reason.clone_into(&mut event.reason);
        ending.error.clone_into(&mut event.error);
        event.duration = Some(Duration::from_nanos(ending.duration_ns));
        return Some(event);
    } else if record.kind == RecordKind::Step as u8 {
        let step: &StepDeclaration = drain::static_ref(value::take_word(&mut values)?)?;
        event.kind = EventKind::Step;
        event.name = format!("{}.{}", step.funnel(), step.step());
    } else if record.kind == RecordKind::Evaluated as u8 {
        event.kind = EventKind::Event;
        let key = Attribute::Text(std::mem::take(&mut event.name));
        gemba_conventions::event::FLAG_EVALUATION.clone_into(&mut event.name);
        event.attributes.push((gemba_conventions::attribute::FLAG_KEY, key));
        evaluated = flag::as_it_may_leave(record.callsite, values);
        values = &evaluated;
    } else if record.kind == RecordKind::Identify as u8 {
        event.kind = EventKind::Event;
        gemba_conventions::event::IDENTIFY.clone_into(&mut event.name);
        event.user = text(&mut values);
        event.session = text(&mut values);
        let anonymous = text(&mut values);
        if !anonymous.is_empty() {
            event.attributes.push((gemba_conventions::attribute::ANONYMOUS_ID, Attribute::Text(anonymous)));
        }
        return Some(event);
    } else if record.kind == RecordKind::UserSet as u8 {
        event.kind = EventKind::Event;
        gemba_conventions::event::USER_SET.clone_into(&mut event.name);
        event.user = text(&mut values);
    } else if record.kind == RecordKind::TenantSet as u8 {
        event.kind = EventKind::Event;
        gemba_conventions::event::TENANT_SET.clone_into(&mut event.name);
        event.tenant = text(&mut values);
    }
    for key in record.callsite.keys() {
        let attribute = match value::take(&mut values)? {
            Read::Absent => continue,
            _ if !record.callsite.lets_go_of(key) => continue,
            Read::Integer(value) => Attribute::Integer(value),
            Read::Unsigned(value) => Attribute::Unsigned(value),
            Read::Float(value) => Attribute::Float(value),
            Read::Bool(value) => Attribute::Bool(value),
            Read::Text(value) => Attribute::Text(value.to_owned()),
        };
        event.attributes.push((key, attribute));
    }
    Some(event)
}
