//! Saved funnels: questions of the catalogue whose answer the exact funnel computes.
//!
//! In: the bound parameters of a query with `engine: funnel`. Out: a [`FunnelRequest`], and the rows of its answer. A team
//! saves a funnel of its own as a file with such a header and its steps as the default of `steps`.

use super::compare::StepComparison;
use super::{CompareRequest, FunnelAnswer, FunnelError, FunnelRequest, MatchRequest, PeriodAnswer, StepAnswer};
use crate::catalog::BoundQuery;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Parameters such a query may have.
pub const PARAMS: [&str; 12] = [
    "from",
    "to",
    "tz",
    "steps",
    "funnel",
    "order",
    "window_ms",
    "count_by",
    "first_time",
    "breakdown",
    "attribution",
    "breakdown_limit",
];

/// Columns of the rows and their types in ClickHouse, in order.
pub const COLUMNS: [(&str, &str); 12] = [
    ("group", "String"),
    ("value", "String"),
    ("step", "UInt32"),
    ("label", "String"),
    ("count", "UInt64"),
    ("rate_from_first", "Nullable(Float64)"),
    ("rate_from_previous", "Nullable(Float64)"),
    ("lost", "UInt64"),
    ("open", "UInt64"),
    ("time_ms_avg", "Nullable(Float64)"),
    ("time_ms_p50", "Nullable(Int64)"),
    ("time_ms_p90", "Nullable(Int64)"),
];

/// Parameters a comparison may have.
pub const COMPARISON_PARAMS: [&str; 13] = [
    "from",
    "to",
    "tz",
    "base_from",
    "base_to",
    "attribute",
    "base_value",
    "value",
    "steps",
    "funnel",
    "order",
    "window_ms",
    "count_by",
];

/// Columns of the rows of a comparison and their types in ClickHouse, in order.
pub const COMPARISON_COLUMNS: [(&str, &str); 13] = [
    ("step", "UInt32"),
    ("label", "String"),
    ("of_those", "String"),
    ("base_reached", "UInt64"),
    ("base_of", "UInt64"),
    ("base_rate", "Nullable(Float64)"),
    ("reached", "UInt64"),
    ("of", "UInt64"),
    ("rate", "Nullable(Float64)"),
    ("difference", "Nullable(Float64)"),
    ("difference_low", "Nullable(Float64)"),
    ("difference_high", "Nullable(Float64)"),
    ("verdict", "String"),
];

/// Parameters a conversion over time may have.
pub const OVER_TIME_PARAMS: [&str; 10] =
    ["from", "to", "tz", "steps", "funnel", "order", "window_ms", "count_by", "first_time", "period"];

/// Columns of the rows of a conversion over time and their types in ClickHouse, in order.
pub const OVER_TIME_COLUMNS: [(&str, &str); 8] = [
    ("period", "DateTime64(3, 'UTC')"),
    ("local_time", "String"),
    ("step", "UInt32"),
    ("label", "String"),
    ("count", "UInt64"),
    ("rate_from_first", "Nullable(Float64)"),
    ("lost", "UInt64"),
    ("open", "UInt64"),
];

/// The declared funnel the steps are to be taken from, where the question names no steps.
pub fn declared_funnel(bound: &BoundQuery) -> Option<&str> {
    let text = |name: &str| given(bound, name).unwrap_or("");
    (text("steps").is_empty() && !text("funnel").is_empty()).then(|| text("funnel"))
}

/// The statement for the steps of a declared funnel in order: those of the service and release that was first seen declaring it
/// last, as in `declared_funnels`. Releases that run side by side declare again and again; when each did so last says nothing.
/// One column, `name`.
pub fn declared_steps(project: u32, funnel: &str) -> BoundQuery {
    let sql = "SELECT toString(name) AS name FROM catalog WHERE project = {project:UInt32} AND kind = 'step' \
               AND funnel = {funnel:String} AND (service, release) IN \
               (SELECT argMax((service, release), (seen, release)) FROM \
               (SELECT service, release, min(time) AS seen FROM catalog WHERE project = {project:UInt32} AND kind = 'step' \
               AND funnel = {funnel:String} GROUP BY service, release)) \
               GROUP BY name ORDER BY argMax(position, time), name";
    let params = vec![("funnel".to_owned(), funnel.to_owned()), ("project".to_owned(), project.to_string())];
    BoundQuery { sql: sql.to_owned(), params, range_ms: None }
}

/// The funnel a saved question asks for. `declared` are the steps of the declared funnel, where one is named.
///
/// # Errors
/// No steps, from either.
pub fn request(bound: &BoundQuery, declared: &[String]) -> Result<FunnelRequest, FunnelError> {
    let text = |name: &str| given(bound, name).filter(|text| !text.is_empty()).map(str::to_owned);
    let steps: Vec<String> = match text("steps") {
        Some(steps) => steps.split(',').map(|step| step.trim().to_owned()).collect(),
        None => declared.to_vec(),
    };
    if steps.is_empty() {
        let problem = match given(bound, "funnel").filter(|funnel| !funnel.is_empty()) {
            Some(funnel) => format!("must name the steps: no release has declared a funnel {funnel:?}"),
            None => "must name the steps, separated by commas, or funnel a declared funnel".to_owned(),
        };
        return Err(FunnelError::new("steps", problem));
    }
    let step = |event: String| MatchRequest { event: (event != "*").then_some(event), conditions: Vec::new() };
    let number = |name: &str| given(bound, name).and_then(|text| text.parse().ok());
    let time = |ms: i64| Timestamp::from_millisecond(ms).ok().map(|at| at.to_string());
    Ok(FunnelRequest {
        steps: steps.into_iter().map(step).collect(),
        order: text("order"),
        window_ms: number("window_ms"),
        from: bound.range_ms.and_then(|(from, _)| time(from)),
        to: bound.range_ms.and_then(|(_, to)| time(to)),
        count_by: text("count_by"),
        first_time: given(bound, "first_time") == Some("true"),
        breakdown: text("breakdown"),
        attribution: text("attribution"),
        breakdown_limit: number("breakdown_limit"),
        interval: text("period"),
        tz: text("tz"),
        ..FunnelRequest::default()
    })
}

