//! How far an answer can be trusted: what of its range is known to be lost, and what one that was counted stands for.
//!
//! In: a project and a range. Out: [`KnownLoss`] and weights, by statements of their own that read the books and the senders.

use super::App;
use crate::answer::KnownLoss;
use crate::control::Project;
use crate::store::StoreError;
use crate::store::select::{self, Limits};
use gemba_queries::BoundQuery;
use serde_json::Value;

/// What SDKs report as dropped and the server as rejected or set aside in a range. A `rejected` of an SDK is the
/// server's own count seen from the other side, a missing identity or an ignored guard loses no record: neither counts.
///
/// What was set aside in the range was taken in later, so of `retries` only months from there on are read: of a recent range,
/// which is what is asked for, few rows or none. The day is for clocks that were set meanwhile. The setting is what has ClickHouse
/// leave partitions out although rows are merged: those of one cut are all of one time, so none has its like in another partition.
pub const KNOWN_LOSS: &str = "
SELECT reason, sum(toInt64(records)) AS lost, any(all_records) AS received
FROM
(
    SELECT reason, toInt64(records) AS records FROM sdk_reports
    WHERE project = {project:UInt32} AND kind = 'dropped' AND reason NOT IN ('rejected', 'no_context', 'guard_ignored')
        AND time >= {from:DateTime64(3)} AND time < {to:DateTime64(3)}
    UNION ALL
    SELECT reason, toInt64(records) AS records FROM ledger FINAL
    WHERE project = {project:UInt32} AND fate IN ('rejected', 'set_aside')
        AND received >= {from:DateTime64(3)} AND received < {to:DateTime64(3)}
    UNION ALL
    -- Set aside, and taken in since.
    SELECT reason, -toInt64(arraySum(mapValues(mapFilter(
        (at, n) -> at >= {from:DateTime64(3)} AND at < {to:DateTime64(3)}, set_aside_at)))) AS records
    FROM retries FINAL WHERE project = {project:UInt32} AND received >= {from:DateTime64(3)} - INTERVAL 1 DAY
) AS lost_records
CROSS JOIN
(
    SELECT sum(records) AS all_records FROM
    (
        SELECT toInt64(records) AS records FROM ledger FINAL
        WHERE project = {project:UInt32} AND fate = 'received'
            AND received >= {from:DateTime64(3)} AND received < {to:DateTime64(3)}
        UNION ALL
        -- They were received once more when they were taken in.
        SELECT -toInt64(arraySum(mapValues(mapFilter(
            (at, n) -> at >= {from:DateTime64(3)} AND at < {to:DateTime64(3)}, set_aside_at)))) AS records
        FROM retries FINAL WHERE project = {project:UInt32} AND received >= {from:DateTime64(3)} - INTERVAL 1 DAY
    )
) AS received_records
GROUP BY reason HAVING lost > 0
SETTINGS do_not_merge_across_partitions_select_final = 1";

pub(super) async fn known_loss(
    app: &App,
    project: &Project,
    range: Option<(i64, i64)>,
) -> Result<KnownLoss, StoreError> {
    let Some((from_ms, to_ms)) = range else { return Ok(KnownLoss::default()) };
    let time = |ms: i64| format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000));
    let params = [("project", project.id.to_string()), ("from", time(from_ms)), ("to", time(to_ms))];
    let bound = BoundQuery {
        sql: KNOWN_LOSS.to_owned(),
        params: params.map(|(name, value)| (name.to_owned(), value)).into(),
        range_ms: Some((from_ms, to_ms)),
    };
    let mut loss = KnownLoss::default();
    let mut received = 0;
    for row in select::select(&app.store, &bound, Limits::default()).await?.rows {
        if let [Value::String(reason), lost, all] = row.as_slice() {
            let lost = lost.as_u64().unwrap_or(0);
            received = all.as_u64().unwrap_or(0);
            loss.records += lost;
            loss.by_reason.insert(reason.clone(), lost);
        }
    }
    if loss.records > 0 {
        loss.share = loss.records as f64 / (received.max(loss.records)) as f64;
    }
    Ok(loss)
}

/// The single number a statement with these whole-number parameters answers.
pub(super) async fn number(app: &App, sql: &str, params: &[(&str, i64)]) -> Result<u64, StoreError> {
    let params = params.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    let bound = BoundQuery { sql: sql.to_owned(), params, range_ms: None };
    let rows = select::select(&app.store, &bound, Limits::default()).await?.rows;
    Ok(rows.first().and_then(|row| row.first()?.as_u64()).unwrap_or(0))
}

/// What an answer is made from, where it may be a sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources<'a> {
    /// The statement that is asked.
    pub(super) sql: &'a str,
    /// Events of people are counted, whatever the statement.
    pub(super) people: bool,
}

/// The most that one thing counted in the range stands for: a row of a sampled source, or a person where a sender records a part of
/// its people (`gemba.sample_rate`). `None` where each stands for itself.
pub(super) async fn sampling_weight(
    app: &App,
    project: &Project,
    range: Option<(i64, i64)>,
    sources: Sources<'_>,
) -> Result<Option<f64>, StoreError> {
    let Some((from_ms, to_ms)) = range else { return Ok(None) };
    const WITHIN: &str = "project = {project:UInt32} AND time >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') \
                          AND time < fromUnixTimestamp64Milli({to:Int64}, 'UTC')";
    let mut statements = Vec::new();
    if sources.sql.contains("query_samples") {
        statements.push(format!("SELECT max(weight) AS weight FROM query_samples WHERE {WITHIN} AND source = 'span'"));
    }
    if sources.sql.contains("requests") {
        statements.push(format!("SELECT max(weight) AS weight FROM requests WHERE {WITHIN}"));
    }
    if sources.people {
        // The senders first: they are few, and where none of them samples no event is looked at.
        let senders = "SELECT toUInt64(count()) AS senders FROM resources WHERE project = {project:UInt32} \
                       AND toFloat64OrZero(attributes['gemba.sample_rate']) > 0 \
                       AND toFloat64OrZero(attributes['gemba.sample_rate']) < 1";
        if number(app, senders, &[("project", i64::from(project.id.0))]).await? > 0 {
            statements.push(format!(
                "SELECT max(1 / rate) AS weight FROM (SELECT resource AS sender, \
                 toFloat64OrZero(attributes['gemba.sample_rate']) AS rate FROM resources \
                 WHERE project = {{project:UInt32}} AND rate > 0 AND rate < 1 AND resource IN \
                 (SELECT DISTINCT toUInt64(resource) FROM events WHERE {WITHIN} AND unit != 0))"
            ));
        }
    }
    let mut largest: Option<f64> = None;
    for sql in statements {
        let params = [("project", project.id.to_string()), ("from", from_ms.to_string()), ("to", to_ms.to_string())];
        let params = params.map(|(name, value)| (name.to_owned(), value)).into();
        let rows =
            select::select(&app.store, &BoundQuery { sql, params, range_ms: range }, Limits::default()).await?.rows;
        let weight = rows.first().and_then(|row| row.first()?.as_f64()).filter(|weight| *weight > 1.0);
        largest = weight.into_iter().chain(largest).reduce(f64::max);
    }
    Ok(largest)
}
