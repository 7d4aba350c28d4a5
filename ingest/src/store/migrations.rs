//! Brings a database to the schema this build knows, and back.
//!
//! In: the numbered `up` and `down` files of `ingest/schema`, embedded. Out: tables, and rows of `schema_migrations` that
//! say which migrations hold. It does not choose the database and does not create it.
//!
//! Invariants:
//! 1. Every statement of a migration changes nothing when it runs again (`IF NOT EXISTS`, `IF EXISTS`; a test reads them
//!    all), so whatever was interrupted is simply run again from its first statement.
//! 2. A migration is noted as begun before its first statement and as done after its last. Only what is noted as done is
//!    left alone.
//! 3. A database that holds a migration this build does not know, or another one under the same number, is not touched.
//! 4. `down` runs only the `down` files of migrations that are noted, and keeps `schema_migrations` and `leases`.
//! 5. One migrator at a time: whoever finds something to do takes the lease `migrate` and looks again.

use super::cluster::{self, ClusterError};
use super::leases::{self, LeaseError};
use super::{Client, StoreError};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use thiserror::Error;

/// One migration: its number, a name, and what it does and undoes.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// From 1, without gaps.
    pub number: u32,
    /// A word or two.
    pub name: &'static str,
    up: &'static str,
    down: &'static str,
}

/// All migrations of this build, by number.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "tables",
        up: include_str!("../../schema/0001_tables.up.sql"),
        down: include_str!("../../schema/0001_tables.down.sql"),
    },
    Migration {
        number: 2,
        name: "saved",
        up: include_str!("../../schema/0002_saved.up.sql"),
        down: include_str!("../../schema/0002_saved.down.sql"),
    },
    Migration {
        number: 3,
        name: "young parts",
        up: include_str!("../../schema/0003_young_parts.up.sql"),
        down: include_str!("../../schema/0003_young_parts.down.sql"),
    },
    Migration {
        number: 4,
        name: "claims",
        up: include_str!("../../schema/0004_claims.up.sql"),
        down: include_str!("../../schema/0004_claims.down.sql"),
    },
    Migration {
        number: 5,
        name: "operations",
        up: include_str!("../../schema/0005_operations.up.sql"),
        down: include_str!("../../schema/0005_operations.down.sql"),
    },
    Migration {
        number: 6,
        name: "retries",
        up: include_str!("../../schema/0006_retries.up.sql"),
        down: include_str!("../../schema/0006_retries.down.sql"),
    },
    Migration {
        number: 7,
        name: "set aside at",
        up: include_str!("../../schema/0007_set_aside_at.up.sql"),
        down: include_str!("../../schema/0007_set_aside_at.down.sql"),
    },
    Migration {
        number: 8,
        name: "string lengths",
        up: include_str!("../../schema/0008_string_lengths.up.sql"),
        down: include_str!("../../schema/0008_string_lengths.down.sql"),
    },
    Migration {
        number: 9,
        name: "codecs",
        up: include_str!("../../schema/0009_codecs.up.sql"),
        down: include_str!("../../schema/0009_codecs.down.sql"),
    },
    Migration {
        number: 10,
        name: "activity",
        up: include_str!("../../schema/0010_activity.up.sql"),
        down: include_str!("../../schema/0010_activity.down.sql"),
    },
];

/// The highest migration this build knows.
pub const LATEST: u32 = match MIGRATIONS.last() {
    Some(last) => last.number,
    None => 0,
};

/// Append-only: the row with the highest `version` of a number holds.
const CREATE_RECORD: &str = "CREATE TABLE IF NOT EXISTS schema_migrations \
    (number UInt32, name String, checksum String, state LowCardinality(String), version UInt64, gemba String, \
    at DateTime64(3, 'UTC') DEFAULT now64(3)) \
    ENGINE = MergeTree ORDER BY (number, version) \
    SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, \
    old_parts_lifetime = 480";

/// Name of the lease under which migrations run.
const LEASE: &str = "migrate";
/// How long another migrator is waited for. Chosen: a statement may take a minute, a migration has several.
const PATIENCE: Duration = Duration::from_mins(5);

/// How far a migration has come in a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Never begun here, or undone.
    Absent,
    /// Begun and not finished, up or down; the next `up` or `down` finishes it.
    Interrupted,
    /// Holds.
    Applied,
}

/// A migration and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its number.
    pub number: u32,
    /// Its name; of an unknown one as the database has it.
    pub name: String,
    /// How far it has come.
    pub state: State,
    /// Whether this build knows it; false only in a database of a newer Gemba.
    pub known: bool,
}

