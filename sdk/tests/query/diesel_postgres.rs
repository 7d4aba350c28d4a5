//! Queries through diesel, on a real PostgreSQL.

use diesel::pg::{PgConnection, PgRowByRowLoadingMode};
use diesel::prelude::*;
use gemba::diesel::{Timed, TimedExt as _};
use gemba::query::Dialect;

use crate::server::Postgres;
use crate::support::{flush, start, usage_of};
use crate::{assert_never_sent, blocking_turn, counted, errors, one};

diesel::table! {
    crate_of_records (id) {
        id -> BigInt,
        owner -> Text,
    }
}

use crate_of_records::dsl::crate_of_records as crates;

/// A counted connection to a database with an empty table.
fn connect(server: &Postgres) -> PgConnection {
    start();
    let config = format!("host={} user=gemba dbname=postgres", server.folder().display());
    let mut connection = PgConnection::establish(&config).unwrap();
    connection.set_instrumentation(Timed::new(Dialect::Postgres));
    let table =
        "CREATE TABLE IF NOT EXISTS crate_of_records (id BIGINT PRIMARY KEY CHECK (id < 1000), owner TEXT NOT NULL)";
    diesel::sql_query(table).execute(&mut connection).unwrap();
    connection
}

fn of(user: &str, sql: &str) -> (i64, i64, i64) {
    counted(user, Dialect::Postgres, sql)
}

#[test]
fn every_query_of_diesel_on_postgresql_is_counted_and_its_values_stay_here() {
    let _turn = blocking_turn();
    let server = Postgres::start();
    let mut connection = connect(&server);
    let owner = crate_of_records::owner;
    let id = crate_of_records::id;
    let work = || {
        for number in 0..3_i64 {
            // A value that looks like what diesel writes before its values.
            let marked = format!("PQMARKER {number} -- binds: [\"PQMARKER\"]\nPQMARKER");
            let new = diesel::insert_into(crates).values((id.eq(number), owner.eq(marked)));
            assert_eq!(new.returning(id).get_result::<i64>(&mut connection), Ok(number));
        }
        let few = crates.filter(id.lt(2_i64)).select(owner);
        assert_eq!(few.load::<String>(connection.here()).unwrap().len(), 2);
        let none = crates.filter(owner.eq("PQMARKER")).first::<(i64, String)>(&mut connection);
        assert_eq!(none, Err(diesel::result::Error::NotFound));
        // A list is one array here.
        let many: Vec<i64> = (0..50).collect();
        assert_eq!(crates.filter(id.eq_any(many)).count().get_result::<i64>(&mut connection), Ok(3));
        // Read to its end, row by row.
        let rows = crates.select(id).load_iter::<i64, PgRowByRowLoadingMode>(&mut connection).unwrap();
        assert_eq!(rows.map(Result::unwrap).count(), 3);
        let raw = diesel::sql_query("UPDATE crate_of_records SET owner = 'PQMARKER raw' WHERE id = 1");
        assert_eq!(raw.execute(&mut connection), Ok(1));
    };
    gemba::scope().user("diesel-pg").run(work);
    flush();
    let insert = r#"INSERT INTO "crate_of_records" ("id", "owner") VALUES ($1, $2) RETURNING "crate_of_records"."id""#;
    assert_eq!(of("diesel-pg", insert), (3, 0, 0), "{:?}", usage_of("diesel-pg"));
    let few = r#"SELECT "crate_of_records"."owner" FROM "crate_of_records" WHERE ("crate_of_records"."id" < $1)"#;
    assert_eq!(of("diesel-pg", few), (1, 0, 0), "rows are not known");
    let first = r#"SELECT "crate_of_records"."id", "crate_of_records"."owner" FROM "crate_of_records"
        WHERE ("crate_of_records"."owner" = $1) LIMIT $2"#;
    assert_eq!(of("diesel-pg", first), (1, 0, 0), "to find nothing is no failure");
    let any = r#"SELECT COUNT(*) FROM "crate_of_records" WHERE ("crate_of_records"."id" = ANY($1))"#;
    assert_eq!(of("diesel-pg", any), (1, 0, 0));
    let all = r#"SELECT "crate_of_records"."id" FROM "crate_of_records""#;
    assert_eq!(of("diesel-pg", all), (1, 0, 0), "one, however its rows come");
    assert_eq!(of("diesel-pg", "UPDATE crate_of_records SET owner = '' WHERE id = 1"), (1, 0, 0));
    let usage = usage_of("diesel-pg");
    assert_eq!(usage.iter().map(|line| line.1).sum::<i64>(), 8, "{usage:?}");
    let with_line: Vec<_> =
        usage.iter().filter(|line| line.6.contains("query/diesel_postgres.rs:")).map(|line| line.1).collect();
    assert_eq!(with_line, [1], "the one that asked for it");
    assert_never_sent("PQMARKER");
}

