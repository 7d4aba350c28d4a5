//! Exact capture of tokio-postgres queries: a client that keeps the text of what it prepares.
//!
//! In: a client or transaction. Out: the same, with every query counted under the line of code that made it: from the first
//! poll to the end of its rows, rows returned or changed, SQLSTATE of an error; one whose future is dropped counts as
//! cancelled. tokio-postgres hides the text of a prepared statement, so [`Timed::prepare`] gives a [`Statement`] of ours that
//! keeps it; statements of its own are not taken.
//!
//! What it does not count: `COPY`, which is reached through `Deref`, and the rollback of a transaction that is dropped.
//! Preparing is no query, save that a text PostgreSQL refuses counts as failed. A text given to `query` and the like is prepared
//! for it, which is part of its duration.
//!
//! ```no_run
//! # async fn example() -> Result<(), tokio_postgres::Error> {
//! use gemba::tokio_postgres::Timed;
//! let (client, connection) = tokio_postgres::connect("host=localhost user=shop", tokio_postgres::NoTls).await?;
//! tokio::spawn(connection);
//! let mut db = Timed::new(client);
//! let by_id = db.prepare("SELECT title FROM card WHERE id = $1").await?;
//! let card = db.query_opt(&by_id, &[&7_i64]).await?;
//! let transaction = db.transaction().await?;
//! transaction.execute("DELETE FROM card WHERE id = $1", &[&7_i64]).await?;
//! transaction.commit().await?;
//! # drop(card);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::tokio_postgres::types::{BorrowToSql, ToSql, Type};
use ::tokio_postgres::{self as postgres, Client, Error, GenericClient, Row, SimpleQueryMessage, Transaction};
use futures_core::Stream;
use pin_project_lite::pin_project;

use super::Dialect;
use super::status::{self, StatusCode};
use super::timing::{Begin, QueryEnd, TimedQuery};
use super::wrap::{self, Reading, TimedStream};

/// How a query with this error ended.
fn failure(error: &Error) -> QueryEnd {
    if let Some(code) = error.code() {
        return QueryEnd::failed(status::kind_of_sqlstate(code.code()), StatusCode::new(code.code()));
    }
    let is_io = std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    QueryEnd::failed(if is_io || error.is_closed() { status::IO } else { status::OTHER }, None)
}

/// How a query for at most one row ended. Zero rows or several are what was asked for being wrong, no failure of the query.
fn end_of_row(result: &Result<Option<Row>, Error>) -> QueryEnd {
    match result {
        Ok(row) => QueryEnd::done(Some(u64::from(row.is_some()))),
        Err(error) => failure(error),
    }
}

fn end_of<T>(result: &Result<T, Error>, rows: impl FnOnce(&T) -> Option<u64>) -> QueryEnd {
    match result {
        Ok(output) => QueryEnd::done(rows(output)),
        Err(error) => failure(error),
    }
}

fn begin(sql: &str, location: &'static Location<'static>) -> Begin {
    wrap::begin(Dialect::Postgres, sql, location)
}

/// A prepared statement that keeps its text; made by [`Timed::prepare`].
///
/// Its parameters and columns are reached through `Deref`.
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

impl Deref for Statement {
    type Target = postgres::Statement;

    fn deref(&self) -> &postgres::Statement {
        &self.inner
    }
}

/// What a query is given by: a text, or a [`Statement`].
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

/// What leads to a client: itself, a transaction, or a reference to one of them.
pub trait Connected: Sync {
    /// Its type.
    type Client: GenericClient + Sync;

    /// The client, not counted.
    fn connection(&self) -> &Self::Client;
}

impl Connected for Client {
    type Client = Self;

    fn connection(&self) -> &Self {
        self
    }
}

impl Connected for Transaction<'_> {
    type Client = Self;

    fn connection(&self) -> &Self {
        self
    }
}

impl<C: Connected + ?Sized> Connected for &C {
    type Client = C::Client;

    fn connection(&self) -> &C::Client {
        (**self).connection()
    }
}

