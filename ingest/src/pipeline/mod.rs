//! From a request to stored rows: durable first, acknowledged then, stored exactly once.
//!
//! In: [`Submission`]s. Out: a [`Receipt`] once the request is in the log and synced; rows in ClickHouse some time later.
//! Does not know HTTP and does not look into bodies (that is [`crate::otlp`]).
//!
//! ```text
//! submit → queue → committer (thread): repeat? decode, append │ one sync for the group │ acknowledge
//!                        │ rows, every 200 k rows, 64 MiB or 1 s      (or: "read the log from here")
//!                        ▼
//!                  writer (task): cut written down and synced → few inserts at a time → counted where in doubt → done
//! ```
//!
//! Invariants:
//! 1. A request is acknowledged only after its log entry is durable.
//! 2. Every acknowledged entry lies in exactly one cut, and every block of a cut is stored exactly once, whatever is killed
//!    when: what an insert holds is written down before it is sent, and after an unknown outcome rows are counted by the
//!    number of the insert, not guessed.
//! 3. Memory is bounded whatever ClickHouse does: rows beyond the bound are dropped and read from the log again.
//! 4. Segments of the log go only after all their entries are stored and synced by ClickHouse.

mod again;
mod books;
mod claims;
mod committer;
mod core;
mod gather;
mod hold;
mod inserts;
mod ledger;
mod pending;
mod queue;
mod refused;
mod types;
mod writer;

pub use books::Waiting;
pub use hold::{Held, HoldFor, NotHeld};
pub(crate) use refused::MAX_REFUSED;
pub use types::{
    ContentEncoding, FateCounts, InsertCounts, Mode, PipelineConfig, PipelineError, PipelineStatus, Receipt, SetAside,
    SetAsideCounts, Submission, SubmitError, Unsettled,
};

use crate::identity::{IdHasher, ProjectId};
use crate::log::cuts::CutBook;
use crate::log::repeats::Repeats;
use crate::log::{Known, Log};
use crate::rows::Table;
use crate::store;
use committer::Committer;
use core::{Core, Figures};
use hold::Holds;
use pending::{Standing, Standings};
use queue::{Ask, Job, Refused};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use writer::Writer;

/// The pipeline of one server.
///
/// Dropping it without [`Self::drain`] ends it as a kill would: nothing acknowledged is lost, the next start goes on.
#[derive(Debug)]
pub struct Pipeline {
    core: Arc<Core>,
    committer: Mutex<Option<JoinHandle<()>>>,
    tasks: Vec<tokio::task::AbortHandle>,
    holds: Holds,
}

impl Pipeline {
    /// Opens the log and starts storing what is left in it; requests are taken at once. Blocks for the disk.
    ///
    /// Must be called inside a Tokio runtime, which runs the inserts.
    ///
    /// # Errors
    /// [`PipelineError`]; the folder is as before.
    pub fn start(config: PipelineConfig, store: store::Client, ids: IdHasher) -> Result<Self, PipelineError> {
        Self::start_still(config, store, ids).map(|(pipeline, _let_go)| pipeline)
    }

