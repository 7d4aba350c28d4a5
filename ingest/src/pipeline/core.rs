//! What the parts of the pipeline share: settings, the queue, the book of cuts, the figures.

use super::pending::{ByProject, Pending};
use super::queue::Queue;
use super::refused::{MAX_APART, SetApart};
use super::types::{FateCounts, InsertCounts, Mode, PipelineConfig, PipelineStatus, SetAsideCounts};
use crate::clock;
use crate::identity::{IdHasher, ProjectId};
use crate::log::cuts::CutBook;
use crate::log::{EntryHead, LogError, SyncTimes};
use crate::outcome::{Fate, Reason};
use crate::rows::{Rows, StoredIds};
use crate::store::{self, Obstacle, StoreError};
use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, watch};

/// Shortest time between two marks of positions and times; the age of the oldest pending entry is right to this much.
const MARK_MS: i64 = 1_000;
/// Most marks: a day at one a second. Beyond it every second one is dropped, which coarsens the age only.
const MAX_MARKS: usize = 86_400;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: PipelineConfig,
    pub(super) ids: IdHasher,
    pub(super) store: store::Client,
    pub(super) queue: Queue,
    pub(super) log_id: u32,
    /// Latest turn of claims that this node knows of, on a cluster.
    pub(super) turn: AtomicU64,
    book: Mutex<CutBook>,
    figures: Mutex<Figures>,
    /// Units and resources that need not be written again.
    stored_ids: Arc<StoredIds>,
    /// Empty rows with their buffers, to be filled again.
    spare: Mutex<Vec<Rows>>,
    /// All entries before this position are stored.
    pub(super) stored: watch::Sender<u64>,
    /// Where cuts go that ClickHouse refuses, and room for them.
    pub(super) apart: UnboundedSender<SetApart>,
    pub(super) room_apart: Arc<Semaphore>,
}

/// Everything [`PipelineStatus`] is made of.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) fates: FateCounts,
    pub(super) inserts: InsertCounts,
    pub(super) syncs: SyncTimes,
    pub(super) mode: Mode,
    pub(super) pending: Pending,
    pub(super) log_bytes: u64,
    pub(super) free_bytes: Option<u64>,
    pub(super) damaged: u64,
    pub(super) durable: u64,
    /// Memory of rows between the committer and the end of their inserts.
    pub(super) waiting_bytes: usize,
    /// Cuts between the committer and the writer.
    pub(super) waiting_cuts: usize,
    pub(super) refused: u64,
    pub(super) problem: Option<(String, bool)>,
    /// Nothing can be stored just now.
    pub(super) is_out: bool,
    /// Times that this began.
    pub(super) outages: u64,
    /// Cuts whose blocks ClickHouse took.
    pub(super) stored_cuts: u64,
    /// The log fills more than half of its room: what is oldest is stored first, whatever waits.
    pub(super) is_log_pressed: bool,
    /// Cuts that ClickHouse refuses, and what it says to one of them.
    pub(super) apart: Option<(usize, String)>,
    /// Records set aside because ClickHouse refuses them.
    pub(super) refused_records: u64,
    set_aside: SetAsideCounts,
    /// Positions with the receive time of the entry there, one a second.
    marks: VecDeque<(u64, i64)>,
}

impl Core {
    pub(super) fn new(
        config: PipelineConfig,
        ids: IdHasher,
        store: store::Client,
        log_id: u32,
        book: CutBook,
        figures: Figures,
        apart: UnboundedSender<SetApart>,
    ) -> Self {
        let (stored, _) = watch::channel(book.stored_before());
        Self {
            queue: Queue::new(config.max_queue_requests, config.max_queue_bytes),
            config,
            ids,
            store,
            log_id,
            turn: AtomicU64::new(0),
            book: Mutex::new(book),
            figures: Mutex::new(figures),
            stored_ids: Arc::default(),
            spare: Mutex::new(Vec::new()),
            stored,
            apart,
            room_apart: Arc::new(Semaphore::new(MAX_APART)),
        }
    }

