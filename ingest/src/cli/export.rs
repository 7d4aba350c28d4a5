//! `gemba export`: writes the rows of a project to standard output or into a file, as they come from a running server.
//!
//! In: a table and a range of time. Out: NDJSON or CSV, oldest first, in constant memory. The events are a form that
//! `gemba import` reads back without a mapping. An answer that breaks off is an error, and says so.

use super::Failure;
use super::progress::Progress;
use super::query::ReaderArgs;
use crate::answer::Format;
use std::fs::File;
use std::io::{BufWriter, Read as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Bytes read at a time.
const PIECE_BYTES: usize = 1 << 16;

/// Options of `gemba export`.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// What is exported: events, query_usage, query_histograms, query_texts, query_samples or requests.
    #[arg(long, default_value = "events", value_name = "TABLE")]
    table: String,
    /// Beginning of the range of event time: RFC 3339, a date, or like "now - 7d"; without it, everything.
    #[arg(long)]
    from: Option<String>,
    /// End of the range.
    #[arg(long)]
    to: Option<String>,
    /// Time zone of dates, such as Europe/Berlin.
    #[arg(long)]
    tz: Option<String>,
    /// How rows are written: ndjson or csv.
    #[arg(long, default_value = "ndjson")]
    format: Format,
    /// File to write; standard output without it.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    reader: ReaderArgs,
}

/// Runs the command.
///
/// # Errors
/// What the server refused, with its hint; an answer that broke off; a file that cannot be written.
pub(super) fn run(args: &ExportArgs) -> Result<ExitCode, Failure> {
    let format = match args.format {
        Format::NdJson => "ndjson",
        Format::Csv => "csv",
        Format::Table | Format::Json => {
            return Err(Failure::new("an export is a stream of rows", "use --format ndjson or --format csv"));
        }
    };
    let mut pairs = vec![("format", format)];
    for (key, value) in [("from", &args.from), ("to", &args.to), ("tz", &args.tz)] {
        if let Some(value) = value {
            pairs.push((key, value));
        }
    }
    let (mut rows, total) = args.reader.connect()?.stream(&format!("/api/v1/export/{}", args.table), &pairs)?;
    let mut out: Box<dyn Write> = match &args.output {
        Some(file) => Box::new(BufWriter::new(File::create(file).map_err(|error| {
            Failure::new(format!("cannot write {}: {error}", file.display()), "name another file with --output")
        })?)),
        None => Box::new(std::io::stdout().lock()),
    };
    let progress = Progress::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut lines = 0_u64;
    loop {
        let read = rows.read(&mut piece).map_err(|error| {
            let hint = "what was written is not whole: export again; the log of the server says why";
            Failure::new(format!("the export broke off: {error}"), hint)
        })?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        out.write_all(bytes)?;
        lines += bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        // A cell of CSV may hold line ends, and its header is no row.
        progress.show(lines.min(total), Some(total));
    }
    out.flush()?;
    progress.end();
    Ok(ExitCode::SUCCESS)
}