/// Why a database was not migrated.
#[derive(Debug, Error)]
pub enum MigrationError {
    /// The database is newer than this build.
    #[error(
        "the database holds migration {database} ({name}), this gemba knows up to {known}; either start the newer gemba, \
         or undo it there with: gemba migrate down --to {known}"
    )]
    Newer {
        /// Highest migration in the database.
        database: u32,
        /// Its name.
        name: String,
        /// Highest migration this build knows.
        known: u32,
    },
    /// The database was made by another migration of the same number: a build of another branch.
    #[error(
        "migration {number} in the database differs from the one this gemba knows; start the gemba that made the \
         database, or a new data folder"
    )]
    Changed {
        /// The number.
        number: u32,
    },
    /// Records acknowledged and not yet stored would have no table left.
    #[error(
        "{records} records are acknowledged and not yet stored; start gemba serve, stop it with SIGTERM, which stores them, and try again"
    )]
    NotDrained {
        /// How many.
        records: u64,
    },
    /// There is no such migration.
    #[error("there is no migration {asked}; this gemba knows up to {known}")]
    NoSuch {
        /// The number that was asked for.
        asked: u32,
        /// Highest migration this build knows.
        known: u32,
    },
    /// ClickHouse did not do as it was asked; what was begun is finished by trying again.
    #[error("cannot {action} migration {number}")]
    Store {
        /// `read`, `apply` or `undo`.
        action: &'static str,
        /// The migration, or 0 for the record of all of them.
        number: u32,
        /// What ClickHouse said.
        source: StoreError,
    },
    /// The database and `--cluster` do not go together.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Another node migrates, or this one could not keep others from it.
    #[error("the migrations cannot be run just now")]
    Turn(#[source] LeaseError),
}

/// What the record says of one migration.
#[derive(Debug, Clone, clickhouse::Row, Deserialize)]
struct Recorded {
    number: u32,
    name: String,
    checksum: String,
    state: String,
    version: u64,
}

impl Migration {
    /// The statements that apply it, in order.
    pub fn up_statements(&self) -> Vec<String> {
        statements(self.up)
    }

    /// The statements that undo it, in order.
    pub fn down_statements(&self) -> Vec<String> {
        statements(self.down)
    }

    /// SHA-256 over the statements as they are run, so that a comment may be mended later and a column may not.
    fn checksum(&self) -> String {
        let mut hash = Sha256::new();
        for statement in statements(self.up).iter().chain(&statements(self.down)) {
            hash.update(statement.split_whitespace().collect::<Vec<_>>().join(" "));
            hash.update(b";");
        }
        hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        })
    }
}

/// What each migration's state is: those of this build by number, then any the database has beyond.
pub async fn status(client: &Client) -> Result<Vec<Status>, MigrationError> {
    let recorded = recorded(client).await?;
    let mut found: Vec<Status> = MIGRATIONS
        .iter()
        .map(|migration| Status {
            number: migration.number,
            name: migration.name.to_owned(),
            state: state(recorded.get(&migration.number)),
            known: true,
        })
        .collect();
    let unknown = recorded.values().filter(|record| record.number > LATEST && record.state != "undone");
    found.extend(unknown.map(|record| Status {
        number: record.number,
        name: record.name.clone(),
        state: state(Some(record)),
        known: false,
    }));
    Ok(found)
}

/// Applies every migration that does not hold yet; returns their numbers. Safe to run again and from two places at once: the
/// second waits, and finds nothing left to do.
///
/// # Errors
/// [`MigrationError::Newer`] and [`MigrationError::Changed`] before anything is done; [`MigrationError::Store`] may leave
/// a migration interrupted, and running `up` again finishes it.
pub async fn up(client: &Client) -> Result<Vec<u32>, MigrationError> {
    let recorded = check(client).await?;
    let are_applied = MIGRATIONS.iter().all(|migration| state(recorded.get(&migration.number)) == State::Applied);
    if are_applied && cluster::missing(client).await.map_err(unread)?.is_empty() {
        return Ok(Vec::new());
    }
    alone(client, apply(client)).await
}

/// Runs migrations while nobody else does.
async fn alone<T>(client: &Client, work: impl Future<Output = Result<T, MigrationError>>) -> Result<T, MigrationError> {
    leases::prepare(client).await.map_err(unread)?;
    let lease = leases::wait(client, LEASE, PATIENCE).await.map_err(MigrationError::Turn)?;
    let done = lease.cover(work).await;
    lease.give_up().await;
    done.map_err(MigrationError::Turn)?
}

