//! Exact capture of rusqlite queries: a connection whose statements count themselves.
//!
//! In: a connection, transaction or savepoint. Out: the same, with every statement counted under the line of code that ran
//! it: the time spent in SQLite (not what the caller does between two rows), rows, and SQLite's code for an error.
//!
//! rusqlite's own hooks (`trace_v2`, `profile`) know neither errors nor callers and report triggers as statements of their
//! own, so a wrapper counts instead. What it does not count: what goes past it through `Deref` (pragmas, blobs, backups),
//! and the rollback of a transaction that is dropped. A statement is counted when it runs, not when it is prepared, save
//! that one SQLite refuses to prepare counts as failed. Rows of `execute` are those changed.
//!
//! ```
//! # fn main() -> rusqlite::Result<()> {
//! use gemba::rusqlite::Timed;
//! let mut db = Timed::new(rusqlite::Connection::open_in_memory()?);
//! db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT)")?;
//! let transaction = db.transaction()?;
//! transaction.execute("INSERT INTO card (title) VALUES (?1)", ["first"])?;
//! transaction.commit()?;
//! let mut statement = db.prepare("SELECT title FROM card WHERE id < ?1")?;
//! let titles: Vec<String> = statement.query_map([9], |row| row.get(0))?.collect::<Result<_, _>>()?;
//! assert_eq!(titles, ["first"]);
//! # Ok(())
//! # }
//! ```

mod connected;
mod ending;
mod statement;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;

use ::rusqlite::{Connection, Error, Params, Result, Row, Savepoint, Transaction, TransactionBehavior};

use ending::{count, first_row, only_row, refused, run, run_row};

pub use connected::Connected;
pub use statement::{MappedRows, Rows, Statement};

/// A connection, transaction or savepoint whose statements are all counted. A pooled one: `Timed::new(&*pooled)`.
///
/// Methods are rusqlite's of the same name; the rest of them is reached through `Deref`, uncounted.
///
/// # Examples
/// ```
/// # fn main() -> rusqlite::Result<()> {
/// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
/// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
/// let titles: i64 = db.query_row("SELECT count(title) FROM card", [], |row| row.get(0))?;
/// assert_eq!((titles, db.last_insert_rowid()), (1, 1));
/// # Ok(())
/// # }
/// ```
pub struct Timed<C> {
    inner: C,
}

impl<C> fmt::Debug for Timed<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timed").finish_non_exhaustive()
    }
}

impl<C> Deref for Timed<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.inner
    }
}

impl<C> DerefMut for Timed<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.inner
    }
}

impl<C> Timed<C> {
    /// Wraps a connection.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY)")?;
    /// # Ok(())
    /// # }
    /// ```
    pub const fn new(connection: C) -> Self {
        Self { inner: connection }
    }

    /// The connection, no longer counted.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let connection: rusqlite::Connection = db.into_inner();
    /// # drop(connection);
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_inner(self) -> C {
        self.inner
    }
}

impl<C: Connected> Timed<C> {
    fn connection(&self) -> &Connection {
        self.inner.connection()
    }

    /// Runs one statement; answers the rows it changed.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// assert_eq!(db.execute("UPDATE card SET title = ?1 WHERE id = ?2", ("other", 1))?, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn execute<P: Params>(&self, sql: &str, params: P) -> Result<usize> {
        run(sql, Location::caller(), |rows| count(*rows), || self.connection().execute(sql, params))
    }

    /// Runs several statements, counted as one text; its rows are not known.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// db.execute_batch("DELETE FROM card; VACUUM")?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn execute_batch(&self, sql: &str) -> Result<()> {
        run(sql, Location::caller(), |()| None, || self.connection().execute_batch(sql))
    }

    /// Runs a query and gives its first row to `f`.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let title: String = db.query_row("SELECT title FROM card WHERE id = ?1", [1], |row| row.get(0))?;
    /// assert_eq!(title, "first");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn query_row<T, P: Params, F: FnOnce(&Row<'_>) -> Result<T>>(&self, sql: &str, params: P, f: F) -> Result<T> {
        self.query_row_and_then(sql, params, f)
    }

    /// Runs a query and gives its only row to `f`.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let title: String = db.query_one("SELECT title FROM card WHERE id = ?1", [1], |row| row.get(0))?;
    /// assert_eq!(title, "first");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn query_one<T, P: Params, F: FnOnce(&Row<'_>) -> Result<T>>(&self, sql: &str, params: P, f: F) -> Result<T> {
        run_row(sql, Location::caller(), |running| only_row(running, self.connection().prepare(sql)?.query(params)?, f))
    }

    /// As [`query_row`](Self::query_row), for a closure with an error of its own.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// # #[derive(Debug)]
    /// # struct Trouble;
    /// # impl From<rusqlite::Error> for Trouble { fn from(_: rusqlite::Error) -> Self { Trouble } }
    /// let id = db.query_row_and_then("SELECT title FROM card", [], |row| {
    ///     row.get::<_, String>(0)?.parse::<u64>().map_err(|_| Trouble)
    /// });
    /// assert!(id.is_err(), "`first` is no number, which is no failure of the query");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn query_row_and_then<T, E, P, F>(&self, sql: &str, params: P, f: F) -> std::result::Result<T, E>
    where
        P: Params,
        F: FnOnce(&Row<'_>) -> std::result::Result<T, E>,
        E: From<Error>,
    {
        run_row(sql, Location::caller(), |running| {
            first_row(running, self.connection().prepare(sql)?.query(params)?, f)
        })
    }

    /// Prepares a statement; each of its runs is counted.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let mut insert = db.prepare("INSERT INTO card (title) VALUES (?1)")?;
    /// for title in ["second", "third"] {
    ///     insert.execute([title])?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn prepare<'c>(&'c self, sql: &str) -> Result<Statement<'c>> {
        let prepared = refused(sql, Location::caller(), self.connection().prepare(sql))?;
        Ok(Statement::own(prepared, sql))
    }

    /// Prepares a statement, or finds it in the connection's cache.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let cards: i64 = db.prepare_cached("SELECT count(*) FROM card")?.query_row([], |row| row.get(0))?;
    /// assert_eq!(cards, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn prepare_cached<'c>(&'c self, sql: &str) -> Result<Statement<'c>> {
        let prepared = refused(sql, Location::caller(), self.connection().prepare_cached(sql))?;
        Ok(Statement::cached(prepared, sql))
    }
}

