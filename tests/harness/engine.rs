//! One engine for all claims about the store in a test process, and the clients of other languages to speak to it with.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use clickhouse::Client;
use gemba_ingest::engine::{EngineConfig, Supervisor};
use tempfile::TempDir;

use crate::{binary, packages};

/// Version of PyPI's clickhouse-connect the claims were checked with.
const PYTHON_CLIENT: &str = "clickhouse-connect==1.12.0";
/// Version of npm's @clickhouse/client the claims were checked with.
const NODE_CLIENT: &str = "@clickhouse/client@1.23.1";

/// Starts an engine of the claim's own on a folder.
pub fn start(data: &Path) -> Supervisor {
    let config = EngineConfig {
        data_dir: data.to_owned(),
        program: Some(binary::gemba().to_owned()),
        max_memory_bytes: Some(2 << 30),
        ..EngineConfig::default()
    };
    Supervisor::start(config).unwrap()
}

/// The engine all claims of this process share; give each its own [`database`]. It ends with the process.
pub fn shared() -> &'static Supervisor {
    static ENGINE: OnceLock<(Supervisor, TempDir)> = OnceLock::new();
    &ENGINE
        .get_or_init(|| {
            let folder = tempfile::Builder::new().prefix("gemba-engine-").tempdir().unwrap();
            (start(folder.path()), folder)
        })
        .0
}

/// The `clickhouse` crate's client for an engine.
pub fn client(engine: &Supervisor) -> Client {
    Client::default().with_url(engine.url()).with_user(engine.user()).with_password(engine.password())
}

/// The server's own client for an engine, on the database `default`.
pub fn store(engine: &Supervisor) -> gemba_ingest::store::Client {
    gemba_ingest::store::Client::new(gemba_ingest::store::StoreConfig {
        url: engine.url(),
        user: engine.user().to_owned(),
        password: engine.password().to_owned(),
        database: "default".to_owned(),
        compress: false,
        cluster: None,
    })
}

/// A client on the shared engine with an empty database of this name.
pub async fn database(name: &str) -> Client {
    let client = client(shared());
    client.query(&format!("DROP DATABASE IF EXISTS {name}")).execute().await.unwrap();
    client.query(&format!("CREATE DATABASE {name}")).execute().await.unwrap();
    client.with_database(name)
}

/// A plain HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body as text.
    pub text: String,
}

impl Answer {
    /// A header's value; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

/// Sends a body to `path_and_query` of an engine, as an HTTP client that knows nothing of ClickHouse.
pub fn post(engine: &Supervisor, path_and_query: &str, password: &str, body: &[u8]) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_mins(1)))
        .build()
        .into();
    let mut answer = agent
        .post(format!("{}{path_and_query}", engine.url()))
        .header("X-ClickHouse-User", engine.user())
        .header("X-ClickHouse-Key", password)
        .send(body)
        .unwrap();
    let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        text: answer.body_mut().read_to_string().unwrap(),
    }
}

fn run(command: &mut Command, engine: &Supervisor, database: &str) -> Output {
    let port = engine.url().rsplit(':').next().unwrap_or_default().to_owned();
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .arg(port)
        .arg(engine.password())
        .arg(database)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed to run this claim: {error}"))
}

/// Runs `clients/connect.py` with clickhouse-connect against an engine.
pub fn run_python_client(engine: &Supervisor, database: &str) -> Output {
    let packages = packages::python(&[PYTHON_CLIENT]);
    let script = packages::script("connect.py");
    run(Command::new("python3").env("PYTHONPATH", packages).arg(script), engine, database)
}

/// Runs `clients/client.mjs` with @clickhouse/client against an engine.
pub fn run_node_client(engine: &Supervisor, database: &str) -> Output {
    let packages = packages::node(&[NODE_CLIENT]);
    run(Command::new("node").arg(packages::node_script(&packages, "client.mjs")), engine, database)
}

/// Memory of a process in bytes, from a line of `/proc/PID/status` (`VmRSS` now, `VmHWM` at its highest).
pub fn memory(process: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let value = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':')).unwrap();
    value.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}
