//! How old the newest stored row of each project is, and which projects have been silent for too long.
//!
//! In: the ledger, and which cuts are not proven to be stored yet. Out: ages, and a word in the log when a project falls
//! silent or is heard again. Knows nothing of why a project is silent: its application may be switched off, its key wrong,
//! or ClickHouse behind.

use crate::clock;
use crate::control::OWN_PROJECT;
use crate::http::App;
use crate::identity::ProjectId;
use crate::store::{Client, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How far back is looked for projects not heard of yet: an hour, a day, five weeks, for ever. Each is looked at only when a
/// project is not found in the one before, and only after a start.
const WINDOWS_MS: [i64; 4] = [3_600_000, 86_400_000, 35 * 86_400_000, i64::MAX];

/// When the newest stored row of each project was received.
#[derive(Debug, Default)]
pub struct Freshness {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    newest_ms: BTreeMap<ProjectId, i64>,
    /// Everything received before this was looked at, save what was pending then.
    looked_from_ms: Option<i64>,
    silent: BTreeSet<ProjectId>,
}

impl Freshness {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Plain values: a panic elsewhere leaves them as they were.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Age of the newest stored row by project, for those that ever had one.
    pub fn ages(&self) -> BTreeMap<ProjectId, Duration> {
        let now_ms = clock::now_ms();
        let age = |newest_ms: i64| Duration::from_millis(u64::try_from(now_ms - newest_ms).unwrap_or(0));
        self.known().newest_ms.iter().map(|(project, newest_ms)| (*project, age(*newest_ms))).collect()
    }
}

/// The projects whose newest stored row is older than the threshold; none without one. Gemba's own use comes and goes with
/// those who use Gemba, so it is left out.
pub fn stale(app: &App) -> BTreeMap<ProjectId, Duration> {
    let Some(threshold) = app.stale_after else { return BTreeMap::new() };
    let mut ages = app.freshness.ages();
    let judged: BTreeSet<ProjectId> =
        app.control.projects().iter().filter(|one| one.name != OWN_PROJECT).map(|one| one.id).collect();
    ages.retain(|project, age| judged.contains(project) && *age > threshold);
    ages
}

/// Looks what was stored since the last time, and says who fell silent.
///
/// # Errors
/// Those of ClickHouse; what is known stays.
pub async fn look(app: &App) -> Result<(), StoreError> {
    let projects: BTreeSet<ProjectId> = app.control.projects().iter().map(|project| project.id).collect();
    // Before the ledger is read: a cut that is stored in between is seen the next time.
    let (log, open) = app.pipeline.open_cuts();
    let pending_ms = i64::try_from(app.pipeline.status().oldest_pending.as_millis()).unwrap_or(i64::MAX);
    let now_ms = clock::now_ms();
    let looked_from_ms = app.freshness.known().looked_from_ms;
    let mut found = BTreeMap::new();
    match looked_from_ms {
        Some(from_ms) => found.extend(newest(&app.store, (log, &open), from_ms).await?),
        None => {
            for window_ms in WINDOWS_MS {
                let from_ms = now_ms.saturating_sub(window_ms).max(0);
                found.extend(newest(&app.store, (log, &open), from_ms).await?);
                if projects.iter().all(|project| found.contains_key(project)) {
                    break;
                }
            }
        }
    }
    let mut known = app.freshness.known();
    for (project, newest_ms) in found {
        let entry = known.newest_ms.entry(project).or_insert(newest_ms);
        *entry = newest_ms.max(*entry);
    }
    known.newest_ms.retain(|project, _| projects.contains(project));
    // What waits now will be stored with the time it was received at.
    known.looked_from_ms = Some(now_ms.saturating_sub(pending_ms).saturating_sub(WINDOWS_MS[0]));
    drop(known);
    say(app);
    Ok(())
}

fn say(app: &App) {
    let stale = stale(app);
    let mut known = app.freshness.known();
    for (project, age) in &stale {
        if known.silent.insert(*project) {
            let seconds = age.as_secs();
            tracing::warn!(%project, seconds, "nothing of this project was stored for longer than --stale-after");
        }
    }
    let heard: Vec<ProjectId> = known.silent.iter().copied().filter(|project| !stale.contains_key(project)).collect();
    for project in heard {
        known.silent.remove(&project);
        tracing::info!(%project, "rows of this project are stored again");
    }
}

/// When the newest row of each project was received, of the cuts received since `from_ms` and not open.
async fn newest(
    store: &Client,
    (log, open): (u32, &[u64]),
    from_ms: i64,
) -> Result<BTreeMap<ProjectId, i64>, StoreError> {
    let open: Vec<String> =
        std::iter::once("0".to_owned()).chain(open.iter().map(|cut| (cut + 1).to_string())).collect();
    let sql = format!(
        "SELECT project, max(at) AS newest_ms FROM \
         (SELECT project, log, cut, toUnixTimestamp64Milli(max(received)) AS at FROM ledger FINAL \
         WHERE received >= fromUnixTimestamp64Milli({from_ms}) AND NOT (log = {log} AND cut + 1 IN ({})) \
         GROUP BY project, log, cut HAVING sumIf(records, fate = 'received') > sumIf(records, fate != 'received')) \
         GROUP BY project",
        open.join(", ")
    );
    let rows: Vec<(u32, i64)> = store.rows(&sql).await?;
    Ok(rows.into_iter().map(|(project, newest_ms)| (ProjectId(project), newest_ms)).collect())
}
