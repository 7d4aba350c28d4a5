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
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedMutexGuard, Semaphore, mpsc, oneshot};

use super::library::{Connection, Library, LibraryError, Statistics};
use super::run::{quoted, run_on};
use super::statement;

/// Statements at once; further ones are refused as ClickHouse refuses them (its `max_concurrent_queries` defaults to
/// 100 in the shipped configuration).
const MAX_STATEMENTS: usize = 100;
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

    /// Whether its client is gone.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
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
            None => self.open(&job).and_then(|mut connection| run_on(&mut connection, &mut job, false)),
            Some(session) => {
                let opened = match session.connection.take() {
                    Some(connection) => Ok(connection),
                    None => self.library.connect(&self.arguments).map_err(|error| error.to_string()),
                };
                opened.and_then(|mut connection| {
                    let outcome = run_on(&mut connection, &mut job, true);
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
}
