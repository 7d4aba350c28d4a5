//! `gemba check`: looks at everything a server needs and says, per finding, what is wrong and what to do.
//!
//! Looks at the data folder, the disk, the clock, ClickHouse or the engine, the migrations and the freshness of the data.
//! Changes nothing. With a server at work on the data folder, asks that server instead of starting a second engine.

use super::serve::StoreArgs;
use super::store::{OpenStore, with_store};
use super::tls::TlsArgs;
use super::{Failure, say};
use crate::clock;
use crate::serve::{DataLock, ServeError};
use crate::store::migrations::{self, State};
use clap::Args;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Free disk below which the finding is a problem: the pipeline refuses new data below it.
const LEAST_FREE_BYTES: u64 = 1 << 30;
/// Furthest the clocks of this machine and of ClickHouse may be apart, in milliseconds. Chosen: below the second in
/// which data becomes visible.
const MOST_CLOCK_SKEW_MS: i64 = 1_000;
/// A clock before this is wrong: 2026-01-01, when this program did not exist yet.
const EARLIEST_NOW_MS: i64 = 1_767_225_600_000;

/// How long a running server may take to say how it is.
const SERVER_TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of `gemba check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Address of the running server, if there is one
    #[arg(long, env = "GEMBA_URL", default_value = "http://127.0.0.1:4318", value_name = "URL")]
    url: String,
    #[command(flatten)]
    tls: TlsArgs,
    /// Age of the newest event beyond which it is a finding, as 90s, 30m, 12h or 7d; of a running server its own
    /// --stale-after counts, and it is a finding when it has none
    #[arg(long, env = "GEMBA_STALE_AFTER", value_name = "TIME", value_parser = super::project::seconds)]
    stale_after: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One thing looked at.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    is_good: bool,
    found: String,
    remedy: String,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, is_good: true, found: found.into(), remedy: String::new() }
    }

    fn bad(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, is_good: false, found: found.into(), remedy: remedy.into() }
    }
}

/// Looks and reports; exit code 1 when something is wrong.
pub(super) async fn run(args: CheckArgs) -> Result<ExitCode, Failure> {
    let data = args.store.data.clone();
    let mut findings = vec![clock_of_this_machine(), disk(&data)];
    match DataLock::take(&data) {
        Err(error @ ServeError::InUse { .. }) => {
            findings.push(Finding::good("data folder", error.to_string()));
            let agent = args.tls.agent(&args.url, SERVER_TIMEOUT)?;
            findings.extend(server(&agent, &args.url, args.stale_after.is_some()));
        }
        Err(error) => findings.push(Finding::bad("data folder", crate::http::error::chain(&error), error.hint())),
        Ok(lock) => {
            findings.push(Finding::good("data folder", format!("{} is free to use", data.display())));
            drop(lock);
            match with_store(&args.store, async |store: &OpenStore| Ok(clickhouse(store, args.stale_after).await)).await
            {
                Ok(more) => findings.extend(more),
                Err(failure) => {
                    findings.push(Finding::bad("engine", failure.problem, failure.hint.unwrap_or_default()));
                }
            }
        }
    }
    report(&findings, args.json)
}

fn report(findings: &[Finding], as_json: bool) -> Result<ExitCode, Failure> {
    let all_good = findings.iter().all(|finding| finding.is_good);
    if as_json {
        let list: Vec<_> = findings
            .iter()
            .map(|one| json!({"what": one.what, "good": one.is_good, "found": one.found, "remedy": one.remedy}))
            .collect();
        say(&json!({"good": all_good, "findings": list}).to_string())?;
    } else {
        for Finding { what, is_good, found, remedy } in findings {
            say(&format!("{}  {what}: {found}", if *is_good { "good" } else { "BAD " }))?;
            if !is_good {
                say(&format!("      do: {remedy}"))?;
            }
        }
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn clock_of_this_machine() -> Finding {
    let now_ms = clock::now_ms();
    let now = jiff::Timestamp::from_millisecond(now_ms).map_or_else(|_| now_ms.to_string(), |now| now.to_string());
    if now_ms < EARLIEST_NOW_MS {
        return Finding::bad("clock", format!("it says {now}"), "set it, for example with a time service");
    }
    Finding::good("clock", now)
}

fn disk(data: &Path) -> Finding {
    // A folder that is not there yet will be made on the disk of the nearest one that is.
    let existing = data.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    match rustix::fs::statvfs(existing) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let found = format!("{} MiB free at {}", free >> 20, existing.display());
            if free < LEAST_FREE_BYTES {
                let remedy = format!("free some: below {} MiB new data is refused", LEAST_FREE_BYTES >> 20);
                return Finding::bad("disk", found, remedy);
            }
            Finding::good("disk", found)
        }
        Err(error) => Finding::bad("disk", error.to_string(), "see that the folder can be read"),
    }
}

/// What a running server says of itself. Where whoever asks wants it judged how old the data is, a server that does not is wrong.
fn server(agent: &ureq::Agent, url: &str, is_to_judge: bool) -> Vec<Finding> {
    let remedy = "its log on stderr says more; --url names another address";
    let told = agent.get(format!("{url}/readyz")).call().and_then(|mut answer| {
        let status = answer.status();
        Ok((status, answer.body_mut().read_to_string()?))
    });
    let (status, text) = match told {
        Ok(told) => told,
        Err(error) => return vec![Finding::bad("server", format!("{url}: {error}"), remedy)],
    };
    let Ok(Value::Object(body)) = serde_json::from_str(&text) else {
        let found = format!("{url}/readyz answers {status} with what is no answer of gemba");
        return vec![Finding::bad("server", found, "something else listens there; --url names another address")];
    };
    let is = |field: &str| body.get(field).and_then(Value::as_bool).unwrap_or(false);
    let problem = body.get("store_problem").filter(|problem| !problem.is_null());
    let server = if is("ready") && is("accepts_data") && problem.is_none() {
        let pending = body.get("pending_records").unwrap_or(&Value::Null);
        Finding::good("server", format!("{url} takes data and stores it; {pending} records pending"))
    } else {
        Finding::bad("server", format!("{url} says {}", text.trim_end()), remedy)
    };
    vec![server, freshness(body.get("stale_projects"), is_to_judge)]
}

/// What a running server's field `stale_projects` means: null where it judges nobody.
fn freshness(stale_projects: Option<&Value>, is_to_judge: bool) -> Finding {
    let what = "freshness";
    let unjudged = "not judged: the server has no --stale-after";
    match stale_projects {
        Some(Value::Null) if is_to_judge => Finding::bad(what, unjudged, "start `gemba serve` with it"),
        Some(Value::Null) => Finding::good(what, unjudged),
        Some(stale) if stale.as_u64() == Some(0) => Finding::good(what, "no project fell silent"),
        Some(stale) if stale.is_u64() => {
            let remedy = "gemba_newest_row_age_seconds in /metrics names them by number, `gemba project list --json` the numbers; see \
                      that their applications run and their keys hold";
            Finding::bad(what, format!("of {stale} projects nothing was stored for longer than --stale-after"), remedy)
        }
        other => {
            let found = match other {
                None => "its /readyz has no field stale_projects".to_owned(),
                Some(other) => format!("the field stale_projects of its /readyz is {other}"),
            };
            Finding::bad(what, found, "the server is of another version, or not gemba: see --url")
        }
    }
}

async fn clickhouse(store: &OpenStore, stale_after: Option<u64>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let remedy = "check --clickhouse, user and password; for the embedded engine the data folder's disk";
    let versions =
        store.client.raw().query_raw("SELECT version(), toUnixTimestamp64Milli(now64(3))").fetch_one::<(String, i64)>();
    let (version, now_ms) = match versions.await {
        Ok(answer) => answer,
        Err(error) => return vec![Finding::bad("clickhouse", error.to_string(), remedy)],
    };
    findings.push(Finding::good("clickhouse", format!("version {version} at {}", store.client.config().url)));
    let skew_ms = (now_ms - clock::now_ms()).abs();
    if skew_ms > MOST_CLOCK_SKEW_MS {
        findings.push(Finding::bad(
            "clocks",
            format!("ClickHouse's is {skew_ms} ms off"),
            "set both by a time service",
        ));
    }
    findings.push(match migrations::status(&store.client).await {
        Ok(list) => migrations_of(&list),
        Err(error) => Finding::bad("migrations", crate::http::error::chain(&error), remedy),
    });
    let latest = store.client.number("SELECT toUInt64(toUnixTimestamp(max(received))) FROM events").await;
    findings.push(match latest {
        Ok(0) => Finding::good("data", "no event yet"),
        Ok(seconds) => {
            let age = clock::now_ms() / 1_000 - i64::try_from(seconds).unwrap_or(i64::MAX);
            let found = format!("the latest event was received {age} s ago");
            let limit = stale_after.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
            if limit.is_some_and(|limit| age > limit) {
                let remedy =
                    "start `gemba serve`, and see that applications send to it; --stale-after says what is too old";
                Finding::bad("data", found, remedy)
            } else {
                Finding::good("data", found)
            }
        }
        Err(_) => Finding::good("data", "no tables yet; the first `gemba serve` makes them"),
    });
    findings
}

fn migrations_of(list: &[migrations::Status]) -> Finding {
    let count = |state| list.iter().filter(|one| one.state == state).count();
    let found = format!(
        "{} applied, {} absent, {} interrupted",
        count(State::Applied),
        count(State::Absent),
        count(State::Interrupted)
    );
    if list.iter().any(|one| !one.known) {
        return Finding::bad("migrations", found, "the database is of a newer gemba: start that one");
    }
    if count(State::Interrupted) > 0 {
        return Finding::bad("migrations", found, "run `gemba migrate up`");
    }
    Finding::good("migrations", found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    /// What is found of a server that answers once, with this status and body.
    fn found(status: &str, body: &str, is_to_judge: bool) -> Vec<(&'static str, bool, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while !lines.next().unwrap().unwrap().is_empty() {}
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let agent = TlsArgs::default().agent(&url, SERVER_TIMEOUT).unwrap();
        let findings = server(&agent, &url, is_to_judge);
        answering.join().unwrap();
        findings.into_iter().map(|one| (one.what, one.is_good, one.found)).collect()
    }

    fn ready(stale: &str) -> String {
        format!(r#"{{"ready":true,"accepts_data":true,"store_problem":null,"pending_records":0{stale}}}"#)
    }

    #[test]
    fn null_means_that_nobody_is_judged_and_a_missing_field_that_it_is_another_server() {
        for is_to_judge in [false, true] {
            let judged = found("200 OK", &ready(r#","stale_projects":null"#), is_to_judge);
            assert!(judged[0].1 && judged[1].2.contains("has no --stale-after"), "{judged:?}");
            assert_eq!(judged[1].1, !is_to_judge);
            let missing = found("200 OK", &ready(""), is_to_judge);
            assert!(!missing[1].1 && missing[1].2.contains("stale_projects"), "{missing:?}");
        }
        let none = found("200 OK", &ready(r#","stale_projects":0"#), true);
        assert!(none.iter().all(|one| one.1), "{none:?}");
    }

    #[test]
    fn what_is_no_json_is_told_as_another_server_and_nothing_is_said_of_freshness() {
        for (status, body) in [("200 OK", "<html>welcome</html>"), ("502 Bad Gateway", "bad gateway"), ("200 OK", "[]")]
        {
            let [(what, is_good, told)] = &found(status, body, true)[..] else { panic!("one finding: {body}") };
            assert!(*what == "server" && !is_good && told.contains(&status[..3]), "{told}");
            assert!(told.contains("no answer of gemba"), "{told}");
        }
    }

    #[test]
    fn a_server_that_refuses_data_says_why() {
        let body = r#"{"ready":false,"accepts_data":false,"refusing":"log_full","stale_projects":0}"#;
        let told = found("503 Service Unavailable", body, true);
        assert!(!told[0].1 && told[0].2.contains("log_full"), "{told:?}");
        assert!(told[1].1, "{told:?}");
    }
}
