//! Queries through sqlx to a real MariaDB: the same wrapper, MySQL's dialect and errors.

use gemba::query::Dialect;
use gemba::sqlx::{Timed, TimedExt as _};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use std::time::Duration;

use crate::server::MariaDb;
use crate::support::{flush, logs, points, start, text};
use crate::{assert_never_sent, counted, errors, one, turn};

#[tokio::test(flavor = "multi_thread")]
async fn queries_to_mysql_are_counted_with_rows_errors_and_cancellation() {
    let _turn = turn().await;
    start();
    let server = MariaDb::start();
    let options = MySqlConnectOptions::new().socket(server.socket()).username("root").database("mysql");
    let db = Timed::new(MySqlPoolOptions::new().max_connections(2).connect_with(options).await.unwrap());
    let insert = "INSERT INTO crate (id, place) VALUES (?, ?)";
    let select = "SELECT id FROM crate WHERE place = ? AND place <> \"MYMARKER literal\" # MYMARKER comment";
    let work = async {
        let table = "CREATE TABLE crate (id bigint PRIMARY KEY, place varchar(50) NOT NULL)";
        sqlx::query(table).execute(&db).await.unwrap();
        let mut transaction = db.begin().await.unwrap();
        for id in 0..10_i64 {
            let place = if id % 2 == 0 { "MYMARKER even" } else { "MYMARKER odd" };
            sqlx::query(insert).bind(id).bind(place).execute((&mut *transaction).timed()).await.unwrap();
        }
        transaction.commit().await.unwrap();
        assert_eq!(sqlx::query(select).bind("MYMARKER even").fetch_all(&db).await.unwrap().len(), 5);
        sqlx::query(insert).bind(7_i64).bind("MYMARKER odd").execute(&db).await.unwrap_err();
        sqlx::query(insert).bind(99_i64).bind(None::<&str>).execute(&db).await.unwrap_err();
        sqlx::query("SELECT my FROM nowhere").execute(&db).await.unwrap_err();
        let slow = sqlx::query("SELECT SLEEP(1)").execute(&db);
        tokio::time::timeout(Duration::from_millis(30), slow).await.unwrap_err();
    };
    gemba::scope().user("my").run_async(work).await;
    flush();
    let of = |sql: &str| counted("my", Dialect::MySql, sql);
    assert_eq!(of(insert), (12, 0, 2));
    assert_eq!(of(select), (1, 5, 0));
    assert_eq!(of("SELECT SLEEP(1)"), (1, 0, 1));
    assert_eq!(
        errors(Dialect::MySql, insert),
        [one("", ""), one("not_null_violation", "23000"), one("unique_violation", "23000")]
    );
    assert_eq!(errors(Dialect::MySql, "SELECT my FROM nowhere"), [one("database", "42S02")]);
    assert_eq!(errors(Dialect::MySql, "SELECT SLEEP(1)"), [one("cancelled", "")]);
    let found = points(&gemba::query::fingerprint(Dialect::MySql, select).hex());
    assert_eq!(text(&found[0].0, "db.system.name"), "mysql");
    let declared = logs("gemba.query.declared");
    let texts: Vec<_> = declared.iter().map(|record| text(record, "db.query.text")).collect();
    assert!(texts.contains(&"SELECT id FROM crate WHERE place = ? AND place <> ?"), "{texts:?}");
    assert_never_sent("MYMARKER");
    // The connection whose query was dropped still waits for it.
    drop(db);
}
