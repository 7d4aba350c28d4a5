//! What a server does beside answering: it looks what other nodes did, finishes deletions that were cut short, and removes what
//! is too old.
//!
//! In: the state that the handlers share. Out: nothing but its effects; what goes wrong is tried again. Ends with the server.

use crate::clock;
use crate::control::{ControlError, Tombstone, erase, forget};
use crate::freshness;
use crate::http::acts::NotBegun;
use crate::http::error::chain;
use crate::http::{App, acts};
use crate::identity::ProjectId;
use crate::store::StoreError;
use crate::store::leases::LeaseError;
use crate::store::migrations::{self, MigrationError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Pause between two tries while ClickHouse is away.
const CONTACT_PAUSE: Duration = Duration::from_secs(1);
/// How long a removal waits for the log to be tidied and for files to leave the disk; the engine goes on with these by itself.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(10);
/// How often projects and keys made on other nodes are looked for: a new key works everywhere within a second. Looking costs
/// one count unless something changed.
const REFRESH_PAUSE: Duration = Duration::from_millis(750);
/// Rounds of that after which what other nodes took is counted into the quotas: a minute.
const USAGE_ROUNDS: u64 = 80;
/// Rounds between two looks at how old the newest rows are: about 6 seconds, well below any threshold of sense.
const FRESHNESS_ROUNDS: u64 = 8;
/// Pause between two looks for what is too old. Chosen: retention counts in days.
const EXPIRY_PAUSE: Duration = Duration::from_hours(1);
/// The same after another node had the turn all the time.
const TURN_PAUSE: Duration = Duration::from_mins(1);

/// Catches up on what a start with ClickHouse away left undone, and then looks for what other nodes did while deletions that
/// were cut short are finished and what is too old is removed. Ends with the server.
pub(crate) async fn keep_up(app: Arc<App>) {
    while let Err(error) = reach(&app).await {
        tracing::debug!(%error, "ClickHouse is away");
        tokio::time::sleep(CONTACT_PAUSE).await;
    }
    // Removing waits for whatever else removes or saves many rows, a backup for one. A key that was revoked on another node
    // must not hold as long as that.
    tokio::join!(look_around(&app), keep_clean(&app));
}

/// Brings tables and control data up to date.
async fn reach(app: &App) -> Result<(), CatchUpError> {
    migrations::up(&app.store).await?;
    Ok(app.control.refresh().await?)
}

/// Looks again and again what other nodes did, and how fresh the data is.
async fn look_around(app: &App) {
    let mut rounds: u64 = 0;
    loop {
        // An embedded engine has no other nodes.
        if app.engine.is_none()
            && let Err(error) = app.control.refresh().await
        {
            tracing::debug!(%error, "cannot look for projects of other nodes");
        }
        if rounds.is_multiple_of(FRESHNESS_ROUNDS)
            && let Err(error) = freshness::look(app).await
        {
            tracing::debug!(%error, "cannot look how old the newest rows are");
        }
        if rounds.is_multiple_of(USAGE_ROUNDS)
            && let Err(error) = acts::learn_usage(app).await
        {
            tracing::debug!(%error, "cannot look what projects have sent");
        }
        rounds += 1;
        tokio::time::sleep(REFRESH_PAUSE).await;
    }
}

/// Finishes what was cut short, and from then on removes what is too old, and what another node was told to remove: this one
/// may have acknowledged some of it meanwhile.
async fn keep_clean(app: &App) {
    let mut settled = Settled::default();
    while let Err(error) = catch_up(app, &mut settled).await {
        tracing::debug!(error = chain(&error), "cannot finish what was cut short");
        tokio::time::sleep(error.pause()).await;
    }
    let (mut next_expiry, mut next_removal) = (Instant::now(), Instant::now());
    loop {
        if Instant::now() >= next_expiry {
            next_expiry = Instant::now() + expire(app).await;
        }
        tokio::time::sleep(REFRESH_PAUSE).await;
        if app.pipeline.shares_store()
            && Instant::now() >= next_removal
            && settled.is_behind(app)
            && let Err(error) = remove_the_buried(app, &mut settled).await
        {
            tracing::debug!(error = chain(&error), "cannot remove what another node was told to remove");
            next_removal = Instant::now() + error.pause();
        }
    }
}

/// Removes what is too old, and answers when to look again.
async fn expire(app: &App) -> Duration {
    match acts::expire(app).await {
        Ok(removed) if removed.is_empty() => {}
        Ok(removed) => tracing::info!(?removed, "removed what was older than its project keeps it"),
        Err(LeaseError::Held(_)) => return TURN_PAUSE,
        Err(error) => tracing::warn!(error = chain(&error), "cannot remove what is too old; tried again in an hour"),
    }
    EXPIRY_PAUSE
}

/// What has to be done once ClickHouse answers.
#[derive(Debug, thiserror::Error)]
enum CatchUpError {
    #[error(transparent)]
    Migration(#[from] MigrationError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Turn(#[from] LeaseError),
    #[error(transparent)]
    NotBegun(#[from] NotBegun),
    #[error("not everything acknowledged is stored yet")]
    Behind,
}

impl CatchUpError {
    /// How long to wait before the next try. Where other nodes do not do what they are asked, somebody else should have the turn.
    fn pause(&self) -> Duration {
        if matches!(self, Self::NotBegun(NotBegun::Nodes(_))) { TURN_PAUSE } else { CONTACT_PAUSE }
    }
}

/// Tombstones of which this node has nothing left in its log.
#[derive(Debug, Default)]
struct Settled {
    projects: BTreeSet<ProjectId>,
    people: BTreeSet<(ProjectId, Vec<u64>, i64)>,
}

impl Settled {
    /// Those that are not among them. A person's whose time this node's clock has not reached yet waits: what this node still
    /// receives before it goes with the rest.
    fn open(&self, app: &App) -> (Vec<ProjectId>, Vec<Tombstone>) {
        let now_ms = clock::now_ms();
        let is_open = |one: &Tombstone| {
            let key = (one.project, one.units.clone(), one.until_ms);
            one.until_ms < now_ms && !self.people.contains(&key)
        };
        let buried = app.control.deleted().into_iter().filter(|project| !self.projects.contains(project));
        (buried.collect(), app.control.forgotten().into_iter().filter(is_open).collect())
    }

    fn is_behind(&self, app: &App) -> bool {
        let (buried, forgotten) = self.open(app);
        !(buried.is_empty() && forgotten.is_empty())
    }
}

async fn catch_up(app: &App, settled: &mut Settled) -> Result<(), CatchUpError> {
    // A turn begins with settling what was broken off.
    drop(acts::turn(app).await?);
    if settled.is_behind(app) { remove_the_buried(app, settled).await } else { Ok(()) }
}

/// Removes what is there of projects and people that bear a tombstone, once everything acknowledged here before is stored.
async fn remove_the_buried(app: &App, settled: &mut Settled) -> Result<(), CatchUpError> {
    let turn = acts::turn(app).await?;
    turn.cover(Box::pin(remove_alone(app, settled))).await?
}

async fn remove_alone(app: &App, settled: &mut Settled) -> Result<(), CatchUpError> {
    let (buried, forgotten) = settled.open(app);
    // What the log still held for a buried project or person is stored by now and goes with the rest, as does what a
    // restored backup brought back.
    if !app.pipeline.flush(CONTACT_PAUSE).await {
        return Err(CatchUpError::Behind);
    }
    for project in buried {
        let erased = erase::erase(&app.store, project, REMOVAL_PATIENCE).await?;
        if !erased.deleted.is_empty() {
            tracing::info!(%project, deleted = ?erased.deleted, "finished deleting a project");
            app.pipeline.tidy(REMOVAL_PATIENCE).await;
        }
        settled.projects.insert(project);
    }
    let mut missed = Ok(());
    for tombstone in forgotten {
        match remove_person(app, &tombstone).await {
            Ok(()) => {
                settled.people.insert((tombstone.project, tombstone.units, tombstone.until_ms));
            }
            // They would keep the others waiting just as long, with the turn.
            Err(error @ CatchUpError::NotBegun(NotBegun::Nodes(_))) => return Err(error),
            Err(error) => missed = Err(error),
        }
    }
    missed
}

async fn remove_person(app: &App, tombstone: &Tombstone) -> Result<(), CatchUpError> {
    // Also where another node removed their rows.
    app.pipeline.forget_units(&tombstone.units);
    // Other nodes are bothered only where something is to go.
    if forget::remaining(&app.store, app.control.id_hasher(), tombstone).await? > 0 {
        let removed = acts::begin_to_forget(app, tombstone).await?.finish(&app.store, REMOVAL_PATIENCE).await?;
        tracing::info!(project = %tombstone.project, deleted = ?removed.deleted, "removed a person who was forgotten");
        app.pipeline.tidy(REMOVAL_PATIENCE).await;
    }
    Ok(())
}
