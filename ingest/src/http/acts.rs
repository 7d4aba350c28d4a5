//! What the admin API does, each act written down before it begins and when it has ended.
//!
//! In: an act and who asks for it. Out: the API's answer. An act runs to its end even when the client goes away in the
//! middle, and those that remove or save many rows run one after the other.

use super::App;
use super::books::not_held;
use super::error::ApiError;
use super::health::{FLUSH_TIMEOUT, flushed};
use crate::clock;
use crate::control::{Quota, Tombstone, erase, forget as person, retention};
use crate::identity::IdDomain;
use crate::nodes::{self, NodesError, Turn};
use crate::pipeline::{HoldFor, NotHeld};
use crate::quota;
use crate::store::archive::{self, Saved};
use crate::store::leases::LeaseError;
use crate::store::{StoreError, audit, removals, rollups, usage};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Does an act under the record: `action` on `subject`, with particulars.
pub(super) async fn recorded<F>(
    app: &Arc<App>,
    actor: &str,
    (action, subject, detail): (&'static str, &str, &str),
    act: impl FnOnce(Arc<App>) -> F,
) -> Result<Value, ApiError>
where
    F: Future<Output = Result<Value, ApiError>> + Send + 'static,
{
    let begun = audit::begin(&app.store, actor, action, subject, detail).await?;
    let doing = act(Arc::clone(app));
    let store = app.store.clone();
    let done = tokio::spawn(async move {
        let outcome = doing.await;
        begun.end(&store, outcome.as_ref().map_or_else(|error| error.code, |_| "done")).await;
        outcome
    });
    done.await.map_err(|error| ApiError::internal(&error))?
}

/// Does what removes or saves many rows, while nobody does its like on any node.
pub(super) async fn alone<T>(app: &App, work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    let turn = turn(app).await?;
    turn.cover(work).await?
}

/// The turn for what removes or saves many rows, once that is settled which a kill, or the loss of a turn, broke off before.
///
/// # Errors
/// [`LeaseError`].
pub async fn turn(app: &App) -> Result<Turn<'_>, LeaseError> {
    let turn = nodes::turn(app).await?;
    let settling = async {
        removals::settle(&app.store).await?;
        erase::settle(&app.store).await
    };
    turn.cover(settling).await??;
    Ok(turn)
}

/// Removes a project and proves that nothing of it is left. Asking again finishes what did not come to its end.
pub(super) async fn delete(app: Arc<App>, name: String) -> Result<Value, ApiError> {
    alone(&app, Box::pin(delete_alone(&app, name))).await
}

async fn delete_alone(app: &App, name: String) -> Result<Value, ApiError> {
    let buried = app.control.bury_project(&name).await?;
    let patience = app.limits.erase_timeout;
    // From here on nothing new comes in, and what is on its way is discarded by the pipeline.
    let not_yet = |why: &str| {
        let message = format!("the project's keys are revoked, its data is not deleted yet: {why}");
        let hint = "send DELETE again until it is answered 200; a server that is started anew goes on by itself";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_deleted_yet", message, hint)
    };
    if !app.pipeline.flush(patience).await {
        return Err(not_yet("ClickHouse is away or behind"));
    }
    let asked = nodes::stored(app).await.map_err(|error| not_yet(&error.to_string()))?;
    let (mut deleted, mut remaining, mut on_disk) = (BTreeMap::<String, u64>::new(), 0, BTreeSet::new());
    for project in buried {
        let erased = erase::erase(&app.store, project, patience).await?;
        for (table, rows) in erased.deleted {
            *deleted.entry(table).or_default() += rows;
        }
        remaining += erased.remaining;
        on_disk.extend(erased.on_disk);
    }
    drop(asked);
    tidy(app).await;
    still_on_disk(on_disk, "DELETE")?;
    Ok(json!({"project": name, "deleted": deleted, "remaining": remaining}))
}

/// 503 while files hold what no question finds any more.
fn still_on_disk(tables: impl IntoIterator<Item = String>, again: &str) -> Result<(), ApiError> {
    let tables: Vec<String> = tables.into_iter().collect();
    if tables.is_empty() {
        return Ok(());
    }
    let message = format!(
        "no question finds the data any more, and files that may hold it are still on the disk, of tables {}: a question \
         that is being answered, an export or a backup reads them",
        tables.join(", ")
    );
    let hint = format!("send {again} again until it is answered 200; ClickHouse removes them once nobody reads them");
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_deleted_yet", message, hint))
}

