//! What `gemba engine` does: owns a data folder, runs the engine in it, serves its HTTP interface, stops in order.
//!
//! In: [`ProcessConfig`]. Out: the process ends. Starts no child of its own; [`super::Supervisor`] starts this one.
//!
//! Invariants:
//! 1. One process holds a data folder: an exclusive lock on `engine.lock`, which the kernel drops with the process.
//! 2. Every connection to the engine is closed before the process runs its exit handlers; if that cannot be done in
//!    time, the process kills itself instead.
//! 3. A supervised process ends when its parent does, however that ends: it watches the pipe to its parent, and asks
//!    the kernel for a signal.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::host::Host;
use super::http::Interface;
use super::install::LIBRARY_VERSION;
use super::library::{Library, LibraryError};
use super::socket::Socket;

/// How long statements at work may take to end when the process stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a process without its parent may take to stop before it kills itself.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the engine listens.
#[derive(Debug)]
pub enum Listen {
    /// At an address; port 0 takes a free one.
    Address(SocketAddr),
    /// On the socket the parent gave as standard input; the process is supervised.
    Inherited,
}

/// What the engine's process needs.
#[derive(Debug)]
pub struct ProcessConfig {
    /// Its data folder; created if missing.
    pub data: PathBuf,
    /// The library to load.
    pub library: PathBuf,
    /// Where to listen.
    pub listen: Listen,
    /// Password of the only user.
    pub password: String,
    /// Memory the engine may use in bytes; `None` leaves it to the engine (nine tenths of the machine's).
    pub max_memory_bytes: Option<u64>,
}

/// Why the engine did not start. Retrying helps for [`ProcessError::Held`] once the holder is gone.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Another process has the data folder.
    #[error("the data folder {data} is in use by process {holder}")]
    Held {
        /// The folder.
        data: PathBuf,
        /// The other process's id as it wrote it down.
        holder: String,
    },
    /// A newer engine wrote the data.
    #[error(
        "the data folder {data} was written by engine {found}, newer than {LIBRARY_VERSION}: use that version or newer"
    )]
    Newer {
        /// The folder.
        data: PathBuf,
        /// The version that wrote it.
        found: String,
    },
    /// The data folder or the socket.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The library.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> ProcessError {
    let what = what.into();
    |source| ProcessError::Io { what, source }
}

/// How long a supervised engine waits for the folder: as long as an orphan may hold it, and some.
const FOLDER_TIMEOUT: Duration = Duration::from_secs(25);
/// A lock has nothing to be woken by that knows a time limit.
const FOLDER_PAUSE: Duration = Duration::from_millis(25);

/// Takes the data folder. The lock lives as long as the file returned.
fn take_folder(data: &Path) -> Result<File, ProcessError> {
    fs::create_dir_all(data).map_err(io_error(format!("cannot create {}", data.display())))?;
    let path = data.join("engine.lock");
    let failed = || io_error(format!("cannot lock {}", path.display()));
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed())?;
    if let Err(error) = file.try_lock() {
        return Err(match error {
            fs::TryLockError::WouldBlock => {
                let mut holder = String::new();
                // A holder that has not yet written its id stays unnamed.
                drop(file.read_to_string(&mut holder));
                let holder = if holder.is_empty() { "unknown".into() } else { holder.trim().to_owned() };
                ProcessError::Held { data: data.to_owned(), holder }
            }
            fs::TryLockError::Error(source) => failed()(source),
        });
    }
    file.set_len(0).map_err(failed())?;
    file.rewind().map_err(failed())?;
    writeln!(file, "{}", std::process::id()).map_err(failed())?;
    Ok(file)
}

/// Takes the data folder, waiting for an engine whose server was killed and that is still ending: the server that follows
/// may be quicker than its last statements.
fn take_folder_of_an_orphan(data: &Path) -> Result<File, ProcessError> {
    let deadline = Instant::now() + FOLDER_TIMEOUT;
    loop {
        match take_folder(data) {
            Err(ProcessError::Held { .. }) if Instant::now() < deadline => std::thread::sleep(FOLDER_PAUSE),
            outcome => return outcome,
        }
    }
}

