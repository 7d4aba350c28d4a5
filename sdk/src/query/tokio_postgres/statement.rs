//! What a query is given by: a text, or a prepared statement that keeps its text.
//!
//! In: a statement of tokio-postgres and its text. Out: both, for whoever executes and counts.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use ::tokio_postgres as postgres;

/// A prepared statement that keeps its text; made by [`Timed::prepare`](super::Timed::prepare).
///
/// Its parameters and columns are reached through `Deref`.
///
/// # Examples
/// ```
/// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
/// let by_id = db.prepare("SELECT title FROM card WHERE id = $1").await?;
/// assert_eq!((by_id.params().len(), by_id.columns().len()), (1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Statement {
    inner: postgres::Statement,
    sql: Arc<str>,
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may hold values.
        f.debug_struct("Statement").finish_non_exhaustive()
    }
}

impl Statement {
    pub(super) fn new(inner: postgres::Statement, sql: &str) -> Self {
        Self { inner, sql: sql.into() }
    }
}

impl Deref for Statement {
    type Target = postgres::Statement;

    fn deref(&self) -> &postgres::Statement {
        &self.inner
    }
}

/// What a query is given by: a text, or a [`Statement`].
///
/// # Examples
/// ```
/// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
/// let by_id = db.prepare("SELECT title FROM card WHERE id = $1").await?;
/// let one = db.query(&by_id, &[&7_i64]).await?;
/// let all = db.query("SELECT title FROM card", &[]).await?;
/// # drop((one, all));
/// # Ok(())
/// # }
/// ```
pub trait Query: Sync {
    /// What tokio-postgres executes.
    type Executed: ?Sized + postgres::ToStatement + Sync + Send;

    /// What tokio-postgres executes.
    fn executed(&self) -> &Self::Executed;

    /// The text.
    fn sql(&self) -> &str;
}

impl Query for str {
    type Executed = str;

    fn executed(&self) -> &str {
        self
    }

    fn sql(&self) -> &str {
        self
    }
}

impl Query for String {
    type Executed = str;

    fn executed(&self) -> &str {
        self
    }

    fn sql(&self) -> &str {
        self
    }
}

impl Query for Statement {
    type Executed = postgres::Statement;

    fn executed(&self) -> &postgres::Statement {
        &self.inner
    }

    fn sql(&self) -> &str {
        &self.sql
    }
}
