//! An answer to a saved question: columns with units, rows, and how far it can be trusted.
//!
//! The same value is made by the server, sent as JSON, read back by the command line and written in the format asked
//! for. It knows nothing of HTTP and nothing of ClickHouse.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::str::FromStr;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: aligned columns.
    #[default]
    Table,
    /// One JSON object, the whole [`Answer`].
    Json,
    /// One JSON object a row, keyed by column.
    NdJson,
    /// Comma-separated with a header line (RFC 4180).
    Csv,
}

impl Format {
    /// The words a caller may use.
    pub const WORDS: &'static [&'static str] = &["table", "json", "ndjson", "csv"];

    /// The `Content-Type` of this format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Table => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::NdJson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// A word that is no [`Format`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}: use one of table, json, ndjson, csv")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, UnknownFormat> {
        match word {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "ndjson" => Ok(Self::NdJson),
            "csv" => Ok(Self::Csv),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerColumn {
    /// Name.
    pub name: String,
    /// ClickHouse type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Unit, as in the header of the saved query; empty for text and plain counts.
    pub unit: String,
    /// Largest relative error in percent; `0` when exact.
    #[serde(default = "exact")]
    pub error_percent: String,
}

fn exact() -> String {
    "0".to_owned()
}

impl AnswerColumn {
    /// An exact column.
    pub fn new(name: &str, kind: &str, unit: &str) -> Self {
        Self { name: name.to_owned(), kind: kind.to_owned(), unit: unit.to_owned(), error_percent: exact() }
    }
}

/// What is known to be missing from the range of an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KnownLoss {
    /// Records that SDKs report as dropped, or the server as rejected or set aside.
    pub records: u64,
    /// Their share of all records of the range, stored and lost, 0 to 1.
    pub share: f64,
    /// The same by reason.
    pub by_reason: BTreeMap<String, u64>,
}

/// How far an answer can be trusted; part of every answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    /// Beginning of the range, RFC 3339, inclusive; `None` where the question has no range.
    pub from: Option<String>,
    /// End of the range, RFC 3339, exclusive.
    pub to: Option<String>,
    /// Whether everything acknowledged up to the end of the range can be seen by the answer.
    pub complete: bool,
    /// Up to when that is so, RFC 3339.
    pub complete_until: String,
    /// Where the range begins before it: from when on nothing was removed by retention, RFC 3339. The answer is not complete
    /// then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_from: Option<String>,
    /// What is known to be missing.
    pub known_loss: KnownLoss,
    /// Time the answer took on the server, in milliseconds.
    pub elapsed_ms: u64,
    /// What was known when: everything received before this, RFC 3339. Asked again with it, the answer is the same.
    #[serde(default)]
    pub as_of: String,
    /// The project's filter, and whether it applied.
    #[serde(default)]
    pub filter: FilterUse,
    /// The cohort whose people were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<CohortUse>,
    /// How many calls, requests or people one that was counted stands for at most, where a part of them is recorded; absent where
    /// each stands for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling_weight: Option<f64>,
    /// Where an `as_of` was given: whether the answer is the one that was given then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reproduced: Option<Reproduced>,
    /// The saved question this is the answer of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<SavedUse>,
}

/// Whether the project's filter applied to an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FilterUse {
    /// Whether events were left out by it.
    pub applied: bool,
    /// Its version; 0 where the project has none.
    pub version: u64,
    /// What it leaves out: events that meet any of these.
    pub excludes: Vec<Value>,
    /// Why it did not apply, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// The cohort an answer is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CohortUse {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// When its members were chosen, RFC 3339.
    pub at: String,
    /// How many they are.
    pub members: u64,
}

/// Whether an answer is the one that was given at its `as_of`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reproduced {
    /// True where nothing has been removed since.
    pub exactly: bool,
    /// Why not.
    pub because: Vec<String>,
    /// Events of the range that arrived later and are left out.
    pub late_events: u64,
}

/// Which saved question was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedUse {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Name of the saved query.
    pub query: String,
    /// Columns in order.
    pub columns: Vec<AnswerColumn>,
    /// One entry a row, each as long as `columns`.
    pub rows: Vec<Vec<Value>>,
    /// How far to trust it.
    #[serde(flatten)]
    pub trust: Trust,
}

impl Answer {
    /// The answer as text of `format`, ending in a line feed unless it is empty.
    ///
    /// # Errors
    /// Fails only when a value cannot be written as JSON or CSV, which no answer of the server holds.
    pub fn render(&self, format: Format) -> Result<String, std::io::Error> {
        match format {
            Format::Table => Ok(self.table()),
            Format::Json => Ok(serde_json::to_string(self)? + "\n"),
            Format::NdJson => {
                let mut text = String::new();
                for row in &self.rows {
                    let object: serde_json::Map<String, Value> =
                        self.columns.iter().map(|column| column.name.clone()).zip(row.iter().cloned()).collect();
                    text.push_str(&serde_json::to_string(&object)?);
                    text.push('\n');
                }
                Ok(text)
            }
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(Vec::new());
                writer.write_record(self.columns.iter().map(|column| column.name.as_str()))?;
                for row in &self.rows {
                    writer.write_record(row.iter().map(plain))?;
                }
                let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
        }
    }

    /// The same answer with only these columns, in this order, and at most so many rows. A column it does not have is
    /// left out.
    pub fn excerpt(&self, columns: &[&str], rows: usize) -> Self {
        let places: Vec<usize> =
            columns.iter().filter_map(|name| self.columns.iter().position(|column| column.name == *name)).collect();
        let pick = |row: &Vec<Value>| places.iter().filter_map(|place| row.get(*place).cloned()).collect();
        Self {
            query: self.query.clone(),
            columns: places.iter().filter_map(|place| self.columns.get(*place).cloned()).collect(),
            rows: self.rows.iter().take(rows).map(pick).collect(),
            trust: self.trust.clone(),
        }
    }

