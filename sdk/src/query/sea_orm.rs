//! Exact capture of sea-orm queries: a connection that counts what goes through it.
//!
//! In: a database connection or transaction of sea-orm. Out: the same, to be passed wherever one goes (`.all(&db)`,
//! `.insert(&db)`), with every statement counted: duration, rows returned or changed, kind and SQLSTATE of an error; one
//! whose future is dropped counts as cancelled. sea-orm's own metric callback knows neither rows nor errors nor callers, and
//! is not called for a query that is dropped or not prepared, so a wrapper counts instead.
//!
//! Waiting for a connection of the pool is part of the duration. What it does not count: the rollback of a transaction that
//! is dropped, and what goes past it through `Deref`. sqlx's events of the same queries are left alone by the tracing layer.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), sea_orm::DbErr> {
//! use gemba::sea_orm::Timed;
//! use sea_orm::{ConnectionTrait as _, TransactionTrait as _, TransactionSession as _};
//! let db = Timed::new(sea_orm::Database::connect("sqlite::memory:").await?);
//! db.execute_unprepared("CREATE TABLE card (id INTEGER PRIMARY KEY)").await?;
//! let transaction = db.begin().await?;
//! // With the line of code of this call:
//! transaction.here().execute_unprepared("DELETE FROM card").await?;
//! transaction.commit().await?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::panic::Location;
use std::pin::Pin;

use ::sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, IsolationLevel,
    QueryResult, RuntimeErr, Statement, StreamTrait, TransactionError, TransactionOptions, TransactionSession,
    TransactionTrait,
};
use async_trait::async_trait;

use super::Dialect;
use super::status;
use super::table::Code;
use super::timing::{Begin, QueryEnd, TimedQuery};
use super::wrap::{self, Reading, TimedStream};

/// How a statement with this error ended.
fn failure(error: &DbErr) -> QueryEnd {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => super::sqlx::failure(error),
        DbErr::ConnectionAcquire(_) => QueryEnd::failed("pool_timed_out", None),
        DbErr::Conn(_) => QueryEnd::failed(status::IO, None),
        _ => QueryEnd::failed(status::OTHER, None),
    }
}

fn end_of<T>(result: &Result<T, DbErr>, rows: impl FnOnce(&T) -> Option<u64>) -> QueryEnd {
    match result {
        Ok(output) => QueryEnd::done(rows(output)),
        Err(error) => failure(error),
    }
}

fn dialect_of(backend: DbBackend) -> Dialect {
    match backend {
        DbBackend::MySql => Dialect::MySql,
        DbBackend::Postgres => Dialect::Postgres,
        DbBackend::Sqlite => Dialect::Sqlite,
        _ => Dialect::Generic,
    }
}

/// What leads to a connection: itself, a transaction, or a reference to one of them.
///
/// # Examples
/// ```
/// use gemba::sea_orm::{Connected, Timed};
/// use sea_orm::ConnectionTrait as _;
/// async fn clear<C: Connected>(db: &Timed<C>) -> Result<u64, sea_orm::DbErr> {
///     Ok(db.execute_unprepared("DELETE FROM card").await?.rows_affected())
/// }
/// # async fn example(db: Timed<sea_orm::DatabaseConnection>) -> Result<(), sea_orm::DbErr> {
/// use sea_orm::{TransactionSession as _, TransactionTrait as _};
/// let transaction = db.begin().await?;
/// clear(&transaction).await?;
/// transaction.commit().await
/// # }
/// ```
pub trait Connected: Send + Sync {
    /// Its type.
    type Connection: ConnectionTrait + Send + Sync;

    /// The connection, not counted.
    ///
    /// # Examples
    /// ```
    /// use gemba::sea_orm::{Connected as _, Timed};
    /// use sea_orm::ConnectionTrait as _;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), sea_orm::DbErr> {
    /// let db = Timed::new(sea_orm::Database::connect("sqlite::memory:").await?);
    /// assert_eq!(db.connection().get_database_backend(), sea_orm::DbBackend::Sqlite);
    /// # Ok(())
    /// # }
    /// ```
    fn connection(&self) -> &Self::Connection;
}

