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
//!    once and copies its values into a ring of its thread. Without `init!` it is one load.
//! 2. Nothing is lost silently: recorded = delivered + dropped (by reason) + unconfirmed + pending + spooled
//!    ([`stats`]). What was dropped is reported with the data, by call site and reason.
//! 3. Memory is bounded: rings, contexts and waiting batches have limits, and beyond them the newest is dropped and counted;
//!    with a [`spool`](Config::spool) what waits goes to disk instead, and a later process sends what this one could not.
//! 4. Everything else happens on two plain threads of its own. No async runtime is needed or touched.
//! 5. A scope is seen by what runs inside it and by nothing else, however tasks share threads.
//!
//! # Limits
//!
//! - Not for signal handlers: a record could interrupt another half written.
//! - A library opened at run time (`dlopen`) is missing from the catalogue, and must not be closed while records of it may be
//!   on their way.
//! - A forked child records nothing; start recording after the fork, in the process that works.
//! - `kill -9` takes what has been neither sent nor spooled yet: a second of records, and while a server hangs what comes
//!   during one request. The server sees the gap in the batch numbers.
//!
//! # Modules
//!
//! On the caller's thread: `macros` → `event` → `local` (one thread's end of a `pipeline::ring`), with `callsite`, `value`,
//! `context`, `scope`, `attempt`, `funnel`, `identity`, `clock`, `state`. Behind the rings: `pipeline`. `config` and `guard`
//! start and stop it.

mod attempt;
mod callsite;
mod catalog;
mod clock;
mod config;
mod context;
mod event;
mod funnel;
mod guard;
mod identity;
mod local;
mod macros;
mod pipeline;
mod privacy;
mod scope;
mod state;
mod ticket;
mod value;

pub mod query;
pub mod testing;
#[cfg(feature = "http")]
pub mod web;

pub use attempt::{Attempt, Attempted, Outcome, Verdict, shutting_down};
pub use config::{Config, Problem};
pub use funnel::Funnel;
pub use gemba_conventions::DropReason;
pub use gemba_macros::instrument;
pub use guard::{FlushError, Guard, InitError, flush, stats};
pub use identity::{Known, identify};
pub use pipeline::Stats;
#[cfg(feature = "sqlx")]
pub use query::sqlx;
pub use scope::{Scope, Scoped, scope};
pub use ticket::{Ticket, TicketError};
pub use value::Value;

/// What the macros expand to; no part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::attempt::judge;
    pub use crate::callsite::{Callsite, StepDeclaration};
    pub use crate::event::{
        CALLSITES, CallsiteKind, FUNNELS, begin, has_repeated, inert, is_valid_name, key, linkme, reached, recording,
        used, value,
    };
    pub use crate::identity::{tenant_set, user_set};
}
