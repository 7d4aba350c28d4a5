//! ClickHouse for the subcommands that work on the data itself: the configured server, or the data folder's engine.

use super::Failure;
use super::serve::StoreArgs;
use crate::config::ServeConfig;
use crate::engine::Supervisor;
use crate::serve::{self, DataLock};
use crate::store::Client;
use std::sync::Arc;

/// ClickHouse at hand; with the embedded engine the data folder is locked, so no server runs on it meanwhile.
#[derive(Debug)]
pub(super) struct OpenStore {
    pub(super) client: Client,
    pub(super) config: ServeConfig,
    engine: Option<Arc<Supervisor>>,
    _lock: Option<DataLock>,
}

impl OpenStore {
    /// Reaches the server `args` name, or locks the data folder and starts its engine.
    pub(super) async fn open(args: &StoreArgs) -> Result<Self, Failure> {
        let config = args.config()?;
        let lock = match config.clickhouse {
            Some(_) => None,
            None => Some(DataLock::take(&config.data)?),
        };
        let (client, engine) = serve::connect(&config).await?;
        Ok(Self { client, config, engine, _lock: lock })
    }

    /// Stops what [`open`](Self::open) started.
    pub(super) async fn close(self) {
        if let Some(engine) = self.engine {
            engine.stop().await;
        }
    }
}

/// Runs `work` on the store and closes it, whatever comes out.
pub(super) async fn with_store<T>(
    args: &StoreArgs,
    work: impl AsyncFnOnce(&OpenStore) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let store = OpenStore::open(args).await?;
    let outcome = work(&store).await;
    store.close().await;
    outcome
}