    fn table(&self) -> String {
        if self.rows.is_empty() {
            return "nothing to show\n".to_owned();
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(self.columns.iter().map(heading));
        for row in &self.rows {
            table.add_row(row.iter().map(for_people));
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            let is_number = self.rows.iter().any(|row| row.get(index).is_some_and(Value::is_number));
            if is_number {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        if let Some(kept_from) = &self.trust.kept_from {
            lines.push(format!("older data was removed by retention: complete from {kept_from}"));
        }
        if !self.trust.complete {
            lines.push(format!("complete until {}", self.trust.complete_until));
        }
        lines.extend(self.trust.remarks());
        lines.join("\n") + "\n"
    }
}

impl Trust {
    /// What a reader of the figures must be told, a line each.
    fn remarks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let KnownLoss { records, share, .. } = self.known_loss;
        if records > 0 {
            lines.push(format!("known loss: {records} records ({:.2} %)", share * 100.0));
        }
        if let Some(cohort) = &self.cohort {
            lines.push(format!("cohort {}, version {}: {} people", cohort.name, cohort.version, cohort.members));
        }
        if self.filter.applied {
            let excludes: Vec<String> = self.filter.excludes.iter().map(Value::to_string).collect();
            lines.push(format!("left out by the project's filter (filter=off shows all): {}", excludes.join(" or ")));
        }
        if let Some(weight) = self.sampling_weight {
            lines.push(format!("sampled: one that is counted stands for up to {weight}"));
        }
        if let Some(reproduced) = &self.reproduced {
            lines.extend(reproduced.because.iter().map(|reason| format!("not as it was then: {reason}")));
            if reproduced.late_events > 0 {
                lines.push(format!("{} events of the range arrived later and are left out", reproduced.late_events));
            }
        }
        lines
    }
}

fn heading(column: &AnswerColumn) -> String {
    // Counts, names and times need no unit, and one that the name already holds would be said twice.
    let tells = column.unit.contains(" per ") || ["s", "bytes"].contains(&column.unit.as_str());
    let mut heading = column.name.clone();
    if tells && !column.name.contains(column.unit.as_str()) {
        heading = format!("{heading} [{}]", column.unit);
    }
    if column.error_percent != "0" {
        heading = format!("{heading} ±{} %", column.error_percent);
    }
    heading
}

/// A cell without loss: text bare, everything else as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A cell at a width a terminal can hold; numbers rounded to what a person reads.
fn for_people(value: &Value) -> String {
    const MAX_CHARS: usize = 72;
    let text = match value {
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            let decimals = if number.abs() >= 100.0 { 1 } else { 3 };
            format!("{number:.decimals$}")
        }
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => plain(other),
    };
    let one_line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &one_line[..end]),
        None => one_line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(rows: Vec<Vec<Value>>) -> Answer {
        let column = |name: &str, unit: &str| AnswerColumn::new(name, "String", unit);
        Answer {
            query: "feature_usage".to_owned(),
            columns: vec![column("feature", "text"), column("uses", "events")],
            rows,
            trust: Trust {
                from: None,
                to: None,
                complete: true,
                complete_until: "2026-01-01T00:00:00Z".to_owned(),
                kept_from: None,
                known_loss: KnownLoss::default(),
                elapsed_ms: 1,
                as_of: "2026-01-01T00:00:00Z".to_owned(),
                filter: FilterUse::default(),
                cohort: None,
                sampling_weight: None,
                reproduced: None,
                saved: None,
            },
        }
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let text =
            answer(vec![vec![json!("a,\"b\"\nc"), json!(9_007_199_254_740_993_u64)]]).render(Format::Csv).unwrap();
        assert_eq!(text, "feature,uses\n\"a,\"\"b\"\"\nc\",9007199254740993\n");
    }

    #[test]
    fn ndjson_is_one_object_a_row() {
        let text =
            answer(vec![vec![json!("x"), json!(1)], vec![json!("y"), Value::Null]]).render(Format::NdJson).unwrap();
        assert_eq!(text, "{\"feature\":\"x\",\"uses\":1}\n{\"feature\":\"y\",\"uses\":null}\n");
    }

    #[test]
    fn json_reads_back() {
        let answer = answer(vec![vec![json!("x"), json!(0.5)]]);
        let text = answer.render(Format::Json).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
    }

    #[test]
    fn an_approximate_column_says_by_how_much_and_a_filter_that_it_applied() {
        let mut answer = answer(vec![vec![json!("x"), json!(1)]]);
        answer.columns[1].error_percent = "1.1".to_owned();
        answer.trust.filter = FilterUse {
            applied: true,
            version: 1,
            excludes: vec![json!({"attr": "user:internal", "op": "eq", "value": true})],
            because: None,
        };
        let text = answer.render(Format::Table).unwrap();
        assert!(text.contains("uses ±1.1 %") && text.contains("user:internal"), "{text}");
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(answer(Vec::new()).render(Format::Table).unwrap(), "nothing to show\n");
    }

    #[test]
    fn a_table_aligns_numbers_and_cuts_long_text() {
        let text = answer(vec![vec![json!("x".repeat(200)), json!(12)]]).render(Format::Table).unwrap();
        assert!(text.contains('…'));
        assert!(text.lines().all(|line| line.chars().count() < 100), "{text}");
    }
}
