//! Changes of the control data: the life of a project and its keys, origins, quotas, retention, tombstones of people.
//!
//! Each is a new version of an entry, appended like any other.

use super::state::{Entry, ForgottenPayload, KeyPayload, Kind, ProjectPayload, RetentionPayload, State};
use super::{
    Control, ControlError, NewProject, OWN_PROJECT, Project, Quota, Role, Tombstone, is_valid_name, json, key_entry,
    key_entry_with, project_entry, token,
};
use crate::clock::now_ms;
use crate::identity::ProjectId;
use std::time::Duration;

/// How often a creation is tried anew when another node takes the same id at the same moment. Chosen: each try means
/// one more node at work in the same instant.
const MAX_CREATE_TRIES: u32 = 8;

impl Control {
    /// Creates a project with a key of either role. They work on this node at once, on others after their next
    /// [`refresh`](Self::refresh).
    ///
    /// # Errors
    /// [`ControlError::InvalidName`], [`ControlError::NameTaken`]; [`ControlError::Store`] when ClickHouse is away.
    pub async fn create_project(&self, name: &str) -> Result<NewProject, ControlError> {
        if !is_valid_name(name) {
            return Err(ControlError::InvalidName(name.to_owned()));
        }
        let _one_at_a_time = self.changes.lock().await;
        for _ in 0..MAX_CREATE_TRIES {
            let state = self.state();
            if state.project_named(name).is_some() {
                return Err(ControlError::NameTaken(name.to_owned()));
            }
            let id = state.next_project_id().ok_or(ControlError::NoProjectId)?;
            let entry = project_entry(id, name)?;
            self.append(vec![entry.clone()]).await?;
            // Another node may have taken the id in the same moment: all nodes agree on who holds it.
            let state = self.state();
            if state.entry(Kind::Project, &entry.id) != Some(&entry) {
                continue;
            }
            let (ingest_key, read_key) = (token::generate(Role::Ingest)?, token::generate(Role::Read)?);
            let keys =
                vec![key_entry(&ingest_key, Role::Ingest, Some(id))?, key_entry(&read_key, Role::Read, Some(id))?];
            self.append(keys).await?;
            let project = Project { id, name: name.to_owned(), retention_class: 0, quota: Quota::default() };
            return Ok(NewProject { project, ingest_key, read_key });
        }
        Err(ControlError::NoProjectId)
    }

