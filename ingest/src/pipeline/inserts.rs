//! Storing one cut: ledger, blocks, and proof after an unknown outcome.
//!
//! In: a cut that is written down, with its rows or without (after a start). Out: nothing before every block is stored;
//! it tries for as long as it takes while ClickHouse is away, and hands a cut that is refused to [`refused`]. Invariants:
//! 1. A number of an insert is sent once. After an outcome that is not known the statement is stopped, the rows under its
//!    number are counted, and only when they are not all there a new number is written down and sent; whatever the old one
//!    still brings later is found by its number and removed ([`watch_ghosts`]).
//! 2. The ledger is written before the first block, so that what is stored never exceeds what was received.

use super::again::{ReadLog, gather_again};
use super::claims;
use super::core::{Core, chain};
use super::gather::{Counted, Gathered, LedgerKey};
use super::ledger::write_ledger;
use super::pending::{ByProject, less};
use super::refused;
use crate::clock;
use crate::log::cuts::{Cut, CutBlock, Ghost, Refusal};
use crate::otlp::DECODER_VERSION;
use crate::rows::{BlockKey, Partition, Rows, Table};
use crate::store::{InsertedBlock, Obstacle, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// First and longest pause between two tries. Chosen: an engine that was killed is back within two seconds; a server that
/// is away for hours should not be asked more than once in ten seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The same when somebody must act first.
const LONGEST_PAUSE_ATTENTION: Duration = Duration::from_secs(30);
/// Pieces of a block encoded ahead of what is sent.
const PIECES_AHEAD: usize = 2;
/// Refusals in a row after which a cut is set apart, where trying again cannot be expected to help. Chosen: one may come
/// of a table that is being changed just then.
const MAX_REFUSALS: u32 = 3;
/// How long a replaced insert is watched. Chosen: ten times the longest time ClickHouse is given for an insert.
const GHOST_MS: i64 = 15 * 60 * 1_000;
/// How often they are looked for.
const GHOST_PAUSE: Duration = Duration::from_secs(20);

/// Pauses that grow from one failure to the next.
pub(super) struct Backoff {
    pause: Duration,
    refusals: u32,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { pause: FIRST_PAUSE, refusals: 0 }
    }

    pub(super) async fn wait(&mut self, core: &Core, error: &StoreError) {
        core.store_failed(error);
        tokio::time::sleep(self.pause).await;
        let longest = if error.is_retryable() { LONGEST_PAUSE } else { LONGEST_PAUSE_ATTENTION };
        self.pause = (self.pause * 2).min(longest);
    }

    /// Notes an error; true when the same has been refused often enough. With the whole store out of reach nothing else
    /// could be stored either, so that is waited out however long it takes.
    pub(super) fn is_refused(&mut self, error: &StoreError) -> bool {
        match error.obstacle() {
            Obstacle::Passing | Obstacle::Store => self.refusals = 0,
            Obstacle::Table | Obstacle::Rows => self.refusals += 1,
        }
        self.refusals >= MAX_REFUSALS
    }
}

/// Does something until ClickHouse does it, or has refused it often enough.
pub(super) async fn until_done<T, F: Future<Output = Result<T, StoreError>>>(
    core: &Core,
    mut action: impl FnMut() -> F,
) -> Result<T, StoreError> {
    let mut backoff = Backoff::new();
    loop {
        match action().await {
            Ok(value) => {
                core.store_worked();
                return Ok(value);
            }
            Err(error) if backoff.is_refused(&error) => return Err(error),
            Err(error) => backoff.wait(core, &error).await,
        }
    }
}

fn inserted(core: &Core, block: &CutBlock) -> InsertedBlock<'static> {
    InsertedBlock {
        // Names come from `Table`; an unknown one was written by a newer build and is looked for in vain.
        table: Table::parse(&block.table).unwrap_or(Table::Events).name(),
        retention_class: block.class,
        week: block.week,
        batch: batch(core, block.insert),
    }
}

/// Value of the column `batch`: log id above, number of the insert in the lower 40 bits.
fn batch(core: &Core, insert: u64) -> u64 {
    u64::from(core.log_id) << 40 | insert
}

fn query_id(core: &Core, insert: u64) -> String {
    format!("gemba-{:06x}-{insert}-", core.log_id)
}

/// The blocks of rows in counted tables, without numbers.
pub(super) fn counted_blocks(rows: &Rows) -> Vec<CutBlock> {
    let counted = rows.blocks().into_iter().filter(|block| block.table.is_counted());
    let blocks = counted.map(|BlockKey { table, partition, rows, records }| CutBlock {
        table: table.name().to_owned(),
        class: partition.retention_class,
        week: partition.week,
        insert: 0,
        rows,
        records,
    });
    blocks.collect()
}

