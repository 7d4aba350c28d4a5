//! What the claims in `it/` share: a server of their own, clients, a browser, data.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in here ends the test that asked for it")]

use std::io::Write as _;

pub mod binary;
pub mod browser;
pub mod client;
pub mod data;
pub mod database;
pub mod engine;
pub mod export;
pub mod project;
pub mod server;

/// Says on stderr why a part of a claim is not checked here. Not caught by the test runner, which keeps what a passing
/// test prints to itself.
pub fn note(why: &str) {
    let mut talk = std::io::stderr();
    writeln!(talk, "not checked: {why}").unwrap();
}
