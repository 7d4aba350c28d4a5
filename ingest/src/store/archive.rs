//! Backup and restore of the whole database through ClickHouse's own BACKUP and RESTORE, verified row by row.
//!
//! In: a name under ClickHouse's backup folder. Out: the rows of every table. The number of rows of each table at the time of
//! the backup, and a checksum of what they hold, are saved inside it, in the table `backup_rows`, so a restore can be checked
//! without the database it came from. Checking reads every value once, at the backup and at the restore.

use super::{Client, StoreError, leases};
use std::collections::BTreeMap;

/// Table that holds the counts of the latest backup.
const COUNTS: &str = "backup_rows";

/// Rows of each table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// By table, by name.
    pub rows: BTreeMap<String, u64>,
}

/// Why a backup was not made or brought back.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A name that would lead out of the backup folder.
    #[error("{0:?} is not a name of a backup")]
    Name(String),
    /// Servers of a cluster keep backups apart, and tables that replicate are not brought back by one of them.
    #[error("backups of a cluster are not made or restored by gemba")]
    Cluster,
    /// ClickHouse did not do it.
    #[error("ClickHouse did not do it")]
    Store(#[from] StoreError),
    /// Rows came or went between the first count and the last.
    #[error("table {table} had {before} rows when the backup began and {after} when it was done")]
    Changed {
        /// The table.
        table: String,
        /// Rows when it began.
        before: u64,
        /// Rows when it was done.
        after: u64,
    },
    /// The database to restore into is in use.
    #[error("the database holds data already: {rows} rows in table {table}")]
    NotEmpty {
        /// A table with rows.
        table: String,
        /// How many.
        rows: u64,
    },
    /// After the restore a table's rows do not hold what was saved.
    #[error("table {table} has all {rows} rows, but not what they held when the backup was made")]
    Altered {
        /// The table.
        table: String,
        /// Its rows.
        rows: u64,
    },
    /// What was restored cannot be read.
    #[error("table {table} cannot be read after the restore")]
    Unreadable {
        /// The table.
        table: String,
        /// What ClickHouse said.
        source: StoreError,
    },
    /// After the restore a table has not the rows that were saved.
    #[error("table {table} has {restored} rows, the backup was made of {saved}")]
    Incomplete {
        /// The table.
        table: String,
        /// Rows when the backup was made.
        saved: u64,
        /// Rows now.
        restored: u64,
    },
}

impl ArchiveError {
    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Name(_) => "use letters, digits, dots, - and _",
            Self::Cluster => {
                "have ClickHouse do it: BACKUP DATABASE .. ON CLUSTER .. and RESTORE DATABASE .. ON CLUSTER .."
            }
            Self::Store(_) => {
                "ClickHouse's message says why; backups of the embedded engine lie in `engine/backups` of the data folder"
            }
            Self::Changed { .. } => "a project was made or deleted meanwhile; make another backup under another name",
            Self::NotEmpty { .. } => "restore into a new data folder or an empty database",
            Self::Incomplete { .. } | Self::Altered { .. } | Self::Unreadable { .. } => {
                "the backup is damaged or was not made whole: remove what was restored and take another backup"
            }
        }
    }
}

