//! Reads out the rows of a project, a table at a time, in a form that other programs and `gemba import` can read.
//!
//! In: a project, a table, a range of event time. Out: [`slices`] of some days each, oldest first, and the bytes of each
//! ([`rows`]), ordered by time. Nothing is held in memory but the piece on its way. Ids of people and sessions are
//! those that were sent; fingerprints, traces and attempts are hexadecimal.

use super::{Client, StoreError};
use clickhouse::query::BytesCursor;

/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;
/// Days are taken together up to so many rows. Chosen: some hundred bytes each, sorted in a tenth of a second.
const SLICE_ROWS: u64 = 200_000;
/// Rows are sorted on disk beyond this many bytes. Chosen: a quarter of what a question may use.
const MAX_SORT_BYTES: u64 = 512 << 20;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a row.
    NdJson,
    /// Comma-separated with a header line; what is nested is JSON text.
    Csv,
}

/// A table that can be read out.
#[derive(Debug)]
pub struct Exported {
    /// Its name.
    pub name: &'static str,
    /// What its rows are made of: tables with a column `time`.
    from: &'static [&'static str],
    /// The statement for its rows.
    sql: &'static str,
    /// Columns that order the rows.
    order: &'static str,
    /// Columns with nested values.
    nested: &'static [&'static str],
}

/// Which id a unit stands for, and what a sender said of itself.
const PEOPLE: &str = "
WITH people AS
(
    SELECT unit, any(kind) AS of_kind, any(id) AS id FROM units WHERE project = {project:UInt32} GROUP BY unit
),
senders AS
(
    SELECT resource, any(attributes) AS attributes FROM resources WHERE project = {project:UInt32} GROUP BY resource
)";

/// Log records as they were sent, for the names on the wire: features, attempts, steps, named events, identity links.
/// Whole numbers beyond the precision of a float are kept as text as well; that text is the number.
const EVENTS: &str = "
SELECT
    e.time AS time,
    multiIf(e.kind = 'used', 'gemba.feature.used', e.kind = 'started', 'gemba.feature.started',
        e.kind = 'ended', 'gemba.feature.ended', e.kind = 'step', 'gemba.funnel.step', toString(e.name)) AS event,
    if(p.of_kind = 'user', p.id, '') AS user,
    s.id AS session,
    if(p.of_kind = 'anonymous', p.id, '') AS anonymous,
    toString(e.tenant) AS tenant,
    if(e.trace_id = toFixedString('', 16), '', lower(hex(e.trace_id))) AS trace_id,
    if(e.span_id = 0, '', lower(leftPad(hex(e.span_id), 16, '0'))) AS span_id,
    mapConcat(
        CAST(mapFilter((k, v) -> v != '', map(
            'gemba.feature.name', toString(e.feature),
            'gemba.attempt.id', if(e.attempt = 0, '', lower(leftPad(hex(e.attempt), 16, '0'))),
            'gemba.outcome', toString(e.outcome),
            'gemba.outcome.reason', toString(e.outcome_reason),
            'error.type', toString(e.error_type),
            'gemba.funnel.name', if(e.kind = 'step', extract(toString(e.name), '^(.*)\\.[^.]*$'), ''),
            'gemba.step.name', if(e.kind = 'step', extract(toString(e.name), '([^.]*)$'), '')
        )), 'Map(String, Variant(Bool, Float64, Int64, String))'),
        CAST(mapFilter((k, v) -> v != 0, map('gemba.duration_ns', toInt64(e.duration_ns), 'gemba.seq', toInt64(e.seq))),
            'Map(String, Variant(Bool, Float64, Int64, String))'),
        CAST(mapFilter((k, v) -> v, map('gemba.outcome.inferred', e.outcome_inferred)),
            'Map(String, Variant(Bool, Float64, Int64, String))'),
        CAST(mapFilter((k, v) -> NOT mapContains(e.numbers, k), e.strings),
            'Map(String, Variant(Bool, Float64, Int64, String))'),
        CAST(mapFilter((k, v) -> NOT mapContains(e.strings, k), e.numbers),
            'Map(String, Variant(Bool, Float64, Int64, String))'),
        CAST(mapApply((k, v) -> (k, toInt64OrZero(v)), mapFilter((k, v) -> mapContains(e.numbers, k), e.strings)),
            'Map(String, Variant(Bool, Float64, Int64, String))'),
        CAST(e.bools, 'Map(String, Variant(Bool, Float64, Int64, String))')
    ) AS attributes,
    CAST(r.attributes, 'Map(String, String)') AS resource
