//! The control data as a fold over its entries: pure, no clock, no I/O.
//!
//! In: versioned entries in any order, repeats allowed. Out: projects, keys and tombstones as they hold. Invariants:
//! 1. The highest version of a (kind, id) holds; of two entries with one version the earlier holds (then the smaller
//!    payload), so that every node that reads the same rows sees the same state, whoever wrote them.
//! 2. A project id is never used twice: a new one is above every id ever seen, deleted ones included.
//! 3. A key of a deleted project opens nothing, whatever its own entry says.

use super::token::{TokenHash, bytes_of_hex};
use super::{Access, Project, Quota, Role};
use crate::identity::ProjectId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// What an entry describes; the text is the column `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The installation itself: the key its ids are hashed under.
    Installation,
    /// A project.
    Project,
    /// A key.
    Key,
    /// A person whose data was removed: a tombstone.
    Forgotten,
    /// How long the rows of a class of retention are kept.
    RetentionClass,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Installation, Self::Project, Self::Key, Self::Forgotten, Self::RetentionClass];

    /// The text of the column `kind`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Installation => "installation",
            Self::Project => "project",
            Self::Key => "key",
            Self::Forgotten => "forgotten",
            Self::RetentionClass => "retention_class",
        }
    }

    /// The kind of this text; `None` for a kind that a newer version wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One version of one thing: a row of the table `control`, a line of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// Empty for the installation, the decimal id of a project, the hexadecimal hash of a key, project and unit of a person,
    /// the decimal number of a class.
    pub(crate) id: String,
    /// From 1, one more with each change.
    pub(crate) version: u64,
    /// JSON: the payload of the kind.
    pub(crate) payload: String,
    /// When it was written, milliseconds since the epoch.
    pub(crate) at_ms: i64,
}

/// Payload of [`Kind::Installation`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InstallationPayload {
    /// Key of the ids' hashes, 32 hexadecimal digits.
    pub(crate) id_key: String,
}

/// Payload of [`Kind::Project`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProjectPayload {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) retention_class: u8,
    /// The tombstone: true for ever once the project was deleted.
    #[serde(default)]
    pub(crate) deleted: bool,
    /// Random, so that two nodes that create at once can tell their entries apart.
    #[serde(default)]
    pub(crate) nonce: String,
    /// How much it may send.
    #[serde(default, skip_serializing_if = "Quota::is_unlimited")]
    pub(crate) quota: Quota,
}

/// Payload of [`Kind::Key`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyPayload {
    pub(crate) role: Role,
    /// Absent for an admin token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<u32>,
    #[serde(default)]
    pub(crate) revoked: bool,
    /// When it stops opening anything, milliseconds since the epoch; absent for one that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until_ms: Option<i64>,
    /// Origins of the pages that may use it from a browser; empty leaves that to the server's list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) origins: Vec<String>,
}

/// Payload of [`Kind::Forgotten`]. Holds hashes under the installation's key, never an id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForgottenPayload {
    pub(crate) project: u32,
    /// The person's unit and the anonymous ones that turned out to be this person.
    pub(crate) units: Vec<u64>,
    /// What was received up to here goes, milliseconds since the epoch.
    pub(crate) until_ms: i64,
}

/// Payload of [`Kind::RetentionClass`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetentionPayload {
    /// Days from receipt that rows are kept at least.
    pub(crate) days: u32,
}

/// One key that opens something.
#[derive(Debug, Clone)]
pub(crate) struct KeyState {
    pub(crate) hash: TokenHash,
    pub(crate) payload: KeyPayload,
}

/// The control data as it holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    entries: BTreeMap<(Kind, String), Entry>,
    projects: BTreeMap<u32, ProjectPayload>,
    keys: HashMap<TokenHash, KeyState>,
    forgotten: BTreeMap<String, ForgottenPayload>,
    retention: BTreeMap<u8, u32>,
    id_key: Option<[u8; 16]>,
}

impl State {
    /// The state after `entries`, in any order.
    pub(crate) fn of(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut state = Self::default();
        state.merge(entries);
        state
    }