/// Saves all tables of the database under `name`.
///
/// Nothing may be inserted meanwhile: the caller sees to it, and [`ArchiveError::Changed`] tells what escaped it.
pub async fn backup(store: &Client, name: &str) -> Result<Saved, ArchiveError> {
    check(store, name)?;
    let rows = count_rows(store).await?;
    let mut checksums = BTreeMap::new();
    for table in tables(store).await? {
        checksums.insert(table.name.clone(), checksum(store, &table).await?);
    }
    store
        .execute(&format!(
            "CREATE TABLE IF NOT EXISTS {COUNTS} (name String, rows UInt64, checksum UInt64) \
             ENGINE = MergeTree ORDER BY name"
        ))
        .await?;
    // One that an earlier version left.
    store.execute(&format!("ALTER TABLE {COUNTS} ADD COLUMN IF NOT EXISTS checksum UInt64")).await?;
    store.execute(&format!("TRUNCATE TABLE {COUNTS}")).await?;
    let values: Vec<String> = rows
        .iter()
        .map(|(table, rows)| format!("('{table}', {rows}, {})", checksums.get(table).copied().unwrap_or(0)))
        .collect();
    store.execute(&format!("INSERT INTO {COUNTS} SETTINGS async_insert = 0 VALUES {}", values.join(", "))).await?;
    let database = &store.config().database;
    // Whose turn it is is nothing to bring back, and changes while the backup is made.
    let leases = leases::TABLE;
    let running = Running::begin(store);
    let sql = format!("BACKUP DATABASE `{database}` EXCEPT TABLES `{database}`.`{leases}` TO File('{name}')");
    unbounded(store, &sql, &running.query_id).await?;
    running.end();
    let counted = count_rows(store).await?;
    if let Some((table, before)) = rows.iter().find(|(table, before)| counted.get(*table) != Some(*before)) {
        let after = counted.get(table).copied().unwrap_or(0);
        return Err(ArchiveError::Changed { table: table.clone(), before: *before, after });
    }
    Ok(Saved { rows })
}

/// Brings the backup back and compares every table with the counts saved in it.
pub async fn restore(store: &Client, name: &str) -> Result<Saved, ArchiveError> {
    check(store, name)?;
    if let Some((table, rows)) = count_rows(store).await?.into_iter().find(|(_, rows)| *rows > 0) {
        return Err(ArchiveError::NotEmpty { table, rows });
    }
    let database = &store.config().database;
    unbounded(
        store,
        &format!("RESTORE DATABASE `{database}` FROM File('{name}') SETTINGS allow_non_empty_tables = 1, create_database = 'if-not-exists'"),
        &query_id(),
    )
    .await?;
    forget_mutations(store).await?;
    let saved = store.raw().query_raw(&format!("SELECT name, rows FROM {COUNTS}")).fetch_all::<(String, u64)>().await;
    let saved: BTreeMap<String, u64> = saved.map_err(StoreError::from)?.into_iter().collect();
    let rows = count_rows(store).await?;
    // Backups of earlier versions have none.
    let has_checksums = format!(
        "SELECT count() FROM system.columns WHERE database = currentDatabase() AND table = '{COUNTS}' AND name = 'checksum'"
    );
    let checksums: BTreeMap<String, u64> = if store.number(&has_checksums).await? > 0 {
        let sql = format!("SELECT name, checksum FROM {COUNTS}");
        let pairs = store.raw().query_raw(&sql).fetch_all::<(String, u64)>().await.map_err(StoreError::from)?;
        pairs.into_iter().collect()
    } else {
        tracing::warn!("the backup holds no checksums, because an earlier version made it: only rows are counted");
        BTreeMap::new()
    };
    for (table, saved) in &saved {
        let restored = rows.get(table).copied().unwrap_or(0);
        if restored != *saved {
            return Err(ArchiveError::Incomplete { table: table.clone(), saved: *saved, restored });
        }
    }
    for table in tables(store).await? {
        let Some(expected) = checksums.get(&table.name) else { continue };
        let name = table.name.clone();
        match checksum(store, &table).await {
            Ok(found) if found == *expected => {}
            Ok(_) => {
                let rows = rows.get(&name).copied().unwrap_or(0);
                return Err(ArchiveError::Altered { table: name, rows });
            }
            Err(source @ StoreError::Refused { .. }) => return Err(ArchiveError::Unreadable { table: name, source }),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Saved { rows: saved })
}

fn check(store: &Client, name: &str) -> Result<(), ArchiveError> {
    if store.config().cluster.is_some() {
        return Err(ArchiveError::Cluster);
    }
    check_name(name)
}

fn check_name(name: &str) -> Result<(), ArchiveError> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if name.is_empty() || name.starts_with('.') || !is_plain {
        return Err(ArchiveError::Name(name.to_owned()));
    }
    Ok(())
}

