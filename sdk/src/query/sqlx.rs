//! Exact capture of sqlx queries: a wrapper around whatever executes them.
//!
//! In: a pool, connection or transaction of any sqlx database. Out: the same, with every query counted: duration from the
//! first poll to the end of its rows, rows returned, kind of the error. Nothing is sampled and no log level matters.
//!
//! What it does not do: waiting for a connection of the pool is part of the duration; rows affected by an `INSERT` are not
//! known to sqlx's generic interface and count as 0; `BEGIN` and `COMMIT` of a transaction go past it.
//!
//! ```no_run
//! # async fn example<DB: sqlx::Database>(pool: sqlx::Pool<DB>) {
//! use gemba::sqlx::{Timed, TimedExt as _};
//! // Once: every query through `db` is counted.
//! let db = Timed::new(pool);
//! // With the line of code of this call:
//! let _executor = db.here();
//! // A connection or transaction: `(&mut *transaction).timed()`.
//! # }
//! ```

use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering};

use ::sqlx::error::{BoxDynError, ErrorKind};
use ::sqlx::{Database, Describe, Either, Error, Execute, Executor, Pool, SqlStr};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;

use super::Dialect;
use super::status::{self, StatusCode};
use super::table::Code;
use super::timing::{Begin, QueryEnd, TimedQuery};
use super::wrap::{self, Reading, TimedStream};
use crate::state;

/// A query has gone through a wrapper: the tracing layer leaves sqlx's events alone from then on.
static IS_IN_USE: AtomicBool = AtomicBool::new(false);

/// Whether sqlx's queries of this process are captured by wrappers.
#[cfg(feature = "tracing")]
pub(crate) fn is_in_use() -> bool {
    IS_IN_USE.load(Ordering::Relaxed)
}

/// A wrapper counts what sqlx executes.
pub(super) fn count_here() {
    if state::is_recording() {
        IS_IN_USE.store(true, Ordering::Relaxed);
    }
}

/// The dialect of an sqlx database, by the name of its driver.
fn dialect_of<DB: Database>() -> Dialect {
    match DB::NAME {
        "PostgreSQL" => Dialect::Postgres,
        "MySQL" => Dialect::MySql,
        "SQLite" => Dialect::Sqlite,
        _ => Dialect::Generic,
    }
}

/// How a query with this error ended.
pub(super) fn failure(error: &Error) -> QueryEnd {
    let code = error.as_database_error().and_then(::sqlx::error::DatabaseError::code);
    QueryEnd::failed(kind_of(error), code.and_then(|code| StatusCode::new(&code)))
}

/// The kind of an error: a closed set of words, never a message.
fn kind_of(error: &Error) -> &'static str {
    match error {
        Error::Database(error) => match error.kind() {
            ErrorKind::UniqueViolation => status::UNIQUE_VIOLATION,
            ErrorKind::ForeignKeyViolation => status::FOREIGN_KEY_VIOLATION,
            ErrorKind::NotNullViolation => status::NOT_NULL_VIOLATION,
            ErrorKind::CheckViolation => status::CHECK_VIOLATION,
            ErrorKind::ExclusionViolation => status::EXCLUSION_VIOLATION,
            _ => status::DATABASE,
        },
        Error::Io(_) => status::IO,
        Error::Tls(_) => "tls",
        Error::Protocol(_) => "protocol",
        Error::PoolTimedOut => "pool_timed_out",
        Error::PoolClosed => "pool_closed",
        Error::WorkerCrashed => "worker_crashed",
        Error::Encode(_) | Error::InvalidArgument(_) => status::ENCODE,
        Error::Decode(_) | Error::ColumnDecode { .. } => "decode",
        _ => status::OTHER,
    }
}

/// A pool whose queries are all counted: pass `&db` where a `&Pool` goes.
///
/// Gives the pool through `Deref`, for `begin`, `acquire` and the like.
///
/// # Examples
/// ```
/// # async fn example(db: gemba::sqlx::Timed<sqlx::SqlitePool>) -> Result<(), sqlx::Error> {
/// let cards = sqlx::query("SELECT id FROM card").fetch_all(&db).await?;
/// assert!(!db.is_closed());
/// # drop(cards);
/// # Ok(())
/// # }
/// ```
pub struct Timed<P> {
    inner: P,
}

impl<P> Timed<P> {
    /// Wraps a pool.
    ///
    /// # Examples
    /// ```
    /// # async fn example() -> Result<(), sqlx::Error> {
    /// let db = gemba::sqlx::Timed::new(sqlx::SqlitePool::connect("sqlite::memory:").await?);
    /// # drop(db);
    /// # Ok(())
    /// # }
    /// ```
    pub const fn new(pool: P) -> Self {
        Self { inner: pool }
    }

    /// The pool, no longer counted.
    ///
    /// # Examples
    /// ```
    /// # fn example(db: gemba::sqlx::Timed<sqlx::SqlitePool>) {
    /// let pool: sqlx::SqlitePool = db.into_inner();
    /// # drop(pool);
    /// # }
    /// ```
    pub fn into_inner(self) -> P {
        self.inner
    }
}

impl<DB: Database> Timed<Pool<DB>> {
    /// An executor that knows this line of code: `.fetch_all(db.here())`.
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::sqlx::Timed<sqlx::SqlitePool>) -> Result<(), sqlx::Error> {
    /// let cards = sqlx::query("SELECT id FROM card").fetch_all(db.here()).await?;
    /// # drop(cards);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn here(&self) -> TimedExecutor<&Pool<DB>> {
        TimedExecutor { inner: &self.inner, code: Location::caller().into() }
    }
}

