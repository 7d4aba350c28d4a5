//! `gemba migrate status|up|down`: the tables' versions.

use super::serve::StoreArgs;
use super::store::{OpenStore, with_store};
use super::{Failure, say};
use crate::serve;
use crate::store::migrations::{self, MigrationError, State};
use clap::{Args, Subcommand};
use serde_json::json;
use std::process::ExitCode;

/// Arguments of `gemba migrate`.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show how far the migrations are
    Status,
    /// Apply what is missing; `gemba serve` does it too
    Up,
    /// Undo migrations, with the data in their tables
    Down {
        /// Undo every migration above this number
        #[arg(long, value_name = "NUMBER")]
        to: u32,
    },
}

/// Shows or changes the migrations.
pub(super) async fn run(args: MigrateArgs) -> Result<ExitCode, Failure> {
    let MigrateArgs { action, store, json } = args;
    let lines = with_store(&store, async |store: &OpenStore| work(&action, store, json).await).await?;
    for line in lines {
        say(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn work(action: &Action, store: &OpenStore, as_json: bool) -> Result<Vec<String>, Failure> {
    let (what, numbers) = match action {
        Action::Status => return status(store, as_json).await,
        Action::Up => ("applied", migrations::up(&store.client).await),
        Action::Down { to } => {
            let pending = serve::store_the_rest(&store.config, &store.client).await?;
            ("undone", migrations::down(&store.client, *to, pending).await)
        }
    };
    let numbers = numbers.map_err(|error| failure(&error))?;
    Ok(if as_json {
        vec![json!({what: numbers}).to_string()]
    } else if numbers.is_empty() {
        vec![format!("nothing to be {what}")]
    } else {
        numbers.iter().map(|number| format!("{what} {number:04}")).collect()
    })
}

async fn status(store: &OpenStore, as_json: bool) -> Result<Vec<String>, Failure> {
    let found = migrations::status(&store.client).await.map_err(|error| failure(&error))?;
    let word = |state| match state {
        State::Absent => "absent",
        State::Interrupted => "interrupted",
        State::Applied => "applied",
    };
    if as_json {
        let list: Vec<_> = found
            .iter()
            .map(|one| json!({"number": one.number, "name": one.name, "state": word(one.state), "known": one.known}))
            .collect();
        return Ok(vec![json!({"migrations": list}).to_string()]);
    }
    let line = |one: &migrations::Status| {
        let note = if one.known { "" } else { "  (of a newer gemba)" };
        format!("{:04}  {:<11}  {}{note}", one.number, word(one.state), one.name)
    };
    Ok(found.iter().map(line).collect())
}

fn failure(error: &MigrationError) -> Failure {
    let hint = match error {
        MigrationError::Newer { .. }
        | MigrationError::Changed { .. }
        | MigrationError::NotDrained { .. }
        | MigrationError::Cluster(_) => "the message names the way out",
        MigrationError::NoSuch { .. } => "`gemba migrate status` lists them",
        MigrationError::Turn(_) => "another node is at it; run the command again",
        MigrationError::Store { .. } => "what was begun is finished by running the command again",
    };
    Failure::of(error, hint)
}
