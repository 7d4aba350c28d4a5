//! What a project keeps beside its data: saved questions, cohorts with their members, and its filter.
//!
//! In: a project, a name, a payload of JSON. Out: versions of it. Owns the tables `saved` (append-only: the highest version of
//! a name holds, an empty payload is a deletion) and `cohort_members`. What a payload means is decided by whoever asks.
//!
//! Invariants:
//! 1. Nothing of one project is ever seen with the number of another.
//! 2. A version of a cohort is written after all of its members, so a version that can be seen is whole.

use super::select::{self, Limits};
use super::{Client, StoreError};
use gemba_queries::BoundQuery;
use serde_json::{Value, json};

/// What a row of `saved` is; the text is the column `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A saved question.
    Question,
    /// A cohort.
    Cohort,
    /// The project's filter; it has one, without a name.
    Filter,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Question => "question",
            Self::Cohort => "cohort",
            Self::Filter => "filter",
        }
    }
}

/// One version of something saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// Its name.
    pub name: String,
    /// From 1, one more with each change.
    pub version: u64,
    /// What was saved; `None`: it was deleted.
    pub payload: Option<Value>,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// Most versions read of one name. Chosen: one a day for three years.
const MAX_VERSIONS: usize = 1000;
/// Snapshots of a cohort's members that are kept: the one that holds, and the one before, which answers under way may
/// still read.
const KEPT_SNAPSHOTS: usize = 2;

/// Every version of a name, the latest first.
///
/// # Errors
/// See [`StoreError`].
pub async fn versions(client: &Client, project: u32, kind: Kind, name: &str) -> Result<Vec<Saved>, StoreError> {
    let sql = format!(
        "SELECT name, version, payload, toUnixTimestamp64Milli(at) AS at FROM saved \
         WHERE project = {{project:UInt32}} AND kind = {{kind:String}} AND name = {{name:String}} \
         ORDER BY version DESC, at, payload LIMIT 1 BY version LIMIT {MAX_VERSIONS}"
    );
    read(client, &sql, project, kind, Some(name)).await
}

/// The version of a name that held at an instant, `None` where there was none or it was deleted.
///
/// # Errors
/// See [`StoreError`].
pub async fn held_at(
    client: &Client,
    project: u32,
    kind: Kind,
    name: &str,
    at_ms: Option<i64>,
) -> Result<Option<Saved>, StoreError> {
    let all = versions(client, project, kind, name).await?;
    let held = all.into_iter().find(|saved| at_ms.is_none_or(|at_ms| saved.at_ms <= at_ms));
    Ok(held.filter(|saved| saved.payload.is_some()))
}

/// Everything of a kind that holds, by name.
///
/// # Errors
/// See [`StoreError`].
pub async fn list(client: &Client, project: u32, kind: Kind) -> Result<Vec<Saved>, StoreError> {
    let sql = "SELECT name, version, payload, toUnixTimestamp64Milli(at) AS at FROM saved \
               WHERE project = {project:UInt32} AND kind = {kind:String} \
               ORDER BY name, version DESC, at, payload LIMIT 1 BY name";
    let mut all = read(client, sql, project, kind, None).await?;
    all.retain(|saved| saved.payload.is_some());
    Ok(all)
}

async fn read(
    client: &Client,
    sql: &str,
    project: u32,
    kind: Kind,
    name: Option<&str>,
) -> Result<Vec<Saved>, StoreError> {
    let mut params = vec![("kind".to_owned(), kind.as_str().to_owned()), ("project".to_owned(), project.to_string())];
    params.extend(name.map(|name| ("name".to_owned(), name.to_owned())));
    let bound = BoundQuery { sql: sql.to_owned(), params, range_ms: None };
    let damaged = |what: &str| StoreError::Answer(format!("a row of saved has no {what}"));
    let selection = select::select(client, &bound, Limits::default()).await?;
    let saved = |row: Vec<Value>| {
        let [Value::String(name), version, Value::String(payload), at] = row.as_slice() else {
            return Err(damaged("name or payload"));
        };
        let payload = if payload.is_empty() {
            None
        } else {
            Some(serde_json::from_str(payload).map_err(|error| StoreError::Answer(error.to_string()))?)
        };
        Ok(Saved {
            name: name.clone(),
            version: version.as_u64().ok_or_else(|| damaged("version"))?,
            payload,
            at_ms: at.as_i64().ok_or_else(|| damaged("time"))?,
        })
    };
    selection.rows.into_iter().map(saved).collect()
}

