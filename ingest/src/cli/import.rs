//! `gemba import`: sends the events or query log of a CSV or NDJSON file, what another product or `gemba export` wrote, to
//! a running server, with their own times.
//!
//! In: a file and which of its columns mean what. Out: OTLP requests like any client's. Every batch has a key made of what is sent
//! up to its end, so that an import that broke off is simply run again, also when the row it broke off at was mended: what is
//! stored already is recognised, whenever that was, while other rows of the same file are news. The last batch is a short one; where
//! the file has grown since, it is longer and so another one, and its rows are stored again.

mod exported;
mod preset;
mod record;

use super::progress::Progress;
use super::remote::{Credential, RemoteArgs, key_in};
use super::{Failure, say};
use flate2::read::MultiGzDecoder;
use gemba_conventions::{IDEMPOTENCY_KEY, attribute};
use record::{Made, Mapping, Row};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Records a request. Chosen: some 300 KiB of JSON, well below every limit, few enough round trips.
const BATCH_RECORDS: usize = 2_000;
/// How often a batch is sent again while the server is busy before the import gives up.
const MAX_TRIES: u32 = 60;

/// Options of `gemba import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The file: .csv or .ndjson (or .jsonl), possibly .gz.
    pub file: PathBuf,
    /// What its columns mean.
    #[command(flatten)]
    pub mapping: Mapping,
    /// service.name of what is imported, where the file does not say.
    #[arg(long, default_value = "import")]
    pub service: String,
    /// Release (service.version) of what is imported, where the file does not say.
    #[arg(long)]
    pub release: Option<String>,
    /// The server.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// Ingest key; without one, that of the project in the data folder's credentials.json
    #[arg(long, env = "GEMBA_KEY", value_name = "KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Project whose key is taken from the data folder
    #[arg(long, env = "GEMBA_PROJECT", default_value = "default", value_name = "NAME")]
    pub project: String,
}

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Records sent and accepted, now or by an earlier run.
    pub accepted: u64,
    /// Records the server refused.
    pub refused: u64,
    /// Rows of a log of statements without a text, which are not sent.
    pub without_text: u64,
}

/// Fields of a record that are not told by the file.
const CHOSEN: [&str; 2] = ["traceId", "spanId"];

/// A record, and the attributes of its resource where the file tells them.
type Sendable = (Value, Option<Vec<Value>>);

/// Runs the command; the count is printed, refusals are an error.
///
/// # Errors
/// A row that cannot be read, with its line; a server that refuses or stays away.
pub fn run(args: &ImportArgs) -> Result<ExitCode, Failure> {
    let imported = import(args)?;
    let Imported { accepted, refused, without_text } = imported;
    let left_out =
        if without_text > 0 { format!(", {without_text} rows without a statement left out") } else { String::new() };
    say(&format!("imported {accepted} records, {refused} refused{left_out}"))?;
    if refused > 0 {
        let hint = "see the saved query `losses` for the reasons";
        return Err(Failure::new(format!("{refused} records were refused"), hint));
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends the whole file.
///
/// # Errors
/// As [`run`].
pub fn import(args: &ImportArgs) -> Result<Imported, Failure> {
    let mut keys = Keys::new(args);
    let sender = Sender::new(args)?;
    let mut imported = Imported::default();
    let mut batch = Vec::with_capacity(BATCH_RECORDS);
    let mut without_text = 0;
    let progress = Progress::new();
    let mut send = |batch: &mut Vec<Sendable>| -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        let records = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let refused = sender.send(batch, &keys.next(batch))?;
        batch.clear();
        imported.accepted += records - refused.min(records);
        imported.refused += refused;
        progress.show(imported.accepted + imported.refused, None);
        Ok(())
    };
    for_each_row(&args.file, |line, row| {
        let record = args.mapping.record(&row).map_err(|problem| {
            Failure::new(
                format!("{}, row {line}: {problem}", args.file.display()),
                "see `gemba import --help` for the mapping",
            )
        })?;
        match record {
            Made::Records(records, resource) => {
                batch.extend(records.into_iter().map(|record| (record, resource.clone())));
            }
            Made::NotWanted => {}
            Made::WithoutText => without_text += 1,
        }
        if batch.len() >= BATCH_RECORDS { send(&mut batch) } else { Ok(()) }
    })?;
    send(&mut batch)?;
    progress.end();
    Ok(Imported { without_text, ..imported })
}

/// Names batches: equal ones at the end of equal beginnings have equal names. In the form of our SDK's keys, which are remembered for
/// ever: others hold for a day.
struct Keys {
    /// Hash of the mapping and of everything sent so far.
    sent: Sha256,
    /// Number of the import, from the mapping and the first batch.
    import: Option<u128>,
}

impl Keys {
    fn new(args: &ImportArgs) -> Self {
        let mut sent = Sha256::new();
        sent.update(json!([args.mapping, args.service, args.release]).to_string());
        Self { sent, import: None }
    }

    fn next(&mut self, batch: &[Sendable]) -> String {
        for (record, resource) in batch {
            // The ids of spans are chosen anew each time.
            let told = record.as_object().into_iter().flatten().filter(|(name, _)| !CHOSEN.contains(&name.as_str()));
            self.sent.update(json!([told.collect::<Vec<_>>(), resource]).to_string());
        }
        let hash = self.sent.clone().finalize();
        let word = |at: usize| hash.iter().skip(at).take(8).fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        let import = *self.import.get_or_insert(u128::from(word(8)) << 64 | u128::from(word(16)));
        let digits = format!("{import:032x}");
        let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
        format!("{}-{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32), word(0))
    }
}

fn open(file: &Path) -> Result<File, Failure> {
    File::open(file).map_err(|error| cannot_read(file, &error))
}

fn cannot_read(file: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("cannot read {}: {error}", file.display()), "is it the file you mean?")
}

/// Hands every row of the file to `each`, with its number from 1.
fn for_each_row(file: &Path, mut each: impl FnMut(u64, Row) -> Result<(), Failure>) -> Result<(), Failure> {
    let name = file.to_string_lossy().to_ascii_lowercase();
    let (plain, packed) = name.strip_suffix(".gz").map_or((name.as_str(), false), |plain| (plain, true));
    let ending = plain.rsplit('.').next().unwrap_or_default();
    let reader: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(open(file)?)) } else { Box::new(open(file)?) };
    if ending == "csv" {
        let mut rows = csv::Reader::from_reader(reader);
        let headers = rows.headers().map_err(|error| cannot_read(file, &error))?.clone();
        for (index, row) in rows.records().enumerate() {
            let row = row.map_err(|error| cannot_read(file, &error))?;
            let cells = headers.iter().map(str::to_owned).zip(row.iter().map(|cell| json!(cell))).collect();
            each(number(index), Row(cells))?;
        }
        Ok(())
    } else if ending == "ndjson" || ending == "jsonl" {
        for (index, line) in BufReader::new(reader).lines().enumerate() {
            let line = line.map_err(|error| cannot_read(file, &error))?;
            if line.trim().is_empty() {
                continue;
            }
            let cells: Map<String, Value> = serde_json::from_str(&line)
                .map_err(|error| cannot_read(file, &format!("row {}: {error}", number(index))))?;
            each(number(index), Row(cells))?;
        }
        Ok(())
    } else {
        Err(Failure::new(
            format!("{} is of no known kind", file.display()),
            "name it .csv, .ndjson or .jsonl, with .gz or without",
        ))
    }
}

