//! The drain: records out of all rings, ticks into times, contexts into identities, everything into the outbox.
//!
//! In: the rings, the slab of contexts, the queries' tables. Out: log records, metrics and spans in the outbox; records of a
//! test's capture to that test instead. One drain pass runs at a time; the drain thread makes one per interval or wake, and
//! flush, stop and tests make their own.
//!
//! Invariants:
//! 1. Contexts let go before a pass began are returned after it, so no record meets a reused one.
//! 2. `gemba.seq` rises strictly within a ring.

use super::declared::Declared;
use super::drops::DropReports;
use super::ledger::Ledger;
use super::outbox::Outbox;
use super::records::Records;
use super::ring::{self, Ring};
use crate::attempt::EndReason;
use crate::callsite::Callsite;
use crate::clock::{self, Timeline};
use crate::context::{self, ContextId, Resolved, Retired};
use crate::local::{self, HEADER_BYTES};
use crate::query::drain::Close;
use crate::value;
use crate::{catalog, query, state, testing};
use gemba_conventions::{Outcome, attribute, event};
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest time a record lies in a ring: the drain thread comes by this often even when no ring is half full.
pub(crate) const MAX_INTERVAL: Duration = Duration::from_millis(250);
/// How often the length of a tick is measured anew and the system's clock followed.
const RECALIBRATE: Duration = Duration::from_secs(10);
/// How long an anchor outlives its successor: a thread may be held up between reading the clock and publishing.
const ANCHOR_GRACE_NS: u64 = 30_000_000_000;

static DRAIN: Mutex<Drain> = Mutex::new(Drain::new());

thread_local! {
    /// This thread holds the drain: a hook of the host that records meanwhile must not wait for it.
    static IS_DRAINING: Cell<bool> = const { Cell::new(false) };
}

