//! The books: every record is in exactly one place, and each place has a counter.
//!
//! In: one call per change of place. Out: [`Stats`]. Records dropped on the caller's thread are counted at their call
//! site and added here when asked.

use crate::callsite;
use gemba_conventions::DropReason;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of reasons plus one: a reason's code is its index.
const REASON_SLOTS: usize = DropReason::ALL.len() + 1;

/// Where records wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the memory of this process.
    Memory,
    /// In the spool on disk.
    Spool,
}

/// Counts of records since the start.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    recorded: AtomicU64,
    adopted: AtomicU64,
    delivered: AtomicU64,
    unconfirmed: AtomicU64,
    pending: AtomicU64,
    spooled: AtomicU64,
    dropped: [AtomicU64; REASON_SLOTS],
    left_out: AtomicU64,
}

/// The books of the process.
pub(crate) static LEDGER: Ledger = Ledger {
    recorded: AtomicU64::new(0),
    adopted: AtomicU64::new(0),
    delivered: AtomicU64::new(0),
    unconfirmed: AtomicU64::new(0),
    pending: AtomicU64::new(0),
    spooled: AtomicU64::new(0),
    dropped: [const { AtomicU64::new(0) }; REASON_SLOTS],
    left_out: AtomicU64::new(0),
};

impl Ledger {
    /// `records` were taken and wait for their delivery.
    pub(crate) fn record(&self, records: u64) {
        // Pending first: a reader in between sees too much pending, never a record that is nowhere.
        self.pending.fetch_add(records, Ordering::Relaxed);
        self.recorded.fetch_add(records, Ordering::Relaxed);
    }

    /// `records` on disk were taken over from an earlier process.
    pub(crate) fn adopt(&self, records: u64) {
        self.spooled.fetch_add(records, Ordering::Relaxed);
        self.adopted.fetch_add(records, Ordering::Relaxed);
    }

    fn waiting(&self, place: Place) -> &AtomicU64 {
        match place {
            Place::Memory => &self.pending,
            Place::Spool => &self.spooled,
        }
    }

    /// The server acknowledged `records` that waited in `place`.
    pub(crate) fn deliver(&self, place: Place, records: u64) {
        self.delivered.fetch_add(records, Ordering::Relaxed);
        self.waiting(place).fetch_sub(records, Ordering::Relaxed);
    }

    /// `records` that waited in `place` are dropped.
    pub(crate) fn drop_records(&self, place: Place, reason: DropReason, records: u64) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            counter.fetch_add(records, Ordering::Relaxed);
        }
        self.waiting(place).fetch_sub(records, Ordering::Relaxed);
    }

    /// `records` that waited in memory are on disk now.
    pub(crate) fn spool(&self, records: u64) {
        self.spooled.fetch_add(records, Ordering::Relaxed);
        self.pending.fetch_sub(records, Ordering::Relaxed);
    }

    /// `records` were sent, but the process ends before an answer.
    pub(crate) fn leave_unconfirmed(&self, records: u64) {
        self.unconfirmed.fetch_add(records, Ordering::Relaxed);
        self.pending.fetch_sub(records, Ordering::Relaxed);
    }

    /// An event of somebody outside the sample is left out.
    pub(crate) fn leave_out(&self) {
        self.left_out.fetch_add(1, Ordering::Relaxed);
    }

    /// Records dropped behind the rings so far.
    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut dropped = Vec::new();
        let mut at_callers = 0;
        let mut ignored_guards = 0;
        let sites: Vec<_> = callsite::counting().collect();
        for reason in DropReason::ALL {
            let of_callers: u64 = sites
                .iter()
                .flat_map(|site| site.counts())
                .filter(|(of, _)| of == reason)
                .map(|(_, count)| count)
                .sum();
            if *reason == DropReason::GuardIgnored {
                ignored_guards = of_callers;
                continue;
            }
            at_callers += of_callers;
            let total = of_callers + self.dropped(*reason);
            if total > 0 {
                dropped.push((*reason, total));
            }
        }
        Stats {
            recorded: self.recorded.load(Ordering::Relaxed) + at_callers,
            adopted: self.adopted.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            unconfirmed: self.unconfirmed.load(Ordering::Relaxed),
            pending: self.pending.load(Ordering::Relaxed),
            spooled: self.spooled.load(Ordering::Relaxed),
            dropped,
            without_context: crate::context::refused(),
            ignored_guards,
            left_out: self.left_out.load(Ordering::Relaxed),
        }
    }
}

/// Where everything is: recorded + adopted = delivered + dropped + unconfirmed + pending + spooled.
///
/// ```
/// let stats = gemba::stats();
/// for (reason, records) in &stats.dropped {
///     println!("{records} records dropped: {reason}");
/// }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records taken or refused so far: events, declarations, points of metrics and spans.
    pub recorded: u64,
    /// Records an earlier process of this service left in the [spool](crate::Config::spool), taken over by this one.
    pub adopted: u64,
    /// Acknowledged by the server.
    pub delivered: u64,
    /// Sent without an answer when the process stopped: the server may or may not have them.
    pub unconfirmed: u64,
    /// Still on their way inside this process.
    pub pending: u64,
    /// On disk in the [spool](crate::Config::spool), waiting for the server; at the end left to a later process.
    pub spooled: u64,
    /// Dropped, by reason; only reasons that occurred.
    pub dropped: Vec<(DropReason, u64)>,
    /// Scopes that found no room; their records are kept, without identity.
    pub without_context: u64,
    /// Attempts whose guard was dropped at once, as by `let _ = attempt!(..)`; recorded as abandoned with reason `ignored`.
    pub ignored_guards: u64,
    /// Events of people outside the [sample](crate::Config::sample_rate); they are not among the recorded ones.
    pub left_out: u64,
}

impl Stats {
    /// Records dropped for any reason.
    ///
    /// ```
    /// assert_eq!(gemba::Stats::default().dropped_total(), 0);
    /// ```
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(|(_, count)| count).sum()
    }
}
