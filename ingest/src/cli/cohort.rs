//! `gemba cohort list|put|delete`: groups of people to ask about.

use super::query::ReaderArgs;
use super::{Failure, say};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::Read as _;
use std::process::ExitCode;

/// Arguments of `gemba cohort`.
#[derive(Debug, Args)]
pub(super) struct CohortArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    reader: ReaderArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the cohorts
    List,
    /// Choose the members of a cohort and save it; again: choose anew
    Put {
        /// Lower-case letters, digits, _ and -
        name: String,
        /// A file of user ids, one a line, or - for standard input
        #[arg(long, value_name = "FILE", required_unless_present_any = ["request", "funnel"])]
        users: Option<String>,
        /// Those of a saved funnel who are told by --lost or --reached
        #[arg(long, value_name = "SAVED", conflicts_with_all = ["users", "request"], requires = "at")]
        funnel: Option<String>,
        /// Who reached this step of the funnel (from 0) and can no longer reach the next
        #[arg(long, value_name = "STEP", group = "at", requires = "funnel")]
        lost: Option<u32>,
        /// Who reached this step of the funnel (from 0), whatever they did then
        #[arg(long, value_name = "STEP", group = "at", requires = "funnel")]
        reached: Option<u32>,
        /// How they are chosen, as JSON from a file or - for standard input: everything PUT /api/v1/cohorts/NAME takes
        #[arg(long, value_name = "FILE", conflicts_with = "users")]
        request: Option<String>,
    },
    /// Delete a cohort with its members
    Delete {
        /// Name of the cohort
        name: String,
    },
}

/// Runs the action against the server.
pub(super) fn run(args: &CohortArgs) -> Result<ExitCode, Failure> {
    let remote = args.reader.connect()?;
    match &args.action {
        Action::List => {
            let answer = remote.get("/api/v1/cohorts")?;
            for cohort in answer.get("cohorts").and_then(Value::as_array).into_iter().flatten() {
                say(&line(cohort))?;
            }
        }
        Action::Put { name, users, funnel, lost, reached, request } => {
            let body = match (users, funnel, request) {
                (_, Some(saved), _) => {
                    let funnel = saved_funnel(&remote.get(&format!("/api/v1/saved/{saved}"))?)?;
                    match (lost, reached) {
                        (Some(step), _) => json!({ "funnel": funnel, "step": step }),
                        (None, step) => json!({ "funnel": funnel, "reached": step }),
                    }
                }
                (Some(file), ..) => {
                    let text = read(file)?;
                    let ids: Vec<&str> = text.lines().map(str::trim).filter(|id| !id.is_empty()).collect();
                    json!({ "users": ids })
                }
                (None, None, request) => {
                    let file = request.as_deref().unwrap_or("-");
                    serde_json::from_str(&read(file)?).map_err(|error| {
                        let hint = r#"e.g. {"did":{"event":"cart.view","at_least":3,"from":"now - 30d"}}"#;
                        Failure::new(format!("{file} is not JSON: {error}"), hint)
                    })?
                }
            };
            say(&line(&remote.put(&format!("/api/v1/cohorts/{name}"), &body)?))?;
        }
        Action::Delete { name } => {
            remote.delete(&format!("/api/v1/cohorts/{name}"))?;
            say(&format!("cohort {name} is deleted"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The funnel of a saved question with its range, zone and cohort in place.
fn saved_funnel(saved: &Value) -> Result<Value, Failure> {
    let Some(mut funnel) = saved.get("funnel").cloned() else {
        return Err(Failure::new("that saved question is no funnel", "save one by gemba funnel STEPS --save NAME"));
    };
    for (name, value) in saved.get("parameters").and_then(Value::as_object).into_iter().flatten() {
        if !["from", "to", "tz", "cohort"].contains(&name.as_str()) {
            let problem = format!("the saved funnel has the parameter {name}, which a cohort cannot take over");
            return Err(Failure::new(problem, "choose the members by --request"));
        }
        if let Some(funnel) = funnel.as_object_mut() {
            funnel.insert(name.clone(), value.clone());
        }
    }
    Ok(funnel)
}

fn line(cohort: &Value) -> String {
    let part = |name: &str| cohort.get(name).cloned().unwrap_or_default();
    let name = part("name");
    format!(
        "{}  version {}  {} people  {}",
        name.as_str().unwrap_or_default(),
        part("version"),
        part("members"),
        part("chosen_by")
    )
}

fn read(file: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == "-" {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    let hint = "name a file, or - for standard input";
    read.map(|_| text).map_err(|error| Failure::new(format!("cannot read {file}: {error}"), hint))
}
