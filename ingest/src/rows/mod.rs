//! Rows waiting to be inserted, kept as columns per partition and table, and their encoding as ClickHouse Native blocks.
//!
//! [`otlp::decode`](crate::otlp::decode) appends; the pipeline reads [`Rows::blocks`], writes a cut and inserts what
//! [`Rows::encode`] gives. Nothing here does I/O, reads a clock or knows the protocol.
//!
//! Invariants:
//! 1. Equal requests in equal order give byte-identical blocks of counted tables: replay relies on it. What is written
//!    once per [`Rows`] into them (texts of foreign queries) is therefore decided by state inside it, never by the process.
//!    Rows of tables that are not counted (units, resources) may be left out where the process knows them to be stored.
//! 2. [`Rows::rollback`] restores the state at [`Rows::mark`] exactly.

mod attributes;
mod collection;
mod column;
mod dictionary;
#[cfg(test)]
pub(crate) mod native;
mod order;
mod seen;
mod stored;
mod tables;

pub(crate) use crate::otlp::FingerprintCache;
pub(crate) use attributes::Attributes;
pub(crate) use dictionary::same;
pub(crate) use tables::{
    CatalogRow, EventRow, IdentityLinkRow, PropertyRow, QueryHistogramRow, QuerySampleRow, QueryTextRow, QueryUsageRow,
    RequestRow, ResourceRow, SdkReportRow, SetAsideRow, UnitRow,
};

pub(crate) use seen::{Once, Seen};
pub(crate) use stored::StoredIds;

use std::fmt;
use std::sync::Arc;
use tables::Columns;

macro_rules! tables {
    ($($(#[$meta:meta])* $table:ident $field:ident counted $counted:literal),+ $(,)?) => {
        /// A table that decoding fills.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Table { $($(#[$meta])* $table),+ }

        impl Table {
            /// All tables, in the order of [`Rows::blocks`].
            pub const ALL: &'static [Self] = &[$(Self::$table),+];

            /// Its name in the store.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$table => stringify!($field)),+ }
            }

            /// Whether counting its rows by `batch` proves an insert; in the others writing a row twice changes nothing.
            pub const fn is_counted(self) -> bool {
                match self { $(Self::$table => $counted),+ }
            }

            /// The table of this name.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|table| table.name() == name)
            }
        }

        /// The columns of all tables of one partition.
        #[derive(Debug, Default)]
        pub(crate) struct TableSet { $(pub(crate) $field: tables::$table),+ }

        impl TableSet {
            fn columns(&self, table: Table) -> &dyn Columns {
                match table { $(Table::$table => &self.$field),+ }
            }

            fn columns_mut(&mut self, table: Table) -> &mut dyn Columns {
                match table { $(Table::$table => &mut self.$field),+ }
            }
        }
    };
}

tables! {
    /// Features used, attempts, funnel steps and named events of any origin.
    Events events counted true,
    /// Which queries ran inside a scope, attempt or step, and for whom.
    QueryUsage query_usage counted true,
    /// Histograms of query durations.
    QueryHistograms query_histograms counted true,
    /// Normalised texts behind fingerprints.
    QueryTexts query_texts counted true,
    /// Single queries: slow, failed, sampled or foreign.
    QuerySamples query_samples counted true,
    /// Requests served.
    Requests requests counted true,
    /// Sessions and anonymous ids that turned out to be users.
    IdentityLinks identity_links counted true,
    /// Properties of users and tenants.
    Properties properties counted true,
    /// What builds declare.
    Catalog catalog counted true,
    /// What SDKs report about themselves.
    SdkReports sdk_reports counted true,
    /// Records that could not become rows.
    SetAside set_aside counted true,
    /// Which id a unit stands for.
    Units units counted false,
    /// Attributes of resources.
    Resources resources counted false,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a part of a table belongs to. Tables without a partition key get one block per partition all the same, because
/// a cut is one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// Retention class of the project; 0 is the project's default.
    pub retention_class: u8,
    /// The Monday of the week of receipt, in days since 1970-01-01.
    pub week: u16,
}

impl Partition {
    /// The partition of records received at `received_ms` (Unix epoch, UTC), as ClickHouse's `toMonday` counts.
    pub fn new(retention_class: u8, received_ms: i64) -> Self {
        let day = day_of_ms(received_ms);
        // 1970-01-01 was a Thursday; ClickHouse clamps the Monday before it to day 0.
        Self { retention_class, week: day.saturating_sub((day % 7 + 3) % 7) }
    }
}

/// Days since 1970-01-01 of a time in milliseconds, clamped to what ClickHouse's `Date` holds (1970 to 2149).
pub(crate) fn day_of_ms(ms: i64) -> u16 {
    u16::try_from(ms.div_euclid(86_400_000).max(0)).unwrap_or(u16::MAX)
}

/// One block to insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey {
    /// Where it goes.
    pub table: Table,
    /// Its partition.
    pub partition: Partition,
    /// Rows in it, at least 1.
    pub rows: u64,
    /// Records in it: rows with `record = 1`; equals `rows` in tables without that column.
    pub records: u64,
}

/// What appending needs.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    /// The tables of the partition.
    pub(crate) set: &'a mut TableSet,
    /// What was written once.
    pub(crate) seen: &'a mut Seen,
    /// Fingerprints of foreign queries.
    pub(crate) fingerprints: &'a mut FingerprintCache,
}

