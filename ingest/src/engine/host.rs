//! The engine inside this process: opens connections, runs statements on them, cancels them.
//!
//! In: [`Job`]s. Out: [`Event`]s to whoever answers the client. Knows nothing of HTTP. Everything here blocks and runs
//! on threads made for that.
//!
//! Invariants:
//! 1. A request gets a connection of its own, closed when it ends, so that no setting, database or temporary table of
//!    one request is seen by another. (Opening one takes 0.4 ms.) A session's requests share one, and get its settings
//!    and database back as they left them.
//! 2. A statement whose client is gone is killed until it has ended.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedMutexGuard, Semaphore, mpsc, oneshot};

use super::library::{Connection, Library, LibraryError, Statistics};
use super::statement::{self, Plan};

/// Statements at once; further ones are refused as ClickHouse refuses them (its `max_concurrent_queries` defaults to
/// 100 in the shipped configuration).
const MAX_STATEMENTS: usize = 100;
/// Longest statement text taken from a body. Chosen: 64 times ClickHouse's `max_query_size`, which the engine applies.
const MAX_STATEMENT_BYTES: u64 = 16 << 20;
/// Where an insert's data must have begun: ClickHouse's `max_query_size`.
const MAX_INSERT_HEAD_BYTES: usize = 256 << 10;
/// Size of the pieces data is handed to the engine in.
const PIECE_BYTES: usize = 1 << 20;
/// How often a statement of a client that is gone is killed anew. A kill can come before the engine knows the statement.
const KILL_INTERVAL: Duration = Duration::from_millis(200);

/// What the engine says of itself, for the headers of every answer.
#[derive(Debug, Clone)]
pub struct About {
    /// `26.7.2.1`.
    pub version: String,
    /// IANA name of the engine's time zone.
    pub timezone: String,
    /// Name of the machine.
    pub host_name: String,
}

/// A table sent along with a query.
#[derive(Debug)]
pub struct ExternalTable {
    /// Its name in the query.
    pub name: String,
    /// `name Type, ...`.
    pub structure: String,
    /// Format of its data.
    pub format: String,
    /// Its data.
    pub data: Vec<u8>,
}

/// A statement to run.
pub struct Job {
    /// Statement text that came apart from the body; the body follows it after a line end.
    pub query: String,
    /// The body in the clear.
    pub body: Box<dyn Read + Send>,
    /// Settings for this statement only.
    pub settings: Vec<(String, String)>,
    /// Values for `{name:Type}`.
    pub parameters: Vec<(String, String)>,
    /// Tables sent along.
    pub tables: Vec<ExternalTable>,
    /// Current database; `None` keeps the connection's.
    pub database: Option<String>,
    /// Format for a result whose statement names none.
    pub format: String,
    /// Id the client knows the statement by.
    pub query_id: String,
    /// The client's `log_comment`, which shares a setting with the id.
    pub log_comment: String,
    /// The session it belongs to, locked.
    pub session: Option<OwnedMutexGuard<Session>>,
    /// Told when the statement ends, and told to end it.
    pub running: Arc<Running>,
    /// Where events go.
    pub events: mpsc::UnboundedSender<Event>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("query_id", &self.query_id).finish_non_exhaustive()
    }
}

/// What happens to a statement, in this order: at most one of `Pipe` and `Whole`, then `Ended`.
#[derive(Debug)]
pub enum Event {
    /// The result comes through a pipe, in the format named.
    Pipe {
        /// The end to read from. The end of the result is `Ended`, not the pipe's.
        reader: OwnedFd,
        /// Format of the result.
        format: String,
        /// Dropped by the reader when it has read what it wants; the connection is kept until then.
        release: oneshot::Sender<()>,
    },
    /// The whole result.
    Whole {
        /// Its bytes.
        data: Vec<u8>,
        /// Its format.
        format: String,
    },
    /// The statement has ended: its numbers, or the engine's message.
    Ended(Result<Statistics, String>),
}

/// A statement in work.
#[derive(Debug, Default)]
pub struct Running {
    cancelled: AtomicBool,
    ended: AtomicBool,
    changed: Notify,
}

