//! The thread that makes requests durable and acknowledges them: one write and one sync for a group.
//!
//! In: requests from the queue. Out: log entries, answers, and gathered rows for the writer, or word of the position from
//! which the writer must read the log itself. It is the only owner of [`Log`] and [`Repeats`] and never waits for
//! ClickHouse.
//!
//! Invariants:
//! 1. Nothing is acknowledged before the sync of its group succeeded.
//! 2. What goes to the writer was acknowledged: a cut is made only between groups.
//! 3. Rows handed over, or the position to read from, cover every durable entry exactly once.

use super::core::Core;
use super::gather::{self, Gathered};
use super::queue::{Ask, Job};
use super::types::{Mode, Receipt, SetAside, Submission, SubmitError};
use crate::clock;
use crate::identity::ProjectId;
use crate::log::repeats::{RepeatKey, Repeats};
use crate::log::{EntryHead, Log, LogError, LoggedTally};
use crate::otlp::{Choice, DECODER_VERSION, DecodeError};
use crate::outcome::{Fate, Reason};
use crate::rows::Rows;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// Bytes of requests after which a group is written even when more wait. Chosen: decoding them takes about as long as a
/// slow sync, so neither waits long for the other.
const MAX_GROUP_BYTES: usize = 8 << 20;
/// How often room on the disk is looked at, and the longest sleep without work.
const TICK: Duration = Duration::from_secs(1);
/// Longest sleep while a cut is overdue.
const OVERDUE_PAUSE: Duration = Duration::from_millis(50);

/// What the writer is told.
#[derive(Debug)]
pub(super) enum ToWriter {
    /// Rows to store.
    Gathered(Box<Gathered>),
    /// From here on the rows are in the log only, until the writer asks to go live.
    BehindFrom(u64),
}

#[derive(Debug)]
pub(super) struct Committer {
    core: Arc<Core>,
    log: Log,
    repeats: Repeats,
    writer: UnboundedSender<ToWriter>,
    /// What is gathered; nothing while the writer reads the log.
    live: Option<Gathered>,
    /// For decoding whose rows nobody wants: repeats, and everything while behind.
    scratch: Rows,
    /// Requests of a group that was ended early because a cut was due.
    left: VecDeque<Job>,
    asks: Vec<Ask>,
    is_cut_wanted: bool,
    next_look: Instant,
    next_give_back: Instant,
    /// Free bytes of the disk at the last look, where it said. Where it does not, whether it takes anything shows with the next
    /// group.
    free: Option<u64>,
    /// Why the last group was not made durable: new data are refused until the disk takes something again.
    failed: Option<&'static str>,
}

/// A request that is in the group and waits for its sync.
struct Waiting {
    reply: oneshot::Sender<Result<Receipt, SubmitError>>,
    receipt: Receipt,
    head: EntryHead,
    position: u64,
}

impl Committer {
    pub(super) fn new(
        core: Arc<Core>,
        log: Log,
        repeats: Repeats,
        writer: UnboundedSender<ToWriter>,
        uncut: u64,
    ) -> Self {
        let is_behind = log.durable() > uncut;
        let mut committer = Self {
            live: (!is_behind).then(|| Gathered::begin(core.spare_rows(), log.durable())),
            scratch: core.spare_rows(),
            free: free_bytes(&core),
            failed: None,
            core,
            log,
            repeats,
            writer,
            left: VecDeque::new(),
            asks: Vec::new(),
            is_cut_wanted: false,
            next_look: Instant::now(),
            next_give_back: Instant::now(),
        };
        if is_behind {
            committer.tell(ToWriter::BehindFrom(uncut));
        }
        committer.show();
        committer
    }

    pub(super) fn run(mut self) {
        loop {
            let jobs = if self.left.is_empty() {
                let mut work = self.core.queue.take(self.patience(), MAX_GROUP_BYTES);
                self.asks.append(&mut work.asks);
                work.jobs
            } else {
                self.left.drain(..).collect()
            };
            self.group(jobs);
            self.cut_if_due();
            if self.left.is_empty() {
                for ask in std::mem::take(&mut self.asks) {
                    if self.answer(ask) {
                        return;
                    }
                }
                self.cut_if_due();
            }
            self.look_around();
            self.show();
        }
    }