impl Connected for DatabaseConnection {
    type Connection = Self;

    fn connection(&self) -> &Self {
        self
    }
}

impl Connected for DatabaseTransaction {
    type Connection = Self;

    fn connection(&self) -> &Self {
        self
    }
}

impl<C: Connected + ?Sized> Connected for &C {
    type Connection = C::Connection;

    fn connection(&self) -> &C::Connection {
        (**self).connection()
    }
}

/// A connection or transaction whose statements are all counted.
///
/// # Examples
/// ```
/// # async fn example(db: gemba::sea_orm::Timed<sea_orm::DatabaseConnection>) -> Result<(), sea_orm::DbErr> {
/// use sea_orm::ConnectionTrait as _;
/// db.execute_unprepared("DELETE FROM card").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Timed<C> {
    inner: C,
    code: Code,
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

impl<C> Timed<C> {
    /// Wraps a connection.
    ///
    /// # Examples
    /// ```
    /// # async fn example() -> Result<(), sea_orm::DbErr> {
    /// let db = gemba::sea_orm::Timed::new(sea_orm::Database::connect("sqlite::memory:").await?);
    /// # drop(db);
    /// # Ok(())
    /// # }
    /// ```
    pub const fn new(connection: C) -> Self {
        Self { inner: connection, code: Code { file: "", line: 0 } }
    }

    /// The connection, no longer counted.
    ///
    /// # Examples
    /// ```
    /// # fn example(db: gemba::sea_orm::Timed<sea_orm::DatabaseConnection>) {
    /// let connection: sea_orm::DatabaseConnection = db.into_inner();
    /// # drop(connection);
    /// # }
    /// ```
    pub fn into_inner(self) -> C {
        self.inner
    }

    /// The same connection, whose statements are counted under this line of code: `.all(&db.here())`.
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::sea_orm::Timed<sea_orm::DatabaseConnection>) -> Result<(), sea_orm::DbErr> {
    /// use sea_orm::ConnectionTrait as _;
    /// db.here().execute_unprepared("DELETE FROM card").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn here(&self) -> Timed<&C> {
        Timed { inner: &self.inner, code: Location::caller().into() }
    }
}

impl<C: Connected> Timed<C> {
    fn beginning(&self, sql: &str) -> Begin {
        super::sqlx::count_here();
        wrap::begin(dialect_of(self.inner.connection().get_database_backend()), sql, self.code)
    }
}

