//! The Gemba server: durable OpenTelemetry intake, the embedded ClickHouse engine, answers.
//!
//! Modules in the order data flow through them:
//! [`http`] takes bytes from strangers, [`otlp`] turns an export request into [`rows`], [`log`] makes the request
//! durable, [`pipeline`] orders it all and acknowledges, [`store`] writes blocks to ClickHouse and proves they are
//! there, [`engine`] is ClickHouse itself where none is configured. [`control`] holds projects and keys, [`nodes`] has several servers on
//! one store take turns, [`freshness`] tells who fell silent, [`contact`] whether ClickHouse answers, [`alerts`] tells others
//! what is wrong. [`cli`] is the command line around it.

pub mod alerts;
pub mod answer;
pub mod cli;
pub mod clock;
pub mod config;
pub mod contact;
pub mod control;
pub mod engine;
pub mod freshness;
mod funnel_table;
pub mod http;
pub mod identity;
pub mod log;
pub mod nodes;
pub mod otlp;
pub mod outcome;
pub mod pipeline;
pub mod quota;
pub mod rows;
pub mod serve;
pub mod store;
pub mod throttle;
mod upkeep;