impl<C: Connected> Timed<C> {
    /// As [`transaction`](Timed::transaction), through a shared connection; a nested one fails when it begins.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let transaction = db.unchecked_transaction()?;
    /// transaction.execute("DELETE FROM card", [])?;
    /// transaction.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn unchecked_transaction(&self) -> Result<Timed<Transaction<'_>>> {
        let work = || self.connection().unchecked_transaction();
        run("BEGIN DEFERRED", Location::caller(), |_| None, work).map(Timed::new)
    }
}

impl Timed<Connection> {
    /// Begins a transaction whose statements are counted, `BEGIN` and `COMMIT` among them.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let mut db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let transaction = db.transaction()?;
    /// transaction.execute("DELETE FROM card", [])?;
    /// transaction.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn transaction(&mut self) -> Result<Timed<Transaction<'_>>> {
        self.transaction_with_behavior(TransactionBehavior::Deferred)
    }

    /// As [`transaction`](Self::transaction), with rusqlite's choice of locks.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let mut db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    /// transaction.execute("DELETE FROM card", [])?;
    /// transaction.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn transaction_with_behavior(&mut self, behavior: TransactionBehavior) -> Result<Timed<Transaction<'_>>> {
        let sql = match behavior {
            TransactionBehavior::Immediate => "BEGIN IMMEDIATE",
            TransactionBehavior::Exclusive => "BEGIN EXCLUSIVE",
            _ => "BEGIN DEFERRED",
        };
        let code = Location::caller();
        run(sql, code, |_| None, || self.inner.transaction_with_behavior(behavior)).map(Timed::new)
    }

    /// Begins a savepoint whose statements are counted.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let mut db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let savepoint = db.savepoint()?;
    /// savepoint.execute("DELETE FROM card", [])?;
    /// savepoint.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn savepoint(&mut self) -> Result<Timed<Savepoint<'_>>> {
        run("SAVEPOINT", Location::caller(), |_| None, || self.inner.savepoint()).map(Timed::new)
    }
}

impl Timed<Transaction<'_>> {
    /// Commits: where SQLite writes to its disk.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let mut db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let transaction = db.transaction()?;
    /// transaction.execute("DELETE FROM card", [])?;
    /// transaction.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn commit(self) -> Result<()> {
        run("COMMIT", Location::caller(), |()| None, || self.inner.commit())
    }

    /// Rolls back.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let mut db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let transaction = db.transaction()?;
    /// transaction.execute("DELETE FROM card", [])?;
    /// transaction.rollback()?;
    /// assert!(db.prepare("SELECT id FROM card")?.exists([])?);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn rollback(self) -> Result<()> {
        run("ROLLBACK", Location::caller(), |()| None, || self.inner.rollback())
    }

    /// Begins a savepoint inside the transaction.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let mut db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let mut transaction = db.transaction()?;
    /// let savepoint = transaction.savepoint()?;
    /// savepoint.execute("DELETE FROM card", [])?;
    /// savepoint.commit()?;
    /// transaction.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn savepoint(&mut self) -> Result<Timed<Savepoint<'_>>> {
        run("SAVEPOINT", Location::caller(), |_| None, || self.inner.savepoint()).map(Timed::new)
    }
}

impl Timed<Savepoint<'_>> {
    /// Commits the savepoint.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let mut db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let savepoint = db.savepoint()?;
    /// savepoint.execute("DELETE FROM card", [])?;
    /// savepoint.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn commit(self) -> Result<()> {
        run("RELEASE", Location::caller(), |()| None, || self.inner.commit())
    }

    /// Begins a savepoint inside the savepoint.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let mut db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let mut outer = db.savepoint()?;
    /// outer.savepoint()?.commit()?;
    /// outer.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn savepoint(&mut self) -> Result<Timed<Savepoint<'_>>> {
        run("SAVEPOINT", Location::caller(), |_| None, || self.inner.savepoint()).map(Timed::new)
    }

    /// Rolls back to the savepoint.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> rusqlite::Result<()> {
    /// # let mut db = gemba::rusqlite::Timed::new(rusqlite::Connection::open_in_memory()?);
    /// # db.execute_batch("CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT); INSERT INTO card (title) VALUES ('first')")?;
    /// let mut savepoint = db.savepoint()?;
    /// savepoint.execute("DELETE FROM card", [])?;
    /// savepoint.rollback()?;
    /// savepoint.commit()?;
    /// assert!(db.prepare("SELECT id FROM card")?.exists([])?);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn rollback(&mut self) -> Result<()> {
        run("ROLLBACK TO", Location::caller(), |()| None, || self.inner.rollback())
    }
}