FROM events AS e
LEFT ANY JOIN people AS p ON p.unit = e.unit
LEFT ANY JOIN people AS s ON s.unit = e.session
LEFT ANY JOIN senders AS r ON r.resource = e.resource
WHERE e.project = {project:UInt32}
    AND e.time >= {from:DateTime64(3, 'UTC')} AND e.time < {to:DateTime64(3, 'UTC')}
UNION ALL
SELECT
    l.time, 'gemba.identify', p.id,
    if(a.of_kind = 'session', a.id, ''), if(a.of_kind = 'anonymous', a.id, ''), '', '', '',
    CAST(mapFilter((k, v) -> k != '', map('', '')), 'Map(String, Variant(Bool, Float64, Int64, String))'),
    CAST(map(), 'Map(String, String)')
FROM identity_links AS l
INNER JOIN people AS a ON a.unit = l.anonymous
INNER JOIN people AS p ON p.unit = l.person
WHERE l.project = {project:UInt32}
    AND l.time >= {from:DateTime64(3, 'UTC')} AND l.time < {to:DateTime64(3, 'UTC')}";

const QUERY_USAGE: &str = "
SELECT
    t.time AS time, lower(leftPad(hex(t.fingerprint), 16, '0')) AS fingerprint,
    if(p.of_kind = 'user', p.id, '') AS user, s.id AS session, t.tenant AS tenant,
    t.feature AS feature, t.funnel_step AS funnel_step,
    if(t.attempt = 0, '', lower(leftPad(hex(t.attempt), 16, '0'))) AS attempt, t.route AS route, t.code AS code,
    t.calls AS calls, t.total_ns AS total_ns, t.max_ns AS max_ns, t.rows AS rows, t.errors AS errors,
    t.service AS service, t.release AS release, t.environment AS environment
FROM query_usage AS t
LEFT ANY JOIN people AS p ON p.unit = t.unit
LEFT ANY JOIN people AS s ON s.unit = t.session
WHERE t.project = {project:UInt32}
    AND t.time >= {from:DateTime64(3, 'UTC')} AND t.time < {to:DateTime64(3, 'UTC')}";

const QUERY_HISTOGRAMS: &str = "
SELECT
    t.time AS time, t.start AS start, lower(leftPad(hex(t.fingerprint), 16, '0')) AS fingerprint,
    lower(leftPad(hex(t.stream), 16, '0')) AS stream, t.source AS source, t.temporality AS temporality,
    t.feature AS feature, t.funnel_step AS funnel_step, t.route AS route, t.code AS code, t.system AS system,
    t.namespace AS namespace, t.error_type AS error_type, t.count AS count, t.sum_ns AS sum_ns, t.min_ns AS min_ns,
    t.max_ns AS max_ns, t.buckets AS buckets, t.bounds AS bounds, t.bound_counts AS bound_counts,
    t.service AS service, t.release AS release, t.environment AS environment
FROM query_histograms AS t
WHERE t.project = {project:UInt32}
    AND t.time >= {from:DateTime64(3, 'UTC')} AND t.time < {to:DateTime64(3, 'UTC')}";

const QUERY_TEXTS: &str = "
SELECT
    t.time AS time, lower(leftPad(hex(t.fingerprint), 16, '0')) AS fingerprint, t.version AS version,
    t.system AS system, t.name AS name, t.summary AS summary, t.text AS text,
    t.service AS service, t.release AS release, t.environment AS environment
