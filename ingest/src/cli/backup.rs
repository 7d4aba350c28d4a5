//! `gemba backup NAME`: everything in ClickHouse, with the numbers of rows beside it.
//!
//! Works on the embedded engine while no server runs on the data folder, or on a ClickHouse server. What the log still
//! holds is stored first, so that the file holds everything that was acknowledged.

use super::serve::StoreArgs;
use super::store::{OpenStore, with_store};
use super::{Failure, say};
use crate::serve;
use crate::store::archive;
use clap::Args;
use serde_json::json;
use std::process::ExitCode;

/// Arguments of `gemba backup`.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// Name of the backup: a folder in `engine/backups` of the data folder, or where the ClickHouse server keeps its
    /// backups
    name: String,
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Makes the backup.
pub(super) async fn run(args: BackupArgs) -> Result<ExitCode, Failure> {
    let BackupArgs { name, store, json } = args;
    let saved = with_store(&store, async |store: &OpenStore| {
        let pending = serve::store_the_rest(&store.config, &store.client).await?;
        if pending > 0 {
            let problem =
                format!("{pending} acknowledged records could not be stored yet, so the backup would lack them");
            return Err(Failure::new(problem, "start `gemba serve` and stop it again, which stores them"));
        }
        archive::backup(&store.client, &name).await.map_err(|error| Failure::of(&error, error.hint()))
    })
    .await?;
    let rows: u64 = saved.rows.values().sum();
    if json {
        say(&json!({"backup": name, "rows": saved.rows}).to_string())?;
    } else {
        say(&format!("backup {name}: {rows} rows of {} tables", saved.rows.len()))?;
    }
    Ok(ExitCode::SUCCESS)
}
