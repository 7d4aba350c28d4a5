//! Cuts that ClickHouse refuses: set apart, so that they hold up no other, searched for the records it is about, and tried
//! again until they are stored.
//!
//! In: a cut and what ClickHouse said to it. Out: the cut stored, without the records that are refused in any insert; those
//! are rows of `set_aside` with the reason `refused_by_store`. Only which records these are is kept (in the file `cuts`);
//! everything else is read from the log again.
//!
//! Invariants:
//! 1. A record is set aside only if an insert of it alone is refused, for its rows and not for the table's sake.
//! 2. Searching stores nothing: it inserts into tables of the engine `Null` that have the columns and constraints of the
//!    real ones.
//! 3. While a cut is set apart its entries stay in the log and count as pending.

use super::again::{self, ReadLog};
use super::core::{Core, chain, shown};
use super::inserts::{self, Backoff};
use super::pending::ByProject;
use crate::log::cuts::{Cut, Refusal};
use crate::log::{LogError, ReadEntry};
use crate::otlp::Choice;
use crate::rows::{BlockKey, Rows};
use crate::store::{Obstacle, StoreError};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Cuts set apart at a time. Chosen: a minute of a server whose table is missing; beyond it a refused cut holds its slot,
/// so that data wait in the log and not in the file `cuts`.
pub(super) const MAX_APART: usize = 64;
/// Records of one cut that are set aside at most. Chosen: where more are refused it is hardly the records' fault, and a
/// person should look before they are moved; finding so many takes about a minute.
pub(crate) const MAX_REFUSED: usize = 1_000;
/// First and longest pause between two rounds over what is set apart.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes kept of what ClickHouse said to a record.
const MAX_PROBLEM_BYTES: usize = 300;

/// A cut and what is known of its trouble.
#[derive(Debug)]
pub(super) struct SetApart {
    cut: Cut,
    /// What it holds of what is pending; nothing for a cut found open at the start, which is counted by itself.
    kept: Option<ByProject>,
    error: StoreError,
    /// Whether its records were looked through already.
    is_searched: bool,
    _room: OwnedSemaphorePermit,
}

/// Gives a refused cut to [`mend`]. Waits while too many are set apart.
pub(super) async fn set_apart(core: &Arc<Core>, cut: Cut, kept: Option<ByProject>, error: StoreError) {
    tracing::error!(cut = cut.number, error = chain(&error), "ClickHouse refuses a cut; it is set apart");
    // The semaphore is never closed.
    let Ok(room) = Arc::clone(&core.room_apart).acquire_owned().await else { return };
    core.figures().apart = Some((MAX_APART - core.room_apart.available_permits(), shown(&error)));
    let apart = SetApart { cut, kept, error, is_searched: false, _room: room };
    // Nobody receives any more while the server stops; the cut stays open in the book, and the next start takes it up.
    drop(core.apart.send(apart));
}

/// Stores what was set apart, one cut at a time, for as long as the pipeline runs. Holds `turn` while it inserts.
pub(super) async fn mend(
    core: Arc<Core>,
    mut inbox: UnboundedReceiver<SetApart>,
    read_log: ReadLog,
    turn: Arc<Semaphore>,
) {
    let mut waiting = VecDeque::new();
    let (mut pause, mut failures) = (FIRST_PAUSE, 0);
    loop {
        if waiting.is_empty() {
            core.figures().apart = None;
            let Some(apart) = inbox.recv().await else { return };
            waiting.push_back(apart);
        }
        while let Ok(apart) = inbox.try_recv() {
            waiting.push_back(apart);
        }
        let Some(mut apart) = waiting.pop_front() else { continue };
        core.figures().apart = Some((waiting.len() + 1, shown(&apart.error)));
        match store(&core, &mut apart, &read_log, &turn).await {
            Ok(()) => {
                inserts::finish(&core, &apart.cut, apart.kept.as_ref()).await;
                tracing::info!(cut = apart.cut.number, "a cut that was set apart is stored");
                (pause, failures) = (FIRST_PAUSE, 0);
            }
            Err(error) => {
                apart.error = error;
                waiting.push_back(apart);
                failures += 1;
                if failures >= waiting.len() {
                    tokio::time::sleep(pause).await;
                    (pause, failures) = ((pause * 2).min(LONGEST_PAUSE), 0);
                }
            }
        }
    }
}

