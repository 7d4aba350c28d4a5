//! How far a long command is: one line on a terminal, rewritten; nothing where standard error is a file.

use std::io::IsTerminal as _;
use std::time::Instant;

/// The line of one command.
#[derive(Debug)]
pub(super) struct Progress {
    on: bool,
    started: Instant,
}

impl Progress {
    /// Begins to measure.
    pub(super) fn new() -> Self {
        Self { on: std::io::stderr().is_terminal(), started: Instant::now() }
    }

    /// Tells how many records are done, of how many where that is known.
    pub(super) fn show(&self, records: u64, of: Option<u64>) {
        if self.on {
            let rate = records as f64 / self.started.elapsed().as_secs_f64().max(0.001);
            let of = of.map(|all| format!(" of {all}")).unwrap_or_default();
            super::tell(&format!("\r{records}{of} records, {rate:.0} a second "));
        }
    }

    /// Leaves the line behind.
    pub(super) fn end(&self) {
        if self.on {
            super::tell("\n");
        }
    }
}