impl Running {
    fn end(&self) {
        // Release: what the statement did is visible to whoever sees it ended.
        self.ended.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// A connection that outlives a request, by the client's wish (`session_id`).
#[derive(Debug)]
pub struct Session {
    connection: Option<Connection>,
    expires: Instant,
}

/// Why a session cannot be had; texts and codes are ClickHouse's.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Another request of the session is at work.
    #[error("Code: 373. DB::Exception: Session {0} is locked by a concurrent client. (SESSION_IS_LOCKED)")]
    Locked(String),
    /// `session_check=1` and there is no such session.
    #[error("Code: 372. DB::Exception: Session {0} not found. (SESSION_NOT_FOUND)")]
    NotFound(String),
}

/// The engine in this process.
pub struct Host {
    library: &'static Library,
    arguments: Vec<String>,
    /// Keeps the engine alive between requests, and kills statements.
    keeper: Mutex<Option<Connection>>,
    about: About,
    sessions: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Session>>>>,
    slots: Arc<Semaphore>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Host {
    /// Starts the engine on a data folder. Blocks: 0.1 s for an empty folder, longer with many parts.
    ///
    /// # Errors
    ///
    /// [`LibraryError`].
    pub fn start(library: &'static Library, data: &Path, config: &Path) -> Result<Host, LibraryError> {
        let arguments = vec![
            format!("--path={}", data.display()),
            format!("--config-file={}", config.display()),
            // The engine waits for a batch otherwise; an insert acknowledged here is stored.
            "--async_insert=0".into(),
            // A local tool's comfort that a server does not have.
            "--implicit_select=0".into(),
        ];
        let mut keeper = library.connect(&arguments)?;
        let answer = keeper
            .query("SELECT version(), timezone(), hostName()", "TabSeparated", &[])
            .map_err(|_| LibraryError::Connect)?;
        let text = String::from_utf8_lossy(answer.data()).trim_end().to_owned();
        drop(answer);
        let mut fields = text.split('\t').map(str::to_owned);
        let mut field = || fields.next().unwrap_or_default();
        let about = About { version: field(), timezone: field(), host_name: field() };
        Ok(Host {
            library,
            arguments,
            keeper: Mutex::new(Some(keeper)),
            about,
            sessions: Mutex::default(),
            slots: Arc::new(Semaphore::new(MAX_STATEMENTS)),
        })
    }

    /// What the engine says of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Locks a session, opening it if it is new. Never blocks for long: a locked session is refused.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub fn session(
        &self,
        id: &str,
        timeout: Duration,
        must_exist: bool,
    ) -> Result<OwnedMutexGuard<Session>, SessionError> {
        let now = Instant::now();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // A session at work is locked and stays; its time begins anew when it ends.
        sessions.retain(|_, session| session.try_lock().map_or(true, |session| session.expires > now));
        let known = sessions.get(id).cloned();
        if known.is_none() && must_exist {
            return Err(SessionError::NotFound(id.to_owned()));
        }
        let session = known.unwrap_or_else(|| {
            let session = Arc::new(tokio::sync::Mutex::new(Session { connection: None, expires: now + timeout }));
            sessions.insert(id.to_owned(), Arc::clone(&session));
            session
        });
        let mut guard = session.try_lock_owned().map_err(|_| SessionError::Locked(id.to_owned()))?;
        guard.expires = now + timeout;
        Ok(guard)
    }

