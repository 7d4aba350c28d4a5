//! What goes wrong on the way to the server, and how the application hears of it.
//!
//! In: a [`Problem`]. Out: a call of the application's hook, or a line on stderr, at most once a minute for each kind. It decides
//! nothing: what becomes of records is decided, and counted, elsewhere.

use gemba_conventions::DropReason;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What went wrong on the way to the server; given to the [`on_error`](crate::Config::on_error) hook.
///
/// ```
/// let problem = gemba::Problem::Rejected { records: 2 };
/// assert_eq!(problem.to_string(), "the server rejected 2 records");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The server cannot be reached or asks to wait; records are kept and sent again.
    Unreachable,
    /// The server refused a batch for good with this HTTP status; its records are dropped and counted.
    Refused {
        /// HTTP status.
        status: u16,
        /// Records in the batch.
        records: u64,
    },
    /// The server took a batch but rejected some of its records, which are dropped and counted.
    Rejected {
        /// Records rejected.
        records: u64,
    },
    /// Batches wait for the server up to the limit; these records are dropped and counted.
    QueueFull {
        /// Records in the batch that found no room.
        records: u64,
    },
    /// The spool on disk cannot be used; records wait in memory instead.
    SpoolFailed {
        /// What the system said.
        kind: std::io::ErrorKind,
    },
    /// The guard of an attempt is dropped at once, as by `let _ = attempt!(..)`: it says nothing about how the attempt
    /// ended. Told once for a place in the code.
    GuardIgnored {
        /// The feature's name.
        feature: &'static str,
        /// Source file.
        file: &'static str,
        /// Line in it.
        line: u32,
    },
    /// The oldest spooled records made room for newer ones or were too old, or were damaged; they are dropped and counted.
    SpoolDropped {
        /// [`SpoolFull`](DropReason::SpoolFull) or [`SpoolTorn`](DropReason::SpoolTorn).
        reason: DropReason,
        /// Records in the batch.
        records: u64,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("the server cannot be reached; records wait"),
            Self::Refused { status, records } => write!(f, "the server refused {records} records with status {status}"),
            Self::Rejected { records } => write!(f, "the server rejected {records} records"),
            Self::QueueFull { records } => write!(f, "no room for {records} records while the server is away"),
            Self::SpoolFailed { kind } => write!(f, "the spool cannot be used ({kind}); records wait in memory"),
            Self::GuardIgnored { feature, file, line } => write!(
                f,
                "the attempt at {feature:?} in {file}:{line} is dropped at once and counts as abandoned: bind it to a name, \
                 or call `run` or `run_async`"
            ),
            Self::SpoolDropped { reason, records } => {
                write!(f, "{records} spooled records are dropped ({})", reason.as_str())
            }
        }
    }
}

/// The hook for problems.
pub(crate) type OnError = Arc<dyn Fn(Problem) + Send + Sync>;

/// Tells the application about problems without flooding it.
pub(crate) struct Problems {
    hook: Option<OnError>,
    /// When each kind was last told.
    told: Mutex<Vec<(std::mem::Discriminant<Problem>, Instant)>>,
}

impl Problems {
    pub(crate) fn new(hook: Option<OnError>) -> Self {
        Self { hook, told: Mutex::default() }
    }

    pub(crate) fn tell(&self, problem: Problem) {
        /// Chosen: often enough to be seen, rare enough for any log.
        const QUIET: Duration = Duration::from_mins(1);
        let kind = std::mem::discriminant(&problem);
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            match told.iter_mut().find(|(of, _)| *of == kind) {
                Some((_, when)) if when.elapsed() < QUIET => return,
                Some((_, when)) => *when = Instant::now(),
                None => told.push((kind, Instant::now())),
            }
        }
        match &self.hook {
            // A hook that panics must not take the delivery with it; the panic hook has told whoever listens.
            Some(hook) => drop(catch_unwind(AssertUnwindSafe(|| hook(problem)))),
            None => say(format_args!("{problem}")),
        }
    }
}

/// One line for whoever runs the program: the SDK has no logger of its own.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    use std::io::Write as _;
    // In one piece, so that lines of several threads do not mix; a closed stderr is the host's choice.
    let _unwritable = std::io::stderr().write_all(format!("gemba: {line}\n").as_bytes());
}
