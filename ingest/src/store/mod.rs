//! ClickHouse, seen from the server: one client for all of Gemba, its errors, and what is built on it.
//!
//! In: statements and encoded blocks. Out: rows, counts, or a [`StoreError`] that says whether trying again can help.
//! Where ClickHouse runs (embedded engine, server, cluster) is known only by the address given to [`Client::new`].

pub mod archive;
pub mod aside;
pub mod audit;
mod client;
pub mod cluster;
mod error;
pub mod export;
pub mod funnel;
pub mod leases;
pub mod migrations;
pub mod own;
pub mod people;
pub mod saved;
pub mod select;
pub mod usage;

pub mod removals;
pub mod rollups;

pub use client::{Client, InsertedBlock, StoreConfig};
pub use cluster::{ClusterError, ClusterName};
pub use error::{Obstacle, StoreError};