    /// Gives the project new keys; the ones it had hold for `grace` longer, or at most as long as they would have.
    /// Origins of the old ingest key go over to the new one.
    ///
    /// # Errors
    /// [`ControlError::NoSuchProject`]; [`ControlError::Store`] when ClickHouse is away.
    pub async fn rotate_keys(&self, name: &str, grace: Duration) -> Result<NewProject, ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        let state = self.state();
        let project = state.project_named(name).ok_or_else(|| ControlError::NoSuchProject(name.to_owned()))?;
        let (ingest_key, read_key) = (token::generate(Role::Ingest)?, token::generate(Role::Read)?);
        let origins = origins_of(&state, project.id);
        let mut entries =
            if grace.is_zero() { revocations(&state, project.id)? } else { endings(&state, project.id, grace)? };
        entries.push(key_entry_with(&ingest_key, Role::Ingest, Some(project.id), origins)?);
        entries.push(key_entry(&read_key, Role::Read, Some(project.id))?);
        self.append(entries).await?;
        Ok(NewProject { project, ingest_key, read_key })
    }

    /// Revokes the keys of a project and sets its tombstone; its data is the caller's to delete. Answers the numbers of all
    /// projects that had the name, at least one: of those buried before, data may be left, so that a deletion which did not
    /// come to its end is finished by asking for it again.
    ///
    /// # Errors
    /// [`ControlError::NoSuchProject`]; [`ControlError::Protected`] for Gemba's own project; [`ControlError::Store`]
    /// when ClickHouse is away.
    pub async fn bury_project(&self, name: &str) -> Result<Vec<ProjectId>, ControlError> {
        if name == OWN_PROJECT {
            return Err(ControlError::Protected(name.to_owned()));
        }
        let _one_at_a_time = self.changes.lock().await;
        let state = self.state();
        if let Some(project) = state.project_named(name) {
            let mut entries = revocations(&state, project.id)?;
            entries.push(tombstone(&state, project.id)?);
            self.append(entries).await?;
        }
        let buried: Vec<ProjectId> = self.state().buried_as(name).collect();
        if buried.is_empty() { Err(ControlError::NoSuchProject(name.to_owned())) } else { Ok(buried) }
    }

    /// Sets the origins whose pages may use the ingest keys of a project; an empty list leaves it to the server's.
    ///
    /// # Errors
    /// [`ControlError::NoSuchProject`]; [`ControlError::Store`] when ClickHouse is away.
    pub async fn set_origins(&self, name: &str, origins: &[String]) -> Result<Project, ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        let state = self.state();
        let project = state.project_named(name).ok_or_else(|| ControlError::NoSuchProject(name.to_owned()))?;
        let entries = changed_keys(&state, project.id, |key| KeyPayload {
            origins: if key.role == Role::Ingest { origins.to_vec() } else { Vec::new() },
            ..key.clone()
        })?;
        self.append(entries).await?;
        Ok(project)
    }

    /// Origins whose pages may use the ingest keys of a project; empty leaves it to the server's list.
    pub fn origins(&self, project: ProjectId) -> Vec<String> {
        origins_of(&self.state(), project)
    }

    /// Sets how much a project may send.
    ///
    /// # Errors
    /// [`ControlError::NoSuchProject`]; [`ControlError::Store`] when ClickHouse is away.
    pub async fn set_quota(&self, name: &str, quota: Quota) -> Result<Project, ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        let change = |payload: &mut ProjectPayload| payload.quota = quota;
        self.change_project(&self.state(), name, Vec::new(), change).await
    }

    /// Keeps what a project receives from now on for so many days at least, `None` for ever: puts it into a class of that
    /// length, which is made if there is none.
    ///
    /// # Errors
    /// [`ControlError::NoSuchProject`]; [`ControlError::NoClass`] when all are taken; [`ControlError::Store`] when
    /// ClickHouse is away.
    pub async fn set_retention(&self, name: &str, days: Option<u32>) -> Result<Project, ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        let state = self.state();
        let mut entries = Vec::new();
        let class = match days {
            None => 0,
            Some(days) => {
                if let Some((class, _)) = state.retention_classes().find(|(_, known)| *known == days) {
                    class
                } else {
                    let free = (1..=u8::MAX).find(|class| state.retention_days(*class).is_none());
                    let class = free.ok_or(ControlError::NoClass)?;
                    let payload = json(&RetentionPayload { days })?;
                    let id = class.to_string();
                    entries.push(Entry { kind: Kind::RetentionClass, id, version: 1, payload, at_ms: now_ms() });
                    class
                }
            }
        };
        self.change_project(&state, name, entries, |payload| payload.retention_class = class).await
    }

    /// Whether pages of this origin may use a key of any project. Looks at all keys: for those who ask without one.
    pub fn is_origin_of_a_key(&self, origin: &[u8]) -> bool {
        self.state().is_origin_of_a_key(origin, now_ms())
    }

    /// Days that rows of a class are kept at least; `None` for ever.
    pub fn retention_days(&self, class: u8) -> Option<u32> {
        self.state().retention_days(class)
    }

    /// Classes with an end, by number, with their days.
    pub fn retention_classes(&self) -> Vec<(u8, u32)> {
        self.state().retention_classes().collect()
    }

    /// Sets the tombstone of a person; the data is the caller's to remove.
    ///
    /// # Errors
    /// [`ControlError::Store`] when ClickHouse is away.
    pub async fn bury_person(&self, tombstone: &Tombstone) -> Result<(), ControlError> {
        let _one_at_a_time = self.changes.lock().await;
        let Tombstone { project, units, until_ms } = tombstone;
        let id = format!("{project}/{:016x}/{until_ms}", units.first().copied().unwrap_or(0));
        let payload = json(&ForgottenPayload { project: project.0, units: units.clone(), until_ms: *until_ms })?;
        self.append(vec![Entry { kind: Kind::Forgotten, id, version: 1, payload, at_ms: now_ms() }]).await
    }

    /// Every tombstone of a person in a project that is not deleted.
    pub fn forgotten(&self) -> Vec<Tombstone> {
        let state = self.state();
        let living = state.forgotten().filter(|one| !state.is_deleted(ProjectId(one.project)));
        let tombstone = |one: &ForgottenPayload| Tombstone {
            project: ProjectId(one.project),
            units: one.units.clone(),
            until_ms: one.until_ms,
        };
        living.map(tombstone).collect()
    }

    /// Writes a new version of a project's entry, together with further entries.
    async fn change_project(
        &self,
        state: &State,
        name: &str,
        mut entries: Vec<Entry>,
        change: impl FnOnce(&mut ProjectPayload),
    ) -> Result<Project, ControlError> {
        let missing = || ControlError::NoSuchProject(name.to_owned());
        let project = state.project_named(name).ok_or_else(missing)?;
        let id = project.id.to_string();
        let mut payload = state.project_payload(project.id).cloned().ok_or_else(missing)?;
        change(&mut payload);
        entries.push(Entry {
            kind: Kind::Project,
            version: state.next_version(Kind::Project, &id),
            id,
            payload: json(&payload)?,
            at_ms: now_ms(),
        });
        self.append(entries).await?;
        self.state().project(project.id).ok_or_else(missing)
    }
}

