//! The task that turns what is gathered into cuts and has them stored, few at a time.
//!
//! In: rows from the committer, or the position from which it must read the log itself. Out: cuts written down, each handed to
//! [`inserts`]. While it reads the log it holds one cut more than are being inserted, so memory stays flat however long
//! ClickHouse is away.
//!
//! What an outage left behind is the backlog: stretches of entries in the book of cuts, stored oldest first and in turns with
//! what is new, which need not wait for it. Segments of the log go oldest first, so while the log fills more than half of its room
//! only the backlog is stored: as long as ClickHouse stores faster than data come in, the log does not grow then.
//!
//! An outage leaves one stretch, and mere slowness none beside another: then the log is read in order, in turns with the
//! backlog, until its end is reached. So there are few of them, [`MAX_STRETCHES`] at most, and only the oldest is open.

use super::again::{self, ReadLog};
use super::committer::ToWriter;
use super::core::{Core, chain};
use super::gather::Gathered;
use super::inserts;
use super::queue::Ask;
use crate::log::Reader;
use crate::log::cuts::Cut;
use crate::otlp::DECODER_VERSION;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

/// Pause after the log could not be read.
const READ_PAUSE: Duration = Duration::from_secs(5);
/// Stretches of the backlog beyond which new data wait for it. Chosen: so many outages before the first is worked off are
/// one that does not end.
const MAX_STRETCHES: usize = 16;

pub(super) struct Writer {
    core: Arc<Core>,
    inbox: UnboundedReceiver<ToWriter>,
    slots: Arc<Semaphore>,
    read_log: ReadLog,
    /// The inserts under way; they end with this task.
    inserts: JoinSet<()>,
    /// Reads the oldest stretch of the backlog.
    oldest: Option<Reader>,
    /// How many outages there had been when the last stretch was left behind; nothing after a start, which is as good as one.
    forked_after: Option<u64>,
}

impl Writer {
    /// Each insert under way takes one of `slots`.
    pub(super) fn new(
        core: Arc<Core>,
        slots: Arc<Semaphore>,
        inbox: UnboundedReceiver<ToWriter>,
        read_log: ReadLog,
    ) -> Self {
        Self { core, inbox, slots, read_log, inserts: JoinSet::new(), oldest: None, forked_after: None }
    }

    pub(super) async fn run(mut self) {
        for cut in self.core.peek(|book| book.open_cuts().cloned().collect::<Vec<_>>()) {
            let Some(slot) = self.slot().await else { return };
            let (core, read_log) = (Arc::clone(&self.core), Arc::clone(&self.read_log));
            self.inserts.spawn(async move {
                inserts::recover(&core, cut, &read_log).await;
                drop(slot);
            });
        }
        loop {
            if self.is_backlog_urgent() {
                self.store_oldest().await;
                continue;
            }
            let message = if self.stretches() == 0 {
                self.inbox.recv().await
            } else {
                // In turns: neither what is new nor what is old waits for more than one cut of the other.
                match self.inbox.try_recv() {
                    Err(TryRecvError::Empty) => {
                        self.store_oldest().await;
                        continue;
                    }
                    received => received.ok(),
                }
            };
            match message {
                Some(ToWriter::Gathered(gathered)) => {
                    let Some(slot) = self.slot().await else { return };
                    self.core.figures().waiting_cuts -= 1;
                    let bytes = gathered.rows.bytes();
                    self.cut(*gathered, slot, bytes).await;
                }
                Some(ToWriter::BehindFrom(position)) => self.catch_up(position).await,
                None => return,
            }
            self.store_oldest().await;
        }
    }

    fn stretches(&self) -> usize {
        self.core.peek(|book| book.backlog().len())
    }

    fn is_backlog_urgent(&self) -> bool {
        self.stretches() > 0 && self.core.figures().is_log_pressed
    }

    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// Writes a cut down and has it stored. `counted` bytes are given back to the committer's allowance in the end.
    async fn cut(&mut self, gathered: Gathered, slot: OwnedSemaphorePermit, counted: usize) {
        let (first, end, records) = (gathered.first, gathered.end, gathered.kept.values().sum());
        let blocks = inserts::counted_blocks(&gathered.rows);
        let cut = self
            .core
            .book(move |book| {
                let mut cut = Cut {
                    number: book.next_cut(),
                    first,
                    end,
                    decoder: DECODER_VERSION,
                    records,
                    lost: Vec::new(),
                    blocks: blocks.clone(),
                    refused: Vec::new(),
                };
                book.number_blocks(&mut cut.blocks);
                book.record(cut.clone())?;
                Ok(cut)
            })
            .await;
        let (core, read_log) = (Arc::clone(&self.core), Arc::clone(&self.read_log));
        while self.inserts.try_join_next().is_some() {}
        self.inserts.spawn(async move {
            inserts::store(&core, cut, gathered, &read_log).await;
            core.figures().waiting_bytes -= counted;
            drop(slot);
            core.queue.wake();
        });
    }

