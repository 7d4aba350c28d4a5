//! The sending thread: what is sent next, when it is tried again, and what goes to disk meanwhile.
//!
//! In: batches from the queue and from the spool. Out: requests, one at a time, and the fate of each batch.
//!
//! A process's batches go out in the order of their numbers: first its spooled ones, then those in memory, then what earlier
//! processes left. With a spool a batch that could not be sent goes to disk at once, and so does everything behind it
//! until the server is back: a kill then takes a second of records, not minutes. Without one it waits in memory.

use super::export::{Answer, Exporter, Outgoing};
use super::ledger::Place;
use super::queue::{Batch, Queue, Waited};
use super::spool::{Spool, Spooled, Whose};
use crate::config::SpoolSettings;
use crate::problem::Problem;
use crate::{local, state};
use gemba_conventions::DropReason;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// 413 Content Too Large: the same in two halves may be small enough.
const TOO_LARGE: u16 = 413;
/// First pause before a retry, doubled each time up to [`MAX_PAUSE`] (OTLP asks for exponential backoff with jitter).
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause of our own; a server may ask for longer with Retry-After, up to [`MAX_ASKED`].
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Longest pause a server can ask for.
const MAX_ASKED: Duration = Duration::from_mins(5);
/// Least pause, whatever a server asks for: one that says `Retry-After: 0` must not be asked in a loop.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// How long the thread sleeps when there is nothing to send, before it looks for what others left.
const IDLE: Duration = Duration::from_mins(1);

/// The sending thread.
pub(crate) struct Sender {
    queue: Arc<Queue>,
    exporter: Exporter,
    instance: String,
    /// Sorted attributes of the resource, the instance id among them.
    resource: Vec<(String, String)>,
    spool: Option<Spool>,
}

/// What is sent next.
enum Next {
    Fresh(Batch),
    Spooled(Spooled),
}

/// The server is away or busy.
struct NotNow {
    /// How long it asked to be left alone.
    asked: Option<Duration>,
}

impl Sender {
    pub(crate) fn new(
        queue: Arc<Queue>,
        exporter: Exporter,
        instance: String,
        resource: Vec<(String, String)>,
    ) -> Self {
        Self { queue, exporter, instance, resource, spool: None }
    }

