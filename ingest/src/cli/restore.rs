//! `gemba restore NAME`: brings a backup back into an empty database, and checks every table's rows against it.

use super::serve::StoreArgs;
use super::store::{OpenStore, with_store};
use super::{Failure, say};
use crate::store::archive;
use clap::Args;
use serde_json::json;
use std::process::ExitCode;

/// Arguments of `gemba restore`.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// Name the backup was made under
    name: String,
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Restores the backup.
pub(super) async fn run(args: RestoreArgs) -> Result<ExitCode, Failure> {
    let RestoreArgs { name, store, json } = args;
    let restored = with_store(&store, async |store: &OpenStore| {
        archive::restore(&store.client, &name).await.map_err(|error| Failure::of(&error, error.hint()))
    })
    .await?;
    let rows: u64 = restored.rows.values().sum();
    if json {
        say(&json!({"restored": name, "rows": restored.rows}).to_string())?;
    } else {
        say(&format!("restored {name}: {rows} rows of {} tables, as many as were saved", restored.rows.len()))?;
    }
    Ok(ExitCode::SUCCESS)
}