FROM query_texts AS t
WHERE t.project = {project:UInt32}
    AND t.time >= {from:DateTime64(3, 'UTC')} AND t.time < {to:DateTime64(3, 'UTC')}";

const QUERY_SAMPLES: &str = "
SELECT
    t.time AS time, t.duration_ns / 1e6 AS duration_ms, lower(leftPad(hex(t.fingerprint), 16, '0')) AS fingerprint,
    x.text AS text, t.source AS source, t.weight AS weight, t.sample AS sample,
    if(p.of_kind = 'user', p.id, '') AS user, s.id AS session, t.tenant AS tenant,
    t.feature AS feature, t.funnel_step AS funnel_step,
    if(t.attempt = 0, '', lower(leftPad(hex(t.attempt), 16, '0'))) AS attempt, t.route AS route, t.code AS code,
    t.system AS system, t.namespace AS namespace, t.rows AS rows, t.failed AS failed, t.error_type AS error_type,
    if(t.trace_id = toFixedString('', 16), '', lower(hex(t.trace_id))) AS trace_id,
    if(t.span_id = 0, '', lower(leftPad(hex(t.span_id), 16, '0'))) AS span_id,
    if(t.parent_span_id = 0, '', lower(leftPad(hex(t.parent_span_id), 16, '0'))) AS parent_span_id,
    t.service AS service, t.release AS release, t.environment AS environment
FROM query_samples AS t
LEFT ANY JOIN people AS p ON p.unit = t.unit
LEFT ANY JOIN people AS s ON s.unit = t.session
LEFT ANY JOIN
(
    SELECT fingerprint, argMax(text, (text != '', time)) AS text
    FROM query_texts WHERE project = {project:UInt32} GROUP BY fingerprint
) AS x ON x.fingerprint = t.fingerprint
WHERE t.project = {project:UInt32}
    AND t.time >= {from:DateTime64(3, 'UTC')} AND t.time < {to:DateTime64(3, 'UTC')}";

const REQUESTS: &str = "
SELECT
    t.time AS time, t.duration_ns / 1e6 AS duration_ms, t.route AS route, t.method AS method,
    t.status_code AS status_code, t.failed AS failed, t.error_type AS error_type, t.weight AS weight,
    if(p.of_kind = 'user', p.id, '') AS user, s.id AS session, t.tenant AS tenant, t.feature AS feature,
    if(t.trace_id = toFixedString('', 16), '', lower(hex(t.trace_id))) AS trace_id,
    if(t.span_id = 0, '', lower(leftPad(hex(t.span_id), 16, '0'))) AS span_id,
    if(t.parent_span_id = 0, '', lower(leftPad(hex(t.parent_span_id), 16, '0'))) AS parent_span_id,
    t.service AS service, t.release AS release, t.environment AS environment
FROM requests AS t
LEFT ANY JOIN people AS p ON p.unit = t.unit
LEFT ANY JOIN people AS s ON s.unit = t.session
WHERE t.project = {project:UInt32}
    AND t.time >= {from:DateTime64(3, 'UTC')} AND t.time < {to:DateTime64(3, 'UTC')}";

/// All tables that can be read out.
pub const TABLES: &[Exported] = &[
    Exported {
        name: "events",
        from: &["events", "identity_links"],
        sql: EVENTS,
        order: "time, event, user, session, anonymous, trace_id, span_id",
        nested: &["attributes", "resource"],
    },
    Exported { name: "query_usage", from: &["query_usage"], sql: QUERY_USAGE, order: "time", nested: &[] },
    Exported {
        name: "query_histograms",
        from: &["query_histograms"],
        sql: QUERY_HISTOGRAMS,
        order: "time, stream",
        nested: &["buckets", "bounds", "bound_counts"],
    },
    Exported { name: "query_texts", from: &["query_texts"], sql: QUERY_TEXTS, order: "time", nested: &[] },
    Exported { name: "query_samples", from: &["query_samples"], sql: QUERY_SAMPLES, order: "time", nested: &[] },
    Exported { name: "requests", from: &["requests"], sql: REQUESTS, order: "time", nested: &[] },
];

