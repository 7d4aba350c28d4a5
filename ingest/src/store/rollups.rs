//! Makes roll-ups anew: clears and rebuilds the projections of the partitions of a time range, then proves them by a
//! recount from the raw rows. Makes up for what parts lack.
//!
//! In: a range of receipt times. Out: one [`Rebuilt`] a projection. While a projection is being rebuilt, questions are
//! answered from the raw rows, so they are slower and never wrong.

use super::{Client, StoreError};

/// A projection that was made anew, and how it compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Table.
    pub table: String,
    /// Name of the projection.
    pub rollup: String,
    /// Partitions in the range.
    pub partitions: usize,
    /// The groups counted from the raw rows, over the whole table.
    pub raw: Digest,
    /// The groups as the projection has them.
    pub from_rollup: Digest,
}

impl Rebuilt {
    /// Whether the projection says what the raw rows say.
    pub fn is_equal(&self) -> bool {
        self.raw == self.from_rollup
    }
}

/// How many groups, and the sum of the hashes of all their columns: equal digests mean equal groups, whatever their
/// order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Groups.
    pub groups: u64,
    /// Sum of their hashes, wrapping.
    pub hashes: u64,
}

/// Rebuilds every aggregating projection in the partitions that hold rows received in [`from_ms`, `to_ms`).
///
/// # Errors
/// Those of ClickHouse; running it again goes on.
pub async fn rebuild(store: &Client, from_ms: i64, to_ms: i64) -> Result<Vec<Rebuilt>, StoreError> {
    let projections = store
        .raw()
        .query_raw(
            "SELECT table, name, query FROM system.projections \
             WHERE database = currentDatabase() AND type = 'Aggregate' ORDER BY table, name",
        )
        .fetch_all::<(String, String, String)>()
        .await?;
    let mut rebuilt = Vec::new();
    for (table, rollup, query) in projections {
        let partitions = partitions(store, &table, from_ms, to_ms).await?;
        for partition in &partitions {
            // Materializing alone leaves what a part already has; cleared first, it is made of the rows.
            for action in ["CLEAR", "MATERIALIZE"] {
                let sql = format!(
                    "ALTER TABLE `{table}` {action} PROJECTION `{rollup}` IN PARTITION ID '{partition}' SETTINGS mutations_sync = 2"
                );
                unbounded(store, &sql).await?;
            }
        }
        let raw = digest(store, &table, &query, "optimize_use_projections = 0").await?;
        let from_rollup = digest(store, &table, &query, "optimize_use_projections = 1").await?;
        rebuilt.push(Rebuilt { table, rollup, partitions: partitions.len(), raw, from_rollup });
    }
    Ok(rebuilt)
}

/// How the projection `activity` of `events` is. Equal before and after a question: nothing of it was made anew meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Parts without it. A part that holds no row misses nothing.
    lacking: u64,
    /// Statements about projections that are at work.
    at_work: u64,
    /// The number of the last of them, done or not.
    last: u64,
    /// Whether the table has it, and ClickHouse a way to read it.
    can_be_read: bool,
}

impl Activity {
    /// Whether it holds everything.
    pub fn is_complete(&self) -> bool {
        self.can_be_read && self.lacking == 0 && self.at_work == 0
    }
}

/// Looks at the projection.
///
/// # Errors
/// Those of ClickHouse.
pub async fn activity(store: &Client) -> Result<Activity, StoreError> {
    let events = "database = currentDatabase() AND table = 'events'";
    let sql = format!(
        "SELECT sum(lacking), sum(at_work), max(last), sum(found) FROM (\
         SELECT count() AS lacking, toUInt64(0) AS at_work, toUInt64(0) AS last, toUInt64(0) AS found FROM system.parts \
         WHERE {events} AND active AND rows > 0 AND NOT has(projections, 'activity') \
         UNION ALL SELECT 0, countIf(NOT is_done), max(toUInt64OrZero(extract(mutation_id, '[0-9]+'))), 0 \
         FROM system.mutations WHERE {events} AND command LIKE '%PROJECTION%' \
         UNION ALL SELECT 0, 0, 0, count() FROM system.projections WHERE {events} AND name = 'activity' \
         UNION ALL SELECT 0, 0, 0, count() FROM system.table_functions WHERE name = 'mergeTreeProjection')"
    );
    let looked: Vec<(u64, u64, u64, u64)> = store.rows(&sql).await?;
    let (lacking, at_work, last, found) = looked.first().copied().unwrap_or_default();
    Ok(Activity { lacking, at_work, last, can_be_read: found == 2 })
}

/// Has ClickHouse make, in the background, what parts of `events` lack of the projection `activity`; whether there was something to
/// make and nothing at work on it. A part lacks it that was inserted while the projection was added, or came from a backup made then.
///
/// # Errors
/// Those of ClickHouse.
pub async fn make_up(store: &Client) -> Result<bool, StoreError> {
    let Activity { lacking, at_work, .. } = activity(store).await?;
    let is_to_be_made = lacking > 0 && at_work == 0;
    if is_to_be_made {
        store.define("ALTER TABLE events MATERIALIZE PROJECTION activity SETTINGS mutations_sync = 0").await?;
    }
    Ok(is_to_be_made)
}

/// Ids of the partitions of a table that hold rows received in the range.
async fn partitions(store: &Client, table: &str, from_ms: i64, to_ms: i64) -> Result<Vec<String>, StoreError> {
    let sql = format!(
        "SELECT DISTINCT _partition_id FROM `{table}` WHERE received >= fromUnixTimestamp64Milli({from_ms}) \
         AND received < fromUnixTimestamp64Milli({to_ms}) ORDER BY _partition_id"
    );
    Ok(store.raw().query_raw(&sql).fetch_all::<String>().await?)
}

/// The digest of a projection's own question, asked of the whole table.
async fn digest(store: &Client, table: &str, query: &str, setting: &str) -> Result<Digest, StoreError> {
    let (select, group_by) = query.split_once(" GROUP BY ").unwrap_or((query, "tuple()"));
    let sql = format!(
        "SELECT count(), sum(cityHash64(*)) FROM ({select} FROM `{table}` GROUP BY {group_by}) SETTINGS {setting}"
    );
    let (groups, hashes) = store.raw().query_raw(&sql).fetch_one::<(u64, u64)>().await?;
    Ok(Digest { groups, hashes })
}

async fn unbounded(store: &Client, sql: &str) -> Result<(), StoreError> {
    Ok(store.raw().query_raw(sql).with_setting("wait_end_of_query", "1").execute().await?)
}
