//! Usage: which queries ran inside one scope, attempt or step, and what they cost the person who waited.
//!
//! In: the threads' lines of usage. Out: one `gemba.query.usage` record per context and step, when the context ends or
//! every [`INTERVAL`]. Statements per attempt are exact: whatever thread a query ran on, its call is in one of them.

use std::collections::BTreeMap;
use std::ptr;
use std::time::{Duration, Instant};

use super::known::{Known, OTHER};
use super::table::{Code, Counts, Usage};
use crate::callsite::StepDeclaration;
use crate::context::{self, ContextId, Retired};
use crate::pipeline::outbox::Outbox;
use crate::pipeline::records::attempt_id;
use gemba_conventions::{attribute, event};

/// Longest time a context's usage is kept before it is sent; the design's 10 seconds.
const INTERVAL: Duration = Duration::from_secs(10);
/// Lines of one record; the rest is added up in the line `other`. The design's number.
const MAX_LINES: usize = 32;
/// Different queries kept for one context until it is sent; the rest is added to `other` at once.
const MAX_KEPT: usize = 256;

/// Lines kept for all contexts together; further ones are added to their contexts' `other`. Chosen: some megabytes, in which
/// 4,000 requests of eight queries wait for their end.
const MAX_KEPT_TOTAL: usize = 32_768;

/// One query from one line of code.
#[derive(Debug)]
struct Line {
    query: &'static Known,
    code: Code,
    counts: Counts,
}

/// What ran in one context and step since the last record.
#[derive(Debug)]
struct Pending {
    step: Option<&'static StepDeclaration>,
    /// By query, file and line.
    lines: BTreeMap<(usize, &'static str, u32), Line>,
    since: Instant,
    /// Of the clock, when the last of them ended.
    last_ticks: u64,
}

/// Everything not sent yet.
#[derive(Debug)]
pub(crate) struct Pendings {
    /// By context and address of the step.
    by_context: BTreeMap<(u32, usize), Pending>,
    /// Lines of all of them.
    lines: usize,
}

impl Pendings {
    pub(crate) const fn new() -> Self {
        Self { by_context: BTreeMap::new(), lines: 0 }
    }

    /// Adds one line of a thread's table.
    pub(crate) fn add(&mut self, usage: &Usage) {
        let step = usage.step.map_or(0, |step| ptr::from_ref(step) as usize);
        let pending = self.by_context.entry((usage.context.0, step)).or_insert_with(|| Pending {
            step: usage.step,
            lines: BTreeMap::new(),
            since: Instant::now(),
            last_ticks: usage.last_ticks,
        });
        pending.last_ticks = pending.last_ticks.max(usage.last_ticks);
        let mut line = Line { query: usage.query, code: usage.code, counts: usage.counts };
        let mut key = (ptr::from_ref(line.query) as usize, line.code.file, line.code.line);
        let is_full = pending.lines.len() >= MAX_KEPT || self.lines >= MAX_KEPT_TOTAL;
        if is_full && !pending.lines.contains_key(&key) {
            line = Line { query: &OTHER, code: Code::default(), counts: line.counts };
            key = (ptr::from_ref(line.query) as usize, "", 0);
        }
        let before = pending.lines.len();
        pending.lines.entry(key).and_modify(|kept| kept.counts.add(line.counts)).or_insert(line);
        self.lines += pending.lines.len() - before;
    }

    /// Sends what belongs to ended contexts and what is old; with `all`, everything.
    pub(crate) fn send(&mut self, retired: &Retired, all: bool, outbox: &mut Outbox, wall_ns: impl Fn(u64) -> u64) {
        for ended in retired.ids() {
            let of_context: Vec<_> =
                self.by_context.range((ended.0, 0)..=(ended.0, usize::MAX)).map(|(key, _)| *key).collect();
            for key in of_context {
                if let Some(pending) = self.by_context.remove(&key) {
                    self.lines -= pending.lines.len();
                    send_one(retired, *ended, &pending, outbox, &wall_ns);
                }
            }
        }
        self.by_context.retain(|(context, _), pending| {
            let is_due = all || pending.since.elapsed() >= INTERVAL;
            if is_due {
                self.lines -= pending.lines.len();
                send_one(retired, ContextId(*context), pending, outbox, &wall_ns);
            }
            !is_due
        });
    }

