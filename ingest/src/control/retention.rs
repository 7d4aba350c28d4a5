//! Removes what is older than its project keeps it.
//!
//! In: the classes of retention and the projects in them. Out: rows removed, by project and table, written into the book of
//! removals. A class loses whole partitions, that is weeks of receipt. Rows that a project received under another class,
//! before its retention was changed, are removed from those partitions once they are too old for it; what was received
//! under a shorter class goes with that class. Ids of people of whom nothing else is left go with their rows.

use super::erase::columns_of_tables;
use super::forget::{IDS_AT_A_TIME, listed};
use super::{Control, Project};
use crate::identity::ProjectId;
use crate::store::removals::{Pass, Why, delete_rows};
use crate::store::{Client, StoreError};
use std::collections::BTreeMap;

const DAY_MS: i64 = 86_400_000;

/// Rows removed, by table.
pub type Removed = BTreeMap<String, u64>;

/// The beginning of the week in which the oldest rows lie that are still kept, milliseconds since the epoch, UTC.
pub fn kept_from_ms(now_ms: i64, days: u32) -> i64 {
    let day = now_ms.div_euclid(DAY_MS) - i64::from(days);
    // 1970-01-01 was a Thursday.
    (day - (day + 3).rem_euclid(7)) * DAY_MS
}

/// Removes what is too old now. May run again and finishes what a broken run began.
///
/// # Errors
/// Those of ClickHouse; some partitions may then be gone and others not.
pub async fn expire(store: &Client, control: &Control, now_ms: i64) -> Result<Removed, StoreError> {
    let pass = Pass::begin(Why::Expired);
    let mut removed = Removed::new();
    for table in tables(store).await? {
        for (class, days) in control.retention_classes() {
            for partition in partitions(store, &table, class, kept_from_ms(now_ms, days)).await? {
                drop_partition(store, pass, &table, &partition, &mut removed).await?;
            }
        }
        for project in control.projects() {
            if let Some(days) = control.retention_days(project.retention_class) {
                remove_of(store, pass, &table, &project, kept_from_ms(now_ms, days), &mut removed).await?;
            }
        }
    }
    Ok(removed)
}

/// Removes ids of people of whom no row is left, in projects that do not keep everything. Nothing may be inserted
/// meanwhile: an id is written before the rows that name it.
///
/// # Errors
/// Those of ClickHouse.
pub async fn remove_unused_ids(store: &Client, control: &Control) -> Result<u64, StoreError> {
    let mut removed = 0;
    for project in control.projects() {
        if control.retention_days(project.retention_class).is_some() {
            removed += remove_ids(store, &project).await?;
        }
    }
    Ok(removed)
}

/// Tables whose partitions are made of a class and a week of receipt.
async fn tables(store: &Client) -> Result<Vec<String>, StoreError> {
    let all = columns_of_tables(store).await?;
    let has = |columns: &std::collections::BTreeSet<String>| {
        ["project", "retention_class", "received", "record"].iter().all(|column| columns.contains(*column))
    };
    Ok(all.into_iter().filter(|(_, columns)| has(columns)).map(|(table, _)| table).collect())
}

/// Partitions of a class that hold nothing received at or after `kept_ms`, which is a Monday.
async fn partitions(store: &Client, table: &str, class: u8, kept_ms: i64) -> Result<Vec<String>, StoreError> {
    let sql = format!(
        "SELECT DISTINCT _partition_id FROM `{table}` WHERE retention_class = {class} \
         AND toMonday(received) < toDate(fromUnixTimestamp64Milli({kept_ms})) ORDER BY _partition_id"
    );
    Ok(store.raw().query_raw(&sql).fetch_all::<String>().await?)
}

async fn drop_partition(
    store: &Client,
    pass: Pass,
    table: &str,
    partition: &str,
    removed: &mut Removed,
) -> Result<(), StoreError> {
    let condition = format!("_partition_id = '{partition}'");
    let rows = store.number(&format!("SELECT count() FROM `{table}` WHERE {condition}")).await?;
    pass.intend(store, table, partition, &condition).await?;
    store.execute(&format!("ALTER TABLE `{table}` DROP PARTITION ID '{partition}'")).await?;
    pass.done(store, table, partition).await?;
    *removed.entry(table.to_owned()).or_default() += rows;
    Ok(())
}

/// Rows of a project that lie in another class than its own.
async fn remove_of(
    store: &Client,
    pass: Pass,
    table: &str,
    project: &Project,
    kept_ms: i64,
    removed: &mut Removed,
) -> Result<(), StoreError> {
    let Project { id, retention_class, .. } = project;
    let condition = format!(
        "project = {id} AND retention_class != {retention_class} AND received < fromUnixTimestamp64Milli({kept_ms})"
    );
    let rows = store.number(&format!("SELECT count() FROM `{table}` WHERE {condition}")).await?;
    if rows > 0 {
        // Each project is a removal of its own: the book is closed by table and pass.
        let pass = pass.another();
        pass.intend(store, table, "", &condition).await?;
        delete_rows(store, table, &format!("{condition} AND {}", pass.marker())).await?;
        pass.done(store, table, "").await?;
        *removed.entry(table.to_owned()).or_default() += rows;
    }
    Ok(())
}

/// Ids that no row names any more.
async fn remove_ids(store: &Client, project: &Project) -> Result<u64, StoreError> {
    let id = project.id;
    let mut named = Vec::new();
    for (table, columns) in columns_of_tables(store).await? {
        store.catch_up(&table).await?;
        if table == "units" || !columns.contains("project") {
            continue;
        }
        for column in ["unit", "session", "anonymous", "person"] {
            if columns.contains(column) {
                named.push(format!("SELECT {column} FROM `{table}` WHERE project = {id}"));
            }
        }
    }
    let condition = format!("project = {id} AND unit NOT IN ({})", named.join(" UNION DISTINCT "));
    if store.config().cluster.is_some() {
        return remove_found(store, id, &condition).await;
    }
    let rows = store.number(&format!("SELECT count() FROM units WHERE {condition}")).await?;
    if rows > 0 {
        delete_rows(store, "units", &condition).await?;
    }
    Ok(rows)
}

/// The same on a cluster, whose servers would each ask for themselves which ids are named, and at a time of their own: ClickHouse refuses
/// such a statement, so it is told the ids.
async fn remove_found(store: &Client, project: ProjectId, condition: &str) -> Result<u64, StoreError> {
    let unused = store.rows::<u64>(&format!("SELECT DISTINCT unit FROM units WHERE {condition}")).await?;
    for some in unused.chunks(IDS_AT_A_TIME) {
        delete_rows(store, "units", &format!("project = {project} AND unit IN ({})", listed(some))).await?;
    }
    Ok(unused.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_weeks_go_once_all_their_days_are_too_old() {
        // 2026-01-21 is a Wednesday; 2026-01-19 and 2026-01-12 are Mondays.
        let (wednesday, monday, before) = (1_768_953_600_000 + 5, 1_768_780_800_000, 1_768_176_000_000);
        assert_eq!(kept_from_ms(wednesday, 0), monday);
        assert_eq!(kept_from_ms(wednesday, 2), monday);
        assert_eq!(kept_from_ms(wednesday, 3), before);
    }
}
