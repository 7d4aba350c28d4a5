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

mod rows;
mod statement;

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::panic::Location;

use ::tokio_postgres::types::{BorrowToSql, ToSql, Type};
use ::tokio_postgres::{Client, Error, GenericClient, Row, SimpleQueryMessage, Transaction};
use rows::READING;

pub use rows::RowStream;
pub use statement::{Query, Statement};

use super::Dialect;
use super::status::{self, StatusCode};
use super::timing::{Begin, QueryEnd, TimedQuery};
use super::wrap;

/// What tokio-postgres says of rows that are none or too many: its error has no other mark.
const UNEXPECTED_ROWS: &str = "query returned an unexpected number of rows";

/// How a query with this error ended. Zero rows or several are what was asked for being wrong, no failure of the query.
fn failure(error: &Error) -> QueryEnd {
    if let Some(code) = error.code() {
        return QueryEnd::failed(status::kind_of_sqlstate(code.code()), StatusCode::new(code.code()));
    }
    if error.to_string() == UNEXPECTED_ROWS {
        return QueryEnd::done(None);
    }
    let is_io = std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    QueryEnd::failed(if is_io || error.is_closed() { status::IO } else { status::OTHER }, None)
}

/// How a query for at most one row ended.
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

/// What leads to a client: itself, a transaction, or a reference to one of them.
///
/// # Examples
/// ```
/// use gemba::tokio_postgres::{Connected, Timed};
/// async fn count_cards(db: &Timed<impl Connected>) -> Result<i64, tokio_postgres::Error> {
///     db.query_one("SELECT count(*) FROM card", &[]).await?.try_get(0)
/// }
/// # async fn example(mut db: Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
/// let before = count_cards(&db).await?;
/// let inside = count_cards(&db.transaction().await?).await?;
/// # assert_eq!(before, inside);
/// # Ok(())
/// # }
/// ```
pub trait Connected: Sync {
    /// Its type.
    type Client: GenericClient + Sync;

    /// The client, not counted.
    ///
    /// # Examples
    /// ```
    /// use gemba::tokio_postgres::{Connected as _, Timed};
    /// fn is_gone(db: &Timed<tokio_postgres::Client>) -> bool {
    ///     db.connection().is_closed()
    /// }
    /// ```
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
///
/// # Examples
/// ```
/// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
/// db.execute("DELETE FROM card WHERE id = $1", &[&7_i64]).await?;
/// assert!(!db.is_closed());
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

impl<C> Timed<C> {
    /// Wraps a client or transaction.
    ///
    /// # Examples
    /// ```
    /// # fn example(client: tokio_postgres::Client) {
    /// let db = gemba::tokio_postgres::Timed::new(client);
    /// # drop(db);
    /// # }
    /// ```
    pub const fn new(client: C) -> Self {
        Self { inner: client }
    }

    /// The client or transaction, no longer counted.
    ///
    /// # Examples
    /// ```
    /// # fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) {
    /// let client: tokio_postgres::Client = db.into_inner();
    /// # drop(client);
    /// # }
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// let delete = db.prepare("DELETE FROM card WHERE id = $1").await?;
    /// for id in 0..3_i64 {
    ///     db.execute(&delete, &[&id]).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn prepare<'a>(&'a self, sql: &'a str) -> impl Future<Output = Result<Statement, Error>> + 'a {
        self.prepare_typed(sql, &[])
    }

    /// Prepares a statement with the types of its parameters.
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// use tokio_postgres::types::Type;
    /// let delete = db.prepare_typed("DELETE FROM card WHERE id = $1", &[Type::INT8]).await?;
    /// db.execute(&delete, &[&7_i64]).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn prepare_typed<'a>(
        &'a self,
        sql: &'a str,
        types: &'a [Type],
    ) -> impl Future<Output = Result<Statement, Error>> + 'a {
        let location = Location::caller();
        async move {
            match self.inner.connection().prepare_typed(sql, types).await {
                Ok(inner) => Ok(Statement::new(inner, sql)),
                Err(error) => {
                    begin(sql, location).begin().end(failure(&error));
                    Err(error)
                }
            }
        }
    }

    /// Runs a query; answers its rows.
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// let rows = db.query("SELECT title FROM card WHERE id < $1", &[&7_i64]).await?;
    /// let titles: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    /// # drop(titles);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// use tokio_postgres::types::Type;
    /// let rows = db.query_typed("SELECT title FROM card WHERE id < $1", &[(&7_i64, Type::INT8)]).await?;
    /// # drop(rows);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// let cards: i64 = db.query_one("SELECT count(*) FROM card", &[]).await?.get(0);
    /// # let _ = cards;
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// let title: Option<String> = db.query_opt("SELECT title FROM card WHERE id = $1", &[&7_i64]).await?.map(|row| row.get(0));
    /// # drop(title);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// use futures_core::Stream as _;
    /// let mut rows = std::pin::pin!(db.query_raw("SELECT title FROM card WHERE id < $1", [7_i64]).await?);
    /// while let Some(row) = std::future::poll_fn(|cx| rows.as_mut().poll_next(cx)).await {
    ///     let title: String = row?.get(0);
    ///     # drop(title);
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
        async move { wrap::start(begin, work, READING).await.map(RowStream::new) }
    }

    /// Runs a statement; answers the rows it changed.
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// let deleted: u64 = db.execute("DELETE FROM card WHERE id < $1", &[&7_i64]).await?;
    /// # let _ = deleted;
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// use tokio_postgres::types::Type;
    /// let deleted = db.execute_typed("DELETE FROM card WHERE id < $1", &[(&7_i64, Type::INT8)]).await?;
    /// # let _ = deleted;
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// let messages = db.simple_query("SELECT 1; SELECT 2").await?;
    /// # drop(messages);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// db.batch_execute("CREATE TABLE card (id bigint PRIMARY KEY); CREATE TABLE page (id bigint PRIMARY KEY)").await?;
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    /// ```
    /// # async fn example(mut db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// let transaction = db.transaction().await?;
    /// transaction.execute("DELETE FROM card", &[]).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn transaction(&mut self) -> impl Future<Output = Result<Timed<Transaction<'_>>, Error>> {
        let begin = begin("BEGIN", Location::caller());
        let work = TimedQuery::new(self.inner.transaction(), |done| end_of(done, |_| None), begin);
        async move { work.await.map(Timed::new) }
    }
}

impl<'c> Timed<Transaction<'c>> {
    /// Commits.
    ///
    /// # Examples
    /// ```
    /// # async fn example(mut db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// let transaction = db.transaction().await?;
    /// transaction.execute("DELETE FROM card", &[]).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn commit(self) -> impl Future<Output = Result<(), Error>> + 'c {
        let begin = begin("COMMIT", Location::caller());
        TimedQuery::new(self.inner.commit(), |done| end_of(done, |()| None), begin)
    }

    /// Rolls back.
    ///
    /// # Examples
    /// ```
    /// # async fn example(mut db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// let transaction = db.transaction().await?;
    /// transaction.execute("DELETE FROM card", &[]).await?;
    /// transaction.rollback().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn rollback(self) -> impl Future<Output = Result<(), Error>> + 'c {
        let begin = begin("ROLLBACK", Location::caller());
        TimedQuery::new(self.inner.rollback(), |done| end_of(done, |()| None), begin)
    }
}
