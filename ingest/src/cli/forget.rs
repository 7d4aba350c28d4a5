//! `gemba forget --user ID`: removes everything a running server keeps of a person.

use super::project::segment;
use super::remote::{Credential, Remote, RemoteArgs};
use super::{Failure, say, tell};
use crate::control::DEFAULT_PROJECT;
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Arguments of `gemba forget`.
#[derive(Debug, Args)]
pub(super) struct ForgetArgs {
    /// The person's `user.id`, as the application sends it
    #[arg(long, value_name = "ID")]
    user: String,
    /// Name of the project
    #[arg(long, default_value = DEFAULT_PROJECT, value_name = "NAME")]
    project: String,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Admin token; the default is the one in the data folder
    #[arg(long, env = "GEMBA_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Forgets and reports; exit code 1 when something is left.
pub(super) fn run(args: &ForgetArgs) -> Result<ExitCode, Failure> {
    let remote = Remote::new(&args.remote, args.token.as_deref(), Credential::Admin)?;
    let path = format!("/api/v1/projects/{}/forget", segment(&args.project));
    let answer = remote.post(&path, &json!({"user": args.user}))?;
    let remaining = answer.get("remaining").and_then(Value::as_u64).unwrap_or(0);
    if args.json {
        say(&answer.to_string())?;
    } else {
        let mut lines = vec![format!("removed of this person from project {}", args.project)];
        let by_table = |field: &str| answer.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
        lines.extend(by_table("deleted").iter().map(|(table, rows)| format!("  {table}: {rows} rows")));
        lines.push(format!("rows that remain: {remaining}"));
        say(&lines.join("\n"))?;
        for (table, rows) in by_table("mentions") {
            tell(&format!(
                "note: {rows} rows of other people in {table} hold this text in an attribute; whether it means the person \
                 nobody can tell, so they stay\n"
            ));
        }
    }
    Ok(if remaining > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
