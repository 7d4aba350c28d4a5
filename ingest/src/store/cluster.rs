//! What is different where the store is a cluster of ClickHouse servers: how tables are made, and where questions are asked.
//!
//! In: the statements of the migrations as they are for one server. Out: the same for a cluster, the tables that questions are asked of,
//! and the word whether a cluster and a database are of a kind that Gemba can store into. Which rows are where it leaves to ClickHouse.
//!
//! The rows are in replicated tables under their plain names in the database that was configured, so whatever stores, counts and removes
//! speaks of the same tables as on one server. Questions are asked in a second database ([`reading_database`]) of `Distributed` tables
//! that have the same names, so no question knows of the cluster. That database is also the mark of one that was made for a cluster.

use super::migrations::{MIGRATIONS, Migration};
use super::{Client, StoreError, leases};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Where ClickHouse Keeper holds what the replicas of a table have in common; ClickHouse puts its macros in.
const KEEPER_PATH: &str = "/clickhouse/tables/{shard}/{database}/{table}";
/// Name of a replica, by a macro of ClickHouse.
const REPLICA: &str = "{replica}";
/// Longest name of a cluster. Chosen: a name stands in every statement that makes a table.
const MAX_NAME_BYTES: usize = 100;

/// Tables of which ClickHouse keeps one insert of each deduplication token ([`Client::once`]).
const SEQUENCED: [&str; 2] = ["claims", leases::TABLE];
/// Tables that no question is asked of.
const NOT_ASKED: [&str; 2] = ["schema_migrations", leases::TABLE];

/// Name of a cluster in the configuration of ClickHouse (`remote_servers`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterName(String);

impl FromStr for ClusterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.bytes().all(is_plain) {
            return Err(format!(
                "{text:?} is no name of a cluster: letters, digits, _, - and ., at most {MAX_NAME_BYTES}"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a database cannot be stored into the way it was asked for.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// No such cluster in the configuration of the server.
    #[error("ClickHouse knows no cluster {cluster}; name one of its remote_servers with --cluster: {known}")]
    Unknown {
        /// The name that was given.
        cluster: String,
        /// Those there are.
        known: String,
    },
    /// More than one shard.
    #[error(
        "cluster {cluster} has {shards} shards; one shard with any number of replicas is supported, since Gemba inserts into the \
         server it is told with --clickhouse and does not divide rows among shards"
    )]
    Shards {
        /// The cluster.
        cluster: String,
        /// How many.
        shards: u64,
    },
    /// The tables are there and are those of a single server.
    #[error(
        "database {database} was made without --cluster, so its tables have no replicas; leave --cluster out, or name an empty \
         database with --clickhouse-database and bring the data over with gemba export and gemba import"
    )]
    Single {
        /// The database.
        database: String,
    },
    /// The tables are replicated, and whoever starts does not know.
    #[error("database {database} was made with --cluster; give it again, or inserts would not wait for the replicas")]
    Replicated {
        /// The database.
        database: String,
    },
}

/// The database whose `Distributed` tables questions are asked of.
pub fn reading_database(database: &str) -> String {
    format!("{database}_distributed")
}

/// A statement that makes, changes or drops a table, as it is for a cluster; others stay as they are.
///
/// `ON CLUSTER` has every server of the cluster do it. Engines become their replicated kin. Of the replicated tables only the sequenced
/// ones deduplicate inserts: anywhere else an insert that holds the same as an earlier one is no repeat.
pub fn replicated(statement: &str, cluster: &ClusterName) -> String {
    const HEADS: [&str; 5] = [
        "CREATE TABLE IF NOT EXISTS ",
        "CREATE OR REPLACE TABLE ",
        "CREATE DATABASE IF NOT EXISTS ",
        "DROP TABLE IF EXISTS ",
        "ALTER TABLE ",
    ];
    let Some((head, rest)) = HEADS.iter().find_map(|head| Some((*head, statement.strip_prefix(head)?))) else {
        return statement.to_owned();
    };
    let (name, rest) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
    let mut made = format!("{head}{name} ON CLUSTER `{cluster}`");
    match rest.split_once("ENGINE = ") {
        Some((columns, engine)) if head.starts_with("CREATE TABLE") => {
            made.push_str(columns);
            made.push_str("ENGINE = ");
            made.push_str(&replicated_engine(engine));
            if !SEQUENCED.contains(&name) {
                made.push_str(if engine.contains("SETTINGS ") { ", " } else { " SETTINGS " });
                made.push_str("replicated_deduplication_window = 0");
            }
        }
        _ => made.push_str(rest),
    }
    // Otherwise Keeper knows the table for some minutes more, in which it cannot be made again.
    if head.starts_with("DROP") && !made.ends_with(" SYNC") {
        made.push_str(" SYNC");
    }
    made
}

