//! Database queries: what they are, how long they take, whom they serve.
//!
//! [`fingerprint()`] takes the values out of a text; `timed_text`, named queries and the wrappers of database crates
//! measure; a table per thread adds up; the SDK's own thread drains it. Queries are never sampled away: every one is
//! counted, and what does not fit the bound of 2,000 fingerprints is counted as `other`.

mod fingerprint;
mod histogram;
mod summary;

pub use histogram::{Histogram, bucket_index};

pub use fingerprint::{Dialect, FINGERPRINT_VERSION, Fingerprint, fingerprint};
