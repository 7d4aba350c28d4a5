//! The `gemba` command.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use gemba_ingest::cli;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("GEMBA_LOG").unwrap_or_else(|_| "info".into()))
        .init();
    let Err(error) = cli::run(cli::Cli::parse()) else { return ExitCode::SUCCESS };
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    // Nowhere left to complain to.
    drop(writeln!(std::io::stderr(), "{text}"));
    ExitCode::FAILURE
}
