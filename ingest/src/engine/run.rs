//! Runs one statement on one connection: settings, tables sent along, the statement itself, its data, its result.
//!
//! In: a [`Job`] and a connection. Out: [`Event`]s. Blocks as long as the statement runs.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::fd::AsRawFd as _;

use tokio::sync::oneshot;

use super::host::{Event, ExternalTable, Job};
use super::library::{Connection, Statistics};
use super::statement::{self, Plan};

/// Longest statement text taken from a body. Chosen: 64 times ClickHouse's `max_query_size`, which the engine applies.
const MAX_STATEMENT_BYTES: u64 = 16 << 20;
/// Where an insert's data must have begun: ClickHouse's `max_query_size`.
const MAX_INSERT_HEAD_BYTES: usize = 256 << 10;
/// Size of the pieces data is handed to the engine in.
const PIECE_BYTES: usize = 1 << 20;

/// Runs the job and reports its end; an error returned was not reported.
pub(super) fn run_on(connection: &mut Connection, job: &mut Job, keep: bool) -> Result<(), String> {
    let mut settings = std::mem::take(&mut job.settings);
    let mut undo = Vec::new();
    if keep {
        settings.push(("log_comment".into(), format!("{}\u{1}{}", job.log_comment, job.query_id)));
        undo = undo_statements(connection, &settings, job.database.is_some())?;
    }
    let outcome = prepare(connection, &settings, job.database.as_deref())
        .and_then(|()| send_tables(connection, &std::mem::take(&mut job.tables)))
        .and_then(|()| run_statement(connection, job));
    for statement in undo {
        connection.query(&statement, "Null", &[])?;
    }
    outcome
}

pub(super) fn quoted(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        if c == quote || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push(quote);
    out
}

/// The statement that sets all settings at once.
fn set_statement(settings: &[(String, String)]) -> String {
    let mut sql = String::from("SET ");
    for (index, (name, value)) in settings.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        write!(sql, "{comma}{} = {}", quoted(name, '`'), quoted(value, '\'')).ok();
    }
    sql
}

fn prepare(connection: &mut Connection, settings: &[(String, String)], database: Option<&str>) -> Result<(), String> {
    if let Some(database) = database {
        connection.query(&format!("USE {}", quoted(database, '`')), "Null", &[])?;
    }
    if !settings.is_empty() {
        connection.query(&set_statement(settings), "Null", &[])?;
    }
    Ok(())
}

/// The statements that bring a session back to where it is now.
fn undo_statements(
    connection: &mut Connection,
    settings: &[(String, String)],
    database: bool,
) -> Result<Vec<String>, String> {
    let mut undo = Vec::new();
    let names: Vec<String> = settings.iter().map(|(name, _)| quoted(name, '\'')).collect();
    let sql = format!(
        "SELECT concat('SET `', name, '` = ', if(changed, concat('\\'', replaceAll(replaceAll(value, '\\\\', '\\\\\\\\'), \
         '\\'', '\\\\\\''), '\\''), 'DEFAULT')) FROM system.settings WHERE name IN ({})",
        names.join(", ")
    );
    let answer = connection.query(&sql, "TabSeparatedRaw", &[])?;
    undo.extend(String::from_utf8_lossy(answer.data()).lines().map(str::to_owned));
    if database {
        let answer = connection.query("SELECT currentDatabase()", "TabSeparatedRaw", &[])?;
        undo.push(format!("USE {}", quoted(String::from_utf8_lossy(answer.data()).trim_end_matches('\n'), '`')));
    }
    Ok(undo)
}

fn send_tables(connection: &mut Connection, tables: &[ExternalTable]) -> Result<(), String> {
    for table in tables {
        let name = quoted(&table.name, '`');
        connection.query(&format!("CREATE OR REPLACE TEMPORARY TABLE {name} ({})", table.structure), "Null", &[])?;
        let mut insert = connection.insert(&format!("INSERT INTO {name}"), &table.format, &[])?;
        // A failed append is told by `finish`.
        insert.append(&table.data).ok();
        insert.finish()?;
    }
    Ok(())
}

