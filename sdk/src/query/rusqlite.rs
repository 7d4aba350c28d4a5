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

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;

use ::rusqlite::{
    self as lite, Connection, Error, Params, Result, Row, Savepoint, Transaction, TransactionBehavior, ffi,
};

use super::Dialect;
use super::status::{self, StatusCode};
use super::table::Code;
use super::timing::{self, Begin, Inside, QueryEnd, Running};
use super::wrap;

fn begin(sql: &str, code: Code) -> Begin {
    wrap::begin(Dialect::Sqlite, sql, code)
}

/// How a statement with this error ended. SQLite's extended code is the status.
fn failure(error: &Error) -> QueryEnd {
    let kind = match error {
        Error::NulError(_) | Error::InvalidQuery | Error::MultipleStatement => "invalid_query",
        Error::ToSqlConversionFailure(_) | Error::InvalidParameterName(_) | Error::InvalidParameterCount(..) => {
            status::ENCODE
        }
        // The rows are there; how many the caller wanted is no matter of the database.
        Error::QueryReturnedNoRows => return QueryEnd::done(Some(0)),
        Error::QueryReturnedMoreThanOneRow => return QueryEnd::done(Some(2)),
        // The source, because a variant with the place in the text exists only with one of rusqlite's features.
        _ => match std::error::Error::source(error).and_then(|source| source.downcast_ref::<ffi::Error>()) {
            Some(error) => return of_sqlite(*error),
            None => status::OTHER,
        },
    };
    QueryEnd::failed(kind, None)
}

fn of_sqlite(error: ffi::Error) -> QueryEnd {
    let kind = match error.extended_code {
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => {
            status::UNIQUE_VIOLATION
        }
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => status::FOREIGN_KEY_VIOLATION,
        ffi::SQLITE_CONSTRAINT_NOTNULL => status::NOT_NULL_VIOLATION,
        ffi::SQLITE_CONSTRAINT_CHECK => status::CHECK_VIOLATION,
        _ => status::DATABASE,
    };
    QueryEnd::failed(kind, StatusCode::new(&error.extended_code.to_string()))
}

fn end_of<T>(result: &Result<T>, rows: impl FnOnce(&T) -> Option<u64>) -> QueryEnd {
    match result {
        Ok(output) => QueryEnd::done(rows(output)),
        Err(error) => failure(error),
    }
}

/// Runs `work` as the statement with this text.
fn run<T>(sql: &str, code: Code, rows: impl FnOnce(&T) -> Option<u64>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    timing::run_with(begin(sql, code).begin(), work, |result| end_of(result, rows))
}

/// Counts a statement that SQLite refused to prepare.
fn refused<T>(sql: &str, code: Code, result: Result<T>) -> Result<T> {
    if let Err(error) = &result {
        begin(sql, code).begin().end(failure(error));
    }
    result
}

/// Tells an error of the database from one of the caller's closure over a row.
enum Failure<E> {
    Database(Error),
    Caller(E),
}

impl<E> From<Error> for Failure<E> {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// Runs a query for one row. What the caller's closure makes of the row is no failure of the query.
fn run_row<T, E: From<Error>>(
    sql: &str,
    code: Code,
    work: impl FnOnce() -> std::result::Result<T, Failure<E>>,
) -> std::result::Result<T, E> {
    let judge = |result: &std::result::Result<T, Failure<E>>| match result {
        Ok(_) | Err(Failure::Caller(_)) => QueryEnd::done(Some(1)),
        Err(Failure::Database(error)) => failure(error),
    };
    timing::run_with(begin(sql, code).begin(), work, judge).map_err(|failed| match failed {
        Failure::Database(error) => error.into(),
        Failure::Caller(error) => error,
    })
}

/// Gives the first row to `f`.
fn first_row<T, E>(
    mut rows: lite::Rows<'_>,
    f: impl FnOnce(&Row<'_>) -> std::result::Result<T, E>,
) -> std::result::Result<T, Failure<E>> {
    let row = rows.next()?.ok_or(Error::QueryReturnedNoRows)?;
    f(row).map_err(Failure::Caller)
}

/// Gives the only row to `f`; a second one is an error.
fn only_row<T, E>(
    mut rows: lite::Rows<'_>,
    f: impl FnOnce(&Row<'_>) -> std::result::Result<T, E>,
) -> std::result::Result<T, Failure<E>> {
    let row = rows.next()?.ok_or(Error::QueryReturnedNoRows)?;
    let output = f(row).map_err(Failure::Caller)?;
    if rows.next()?.is_some() {
        return Err(Error::QueryReturnedMoreThanOneRow.into());
    }
    Ok(output)
}

fn caller(location: &'static Location<'static>) -> Code {
    location.into()
}

fn count(rows: usize) -> Option<u64> {
    u64::try_from(rows).ok()
}

/// What leads to a connection: itself, a transaction, a savepoint, or a reference to one of them.
pub trait Connected {
    /// The connection, not counted.
    fn connection(&self) -> &Connection;
}

impl Connected for Connection {
    fn connection(&self) -> &Connection {
        self
    }
}

impl Connected for Transaction<'_> {
    fn connection(&self) -> &Connection {
        self
    }
}

impl Connected for Savepoint<'_> {
    fn connection(&self) -> &Connection {
        self
    }
}

impl<C: Connected + ?Sized> Connected for &C {
    fn connection(&self) -> &Connection {
        (**self).connection()
    }
}

impl<C: Connected + ?Sized> Connected for &mut C {
    fn connection(&self) -> &Connection {
        (**self).connection()
    }
}

/// A connection, transaction or savepoint whose statements are all counted. A pooled one: `Timed::new(&*pooled)`.
///
/// Methods are rusqlite's of the same name; the rest of them is reached through `Deref`, uncounted.
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
    pub const fn new(connection: C) -> Self {
        Self { inner: connection }
    }

