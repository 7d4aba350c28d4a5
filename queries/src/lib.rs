//! The saved questions of Gemba and the exact funnel.
//!
//! A saved query is a `.sql` file that says in its header what it answers, what one row is, which parameters it takes
//! and what each column means. [`Catalog`] reads and checks the files, [`Query::bind`] checks the values somebody gave
//! and hands out a [`BoundQuery`]: SQL text and parameters, ready to be sent. Funnels are planned and computed
//! in Rust, since no single SQL function answers them exactly.
//!
//! In: files, names and values. Out: [`BoundQuery`] and, for funnels, answers. This crate talks to no database, reads no
//! clock (the caller passes the time) and, but for [`Catalog::with_dir`], no disk.
//!
//! Invariants:
//! 1. A value never becomes part of the SQL text; it travels as a ClickHouse parameter of a declared type.
//! 2. Every table a query reads is filtered by `project = {project:UInt32}` where it is read; a file that does not is
//!    refused when it is loaded.
//! 3. A header names exactly the parameters its body uses.

pub mod catalog;
mod ctes;
pub mod error;
mod formula;
pub mod funnel;
mod header;
mod lex;
pub mod param;
pub mod population;
mod rules;
pub mod trends;

pub use catalog::{BoundQuery, Catalog, Column, Engine, Query, ServerParams};
pub use error::{CatalogError, ParamError, Problem};
pub use param::{Allowed, Kind, Param};
pub use population::{CohortVersion, Population, Presence};
