//! The bounded queue of batches between the drain thread and the sending thread.
//!
//! In: sealed batches, in order. Out: the same, one at a time. When it is full the newest batch is dropped and counted.
//! It does not send, does not write to disk and does not decide about retries.

use super::ledger::{Ledger, Place};
use crate::problem::{OnError, Problem, Problems};
use crate::state;
use gemba_conventions::DropReason;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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
#[derive(Debug, Clone)]
pub(crate) struct Receipt(Arc<Fate>);

#[derive(Debug)]
struct Fate {
    /// Batches that it is about and whose fate is open.
    open: AtomicU32,
    is_lost: AtomicBool,
    /// Whether the batch may become two. What is lost when one of them is, is told again whole: right for what may be told twice.
    is_divisible: bool,
}

impl Receipt {
    /// Of a batch that is sent as it is or not at all.
    pub(crate) fn whole() -> Self {
        Self(Arc::new(Fate { open: AtomicU32::new(1), is_lost: AtomicBool::new(false), is_divisible: false }))
    }

    /// Of a batch that may be sent in parts: all are delivered, or it is lost.
    pub(crate) fn divisible() -> Self {
        Self(Arc::new(Fate { open: AtomicU32::new(1), is_lost: AtomicBool::new(false), is_divisible: true }))
    }

    /// Some(true) delivered, Some(false) lost, None not known yet.
    pub(crate) fn fate(&self) -> Option<bool> {
        // Acquire: with the last part settled, what the others said is known.
        (self.0.open.load(Ordering::Acquire) == 0).then(|| !self.0.is_lost.load(Ordering::Relaxed))
    }

    pub(super) fn settle(&self, delivered: bool) {
        if !delivered {
            self.0.is_lost.store(true, Ordering::Relaxed);
        }
        self.0.open.fetch_sub(1, Ordering::Release);
    }