    pub(super) fn figures(&self) -> MutexGuard<'_, Figures> {
        // Counters alone: a panic elsewhere leaves at most one of them behind.
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a change of the book on a thread that may wait for the disk, and publishes what is stored now.
    ///
    /// Tries again until the disk takes it: a cut that cannot be written down cannot be inserted, but nothing is lost.
    pub(super) async fn book<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl Fn(&mut CutBook) -> Result<T, LogError> + Send + Sync + 'static,
    ) -> T {
        let change = Arc::new(change);
        let mut pause = Duration::from_millis(50);
        loop {
            let (core, change) = (Arc::clone(self), Arc::clone(&change));
            let changed = tokio::task::spawn_blocking(move || {
                let mut book = core.book.lock().unwrap_or_else(PoisonError::into_inner);
                let outcome = change(&mut book);
                let stored = book.stored_before();
                drop(book);
                (outcome, stored)
            });
            match changed.await {
                Ok((Ok(value), stored)) => {
                    if self.stored.send_if_modified(|known| std::mem::replace(known, stored) != stored) {
                        self.figures().forget_marks(stored);
                        self.queue.wake();
                    }
                    return value;
                }
                Ok((Err(error), _)) => {
                    tracing::error!(error = %chain(&error), "a cut cannot be written down");
                    self.figures().problem = Some((chain(&error), true));
                }
                Err(error) => tracing::error!(%error, "a change of the cuts was broken off"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// Reads the book without changing it.
    pub(super) fn peek<T>(&self, look: impl FnOnce(&CutBook) -> T) -> T {
        look(&self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Empty rows, with the buffers of earlier ones where there are some.
    pub(super) fn spare_rows(&self) -> Rows {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Rows::knowing(Arc::clone(&self.stored_ids)))
    }

    /// Has the rows of these units written again when they come next, because they were removed.
    pub(super) fn forget_units(&self, units: &[u64]) {
        for unit in units {
            self.stored_ids.forget(*unit);
        }
    }

    /// Takes rows back that are stored.
    pub(super) fn take_back(&self, mut rows: Rows) {
        rows.clear();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < self.config.max_inserts {
            spare.push(rows);
        }
    }

    /// Notes an error of ClickHouse for the status.
    pub(super) fn store_failed(&self, error: &StoreError) {
        if self.figures().failed(error) {
            tracing::warn!(
                error = chain(error),
                "ClickHouse does not store just now; the log keeps what is acknowledged"
            );
        }
    }

    pub(super) fn store_worked(&self) {
        if self.figures().worked() {
            tracing::info!("ClickHouse stores again");
        }
    }

    pub(super) fn is_store_healthy(&self) -> bool {
        self.figures().problem.is_none()
    }

    pub(super) fn status(&self) -> PipelineStatus {
        let stored_before = *self.stored.borrow();
        let queued_requests = self.queue.len() as u64;
        let refusing = self.queue.refusing();
        let figures = self.figures();
        let oldest_pending =
            if figures.durable > stored_before { figures.age_of(stored_before) } else { Duration::ZERO };
        let problem = figures.problem.as_ref().map(|(text, _)| text);
        let apart = figures.apart.as_ref();
        PipelineStatus {
            pending_records: figures.pending.records(),
            pending_by_project: figures.pending.by_project().clone(),
            log_bytes: figures.log_bytes,
            free_bytes: figures.free_bytes,
            oldest_pending,
            mode: figures.mode,
            next_position: figures.durable,
            stored_before,
            fates: figures.fates,
            inserts: figures.inserts,
            syncs: figures.syncs,
            waiting_bytes: figures.waiting_bytes as u64,
            queued_requests,
            refused_requests: figures.refused,
            damaged_entries: figures.damaged,
            store_problem: problem.or(apart.map(|(_, text)| text)).cloned(),
            needs_attention: apart.is_some() || figures.problem.as_ref().is_some_and(|(_, needs)| *needs),
            refused_cuts: apart.map_or(0, |(cuts, _)| *cuts as u64),
            refused_records: figures.refused_records,
            set_aside: figures.set_aside.clone(),
            refusing,
        }
    }
}

impl Figures {
    /// Notes an error of ClickHouse; true where it is news that nothing can be stored. What is said to the rows or the table of one
    /// cut is no outage: others are stored meanwhile, and it is said again each time the cut is tried.
    fn failed(&mut self, error: &StoreError) -> bool {
        let text = shown(error);
        let is_outage = matches!(error.obstacle(), Obstacle::Passing | Obstacle::Store);
        let is_known = self.is_out && self.problem.as_ref().is_some_and(|(known, _)| *known == text);
        self.outages += u64::from(is_outage && !self.is_out);
        self.is_out |= is_outage;
        self.problem = Some((text, !error.is_retryable()));
        is_outage && !is_known
    }

    /// Notes that ClickHouse did something; true where it could not before.
    fn worked(&mut self) -> bool {
        self.problem = None;
        std::mem::take(&mut self.is_out)
    }

    /// Counts an acknowledged entry.
    pub(super) fn acknowledged(&mut self, head: &EntryHead) {
        let of = |fate: Fate| {
            head.tally.others.iter().filter(|(f, ..)| *f == fate).map(|(_, _, records)| records).sum::<u64>()
        };
        self.fates.received += head.tally.received;
        self.fates.rejected += of(Fate::Rejected);
        self.fates.set_aside += of(Fate::SetAside);
        self.fates.ignored += of(Fate::Ignored);
        self.fates.deduplicated += of(Fate::Deduplicated);
        self.fates.retried += of(Fate::Retried);
        self.note_set_aside(head);
    }

    /// Counts what is set aside of an entry, by reason.
    pub(super) fn note_set_aside(&mut self, head: &EntryHead) {
        for (_, reason, records) in head.tally.others.iter().filter(|(fate, ..)| *fate == Fate::SetAside) {
            *self.set_aside.entry((head.project, reason.clone())).or_default() += records;
        }
    }

    /// Notes whose records they are that ClickHouse refuses and that are set aside from now on.
    pub(super) fn note_refused(&mut self, records: &ByProject) {
        for (project, records) in records.iter().filter(|(_, records)| **records > 0) {
            let key = (ProjectId(*project), Reason::RefusedByStore.as_str().to_owned());
            *self.set_aside.entry(key).or_default() += records;
        }
    }

    /// Notes that the entry at `position` was received at `received_ms`, for the age of what is pending.
    pub(super) fn mark(&mut self, position: u64, received_ms: i64) {
        if self.marks.back().is_none_or(|(_, last)| received_ms - last >= MARK_MS) {
            self.marks.push_back((position, received_ms));
        }
        if self.marks.len() > MAX_MARKS {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// Drops marks nobody asks for any more: all but the last one at or before `stored`.
    fn forget_marks(&mut self, stored: u64) {
        while self.marks.get(1).is_some_and(|(position, _)| *position <= stored) {
            self.marks.pop_front();
        }
    }

    fn age_of(&self, position: u64) -> Duration {
        let index = self.marks.partition_point(|(marked, _)| *marked <= position).saturating_sub(1);
        let received = self.marks.get(index).map_or_else(clock::now_ms, |(_, received)| *received);
        Duration::from_millis(u64::try_from(clock::now_ms() - received).unwrap_or(0))
    }
}

/// An error as the status shows it to anybody who asks: what ClickHouse says to rows may quote their values.
pub(super) fn shown(error: &StoreError) -> String {
    match error.code() {
        Some(code) if error.obstacle() == Obstacle::Rows => {
            format!("clickhouse refuses rows with code {code}; the server's log says more")
        }
        _ => chain(error),
    }
}

/// An error with all its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_one_cut_is_no_outage_however_often_it_is() {
        let refused = |code| StoreError::Refused { code, message: String::new() };
        let mut figures = Figures::default();
        for _ in 0..3 {
            // A constraint, a table that is missing.
            assert!(!figures.failed(&refused(469)) && !figures.failed(&refused(60)));
            assert!(figures.problem.is_some() && !figures.worked());
        }
        assert_eq!(figures.outages, 0);
        figures.failed(&refused(60));
        assert!(figures.failed(&StoreError::Timeout) && !figures.failed(&StoreError::Timeout));
        assert_eq!(figures.outages, 1);
        assert!(figures.worked() && figures.failed(&refused(516)));
        assert_eq!(figures.outages, 2);
    }
}
