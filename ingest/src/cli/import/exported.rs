//! One row of a file that `gemba export` wrote, as the log record it was.
//!
//! Pure: a row in, OTLP JSON or a problem out. Times are kept to the millisecond, as they were stored.

use super::record::{Made, Row, any_value};
use gemba_conventions::attribute;
use serde_json::{Map, Value, json};

/// Column with the time.
pub(super) const TIME: &str = "time";
/// Columns of the person and their place, and what they are on the wire.
const IDENTITY: [(&str, &str); 4] = [
    ("user", attribute::USER_ID),
    ("session", attribute::SESSION_ID),
    ("anonymous", attribute::ANONYMOUS_ID),
    ("tenant", attribute::TENANT),
];

/// The record of a row.
///
/// # Errors
/// What is wrong with which column.
pub(super) fn record(row: &Row, time_ns: i64) -> Result<Made, String> {
    let name = row.text("event")?;
    if name.is_empty() {
        return Err("column \"event\" is empty: an event needs a name".to_owned());
    }
    let mut attributes = pairs(&nested(row, "attributes")?);
    for (column, key) in IDENTITY {
        let id = row.text(column)?;
        if !id.is_empty() {
            attributes.push(json!({"key": key, "value": {"stringValue": id}}));
        }
    }
    let record = json!({
        "timeUnixNano": time_ns.to_string(), "eventName": name, "attributes": attributes,
        "traceId": row.text("trace_id")?, "spanId": row.text("span_id")?,
    });
    Ok(Made::Records(vec![record], Some(pairs(&nested(row, "resource")?))))
}

/// The object in a column: as it is in NDJSON, as text in CSV.
fn nested(row: &Row, column: &str) -> Result<Map<String, Value>, String> {
    if let Some(Value::Object(object)) = row.0.get(column) {
        return Ok(object.clone());
    }
    serde_json::from_str(&row.text(column)?).map_err(|error| format!("column {column:?} holds no JSON object: {error}"))
}

/// An object's members as attributes.
pub(super) fn pairs(object: &Map<String, Value>) -> Vec<Value> {
    let value = |value: &Value| match value {
        // In a cell of a table an empty text means nothing; here it was sent.
        Value::String(text) => Some(json!({"stringValue": text})),
        other => any_value(other),
    };
    object.iter().filter_map(|(key, cell)| Some(json!({"key": key, "value": value(cell)?}))).collect()
}
