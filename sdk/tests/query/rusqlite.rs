//! Queries through rusqlite, on a real SQLite in a file.

use gemba::query::Dialect;
use gemba::rusqlite::Timed;
use rusqlite::{Connection, Error};
use std::time::Duration;

use crate::support::{flush, points, samples, start, text, usage_of};
use crate::{assert_never_sent, blocking_turn, calls_and_code, counted, errors, one};

/// A database in a file, with ten cards.
fn database(folder: &tempfile::TempDir) -> Timed<Connection> {
    start();
    let connection = Connection::open(folder.path().join("cards.db")).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE card (id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE, size INTEGER CHECK (size > 0))",
        )
        .unwrap();
    for number in 0..10 {
        connection.execute("INSERT INTO card (title, size) VALUES (?1, 1)", [format!("c{number}")]).unwrap();
    }
    Timed::new(connection)
}

fn of(user: &str, sql: &str) -> (i64, i64, i64) {
    counted(user, Dialect::Sqlite, sql)
}

#[test]
fn every_statement_of_rusqlite_is_counted_with_rows_and_line() {
    let _turn = blocking_turn();
    let folder = tempfile::tempdir().unwrap();
    let db = database(&folder);
    let (all, first, none) = (
        "SELECT id, 'lite' FROM card WHERE id < ?1",
        "SELECT title, 'lite' FROM card",
        "SELECT 'lite' FROM card WHERE id = 99",
    );
    let work = || {
        let mut statement = db.prepare(all).unwrap();
        for limit in [3_i64, 5] {
            let ids: Vec<i64> =
                statement.query_map([limit], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
            assert_eq!(i64::try_from(ids.len()).unwrap(), limit - 1);
        }
        let title: String = db.query_row(first, [], |row| row.get(0)).unwrap();
        assert_eq!(title, "c0");
        assert_eq!(db.query_row(none, [], |row| row.get::<_, i64>(0)), Err(Error::QueryReturnedNoRows));
        assert_eq!(db.query_one(first, [], |_| Ok(())), Err(Error::QueryReturnedMoreThanOneRow));
        let wrong = db.query_row(first, [], |row| row.get::<_, i64>(0));
        assert!(wrong.is_err(), "a text is no number, which is no fault of the query");
        assert_eq!(db.execute("UPDATE card SET size = 2 WHERE id <= ?1", [4]).unwrap(), 4);
        db.execute_batch("DELETE FROM card WHERE 'lite' = 'x'; DELETE FROM card WHERE 'lite' = 'y'").unwrap();
        let mut cached = db.prepare_cached("SELECT size FROM card WHERE id = ?1").unwrap();
        assert!(cached.exists([1]).unwrap() && !cached.exists([99]).unwrap());
        cached.raw_bind_parameter(1, 1).unwrap();
        assert!(cached.raw_query().next().unwrap().is_some());
    };
    gemba::scope().user("lite").run(work);
    flush();
    assert_eq!(of("lite", all), (2, 6, 0));
    // The first row twice, and the two that show that there is more than one.
    assert_eq!(of("lite", first), (3, 4, 0));
    assert_eq!(of("lite", none), (1, 0, 0));
    assert_eq!(of("lite", "UPDATE card SET size = 2 WHERE id <= ?1"), (1, 4, 0));
    assert_eq!(of("lite", "SELECT size FROM card WHERE id = ?1"), (3, 2, 0));
    assert_eq!(calls_and_code("lite", "query/rusqlite.rs:"), (11, true), "{:?}", usage_of("lite"));
}

#[test]
fn failures_of_rusqlite_have_a_kind_and_the_code_of_sqlite() {
    let _turn = blocking_turn();
    let folder = tempfile::tempdir().unwrap();
    let db = database(&folder);
    let (insert, unknown) = ("INSERT INTO card (title, size) VALUES (?1, ?2)", "SELECT lite FROM nowhere");
    let work = || {
        db.execute(insert, ("c1", 1)).unwrap_err();
        db.execute(insert, (None::<String>, 1)).unwrap_err();
        db.execute(insert, ("LITEMARKER", -1)).unwrap_err();
        db.execute(insert, ["LITEMARKER"]).unwrap_err();
        db.prepare(unknown).unwrap_err();
        db.query_row(unknown, [], |_| Ok(())).unwrap_err();
    };
    gemba::scope().user("lite-failing").run(work);
    flush();
    assert_eq!(of("lite-failing", insert), (4, 0, 4));
    assert_eq!(
        errors(Dialect::Sqlite, insert),
        [
            one("check_violation", "275"),
            one("encode", ""),
            one("not_null_violation", "1299"),
            one("unique_violation", "2067")
        ]
    );
    assert_eq!(errors(Dialect::Sqlite, unknown), [one("database", "1")]);
    let kept = samples(&gemba::query::fingerprint(Dialect::Sqlite, insert).hex());
    assert!(kept.iter().any(|(of, _)| text(of, "db.response.status_code") == "2067"), "{kept:?}");
    assert_never_sent("LITEMARKER");
}

#[test]
fn transactions_of_rusqlite_are_counted_with_their_begin_and_commit() {
    let _turn = blocking_turn();
    let folder = tempfile::tempdir().unwrap();
    let mut db = database(&folder);
    let delete = "DELETE FROM card WHERE 'tx' <> title AND id = ?1";
    let work = || {
        let mut transaction = db.transaction().unwrap();
        transaction.execute(delete, [1]).unwrap();
        let savepoint = transaction.savepoint().unwrap();
        savepoint.execute(delete, [2]).unwrap();
        savepoint.commit().unwrap();
        transaction.commit().unwrap();
        let transaction = db.transaction().unwrap();
        transaction.execute(delete, [3]).unwrap();
        transaction.rollback().unwrap();
    };
    gemba::attempt!("cards.prune").run(|| gemba::scope().user("lite-tx").run(work));
    flush();
    assert_eq!(of("lite-tx", delete), (3, 3, 0));
    for (sql, calls) in [("BEGIN DEFERRED", 2), ("COMMIT", 1), ("ROLLBACK", 1), ("SAVEPOINT", 1), ("RELEASE", 1)] {
        assert_eq!(of("lite-tx", sql).0, calls, "{sql}");
    }
    assert_eq!(db.query_row("SELECT count(*) FROM card", [], |row| row.get::<_, i64>(0)), Ok(8));
    assert!(usage_of("lite-tx").iter().all(|line| line.4 == "cards.prune"));
}

#[test]
fn rows_of_rusqlite_dropped_early_are_no_failure_and_the_readers_time_is_not_the_databases() {
    let _turn = blocking_turn();
    let folder = tempfile::tempdir().unwrap();
    let db = database(&folder);
    let sql = "SELECT id AS slow_reader FROM card";
    let pause = Duration::from_millis(40);
    let mut statement = db.prepare(sql).unwrap();
    gemba::scope().user("lite-early").run(|| {
        let mut rows = statement.query([]).unwrap();
        for _ in 0..3 {
            assert!(rows.next().unwrap().is_some());
            std::thread::sleep(pause);
        }
    });
    drop(statement.query([]).unwrap());
    flush();
    assert_eq!(of("lite-early", sql), (1, 3, 0), "one whose rows nobody asked for never ran");
    let (of, point) = &points(&gemba::query::fingerprint(Dialect::Sqlite, sql).hex())[0];
    assert_eq!(text(of, "error.type"), "");
    assert!(point.sum.unwrap() < pause.as_secs_f64(), "{point:?}");
}

#[test]
fn statements_inside_a_closure_over_a_row_count_and_its_time_is_not_the_databases() {
    let _turn = blocking_turn();
    let folder = tempfile::tempdir().unwrap();
    let db = database(&folder);
    let (first, only) = ("SELECT id AS around FROM card ORDER BY id", "SELECT max(id) AS around_only FROM card");
    let inner = "SELECT count(*) AS inside FROM card WHERE id >= ?1";
    let pause = Duration::from_millis(40);
    let count_from = |row: &rusqlite::Row<'_>| {
        std::thread::sleep(pause);
        db.query_row(inner, [row.get::<_, i64>(0)?], |row| row.get::<_, i64>(0))
    };
    gemba::scope().user("lite-inside").run(|| {
        assert_eq!(db.query_row(first, [], count_from), Ok(10));
        assert_eq!(db.query_one(only, [], count_from), Ok(1));
        assert_eq!(db.prepare(first).unwrap().query_row([], count_from), Ok(10));
        assert_eq!(db.prepare(only).unwrap().query_one([], count_from), Ok(1));
        // A name counts for all that is inside of it.
        let named = gemba::query!("cards.around", Sqlite).run(|| db.query_row(first, [], count_from));
        assert_eq!(named, Ok(10));
    });
    flush();
    assert_eq!(of("lite-inside", first), (2, 2, 0));
    assert_eq!(of("lite-inside", only), (2, 2, 0));
    assert_eq!(of("lite-inside", inner), (4, 4, 0));
    for sql in [first, only] {
        let (_, point) = &points(&gemba::query::fingerprint(Dialect::Sqlite, sql).hex())[0];
        assert!(point.sum.unwrap() < pause.as_secs_f64(), "{point:?}");
    }
}