    /// Takes in further entries; those that are known or older change nothing.
    pub(crate) fn merge(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            let key = (entry.kind, entry.id.clone());
            if self.entries.get(&key).is_none_or(|held| holds_over(&entry, held)) {
                self.apply(&entry);
                self.entries.insert(key, entry);
            }
        }
    }

    /// A payload that cannot be read (written by a newer version) is kept as an entry and opens nothing.
    fn apply(&mut self, entry: &Entry) {
        match entry.kind {
            Kind::Installation => {
                if let Ok(payload) = serde_json::from_str::<InstallationPayload>(&entry.payload) {
                    self.id_key = bytes_of_hex(&payload.id_key);
                }
            }
            Kind::Project => {
                if let (Ok(id), Ok(payload)) = (entry.id.parse(), serde_json::from_str(&entry.payload)) {
                    self.projects.insert(id, payload);
                }
            }
            Kind::Forgotten => {
                if let Ok(payload) = serde_json::from_str(&entry.payload) {
                    self.forgotten.insert(entry.id.clone(), payload);
                }
            }
            Kind::RetentionClass => {
                if let (Ok(class), Ok(RetentionPayload { days })) =
                    (entry.id.parse(), serde_json::from_str(&entry.payload))
                {
                    self.retention.insert(class, days);
                }
            }
            Kind::Key => {
                let Some(hash) = TokenHash::from_hex(&entry.id) else { return };
                match serde_json::from_str::<KeyPayload>(&entry.payload) {
                    Ok(payload) if !payload.revoked => {
                        self.keys.insert(hash, KeyState { hash, payload });
                    }
                    _ => {
                        self.keys.remove(&hash);
                    }
                }
            }
        }
    }

    /// Every entry that holds, ordered by kind and id.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entry that holds for a thing.
    pub(crate) fn entry(&self, kind: Kind, id: &str) -> Option<&Entry> {
        self.entries.get(&(kind, id.to_owned()))
    }

    /// The version a new entry about a thing takes.
    pub(crate) fn next_version(&self, kind: Kind, id: &str) -> u64 {
        self.entry(kind, id).map_or(1, |entry| entry.version + 1)
    }

    /// Key of the ids' hashes, once the installation is known.
    pub(crate) fn id_key(&self) -> Option<[u8; 16]> {
        self.id_key
    }

    /// What the token of this hash opens at this time.
    pub(crate) fn access(&self, hash: &TokenHash, now_ms: i64) -> Option<Access> {
        let key = self.keys.get(hash).filter(|key| key.hash.matches(hash))?;
        if key.payload.until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
            return None;
        }
        let origins = key.payload.origins.clone();
        match (key.payload.role, key.payload.project) {
            (Role::Admin, _) => Some(Access { role: Role::Admin, project: None, origins }),
            (role, Some(id)) => Some(Access { role, project: Some(self.project(ProjectId(id))?), origins }),
            (_, None) => None,
        }
    }

    /// Whether pages of this origin may use a key of a living project at this time.
    pub(crate) fn is_origin_of_a_key(&self, origin: &[u8], now_ms: i64) -> bool {
        let is_bound = |key: &KeyState| key.payload.origins.iter().any(|bound| bound.as_bytes() == origin);
        self.keys.values().any(|key| is_bound(key) && self.access(&key.hash, now_ms).is_some())
    }

    /// Every person whose data was removed.
    pub(crate) fn forgotten(&self) -> impl Iterator<Item = &ForgottenPayload> {
        self.forgotten.values()
    }

    /// Days that rows of a class are kept at least; `None` for ever.
    pub(crate) fn retention_days(&self, class: u8) -> Option<u32> {
        self.retention.get(&class).copied()
    }

    /// Classes with an end, by number.
    pub(crate) fn retention_classes(&self) -> impl Iterator<Item = (u8, u32)> {
        self.retention.iter().map(|(class, days)| (*class, *days))
    }

    /// A project that is not deleted.
    pub(crate) fn project(&self, id: ProjectId) -> Option<Project> {
        self.projects.get(&id.0).filter(|payload| !payload.deleted).map(|payload| project_of(id, payload))
    }

    /// The project of this name that is not deleted. Should two nodes have created the name at once, the smaller id
    /// has it.
    pub(crate) fn project_named(&self, name: &str) -> Option<Project> {
        self.projects().find(|project| project.name == name)
    }

    /// All projects that are not deleted, by id.
    pub(crate) fn projects(&self) -> impl Iterator<Item = Project> {
        self.projects
            .iter()
            .filter(|(_, payload)| !payload.deleted)
            .map(|(id, payload)| project_of(ProjectId(*id), payload))
    }

    /// Whether the project bears a tombstone.
    pub(crate) fn is_deleted(&self, id: ProjectId) -> bool {
        self.projects.get(&id.0).is_some_and(|payload| payload.deleted)
    }

    /// All tombstones, by id.
    pub(crate) fn deleted(&self) -> impl Iterator<Item = ProjectId> {
        self.projects.iter().filter(|(_, payload)| payload.deleted).map(|(id, _)| ProjectId(*id))
    }

    /// The tombstones of projects that had this name, by id.
    pub(crate) fn buried_as(&self, name: &str) -> impl Iterator<Item = ProjectId> {
        let buried = self.projects.iter().filter(move |(_, payload)| payload.deleted && payload.name == name);
        buried.map(|(id, _)| ProjectId(*id))
    }

    /// The payload of a project's entry.
    pub(crate) fn project_payload(&self, id: ProjectId) -> Option<&ProjectPayload> {
        self.projects.get(&id.0)
    }

    /// Keys of a project that are not revoked, or admin tokens for `None`.
    pub(crate) fn keys_of(&self, project: Option<ProjectId>) -> impl Iterator<Item = &KeyState> {
        self.keys.values().filter(move |key| key.payload.project == project.map(|id| id.0))
    }

    /// An id no project ever had; `None` when all are used up.
    pub(crate) fn next_project_id(&self) -> Option<ProjectId> {
        self.projects.last_key_value().map_or(Some(1), |(id, _)| id.checked_add(1)).map(ProjectId)
    }
}

