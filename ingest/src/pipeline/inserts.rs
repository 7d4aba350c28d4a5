//! Storing one cut: ledger, blocks, and proof after an unknown outcome.
//!
//! In: a cut that is written down, with its rows or without (after a start). Out: nothing before every block is stored;
//! it tries for as long as it takes. Invariants:
//! 1. A number of an insert is sent once. After an outcome that is not known the statement is stopped, the rows under its
//!    number are counted, and only when they are not all there a new number is written down and sent; whatever the old one
//!    still brings later is found by its number and removed ([`watch_ghosts`]).
//! 2. The ledger is written before the first block, so that what is stored never exceeds what was received.

use super::claims;
use super::core::{Core, chain};
use super::gather::{self, Gathered, LedgerKey};
use crate::clock;
use crate::log::ReadEntry;
use crate::log::cuts::{Cut, CutBlock, Ghost};
use crate::otlp::DECODER_VERSION;
use crate::outcome::{Fate, Reason};
use crate::rows::{BlockKey, Partition, Rows, Table};
use crate::store::{InsertedBlock, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// First and longest pause between two tries. Chosen: an engine that was killed is back within two seconds; a server that
/// is away for hours should not be asked more than once in ten seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The same when somebody must act first.
const LONGEST_PAUSE_ATTENTION: Duration = Duration::from_secs(30);
/// How long a replaced insert is watched. Chosen: ten times the longest time ClickHouse is given for an insert.
const GHOST_MS: i64 = 15 * 60 * 1_000;
/// How often they are looked for.
const GHOST_PAUSE: Duration = Duration::from_secs(20);

/// Reads entries again: from a position to before another one.
pub(super) type ReadLog = Arc<dyn Fn(u64) -> crate::log::Reader + Send + Sync>;

/// Pauses that grow from one failure to the next.
struct Backoff {
    pause: Duration,
}

impl Backoff {
    fn new() -> Self {
        Self { pause: FIRST_PAUSE }
    }

    async fn wait(&mut self, core: &Core, error: &StoreError) {
        core.store_failed(error);
        tokio::time::sleep(self.pause).await;
        let longest = if error.is_retryable() { LONGEST_PAUSE } else { LONGEST_PAUSE_ATTENTION };
        self.pause = (self.pause * 2).min(longest);
    }
}

/// Does something until ClickHouse does it.
pub(super) async fn until_done<T, F: Future<Output = Result<T, StoreError>>>(
    core: &Core,
    mut action: impl FnMut() -> F,
) -> T {
    let mut backoff = Backoff::new();
    loop {
        match action().await {
            Ok(value) => {
                core.store_worked();
                return value;
            }
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

/// Stores a cut whose rows are at hand.
pub(super) async fn store(core: &Arc<Core>, cut: Cut, gathered: Gathered, read_log: &ReadLog) {
    // All of it counted as waiting here, what turns out to be another node's as well.
    let kept = gathered.kept.clone();
    let (cut, gathered) = claim(core, cut, gathered, read_log).await;
    let Gathered { rows, ledger, received_ms, .. } = gathered;
    let rows = Arc::new(rows);
    write_ledger(core, cut.number, &ledger, received_ms).await;
    write_uncounted(core, &rows).await;
    let mut cut = cut;
    for index in 0..cut.blocks.len() {
        insert_block(core, &mut cut, index, &rows).await;
    }
    core.figures().pending.stored(&kept);
    finish(core, &cut).await;
    if let Ok(rows) = Arc::try_unwrap(rows) {
        core.take_back(rows);
    }
}

/// Stores a cut found open at start: counts first, and reads the log again only where something is missing.
pub(super) async fn recover(core: &Arc<Core>, cut: Cut, read_log: &ReadLog) {
    let mut counts = Vec::with_capacity(cut.blocks.len());
    for block in &cut.blocks {
        counts.push(settle(core, block).await);
    }
    let is_stored = !cut.blocks.is_empty() && cut.blocks.iter().zip(&counts).all(|(block, count)| block.rows == *count);
    if is_stored {
        core.figures().inserts.proven += cut.blocks.len() as u64;
        core.figures().pending.stored_cut(cut.first);
        return finish(core, &cut).await;
    }
    let gathered = gather_again(core, &cut, read_log).await;
    let lost = cut.lost.clone();
    let (mut cut, gathered) = claim(core, cut, gathered, read_log).await;
    if cut.lost != lost {
        // Written down anew just now, so nothing of it was ever sent.
        counts = vec![0; cut.blocks.len()];
    }
    write_ledger(core, cut.number, &gathered.ledger, gathered.received_ms).await;
    let rows = Arc::new(gathered.rows);
    write_uncounted(core, &rows).await;
    let again = counted_blocks(&rows);
    let shape = |blocks: &[CutBlock]| -> Vec<_> {
        blocks.iter().map(|block| (block.table.clone(), block.class, block.week, block.rows)).collect()
    };
    if cut.decoder == DECODER_VERSION && shape(&again) == shape(&cut.blocks) {
        for (index, count) in counts.into_iter().enumerate() {
            if count == cut.blocks[index].rows {
                core.figures().inserts.proven += 1;
                continue;
            }
            replace_block(core, &mut cut, index, count).await;
            insert_block(core, &mut cut, index, &rows).await;
        }
    } else {
        tracing::warn!(
            cut = cut.number,
            "a cut comes out of the log differently than it was written down: stored anew"
        );
        for block in &cut.blocks {
            until_done(core, || core.store.remove_batch(inserted(core, block))).await;
        }
        let old = std::mem::replace(&mut cut.blocks, again);
        cut.decoder = DECODER_VERSION;
        cut = renumber(core, cut, None, old).await;
        for index in 0..cut.blocks.len() {
            insert_block(core, &mut cut, index, &rows).await;
        }
    }
    core.figures().pending.stored_cut(cut.first);
    finish(core, &cut).await;
}

/// Claims a cut's entries where other nodes store into the same ClickHouse. Where another one was first, the cut is gathered
/// and written down again without those entries, which count as repeats; none of its inserts was sent by then.
async fn claim(core: &Arc<Core>, cut: Cut, gathered: Gathered, read_log: &ReadLog) -> (Cut, Gathered) {
    if !core.config.shares_store {
        return (cut, gathered);
    }
    let lost = claims::claim(core, &gathered.claims).await;
    if lost == cut.lost {
        return (cut, gathered);
    }
    let records = cut.records;
    let mut cut = Cut { lost, ..cut };
    let gathered = gather_again(core, &cut, read_log).await;
    cut.blocks = counted_blocks(&gathered.rows);
    cut.records = gathered.kept.values().sum();
    let cut = renumber(core, cut, None, Vec::new()).await;
    core.figures().fates.deduplicated += records.saturating_sub(cut.records);
    (cut, gathered)
}

/// Strikes a stored cut out of the book. What is pending is told before, so that a flush the book answers finds nothing
/// pending.
async fn finish(core: &Arc<Core>, cut: &Cut) {
    let number = cut.number;
    core.book(move |book| book.done(number)).await;
}

/// Inserts block `index` of a cut, under new numbers where the outcome was unknown, until it is stored.
async fn insert_block(core: &Arc<Core>, cut: &mut Cut, index: usize, rows: &Arc<Rows>) {
    let mut backoff = Backoff::new();
    loop {
        let block = &cut.blocks[index];
        let Some(key) = key_of(block) else { return };
        let bytes = encode(rows, key, batch(core, block.insert)).await;
        let size = bytes.len() as u64;
        let query_id = query_id(core, block.insert);
        match core.store.insert_native(key.table.name(), &query_id, &query_id, bytes).await {
            Ok(()) => {
                core.store_worked();
                let mut figures = core.figures();
                figures.inserts.ok += 1;
                figures.inserts.rows += block.rows;
                figures.inserts.bytes += size;
                return;
            }
            Err(error) => {
                core.figures().inserts.failed += 1;
                backoff.wait(core, &error).await;
            }
        }
        let count = settle(core, block).await;
        if count == block.rows {
            core.figures().inserts.proven += 1;
            return;
        }
        replace_block(core, cut, index, count).await;
    }
}

/// Stops an insert of unknown outcome wherever it still runs and counts what it stored.
async fn settle(core: &Core, block: &CutBlock) -> u64 {
    until_done(core, || async {
        core.store.kill_query_and_wait(&query_id(core, block.insert)).await?;
        core.store.count_batch(inserted(core, block)).await
    })
    .await
}

/// Gives a block that is not stored whole a new number; what is there of the old one is removed first.
async fn replace_block(core: &Arc<Core>, cut: &mut Cut, index: usize, stored: u64) {
    let old = cut.blocks[index].clone();
    if stored > 0 {
        tracing::warn!(
            table = old.table,
            stored,
            expected = old.rows,
            "an insert is stored in part: removed and sent again"
        );
        until_done(core, || core.store.remove_batch(inserted(core, &old))).await;
    }
    *cut = renumber(core, cut.clone(), Some(index), vec![old]).await;
    core.figures().inserts.reinserted += 1;
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

/// A block's bytes, made on a thread that may compute for long.
async fn encode(rows: &Arc<Rows>, key: BlockKey, batch: u64) -> Bytes {
    loop {
        let rows = Arc::clone(rows);
        let encoding = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            rows.encode(&key, batch, &mut bytes);
            Bytes::from(bytes)
        });
        match encoding.await {
            Ok(bytes) => return bytes,
            Err(error) => {
                tracing::error!(%error, "a block could not be encoded");
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
        }
    }
}

/// Writes the rows of tables where writing twice changes nothing.
async fn write_uncounted(core: &Arc<Core>, rows: &Arc<Rows>) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    for key in rows.blocks().into_iter().filter(|block| !block.table.is_counted()) {
        let bytes = encode(rows, key, 0).await;
        until_done(core, || {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let bytes = bytes.clone();
            async move {
                let id = format!("gemba-{:06x}-u{number}-{}-", core.log_id, clock::now_ms());
                core.store.insert_native(key.table.name(), &id, &id, bytes).await
            }
        })
        .await;
    }
    rows.note_stored();
}

/// Writes a cut's rows of the table `ledger`; writing them again changes nothing.
async fn write_ledger(core: &Arc<Core>, cut: u64, ledger: &BTreeMap<LedgerKey, u64>, received_ms: Option<i64>) {
    let Some(received_ms) = received_ms.filter(|_| !ledger.is_empty()) else { return };
    let log = core.log_id;
    let values: Vec<String> = ledger
        .iter()
        .map(|(LedgerKey { project, fate, signal, reason }, records)| {
            // Reasons are words of a closed set; the filter keeps it so whatever a log holds.
            let reason: String = reason.chars().filter(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let received = format!("fromUnixTimestamp64Milli({received_ms})");
            format!("({project},{log},{cut},'{fate}','{signal}','{reason}',{records},{received})")
        })
        .collect();
    let sql = format!(
        "INSERT INTO ledger (project, log, cut, fate, signal, reason, records, received) \
         SETTINGS async_insert = 0, insert_deduplicate = 0 VALUES {}",
        values.join(",")
    );
    until_done(core, || core.store.execute(&sql)).await;
}

/// Reads a cut's entries from the log and decodes them again.
async fn gather_again(core: &Arc<Core>, cut: &Cut, read_log: &ReadLog) -> Gathered {
    let (first, end) = (cut.first, cut.end);
    loop {
        let (core, read_log, lost) = (Arc::clone(core), Arc::clone(read_log), cut.lost.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let mut reader = read_log(first);
            let mut gathered = Gathered::begin(core.spare_rows(), first);
            while gathered.end < end && add_next(&core, &mut reader, &mut gathered, &lost)? {}
            Ok::<_, crate::log::LogError>(gathered)
        });
        match reading.await {
            Ok(Ok(gathered)) => return gathered,
            Ok(Err(error)) => tracing::error!(error = chain(&error), "the log cannot be read"),
            Err(error) => tracing::error!(%error, "reading the log was broken off"),
        }
        tokio::time::sleep(LONGEST_PAUSE).await;
    }
}

/// Adds the next durable entry to what is gathered; false when there is none. Entries at positions in `lost`, which rise,
/// give counts of repeats instead of rows. Blocks for the disk.
pub(super) fn add_next(
    core: &Core,
    reader: &mut crate::log::Reader,
    gathered: &mut Gathered,
    lost: &[u64],
) -> Result<bool, crate::log::LogError> {
    let (position, mut head, raw) = match reader.read()? {
        None => return Ok(false),
        Some(ReadEntry::Damaged { position }) => {
            gathered.skip(position);
            return Ok(true);
        }
        Some(ReadEntry::Entry { position, head, body }) => (position, head, body),
    };
    if lost.binary_search(&position).is_ok() {
        let repeated = gather::kept(&head);
        head.tally.others.push((Fate::Deduplicated, Reason::Repeat.as_str().to_owned(), repeated));
    } else if !head.is_repeat {
        let decoded = gather::inflate(&head, &raw).map_err(|error| error.to_string()).and_then(|body| {
            gather::decode(&head, &body, &core.ids, &mut gathered.rows)
                .map_err(|error| error.map_or_else(|| "the decoder panicked".to_owned(), |error| error.to_string()))
        });
        if let Err(problem) = decoded {
            // It was decoded before it was acknowledged: only a changed decoder can say otherwise.
            tracing::error!(position, problem, "an acknowledged entry can no longer be decoded");
            gathered.skip(position);
            return Ok(true);
        }
    }
    gathered.note(position, &head);
    Ok(true)
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
