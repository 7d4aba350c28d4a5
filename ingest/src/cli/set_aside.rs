//! `gemba set-aside`: lists the records of a project that were set aside, and takes them in again.

use super::project::segment;
use super::remote::{Credential, Remote, RemoteArgs};
use super::{Failure, say};
use crate::control::DEFAULT_PROJECT;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Arguments of `gemba set-aside`.
#[derive(Debug, Args)]
pub(super) struct SetAsideArgs {
    #[command(subcommand)]
    action: Action,
    /// Name of the project
    #[arg(long, default_value = DEFAULT_PROJECT, global = true, value_name = "NAME")]
    project: String,
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
    /// List them, the newest first: when, why, how many, how large, what they were
    List {
        /// Only those set aside for this reason
        #[arg(long, value_name = "WORD")]
        reason: Option<String>,
        /// How many to list
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
        /// List those that come behind this place, which the end of a list names
        #[arg(long, value_name = "PLACE")]
        after: Option<String>,
    },
    /// Take them in again, once what was wrong is mended; doing it twice stores nothing twice
    Retry {
        /// Ids, as listed; without any and without --reason all are meant
        ids: Vec<String>,
        /// Only those set aside for this reason
        #[arg(long, value_name = "WORD")]
        reason: Option<String>,
        /// Also those that another node on the same ClickHouse set aside: only when that node is gone, or has no cut that
        /// ClickHouse refuses (`gemba_refused_cuts` is 0)
        #[arg(long)]
        of_all_nodes: bool,
    },
}

/// Runs the action against the server.
pub(super) fn run(args: &SetAsideArgs) -> Result<ExitCode, Failure> {
    let remote = Remote::new(&args.remote, args.token.as_deref(), Credential::Admin)?;
    let path = format!("/api/v1/projects/{}/set-aside", segment(&args.project));
    match &args.action {
        Action::List { reason, limit, after } => {
            let limit = limit.to_string();
            let mut pairs = vec![("limit", limit.as_str())];
            pairs.extend(reason.as_deref().map(|reason| ("reason", reason)));
            pairs.extend(after.as_deref().map(|after| ("after", after)));
            let answer = remote.get_with(&path, &pairs)?;
            say(&if args.json { answer.to_string() } else { listed(&answer) })?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Retry { ids, reason, of_all_nodes } => {
            let mut asked = json!({"ids": ids, "reason": reason, "of_all_logs": of_all_nodes});
            let mut whole = Value::Null;
            // A request takes in a part; the next goes on behind it.
            loop {
                let answer = remote.post(&format!("{path}/retry"), &asked)?;
                let after = answer.get("after").cloned().unwrap_or(Value::Null);
                add(&mut whole, answer);
                if after.is_null() {
                    break;
                }
                asked["after"] = after;
            }
            say(&if args.json { whole.to_string() } else { retried(&whole) })?;
            let is_done = ["left", "refused_again", "of_other_nodes"].iter().all(|field| number(&whole, field) == 0);
            Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// Adds a further answer to those before.
fn add(whole: &mut Value, answer: Value) {
    if whole.is_null() {
        *whole = answer;
        return;
    }
    for field in ["retried", "repeated", "refused_again", "left"] {
        whole[field] = json!(number(whole, field) + number(&answer, field));
    }
    if let (Some(problems), Some(more)) = (whole["problems"].as_array_mut(), answer["problems"].as_array()) {
        problems.extend(more.iter().cloned());
    }
    whole["after"] = answer["after"].clone();
}

fn number(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or(0)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn listed(answer: &Value) -> String {
    let mut lines =
        vec![format!("records set aside in project {}: {}", text(answer, "project"), number(answer, "records"))];
    for count in answer.get("by_reason").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!("  {}: {}", text(count, "reason"), number(count, "records")));
    }
    for item in answer.get("items").and_then(Value::as_array).into_iter().flatten() {
        let can = item.get("can_be_retried").and_then(Value::as_bool).unwrap_or(false);
        lines.push(format!(
            "\n{}  {}  {}  {}  records: {}  bytes: {}{}\n  {}\n  {}",
            text(item, "id"),
            text(item, "received"),
            text(item, "signal"),
            text(item, "reason"),
            number(item, "records"),
            number(item, "bytes"),
            if can { "" } else { "  not kept whole" },
            text(item, "detail"),
            text(item, "body"),
        ));
    }
    if let Some(after) = answer.get("after").and_then(Value::as_str) {
        lines.push(format!("\nthere are more: --after {after}"));
    }
    lines.join("\n")
}

fn retried(answer: &Value) -> String {
    let mut lines =
        vec![format!("records of project {} taken in again: {}", text(answer, "project"), number(answer, "retried"))];
    for (field, words) in [
        ("repeated", "taken in by an earlier retry"),
        ("refused_again", "of them refused by ClickHouse once more and set aside again"),
        ("left", "left where they are"),
        ("of_other_nodes", "set aside by other nodes: retry them there, or with --of-all-nodes when those are gone"),
    ] {
        let records = number(answer, field);
        if records > 0 {
            lines.push(format!("{words}: {records}"));
        }
    }
    for problem in answer.get("problems").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!("  {}  {}: {}", text(problem, "id"), text(problem, "reason"), text(problem, "problem")));
    }
    lines.join("\n")
}