    /// How long there is nothing to do when no request comes.
    fn patience(&self) -> Duration {
        let Some(began) = self.live.as_ref().and_then(|live| live.began) else { return TICK };
        let left = self.core.config.max_cut_age.saturating_sub(began.elapsed());
        // A cut that is overdue waits for the writer, which wakes this thread.
        if left.is_zero() { OVERDUE_PAUSE } else { left.min(TICK) }
    }

    /// Makes requests durable together and answers them.
    fn group(&mut self, jobs: Vec<Job>) {
        let received_ms = clock::now_ms();
        let mut waiting = Vec::with_capacity(jobs.len());
        for job in jobs {
            // A full cut is handed over first; what is left makes the next group.
            if !self.left.is_empty() || self.is_full(1) && self.has_room() || self.is_full(2) {
                self.left.push_back(job);
                continue;
            }
            match self.take(&job.submission, job.retried.as_deref(), received_ms) {
                Ok((receipt, head, position)) => {
                    waiting.push(Waiting { reply: job.reply, receipt, head, position });
                }
                // A client that left does not hear why.
                Err(error) => drop(job.reply.send(Err(error))),
            }
        }
        match self.log.commit() {
            Ok(()) => self.acknowledge(waiting),
            Err(error) => self.fail(waiting, &error),
        }
    }

    fn is_full(&self, times: u64) -> bool {
        let config = &self.core.config;
        let times_bytes = usize::try_from(times).unwrap_or(1);
        self.live
            .as_ref()
            .is_some_and(|live| live.is_full(config.max_cut_rows * times, config.max_cut_bytes * times_bytes))
    }

    /// Whether the writer has room for what is gathered.
    fn has_room(&self) -> bool {
        let bytes = self.live.as_ref().map_or(0, |live| live.rows.bytes());
        let waiting = self.core.figures().waiting_bytes;
        waiting == 0 || waiting + bytes <= self.core.config.max_waiting_bytes
    }

    /// Decodes a request and adds it to the group.
    fn take(
        &mut self,
        submission: &Submission,
        retried: Option<&SetAside>,
        received_ms: i64,
    ) -> Result<(Receipt, EntryHead, u64), SubmitError> {
        let Submission { project, signal, encoding, ref body, .. } = *submission;
        let look_at_bodies = self.core.config.deduplicate_bodies;
        let key = RepeatKey::of(project, signal, submission.key.as_deref(), body, look_at_bodies);
        let is_repeat = self.repeats.contains(project, key, received_ms);
        let mut head = EntryHead {
            decoder_version: DECODER_VERSION,
            project,
            retention_class: submission.retention_class,
            signal,
            encoding,
            content_encoding: submission.content_encoding,
            received_ms,
            inflated_len: body.len() as u64,
            key,
            is_repeat,
            tally: LoggedTally::default(),
            set_aside_ms: retried.filter(|_| !is_repeat).map(|was| was.received_ms),
        };
        let rows = match &mut self.live {
            Some(live) if !is_repeat => &mut live.rows,
            _ => {
                self.scratch.clear();
                &mut self.scratch
            }
        };
        let tally = match gather::decode(&head, body, &self.core.ids, rows, Choice::ALL) {
            Ok(tally) => tally,
            Err(Some(error)) => return Err(error.into()),
            Err(None) => {
                tracing::error!(%project, %signal, "decoding a request panicked; the request is refused");
                self.scratch = self.core.spare_rows();
                self.fall_behind();
                return Err(SubmitError::Decode(DecodeError::Protobuf("the decoder failed on this body")));
            }
        };
        let mut raw = submission.raw.as_ref();
        if is_repeat {
            // Only the counts are kept; the body is there already.
            let others = vec![(Fate::Deduplicated, Reason::Repeat.as_str().to_owned(), tally.received)];
            head.tally = LoggedTally { received: tally.received, others };
            head.inflated_len = 0;
            raw = &[];
        } else {
            head.tally = LoggedTally::from(&tally);
            if let Some(SetAside { reason, .. }) = retried {
                head.tally.others.push((Fate::Retried, reason.clone(), tally.received));
            }
        }
        let position = self.log.append(&head, raw).map_err(|error| {
            tracing::error!(%error, "an entry cannot be logged");
            // Its rows may be among what is gathered.
            self.fall_behind();
            busy(&error)
        })?;
        if !is_repeat {
            self.repeats.note(project, key, received_ms);
        }
        if let Some(live) = &mut self.live {
            live.note(position, &head);
        }
        Ok((Receipt { tally, deduplicated: is_repeat }, head, position))
    }

