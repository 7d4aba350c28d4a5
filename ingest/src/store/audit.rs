//! The record of administrative acts: who did what, when, and how it ended.
//!
//! In: an act that is about to begin, later its end. Out: rows of the table `audit`. An act that cannot be written down is
//! not begun; one whose end cannot be written down stays there as `begun`.

use super::{Client, StoreError};
use crate::clock;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Latest acts that are listed at most. Chosen: what a person reads.
pub const MAX_LISTED: u32 = 1_000;

/// How long ClickHouse may take to note an act. Chosen: as for the control data, which an act changes next.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// An act in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, clickhouse::Row)]
pub struct Act {
    /// When it began, RFC 3339 to the millisecond, UTC.
    pub at: String,
    /// Kind of the credential and the first digits of its hash, or `shell` for a command on the server's own machine.
    pub actor: String,
    /// What was done, as `project.create`.
    pub action: String,
    /// Name of the project, backup or file; empty where there is none.
    pub subject: String,
    /// Further particulars; never a key and never an id of a person.
    pub detail: String,
    /// `begun`, then `done` or a word for what went wrong.
    pub outcome: String,
}

/// An act that was begun.
#[derive(Debug, Clone)]
pub struct Begun {
    at_ms: i64,
    id: u64,
    actor: String,
    action: &'static str,
    subject: String,
    detail: String,
}

#[derive(clickhouse::Row, Serialize)]
struct Line<'a> {
    at: i64,
    id: u64,
    actor: &'a str,
    action: &'a str,
    subject: &'a str,
    detail: &'a str,
    outcome: &'a str,
    version: u8,
}

/// Writes down that an act begins.
///
/// # Errors
/// Those of ClickHouse; the act must not begin then.
pub async fn begin(
    store: &Client,
    actor: &str,
    action: &'static str,
    subject: &str,
    detail: &str,
) -> Result<Begun, StoreError> {
    let mut id = [0; 8];
    // Without random bytes the time alone tells acts apart.
    getrandom::fill(&mut id).unwrap_or_default();
    let begun = Begun {
        at_ms: clock::now_ms(),
        id: u64::from_le_bytes(id),
        actor: actor.to_owned(),
        action,
        subject: subject.to_owned(),
        detail: detail.to_owned(),
    };
    begun.write(store, "begun", 0).await?;
    Ok(begun)
}

impl Begun {
    /// Writes down how it ended. A failure to do so is told in the log only: the act cannot be undone.
    pub async fn end(self, store: &Client, outcome: &str) {
        if let Err(error) = self.write(store, outcome, 1).await {
            tracing::error!(%error, action = self.action, outcome, "the end of an act could not be written down");
        }
    }

    async fn write(&self, store: &Client, outcome: &str, version: u8) -> Result<(), StoreError> {
        let Self { at_ms, id, actor, action, subject, detail } = self;
        let line = Line { at: *at_ms, id: *id, actor, action, subject, detail, outcome, version };
        let written = async {
            let mut insert = store.raw().insert::<Line<'_>>("audit").await?.with_setting("async_insert", "0");
            insert.write(&line).await?;
            insert.end().await
        };
        // The crate waits without limit.
        Ok(tokio::time::timeout(WRITE_TIMEOUT, written).await.map_err(|_| StoreError::Timeout)??)
    }
}

/// The latest acts, the newest first.
///
/// # Errors
/// Those of ClickHouse.
pub async fn list(store: &Client, limit: u32) -> Result<Vec<Act>, StoreError> {
    let sql = format!(
        "SELECT concat(replaceOne(toString(a.at), ' ', 'T'), 'Z') AS at, toString(actor) AS actor, toString(action) AS action, \
         subject, detail, toString(outcome) AS outcome FROM audit AS a FINAL ORDER BY a.at DESC, id LIMIT {}",
        limit.min(MAX_LISTED)
    );
    Ok(store.raw().query_raw(&sql).fetch_all::<Act>().await?)
}
