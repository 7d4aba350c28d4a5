//! Asks ClickHouse for a funnel's rows and computes the answer while they stream in.
//!
//! In: a checked [`Funnel`] and a project. Out: a [`FunnelAnswer`]. The statement comes from `gemba_queries`, which also
//! reads the rows; here is only the connection between the two: pieces of the answer go through a short queue to a thread
//! of their own, so that the scan and ClickHouse work at the same time and no thread that serves connections is held up.
//! Memory does not grow with the rows, only with the units that entered the funnel.

use super::select::{self, Limits, SelectedColumn, Selection};
use super::{Client, StoreError};
use bytes::Bytes;
use gemba_queries::BoundQuery;
use gemba_queries::funnel::{
    Done, DroppedUnit, Funnel, FunnelAnswer, FunnelError, FunnelScan, NativeError, NativeReader, saved,
};
use serde_json::Value;
use tokio::sync::mpsc;

/// Pieces that may wait for the scan. Chosen: enough that neither side waits for the other's next breath; a piece is what
/// one read of the connection gave, at most some hundred kilobytes.
const QUEUED_PIECES: usize = 16;

/// Computes a funnel of `project`, with the units that dropped where they are asked for.
///
/// Waits as long as the limits allow. Dropping the future stops the scan; ClickHouse notices with the next piece.
///
/// # Errors
/// See [`StoreError`].
pub async fn answer(
    client: &Client,
    funnel: &Funnel,
    project: u32,
    limits: Limits,
) -> Result<FunnelAnswer, StoreError> {
    let scan = FunnelScan::new(funnel.clone());
    let mut answer = run(client, funnel, project, limits, scan).await?.finish();
    if let Some(dropped) = answer.dropped.as_mut().filter(|dropped| !dropped.is_empty()) {
        tell_what_they_did(client, funnel, project, limits, dropped).await?;
    }
    Ok(answer)
}

/// Fills in who the units are and what they did.
async fn tell_what_they_did(
    client: &Client,
    funnel: &Funnel,
    project: u32,
    limits: Limits,
    dropped: &mut [DroppedUnit],
) -> Result<(), StoreError> {
    let asked: Vec<(u64, i64)> = dropped.iter().map(|unit| (unit.unit, unit.at_ms)).collect();
    let selection = select::select(client, &funnel.plan_dropped(project, &asked), limits).await?;
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let done = |event: &Value, at: &Value| Some(Done { event: text(event)?, at_ms: at.as_i64()? });
    for row in &selection.rows {
        let [unit, at, id, id_kind, next_event, next_ms, last_event, last_ms] = row.as_slice() else { continue };
        // A derived session is a person, who may stand in the list more than once.
        let is_it = |known: &&mut DroppedUnit| (Some(known.unit), Some(known.at_ms)) == (unit.as_u64(), at.as_i64());
        for known in dropped.iter_mut().filter(is_it) {
            known.id = text(id);
            known.id_kind = text(id_kind);
            known.next = done(next_event, next_ms);
            known.last = done(last_event, last_ms);
        }
    }
    Ok(())
}

/// Feeds the scan with all rows of its plan.
async fn run(
    client: &Client,
    funnel: &Funnel,
    project: u32,
    limits: Limits,
    mut scan: FunnelScan,
) -> Result<FunnelScan, StoreError> {
    let plan = funnel.plan(project);
    let mut request = client
        .raw()
        .query_raw(&plan.bound.sql)
        // 2: reads only, but settings of this request may be given.
        .with_setting("readonly", "2")
        .with_setting("max_execution_time", limits.max_seconds.to_string())
        .with_setting("max_memory_usage", limits.max_memory_bytes.to_string());
    for (name, value) in &plan.bound.params {
        request = request.param(name, value);
    }
    let mut pieces = request.fetch_bytes("Native")?;
    let (sender, mut receiver) = mpsc::channel::<Bytes>(QUEUED_PIECES);
    let scanning = tokio::task::spawn_blocking(move || -> Result<FunnelScan, NativeError> {
        let mut reader = NativeReader::new(plan.columns);
        while let Some(piece) = receiver.blocking_recv() {
            reader.push(&piece, &mut scan)?;
        }
        reader.finish(&mut scan)?;
        Ok(scan)
    });
    while let Some(piece) = pieces.next().await? {
        if sender.send(piece).await.is_err() {
            // The scan has stopped; its error says why.
            break;
        }
    }
    drop(sender);
    match scanning.await {
        Ok(Ok(scan)) => Ok(scan),
        Ok(Err(error)) => Err(StoreError::Answer(error.to_string())),
        Err(error) => Err(StoreError::Answer(format!("the scan stopped: {error}"))),
    }
}

/// Why a saved funnel has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// A value the funnel cannot use.
    #[error(transparent)]
    Question(#[from] FunnelError),
    /// ClickHouse.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Answers a saved query whose engine is the funnel, as rows like those of any other.
///
/// `now_ms` is the present, `complete_until_ms` the instant until which data are complete, both since the Unix epoch.
///
/// # Errors
/// [`SavedError`].
pub async fn saved(
    client: &Client,
    bound: &BoundQuery,
    project: u32,
    (now_ms, complete_until_ms): (i64, i64),
    limits: Limits,
) -> Result<Selection, SavedError> {
    let mut declared = Vec::new();
    if let Some(funnel) = saved::declared_funnel(bound) {
        let steps = select::select(client, &saved::declared_steps(project, funnel), limits).await?;
        declared = steps.rows.iter().filter_map(|row| Some(format!("step:{}", row.first()?.as_str()?))).collect();
    }
    let funnel = saved::request(bound, &declared)?.validate(now_ms, complete_until_ms)?;
    let answer = answer(client, &funnel, project, limits).await?;
    let columns = saved::COLUMNS
        .iter()
        .map(|(name, kind)| SelectedColumn { name: (*name).to_owned(), kind: (*kind).to_owned() })
        .collect();
    Ok(Selection { columns, rows: saved::rows(&answer) })
}
