//! Databases of one's own on a real engine, for claims about tables and queries that need no server.

use crate::binary;
use gemba_ingest::engine::{EngineConfig, Supervisor};
use gemba_ingest::store::{Client, StoreConfig};
use tempfile::TempDir;

/// An engine with an empty data folder.
#[derive(Debug)]
pub struct Engine {
    supervisor: Supervisor,
    folder: TempDir,
}

impl Engine {
    /// Starts one. Blocks until it answers.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            data_dir: folder.path().join("engine"),
            program: Some(binary::gemba().to_owned()),
            ..EngineConfig::default()
        };
        Self { supervisor: Supervisor::start(config).unwrap(), folder }
    }

    /// A client for a new, empty database.
    pub async fn database(&self, name: &str) -> Client {
        let client = Client::new(StoreConfig {
            url: self.supervisor.url(),
            user: self.supervisor.user().to_owned(),
            password: self.supervisor.password().to_owned(),
            database: "default".to_owned(),
            compress: false,
            cluster: None,
        });
        client.execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        client.with_database(name)
    }

    /// Where its backups lie.
    pub fn backups(&self) -> std::path::PathBuf {
        self.folder.path().join("engine/backups")
    }

    /// Stops the engine and waits for it.
    pub async fn stop(self) {
        self.supervisor.stop().await;
    }
}
