//! Queries against a real PostgreSQL: the same wrapper, its own dialect and errors.

use gemba::query::{Dialect, fingerprint};
use gemba::sqlx::{Timed, TimedExt as _};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::server::Postgres;
use crate::support::{flush, logs, points, samples, start, text, usage_of};
use crate::turn;

fn hex(sql: &str) -> String {
    fingerprint(Dialect::Postgres, sql).hex()
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_to_postgresql_are_counted_with_rows_errors_and_cancellation() {
    let _turn = turn().await;
    start();
    let server = Postgres::start();
    let options = PgConnectOptions::new().socket(server.folder()).username("gemba").database("postgres");
    let db = Timed::new(PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap());
    let insert = "INSERT INTO parcel (id, place) VALUES ($1, $2)";
    let select = "SELECT id FROM parcel WHERE place = ANY($1) ORDER BY id";
    let work = async {
        sqlx::query("CREATE TABLE parcel (id bigint PRIMARY KEY, place text)").execute(&db).await.unwrap();
        let mut transaction = db.begin().await.unwrap();
        for id in 0..20_i64 {
            let place = if id % 2 == 0 { "even" } else { "odd" };
            sqlx::query(insert).bind(id).bind(place).execute((&mut *transaction).timed()).await.unwrap();
        }
        transaction.commit().await.unwrap();
        let rows = sqlx::query(select).bind(vec!["even"]).fetch_all(&db).await.unwrap();
        assert_eq!(rows.len(), 10);
        let clash = sqlx::query(insert).bind(7_i64).bind("odd").execute(&db).await;
        assert!(clash.is_err());
        let patience = std::time::Duration::from_millis(30);
        let slow = sqlx::query("SELECT pg_sleep(1)").execute(&db);
        assert!(tokio::time::timeout(patience, slow).await.is_err());
        sqlx::query("SELECT pg_sleep(0.25)").execute(&db).await.unwrap();
    };
    gemba::scope().user("sender").run_async(work).await;
    flush();

    let usage = usage_of("sender");
    let line = |sql: &str| {
        let fingerprint = hex(sql);
        let lines = usage.iter().filter(|line| line.0 == fingerprint);
        lines.fold((0, 0, 0), |sum, line| (sum.0 + line.1, sum.1 + line.2, sum.2 + line.3))
    };
    assert_eq!(line(insert), (21, 0, 1));
    assert_eq!(line(select), (1, 10, 0));
    // The one that ended gave one row, of type void.
    assert_eq!(line("SELECT pg_sleep(1)"), (2, 1, 1));
    let errors: Vec<_> =
        points(&hex("SELECT pg_sleep(1)")).iter().map(|(of, _)| text(of, "error.type").to_owned()).collect();
    assert!(errors.contains(&"cancelled".to_owned()) && errors.contains(&String::new()), "{errors:?}");
    let kinds: Vec<_> = points(&hex(insert)).iter().map(|(of, _)| text(of, "error.type").to_owned()).collect();
    assert!(kinds.contains(&"unique_violation".to_owned()), "{kinds:?}");
    let codes: Vec<_> =
        points(&hex(insert)).iter().map(|(of, _)| text(of, "db.response.status_code").to_owned()).collect();
    assert!(codes.contains(&"23505".to_owned()), "{codes:?}");
    let slow: Vec<_> = samples(&hex("SELECT pg_sleep(1)"));
    let slow: Vec<_> = slow.iter().filter(|(of, _)| text(of, "gemba.query.sample") == "slow").collect();
    assert_eq!(slow.len(), 1);
    assert!(slow[0].1.end_time_unix_nano - slow[0].1.start_time_unix_nano >= 250_000_000);
    assert_eq!(text(&slow[0].0, "db.system.name"), "postgresql");
    let declared = logs("gemba.query.declared");
    assert!(
        declared.iter().any(|record| text(record, "db.query.text") == "INSERT INTO parcel (id, place) VALUES (?, ?)")
    );
    db.close().await;
}
