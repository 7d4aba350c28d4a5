//! Samples: which single calls of a query are kept as spans, beside the exact counts.
//!
//! In: one [`Measured`]. Out: [`Sample`]s, turned into client spans by the drain. Kept are: slow calls, above the
//! threshold (200 ms unless set otherwise) or above the query's own 99th percentile; failed calls; and one ordinary call
//! per query and minute. Rates are bounded, so that a bad day floods nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::known::Known;
use super::status::StatusCode;
use super::table::{Code, Measured};
use crate::callsite::StepDeclaration;
use crate::context::{ContextId, Resolved, Trace};
use crate::pipeline::encode::{Span, SpanKind};
use crate::pipeline::outbox::Outbox;
use crate::pipeline::records::attempt_id;
use gemba_conventions::attribute;

/// Default threshold of a slow query, in nanoseconds: 200 ms, where people begin to notice that they wait.
const SLOW_NS: u64 = 200_000_000;
/// Failed calls kept per second.
const FAILED_PER_SECOND: u64 = 10;
/// Slow calls kept per second. Chosen: ten times the failed ones.
const SLOW_PER_SECOND: u64 = 100;
/// Time between two ordinary samples of one query.
const ORDINARY_NS: u64 = 60_000_000_000;
/// Time between two samples of one query above its own 99th percentile but below the threshold.
const TAIL_NS: u64 = 1_000_000_000;

static THRESHOLD_NS: AtomicU64 = AtomicU64::new(SLOW_NS);
static FAILED: Rate = Rate::new(FAILED_PER_SECOND);
static SLOW: Rate = Rate::new(SLOW_PER_SECOND);

/// Sets from when on a query counts as slow; default 200 ms.
pub(crate) fn set_threshold(threshold: Duration) {
    THRESHOLD_NS.store(u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// At most so many a second.
struct Rate {
    /// The second in the upper 32 bits, how many so far in the lower.
    state: AtomicU64,
    per_second: u64,
}

impl Rate {
    const fn new(per_second: u64) -> Self {
        Self { state: AtomicU64::new(0), per_second }
    }

    fn take(&self, now_ns: u64) -> bool {
        let second = (now_ns / 1_000_000_000) & 0xffff_ffff;
        let next = |state: u64| {
            let taken = if state >> 32 == second { state & 0xffff_ffff } else { 0 };
            (taken < self.per_second).then_some(second << 32 | (taken + 1))
        };
        self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

/// Why a call was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SampleKind {
    Slow,
    Failed,
    Ordinary,
}

impl SampleKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Failed => "failed",
            Self::Ordinary => "ordinary",
        }
    }
}

/// Whether this call is to be kept, and why.
#[inline]
pub(crate) fn due(measured: &Measured) -> Option<SampleKind> {
    let query = measured.query;
    let is_above = measured.elapsed_ns > query.tail_ns.load(Ordering::Relaxed);
    let is_slow = measured.elapsed_ns >= THRESHOLD_NS.load(Ordering::Relaxed);
    let now_ns = measured.end_ns;
    let is_ordinary = now_ns >= query.ordinary_due_ns.load(Ordering::Relaxed);
    if measured.error.is_empty() && !is_above && !is_slow && !is_ordinary {
        return None;
    }
    if !measured.error.is_empty() && FAILED.take(now_ns) {
        return Some(SampleKind::Failed);
    }
    if (is_slow && SLOW.take(now_ns)) || (is_above && turn(&query.tail_due_ns, now_ns, TAIL_NS) && SLOW.take(now_ns)) {
        return Some(SampleKind::Slow);
    }
    let is_due = is_ordinary && measured.error.is_empty() && turn(&query.ordinary_due_ns, now_ns, ORDINARY_NS);
    is_due.then_some(SampleKind::Ordinary)
}