    /// The connection, no longer counted.
    pub fn into_inner(self) -> C {
        self.inner
    }
}

impl<C: Connected> Timed<C> {
    fn connection(&self) -> &Connection {
        self.inner.connection()
    }

    /// Runs one statement; answers the rows it changed.
    #[track_caller]
    pub fn execute<P: Params>(&self, sql: &str, params: P) -> Result<usize> {
        run(sql, caller(Location::caller()), |rows| count(*rows), || self.connection().execute(sql, params))
    }

    /// Runs several statements, counted as one text; its rows are not known.
    #[track_caller]
    pub fn execute_batch(&self, sql: &str) -> Result<()> {
        run(sql, caller(Location::caller()), |()| None, || self.connection().execute_batch(sql))
    }

    /// Runs a query and gives its first row to `f`.
    #[track_caller]
    pub fn query_row<T, P: Params, F: FnOnce(&Row<'_>) -> Result<T>>(&self, sql: &str, params: P, f: F) -> Result<T> {
        self.query_row_and_then(sql, params, f)
    }

    /// Runs a query and gives its only row to `f`.
    #[track_caller]
    pub fn query_one<T, P: Params, F: FnOnce(&Row<'_>) -> Result<T>>(&self, sql: &str, params: P, f: F) -> Result<T> {
        run_row(sql, caller(Location::caller()), || only_row(self.connection().prepare(sql)?.query(params)?, f))
    }

    /// As [`query_row`](Self::query_row), for a closure with an error of its own.
    #[track_caller]
    pub fn query_row_and_then<T, E, P, F>(&self, sql: &str, params: P, f: F) -> std::result::Result<T, E>
    where
        P: Params,
        F: FnOnce(&Row<'_>) -> std::result::Result<T, E>,
        E: From<Error>,
    {
        run_row(sql, caller(Location::caller()), || first_row(self.connection().prepare(sql)?.query(params)?, f))
    }

    /// Prepares a statement; each of its runs is counted.
    #[track_caller]
    pub fn prepare<'c>(&'c self, sql: &str) -> Result<Statement<'c>> {
        let prepared = refused(sql, caller(Location::caller()), self.connection().prepare(sql))?;
        Ok(Statement { inner: Prepared::Own(prepared), sql: sql.into() })
    }

    /// Prepares a statement, or finds it in the connection's cache.
    #[track_caller]
    pub fn prepare_cached<'c>(&'c self, sql: &str) -> Result<Statement<'c>> {
        let prepared = refused(sql, caller(Location::caller()), self.connection().prepare_cached(sql))?;
        Ok(Statement { inner: Prepared::Cached(prepared), sql: sql.into() })
    }
}

impl<C: Connected> Timed<C> {
    /// As [`transaction`](Timed::transaction), through a shared connection; a nested one fails when it begins.
    #[track_caller]
    pub fn unchecked_transaction(&self) -> Result<Timed<Transaction<'_>>> {
        let work = || self.connection().unchecked_transaction();
        run("BEGIN DEFERRED", caller(Location::caller()), |_| None, work).map(Timed::new)
    }
}