    /// Runs a statement on a thread of its own. Never blocks; the outcome comes as events.
    pub fn run(self: &Arc<Self>, job: Job) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let message = format!(
                "Code: 202. DB::Exception: Too many simultaneous queries. Maximum: {MAX_STATEMENTS}. \
                 (TOO_MANY_SIMULTANEOUS_QUERIES)"
            );
            job.running.end();
            drop(job.events.send(Event::Ended(Err(message))));
            return;
        };
        let host = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let running = Arc::clone(&job.running);
            host.run_here(job);
            running.end();
            drop(slot);
        });
    }

    /// Kills a statement until it has ended. For a client that is gone.
    pub async fn cancel(self: Arc<Self>, query_id: String, running: Arc<Running>) {
        // Release pairs with the acquire before the statement starts.
        running.cancelled.store(true, Ordering::Release);
        loop {
            let changed = running.changed.notified();
            if running.has_ended() {
                return;
            }
            let (host, id) = (Arc::clone(&self), query_id.clone());
            // A kill that fails is repeated.
            drop(tokio::task::spawn_blocking(move || host.kill(&id)).await);
            drop(tokio::time::timeout(KILL_INTERVAL, changed).await);
        }
    }

    fn kill(&self, query_id: &str) {
        let sql = format!("KILL QUERY WHERE ({}) = {} ASYNC", statement::QUERY_ID, quoted(query_id, '\''));
        self.keep(&sql);
    }

    /// Runs a statement on the keeper's connection; its result is of no interest.
    fn keep(&self, sql: &str) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = keeper.as_mut()
            && let Err(message) = connection.query(sql, "Null", &[])
        {
            tracing::debug!(message, "statement of the engine's own failed");
        }
    }

    /// Stops the engine: refuses new statements, ends those at work, closes every connection. True when all are closed;
    /// otherwise the process must not run its exit handlers (the library crashes in them).
    pub async fn stop(self: &Arc<Self>, timeout: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + timeout;
        let all = u32::try_from(MAX_STATEMENTS).unwrap_or(u32::MAX);
        let idle = loop {
            match tokio::time::timeout(KILL_INTERVAL, self.slots.acquire_many(all)).await {
                Ok(Ok(slots)) => {
                    slots.forget();
                    break true;
                }
                Ok(Err(_)) => break true,
                Err(_) if tokio::time::Instant::now() >= deadline => break false,
                Err(_) => {
                    let host = Arc::clone(self);
                    let kill = "KILL QUERY WHERE query NOT LIKE 'KILL QUERY%' ASYNC";
                    drop(tokio::task::spawn_blocking(move || host.keep(kill)).await);
                }
            }
        };
        if idle {
            let host = Arc::clone(self);
            let closed = tokio::task::spawn_blocking(move || {
                host.sessions.lock().unwrap_or_else(PoisonError::into_inner).clear();
                host.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
            });
            return closed.await.is_ok();
        }
        false
    }

    fn open(&self, job: &Job) -> Result<Connection, String> {
        let mut arguments = self.arguments.clone();
        if job.session.is_none() {
            arguments.push(format!("--log_comment={}\u{1}{}", job.log_comment, job.query_id));
        }
        self.library
            .connect(&arguments)
            .map_err(|error| format!("Code: 1000. DB::Exception: {error}. (POCO_EXCEPTION)"))
    }

    fn run_here(&self, mut job: Job) {
        let mut session = job.session.take();
        let outcome = match &mut session {
            None => self.open(&job).and_then(|mut connection| self.run_on(&mut connection, &mut job, false)),
            Some(session) => {
                let opened = match session.connection.take() {
                    Some(connection) => Ok(connection),
                    None => self.library.connect(&self.arguments).map_err(|error| error.to_string()),
                };
                opened.and_then(|mut connection| {
                    let outcome = self.run_on(&mut connection, &mut job, true);
                    session.connection = Some(connection);
                    outcome
                })
            }
        };
        // An error before the statement started; `run_on` reports all others.
        if let Err(message) = outcome {
            drop(job.events.send(Event::Ended(Err(message))));
        }
        // Free before the events end, which is when the client gets its answer.
        drop(session);
    }

    /// Runs the job and reports its end; an error returned was not reported.
    fn run_on(&self, connection: &mut Connection, job: &mut Job, keep: bool) -> Result<(), String> {
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
}

fn quoted(text: &str, quote: char) -> String {
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
        drop(write!(sql, "{comma}{} = {}", quoted(name, '`'), quoted(value, '\'')));
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
        drop(insert.append(&table.data));
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
    if job.running.cancelled.load(Ordering::Acquire) {
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
    drop(rustix::pipe::fcntl_setpipe_size(&writer, PIECE_BYTES));
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
        outcome = connection.query(text, &job.format, &job.parameters).and_then(|output| {
            // A reader that is gone wants nothing of it.
            drop(std::fs::File::from(writer).write_all(output.data()));
            Ok(output.statistics())
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
