//! Records on their way out: encoded, gathered into batches by signal, counted.
//!
//! In: one record at a time from the drain thread. Out: batches into the sending queue. It decides when a batch is full
//! or old enough, nothing else.

use super::encode::{self, Attributes, Buffer, Cursor, ExponentialPoint, Span};
use super::ledger::Ledger;
use super::queue::{Batch, Queue, Receipt, Signal};
use crate::context::Trace;
use crate::problem::Problem;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A batch is sent when it is this large, in bytes before compression. Chosen: far below the 20 MiB and more that OTLP
/// receivers take, large enough that a request's own cost is nothing.
const MAX_BATCH_BYTES: usize = 512 * 1024;
/// A batch is sent when it holds this many records; the usual limit of OTLP receivers' batch processors.
const MAX_BATCH_RECORDS: u64 = 8192;

/// A batch being filled.
#[derive(Debug)]
struct Open {
    items: Buffer,
    records: u64,
    since: Option<Instant>,
}

impl Open {
    const fn new() -> Self {
        Self { items: Buffer::new(), records: 0, since: None }
    }
}

/// The batches being filled, one a signal.
#[derive(Debug)]
pub(crate) struct Outbox {
    logs: Open,
    metrics: Open,
    traces: Open,
    /// A batch this old is sent.
    interval: Duration,
    /// Records not in the books yet: they are entered a batch or a pass at a time, at the latest before they are handed over.
    uncounted: u64,
    ledger: &'static Ledger,
    queue: Arc<Queue>,
}

impl Outbox {
    pub(crate) fn new(interval: Duration, ledger: &'static Ledger, queue: Arc<Queue>) -> Self {
        let [logs, metrics, traces] = [const { Open::new() }; 3];
        Self { logs, metrics, traces, interval, uncounted: 0, ledger, queue }
    }

    fn open(&mut self, signal: Signal) -> &mut Open {
        match signal {
            Signal::Logs => &mut self.logs,
            Signal::Metrics => &mut self.metrics,
            Signal::Traces => &mut self.traces,
        }
    }

    #[inline]
    fn put(&mut self, signal: Signal, write: impl FnOnce(&mut Buffer)) {
        self.uncounted += 1;
        if self.open(signal).since.is_none() {
            self.begin(signal);
        }
        let open = self.open(signal);
        write(&mut open.items);
        open.records += 1;
        if open.items.len() >= MAX_BATCH_BYTES || open.records >= MAX_BATCH_RECORDS {
            self.seal(signal);
        }
    }

    #[cold]
    fn begin(&mut self, signal: Signal) {
        // Logs are nearly everything that is sent.
        let items = if signal == Signal::Logs { Buffer::from(self.queue.spare()) } else { Buffer::new() };
        *self.open(signal) = Open { items, records: 0, since: Some(Instant::now()) };
    }

    /// Enters into the books what has been added since the last time.
    pub(crate) fn count(&mut self) {
        self.ledger.record(std::mem::take(&mut self.uncounted));
    }

    /// Adds one log record; `time_ns` since the Unix epoch.
    pub(crate) fn log(
        &mut self,
        time_ns: u64,
        event_name: &str,
        trace: Trace,
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.put(Signal::Logs, |items| encode::log_record(items, time_ns, event_name, trace, attributes));
    }

    /// Adds one log record that has its times and what `write` adds, at most `room` bytes.
    #[inline]
    pub(crate) fn record(&mut self, time_ns: u64, room: usize, write: impl FnOnce(&mut Cursor<'_>)) {
        self.put(Signal::Logs, |items| encode::short_record(items, time_ns, room, write));
    }

    /// Adds one point of an exponential histogram with the metric's name and unit.
    pub(crate) fn exponential(
        &mut self,
        metric: (&str, &str),
        point: &ExponentialPoint<'_>,
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.put(Signal::Metrics, |items| encode::exponential_histogram(items, metric, point, attributes));
    }

    /// Adds one span.
    pub(crate) fn span(&mut self, span: &Span<'_>, attributes: impl FnOnce(&mut Attributes<'_>)) {
        self.put(Signal::Traces, |items| encode::span(items, span, attributes));
    }

    /// Sends `records` items, encoded one after the other, as a batch of their own; the receipt tells whether they arrived, for
    /// what is told again when it did not.
    pub(crate) fn apart(&mut self, signal: Signal, records: u64, items: Buffer, receipt: Receipt) -> Receipt {
        self.ledger.record(records);
        self.queue.push(Batch::new(signal, items.into_bytes(), records, Some(receipt.clone())));
        receipt
    }

    /// Tells the application about a problem.
    pub(crate) fn tell(&self, problem: Problem) {
        self.queue.tell(problem);
    }

    /// Hands over what is old enough; with `all`, everything.
    pub(crate) fn seal_due(&mut self, all: bool) {
        for signal in [Signal::Logs, Signal::Metrics, Signal::Traces] {
            let interval = self.interval;
            let is_due = self.open(signal).since.is_some_and(|since| all || since.elapsed() >= interval);
            if is_due {
                self.seal(signal);
            }
        }
    }

    fn seal(&mut self, signal: Signal) {
        let open = std::mem::replace(self.open(signal), Open::new());
        if open.items.is_empty() {
            return;
        }
        self.count();
        self.queue.push(Batch::new(signal, open.items.into_bytes(), open.records, None));
    }
}
