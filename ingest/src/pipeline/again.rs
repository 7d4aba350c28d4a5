//! Entries of the log as rows once more: of a cut that is to be stored after a start, or otherwise than it was gathered.
//!
//! In: a cut, or a reader of the log. Out: the rows and counts of its entries, without the records that ClickHouse refuses and
//! without the entries that another node claimed. Stores nothing.

use super::core::{Core, chain};
use super::gather::{self, Gathered};
use crate::log::cuts::{Cut, Refusal};
use crate::log::{EntryHead, LogError, ReadEntry, Reader};
use crate::otlp::Choice;
use crate::outcome::{Fate, Reason};
use crate::rows::Rows;
use std::sync::Arc;
use std::time::Duration;

/// Pause after the disk failed to give back what was written.
const PAUSE: Duration = Duration::from_secs(10);

/// Reads entries again, from a position on.
pub(super) type ReadLog = Arc<dyn Fn(u64) -> Reader + Send + Sync>;

/// Reads a cut's entries from the log and decodes them again.
pub(super) async fn gather_again(core: &Arc<Core>, cut: &Cut, read_log: &ReadLog) -> Gathered {
    let (first, end) = (cut.first, cut.end);
    loop {
        let (core, read_log) = (Arc::clone(core), Arc::clone(read_log));
        let (lost, refused) = (cut.lost.clone(), cut.refused.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let mut reader = read_log(first);
            let mut gathered = Gathered::begin(core.spare_rows(), first);
            while gathered.end < end && add_next(&core, &mut reader, &mut gathered, &lost, &refused)? {}
            Ok::<_, LogError>(gathered)
        });
        match reading.await {
            Ok(Ok(gathered)) => return gathered,
            Ok(Err(error)) => tracing::error!(error = chain(&error), "the log cannot be read"),
            Err(error) => tracing::error!(%error, "reading the log was broken off"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Adds the next durable entry to what is gathered, without the records refused; false when there is none. Entries at
/// positions in `lost`, which rise, give counts of repeats instead of rows. Blocks for the disk.
pub(super) fn add_next(
    core: &Core,
    reader: &mut Reader,
    gathered: &mut Gathered,
    lost: &[u64],
    refused: &[Refusal],
) -> Result<bool, LogError> {
    let (position, mut head, raw) = match reader.read()? {
        None => return Ok(false),
        Some(ReadEntry::Damaged { position }) => {
            gathered.skip(position);
            return Ok(true);
        }
        Some(ReadEntry::Entry { position, head, body }) => (position, head, body),
    };
    if lost.binary_search(&position).is_ok() {
        let repeated = gather::kept(&head);
        head.tally.others.retain(|(fate, ..)| *fate != Fate::Retried);
        head.tally.others.push((Fate::Deduplicated, Reason::Repeat.as_str().to_owned(), repeated));
    } else if !head.is_repeat {
        let refusal = refused.binary_search_by_key(&position, |refusal| refusal.position).ok();
        let choice = match refusal.and_then(|index| refused.get(index)) {
            None => Choice::ALL,
            Some(Refusal { records, problem, .. }) => {
                let aside = (Fate::SetAside, Reason::RefusedByStore.as_str().to_owned(), records.len() as u64);
                head.tally.others.push(aside);
                Choice { refused: records, problem, ..Choice::ALL }
            }
        };
        if let Err(problem) = decode_again(core, &head, &raw, &mut gathered.rows, choice) {
            // It was decoded before it was acknowledged: only a changed decoder can say otherwise.
            tracing::error!(position, problem, "an acknowledged entry can no longer be decoded");
            gathered.skip(position);
            return Ok(true);
        }
    }
    gathered.note(position, &head);
    Ok(true)
}

/// Decodes the body of a logged entry.
pub(super) fn decode_again(
    core: &Core,
    head: &EntryHead,
    raw: &[u8],
    rows: &mut Rows,
    choice: Choice<'_>,
) -> Result<(), String> {
    let body = gather::inflate(head, raw).map_err(|error| error.to_string())?;
    gather::decode(head, &body, &core.ids, rows, choice)
        .map(drop)
        .map_err(|error| error.map_or_else(|| "the decoder panicked".to_owned(), |error| error.to_string()))
}