    /// The same, with the first insert kept from beginning for as long as the other half of the answer is held.
    ///
    /// # Errors
    /// Those of [`Self::start`].
    pub fn start_still(
        config: PipelineConfig,
        store: store::Client,
        ids: IdHasher,
    ) -> Result<(Self, Option<Held>), PipelineError> {
        let disk = Arc::clone(&config.disk);
        let book = CutBook::open(Arc::clone(&disk), &config.dir)?;
        let saved = Repeats::load(disk.as_ref(), &config.dir)?;
        let (mut repeats, saved_to) = saved.unwrap_or_default();
        let standings = Standings::of(&book);
        let mut figures = Figures::default();
        let known = Known { stored_before: book.stored_before(), given_before: book.uncut().max(saved_to) };
        let log = Log::open(disk, &config.dir, known, |position, head| {
            if position >= saved_to && !head.is_repeat {
                repeats.note(head.project, head.key, head.received_ms);
            }
            let cut = match standings.of_entry(position) {
                Standing::Stored => return,
                Standing::InCut(first) => Some(first),
                Standing::Uncut => None,
            };
            figures.pending.found(cut, head.project, gather::kept(head));
            // Whoever stopped may have told nobody of them.
            figures.note_set_aside(head);
            figures.mark(position, head.received_ms);
        })?
        .with_segment_bytes(config.segment_bytes);
        let uncut = book.uncut();
        let (apart, refused_cuts) = mpsc::unbounded_channel();
        let core = Arc::new(Core::new(config, ids, store, log.id(), book, figures, apart));

        let (to_writer, inbox) = mpsc::unbounded_channel();
        let read_log: again::ReadLog = {
            let source = log.source();
            Arc::new(move |position| source.reader(position))
        };
        let committer = Committer::new(Arc::clone(&core), log, repeats, to_writer, uncut);
        let thread = std::thread::Builder::new()
            .name("gemba-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(PipelineError::Thread)?;
        let max_inserts = core.config.max_inserts.max(1);
        let slots = Arc::new(Semaphore::new(max_inserts));
        let mending = Arc::new(Semaphore::new(1));
        let holds = Holds::new(Arc::clone(&slots), max_inserts, Arc::clone(&mending));
        // Before anything is started that inserts.
        let still = holds.hold_at_once();
        let mend = tokio::spawn(refused::mend(Arc::clone(&core), refused_cuts, Arc::clone(&read_log), mending));
        let writing = tokio::spawn(Writer::new(Arc::clone(&core), slots, inbox, read_log).run());
        let watching = tokio::spawn(inserts::watch_ghosts(Arc::clone(&core)));
        let tasks = vec![writing.abort_handle(), watching.abort_handle(), mend.abort_handle()];
        Ok((Self { core, committer: Mutex::new(Some(thread)), tasks, holds }, still))
    }

    /// Makes a request durable.
    ///
    /// Returns after the sync of its group: a few milliseconds, up to [`PipelineConfig::max_queue_wait`] more while the
    /// queue is full. Dropping the future does not take a request back that was queued.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing of the request is stored then, save that a request whose sync failed may turn out to be
    /// known when it is sent again after a restart.
    pub async fn submit(&self, submission: Submission) -> Result<Receipt, SubmitError> {
        self.push(submission, None).await
    }

    /// Makes records durable that had been set aside, all as `was` says, as [`Self::submit`] does with new ones; the books count
    /// them once. Its key must be of the kind that holds until it is forgotten ([`Self::forget_keys`]), since it is all that keeps
    /// a repeat from being stored twice.
    ///
    /// # Errors
    /// Those of [`Self::submit`].
    pub async fn submit_again(&self, submission: Submission, was: SetAside) -> Result<Receipt, SubmitError> {
        self.push(submission, Some(Box::new(was))).await
    }

    async fn push(&self, submission: Submission, retried: Option<Box<SetAside>>) -> Result<Receipt, SubmitError> {
        let (reply, answer) = oneshot::channel();
        let mut job = Job { submission, retried, reply };
        let deadline = tokio::time::Instant::now() + self.core.config.max_queue_wait;
        loop {
            let room = self.core.queue.room();
            tokio::pin!(room);
            // Registered before the push, so that room that comes in between is not missed.
            room.as_mut().enable();
            job = match self.core.queue.push(job) {
                Ok(()) => break,
                Err(Refused::Full(job)) => job,
                Err(Refused::Closed) => return Err(SubmitError::Closed),
                Err(Refused::Refusing(reason)) => return Err(self.busy(Duration::from_secs(10), reason)),
            };
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                return Err(self.busy(Duration::from_secs(1), "queue_full"));
            }
        }
        answer.await.unwrap_or(Err(SubmitError::Closed))
    }

    fn busy(&self, retry_after: Duration, reason: &'static str) -> SubmitError {
        self.core.figures().refused += 1;
        SubmitError::Busy { retry_after, reason }
    }

    /// Waits until everything acknowledged before the call is stored; false when that took longer than `timeout`.
    pub async fn flush(&self, timeout: Duration) -> bool {
        tokio::time::timeout(timeout, async {
            let (reply, answer) = oneshot::channel();
            self.core.queue.ask(Ask::Cut(reply));
            let target = answer.await.ok()?;
            let mut stored = self.core.stored.subscribe();
            stored.wait_for(|stored| *stored >= target).await.ok().map(drop)
        })
        .await
        .is_ok_and(|outcome| outcome.is_some())
    }

