//! `gemba query`: asks a saved question of a running server.

use super::Failure;
use super::remote::{Credential, Remote, RemoteArgs};
use crate::answer::{Answer, Format};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

/// Whose questions are asked, and where.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ReaderArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Read key; without one, that of the project in the data folder's credentials.json
    #[arg(long, global = true, env = "GEMBA_READ_KEY", value_name = "KEY", hide_env_values = true)]
    key: Option<String>,
    /// Project whose key is taken from the data folder
    #[arg(long, global = true, env = "GEMBA_PROJECT", default_value = "default", value_name = "NAME")]
    project: String,
}

impl ReaderArgs {
    /// The server with the read key.
    pub(super) fn connect(&self) -> Result<Remote, Failure> {
        Remote::new(&self.remote, self.key.as_deref(), Credential::Read(&self.project))
    }
}

/// Options of `gemba query`.
#[derive(Debug, clap::Args)]
pub(super) struct QueryArgs {
    /// The question; without one, all are listed.
    pub name: Option<String>,
    /// Parameters of the question, as name=value; `gemba query --format json` lists them.
    #[arg(value_name = "PARAM=VALUE")]
    pub params: Vec<String>,
    /// Beginning of the range: RFC 3339, a date, or like "now - 7d".
    #[arg(long)]
    pub from: Option<String>,
    /// End of the range.
    #[arg(long)]
    pub to: Option<String>,
    /// Time zone of days and hours, such as Europe/Berlin.
    #[arg(long)]
    pub tz: Option<String>,
    /// Save the question under this name, then ask it
    #[arg(long, value_name = "NAME", requires = "name")]
    pub save: Option<String>,
    /// Ask the question saved under this name; parameters given stand in the place of saved ones
    #[arg(long, value_name = "NAME", conflicts_with = "save")]
    pub saved: Option<String>,
    /// How the answer is written: table, json, ndjson or csv.
    #[arg(long, default_value = "table")]
    pub format: Format,
    #[command(flatten)]
    reader: ReaderArgs,
}

#[derive(Deserialize)]
struct Listing {
    queries: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    folder: String,
    question: String,
}

/// Runs the command.
///
/// # Errors
/// What the server refused, with its hint.
pub(super) fn run(args: &QueryArgs) -> Result<ExitCode, Failure> {
    let remote = args.reader.connect()?;
    let mut out = std::io::stdout().lock();
    let Some(name) = args.name.as_ref().or(args.saved.as_ref()) else {
        let value = remote.get("/api/v1/queries")?;
        if args.format == Format::Json {
            writeln!(out, "{value}")?;
            return Ok(ExitCode::SUCCESS);
        }
        let listing: Listing = read_back(value)?;
        let width = listing.queries.iter().map(|query| query.name.len()).max().unwrap_or(0);
        for query in listing.queries {
            writeln!(out, "{:width$}  {:12}  {}", query.name, query.folder, query.question)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for (key, value) in [("from", &args.from), ("to", &args.to), ("tz", &args.tz)] {
        if let Some(value) = value {
            pairs.push((key, value));
        }
    }
    // With a saved question the first word is a parameter like the others.
    for given in args.saved.iter().flat_map(|_| &args.name).chain(&args.params) {
        pairs.push(given.split_once('=').ok_or_else(|| {
            Failure::new(format!("parameter {given:?} has no value"), "write parameters as name=value")
        })?);
    }
    if let Some(saved) = &args.save {
        let parameters: BTreeMap<&str, &str> = pairs.iter().copied().collect();
        save(&remote, saved, &json!({"query": name, "parameters": parameters}))?;
    }
    let path = match &args.saved {
        Some(saved) => format!("/api/v1/saved/{saved}/answer"),
        None => format!("/api/v1/queries/{name}"),
    };
    write_answer(remote.get_with(&path, &pairs)?, args.format, &mut out)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes an answer of the server, a funnel's or a query's.
fn write_answer(value: Value, format: Format, out: &mut impl Write) -> Result<(), Failure> {
    if format == Format::Json {
        return Ok(writeln!(out, "{value}")?);
    }
    let answer =
        if value.get("steps").is_some() { super::funnel::table_of(value)? } else { read_back::<Answer>(value)? };
    Ok(out.write_all(answer.render(format)?.as_bytes())?)
}

/// Saves a question under a name and says so.
pub(super) fn save(remote: &Remote, name: &str, question: &Value) -> Result<(), Failure> {
    let saved = remote.put(&format!("/api/v1/saved/{name}"), question)?;
    let version = saved.get("version").and_then(Value::as_u64).unwrap_or_default();
    super::tell(&format!("saved as {name}, version {version}\n"));
    Ok(())
}

/// The server's answer as what it should be.
pub(super) fn read_back<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| unreadable(&error))
}

/// What is said when the server's answer is none of this version.
pub(super) fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::new(format!("the server's answer cannot be read: {error}"), "is the server of another version?")
}
