//! An engine that is all servers of a cluster at once, and something in front of it that does what it cannot.
//!
//! The engine has the clusters of [`CLUSTERS`] in its configuration, so `Distributed`, `clusterAllReplicas` and `system.clusters` are
//! ClickHouse's own. It has no Keeper that it could replicate through: a replicated table can be made, since a stand-in for Keeper
//! that is part of ClickHouse takes the paths, but stays read-only. So [`Gate`] has the engine carry out each statement as it is for
//! one server: [`single`] says what is put back. What this does not prove: that replicas come to hold the same rows.

use crate::client::{Answer, send};
use crate::engine;
use bytes::Bytes;
use gemba_ingest::config::ClickHouseTarget;
use gemba_ingest::engine::Supervisor;
use gemba_ingest::store::{Client, StoreConfig};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// Nothing listens at any of these ports; one of them is the engine's own as far as it knows. `few` has one server that answers, `many`
/// more than one shard.
const CLUSTERS: &str = "<clickhouse>
  <tcp_port>9</tcp_port>
  <zookeeper><implementation>testkeeper</implementation></zookeeper>
  <macros><shard>first</shard><replica>here</replica></macros>
  <remote_servers>
    <one><shard><replica><host>127.0.0.1</host><port>9</port></replica></shard></one>
    <pair><shard><replica><host>127.0.0.1</host><port>9</port></replica><replica><host>localhost</host><port>9</port></replica></shard></pair>
    <few><shard><replica><host>127.0.0.1</host><port>9</port></replica><replica><host>127.0.0.1</host><port>1</port></replica><replica><host>127.0.0.1</host><port>2</port></replica></shard></few>
    <many><shard><replica><host>127.0.0.1</host><port>9</port></replica></shard><shard><replica><host>localhost</host><port>9</port></replica></shard></many>
  </remote_servers>
</clickhouse>
";

/// How long a replicated table remembers tokens of inserts unless it is told otherwise, in inserts.
const REMEMBERED: &str = "non_replicated_deduplication_window = 10000";

/// A statement for a cluster as it is for a single server that remembers tokens of inserts like a replicated table.
pub fn single(statement: &str) -> String {
    let mut sql = statement.to_owned();
    if let Some((before, after)) = statement.split_once(" ON CLUSTER `") {
        sql = format!("{before}{}", after.split_once('`').map_or("", |(_, rest)| rest));
    }
    if let Some((before, engine)) = sql.split_once("ENGINE = Replicated") {
        let (name, rest) = engine.split_once('(').unwrap();
        let (arguments, rest) = rest.split_once(')').unwrap();
        let own = arguments.splitn(3, ", ").nth(2).map_or(String::new(), |own| format!("({own})"));
        let rest = rest.replace("replicated_deduplication_window", "non_replicated_deduplication_window");
        let remembered = if rest.contains("deduplication_window") { String::new() } else { format!(", {REMEMBERED}") };
        sql = format!("{before}ENGINE = {name}{own}{rest}{remembered}");
    }
    if sql.starts_with("SYSTEM SYNC REPLICA ") {
        // There is one replica.
        "SELECT 1".clone_into(&mut sql);
    }
    sql
}

/// Stands in front of the engine and hands statements on as [`single`] makes them.
#[derive(Debug)]
pub struct Gate {
    engine: String,
    /// Address.
    pub url: String,
    /// Lets nothing through.
    pub is_shut: AtomicBool,
    /// Loses the answers of so many inserts of events.
    pub loses: AtomicU64,
    /// What was asked, as it was sent: addresses, for statements that come with them, and bodies.
    asked: Mutex<Vec<String>>,
}

impl Gate {
    async fn open(engine: String) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (is_shut, loses, asked) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::default());
        let gate = Arc::new(Self { engine, url, is_shut, loses, asked });
        let accepting = Arc::clone(&gate);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let gate = Arc::clone(&accepting);
                let service = service_fn(move |request| {
                    let gate = Arc::clone(&gate);
                    async move { gate.hand_on(request).await }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        gate
    }

    /// An error breaks the connection off.
    async fn hand_on(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let broken = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        if self.is_shut.load(Ordering::SeqCst) {
            return Err(broken());
        }
        let (mut parts, body) = request.into_parts();
        let mut body = body.collect().await.map_err(|_| broken())?.to_bytes();
        let path = parts.uri.path_and_query().unwrap().as_str().to_owned();
        // A statement that comes with the address is an insert, and the body is its rows.
        if path.contains("&query=") || path.contains("?query=") {
            self.asked.lock().unwrap().push(path.clone());
        } else if let Ok(statement) = std::str::from_utf8(&body) {
            self.asked.lock().unwrap().push(format!("{path} {statement}"));
            body = single(statement).into();
        }
        parts.headers.remove("content-length");
        parts.headers.remove("transfer-encoding");
        parts.uri = format!("{}{path}", self.engine).parse().unwrap();
        let Answer { status, mut headers, body, .. } = send(Request::from_parts(parts, Full::new(body))).await;
        let loses = |left: u64| left.checked_sub(1);
        if path.contains("INTO+events+") && self.loses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, loses).is_ok() {
            return Err(broken());
        }
        headers.remove("content-length");
        headers.remove("transfer-encoding");
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The engine and what stands before it.
#[derive(Debug)]
pub struct Cluster {
    /// The engine.
    pub engine: Supervisor,
    /// Where the cluster is reached.
    pub gate: Arc<Gate>,
    /// Place for data folders.
    pub folder: TempDir,
}

impl Cluster {
    /// Starts one. Returns when it answers.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("engine");
        std::fs::create_dir_all(data.join("engine.d")).unwrap();
        std::fs::write(data.join("engine.d/clusters.xml"), CLUSTERS).unwrap();
        let engine = engine::start(&data);
        let gate = Gate::open(engine.url()).await;
        Self { engine, gate, folder }
    }

    /// A client for a new, empty database of a cluster, through the gate.
    pub async fn database(&self, name: &str, cluster: &str) -> Client {
        self.server().execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        self.client(name, Some(cluster))
    }

    /// A client for a database, through the gate.
    pub fn client(&self, database: &str, cluster: Option<&str>) -> Client {
        Client::new(StoreConfig {
            url: self.gate.url.clone(),
            user: self.engine.user().to_owned(),
            password: self.engine.password().to_owned(),
            database: database.to_owned(),
            compress: false,
            cluster: cluster.map(|cluster| cluster.parse().unwrap()),
        })
    }

    /// A client of the engine itself, which knows of no cluster.
    pub fn server(&self) -> Client {
        engine::store(&self.engine)
    }

    /// The cluster as a server is told of it, with the database `default`.
    pub fn target(&self, cluster: &str) -> ClickHouseTarget {
        ClickHouseTarget {
            url: self.gate.url.clone(),
            user: self.engine.user().to_owned(),
            password: self.engine.password().to_owned(),
            database: "default".to_owned(),
            cluster: Some(cluster.parse().unwrap()),
        }
    }

    /// Stops the engine and waits for it.
    pub async fn stop(self) {
        self.engine.stop().await;
    }
}
