//! Runs a read query and collects its rows.
//!
//! In: a [`BoundQuery`] whose values travel as ClickHouse parameters, and [`Limits`]. Out: typed columns and rows. It only
//! reads: ClickHouse itself refuses anything else (`readonly`).

use super::{Client, StoreError};
use gemba_queries::BoundQuery;
use serde::Deserialize;
use serde_json::Value;

/// What one read query may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Seconds of run time.
    pub max_seconds: u32,
    /// Bytes of memory.
    pub max_memory_bytes: u64,
    /// Rows of the result; more is an error, never a silent cut.
    pub max_result_rows: u32,
}

impl Default for Limits {
    /// Chosen: a question of a person at a screen. Two such queries fit a small machine's memory side by side.
    fn default() -> Self {
        Self { max_seconds: 60, max_memory_bytes: 2 << 30, max_result_rows: 100_000 }
    }
}

/// The part of its memory, as a divisor, that a question fills before ClickHouse groups and sorts on disk. Chosen: what has
/// been gathered is read and merged in as much again.
const SPILLS_AT: u64 = 3;
/// Most a question puts on disk, in times its memory. Chosen, not measured: no question may fill the disk that events are stored on.
const MAX_SPILLED: u64 = 8;

/// Rows as ClickHouse gave them.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Selection {
    /// Columns in order.
    #[serde(rename = "meta")]
    pub columns: Vec<SelectedColumn>,
    /// One entry a row, each as long as `columns`. 64-bit integers keep all digits.
    #[serde(rename = "data")]
    pub rows: Vec<Vec<Value>>,
}

/// A column of a [`Selection`].
#[derive(Debug, Clone, Deserialize)]
pub struct SelectedColumn {
    /// Name.
    pub name: String,
    /// ClickHouse type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Runs `query`. Waits at most [`Limits::max_seconds`] for ClickHouse and some seconds for the connection.
///
/// # Errors
/// See [`StoreError`]; a limit that was reached is [`StoreError::TooHeavy`].
pub async fn select(client: &Client, query: &BoundQuery, limits: Limits) -> Result<Selection, StoreError> {
    let spills_at = (limits.max_memory_bytes / SPILLS_AT).to_string();
    let mut request = client
        .questions()
        .query_raw(&query.sql)
        // 2: reads only, but settings of this request may be given.
        .with_setting("readonly", "2")
        .with_setting("max_execution_time", limits.max_seconds.to_string())
        .with_setting("max_memory_usage", limits.max_memory_bytes.to_string())
        // What does not fit goes to disk before the limit ends the question. ClickHouse's own default heeds the memory of the
        // whole server only.
        .with_setting("max_bytes_before_external_group_by", spills_at.clone())
        .with_setting("max_bytes_before_external_sort", spills_at)
        .with_setting(
            "max_temporary_data_on_disk_size_for_query",
            MAX_SPILLED.saturating_mul(limits.max_memory_bytes).to_string(),
        )
        .with_setting("max_result_rows", limits.max_result_rows.to_string())
        .with_setting("result_overflow_mode", "throw")
        .with_setting("output_format_json_quote_64bit_integers", "0")
        .with_setting("output_format_json_quote_denormals", "0")
        .with_setting("date_time_output_format", "iso");
    for (name, value) in &query.params {
        request = request.param(name, value);
    }
    let answer = match request.fetch_bytes("JSONCompact") {
        Ok(mut cursor) => cursor.collect().await,
        Err(error) => Err(error),
    };
    let bytes = answer.map_err(|error| StoreError::from(error).of_question())?;
    serde_json::from_slice(&bytes).map_err(|error| StoreError::Answer(error.to_string()))
}