/// Removes what is kept of a person up to now and proves that nothing of it is left.
pub(super) async fn forget(app: Arc<App>, name: String, user: String) -> Result<Value, ApiError> {
    alone(&app, Box::pin(forget_alone(&app, name, user))).await
}

async fn forget_alone(app: &App, name: String, user: String) -> Result<Value, ApiError> {
    let project = app.control.project_named(&name).ok_or_else(|| crate::control::ControlError::NoSuchProject(name))?;
    let now_ms = clock::now_ms();
    // What was acknowledged before is stored by then, whichever node did, links to anonymous ids among it.
    flushed(app).await?;
    let stored = nodes::stored(app).await?;
    // A node whose clock is ahead dated it by that.
    let (until_ms, whole_ms) = (stored.latest_ms(now_ms), stored.earliest_ms(now_ms));
    drop(stored);
    let ids = app.control.id_hasher();
    let unit = ids.hash(project.id, IdDomain::User, user.as_bytes());
    let units = person::units_of(&app.store, project.id, unit).await?;
    let tombstone = Tombstone { project: project.id, units, until_ms };
    app.control.bury_person(&tombstone).await?;
    let removing = begin_to_forget(app, &tombstone).await.map_err(|error| not_begun(app, error))?;
    let removed = removing.finish(&app.store, app.limits.erase_timeout).await?;
    tidy(app).await;
    still_on_disk(removed.on_disk, "forget")?;
    // What a clock that is behind has dated back since then was sent after this began, and may be there.
    let remaining = person::remaining(&app.store, ids, &Tombstone { until_ms: whole_ms, ..tombstone.clone() }).await?;
    let mentions = person::mentions(&app.store, project.id, &user).await?;
    Ok(json!({
        "project": project.name,
        "units": tombstone.units.len(),
        "deleted": removed.deleted,
        "remaining": remaining,
        "mentions": mentions,
    }))
}

/// How long inserts may rest for a removal to begin. Chosen: counting takes seconds, and a removal that is begun again goes on.
const BEGIN_TIMEOUT: Duration = Duration::from_mins(1);

