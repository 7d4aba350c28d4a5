//! `gemba funnel`: asks a funnel of a running server.

use super::Failure;
use super::query::{ReaderArgs, unreadable};
use crate::answer::{Answer, Format};
use crate::funnel_table;
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
    /// Show the conversion over time: hour, day, week or month.
    #[arg(long, conflicts_with_all = ["dropped", "base_from", "base_to"])]
    pub interval: Option<String>,
    /// List those who reached this step (from 0) and not the next, with what they did then and last.
    #[arg(long, value_name = "STEP", conflicts_with_all = ["base_from", "base_to"])]
    pub dropped: Option<u32>,
    /// Compare with the range that begins here: what differs by more than chance.
    #[arg(long, value_name = "TIME", requires = "base_to")]
    pub base_from: Option<String>,
    /// End of the range compared with.
    #[arg(long, value_name = "TIME", requires = "base_from")]
    pub base_to: Option<String>,
    /// Save the funnel under this name, then ask it; `gemba query --saved NAME` asks it again
    #[arg(long, value_name = "NAME")]
    pub save: Option<String>,
    /// Only the people of this cohort
    #[arg(long, value_name = "NAME")]
    pub cohort: Option<String>,
    /// How the answer is written: table, json, ndjson or csv.
    #[arg(long, default_value = "table")]
    pub format: Format,
    #[command(flatten)]
    reader: ReaderArgs,
}

/// Runs the command.
///
/// # Errors
/// What the server refused, with its hint.
pub(super) fn run(args: &FunnelArgs) -> Result<ExitCode, Failure> {
    let remote = args.reader.connect()?;
    let question = question(args)?;
    if let Some(name) = &args.save {
        super::query::save(&remote, name, &json!({ "funnel": question }))?;
    }
    let value = remote.post("/api/v1/funnel", &question)?;
    let mut out = std::io::stdout().lock();
    if args.format == Format::Json {
        writeln!(out, "{value}")?;
    } else {
        out.write_all(table_of(value)?.render(args.format)?.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The server's answer as rows.
///
/// # Errors
/// When the answer is none of this version.
pub(super) fn table_of(value: Value) -> Result<Answer, Failure> {
    funnel_table::of(value).map_err(|error| unreadable(&error))
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
        ("interval", &args.interval),
        ("cohort", &args.cohort),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            question[name] = json!(value);
        }
    }
    if let Some(window_ms) = args.window {
        question["window_ms"] = json!(window_ms);
    }
    if let Some(step) = args.dropped {
        question["dropped"] = json!({ "step": step });
    }
    if let (Some(from), Some(to)) = (&args.base_from, &args.base_to) {
        question["compare"] = json!({ "from": from, "to": to });
    }
    Ok(question)
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
