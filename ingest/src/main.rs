//! The `gemba` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    gemba_ingest::cli::run()
}
