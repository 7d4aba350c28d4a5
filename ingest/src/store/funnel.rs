//! Asks ClickHouse for a funnel's rows and computes the answer while they stream in.
//!
//! In: a checked [`Funnel`] and a project. Out: a [`FunnelAnswer`]. The statement comes from `gemba_queries`, which also
//! reads the rows; here is only the connection between the two: pieces of the answer go through a short queue to a thread
//! of their own, so that the scan and ClickHouse work at the same time and no thread that serves connections is held up.
//! Memory does not grow with the rows, only with the units that entered the funnel.

use super::select::Limits;
use super::{Client, StoreError};
use bytes::Bytes;
use gemba_queries::funnel::{DroppedUnit, Funnel, FunnelAnswer, FunnelScan, NativeError, NativeReader};
use tokio::sync::mpsc;

/// Pieces that may wait for the scan. Chosen: enough that neither side waits for the other's next breath; a piece is what
/// one read of the connection gave, at most some hundred kilobytes.
const QUEUED_PIECES: usize = 16;

/// Computes a funnel of `project`.
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
    Ok(run(client, funnel, project, limits, scan).await?.finish())
}

/// Computes a funnel and the units that dropped at `step`, the latest `limit` of them, latest first.
///
/// # Errors
/// See [`StoreError`].
pub async fn dropped(
    client: &Client,
    funnel: &Funnel,
    project: u32,
    (step, limit): (usize, usize),
    limits: Limits,
) -> Result<(FunnelAnswer, Vec<DroppedUnit>), StoreError> {
    let scan = FunnelScan::with_dropped(funnel.clone(), step, limit);
    Ok(run(client, funnel, project, limits, scan).await?.finish_with_dropped())
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
        reader.finish()?;
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
