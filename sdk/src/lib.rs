//! Records which features people use, where they give up, and which database queries make them wait.
//!
//! ```no_run
//! gemba::funnel! {
//!     pub enum Checkout = "checkout" { Cart = "cart", Address = "address", Payment = "payment" }
//! }
//!
//! fn main() -> Result<(), gemba::InitError> {
//!     let _gemba = gemba::init!("shop")?;
//!     gemba::scope().user("u-7").session("s-1").run(|| {
//!         gemba::feature!("search.filter", kind = "price", n = 3);
//!         gemba::step!(Checkout::Payment, plan = "pro");
//!         let _total = gemba::attempt!("order.place").run(|| "40".parse::<u32>());
//!     });
//!     Ok(())
//! }
//! ```
//!
//! # Guarantees
//!
//! 1. A macro never blocks, panics or fails. After a thread's first record it neither allocates nor locks; it reads the clock
//!    once and copies its values into a ring of its thread. Without `init!` it is one load. Queries are added up in a table of
//!    the thread, which grows with how many different ones there are and not with their calls.
//! 2. Nothing is lost silently: recorded = delivered + dropped (by reason) + unconfirmed + pending + spooled
//!    ([`stats`]). What was dropped is reported with the data, by call site and reason.
//! 3. Memory is bounded: rings, contexts and waiting batches have limits, and beyond them the newest is dropped and counted;
//!    with a [`spool`](Config::spool) what waits goes to disk instead, and a later process sends what this one could not.
//! 4. Everything else happens on two plain threads of its own. No async runtime is needed or touched.
//! 5. A scope is seen by what runs inside it and by nothing else, however tasks share threads.
//!
//! 6. What leaves is the application's choice: sessions only as keyed hashes, users so if asked for, attributes by
//!    [allow and deny lists](Config::allow_attributes), people by a [sample](Config::sample_rate) and by
//!    [consent](consent()), which can be withdrawn at any time.
//!
//! # Limits
//!
//! - Not for signal handlers: a record could interrupt another half written.
//! - A library opened at run time (`dlopen`) is missing from the catalogue, and must not be closed while records of it may be
//!   on their way. One that holds a copy of this crate, as a `cdylib` does, records nothing until it starts its own.
//! - A forked child records nothing; start recording after the fork, in the process that works.
//! - `kill -9`, and any signal that ends a process which does not handle it (SIGTERM, as containers are stopped, SIGINT), takes
//!   what has been neither sent nor spooled yet: a second of records, and while a server hangs what comes during one request. A
//!   handler that lets `main` return delivers it. The server sees the gap in the batch numbers. Attempts that were under way stay open, and
//!   count as unfinished after 30 minutes.
//! - `tokio::spawn` and threads begin without a scope: take it along as [`scope()`] shows. Without it a record is kept, of nobody.
//! - What the host records on the SDK's own threads (in an [`on_error`](Config::on_error) hook, or for each line that the
//!   SDK's HTTP client logs) is not recorded: every request would be about the last one.
//! - A batch is at most 512 KiB before compression, larger only for a single record; a server that still finds it too large
//!   (413) gets it in halves, down to single records, which are then dropped and counted as `refused`. One from the spool is
//!   dropped at once.
//!
//! # Modules
//!
//! On the caller's thread: `macros` → `event` → `local` (one thread's end of a `pipeline::ring`), with `callsite`, `value`,
//! `context`, `scope`, `attempt`, `flag`, `funnel`, `identity`, `clock`, `state`. Behind the rings: `pipeline`. `config` and `guard`
//! start and stop it.

mod attempt;
mod callsite;
mod catalog;
mod clock;
mod config;
mod context;
mod event;
mod flag;
mod funnel;
mod guard;
mod hex;
mod identity;
mod local;
mod macros;
mod pipeline;
mod privacy;
mod problem;
mod scope;
mod state;
mod ticket;
mod value;
mod verdict;

pub mod query;
pub mod testing;
#[cfg(feature = "http")]
pub mod web;

pub use attempt::{Attempt, Attempted, shutting_down};
pub use config::{Compression, Config};
pub use funnel::Funnel;
/// Why a record is not where it should be, as [`Stats::dropped`] counts it.
///
/// ```
/// use gemba::DropReason;
/// let of = |reason| gemba::stats().dropped.iter().find(|(of, _)| *of == reason).map_or(0, |(_, count)| *count);
/// if of(DropReason::RingFull) > 0 {
///     eprintln!("one thread records more at a time than a ring holds: see `Config::ring_bytes`");
/// }
/// assert_eq!(DropReason::RingFull.to_string(), "ring_full");
/// ```
#[doc(inline)]
pub use gemba_conventions::DropReason;
pub use gemba_macros::instrument;
pub use guard::{FlushError, Guard, InitError, consent, flush, stats};
pub use identity::{Known, identify};
pub use pipeline::Stats;
pub use problem::Problem;
#[cfg(feature = "diesel")]
pub use query::diesel;
#[cfg(feature = "rusqlite")]
pub use query::rusqlite;
#[cfg(feature = "sea-orm")]
pub use query::sea_orm;
#[cfg(feature = "sqlx")]
pub use query::sqlx;
#[cfg(feature = "tokio-postgres")]
pub use query::tokio_postgres;
pub use scope::{Scope, Scoped, scope};
pub use ticket::{Ticket, TicketError};
pub use value::Value;
pub use verdict::{Outcome, Verdict};

/// What the macros expand to; no part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::callsite::{Callsite, StepDeclaration};
    pub use crate::event::{
        CALLSITES, CallsiteKind, FUNNELS, begin, has_repeated, inert, is_valid_name, key, linkme, reached, recording,
        used, value,
    };
    pub use crate::flag::{evaluated, flag_key, is_valid_flag, text};
    pub use crate::identity::{tenant_set, user_set};
    pub use crate::verdict::judge;
}