/// The funnel a saved comparison asks for, compared with another range or, where an attribute is named, value with value.
///
/// # Errors
/// As [`request`], and an attribute without both values.
pub fn comparison(bound: &BoundQuery, declared: &[String]) -> Result<FunnelRequest, FunnelError> {
    let asked = request(bound, declared)?;
    let text = |name: &str| given(bound, name).filter(|text| !text.is_empty()).map(str::to_owned);
    let Some(attribute) = text("attribute") else {
        // A bound time is seconds since the Unix epoch.
        let time = |name: &str| given(bound, name).and_then(|text| text.replace('.', "").parse().ok());
        let rfc3339 = |ms: i64| Timestamp::from_millisecond(ms).ok().map(|at| at.to_string());
        let from = time("base_from").and_then(rfc3339);
        let to = time("base_to").and_then(rfc3339);
        return Ok(FunnelRequest { compare: Some(CompareRequest { from, to, ..CompareRequest::default() }), ..asked });
    };
    let value = |name: &str| {
        let problem = || FunnelError::new(name, "must be given where attribute is: one of its values");
        text(name).map(Value::String).ok_or_else(problem)
    };
    let values = Some((value("base_value")?, value("value")?));
    Ok(FunnelRequest {
        breakdown: Some(attribute),
        attribution: None,
        breakdown_limit: i64::try_from(super::validate::MAX_BREAKDOWN_LIMIT).ok(),
        compare: Some(CompareRequest { values, ..CompareRequest::default() }),
        ..asked
    })
}

/// The same error with its field named as the parameter of a saved comparison that it came from.
pub fn named_as_parameter(error: FunnelError) -> FunnelError {
    let field = match error.field.as_str() {
        "compare.from" => "base_from",
        "compare.to" => "base_to",
        "compare.values[0]" => "base_value",
        "compare.values[1]" => "value",
        other => other,
    };
    FunnelError { field: field.to_owned(), ..error }
}

/// The rows of a comparison, columns as in [`COMPARISON_COLUMNS`]: for each step but the first the share of those who
/// entered, then of those who reached the step before.
pub fn comparison_rows(steps: &[StepComparison]) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for step in steps.iter().skip(1) {
        for (of_those, found) in [("who entered", &step.from_first), ("at the step before", &step.from_previous)] {
            rows.push(vec![
                json!(step.step),
                json!(step.label),
                json!(of_those),
                json!(found.base.reached),
                json!(found.base.of),
                json!(found.base.rate),
                json!(found.head.reached),
                json!(found.head.of),
                json!(found.head.rate),
                json!(found.difference),
                json!(found.low),
                json!(found.high),
                json!(found.verdict),
            ]);
        }
    }
    rows
}

/// The rows of an answer, columns as in [`COLUMNS`]: the whole first, then group by group.
pub fn rows(answer: &FunnelAnswer) -> Vec<Vec<Value>> {
    let whole = std::iter::once(("whole", Value::Null, &answer.steps));
    let groups = answer.breakdown.iter().map(|group| (group.group, group.value.clone(), &group.steps));
    let mut rows = Vec::new();
    for (group, value, steps) in whole.chain(groups) {
        let value = match value {
            Value::Null => String::new(),
            Value::String(text) => text,
            other => other.to_string(),
        };
        for step in steps {
            rows.push([json!(group), json!(value)].into_iter().chain(step.cells()).collect());
        }
    }
    rows
}

/// The rows of a conversion over time, columns as in [`OVER_TIME_COLUMNS`]: period by period, step by step.
pub fn over_time_rows(steps: &[StepAnswer], periods: &[PeriodAnswer]) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for period in periods {
        let at = period.start.parse::<Timestamp>().map_or(Value::Null, |at| json!(at.to_string()));
        // The start is written with the zone's offset: its first 16 characters are what the clock there shows.
        let local_time = period.start.get(..16).unwrap_or_default().replace('T', " ");
        for (place, (count, open)) in period.counts.iter().zip(&period.open).enumerate() {
            let entered = period.counts.first().copied().unwrap_or_default();
            let passed = period.counts.get(place + 1).map_or(*count, |next| next + open);
            rows.push(vec![
                at.clone(),
                json!(local_time),
                json!(place),
                json!(steps.get(place).map(|step| &step.label)),
                json!(count),
                json!((entered > 0).then(|| *count as f64 / entered as f64)),
                json!(count.saturating_sub(passed)),
                json!(open),
            ]);
        }
    }
    rows
}

fn given<'a>(bound: &'a BoundQuery, name: &str) -> Option<&'a str> {
    bound.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}
