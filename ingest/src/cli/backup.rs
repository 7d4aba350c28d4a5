//! `gemba backup NAME`: everything in ClickHouse, with the numbers of rows beside it.
//!
//! A running server makes it itself and goes on taking data; without one it is made of the embedded engine's data, or of a
//! ClickHouse server's. What the log still holds is stored first, so that it holds everything that was acknowledged.

use super::remote::{Credential, Remote, RemoteArgs};
use super::serve::StoreArgs;
use super::store::{OpenStore, with_store};
use super::tls::TlsArgs;
use super::{Failure, say};
use crate::serve::{self, DataLock, ServeError};
use crate::store::archive;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Arguments of `gemba backup`.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// Name of the backup: a folder in `engine/backups` of the data folder, or where the ClickHouse server keeps its
    /// backups
    name: String,
    #[command(flatten)]
    store: StoreArgs,
    /// Address of the server, where one runs on the data folder
    #[arg(long, env = "GEMBA_URL", default_value = "http://127.0.0.1:4318", value_name = "URL")]
    url: String,
    #[command(flatten)]
    tls: TlsArgs,
    /// Admin token for it; the default is the one in the data folder
    #[arg(long, env = "GEMBA_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Makes the backup.
pub(super) async fn run(args: BackupArgs) -> Result<ExitCode, Failure> {
    let BackupArgs { name, store, url, tls, token, json } = args;
    if store.data.exists() && matches!(DataLock::take(&store.data), Err(ServeError::InUse { .. })) {
        let remote = Remote::new(&RemoteArgs { url, tls, data: store.data }, token.as_deref(), Credential::Admin)?;
        // It waits for the server, so not on a thread of the runtime.
        let asked = json!({"name": name});
        let saving = tokio::task::spawn_blocking(move || remote.post("/api/v1/backups", &asked));
        let saved = saving.await.map_err(std::io::Error::other)??;
        let rows = serde_json::from_value(saved["rows"].clone()).map_err(std::io::Error::other)?;
        return tell(&name, &rows, json);
    }
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
    tell(&name, &saved.rows, json)
}

fn tell(name: &str, rows: &BTreeMap<String, u64>, json: bool) -> Result<ExitCode, Failure> {
    if json {
        say(&json!({"backup": name, "rows": rows}).to_string())?;
    } else {
        say(&format!("backup {name}: {} rows of {} tables", rows.values().sum::<u64>(), rows.len()))?;
    }
    Ok(ExitCode::SUCCESS)
}