async fn apply(client: &Client) -> Result<Vec<u32>, MigrationError> {
    // Another node may have done it while it was waited for.
    let recorded = check(client).await?;
    let mut applied = Vec::new();
    for migration in MIGRATIONS {
        let record = recorded.get(&migration.number);
        if state(record) != State::Applied {
            let version = record.map_or(0, |record| record.version);
            run(client, migration, "apply", version, ["applying", "applied"], migration.up).await?;
            applied.push(migration.number);
        }
    }
    cluster::show(client).await.map_err(unread)?;
    Ok(applied)
}

/// Undoes every migration above `to`, the newest first; returns their numbers. Drops the data in their tables.
///
/// `pending_records` is what the log still holds of this database: it must be 0.
///
/// # Errors
/// As [`up`]; [`MigrationError::NotDrained`] and [`MigrationError::NoSuch`] before anything is done.
pub async fn down(client: &Client, to: u32, pending_records: u64) -> Result<Vec<u32>, MigrationError> {
    if to > LATEST {
        return Err(MigrationError::NoSuch { asked: to, known: LATEST });
    }
    if pending_records > 0 {
        return Err(MigrationError::NotDrained { records: pending_records });
    }
    check(client).await?;
    alone(client, undo(client, to)).await
}

async fn undo(client: &Client, to: u32) -> Result<Vec<u32>, MigrationError> {
    let recorded = check(client).await?;
    let mut undone = Vec::new();
    for migration in MIGRATIONS.iter().rev().filter(|migration| migration.number > to) {
        let record = recorded.get(&migration.number);
        if state(record) != State::Absent {
            let version = record.map_or(0, |record| record.version);
            run(client, migration, "undo", version, ["undoing", "undone"], migration.down).await?;
            undone.push(migration.number);
        }
    }
    cluster::show(client).await.map_err(unread)?;
    Ok(undone)
}

fn unread(source: StoreError) -> MigrationError {
    MigrationError::Store { action: "read", number: 0, source }
}

/// The record, refused when this build must not touch the database.
async fn check(client: &Client) -> Result<BTreeMap<u32, Recorded>, MigrationError> {
    let recorded = recorded(client).await?;
    if let Some(newer) = recorded.values().rev().find(|record| record.number > LATEST && record.state != "undone") {
        return Err(MigrationError::Newer { database: newer.number, name: newer.name.clone(), known: LATEST });
    }
    for migration in MIGRATIONS {
        let holds = recorded.get(&migration.number).filter(|record| record.state != "undone");
        if holds.is_some_and(|record| record.checksum != migration.checksum()) {
            return Err(MigrationError::Changed { number: migration.number });
        }
    }
    Ok(recorded)
}

/// What holds of each migration. Creates the record where there is none.
async fn recorded(client: &Client) -> Result<BTreeMap<u32, Recorded>, MigrationError> {
    if let Some(error) = cluster::check(client).await.map_err(unread)? {
        return Err(error.into());
    }
    client.define_table("schema_migrations", CREATE_RECORD).await.map_err(unread)?;
    client.catch_up("schema_migrations").await.map_err(unread)?;
    let sql = "SELECT number, argMax(name, r.version) AS name, argMax(checksum, r.version) AS checksum, \
               argMax(state, r.version) AS state, max(r.version) AS version \
               FROM schema_migrations AS r GROUP BY number ORDER BY number";
    let rows = client.rows::<Recorded>(sql).await.map_err(unread)?;
    Ok(rows.into_iter().map(|record| (record.number, record)).collect())
}

fn state(record: Option<&Recorded>) -> State {
    match record.map(|record| record.state.as_str()) {
        None | Some("undone") => State::Absent,
        Some("applied") => State::Applied,
        Some(_) => State::Interrupted,
    }
}

/// Notes the first state, runs the statements, notes the second.
async fn run(
    client: &Client,
    migration: &Migration,
    action: &'static str,
    version: u64,
    [begun, done]: [&str; 2],
    sql: &str,
) -> Result<(), MigrationError> {
    let failed = |source| MigrationError::Store { action, number: migration.number, source };
    note(client, migration, begun, version + 1).await.map_err(failed)?;
    for statement in statements(sql) {
        client.define(&statement).await.map_err(failed)?;
    }
    note(client, migration, done, version + 2).await.map_err(failed)
}

async fn note(client: &Client, migration: &Migration, state: &str, version: u64) -> Result<(), StoreError> {
    let (number, name, checksum) = (migration.number, migration.name, migration.checksum());
    let gemba = env!("CARGO_PKG_VERSION");
    client
        .execute(&format!(
            "INSERT INTO schema_migrations (number, name, checksum, state, version, gemba) \
             SETTINGS async_insert = 0 VALUES ({number}, '{name}', '{checksum}', '{state}', {version}, '{gemba}')"
        ))
        .await
}