/// A client or transaction whose queries are all counted. A pooled one: `Timed::new(&**pooled)`.
///
/// Methods are tokio-postgres's of the same name; the rest of them is reached through `Deref`, uncounted.
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

impl<C> Timed<C> {
    /// Wraps a client or transaction.
    pub const fn new(client: C) -> Self {
        Self { inner: client }
    }

    /// The client or transaction, no longer counted.
    pub fn into_inner(self) -> C {
        self.inner
    }
}

/// The parameters of a query.
type Params<'a> = [&'a (dyn ToSql + Sync)];
/// The parameters of a query, with their types.
type TypedParams<'a> = [(&'a (dyn ToSql + Sync), Type)];

impl<C: Connected> Timed<C> {
    /// Prepares a statement that keeps its text.
    #[track_caller]
    pub fn prepare<'a>(&'a self, sql: &'a str) -> impl Future<Output = Result<Statement, Error>> + 'a {
        self.prepare_typed(sql, &[])
    }

    /// Prepares a statement with the types of its parameters.
    #[track_caller]
    pub fn prepare_typed<'a>(
        &'a self,
        sql: &'a str,
        types: &'a [Type],
    ) -> impl Future<Output = Result<Statement, Error>> + 'a {
        let location = Location::caller();
        async move {
            match self.inner.connection().prepare_typed(sql, types).await {
                Ok(inner) => Ok(Statement { inner, sql: sql.into() }),
                Err(error) => {
                    begin(sql, location).begin().end(failure(&error));
                    Err(error)
                }
            }
        }
    }

    /// Runs a query; answers its rows.
    #[track_caller]
    pub fn query<'a, T: Query + ?Sized>(
        &'a self,
        query: &'a T,
        params: &'a Params<'a>,
    ) -> impl Future<Output = Result<Vec<Row>, Error>> + 'a {
        let work = self.inner.connection().query(query.executed(), params);
        TimedQuery::new(work, |rows| end_of(rows, |rows| count(rows)), begin(query.sql(), Location::caller()))
    }

    /// Runs a query with the types of its parameters, without preparing it; answers its rows.
    #[track_caller]
    pub fn query_typed<'a>(
        &'a self,
        sql: &'a str,
        params: &'a TypedParams<'a>,
    ) -> impl Future<Output = Result<Vec<Row>, Error>> + 'a {
        let work = self.inner.connection().query_typed(sql, params);
        TimedQuery::new(work, |rows| end_of(rows, |rows| count(rows)), begin(sql, Location::caller()))
    }

    /// Runs a query; answers its only row.
    #[track_caller]
    pub fn query_one<'a, T: Query + ?Sized>(
        &'a self,
        query: &'a T,
        params: &'a Params<'a>,
    ) -> impl Future<Output = Result<Row, Error>> + 'a {
        let work = self.inner.connection().query_one(query.executed(), params);
        TimedQuery::new(work, |row| end_of(row, |_| Some(1)), begin(query.sql(), Location::caller()))
    }

    /// Runs a query; answers its only row, if there is one.
    #[track_caller]
    pub fn query_opt<'a, T: Query + ?Sized>(
        &'a self,
        query: &'a T,
        params: &'a Params<'a>,
    ) -> impl Future<Output = Result<Option<Row>, Error>> + 'a {
        let work = self.inner.connection().query_opt(query.executed(), params);
        TimedQuery::new(work, end_of_row, begin(query.sql(), Location::caller()))
    }

    /// Runs a query; answers its rows as they come. The query ends with them, or when they are dropped.
    #[track_caller]
    pub fn query_raw<'a, T, P, I>(
        &'a self,
        query: &'a T,
        params: I,
    ) -> impl Future<Output = Result<RowStream, Error>> + 'a
    where
        T: Query + ?Sized,
        P: BorrowToSql + 'a,
        I: IntoIterator<Item = P> + Sync + Send + 'a,
        I::IntoIter: ExactSizeIterator,
    {
        let begin = begin(query.sql(), Location::caller());
        let work = self.inner.connection().query_raw(query.executed(), params);
        async move { Ok(RowStream { rows: wrap::start(begin, work, READING).await? }) }
    }

    /// Runs a statement; answers the rows it changed.
    #[track_caller]
    pub fn execute<'a, T: Query + ?Sized>(
        &'a self,
        query: &'a T,
        params: &'a Params<'a>,
    ) -> impl Future<Output = Result<u64, Error>> + 'a {
        let work = self.inner.connection().execute(query.executed(), params);
        TimedQuery::new(work, |rows| end_of(rows, |rows| Some(*rows)), begin(query.sql(), Location::caller()))
    }

    /// Runs a statement with the types of its parameters, without preparing it; answers the rows it changed.
    #[track_caller]
    pub fn execute_typed<'a>(
        &'a self,
        sql: &'a str,
        params: &'a TypedParams<'a>,
    ) -> impl Future<Output = Result<u64, Error>> + 'a {
        let work = self.inner.connection().execute_typed(sql, params);
        TimedQuery::new(work, |rows| end_of(rows, |rows| Some(*rows)), begin(sql, Location::caller()))
    }

    /// Runs several statements, counted as one text; answers their rows as text.
    #[track_caller]
    pub fn simple_query<'a>(
        &'a self,
        sql: &'a str,
    ) -> impl Future<Output = Result<Vec<SimpleQueryMessage>, Error>> + 'a {
        let rows = |messages: &Vec<SimpleQueryMessage>| {
            let rows = messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_)));
            u64::try_from(rows.count()).ok()
        };
        let work = self.inner.connection().simple_query(sql);
        TimedQuery::new(work, move |messages| end_of(messages, rows), begin(sql, Location::caller()))
    }

    /// Runs several statements, counted as one text; their rows are not known.
    #[track_caller]
    pub fn batch_execute<'a>(&'a self, sql: &'a str) -> impl Future<Output = Result<(), Error>> + 'a {
        let work = self.inner.connection().batch_execute(sql);
        TimedQuery::new(work, |done| end_of(done, |()| None), begin(sql, Location::caller()))
    }
}