/// Tries to store a cut that was refused.
async fn store(core: &Arc<Core>, apart: &mut SetApart, read_log: &ReadLog, turn: &Semaphore) -> Result<(), StoreError> {
    let SetApart { cut, kept, error, is_searched, .. } = apart;
    if error.obstacle() == Obstacle::Rows && !std::mem::replace(is_searched, true) {
        let refused = find(core, cut, read_log).await?;
        if !refused.is_empty() {
            let records: usize = refused.iter().map(|refusal| refusal.records.len()).sum();
            tracing::error!(cut = cut.number, records, "records that ClickHouse refuses are set aside");
            let _turn = turn.acquire().await;
            return inserts::store_without(core, cut, refused, kept.as_mut(), read_log).await;
        }
        tracing::error!(cut = cut.number, "no record of it is refused alone: somebody must look at the table");
    }
    let _turn = turn.acquire().await;
    inserts::store_missing(core, cut, read_log).await.inspect_err(|_| *is_searched = false)
}

/// An entry of a cut: its position, and the number of its first record when all records of the cut are numbered through.
type Numbered = (u64, u64);

/// The records of a cut that are refused in any insert, with those already known; none where it is not the records' fault.
async fn find(core: &Arc<Core>, cut: &Cut, read_log: &ReadLog) -> Result<Vec<Refusal>, StoreError> {
    let (first, end, lost) = (cut.first, cut.end, cut.lost.clone());
    let (entries, total) = read(read_log, move |read_log| heads(read_log, first, end, &lost)).await;
    let entries = Arc::new(entries);
    let mut probe = Probe { core, tables: BTreeSet::new() };
    let outcome = search(&mut probe, cut, &entries, total, read_log).await;
    probe.clear_away().await;
    outcome
}

/// Halves ranges of records that are refused until single ones are left, in rising order.
async fn search(
    probe: &mut Probe<'_>,
    cut: &Cut,
    entries: &Arc<Vec<Numbered>>,
    total: u64,
    read_log: &ReadLog,
) -> Result<Vec<Refusal>, StoreError> {
    let mut refused = cut.refused.clone();
    let mut found = 0;
    let mut ranges = vec![(0, total)];
    while let Some((from, to)) = ranges.pop() {
        let (core, entries_of, known) = (Arc::clone(probe.core), Arc::clone(entries), cut.refused.clone());
        let rows = read(read_log, move |read_log| gather(&core, &entries_of, &known, (from, to), read_log)).await;
        let Some(problem) = probe.refuses(rows).await? else { continue };
        if to - from > 1 {
            let middle = from + (to - from) / 2;
            ranges.extend([(middle, to), (from, middle)]);
            continue;
        }
        found += 1;
        if found > MAX_REFUSED {
            return Ok(Vec::new());
        }
        let index = entries.partition_point(|(_, number)| *number <= from).saturating_sub(1);
        let Some((position, number)) = entries.get(index) else { continue };
        add(&mut refused, *position, from - number, problem);
    }
    Ok(if found > 0 { refused } else { Vec::new() })
}

fn add(refused: &mut Vec<Refusal>, position: u64, record: u64, problem: String) {
    match refused.binary_search_by_key(&position, |refusal| refusal.position) {
        Ok(index) => {
            let records = &mut refused[index].records;
            if let Err(place) = records.binary_search(&record) {
                records.insert(place, record);
            }
        }
        Err(index) => refused.insert(index, Refusal { position, records: vec![record], problem }),
    }
}

/// Positions of the entries of a cut with records, and how many records there are. Entries at positions in `lost` are
/// another node's.
fn heads(read_log: &ReadLog, first: u64, end: u64, lost: &[u64]) -> Result<(Vec<Numbered>, u64), LogError> {
    let mut reader = read_log(first);
    let (mut entries, mut total) = (Vec::new(), 0);
    while reader.position() < end {
        match reader.read()? {
            None => break,
            Some(ReadEntry::Entry { position, head, .. })
                if !head.is_repeat && lost.binary_search(&position).is_err() =>
            {
                entries.push((position, total));
                total += head.tally.received;
            }
            Some(_) => {}
        }
    }
    Ok((entries, total))
}

