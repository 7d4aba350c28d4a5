//! Queries timed by hand, by a name or a text given where they run.
//!
//! In: a dialect, a name or text, and a future or closure. Out: the same, counted under the line of code of the call.

use std::future::Future;
use std::panic::Location;

use super::Dialect;
use super::known;
use super::timing::{Begin, QueryOutput, Running, Subject, TimedQuery, run};
use crate::state;

/// A database whose queries are timed by hand: knows the dialect, nothing else.
///
/// # Examples
/// ```
/// use gemba::query::{Database, Dialect};
/// # async fn fetch() -> Result<Vec<u32>, std::io::Error> { Ok(vec![1]) }
/// # async fn handler() -> Result<(), std::io::Error> {
/// let db = Database::new(Dialect::Postgres);
/// let orders = db.timed("orders.by_user", fetch()).await?;
/// let users = db.timed_text("SELECT name FROM users WHERE id = $1", fetch()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Database {
    dialect: Dialect,
}

impl Database {
    /// A database of this dialect.
    ///
    /// # Examples
    /// ```
    /// use gemba::query::{Database, Dialect};
    /// const DB: Database = Database::new(Dialect::Postgres);
    /// # let _ = DB;
    /// ```
    pub const fn new(dialect: Dialect) -> Self {
        Self { dialect }
    }

    /// Wraps `future` as the query of this name.
    ///
    /// # Examples
    /// ```
    /// use gemba::query::{Database, Dialect};
    /// # async fn fetch() -> Result<Vec<u32>, std::io::Error> { Ok(vec![1]) }
    /// # async fn handler() -> Result<Vec<u32>, std::io::Error> {
    /// Database::new(Dialect::Postgres).timed("orders.by_user", fetch()).await
    /// # }
    /// ```
    #[track_caller]
    pub fn timed<F: Future>(self, name: &'static str, future: F) -> TimedQuery<F>
    where
        F::Output: QueryOutput,
    {
        let begin = Begin { query: Subject::Name(self.dialect, name), code: Location::caller().into() };
        TimedQuery::new(future, F::Output::query_end, begin)
    }

    /// Wraps `future` as the query with this text. Its values are taken out; no literal leaves the process.
    ///
    /// # Examples
    /// ```
    /// use gemba::query::{Database, Dialect};
    /// # async fn fetch() -> Result<Vec<u32>, std::io::Error> { Ok(vec![1]) }
    /// # async fn handler() -> Result<Vec<u32>, std::io::Error> {
    /// Database::new(Dialect::Postgres).timed_text("SELECT id FROM orders WHERE owner = 'ann'", fetch()).await
    /// # }
    /// ```
    #[track_caller]
    pub fn timed_text<F: Future>(self, sql: &str, future: F) -> TimedQuery<F>
    where
        F::Output: QueryOutput,
    {
        timed_text(self.dialect, sql, future)
    }

    /// Runs `work` as the query of this name.
    ///
    /// # Examples
    /// ```
    /// use gemba::query::{Database, Dialect};
    /// let total = Database::new(Dialect::Sqlite).run("orders.total", || "40".parse::<u32>());
    /// assert_eq!(total, Ok(40));
    /// ```
    #[track_caller]
    pub fn run<T: QueryOutput>(self, name: &'static str, work: impl FnOnce() -> T) -> T {
        run(Running::begin(|| known::by_name(self.dialect, name), Location::caller().into()), work)
    }

    /// Runs `work` as the query with this text.
    ///
    /// # Examples
    /// ```
    /// use gemba::query::{Database, Dialect};
    /// let total = Database::new(Dialect::Sqlite).run_text("SELECT sum(price) FROM orders", || "40".parse::<u32>());
    /// assert_eq!(total, Ok(40));
    /// ```
    #[track_caller]
    pub fn run_text<T: QueryOutput>(self, sql: &str, work: impl FnOnce() -> T) -> T {
        run(Running::begin(|| known::by_text(self.dialect, sql), Location::caller().into()), work)
    }
}

/// Wraps `future` as the query with this text.
///
/// # Examples
/// ```
/// use gemba::query::{Dialect, timed_text};
/// # async fn fetch() -> Result<Vec<u32>, std::io::Error> { Ok(vec![1]) }
/// # async fn handler() -> Result<Vec<u32>, std::io::Error> {
/// timed_text(Dialect::Postgres, "SELECT id FROM orders WHERE owner = $1", fetch()).await
/// # }
/// ```
#[track_caller]
pub fn timed_text<F: Future>(dialect: Dialect, sql: &str, future: F) -> TimedQuery<F>
where
    F::Output: QueryOutput,
{
    let query = if state::is_recording() { Subject::Known(known::by_text(dialect, sql)) } else { Subject::Nothing };
    TimedQuery::new(future, F::Output::query_end, Begin { query, code: Location::caller().into() })
}
