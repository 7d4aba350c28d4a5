//! What becomes of a record: every record received ends in exactly one [`Fate`], with a [`Reason`] where there is one.
//!
//! Law: received = stored + pending + rejected + set aside + ignored + deduplicated, in records.

use std::fmt;

/// Where a record ended. The code is the value of the column `fate` in the table `ledger`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Fate {
    /// Offered by a client with a valid key and decoded.
    Received = 1,
    /// A rule said no; the client is told by partial success.
    Rejected = 2,
    /// Kept aside with a reason, can be listed; the client is told by partial success.
    SetAside = 3,
    /// Valid, and not something Gemba keeps (an internal span, a runtime metric); the client is told nothing, since
    /// nothing is wrong.
    Ignored = 4,
    /// Came before under the same key.
    Deduplicated = 5,
    /// Was set aside before and is taken in once more. No end of a record: it says beside the other fates how many of those
    /// received here are not new.
    Retried = 6,
}

/// Why a record was rejected, set aside or ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A log record without an event name.
    MissingEventName,
    /// An event name longer than 256 bytes.
    EventNameTooLong,
    /// One of our own records lacks an attribute it cannot do without.
    MissingAttribute,
    /// One of our own records carries a value outside its set or range.
    InvalidAttribute,
    /// A time outside 1970 to 2262.
    TimeOutOfRange,
    /// Attributes of the record exceed 1 MiB or 512 keys.
    TooLarge,
    /// A string is not valid UTF-8.
    InvalidUtf8,
    /// Arrays or maps nested deeper than 64.
    TooDeep,
    /// A span that is neither a database query with text nor a served request.
    SpanNotKept,
    /// A metric Gemba does not read.
    MetricNotKept,
    /// A data point marked as holding no value.
    NoRecordedValue,
    /// ClickHouse refused the record, whatever insert it was in.
    RefusedByStore,
    /// A repeat of a batch already acknowledged.
    Repeat,
}

impl Reason {
    /// The word in answers, metrics and the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingEventName => "missing_event_name",
            Self::EventNameTooLong => "event_name_too_long",
            Self::MissingAttribute => "missing_attribute",
            Self::InvalidAttribute => "invalid_attribute",
            Self::TimeOutOfRange => "time_out_of_range",
            Self::TooLarge => "too_large",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TooDeep => "too_deep",
            Self::SpanNotKept => "span_not_kept",
            Self::MetricNotKept => "metric_not_kept",
            Self::NoRecordedValue => "no_recorded_value",
            Self::RefusedByStore => "refused_by_store",
            Self::Repeat => "repeat",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The fates of the records of one request that did not become rows; `received` minus their sum became rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records in the request.
    pub received: u64,
    /// Fate and reason with a count, each pair once, in no order.
    pub others: Vec<(Fate, Reason, u64)>,
    /// For the client: what was wrong with the first record rejected or set aside, naming the field and the remedy.
    pub first_problem: Option<String>,
}

impl Tally {
    /// Counts `records` under a fate other than stored.
    pub fn add(&mut self, fate: Fate, reason: Reason, records: u64) {
        match self.others.iter_mut().find(|(f, r, _)| (*f, *r) == (fate, reason)) {
            Some((_, _, count)) => *count += records,
            None => self.others.push((fate, reason, records)),
        }
    }

    /// Records of one fate.
    pub fn of(&self, fate: Fate) -> u64 {
        self.others.iter().filter(|(f, ..)| *f == fate).map(|(_, _, count)| count).sum()
    }

    /// Records that became rows.
    pub fn kept(&self) -> u64 {
        self.received.saturating_sub(self.others.iter().map(|(_, _, count)| count).sum())
    }

    /// Records the client is told were not accepted (partial success).
    pub fn refused(&self) -> u64 {
        self.of(Fate::Rejected) + self.of(Fate::SetAside)
    }
}