    /// Whether other nodes may store into the same ClickHouse.
    pub fn shares_store(&self) -> bool {
        self.core.config.shares_store
    }

    /// The log, and its cuts that are not proven to be stored.
    pub fn open_cuts(&self) -> (u32, Vec<u64>) {
        (self.core.log_id, self.core.peek(|book| book.open_cuts().map(|cut| cut.number).collect()))
    }

    /// Which rows of `set_aside` may still be replaced. Those of this log that are not named stay as they are.
    pub fn unsettled(&self) -> Unsettled {
        let log = self.core.log_id;
        self.core.peek(|book| {
            let open = book.open_cuts().flat_map(|cut| &cut.blocks);
            let blocks = open.chain(book.ghosts().iter().map(|ghost| &ghost.block));
            let aside = blocks.filter(|block| block.table == Table::SetAside.name());
            Unsettled { log, inserts: aside.map(|block| block.insert).collect(), from: book.next_insert() }
        })
    }

    /// Waits until no insert is under way, and lets none begin for as long as the answer is held: what is stored stays as
    /// it is, every cut whole or not at all, while requests are acknowledged into the log. A hold that lasts is joined.
    ///
    /// # Errors
    /// [`NotHeld`] when `timeout` came first; asking again can help.
    pub async fn hold_inserts(&self, why: HoldFor, timeout: Duration) -> Result<Held, NotHeld> {
        self.holds.hold(why, timeout).await
    }

    /// Whether inserts are kept still by what may take long, a backup of any node for one.
    pub fn is_kept_still(&self) -> bool {
        self.holds.is_for_upkeep()
    }

    /// Notes an error of ClickHouse for the status, where no insert finds out because they are kept still.
    pub fn store_failed(&self, error: &store::StoreError) {
        self.core.store_failed(error);
    }

    /// Notes that ClickHouse answers again after such an error.
    pub fn store_worked(&self) {
        self.core.store_worked();
    }

    /// How many wait just now for the inserts to be still.
    pub fn waiting_for_hold(&self) -> usize {
        self.holds.waiting()
    }

    /// Says that the rows of these units in the table `units` were removed: whoever comes back is written again.
    pub fn forget_units(&self, units: &[u64]) {
        self.core.forget_units(units);
    }

    /// Forgets the keys `<instance>-<number>` of these instances, under which nothing is sent any more: those of records that
    /// were taken in again and whose rows are gone from where they were set aside.
    pub async fn forget_keys(&self, project: ProjectId, instances: Vec<u128>) {
        let (reply, answer) = oneshot::channel();
        self.core.queue.ask(Ask::Forget { project, instances, reply });
        if answer.await.is_err() {
            tracing::debug!("the committer has ended; the keys stay known");
        }
    }

    /// Removes from the disk what the log still holds of stored entries, the segment being written included, so that
    /// nothing of a deleted project is left in it. Returns when the files are gone; false when `timeout` came first.
    pub async fn tidy(&self, timeout: Duration) -> bool {
        let (reply, answer) = oneshot::channel();
        self.core.queue.ask(Ask::Tidy(reply));
        // While the server stops nobody answers, but stopping tidies the log as well.
        matches!(tokio::time::timeout(timeout, answer).await, Ok(Ok(_)))
    }

    /// Takes no more requests, finishes those waiting, stores everything and ends; true when the log is empty then.
    ///
    /// After `timeout` it ends all the same: what is not stored stays in the log for the next start.
    pub async fn drain(&self, timeout: Duration) -> bool {
        self.core.queue.close();
        let is_stored = self.flush(timeout).await;
        let (reply, answer) = oneshot::channel();
        self.core.queue.ask(Ask::Stop(reply));
        let is_ended = answer.await.is_ok();
        self.join();
        is_stored && is_ended
    }

    /// The figures now. Never blocks for long.
    pub fn status(&self) -> PipelineStatus {
        self.core.status()
    }

    fn join(&self) {
        let thread = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the committer panicked");
        }
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.core.queue.close();
        let (reply, _) = oneshot::channel();
        self.core.queue.ask(Ask::Stop(reply));
        self.join();
    }
}