/// A version as numbers, so that 26.10 is newer than 26.9.
fn numbers(version: &str) -> Vec<u64> {
    version.trim().split('.').map_while(|part| part.parse().ok()).collect()
}

/// Refuses data of a newer engine and notes this one's version.
fn check_version(data: &Path, version: &str) -> Result<(), ProcessError> {
    let path = data.join("engine.version");
    match fs::read_to_string(&path) {
        Ok(found) if numbers(&found) > numbers(version) => {
            return Err(ProcessError::Newer { data: data.to_owned(), found: found.trim().to_owned() });
        }
        Ok(found) if found.trim() == version => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error(format!("cannot read {}", path.display()))(error)),
    }
    fs::write(&path, format!("{version}\n")).map_err(io_error(format!("cannot write {}", path.display())))
}

/// The engine's configuration file.
fn configuration(data: &Path, max_memory_bytes: Option<u64>) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let folder = escape(&data.display().to_string());
    let memory = max_memory_bytes.map_or(String::new(), |bytes| {
        // The caches may fill a quarter of what the engine may use; the rest is for statements and merges.
        let cache = bytes / 8;
        format!(
            "  <max_server_memory_usage>{bytes}</max_server_memory_usage>\n\
             \x20 <mark_cache_size>{cache}</mark_cache_size>\n\
             \x20 <index_mark_cache_size>{cache}</index_mark_cache_size>\n"
        )
    });
    // Two merges at once: more only compete with inserts for the cores of a small machine. What is inserted counts as a
    // part of size 0 and gets the default, LZ4; what is merged gets ZSTD (columns of codec `Default`), at the level that is cheapest to
    // write and to read (see the crate's DESIGN.md).
    format!(
        "<clickhouse>\n\
         \x20 <logger><level>fatal</level></logger>\n\
         {memory}\
         \x20 <background_pool_size>2</background_pool_size>\n\
         \x20 <background_merges_mutations_concurrency_ratio>1</background_merges_mutations_concurrency_ratio>\n\
         \x20 <background_schedule_pool_size>4</background_schedule_pool_size>\n\
         \x20 <compression><case><min_part_size>1</min_part_size><min_part_size_ratio>0</min_part_size_ratio>\
         <method>zstd</method><level>3</level></case></compression>\n\
         \x20 <backups><allowed_path>{folder}/backups</allowed_path></backups>\n\
         \x20 <user_files_path>{folder}/user_files/</user_files_path>\n\
         </clickhouse>\n"
    )
}

