//! The task that turns what is gathered into cuts and has them stored, few at a time.
//!
//! In: rows from the committer, or the position from which it must read the log itself. Out: cuts written down, each handed to
//! [`inserts`]. While it reads the log it holds one cut more than are being inserted, so memory stays flat however long
//! ClickHouse is away. What an outage left behind is stored in turns with what is new, which need not wait for it.

use super::committer::ToWriter;
use super::core::{Core, chain};
use super::gather::Gathered;
use super::inserts::{self, ReadLog};
use super::queue::Ask;
use crate::log::Reader;
use crate::log::cuts::Cut;
use crate::otlp::DECODER_VERSION;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

/// Pause after the log could not be read.
const READ_PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    core: Arc<Core>,
    inbox: UnboundedReceiver<ToWriter>,
    slots: Arc<Semaphore>,
    read_log: ReadLog,
    /// The inserts under way; they end with this task.
    inserts: JoinSet<()>,
    /// What the committer went on without, oldest first.
    backlog: VecDeque<Backlog>,
}

/// A stretch of entries that are stored between newer ones.
struct Backlog {
    reader: Reader,
    end: u64,
}

impl Writer {
    /// Each insert under way takes one of `slots`.
    pub(super) fn new(
        core: Arc<Core>,
        slots: Arc<Semaphore>,
        inbox: UnboundedReceiver<ToWriter>,
        read_log: ReadLog,
    ) -> Self {
        let backlog = core.peek(|book| book.backlog().to_vec());
        let backlog =
            backlog.into_iter().map(|Range { start, end }| Backlog { reader: read_log(start), end }).collect();
        Self { core, inbox, slots, read_log, inserts: JoinSet::new(), backlog }
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
            let message = if self.backlog.is_empty() {
                self.inbox.recv().await
            } else {
                // In turns: neither what is new nor what is old waits for more than one cut of the other.
                match self.inbox.try_recv() {
                    Err(TryRecvError::Empty) => {
                        self.store_some().await;
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
            if !self.backlog.is_empty() {
                self.store_some().await;
            }
        }
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

    /// Reads the log from `position` until ClickHouse takes what it finds there. Then the committer gathers again, and what it
    /// had not gathered before joins the backlog.
    async fn catch_up(&mut self, position: u64) {
        let mut reader = (self.read_log)(position);
        loop {
            let Some(slot) = self.slot().await else { return };
            let (back, gathered) = self.read_cut(reader, None).await;
            reader = back;
            let is_at_end = gathered.is_empty();
            if !is_at_end {
                self.cut(gathered, slot, 0).await;
                if !self.core.is_store_healthy() {
                    continue;
                }
            }
            let (reply, answer) = oneshot::channel();
            self.core.queue.ask(Ask::GoLive(reply));
            // No answer means that the committer has ended; what is left is read at the next start.
            let Ok(end) = answer.await else { return };
            if reader.position() < end {
                self.core.book(move |book| book.fork(end)).await;
                self.backlog.push_back(Backlog { reader, end });
            }
            return;
        }
    }

    /// Has one cut of the oldest stretch of the backlog stored.
    async fn store_some(&mut self) {
        let Some(slot) = self.slot().await else { return };
        let Some(Backlog { reader, end }) = self.backlog.pop_front() else { return };
        let (reader, gathered) = self.read_cut(reader, Some(end)).await;
        if !gathered.is_empty() {
            self.cut(gathered, slot, 0).await;
        }
        if reader.position() < end {
            self.backlog.push_front(Backlog { reader, end });
        }
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
                    match inserts::add_next(&core, &mut reader, &mut gathered, &[], &[]) {
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
