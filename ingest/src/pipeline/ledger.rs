//! The books of a cut: what was received in it and what became of it, in the tables `ledger` and `retries`.
//!
//! In: counts by project, fate, signal and reason. Out: rows that are equal however often they are written, so that it is known
//! that they are there and never how often they were sent.

use super::core::Core;
use super::gather::{self, Counted, LedgerKey};
use super::inserts::until_done;
use crate::store::StoreError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Writes a cut's rows of the table `ledger`; writing them again changes nothing.
pub(super) async fn write_ledger(
    core: &Arc<Core>,
    cut: u64,
    ledger: &BTreeMap<LedgerKey, Counted>,
    received_ms: Option<i64>,
) -> Result<(), StoreError> {
    let Some(received_ms) = received_ms.filter(|_| !ledger.is_empty()) else { return Ok(()) };
    let log = core.log_id;
    let (retried, ended): (Vec<_>, Vec<_>) = ledger.iter().partition(|(key, _)| key.fate == gather::RETRIED);
    if !retried.is_empty() {
        let values: Vec<String> = retried
            .iter()
            .map(|(LedgerKey { project, signal, reason, .. }, Counted { records, set_aside, .. })| {
                let received = format!("fromUnixTimestamp64Milli({received_ms})");
                let at = set_aside.iter().map(|(ms, records)| format!("fromUnixTimestamp64Milli({ms}),{records}"));
                let at = at.collect::<Vec<_>>().join(",");
                format!("({project},{log},{cut},'{signal}','{}',{records},map({at}),{received})", word(reason))
            })
            .collect();
        let sql = format!(
            "INSERT INTO retries (project, log, cut, signal, reason, records, set_aside_at, received) \
             SETTINGS async_insert = 0, insert_deduplicate = 0 VALUES {}",
            values.join(",")
        );
        until_done(core, || core.store.execute(&sql)).await?;
    }
    let values: Vec<String> = ended
        .iter()
        .map(|(LedgerKey { project, fate, signal, reason }, Counted { records, bytes, .. })| {
            let reason = word(reason);
            let received = format!("fromUnixTimestamp64Milli({received_ms})");
            format!("({project},{log},{cut},'{fate}','{signal}','{reason}',{records},{bytes},{received})")
        })
        .collect();
    let sql = format!(
        "INSERT INTO ledger (project, log, cut, fate, signal, reason, records, bytes, received) \
         SETTINGS async_insert = 0, insert_deduplicate = 0 VALUES {}",
        values.join(",")
    );
    until_done(core, || core.store.execute(&sql)).await
}

/// A reason: one of a closed set of words, and the filter keeps it so whatever a log holds.
fn word(reason: &str) -> String {
    reason.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_').collect()
}
