//! `gemba project`: manages projects of a running server.

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
    /// Make new keys; the old ones still hold for a while
    Rotate {
        /// Name of the project
        name: String,
        /// How long the old keys still hold, as 90s, 30m, 12h or 7d
        #[arg(long, default_value = "24h", value_name = "TIME", value_parser = seconds)]
        grace: u64,
        /// Revoke the old keys at once, because somebody else has them
        #[arg(long, conflicts_with = "grace")]
        now: bool,
    },
    /// Limit how much a project may send; what is not given is not limited
    Limit {
        /// Name of the project
        name: String,
        /// Records a second, on each node; ten seconds' worth may come at once
        #[arg(long, default_value_t = 0, value_name = "N")]
        per_second: u64,
        /// Records a day (UTC)
        #[arg(long, default_value_t = 0, value_name = "N")]
        per_day: u64,
        /// Records a calendar month (UTC)
        #[arg(long, default_value_t = 0, value_name = "N")]
        per_month: u64,
    },
    /// Keep what a project receives for so many days at least, and remove what is older
    Retention {
        /// Name of the project
        name: String,
        /// Days; whole weeks of receipt go when all their days are older
        #[arg(long, value_name = "N", required_unless_present = "forever")]
        days: Option<u32>,
        /// Keep everything
        #[arg(long, conflicts_with = "days")]
        forever: bool,
    },
    /// Let only pages of these origins use the ingest keys from a browser; without any the server's list holds
    Origins {
        /// Name of the project
        name: String,
        /// As https://shop.example
        origins: Vec<String>,
    },
    /// Tell what a project sent, by day and signal
    Usage {
        /// Name of the project
        name: String,
        /// Days back, today included
        #[arg(long, default_value_t = 30, value_name = "N")]
        days: u32,
    },
    /// List the latest administrative acts, the newest first
    Audit {
        /// How many
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
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
        Action::Rotate { name, grace, now } => {
            let grace_seconds = if *now { 0 } else { *grace };
            remote
                .post(&format!("/api/v1/projects/{}/rotate", segment(name)), &json!({"grace_seconds": grace_seconds}))?
        }
        Action::Limit { name, per_second, per_day, per_month } => remote.post(
            &format!("/api/v1/projects/{}/limits", segment(name)),
            &json!({"per_second": per_second, "per_day": per_day, "per_month": per_month}),
        )?,
        Action::Retention { name, days, .. } => {
            remote.post(&format!("/api/v1/projects/{}/retention", segment(name)), &json!({"days": days}))?
        }
        Action::Origins { name, origins } => {
            remote.post(&format!("/api/v1/projects/{}/origins", segment(name)), &json!({"origins": origins}))?
        }
        Action::Usage { name, days } => {
            remote.get_with(&format!("/api/v1/projects/{}/usage", segment(name)), &[("days", &days.to_string())])?
        }
        Action::Audit { limit } => remote.get_with("/api/v1/audit", &[("limit", &limit.to_string())])?,
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
        Action::Limit { .. } => format!("project {} may send {}", text("project"), limits(answer)),
        Action::Retention { .. } => {
            let days = answer.get("days").and_then(Value::as_u64);
            let kept = days.map_or_else(|| "for ever".to_owned(), |days| format!("for {days} days"));
            let mut lines = vec![format!("project {} keeps what it receives {kept}", text("project"))];
            lines.extend(rows_by_table(answer, "removed"));
            lines.join("\n")
        }
        Action::Origins { .. } => {
            let origins = answer.get("origins").and_then(Value::as_array).cloned().unwrap_or_default();
            let origins: Vec<&str> = origins.iter().filter_map(Value::as_str).collect();
            let who = if origins.is_empty() { "of the server's list".to_owned() } else { origins.join(", ") };
            format!("ingest keys of project {} may be used by pages {who}", text("project"))
        }
        Action::Usage { .. } => usage(answer),
        Action::Audit { .. } => {
            let acts = answer.get("acts").and_then(Value::as_array).cloned().unwrap_or_default();
            let line = |act: &Value| {
                let of = |field: &str| act.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
                let said = ["at", "actor", "action", "subject", "outcome", "detail"].map(of);
                said.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("  ")
            };
            acts.iter().map(line).collect::<Vec<_>>().join("\n")
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
            lines.extend(rows_by_table(answer, "deleted"));
            lines.push(format!("rows that remain: {}", answer.get("remaining").unwrap_or(&Value::Null)));
            lines.join("\n")
        }
    }
}

fn rows_by_table(answer: &Value, field: &str) -> Vec<String> {
    let tables = answer.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
    tables.iter().map(|(table, rows)| format!("  {table}: {rows} rows")).collect()
}

fn limits(answer: &Value) -> String {
    let of =
        |field: &str| answer.pointer(&format!("/limits/{field}")).and_then(Value::as_u64).filter(|limit| *limit > 0);
    let terms = [("per_second", "a second"), ("per_day", "a day"), ("per_month", "a month")];
    let terms: Vec<String> =
        terms.iter().filter_map(|(field, word)| Some(format!("{} records {word}", of(field)?))).collect();
    if terms.is_empty() { "any number of records".to_owned() } else { terms.join(", ") }
}

fn usage(answer: &Value) -> String {
    let number = |value: &Value, field: &str| value.get(field).and_then(Value::as_u64).unwrap_or(0);
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["day", "signal", "records", "repeats", "not stored", "bytes"]);
    for day in answer.get("days").and_then(Value::as_array).into_iter().flatten() {
        let numbers = ["records", "deduplicated", "not_stored", "bytes"].map(|field| number(day, field).to_string());
        table.add_row([vec![text(day, "day"), text(day, "signal")], numbers.to_vec()].concat());
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    let mut lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.push(format!(
        "new records today: {}, this month: {}; may send {}; requests refused since the server started: {}",
        number(answer, "today"),
        number(answer, "this_month"),
        limits(answer),
        number(answer, "refused_requests")
    ));
    lines.join("\n")
}

/// A length of time such as `90s`, `30m`, `12h` or `7d`, in seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a length of time such as 90s, 30m, 12h or 7d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    number.checked_mul(factor).ok_or_else(wrong)
}

/// A name as a segment of a path: whatever is not allowed in a name anyway is cut out of harm's way.
pub(super) fn segment(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
