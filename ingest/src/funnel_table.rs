//! A funnel's answer as rows, for the formats that have rows: tables, CSV, newline-delimited JSON.
//!
//! In: the JSON of a funnel's answer. Out: an [`Answer`]. It shows what was asked for beyond the steps: differences, units that
//! dropped, periods; else the steps, group by group where they are split. No I/O.

use crate::answer::{Answer, AnswerColumn, Trust};
use gemba_queries::funnel::compare::StepComparison;
use gemba_queries::funnel::{PeriodAnswer, StepAnswer, saved};
use serde::Deserialize;
use serde_json::{Value, json};

/// The parts of the answer that rows show.
#[derive(Deserialize)]
struct FunnelAnswer {
    steps: Vec<StepAnswer>,
    #[serde(default)]
    breakdown: Vec<Part>,
    #[serde(default)]
    over_time: Vec<PeriodAnswer>,
    dropped: Option<Vec<Dropped>>,
    comparison: Option<Comparison>,
    #[serde(flatten)]
    trust: Trust,
}

#[derive(Deserialize)]
struct Part {
    group: String,
    value: Value,
    steps: Vec<StepAnswer>,
}

#[derive(Deserialize)]
struct Dropped {
    at_ms: i64,
    unit: String,
    open: bool,
    id: Option<String>,
    next: Option<Done>,
    last: Option<Done>,
}

#[derive(Deserialize)]
struct Done {
    event: String,
    at_ms: i64,
}

#[derive(Deserialize)]
struct Comparison {
    steps: Vec<StepComparison>,
}

/// The rows of an answer.
///
/// # Errors
/// What of the JSON is not as an answer of this version has it.
pub(crate) fn of(value: Value) -> Result<Answer, serde_json::Error> {
    Ok(table(serde_json::from_value(value)?))
}

fn table(answer: FunnelAnswer) -> Answer {
    if let Some(comparison) = &answer.comparison {
        return of_columns(&saved::COMPARISON_COLUMNS, saved::comparison_rows(&comparison.steps), answer.trust);
    }
    if let Some(dropped) = &answer.dropped {
        let columns = ["unit", "at", "open", "next", "next_at", "last", "last_at"].map(|name| (name, "String"));
        return of_columns(&columns, dropped.iter().map(dropped_cells).collect(), answer.trust);
    }
    if !answer.over_time.is_empty() {
        let rows = saved::over_time_rows(&answer.steps, &answer.over_time);
        return of_columns(&saved::OVER_TIME_COLUMNS, rows, answer.trust);
    }
    steps_table(answer)
}

fn of_columns(columns: &[(&str, &str)], rows: Vec<Vec<Value>>, trust: Trust) -> Answer {
    let unit = |name: &str| if name.contains("_ms_") { "ms" } else { "" };
    let columns = columns.iter().map(|(name, kind)| AnswerColumn::new(name, kind, unit(name))).collect();
    Answer { query: "funnel".to_owned(), columns, rows, trust }
}

fn dropped_cells(unit: &Dropped) -> Vec<Value> {
    let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).map_or(Value::Null, |at| json!(at.to_string()));
    let event = |done: &Option<Done>| json!(done.as_ref().map(|done| &done.event));
    let at = |done: &Option<Done>| done.as_ref().map_or(Value::Null, |done| time(done.at_ms));
    vec![
        json!(unit.id.as_ref().unwrap_or(&unit.unit)),
        time(unit.at_ms),
        json!(unit.open),
        event(&unit.next),
        at(&unit.next),
        event(&unit.last),
        at(&unit.last),
    ]
}

fn steps_table(answer: FunnelAnswer) -> Answer {
    let steps = [
        ("step", "UInt64"),
        ("event", "String"),
        ("count", "UInt64"),
        ("rate_from_first", "Float64"),
        ("rate_from_previous", "Float64"),
        ("lost", "UInt64"),
        ("open", "UInt64"),
        ("time_from_previous_ms_avg", "Float64"),
        ("time_from_previous_ms_p50", "Int64"),
        ("time_from_previous_ms_p90", "Int64"),
    ];
    if answer.breakdown.is_empty() {
        return of_columns(&steps, answer.steps.iter().map(|step| step.cells().to_vec()).collect(), answer.trust);
    }
    // A value may be called "other" like the rest, or be missing like null: the group says which.
    let columns: Vec<(&str, &str)> = [("group", "String"), ("value", "String")].into_iter().chain(steps).collect();
    let row = |part: &Part, step: &StepAnswer| -> Vec<Value> {
        [json!(part.group), part.value.clone()].into_iter().chain(step.cells()).collect()
    };
    let rows = answer.breakdown.iter().flat_map(|group| group.steps.iter().map(move |step| row(group, step)));
    of_columns(&columns, rows.collect(), answer.trust)
}