/// Has restored parts take part in mutations again. A part comes back with the number of the last mutation it went through, while
/// the table's numbers begin anew: whatever is removed or changed before they have caught up would pass it by, without an
/// error (seen with ClickHouse 26.7). Replacing a partition by itself links its files under names without such numbers.
async fn forget_mutations(store: &Client) -> Result<(), StoreError> {
    let sql = "SELECT DISTINCT p.table, p.partition_id FROM system.parts AS p WHERE p.database = currentDatabase() \
               AND p.active AND p.data_version > p.max_block_number AND p.engine NOT LIKE 'Replicated%'";
    for (table, partition) in store.raw().query_raw(sql).fetch_all::<(String, String)>().await? {
        store.execute(&format!("ALTER TABLE `{table}` REPLACE PARTITION ID '{partition}' FROM `{table}`")).await?;
    }
    Ok(())
}

/// A table that keeps rows.
#[derive(Debug)]
struct Kept {
    name: String,
    /// How it is read: where equal rows are merged into one, as if they were already.
    from: String,
}

/// Every table but those of the counts and of the leases.
async fn tables(store: &Client) -> Result<Vec<Kept>, StoreError> {
    let sql = format!(
        "SELECT name, if(engine LIKE '%Replacing%', ' FINAL', '') FROM system.tables \
         WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND name NOT IN ('{COUNTS}', '{}') ORDER BY name",
        leases::TABLE
    );
    let tables = store.raw().query_raw(&sql).fetch_all::<(String, String)>().await?;
    Ok(tables.into_iter().map(|(name, modifier)| Kept { from: format!("`{name}`{modifier}"), name }).collect())
}

async fn count_rows(store: &Client) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut rows = BTreeMap::new();
    for Kept { name, from } in tables(store).await? {
        rows.insert(name, store.number(&format!("SELECT count() FROM {from}")).await?);
    }
    Ok(rows)
}

/// Sum of the hashes of all rows, modulo 2^64: the same in whatever order and parts they lie.
async fn checksum(store: &Client, table: &Kept) -> Result<u64, StoreError> {
    let sql = format!("SELECT sum(sipHash64(*)) FROM {}", table.from);
    // As long as the data is large.
    Ok(store.raw().query_raw(&sql).fetch_one::<u64>().await?)
}

/// A name that no other statement has.
fn query_id() -> String {
    format!("gemba-archive-{:016x}", leases::chance())
}

/// A backup under way: ClickHouse stops it when this is dropped before its end, because rows may be stored from then on.
struct Running {
    store: Option<Client>,
    query_id: String,
}

impl Running {
    fn begin(store: &Client) -> Self {
        Self { store: Some(store.clone()), query_id: query_id() }
    }

    fn end(mut self) {
        self.store = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(store) = self.store.take() else { return };
        let query_id = std::mem::take(&mut self.query_id);
        tokio::spawn(async move {
            if let Err(error) = store.kill_query_and_wait(&query_id).await {
                tracing::warn!(%error, "a backup that was broken off could not be stopped; do not use what it leaves");
            }
        });
    }
}

/// A statement that may take as long as the data is large.
async fn unbounded(store: &Client, sql: &str, query_id: &str) -> Result<(), StoreError> {
    let statement =
        store.raw().query_raw(sql).with_setting("wait_end_of_query", "1").with_setting("query_id", query_id);
    // A restored table is created with its column types, which are ours to choose.
    Ok(statement.with_setting("allow_suspicious_low_cardinality_types", "1").execute().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_backups_cannot_leave_their_folder_or_the_statement() {
        for good in ["a", "2026-11-23.zip", "x_1"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a'b", "a b", "ä"] {
            assert!(matches!(check_name(bad), Err(ArchiveError::Name(_))), "{bad}");
        }
    }
}