/// Whether `new` holds over `held` (invariant 1).
fn holds_over(new: &Entry, held: &Entry) -> bool {
    match new.version.cmp(&held.version) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => (new.at_ms, &new.payload) < (held.at_ms, &held.payload),
    }
}

fn project_of(id: ProjectId, payload: &ProjectPayload) -> Project {
    Project { id, name: payload.name.clone(), retention_class: payload.retention_class, quota: payload.quota }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(id: u32, version: u64, name: &str, deleted: bool, at_ms: i64) -> Entry {
        let payload = serde_json::json!({"name": name, "deleted": deleted}).to_string();
        Entry { kind: Kind::Project, id: id.to_string(), version, payload, at_ms }
    }

    fn key(token: &str, version: u64, role: Role, project: Option<u32>, revoked: bool) -> Entry {
        let payload = KeyPayload { role, project, revoked, until_ms: None, origins: Vec::new() };
        let payload = serde_json::to_string(&payload).unwrap();
        Entry { kind: Kind::Key, id: TokenHash::of(token).to_hex(), version, payload, at_ms: 0 }
    }

    #[test]
    fn the_order_of_entries_does_not_matter() {
        let entries = [
            project(1, 1, "a", false, 5),
            project(1, 2, "a", true, 6),
            project(2, 1, "late", false, 9),
            project(2, 1, "early", false, 8),
        ];
        let forward = State::of(entries.clone());
        let backward = State::of(entries.into_iter().rev());
        for state in [forward, backward] {
            assert!(state.is_deleted(ProjectId(1)));
            assert_eq!(state.project(ProjectId(2)).unwrap().name, "early");
            assert_eq!(state.next_project_id(), Some(ProjectId(3)));
        }
    }

    #[test]
    fn ids_of_deleted_projects_are_not_used_again() {
        let state = State::of([project(7, 1, "a", false, 0), project(7, 2, "a", true, 0)]);
        assert_eq!(state.projects().count(), 0);
        assert_eq!(state.next_project_id(), Some(ProjectId(8)));
        assert_eq!(State::of([project(u32::MAX, 1, "a", false, 0)]).next_project_id(), None);
    }

    #[test]
    fn keys_open_their_project_until_they_or_it_are_gone() {
        let hash = TokenHash::of("gi_1");
        let mut state = State::of([project(1, 1, "a", false, 0), key("gi_1", 1, Role::Ingest, Some(1), false)]);
        let access = state.access(&hash, 0).unwrap();
        assert_eq!((access.role, access.project.unwrap().name.as_str()), (Role::Ingest, "a"));
        assert!(state.access(&TokenHash::of("gi_2"), 0).is_none());

        let mut revoked = state.clone();
        revoked.merge([key("gi_1", 2, Role::Ingest, Some(1), true)]);
        assert!(revoked.access(&hash, 0).is_none());

        state.merge([project(1, 2, "a", true, 0)]);
        assert!(state.access(&hash, 0).is_none());
    }

    #[test]
    fn a_payload_of_a_newer_version_is_kept_and_opens_nothing() {
        let mut strange = key("gi_1", 1, Role::Ingest, Some(1), false);
        strange.payload = r#"{"role":"observer"}"#.into();
        let state = State::of([project(1, 1, "a", false, 0), strange.clone()]);
        assert!(state.access(&TokenHash::of("gi_1"), 0).is_none());
        assert!(state.entries().any(|entry| *entry == strange));
    }
}
