//! Projects, keys and tombstones: who may send, who may read, and which projects are gone.
//!
//! Owns the table `control` (append-only, versioned) and its snapshot in the data folder, from which a node can start
//! while ClickHouse is away. A change is written to ClickHouse first, then to the snapshot, then it holds; what the
//! snapshot knows and ClickHouse does not (a restored backup) is written back to ClickHouse, so that a tombstone
//! survives a restore. Does not delete anybody's data (`http::admin` does) and knows nothing of HTTP.

mod changes;
pub mod erase;
pub mod forget;
pub mod retention;
mod snapshot;
mod state;
mod token;

use crate::clock::now_ms;
use crate::identity::{IdHasher, ProjectId};
use serde::{Deserialize, Serialize};
use snapshot::{Credentials, ProjectCredentials};
use state::{Entry, InstallationPayload, KeyPayload, Kind, ProjectPayload, State};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use token::TokenHash;

/// Name of the project every installation starts with.
pub const DEFAULT_PROJECT: &str = "default";
/// Name of the project in which Gemba records its own use.
pub const OWN_PROJECT: &str = "gemba";
/// Longest name of a project, in bytes: a label of a metric and a part of a URL; 63 is the limit of a DNS label.
pub const MAX_NAME_BYTES: usize = 63;
/// How long ClickHouse may take to answer about control data, a few kilobytes. Chosen: well above a restart of the
/// engine, below the patience of an operator.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Send data of one project.
    Ingest,
    /// Ask questions about one project.
    Read,
    /// Manage projects.
    Admin,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its number, never reused; part of every row.
    pub id: ProjectId,
    /// Its name, unique among the projects that are not deleted.
    pub name: String,
    /// Class of retention of its rows; 0 is the default class.
    pub retention_class: u8,
    /// How much it may send.
    pub quota: Quota,
}

/// How much a project may send, in records; 0 means any number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Records a second, on each node, with a burst of ten seconds' worth.
    #[serde(default)]
    pub per_second: u64,
    /// Records a day (UTC), all nodes together.
    #[serde(default)]
    pub per_day: u64,
    /// Records a calendar month (UTC), all nodes together.
    #[serde(default)]
    pub per_month: u64,
}

impl Quota {
    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// A person whose data was removed: a tombstone of hashes, without an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Project the person was in.
    pub project: ProjectId,
    /// The person's unit and the anonymous ones that turned out to be this person.
    pub units: Vec<u64>,
    /// What was received up to here goes, milliseconds since the epoch.
    pub until_ms: i64,
}

/// What a presented key opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// What it may do.
    pub role: Role,
    /// Whose data; `None` exactly for [`Role::Admin`].
    pub project: Option<Project>,
    /// Origins of the pages that may use it from a browser; empty leaves that to the server's list.
    pub origins: Vec<String>,
}

/// A project just created, with the only copy of its keys.
#[derive(Debug, Clone)]
pub struct NewProject {
    /// The project.
    pub project: Project,
    /// Its ingest key.
    pub ingest_key: String,
    /// Its read key.
    pub read_key: String,
}