/// Stores a cut whose rows are at hand, or sets it apart.
pub(super) async fn store(core: &Arc<Core>, mut cut: Cut, gathered: Gathered, read_log: &ReadLog) {
    // All of it counts as waiting until it is known what is another node's.
    let mut kept = gathered.kept.clone();
    let gathered = match claim(core, &mut cut, gathered, read_log).await {
        Ok(gathered) => gathered,
        Err(error) => return refused::set_apart(core, cut, Some(kept), error).await,
    };
    if gathered.kept != kept {
        core.figures().pending.stored(&less(&kept, &gathered.kept));
        kept.clone_from(&gathered.kept);
    }
    let Gathered { rows, ledger, received_ms, .. } = gathered;
    let rows = Arc::new(rows);
    let blocks = 0..cut.blocks.len();
    let outcome = store_blocks(core, &mut cut, blocks, &rows, (&ledger, received_ms)).await;
    if let Ok(rows) = Arc::try_unwrap(rows) {
        core.take_back(rows);
    }
    match outcome {
        Ok(()) => finish(core, &cut, Some(&kept)).await,
        Err(error) => refused::set_apart(core, cut, Some(kept), error).await,
    }
}

/// Writes a cut's ledger, what is not counted, and the blocks of these indexes.
async fn store_blocks(
    core: &Arc<Core>,
    cut: &mut Cut,
    blocks: impl IntoIterator<Item = usize>,
    rows: &Arc<Rows>,
    (ledger, received_ms): (&BTreeMap<LedgerKey, Counted>, Option<i64>),
) -> Result<(), StoreError> {
    write_ledger(core, cut.number, ledger, received_ms).await?;
    write_uncounted(core, rows).await?;
    let mut outcome = Ok(());
    for index in blocks {
        // A block that is refused does not keep the others of its cut from being stored.
        if let Err(error) = insert_block(core, cut, index, rows).await {
            outcome = Err(error);
        }
    }
    core.figures().stored_cuts += u64::from(outcome.is_ok());
    outcome
}

/// Stores a cut found open at start, or sets it apart.
pub(super) async fn recover(core: &Arc<Core>, mut cut: Cut, read_log: &ReadLog) {
    match store_missing(core, &mut cut, read_log).await {
        Ok(()) => finish(core, &cut, None).await,
        Err(error) => refused::set_apart(core, cut, None, error).await,
    }
}

/// Stores what is missing of a cut: counts first, and reads the log again only where something is missing.
pub(super) async fn store_missing(core: &Arc<Core>, cut: &mut Cut, read_log: &ReadLog) -> Result<(), StoreError> {
    let mut counts = Vec::with_capacity(cut.blocks.len());
    for block in &cut.blocks {
        counts.push(settle(core, block).await?);
    }
    let is_stored = !cut.blocks.is_empty() && cut.blocks.iter().zip(&counts).all(|(block, count)| block.rows == *count);
    if is_stored {
        core.figures().inserts.proven += cut.blocks.len() as u64;
        return Ok(());
    }
    let gathered = gather_again(core, cut, read_log).await;
    let lost = cut.lost.clone();
    let gathered = claim(core, cut, gathered, read_log).await?;
    if cut.lost != lost {
        // Written down anew just now, so nothing of it was ever sent.
        counts = vec![0; cut.blocks.len()];
    }
    let again = counted_blocks(&gathered.rows);
    let shape = |blocks: &[CutBlock]| -> Vec<_> {
        blocks.iter().map(|block| (block.table.clone(), block.class, block.week, block.rows)).collect()
    };
    if cut.decoder != DECODER_VERSION || shape(&again) != shape(&cut.blocks) {
        tracing::warn!(
            cut = cut.number,
            "a cut comes out of the log differently than it was written down: stored anew"
        );
        return store_anew(core, cut, gathered).await;
    }
    let mut missing = Vec::new();
    for (index, count) in counts.into_iter().enumerate() {
        if count == cut.blocks[index].rows {
            core.figures().inserts.proven += 1;
        } else {
            replace_block(core, cut, index, count).await?;
            missing.push(index);
        }
    }
    let Gathered { rows, ledger, received_ms, .. } = gathered;
    store_blocks(core, cut, missing, &Arc::new(rows), (&ledger, received_ms)).await
}