/// The rows of the records `from..to`, without those known to be refused.
fn gather(
    core: &Core,
    entries: &[Numbered],
    known: &[Refusal],
    (from, to): (u64, u64),
    read_log: &ReadLog,
) -> Result<Rows, LogError> {
    let mut rows = Rows::new();
    let begin = entries.partition_point(|(_, number)| *number <= from).saturating_sub(1);
    for (position, number) in entries.iter().skip(begin).take_while(|(_, number)| *number < to) {
        let Some(ReadEntry::Entry { head, body, .. }) = read_log(*position).read()? else { continue };
        let refusal = known.iter().find(|refusal| refusal.position == *position);
        let choice = Choice {
            only: (from.saturating_sub(*number), to - number),
            refused: refusal.map_or(&[], |refusal| &refusal.records),
            problem: refusal.map_or("", |refusal| &refusal.problem),
        };
        if let Err(problem) = again::decode_again(core, &head, &body, &mut rows, choice) {
            tracing::error!(position, problem, "an acknowledged entry can no longer be decoded");
        }
    }
    Ok(rows)
}

/// Reads the log on a thread that may wait for the disk, until it can be read.
async fn read<T: Send + 'static>(
    read_log: &ReadLog,
    what: impl Fn(&ReadLog) -> Result<T, LogError> + Send + Sync + 'static,
) -> T {
    let what = Arc::new(what);
    loop {
        let (read_log, what) = (Arc::clone(read_log), Arc::clone(&what));
        match tokio::task::spawn_blocking(move || what(&read_log)).await {
            Ok(Ok(value)) => return value,
            Ok(Err(error)) => tracing::error!(error = chain(&error), "the log cannot be read"),
            Err(error) => tracing::error!(%error, "reading the log was broken off"),
        }
        tokio::time::sleep(LONGEST_PAUSE).await;
    }
}

/// Tries inserts without storing anything.
struct Probe<'a> {
    core: &'a Arc<Core>,
    /// Tables made for it.
    tables: BTreeSet<String>,
}

impl Probe<'_> {
    /// What ClickHouse says to these rows, if it refuses them for their own sake. Waits while it is away.
    ///
    /// # Errors
    /// It refuses for another reason.
    async fn refuses(&mut self, rows: Rows) -> Result<Option<String>, StoreError> {
        let rows = Arc::new(rows);
        for key in rows.blocks() {
            let mut backoff = Backoff::new();
            loop {
                let Err(error) = self.insert(&rows, key).await else { break };
                match error.obstacle() {
                    Obstacle::Rows => {
                        let text = match &error {
                            StoreError::Refused { message, .. } => message.trim(),
                            _ => "",
                        };
                        return Ok(Some(text[..text.floor_char_boundary(MAX_PROBLEM_BYTES)].to_owned()));
                    }
                    Obstacle::Table => return Err(error),
                    Obstacle::Passing | Obstacle::Store => backoff.wait(self.core, &error).await,
                }
            }
        }
        Ok(None)
    }

    async fn insert(&mut self, rows: &Arc<Rows>, key: BlockKey) -> Result<(), StoreError> {
        let store = &self.core.store;
        let table = format!("refused_probe_{:06x}_{}", self.core.log_id, key.table);
        if !self.tables.contains(&table) {
            // `resource` and `instance` are of a type that a table may only be made with on purpose.
            let make = format!(
                "CREATE TABLE {table} AS {} ENGINE = Null SETTINGS allow_suspicious_low_cardinality_types = 1",
                key.table
            );
            // One that a kill left may be made like a table that was changed since.
            store.execute(&format!("DROP TABLE IF EXISTS {table} SYNC")).await?;
            store.execute(&make).await?;
            self.tables.insert(table.clone());
        }
        let id = inserts::uncounted_id(self.core);
        inserts::send_block(self.core, rows, key, 0, &table, &id).await.map(drop)
    }

    /// Drops the tables. One that cannot be dropped just now holds nothing and is made anew by the next search.
    async fn clear_away(self) {
        for table in &self.tables {
            if let Err(error) = self.core.store.execute(&format!("DROP TABLE IF EXISTS {table} SYNC")).await {
                tracing::warn!(error = chain(&error), table, "an empty table stays");
            }
        }
    }
}
