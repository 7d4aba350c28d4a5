//! Removes the data of a project that bears a tombstone, and proves that it is gone.
//!
//! In: the project's number. Out: rows deleted by table, and what is left, in rows and on the disk. Covers every table that has a column
//! `project`, so that a table added by a later migration is not forgotten. Does not touch the log: the pipeline discards
//! what still lies there for a buried project.

use crate::identity::ProjectId;
use crate::store::removals::delete_rows;
use crate::store::{Client, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Pause between two looks.
const PARTS_PAUSE: Duration = Duration::from_millis(200);
/// How long replaced parts are normally kept, in seconds, as the tables are created with.
const OLD_PARTS_LIFETIME: u32 = 480;

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// Rows by table; tables that held none are left out.
    pub deleted: BTreeMap<String, u64>,
    /// Rows of the project that are still there; 0 when all is well.
    pub remaining: u64,
    /// Tables whose replaced parts, which may hold rows of the project, are still on the disk; empty when all is well.
    pub on_disk: Vec<String>,
}

/// Deletes all rows of `project` and waits until the parts that held them are off the disk, for up to `patience`. May run
/// again and finishes what a broken run began: it then looks at all replaced parts, because nobody knows any more which held
/// rows of the project.
///
/// # Errors
/// Those of ClickHouse; some tables may then be done and others not.
pub async fn erase(store: &Client, project: ProjectId, patience: Duration) -> Result<Erased, StoreError> {
    let mut deleted = BTreeMap::new();
    let tables = tables_with_projects(store).await?;
    for table in &tables {
        let rows = rows_of(store, table, project).await?;
        if rows > 0 {
            delete_rows(store, table, &format!("project = {project}")).await?;
            deleted.insert(table.clone(), rows);
        }
    }
    let on_disk = drop_replaced_parts(store, &tables, patience).await?;
    let mut remaining = 0;
    for table in &tables {
        remaining += rows_of(store, table, project).await?;
    }
    Ok(Erased { deleted, remaining, on_disk })
}

async fn tables_with_projects(store: &Client) -> Result<Vec<String>, StoreError> {
    Ok(columns_of_tables(store)
        .await?
        .into_iter()
        .filter(|(_, has)| has.contains("project"))
        .map(|(name, _)| name)
        .collect())
}

/// Every table of ours that keeps rows, with the names of its columns.
pub(super) async fn columns_of_tables(store: &Client) -> Result<BTreeMap<String, BTreeSet<String>>, StoreError> {
    let sql = "SELECT c.table, c.name FROM system.columns AS c INNER JOIN system.tables AS t ON t.database = c.database \
               AND t.name = c.table WHERE c.database = currentDatabase() AND t.engine LIKE '%MergeTree'";
    let mut tables = BTreeMap::<String, BTreeSet<String>>::new();
    for (table, column) in store.raw().query_raw(sql).fetch_all::<(String, String)>().await? {
        tables.entry(table).or_default().insert(column);
    }
    Ok(tables)
}

async fn rows_of(store: &Client, table: &str, project: ProjectId) -> Result<u64, StoreError> {
    store.catch_up(table).await?;
    store.number(&format!("SELECT count() FROM `{table}` WHERE project = {project}")).await
}

/// Waits until the parts of `tables` that are replaced by now are off the disk, for up to `patience` in all; answers the tables
/// that still have some.
pub(super) async fn drop_replaced_parts<'a>(
    store: &Client,
    tables: impl IntoIterator<Item = &'a String>,
    patience: Duration,
) -> Result<Vec<String>, StoreError> {
    let deadline = Instant::now() + patience;
    let mut on_disk = Vec::new();
    for table in tables {
        let replaced = replaced_parts(store, table).await?;
        if !replaced.is_empty() && !drop_parts(store, table, &replaced, deadline).await? {
            tracing::warn!(
                table,
                "replaced parts of removed rows are still on the disk; the engine removes them later"
            );
            on_disk.push(table.clone());
        }
    }
    Ok(on_disk)
}

/// Has tables keep replaced parts for as long as they were created to, where a removal was broken off before it had put that
/// back.
///
/// # Errors
/// Those of ClickHouse; running it again goes on.
pub async fn settle(store: &Client) -> Result<(), StoreError> {
    let sql = "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' \
               AND engine_full LIKE '%old_parts_lifetime = 0%'";
    for table in store.raw().query_raw(sql).fetch_all::<String>().await? {
        restore_lifetime(store, &table).await?;
    }
    Ok(())
}

async fn restore_lifetime(store: &Client, table: &str) -> Result<(), StoreError> {
    store.define(&format!("ALTER TABLE `{table}` MODIFY SETTING old_parts_lifetime = {OLD_PARTS_LIFETIME}")).await
}

/// Replaced parts are normally kept for minutes in case of a power cut; the mutation's own parts are fsynced, so here
/// they may go at once. The table's setting is put back also after an error; where this is broken off, [`settle`] does it. False
/// when `deadline` came first.
async fn drop_parts(
    store: &Client,
    table: &str,
    replaced: &BTreeSet<String>,
    deadline: Instant,
) -> Result<bool, StoreError> {
    store.define(&format!("ALTER TABLE `{table}` MODIFY SETTING old_parts_lifetime = 0")).await?;
    // Left to itself the engine's cleaner can rest for minutes; dropping a partition makes it look at once (seen with
    // 26.7). No partition has this id, so nothing else is dropped.
    let clean = format!("ALTER TABLE `{table}` DROP PARTITION ID 'nothing'");
    let outcome = loop {
        let left = match store.execute(&clean).await {
            Ok(()) => replaced_parts(store, table).await,
            Err(error) => Err(error),
        };
        match left {
            // What merges replace meanwhile held nothing of what was removed before.
            Ok(left) if left.is_disjoint(replaced) => break Ok(true),
            Ok(_) if Instant::now() >= deadline => break Ok(false),
            // A question may still read an old part; there is nothing to be woken by.
            Ok(_) => tokio::time::sleep(PARTS_PAUSE).await,
            Err(error) => break Err(error),
        }
    };
    let restored = restore_lifetime(store, table).await;
    outcome.and_then(|is_gone| restored.map(|()| is_gone))
}

/// Names of the parts of a table that are on the disk of any server and no longer in use.
async fn replaced_parts(store: &Client, table: &str) -> Result<BTreeSet<String>, StoreError> {
    let sql = format!(
        "SELECT DISTINCT name FROM {} WHERE database = currentDatabase() AND table = '{table}' AND NOT active",
        store.of_all_servers("system.parts")
    );
    Ok(store.raw().query_raw(&sql).fetch_all::<String>().await?.into_iter().collect())
}
