//! Every query of a sqlx pool: timed, counted, tied to the feature and the code line that ran it.

use gemba::sqlx::Timed;
use sqlx::SqlitePool;

#[gemba::instrument("notes.list")]
async fn list(notes: &Timed<SqlitePool>) -> Result<usize, sqlx::Error> {
    let rows = sqlx::query("SELECT id, text FROM notes WHERE author = ?1").bind("ann").fetch_all(notes).await?;
    Ok(rows.len())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _gemba = gemba::init!("sqlx_queries")?;
    let pool = SqlitePool::connect("sqlite::memory:").await?;
    sqlx::raw_sql("CREATE TABLE notes (id INTEGER PRIMARY KEY, author TEXT, text TEXT)").execute(&pool).await?;
    let notes = Timed::new(pool);
    let found = gemba::scope().user("ann").run_async(list(&notes)).await?;
    assert_eq!(found, 0);
    // Ask: gemba query slow_queries
    Ok(())
}