/// Stores a cut without the records that ClickHouse refuses, which are set aside with it; `kept` is what the cut holds of what
/// is pending.
pub(super) async fn store_without(
    core: &Arc<Core>,
    cut: &mut Cut,
    refused: Vec<Refusal>,
    kept: Option<&mut ByProject>,
    read_log: &ReadLog,
) -> Result<(), StoreError> {
    let known = cut.refused_records();
    cut.refused = refused;
    let gathered = gather_again(core, cut, read_log).await;
    {
        let mut figures = core.figures();
        let newly = cut.refused_records() - known;
        figures.fates.set_aside += newly;
        figures.refused_records += newly;
        let refused = match kept {
            Some(kept) => {
                let refused = less(kept, &gathered.kept);
                figures.pending.stored(&refused);
                kept.clone_from(&gathered.kept);
                refused
            }
            None => figures.pending.lessen_cut(cut.first, &gathered.kept),
        };
        figures.note_refused(&refused);
    }
    store_anew(core, cut, gathered).await
}

/// Removes whatever is stored of a cut and stores it again, under new numbers.
async fn store_anew(core: &Arc<Core>, cut: &mut Cut, gathered: Gathered) -> Result<(), StoreError> {
    for block in &cut.blocks {
        until_done(core, || core.store.remove_batch(inserted(core, block))).await?;
    }
    let Gathered { rows, ledger, kept, received_ms, .. } = gathered;
    cut.records = kept.values().sum();
    let old = std::mem::replace(&mut cut.blocks, counted_blocks(&rows));
    cut.decoder = DECODER_VERSION;
    // Before the ledger, which tells of the records set aside: it must not tell of what a kill makes forgotten.
    *cut = renumber(core, cut.clone(), None, old).await;
    let blocks = 0..cut.blocks.len();
    store_blocks(core, cut, blocks, &Arc::new(rows), (&ledger, received_ms)).await
}

/// Claims a cut's entries where other nodes store into the same ClickHouse. Where another one was first, the cut is gathered
/// and written down again without those entries, which count as repeats; none of its inserts was sent by then.
async fn claim(
    core: &Arc<Core>,
    cut: &mut Cut,
    gathered: Gathered,
    read_log: &ReadLog,
) -> Result<Gathered, StoreError> {
    if !core.config.shares_store {
        return Ok(gathered);
    }
    let lost = claims::claim(core, &gathered.claims).await?;
    if lost == cut.lost {
        return Ok(gathered);
    }
    let records = cut.records;
    cut.lost = lost;
    let gathered = gather_again(core, cut, read_log).await;
    cut.blocks = counted_blocks(&gathered.rows);
    cut.records = gathered.kept.values().sum();
    *cut = renumber(core, cut.clone(), None, Vec::new()).await;
    core.figures().fates.deduplicated += records.saturating_sub(cut.records);
    Ok(gathered)
}

/// Strikes a stored cut out of the book. What is pending is told before, so that a flush the book answers finds nothing
/// pending: what the cut kept, or what was counted for it when it was found open at the start.
pub(super) async fn finish(core: &Arc<Core>, cut: &Cut, kept: Option<&ByProject>) {
    // What is set aside has a fate of its own.
    let is_stored = |block: &&CutBlock| Table::parse(&block.table).is_some_and(|table| table != Table::SetAside);
    let stored: u64 = cut.blocks.iter().filter(is_stored).map(|block| block.records).sum();
    {
        let mut figures = core.figures();
        figures.fates.stored += stored;
        match kept {
            Some(kept) => figures.pending.stored(kept),
            None => figures.pending.stored_cut(cut.first),
        }
    }
    let number = cut.number;
    core.book(move |book| book.done(number)).await;
}

/// Inserts block `index` of a cut, under new numbers where the outcome was unknown, until it is stored or refused often
/// enough.
async fn insert_block(core: &Arc<Core>, cut: &mut Cut, index: usize, rows: &Arc<Rows>) -> Result<(), StoreError> {
    let mut backoff = Backoff::new();
    loop {
        let block = &cut.blocks[index];
        let Some(key) = key_of(block) else { return Ok(()) };
        let query_id = query_id(core, block.insert);
        match send_block(core, rows, key, batch(core, block.insert), key.table.name(), &query_id).await {
            Ok(size) => {
                core.store_worked();
                let mut figures = core.figures();
                figures.inserts.ok += 1;
                figures.inserts.rows += block.rows;
                figures.inserts.bytes += size;
                return Ok(());
            }
            Err(error) => {
                core.figures().inserts.failed += 1;
                let is_refused = backoff.is_refused(&error);
                backoff.wait(core, &error).await;
                let count = settle(core, block).await?;
                if count == block.rows {
                    core.figures().inserts.proven += 1;
                    return Ok(());
                }
                if is_refused {
                    return Err(error);
                }
                replace_block(core, cut, index, count).await?;
            }
        }
    }
}

