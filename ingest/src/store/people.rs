//! Asks a question of some people, from the roll-up of who was there where it can tell, otherwise from their events.
//!
//! In: a bound statement and a [`Population`]. Out: its rows. Both ways answer the same; the roll-up is read past ClickHouse's own
//! choice of projections, which leaves parts without it out, so it is looked at before and after whether every part has it. What
//! goes wrong with the roll-up is logged, and events are read.

use super::select::{self, Limits, Selection};
use super::{Client, StoreError, rollups};
use gemba_queries::{BoundQuery, Population, Presence};

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
    let before = rollups::activity(client).await?;
    if !before.is_complete() {
        return Ok(None);
    }
    let mut rolled_up = bound.clone();
    population.apply_with(&mut rolled_up, Presence::RolledUp);
    let found = select::select(client, &rolled_up, limits).await?;
    // A part that lost it meanwhile was left out, also where it has it again.
    Ok((rollups::activity(client).await? == before).then_some(found))
}