    /// Sends until the queue is closed and empty, or its deadline passes.
    pub(crate) fn run(mut self, spool: Option<SpoolSettings>) {
        local::silence();
        if let Some(settings) = spool {
            let opened = Spool::open(settings, &self.instance, Arc::clone(&self.queue));
            self.spool = self.told(opened);
        }
        let mut pause = FIRST_PAUSE;
        while let Some(next) = self.next() {
            match self.send(next) {
                Ok(()) => pause = FIRST_PAUSE,
                Err(NotNow { asked }) => {
                    self.queue.tell(Problem::Unreachable);
                    let wait = asked.map_or_else(|| jittered(pause), |asked| asked.clamp(MIN_PAUSE, MAX_ASKED));
                    if !self.wait(wait) {
                        break;
                    }
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
        self.leave();
    }

    /// Tells a problem with the disk, which is never the end: memory goes on.
    fn told<T>(&self, result: io::Result<T>) -> Option<T> {
        result.map_err(|problem| self.queue.tell(Problem::SpoolFailed { kind: problem.kind() })).ok()
    }

    /// The batch to send next, waiting for one; None when it is time to go.
    fn next(&mut self) -> Option<Next> {
        loop {
            self.heed_withdrawal();
            if state::is_withheld() {
                if !self.queue.wait_for_consent() {
                    return None;
                }
                continue;
            }
            self.relieve();
            if self.queue.time_left().is_some_and(|left| left.is_zero()) {
                return None;
            }
            if let Some(own) = self.spooled(Whose::Own) {
                return Some(Next::Spooled(own));
            }
            match self.queue.next(Duration::ZERO) {
                Waited::Batch(batch) => return Some(Next::Fresh(batch)),
                Waited::Closed => return None,
                Waited::Time => {}
            }
            if let Some(spool) = &mut self.spool {
                let looked = spool.look_around();
                self.told(looked);
            }
            if let Some(earlier) = self.spooled(Whose::Earlier) {
                return Some(Next::Spooled(earlier));
            }
            match self.queue.next(IDLE) {
                Waited::Batch(batch) => return Some(Next::Fresh(batch)),
                Waited::Closed => return None,
                Waited::Time => {}
            }
        }
    }

    fn spooled(&mut self, whose: Whose) -> Option<Spooled> {
        let front = self.spool.as_mut()?.front(whose);
        self.told(front).flatten()
    }

    /// Drops what lies on disk when consent has been withdrawn.
    fn heed_withdrawal(&mut self) {
        if !self.queue.take_withdrawn() {
            return;
        }
        if let Some(spool) = &mut self.spool {
            let dropped = spool.drop_all(DropReason::Consent);
            self.told(dropped);
        }
    }

    /// Moves what waits in memory to disk when the server is slower than the host.
    fn relieve(&mut self) {
        if self.spool.is_none() || !self.queue.is_crowded() {
            return;
        }
        while let Waited::Batch(batch) = self.queue.next(Duration::ZERO) {
            if !self.keep(batch) {
                break;
            }
        }
        self.sync();
    }

    /// Puts a batch on disk; where that fails it is the next in memory again.
    fn keep(&mut self, batch: Batch) -> bool {
        if state::is_withheld() {
            self.queue.give_up(&batch);
            self.settle(batch, false);
            return true;
        }
        let Some(spool) = &mut self.spool else {
            self.queue.put_back(batch);
            return false;
        };
        match spool.put(batch, &self.resource) {
            Ok(()) => true,
            Err((batch, problem)) => {
                self.queue.put_back(batch);
                self.queue.tell(Problem::SpoolFailed { kind: problem.kind() });
                false
            }
        }
    }

    fn sync(&mut self) {
        if let Some(spool) = &mut self.spool {
            let synced = spool.sync();
            self.told(synced);
        }
    }

    /// One try; after it the batch's fate is known, or it waits again.
    fn send(&mut self, next: Next) -> Result<(), NotNow> {
        let outgoing = match &next {
            Next::Fresh(batch) => Outgoing {
                signal: batch.signal,
                items: &batch.items,
                resource: &self.resource,
                instance: &self.instance,
                number: batch.number,
            },
            Next::Spooled(Spooled { instance, contents, .. }) => Outgoing {
                signal: contents.signal,
                items: &contents.items,
                resource: &contents.resource,
                instance,
                number: contents.number,
            },
        };
        let answer = self.exporter.post(&outgoing, self.queue.time_left());
        match next {
            Next::Fresh(batch) => self.judge_fresh(batch, &answer),
            Next::Spooled(spooled) => self.judge_spooled(&spooled, &answer),
        }
        match answer {
            Answer::Taken { .. } | Answer::Refused { .. } => Ok(()),
            Answer::Later { pause } => Err(NotNow { asked: pause }),
            Answer::Unknown => Err(NotNow { asked: None }),
        }
    }

    fn judge_fresh(&mut self, mut batch: Batch, answer: &Answer) {
        let records = batch.records;
        match *answer {
            Answer::Taken { rejected } => {
                self.queue.delivered(Place::Memory, records, rejected);
                self.settle(batch, rejected == 0);
            }
            Answer::Refused { status } => {
                if status == TOO_LARGE && !state::is_withheld() {
                    match self.queue.put_back_halved(batch) {
                        Ok(()) => return,
                        Err(whole) => batch = whole,
                    }
                }
                self.queue.tell(Problem::Refused { status, records });
                self.queue.dropped(Place::Memory, DropReason::Refused, records);
                self.settle(batch, false);
            }
            Answer::Later { .. } => {
                self.keep(batch);
            }
            Answer::Unknown => {
                batch.may_be_there = true;
                self.keep(batch);
            }
        }
    }

    fn settle(&self, mut batch: Batch, delivered: bool) {
        let receipt = batch.receipt.take();
        self.queue.free(batch);
        self.queue.settle(receipt.as_ref(), delivered);
    }

    fn judge_spooled(&mut self, spooled: &Spooled, answer: &Answer) {
        let Some(spool) = &mut self.spool else { return };
        let removed = match *answer {
            Answer::Taken { rejected } => spool.delivered(spooled.whose, rejected),
            Answer::Refused { status } => {
                self.queue.tell(Problem::Refused { status, records: spooled.contents.records });
                spool.drop_front(spooled.whose, DropReason::Refused)
            }
            Answer::Later { .. } | Answer::Unknown => Ok(()),
        };
        self.told(removed);
    }

    /// Waits before another try; false when trying is over. What comes meanwhile goes to disk if there is a spool.
    fn wait(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while self.spool.is_some() {
            self.sync();
            // Closed once everything is on disk: there is nothing to stay for.
            match self.queue.next(until.saturating_duration_since(Instant::now())) {
                Waited::Batch(batch) => {
                    if !self.keep(batch) {
                        break;
                    }
                }
                Waited::Time => return true,
                Waited::Closed => return false,
            }
        }
        self.queue.pause(until.saturating_duration_since(Instant::now()))
    }

    /// What is left goes to disk, else nowhere.
    fn leave(mut self) {
        self.heed_withdrawal();
        for batch in self.queue.rest() {
            let left = match &mut self.spool {
                Some(spool) => spool.put(batch, &self.resource).map_err(|(batch, problem)| {
                    self.queue.tell(Problem::SpoolFailed { kind: problem.kind() });
                    batch
                }),
                None => Err(batch),
            };
            if let Err(batch) = left {
                if batch.may_be_there {
                    self.queue.unconfirmed(batch.records);
                } else {
                    self.queue.dropped(Place::Memory, DropReason::Shutdown, batch.records);
                }
                self.settle(batch, false);
            }
        }
        if let Some(spool) = self.spool.take() {
            let left = spool.leave();
            self.told(left);
        }
        self.queue.finish();
    }
}

/// A pause between half and one and a half of `pause`, so that many processes do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let share = crate::config::random_u64() % 1024;
    pause / 2 + pause * u32::try_from(share).unwrap_or(0) / 1024
}
