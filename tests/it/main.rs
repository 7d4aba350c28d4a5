//! Claims about the whole product, each on the real engine, over real sockets.
//!
//! One binary, so that the engine's harness is linked once.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a helper ends the test that asked for it")]

mod alerts;
mod books;
mod cases;
mod cluster;
mod cluster_served;
mod data_events;
mod demo;
mod deploy;
mod durability;
mod durability_backlog;
mod durability_insert;
mod durability_outage;
mod durability_pair;
mod durability_proxy;
mod durability_refused;
mod durability_site;
mod durability_support;
mod engine;
mod export;
mod flags;
mod forget;
mod funnel;
mod fuzz;
mod import_presets;
mod isolation;
mod isolation_views;
mod limits;
mod migrations;
mod native;
mod operations;
mod otel_clients;
mod pages;
mod pair;
mod pair_leases;
mod pair_still;
mod people;
mod people_case;
mod power_cut;
mod protocol;
mod protocol_grpc;
mod questions;
mod questions_attempts;
mod questions_groups;
mod questions_narrowed;
mod questions_paths;
mod questions_support;
mod read_limits;
mod restore;
mod serve;
mod serve_cli;
mod set_aside;
mod spooled;
mod statements;
mod targets;
mod tenancy;
mod tidy;
mod tls;
mod tls_clients;
