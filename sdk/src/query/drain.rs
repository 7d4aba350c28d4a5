//! The queries' part of a drain pass: threads' tables in, histograms, usage records, declarations and samples out.
//!
//! In: the tables, the contexts that ended, the outbox. Out: records in the outbox. It runs inside the SDK's drain pass,
//! which holds the contexts that ended until [`Drain::pass`] says that every table was read.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ptr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::FINGERPRINT_VERSION;
use super::histogram::Histogram;
use super::known::Known;
use super::sample::Sample;
use super::status::StatusCode;
use super::table::{self, Series, SeriesOf, Table, Usage};
use super::usage::Pendings;
use crate::context::{self, Retired, Trace};
use crate::pipeline::declared::Declared;
use crate::pipeline::encode::{self, Buffer, ExponentialPoint};
use crate::pipeline::outbox::Outbox;
use crate::pipeline::queue::{Receipt, Signal};
use gemba_conventions::{HISTOGRAM_SCALE, attribute, event, metric};

/// How often the histograms are sent. Chosen: fine enough to see a minute, a point costs 400 bytes before compression.
const METRIC_INTERVAL: Duration = Duration::from_secs(10);
/// Calls a query needs before its own 99th percentile says anything: two beyond it.
const MIN_TAIL_CALLS: u64 = 200;
/// Calls after which the percentile is learnt anew, so that it follows the present.
const MAX_TAIL_CALLS: u64 = 20_000;

/// Points of the metric gathered until they are sent; further ones are counted as `other`. Chosen: four for each fingerprint.
const MAX_POINTS: usize = 8192;
/// Texts are declared in batches of about this many bytes; as large as the batches of events.
const MAX_DECLARED_BYTES: usize = 512 * 1024;

/// What is sent before its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// Nothing.
    Nothing,
    /// The points of the metric: time is about to jump.
    Points,
    /// Everything.
    All,
}

/// What makes a point of the metric, by text and not by address: one line of code may have several addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PointKey {
    query: usize,
    error: &'static str,
    status: Option<StatusCode>,
    feature: &'static str,
    funnel: &'static str,
    step: &'static str,
    file: &'static str,
    line: u32,
}

impl PointKey {
    fn of(of: &SeriesOf) -> Self {
        Self {
            query: ptr::from_ref(of.query) as usize,
            error: of.error,
            status: of.status,
            feature: of.feature.map_or("", |feature| feature.name()),
            funnel: of.step.map_or("", |step| step.funnel()),
            step: of.step.map_or("", |step| step.step()),
            file: of.code.file,
            line: of.code.line,
        }
    }
}

/// What the drain remembers of a query.
#[derive(Debug)]
struct Remembered {
    query: &'static Known,
    declared: Declared,
    recent: Histogram,
}

/// State between passes.
#[derive(Debug)]
pub(crate) struct Drain {
    points: BTreeMap<PointKey, Histogram>,
    queries: BTreeMap<usize, Remembered>,
    usage: Pendings,
    samples: Vec<Sample>,
    /// Ticks of the first and last query in `points`.
    ticks: Option<(u64, u64)>,
    sent: Option<Instant>,
    counts: Vec<u64>,
}

impl Drain {
    pub(crate) const fn new() -> Self {
        Self {
            points: BTreeMap::new(),
            queries: BTreeMap::new(),
            usage: Pendings::new(),
            samples: Vec::new(),
            ticks: None,
            sent: None,
            counts: Vec::new(),
        }
    }

    /// Reads all tables and sends what is due, and what is to be closed. `wall_ns` turns ticks into nanoseconds since the
    /// Unix epoch. False: a thread was adding to its table, so contexts that ended may still be named there and must not
    /// be returned before the next pass.
    pub(crate) fn pass(
        &mut self,
        retired: &Retired,
        outbox: Option<&mut Outbox>,
        close: Close,
        wall_ns: impl Fn(u64) -> u64,
    ) -> bool {
        let is_complete = table::collect(|table| self.take(table));
        let Some(outbox) = outbox else {
            self.forget();
            return is_complete;
        };
        for sample in self.samples.drain(..) {
            sample.send(&context::resolve(retired, sample.context), outbox, &wall_ns);
        }
        if is_complete {
            self.usage.send(retired, close == Close::All, outbox, &wall_ns);
        }
        self.declare(outbox, &wall_ns);
        if close != Close::Nothing || self.sent.is_none_or(|sent| sent.elapsed() >= METRIC_INTERVAL) {
            self.send_points(outbox, &wall_ns);
        }
        is_complete
    }

    /// Drops what nobody takes: recording has not started, or has stopped.
    fn forget(&mut self) {
        self.points.clear();
        self.usage.clear();
        self.samples.clear();
        self.ticks = None;
    }

    /// Takes over one thread's table.
    fn take(&mut self, table: &mut Table) {
        for series in table.series.drain(..) {
            // A line of usage makes its series before the first success; without one it says nothing.
            if series.histogram.count() > 0 {
                self.take_series(&series);
            }
        }
        for usage in table.usage.drain(..).filter(Usage::is_sent) {
            self.usage.add(&usage);
        }
        self.samples.append(&mut table.samples);
        if let Some((first, last)) = table.ticks {
            let (from, to) = self.ticks.unwrap_or((first, last));
            self.ticks = Some((from.min(first), to.max(last)));
        }
    }