/// Why the control data could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// ClickHouse did not answer or refused; trying again can help.
    #[error("cannot reach the control data in ClickHouse")]
    Store(#[source] clickhouse::error::Error),
    /// A file in the data folder could not be read or written.
    #[error("cannot access {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file in the data folder is damaged.
    #[error("{} is damaged", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The snapshot was written by a newer version.
    #[error("the control snapshot has form {found}, this version reads up to {known}")]
    NewerSnapshot {
        /// Form found.
        found: u32,
        /// Highest form this version reads.
        known: u32,
    },
    /// The data folder and the ClickHouse behind it were not made for each other.
    #[error("the data folder and ClickHouse belong to different installations")]
    AnotherInstallation,
    /// Neither a snapshot nor ClickHouse could be had.
    #[error("ClickHouse cannot be reached and the data folder holds no control snapshot to start from")]
    NothingToStartFrom(#[source] clickhouse::error::Error),
    /// The operating system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    /// A name of a project that is not allowed.
    #[error("{0:?} is not a name of a project")]
    InvalidName(String),
    /// The name is in use.
    #[error("a project named {0:?} exists")]
    NameTaken(String),
    /// No such project.
    #[error("no project named {0:?}")]
    NoSuchProject(String),
    /// The project keeps the installation working and cannot be deleted.
    #[error("project {0:?} cannot be deleted")]
    Protected(String),
    /// All classes of retention have a length, and none has this one.
    #[error("no class of retention is free")]
    NoClass,
    /// Other nodes kept taking the same id, or all ids are used up.
    #[error("no free project id could be had")]
    NoProjectId,
}

/// Projects and keys of this installation. Reading never blocks; changing waits for ClickHouse and the disk.
#[derive(Debug)]
pub struct Control {
    data: PathBuf,
    store: clickhouse::Client,
    state: RwLock<Arc<State>>,
    ids: IdHasher,
    /// Opens the own project for ingest; lives as long as this process and is written nowhere.
    own_key: String,
    own_hash: TokenHash,
    /// Changes happen one after the other, so that versions do not collide inside one node.
    changes: tokio::sync::Mutex<()>,
    /// What [`read_versions`] said when all was read last; 0 before.
    seen: AtomicU64,
}

/// A row of the table `control`.
#[derive(clickhouse::Row, Serialize, Deserialize)]
struct ControlRow {
    kind: String,
    id: String,
    version: u64,
    payload: String,
    at: i64,
}

impl Control {
    /// Loads the control data: the snapshot in `data`, brought up to date from `store` where it answers. Creates
    /// the installation (projects `default` and `gemba`, `credentials.json`) when neither holds one.
    ///
    /// The table `control` must exist if `store` answers.
    ///
    /// # Errors
    /// [`ControlError::NothingToStartFrom`]: no snapshot and `store` away; trying again helps. The others need a hand.
    pub async fn open(data: &Path, store: clickhouse::Client) -> Result<Self, ControlError> {
        let snapshot = snapshot::read_snapshot(data)?;
        let state = match (read_rows(&store).await, snapshot) {
            (Ok(rows), snapshot) => reconcile(&store, rows, snapshot.unwrap_or_default()).await?,
            (Err(error), Some(entries)) => {
                tracing::warn!(%error, "ClickHouse is away, starting from the control snapshot");
                State::of(entries)
            }
            (Err(error), None) => return Err(ControlError::NothingToStartFrom(error)),
        };
        let state = if state.id_key().is_some() { state } else { install(data, &store, state).await? };
        let Some(id_key) = state.id_key() else { return Err(ControlError::AnotherInstallation) };
        snapshot::write_snapshot(data, state.entries().cloned().collect())?;
        let own_key = token::generate(Role::Ingest)?;
        Ok(Self {
            data: data.to_owned(),
            store,
            state: RwLock::new(Arc::new(state)),
            ids: IdHasher::new(id_key),
            own_hash: TokenHash::of(&own_key),
            own_key,
            changes: tokio::sync::Mutex::new(()),
            seen: AtomicU64::new(0),
        })
    }

    /// The installation's hasher of ids.
    pub fn id_hasher(&self) -> &IdHasher {
        &self.ids
    }

    /// An ingest key of the project `gemba` that holds until this process ends.
    pub fn own_key(&self) -> &str {
        &self.own_key
    }

    /// What `token` opens; `None` for an unknown or revoked one. Never blocks, costs one SHA-256.
    pub fn authenticate(&self, token: &str) -> Option<Access> {
        let hash = TokenHash::of(token);
        let state = self.state();
        if self.own_hash.matches(&hash) {
            let project = Some(state.project_named(OWN_PROJECT)?);
            return Some(Access { role: Role::Ingest, project, origins: Vec::new() });
        }
        state.access(&hash, now_ms())
    }

    /// A short word for a presented credential that tells it from others and opens nothing: the first digits of its hash.
    pub fn fingerprint(token: &str) -> String {
        let mut hex = TokenHash::of(token).to_hex();
        hex.truncate(8);
        hex
    }

    /// All projects that are not deleted, by id.
    pub fn projects(&self) -> Vec<Project> {
        self.state().projects().collect()
    }

    /// The project of this name.
    pub fn project_named(&self, name: &str) -> Option<Project> {
        self.state().project_named(name)
    }

    /// Whether the project bears a tombstone: what is still on its way for it must be discarded.
    pub fn is_deleted(&self, project: ProjectId) -> bool {
        self.state().is_deleted(project)
    }

    /// Every project that bears a tombstone.
    pub fn deleted(&self) -> Vec<ProjectId> {
        self.state().deleted().collect()
    }

    /// Takes in what other nodes wrote, and writes back what only this node knows.
    ///
    /// # Errors
    /// [`ControlError::Store`] when ClickHouse is away; the state stays as it is.
    pub async fn refresh(&self) -> Result<(), ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        let versions = read_versions(&self.store).await.map_err(ControlError::Store)?;
        if versions == self.seen.load(Ordering::Relaxed) {
            return Ok(());
        }
        let rows = read_rows(&self.store).await.map_err(ControlError::Store)?;
        self.seen.store(versions, Ordering::Relaxed);
        let held: Vec<Entry> = self.state().entries().cloned().collect();
        let state = reconcile(&self.store, rows, held.clone()).await?;
        if state.entries().ne(held.iter()) {
            self.adopt(state).await?;
        }
        Ok(())
    }

    /// Writes entries to ClickHouse, reads all back (another node may have written too), writes the snapshot, and
    /// only then lets them hold.
    async fn append(&self, entries: Vec<Entry>) -> Result<(), ControlError> {
        write_rows(&self.store, &entries).await.map_err(ControlError::Store)?;
        let mut state = State::clone(&self.state());
        state.merge(entries);
        state.merge(read_rows(&self.store).await.map_err(ControlError::Store)?);
        self.adopt(state).await
    }

    async fn adopt(&self, state: State) -> Result<(), ControlError> {
        let data = self.data.clone();
        let entries = state.entries().cloned().collect();
        // The only error of joining is a panic in the closure, and there is none to be had.
        if let Ok(written) = tokio::task::spawn_blocking(move || snapshot::write_snapshot(&data, entries)).await {
            written?;
        }
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        Ok(())
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether `name` may name a project: `[a-z0-9][a-z0-9_-]*`, at most [`MAX_NAME_BYTES`].
pub fn is_valid_name(name: &str) -> bool {
    let begins_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    begins_well
        && name.len() <= MAX_NAME_BYTES
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-')
}

/// The union of what ClickHouse and this node know; ClickHouse is told what it lacks.
async fn reconcile(store: &clickhouse::Client, rows: Vec<Entry>, held: Vec<Entry>) -> Result<State, ControlError> {
    let stored = State::of(rows);
    let mut state = State::of(held);
    if let (Some(here), Some(there)) = (state.id_key(), stored.id_key())
        && here != there
    {
        return Err(ControlError::AnotherInstallation);
    }
    let missing: Vec<Entry> = state
        .entries()
        .filter(|entry| stored.entry(entry.kind, &entry.id).is_none_or(|other| other.version < entry.version))
        .cloned()
        .collect();
    if !missing.is_empty() {
        tracing::info!(entries = missing.len(), "writing control data back that ClickHouse lacks");
        write_rows(store, &missing).await.map_err(ControlError::Store)?;
    }
    state.merge(stored.entries().cloned());
    Ok(state)
}

/// The first start. The credentials are written first: a start cut short finds them again and uses the same tokens,
/// so that no token is ever in force that nobody was told.
async fn install(data: &Path, store: &clickhouse::Client, state: State) -> Result<State, ControlError> {
    let credentials = match snapshot::read_credentials(data)? {
        Some(credentials) => credentials,
        None => new_credentials()?,
    };
    snapshot::write_credentials(data, &credentials)?;
    let id_key = token::to_hex(&token::random::<16>()?);
    let mut entries = vec![Entry {
        kind: Kind::Installation,
        id: String::new(),
        version: 1,
        payload: json(&InstallationPayload { id_key })?,
        at_ms: now_ms(),
    }];
    let (default, own) = (ProjectId(1), ProjectId(2));
    entries.push(project_entry(default, DEFAULT_PROJECT)?);
    entries.push(project_entry(own, OWN_PROJECT)?);
    entries.push(key_entry(&credentials.admin_token, Role::Admin, None)?);
    if let Some(keys) = credentials.projects.get(DEFAULT_PROJECT) {
        entries.push(key_entry(&keys.ingest_key, Role::Ingest, Some(default))?);
        entries.push(key_entry(&keys.read_key, Role::Read, Some(default))?);
    }
    write_rows(store, &entries).await.map_err(ControlError::Store)?;
    // Another node may have installed at the same moment; reading back makes both see the same installation.
    let mut state = state;
    state.merge(read_rows(store).await.map_err(ControlError::Store)?);
    Ok(state)
}

fn new_credentials() -> Result<Credentials, ControlError> {
    let keys =
        ProjectCredentials { ingest_key: token::generate(Role::Ingest)?, read_key: token::generate(Role::Read)? };
    Ok(Credentials {
        admin_token: token::generate(Role::Admin)?,
        projects: BTreeMap::from([(DEFAULT_PROJECT.to_owned(), keys)]),
    })
}

fn project_entry(id: ProjectId, name: &str) -> Result<Entry, ControlError> {
    let nonce = token::to_hex(&token::random::<8>()?);
    let quota = Quota::default();
    let payload = ProjectPayload { name: name.to_owned(), retention_class: 0, deleted: false, nonce, quota };
    Ok(Entry { kind: Kind::Project, id: id.to_string(), version: 1, payload: json(&payload)?, at_ms: now_ms() })
}

fn key_entry(token: &str, role: Role, project: Option<ProjectId>) -> Result<Entry, ControlError> {
    key_entry_with(token, role, project, Vec::new())
}

fn key_entry_with(
    token: &str,
    role: Role,
    project: Option<ProjectId>,
    origins: Vec<String>,
) -> Result<Entry, ControlError> {
    let payload = KeyPayload { role, project: project.map(|id| id.0), revoked: false, until_ms: None, origins };
    let id = TokenHash::of(token).to_hex();
    Ok(Entry { kind: Kind::Key, id, version: 1, payload: json(&payload)?, at_ms: now_ms() })
}

/// Payloads are plain structs of strings and numbers, which always serialise; the error is kept all the same.
fn json<T: Serialize>(payload: &T) -> Result<String, ControlError> {
    serde_json::to_string(payload)
        .map_err(|source| ControlError::Unreadable { path: PathBuf::from("control payload"), source })
}

/// A number that is another one when there is another row; never 0 where there is one.
async fn read_versions(store: &clickhouse::Client) -> Result<u64, clickhouse::error::Error> {
    let sql = "SELECT sum(bitOr(cityHash64(kind, id, version, at), 1)) FROM control";
    in_time(store.query(sql).fetch_one::<u64>()).await
}

async fn read_rows(store: &clickhouse::Client) -> Result<Vec<Entry>, clickhouse::error::Error> {
    let rows = store
        .query("SELECT kind, id, version, payload, toUnixTimestamp64Milli(at) AS at FROM control")
        .fetch_all::<ControlRow>();
    let rows = in_time(rows).await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let kind = Kind::parse(&row.kind)?;
            Some(Entry { kind, id: row.id, version: row.version, payload: row.payload, at_ms: row.at })
        })
        .collect())
}