fn count(rows: &[Row]) -> Option<u64> {
    u64::try_from(rows.len()).ok()
}

impl<C: GenericClient> Timed<C> {
    /// Begins a transaction, or a savepoint inside one, whose queries are counted, `BEGIN` and `COMMIT` among them.
    #[track_caller]
    pub fn transaction(&mut self) -> impl Future<Output = Result<Timed<Transaction<'_>>, Error>> {
        let begin = begin("BEGIN", Location::caller());
        let work = TimedQuery::new(self.inner.transaction(), |done| end_of(done, |_| None), begin);
        async move { work.await.map(Timed::new) }
    }
}

impl<'c> Timed<Transaction<'c>> {
    /// Commits.
    #[track_caller]
    pub fn commit(self) -> impl Future<Output = Result<(), Error>> + 'c {
        let begin = begin("COMMIT", Location::caller());
        TimedQuery::new(self.inner.commit(), |done| end_of(done, |()| None), begin)
    }

    /// Rolls back.
    #[track_caller]
    pub fn rollback(self) -> impl Future<Output = Result<(), Error>> + 'c {
        let begin = begin("ROLLBACK", Location::caller());
        TimedQuery::new(self.inner.rollback(), |done| end_of(done, |()| None), begin)
    }
}

const READING: Reading<Row, Error> = Reading { rows: |_| 1, failure };

pin_project! {
    /// The rows of a query as they come; made by [`Timed::query_raw`].
    pub struct RowStream {
        #[pin]
        rows: TimedStream<postgres::RowStream, Row, Error>,
    }
}

impl fmt::Debug for RowStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream").finish_non_exhaustive()
    }
}

impl RowStream {
    /// Rows the statement changed or returned; known when the stream has ended.
    pub fn rows_affected(&self) -> Option<u64> {
        self.rows.inner().rows_affected()
    }
}

impl Stream for RowStream {
    type Item = Result<Row, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.project().rows.poll_next(cx)
    }
}
