//! Asks a question of some people, from the roll-up of who was there where it can tell, otherwise from their events.
//!
//! In: a bound statement and a [`Population`]. Out: its rows. Both ways answer the same; the roll-up is read past ClickHouse's own
//! choice of projections, which leaves parts without it out, so it is looked at before and after whether every part has it. What
//! goes wrong with the roll-up is logged, and events are read.

use super::select::{self, Limits, Selection};
use super::{Client, StoreError};
use gemba_queries::{BoundQuery, Population, Presence};

/// How much of the projection `activity` is missing (parts of `events` without it, statements at work that clear or make it, itself,
/// ClickHouse's way to read it), and the number of the last statement about projections, done or not. A part that holds
/// no row misses nothing.
const STATE: &str = "SELECT sum(missing), max(statement) FROM (\
    SELECT count() AS missing, toUInt64(0) AS statement FROM system.parts \
    WHERE database = currentDatabase() AND table = 'events' AND active AND rows > 0 AND NOT has(projections, 'activity') \
    UNION ALL SELECT countIf(NOT is_done), max(toUInt64OrZero(extract(mutation_id, '[0-9]+'))) FROM system.mutations \
    WHERE database = currentDatabase() AND table = 'events' AND command LIKE '%PROJECTION%' \
    UNION ALL SELECT toUInt64(count() = 0), 0 FROM system.projections \
    WHERE database = currentDatabase() AND table = 'events' AND name = 'activity' \
    UNION ALL SELECT toUInt64(count() = 0), 0 FROM system.table_functions WHERE name = 'mergeTreeProjection')";

/// The state of a roll-up that is complete: equal before and after a question, nothing was made anew meanwhile.
async fn complete(client: &Client) -> Result<Option<u64>, StoreError> {
    let states: Vec<(u64, u64)> = client.rows(STATE).await?;
    Ok(states.first().and_then(|(missing, statement)| (*missing == 0).then_some(*statement)))
}

/// Runs the statement for these people. Waits as [`select::select`] does, twice where the roll-up was made anew meanwhile.
///
/// # Errors
/// Those of [`select::select`].
pub async fn ask(
    client: &Client,
    bound: &BoundQuery,
    population: &Population,
    limits: Limits,
) -> Result<Selection, StoreError> {
    if population.may_be_rolled_up(bound) {
        match from_rollup(client, bound, population, limits).await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error @ StoreError::Refused { .. }) => {
                tracing::warn!(%error, "the roll-up of who was there cannot be read; events are");
            }
            Err(error) => return Err(error),
        }
    }
    let mut bound = bound.clone();
    population.apply(&mut bound);
    select::select(client, &bound, limits).await
}

/// The answer of the roll-up; `None` where it cannot tell, for now or at all.
///
/// # Errors
/// Those of [`select::select`].
pub async fn from_rollup(
    client: &Client,
    bound: &BoundQuery,
    population: &Population,
    limits: Limits,
) -> Result<Option<Selection>, StoreError> {
    // The tables of a cluster are read through `Distributed`, which has no projections of its own.
    if client.config().cluster.is_some() {
        return Ok(None);
    }
    let Some(before) = complete(client).await? else { return Ok(None) };
    let mut rolled_up = bound.clone();
    population.apply_with(&mut rolled_up, Presence::RolledUp);
    let found = select::select(client, &rolled_up, limits).await?;
    // A part that lost it meanwhile was left out.
    Ok((complete(client).await? == Some(before)).then_some(found))
}
