//! Data points into rows: durations of database queries and what SDKs dropped; all other metrics are ignored.
//!
//! Nothing is converted statefully: cumulative points are stored as sent and differenced when queried.

use super::Signal;
use super::fields::Fields;
use super::fingerprint::of_series;
use super::histogram::{Buckets, Explicit, Exponential};
use super::json_schema::{exponential_point, histogram_point, record};
use super::keys::{Key, KeySet};
use super::resource::{Resource, Scope, put_pairs, sorted_pairs};
use super::show::AroundPoint;
use super::sink::{Fault, Sink, code, funnel_step, parse_fingerprint, usable};
use super::traces::{foreign_fingerprint, system};
use super::value::{Value, utf8};
use super::wire::{Field, Malformed, Message, signed};
use crate::identity::IdDomain;
use crate::outcome::Reason;
use crate::rows::{Once, QueryHistogramRow, QueryTextRow, SdkReportRow, day_of_ms};
use gemba_conventions::{attribute, metric};

/// Flag of a point that says only that there is no value (opentelemetry/proto/metrics/v1, DataPointFlags).
const NO_RECORDED_VALUE: u64 = 1;
/// Temporalities (same file, AggregationTemporality).
const DELTA: u64 = 1;
const CUMULATIVE: u64 = 2;
/// Nanoseconds in a second.
const NS_PER_SECOND: f64 = 1e9;

const POINT_KEYS: KeySet = KeySet::of(&[
    Key::Feature,
    Key::Funnel,
    Key::Step,
    Key::HttpRoute,
    Key::Fingerprint,
    Key::ErrorType,
    Key::Reason,
    Key::Callsite,
    Key::CodeFile,
    Key::CodeFileOld,
    Key::CodeLine,
    Key::CodeLineOld,
    Key::CodeFunction,
    Key::DbSystem,
    Key::DbSystemOld,
    Key::DbQueryText,
    Key::DbStatementOld,
    Key::DbQuerySummary,
    Key::DbNamespace,
    Key::DbNameOld,
    Key::DbCollection,
    Key::DbSqlTableOld,
    Key::DbOperation,
    Key::DbOperationOld,
    Key::DbStatusCode,
]);

/// The data of a metric; the number is its field in `Metric`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sum,
    Histogram,
    Exponential,
    Other,
}

/// One metric, without its points.
#[derive(Debug)]
struct Metric<'a> {
    name: &'a str,
    unit: &'a str,
    kind: Kind,
    data: &'a [u8],
    temporality: u64,
}

impl<'a> Metric<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut metric = Self { name: "", unit: "", kind: Kind::Other, data: &[], temporality: 0 };
        let text = |bytes| utf8(bytes).map_err(|_| Malformed("a metric's name or unit is not valid UTF-8"));
        for field in Message::new(bytes) {
            let (kind, data) = match field? {
                (1, Field::Bytes(name)) => {
                    metric.name = text(name)?;
                    continue;
                }
                (3, Field::Bytes(unit)) => {
                    metric.unit = text(unit)?;
                    continue;
                }
                (7, Field::Bytes(data)) => (Kind::Sum, data),
                (9, Field::Bytes(data)) => (Kind::Histogram, data),
                (10, Field::Bytes(data)) => (Kind::Exponential, data),
                (5 | 11, Field::Bytes(data)) => (Kind::Other, data),
                _ => continue,
            };
            (metric.kind, metric.data) = (kind, data);
        }
        for field in Message::new(metric.data) {
            if let (2, Field::Varint(temporality)) = field? {
                metric.temporality = temporality;
            }
        }
        Ok(metric)
    }
}

/// One data point, read but not understood yet; fields that a kind of point lacks stay at their defaults.
#[derive(Debug, Default)]
struct Point<'a> {
    start: u64,
    time: u64,
    flags: u64,
    /// A sum's value.
    value: Option<f64>,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    explicit: Explicit,
    exponential: Exponential,
    pairs: Vec<&'a [u8]>,
    fields: Fields<'a>,
}

