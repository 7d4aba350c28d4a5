//! Rows of consecutive entries, and what became of their records, until they are cut.
//!
//! Used by the committer while it is live and by the catch-up: both add the same entries in the same order and so get
//! the same blocks.

use super::claims::Claim;
use super::pending::ByProject;
use crate::identity::IdHasher;
use crate::log::EntryHead;
use crate::otlp::{self, Choice, DecodeError, Origin};
use crate::outcome::{Fate, Tally};
use crate::rows::Rows;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Word for records that had been set aside before; they are counted in the table `retries`.
pub(super) const RETRIED: &str = "retried";

/// Key of a row of the table `ledger` inside one cut.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LedgerKey {
    pub(super) project: u32,
    pub(super) fate: &'static str,
    pub(super) signal: &'static str,
    pub(super) reason: String,
}

/// What a row of the table `ledger` counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) records: u64,
    /// Of records taken in again: how many had been received when, ms since the Unix epoch, and were set aside.
    pub(super) set_aside: BTreeMap<i64, u64>,
    /// Bytes of the bodies received, inflated; 0 beside every other fate, and for repeats, which are not kept.
    pub(super) bytes: u64,
}

/// Entries `first..end` as rows.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) rows: Rows,
    pub(super) ledger: BTreeMap<LedgerKey, Counted>,
    pub(super) first: u64,
    pub(super) end: u64,
    /// Records that became rows.
    pub(super) kept: ByProject,
    /// What its entries are known by, for other nodes on the same store.
    pub(super) claims: Vec<Claim>,
    /// Receive time of the first entry, ms since the Unix epoch.
    pub(super) received_ms: Option<i64>,
    /// When the first entry was added.
    pub(super) began: Option<Instant>,
}

impl Gathered {
    /// Nothing yet, the next entry being `first`; `rows` must be empty.
    pub(super) fn begin(rows: Rows, first: u64) -> Self {
        Self {
            rows,
            ledger: BTreeMap::new(),
            first,
            end: first,
            kept: ByProject::new(),
            claims: Vec::new(),
            received_ms: None,
            began: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == self.first
    }

    /// Notes the entry at `position`, whose rows were decoded already.
    pub(super) fn note(&mut self, position: u64, head: &EntryHead) {
        self.end = position + 1;
        let booked_ms = *self.received_ms.get_or_insert(head.received_ms);
        self.began.get_or_insert_with(Instant::now);
        let signal = head.signal.as_str();
        let project = head.project.0;
        let mut count = |fate: Fate, reason: &str, records: u64, bytes: u64| {
            if records > 0 {
                let key = LedgerKey { project, fate: fate_name(fate), signal, reason: reason.to_owned() };
                let counted = self.ledger.entry(key).or_default();
                counted.records += records;
                counted.bytes += bytes;
                if fate == Fate::Retried {
                    // Earlier builds did not write down when it was: the books tell it with the cut then.
                    *counted.set_aside.entry(head.set_aside_ms.unwrap_or(booked_ms)).or_default() += records;
                }
            }
        };
        count(Fate::Received, "", head.tally.received, head.inflated_len);
        for (fate, reason, records) in &head.tally.others {
            count(*fate, reason, *records, 0);
        }
        *self.kept.entry(project).or_default() += kept(head);
        if !head.is_repeat {
            let EntryHead { project, key, received_ms, .. } = *head;
            self.claims.push(Claim { position, project, key, received_ms });
        }
    }

    /// Notes a position whose entry is lost: it gives no rows and no counts.
    pub(super) fn skip(&mut self, position: u64) {
        self.end = position + 1;
    }

    /// Whether a cut is due by size.
    pub(super) fn is_full(&self, max_rows: u64, max_bytes: usize) -> bool {
        self.rows.rows() >= max_rows || self.rows.bytes() >= max_bytes
    }
}

/// The value of the column `fate`.
fn fate_name(fate: Fate) -> &'static str {
    match fate {
        Fate::Received => "received",
        Fate::Rejected => "rejected",
        Fate::SetAside => "set_aside",
        Fate::Ignored => "ignored",
        Fate::Deduplicated => "deduplicated",
        Fate::Retried => RETRIED,
    }
}

/// Records of an entry that became rows.
pub(super) fn kept(head: &EntryHead) -> u64 {
    let ended = head.tally.others.iter().filter(|(fate, ..)| *fate != Fate::Retried);
    head.tally.received.saturating_sub(ended.map(|(_, _, records)| records).sum())
}

/// Decodes a body into `rows`. A panic of the decoder, which would be a mistake in it, costs this request and not the
/// server; `Err(None)` then, and `rows` must be thrown away.
pub(super) fn decode(
    head: &EntryHead,
    body: &[u8],
    ids: &IdHasher,
    rows: &mut Rows,
    choice: Choice<'_>,
) -> Result<Tally, Option<DecodeError>> {
    let origin = Origin {
        project: head.project,
        retention_class: head.retention_class,
        received_ms: head.received_ms,
        ids,
        reads_span_events: head.decoder_version >= otlp::SPAN_EVENTS_SINCE && head.set_aside_ms.is_none(),
    };
    let decoded =
        catch_unwind(AssertUnwindSafe(|| otlp::decode_chosen(head.signal, head.encoding, body, &origin, rows, choice)));
    match decoded {
        Ok(outcome) => outcome.map_err(Some),
        Err(_panic) => Err(None),
    }
}

/// The body of a logged entry, inflated. Its length is known, so nothing can grow beyond it.
pub(super) fn inflate(head: &EntryHead, raw: &[u8]) -> io::Result<Vec<u8>> {
    use crate::log::ContentEncoding;
    let length = usize::try_from(head.inflated_len).map_err(io::Error::other)?;
    let mut body = Vec::with_capacity(length);
    match head.content_encoding {
        ContentEncoding::Identity => body.extend_from_slice(raw),
        ContentEncoding::Gzip => {
            flate2::read::MultiGzDecoder::new(raw).take(head.inflated_len).read_to_end(&mut body)?;
        }
        ContentEncoding::Zstd => {
            zstd::stream::read::Decoder::with_buffer(raw)?.take(head.inflated_len).read_to_end(&mut body)?;
        }
    }
    if body.len() == length {
        Ok(body)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "a logged body inflates to another length than it did"))
    }
}