impl Timed<Connection> {
    /// Begins a transaction whose statements are counted, `BEGIN` and `COMMIT` among them.
    #[track_caller]
    pub fn transaction(&mut self) -> Result<Timed<Transaction<'_>>> {
        self.transaction_with_behavior(TransactionBehavior::Deferred)
    }

    /// As [`transaction`](Self::transaction), with rusqlite's choice of locks.
    #[track_caller]
    pub fn transaction_with_behavior(&mut self, behavior: TransactionBehavior) -> Result<Timed<Transaction<'_>>> {
        let sql = match behavior {
            TransactionBehavior::Immediate => "BEGIN IMMEDIATE",
            TransactionBehavior::Exclusive => "BEGIN EXCLUSIVE",
            _ => "BEGIN DEFERRED",
        };
        let code = caller(Location::caller());
        run(sql, code, |_| None, || self.inner.transaction_with_behavior(behavior)).map(Timed::new)
    }

    /// Begins a savepoint whose statements are counted.
    #[track_caller]
    pub fn savepoint(&mut self) -> Result<Timed<Savepoint<'_>>> {
        run("SAVEPOINT", caller(Location::caller()), |_| None, || self.inner.savepoint()).map(Timed::new)
    }
}

impl Timed<Transaction<'_>> {
    /// Commits: where SQLite writes to its disk.
    #[track_caller]
    pub fn commit(self) -> Result<()> {
        run("COMMIT", caller(Location::caller()), |()| None, || self.inner.commit())
    }

    /// Rolls back.
    #[track_caller]
    pub fn rollback(self) -> Result<()> {
        run("ROLLBACK", caller(Location::caller()), |()| None, || self.inner.rollback())
    }

    /// Begins a savepoint inside the transaction.
    #[track_caller]
    pub fn savepoint(&mut self) -> Result<Timed<Savepoint<'_>>> {
        run("SAVEPOINT", caller(Location::caller()), |_| None, || self.inner.savepoint()).map(Timed::new)
    }
}

impl Timed<Savepoint<'_>> {
    /// Commits the savepoint.
    #[track_caller]
    pub fn commit(self) -> Result<()> {
        run("RELEASE", caller(Location::caller()), |()| None, || self.inner.commit())
    }

    /// Begins a savepoint inside the savepoint.
    #[track_caller]
    pub fn savepoint(&mut self) -> Result<Timed<Savepoint<'_>>> {
        run("SAVEPOINT", caller(Location::caller()), |_| None, || self.inner.savepoint()).map(Timed::new)
    }

    /// Rolls back to the savepoint.
    #[track_caller]
    pub fn rollback(&mut self) -> Result<()> {
        run("ROLLBACK TO", caller(Location::caller()), |()| None, || self.inner.rollback())
    }
}

/// A prepared statement, by itself or in the cache of its connection.
enum Prepared<'c> {
    Own(lite::Statement<'c>),
    Cached(lite::CachedStatement<'c>),
}

/// A prepared statement whose runs are counted, each under the line that runs it.
///
/// Methods are rusqlite's of the same name; the rest of them is reached through `Deref`, uncounted.
pub struct Statement<'c> {
    inner: Prepared<'c>,
    sql: Box<str>,
}

impl fmt::Debug for Statement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may hold values.
        f.debug_struct("Statement").finish_non_exhaustive()
    }
}

impl<'c> Deref for Statement<'c> {
    type Target = lite::Statement<'c>;

    fn deref(&self) -> &Self::Target {
        match &self.inner {
            Prepared::Own(statement) => statement,
            Prepared::Cached(statement) => statement,
        }
    }
}

impl DerefMut for Statement<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match &mut self.inner {
            Prepared::Own(statement) => statement,
            Prepared::Cached(statement) => statement,
        }
    }
}

impl<'c> Statement<'c> {
    /// The statement and its text.
    fn parts(&mut self) -> (&mut lite::Statement<'c>, &str) {
        let statement = match &mut self.inner {
            Prepared::Own(statement) => statement,
            Prepared::Cached(statement) => statement,
        };
        (statement, &self.sql)
    }

    /// Runs the statement; answers the rows it changed.
    #[track_caller]
    pub fn execute<P: Params>(&mut self, params: P) -> Result<usize> {
        let (statement, sql) = self.parts();
        run(sql, caller(Location::caller()), |rows| count(*rows), || statement.execute(params))
    }

    /// Runs an `INSERT`; answers the id of its row.
    #[track_caller]
    pub fn insert<P: Params>(&mut self, params: P) -> Result<i64> {
        let (statement, sql) = self.parts();
        run(sql, caller(Location::caller()), |_| Some(1), || statement.insert(params))
    }

    /// Whether the query has a row.
    #[track_caller]
    pub fn exists<P: Params>(&mut self, params: P) -> Result<bool> {
        let (statement, sql) = self.parts();
        run(sql, caller(Location::caller()), |exists| Some(u64::from(*exists)), || statement.exists(params))
    }

