//! Metrics and spans.
//!
//! In: numbers, times and attributes. Out: one `Metric` or `Span` behind those already in a buffer.

use super::{Attributes, Buffer};

/// The times and numbers of one point of an exponential histogram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExponentialPoint<'a> {
    /// Begin of the interval, nanoseconds since the Unix epoch.
    pub(crate) start_ns: u64,
    /// End of the interval.
    pub(crate) time_ns: u64,
    pub(crate) count: u64,
    /// In the metric's unit, as are `min` and `max`.
    pub(crate) sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) scale: i8,
    pub(crate) zero_count: u64,
    /// Index of the first of `buckets`.
    pub(crate) offset: i32,
    pub(crate) buckets: &'a [u64],
}

/// `AggregationTemporality` DELTA.
const DELTA: u64 = 1;

/// Appends one `Metric` (field 2 of `ScopeMetrics`) that is an exponential histogram, delta, with one data point.
pub(crate) fn exponential_histogram(
    items: &mut Buffer,
    (name, unit): (&str, &str),
    point: &ExponentialPoint<'_>,
    attributes: impl FnOnce(&mut Attributes<'_>),
) {
    items.message(2, |metric| {
        metric.blob(1, name.as_bytes());
        metric.blob(3, unit.as_bytes());
        metric.message(10, |histogram| {
            histogram.message(1, |data| {
                attributes(&mut Attributes::new(data, 1));
                data.fixed64(2, point.start_ns);
                data.fixed64(3, point.time_ns);
                data.fixed64(4, point.count);
                data.double(5, point.sum);
                data.sint(6, i64::from(point.scale));
                data.fixed64(7, point.zero_count);
                data.message(8, |positive| {
                    positive.sint(1, i64::from(point.offset));
                    positive.packed(2, point.buckets.iter().copied());
                });
                data.double(12, point.min);
                data.double(13, point.max);
            });
            histogram.uint(2, DELTA);
        });
    });
}

/// Appends one `Metric` that is a monotonic delta sum with one integer data point.
pub(crate) fn counter(
    items: &mut Buffer,
    name: &str,
    (start_ns, time_ns): (u64, u64),
    value: u64,
    attributes: impl FnOnce(&mut Attributes<'_>),
) {
    items.message(2, |metric| {
        metric.blob(1, name.as_bytes());
        metric.blob(3, b"{record}");
        metric.message(7, |sum| {
            sum.message(1, |data| {
                attributes(&mut Attributes::new(data, 7));
                data.fixed64(2, start_ns);
                data.fixed64(3, time_ns);
                // `as_int` is sfixed64.
                data.fixed64(6, value);
            });
            sum.uint(2, DELTA);
            sum.uint(3, 1);
        });
    });
}

/// One client span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<'a> {
    pub(crate) kind: SpanKind,
    pub(crate) trace_id: [u8; 16],
    pub(crate) id: [u8; 8],
    /// Zeros: a root.
    pub(crate) parent_id: [u8; 8],
    pub(crate) name: &'a str,
    /// Nanoseconds since the Unix epoch.
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) is_error: bool,
}

/// What a span is about (`Span.SpanKind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpanKind {
    /// A request served.
    #[cfg(feature = "tower")]
    Server = 2,
    /// A query sent.
    Client = 3,
}

/// Appends one `Span` (field 2 of `ScopeSpans`).
pub(crate) fn span(items: &mut Buffer, span: &Span<'_>, attributes: impl FnOnce(&mut Attributes<'_>)) {
    items.message(2, |out| {
        out.blob(1, &span.trace_id);
        out.blob(2, &span.id);
        if span.parent_id != [0; 8] {
            out.blob(4, &span.parent_id);
        }
        out.blob(5, span.name.as_bytes());
        out.uint(6, span.kind as u64);
        out.fixed64(7, span.start_ns);
        out.fixed64(8, span.end_ns);
        attributes(&mut Attributes::new(out, 9));
        if span.is_error {
            // StatusCode ERROR = 2.
            out.message(15, |status| status.uint(3, 2));
        }
    });
}
