//! A real server with a data folder, an engine and ports of its own.

use crate::binary;
use crate::client::{Answer, bare, post, send};
use gemba_ingest::config::ServeConfig;
use gemba_ingest::serve::{self, Running};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Keys of the first start.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Admin token.
    pub admin: String,
    /// Ingest key of the project `default`.
    pub ingest: String,
    /// Read key of the project `default`.
    pub read: String,
}

impl Keys {
    /// The keys in the data folder's `credentials.json`.
    pub fn of(data: &Path) -> Self {
        let text = std::fs::read(data.join("credentials.json")).unwrap();
        let value: Value = serde_json::from_slice(&text).unwrap();
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        Self {
            admin: text("/admin_token"),
            ingest: text("/projects/default/ingest_key"),
            read: text("/projects/default/read_key"),
        }
    }
}

/// Settings for a server of a test: free ports, the built binary as its engine.
pub fn config(data: &Path) -> ServeConfig {
    let any_port = "127.0.0.1:0".parse().unwrap();
    ServeConfig {
        listen: any_port,
        grpc_listen: Some(any_port),
        engine_program: Some(binary::gemba().to_owned()),
        ..ServeConfig::new(data)
    }
}

/// A server inside this process, so that a claim can look into its store.
#[derive(Debug)]
pub struct Server {
    /// The server.
    pub running: Running,
    /// Keys of its first start.
    pub keys: Keys,
    _folder: TempDir,
}

impl Server {
    /// Starts one with the defaults.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts one with settings changed.
    pub async fn start_with(change: impl FnOnce(&mut ServeConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut config = config(&data);
        change(&mut config);
        let running = Box::pin(serve::start(config)).await.unwrap();
        let keys = Keys::of(&data);
        Self { running, keys, _folder: folder }
    }

    /// Stops it in order and starts it on the same data folder, with the defaults.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// The same with settings changed.
    pub async fn restart_with(self, change: impl FnOnce(&mut ServeConfig)) -> Self {
        let Self { running, keys, _folder: folder } = self;
        let mut config = config(running.data());
        change(&mut config);
        assert!(running.stop().await, "it stops with everything stored");
        Self { running: Box::pin(serve::start(config)).await.unwrap(), keys, _folder: folder }
    }

    /// A URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.running.inner_url())
    }

    /// Sends logs in protobuf with the ingest key of the project `default`.
    pub async fn send_logs(&self, body: impl Into<bytes::Bytes>) -> Answer {
        send(post(&self.url("/v1/logs"), &self.keys.ingest, "application/x-protobuf", body)).await
    }

    /// Waits until everything acknowledged can be queried.
    pub async fn flush(&self) {
        let answer = send(bare("POST", &self.url("/api/v1/flush"), Some(&self.keys.ingest))).await;
        assert_eq!(answer.json(), json!({"flushed": true}));
    }

    /// The single number a statement answers.
    pub async fn number(&self, sql: &str) -> u64 {
        self.running.app().store.number(sql).await.unwrap()
    }
}

/// A server as a process of its own, for claims about starting, stopping and dying.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Address of HTTP.
    pub url: String,
}

impl Process {
    /// Starts `gemba serve` on `data` with further arguments, and waits for its line.
    pub fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::start_logged(data, arguments, Stdio::inherit())
    }

    /// The same, with what it logs written there.
    pub fn start_logged(data: &Path, arguments: &[&str], log: Stdio) -> Self {
        let mut command = serve_command(data, arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.strip_prefix("gemba serves on ").and_then(|rest| rest.split([',', '\n']).next());
        let url = url.unwrap_or_else(|| panic!("serve said {line:?}")).to_owned();
        Self { child, url }
    }

    /// Process id.
    pub fn id(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends a signal, for example `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end.
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            // try_wait has nothing to be woken by.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM and the exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait(Duration::from_mins(1)).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `gemba serve` on free ports.
pub fn serve_command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary::gemba());
    command.arg("serve").arg("--data").arg(data);
    command.args(["--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"]).args(arguments);
    command
}