/// The entry that ends a project that there is.
fn tombstone(state: &State, project: ProjectId) -> Result<Entry, ControlError> {
    let id = project.to_string();
    let payload = state.project_payload(project).cloned().ok_or_else(|| ControlError::NoSuchProject(id.clone()))?;
    let payload = json(&ProjectPayload { deleted: true, ..payload })?;
    Ok(Entry { kind: Kind::Project, version: state.next_version(Kind::Project, &id), id, payload, at_ms: now_ms() })
}

fn origins_of(state: &State, project: ProjectId) -> Vec<String> {
    let ingest = state.keys_of(Some(project)).filter(|key| key.payload.role == Role::Ingest);
    ingest.map(|key| key.payload.origins.clone()).max().unwrap_or_default()
}

fn revocations(state: &State, project: ProjectId) -> Result<Vec<Entry>, ControlError> {
    changed_keys(state, project, |key| KeyPayload { revoked: true, ..key.clone() })
}

/// Lets the keys of a project end after `grace`, or when they would have ended anyway.
fn endings(state: &State, project: ProjectId, grace: Duration) -> Result<Vec<Entry>, ControlError> {
    let end_ms = now_ms().saturating_add(i64::try_from(grace.as_millis()).unwrap_or(i64::MAX));
    changed_keys(state, project, |key| KeyPayload {
        until_ms: Some(key.until_ms.map_or(end_ms, |until_ms| until_ms.min(end_ms))),
        ..key.clone()
    })
}

fn changed_keys(
    state: &State,
    project: ProjectId,
    change: impl Fn(&KeyPayload) -> KeyPayload,
) -> Result<Vec<Entry>, ControlError> {
    state
        .keys_of(Some(project))
        .map(|key| {
            let id = key.hash.to_hex();
            let payload = change(&key.payload);
            let version = state.next_version(Kind::Key, &id);
            Ok(Entry { kind: Kind::Key, id, version, payload: json(&payload)?, at_ms: now_ms() })
        })
        .collect()
}
