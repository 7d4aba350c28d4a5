//! The bounded queue of batches between the drain thread and the sending thread.
//!
//! In: sealed batches, in order. Out: the same, one at a time. When it is full the newest batch is dropped and counted.
//! It does not send and does not decide about retries.

use super::ledger::Ledger;
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
    receipt: Option<Receipt>,
}

impl Batch {
    pub(crate) fn new(signal: Signal, items: Vec<u8>, records: u64, receipt: Option<Receipt>) -> Self {
        Self { signal, items, records, number: 0, receipt }
    }

    fn settle(&self, delivered: bool) {
        if let Some(receipt) = &self.receipt {
            receipt.0.store(if delivered { Receipt::DELIVERED } else { Receipt::LOST }, Ordering::Relaxed);
        }
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
    /// The sender has ended.
    is_done: bool,
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
        let is_closed = state.is_done;
        let is_full = !state.batches.is_empty() && state.bytes + batch.items.len() > self.max_bytes;
        if is_closed || is_full {
            drop(state);
            let reason = if is_closed { DropReason::Shutdown } else { DropReason::QueueFull };
            self.ledger.drop_records(reason, batch.records);
            batch.settle(false);
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

    /// The next batch, waiting for one; None when the queue is closed and empty, or its deadline has passed.
    pub(crate) fn next(&self) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            match state.deadline {
                Some(deadline) if state.batches.is_empty() || Instant::now() >= deadline => return None,
                _ => {}
            }
            if let Some(batch) = state.batches.pop_front() {
                return Some(batch);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
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

    /// The server took the batch except `rejected` of its records.
    pub(crate) fn delivered(&self, batch: &Batch, rejected: u64) {
        let rejected = rejected.min(batch.records);
        self.ledger.deliver(batch.records - rejected);
        if rejected > 0 {
            self.ledger.drop_records(DropReason::Rejected, rejected);
            self.problems.tell(Problem::Rejected { records: rejected });
        }
        self.settle(batch, rejected == 0);
    }

    /// The batch is given up for `reason`.
    pub(crate) fn dropped(&self, batch: &Batch, reason: DropReason) {
        self.ledger.drop_records(reason, batch.records);
        self.settle(batch, false);
    }

    /// The process ends without knowing whether the server has the batch.
    pub(crate) fn unconfirmed(&self, batch: &Batch) {
        self.ledger.leave_unconfirmed(batch.records);
        self.settle(batch, false);
    }

    fn settle(&self, batch: &Batch, delivered: bool) {
        batch.settle(delivered);
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(batch.items.len());
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

    /// The sender's last act: what is left was never sent.
    pub(crate) fn finish(&self) {
        let left = {
            let mut state = self.lock();
            state.is_done = true;
            std::mem::take(&mut state.batches)
        };
        for batch in &left {
            self.dropped(batch, DropReason::Shutdown);
        }
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
