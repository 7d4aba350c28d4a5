//! Talks to a running server's API, for the subcommands that work on one.
//!
//! In: where the server is and a key. Out: its JSON answers, or its error with its hint as a [`Failure`].

use super::Failure;
use super::tls::TlsArgs;
use clap::Args;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take: deleting a large project rewrites its parts. Chosen.
const TIMEOUT: Duration = Duration::from_mins(30);
/// Longest answer read into memory.
const MAX_ANSWER_BYTES: u64 = 256 << 20;

/// Where the server is.
#[derive(Debug, Clone, Args)]
pub struct RemoteArgs {
    /// Address of the running server
    #[arg(long, global = true, env = "GEMBA_URL", default_value = "http://127.0.0.1:4318", value_name = "URL")]
    pub url: String,
    /// Whom it is trusted by, and what it is shown.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Data folder of the server; its credentials.json is read when no key is given
    #[arg(long, global = true, env = "GEMBA_DATA", default_value = "gemba-data", value_name = "DIR")]
    pub data: PathBuf,
}

/// Which key to read from `credentials.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// The admin token.
    Admin,
    /// The read key of a project.
    Read(&'a str),
    /// The ingest key of a project.
    Ingest(&'a str),
}

/// A running server and a key for it.
#[derive(Debug)]
pub struct Remote {
    agent: ureq::Agent,
    url: String,
    key: String,
}

impl Remote {
    /// The server of `args`, with `key` or else the one in its data folder.
    pub fn new(args: &RemoteArgs, key: Option<&str>, credential: Credential<'_>) -> Result<Self, Failure> {
        let key = match key {
            Some(key) => key.to_owned(),
            None => key_in(&args.data, credential)?,
        };
        Ok(Self { agent: args.tls.agent(&args.url, TIMEOUT)?, url: args.url.trim_end_matches('/').to_owned(), key })
    }

    /// `GET path`.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.get_with(path, &[])
    }

    /// `GET path` with a query string of these names and values.
    pub fn get_with(&self, path: &str, pairs: &[(&str, &str)]) -> Result<Value, Failure> {
        let request = self.agent.get(format!("{}{path}", self.url)).header("authorization", self.bearer());
        self.answer(request.query_pairs(pairs.iter().copied()).call())
    }

    /// `POST path` with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.agent.post(format!("{}{path}", self.url)).header("authorization", self.bearer());
        self.answer(request.header("content-type", "application/json").send(body.to_string()))
    }

    /// `PUT path` with a JSON body.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.agent.put(format!("{}{path}", self.url)).header("authorization", self.bearer());
        self.answer(request.header("content-type", "application/json").send(body.to_string()))
    }

    /// `DELETE path`.
    pub fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.answer(self.agent.delete(format!("{}{path}", self.url)).header("authorization", self.bearer()).call())
    }

    /// `GET path` of an answer that is read as it comes, however long that takes, and the number of rows it announces.
    pub fn stream(&self, path: &str, pairs: &[(&str, &str)]) -> Result<(impl Read + use<>, u64), Failure> {
        let request = self.agent.get(format!("{}{path}", self.url)).header("authorization", self.bearer());
        let request = request.query_pairs(pairs.iter().copied()).config().timeout_global(None);
        let answer = request.timeout_recv_response(Some(TIMEOUT)).build().call();
        match answer {
            Ok(answer) if answer.status().is_success() => {
                let rows = answer.headers().get(crate::http::export::ROWS);
                let rows = rows.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
                Ok((answer.into_body().into_reader(), rows))
            }
            other => match self.answer(other) {
                Err(failure) => Err(failure),
                Ok(_) => Err(Failure::new("the server answered what nobody asked for", "is it of another version?")),
            },
        }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }

    fn answer(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Failure> {
        let unreachable = |error: ureq::Error| {
            let hint = if self.url.starts_with("https:") {
                "is `gemba serve` running there? --url names another address, --ca the certificate it is trusted by, and \
                 --client-certificate what to show where it asks for one"
            } else {
                "is `gemba serve` running there? --url names another address; a server on another machine is reached by \
                 https://, with --ca FILE where no public authority has signed its certificate"
            };
            Failure::new(format!("{}: {error}", self.url), hint)
        };
        let mut answer = answer.map_err(unreachable)?;
        let status = answer.status();
        let text = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string().map_err(unreachable)?;
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() && !value.is_null() {
            return Ok(value);
        }
        let text_of =
            |field: &str| value.pointer(&format!("/error/{field}")).and_then(Value::as_str).map(str::to_owned);
        let message = text_of("message").unwrap_or_else(|| format!("{} answered {status}", self.url));
        Err(Failure { problem: message, hint: text_of("hint") })
    }
}

/// The key in `credentials.json` of a data folder.
pub fn key_in(data: &Path, credential: Credential<'_>) -> Result<String, Failure> {
    let path = data.join("credentials.json");
    let hint = "give a key on the command line, or name the server's data folder with --data";
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::new(format!("no key given, and {}: {error}", path.display()), hint))?;
    let value: Value =
        serde_json::from_str(&text).map_err(|error| Failure::new(format!("{}: {error}", path.display()), hint))?;
    let key = match credential {
        Credential::Admin => value.get("admin_token"),
        Credential::Read(project) => value.get("projects").and_then(|projects| projects.get(project)?.get("read_key")),
        Credential::Ingest(project) => {
            value.get("projects").and_then(|projects| projects.get(project)?.get("ingest_key"))
        }
    };
    key.and_then(Value::as_str).map(str::to_owned).ok_or_else(|| {
        Failure::new(
            format!("{} holds no such key", path.display()),
            "it holds the keys of the first start only; give the key on the command line",
        )
    })
}
