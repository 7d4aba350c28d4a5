//! The bounded queue of batches between the drain thread and the sending thread.
//!
//! In: sealed batches, in order. Out: the same, one at a time. When it is full the newest batch is dropped and counted.
//! It does not send, does not write to disk and does not decide about retries.

use super::ledger::{Ledger, Place};
use crate::config::{OnError, Problem};
use gemba_conventions::DropReason;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An OTLP signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Logs,
    Metrics,
    Traces,
}

impl Signal {
    /// Path behind the endpoint (OTLP/HTTP specification, "Default endpoints").
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Logs => "/v1/logs",
            Self::Metrics => "/v1/metrics",
            Self::Traces => "/v1/traces",
        }
    }

    /// All, in the order of their codes in a spooled file.
    pub(crate) const ALL: [Self; 3] = [Self::Logs, Self::Metrics, Self::Traces];
}

/// Tells what became of a batch: nothing yet, delivered, lost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Receipt(Arc<AtomicU8>);

impl Receipt {
    const DELIVERED: u8 = 1;
    const LOST: u8 = 2;

    /// Some(true) delivered, Some(false) lost, None not known yet.
    pub(crate) fn fate(&self) -> Option<bool> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            fate => Some(fate == Self::DELIVERED),
        }
    }

    fn settle(&self, delivered: bool) {
        self.0.store(if delivered { Self::DELIVERED } else { Self::LOST }, Ordering::Relaxed);
    }
}

/// Encoded records that are sent together.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) signal: Signal,
    /// Concatenated items of the signal, without resource and scope.
    pub(crate) items: Vec<u8>,
    pub(crate) records: u64,
    /// Number inside this process's start, given by the queue; gaps tell the server what it never saw.
    pub(crate) number: u64,
    /// It was sent and nothing came back.
    pub(crate) may_be_there: bool,
    pub(crate) receipt: Option<Receipt>,
}

impl Batch {
    pub(crate) fn new(signal: Signal, items: Vec<u8>, records: u64, receipt: Option<Receipt>) -> Self {
        Self { signal, items, records, number: 0, may_be_there: false, receipt }
    }
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Batch>,
    /// Bytes waiting, the batch being sent included.
    bytes: usize,
    /// Batches numbered so far.
    numbered: u64,
    /// Batches whose fate is known.
    settled: u64,
    /// Set at the stop: until then the sender may go on trying.
    deadline: Option<Instant>,
    /// The sender takes nothing more.
    is_closed: bool,
    /// The sender has ended.
    is_done: bool,
}

/// What waiting for a batch came to.
#[derive(Debug)]
pub(crate) enum Waited {
    /// The oldest batch.
    Batch(Batch),
    /// The time is over and nothing waits.
    Time,
    /// The queue is closing: everything has been taken, or its deadline has passed.
    Closed,
}

/// The queue.
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    max_bytes: usize,
    ledger: &'static Ledger,
    problems: Problems,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