/// Whether it is this caller's turn; then the next one comes after `interval_ns`.
fn turn(due_ns: &AtomicU64, now_ns: u64, interval_ns: u64) -> bool {
    let due = due_ns.load(Ordering::Relaxed);
    now_ns >= due && due_ns.compare_exchange(due, now_ns + interval_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// One call that was kept.
#[derive(Debug)]
pub(crate) struct Sample {
    kind: SampleKind,
    query: &'static Known,
    code: Code,
    pub(crate) context: ContextId,
    step: Option<&'static StepDeclaration>,
    trace: Trace,
    end_ticks: u64,
    elapsed_ns: u64,
    rows: Option<u64>,
    error: &'static str,
    status: Option<StatusCode>,
}

impl Sample {
    pub(crate) fn new(kind: SampleKind, measured: &Measured, step: Option<&'static StepDeclaration>) -> Self {
        Self {
            kind,
            query: measured.query,
            code: measured.code,
            context: measured.context,
            step,
            trace: Trace::current(),
            end_ticks: measured.end_ticks,
            elapsed_ns: measured.elapsed_ns,
            rows: measured.rows,
            error: measured.error,
            status: measured.status,
        }
    }

    /// Adds the call as a client span; `wall_ns` turns ticks into nanoseconds since the Unix epoch.
    pub(crate) fn send(&self, context: &Resolved<'_>, outbox: &mut Outbox, wall_ns: impl Fn(u64) -> u64) {
        let trace = if self.trace == Trace::default() { context.trace } else { self.trace };
        let end_ns = wall_ns(self.end_ticks);
        let name = [self.query.name, self.query.summary(), self.query.dialect.system()];
        let trace_id = if trace == Trace::default() { random_trace_id() } else { trace.trace_id };
        let span = Span {
            kind: SpanKind::Client,
            trace_id,
            id: (crate::config::random_u64() | 1).to_be_bytes(),
            parent_id: trace.span_id,
            name: name.into_iter().find(|name| !name.is_empty()).unwrap_or_default(),
            start_ns: end_ns.saturating_sub(self.elapsed_ns),
            end_ns,
            is_error: !self.error.is_empty(),
        };
        outbox.span(&span, |attributes| {
            attributes.text(attribute::DB_SYSTEM, self.query.dialect.system());
            attributes.some_text(attribute::DB_QUERY_TEXT, self.query.text());
            attributes.some_text(attribute::DB_QUERY_SUMMARY, self.query.summary());
            attributes.text(attribute::QUERY_FINGERPRINT, &self.query.wire_fingerprint());
            attributes.some_text(attribute::QUERY_NAME, self.query.name);
            attributes.text(attribute::QUERY_SAMPLE, self.kind.as_str());
            if let Some(rows) = self.rows {
                attributes.unsigned(attribute::DB_RETURNED_ROWS, rows);
            }
            attributes.some_text(attribute::ERROR_TYPE, self.error);
            if let Some(status) = self.status {
                attributes.text(attribute::DB_STATUS_CODE, &status.to_string());
            }
            attributes.some_text(attribute::USER_ID, context.user);
            attributes.some_text(attribute::SESSION_ID, context.session);
            attributes.some_text(attribute::TENANT, context.tenant);
            attributes.some_text(attribute::HTTP_ROUTE, context.route);
            attributes.some_text(attribute::FEATURE_NAME, context.feature.unwrap_or_default());
            if context.attempt != 0 {
                attributes.text(attribute::ATTEMPT_ID, &attempt_id(context.attempt));
            }
            if let Some(step) = self.step {
                attributes.text(attribute::FUNNEL_NAME, step.funnel());
                attributes.text(attribute::STEP_NAME, step.step());
            }
            if !self.code.file.is_empty() {
                attributes.text(attribute::CODE_FILE, self.code.file);
                attributes.integer(attribute::CODE_LINE, i64::from(self.code.line));
            }
        });
    }
}

fn random_trace_id() -> [u8; 16] {
    let mut id = [0; 16];
    let (high, low) = id.split_at_mut(8);
    high.copy_from_slice(&crate::config::random_u64().to_be_bytes());
    low.copy_from_slice(&(crate::config::random_u64() | 1).to_be_bytes());
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_so_many_through_each_second() {
        let rate = Rate::new(3);
        let second = 1_000_000_000;
        assert_eq!((0..10).filter(|at| rate.take(7 * second + at)).count(), 3);
        assert_eq!((0..10).filter(|at| rate.take(8 * second + at)).count(), 3);
    }

    #[test]
    fn one_turn_per_interval() {
        let due = AtomicU64::new(0);
        assert!(turn(&due, 100, 60));
        assert!(!turn(&due, 159, 60));
        assert!(turn(&due, 160, 60));
    }
}
