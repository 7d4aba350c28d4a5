//! `gemba project create|list|rotate|filter|delete`: manages projects of a running server.

use super::remote::{Credential, Remote, RemoteArgs};
use super::{Failure, say};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Arguments of `gemba project`.
#[derive(Debug, Args)]
pub(super) struct ProjectArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Admin token; the default is the one in the data folder
    #[arg(long, env = "GEMBA_ADMIN_TOKEN", hide_env_values = true, global = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a project; prints its keys, which cannot be shown again
    Create {
        /// Lower-case letters, digits, _ and -
        name: String,
    },
    /// List the projects
    List,
    /// Revoke a project's keys and make new ones
    Rotate {
        /// Name of the project
        name: String,
    },
    /// Say which events answers leave out (internal users, bots); without an option: show it
    Filter {
        /// Name of the project
        name: String,
        /// Conditions as JSON, such as '[{"attr":"user:internal","op":"eq","value":true}]': events that meet one are left out
        #[arg(long, value_name = "JSON", conflicts_with = "clear")]
        exclude: Option<String>,
        /// Leave out nothing
        #[arg(long)]
        clear: bool,
    },
    /// Revoke a project's keys, delete all its data, and prove that it is gone
    Delete {
        /// Name of the project
        name: String,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
    },
}

/// Runs the action against the server.
pub(super) fn run(args: &ProjectArgs) -> Result<ExitCode, Failure> {
    if let Action::Delete { name, yes: false } = &args.action {
        let problem = format!("this deletes all data of project {name} for good");
        return Err(Failure::new(problem, "say --yes if that is meant"));
    }
    let remote = Remote::new(&args.remote, args.token.as_deref(), Credential::Admin)?;
    let answer = match &args.action {
        Action::Create { name } => remote.post("/api/v1/projects", &json!({"name": name}))?,
        Action::List => remote.get("/api/v1/projects")?,
        Action::Rotate { name } => remote.post(&format!("/api/v1/projects/{}/rotate", segment(name)), &json!({}))?,
        Action::Filter { name, exclude, clear } => {
            let path = format!("/api/v1/projects/{}/filter", segment(name));
            match exclude {
                Some(exclude) => {
                    let exclude: Value = serde_json::from_str(exclude).map_err(|error| {
                        Failure::new(format!("--exclude is not JSON: {error}"), "a list of {attr, op, value}")
                    })?;
                    remote.put(&path, &json!({ "exclude": exclude }))?
                }
                None if *clear => remote.delete(&path)?,
                None => remote.get(&path)?,
            }
        }
        Action::Delete { name, .. } => remote.delete(&format!("/api/v1/projects/{}", segment(name)))?,
    };
    say(&if args.json { answer.to_string() } else { for_people(&args.action, &answer) })?;
    let is_left = answer.get("remaining").and_then(Value::as_u64).is_some_and(|rows| rows > 0);
    Ok(if is_left { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn for_people(action: &Action, answer: &Value) -> String {
    let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    match action {
        Action::Create { .. } | Action::Rotate { .. } => {
            format!(
                "project     {}\ningest key  {}\nread key    {}",
                text("project"),
                text("ingest_key"),
                text("read_key")
            )
        }
        Action::List => {
            let projects = answer.get("projects").and_then(Value::as_array).cloned().unwrap_or_default();
            let names = projects.iter().filter_map(|project| project.get("project").and_then(Value::as_str));
            names.collect::<Vec<_>>().join("\n")
        }
        Action::Filter { .. } => {
            let excludes = answer.get("exclude").and_then(Value::as_array).cloned().unwrap_or_default();
            let lines: Vec<String> = excludes.iter().map(|one| format!("left out: {one}")).collect();
            if lines.is_empty() { "nothing is left out".to_owned() } else { lines.join("\n") }
        }
        Action::Delete { .. } => {
            let mut lines = vec![format!("project {} is deleted", text("project"))];
            if let Some(tables) = answer.get("deleted").and_then(Value::as_object) {
                lines.extend(tables.iter().map(|(table, rows)| format!("  {table}: {rows} rows")));
            }
            lines.push(format!("rows that remain: {}", answer.get("remaining").unwrap_or(&Value::Null)));
            lines.join("\n")
        }
    }
}

/// A name as a segment of a path: whatever is not allowed in a name anyway is cut out of harm's way.
fn segment(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