    /// Reads the log from `position` on, in turns with the backlog, until the committer can gather again: at the end of the log,
    /// or before it once ClickHouse has taken a cut and the rest may be left behind ([`Self::may_fork`]).
    async fn catch_up(&mut self, position: u64) {
        let stored_before = self.core.figures().stored_cuts;
        let mut reader = (self.read_log)(position);
        loop {
            self.store_oldest().await;
            if self.is_backlog_urgent() {
                continue;
            }
            let Some(slot) = self.slot().await else { return };
            let (back, gathered) = self.read_cut(reader, None).await;
            reader = back;
            let is_at_end = !gathered.is_full(self.core.config.max_cut_rows, self.core.config.max_cut_bytes);
            if gathered.is_empty() {
                drop(slot);
            } else {
                self.cut(gathered, slot, 0).await;
            }
            if !self.is_storing_since(stored_before) {
                // Nothing is left to read and nothing proven: an insert that ends may prove it. None is under way where there was
                // nothing to store, or where all was refused and set apart.
                if is_at_end && self.inserts.join_next().await.is_none() {
                    return self.go_live(reader, false).await;
                }
            } else if is_at_end || self.may_fork() {
                return self.go_live(reader, !is_at_end).await;
            }
        }
    }

    /// Whether ClickHouse took a cut since there were so many, and has not failed since.
    fn is_storing_since(&self, stored_cuts: u64) -> bool {
        let figures = self.core.figures();
        figures.stored_cuts > stored_cuts && figures.problem.is_none()
    }

    /// Whether new data may be stored before what the catch-up has not read yet: once for each outage, or where nothing else is
    /// left behind; never while the log is short of room, which what is oldest must give back.
    fn may_fork(&self) -> bool {
        let stretches = self.stretches();
        let figures = self.core.figures();
        let is_news = self.forked_after != Some(figures.outages);
        !figures.is_log_pressed && stretches < MAX_STRETCHES && (is_news || stretches == 0)
    }

    /// Has the committer gather again. What is left to read before that is left behind, or stored at once where it is little.
    async fn go_live(&mut self, mut reader: Reader, is_left_behind: bool) {
        let (reply, answer) = oneshot::channel();
        self.core.queue.ask(Ask::GoLive(reply));
        // No answer means that the committer has ended; what is left is read at the next start.
        let Ok(end) = answer.await else { return };
        if is_left_behind && reader.position() < end {
            self.forked_after = Some(self.core.figures().outages);
            self.core.book(move |book| book.fork(end)).await;
            return;
        }
        while reader.position() < end {
            let Some(slot) = self.slot().await else { return };
            let (back, gathered) = self.read_cut(reader, Some(end)).await;
            reader = back;
            self.cut(gathered, slot, 0).await;
        }
    }

    /// Has one cut of the oldest stretch of the backlog stored, where there is one.
    async fn store_oldest(&mut self) {
        let Some(Range { start, end }) = self.core.peek(|book| book.backlog().first().cloned()) else {
            self.oldest = None;
            return;
        };
        let Some(slot) = self.slot().await else { return };
        let reader = self.oldest.take().filter(|reader| reader.position() == start);
        let reader = reader.unwrap_or_else(|| (self.read_log)(start));
        let (reader, gathered) = self.read_cut(reader, Some(end)).await;
        self.cut(gathered, slot, 0).await;
        self.oldest = Some(reader);
    }

    /// Reads entries for one cut: up to its size, to `until`, or to the end of what is durable.
    async fn read_cut(&self, reader: Reader, until: Option<u64>) -> (Reader, Gathered) {
        let first = reader.position();
        let mut reader = reader;
        loop {
            let core = Arc::clone(&self.core);
            let reading = tokio::task::spawn_blocking(move || {
                let mut gathered = Gathered::begin(core.spare_rows(), reader.position());
                let config = &core.config;
                let outcome = loop {
                    let is_at_end = until.is_some_and(|until| reader.position() >= until);
                    if is_at_end || gathered.is_full(config.max_cut_rows, config.max_cut_bytes) {
                        break Ok(());
                    }
                    match again::add_next(&core, &mut reader, &mut gathered, &[], &[]) {
                        Ok(true) => {}
                        Ok(false) => break Ok(()),
                        Err(error) => break Err(error),
                    }
                };
                (reader, gathered, outcome)
            });
            match reading.await {
                Ok((back, gathered, Ok(()))) => return (back, gathered),
                Ok((_, _, Err(error))) => tracing::error!(error = chain(&error), "the log cannot be read"),
                Err(error) => tracing::error!(%error, "reading the log was broken off"),
            }
            tokio::time::sleep(READ_PAUSE).await;
            reader = (self.read_log)(first);
        }
    }
}
