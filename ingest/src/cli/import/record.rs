//! One row of a file as one OTLP record, by a mapping of columns.
//!
//! Pure: a row and a mapping in, OTLP JSON or a problem out.

use super::exported;
use super::preset::Preset;
use gemba_conventions::attribute;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// A row: cells by column.
#[derive(Debug)]
pub struct Row(pub Map<String, Value>);

/// What a row gives.
#[derive(Debug)]
pub enum Made {
    /// Records to send, and the attributes of their resource where the row tells them.
    Records(Vec<Value>, Option<Vec<Value>>),
    /// Nothing: `--where` asks for other rows, or the row says nothing that is kept.
    NotWanted,
    /// Nothing: the row of a log of statements has no text.
    WithoutText,
}

/// Which column means what. Every further column of an event becomes an attribute of its name. Without any of it the
/// file is one that `gemba export` wrote.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub struct Mapping {
    /// Column with the time: RFC 3339, "YYYY-MM-DD hh:mm:ss" in UTC, or a number since 1970 in seconds, ms, us or ns.
    /// Without it the file is one that `gemba export` wrote
    #[arg(long, value_name = "COLUMN", requires = "what")]
    pub time: Option<String>,
    /// Column with the event's name.
    #[arg(long, value_name = "COLUMN", group = "what", requires = "time")]
    pub event: Option<String>,
    /// Column with the user's id.
    #[arg(long, value_name = "COLUMN", requires = "time")]
    pub user: Option<String>,
    /// Column with the session's id.
    #[arg(long, value_name = "COLUMN", requires = "time")]
    pub session: Option<String>,
    /// Column with the tenant.
    #[arg(long, value_name = "COLUMN", requires = "time")]
    pub tenant: Option<String>,
    /// The file is a log of database statements: column with their text.
    #[arg(long, value_name = "COLUMN", group = "what", requires_all = ["time", "duration_ms"])]
    pub sql: Option<String>,
    /// Column with the statement's duration in milliseconds.
    #[arg(long, value_name = "COLUMN")]
    pub duration_ms: Option<String>,
    /// Database system of the statements, as OpenTelemetry names it.
    #[arg(long, default_value = "postgresql", value_name = "SYSTEM")]
    pub system: String,
    /// Column with the database's name.
    #[arg(long, value_name = "COLUMN")]
    pub namespace: Option<String>,
    /// The file is an export of another product: its columns are known.
    #[arg(long, value_enum, conflicts_with_all = ["time", "sql"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Take only rows whose COLUMN is VALUE.
    #[arg(long = "where", value_name = "COLUMN=VALUE", value_parser = column_is)]
    pub only: Option<(String, String)>,
}

fn column_is(text: &str) -> Result<(String, String), String> {
    let (column, value) = text.split_once('=').ok_or("write COLUMN=VALUE")?;
    Ok((column.to_owned(), value.to_owned()))
}

impl Mapping {
    /// Whether rows are statements and not events.
    pub fn is_of_statements(&self) -> bool {
        self.sql.is_some()
    }

    /// The record of a row.
    ///
    /// # Errors
    /// What is wrong with which column.
    pub fn record(&self, row: &Row) -> Result<Made, String> {
        if let Some((column, value)) = &self.only
            && row.text(column)? != *value
        {
            return Ok(Made::NotWanted);
        }
        if let Some(preset) = self.preset {
            return Ok(match preset.records(row)? {
                none if none.is_empty() => Made::NotWanted,
                records => Made::Records(records, None),
            });
        }
        let column = self.time.as_deref().unwrap_or(exported::TIME);
        let cell = row.0.get(column).ok_or_else(|| format!("there is no column {column:?}"))?;
        let time_ns = time_ns(cell).ok_or_else(|| format!("column {column:?} holds no time: {cell}"))?;
        if self.time.is_none() {
            return exported::record(row, time_ns);
        }
        match (&self.sql, &self.duration_ms, &self.event) {
            (Some(sql), Some(duration_ms), _) => self.statement(row, time_ns, sql, duration_ms),
            (_, _, Some(event)) => Ok(Made::Records(vec![self.event(row, time_ns, event)?], None)),
            _ => Err("neither an event nor a statement is mapped".to_owned()),
        }
    }

    fn event(&self, row: &Row, time_ns: i64, event: &str) -> Result<Value, String> {
        let mut attributes = self.identity(row)?;
        let mapped =
            [self.time.as_ref(), self.event.as_ref(), self.user.as_ref(), self.session.as_ref(), self.tenant.as_ref()];
        for (column, cell) in &row.0 {
            if !mapped.contains(&Some(column))
                && let Some(value) = any_value(cell)
            {
                attributes.push(json!({"key": column, "value": value}));
            }
        }
        let name = row.text(event)?;
        if name.is_empty() {
            return Err(format!("column {event:?} is empty: an event needs a name"));
        }
        Ok(json!({"timeUnixNano": time_ns.to_string(), "eventName": name, "attributes": attributes}))
    }

