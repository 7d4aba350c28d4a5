//! The book of rows that were removed on purpose: what `forget` and retention took, so that the conservation equation still
//! balances.
//!
//! In: a table, a condition and why. Out: rows of the table `removals`, the number that counts included, exactly once however
//! often it was interrupted. The rows to go are written down as `intended` first; they count once they are `done`. What a
//! kill left `intended` is settled by [`settle`]: ClickHouse finishes a statement it has taken in, and one that it has not is
//! `void`.

use super::{Client, StoreError};
use crate::clock;
use crate::identity::ProjectId;
use crate::rows::Table;
use std::collections::BTreeMap;
use std::time::Duration;

/// Pause between two looks at a statement that ClickHouse is still at. Chosen.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// ClickHouse's code (src/Common/ErrorCodes.cpp) for a mutation that did not come to its end.
const UNFINISHED: u32 = 341;

/// Why rows are removed; the word is the value of `removals.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A person asked for it.
    Forgotten,
    /// They were older than their project keeps them.
    Expired,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Forgotten => "forgotten",
            Self::Expired => "expired",
        }
    }
}

/// One removal: its number stands in every row written about it and in the statements that remove.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    why: Why,
    number: u64,
}

impl Pass {
    /// A new one. Two that begin in the same millisecond on two nodes differ by chance.
    pub fn begin(why: Why) -> Self {
        let mut chance = [0; 2];
        // Without random bytes the time alone tells them apart.
        getrandom::fill(&mut chance).unwrap_or_default();
        Self { why, number: clock::now_ms().cast_unsigned() << 16 | u64::from(u16::from_le_bytes(chance)) }
    }

    /// Another one of the same kind, begun with it.
    pub fn another(self) -> Self {
        Self::begin(self.why)
    }

    /// A condition that is always true and names this pass, so that the statement can be found again.
    pub fn marker(self) -> String {
        format!("{0} = {0}", self.number)
    }

    /// Writes down what is about to be removed from a table with the columns `received` and `record`. What is set aside is rows
    /// and no records: it stands in the books under that fate, which stays.
    ///
    /// # Errors
    /// Those of ClickHouse; nothing may be removed then.
    pub async fn intend(self, store: &Client, table: &str, partition: &str, condition: &str) -> Result<(), StoreError> {
        let Self { why, number } = self;
        let why = why.as_str();
        // What is removed is removed on every server, so it is counted where all of it is.
        store.catch_up(table).await?;
        let records = if table == Table::SetAside.name() { "0" } else { "sum(t.record)" };
        store
            .execute(&format!(
                "INSERT INTO removals (project, reason, pass, table_name, partition, received, records, rows, state) \
                 SELECT t.project, '{why}', {number}, '{table}', '{partition}', toStartOfHour(t.received) AS hour, \
                 {records}, count(), 'intended' FROM `{table}` AS t WHERE {condition} GROUP BY t.project, hour \
                 SETTINGS async_insert = 0, max_insert_threads = 1"
            ))
            .await
    }

    /// Notes that what was intended for a table is removed.
    ///
    /// # Errors
    /// Those of ClickHouse; [`settle`] finds it later.
    pub async fn done(self, store: &Client, table: &str, partition: &str) -> Result<(), StoreError> {
        close(store, self.number, table, partition, "done").await
    }
}

/// Removes rows and returns when they are gone from every part. A mutation and not a lightweight delete, which would leave the
/// rows on the disk. It may rewrite every part that holds them, so there is no limit on its time but that it makes progress:
/// `mutations_sync` reports a failure.
///
/// # Errors
/// Those of ClickHouse; removing again goes on.
pub async fn delete_rows(store: &Client, table: &str, condition: &str) -> Result<(), StoreError> {
    let sql = format!("ALTER TABLE `{table}` DELETE WHERE {condition} SETTINGS mutations_sync = 2");
    Ok(store.raw().query_raw(&sql).with_setting("wait_end_of_query", "1").execute().await?)
}

/// Has ClickHouse remove the rows that a table holds now, and returns when it has taken that in: what is inserted from then on
/// stays, whatever it holds, and what is to go goes also when nobody waits for it.
///
/// # Errors
/// Those of ClickHouse.
pub async fn begin_to_delete(store: &Client, table: &str, pass: Pass, condition: &str) -> Result<(), StoreError> {
    let marker = pass.marker();
    store
        .execute(&format!("ALTER TABLE `{table}` DELETE WHERE {condition} AND {marker} SETTINGS mutations_sync = 0"))
        .await
}