/// What follows `ENGINE = `, with an engine that replicates.
fn replicated_engine(engine: &str) -> String {
    let (name, rest) = engine.split_at(engine.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(engine.len()));
    if !name.ends_with("MergeTree") {
        return engine.to_owned();
    }
    // Its own arguments follow the two of replication.
    let (arguments, rest) = match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((arguments, rest)) => (format!(", {arguments}"), rest),
        None => (String::new(), rest),
    };
    format!("Replicated{name}('{KEEPER_PATH}', '{REPLICA}'{arguments}){rest}")
}

/// What keeps Gemba from storing into this database the way it was asked for, if anything does. Makes the second database where the
/// first is still empty.
pub(super) async fn check(store: &Client) -> Result<Option<ClusterError>, StoreError> {
    let database = store.config().database.clone();
    let reading = reading_database(&database);
    let Some(cluster) = &store.config().cluster else {
        // Somebody else may have a database of such a name, so tables are looked at.
        let tables = "SELECT count() FROM system.tables WHERE \
                      (database = concat(currentDatabase(), '_distributed') AND name = 'events' AND engine = 'Distributed') \
                      OR (database = currentDatabase() AND name = 'schema_migrations' AND startsWith(engine, 'Replicated'))";
        return Ok((store.number(tables).await? > 0).then_some(ClusterError::Replicated { database }));
    };
    let is_marked = store.number(&format!("SELECT count() FROM system.databases WHERE name = '{reading}'")).await? > 0;
    let shards = format!("SELECT toUInt64(uniqExact(shard_num)) FROM system.clusters WHERE cluster = '{cluster}'");
    match store.number(&shards).await? {
        1 => {}
        0 => {
            let known = "SELECT DISTINCT cluster FROM system.clusters ORDER BY cluster";
            let known = store.rows::<String>(known).await?.join(", ");
            return Ok(Some(ClusterError::Unknown { cluster: cluster.to_string(), known }));
        }
        shards => return Ok(Some(ClusterError::Shards { cluster: cluster.to_string(), shards })),
    }
    if is_marked {
        return Ok(None);
    }
    let tables = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'schema_migrations'";
    if store.number(tables).await? > 0 {
        return Ok(Some(ClusterError::Single { database }));
    }
    // Before the first table: whoever finds tables without it knows that they are not a cluster's.
    store.define(&format!("CREATE DATABASE IF NOT EXISTS `{reading}`")).await?;
    Ok(None)
}

/// Has the tables of questions follow those that hold the rows.
pub(super) async fn show(store: &Client) -> Result<(), StoreError> {
    for statement in missing(store).await? {
        store.define(&statement).await?;
    }
    Ok(())
}

/// The statements that are missing for the tables of questions to be like those that hold the rows; none without a cluster.
pub(super) async fn missing(store: &Client) -> Result<Vec<String>, StoreError> {
    let Some(cluster) = &store.config().cluster else { return Ok(Vec::new()) };
    let database = &store.config().database;
    let reading = reading_database(database);
    let held = columns(store, database, "%MergeTree").await?;
    let asked = columns(store, &reading, "Distributed").await?;
    let mut statements = Vec::new();
    // A team may have tables of its own beside them.
    let ours = ours();
    for (table, columns) in held.iter().filter(|(table, _)| ours.contains(*table)) {
        if !NOT_ASKED.contains(&table.as_str()) && asked.get(table) != Some(columns) {
            statements.push(format!(
                "CREATE OR REPLACE TABLE `{reading}`.`{table}` AS `{database}`.`{table}` \
                 ENGINE = Distributed('{cluster}', '{database}', '{table}')"
            ));
        }
    }
    let gone = asked.keys().filter(|table| ours.contains(*table) && !held.contains_key(*table));
    statements.extend(gone.map(|table| format!("DROP TABLE IF EXISTS `{reading}`.`{table}`")));
    Ok(statements)
}

