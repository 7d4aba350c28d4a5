//! `gemba query`: asks a saved question of a running server.

use super::Failure;
use super::remote::{Credential, Remote, RemoteArgs};
use crate::answer::{Answer, Format};
use serde::Deserialize;
use serde_json::Value;
use std::io::Write as _;
use std::process::ExitCode;

/// Whose questions are asked, and where.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ReaderArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Read key; without one, that of the project in the data folder's credentials.json
    #[arg(long, env = "GEMBA_READ_KEY", value_name = "KEY", hide_env_values = true)]
    key: Option<String>,
    /// Project whose key is taken from the data folder
    #[arg(long, env = "GEMBA_PROJECT", default_value = "default", value_name = "NAME")]
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
    let Some(name) = &args.name else {
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
    for given in &args.params {
        pairs.push(given.split_once('=').ok_or_else(|| {
            Failure::new(format!("parameter {given:?} has no value"), "write parameters as name=value")
        })?);
    }
    let answer: Answer = read_back(remote.get_with(&format!("/api/v1/queries/{name}"), &pairs)?)?;
    out.write_all(answer.render(args.format)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The server's answer as what it should be.
pub(super) fn read_back<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| {
        Failure::new(format!("the server's answer cannot be read: {error}"), "is the server of another version?")
    })
}
