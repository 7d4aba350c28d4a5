//! Telling the server what was dropped, each drop once.
//!
//! In: the counts of call sites and of what lies behind the rings. Out: points of the metric of drops. A report that is lost on
//! its way takes its counts back, so that a later one tells them.

use super::encode::Buffer;
use super::outbox::Outbox;
use super::queue::{Receipt, Signal};
use crate::callsite::REASONS;
use crate::problem::Problem;
use crate::{clock, context, query, state};
use gemba_conventions::{DropReason, attribute, metric};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often drops are reported.
const REPORT_DROPS: Duration = Duration::from_secs(10);

/// What a count of drops belongs to: file and line of the call site (empty behind the rings), and the reason.
type DropKey = (&'static str, u32, DropReason);

/// What has been reported about drops, so that each is reported once.
pub(super) struct DropReports {
    /// Reported and not known to be lost, by call site (file, line) and reason.
    reported: Option<HashMap<DropKey, u64>>,
    /// Reports whose fate is open, with what each counted: a lost one takes its counts back.
    waiting: Vec<(Receipt, Vec<(DropKey, u64)>)>,
    last: Option<(Instant, u64)>,
}

impl DropReports {
    pub(super) const fn new() -> Self {
        Self { reported: None, waiting: Vec::new(), last: None }
    }

    /// Sends what has been dropped since the last report; `now` even while an earlier report is on its way or spooled.
    pub(super) fn report(&mut self, outbox: &mut Outbox, now: bool) {
        if state::is_withheld() {
            // Nothing is sent without consent; given again, the next report holds the counts.
            return;
        }
        let reported = self.reported.get_or_insert_default();
        self.waiting.retain(|(receipt, counts)| {
            if receipt.fate() == Some(false) {
                for (key, count) in counts {
                    if let Some(total) = reported.get_mut(key) {
                        *total = total.saturating_sub(*count);
                    }
                }
            }
            receipt.fate().is_none()
        });
        if !now && !self.waiting.is_empty() {
            return;
        }
        let time_ns = clock::wall_now_ns();
        let start_ns = self.last.map_or(time_ns, |(_, time_ns)| time_ns);
        if !now && self.last.is_some_and(|(when, _)| when.elapsed() < REPORT_DROPS) {
            return;
        }
        let mut counts = Vec::new();
        let mut points = Vec::new();
        let mut add = |site: (&'static str, u32, &'static str), reason: DropReason, total: u64| {
            let key = (site.0, site.1, reason);
            let known = reported.get(&key).copied();
            let new = total.saturating_sub(known.unwrap_or(0));
            if new > 0 {
                counts.push((key, new));
                points.push((site, reason, new));
            }
            new > 0 && known.is_none()
        };
        for site in crate::callsite::counting() {
            for (reason, total) in site.counts() {
                let is_first = add((site.file(), site.line(), site.name()), reason, total);
                if is_first && reason == DropReason::GuardIgnored {
                    outbox.tell(Problem::GuardIgnored { feature: site.name(), file: site.file(), line: site.line() });
                }
            }
        }
        for reason in DropReason::ALL.iter().filter(|reason| !REASONS.contains(reason)) {
            let total = match reason {
                DropReason::NoContext => context::refused() + query::refused(),
                _ => super::LEDGER.dropped(*reason),
            };
            add(("", 0, ""), *reason, total);
        }
        self.last = Some((Instant::now(), time_ns));
        if points.is_empty() {
            return;
        }
        let mut items = Buffer::default();
        for ((file, line, name), reason, count) in &points {
            super::encode::counter(&mut items, metric::SDK_DROPPED, (start_ns, time_ns), *count, |attributes| {
                attributes.text(attribute::REASON, reason.as_str());
                if !file.is_empty() {
                    attributes.text(attribute::CALLSITE, &format!("{file}:{line} {name}"));
                }
            });
        }
        // Whole: counts that arrived and were told again would be doubled.
        let receipt = outbox.apart(Signal::Metrics, points.len() as u64, items, Receipt::whole());
        for (key, count) in &counts {
            *reported.entry(*key).or_default() += count;
        }
        self.waiting.push((receipt, counts));
    }
}
