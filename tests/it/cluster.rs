//! `--cluster`: the statements that make tables, the questions asked of `Distributed` tables, and what is refused.
//!
//! On one engine that is every server of its clusters; see [`gemba_tests::cluster`] for what that does not prove.

use crate::cases;
use gemba_ingest::store::cluster::{reading_database, replicated};
use gemba_ingest::store::migrations::{self, MIGRATIONS, MigrationError};
use gemba_ingest::store::{Client, ClusterError, InsertedBlock, StoreError, archive, leases};
use gemba_tests::cluster::{Cluster, single};
use std::collections::BTreeMap;

/// ClickHouse's code for a statement that is understood and not carried out without a Keeper.
const PROHIBITED: u32 = 392;

/// Columns of each table of an engine: name, type and position.
async fn columns(store: &Client, database: &str, engine: &str) -> BTreeMap<String, Vec<String>> {
    let sql = format!(
        "SELECT c.table, concat(c.name, ' ', c.type, ' ', c.default_kind) FROM system.columns AS c INNER JOIN system.tables AS t \
         ON t.database = c.database AND t.name = c.table WHERE c.database = '{database}' AND t.engine LIKE '{engine}' \
         AND t.name NOT IN ('schema_migrations', 'leases') ORDER BY c.table, c.position"
    );
    let mut tables = BTreeMap::<String, Vec<String>>::new();
    for (table, column) in store.raw().query_raw(&sql).fetch_all::<(String, String)>().await.unwrap() {
        tables.entry(table).or_default().push(column);
    }
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_of_every_migration_is_one_of_clickhouse_also_for_a_cluster() {
    let cluster = Cluster::start().await;
    let server = cluster.server();
    server.execute("CREATE DATABASE made").await.unwrap();
    let store = server.with_database("made");
    let name = "one".parse().unwrap();
    let mut created = 0;
    for migration in MIGRATIONS {
        for statement in migration.up_statements().iter().chain(&migration.down_statements()) {
            let made = replicated(statement, &name);
            // Mutations of replicated tables are known to all servers, so one ends them for all.
            if made.starts_with("KILL MUTATION ") {
                store.execute(&made).await.unwrap();
                continue;
            }
            // With the cluster it is understood to its end, and refused for want of a Keeper alone.
            let refused = store.execute(&made).await.unwrap_err();
            assert_eq!(refused.code(), Some(PROHIBITED), "{made}: {refused}");
            let (before, after) = made.split_once(" ON CLUSTER `one`").unwrap();
            if before.starts_with("CREATE TABLE") {
                // Of the engine that it names, with its arguments.
                store
                    .raw()
                    .query_raw(&format!("{before}{after}"))
                    .with_setting("allow_suspicious_low_cardinality_types", "1")
                    .execute()
                    .await
                    .unwrap_or_else(|error| panic!("{made}: {error}"));
                created += 1;
            }
        }
    }
    let replicas = "SELECT count() FROM system.replicas WHERE database = 'made' AND replica_name = 'here' \
                    AND zookeeper_path = concat('/clickhouse/tables/first/made/', table)";
    assert_eq!(server.number(replicas).await.unwrap(), created);
    assert!(created > 15, "{created}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_has_the_tables_of_a_single_server_and_questions_see_all_of_them_up_and_down() {
    let cluster = Cluster::start().await;
    let server = cluster.server();
    let plain = cluster.client("plain", None);
    server.execute("CREATE DATABASE plain").await.unwrap();
    let store = cluster.database("replicas", "pair").await;
    for to in (0..=migrations::LATEST).rev() {
        for store in [&plain, &store] {
            migrations::up(store).await.unwrap();
            migrations::down(store, to, 0).await.unwrap();
        }
        let expected = columns(&server, "plain", "%MergeTree").await;
        assert_eq!(columns(&server, "replicas", "%MergeTree").await, expected, "down to {to}");
        let asked = columns(&server, &reading_database("replicas"), "Distributed").await;
        assert_eq!(asked, expected, "what questions see down to {to}");
        assert_eq!(expected.is_empty(), to == 0);
    }
    migrations::up(&store).await.unwrap();
    let before = cluster.gate.asked().len();
    assert_eq!(migrations::up(&store).await.unwrap(), Vec::<u32>::new());
    let again = cluster.gate.asked().split_off(before);
    assert!(again.iter().all(|asked| !asked.contains("ON CLUSTER")), "nothing waits for other servers: {again:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_cases_are_answered_alike_through_distributed_tables() {
    let cluster = Cluster::start().await;
    let store = cluster.database("cases", "one").await;
    migrations::up(&store).await.unwrap();
    // One database for all of them: making the tables of two for each takes longer than asking.
    let tables =
        "SELECT name FROM system.tables WHERE database = 'cases' AND name NOT IN ('schema_migrations', 'leases')";
    let tables: Vec<String> = store.raw().query_raw(tables).fetch_all().await.unwrap();
    let clear = async |store: &Client| {
        for table in &tables {
            store.execute(&format!("TRUNCATE TABLE {table} SYNC")).await.unwrap();
        }
    };
    let wrong = cases::wrong_answers(async |_| store.clone(), clear, false).await;
    let asked = cluster.gate.asked();
    cluster.stop().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let questions = asked.iter().filter(|asked| asked.contains("database=cases_distributed")).count();
    assert!(questions > 90, "only {questions} were asked there");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_count_as_stored_when_most_of_the_replicas_have_them() {
    let cluster = Cluster::start().await;
    let block = InsertedBlock { table: "catalog", retention_class: 0, week: 20_451, batch: 7 };
    for (name, having, replicas) in [("one", 1, 1), ("pair", 2, 2), ("few", 1, 3)] {
        let store = cluster.database(&format!("of_{name}"), name).await;
        migrations::up(&store).await.unwrap();
        assert_eq!(store.count_batch(block).await.unwrap(), 0, "{name}: nothing is there, and nobody is asked");
        store
            .execute(
                "INSERT INTO catalog (project, name, received, batch) SELECT 1, toString(number), toDateTime64('2025-12-29 10:00:00', 3, 'UTC'), 7 \
                 FROM numbers(3)",
            )
            .await
            .unwrap();
        let counted = store.count_batch(block).await;
        if having * 2 > replicas {
            assert_eq!(counted.unwrap(), 3, "{name}");
            store.remove_batch(block).await.unwrap();
            assert_eq!(store.count_batch(block).await.unwrap(), 0, "{name}");
        } else {
            let error = counted.unwrap_err();
            let told = matches!(error, StoreError::FewReplicas { having: 1, replicas: 3 });
            assert!(told && error.is_retryable(), "{name}: {error}");
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_on_a_cluster_has_one_holder_and_each_term_one_row() {
    let cluster = Cluster::start().await;
    let store = cluster.database("turns", "pair").await;
    leases::prepare(&store).await.unwrap();
    let other = cluster.client("turns", Some("pair"));
    for round in 0..20 {
        let name = format!("work/{round}");
        let (one, two) = tokio::join!(leases::take(&store, &name), leases::take(&other, &name));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(usize::from(one.is_some()) + usize::from(two.is_some()), 1, "round {round}");
        one.or(two).unwrap().give_up().await;
        let lease = leases::take(&other, &name).await.unwrap().expect("it was given up");
        lease.give_up().await;
    }
    let doubled = "SELECT count() FROM (SELECT name, term FROM leases GROUP BY name, term HAVING count() > 1)";
    assert_eq!(store.number(doubled).await.unwrap(), 0);
    assert_eq!(store.number("SELECT count() FROM leases").await.unwrap(), 20 * 4);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_does_not_go_with_is_refused_before_a_table_is_made() {
    let cluster = Cluster::start().await;
    let server = cluster.server();
    let refusal = async |store: &Client| match migrations::up(store).await.unwrap_err() {
        MigrationError::Cluster(error) => error,
        other => panic!("{other}"),
    };
    let shards = refusal(&cluster.database("shards", "many").await).await;
    assert!(matches!(shards, ClusterError::Shards { shards: 2, .. }), "{shards}");
    assert!(shards.to_string().contains("one shard with any number of replicas is supported"), "{shards}");
    let unknown = refusal(&cluster.database("unknown", "none").await).await;
    assert!(unknown.to_string().contains("few, many, one, pair"), "{unknown}");
    for database in ["shards", "unknown"] {
        let made = format!("SELECT count() FROM system.tables WHERE startsWith(database, '{database}')");
        assert_eq!(server.number(&made).await.unwrap(), 0, "{database}");
    }

    let alone = cluster.database("alone", "one").await;
    migrations::up(&cluster.client("alone", None)).await.unwrap();
    let single = refusal(&alone).await;
    assert!(matches!(single, ClusterError::Single { .. }), "{single}");

    let store = cluster.database("kept", "one").await;
    migrations::up(&store).await.unwrap();
    let forgotten = refusal(&cluster.client("kept", None)).await;
    assert!(matches!(forgotten, ClusterError::Replicated { .. }), "{forgotten}");

    let backup = archive::backup(&store, "b").await.unwrap_err();
    assert!(backup.hint().contains("BACKUP DATABASE .. ON CLUSTER"), "{backup}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_team_s_own_stay_and_keep_nobody_from_starting() {
    let cluster = Cluster::start().await;
    let server = cluster.server();
    let store = cluster.database("shared", "one").await;
    migrations::up(&store).await.unwrap();
    for statement in [
        "CREATE TABLE shared.theirs (n UInt8) ENGINE = MergeTree ORDER BY n",
        "CREATE TABLE shared_distributed.seen (n UInt8) ENGINE = Distributed('one', 'shared', 'theirs')",
        // Of a database that is made without a cluster.
        "CREATE DATABASE lone",
        "CREATE DATABASE lone_distributed",
        "CREATE TABLE lone_distributed.theirs (n UInt8) ENGINE = MergeTree ORDER BY n",
    ] {
        server.execute(statement).await.unwrap();
    }
    assert_eq!(migrations::up(&store).await.unwrap(), Vec::<u32>::new());
    let theirs =
        "SELECT count() FROM system.tables WHERE database = 'shared_distributed' AND name IN ('theirs', 'seen')";
    assert_eq!(server.number(theirs).await.unwrap(), 1);
    assert!(!migrations::up(&cluster.client("lone", None)).await.unwrap().is_empty());
    cluster.stop().await;
}

#[test]
fn what_is_put_back_for_one_server_is_what_the_migrations_say() {
    let name = "one".parse().unwrap();
    let plain = |text: &str| {
        let text = text.replace(", non_replicated_deduplication_window = 0", "");
        let text = text.replace(", non_replicated_deduplication_window = 10000", "");
        text.trim_end_matches(" SYNC").to_owned()
    };
    for statement in MIGRATIONS.iter().flat_map(|one| [one.up_statements(), one.down_statements()].concat()) {
        assert_eq!(plain(&single(&replicated(&statement, &name))), plain(&statement));
    }
}