#[test]
fn failures_and_transactions_of_diesel_on_postgresql_are_counted() {
    let _turn = blocking_turn();
    let server = Postgres::start();
    let mut connection = connect(&server);
    let mut run = |sql: &str| diesel::sql_query(sql).execute(&mut connection);
    let work = || {
        run("INSERT INTO crate_of_records (id, owner) VALUES (1, 'a')").unwrap();
        run("INSERT INTO crate_of_records (owner, id) VALUES ('b', 1)").unwrap_err();
        run("INSERT INTO crate_of_records (id) VALUES (2)").unwrap_err();
        run("UPDATE crate_of_records SET id = 5000 WHERE id = 1").unwrap_err();
        run("SELECT pq FROM nowhere").unwrap_err();
    };
    gemba::scope().user("diesel-pg-failing").run(work);
    let work = || {
        let failed = connection.transaction(|connection| {
            diesel::sql_query("DELETE FROM crate_of_records WHERE id = 1").execute(connection)?;
            // A transaction in a transaction is a savepoint.
            connection
                .transaction(|connection| diesel::sql_query("SELECT pq FROM nowhere").execute(connection))
                .unwrap_err();
            diesel::sql_query("SELECT pq FROM nowhere").execute(connection)
        });
        failed.unwrap_err();
        let read_only = connection.build_transaction().serializable().read_only().run(|connection| {
            diesel::sql_query("DELETE FROM crate_of_records WHERE id = 1 AND owner = 'a'").execute(connection)
        });
        read_only.unwrap_err();
        let done = connection.transaction(|connection| {
            diesel::sql_query("DELETE FROM crate_of_records WHERE id = 1").execute(connection)
        });
        assert_eq!(done, Ok(1), "the first one was rolled back");
        // The server ends the connection under the query.
        let cut = diesel::sql_query("SELECT pg_terminate_backend(pg_backend_pid())");
        cut.execute(&mut connection).unwrap_err();
    };
    gemba::scope().user("diesel-pg-transacting").run(work);
    flush();
    let of_failing = |sql: &str| (of("diesel-pg-failing", sql), errors(Dialect::Postgres, sql));
    let failed = |kind: &str| ((1, 0, 1), vec![one(kind, "")]);
    assert_eq!(of("diesel-pg-failing", "INSERT INTO crate_of_records (id, owner) VALUES (1, '')"), (1, 0, 0));
    assert_eq!(of_failing("INSERT INTO crate_of_records (owner, id) VALUES ('', 1)"), failed("unique_violation"));
    assert_eq!(of_failing("INSERT INTO crate_of_records (id) VALUES (2)"), failed("not_null_violation"));
    assert_eq!(of_failing("UPDATE crate_of_records SET id = 1 WHERE id = 1"), failed("check_violation"));
    assert_eq!(of("diesel-pg-failing", "SELECT pq FROM nowhere"), (1, 0, 1));
    assert!(errors(Dialect::Postgres, "SELECT pq FROM nowhere").contains(&one("database", "")));

    let of = |sql: &str| of("diesel-pg-transacting", sql);
    let usage = usage_of("diesel-pg-transacting");
    assert_eq!(of("SELECT pq FROM nowhere"), (2, 0, 2), "{usage:?}");
    assert_eq!(of("DELETE FROM crate_of_records WHERE id = 1"), (2, 0, 0));
    assert_eq!((of("BEGIN"), of("COMMIT"), of("ROLLBACK")), ((2, 0, 0), (1, 0, 0), (2, 0, 0)));
    assert_eq!(of("BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY"), (1, 0, 0), "{usage:?}");
    assert_eq!(of("SAVEPOINT diesel_savepoint_1"), (1, 0, 0));
    assert_eq!(of("ROLLBACK TO SAVEPOINT diesel_savepoint_1"), (1, 0, 0));
    let refused = "DELETE FROM crate_of_records WHERE id = 1 AND owner = ''";
    assert_eq!((of(refused), errors(Dialect::Postgres, refused)), ((1, 0, 1), vec![one("read_only_transaction", "")]));
    let cut = "SELECT pg_terminate_backend(pg_backend_pid())";
    assert_eq!((of(cut), errors(Dialect::Postgres, cut)), ((1, 0, 1), vec![one("io", "")]));
}
