//! What the claims in `it/` share: a server of their own, clients, a browser, data.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in here ends the test that asked for it")]

pub mod binary;
pub mod browser;
pub mod certificate;
pub mod client;
pub mod cluster;
pub mod data;
pub mod database;
pub mod engine;
pub mod export;
pub mod packages;
pub mod postgres;
pub mod project;
pub mod server;
pub mod stored;