impl Queue {
    pub(crate) fn new(max_bytes: usize, ledger: &'static Ledger, on_error: Option<OnError>) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            max_bytes,
            ledger,
            problems: Problems { hook: on_error, told: Mutex::default() },
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch, or drops it when there is no room. Never blocks for longer than the lock is held.
    pub(crate) fn push(&self, mut batch: Batch) {
        let mut state = self.lock();
        let is_closed = state.is_closed;
        let is_full = !state.batches.is_empty() && state.bytes + batch.items.len() > self.max_bytes;
        if is_closed || is_full {
            drop(state);
            let reason = if is_closed { DropReason::Shutdown } else { DropReason::QueueFull };
            self.ledger.drop_records(Place::Memory, reason, batch.records);
            if let Some(receipt) = &batch.receipt {
                receipt.settle(false);
            }
            if is_full {
                self.problems.tell(Problem::QueueFull { records: batch.records });
            }
            return;
        }
        batch.number = state.numbered;
        state.numbered += 1;
        state.bytes += batch.items.len();
        state.batches.push_back(batch);
        self.changed.notify_all();
    }

    /// The oldest batch, waiting for one up to `patience`.
    pub(crate) fn next(&self, patience: Duration) -> Waited {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            match state.deadline {
                Some(deadline) if state.batches.is_empty() || now >= deadline => return Waited::Closed,
                _ => {}
            }
            if let Some(batch) = state.batches.pop_front() {
                return Waited::Batch(batch);
            }
            let Some(left) = until.checked_duration_since(now).filter(|left| !left.is_zero()) else {
                return Waited::Time;
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives back a batch that could not be sent; it is the next one again.
    pub(crate) fn put_back(&self, batch: Batch) {
        self.lock().batches.push_front(batch);
    }

    /// More than half of the room is taken.
    pub(crate) fn is_crowded(&self) -> bool {
        self.lock().bytes > self.max_bytes / 2
    }

    /// Waits `pause` before another try; false when the deadline comes first, so that trying is over.
    pub(crate) fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if state.deadline.is_some_and(|deadline| now >= deadline || deadline < until) {
                return false;
            }
            let Some(left) = until.checked_duration_since(now).filter(|left| !left.is_zero()) else { return true };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How long a request may still take, if the queue is closing.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.lock().deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The server took `records` that waited in `place`, except `rejected` of them.
    pub(crate) fn delivered(&self, place: Place, records: u64, rejected: u64) {
        let rejected = rejected.min(records);
        self.ledger.deliver(place, records - rejected);
        if rejected > 0 {
            self.ledger.drop_records(place, DropReason::Rejected, rejected);
            self.problems.tell(Problem::Rejected { records: rejected });
        }
    }

    /// `records` that waited in `place` are given up for `reason`.
    pub(crate) fn dropped(&self, place: Place, reason: DropReason, records: u64) {
        self.ledger.drop_records(place, reason, records);
    }

    /// The process ends without knowing whether the server has these.
    pub(crate) fn unconfirmed(&self, records: u64) {
        self.ledger.leave_unconfirmed(records);
    }

    /// The batch lies on disk now: its memory is free, its fate still open.
    pub(crate) fn spooled(&self, batch: &Batch) {
        self.ledger.spool(batch.records);
        self.free(batch);
    }

    /// `records` on disk were taken over from an earlier process.
    pub(crate) fn adopted(&self, records: u64) {
        self.ledger.adopt(records);
    }

    /// The batch's memory is free.
    pub(crate) fn free(&self, batch: &Batch) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(batch.items.len());
    }

    /// The fate of one of this process's own batches is known.
    pub(crate) fn settle(&self, receipt: Option<&Receipt>, delivered: bool) {
        if let Some(receipt) = receipt {
            receipt.settle(delivered);
        }
        let mut state = self.lock();
        state.settled += 1;
        self.changed.notify_all();
    }

    /// Tells the hook, at most once a minute for each kind.
    pub(crate) fn tell(&self, problem: Problem) {
        self.problems.tell(problem);
    }

    /// Waits until everything pushed so far is settled; false at the timeout.
    pub(crate) fn wait_settled(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut state = self.lock();
        let goal = state.numbered;
        while state.settled < goal {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.is_done {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Lets the sender go on for at most `timeout`, then waits for its end.
    pub(crate) fn close(&self, timeout: Duration) {
        /// The sender notices its deadline at the latest when its request times out, which is cut to the deadline; this
        /// covers the time to wake up.
        const GRACE: Duration = Duration::from_millis(500);
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        state.deadline = Some(deadline);
        self.changed.notify_all();
        while !state.is_done {
            let left = (deadline + GRACE).saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes everything that is left; from now on nothing more is taken in.
    pub(crate) fn rest(&self) -> VecDeque<Batch> {
        let mut state = self.lock();
        state.is_closed = true;
        std::mem::take(&mut state.batches)
    }

    /// The sender's last act.
    pub(crate) fn finish(&self) {
        self.lock().is_done = true;
        self.changed.notify_all();
    }
}

/// Tells the application about problems without flooding it.
struct Problems {
    hook: Option<OnError>,
    /// When each kind was last told.
    told: Mutex<Vec<(std::mem::Discriminant<Problem>, Instant)>>,
}

impl Problems {
    fn tell(&self, problem: Problem) {
        /// Chosen: often enough to be seen, rare enough for any log.
        const QUIET: Duration = Duration::from_mins(1);
        let kind = std::mem::discriminant(&problem);
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            match told.iter_mut().find(|(of, _)| *of == kind) {
                Some((_, when)) if when.elapsed() < QUIET => return,
                Some((_, when)) => *when = Instant::now(),
                None => told.push((kind, Instant::now())),
            }
        }
        match &self.hook {
            Some(hook) => hook(problem),
            None => warn(problem),
        }
    }
}

/// One line for whoever runs the program: the SDK has no logger of its own.
fn warn(problem: Problem) {
    use std::io::Write as _;
    // A closed stderr is the host's choice.
    let _unwritable = writeln!(std::io::stderr(), "gemba: {problem}");
}
