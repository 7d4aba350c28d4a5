//! `gemba funnel`: asks a funnel of a running server.

use super::Failure;
use super::query::{ReaderArgs, read_back};
use crate::answer::{Answer, AnswerColumn, Format, Trust};
use gemba_queries::funnel::StepAnswer;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

/// Options of `gemba funnel`.
#[derive(Debug, clap::Args)]
pub(super) struct FunnelArgs {
    /// Steps in order: feature, FUNNEL.STEP or event names; a prefix (feature:, completed:, step:, event:) is exact.
    #[arg(required_unless_present = "request", value_name = "EVENT")]
    pub steps: Vec<String>,
    /// The whole question as JSON from a file, or - for standard input; everything POST /api/v1/funnel takes.
    #[arg(long, value_name = "FILE", conflicts_with = "steps")]
    pub request: Option<String>,
    /// Longest time from the first step to the last, such as 30m, 1h or 7d.
    #[arg(long, value_parser = window_ms)]
    pub window: Option<i64>,
    /// ordered, strict or any.
    #[arg(long)]
    pub order: Option<String>,
    /// user, session or tenant.
    #[arg(long)]
    pub count_by: Option<String>,
    /// Attribute to split by.
    #[arg(long)]
    pub breakdown: Option<String>,
    /// Beginning of the range in which entries lie.
    #[arg(long)]
    pub from: Option<String>,
    /// End of that range.
    #[arg(long)]
    pub to: Option<String>,
    /// Time zone, such as Europe/Berlin.
    #[arg(long)]
    pub tz: Option<String>,
    /// How the answer is written: table, json, ndjson or csv.
    #[arg(long, default_value = "table")]
    pub format: Format,
    #[command(flatten)]
    reader: ReaderArgs,
}

/// The parts of the server's answer that a table of steps shows.
#[derive(Deserialize)]
struct FunnelAnswer {
    steps: Vec<StepAnswer>,
    #[serde(default)]
    breakdown: Vec<Group>,
    #[serde(flatten)]
    trust: Trust,
}

#[derive(Deserialize)]
struct Group {
    value: Value,
    steps: Vec<StepAnswer>,
}

/// Runs the command.
///
/// # Errors
/// What the server refused, with its hint.
pub(super) fn run(args: &FunnelArgs) -> Result<ExitCode, Failure> {
    let value = args.reader.connect()?.post("/api/v1/funnel", &question(args)?)?;
    let mut out = std::io::stdout().lock();
    if args.format == Format::Json {
        writeln!(out, "{value}")?;
    } else {
        out.write_all(table_of(value)?.render(args.format)?.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The server's answer as rows: one a step, or one a group and step where it is split.
///
/// # Errors
/// When the answer is none of this version.
pub(super) fn table_of(value: Value) -> Result<Answer, Failure> {
    read_back(value).map(table)
}

fn question(args: &FunnelArgs) -> Result<Value, Failure> {
    if let Some(file) = &args.request {
        let mut text = String::new();
        let read = if file == "-" {
            std::io::stdin().read_to_string(&mut text)
        } else {
            std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
        };
        read.map_err(|error| {
            Failure::new(format!("cannot read {file}: {error}"), "name a file, or - for standard input")
        })?;
        return serde_json::from_str(&text).map_err(|error| {
            Failure::new(format!("{file} is not JSON: {error}"), r#"e.g. {"steps":[{"event":"cart"},{"event":"pay"}]}"#)
        });
    }
    let steps: Vec<Value> = args.steps.iter().map(|event| json!({ "event": event })).collect();
    let mut question = json!({ "steps": steps });
    let fields = [
        ("order", &args.order),
        ("count_by", &args.count_by),
        ("breakdown", &args.breakdown),
        ("from", &args.from),
        ("to", &args.to),
        ("tz", &args.tz),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            question[name] = json!(value);
        }
    }
    if let Some(window_ms) = args.window {
        question["window_ms"] = json!(window_ms);
    }
    Ok(question)
}

fn table(answer: FunnelAnswer) -> Answer {
    let split = !answer.breakdown.is_empty();
    let mut columns: Vec<AnswerColumn> = Vec::new();
    let mut column = |name: &str, kind: &str, unit: &str| {
        columns.push(AnswerColumn { name: name.to_owned(), kind: kind.to_owned(), unit: unit.to_owned() });
    };
    if split {
        column("group", "String", "");
    }
    column("step", "UInt64", "");
    column("event", "String", "");
    column("count", "UInt64", "");
    column("rate_from_first", "Float64", "");
    column("rate_from_previous", "Float64", "");
    column("lost", "UInt64", "");
    column("open", "UInt64", "");
    column("time_from_previous_ms_avg", "Float64", "ms");
    column("time_from_previous_ms_p50", "Int64", "ms");
    column("time_from_previous_ms_p90", "Int64", "ms");
    let rows = if split {
        let row = |group: &Group, step: &StepAnswer| std::iter::once(group.value.clone()).chain(step.cells()).collect();
        answer.breakdown.iter().flat_map(|group| group.steps.iter().map(move |step| row(group, step))).collect()
    } else {
        answer.steps.iter().map(|step| step.cells().to_vec()).collect()
    };
    Answer { query: "funnel".to_owned(), columns, rows, trust: answer.trust }
}

fn window_ms(text: &str) -> Result<i64, String> {
    const UNITS: [(&str, i64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = UNITS.iter().find(|(unit, _)| *unit == &text[digits.len()..]);
    match (digits.parse::<i64>(), unit) {
        (Ok(number), Some((_, factor))) if number > 0 => {
            number.checked_mul(*factor).ok_or_else(|| "too long".to_owned())
        }
        _ => Err("write a number and a unit, such as 30m, 1h or 7d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::window_ms;

    #[test]
    fn windows_are_numbers_with_units() {
        assert_eq!(window_ms("30m"), Ok(1_800_000));
        assert_eq!(window_ms("250ms"), Ok(250));
        for bad in ["", "7", "-1d", "0s", "1y", "9223372036854775807d"] {
            assert!(window_ms(bad).is_err(), "{bad}");
        }
    }
}