/// Appends a version; without a payload it deletes. The caller makes sure that one happens after the other on this node;
/// should two nodes write the same version, the earlier holds.
///
/// # Errors
/// See [`StoreError`].
pub async fn append(
    client: &Client,
    project: u32,
    kind: Kind,
    name: &str,
    payload: Option<&Value>,
    at_ms: i64,
) -> Result<u64, StoreError> {
    let version = versions(client, project, kind, name).await?.first().map_or(1, |latest| latest.version + 1);
    let payload = payload.map_or_else(String::new, Value::to_string);
    let at = format!("{}.{:03}", at_ms.div_euclid(1000), at_ms.rem_euclid(1000));
    let row = json!({"project": project, "kind": kind.as_str(), "name": name, "version": version, "payload": payload, "at": at});
    insert(client, "saved", format!("{row}\n")).await?;
    Ok(version)
}

/// Stores these units as the members of a snapshot of a cohort.
///
/// # Errors
/// See [`StoreError`].
pub async fn add_members(
    client: &Client,
    project: u32,
    cohort: &str,
    snapshot: u64,
    units: &[u64],
) -> Result<(), StoreError> {
    let mut rows = String::new();
    for unit in units {
        let row = json!({"project": project, "cohort": cohort, "version": snapshot, "unit": unit});
        rows.push_str(&row.to_string());
        rows.push('\n');
    }
    if rows.is_empty() { Ok(()) } else { insert(client, "cohort_members", rows).await }
}

/// Stores what a statement with one column `unit` answers as the members of a snapshot of a cohort.
///
/// # Errors
/// See [`StoreError`].
pub async fn select_members(
    client: &Client,
    project: u32,
    cohort: &str,
    snapshot: u64,
    people: &BoundQuery,
    limits: Limits,
) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO cohort_members (project, cohort, version, unit) \
         SELECT {{project:UInt32}}, {{c_cohort:String}}, {{c_version:UInt64}}, unit FROM ({}) WHERE unit != 0",
        people.sql
    );
    let mut request = client
        .raw()
        .query_raw(&sql)
        .with_setting("wait_end_of_query", "1")
        .with_setting("max_execution_time", limits.max_seconds.to_string())
        .with_setting("max_memory_usage", limits.max_memory_bytes.to_string())
        .param("c_cohort", cohort)
        .param("c_version", snapshot);
    if !people.params.iter().any(|(name, _)| name == "project") {
        request = request.param("project", project);
    }
    for (name, value) in &people.params {
        request = request.param(name, value);
    }
    Ok(request.execute().await?)
}

/// How many members a snapshot has.
///
/// # Errors
/// See [`StoreError`].
pub async fn count_members(client: &Client, project: u32, cohort: &str, snapshot: u64) -> Result<u64, StoreError> {
    let sql = "SELECT uniqExact(unit) AS members FROM cohort_members WHERE project = {project:UInt32} \
               AND cohort = {cohort:String} AND version = {version:UInt64}";
    let params = [("project", project.to_string()), ("cohort", cohort.to_owned()), ("version", snapshot.to_string())];
    let params = params.map(|(name, value)| (name.to_owned(), value)).into();
    let bound = BoundQuery { sql: sql.to_owned(), params, range_ms: None };
    let rows = select::select(client, &bound, Limits::default()).await?.rows;
    Ok(rows.first().and_then(|row| row.first()?.as_u64()).unwrap_or(0))
}

/// Removes the members of all snapshots of a cohort but the latest [`KEPT_SNAPSHOTS`], or of all. `cohort` must be a name
/// that has been checked, since a mutation takes no parameters.
///
/// # Errors
/// See [`StoreError`].
pub async fn remove_members(client: &Client, project: u32, cohort: &str, keep: bool) -> Result<(), StoreError> {
    let of = format!("project = {project} AND cohort = '{cohort}'");
    let kept = if keep { KEPT_SNAPSHOTS } else { 0 };
    let snapshots = format!("SELECT DISTINCT version FROM cohort_members WHERE {of} ORDER BY version DESC");
    let known: Vec<u64> = client.raw().query_raw(&snapshots).fetch_all().await?;
    let Some(oldest) = known.get(kept) else { return Ok(()) };
    client
        .execute(&format!(
            "ALTER TABLE cohort_members DELETE WHERE {of} AND version <= {oldest} SETTINGS mutations_sync = 1"
        ))
        .await
}

/// One insert, so one part: all rows are there or none.
async fn insert(client: &Client, table: &str, rows: String) -> Result<(), StoreError> {
    let mut insert = client
        .raw()
        .insert_formatted_with(format!("INSERT INTO {table} FORMAT JSONEachRow"))
        .with_setting("async_insert", "0")
        .with_setting("wait_end_of_query", "1")
        .with_setting("max_insert_block_size", "100000000")
        .with_setting("input_format_parallel_parsing", "0");
    insert.send(rows.into()).await?;
    Ok(insert.end().await?)
}
