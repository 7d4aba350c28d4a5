//! Migrations: up and down on the real engine, interrupted, repeated, and before a newer database.

use gemba_ingest::store::migrations::{self, LATEST, MIGRATIONS, MigrationError, State};
use gemba_ingest::store::{Client, StoreError};
use gemba_tests::database::Engine;
use std::collections::BTreeMap;

async fn tables(client: &Client) -> u64 {
    client
        .number("SELECT count() FROM system.tables WHERE database = currentDatabase() AND name NOT IN ('schema_migrations', 'leases')")
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

/// Leaves the database as a kill after some statements of `up` or `down` of a migration leaves it: noted as begun, those
/// statements run, nothing else.
async fn interrupted(client: &Client, number: u32, state: &str, statements: &[String]) {
    client
        .execute(&format!(
            "INSERT INTO schema_migrations (number, name, checksum, state, version, gemba) \
             SELECT number, name, checksum, '{state}', version + 1, gemba FROM schema_migrations \
             WHERE number = {number} ORDER BY version DESC LIMIT 1"
        ))
        .await
        .unwrap();
    for statement in statements {
        client.execute(statement).await.unwrap();
    }
}

/// The statements that would make the tables as they are.
async fn shape(client: &Client) -> Vec<String> {
    let sql = "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() \
               AND name NOT IN ('schema_migrations', 'leases') ORDER BY name";
    client.raw().query_raw(sql).fetch_all::<String>().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_killed_after_any_statement_is_finished_by_the_next_up_or_down() {
    let engine = Engine::start();
    let client = engine.database("interrupted").await;
    migrations::up(&client).await.unwrap();
    let complete = shape(&client).await;
    for migration in MIGRATIONS.iter().rev() {
        let (number, ups, downs) = (migration.number, migration.up_statements(), migration.down_statements());
        // Down to just below this one; what is above it comes back with the next up.
        for killed_after in 0..=downs.len() {
            migrations::down(&client, number, 0).await.unwrap();
            interrupted(&client, number, "undoing", &downs[..killed_after]).await;
            assert_eq!(states(&client).await[number as usize - 1], State::Interrupted);
            migrations::down(&client, number - 1, 0).await.unwrap();
            assert!(states(&client).await[number as usize - 1..].iter().all(|state| *state == State::Absent));
            migrations::up(&client).await.unwrap();
            assert_eq!(shape(&client).await, complete, "migration {number}, down killed after {killed_after}");
        }
        for killed_after in 0..=ups.len() {
            migrations::down(&client, number - 1, 0).await.unwrap();
            interrupted(&client, number, "applying", &ups[..killed_after]).await;
            assert_eq!(migrations::up(&client).await.unwrap().first(), Some(&number));
            assert_eq!(shape(&client).await, complete, "migration {number}, up killed after {killed_after}");
        }
    }
    assert!(states(&client).await.iter().all(|state| *state == State::Applied));
    engine.stop().await;
}

/// Sum of the hashes of all rows of a table, over some of its columns.
async fn checksum(client: &Client, table: &str, columns: &[String]) -> u64 {
    let list = columns.iter().map(|column| format!("toString({column})")).collect::<Vec<_>>().join(", ");
    client.number(&format!("SELECT sum(cityHash64({list})) FROM {table}")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn down_and_up_again_from_every_version_leave_the_rows_of_older_columns_as_they_were() {
    let engine = Engine::start();
    for below in 1..LATEST {
        let client = engine.database(&format!("older_{below}")).await;
        migrations::up(&client).await.unwrap();
        migrations::down(&client, below, 0).await.unwrap();
        let sql = "SELECT c.table, c.name FROM system.columns AS c INNER JOIN system.tables AS t \
                   ON t.database = c.database AND t.name = c.table WHERE c.database = currentDatabase() \
                   AND t.engine LIKE '%MergeTree' AND c.table NOT IN ('schema_migrations', 'leases') ORDER BY ALL";
        let mut tables = BTreeMap::<String, Vec<String>>::new();
        for (table, column) in client.raw().query_raw(sql).fetch_all::<(String, String)>().await.unwrap() {
            tables.entry(table).or_default().push(column);
        }
        let mut before = BTreeMap::new();
        for (table, columns) in &tables {
            // Rows of chance in every column of every table; old ones among them would expire meanwhile.
            client.execute(&format!("SYSTEM STOP TTL MERGES {table}")).await.unwrap();
            let structure = "SELECT arrayStringConcat(groupArray(concat('`', name, '` ', type)), ', ') FROM \
                             (SELECT name, type FROM system.columns WHERE database = currentDatabase() AND default_kind != 'MATERIALIZED' AND table = ";
            let structure = format!("{structure} '{table}' ORDER BY position)");
            let structure = client.raw().query_raw(&structure).fetch_one::<String>().await.unwrap();
            let quoted = structure.replace('\'', "\\'");
            client
                .execute(&format!(
                    "INSERT INTO {table} SELECT * FROM generateRandom('{quoted}', 7, 20, 3) LIMIT 50 \
                     SETTINGS max_partitions_per_insert_block = 0, allow_suspicious_low_cardinality_types = 1"
                ))
                .await
                .unwrap_or_else(|error| panic!("{table}: {error:?}"));
            before.insert(table.clone(), checksum(&client, table, columns).await);
        }
        migrations::up(&client).await.unwrap();
        let sums = async |context: &str| {
            for (table, columns) in &tables {
                assert_eq!(checksum(&client, table, columns).await, before[table], "{table} {context} {below}");
            }
        };
        sums("after up from").await;
        migrations::down(&client, below, 0).await.unwrap();
        sums("after down to").await;
        migrations::up(&client).await.unwrap();
        sums("after up again from").await;
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_migrate_at_once_one_does_and_the_other_finds_it_done() {
    let engine = Engine::start();
    let client = engine.database("raced").await;
    let (one, other) = tokio::join!(migrations::up(&client), migrations::up(&client));
    let mut applied = [one.unwrap(), other.unwrap()];
    applied.sort();
    assert_eq!(applied, [Vec::new(), (1..=LATEST).collect::<Vec<u32>>()]);
    // Each was begun once and done once.
    let noted = client.number("SELECT count() FROM schema_migrations").await.unwrap();
    assert_eq!(noted, 2 * u64::from(LATEST));
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