impl<P: Clone> Clone for Timed<P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<P> fmt::Debug for Timed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timed").finish_non_exhaustive()
    }
}

impl<P> Deref for Timed<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.inner
    }
}

/// Any executor, with its queries counted under one line of code; made by [`TimedExt::timed`] and [`Timed::here`].
///
/// # Examples
/// ```
/// # async fn example(db: gemba::sqlx::Timed<sqlx::SqlitePool>) -> Result<(), sqlx::Error> {
/// let here: gemba::sqlx::TimedExecutor<&sqlx::SqlitePool> = db.here();
/// sqlx::query("DELETE FROM card").execute(here).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TimedExecutor<E> {
    inner: E,
    code: Code,
}

/// Adds [`timed`](Self::timed) to every executor: `&pool`, `&mut connection`, `&mut *transaction`.
///
/// # Examples
/// ```
/// # async fn example(pool: sqlx::SqlitePool) -> Result<(), sqlx::Error> {
/// use gemba::sqlx::TimedExt as _;
/// let mut transaction = pool.begin().await?;
/// sqlx::query("DELETE FROM card").execute((&mut *transaction).timed()).await?;
/// transaction.commit().await
/// # }
/// ```
pub trait TimedExt<'c>: Executor<'c> {
    /// Counts the query that goes through this executor, under the line of this call.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sqlx::Error> {
    /// use gemba::sqlx::TimedExt as _;
    /// use sqlx::Connection as _;
    /// let mut connection = sqlx::SqliteConnection::connect(":memory:").await?;
    /// let one: i64 = sqlx::query_scalar("SELECT 1").fetch_one((&mut connection).timed()).await?;
    /// assert_eq!(one, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn timed(self) -> TimedExecutor<Self> {
        TimedExecutor { inner: self, code: Location::caller().into() }
    }
}

impl<'c, E: Executor<'c>> TimedExt<'c> for E {}

/// A query whose text has been looked at, ready to be executed.
struct Replay<DB: Database> {
    sql: SqlStr,
    statement: Option<DB::Statement>,
    arguments: Option<Result<Option<DB::Arguments>, BoxDynError>>,
    persistent: bool,
}

impl<DB: Database> Replay<DB> {
    fn new<'q>(mut query: impl Execute<'q, DB>) -> Self {
        // In the order in which drivers ask; the text comes last because it consumes the query.
        let arguments = Some(query.take_arguments());
        let persistent = query.persistent();
        let statement = query.statement().cloned();
        Self { sql: query.sql(), statement, arguments, persistent }
    }

    /// What is needed to begin, from this line of code.
    fn begin(&self, code: Code) -> Begin {
        count_here();
        wrap::begin(dialect_of::<DB>(), self.sql.as_str(), code)
    }
}

impl<DB: Database> Execute<'_, DB> for Replay<DB> {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&DB::Statement> {
        self.statement.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<DB::Arguments>, BoxDynError> {
        self.arguments.take().unwrap_or(Ok(None))
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

/// What a query gives: results of statements and rows.
type Item<DB> = Result<Either<<DB as Database>::QueryResult, <DB as Database>::Row>, Error>;

/// What sqlx's items and errors mean.
fn reading<R, W>() -> Reading<Either<R, W>, Error> {
    Reading { rows: |step| u64::from(step.is_right()), failure }
}

fn optional_end<R>(output: &Result<Option<R>, Error>) -> QueryEnd {
    match output {
        Ok(row) => QueryEnd::done(Some(u64::from(row.is_some()))),
        Err(error) => failure(error),
    }
}

impl<'c, E: Executor<'c>> Executor<'c> for TimedExecutor<E> {
    type Database = E::Database;

    fn fetch_many<'e, 'q: 'e, Q>(self, query: Q) -> BoxStream<'e, Item<Self::Database>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, Self::Database>,
    {
        let replay = Replay::new(query);
        let begin = replay.begin(self.code);
        Box::pin(TimedStream::new(self.inner.fetch_many(replay), begin, reading()))
    }

    fn fetch_optional<'e, 'q: 'e, Q>(
        self,
        query: Q,
    ) -> BoxFuture<'e, Result<Option<<Self::Database as Database>::Row>, Error>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, Self::Database>,
    {
        let replay = Replay::new(query);
        let begin = replay.begin(self.code);
        Box::pin(TimedQuery::new(self.inner.fetch_optional(replay), optional_end, begin))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [<Self::Database as Database>::TypeInfo],
    ) -> BoxFuture<'e, Result<<Self::Database as Database>::Statement, Error>>
    where
        'c: 'e,
    {
        self.inner.prepare_with(sql, parameters)
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Self::Database>, Error>>
    where
        'c: 'e,
    {
        self.inner.describe(sql)
    }
}

impl<'p, DB: Database> Executor<'p> for &'_ Timed<Pool<DB>>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    type Database = DB;

    fn fetch_many<'e, 'q: 'e, Q>(self, query: Q) -> BoxStream<'e, Item<DB>>
    where
        'p: 'e,
        Q: 'q + Execute<'q, DB>,
    {
        TimedExecutor { inner: &self.inner, code: Code::default() }.fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, Q>(self, query: Q) -> BoxFuture<'e, Result<Option<DB::Row>, Error>>
    where
        'p: 'e,
        Q: 'q + Execute<'q, DB>,
    {
        TimedExecutor { inner: &self.inner, code: Code::default() }.fetch_optional(query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [DB::TypeInfo],
    ) -> BoxFuture<'e, Result<DB::Statement, Error>>
    where
        'p: 'e,
    {
        self.inner.prepare_with(sql, parameters)
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<DB>, Error>>
    where
        'p: 'e,
    {
        self.inner.describe(sql)
    }
}