/// The drain, held.
struct Held(MutexGuard<'static, Drain>);

impl Deref for Held {
    type Target = Drain;

    fn deref(&self) -> &Drain {
        &self.0
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Drain {
        &mut self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(outbox) = &mut self.0.outbox {
            outbox.count();
        }
        IS_DRAINING.set(false);
    }
}

fn lock() -> Held {
    let held = DRAIN.lock().unwrap_or_else(PoisonError::into_inner);
    IS_DRAINING.set(true);
    Held(held)
}

struct Drain {
    rings: Vec<&'static Ring>,
    /// The last `gemba.seq` of each ring.
    last_seq: Vec<u64>,
    timeline: Timeline,
    retired: Retired,
    records: Records,
    /// None before the start and after the stop: what is drained then belongs to captures or to nobody.
    outbox: Option<Outbox>,
    drops: DropReports,
    queries: query::drain::Drain,
    /// The catalogue.
    declared: Declared,
}

impl Drain {
    const fn new() -> Self {
        Self {
            rings: Vec::new(),
            last_seq: Vec::new(),
            timeline: Timeline::new(),
            retired: Retired::new(),
            records: Records::new(),
            outbox: None,
            drops: DropReports::new(),
            queries: query::drain::Drain::new(),
            declared: Declared::new(),
        }
    }

    /// One pass; `close` says what queries have added up over time is sent before its turn.
    fn pass(&mut self, close: Close) {
        self.retired.take();
        ring::all(&mut self.rings);
        self.last_seq.resize(self.rings.len(), 0);
        self.timeline.refresh(clock::ticks_before(ANCHOR_GRACE_NS));
        for (ring, last_seq) in self.rings.iter().zip(&mut self.last_seq) {
            let mut sink = Sink {
                timeline: &self.timeline,
                retired: &self.retired,
                records: &mut self.records,
                outbox: self.outbox.as_mut(),
                last_seq,
            };
            ring.drain(|record| sink.take(record));
        }
        let timeline = &self.timeline;
        let wall_ns = |ticks| timeline.wall_ns(ticks);
        // A table that could not be read may name contexts that ended: they wait for the next pass.
        if self.queries.pass(&self.retired, self.outbox.as_mut(), close, wall_ns) {
            self.records.forget(&self.retired);
            self.retired.free();
        }
        let now = Instant::now();
        if let Some(outbox) = &mut self.outbox
            && !state::is_withheld()
            && self.declared.is_due(now)
        {
            self.declared.send(now, catalog::declare(outbox, clock::wall_now_ns()));
        }
    }
}

/// Opens the way out; from now on drained records are sent.
pub(crate) fn open(outbox: Outbox) {
    lock().outbox = Some(outbox);
}

/// Whether this thread is in a pass: a hook of the host that is called from one must not begin another.
pub(crate) fn is_draining() -> bool {
    IS_DRAINING.get()
}

/// The drain thread.
pub(crate) fn run(interval: Duration) {
    crate::local::silence();
    let mut calibrated = Instant::now();
    loop {
        if state::load() & state::FORKED != 0 {
            return;
        }
        {
            let mut drain = lock();
            if drain.outbox.is_none() {
                return;
            }
            if calibrated.elapsed() >= RECALIBRATE {
                calibrated = Instant::now();
                clock::recalibrate();
            }
            drain.pass(Close::Nothing);
            let Drain { outbox, drops, .. } = &mut *drain;
            if let Some(outbox) = outbox {
                drops.report(outbox, false);
                outbox.seal_due(false);
            }
        }
        std::thread::park_timeout(interval);
    }
}

/// Drains and hands over everything recorded so far; false when nothing is being recorded.
pub(crate) fn flush() -> bool {
    let mut drain = lock();
    drain.pass(Close::All);
    let Drain { outbox, drops, .. } = &mut *drain;
    let Some(outbox) = outbox else { return false };
    drops.report(outbox, true);
    outbox.seal_due(true);
    true
}

/// One pass on the calling thread, for tests that want to see what they recorded.
pub(crate) fn pass() {
    lock().pass(Close::Nothing);
}

/// One pass on the calling thread; false when that thread is in one already.
pub(crate) fn pass_unless_draining() -> bool {
    if IS_DRAINING.get() {
        return false;
    }
    lock().pass(Close::All);
    true
}

/// The last pass: hands over everything, says goodbye with the totals, and closes the way out.
pub(crate) fn close(ledger: &Ledger) {
    let mut drain = lock();
    drain.pass(Close::All);
    let Drain { outbox, drops, .. } = &mut *drain;
    let Some(mut outbox) = outbox.take() else { return };
    drops.report(&mut outbox, true);
    outbox.count();
    let totals = ledger.stats();
    // Without consent not even a goodbye is sent.
    if !state::is_withheld() {
        outbox.log(clock::wall_now_ns(), event::SDK_STOPPED, context::Trace::default(), |attributes| {
            attributes.unsigned(attribute::SDK_RECORDED, totals.recorded);
            attributes.unsigned(attribute::SDK_DELIVERED, totals.delivered);
            attributes.unsigned(attribute::SDK_UNCONFIRMED, totals.unconfirmed);
        });
    }
    outbox.seal_due(true);
}

/// Closes what is aggregated over time at the wall time now in force, then makes `time` the wall time.
pub(crate) fn shift_clock(time: std::time::SystemTime) {
    /// Length of the intervals that aggregates are stored in (15 minutes): one must not straddle the shift.
    const GRAIN_NS: u64 = 15 * 60 * 1_000_000_000;
    clock::start();
    let before = clock::wall_now_ns() / GRAIN_NS;
    let after = clock::epoch_ns(time) / GRAIN_NS;
    if before != after && state::is_recording() {
        lock().pass(Close::Points);
    }
    clock::shift(time);
}

/// Where one ring's records go.
struct Sink<'a> {
    timeline: &'a Timeline,
    retired: &'a Retired,
    records: &'a mut Records,
    outbox: Option<&'a mut Outbox>,
    last_seq: &'a mut u64,
}

/// A record's fixed part, taken apart.
pub(crate) struct Record<'a> {
    pub(crate) kind: u8,
    pub(crate) callsite: &'static Callsite,
    pub(crate) context_id: ContextId,
    /// Nanoseconds since the Unix epoch.
    pub(crate) time_ns: u64,
    pub(crate) seq: u64,
    /// The values, still encoded.
    pub(crate) values: &'a [u8],
    retired: &'a Retired,
}

impl Record<'_> {
    /// What its context says.
    pub(crate) fn context(&self) -> Resolved<'_> {
        context::resolve(self.retired, self.context_id)
    }
}

