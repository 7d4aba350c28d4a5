//! The command line: one file a subcommand.
//!
//! Results go to stdout, talk to stderr. An error is told with its whole chain and a line `hint:`; exit code 1, or 2 when
//! the command line itself was wrong.

mod backup;
mod check;
mod cohort;
#[cfg(feature = "demo")]
mod demo;
pub mod engine;
mod export;
mod forget;
mod funnel;
pub mod import;
mod migrate;
mod progress;
mod project;
mod query;
mod rebuild;
pub mod remote;
mod restore;
mod serve;
mod set_aside;
mod store;
pub mod tls;

use crate::http::error::chain;
use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// What users really do with your software, where they give up, and which queries make them wait.
#[derive(Debug, Parser)]
#[command(name = "gemba", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole product on real use of a small shop
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
    /// One release of the demo's shop
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    DemoShop(demo::ShopArgs),
    /// Take data, store it, answer questions
    Serve(serve::ServeArgs),
    Engine(engine::EngineArgs),
    /// Ask a saved question
    Query(query::QueryArgs),
    /// Ask a funnel
    Funnel(funnel::FunnelArgs),
    /// List, choose and delete cohorts: groups of people to ask about
    Cohort(cohort::CohortArgs),
    /// Send the events or statements of a file
    Import(import::ImportArgs),
    /// Write the rows of a project as NDJSON or CSV
    Export(export::ExportArgs),
    /// Create, list, and delete projects and renew their keys
    Project(project::ProjectArgs),
    /// Remove everything kept of a person, and prove that it is gone
    Forget(forget::ForgetArgs),
    /// List the records that were set aside, and take them in again
    #[command(alias = "refused")]
    SetAside(set_aside::SetAsideArgs),
    /// Bring the tables up to date, or back
    Migrate(migrate::MigrateArgs),
    /// Look for what is wrong, and say what to do
    Check(check::CheckArgs),
    /// Save all data under a name
    Backup(backup::BackupArgs),
    /// Bring saved data back
    Restore(restore::RestoreArgs),
    /// Make the roll-ups of a time range anew from the raw rows, and compare
    Rebuild(rebuild::RebuildArgs),
}

/// Why a command did not do it: for a person.
#[derive(Debug)]
pub struct Failure {
    problem: String,
    hint: Option<String>,
}

impl Failure {
    /// A problem without an error behind it.
    pub fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: Some(hint.into()) }
    }

    /// An error with its chain, and what to do about it.
    pub fn of(error: &(dyn std::error::Error + 'static), hint: impl Into<String>) -> Self {
        Self::new(chain(error), hint)
    }
}

impl From<crate::serve::ServeError> for Failure {
    fn from(error: crate::serve::ServeError) -> Self {
        Self::of(&error, error.hint())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self { problem: chain(&error), hint: None }
    }
}

/// Runs the command that the program's arguments name.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with exit code 0. Nobody is left to tell when printing fails.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    log_to_stderr();
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(failure) => {
            let mut stderr = std::io::stderr().lock();
            // Nobody is left to tell when stderr is closed.
            drop(writeln!(stderr, "error: {}", failure.problem));
            if let Some(hint) = failure.hint {
                drop(writeln!(stderr, "hint: {hint}"));
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        #[cfg(feature = "demo")]
        Command::Demo(args) => block_on(demo::run(args)),
        #[cfg(feature = "demo")]
        Command::DemoShop(args) => block_on(demo::shop(args)),
        Command::Query(args) => query::run(&args),
        Command::Funnel(args) => funnel::run(&args),
        Command::Cohort(args) => cohort::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Serve(args) => block_on(serve::run(args)),
        Command::Engine(args) => match engine::run(args) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(Failure::of(&error, "`gemba check` looks at what the engine needs")),
        },
        Command::Project(args) => project::run(&args),
        Command::Forget(args) => forget::run(&args),
        Command::SetAside(args) => set_aside::run(&args),
        Command::Migrate(args) => block_on(migrate::run(args)),
        Command::Check(args) => block_on(check::run(args)),
        Command::Backup(args) => block_on(backup::run(args)),
        Command::Restore(args) => block_on(restore::run(args)),
        Command::Rebuild(args) => block_on(rebuild::run(args)),
    }
}

/// Runs an asynchronous command to its end.
fn block_on(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(command);
    // What still runs has no one left to serve; waiting for it could hang the exit.
    runtime.shutdown_background();
    outcome
}

/// `GEMBA_LOG` takes the directives of tracing-subscriber (`info`, `gemba_ingest=debug`); the default is `info`.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("GEMBA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // A line that cannot be written is lost; to complain about it on the same stream would panic.
        .log_internal_errors(false);
    // Somebody else's subscriber is as good.
    drop(subscriber.try_init());
}

/// Writes a line to stdout; a reader that went away is an error like any other.
fn say(line: &str) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

/// Writes to stderr for the person at the terminal, as it stands. One who no longer listens misses it, and the command goes on.
fn tell(text: &str) {
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}
