//! Streams of rows that are left, or that panic, at every point of their life: which of the two it was is told apart.
//!
//! The rows are real, the executors are not: they wait or panic where they are told to.

use async_trait::async_trait;
use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use gemba::query::Dialect;
use gemba::sqlx::TimedExt as _;
use sea_orm::{DbBackend, DbErr, Statement, StreamTrait};
use sqlx::sqlite::{SqliteConnection, SqliteQueryResult, SqliteRow};
use sqlx::{Connection as _, Either, Execute, Executor, SqlStr, Sqlite};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::support::{flush, start};
use crate::{counted, errors, one, turn};

/// What comes after the rows.
#[derive(Debug, Clone, Copy)]
enum Then {
    Waits,
    Panics,
}

impl Then {
    fn poll<T>(self) -> Poll<T> {
        assert!(matches!(self, Self::Waits), "the query panics on purpose");
        Poll::Pending
    }
}

/// Gives its items, and then waits or panics.
#[derive(Debug)]
struct Scripted<T> {
    items: Vec<T>,
    then: Then,
}

impl<T: Unpin, E> Stream for Scripted<Result<T, E>>
where
    E: Unpin,
{
    type Item = Result<T, E>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.pop().map_or_else(|| self.then.poll(), |item| Poll::Ready(Some(item)))
    }
}

/// An executor of sqlx that answers with these rows.
#[derive(Debug)]
struct Answers {
    rows: Vec<SqliteRow>,
    then: Then,
}

impl<'c> Executor<'c> for Answers {
    type Database = Sqlite;

    fn fetch_many<'e, 'q: 'e, Q>(self, _: Q) -> BoxStream<'e, Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, Sqlite>,
    {
        Box::pin(Scripted { items: self.rows.into_iter().map(|row| Ok(Either::Right(row))).collect(), then: self.then })
    }

    fn fetch_optional<'e, 'q: 'e, Q>(self, _: Q) -> BoxFuture<'e, Result<Option<SqliteRow>, sqlx::Error>>
    where
        'c: 'e,
        Q: 'q + Execute<'q, Sqlite>,
    {
        Box::pin(poll_fn(move |_| self.then.poll()))
    }

    fn prepare_with<'e>(
        self,
        _: SqlStr,
        _: &'e [sqlx::sqlite::SqliteTypeInfo],
    ) -> BoxFuture<'e, Result<sqlx::sqlite::SqliteStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(std::future::pending())
    }

    fn describe<'e>(self, _: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<Sqlite>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(std::future::pending())
    }
}

/// A connection of sea-orm whose streams begin after an answer that waits, panics or is there at once.
#[derive(Debug)]
struct Begins {
    answer: Option<Then>,
}

#[async_trait]
impl sea_orm::ConnectionTrait for Begins {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Sqlite
    }

    async fn execute_raw(&self, _: Statement) -> Result<sea_orm::ExecResult, DbErr> {
        std::future::pending().await
    }

    async fn execute_unprepared(&self, _: &str) -> Result<sea_orm::ExecResult, DbErr> {
        std::future::pending().await
    }

    async fn query_one_raw(&self, _: Statement) -> Result<Option<sea_orm::QueryResult>, DbErr> {
        std::future::pending().await
    }

    async fn query_all_raw(&self, _: Statement) -> Result<Vec<sea_orm::QueryResult>, DbErr> {
        std::future::pending().await
    }
}

impl StreamTrait for Begins {
    type Stream<'a> = Scripted<Result<sea_orm::QueryResult, DbErr>>;

    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Sqlite
    }

    fn stream_raw<'a>(
        &'a self,
        _: Statement,
    ) -> Pin<Box<dyn Future<Output = Result<Self::Stream<'a>, DbErr>> + 'a + Send>> {
        Box::pin(poll_fn(|_| match self.answer {
            Some(then) => then.poll(),
            None => Poll::Ready(Ok(Scripted { items: Vec::new(), then: Then::Waits })),
        }))
    }
}

impl gemba::sea_orm::Connected for Begins {
    type Connection = Self;

    fn connection(&self) -> &Self {
        self
    }
}

async fn rows(count: usize) -> Vec<SqliteRow> {
    let mut database = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let one = sqlx::query("SELECT 'streamed'").fetch_all(&mut database);
    let mut rows = one.await.unwrap();
    for _ in 1..count {
        rows.push(sqlx::query("SELECT 'streamed'").fetch_one(&mut database).await.unwrap());
    }
    rows.truncate(count);
    rows
}

/// Polls the work until it waits, and panics beside it. The work's own panic comes first.
async fn beside_a_panic(user: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let task = tokio::spawn(gemba::scope().user(user).run_async(async move {
        let mut work = Box::pin(work);
        poll_fn(|context| {
            assert!(work.as_mut().poll(context).is_pending(), "the work waits");
            assert!(!std::hint::black_box(true), "a sibling panics on purpose");
            Poll::Ready(())
        })
        .await;
    }));
    assert!(task.await.unwrap_err().is_panic());
}