/// Runs the engine until it is told to stop: SIGTERM, SIGINT, or the end of a supervising parent. Blocks. `report` gets
/// the address as soon as the engine answers there.
///
/// # Errors
///
/// [`ProcessError`], only before `report` was called.
pub fn run(config: ProcessConfig, report: impl FnOnce(SocketAddr)) -> Result<(), ProcessError> {
    let supervised = matches!(config.listen, Listen::Inherited);
    let (stop, stopped) = watch::channel(false);
    if supervised {
        watch_parent(stop.clone());
    }
    let data = std::path::absolute(&config.data).map_err(io_error("no current folder"))?;
    let lock = if supervised { take_folder_of_an_orphan(&data)? } else { take_folder(&data)? };
    let library = Library::load(&config.library)?;
    check_version(&data, &library.version())?;
    let backups = data.join("backups");
    fs::create_dir_all(&backups).map_err(io_error(format!("cannot create {}", backups.display())))?;
    let xml = data.join("engine.xml");
    fs::write(&xml, configuration(&data, config.max_memory_bytes))
        .map_err(io_error(format!("cannot write {}", xml.display())))?;
    let host = Arc::new(Host::start(library, &data.join("store"), &xml)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(256)
        .enable_all()
        .build()
        .map_err(io_error("cannot start the runtime"))?;
    let outcome = runtime.block_on(async {
        let listener = bind(&config.listen).await?;
        let address = listener.local_addr().map_err(io_error("the socket has no address"))?;
        let interface = Arc::new(Interface { host: Arc::clone(&host), password: config.password });
        // Heard from here on: whoever is told the address may tell this process to stop at once.
        let signals = Signals::listen().map_err(io_error("cannot listen for signals"))?;
        report(address);
        serve(listener, interface, signals, stop, stopped).await;
        Ok(host.stop(STOP_TIMEOUT).await)
    });
    match outcome {
        Ok(true) => {
            drop(lock);
            Ok(())
        }
        Ok(false) => {
            tracing::warn!("statements did not end in time; the engine process kills itself");
            die()
        }
        Err(error) => {
            // Closes the connections; none runs a statement yet.
            runtime.block_on(host.stop(STOP_TIMEOUT));
            Err(error)
        }
    }
}

async fn bind(listen: &Listen) -> Result<TcpListener, ProcessError> {
    match listen {
        Listen::Address(address) => {
            TcpListener::bind(address).await.map_err(io_error(format!("cannot listen on {address}")))
        }
        Listen::Inherited => {
            let failed = || io_error("standard input is no listening socket");
            let socket = io::stdin().as_fd().try_clone_to_owned().map_err(failed())?;
            let listener = std::net::TcpListener::from(socket);
            listener.set_nonblocking(true).map_err(failed())?;
            TcpListener::from_std(listener).map_err(failed())
        }
    }
}

/// Serves connections until told to stop, then lets each finish the request it is at.
async fn serve(
    listener: TcpListener,
    interface: Arc<Interface>,
    mut signals: Signals,
    stop: watch::Sender<bool>,
    mut stopped: watch::Receiver<bool>,
) {
    tokio::spawn(async move {
        signals.received().await;
        stop.send_replace(true);
    });
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    let mut http = hyper::server::conn::http1::Builder::new();
    // Clients keep connections for later, so an idle one is no fault; a header that stalls is.
    http.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(1 << 20);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // An error means that nobody can tell us to stop any more, which is a reason to stop.
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: the next ones come when connections close.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Answers are written whole; waiting to fill a packet only delays them.
        drop(stream.set_nodelay(true));
        let (socket, flushes) = Socket::new(stream);
        let interface = Arc::clone(&interface);
        let service =
            hyper::service::service_fn(move |request| Arc::clone(&interface).serve(request, Arc::clone(&flushes)));
        let connection = graceful.watch(http.serve_connection(TokioIo::new(socket), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    drop(listener);
    drop(tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown()).await);
}

/// SIGTERM and SIGINT, caught from the moment the value exists.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the first of them.
    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Ends the process when the parent does. The parent holds the other end of our standard output; when it is gone the
/// kernel reports an error on ours.
fn watch_parent(stop: watch::Sender<bool>) {
    // Also by signal, should this process be too busy to look. A parent's end is an order to stop, not a crash.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM)).ok();
    std::thread::spawn(move || {
        let output = io::stdout();
        let mut poll = [rustix::event::PollFd::new(&output, rustix::event::PollFlags::empty())];
        while !matches!(rustix::event::poll(&mut poll, None), Ok(1..)) {}
        stop.send_replace(true);
        std::thread::sleep(ORPHAN_TIMEOUT + STOP_TIMEOUT);
        die();
    });
}

/// Ends the process without its exit handlers.
fn die() -> ! {
    // Cannot fail for the own process.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_a_newer_engine_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        check_version(folder.path(), "26.9.1").unwrap();
        check_version(folder.path(), "26.10.0").unwrap();
        let error = check_version(folder.path(), "26.9.9").unwrap_err();
        assert!(matches!(error, ProcessError::Newer { ref found, .. } if found == "26.10.0"), "{error}");
    }

    #[test]
    fn a_second_holder_is_told_who_is_first() {
        let folder = tempfile::tempdir().unwrap();
        let lock = take_folder(folder.path()).unwrap();
        match take_folder(folder.path()) {
            Err(ProcessError::Held { holder, .. }) => assert_eq!(holder, std::process::id().to_string()),
            other => panic!("{other:?}"),
        }
        drop(lock);
        take_folder(folder.path()).unwrap();
    }
}