fn number(index: usize) -> u64 {
    u64::try_from(index).map_or(u64::MAX, |index| index + 1)
}

struct Sender<'a> {
    agent: ureq::Agent,
    args: &'a ImportArgs,
    key: String,
}

impl<'a> Sender<'a> {
    fn new(args: &'a ImportArgs) -> Result<Self, Failure> {
        let key = match &args.key {
            Some(key) => key.clone(),
            None => key_in(&args.remote.data, Credential::Ingest(&args.project))?,
        };
        let agent = args.remote.tls.agent(&args.remote.url, Duration::from_mins(1))?;
        Ok(Self { agent, args, key })
    }

    /// Attributes of the resource where the file does not say.
    fn resource(&self) -> Value {
        let mut attributes = vec![json!({"key": attribute::SERVICE_NAME, "value": {"stringValue": self.args.service}})];
        if let Some(release) = &self.args.release {
            attributes.push(json!({"key": attribute::SERVICE_VERSION, "value": {"stringValue": release}}));
        }
        json!(attributes)
    }

    /// Sends one batch, again and again while the server is busy; how many of its records were refused.
    fn send(&self, records: &[Sendable], key: &str) -> Result<u64, Failure> {
        let (path, of_resources, of_scopes, of_records) = if self.args.mapping.is_of_statements() {
            ("/v1/traces", "resourceSpans", "scopeSpans", "spans")
        } else {
            ("/v1/logs", "resourceLogs", "scopeLogs", "logRecords")
        };
        // By the text of the resource; none where the file does not say.
        let mut by_resource: BTreeMap<Option<String>, Vec<&Value>> = BTreeMap::new();
        for (record, resource) in records {
            by_resource.entry(resource.as_ref().map(|found| json!(found).to_string())).or_default().push(record);
        }
        let of_resource = |(resource, records): (Option<String>, Vec<&Value>)| {
            let (attributes, scope) = match resource {
                // What was exported keeps the scope it had as attributes. The text was written a moment ago.
                Some(text) => (serde_json::from_str(&text).unwrap_or_default(), json!({})),
                None => (self.resource(), json!({"name": "gemba.import"})),
            };
            json!({"resource": {"attributes": attributes}, of_scopes: [{"scope": scope, of_records: records}]})
        };
        let resources: Vec<Value> = by_resource.into_iter().map(of_resource).collect();
        let body = json!({of_resources: resources});
        let body = body.to_string();
        let url = format!("{}{path}", self.args.remote.url.trim_end_matches('/'));
        for _ in 0..MAX_TRIES {
            let sent = self
                .agent
                .post(&url)
                .header("authorization", format!("Bearer {}", self.key))
                .header("content-type", "application/json")
                .header(IDEMPOTENCY_KEY, key)
                .send(&body);
            let mut response = match sent {
                Ok(response) => response,
                Err(error) => {
                    let hint =
                        "is the server running? run the same command again: what is stored already is recognised";
                    return Err(Failure::new(format!("cannot reach {url}: {error}"), hint));
                }
            };
            let status = response.status().as_u16();
            if matches!(status, 429 | 502 | 503 | 504) {
                let seconds = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                std::thread::sleep(Duration::from_secs(seconds.unwrap_or(1).min(30)));
                continue;
            }
            let text = response.body_mut().read_to_string().unwrap_or_default();
            if status != 200 {
                return Err(Failure::new(format!("the server answered {status}: {text}"), "is the key an ingest key?"));
            }
            return Ok(refused(&text));
        }
        Err(Failure::new(
            "the server stayed busy",
            "run the same command again later: what is stored already is recognised",
        ))
    }
}

/// The number of records a partial success names; protobuf JSON writes it as text.
fn refused(text: &str) -> u64 {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    ["rejectedLogRecords", "rejectedSpans"]
        .iter()
        .filter_map(|name| body.pointer(&format!("/partialSuccess/{name}")))
        .filter_map(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()))
        .sum()
}
