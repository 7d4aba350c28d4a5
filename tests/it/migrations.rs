//! Migrations: up and down on the real engine, interrupted, repeated, and before a newer database.

use gemba_ingest::store::migrations::{self, LATEST, MigrationError, State};
use gemba_ingest::store::{Client, StoreError};
use gemba_tests::database::Engine;

async fn tables(client: &Client) -> u64 {
    client
        .number("SELECT count() FROM system.tables WHERE database = currentDatabase() AND name != 'schema_migrations'")
        .await
        .unwrap()
}

async fn states(client: &Client) -> Vec<State> {
    migrations::status(client).await.unwrap().into_iter().map(|status| status.state).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn up_is_done_once_and_down_takes_back_only_what_it_added() {
    let engine = Engine::start();
    let client = engine.database("migrated").await;
    client.execute("CREATE TABLE ours (n UInt8) ENGINE = MergeTree ORDER BY n").await.unwrap();
    let all: Vec<u32> = (1..=LATEST).collect();
    assert_eq!(migrations::up(&client).await.unwrap(), all);
    let created = tables(&client).await;
    assert!(created > 1);
    assert_eq!(migrations::up(&client).await.unwrap(), Vec::<u32>::new(), "nothing is left to do");
    assert!(states(&client).await.iter().all(|state| *state == State::Applied));

    let refused = migrations::down(&client, 0, 3).await.unwrap_err();
    assert!(matches!(refused, MigrationError::NotDrained { records: 3 }), "{refused}");
    assert!(matches!(migrations::down(&client, LATEST + 1, 0).await, Err(MigrationError::NoSuch { .. })));
    assert_eq!(tables(&client).await, created, "a refusal changes nothing");

    let mut newest_first = all.clone();
    newest_first.reverse();
    assert_eq!(migrations::down(&client, 0, 0).await.unwrap(), newest_first);
    assert_eq!(tables(&client).await, 1, "a table of somebody else stays");
    assert_eq!(migrations::down(&client, 0, 0).await.unwrap(), Vec::<u32>::new());
    assert_eq!(migrations::up(&client).await.unwrap(), all, "and it can be done again");
    assert_eq!(tables(&client).await, created);
    engine.stop().await;
}

/// Leaves the database as a kill at this point of `up` or `down` leaves it: noted as begun, some tables missing.
async fn interrupt(client: &Client, state: &str, missing: &str) {
    client.execute(&format!("DROP TABLE {missing} SYNC")).await.unwrap();
    client
        .execute(&format!(
            "INSERT INTO schema_migrations (number, name, checksum, state, version, gemba) \
             SELECT number, name, checksum, '{state}', version + 1, gemba FROM schema_migrations \
             ORDER BY number DESC, version DESC LIMIT 1"
        ))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_interrupted_is_finished_by_the_next_up_or_down() {
    let engine = Engine::start();
    let client = engine.database("interrupted").await;
    migrations::up(&client).await.unwrap();
    let complete = tables(&client).await;
    for state in ["applying", "undoing"] {
        interrupt(&client, state, "claims").await;
        assert_eq!(states(&client).await.last(), Some(&State::Interrupted));
        assert_eq!(migrations::up(&client).await.unwrap(), [LATEST]);
        assert_eq!(tables(&client).await, complete);
    }
    interrupt(&client, "undoing", "claims").await;
    migrations::down(&client, 0, 0).await.unwrap();
    assert_eq!(tables(&client).await, 0);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_migrate_at_once_end_with_one_complete_schema() {
    let engine = Engine::start();
    let client = engine.database("raced").await;
    let (one, other) = tokio::join!(migrations::up(&client), migrations::up(&client));
    one.unwrap();
    other.unwrap();
    assert!(states(&client).await.iter().all(|state| *state == State::Applied));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_or_another_database_is_left_alone() {
    let engine = Engine::start();
    let client = engine.database("newer").await;
    migrations::up(&client).await.unwrap();
    let newer = LATEST + 2;
    client
        .execute(&format!(
            "INSERT INTO schema_migrations (number, name, checksum, state, version, gemba) \
             VALUES ({newer}, 'later', 'x', 'applied', 1, '9.9.9')"
        ))
        .await
        .unwrap();
    for error in [migrations::up(&client).await.unwrap_err(), migrations::down(&client, 0, 0).await.unwrap_err()] {
        let told = error.to_string();
        assert!(told.contains(&format!("holds migration {newer} (later)")), "{told}");
        assert!(told.contains(&format!("gemba migrate down --to {LATEST}")), "it names the mending command: {told}");
    }
    let status = migrations::status(&client).await.unwrap();
    assert!(status.last().is_some_and(|last| last.number == newer && !last.known));

    let client = engine.database("other").await;
    migrations::up(&client).await.unwrap();
    client
        .execute(
            "INSERT INTO schema_migrations (number, name, checksum, state, version, gemba) \
             VALUES (1, 'tables', 'of another branch', 'applied', 99, '0.0.0')",
        )
        .await
        .unwrap();
    assert!(matches!(migrations::up(&client).await, Err(MigrationError::Changed { number: 1 })));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_said_to_be_away() {
    let engine = Engine::start();
    let client = engine.database("gone").await;
    engine.stop().await;
    let error = migrations::up(&client).await.unwrap_err();
    assert!(matches!(error, MigrationError::Store { source: StoreError::Unreachable(_), .. }), "{error:?}");
}
