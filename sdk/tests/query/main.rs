//! What the wrappers of database crates count, against real databases.
//!
//! Recording starts once in a process, so all claims share one start and one receiver; each tells its own records by its
//! queries' texts, its names or its users. One is at work at a time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here ends the test")]

mod diesel;
mod diesel_postgres;
mod rusqlite;
mod sampling;
mod sea_orm;
mod sea_orm_servers;
mod server;
mod sqlx_mysql;
mod sqlx_postgres;
mod sqlx_sqlite;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod tokio_postgres;

use gemba::query::{Dialect, fingerprint};
use support::{points, text, usage_of};
use tokio::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::const_new(());

/// A turn of one's own: a flush sends the usage of every scope still open, so another claim's would cut a scope's usage
/// into two records.
async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}

/// The same for claims without a runtime.
fn blocking_turn() -> MutexGuard<'static, ()> {
    TURN.blocking_lock()
}

/// What a user's queries with this text came to: calls, rows, errors.
fn counted(user: &str, dialect: Dialect, sql: &str) -> (i64, i64, i64) {
    let fingerprint = fingerprint(dialect, sql).hex();
    let usage = usage_of(user);
    let lines = usage.iter().filter(|line| line.0 == fingerprint);
    lines.fold((0, 0, 0), |sum, line| (sum.0 + line.1, sum.1 + line.2, sum.2 + line.3))
}

/// Kind and code of the errors of the queries with this text, in order; empty texts for success.
fn errors(dialect: Dialect, sql: &str) -> Vec<(String, String)> {
    let found = points(&fingerprint(dialect, sql).hex());
    let mut errors: Vec<_> = found
        .iter()
        .filter(|(of, _)| text(of, "db.system.name") == dialect.system())
        .map(|(of, _)| (text(of, "error.type").to_owned(), text(of, "db.response.status_code").to_owned()))
        .collect();
    errors.sort();
    errors.dedup();
    errors
}

/// All statements of a user, and whether each names the file it was run from.
fn calls_and_code(user: &str, file: &str) -> (i64, bool) {
    let usage = usage_of(user);
    (usage.iter().map(|line| line.1).sum(), usage.iter().all(|line| line.6.contains(file)))
}

/// Values that were bound must not be found in anything that was sent.
fn assert_never_sent(marker: &str) {
    for (path, body) in support::RECEIVED.lock().unwrap().iter() {
        let found = body.windows(marker.len()).any(|window| window == marker.as_bytes());
        assert!(!found, "{marker} left the process on {path}");
    }
}

fn one(kind: &str, code: &str) -> (String, String) {
    (kind.to_owned(), code.to_owned())
}