/// What an ended record says.
pub(crate) struct Ending {
    pub(crate) attempt: u64,
    pub(crate) outcome: Outcome,
    pub(crate) is_inferred: bool,
    pub(crate) reason: &'static str,
    pub(crate) duration_ns: u64,
    pub(crate) start_ns: u64,
    pub(crate) error: &'static str,
}

impl Sink<'_> {
    #[inline]
    fn take(&mut self, bytes: &[u8]) {
        let Some((kind, callsite, context_id, ticks)) = read_header(bytes) else { return };
        let (time_ns, monotonic_ns) = self.timeline.times(ticks);
        let seq = monotonic_ns.max(*self.last_seq + 1);
        *self.last_seq = seq;
        let values = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let record = Record { kind, callsite, context_id, time_ns, seq, values, retired: self.retired };
        let timeline = self.timeline;
        let ending = |values: &mut &[u8]| ending(timeline, values, ticks, time_ns);
        // What is kept is neither a test's nor left out, and nothing is kept of what is.
        let is_kept = self.records.keeps(context_id);
        if !is_kept && context::capture(context_id) != 0 {
            testing::keep(&record, ending);
        } else if !is_kept && local::is_sampled(kind) && context::is_left_out(context_id) {
            super::ledger::LEDGER.leave_out();
        } else if let Some(outbox) = self.outbox.as_deref_mut() {
            self.records.send(outbox, &record, ending);
        }
    }
}

/// Kind, call site, context and ticks of a record.
fn read_header(bytes: &[u8]) -> Option<(u8, &'static Callsite, ContextId, u64)> {
    let mut rest = bytes;
    let word = value::take_word(&mut rest)?.to_ne_bytes();
    let (size_and_kind, context) = word.split_at(4);
    let kind = u32::from_ne_bytes(size_and_kind.try_into().ok()?) >> 24;
    let context = u32::from_ne_bytes(context.try_into().ok()?);
    let callsite = value::take_word(&mut rest)?;
    let ticks = value::take_word(&mut rest)?;
    Some((u8::try_from(kind).ok()?, static_ref(callsite)?, ContextId(context), ticks))
}

/// The static behind an address that a macro put into a ring.
pub(crate) fn static_ref<T>(address: u64) -> Option<&'static T> {
    let pointer = std::ptr::with_exposed_provenance::<T>(usize::try_from(address).ok()?);
    #[expect(unsafe_code, reason = "addresses of statics travel through the ring")]
    // SAFETY: only `local::write` and its callers put addresses here, each from a `&'static T`.
    unsafe {
        pointer.as_ref()
    }
}

/// Reads what an ended record says; see `RecordKind::Ended`.
fn ending(timeline: &Timeline, values: &mut &[u8], end_ticks: u64, end_ns: u64) -> Option<Ending> {
    let attempt = value::take_word(values)?;
    let start_ticks = value::take_word(values)?;
    let start_ns = value::take_word(values)?;
    let verdict = value::take_word(values)?.to_le_bytes();
    let (address, length) = (value::take_word(values)?, value::take_word(values)?);
    let [outcome, inferred, reason, ..] = verdict;
    // Ticks tell how long it took, unless it began in another process or a test moved the wall clock meanwhile.
    let duration_ns = if start_ticks == 0 || clock::is_shifted() {
        end_ns.saturating_sub(start_ns)
    } else {
        timeline.monotonic_ns(end_ticks).saturating_sub(timeline.monotonic_ns(start_ticks))
    };
    Some(Ending {
        attempt,
        outcome: Outcome::ALL.iter().copied().find(|of| *of as u8 == outcome)?,
        is_inferred: inferred != 0,
        reason: EndReason::as_str(reason),
        duration_ns,
        start_ns,
        error: static_text(address, length),
    })
}

/// The static text at an address, which `Attempt::end` took from a `&'static str`.
fn static_text(address: u64, length: u64) -> &'static str {
    let (Ok(address), Ok(length)) = (usize::try_from(address), usize::try_from(length)) else { return "" };
    if length == 0 {
        return "";
    }
    #[expect(unsafe_code, reason = "addresses of statics travel through the ring")]
    // SAFETY: address and length are those of one `&'static str`.
    let bytes = unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(address), length) };
    str::from_utf8(bytes).unwrap_or_default()
}
