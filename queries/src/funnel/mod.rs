//! Funnels: who went from one step to the next, exactly.
//!
//! In: the JSON of a question ([`FunnelRequest`]). [`FunnelRequest::validate`] makes it a [`Funnel`],
//! [`Funnel::plan`] the statement that fetches its rows, [`FunnelScan`] takes the rows and answers a
//! [`FunnelAnswer`]. [`reference`] answers the same question in the plainest way, for tests. No I/O, no clock.
//!
//! # The rules
//! 1. *Unit*: person, session or tenant. An event without one is counted in `without_unit` when it fits a step and lies in
//!    the range. Events without a session are split into sessions by pauses longer than 30 minutes between one event of
//!    the person without a session and the next, of whatever kind and whatever the filter hides.
//! 2. *Order*: time in milliseconds, then sequence number. Where not every event of the unit in a millisecond has a number
//!    of one instance, the millisecond is unordered: a chain may use its events in any order. Storage order never matters.
//!    An event fills at most one step.
//! 3. *Chain*: events e0, e1, .. in order, each fitting its step, e0 in `[from, to)`, the last at most a window after e0.
//!    A *try* is one e0 with its longest chains.
//! 4. *Exclusion* (X, f, t): hits a chain with more than f steps if X lies strictly between e_f and e_t, or, where e_t is
//!    not reached, after e_f up to e0 + window. A try is clean if one of its longest chains is not hit. A unit without a
//!    clean try is `excluded`.
//! 5. *Level* of a unit: its longest clean try. *Reported chain*: highest level, then earliest end, then latest start, then
//!    each step as early as possible.
//! 6. *Strict*: strictly between two chain events no other event of the unit, save repeats that fit the step just reached.
//!    *Any*: an anchor in the range that fits some step, then the largest matching of events to steps within the window.
//! 7. *Open*: a unit that has not finished and has a clean try whose window ends after `as_of`; else *lost*.
//! 8. *Times* from the reported chain; percentiles by nearest rank.
//! 9. *Breakdown* at step 0, the last step reached, or step N; *hold*; *first time*; *over time*.
//!
//! # Where the rules leave a choice
//! * Only events that fit a step or an exclusion decide whether a millisecond is ordered (in a strict funnel: all events
//!   it looks at): an event that fits nothing says nothing about the order of two that do.
//! * Two events with the same sequence number in an ordered millisecond have no order between them.
//! * "Strictly between" leaves out what shares an unordered place with a boundary, for a strict funnel as for an exclusion.
//! * A filter makes events invisible: they break no strict chain and exclude nobody.
//! * `hold` binds the events of the chain, not exclusions and not what breaks a strict chain.
//! * `first_time` asks about the unit: its first event ever that fits step 0 (with `any`: some step) must lie in the range;
//!   any of its tries may then count.
//! * `as_of` decides between open and lost and hides no event.
//! * `ne` is the opposite of `eq`: an event without the attribute meets it.
//! * With `any`, step i of the answer means "i + 1 steps done", its time is that of the event that did it, and a breakdown
//!   at step N takes the event that did the N-th. An exclusion stops progress at the first X behind the anchor; what shares
//!   an unordered place with X is still done.
//! * Where events without an order between them could fill the same step, the breakdown takes the least value by bytes, a
//!   missing one before all, first for step 0, then for step 1 and so on.
//! * A breakdown or condition on `user:KEY` or `tenant:KEY` takes the latest value of the property known now, whenever the
//!   event was; of several said at one instant the one received last, then the greatest in writing. `flag:KEY` (breakdown
//!   only) is the variant at the person's first exposure, missing before it.
//! * The groups "missing" and "not reached" stand beside the largest 25 and never fall into `other`.

pub mod answer;
mod any_order;
mod block;
mod buckets;
mod chain;
pub mod compare;
pub(crate) mod conditions;
mod linear;
mod linear_strict;
pub mod matcher;
mod matching;
mod native;
mod outcome;
mod overlap;
pub(crate) mod period;
pub(crate) mod property;
pub mod reference;
pub mod request;
pub mod saved;
pub mod scan;
pub mod sql;
mod unit;
mod unordered;
pub mod validate;
mod values;

#[cfg(test)]
mod tests;

pub use answer::{Done, DroppedUnit, FunnelAnswer, GroupAnswer, PeriodAnswer, StepAnswer, TimeBucket, TimesAnswer};
pub use native::{NativeError, NativeReader};
pub use outcome::UnitOutcome;
pub use request::{
    CohortRequest, CompareRequest, ConditionRequest, DroppedRequest, ExclusionRequest, FunnelError, FunnelRequest,
    MatchRequest,
};
pub use scan::FunnelScan;
pub use sql::{Columns, Fetch, FunnelPlan};
pub use unit::Event;
pub use unordered::Again;
pub use validate::{CountBy, Dropped, Funnel, MAX_STEPS, MIN_STEPS};