    /// Forgets everything: nobody takes records.
    pub(crate) fn clear(&mut self) {
        self.by_context.clear();
        self.lines = 0;
    }
}

/// The lines of a record: the costliest, and the rest in one.
fn top(pending: &Pending) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::with_capacity(pending.lines.len());
    let mut other = Line { query: &OTHER, code: Code::default(), counts: Counts::default() };
    for line in pending.lines.values() {
        if line.query.fingerprint == 0 {
            other.counts.add(line.counts);
        } else {
            lines.push(Line { query: line.query, code: line.code, counts: line.counts });
        }
    }
    lines.sort_by_key(|line| std::cmp::Reverse((line.counts.total_ns, line.counts.calls)));
    let room = if lines.len() > MAX_LINES || other.counts.calls > 0 { MAX_LINES - 1 } else { MAX_LINES };
    for line in lines.iter().skip(room) {
        other.counts.add(line.counts);
    }
    lines.truncate(room);
    if other.counts.calls > 0 {
        lines.push(other);
    }
    lines
}

fn send_one(retired: &Retired, id: ContextId, pending: &Pending, outbox: &mut Outbox, wall_ns: &impl Fn(u64) -> u64) {
    let context = context::resolve(retired, id);
    let lines = top(pending);
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let numbers = |of: fn(&Counts) -> u64| lines.iter().map(move |line| signed(of(&line.counts)));
    let fingerprints: Vec<String> = lines.iter().map(|line| line.query.wire_fingerprint()).collect();
    let codes: Vec<String> = lines.iter().map(|line| code_text(line.code)).collect();
    outbox.log(wall_ns(pending.last_ticks), event::QUERY_USAGE, context.trace, |attributes| {
        attributes.some_text(attribute::USER_ID, context.user);
        attributes.some_text(attribute::SESSION_ID, context.session);
        attributes.some_text(attribute::TENANT, context.tenant);
        attributes.some_text(attribute::HTTP_ROUTE, context.route);
        attributes.some_text(attribute::FEATURE_NAME, context.feature.unwrap_or_default());
        if context.attempt != 0 {
            attributes.text(attribute::ATTEMPT_ID, &attempt_id(context.attempt));
        }
        if let Some(step) = pending.step {
            attributes.text(attribute::FUNNEL_NAME, step.funnel());
            attributes.text(attribute::STEP_NAME, step.step());
        }
        attributes.texts(attribute::USAGE_FINGERPRINTS, fingerprints.iter().map(String::as_str));
        attributes.texts(attribute::USAGE_CODE, codes.iter().map(String::as_str));
        attributes.integers(attribute::USAGE_CALLS, numbers(|counts| counts.calls));
        attributes.integers(attribute::USAGE_TOTAL_NS, numbers(|counts| counts.total_ns));
        attributes.integers(attribute::USAGE_MAX_NS, numbers(|counts| counts.max_ns));
        attributes.integers(attribute::USAGE_ROWS, numbers(|counts| counts.rows));
        attributes.integers(attribute::USAGE_ERRORS, numbers(|counts| counts.errors));
    });
}

/// `file:line`, or nothing.
pub(crate) fn code_text(code: Code) -> String {
    if code.file.is_empty() { String::new() } else { format!("{}:{}", code.file, code.line) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Dialect, known};

    fn pending(queries: u64) -> Pending {
        let mut pendings = Pendings::new();
        for number in 1..=queries {
            let name: &'static str = Box::leak(format!("usage.test_{number}").into_boxed_str());
            let counts = Counts { calls: 2, total_ns: number, max_ns: number, rows: 1, errors: 0 };
            pendings.add(&Usage::of(ContextId(7), known::by_name(Dialect::Sqlite, name), counts));
        }
        pendings.by_context.into_values().next().unwrap()
    }

    #[test]
    fn a_record_holds_the_costliest_lines_and_the_sum_of_the_rest() {
        let lines = top(&pending(40));
        assert_eq!(lines.len(), MAX_LINES);
        assert_eq!(lines[0].counts.total_ns, 40);
        let other = lines.last().unwrap();
        assert_eq!((other.query.fingerprint, other.counts.calls, other.counts.max_ns), (0, 18, 9));
        assert_eq!(lines.iter().map(|line| line.counts.calls).sum::<u64>(), 80, "no call is missing");
    }

    #[test]
    fn a_full_record_needs_no_rest() {
        let lines = top(&pending(32));
        assert_eq!(lines.len(), 32);
        assert!(lines.iter().all(|line| line.query.fingerprint != 0));
    }

    #[test]
    fn a_context_keeps_a_bounded_number_of_queries_and_all_calls() {
        let pending = pending(300);
        assert_eq!(pending.lines.len(), MAX_KEPT + 1);
        assert_eq!(pending.lines.values().map(|line| line.counts.calls).sum::<u64>(), 600);
    }
}
