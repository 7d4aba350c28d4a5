//! Queries through sea-orm to a real PostgreSQL and a real MariaDB: the same entity and work, each server's SQL and errors.

use gemba::query::{Dialect, fingerprint};
use gemba::sea_orm::Timed;
use sea_orm::entity::prelude::*;
use sea_orm::{Database, DatabaseConnection, SqlErr, TransactionError, TransactionSession as _, TransactionTrait as _};

use crate::sea_orm::{book, new};
use crate::server::{MariaDb, Postgres};
use crate::support::{flush, logs, points, start, text, usage_of};
use crate::{assert_never_sent, counted, errors, one, turn};

/// Connects to the server at `url` and makes the table.
async fn connect(url: String) -> Timed<DatabaseConnection> {
    start();
    let connection = Database::connect(url).await.unwrap();
    let table = "CREATE TABLE book (id bigint PRIMARY KEY, title varchar(100) NOT NULL UNIQUE)";
    connection.execute_unprepared(table).await.unwrap();
    Timed::new(connection)
}

/// Six books, two refused ones, a transaction that is kept and one that is not; `removal` takes one out by its title.
async fn keep_books(db: &Timed<DatabaseConnection>, removal: &str) {
    for id in 0..5 {
        let kept = new(id, &format!("SEASERVER {id}")).insert(db).await.unwrap();
        assert_eq!(kept.title, format!("SEASERVER {id}"));
    }
    let clash = new(9, "SEASERVER 1").insert(db).await.unwrap_err();
    assert!(matches!(clash.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))), "{clash}");
    assert_eq!(book::Entity::find().all(&db.here()).await.unwrap().len(), 5);
    let named = book::Entity::find().filter(book::Column::Title.eq("SEASERVER 3"));
    assert_eq!(named.one(db).await.unwrap().unwrap().id, 3);
    db.execute_unprepared("SELECT seaserver FROM nowhere").await.unwrap_err();

    let transaction = db.begin().await.unwrap();
    new(5, "SEASERVER 5").insert(&transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let refused: Result<(), _> = db
        .transaction(|transaction| {
            Box::pin(async move {
                new(6, "SEASERVER 6").insert(transaction).await?;
                new(1, "SEASERVER 1 again").insert(transaction).await.map(|_| ())
            })
        })
        .await;
    assert!(matches!(refused, Err(TransactionError::Transaction(_))));
    assert_eq!(db.execute_unprepared(removal).await.unwrap().rows_affected(), 1);
    assert_eq!(book::Entity::find().count(db).await.unwrap(), 5, "the sixth went back with its transaction");
}

/// How a server is spoken to, and what it says.
struct Spoken {
    dialect: Dialect,
    insert: &'static str,
    select: &'static str,
    by_title: &'static str,
    removal: &'static str,
    unique_code: &'static str,
    unknown_table_code: &'static str,
    /// What sea-orm reads back of each book it has put in.
    read_back: i64,
}

async fn claim(spoken: &Spoken, user: &str, db: &Timed<DatabaseConnection>) {
    gemba::scope().user(user).run_async(keep_books(db, spoken.removal)).await;
    flush();
    let dialect = spoken.dialect;
    let of = |sql: &str| counted(user, dialect, sql);
    let usage = usage_of(user);
    assert_eq!(of(spoken.insert), (9, 7, 2), "{usage:?}");
    assert_eq!(errors(dialect, spoken.insert), [one("", ""), one("unique_violation", spoken.unique_code)]);
    assert_eq!(of(spoken.select), (1, 5, 0));
    assert_eq!(of(spoken.by_title), (1, 1, 0));
    assert_eq!(of(spoken.removal), (1, 1, 0));
    let unknown = "SELECT seaserver FROM nowhere";
    assert_eq!(of(unknown), (1, 0, 1));
    assert_eq!(errors(dialect, unknown), [one("database", spoken.unknown_table_code)]);
    assert_eq!((of("BEGIN"), of("COMMIT"), of("ROLLBACK")), ((2, 0, 0), (1, 0, 0), (1, 0, 0)));
    // Beside those: the count, and what is read back.
    let calls = 9 + 3 + 1 + 4 + 1 + spoken.read_back;
    assert_eq!(usage.iter().map(|line| line.1).sum::<i64>(), calls, "{usage:?}");
    let with_line: Vec<_> =
        usage.iter().filter(|line| line.6.contains("query/sea_orm_servers.rs:")).map(|line| line.1).collect();
    assert_eq!(with_line, [1], "the one that asked for it");

    let query = fingerprint(dialect, spoken.insert);
    let found = points(&query.hex());
    assert!(found.iter().all(|(of, _)| text(of, "db.system.name") == dialect.system()), "{found:?}");
    let declared = logs("gemba.query.declared");
    let declared = declared.iter().find(|record| text(record, "gemba.query.fingerprint") == query.hex()).unwrap();
    assert_eq!(text(declared, "db.system.name"), dialect.system());
    assert_eq!(text(declared, "db.query.text"), query.text);
    assert_never_sent("SEASERVER");
}

#[tokio::test(flavor = "multi_thread")]
async fn sea_orm_on_postgresql_is_counted_by_its_own_sql_rows_and_codes() {
    let _turn = turn().await;
    let server = Postgres::start();
    let db = connect(format!("postgres://gemba@localhost/postgres?host={}", server.folder().display())).await;
    let spoken = Spoken {
        dialect: Dialect::Postgres,
        insert: r#"INSERT INTO "book" ("id", "title") VALUES ($1, $2) RETURNING "id", "title""#,
        select: r#"SELECT "book"."id", "book"."title" FROM "book""#,
        by_title: r#"SELECT "book"."id", "book"."title" FROM "book" WHERE "book"."title" = $1 LIMIT $2"#,
        // Only PostgreSQL reads this as a string.
        removal: "DELETE FROM book WHERE title = $$SEASERVER 4$$",
        unique_code: "23505",
        unknown_table_code: "42P01",
        read_back: 0,
    };
    claim(&spoken, "sea-pg", &db).await;
    db.into_inner().close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sea_orm_on_mariadb_is_counted_by_its_own_sql_rows_and_codes() {
    let _turn = turn().await;
    let server = MariaDb::start();
    let db = connect(format!("mysql://root@localhost/mysql?socket={}", server.socket().display())).await;
    let spoken = Spoken {
        dialect: Dialect::MySql,
        insert: "INSERT INTO `book` (`id`, `title`) VALUES (?, ?)",
        select: "SELECT `book`.`id`, `book`.`title` FROM `book`",
        by_title: "SELECT `book`.`id`, `book`.`title` FROM `book` WHERE `book`.`title` = ? LIMIT ?",
        // Only MySQL reads these as a string and a comment.
        removal: "DELETE FROM book WHERE title = \"SEASERVER 4\" # SEASERVER",
        unique_code: "23000",
        unknown_table_code: "42S02",
        // Without `RETURNING` each of the seven.
        read_back: 7,
    };
    claim(&spoken, "sea-my", &db).await;
    db.into_inner().close().await.unwrap();
}
