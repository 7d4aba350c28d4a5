//! Asks a question of some people, from the roll-up of who was there where it can tell, otherwise from their events.
//!
//! In: a bound statement and a [`Population`]. Out: its rows. Both ways answer the same; the roll-up is read past ClickHouse's own
//! choice of projections, which leaves parts without it out, so it is looked at before and after whether every part has it.

use super::select::{self, Limits, Selection};
use super::{Client, StoreError};
use gemba_queries::{BoundQuery, Population, Presence};

/// 0 where every part of `events` has the projection `activity`, nobody is making it anew, and this ClickHouse can read it.
const WHAT_IS_MISSING: &str = "SELECT sum(missing) FROM (\
    SELECT count() AS missing FROM system.parts \
    WHERE database = currentDatabase() AND table = 'events' AND active AND NOT has(projections, 'activity') \
    UNION ALL SELECT count() FROM system.mutations \
    WHERE database = currentDatabase() AND table = 'events' AND NOT is_done AND command LIKE '%PROJECTION%' \
    UNION ALL SELECT toUInt64(count() = 0) FROM system.projections \
    WHERE database = currentDatabase() AND table = 'events' AND name = 'activity' \
    UNION ALL SELECT toUInt64(count() = 0) FROM system.table_functions WHERE name = 'mergeTreeProjection')";

/// Runs the statement for these people. Waits as [`select::select`] does.
///
/// # Errors
/// Those of [`select::select`].
pub async fn ask(
    client: &Client,
    bound: &BoundQuery,
    population: &Population,
    limits: Limits,
) -> Result<Selection, StoreError> {
    if population.may_be_rolled_up(bound)
        && let Some(found) = from_rollup(client, bound, population, limits).await?
    {
        return Ok(found);
    }
    let mut bound = bound.clone();
    population.apply(&mut bound);
    select::select(client, &bound, limits).await
}

/// The answer of the roll-up, or `None` where it cannot tell.
async fn from_rollup(
    client: &Client,
    bound: &BoundQuery,
    population: &Population,
    limits: Limits,
) -> Result<Option<Selection>, StoreError> {
    // The tables of a cluster are read through `Distributed`, which has no projections of its own.
    if client.config().cluster.is_some() || client.number(WHAT_IS_MISSING).await? != 0 {
        return Ok(None);
    }
    let mut rolled_up = bound.clone();
    population.apply_with(&mut rolled_up, Presence::RolledUp);
    let found = select::select(client, &rolled_up, limits).await?;
    // A part that lost it meanwhile may have been left out.
    Ok((client.number(WHAT_IS_MISSING).await? == 0).then_some(found))
}