    fn acknowledge(&mut self, waiting: Vec<Waiting>) {
        let mut figures = self.core.figures();
        figures.durable = self.log.durable();
        for Waiting { head, position, .. } in &waiting {
            figures.acknowledged(head);
            figures.pending.add(head.project, gather::kept(head));
            figures.mark(*position, head.received_ms);
        }
        drop(figures);
        for Waiting { reply, receipt, .. } in waiting {
            // A client that left will come again with the same key and be told then.
            drop(reply.send(Ok(receipt)));
        }
    }

    /// The group is not durable: nobody is acknowledged, and nothing of it may be stored.
    fn fail(&mut self, waiting: Vec<Waiting>, error: &LogError) {
        tracing::error!(error = %super::core::chain(error), requests = waiting.len(), "a group could not be made durable");
        let mut taken_back: Vec<(ProjectId, RepeatKey)> = Vec::with_capacity(waiting.len());
        for Waiting { reply, head, .. } in waiting {
            if !head.is_repeat {
                taken_back.push((head.project, head.key));
            }
            drop(reply.send(Err(busy(error))));
        }
        for (project, key) in taken_back {
            self.repeats.take_back(project, key);
        }
        self.failed = Some(reason_of(error));
        self.next_look = Instant::now();
        self.fall_behind();
    }

    /// Drops what is gathered: the writer reads it from the log. What was never durable is dropped for good.
    fn fall_behind(&mut self) {
        let Some(live) = self.live.take() else { return };
        let Gathered { mut rows, first, .. } = live;
        rows.clear();
        self.tell(ToWriter::BehindFrom(first));
        self.scratch = rows;
    }

    fn cut_if_due(&mut self) {
        let Some(live) = self.live.as_ref().filter(|live| !live.is_empty()) else {
            self.is_cut_wanted = false;
            return;
        };
        // While an earlier cut still waits for the writer, a young one grows instead: fewer, larger inserts.
        let is_old = live.began.is_some_and(|began| began.elapsed() >= self.core.config.max_cut_age)
            && self.core.figures().waiting_cuts == 0;
        if !(is_old || self.is_cut_wanted || self.is_full(1)) {
            return;
        }
        if self.has_room() {
            self.cut();
        } else if self.is_full(2) || !self.core.is_store_healthy() {
            self.fall_behind();
            self.is_cut_wanted = false;
        }
    }

    fn cut(&mut self) {
        let Some(live) = self.live.take() else { return };
        self.live = Some(Gathered::begin(self.core.spare_rows(), live.end));
        self.is_cut_wanted = false;
        let mut figures = self.core.figures();
        figures.waiting_bytes += live.rows.bytes();
        figures.waiting_cuts += 1;
        drop(figures);
        self.tell(ToWriter::Gathered(Box::new(live)));
    }

    fn tell(&mut self, message: ToWriter) {
        // The writer ends only after this thread, or with the whole process.
        drop(self.writer.send(message));
    }