fn broken_body(error: &std::io::Error) -> String {
    format!("Code: 33. DB::Exception: Cannot read the request's body: {error}. (CANNOT_READ_ALL_DATA)")
}

/// Reads the statement: the text given, then as much of the body as belongs to it. Returns the text and the data that
/// was read past it.
fn read_statement(query: &str, body: &mut dyn Read) -> Result<(String, Vec<u8>), String> {
    let mut bytes = query.as_bytes().to_vec();
    if !query.is_empty() {
        bytes.push(b'\n');
    }
    if statement::begins_insert(query) && matches!(statement::plan(query), Ok(Plan::Insert { .. })) {
        // All of the body is data.
        return Ok((String::from_utf8(bytes).unwrap_or_default(), Vec::new()));
    }
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = body.read(&mut piece).map_err(|error| broken_body(&error))?;
        bytes.extend_from_slice(piece.get(..read).unwrap_or_default());
        // Data may be anything, so the text is what reads as text.
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(bytes.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default(),
        };
        if statement::begins_insert(text) && (read == 0 || bytes.len() <= MAX_INSERT_HEAD_BYTES) {
            // A format's name may be cut at the end of what has come so far, so the data must have begun.
            let found = match statement::plan(text) {
                Ok(Plan::Insert { data, .. }) if read == 0 || data < bytes.len() => Some(data),
                _ => None,
            };
            if let Some(data) = found {
                let text = text.get(..data).unwrap_or_default().to_owned();
                return Ok((text, bytes.split_off(data)));
            }
        }
        if read == 0 {
            let text = String::from_utf8(bytes).map_err(|_| {
                String::from("Code: 48. DB::Exception: The statement is not UTF-8 text. (NOT_IMPLEMENTED)")
            })?;
            return Ok((text, Vec::new()));
        }
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_STATEMENT_BYTES {
            return Err(format!(
                "Code: 62. DB::Exception: Syntax error: the statement is longer than {MAX_STATEMENT_BYTES} bytes. \
                 (SYNTAX_ERROR)"
            ));
        }
    }
}

fn run_statement(connection: &mut Connection, job: &mut Job) -> Result<(), String> {
    let (text, read_ahead) = read_statement(&job.query, job.body.as_mut())?;
    let plan = statement::plan(&text).map_err(|refusal| {
        let (code, name) = match refusal {
            statement::Refusal::File(_) => (344, "SUPPORT_IS_DISABLED"),
            _ => (62, "SYNTAX_ERROR"),
        };
        format!("Code: {code}. DB::Exception: {refusal}. ({name})")
    })?;
    if job.running.is_cancelled() {
        return Err("Code: 394. DB::Exception: Query was cancelled. (QUERY_WAS_CANCELLED)".into());
    }
    match plan {
        Plan::Insert { head, format, data } => {
            let inline = text.as_bytes().get(data..).unwrap_or_default();
            let outcome = insert(connection, job, &head, &format, &[inline, &read_ahead]);
            drop(job.events.send(Event::Ended(outcome)));
        }
        Plan::Whole { format } => {
            let text = statement::with_query_ids(&text);
            let output = connection.query(&text, &job.format, &job.parameters)?;
            let format = format.unwrap_or_else(|| job.format.clone());
            drop(job.events.send(Event::Whole { data: output.data().to_vec(), format }));
            drop(job.events.send(Event::Ended(Ok(output.statistics()))));
        }
        Plan::Stream { clause, format } => stream(connection, job, &text, clause, format)?,
    }
    Ok(())
}

