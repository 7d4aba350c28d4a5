//! What a project sent, from the ledger: by day and signal, and since the beginning of a day and a month.

use super::{Client, StoreError};
use crate::identity::ProjectId;
use crate::quota::Used;
use serde::{Deserialize, Serialize};

/// What came in of one signal on one day (UTC) of receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, clickhouse::Row)]
pub struct Day {
    /// The day, `2026-01-31`.
    pub day: String,
    /// `logs`, `traces` or `metrics`.
    pub signal: String,
    /// Records received, whatever became of them.
    pub records: u64,
    /// Of them those that had come before.
    pub deduplicated: u64,
    /// Of them those that became no rows: rejected, set aside or ignored.
    pub not_stored: u64,
    /// Bytes of the bodies, inflated, without repeats.
    pub bytes: u64,
}

/// The days of a project since a time of receipt, the newest first.
///
/// # Errors
/// Those of ClickHouse.
pub async fn days(store: &Client, project: ProjectId, since_ms: i64) -> Result<Vec<Day>, StoreError> {
    let sql = format!(
        "SELECT toString(toDate(l.received)) AS day, toString(l.signal) AS signal, \
         sumIf(l.records, fate = 'received') AS records, sumIf(l.records, fate = 'deduplicated') AS deduplicated, \
         sumIf(l.records, fate IN ('rejected', 'set_aside', 'ignored')) AS not_stored, sum(l.bytes) AS bytes \
         FROM ledger AS l FINAL WHERE project = {project} AND l.received >= fromUnixTimestamp64Milli({since_ms}) \
         GROUP BY day, signal ORDER BY day DESC, signal"
    );
    Ok(store.raw().query_raw(&sql).fetch_all::<Day>().await?)
}

/// New records, repeats and records taken in again left out, of every project since the beginnings of a day and of a month.
///
/// # Errors
/// Those of ClickHouse.
pub async fn used(store: &Client, day_ms: i64, month_ms: i64) -> Result<Vec<(ProjectId, Used)>, StoreError> {
    let new = |condition: &str| {
        format!("sumIf(records, is_received AND {condition}) - sumIf(records, NOT is_received AND {condition})")
    };
    let sql = format!(
        "SELECT project, toUInt64(greatest(0, {})), toUInt64(greatest(0, {})) FROM \
         (SELECT project, fate = 'received' AS is_received, records, received FROM ledger FINAL \
         WHERE fate IN ('received', 'deduplicated') AND received >= fromUnixTimestamp64Milli({month_ms}) \
         UNION ALL SELECT project, 0 AS is_received, records, received FROM retries FINAL \
         WHERE received >= fromUnixTimestamp64Milli({month_ms})) GROUP BY project",
        new(&format!("received >= fromUnixTimestamp64Milli({day_ms})")),
        new("1")
    );
    let rows = store.raw().query_raw(&sql).fetch_all::<(u32, u64, u64)>().await?;
    Ok(rows.into_iter().map(|(project, day, month)| (ProjectId(project), Used { day, month })).collect())
}
