//! The one client for ClickHouse: the official `clickhouse` crate over HTTP, with the settings that durable inserts need.
//!
//! In: statements, encoded blocks. Out: success, counts, or a [`StoreError`]. It never retries and never decides what an
//! unknown outcome means; that is the pipeline's task, which counts.
//!
//! Invariants:
//! 1. One [`Client::insert_native`] is one block, one part: ClickHouse stores it whole or not at all.
//! 2. No call waits without a limit.

use super::StoreError;
use super::cluster::{self, ClusterName};
use bytes::Bytes;
use clickhouse::insert_formatted::InsertFormatted;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long a piece of a block may wait to be taken by ClickHouse. Chosen: ten times the longest pause of a merge-bound
/// engine seen while measuring.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long ClickHouse may take to store a block once it has it. Chosen: a block of 200 k rows takes 0.2 s; a server
/// under merges and with slow disks has been seen at 20 s.
const INSERT_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a statement of the pipeline (count, remove, kill) may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);
/// How long ClickHouse may wait for most of the replicas to have an insert, ms: less than it is waited for, so that it says itself what
/// is missing.
const QUORUM_TIMEOUT_MS: &str = "60000";
/// How long it may wait for all servers of a cluster to have made a table, s: likewise.
const DEFINE_TIMEOUT_S: &str = "50";
/// Size of the pieces a block is sent in. Chosen: large enough that framing costs nothing, small enough to see a stalled
/// connection early.
const PIECE_BYTES: usize = 1 << 20;

/// Where ClickHouse is and as whom to speak to it.
#[derive(Clone)]
pub struct StoreConfig {
    /// `http://host:port`.
    pub url: String,
    /// ClickHouse user.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Database holding Gemba's tables; must exist.
    pub database: String,
    /// LZ4 between Gemba and ClickHouse: worth it over a network, a waste of CPU on loopback.
    pub compress: bool,
    /// Cluster whose servers hold replicas of the tables; none for a server by itself.
    pub cluster: Option<ClusterName>,
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreConfig")
            .field("url", &self.url)
            .field("user", &self.user)
            .field("database", &self.database)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// What names a stored block: where it lies and which insert wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InsertedBlock<'a> {
    /// Table.
    pub table: &'a str,
    /// Retention class, the first part of the partition key.
    pub retention_class: u8,
    /// Monday of the week of receipt, days since 1970-01-01, the second part.
    pub week: u16,
    /// Value of the column `batch`.
    pub batch: u64,
}

/// A handle on ClickHouse; cheap to clone, shares its connections.
#[derive(Clone)]
pub struct Client {
    inner: clickhouse::Client,
    questions: clickhouse::Client,
    config: StoreConfig,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.config).finish()
    }
}

/// By how much the threads of questions step back (Linux nice value) for those that store and merge, so that what is sent is
/// acknowledged as before while somebody asks. ClickHouse heeds it where it may change priorities (CAP_SYS_NICE). Chosen.
const QUESTIONS_NICE: &str = "10";

impl Client {
    /// A client for `config`. Does not connect.
    pub fn new(config: StoreConfig) -> Self {
        let compression = if config.compress { clickhouse::Compression::Lz4 } else { clickhouse::Compression::None };
        let mut inner = clickhouse::Client::default()
            .with_url(&config.url)
            .with_user(&config.user)
            .with_password(&config.password)
            .with_database(&config.database)
            .with_compression(compression);
        let mut questions = inner.clone().with_setting("os_thread_priority", QUESTIONS_NICE);
        if config.cluster.is_some() {
            // Of every insert, whatever it is of: what only one server has goes with its disk.
            inner =
                inner.with_setting("insert_quorum", "auto").with_setting("insert_quorum_timeout", QUORUM_TIMEOUT_MS);
            questions = questions.with_database(cluster::reading_database(&config.database));
        }
        Self { inner, questions, config }
    }

    /// The crate's own client, for reads.
    pub fn raw(&self) -> &clickhouse::Client {
        &self.inner
    }

    /// The crate's own client for what people ask: of all servers where the store is a cluster, and it only reads.
    pub fn questions(&self) -> &clickhouse::Client {
        &self.questions
    }

    /// Where this client points.
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// The same address and user, another database.
    pub fn with_database(&self, database: &str) -> Self {
        Self::new(StoreConfig { database: database.to_owned(), ..self.config.clone() })
    }