fn insert(
    connection: &mut Connection,
    job: &mut Job,
    head: &str,
    format: &str,
    first: &[&[u8]],
) -> Result<Statistics, String> {
    let mut stream = connection.insert(head, format, &job.parameters)?;
    for piece in first {
        // A failed append is told by `finish`.
        if stream.append(piece).is_err() {
            return stream.finish();
        }
    }
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        // An error drops the stream unfinished: what a client did not finish sending is not stored.
        let read = job.body.read(&mut piece).map_err(|error| broken_body(&error))?;
        if read == 0 || stream.append(piece.get(..read).unwrap_or_default()).is_err() {
            return stream.finish();
        }
    }
}

fn stream(
    connection: &mut Connection,
    job: &mut Job,
    text: &str,
    clause: usize,
    format: Option<String>,
) -> Result<(), String> {
    let failed = |error: rustix::io::Errno| format!("Code: 75. DB::Exception: no pipe: {error}. (CANNOT_OPEN_FILE)");
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed)?;
    // A larger pipe means fewer switches between engine and socket; a refusal (user limits) only costs speed.
    rustix::pipe::fcntl_setpipe_size(&writer, PIECE_BYTES).ok();
    let outfile = format!(" INTO OUTFILE '/dev/fd/{}' APPEND ", writer.as_raw_fd());
    let (before, after) = text.split_at_checked(clause).unwrap_or((text, ""));
    let before = statement::with_query_ids(before);
    let (release, released) = oneshot::channel();
    let named = format.unwrap_or_else(|| job.format.clone());
    drop(job.events.send(Event::Pipe { reader, format: named, release }));
    let mut outcome = connection
        .query(&format!("{before}{outfile}{after}"), &job.format, &job.parameters)
        .map(|output| output.statistics());
    if outcome.as_ref().is_err_and(|message| message.starts_with("Code: 62.")) {
        // It cannot be read, perhaps only for our clause: what counts is what the engine says of the text as it came.
        outcome = connection.query(text, &job.format, &job.parameters).map(|output| {
            // A reader that is gone wants nothing of it.
            drop(std::fs::File::from(writer).write_all(output.data()));
            output.statistics()
        });
    } else {
        drop(writer);
    }
    drop(job.events.send(Event::Ended(outcome.map_err(|message| message.replace(outfile.trim_end(), "")))));
    // After an error the engine still holds the pipe and writes the rest of its document when the connection goes on or
    // closes; by then nobody must read it, nor may the engine wait for a reader.
    drop(released.blocking_recv());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_cannot_break_out_of_their_quotes() {
        let settings = [("a`b".to_owned(), "x' , y='\\".to_owned()), ("c".to_owned(), "1".to_owned())];
        assert_eq!(set_statement(&settings), "SET `a\\`b` = 'x\\' , y=\\'\\\\', `c` = '1'");
    }

    #[test]
    fn a_statement_ends_where_its_data_begins_however_it_arrives() {
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
                let n = self.0.len().min(3).min(out.len());
                out[..n].copy_from_slice(&self.0[..n]);
                self.0 = &self.0[n..];
                Ok(n)
            }
        }
        let check = |query: &str, body: &[u8], text: &str, data: &[u8]| {
            let mut slow = Slow(body);
            let (found, mut rest) = read_statement(query, &mut slow).unwrap();
            slow.read_to_end(&mut rest).unwrap();
            assert_eq!((found.as_str(), rest.as_slice()), (text, data), "{query:?} {body:?}");
        };
        check("", b"SELECT 1 FORMAT JSON", "SELECT 1 FORMAT JSON", b"");
        check("SELECT 1", b"", "SELECT 1\n", b"");
        check("INSERT INTO t FORMAT RowBinary", b"\xff\x00\n", "INSERT INTO t FORMAT RowBinary\n", b"\xff\x00\n");
        check("", b"INSERT INTO t FORMAT RowBinary\n\xff\x00\n", "INSERT INTO t FORMAT RowBinary\n", b"\xff\x00\n");
        check("", b"INSERT INTO t FORMAT CSVWithNames\na\n1\n", "INSERT INTO t FORMAT CSVWithNames\n", b"a\n1\n");
        check("", b"INSERT INTO t VALUES (1)", "INSERT INTO t VALUES", b" (1)");
    }
}
