//! The life of the SDK in a process: the one start, the flush, the orderly stop, and what happens at exit, panic and fork.
//!
//! In: checked settings. Out: a [`Guard`], and the figures of [`stats`]. The work itself is the pipeline's.

use crate::config::Settings;
use crate::pipeline::{self, Pipeline};
use crate::{attempt, clock, privacy, state};
use once_cell::sync::OnceCell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What can keep recording from starting.
///
/// ```
/// let refused = gemba::Config::new("shop").without_environment().endpoint("localhost:4318").start().err();
/// assert!(matches!(refused, Some(gemba::InitError::InvalidEndpoint { .. })));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The endpoint is not an address beginning with `http://` or `https://`. Retrying cannot help.
    #[error("the endpoint {endpoint:?} is no address beginning with http:// or https://")]
    InvalidEndpoint {
        /// The address given.
        endpoint: String,
    },
    /// The endpoint wants encryption, which this build leaves out. Build `gemba` with feature `tls`.
    #[error("the endpoint {endpoint:?} wants encryption, but the crate was built without its feature `tls`")]
    NoTls {
        /// The address given.
        endpoint: String,
    },
    /// The key holds characters that no header can carry.
    #[error("the key holds a space or another character that a header cannot carry")]
    InvalidKey,
    /// The share of people to record is no number above 0 and at most 1.
    #[error("the sample rate {value:?} is no number above 0 and at most 1")]
    InvalidSampleRate {
        /// What was given.
        value: String,
    },
    /// Users are to be hashed with no key of your own: whoever sees the hashes could find the users by trying all names. Give
    /// [`Config::hash_key`](crate::Config::hash_key) or `GEMBA_HASH_KEY`.
    #[error("users are to be hashed, but no hash key is given: set GEMBA_HASH_KEY")]
    NoHashKey,
    /// An environment variable holds no number.
    #[error("{name} is {value:?}, which is no number")]
    InvalidNumber {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
    /// `GEMBA_COMPRESSION` names a compression we do not have.
    #[error("GEMBA_COMPRESSION is {value:?}; it can be zstd or gzip")]
    UnknownCompression {
        /// What it holds.
        value: String,
    },
    /// The file of certificates to trust cannot be read, or holds none in PEM.
    #[error("{} holds no certificate in PEM: {problem}", path.display())]
    InvalidCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificate to show to the server, or its key, cannot be read or is not PEM.
    #[error("{} cannot be shown to the server as a certificate with its key in PEM: {problem}", path.display())]
    InvalidClientCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// One of `GEMBA_CLIENT_CERTIFICATE` and `GEMBA_CLIENT_KEY` is set without the other.
    #[error("GEMBA_CLIENT_CERTIFICATE and GEMBA_CLIENT_KEY are of use together only, and {missing} is not set")]
    HalfAClientCertificate {
        /// The variable that is not set.
        missing: &'static str,
    },
    /// Recording has been started in this process before; it can be started once.
    #[error("recording has been started in this process before")]
    AlreadyStarted,
    /// The system gave no thread. Retrying may help.
    #[error("no thread for the pipeline")]
    Thread(#[source] std::io::Error),
}

/// Why a flush did not finish.
///
/// ```
/// let nothing = gemba::flush(std::time::Duration::ZERO);
/// assert_eq!(nothing, Err(gemba::FlushError::Closed));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlushError {
    /// Not everything was answered in time; it goes on in the background.
    #[error("not everything was answered in time")]
    Timeout,
    /// Recording was not started, or has stopped.
    #[error("nothing is recorded: not started, or stopped")]
    Closed,
}

/// The pipeline of the process; started once, kept for the figures after the stop.
static PIPELINE: OnceCell<Pipeline> = OnceCell::new();

pub(crate) fn start(settings: Settings) -> Result<Guard, InitError> {
    if settings.is_disabled || cfg!(feature = "off") {
        return Ok(Guard { is_active: false });
    }
    let destination = format!("{} to {}", settings.name(), settings.endpoint);
    let agent = pipeline::agent::agent(settings.tls.as_ref())?;
    let mut is_first = false;
    PIPELINE.get_or_try_init(|| {
        is_first = true;
        clock::start();
        privacy::configure(settings.privacy.clone());
        pipeline::ring::configure(settings.ring_bytes, settings.max_rings);
        Pipeline::start(settings, agent).map_err(InitError::Thread)
    })?;
    if !is_first {
        return Err(InitError::AlreadyStarted);
    }
    watch_exit();
    watch_panics();
    state::hold();
    announce(&destination);
    Ok(Guard { is_active: true })
}

/// Says once who records and where it goes: an event for the host's own log where it has one by now, else a line on stderr.
fn announce(destination: &str) {
    #[cfg(feature = "tracing")]
    if tracing::dispatcher::has_been_set() {
        tracing::info!(target: "gemba", "recording {destination}");
        return;
    }
    crate::problem::say(format_args!("recording {destination}"));
}

/// Gives or withdraws consent to record, for the whole process; given until said otherwise, and may be said before
/// [`init!`](crate::init) too.
///
/// While it is withheld nothing is recorded and nothing is sent, not even what the build declares; a macro costs the one load
/// that it costs without `init!`. The moment it is withdrawn, what was recorded and not sent yet is dropped, in memory and in the
/// [spool](crate::Config::spool), and counted as `consent`; a request already on its way is not called back. An attempt
/// that began before stays open. Scopes entered while it is withheld know nobody, also after it is given again.
///
/// Withdrawing blocks for a few milliseconds; giving it and repeating what was said do not.
///
/// ```standalone_crate
/// gemba::consent(false);
/// gemba::feature!("search.filter"); // not recorded
/// gemba::consent(true);
/// ```
pub fn consent(is_given: bool) {
    let was_withheld = state::withhold(!is_given);
    if is_forked() || was_withheld != is_given {
        return;
    }
    if let Some(pipeline) = PIPELINE.get() {
        if is_given {
            pipeline.resume();
        } else {
            pipeline.withdraw();
        }
    }
}