/// Part of a range: some days of few rows, or one of many, so that sorting it needs little, however long the range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Beginning, milliseconds since 1970, inclusive.
    pub from_ms: i64,
    /// End, exclusive.
    pub to_ms: i64,
    /// Rows in it.
    pub rows: u64,
}

/// The parts of a range that hold rows, oldest first; one empty slice where there are none.
pub async fn slices(
    client: &Client,
    project: u32,
    table: &Exported,
    (from_ms, to_ms): (i64, i64),
) -> Result<Vec<Slice>, StoreError> {
    let parts: Vec<String> = table
        .from
        .iter()
        .map(|table| {
            format!(
                "SELECT time FROM {table} WHERE project = {{project:UInt32}} \
                 AND time >= {{from:DateTime64(3, 'UTC')}} AND time < {{to:DateTime64(3, 'UTC')}}"
            )
        })
        .collect();
    let sql = format!(
        "SELECT intDiv(toUnixTimestamp64Milli(time), {DAY_MS}) AS day, count() AS rows FROM ({}) GROUP BY day ORDER BY day",
        parts.join(" UNION ALL ")
    );
    let days = client
        .raw()
        .query_raw(&sql)
        .with_setting("readonly", "2")
        .param("project", project)
        .param("from", time(from_ms))
        .param("to", time(to_ms))
        .fetch_all::<(i64, u64)>()
        .await?;
    let mut slices: Vec<Slice> = Vec::new();
    for (day, rows) in days {
        let to_ms = to_ms.min((day + 1) * DAY_MS);
        match slices.last_mut() {
            Some(last) if last.rows + rows <= SLICE_ROWS => *last = Slice { to_ms, rows: last.rows + rows, ..*last },
            _ => slices.push(Slice { from_ms: from_ms.max(day * DAY_MS), to_ms, rows }),
        }
    }
    Ok(if slices.is_empty() { vec![Slice { from_ms, to_ms, rows: 0 }] } else { slices })
}

/// The rows of a slice, as bytes of `form`; `is_first` where a header line belongs before them.
///
/// # Errors
/// Only when the request cannot be built; everything else comes while reading.
pub fn rows(
    client: &Client,
    project: u32,
    table: &Exported,
    slice: Slice,
    form: Form,
    is_first: bool,
) -> Result<BytesCursor, StoreError> {
    let columns = match form {
        Form::Csv if !table.nested.is_empty() => {
            let texts: Vec<String> =
                table.nested.iter().map(|column| format!("toJSONString({column}) AS {column}")).collect();
            format!("* REPLACE ({})", texts.join(", "))
        }
        _ => "*".to_owned(),
    };
    let sql = format!("{PEOPLE}\nSELECT {columns} FROM ({}\n) ORDER BY {}", table.sql, table.order);
    let format = match (form, is_first) {
        (Form::NdJson, _) => "JSONEachRow",
        (Form::Csv, true) => "CSVWithNames",
        (Form::Csv, false) => "CSV",
    };
    let cursor = client
        .raw()
        .query_raw(&sql)
        .with_setting("readonly", "2")
        .with_setting("max_bytes_before_external_sort", MAX_SORT_BYTES.to_string())
        // A text is a text, also where it looks like a number.
        .with_setting("cast_string_to_variant_use_inference", "0")
        .with_setting("output_format_json_quote_64bit_integers", "0")
        .with_setting("date_time_output_format", "iso")
        .param("project", project)
        .param("from", time(slice.from_ms))
        .param("to", time(slice.to_ms))
        .fetch_bytes(format)?;
    Ok(cursor)
}

/// Seconds with three decimals, as ClickHouse reads a time.
fn time(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}