/// The statements of a file, without comments. The files hold no strings with semicolons or `--`; a test keeps it so.
fn statements(sql: &str) -> Vec<String> {
    let without_comments: Vec<&str> =
        sql.lines().map(|line| line.split_once("--").map_or(line, |(before, _)| before).trim_end()).collect();
    without_comments.join("\n").split(';').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_run_from_one_without_gaps() {
        let numbers: Vec<u32> = MIGRATIONS.iter().map(|migration| migration.number).collect();
        assert_eq!(numbers, (1..=LATEST).collect::<Vec<_>>());
    }

    /// Whether a statement only sets codecs and settings, which may be set again.
    fn is_change(statement: &str) -> bool {
        let clauses = statement.split_once("ALTER TABLE ").and_then(|(_, rest)| rest.split_once(char::is_whitespace));
        clauses.is_some_and(|(_, clauses)| {
            clauses.trim().split(",\n").all(|clause| {
                // A part that has the projection already is left as it is.
                ["MODIFY COLUMN ", "MODIFY SETTING ", "MATERIALIZE PROJECTION "]
                    .iter()
                    .any(|change| clause.trim().starts_with(change))
            })
        })
    }

    #[test]
    fn every_statement_may_run_again() {
        for migration in MIGRATIONS {
            for statement in statements(migration.up) {
                let repeats = statement.starts_with("CREATE TABLE IF NOT EXISTS ")
                    || statement.starts_with("ALTER TABLE ") && statement.contains(" IF NOT EXISTS ")
                    || is_change(&statement);
                assert!(repeats, "{statement}");
            }
            for statement in statements(migration.down) {
                let repeats = statement.starts_with("DROP TABLE IF EXISTS ")
                    || statement.starts_with("KILL MUTATION WHERE ")
                    || statement.starts_with("ALTER TABLE ") && statement.contains(" IF EXISTS ")
                    || is_change(&statement);
                assert!(repeats, "{statement}");
            }
        }
    }

    /// The build before goes on writing while nodes are replaced one by one. Rows of `control` and `audit` it inserts through a
    /// client that refuses a table with a column it does not know and that has no default (seen with clickhouse 0.15).
    #[test]
    fn a_column_that_is_added_has_a_default() {
        // From before the rule, in tables that are written otherwise.
        let known = [("ledger", "bytes"), ("set_aside", "context")];
        let mut without = Vec::new();
        for statement in MIGRATIONS.iter().flat_map(Migration::up_statements) {
            let table = statement.split_whitespace().nth(2).unwrap_or_default().to_owned();
            for added in statement.split("ADD COLUMN IF NOT EXISTS ").skip(1) {
                if !added.split(",\n").next().unwrap_or_default().contains(" DEFAULT ") {
                    without.push((table.clone(), added.split_whitespace().next().unwrap_or_default().to_owned()));
                }
            }
        }
        assert_eq!(without, known.map(|(table, column)| (table.to_owned(), column.to_owned())));
    }

    #[test]
    fn no_string_hides_a_semicolon_or_a_comment() {
        for migration in MIGRATIONS {
            for statement in statements(migration.up).iter().chain(&statements(migration.down)) {
                assert_eq!(statement.matches('\'').count() % 2, 0, "{statement}");
                assert_eq!(statement.matches('(').count(), statement.matches(')').count(), "{statement}");
            }
        }
    }

    #[test]
    fn down_drops_exactly_what_up_creates() {
        for migration in MIGRATIONS {
            let tables = |sql: &str, before: &str| {
                let mut names: Vec<String> = statements(sql)
                    .iter()
                    .filter_map(|statement| {
                        statement.strip_prefix(before)?.split_whitespace().next().map(str::to_owned)
                    })
                    .collect();
                names.sort();
                names
            };
            assert_eq!(
                tables(migration.up, "CREATE TABLE IF NOT EXISTS "),
                tables(migration.down, "DROP TABLE IF EXISTS ")
            );
        }
    }

    #[test]
    fn a_comment_does_not_change_the_checksum_and_a_column_does() {
        let base = Migration { number: 1, name: "a", up: "CREATE TABLE a (b UInt8);", down: "DROP TABLE a;" };
        let commented = Migration { up: "-- why\nCREATE TABLE a\n  (b UInt8); -- there", ..base };
        let changed = Migration { up: "CREATE TABLE a (b UInt16);", ..base };
        assert_eq!(base.checksum(), commented.checksum());
        assert_ne!(base.checksum(), changed.checksum());
    }
}