    fn take_series(&mut self, series: &Series) {
        let mut of = &series.of;
        let mut key = PointKey::of(of);
        if self.points.len() >= MAX_POINTS && !self.points.contains_key(&key) {
            of = &SeriesOf::OTHER;
            key = PointKey::of(of);
        }
        match self.points.entry(key) {
            Entry::Occupied(mut point) => point.get_mut().merge(&series.histogram),
            Entry::Vacant(room) => {
                room.insert(series.histogram.clone());
            }
        }
        let remembered = self.queries.entry(key.query).or_insert_with(|| Remembered {
            query: of.query,
            declared: Declared::new(),
            recent: Histogram::new(),
        });
        if of.error.is_empty() && of.query.fingerprint != 0 {
            remembered.recent.merge(&series.histogram);
        }
    }

    /// Declares the texts that are new, and those whose last declaration is long ago or did not arrive.
    fn declare(&mut self, outbox: &mut Outbox, wall_ns: &impl Fn(u64) -> u64) {
        let Some((_, last_ticks)) = self.ticks else { return };
        let now = Instant::now();
        let (mut items, mut sent) = (Buffer::new(), Vec::new());
        for remembered in self.queries.values_mut().filter(|remembered| remembered.query.fingerprint != 0) {
            let query = remembered.query;
            let is_due = remembered.declared.is_due(now);
            if !query.is_text_new.swap(false, Ordering::Relaxed) && !is_due {
                continue;
            }
            let text = query.text();
            encode::log_record(
                &mut items,
                wall_ns(last_ticks),
                event::QUERY_DECLARED,
                Trace::default(),
                |attributes| {
                    attributes.text(attribute::QUERY_FINGERPRINT, &query.wire_fingerprint());
                    attributes.integer(attribute::QUERY_FINGERPRINT_VERSION, i64::from(FINGERPRINT_VERSION));
                    attributes.text(attribute::DB_SYSTEM, query.dialect.system());
                    attributes.some_text(attribute::QUERY_NAME, query.name);
                    attributes.some_text(attribute::DB_QUERY_TEXT, text);
                    attributes.some_text(attribute::DB_QUERY_SUMMARY, query.summary());
                },
            );
            sent.push(&mut remembered.declared);
            if items.len() >= MAX_DECLARED_BYTES {
                send_declared(outbox, now, std::mem::take(&mut items), &mut sent);
            }
        }
        send_declared(outbox, now, items, &mut sent);
    }

    /// Sends the histograms gathered since the last time, and learns each query's 99th percentile.
    fn send_points(&mut self, outbox: &mut Outbox, wall_ns: &impl Fn(u64) -> u64) {
        /// Nanoseconds in the metric's unit.
        const SECOND_NS: f64 = 1e9;
        self.sent = Some(Instant::now());
        #[cfg(feature = "tracing")]
        super::layer::warn_if_hidden();
        let Some((first, last)) = self.ticks.take() else { return };
        let time_ns = wall_ns(last);
        let start_ns = wall_ns(first).min(time_ns);
        for (key, histogram) in std::mem::take(&mut self.points) {
            let Some(remembered) = self.queries.get(&key.query) else { continue };
            let query = remembered.query;
            let offset = histogram.dense(&mut self.counts);
            let point = ExponentialPoint {
                start_ns,
                time_ns,
                count: histogram.count(),
                sum: histogram.sum_ns() as f64 / SECOND_NS,
                min: histogram.min_ns() as f64 / SECOND_NS,
                max: histogram.max_ns() as f64 / SECOND_NS,
                scale: HISTOGRAM_SCALE,
                zero_count: histogram.zero_count(),
                offset,
                buckets: &self.counts,
            };
            outbox.exponential((metric::QUERY_DURATION, "s"), &point, |attributes| {
                attributes.text(attribute::DB_SYSTEM, query.dialect.system());
                attributes.text(attribute::QUERY_FINGERPRINT, &query.wire_fingerprint());
                attributes.some_text(attribute::QUERY_NAME, query.name);
                attributes.some_text(attribute::DB_QUERY_SUMMARY, query.summary());
                attributes.some_text(attribute::FEATURE_NAME, key.feature);
                attributes.some_text(attribute::FUNNEL_NAME, key.funnel);
                attributes.some_text(attribute::STEP_NAME, key.step);
                if !key.file.is_empty() {
                    attributes.text(attribute::CODE_FILE, key.file);
                    attributes.integer(attribute::CODE_LINE, i64::from(key.line));
                }
                attributes.some_text(attribute::ERROR_TYPE, key.error);
                if let Some(status) = key.status {
                    attributes.text(attribute::DB_STATUS_CODE, &status.to_string());
                }
            });
        }
        self.learn_tails();
    }

    fn learn_tails(&mut self) {
        for remembered in self.queries.values_mut() {
            let count = remembered.recent.count();
            if count < MIN_TAIL_CALLS {
                continue;
            }
            if let Some(tail) = remembered.recent.quantile_ns(0.99) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "saturates; never negative"
                )]
                remembered.query.tail_ns.store(tail as u64, Ordering::Relaxed);
            }
            if count > MAX_TAIL_CALLS {
                remembered.recent = Histogram::new();
            }
        }
    }
}

/// Sends declarations as one batch, whose receipt each of them keeps; they are no longer in `sent` after it.
fn send_declared(outbox: &mut Outbox, now: Instant, items: Buffer, sent: &mut Vec<&mut Declared>) {
    if sent.is_empty() {
        return;
    }
    let receipt = outbox.apart(Signal::Logs, sent.len() as u64, items, Receipt::divisible());
    for declared in sent.drain(..) {
        declared.send(now, [receipt.clone()]);
    }
}
