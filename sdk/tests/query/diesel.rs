//! Queries through diesel, on a real SQLite in a file.

use diesel::prelude::*;
use gemba::diesel::{Timed, TimedExt as _};
use gemba::query::Dialect;

use crate::support::{flush, logs, start, text, usage_of};
use crate::{assert_never_sent, blocking_turn, counted, errors, one};

diesel::table! {
    album (id) {
        id -> BigInt,
        title -> Text,
    }
}

fn database(folder: &tempfile::TempDir) -> SqliteConnection {
    start();
    gemba::diesel::install(Dialect::Sqlite).unwrap();
    let path = folder.path().join("albums.db");
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    diesel::sql_query("CREATE TABLE album (id BIGINT PRIMARY KEY, title TEXT NOT NULL UNIQUE)")
        .execute(&mut connection)
        .unwrap();
    connection
}

#[test]
fn every_query_of_diesel_is_counted_and_its_values_stay_here() {
    let _turn = blocking_turn();
    let folder = tempfile::tempdir().unwrap();
    let mut connection = database(&folder);
    let work = || {
        for number in 0..3 {
            // A value that looks like what diesel writes before its values.
            let title = format!("DIESELMARKER {number} -- binds: [\"DIESELMARKER\"]\nDIESELMARKER");
            let new = (album::id.eq(number), album::title.eq(title));
            diesel::insert_into(album::table).values(new).execute(&mut connection).unwrap();
        }
        let few = album::table.filter(album::id.lt(2)).select(album::title);
        assert_eq!(few.load::<String>(connection.here()).unwrap().len(), 2);
        let none = album::table.filter(album::title.eq("DIESELMARKER")).first::<(i64, String)>(&mut connection);
        assert_eq!(none, Err(diesel::result::Error::NotFound));
        let many: Vec<i64> = (0..50).collect();
        album::table.filter(album::id.eq_any(many)).count().get_result::<i64>(&mut connection).unwrap();
        let raw = diesel::sql_query("UPDATE album SET title = 'DIESELMARKER raw' WHERE id = 1");
        raw.execute(&mut connection).unwrap();
    };
    gemba::scope().user("diesel").run(work);
    flush();
    let insert = "INSERT INTO `album` (`id`, `title`) VALUES (?, ?)";
    assert_eq!(counted("diesel", Dialect::Sqlite, insert).0, 3, "{:?}", usage_of("diesel"));
    let select = "SELECT `album`.`title` FROM `album` WHERE (`album`.`id` < ?)";
    assert_eq!(counted("diesel", Dialect::Sqlite, select), (1, 0, 0), "rows are not known");
    let first = "SELECT `album`.`id`, `album`.`title` FROM `album` WHERE (`album`.`title` = ?) LIMIT ?";
    assert_eq!(counted("diesel", Dialect::Sqlite, first), (1, 0, 0), "to find nothing is no failure");
    assert_eq!(counted("diesel", Dialect::Sqlite, "SELECT COUNT(*) FROM `album` WHERE (`album`.`id` IN (?))").0, 1);
    assert_eq!(counted("diesel", Dialect::Sqlite, "UPDATE album SET title = '' WHERE id = 1").0, 1);
    let usage = usage_of("diesel");
    assert_eq!(usage.iter().map(|line| line.1).sum::<i64>(), 7, "{usage:?}");
    let with_line: Vec<_> =
        usage.iter().filter(|line| line.6.contains("query/diesel.rs:")).map(|line| line.1).collect();
    assert_eq!(with_line, [1], "the one that asked for it");
    let declared = logs("gemba.query.declared");
    assert!(declared.iter().any(|record| text(record, "db.query.text") == insert));
    assert_never_sent("DIESELMARKER");
}

#[test]
fn failures_and_transactions_of_diesel_are_counted() {
    let _turn = blocking_turn();
    let folder = tempfile::tempdir().unwrap();
    let mut connection = database(&folder);
    connection.set_instrumentation(Timed::new(Dialect::Sqlite));
    let work = || {
        let outcome = connection.transaction(|connection| {
            diesel::sql_query("INSERT INTO album (id, title) VALUES (1, 'same')").execute(connection)?;
            diesel::sql_query("INSERT INTO album (title, id) VALUES ('same', 2)").execute(connection)
        });
        outcome.unwrap_err();
        diesel::sql_query("SELECT diesel FROM nowhere").execute(&mut connection).unwrap_err();
        let done = connection.transaction(|connection| {
            diesel::sql_query("INSERT INTO album (id, title) VALUES (3, 'other')").execute(connection)
        });
        assert_eq!(done, Ok(1));
        // Left in the middle: the rows are dropped before their end.
        let mut rows = album::table.load_iter::<(i64, String), diesel::connection::DefaultLoadingMode>(&mut connection);
        assert!(rows.as_mut().unwrap().next().is_some());
    };
    gemba::scope().user("diesel-failing").run(work);
    flush();
    let of = |sql: &str| counted("diesel-failing", Dialect::Sqlite, sql);
    assert_eq!(of("INSERT INTO album (id, title) VALUES (1, '')"), (2, 0, 0));
    assert_eq!(of("INSERT INTO album (title, id) VALUES ('', 2)"), (1, 0, 1));
    assert_eq!(errors(Dialect::Sqlite, "INSERT INTO album (title, id) VALUES ('', 2)"), [one("unique_violation", "")]);
    assert_eq!(errors(Dialect::Sqlite, "SELECT diesel FROM nowhere"), [one("database", "")]);
    assert_eq!((of("BEGIN"), of("COMMIT"), of("ROLLBACK")), ((2, 0, 0), (1, 0, 0), (1, 0, 0)));
    assert_eq!(of("SELECT `album`.`id`, `album`.`title` FROM `album`"), (1, 0, 0));
}