/// Why nothing is removed of a person yet.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    /// Other nodes, or the lease.
    #[error(transparent)]
    Nodes(#[from] NodesError),
    /// Inserts of this node.
    #[error(transparent)]
    NotHeld(#[from] NotHeld),
    /// ClickHouse.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Has ClickHouse remove what is stored of a person. Inserts rest on all nodes while what goes is counted, and no longer.
///
/// # Errors
/// [`NotBegun`]; asking again can help.
pub async fn begin_to_forget(app: &App, tombstone: &Tombstone) -> Result<person::Removing, NotBegun> {
    let texts = person::in_texts(&app.store, app.control.id_hasher(), tombstone).await?;
    let asked = nodes::still(app).await?;
    let _held = app.pipeline.hold_inserts(HoldFor::Upkeep, FLUSH_TIMEOUT).await?;
    let beginning = timeout(BEGIN_TIMEOUT, person::begin(&app.store, tombstone, texts));
    let begun = asked.cover(beginning).await;
    // Before inserts go on, and whatever was begun: whoever comes back is written again.
    app.pipeline.forget_units(&tombstone.units);
    Ok(begun.map_err(NodesError::from)?.unwrap_or(Err(StoreError::Timeout))?)
}

fn not_begun(app: &App, error: NotBegun) -> ApiError {
    match error {
        NotBegun::Nodes(error) => error.into(),
        NotBegun::NotHeld(reason) => not_held(app, reason),
        NotBegun::Store(error) => error.into(),
    }
}

/// Sets how much a project may send.
pub(super) async fn limit(app: Arc<App>, name: String, quota: Quota) -> Result<Value, ApiError> {
    let project = app.control.set_quota(&name, quota).await?;
    learn_usage(&app).await?;
    Ok(json!({"project": project.name, "limits": project.quota}))
}

/// Tells the meters of limited projects what the ledger says.
///
/// # Errors
/// Those of ClickHouse.
pub async fn learn_usage(app: &App) -> Result<(), StoreError> {
    let limited: Vec<_> = app.control.projects().into_iter().filter(|one| !one.quota.is_unlimited()).collect();
    if limited.is_empty() {
        return Ok(());
    }
    let now_ms = clock::now_ms();
    let (today_ms, month_ms) = quota::period_starts(now_ms);
    for (id, used) in usage::used(&app.store, today_ms, month_ms).await? {
        if let Some(project) = limited.iter().find(|project| project.id == id) {
            app.quotas.learn(id, project.quota, used, now_ms);
        }
    }
    Ok(())
}

/// Sets the origins whose pages may use the ingest keys of a project.
pub(super) async fn set_origins(app: Arc<App>, name: String, origins: Vec<String>) -> Result<Value, ApiError> {
    let project = app.control.set_origins(&name, &origins).await?;
    Ok(json!({"project": project.name, "origins": app.control.origins(project.id)}))
}

/// Sets how long a project keeps what it receives, and removes what is too old already.
pub(super) async fn retain(app: Arc<App>, name: String, days: Option<u32>) -> Result<Value, ApiError> {
    let project = app.control.set_retention(&name, days).await?;
    let removed = match expire(&app).await {
        Ok(removed) => Some(removed),
        // It is set; what is too old goes when the other node is done.
        Err(LeaseError::Held(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(json!({"project": project.name, "days": days, "class": project.retention_class, "removed": removed}))
}

/// Removes what is older than its project keeps it.
///
/// # Errors
/// [`LeaseError`]; running it again goes on.
pub async fn expire(app: &App) -> Result<retention::Removed, LeaseError> {
    let turn = turn(app).await?;
    turn.cover(Box::pin(expire_alone(app))).await?
}

async fn expire_alone(app: &App) -> Result<retention::Removed, LeaseError> {
    let mut removed = retention::expire(&app.store, &app.control, clock::now_ms()).await?;
    // Without a pause of the inserts, on all nodes, the ids stay until something is too old next.
    if !removed.is_empty()
        && let Ok(asked) = nodes::still(app).await
        && let Ok(_held) = app.pipeline.hold_inserts(HoldFor::Upkeep, FLUSH_TIMEOUT).await
    {
        let ids = asked.cover(retention::remove_unused_ids(&app.store, &app.control)).await??;
        if ids > 0 {
            removed.insert("units".to_owned(), ids);
        }
    }
    if rollups::make_up(&app.store).await? {
        tracing::info!("parts of events lacked the roll-up of who was there; ClickHouse makes it");
    }
    Ok(removed)
}

/// Everything acknowledged before, by whichever node, is in the backup, nothing is stored while it is made, and requests are
/// acknowledged all the while.
pub(super) async fn backup(app: Arc<App>, name: String) -> Result<Value, ApiError> {
    let turn = turn(&app).await?;
    turn.cover(Box::pin(backup_alone(&app, name))).await.map_err(not_whole)?
}

/// A backup that was broken off: ClickHouse may have begun to write it, and takes a name once.
fn not_whole(error: LeaseError) -> ApiError {
    match error {
        LeaseError::Lost(_) => {
            let hint = "make another one under another name; what lies under this one is not whole";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "store_away", error.to_string(), hint)
        }
        error => error.into(),
    }
}

async fn backup_alone(app: &App, name: String) -> Result<Value, ApiError> {
    flushed(app).await?;
    let asked = nodes::still(app).await?;
    let held = app.pipeline.hold_inserts(HoldFor::Upkeep, FLUSH_TIMEOUT).await;
    let _held = held.map_err(|reason| not_held(app, reason))?;
    let Saved { rows } = asked.cover(archive::backup(&app.store, &name)).await.map_err(not_whole)??;
    Ok(json!({"backup": name, "rows": rows}))
}

async fn tidy(app: &App) {
    if !app.pipeline.tidy(FLUSH_TIMEOUT).await {
        tracing::warn!("the log was not tidied; what it holds of what was removed goes with the next full segment");
    }
}