/// Waits until what [`begin_to_delete`] began is gone from every part of every server, for as long as it makes progress.
///
/// # Errors
/// Those of ClickHouse; it goes on by itself then, and [`settle`] waits for it.
pub async fn deleted(store: &Client, table: &str, pass: Pass) -> Result<(), StoreError> {
    let (mutations, replicas) = (store.of_all_servers("system.mutations"), store.replicas().await?);
    let server = if replicas.is_some() { "toUInt64(_shard_num)" } else { "toUInt64(0)" };
    let sql = format!(
        "SELECT {server}, is_done, latest_fail_reason FROM {mutations} WHERE {}",
        statements_of(pass.number, table)
    );
    loop {
        let statements = store.rows::<(u64, u8, String)>(&sql).await?;
        if let Some((.., reason)) = statements.iter().find(|(_, is_done, reason)| *is_done == 0 && !reason.is_empty()) {
            return Err(StoreError::Refused { code: UNFINISHED, message: reason.clone() });
        }
        // A server that has not heard of a statement yet tells nothing of it.
        let mut heard = BTreeMap::<u64, u64>::new();
        for (server, ..) in &statements {
            *heard.entry(*server).or_default() += 1;
        }
        let all = replicas.unwrap_or(1) * heard.values().max().copied().unwrap_or(0);
        let have_all_heard = statements.len() as u64 >= all && (replicas.is_none() || all > 0);
        if have_all_heard && statements.iter().all(|(_, is_done, _)| *is_done != 0) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

async fn close(store: &Client, pass: u64, table: &str, partition: &str, state: &str) -> Result<(), StoreError> {
    let amount = |column: &str| if state == "void" { "0".to_owned() } else { column.to_owned() };
    store
        .execute(&format!(
            "INSERT INTO removals (project, reason, pass, table_name, partition, received, records, rows, state) \
             SELECT project, reason, pass, table_name, partition, received, {}, {}, '{state}' FROM removals FINAL \
             WHERE pass = {pass} AND table_name = '{table}' AND partition = '{partition}' AND state = 'intended' \
             SETTINGS async_insert = 0, max_insert_threads = 1",
            amount("records"),
            amount("rows")
        ))
        .await
}

/// End of the last hour of receipt of which retention removed rows of a project, milliseconds since the epoch.
///
/// # Errors
/// Those of ClickHouse.
pub async fn expired_until_ms(store: &Client, project: ProjectId) -> Result<Option<i64>, StoreError> {
    let sql = format!(
        "SELECT toUInt64(if(count() = 0, 0, toUnixTimestamp(max(received)) + 3600)) FROM removals FINAL \
         WHERE project = {project} AND reason = 'expired' AND state = 'done' AND rows > 0"
    );
    let seconds = store.number(&sql).await?;
    Ok((seconds > 0).then(|| i64::try_from(seconds).unwrap_or(i64::MAX / 1_000) * 1_000))
}

/// Records of a project received before an instant, or in the hour it lies in, and removed at or after it, milliseconds since the epoch: what was known then
/// and is so no longer.
///
/// # Errors
/// Those of ClickHouse.
pub async fn records_since(store: &Client, project: ProjectId, at_ms: i64) -> Result<u64, StoreError> {
    let sql = format!(
        "SELECT toUInt64(sum(records)) FROM removals FINAL WHERE project = {project} AND state = 'done' \
         AND at >= fromUnixTimestamp64Milli({at_ms}) AND received < fromUnixTimestamp64Milli({at_ms})"
    );
    store.number(&sql).await
}

/// Settles what a kill left open.
///
/// # Errors
/// Those of ClickHouse; running it again goes on.
pub async fn settle(store: &Client) -> Result<(), StoreError> {
    let sql = "SELECT DISTINCT pass, toString(table_name), toString(partition) FROM removals FINAL \
               WHERE state = 'intended' ORDER BY ALL";
    store.catch_up("removals").await?;
    for (pass, table, partition) in store.raw().query_raw(sql).fetch_all::<(u64, String, String)>().await? {
        let is_gone = if partition.is_empty() {
            is_mutated(store, pass, &table).await?
        } else {
            store.number(&format!("SELECT count() FROM `{table}` WHERE _partition_id = '{partition}'")).await? == 0
        };
        close(store, pass, &table, &partition, if is_gone { "done" } else { "void" }).await?;
    }
    Ok(())
}

/// Which of the mutations are a pass's of a table.
fn statements_of(pass: u64, table: &str) -> String {
    format!("database = currentDatabase() AND table = '{table}' AND position(command, '{pass} = {pass}') > 0")
}

/// Whether ClickHouse has taken in the statement of a pass; waits until it has finished it.
async fn is_mutated(store: &Client, pass: u64, table: &str) -> Result<bool, StoreError> {
    // One server may not have heard yet of what another has taken in.
    let (ours, mutations) = (statements_of(pass, table), store.of_all_servers("system.mutations"));
    let running = format!("SELECT count() FROM {mutations} WHERE {ours} AND NOT is_done");
    while store.number(&running).await? > 0 {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Ok(store.number(&format!("SELECT count() FROM {mutations} WHERE {ours}")).await? > 0)
}