/// Names of the tables that migrations make.
fn ours() -> BTreeSet<String> {
    let statements = MIGRATIONS.iter().flat_map(Migration::up_statements);
    let name = |statement: String| {
        Some(statement.strip_prefix("CREATE TABLE IF NOT EXISTS ")?.split_whitespace().next()?.to_owned())
    };
    statements.filter_map(name).collect()
}

/// Names and types of the columns of the tables of an engine, by table.
async fn columns(store: &Client, database: &str, engine: &str) -> Result<BTreeMap<String, String>, StoreError> {
    let sql = format!(
        "SELECT table, arrayStringConcat(groupArray(concat(name, ' ', type)), ', ') FROM \
         (SELECT c.table AS table, c.name AS name, c.type AS type FROM system.columns AS c INNER JOIN system.tables AS t \
         ON t.database = c.database AND t.name = c.table WHERE c.database = '{database}' AND t.engine LIKE '{engine}' \
         ORDER BY table, c.position) GROUP BY table"
    );
    Ok(store.rows::<(String, String)>(&sql).await?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(statement: &str, expected: &str) {
        assert_eq!(replicated(statement, &"main".parse().unwrap()), expected);
    }

    #[test]
    fn tables_are_made_on_every_server_and_replicate() {
        check(
            "CREATE TABLE IF NOT EXISTS events\n(\n    n UInt8\n)\nENGINE = MergeTree\nORDER BY n\nSETTINGS a = 1",
            "CREATE TABLE IF NOT EXISTS events ON CLUSTER `main`\n(\n    n UInt8\n)\n\
             ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')\nORDER BY n\nSETTINGS a = 1, \
             replicated_deduplication_window = 0",
        );
        check(
            "CREATE TABLE IF NOT EXISTS audit (v UInt8) ENGINE = ReplacingMergeTree(v) ORDER BY v",
            "CREATE TABLE IF NOT EXISTS audit ON CLUSTER `main` (v UInt8) \
             ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', v) ORDER BY v SETTINGS \
             replicated_deduplication_window = 0",
        );
    }

    #[test]
    fn tables_in_which_one_insert_of_a_token_counts_deduplicate() {
        for table in SEQUENCED {
            let made = replicated(
                &format!("CREATE TABLE IF NOT EXISTS {table} (n UInt8) ENGINE = MergeTree ORDER BY n"),
                &"main".parse().unwrap(),
            );
            assert!(made.contains("ReplicatedMergeTree(") && !made.contains("deduplication"), "{made}");
        }
    }

    #[test]
    fn changes_and_drops_reach_every_server() {
        check(
            "ALTER TABLE `events` MODIFY SETTING a = 1",
            "ALTER TABLE `events` ON CLUSTER `main` MODIFY SETTING a = 1",
        );
        check("DROP TABLE IF EXISTS audit", "DROP TABLE IF EXISTS audit ON CLUSTER `main` SYNC");
        check("DROP TABLE IF EXISTS events SYNC", "DROP TABLE IF EXISTS events ON CLUSTER `main` SYNC");
        check(
            "CREATE OR REPLACE TABLE `d`.`t` AS `e`.`t` ENGINE = Distributed('main', 'e', 't')",
            "CREATE OR REPLACE TABLE `d`.`t` ON CLUSTER `main` AS `e`.`t` ENGINE = Distributed('main', 'e', 't')",
        );
    }

    #[test]
    fn what_makes_no_table_stays_as_it_is() {
        for statement in ["INSERT INTO events VALUES (1)", "SELECT 'ALTER TABLE '"] {
            check(statement, statement);
        }
    }

    #[test]
    fn a_name_of_a_cluster_cannot_leave_the_statement() {
        for good in ["main", "a-b_c.1"] {
            assert_eq!(good.parse::<ClusterName>().unwrap().to_string(), good);
        }
        for bad in ["", "a`b", "a'b", "a b", "{cluster}"] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad}");
        }
    }
}