    /// Runs the query and gives its first row to `f`.
    #[track_caller]
    pub fn query_row<T, P: Params, F: FnOnce(&Row<'_>) -> Result<T>>(&mut self, params: P, f: F) -> Result<T> {
        let (statement, sql) = self.parts();
        run_row(sql, caller(Location::caller()), || first_row(statement.query(params)?, f))
    }

    /// Runs the query and gives its only row to `f`.
    #[track_caller]
    pub fn query_one<T, P: Params, F: FnOnce(&Row<'_>) -> Result<T>>(&mut self, params: P, f: F) -> Result<T> {
        let (statement, sql) = self.parts();
        run_row(sql, caller(Location::caller()), || only_row(statement.query(params)?, f))
    }

    /// Runs the statement with the parameters bound before; answers the rows it changed.
    #[track_caller]
    pub fn raw_execute(&mut self) -> Result<usize> {
        let (statement, sql) = self.parts();
        run(sql, caller(Location::caller()), |rows| count(*rows), || statement.raw_execute())
    }

    /// Runs the query with the parameters bound before.
    #[track_caller]
    pub fn raw_query(&mut self) -> Rows<'_> {
        let (statement, sql) = self.parts();
        let begin = begin(sql, caller(Location::caller()));
        Rows { inner: statement.raw_query(), begin, running: None, read: 0 }
    }

    /// Runs the query; it begins with the first row asked for.
    #[track_caller]
    pub fn query<P: Params>(&mut self, params: P) -> Result<Rows<'_>> {
        let (statement, sql) = self.parts();
        let begin = begin(sql, caller(Location::caller()));
        match statement.query(params) {
            Ok(inner) => Ok(Rows { inner, begin, running: None, read: 0 }),
            Err(error) => {
                begin.begin().end(failure(&error));
                Err(error)
            }
        }
    }

    /// Runs the query and maps its rows.
    #[track_caller]
    pub fn query_map<T, P: Params, F>(&mut self, params: P, f: F) -> Result<MappedRows<'_, F>>
    where
        F: FnMut(&Row<'_>) -> Result<T>,
    {
        Ok(self.query(params)?.mapped(f))
    }

    /// As [`query_map`](Self::query_map), for a closure with an error of its own.
    #[track_caller]
    pub fn query_and_then<T, E, P, F>(&mut self, params: P, f: F) -> Result<MappedRows<'_, F>>
    where
        P: Params,
        E: From<Error>,
        F: FnMut(&Row<'_>) -> std::result::Result<T, E>,
    {
        Ok(self.query(params)?.mapped(f))
    }
}

/// The rows of a query, which is counted when they end, fail, or are dropped.
pub struct Rows<'s> {
    inner: lite::Rows<'s>,
    begin: Begin,
    /// Set from the first row on.
    running: Option<Running>,
    read: u64,
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("read", &self.read).finish_non_exhaustive()
    }
}

impl<'s> Rows<'s> {
    /// The next row.
    #[expect(clippy::should_implement_trait, reason = "a row borrows from its rows, as in rusqlite")]
    pub fn next(&mut self) -> Result<Option<&Row<'s>>> {
        let begin = self.begin;
        let running = self.running.get_or_insert_with(|| begin.begin());
        running.resume();
        let next = {
            let _inside = running.query().map(Inside::enter);
            self.inner.next()
        };
        match &next {
            Ok(Some(_)) => {
                self.read += 1;
                running.keep_scope();
                running.pause();
            }
            Ok(None) => running.end(QueryEnd::done(Some(self.read))),
            Err(error) => running.end(QueryEnd { rows: Some(self.read), ..failure(error) }),
        }
        next
    }

    /// An iterator over what `f` makes of the rows.
    pub fn mapped<F>(self, f: F) -> MappedRows<'s, F> {
        MappedRows { rows: self, f }
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        // The reader has seen enough, which is no failure.
        if let Some(running) = &mut self.running
            && self.read > 0
        {
            running.end(QueryEnd::done(Some(self.read)));
        }
    }
}

/// The mapped rows of a query.
pub struct MappedRows<'s, F> {
    rows: Rows<'s>,
    f: F,
}

impl<F> fmt::Debug for MappedRows<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.fmt(f)
    }
}

impl<T, E: From<Error>, F: FnMut(&Row<'_>) -> std::result::Result<T, E>> Iterator for MappedRows<'_, F> {
    type Item = std::result::Result<T, E>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.rows.next() {
            Ok(row) => row.map(&mut self.f),
            Err(error) => Some(Err(error.into())),
        }
    }
}