#[async_trait]
impl<C: Connected> ConnectionTrait for Timed<C> {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.connection().get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let begin = self.beginning(&statement.sql);
        let work = self.inner.connection().execute_raw(statement);
        TimedQuery::new(work, |done| end_of(done, |done| Some(done.rows_affected())), begin).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let work = self.inner.connection().execute_unprepared(sql);
        TimedQuery::new(work, |done| end_of(done, |done| Some(done.rows_affected())), self.beginning(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let begin = self.beginning(&statement.sql);
        let work = self.inner.connection().query_one_raw(statement);
        TimedQuery::new(work, |row| end_of(row, |row| Some(u64::from(row.is_some()))), begin).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let begin = self.beginning(&statement.sql);
        let work = self.inner.connection().query_all_raw(statement);
        TimedQuery::new(work, |rows| end_of(rows, |rows| u64::try_from(rows.len()).ok()), begin).await
    }

    fn support_returning(&self) -> bool {
        self.inner.connection().support_returning()
    }

    fn is_mock_connection(&self) -> bool {
        self.inner.connection().is_mock_connection()
    }
}

/// The rows of a statement as they come, counted.
///
/// # Examples
/// ```
/// # async fn example(db: gemba::sea_orm::Timed<sea_orm::DatabaseConnection>) -> Result<(), sea_orm::DbErr> {
/// use futures_core::Stream as _;
/// use sea_orm::{Statement, StreamTrait as _};
/// let all = Statement::from_string(sea_orm::DbBackend::Sqlite, "SELECT id FROM card");
/// let mut rows: gemba::sea_orm::RowStream<'_> = db.stream_raw(all).await?;
/// while let Some(row) = std::future::poll_fn(|cx| rows.as_mut().poll_next(cx)).await {
///     let id: i64 = row?.try_get("", "id")?;
///     # let _ = id;
/// }
/// # Ok(())
/// # }
/// ```
pub type RowStream<'a> = Pin<Box<dyn futures_core::Stream<Item = Result<QueryResult, DbErr>> + Send + 'a>>;

impl<C: Connected> StreamTrait for Timed<C>
where
    C::Connection: StreamTrait,
{
    type Stream<'a>
        = RowStream<'a>
    where
        Self: 'a;

    fn get_database_backend(&self) -> DbBackend {
        ConnectionTrait::get_database_backend(self)
    }

    fn stream_raw<'a>(
        &'a self,
        statement: Statement,
    ) -> Pin<Box<dyn Future<Output = Result<RowStream<'a>, DbErr>> + 'a + Send>> {
        let begin = self.beginning(&statement.sql);
        let work = self.inner.connection().stream_raw(statement);
        let reading = Reading { rows: |_: &QueryResult| 1, failure };
        Box::pin(async move {
            let rows: TimedStream<_, _, _> = wrap::start(begin, work, reading).await?;
            Ok(Box::pin(rows) as RowStream<'a>)
        })
    }
}

#[async_trait]
impl<C: Connected> TransactionTrait for Timed<C>
where
    C::Connection: TransactionTrait<Transaction = DatabaseTransaction>,
{
    type Transaction = Timed<DatabaseTransaction>;

    async fn begin(&self) -> Result<Self::Transaction, DbErr> {
        self.begin_with_options(TransactionOptions::default()).await
    }

    async fn begin_with_config(
        &self,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<Self::Transaction, DbErr> {
        let options = TransactionOptions { isolation_level, access_mode, ..TransactionOptions::default() };
        self.begin_with_options(options).await
    }

    async fn begin_with_options(&self, options: TransactionOptions) -> Result<Self::Transaction, DbErr> {
        let begin = self.beginning("BEGIN");
        let work = self.inner.connection().begin_with_options(options);
        let transaction = TimedQuery::new(work, |done| end_of(done, |_| None), begin).await?;
        Ok(Timed { inner: transaction, code: self.code })
    }

    async fn transaction<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(&'c Self::Transaction) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        self.transaction_with_config(callback, None, None).await
    }

    async fn transaction_with_config<F, T, E>(
        &self,
        callback: F,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(&'c Self::Transaction) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let begun = self.begin_with_config(isolation_level, access_mode).await;
        let transaction = begun.map_err(TransactionError::Connection)?;
        match callback(&transaction).await {
            Ok(output) => {
                transaction.commit().await.map_err(TransactionError::Connection)?;
                Ok(output)
            }
            Err(error) => {
                transaction.rollback().await.map_err(TransactionError::Connection)?;
                Err(TransactionError::Transaction(error))
            }
        }
    }
}

#[async_trait]
impl TransactionSession for Timed<DatabaseTransaction> {
    async fn commit(self) -> Result<(), DbErr> {
        let begin = self.beginning("COMMIT");
        TimedQuery::new(self.inner.commit(), |done| end_of(done, |()| None), begin).await
    }

    async fn rollback(self) -> Result<(), DbErr> {
        let begin = self.beginning("ROLLBACK");
        TimedQuery::new(self.inner.rollback(), |done| end_of(done, |()| None), begin).await
    }
}