/// Stops an insert of unknown outcome wherever it still runs and counts what it stored.
async fn settle(core: &Core, block: &CutBlock) -> Result<u64, StoreError> {
    until_done(core, || async {
        core.store.kill_query_and_wait(&query_id(core, block.insert)).await?;
        core.store.count_batch(inserted(core, block)).await
    })
    .await
}

/// Gives a block that is not stored whole a new number; what is there of the old one is removed first.
async fn replace_block(core: &Arc<Core>, cut: &mut Cut, index: usize, stored: u64) -> Result<(), StoreError> {
    let old = cut.blocks[index].clone();
    if stored > 0 {
        tracing::warn!(
            table = old.table,
            stored,
            expected = old.rows,
            "an insert is stored in part: removed and sent again"
        );
        until_done(core, || core.store.remove_batch(inserted(core, &old))).await?;
    }
    *cut = renumber(core, cut.clone(), Some(index), vec![old]).await;
    core.figures().inserts.reinserted += 1;
    Ok(())
}

/// Writes a cut down again with new numbers for one block or all, watching the inserts replaced.
async fn renumber(core: &Arc<Core>, cut: Cut, index: Option<usize>, replaced: Vec<CutBlock>) -> Cut {
    let since_ms = clock::now_ms();
    core.book(move |book| {
        let mut cut = cut.clone();
        match index {
            Some(index) => book.number_blocks(&mut cut.blocks[index..=index]),
            None => book.number_blocks(&mut cut.blocks),
        }
        let ghosts = replaced.iter().cloned().map(|block| Ghost { block, since_ms }).collect();
        book.replace(cut.clone(), ghosts)?;
        Ok(cut)
    })
    .await
}

fn key_of(block: &CutBlock) -> Option<BlockKey> {
    Some(BlockKey {
        table: Table::parse(&block.table)?,
        partition: Partition { retention_class: block.class, week: block.week },
        rows: block.rows,
        records: block.records,
    })
}

/// Inserts a block into `table` while it is being encoded on a thread that may compute for long; answers its bytes.
pub(super) async fn send_block(
    core: &Core,
    rows: &Arc<Rows>,
    key: BlockKey,
    batch: u64,
    table: &str,
    query_id: &str,
) -> Result<u64, StoreError> {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    let rows = Arc::clone(rows);
    let encoding = tokio::task::spawn_blocking(move || {
        // Nobody receives any more after the insert failed.
        rows.encode_in_pieces(&key, batch, &mut |piece| sender.blocking_send(Some(Bytes::from(piece))).is_ok());
        drop(sender.blocking_send(None));
    });
    let outcome = core.store.insert_native_pieces(table, query_id, query_id, pieces).await;
    if let Err(error) = encoding.await {
        tracing::error!(%error, "a block could not be encoded");
    }
    outcome
}

/// Writes the rows of tables where writing twice changes nothing.
async fn write_uncounted(core: &Arc<Core>, rows: &Arc<Rows>) -> Result<(), StoreError> {
    for key in rows.blocks().into_iter().filter(|block| !block.table.is_counted()) {
        until_done(core, || async move {
            send_block(core, rows, key, 0, key.table.name(), &uncounted_id(core)).await.map(drop)
        })
        .await?;
    }
    rows.note_stored();
    Ok(())
}

/// Id of an insert that nobody counts.
pub(super) fn uncounted_id(core: &Core) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("gemba-{:06x}-u{number}-{}-", core.log_id, clock::now_ms())
}

/// Looks for inserts that were replaced and came through all the same, and removes what they brought.
pub(super) async fn watch_ghosts(core: Arc<Core>) {
    loop {
        for ghost in core.peek(|book| book.ghosts().to_vec()) {
            let block = inserted(&core, &ghost.block);
            let count = match core.store.count_batch(block).await {
                Ok(count) => count,
                Err(error) => {
                    tracing::debug!(error = chain(&error), "replaced inserts cannot be looked for just now");
                    break;
                }
            };
            if count > 0 {
                tracing::warn!(table = ghost.block.table, rows = count, "a replaced insert came through late: removed");
                if let Err(error) = core.store.remove_batch(block).await {
                    tracing::warn!(error = chain(&error), "it could not be removed yet");
                }
            } else if clock::now_ms() - ghost.since_ms > GHOST_MS {
                let insert = ghost.block.insert;
                core.book(move |book| book.lay(insert)).await;
            }
        }
        tokio::time::sleep(GHOST_PAUSE).await;
    }
}