impl<'a> Point<'a> {
    fn read(&mut self, kind: Kind, bytes: &'a [u8], scope: &Scope<'a>) -> Result<(), Malformed> {
        let Self { mut pairs, mut fields, mut explicit, mut exponential, .. } = std::mem::take(self);
        pairs.clear();
        fields.clear();
        explicit.clear();
        exponential.clear();
        *self = Self { explicit, exponential, pairs, fields, ..Self::default() };
        self.pairs.extend_from_slice(&scope.pairs);
        for field in Message::new(bytes) {
            let (number, field) = field?;
            match (kind, number, field) {
                (_, 2, Field::Fixed64(time)) => self.start = time,
                (_, 3, Field::Fixed64(time)) => self.time = time,
                (Kind::Sum, 4, Field::Fixed64(bits)) => self.value = Some(f64::from_bits(bits)),
                (Kind::Sum, 6, Field::Fixed64(integer)) => self.value = Some(signed(integer) as f64),
                (Kind::Sum, 7, Field::Bytes(pair))
                | (Kind::Histogram, 9, Field::Bytes(pair))
                | (Kind::Exponential, 1, Field::Bytes(pair)) => self.pairs.push(pair),
                (Kind::Sum, 8, Field::Varint(flags))
                | (Kind::Histogram | Kind::Exponential, 10, Field::Varint(flags)) => self.flags = flags,
                (Kind::Histogram | Kind::Exponential, 4, Field::Fixed64(count)) => self.count = count,
                (Kind::Histogram | Kind::Exponential, 5, Field::Fixed64(bits)) => self.sum = f64::from_bits(bits),
                (Kind::Histogram, 11, Field::Fixed64(bits)) | (Kind::Exponential, 12, Field::Fixed64(bits)) => {
                    self.min = f64::from_bits(bits);
                }
                (Kind::Histogram, 12, Field::Fixed64(bits)) | (Kind::Exponential, 13, Field::Fixed64(bits)) => {
                    self.max = f64::from_bits(bits);
                }
                (Kind::Histogram, 6 | 7, field) => self.explicit.read(number, field)?,
                (Kind::Exponential, 6..=9, field) => self.exponential.read(number, field)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads an `ExportMetricsServiceRequest`.
pub(super) fn read<'r>(body: &'r [u8], sink: &mut Sink<'r>) -> Result<(), Malformed> {
    let mut point = Point::default();
    for field in Message::new(body) {
        let (1, Field::Bytes(container)) = field? else { continue };
        let (resource, refused) = usable(Resource::read(container, sink))?;
        sink.around.enter_resource(container);
        for field in Message::new(container) {
            let (2, Field::Bytes(container)) = field? else { continue };
            let (scope, scope_refused) = usable(Scope::read(container))?;
            let refused = refused.as_ref().or(scope_refused.as_ref());
            sink.around.enter_scope(container);
            for field in Message::new(container) {
                let (2, Field::Bytes(metric)) = field? else { continue };
                let metric = Metric::read(metric)?;
                let (schema, data) = match metric.kind {
                    Kind::Histogram => (histogram_point(), "histogram"),
                    Kind::Exponential => (exponential_point(), "exponentialHistogram"),
                    Kind::Sum | Kind::Other => (record(Signal::Metrics), "sum"),
                };
                let Metric { name, unit, temporality, .. } = metric;
                sink.schema = schema;
                sink.around.enter_metric(AroundPoint { name, unit, data, temporality });
                for field in Message::new(metric.data) {
                    let (1, Field::Bytes(bytes)) = field? else { continue };
                    point.read(metric.kind, bytes, &scope)?;
                    sink.take_of(refused, bytes, |sink| one(&metric, &mut point, &resource, sink))?;
                }
            }
        }
    }
    Ok(())
}

fn one(metric: &Metric<'_>, point: &mut Point<'_>, resource: &Resource<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    match (metric.name, metric.kind) {
        (metric::QUERY_DURATION, Kind::Histogram | Kind::Exponential) | (metric::SDK_DROPPED, Kind::Sum) => {}
        _ => return Err(Fault::ignored(Reason::MetricNotKept)),
    }
    if point.flags & NO_RECORDED_VALUE != 0 {
        return Err(Fault::ignored(Reason::NoRecordedValue));
    }
    point.fields.read(&point.pairs, POINT_KEYS, false)?;
    match metric.kind {
        Kind::Sum => dropped(metric, point, resource, sink),
        _ => duration(metric, point, resource, sink),
    }
}

fn dropped(metric: &Metric<'_>, point: &Point<'_>, resource: &Resource<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    if metric.temporality != DELTA {
        return Err(Fault::set_aside(Reason::InvalidAttribute, "gemba.sdk.dropped must be a delta sum"));
    }
    let known = &point.fields.known;
    let reason = known.text(Key::Reason);
    if reason.is_empty() {
        return Err(Fault::missing(attribute::REASON));
    }
    // Beyond 2^53 a count of records is nonsense, so it need not be exact there.
    let records = match point.value {
        Some(value) if (0.0..=9_007_199_254_740_992.0).contains(&value) => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie in 0..=2^53")]
            let records = value as u64;
            records
        }
        _ => return Err(Fault::set_aside(Reason::InvalidAttribute, "gemba.sdk.dropped must be from 0 to 2^53")),
    };
    let when = sink.when(&[point.time])?;
    sink.set.sdk_reports.push(
        true,
        SdkReportRow {
            project: sink.origin.project.0,
            retention_class: sink.origin.retention_class,
            time: when.ms(),
            kind: 1,
            reason,
            callsite: known.text(Key::Callsite),
            records,
            delivered: 0,
            spooled: 0,
            unconfirmed: 0,
            instance: resource.instance,
            service: &resource.service,
            release: &resource.release,
            environment: &resource.environment,
            received: sink.origin.received_ms,
        },
    );
    Ok(())
}

fn duration(
    metric: &Metric<'_>,
    point: &mut Point<'_>,
    resource: &Resource<'_>,
    sink: &mut Sink<'_>,
) -> Result<(), Fault> {
    if !matches!(metric.unit, "s" | "") {
        return Err(Fault::set_aside(
            Reason::InvalidAttribute,
            "db.client.operation.duration must have the unit s (semantic conventions, db/database-metrics)",
        ));
    }
    if !matches!(metric.temporality, DELTA | CUMULATIVE) {
        return Err(Fault::set_aside(Reason::InvalidAttribute, "aggregation_temporality must be delta or cumulative"));
    }
    let when = sink.when(&[point.time])?;
    let start = match sink.when(&[point.start])? {
        start if point.start != 0 && start.ns <= when.ns => start.ms(),
        _ => when.ms(),
    };
    let buckets = if metric.kind == Kind::Histogram {
        point.explicit.buckets(point.count)?
    } else {
        point.exponential.buckets()?
    };
    let Buckets { scaled, bounds, bound_counts } = buckets;
    let known = &point.fields.known;
    let system = system(known);
    let is_ours = known.get(Key::Fingerprint) != Value::Empty;
    let fingerprint = if is_ours {
        parse_fingerprint(known.text(Key::Fingerprint))
            .ok_or_else(|| Fault::invalid(attribute::QUERY_FINGERPRINT, "16 hexadecimal digits, or `other`"))?
    } else {
        series_fingerprint(point, system, when.ms(), resource, sink)
    };
    let error_type = match known.text(Key::ErrorType) {
        "" => known.word(Key::DbStatusCode),
        error_type => error_type.into(),
    };
    let nanoseconds = |seconds: f64| {
        let value = seconds * NS_PER_SECOND;
        // Our SDK measures whole nanoseconds; rounding takes back what dividing by 1e9 cost.
        if is_ours { value.round() } else { value }
    };
    sink.set.query_histograms.push(
        true,
        QueryHistogramRow {
            project: sink.origin.project.0,
            retention_class: sink.origin.retention_class,
            fingerprint,
            day: day_of_ms(when.ms()),
            time: when.ms(),
            start,
            stream: stream(&point.pairs, resource, sink)?,
            source: if is_ours { 1 } else { 2 },
            temporality: if metric.temporality == DELTA { 1 } else { 2 },
            feature: &known.word(Key::Feature),
            funnel_step: &funnel_step(known),
            route: known.text(Key::HttpRoute),
            code: &code(known),
            system,
            namespace: known.first_text(&[Key::DbNamespace, Key::DbNameOld]),
            error_type: &error_type,
            count: point.count,
            sum_ns: nanoseconds(point.sum),
            min_ns: nanoseconds(point.min),
            max_ns: nanoseconds(point.max),
            buckets: &scaled,
            bounds: &bounds,
            bound_counts: &bound_counts,
            instance: resource.instance,
            resource: resource.hash,
            service: &resource.service,
            release: &resource.release,
            environment: &resource.environment,
            received: sink.origin.received_ms,
        },
    );
    Ok(())
}

/// Hash of everything that makes the point's stream: resource and point attributes.
fn stream(pairs: &[&[u8]], resource: &Resource<'_>, sink: &Sink<'_>) -> Result<u64, Fault> {
    let mut text = resource.hash.to_le_bytes().to_vec();
    put_pairs(&sorted_pairs(pairs)?, &mut text)?;
    Ok(sink.hash(IdDomain::Stream, &text))
}

/// The fingerprint of a foreign series: of its query text where it has one, else of what names the query.
fn series_fingerprint(point: &Point<'_>, system: &str, time: i64, resource: &Resource<'_>, sink: &mut Sink<'_>) -> u64 {
    let known = &point.fields.known;
    let text = known.first_text(&[Key::DbQueryText, Key::DbStatementOld]);
    if !text.is_empty() {
        return foreign_fingerprint(system, text, time, resource, sink);
    }
    let namespace = known.first_text(&[Key::DbNamespace, Key::DbNameOld]);
    let collection = known.first_text(&[Key::DbCollection, Key::DbSqlTableOld]);
    let operation = known.first_text(&[Key::DbOperation, Key::DbOperationOld]);
    let summary = known.text(Key::DbQuerySummary);
    let fingerprint = of_series(&[system, namespace, collection, operation, summary]);
    if sink.seen.first(Once::QueryText(sink.origin.project.0), fingerprint) {
        // There is no text; the summary says what is known, as a database span's name would.
        let summary = match (summary, operation, collection) {
            ("", "", "") => system.to_owned(),
            ("", operation, collection) => format!("{operation} {collection}").trim().to_owned(),
            (summary, ..) => summary.to_owned(),
        };
        sink.set.query_texts.push(
            false,
            QueryTextRow {
                project: sink.origin.project.0,
                retention_class: sink.origin.retention_class,
                fingerprint,
                version: 0,
                system,
                name: "",
                summary: summary.as_bytes(),
                text: b"",
                service: &resource.service,
                release: &resource.release,
                environment: &resource.environment,
                time,
                received: sink.origin.received_ms,
            },
        );
    }
    fingerprint
}