/// Keeps recording; dropping it delivers what is left, for at most the configured time (5 s), and stops.
///
/// Bind it to a name such as `_gemba` in `main`: bound to `_` it is dropped at once.
///
/// ```
/// fn main() -> Result<(), gemba::InitError> {
///     // Or `gemba::init!("shop")?`. There is no server for this example, so it is switched off.
///     let _gemba = gemba::Config::new("shop").disabled(true).start()?;
///     gemba::feature!("search.filter");
///     Ok(()) // here what is left is delivered
/// }
/// ```
#[derive(Debug)]
#[must_use = "dropped at once, recording stops at once: bind it to a name such as `_gemba`"]
pub struct Guard {
    is_active: bool,
}

impl Guard {
    /// Sends everything recorded before the call and waits for the answers, at most `timeout`.
    ///
    /// # Errors
    /// [`FlushError::Timeout`]: the server did not answer in time; nothing is lost by that, it goes on in the background.
    /// [`FlushError::Closed`]: recording is switched off.
    ///
    /// ```
    /// use gemba::FlushError;
    /// # fn main() -> Result<(), gemba::InitError> {
    /// let gemba = gemba::Config::new("shop").disabled(true).start()?;
    /// let flushed = gemba.flush(std::time::Duration::from_secs(2));
    /// assert_eq!(flushed, Err(FlushError::Closed), "switched off, there is nothing to wait for");
    /// # Ok(())
    /// # }
    /// ```
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        flush(timeout)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.is_active {
            stop();
        }
    }
}

/// Sends everything recorded before the call and waits for the answers, at most `timeout`. Blocks: not for async code.
///
/// # Errors
/// [`FlushError::Closed`] when nothing is being recorded, [`FlushError::Timeout`] when the server took too long, and at once in an
/// [`on_error`](crate::Config::on_error) hook, for which the delivery itself is waiting.
///
/// ```
/// gemba::feature!("backup.made");
/// match gemba::flush(std::time::Duration::from_secs(2)) {
///     Ok(()) | Err(gemba::FlushError::Closed) => {}
///     Err(late) => eprintln!("{late}"),
/// }
/// ```
pub fn flush(timeout: Duration) -> Result<(), FlushError> {
    if is_delivering() {
        return Err(FlushError::Timeout);
    }
    match PIPELINE.get() {
        Some(pipeline) if !is_forked() => pipeline.flush(timeout),
        _ => Err(FlushError::Closed),
    }
}

/// Where everything is by now: recorded + adopted = delivered + dropped + unconfirmed + pending + spooled.
///
/// Records still in a thread's ring are not counted yet; [`flush`] moves them on. All zero before the start.
///
/// ```
/// let stats = gemba::stats();
/// let places = stats.delivered + stats.dropped_total() + stats.unconfirmed + stats.pending + stats.spooled;
/// assert_eq!(stats.recorded + stats.adopted, places);
/// ```
pub fn stats() -> pipeline::Stats {
    PIPELINE.get().map(Pipeline::stats).unwrap_or_default()
}

/// Whether this thread is delivering: the application's code runs on it only in a hook.
fn is_delivering() -> bool {
    crate::local::is_own_thread() || pipeline::drain::is_draining()
}

fn is_forked() -> bool {
    state::load() & state::FORKED != 0
}

/// Stops once: by the guard or at exit, whichever comes first.
fn stop() {
    static HAS_STOPPED: AtomicBool = AtomicBool::new(false);
    // In a hook the delivery waits for the hook, which would wait for the delivery.
    if is_delivering() {
        return;
    }
    if is_forked() || HAS_STOPPED.swap(true, Ordering::AcqRel) {
        return;
    }
    attempt::shutting_down();
    state::release();
    if let Some(pipeline) = PIPELINE.get() {
        pipeline.stop();
    }
}

/// Delivers what is left when the process exits without dropping the guard, and makes a forked child discard what it
/// inherited: its rings and batches are the parent's, who sends them.
fn watch_exit() {
    extern "C" fn at_exit() {
        stop();
    }
    #[cfg(unix)]
    extern "C" fn in_child() {
        state::forked();
    }
    #[expect(unsafe_code, reason = "registers callbacks with the C library")]
    // SAFETY: both callbacks are `extern "C"` functions that live as long as the process; the child's only stores atomics.
    unsafe {
        libc::atexit(at_exit);
        #[cfg(unix)]
        libc::pthread_atfork(None, None, Some(in_child));
    }
}

/// A panic that aborts leaves this one chance to deliver what led to it; one that unwinds only hurries the drain thread,
/// because a server that catches panics must not wait for us.
fn watch_panics() {
    /// Longest wait in an aborting panic.
    const ABORT_FLUSH: Duration = Duration::from_secs(2);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        if cfg!(panic = "abort") {
            // Time is all that can be lacking here, and there is nobody left to tell.
            let _best_effort = flush(ABORT_FLUSH);
        } else {
            pipeline::wake();
        }
    }));
}
