//! Queries through tokio-postgres, on a real PostgreSQL.

use gemba::query::Dialect;
use gemba::tokio_postgres::Timed;
use std::pin::pin;
use std::time::Duration;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls};

use crate::server::Postgres;
use crate::support::{flush, start, usage_of};
use crate::{assert_never_sent, calls_and_code, counted, errors, one, turn};

async fn connect(server: &Postgres) -> Client {
    let config = format!("host={} user=gemba dbname=postgres", server.folder().display());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    // Ends with its client, or with the server, whichever goes first.
    tokio::spawn(async move { drop(connection.await) });
    client
}

fn of(user: &str, sql: &str) -> (i64, i64, i64) {
    counted(user, Dialect::Postgres, sql)
}

async fn next(stream: std::pin::Pin<&mut gemba::tokio_postgres::RowStream>) -> Option<tokio_postgres::Row> {
    let mut stream = stream;
    let polled = std::future::poll_fn(|cx| futures_core::Stream::poll_next(stream.as_mut(), cx)).await;
    polled.map(Result::unwrap)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_tokio_postgres_is_counted_with_rows_errors_and_line() {
    let _turn = turn().await;
    start();
    let server = Postgres::start();
    let db = Timed::new(connect(&server).await);
    let (insert, select) = ("INSERT INTO box (id, place) VALUES ($1, $2)", "SELECT id FROM box WHERE place = $1");
    let work = async {
        db.batch_execute("CREATE TABLE box (id bigint PRIMARY KEY, place text NOT NULL)").await.unwrap();
        let prepared = db.prepare(insert).await.unwrap();
        assert_eq!(prepared.params(), [Type::INT8, Type::TEXT]);
        for id in 0..10_i64 {
            let place = if id % 2 == 0 { "PGMARKER even" } else { "PGMARKER odd" };
            assert_eq!(db.execute(&prepared, &[&id, &place]).await.unwrap(), 1);
        }
        assert_eq!(db.query(select, &[&"PGMARKER even"]).await.unwrap().len(), 5);
        assert!(db.query_opt(select, &[&"PGMARKER none"]).await.unwrap().is_none());
        db.query_one("SELECT count(*), 'pg' FROM box", &[]).await.unwrap();
        let typed: [(&(dyn ToSql + Sync), Type); 1] = [(&7_i64, Type::INT8)];
        assert_eq!(db.query_typed("SELECT 'typed' FROM box WHERE id < $1", &typed).await.unwrap().len(), 7);
        assert_eq!(db.simple_query("SELECT 'simple' FROM box LIMIT 4").await.unwrap().len(), 6);
        db.execute(&prepared, &[&7_i64, &"PGMARKER again"]).await.unwrap_err();
        db.execute(&prepared, &[&11_i64, &None::<&str>]).await.unwrap_err();
        db.execute(&prepared, &[&"PGMARKER", &"PGMARKER"]).await.unwrap_err();
        db.prepare("SELECT pg FROM nowhere").await.unwrap_err();
    };
    gemba::scope().user("pg").run_async(work).await;
    flush();
    assert_eq!(of("pg", insert), (13, 10, 3));
    assert_eq!(of("pg", select), (2, 5, 0));
    assert_eq!(of("pg", "SELECT count(*), 'pg' FROM box"), (1, 1, 0));
    assert_eq!(of("pg", "SELECT 'typed' FROM box WHERE id < $1"), (1, 7, 0));
    assert_eq!(of("pg", "SELECT 'simple' FROM box LIMIT 4"), (1, 4, 0));
    assert_eq!(
        errors(Dialect::Postgres, insert),
        [one("", ""), one("not_null_violation", "23502"), one("other", ""), one("unique_violation", "23505")]
    );
    assert_eq!(errors(Dialect::Postgres, "SELECT pg FROM nowhere"), [one("database", "42P01")]);
    let (calls, all_have_lines) = calls_and_code("pg", "query/tokio_postgres.rs:");
    assert_eq!((calls, all_have_lines), (20, true), "{:?}", usage_of("pg"));
    assert_never_sent("PGMARKER");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_streams_and_dropped_futures_of_tokio_postgres_are_counted() {
    let _turn = turn().await;
    start();
    let server = Postgres::start();
    let mut db = Timed::new(connect(&server).await);
    let (insert, series) = ("INSERT INTO shelf (id) VALUES ($1)", "SELECT 'series' FROM generate_series(1, $1)");
    let sleep = "SELECT pg_sleep($1) AS dropped";
    let none: [&(dyn ToSql + Sync); 0] = [];
    let work = async {
        db.batch_execute("CREATE TABLE shelf (id bigint PRIMARY KEY)").await.unwrap();
        let mut transaction = db.transaction().await.unwrap();
        transaction.execute(insert, &[&1_i64]).await.unwrap();
        let inner = transaction.transaction().await.unwrap();
        inner.execute(insert, &[&2_i64]).await.unwrap();
        inner.rollback().await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(db.query_one("SELECT count(*) FROM shelf", &none).await.unwrap().get::<_, i64>(0), 1);

        let mut whole = pin!(db.query_raw(series, [5_i32]).await.unwrap());
        while next(whole.as_mut()).await.is_some() {}
        assert_eq!(whole.rows_affected(), Some(5));
        {
            let mut early = pin!(db.query_raw(series, [100_i32]).await.unwrap());
            for _ in 0..3 {
                assert!(next(early.as_mut()).await.is_some());
            }
        }
        drop(db.query_raw(series, [7_i32]).await.unwrap());
        let patience = Duration::from_millis(30);
        tokio::time::timeout(patience, db.query(sleep, &[&0.5_f64])).await.unwrap_err();
        // Never polled: it never ran.
        drop(db.query(sleep, &[&9.0_f64]));
    };
    gemba::scope().user("pg-tx").run_async(work).await;
    flush();
    assert_eq!(of("pg-tx", insert), (2, 2, 0));
    assert_eq!(
        (of("pg-tx", "BEGIN"), of("pg-tx", "COMMIT"), of("pg-tx", "ROLLBACK")),
        ((2, 0, 0), (1, 0, 0), (1, 0, 0))
    );
    // Five to the end, three of a hundred, and one whose reader left before the first.
    assert_eq!(of("pg-tx", series), (3, 8, 1));
    assert_eq!(errors(Dialect::Postgres, series), [one("", ""), one("cancelled", "")]);
    assert_eq!(of("pg-tx", sleep), (1, 0, 1));
    assert_eq!(errors(Dialect::Postgres, sleep), [one("cancelled", "")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_tokio_postgres_misses_and_one_too_many_are_no_failures() {
    let _turn = turn().await;
    start();
    let server = Postgres::start();
    let db = Timed::new(connect(&server).await);
    let sql = "SELECT number AS wanted FROM generate_series(1, $1) AS number";
    let work = async {
        db.query_one(sql, &[&0_i32]).await.unwrap_err();
        db.query_one(sql, &[&2_i32]).await.unwrap_err();
        db.query_opt(sql, &[&2_i32]).await.unwrap_err();
        assert!(db.query_opt(sql, &[&0_i32]).await.unwrap().is_none());
    };
    gemba::scope().user("pg-rows").run_async(work).await;
    flush();
    // How many rows came is not known where they were not what was asked for.
    assert_eq!(of("pg-rows", sql), (4, 0, 0));
    assert_eq!(errors(Dialect::Postgres, sql), [one("", "")]);
}
