//! Database queries: what they are, how long they take, whom they serve.
//!
//! [`fingerprint()`] takes the values out of a text; `timed_text`, named queries and the wrappers of database crates
//! measure; a table per thread adds up; the SDK's own thread drains it. Queries are never sampled away: every one is
//! counted, and what does not fit the bound of 2,000 fingerprints is counted as `other`.

mod database;
#[cfg(feature = "diesel")]
pub mod diesel;
pub(crate) mod drain;
mod fingerprint;
mod handed;
mod histogram;
pub(crate) mod known;
#[cfg(feature = "tracing")]
pub(crate) mod layer;
mod named;
#[cfg(feature = "rusqlite")]
pub mod rusqlite;
mod sample;
#[cfg(feature = "sea-orm")]
pub mod sea_orm;
mod seen;
#[cfg(feature = "sqlx")]
pub mod sqlx;
mod status;
mod summary;
mod table;
mod timing;
#[cfg(feature = "tokio-postgres")]
pub mod tokio_postgres;
mod usage;
#[cfg(any(feature = "diesel", feature = "rusqlite", feature = "sqlx", feature = "tokio-postgres"))]
mod wrap;

use std::time::Duration;

pub use database::{Database, timed_text};
pub use fingerprint::{Dialect, FINGERPRINT_VERSION, Fingerprint, fingerprint};
pub use histogram::{Histogram, bucket_index};
pub use named::{QUERIES, QueryHandle, QuerySite};
pub use status::StatusCode;
pub use timing::{QueryEnd, QueryOutput, Running, TimedQuery};

#[cfg(feature = "tracing")]
pub use layer::{QueryLayer, is_hidden};

pub(crate) use table::refused;

/// Bounds of query recording; set before the first query.
///
/// # Examples
/// ```
/// let limits = gemba::query::Limits::default();
/// assert_eq!((limits.max_fingerprints, limits.slow.as_millis()), (2_000, 200));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Fingerprints this process keeps, 2,000 by default; further ones are counted as `other`.
    pub max_fingerprints: usize,
    /// From when on a query counts as slow and a sample of it is kept; 200 ms by default.
    pub slow: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_fingerprints: known::max_fingerprints(), slow: Duration::from_millis(200) }
    }
}

/// Sets the bounds of query recording for this process.
///
/// # Examples
/// ```
/// use gemba::query::{Limits, set_limits};
/// set_limits(Limits { slow: std::time::Duration::from_millis(50), ..Limits::default() });
/// ```
pub fn set_limits(limits: Limits) {
    known::set_max_fingerprints(limits.max_fingerprints);
    sample::set_threshold(limits.slow);
}

/// Random cases of a claim, unless `PROPTEST_CASES` says another number.
#[cfg(test)]
fn cases(cases: u32) -> proptest::test_runner::Config {
    let told = proptest::test_runner::Config::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { told } else { proptest::test_runner::Config { cases, ..told } }
}