    /// For the second half of its batch.
    fn halve(&self) -> Option<Self> {
        self.0.is_divisible.then(|| {
            self.0.open.fetch_add(1, Ordering::Relaxed);
            self.clone()
        })
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

    /// The batch as two, each of about half its records. A batch comes back whole when it has one record only, when its
    /// receipt is not divisible, or when the server may have it already: its first half would pass for a repeat of all of it.
    fn halves(mut self) -> Result<(Self, Self), Self> {
        if self.records < 2 || self.may_be_there {
            return Err(self);
        }
        let of_first = self.records / 2;
        let mut rest = self.items.as_slice();
        for _ in 0..of_first {
            match after_item(rest) {
                Some(after) => rest = after,
                None => return Err(self),
            }
        }
        let receipt = match &self.receipt {
            None => None,
            Some(receipt) => match receipt.halve() {
                None => return Err(self),
                half => half,
            },
        };
        let second = self.items.split_off(self.items.len() - rest.len());
        let second = Self::new(self.signal, second, self.records - of_first, receipt);
        self.records = of_first;
        Ok((self, second))
    }
}

/// What follows the first item: a tag of one byte, the length as a varint, so many bytes (`encode::log_record` and the others
/// write nothing else, one item a record).
fn after_item(items: &[u8]) -> Option<&[u8]> {
    let (_tag, mut rest) = items.split_first()?;
    let mut length = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, after) = rest.split_first()?;
        rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return rest.get(length..);
        }
    }
    None
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Batch>,
    /// Bytes waiting, the batch being sent included.
    bytes: usize,
    /// Batches numbered so far.
    numbered: u64,
    /// Those of them that are the second half of a batch.
    halved: u64,
    /// Batches whose fate is known.
    settled: u64,
    /// Set at the stop: until then the sender may go on trying.
    deadline: Option<Instant>,
    /// The sender takes nothing more.
    is_closed: bool,
    /// Consent was withdrawn: the sender is to give up what lies on disk too.
    is_withdrawn: bool,
    /// The sender has ended.
    is_done: bool,
    /// Memory of a batch that is done with, for the next one: fresh pages cost more than the bytes in them.
    spare: Vec<u8>,
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
        Self { state: Mutex::default(), changed: Condvar::new(), max_bytes, ledger, problems: Problems::new(on_error) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch, or drops it when there is no room. Never blocks for longer than the lock is held.
    pub(crate) fn push(&self, mut batch: Batch) {
        let mut state = self.lock();
        let refused = if state::is_withheld() {
            Some(DropReason::Consent)
        } else if state.is_closed {
            Some(DropReason::Shutdown)
        } else if !state.batches.is_empty() && state.bytes + batch.items.len() > self.max_bytes {
            Some(DropReason::QueueFull)
        } else {
            None
        };
        if let Some(reason) = refused {
            drop(state);
            self.ledger.drop_records(Place::Memory, reason, batch.records);
            if let Some(receipt) = &batch.receipt {
                receipt.settle(false);
            }
            if reason == DropReason::QueueFull {
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
                _ if state::is_withheld() => return Waited::Time,
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

    /// Gives back a batch that is too large for the server as two that are the next ones: the first half under the batch's
    /// number, which the server has not stored, the second under a new one. A batch that cannot be halved comes back.
    pub(crate) fn put_back_halved(&self, batch: Batch) -> Result<(), Batch> {
        let (first, mut second) = batch.halves()?;
        let mut state = self.lock();
        second.number = state.numbered;
        state.numbered += 1;
        state.halved += 1;
        state.batches.push_front(second);
        state.batches.push_front(first);
        Ok(())
    }

    /// Consent is withdrawn: drops what waits, and has the sender drop what lies on disk.
    pub(crate) fn withdraw(&self) {
        let mut state = self.lock();
        let batches = std::mem::take(&mut state.batches);
        state.settled += batches.len() as u64;
        state.bytes = state.bytes.saturating_sub(batches.iter().map(|batch| batch.items.len()).sum());
        state.is_withdrawn = true;
        drop(state);
        for batch in batches {
            self.give_up(&batch);
        }
        self.changed.notify_all();
    }

    /// Books a batch that is not sent for want of consent; one that was sent without an answer may be there.
    pub(crate) fn give_up(&self, batch: &Batch) {
        if batch.may_be_there {
            self.ledger.leave_unconfirmed(batch.records);
        } else {
            self.ledger.drop_records(Place::Memory, DropReason::Consent, batch.records);
        }
        if let Some(receipt) = &batch.receipt {
            receipt.settle(false);
        }
    }

    /// Whether consent has been withdrawn since the last time this was asked, even if it is given again.
    pub(crate) fn take_withdrawn(&self) -> bool {
        std::mem::take(&mut self.lock().is_withdrawn)
    }

    /// Consent has changed: whoever waits looks again.
    pub(crate) fn notify(&self) {
        // Behind the lock, so that nobody is between a look and the wait.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Waits until consent is given; false when the queue closes first.
    pub(crate) fn wait_for_consent(&self) -> bool {
        let mut state = self.lock();
        while state::is_withheld() && !state.is_withdrawn {
            if state.deadline.is_some() {
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        true
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
            if state::is_withheld() || state.is_withdrawn {
                return true;
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
    pub(crate) fn spooled(&self, batch: Batch) {
        self.ledger.spool(batch.records);
        self.free(batch);
    }

    /// `records` on disk were taken over from an earlier process.
    pub(crate) fn adopted(&self, records: u64) {
        self.ledger.adopt(records);
    }

    /// The batch's memory is free.
    pub(crate) fn free(&self, batch: Batch) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(batch.items.len());
        if state.spare.capacity() < batch.items.capacity() {
            state.spare = batch.items;
        }
    }

    /// Memory for a new batch; none when no batch is done with.
    pub(crate) fn spare(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().spare)
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
        // Every batch that is halved meanwhile is one of those waited for: they are the oldest.
        let (numbered, halved) = (state.numbered, state.halved);
        while state.settled < numbered + (state.halved - halved) {
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