/// One insert, so one part: all entries are there or none.
async fn write_rows(store: &clickhouse::Client, entries: &[Entry]) -> Result<(), clickhouse::error::Error> {
    in_time(insert_rows(store, entries)).await
}

/// The crate waits without limit, and an engine that restarts holds connections open meanwhile.
async fn in_time<T>(
    call: impl Future<Output = Result<T, clickhouse::error::Error>>,
) -> Result<T, clickhouse::error::Error> {
    tokio::time::timeout(STORE_TIMEOUT, call).await.unwrap_or(Err(clickhouse::error::Error::TimedOut))
}

async fn insert_rows(store: &clickhouse::Client, entries: &[Entry]) -> Result<(), clickhouse::error::Error> {
    let mut insert = store.insert::<ControlRow>("control").await?.with_setting("async_insert", "0");
    for entry in entries {
        insert
            .write(&ControlRow {
                kind: entry.kind.as_str().to_owned(),
                id: entry.id.clone(),
                version: entry.version,
                payload: entry.payload.clone(),
                at: entry.at_ms,
            })
            .await?;
    }
    insert.end().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_projects_fit_a_label_and_a_url() {
        for good in ["shop", "a", "0", "team-1_x", &"a".repeat(63)] {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a b", "a/b", "a.b", "ä", &"a".repeat(64)] {
            assert!(!is_valid_name(bad), "{bad}");
        }
    }
}