    /// A client span, which is what an instrumented driver would have sent.
    fn statement(&self, row: &Row, time_ns: i64, sql: &str, duration_ms: &str) -> Result<Made, String> {
        const CLIENT: u8 = 3;
        let text = row.text(sql)?;
        if text.is_empty() {
            return Ok(Made::WithoutText);
        }
        let duration = row.text(duration_ms)?;
        let milliseconds: f64 =
            duration.parse().map_err(|_| format!("column {duration_ms:?} is no number: {duration:?}"))?;
        let duration_ns =
            nanoseconds(milliseconds).ok_or_else(|| format!("column {duration_ms:?} is no duration: {duration:?}"))?;
        let mut attributes = self.identity(row)?;
        attributes.push(json!({"key": attribute::DB_SYSTEM, "value": {"stringValue": self.system}}));
        attributes.push(json!({"key": attribute::DB_QUERY_TEXT, "value": {"stringValue": text}}));
        if let Some(column) = &self.namespace {
            attributes.push(json!({"key": attribute::DB_NAMESPACE, "value": {"stringValue": row.text(column)?}}));
        }
        let span = json!({
            "name": "statement", "kind": CLIENT, "attributes": attributes,
            "traceId": format!("{:032x}", random()), "spanId": format!("{:016x}", random() >> 64),
            "startTimeUnixNano": time_ns.to_string(), "endTimeUnixNano": time_ns.saturating_add(duration_ns).to_string(),
        });
        Ok(Made::Records(vec![span], None))
    }

    fn identity(&self, row: &Row) -> Result<Vec<Value>, String> {
        let mut attributes = Vec::new();
        for (key, column) in [
            (attribute::USER_ID, &self.user),
            (attribute::SESSION_ID, &self.session),
            (attribute::TENANT, &self.tenant),
        ] {
            if let Some(column) = column {
                let value = row.text(column)?;
                if !value.is_empty() {
                    attributes.push(json!({"key": key, "value": {"stringValue": value}}));
                }
            }
        }
        Ok(attributes)
    }
}

impl Row {
    pub(super) fn text(&self, column: &str) -> Result<String, String> {
        match self.0.get(column) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Null) => Ok(String::new()),
            Some(other) => Ok(other.to_string()),
            None => Err(format!("there is no column {column:?}")),
        }
    }
}

pub(super) fn any_value(cell: &Value) -> Option<Value> {
    match cell {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(json!({"stringValue": text})),
        Value::Bool(value) => Some(json!({"boolValue": value})),
        Value::Number(number) => Some(match number.as_i64() {
            Some(integer) => json!({"intValue": integer.to_string()}),
            None => json!({"doubleValue": number.as_f64()}),
        }),
        nested => Some(json!({"stringValue": nested.to_string()})),
    }
}

/// Nanoseconds since 1970; a bare number is read by its size, which is unambiguous from 1973 to 2286.
pub(super) fn time_ns(cell: &Value) -> Option<i64> {
    let text = match cell {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    if let Ok(number) = text.parse::<i64>() {
        let factor = match number.unsigned_abs() {
            0..10_000_000_000 => 1_000_000_000,
            10_000_000_000..10_000_000_000_000 => 1_000_000,
            10_000_000_000_000..10_000_000_000_000_000 => 1_000,
            _ => 1,
        };
        return number.checked_mul(factor);
    }
    let time = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp()))?;
    i64::try_from(time.as_nanosecond()).ok()
}

fn nanoseconds(milliseconds: f64) -> Option<i64> {
    let duration = std::time::Duration::try_from_secs_f64(milliseconds / 1e3).ok()?;
    i64::try_from(duration.as_nanos()).ok()
}

/// Ids of spans that never existed as such: random, as the protocol wants them.
fn random() -> u128 {
    let mut bytes = [0; 16];
    // Without randomness the id is zero, which the server takes as "no id"; nothing else depends on it.
    if getrandom::fill(&mut bytes).is_err() {
        return 0;
    }
    u128::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_text_and_as_numbers_of_any_unit() {
        let expected = Some(1_577_836_800_000_000_000);
        for text in
            ["2020-01-01T00:00:00Z", "2020-01-01 00:00:00", "1577836800", "1577836800000", "1577836800000000000"]
        {
            assert_eq!(time_ns(&json!(text)), expected, "{text}");
        }
        assert_eq!(time_ns(&json!(1_577_836_800)), expected);
        for bad in ["", "yesterday", "2020-13-01"] {
            assert_eq!(time_ns(&json!(bad)), None, "{bad}");
        }
    }

    #[test]
    fn durations_keep_their_microseconds() {
        assert_eq!(nanoseconds(0.027), Some(27_000));
        assert_eq!(nanoseconds(-1.0), None);
    }
}