    /// Answers an ask; true when this thread is to end.
    fn answer(&mut self, ask: Ask) -> bool {
        match ask {
            Ask::Cut(reply) => {
                self.is_cut_wanted = true;
                respond(reply, self.log.durable());
                false
            }
            Ask::GoLive(reply) => {
                let durable = self.log.durable();
                if self.live.is_none() {
                    self.live =
                        Some(Gathered::begin(std::mem::replace(&mut self.scratch, self.core.spare_rows()), durable));
                    if let Some(live) = &mut self.live {
                        live.rows.clear();
                    }
                }
                respond(reply, durable);
                false
            }
            Ask::Tidy(reply) => {
                self.tidy(reply);
                false
            }
            Ask::Forget { project, instances, reply } => {
                for instance in instances {
                    self.repeats.forget(project, instance);
                }
                // Saved now, since the next start would note again what stands in the log behind what is saved.
                if let Err(error) = self.give_back() {
                    tracing::warn!(%error, "forgotten keys are known again after a restart");
                }
                respond(reply, self.log.durable());
                false
            }
            Ask::Stop(reply) => {
                self.tidy(reply);
                true
            }
        }
    }

    fn tidy(&mut self, reply: oneshot::Sender<u64>) {
        self.log.seal_active();
        if let Err(error) = self.give_back() {
            tracing::warn!(%error, "the log could not be tidied");
        }
        self.show();
        respond(reply, self.log.durable());
    }

    /// Removes segments that are stored and looks whether new data still fit on the disk.
    fn look_around(&mut self) {
        let now = Instant::now();
        let stored = *self.core.stored.borrow();
        if now >= self.next_give_back
            && self.log.is_removable_before(stored)
            && let Err(error) = self.give_back()
        {
            self.next_give_back = now + TICK;
            tracing::warn!(%error, "stored segments of the log could not be removed");
        }
        if now < self.next_look {
            return;
        }
        self.next_look = now + TICK;
        let config = &self.core.config;
        let free = free_bytes(&self.core);
        self.free = free;
        if self.failed.is_some() {
            // No request comes by which it could be seen.
            match self.log.probe() {
                Ok(()) => self.failed = None,
                Err(error) => self.failed = Some(reason_of(&error)),
            }
        }
        let reason = if self.log.bytes() > config.max_log_bytes {
            Some("log_full")
        } else if free.is_some_and(|free| free < config.min_free_bytes) {
            Some("disk_full")
        } else {
            self.failed
        };
        if self.core.queue.refusing() != reason {
            if let Some(reason) = reason {
                tracing::error!(reason, log_bytes = self.log.bytes(), ?free, "new data are refused");
            } else {
                tracing::info!("new data are taken again");
            }
            self.core.queue.refuse(reason);
        }
    }

    /// Removes what is stored from the log, after the keys of it are safe in their own file.
    fn give_back(&mut self) -> Result<(), LogError> {
        let config = &self.core.config;
        self.repeats.save(config.disk.as_ref(), &config.dir, self.log.durable())?;
        self.log.remove_before(*self.core.stored.borrow())
    }

    fn show(&self) {
        let bytes = self.log.bytes();
        let config = &self.core.config;
        // What the log may come to: by its own limit, or by what the disk has left.
        let left = self.free.map_or(u64::MAX, |free| free.saturating_sub(config.min_free_bytes));
        let room = bytes.saturating_add(left);
        let mut figures = self.core.figures();
        figures.is_log_pressed = bytes > config.max_log_bytes.min(room) / 2;
        figures.mode = if self.live.is_some() { Mode::Live } else { Mode::Behind };
        figures.durable = self.log.durable();
        figures.log_bytes = bytes;
        figures.free_bytes = self.free;
        figures.damaged = self.log.damaged();
        figures.syncs = self.log.syncs();
    }
}

/// Whoever asked may have given up; that changes nothing.
fn respond(reply: oneshot::Sender<u64>, position: u64) {
    if reply.send(position).is_err() {
        tracing::debug!("nobody waits for the committer's answer any more");
    }
}

fn busy(error: &LogError) -> SubmitError {
    SubmitError::Busy { retry_after: Duration::from_secs(5), reason: reason_of(error) }
}

fn reason_of(error: &LogError) -> &'static str {
    if error.is_full() { "disk_full" } else { "disk_failed" }
}

/// Bytes left on the disk of the log, where it says.
fn free_bytes(core: &Core) -> Option<u64> {
    core.config.disk.free_bytes(&core.config.dir).ok()
}