    /// Runs a statement that answers nothing; returns when ClickHouse has finished it.
    ///
    /// `?` in the text stays as it is.
    pub async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        let statement = self.inner.query_raw(sql).with_setting("wait_end_of_query", "1").execute();
        within(STATEMENT_TIMEOUT, statement).await
    }

    /// Makes, changes or drops a table, on every server of a cluster.
    pub async fn define(&self, sql: &str) -> Result<(), StoreError> {
        let Some(cluster) = &self.config.cluster else { return self.execute(sql).await };
        let statement = self
            .inner
            .query_raw(&cluster::replicated(sql, cluster))
            .with_setting("wait_end_of_query", "1")
            .with_setting("distributed_ddl_task_timeout", DEFINE_TIMEOUT_S)
            // A question may be answered by any of the servers.
            .with_setting("alter_sync", "2")
            // `resource` and `instance` are of a type that a table may only be made with on purpose; the tables that questions are asked
            // of cannot say so themselves.
            .with_setting("allow_suspicious_low_cardinality_types", "1")
            .execute();
        within(STATEMENT_TIMEOUT, statement).await
    }

    /// Makes a table where it is missing. On a cluster one that is there is not asked for again: that would wait for every server,
    /// also for one that is down.
    pub async fn define_table(&self, table: &str, sql: &str) -> Result<(), StoreError> {
        let there =
            format!("SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = '{table}'");
        if self.config.cluster.is_some() && self.number(&there).await? > 0 {
            return Ok(());
        }
        self.define(sql).await
    }

    /// Returns when this server has whatever any server of a cluster had stored in a table before; at once without a cluster.
    pub async fn catch_up(&self, table: &str) -> Result<(), StoreError> {
        match self.config.cluster {
            Some(_) => self.execute(&format!("SYSTEM SYNC REPLICA `{table}` LIGHTWEIGHT")).await,
            None => Ok(()),
        }
    }

    /// Settings of an insert of which ClickHouse keeps one for each `token`, whichever server of a cluster is asked first. A server by
    /// itself keeps all, and numbers them in the order in which they become visible; the replicas of a table do not.
    pub fn once(&self, token: &str) -> String {
        match self.config.cluster {
            Some(_) => format!("insert_deduplicate = 1, insert_deduplication_token = '{token}'"),
            None => "insert_deduplicate = 0".to_owned(),
        }
    }

    /// A system table of every server of a cluster.
    pub fn of_all_servers(&self, table: &str) -> String {
        match &self.config.cluster {
            Some(cluster) => format!("clusterAllReplicas('{cluster}', {table})"),
            None => table.to_owned(),
        }
    }

    /// How many servers of a cluster have replicas; none without a cluster.
    pub async fn replicas(&self) -> Result<Option<u64>, StoreError> {
        let Some(cluster) = &self.config.cluster else { return Ok(None) };
        self.number(&format!("SELECT count() FROM system.clusters WHERE cluster = '{cluster}'")).await.map(Some)
    }

    /// The single number a statement answers.
    pub async fn number(&self, sql: &str) -> Result<u64, StoreError> {
        within(STATEMENT_TIMEOUT, self.inner.query_raw(sql).fetch_one::<u64>()).await
    }

    /// The rows a statement answers; for statements that answer few.
    pub async fn rows<T>(&self, sql: &str) -> Result<Vec<T>, StoreError>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        within(STATEMENT_TIMEOUT, self.inner.query_raw(sql).fetch_all::<T>()).await
    }

    /// Stores one block in Native format as one part and returns when the part is fsynced.
    ///
    /// `query_id` must never have been used before; it is what [`Self::kill_query_and_wait`] looks for. `token` is sent
    /// as the deduplication token but has no effect on tables without a deduplication window, which is what Gemba
    /// creates: a token is recorded before the part is committed, so a kill in between would lose the rows for good.
    ///
    /// # Errors
    /// Any variant; the outcome is then unknown.
    pub async fn insert_native(
        &self,
        table: &str,
        query_id: &str,
        token: &str,
        block: Bytes,
    ) -> Result<(), StoreError> {
        let mut insert = self.begin_native(table, query_id, token);
        let mut rest = block;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            insert.send(piece).await?;
        }
        insert.end().await?;
        Ok(())
    }

    /// As [`Self::insert_native`], with the block in pieces while it is being encoded; `None` is its end, and a block that
    /// ends without it is not stored. Answers the bytes sent.
    ///
    /// # Errors
    /// Any variant; the outcome is then unknown.
    pub async fn insert_native_pieces(
        &self,
        table: &str,
        query_id: &str,
        token: &str,
        mut pieces: mpsc::Receiver<Option<Bytes>>,
    ) -> Result<u64, StoreError> {
        let mut insert = self.begin_native(table, query_id, token);
        let mut bytes = 0;
        loop {
            match pieces.recv().await {
                Some(Some(piece)) => {
                    bytes += piece.len() as u64;
                    insert.send(piece).await?;
                }
                Some(None) => break,
                // Dropping the insert breaks the request off, so that ClickHouse cannot take it for complete.
                None => return Err(StoreError::BrokeOff),
            }
        }
        insert.end().await?;
        Ok(bytes)
    }

    fn begin_native(&self, table: &str, query_id: &str, token: &str) -> InsertFormatted {
        self.inner
            .insert_formatted_with(format!("INSERT INTO {table} FORMAT Native"))
            .with_timeouts(Some(SEND_TIMEOUT), Some(INSERT_TIMEOUT))
            .with_setting("query_id", query_id)
            .with_setting("insert_deduplication_token", token)
            .with_setting("insert_deduplicate", "0")
            // The engine's default gathers inserts in memory and would acknowledge or split as it likes.
            .with_setting("async_insert", "0")
            .with_setting("wait_end_of_query", "1")
            // One block in, one part out: nothing is squashed together and nothing is split.
            .with_setting("min_insert_block_size_rows", "0")
            .with_setting("min_insert_block_size_bytes", "0")
            .with_setting("max_insert_block_size", "100000000")
            .with_setting("max_insert_threads", "1")
            .with_setting("input_format_parallel_parsing", "0")
    }

    /// Rows of a block that are stored: 0, or all of them, as long as nothing removed some in between.
    ///
    /// # Errors
    /// On a cluster also [`StoreError::FewReplicas`], while rows are there that most of the replicas do not have yet.
    pub async fn count_batch(&self, block: InsertedBlock<'_>) -> Result<u64, StoreError> {
        let InsertedBlock { table, retention_class, week, batch } = block;
        let rows =
            format!("retention_class = {retention_class} AND toMonday(received) = toDate({week}) AND batch = {batch}");
        self.catch_up(table).await?;
        let here = self
            .number(&format!("SELECT count() FROM {table} WHERE {rows} SETTINGS select_sequential_consistency = 1"))
            .await?;
        if let Some(cluster) = self.config.cluster.as_ref().filter(|_| here > 0) {
            let database = &self.config.database;
            // A server that does not answer has none as far as anybody can tell. A number that a statement of its own brings could be
            // none for ClickHouse.
            let sql = format!(
                "SELECT toUInt64(countIf(rows = {here})), assumeNotNull((SELECT count() FROM system.clusters WHERE cluster = '{cluster}')) FROM \
                 (SELECT count() AS rows FROM clusterAllReplicas('{cluster}', `{database}`, {table}) WHERE {rows} \
                 GROUP BY _shard_num) SETTINGS skip_unavailable_shards = 1"
            );
            let (having, replicas) =
                within(STATEMENT_TIMEOUT, self.inner.query_raw(&sql).fetch_one::<(u64, u64)>()).await?;
            if having * 2 <= replicas {
                return Err(StoreError::FewReplicas { having, replicas });
            }
        }
        Ok(here)
    }

    /// Removes the rows of a block and returns when they are gone from every part; other servers of a cluster do the same in their
    /// own time, before whatever comes later.
    pub async fn remove_batch(&self, block: InsertedBlock<'_>) -> Result<(), StoreError> {
        let InsertedBlock { table, retention_class, week, batch } = block;
        self.execute(&format!(
            "ALTER TABLE {table} DELETE WHERE retention_class = {retention_class} \
             AND toMonday(received) = toDate({week}) AND batch = {batch} SETTINGS mutations_sync = 1"
        ))
        .await
    }

    /// Stops every statement whose id begins with `query_id_prefix` and returns when none runs any more, so that what is
    /// counted afterwards stays so.
    ///
    /// # Errors
    /// [`StoreError::StillRunning`] when one has not stopped after 60 s.
    pub async fn kill_query_and_wait(&self, query_id_prefix: &str) -> Result<(), StoreError> {
        let running = format!("SELECT count() FROM system.processes WHERE startsWith(query_id, '{query_id_prefix}')");
        let started = Instant::now();
        let mut pause = Duration::from_millis(5);
        while self.number(&running).await? > 0 {
            if started.elapsed() > STATEMENT_TIMEOUT {
                return Err(StoreError::StillRunning { query_id: query_id_prefix.to_owned() });
            }
            self.execute(&format!("KILL QUERY WHERE startsWith(query_id, '{query_id_prefix}') ASYNC")).await?;
            // The statement notices between two steps of its work; there is nothing to be woken by.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
        Ok(())
    }
}

/// Bounds a call of the crate, which itself waits without limit for an answer.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, clickhouse::error::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?),
        Err(_elapsed) => Err(StoreError::Timeout),
    }
}
