//! An engine that can be killed, and a folder for a log: where claims about single inserts are made.

use crate::durability_support::{check_exactly_once, check_ledger, check_projection, request, texts};
use bytes::Bytes;
use gemba_ingest::identity::{IdHasher, ProjectId};
use gemba_ingest::otlp::{Encoding, Signal};
use gemba_ingest::pipeline::{ContentEncoding, Pipeline, PipelineConfig, Receipt, Submission};
use gemba_ingest::store::{Client, StoreConfig, migrations};
use gemba_tests::binary;
use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const PASSWORD: &str = "of these claims";
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// `gemba engine` as a process of its own, at the same address over restarts.
pub(crate) struct Engine {
    pub(crate) child: Child,
    data: PathBuf,
    pub(crate) address: String,
}

impl Engine {
    pub(crate) fn start(data: &Path) -> Self {
        let (child, address) = Self::spawn(data, "127.0.0.1:0");
        Self { child, data: data.to_owned(), address }
    }

    fn spawn(data: &Path, listen: &str) -> (Child, String) {
        let mut command = Command::new(binary::gemba());
        command.arg("engine").arg("--data").arg(data).args(["--listen", listen, "--password", PASSWORD]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next());
        (child, address.unwrap_or_else(|| panic!("the engine said {line:?}")).to_owned())
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        (self.child, _) = Self::spawn(&self.data, &self.address);
    }

    pub(crate) fn client_at(address: &str) -> Client {
        Client::new(StoreConfig {
            url: format!("http://{address}"),
            user: "default".into(),
            password: PASSWORD.into(),
            database: "default".into(),
            compress: false,
            cluster: None,
        })
    }

    pub(crate) fn client(&self) -> Client {
        Self::client_at(&self.address)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An engine with tables, and a folder for a log.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    folder: TempDir,
    pub(crate) acknowledged: HashSet<String>,
    next: u64,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::start(&folder.path().join("engine"));
        migrations::up(&engine.client()).await.unwrap();
        Self { engine, folder, acknowledged: HashSet::new(), next: 0 }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(crate) fn config(&self) -> PipelineConfig {
        PipelineConfig { max_cut_age: Duration::from_millis(20), ..PipelineConfig::new(self.log()) }
    }

    pub(crate) fn pipeline(&self) -> Pipeline {
        pipeline_with(self.config(), self.engine.client())
    }

    /// The next request of `events` events, and their ids.
    pub(crate) fn submission(&mut self, events: u64, key: Option<&str>) -> (Submission, Vec<String>) {
        let number = self.next;
        self.next += 1;
        submission(number, events, key)
    }

    pub(crate) async fn send(&mut self, pipeline: &Pipeline, events: u64) -> Receipt {
        let (submission, ids) = self.submission(events, None);
        let receipt = pipeline.submit(submission).await.unwrap();
        assert!(!receipt.deduplicated);
        assert_eq!(receipt.tally.kept(), events);
        self.acknowledged.extend(ids);
        receipt
    }

    pub(crate) async fn check(&self, context: &str) {
        let client = self.engine.client();
        let stored = texts(&client, "SELECT strings['id'] FROM events").await;
        check_exactly_once(&stored, &self.acknowledged, context);
        check_projection(&client, context).await;
        check_ledger(&client, async || true, context).await;
    }
}

/// Request `number` of `events` events, and their ids, which no other request has.
pub(crate) fn submission(number: u64, events: u64, key: Option<&str>) -> (Submission, Vec<String>) {
    let ids: Vec<_> = (0..events).map(|index| format!("{number}-{index}")).collect();
    let body = Bytes::from(request(&ids, 1_790_000_000_000 + number * 60_000));
    let submission = Submission {
        project: ProjectId(1),
        retention_class: 0,
        signal: Signal::Logs,
        encoding: Encoding::Protobuf,
        raw: body.clone(),
        body,
        content_encoding: ContentEncoding::Identity,
        key: key.map(str::to_owned),
    };
    (submission, ids)
}

pub(crate) fn pipeline_with(config: PipelineConfig, store: Client) -> Pipeline {
    Pipeline::start(config, store, IdHasher::new([7; 16])).unwrap()
}
