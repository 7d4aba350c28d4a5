//! The embedded engine: ClickHouse without a server to install.
//!
//! [`install`] finds the engine library or fetches it, [`library`] calls it, [`host`] runs statements in it,
//! [`http`] serves ClickHouse's HTTP interface over it, and [`process`] is the whole of it: `gemba engine`. This file
//! holds the [`Supervisor`], which runs that as a child of `gemba serve`.
//!
//! Why a child: the library is 566 MB of C++ with its own threads, signal handlers and allocator, it takes one data
//! folder in a process, and it can be killed by the kernel for its memory. In a process of its own it can die, be
//! killed and be started anew while the server goes on acknowledging into its log. And it is reached like any
//! ClickHouse, so there is one way to the store and not two.
//!
//! Why the parent owns the listening socket and gives it to the child: the address stays the same over restarts, no
//! other program can take it in between, and a client that connects while the engine restarts waits instead of failing.

pub mod codec;
pub mod exception;
pub mod host;
pub mod http;
pub mod install;
pub mod library;
pub mod process;
pub mod request;
pub mod result;
mod run;
pub mod socket;
pub mod statement;

use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use install::{InstallError, Places};
pub use library::LibraryError;
pub use process::ProcessError;

/// Environment variable that carries the password to the child: not visible to other users, unlike an argument.
pub const PASSWORD_VARIABLE: &str = "GEMBA_ENGINE_PASSWORD";
/// Longest wait before a restart. The first is at once, so that the engine is back within two seconds.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// An engine that ran this long did not die of its start; the next restart is at once again.
const STEADY: Duration = Duration::from_secs(30);
/// How long the engine may take to stop before it is killed: its own ten seconds for statements, and some to close.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// What the engine needs.
#[derive(Debug, Clone, Default)]
pub struct EngineConfig {
    /// Its data folder; created if missing.
    pub data_dir: PathBuf,
    /// The engine library; `None` looks in the usual places and fetches it if need be.
    pub library: Option<PathBuf>,
    /// The `gemba` binary; `None` is the running program itself.
    pub program: Option<PathBuf>,
    /// Memory the engine may use in bytes; `None` is a half of the machine's, for the server and the page cache need
    /// some.
    pub max_memory_bytes: Option<u64>,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No library.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// No socket, no process.
    #[error("cannot start the engine: {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The engine's process ended before it was ready; its own words.
    #[error("the engine did not start: {0}")]
    Refused(String),
}

/// What the supervising thread and its owner share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    restarts: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// The child that runs; a descriptor, so that a signal never meets another process with the same number.
    child: Option<OwnedFd>,
    process_id: Option<u32>,
    /// The outcome of the first start.
    started: Option<Result<(), String>>,
    stopping: bool,
    ended: bool,
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stopping
    }

    /// Waits until `done`, at most until the deadline; true when it is.
    fn wait(&self, deadline: Option<Instant>, done: impl Fn(&State) -> bool) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !done(&state) {
            let left = match deadline {
                None => Duration::from_hours(1),
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            };
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// Keeps the engine running as a child process: same address and password over restarts, back within two seconds when
/// it dies, and gone when this process is, however that ends. Dropped without [`stop`](Self::stop): the engine is told
/// to stop, and nobody waits for it.
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
    address: SocketAddr,
    password: String,
}

impl Supervisor {
    /// Starts the engine and waits until it answers. Blocks: 0.2 s as a rule, some 20 s when the library must be fetched,
    /// which is told on stderr.
    ///
    /// # Errors
    ///
    /// [`EngineError`]. A data folder that another process holds is [`EngineError::Refused`] with its id.
    pub fn start(config: EngineConfig) -> Result<Supervisor, EngineError> {
        let failed = |what| move |source| EngineError::Io { what, source };
        let mut places = Places::from_environment();
        places.library = config.library.clone().or(places.library);
        let library = install::find_or_fetch(&places, &mut io::stderr())?;
        let program = match &config.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(failed("the running program has no path"))?,
        };
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed("no free port on the loopback address"))?;
        let address = listener.local_addr().map_err(failed("the socket has no address"))?;
        let mut secret = [0; 24];
        getrandom::fill(&mut secret).map_err(|error| EngineError::Io {
            what: "no randomness for a password",
            source: io::Error::other(error.to_string()),
        })?;
        let password = install::hex(&secret);
        let memory = config.max_memory_bytes.or_else(half_of_memory);
        let shared = Arc::new(Shared::default());
        let runner = Runner { program, library, data: config.data_dir, password: password.clone(), memory, listener };
        let for_thread = Arc::clone(&shared);
        // A thread of its own, since the kernel's parent-death signal is tied to the thread that starts the child.
        std::thread::Builder::new()
            .name("engine-supervisor".into())
            .spawn(move || {
                runner.keep_running(&for_thread);
                for_thread.update(|state| state.ended = true);
            })
            .map_err(failed("no thread"))?;
        let supervisor = Supervisor { shared, address, password };
        supervisor.shared.wait(None, |state| state.started.is_some() || state.ended);
        let started = supervisor.shared.state.lock().unwrap_or_else(PoisonError::into_inner).started.clone();
        match started {
            Some(Ok(())) => Ok(supervisor),
            Some(Err(message)) => Err(EngineError::Refused(message)),
            None => Err(EngineError::Refused("its supervisor ended".into())),
        }
    }

    /// Where the engine answers, `http://127.0.0.1:PORT`. The same for the life of this value.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The user to speak as.
    pub fn user(&self) -> &'static str {
        request::USER
    }

    /// The user's password, made anew for each supervisor.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// How often the engine was started again.
    pub fn restarts(&self) -> u64 {
        // Relaxed: a lone counter.
        self.shared.restarts.load(Ordering::Relaxed)
    }

    /// Id of the engine's process; `None` between two of them.
    pub fn process_id(&self) -> Option<u32> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).process_id
    }

    /// Stops the engine in order: statements at work get ten seconds to end. Afterwards no process is left.
    pub async fn stop(&self) {
        self.tell_to_stop();
        let shared = Arc::clone(&self.shared);
        let wait = move || {
            if !shared.wait(Some(Instant::now() + STOP_TIMEOUT), |state| state.ended) {
                tracing::warn!("the engine did not stop in time and is killed");
                signal(&shared, rustix::process::Signal::KILL);
                shared.wait(Some(Instant::now() + STOP_TIMEOUT), |state| state.ended);
            }
        };
        // The thread cannot panic; a runtime that shuts down does not wait.
        drop(tokio::task::spawn_blocking(wait).await);
    }

    fn tell_to_stop(&self) {
        self.shared.update(|state| state.stopping = true);
        signal(&self.shared, rustix::process::Signal::TERM);
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.tell_to_stop();
    }
}

