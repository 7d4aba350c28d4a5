//! Where requests wait for the committer: bounded in number and bytes, and the way to ask the committer for something.
//!
//! In: requests with the channel their answer goes to. Out: groups of them, in order. Never blocks a caller; the committer
//! alone waits.

use super::types::{Receipt, SetAside, Submission, SubmitError};
use crate::identity::ProjectId;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// A request and where its answer goes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) submission: Submission,
    /// Its records were set aside before.
    pub(super) retried: Option<Box<SetAside>>,
    pub(super) reply: oneshot::Sender<Result<Receipt, SubmitError>>,
}

/// What the committer is asked besides requests; it answers with a position.
#[derive(Debug)]
pub(super) enum Ask {
    /// Cut what is gathered once all requests waiting now are durable; answers the position behind the last of them.
    Cut(oneshot::Sender<u64>),
    /// Gather again from here on; answers where that begins. What the catch-up has not read up to there it reads at once, where
    /// that is little, or leaves to the backlog.
    GoLive(oneshot::Sender<u64>),
    /// End the segment being written and give back all that is stored; answers once the files are gone.
    Tidy(oneshot::Sender<u64>),
    /// Forget the keys of these instances, on the disk as well.
    Forget { project: ProjectId, instances: Vec<u128>, reply: oneshot::Sender<u64> },
    /// Write the snapshot of repeat keys, give back what can be, and end.
    Stop(oneshot::Sender<u64>),
}

/// What the committer works on next.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) jobs: Vec<Job>,
    pub(super) asks: Vec<Ask>,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    asks: Vec<Ask>,
    bytes: usize,
    is_closed: bool,
    is_woken: bool,
    refusing: Option<&'static str>,
}

#[derive(Debug)]
pub(super) struct Queue {
    max_requests: usize,
    max_bytes: usize,
    state: Mutex<State>,
    filled: Condvar,
    room: Notify,
}

/// Why a request could not be queued; it is given back, since room may come.
#[derive(Debug)]
pub(super) enum Refused {
    Full(Job),
    Refusing(&'static str),
    Closed,
}

impl Queue {
    pub(super) fn new(max_requests: usize, max_bytes: usize) -> Self {
        Self {
            max_requests,
            max_bytes,
            state: Mutex::new(State::default()),
            filled: Condvar::new(),
            room: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request. A request larger than the whole queue is taken when nothing else waits.
    pub(super) fn push(&self, job: Job) -> Result<(), Refused> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Refused::Closed);
        }
        if let Some(reason) = state.refusing {
            return Err(Refused::Refusing(reason));
        }
        let bytes = weight(&job);
        let is_full = state.jobs.len() >= self.max_requests || state.bytes + bytes > self.max_bytes;
        if is_full && !state.jobs.is_empty() {
            return Err(Refused::Full(job));
        }
        state.bytes += bytes;
        state.jobs.push_back(job);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Returns when room may have come.
    pub(super) fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.room.notified()
    }

    /// Asks the committer for something; answered even when the queue is closed.
    pub(super) fn ask(&self, ask: Ask) {
        self.state().asks.push(ask);
        self.filled.notify_one();
    }

    /// Makes the committer look around: room came, or something was stored.
    pub(super) fn wake(&self) {
        self.state().is_woken = true;
        self.filled.notify_one();
    }

    /// Takes no more requests; those waiting are still worked on.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.room.notify_waiters();
    }

    /// Refuses requests for a reason, or takes them again.
    pub(super) fn refuse(&self, reason: Option<&'static str>) {
        self.state().refusing = reason;
    }

    pub(super) fn refusing(&self) -> Option<&'static str> {
        self.state().refusing
    }

    pub(super) fn len(&self) -> usize {
        self.state().jobs.len()
    }

    /// Waits for work at most `patience` and takes all asks and up to `max_bytes` of requests, at least one.
    pub(super) fn take(&self, patience: Duration, max_bytes: usize) -> Work {
        let mut state = self.state();
        if state.jobs.is_empty() && state.asks.is_empty() && !state.is_woken {
            state = self.filled.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_woken = false;
        let mut work = Work::default();
        let mut bytes = 0;
        while let Some(job) = state.jobs.pop_front() {
            bytes += weight(&job);
            work.jobs.push(job);
            if bytes >= max_bytes {
                break;
            }
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        // Asks speak of all requests queued before them, so they wait until those are taken.
        if state.jobs.is_empty() {
            work.asks = std::mem::take(&mut state.asks);
        }
        drop(state);
        if !work.jobs.is_empty() {
            self.room.notify_waiters();
        }
        work
    }
}

/// What a request counts against the bound: both forms of its body, which are one when it is not compressed.
fn weight(job: &Job) -> usize {
    let Submission { body, raw, .. } = &job.submission;
    let raw_bytes = if body.as_ptr() == raw.as_ptr() { 0 } else { raw.len() };
    body.len() + raw_bytes + 256
}
