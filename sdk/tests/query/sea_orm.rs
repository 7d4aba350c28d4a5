//! Queries through sea-orm, on a real SQLite in a file.

use gemba::query::Dialect;
use gemba::sea_orm::Timed;
use sea_orm::entity::prelude::*;
use sea_orm::{
    ActiveValue, Database, DatabaseConnection, TransactionError, TransactionSession as _, TransactionTrait as _,
};
use std::time::Duration;

use crate::support::{flush, start, usage_of};
use crate::{assert_never_sent, counted, errors, one, turn};

/// The table of the claims, on whatever database.
pub(crate) mod book {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "book")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        #[sea_orm(unique)]
        pub title: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

async fn database(folder: &tempfile::TempDir) -> Timed<DatabaseConnection> {
    start();
    let url = format!("sqlite://{}/books.db?mode=rwc", folder.path().display());
    let connection = Database::connect(url).await.unwrap();
    connection
        .execute_unprepared("CREATE TABLE book (id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE)")
        .await
        .unwrap();
    Timed::new(connection)
}

pub(crate) fn new(id: i64, title: &str) -> book::ActiveModel {
    book::ActiveModel { id: ActiveValue::Set(id), title: ActiveValue::Set(title.to_owned()) }
}

fn of(user: &str, sql: &str) -> (i64, i64, i64) {
    counted(user, Dialect::Sqlite, sql)
}

const INSERT: &str = "INSERT INTO \"book\" (\"id\", \"title\") VALUES (?, ?)";
const SELECT: &str = "SELECT \"book\".\"id\", \"book\".\"title\" FROM \"book\"";

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_sea_orm_is_counted_once_with_rows_errors_and_line() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().unwrap();
    let db = database(&folder).await;
    let work = async {
        for id in 0..5 {
            new(id, &format!("SEAMARKER {id}")).insert(&db).await.unwrap();
        }
        new(9, "SEAMARKER 1").insert(&db).await.unwrap_err();
        assert_eq!(book::Entity::find().all(&db.here()).await.unwrap().len(), 5);
        let named = book::Entity::find().filter(book::Column::Title.eq("SEAMARKER 3"));
        assert!(named.one(&db).await.unwrap().is_some());
        assert_eq!(book::Entity::find().count(&db).await.unwrap(), 5);
        db.execute_unprepared("SELECT sea FROM nowhere").await.unwrap_err();
        let done = db.execute_unprepared("DELETE FROM book WHERE title = 'SEAMARKER 4'").await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    };
    gemba::scope().user("sea").run_async(work).await;
    flush();
    let usage = usage_of("sea");
    assert_eq!(of("sea", INSERT), (6, 5, 1), "{usage:?}");
    assert_eq!(of("sea", SELECT), (1, 5, 0));
    assert_eq!(of("sea", &format!("{SELECT} WHERE \"book\".\"title\" = ? LIMIT ?")), (1, 1, 0));
    assert_eq!(of("sea", "DELETE FROM book WHERE title = ''"), (1, 1, 0));
    assert_eq!(errors(Dialect::Sqlite, INSERT), [one("", ""), one("unique_violation", "2067")]);
    assert_eq!(errors(Dialect::Sqlite, "SELECT sea FROM nowhere"), [one("database", "1")]);
    // Without `RETURNING`, sea-orm reads back each of the five it inserted.
    assert_eq!(usage.iter().map(|line| line.1).sum::<i64>(), 16, "{usage:?}");
    let with_line: Vec<_> =
        usage.iter().filter(|line| line.6.contains("query/sea_orm.rs:")).map(|line| line.1).collect();
    assert_eq!(with_line, [1], "the one that asked for it");
    assert_never_sent("SEAMARKER");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_streams_and_dropped_futures_of_sea_orm_are_counted() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().unwrap();
    let db = database(&folder).await;
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000) SELECT count(*) FROM n";
    let work = async {
        let transaction = db.begin().await.unwrap();
        new(1, "one").insert(&transaction).await.unwrap();
        transaction.commit().await.unwrap();
        let refused: Result<(), _> = db
            .transaction(|transaction| {
                Box::pin(async move {
                    new(2, "two").insert(transaction).await?;
                    // Refused for its title, as in the claim above: both see the errors of the one query.
                    new(4, "one").insert(transaction).await.map(|_| ())
                })
            })
            .await;
        assert!(matches!(refused, Err(TransactionError::Transaction(_))));
        new(3, "three").insert(&db).await.unwrap();
        {
            let mut rows = book::Entity::find().stream(&db).await.unwrap();
            let first = std::future::poll_fn(|cx| futures_core::Stream::poll_next(std::pin::Pin::new(&mut rows), cx));
            assert!(first.await.unwrap().is_ok());
        }
        let patience = Duration::from_millis(20);
        tokio::time::timeout(patience, db.execute_unprepared(endless)).await.unwrap_err();
    };
    gemba::scope().user("sea-tx").run_async(work).await;
    flush();
    assert_eq!(of("sea-tx", INSERT), (4, 3, 1));
    assert_eq!((of("sea-tx", "BEGIN").0, of("sea-tx", "COMMIT").0, of("sea-tx", "ROLLBACK").0), (2, 1, 1));
    assert_eq!(of("sea-tx", SELECT), (1, 1, 0), "a stream dropped early is no failure");
    assert_eq!(of("sea-tx", endless), (1, 0, 1));
    assert_eq!(errors(Dialect::Sqlite, endless), [one("cancelled", "")]);
}