fn signal(shared: &Shared, signal: rustix::process::Signal) {
    let state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(child) = &state.child {
        // A child that ended in between needs no signal.
        rustix::process::pidfd_send_signal(child, signal).ok();
    }
}

/// Half of the machine's memory in bytes.
fn half_of_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 512)
}

/// Starts the child again and again.
struct Runner {
    program: PathBuf,
    library: PathBuf,
    data: PathBuf,
    password: String,
    memory: Option<u64>,
    listener: TcpListener,
}

impl Runner {
    fn keep_running(&self, shared: &Shared) {
        let mut backoff = Duration::ZERO;
        loop {
            let begun = Instant::now();
            let first = shared.state.lock().unwrap_or_else(PoisonError::into_inner).started.is_none();
            let outcome = self.run_once(shared);
            if shared.is_stopping() {
                return;
            }
            let ran = begun.elapsed();
            let why = match outcome {
                Ok(status) => status.to_string(),
                Err(message) if first => {
                    shared.update(|state| state.started = Some(Err(message)));
                    return;
                }
                Err(message) => message,
            };
            backoff = next_backoff(backoff, ran);
            tracing::error!(why, ran_s = ran.as_secs(), restart_in_ms = backoff.as_millis(), "the engine ended");
            if shared.wait(Some(Instant::now() + backoff), |state| state.stopping) {
                return;
            }
            // Relaxed: a lone counter.
            shared.restarts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs the child to its end. An error means that it was never ready.
    fn run_once(&self, shared: &Shared) -> Result<ExitStatus, String> {
        let mut child = self.spawn().map_err(|error| format!("cannot start {}: {error}", self.program.display()))?;
        let id = rustix::process::Pid::from_child(&child);
        let descriptor = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty());
        shared.update(|state| {
            state.child = descriptor.ok();
            state.process_id = Some(child.id());
        });
        if shared.is_stopping() {
            signal(shared, rustix::process::Signal::TERM);
        }
        // Held until the child has ended: the child watches its other end.
        let mut output = child.stdout.take().map(BufReader::new);
        let mut line = String::new();
        if let Some(output) = &mut output {
            // An error reads as an empty line, which is not "ready".
            drop(output.read_line(&mut line));
        }
        let ready = line.trim_end() == READY;
        if ready {
            shared.update(|state| {
                state.started.get_or_insert(Ok(()));
            });
        }
        // Anything else the library may print must not fill the pipe.
        if let Some(output) = &mut output {
            drop(io::copy(output, &mut io::sink()));
        }
        let status = child.wait();
        drop(output);
        shared.update(|state| {
            state.child = None;
            state.process_id = None;
        });
        let status = status.map_err(|error| error.to_string())?;
        match line.trim_end().strip_prefix(FAILED) {
            Some(message) => Err(message.to_owned()),
            None if !ready => Err(format!("its process ended ({status}) before it was ready")),
            None => Ok(status),
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg("engine").arg("--supervised").arg("--data").arg(&self.data).arg("--library").arg(&self.library);
        if let Some(memory) = self.memory {
            command.arg("--max-memory").arg(memory.to_string());
        }
        command
            .env(PASSWORD_VARIABLE, &self.password)
            .stdin(Stdio::from(OwnedFd::from(self.listener.try_clone()?)))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
    }
}

/// What the child writes on its standard output when it answers.
pub const READY: &str = "ready";
/// What it writes, with a reason behind, when it does not start.
pub const FAILED: &str = "failed: ";

/// The pause before the next start: none after an engine that ran for a while, else doubled from a quarter second.
fn next_backoff(last: Duration, ran: Duration) -> Duration {
    if ran >= STEADY || last.is_zero() && ran >= Duration::from_secs(1) {
        return Duration::ZERO;
    }
    (last * 2).clamp(Duration::from_millis(250), MAX_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_dies_at_once_is_started_ever_more_slowly() {
        let s = Duration::from_secs;
        let mut backoff = next_backoff(Duration::ZERO, s(100));
        assert_eq!(backoff, Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            backoff = next_backoff(backoff, Duration::from_millis(100));
            pauses.push(backoff);
        }
        assert_eq!(pauses.first(), Some(&Duration::from_millis(250)));
        assert_eq!(pauses.last(), Some(&MAX_BACKOFF));
        assert!(pauses.is_sorted());
        assert_eq!(next_backoff(backoff, STEADY), Duration::ZERO);
    }
}