/// Size of the pieces a block is sent in. Chosen: large enough that sending one costs nothing beside filling it.
const PIECE_BYTES: usize = 1 << 20;

/// Rows of any number of requests, ready to be cut.
#[derive(Debug, Default)]
pub struct Rows {
    sets: Vec<(Partition, TableSet)>,
    seen: Seen,
    fingerprints: FingerprintCache,
    marked: Option<usize>,
}

impl Rows {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// No rows, to be filled without those of tables that are not counted which `stored` knows.
    pub(crate) fn knowing(stored: Arc<StoredIds>) -> Self {
        Self { seen: Seen::knowing(stored), ..Self::default() }
    }

    /// Notes that the rows of tables that are not counted are stored, so that later rows can leave them out.
    pub(crate) fn note_stored(&self) {
        self.seen.note_stored();
    }

    /// Rows in all tables.
    pub fn rows(&self) -> u64 {
        self.each().map(|(_, _, columns)| columns.rows() as u64).sum()
    }

    /// Memory held by rows, in bytes, approximately: what an encoding of all blocks takes and the dictionaries' tables.
    pub fn bytes(&self) -> usize {
        self.each().map(|(_, _, columns)| columns.bytes()).sum::<usize>() + self.seen.bytes()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.each().all(|(_, _, columns)| columns.rows() == 0)
    }

    /// The blocks there are, by table and then partition.
    pub fn blocks(&self) -> Vec<BlockKey> {
        let mut blocks: Vec<_> = self
            .each()
            .filter(|(_, _, columns)| columns.rows() > 0)
            .map(|(table, partition, columns)| BlockKey {
                table,
                partition,
                rows: columns.rows() as u64,
                records: columns.records(),
            })
            .collect();
        blocks.sort_unstable();
        blocks
    }

    /// Appends the block of `key` to `out` as Native format for `INSERT INTO table FORMAT Native`, every column named and
    /// typed; `batch` fills that column where the table has one. Appends nothing when there is no such block.
    pub fn encode(&self, key: &BlockKey, batch: u64, out: &mut Vec<u8>) {
        if let Some((_, set)) = self.sets.iter().find(|(partition, _)| *partition == key.partition) {
            let columns = set.columns(key.table);
            if columns.rows() > 0 {
                out.reserve(columns.bytes());
                columns.encode(batch, out, &mut |_| {});
            }
        }
    }

    /// The same in pieces of about [`PIECE_BYTES`] given to `send`, until it answers false: a block as a whole is tens of MiB
    /// of fresh memory, a piece is sent while it is still in the processor's cache.
    pub(crate) fn encode_in_pieces(&self, key: &BlockKey, batch: u64, send: &mut dyn FnMut(Vec<u8>) -> bool) {
        let Some((_, set)) = self.sets.iter().find(|(partition, _)| *partition == key.partition) else { return };
        let columns = set.columns(key.table);
        if columns.rows() == 0 {
            return;
        }
        let mut out = Vec::with_capacity(2 * PIECE_BYTES);
        let mut is_wanted = true;
        columns.encode(batch, &mut out, &mut |out| {
            if !is_wanted {
                out.clear();
            } else if out.len() >= PIECE_BYTES {
                is_wanted = send(std::mem::replace(out, Vec::with_capacity(2 * PIECE_BYTES)));
            }
        });
        if is_wanted && !out.is_empty() {
            send(out);
        }
    }

    /// Forgets all rows and what was written once, keeping buffers up to a cap.
    pub fn clear(&mut self) {
        // A partition without rows is an old week: its buffers go.
        self.sets.retain_mut(|(_, set)| {
            let used = Table::ALL.iter().any(|table| set.columns(*table).rows() > 0);
            for table in Table::ALL {
                set.columns_mut(*table).clear();
            }
            used
        });
        self.seen.clear();
        self.marked = None;
    }

    /// A partition, for appending.
    pub(crate) fn open(&mut self, partition: Partition) -> Opened<'_> {
        let position = self.position(partition);
        Opened { set: &mut self.sets[position].1, seen: &mut self.seen, fingerprints: &mut self.fingerprints }
    }

    /// Remembers the present end of one partition, the only one the next request writes to.
    pub(crate) fn mark(&mut self, partition: Partition) {
        let position = self.position(partition);
        let (_, set) = &mut self.sets[position];
        for table in Table::ALL {
            set.columns_mut(*table).mark();
        }
        self.seen.mark();
        self.marked = Some(position);
    }

    /// Forgets everything since the mark.
    pub(crate) fn rollback(&mut self) {
        if let Some((_, set)) = self.marked.take().and_then(|position| self.sets.get_mut(position)) {
            for table in Table::ALL {
                set.columns_mut(*table).rollback();
            }
            self.seen.rollback();
        }
    }

    fn position(&mut self, partition: Partition) -> usize {
        self.sets.iter().position(|(known, _)| *known == partition).unwrap_or_else(|| {
            self.sets.push((partition, TableSet::default()));
            self.sets.len() - 1
        })
    }

    fn each(&self) -> impl Iterator<Item = (Table, Partition, &dyn Columns)> {
        self.sets
            .iter()
            .flat_map(|(partition, set)| Table::ALL.iter().map(|table| (*table, *partition, set.columns(*table))))
    }
}

#[cfg(test)]
mod tests;
