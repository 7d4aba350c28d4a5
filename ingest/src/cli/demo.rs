//! `gemba demo`: the whole product on a small real shop, in under a minute.
//!
//! It starts a server with the embedded engine on an empty folder, lets simulated people use two releases of the shop
//! (each a process of its own, recording through the SDK), and prints what Gemba answers. Everything printed comes from
//! the server's API.

use super::Failure;
use super::query::read_back;
use super::remote::{Credential, Remote, RemoteArgs, key_in};
use super::tls::TlsArgs;
use crate::answer::{Answer, Format};
use crate::clock;
use crate::config::ServeConfig;
use crate::serve;
use gemba_shop::plants::Plants;
use gemba_shop::simulation::Period;
use gemba_shop::{Release, Run};
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

/// Project of the first start.
const PROJECT: &str = "default";
/// Days of use before now; a range of seven days, the default of every question, sees them all.
const DAYS: u64 = 7;
/// The range every question of the demo is asked for: all of its use, and nothing before.
const RANGE: [(&str, &str); 1] = [("from", "now - 7d")];
/// The last visits begin this long before now, so that every attempt has had its time.
const QUIET_MS: u64 = 2 * 3_600_000;
/// Visits a person pays in each release, on average.
const VISITS_EACH: f64 = 1.5;

/// Options of `gemba demo`.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Print the answers and end, instead of staying up with the dashboard.
    #[arg(long)]
    pub exit: bool,
    /// People who use the shop.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(20..=100_000))]
    pub users: u32,
    /// Chooses what is wrong with the shop and what the people do.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Let nothing be wrong with the shop: both lists of targets come out empty.
    #[arg(long)]
    pub clean: bool,
    /// Write the answers as one JSON object instead of tables.
    #[arg(long)]
    pub json: bool,
}

/// Options of the hidden command that runs one release of the shop.
#[derive(Debug, clap::Args)]
pub(super) struct ShopArgs {
    #[arg(long)]
    endpoint: String,
    #[arg(long, env = "GEMBA_KEY", hide_env_values = true)]
    key: String,
    #[arg(long)]
    file: std::path::PathBuf,
    #[arg(long)]
    second_release: bool,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    clean: bool,
    #[arg(long)]
    users: u32,
    #[arg(long)]
    from_ms: u64,
    #[arg(long)]
    to_ms: u64,
}

/// Runs one release of the shop; called by the demo as a process of its own.
///
/// # Errors
/// Whatever keeps the shop or its visitors from working.
pub(super) async fn shop(args: ShopArgs) -> Result<ExitCode, Failure> {
    let release = if args.second_release { Release::Two } else { Release::One };
    let run = Run {
        endpoint: args.endpoint,
        key: args.key,
        file: args.file,
        release,
        plants: plants(args.seed, args.clean),
        period: Period {
            from_ms: args.from_ms,
            to_ms: args.to_ms,
            people: args.users,
            visits_each: VISITS_EACH,
            // The second release sees other visits than the first.
            seed: args.seed.wrapping_mul(2) + u64::from(args.second_release),
        },
    };
    let on_terminal = std::io::stderr().is_terminal();
    let mut shown = 0.0;
    let progress = |share: f64| {
        let percent = (share * 10.0).floor() * 10.0;
        if on_terminal && percent > shown {
            shown = percent;
            note(&format!("\r  {percent} % of its days "), false);
        }
    };
    let report = gemba_shop::run(run, progress)
        .await
        .map_err(|error| Failure::of(&error, "this is a fault of the demo; please report it with the seed"))?;
    note(&format!("\r  {} visits, {} requests          ", report.visits, report.requests), true);
    Ok(ExitCode::SUCCESS)
}

fn plants(seed: u64, clean: bool) -> Plants {
    if clean { Plants::none() } else { Plants::of_seed(seed) }
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps the server, the shop or a question from working.
pub(super) async fn run(args: DemoArgs) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let folder = tempfile::Builder::new().prefix("gemba-demo-").tempdir().map_err(|error| {
        Failure::new(format!("cannot make a folder: {error}"), "is the temporary folder full? TMPDIR names another")
    })?;
    note("starting the server on its embedded ClickHouse …", true);
    let running = serve::start(demo_config(&folder.path().join("data"))).await?;
    let outcome = use_and_ask(&args, &running, folder.path()).await;
    if let Ok(dashboard) = &outcome {
        note(&format!("\nanswered {:.0} s after the start", started.elapsed().as_secs_f64()), true);
        if !args.exit {
            note(&format!("\ndashboard: {dashboard}\nstop with Ctrl-C"), true);
            // Without a signal handler there is nothing to wait for; stopping is then the right thing too.
            drop(tokio::signal::ctrl_c().await);
        }
    }
    running.stop().await;
    outcome.map(|_| ExitCode::SUCCESS)
}

/// Any free ports: another server may be at work on this machine.
fn demo_config(data: &Path) -> ServeConfig {
    ServeConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), grpc_listen: None, ..ServeConfig::new(data) }
}

