//! Queries against a real SQLite arrive as histograms, usage records, declarations and samples, and none is missing.

use gemba::query::{Database, Dialect, QueryEnd, fingerprint};
use gemba::sqlx::{Timed, TimedExt as _};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use std::time::Duration;

use crate::support::{RECEIVED, flush, logs, points, samples, start, text, usage_of};
use crate::turn;

/// A database of its own, in memory.
async fn database() -> Timed<SqlitePool> {
    start();
    let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    sqlx::raw_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, user TEXT NOT NULL UNIQUE, total INTEGER)")
        .execute(&pool)
        .await
        .unwrap();
    for number in 0..10 {
        sqlx::query("INSERT INTO orders (user, total) VALUES (?, ?)")
            .bind(format!("u{number}"))
            .bind(number)
            .execute(&pool)
            .await
            .unwrap();
    }
    Timed::new(pool)
}

fn hex(sql: &str) -> String {
    fingerprint(Dialect::Sqlite, sql).hex()
}

gemba::funnel! { enum Buy = "buy" { Pick = "pick", Pay = "pay" } }

#[tokio::test(flavor = "multi_thread")]
async fn every_query_through_a_timed_pool_is_counted_with_its_rows() {
    let _turn = turn().await;
    let db = database().await;
    let work = async {
        for limit in 0..5 {
            let rows = sqlx::query("SELECT id, 'all' FROM orders LIMIT ?").bind(limit).fetch_all(&db).await.unwrap();
            assert_eq!(rows.len(), usize::try_from(limit).unwrap());
        }
        let one: (i64,) = sqlx::query_as("SELECT count(*), 'one' FROM orders").fetch_one(&db).await.unwrap();
        assert_eq!(one.0, 10);
        let none = sqlx::query("SELECT id, 'none' FROM orders WHERE id = 99").fetch_optional(&db).await.unwrap();
        assert!(none.is_none());
        sqlx::query("UPDATE orders SET total = 'up' WHERE id < 3").execute(&db).await.unwrap();
    };
    gemba::scope().user("counted").run_async(work).await;
    flush();
    let all = hex("SELECT id, 'all' FROM orders LIMIT ?");
    let total: u64 = points(&all).iter().map(|(_, point)| point.count).sum();
    assert_eq!(total, 5);
    for (of, point) in points(&all) {
        assert_eq!(text(&of, "db.system.name"), "sqlite");
        assert_eq!(point.scale, 6);
        let buckets: u64 = point.positive.as_ref().unwrap().bucket_counts.iter().sum();
        assert_eq!(buckets + point.zero_count, point.count);
        assert!(point.min.unwrap() <= point.max.unwrap() && point.sum.unwrap() > 0.0);
        assert!(point.start_time_unix_nano <= point.time_unix_nano);
    }
    let usage = usage_of("counted");
    let line = |sql: &str| {
        let fingerprint = hex(sql);
        let lines: Vec<_> = usage.iter().filter(|line| line.0 == fingerprint).collect();
        assert_eq!(lines.len(), 1, "one line in one record: {usage:?}");
        (lines[0].1, lines[0].2, lines[0].3)
    };
    assert_eq!(line("SELECT id, 'all' FROM orders LIMIT ?"), (5, 10, 0));
    assert_eq!(line("SELECT count(*), 'one' FROM orders"), (1, 1, 0));
    assert_eq!(line("SELECT id, 'none' FROM orders WHERE id = 99"), (1, 0, 0));
    assert_eq!(line("UPDATE orders SET total = 'up' WHERE id < 3"), (1, 0, 0));
    let declared = logs("gemba.query.declared");
    let own = declared.iter().find(|record| text(record, "gemba.query.fingerprint") == all).unwrap();
    assert_eq!(text(own, "db.query.text"), "SELECT id, ? FROM orders LIMIT ?");
    assert_eq!(text(own, "db.query.summary"), "SELECT orders");
    assert_eq!(text(own, "db.system.name"), "sqlite");
    assert_eq!(own.get("gemba.query.fingerprint.version"), Some(&Value::IntValue(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_per_attempt_are_exact_so_that_n_plus_one_is_a_fact() {
    let _turn = turn().await;
    let db = database().await;
    let work = async {
        let list = async {
            let ids =
                sqlx::query_scalar::<_, i64>("SELECT id FROM orders WHERE 'nplus' = 'nplus'").fetch_all(&db).await?;
            for id in ids {
                let one = sqlx::query("SELECT total FROM orders WHERE 'nplus' <> '' AND id = ?").bind(id);
                one.fetch_one(db.here()).await?;
            }
            Ok::<_, sqlx::Error>(())
        };
        gemba::attempt!("nplus.list").run_async(list).await
    };
    gemba::scope().user("nplus").run_async(work).await.unwrap();
    flush();
    let usage = usage_of("nplus");
    let each: Vec<_> =
        usage.iter().filter(|line| line.0 == hex("SELECT total FROM orders WHERE 'nplus' <> '' AND id = 1")).collect();
    assert_eq!(each.len(), 1, "one line in one record: {usage:?}");
    assert_eq!((each[0].1, each[0].2, each[0].4.as_str()), (10, 10, "nplus.list"));
    assert!(each[0].6.contains("sqlx_sqlite.rs:"), "the line of code: {}", each[0].6);
    let once = usage.iter().filter(|line| line.0 == hex("SELECT id FROM orders WHERE 'nplus' = 'nplus'"));
    assert_eq!(once.map(|line| line.1).collect::<Vec<_>>(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_queries_are_counted_with_their_kind_and_kept_as_samples() {
    let _turn = turn().await;
    let db = database().await;
    let sql = "INSERT INTO orders (user, total) VALUES ('u1', 77)";
    let work = async {
        sqlx::query(sql).execute(&db).await.unwrap_err();
        sqlx::query("SELECT failing FROM nowhere").fetch_all(&db).await.unwrap_err();
    };
    gemba::scope().user("failing").tenant("acme").run_async(work).await;
    flush();
    let found = points(&hex(sql));
    let failed: Vec<_> = found.iter().filter(|(of, _)| text(of, "error.type") == "unique_violation").collect();
    assert_eq!(failed.iter().map(|(_, point)| point.count).sum::<u64>(), 1);
    assert!(failed.iter().all(|(of, _)| text(of, "db.response.status_code") == "2067"), "{failed:?}");
    let usage = usage_of("failing");
    assert_eq!(usage.iter().map(|line| line.3).sum::<i64>(), 2, "{usage:?}");
    let kept = samples(&hex("SELECT failing FROM nowhere"));
    assert_eq!(kept.len(), 1);
    let (of, span) = &kept[0];
    assert_eq!((text(of, "gemba.query.sample"), text(of, "error.type")), ("failed", "database"));
    assert_eq!(text(of, "db.response.status_code"), "1", "SQLite's code");
    assert_eq!((text(of, "user.id"), text(of, "gemba.tenant")), ("failing", "acme"));
    assert_eq!((span.kind, span.name.as_str()), (3, "SELECT nowhere"));
    assert_eq!(span.status.as_ref().unwrap().code, 2);
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.trace_id.len() == 16);
    for (path, body) in RECEIVED.lock().unwrap().iter() {
        assert!(!body.windows(4).any(|four| four == b"'u1'"), "a literal left the process on {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_knows_the_step_and_ends_with_its_scope() {
    let _turn = turn().await;
    let db = database().await;
    let work = async {
        gemba::step!(Buy::Pick);
        sqlx::query("SELECT 'step' FROM orders WHERE id = 1").fetch_one(&db).await.unwrap();
        gemba::step!(Buy::Pay);
        sqlx::query("SELECT 'step' FROM orders WHERE id = 2").fetch_one(&db).await.unwrap();
        sqlx::query("SELECT 'step' FROM orders WHERE id = 3").fetch_one(&db).await.unwrap();
    };
    gemba::scope().user("stepping").run_async(work).await;
    flush();
    let mut steps: Vec<_> = usage_of("stepping").into_iter().map(|line| (line.5, line.1)).collect();
    steps.sort();
    assert_eq!(steps, [("pay".to_owned(), 2), ("pick".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_query_counts_once_and_learns_the_text_inside_it() {
    let _turn = turn().await;
    let db = database().await;
    let named = Database::new(Dialect::Sqlite);
    let work = async {
        for id in 0..3 {
            named
                .timed(
                    "orders.named",
                    sqlx::query("SELECT 'named' FROM orders WHERE id = ?").bind(id).fetch_optional(&db),
                )
                .await
                .unwrap();
        }
        gemba::query!("orders.macro", Sqlite)
            .timed_with(sqlx::query("SELECT 'macro' FROM orders").fetch_all(&db), |rows| QueryEnd {
                rows: rows.as_ref().ok().map(|rows| rows.len() as u64),
                ..QueryEnd::default()
            })
            .await
            .unwrap();
    };
    gemba::scope().user("naming").run_async(work).await;
    flush();
    let usage = usage_of("naming");
    assert_eq!(usage.iter().map(|line| line.1).sum::<i64>(), 4, "{usage:?}");
    assert_eq!(usage.iter().map(|line| line.2).sum::<i64>(), 10, "rows of the macro's query: {usage:?}");
    let declared = logs("gemba.query.declared");
    let own = declared.iter().rfind(|record| text(record, "gemba.query.name") == "orders.named").unwrap();
    assert_eq!(text(own, "db.query.text"), "SELECT ? FROM orders WHERE id = ?");
    let own_lines = usage.iter().filter(|line| line.0 == text(own, "gemba.query.fingerprint"));
    assert_eq!(own_lines.map(|line| line.1).collect::<Vec<_>>(), [3], "{usage:?}");
    assert!(points(&hex("SELECT 'named' FROM orders WHERE id = ?")).is_empty(), "counted under its name only");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_transactions_are_counted_through_timed() {
    let _turn = turn().await;
    let db = database().await;
    let work = async {
        let mut transaction = db.begin().await.unwrap();
        sqlx::query("UPDATE orders SET total = 5 WHERE user = 'tx'")
            .execute((&mut *transaction).timed())
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        let mut connection = db.acquire().await.unwrap();
        sqlx::query("SELECT 'connection' FROM orders").fetch_all((&mut *connection).timed()).await.unwrap();
    };
    gemba::scope().user("transacting").run_async(work).await;
    flush();
    let usage = usage_of("transacting");
    assert_eq!(usage.len(), 2, "{usage:?}");
    assert!(usage.iter().all(|line| line.1 == 1 && line.6.contains("sqlx_sqlite.rs:")), "{usage:?}");
}

#[tokio::test]
async fn a_query_that_waits_while_a_sibling_panics_is_cancelled_and_one_that_panics_itself_is_not() {
    use futures_core::future::BoxFuture;
    use std::future::{Future as _, poll_fn};
    use std::task::Poll;
    start();
    let never = || Box::pin(std::future::pending::<Result<u8, std::fmt::Error>>()) as BoxFuture<'static, _>;
    let panics = || {
        Box::pin(async {
            assert!(!std::hint::black_box(true), "on purpose");
            Ok::<u8, std::fmt::Error>(1)
        })
    };
    for (name, own) in [("SELECT 1 FROM bystander", false), ("SELECT 1 FROM culprit", true)] {
        let task = tokio::spawn(async move {
            let query: BoxFuture<'static, _> = if own { panics() } else { never() };
            let mut query = Box::pin(gemba::query::timed_text(Dialect::Sqlite, name, query));
            poll_fn(|context| {
                assert!(query.as_mut().poll(context).is_pending());
                // The sibling's poll, with the query still alive.
                assert!(!std::hint::black_box(true), "the sibling panics on purpose");
                Poll::Ready(())
            })
            .await;
        });
        assert!(task.await.unwrap_err().is_panic());
    }
    flush();
    for (name, error) in [("SELECT 1 FROM bystander", "cancelled"), ("SELECT 1 FROM culprit", "panicked")] {
        let found = points(&fingerprint(Dialect::Sqlite, name).hex());
        assert_eq!(text(&found[0].0, "error.type"), error, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_whose_future_is_dropped_counts_as_cancelled() {
    let _turn = turn().await;
    start();
    let sql = "SELECT 'cancelled' FROM nothing";
    let work = async {
        let pending = gemba::query::timed_text(Dialect::Sqlite, sql, std::future::pending::<Result<(), sqlx::Error>>());
        tokio::time::timeout(Duration::from_millis(5), pending).await.unwrap_err();
    };
    gemba::scope().user("cancelling").run_async(work).await;
    flush();
    let usage = usage_of("cancelling");
    assert_eq!(usage.iter().map(|line| (line.1, line.3)).collect::<Vec<_>>(), [(1, 1)]);
    let found = points(&hex(sql));
    assert_eq!(found.len(), 1);
    assert_eq!(text(&found[0].0, "error.type"), "cancelled");
    assert!(found[0].1.sum.unwrap() >= 0.005);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_two_thousand_short_threads_are_all_counted() {
    let _turn = turn().await;
    start();
    let sql = "SELECT threads FROM t";
    for _ in 0..100 {
        let threads: Vec<_> = (0..20)
            .map(|_| {
                std::thread::spawn(move || {
                    for _ in 0..5 {
                        Database::new(Dialect::Sqlite).run_text(sql, || Ok::<_, ()>(())).unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
    flush();
    let total: u64 = points(&hex(sql)).iter().map(|(_, point)| point.count).sum();
    assert_eq!(total, 10_000);
}