/// Reads all there is.
async fn read<T, E: std::fmt::Debug>(rows: impl Stream<Item = Result<T, E>>) {
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = poll_fn(|context| rows.as_mut().poll_next(context)).await {
        row.unwrap();
    }
}

#[tokio::test]
async fn a_stream_of_sqlx_that_waits_while_a_sibling_panics_is_cancelled_however_it_is_read() {
    let _turn = turn().await;
    start();
    let waits = || Answers { rows: Vec::new(), then: Then::Waits };
    let user = "streams-waiting";
    beside_a_panic(user, async move {
        sqlx::query("SELECT id FROM waits_in_execute").execute(waits().timed()).await.unwrap();
    })
    .await;
    beside_a_panic(user, async move {
        read(sqlx::query("SELECT id FROM waits_in_fetch").fetch(waits().timed())).await;
    })
    .await;
    beside_a_panic(user, async move {
        sqlx::query("SELECT id FROM waits_in_fetch_all").fetch_all(waits().timed()).await.unwrap();
    })
    .await;
    beside_a_panic(user, async move {
        read(waits().timed().fetch_many("SELECT id FROM waits_in_fetch_many")).await;
    })
    .await;
    flush();
    for of in ["execute", "fetch", "fetch_all", "fetch_many"] {
        let sql = format!("SELECT id FROM waits_in_{of}");
        assert_eq!(errors(Dialect::Sqlite, &sql), [one("cancelled", "")], "{sql}");
        assert_eq!(counted(user, Dialect::Sqlite, &sql), (1, 0, 1), "{sql}");
    }
}

#[tokio::test]
async fn a_stream_that_panics_itself_has_panicked_also_after_its_first_rows() {
    let _turn = turn().await;
    start();
    let user = "streams-panicking";
    for (count, sql) in [(0, "SELECT id FROM panics_when_begun"), (2, "SELECT id FROM panics_when_read")] {
        let panics = Answers { rows: rows(count).await, then: Then::Panics };
        beside_a_panic(user, async move { read(sqlx::query(sql).fetch(panics.timed())).await }).await;
    }
    flush();
    for (rows, sql) in [(0, "SELECT id FROM panics_when_begun"), (2, "SELECT id FROM panics_when_read")] {
        assert_eq!(errors(Dialect::Sqlite, sql), [one("panicked", "")], "{sql}");
        assert_eq!(counted(user, Dialect::Sqlite, sql), (1, rows, 1), "{sql}");
    }
}

#[tokio::test]
async fn a_stream_whose_panic_is_caught_has_panicked_although_nothing_unwinds_when_it_is_dropped() {
    let _turn = turn().await;
    start();
    let sql = "SELECT id FROM caught";
    let panics = Answers { rows: rows(1).await, then: Then::Panics };
    let mut stream = panics.timed().fetch_many(sql);
    poll_fn(|context| {
        assert!(stream.as_mut().poll_next(context).is_ready());
        assert!(catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll_next(context))).is_err());
        Poll::Ready(())
    })
    .await;
    drop(stream);
    flush();
    assert_eq!(errors(Dialect::Sqlite, sql), [one("panicked", "")]);
}

#[tokio::test]
async fn a_stream_that_waits_after_its_first_rows_has_been_read_enough_whoever_panics() {
    let _turn = turn().await;
    start();
    let (user, sql) = ("streams-read", "SELECT id FROM read_enough");
    let waits = Answers { rows: rows(3).await, then: Then::Waits };
    beside_a_panic(user, async move { read(sqlx::query(sql).fetch(waits.timed())).await }).await;
    flush();
    assert_eq!(errors(Dialect::Sqlite, sql), [one("", "")]);
    assert_eq!(counted(user, Dialect::Sqlite, sql), (1, 3, 0));
}

#[tokio::test]
async fn a_stream_that_begins_with_an_answer_is_judged_alike_before_and_after_it() {
    let _turn = turn().await;
    start();
    let cases = [
        (Some(Then::Waits), "SELECT id FROM answer_waits", "cancelled"),
        (Some(Then::Panics), "SELECT id FROM answer_panics", "panicked"),
        (None, "SELECT id FROM answer_is_there", "cancelled"),
    ];
    for (answer, sql, _) in cases {
        beside_a_panic("streams-begun", async move {
            let database = gemba::sea_orm::Timed::new(Begins { answer });
            read(database.stream_raw(Statement::from_string(DbBackend::Sqlite, sql)).await.unwrap()).await;
        })
        .await;
    }
    // There, and never asked for a row.
    let unread = "SELECT id FROM answer_unread";
    beside_a_panic("streams-begun", async move {
        let database = gemba::sea_orm::Timed::new(Begins { answer: None });
        let _rows = database.stream_raw(Statement::from_string(DbBackend::Sqlite, unread)).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    flush();
    for (_, sql, error) in cases {
        assert_eq!(errors(Dialect::Sqlite, sql), [one(error, "")], "{sql}");
    }
    assert_eq!(errors(Dialect::Sqlite, unread), [one("cancelled", "")]);
}