/// Lets people use the shop, prints the answers, and gives the address of the dashboard.
async fn use_and_ask(args: &DemoArgs, running: &serve::Running, folder: &Path) -> Result<String, Failure> {
    let ingest_key = key_in(running.data(), Credential::Ingest(PROJECT))?;
    let to_ms = u64::try_from(clock::now_ms()).unwrap_or_default() - QUIET_MS;
    let from_ms = to_ms - DAYS * 86_400_000 + QUIET_MS + 3_600_000;
    let middle_ms = u64::midpoint(from_ms, to_ms);
    let file = folder.join("shop.sqlite");
    for (second, from_ms, to_ms) in [(false, from_ms, middle_ms), (true, middle_ms, to_ms)] {
        let version = if second { Release::Two.version() } else { Release::One.version() };
        note(&format!("{} people use release {version} of the shop …", args.users), true);
        let arguments = ShopArgs {
            endpoint: running.url().to_owned(),
            key: ingest_key.clone(),
            file: file.clone(),
            second_release: second,
            seed: args.seed,
            clean: args.clean,
            users: args.users,
            from_ms,
            to_ms,
        };
        run_shop(&arguments).await?;
    }
    let remote = RemoteArgs { url: running.url().to_owned(), tls: TlsArgs::default(), data: running.data().to_owned() };
    let json = args.json;
    // The client blocks; the server answers on the other threads of this runtime.
    let asked = tokio::task::spawn_blocking(move || {
        let remote = Remote::new(&remote, None, Credential::Read(PROJECT))?;
        remote.post("/api/v1/flush", &json!({}))?;
        if json { print_json(&remote) } else { print_tables(&remote) }
    });
    asked.await.map_err(|error| Failure::of(&error, "this is a fault of the demo; please report it"))??;
    Ok(format!("{}/#key={}", running.url(), key_in(running.data(), Credential::Read(PROJECT))?))
}

async fn run_shop(args: &ShopArgs) -> Result<(), Failure> {
    let hint = "this is a fault of the demo; please report it with the seed";
    let program = std::env::current_exe().map_err(|error| Failure::of(&error, hint))?;
    let mut command = tokio::process::Command::new(program);
    command
        .args(["demo-shop", "--endpoint", &args.endpoint, "--file"])
        .arg(&args.file)
        .args(["--seed", &args.seed.to_string(), "--users", &args.users.to_string()])
        .args(["--from-ms", &args.from_ms.to_string(), "--to-ms", &args.to_ms.to_string()])
        .args(args.clean.then_some("--clean"))
        .args(args.second_release.then_some("--second-release"))
        .env("GEMBA_KEY", &args.key)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let status = command.status().await.map_err(|error| Failure::of(&error, hint))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("the shop ended with {status}"), hint)) }
}

/// One list the demo prints: heading, saved query, columns shown, most rows, words when there are none.
struct Shown {
    heading: &'static str,
    query: &'static str,
    columns: &'static [&'static str],
    rows: usize,
    none: &'static str,
}

const SHOWN: &[Shown] = &[
    Shown {
        heading: "Attempts people do not finish",
        query: "feature_completion",
        columns: &["feature", "begun", "completed", "failed", "abandoned", "open", "unfinished_rate"],
        rows: 6,
        none: "no attempt was begun",
    },
    Shown {
        heading: "Declared, and never used",
        query: "feature_unused",
        columns: &["name", "kind", "release", "code"],
        rows: 5,
        none: "everything declared was used",
    },
    Shown {
        heading: "Hot queries",
        query: "slow_queries",
        columns: &["calls", "duration_ms_total", "duration_ms_p50", "duration_ms_p99", "users", "summary", "text"],
        rows: 6,
        none: "no query was run",
    },
    Shown {
        heading: "Slower since release 2.0.0",
        query: "query_regressions",
        columns: &["base_duration_ms_p50", "head_duration_ms_p50", "head_calls", "seconds_more_per_week", "text"],
        rows: 3,
        none: "nothing got clearly slower",
    },
    Shown {
        heading: "MAKE EASIER: where clearly more people give up than elsewhere",
        query: "usability_targets",
        columns: &["name", "kind", "score", "begun", "unfinished_rate", "comparable_rate", "users_per_week"],
        rows: 5,
        none: "nothing stands out",
    },
    Shown {
        heading: "MAKE FASTER: queries that cost people more time than they need to",
        query: "optimization_targets",
        columns: &["reason", "score", "calls", "duration_ms_p50", "calls_per_use", "users", "features", "text"],
        rows: 5,
        none: "nothing stands out",
    },
];

fn checkout() -> Value {
    let steps = ["cart", "address", "shipping", "payment", "done"];
    let steps: Vec<Value> = steps.iter().map(|step| json!({"event": format!("step:checkout.{step}")})).collect();
    json!({"steps": steps, "window_ms": 86_400_000})
}

fn print_tables(remote: &Remote) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let funnel = super::funnel::table_of(remote.post("/api/v1/funnel", &checkout())?)?;
    let columns = ["event", "count", "rate_from_previous", "lost", "open", "time_from_previous_ms_p50"];
    print_list(&mut out, "The checkout, step by step", &funnel.excerpt(&columns, 5), "")?;
    for shown in SHOWN {
        let answer: Answer = read_back(remote.get_with(&format!("/api/v1/queries/{}", shown.query), &RANGE)?)?;
        print_list(&mut out, shown.heading, &answer.excerpt(shown.columns, shown.rows), shown.none)?;
    }
    Ok(())
}

fn print_list(out: &mut impl Write, heading: &str, answer: &Answer, none: &str) -> Result<(), Failure> {
    let text = if answer.rows.is_empty() { format!("{none}\n") } else { answer.render(Format::Table)? };
    Ok(writeln!(out, "\n{heading}\n{text}")?)
}

fn print_json(remote: &Remote) -> Result<(), Failure> {
    let mut answers = json!({"funnel": remote.post("/api/v1/funnel", &checkout())?});
    for shown in SHOWN {
        answers[shown.query] = remote.get_with(&format!("/api/v1/queries/{}", shown.query), &RANGE)?;
    }
    Ok(writeln!(std::io::stdout().lock(), "{answers}")?)
}

/// Talk goes to standard error, answers to standard output.
fn note(text: &str, line: bool) {
    super::tell(&format!("{text}{}", if line { "\n" } else { "" }));
}
