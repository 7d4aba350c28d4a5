//! Timing one query: begin, end, and what it came to.
//!
//! In: a future, a closure or a pair of calls around a query. Out: one [`Measured`] in the thread's table. Decided here:
//! a future that is ready ends the query with its result; one dropped before that counts as `cancelled`, because the
//! database worked for it; a poll that does not return counts as `panicked`. Inside a named query, texts seen by a
//! wrapper or by the tracing layer are not counted again: the first of them becomes the name's text.

use pin_project_lite::pin_project;
use std::cell::Cell;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Dialect;
use super::known::{self, Known};
use super::named::QuerySite;
use super::status::StatusCode;
use super::table::{self, Code, Measured};
#[cfg(feature = "tracing")]
use crate::context::ContextId;
use crate::context::ContextRef;
use crate::{clock, scope, state};

/// `error.type` of a query whose future was dropped before it was ready.
pub(crate) const CANCELLED: &str = "cancelled";
/// `error.type` of a query whose poll or closure did not return.
const PANICKED: &str = "panicked";

thread_local! {
    /// The query that is being polled or run on this thread and counts itself.
    static INSIDE: Cell<Option<&'static Known>> = const { Cell::new(None) };
}

/// The query around the current call that counts for everything inside it.
#[inline]
pub(crate) fn outer() -> Option<&'static Known> {
    INSIDE.try_with(Cell::get).ok().flatten()
}

/// Marks the thread as inside a query, or as outside of any, until dropped.
pub(crate) struct Inside(Option<&'static Known>);

impl Inside {
    #[inline]
    pub(crate) fn enter(query: &'static Known) -> Self {
        Self::mark(Some(query))
    }

    #[inline]
    fn mark(query: Option<&'static Known>) -> Self {
        Self(INSIDE.try_with(|inside| inside.replace(query)).ok().flatten())
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        // A thread that is ending has no such mark any more.
        let _ending = INSIDE.try_with(|inside| inside.set(self.0));
    }
}

/// What came of a query.
///
/// # Examples
/// ```
/// use gemba::query::QueryEnd;
/// let three_rows = QueryEnd { rows: Some(3), ..QueryEnd::default() };
/// assert_eq!(three_rows.error, None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryEnd {
    /// Rows returned or affected, if known.
    pub rows: Option<u64>,
    /// Kind of the failure, such as a type name or an SQLSTATE class; never a message, which may hold values. `None` when
    /// it went well.
    pub error: Option<&'static str>,
    /// The database's own code for the failure, where it gives one.
    pub status: Option<StatusCode>,
}

impl QueryEnd {
    /// It went well.
    pub(crate) const fn done(rows: Option<u64>) -> Self {
        Self { rows, error: None, status: None }
    }

    /// It failed.
    pub(crate) const fn failed(error: &'static str, status: Option<StatusCode>) -> Self {
        Self { rows: None, error: Some(error), status }
    }
}

/// Results that say how a query ended.
///
/// Implemented for `Result`: `Err` failed, by the name of its type. For anything else use
/// [`QueryHandle::timed_with`](super::QueryHandle::timed_with) or [`QueryHandle::start`](super::QueryHandle::start).
///
/// # Examples
/// ```
/// use gemba::query::QueryOutput as _;
/// let failed: Result<(), std::num::ParseIntError> = "x".parse::<u8>().map(drop);
/// assert!(failed.query_end().error.is_some_and(|kind| kind.ends_with("ParseIntError")));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how a query ended",
    note = "return a Result, or use `timed_with`, or `start` and `finish`"
)]
pub trait QueryOutput {
    /// How the query ended.
    fn query_end(&self) -> QueryEnd;
}

impl<T, E> QueryOutput for Result<T, E> {
    fn query_end(&self) -> QueryEnd {
        QueryEnd { error: self.as_ref().err().map(|_| std::any::type_name::<E>()), ..QueryEnd::default() }
    }
}

impl From<&'static Location<'static>> for Code {
    fn from(location: &'static Location<'static>) -> Self {
        Self { file: location.file(), line: location.line() }
    }
}

/// A query under way. Dropped without an end it counts as cancelled, or as panicked while a panic unwinds past it; a future or stream
/// that is dropped between two polls is cancelled, whoever panicked.
///
/// # Examples
/// ```
/// let running = gemba::query!("orders.by_user", Sqlite).start();
/// // the work
/// running.finish(None);
/// ```
#[derive(Debug)]
#[must_use = "a query dropped at once counts as cancelled: call `finish`"]
pub struct Running {
    /// None: nothing is recorded, or a query around this one counts.
    query: Option<&'static Known>,
    code: Code,
    start_ticks: u64,
    /// When the clock was stopped; 0 while it runs.
    paused_ticks: u64,
    /// The scope it began in; taken only when the query may end outside of it.
    context: Option<ContextRef>,
    if_dropped: IfDropped,
}

/// What a drop without an end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfDropped {
    /// A guard cannot tell whose panic unwinds past it, and takes it for its own.
    Guessed,
    /// The poll under way did not return.
    Panicked,
    /// A future or stream lies between two polls: whatever panic goes past it, it is not this query's.
    Cancelled,
}

impl Running {
    /// Counts nothing.
    #[inline]
    const fn nothing(code: Code) -> Self {
        Self { query: None, code, start_ticks: 0, paused_ticks: 0, context: None, if_dropped: IfDropped::Guessed }
    }

    /// Begins now, in the current scope.
    #[inline]
    pub(crate) fn begin(query: impl FnOnce() -> &'static Known, code: Code) -> Self {
        let state = state::load();
        if state & state::RECORDING == 0 || outer().is_some() {
            return Self::nothing(code);
        }
        Self {
            query: Some(query()),
            code,
            start_ticks: clock::read(state),
            paused_ticks: 0,
            context: None,
            if_dropped: IfDropped::Guessed,
        }
    }

    #[cfg(feature = "rusqlite")]
    pub(crate) fn query(&self) -> Option<&'static Known> {
        self.query
    }

    /// Keeps the scope, for an end that may come outside of it.
    #[inline]
    pub(crate) fn keep_scope(&mut self) {
        if self.query.is_some() && self.context.is_none() {
            self.context = Some(ContextRef::share(scope::current()));
        }
    }

    /// One poll of the future or stream that is the query. Until it returns, the only way out is a panic of its own.
    #[inline]
    pub(crate) fn poll<T>(&mut self, poll: impl FnOnce() -> T) -> T {
        self.if_dropped = IfDropped::Panicked;
        let _inside = self.query.map(Inside::enter);
        poll()
    }

    /// Lies between two polls from now on; the next may never come, and the drop may be outside of the scope.
    #[inline]
    pub(crate) fn wait(&mut self) {
        self.keep_scope();
        self.if_dropped = IfDropped::Cancelled;
    }

    /// Ends a stream that is dropped after its first rows came: its reader has seen enough, which is no failure, unless the
    /// stream itself panicked.
    #[cfg(any(feature = "sqlx", feature = "tokio-postgres"))]
    pub(crate) fn end_read(&mut self, rows: u64) {
        let error = (self.if_dropped == IfDropped::Panicked).then_some(PANICKED);
        self.end(QueryEnd { rows: Some(rows), error, status: None });
    }

    /// Stops the clock: what follows is the caller's time, not the database's.
    #[cfg(feature = "rusqlite")]
    pub(crate) fn pause(&mut self) {
        if self.query.is_some() && self.paused_ticks == 0 {
            self.paused_ticks = clock::now();
        }
    }

    /// Lets the clock go on.
    #[cfg(feature = "rusqlite")]
    pub(crate) fn resume(&mut self) {
        if self.paused_ticks != 0 {
            self.start_ticks += clock::now().saturating_sub(self.paused_ticks);
            self.paused_ticks = 0;
        }
    }

    /// Runs the caller's own code while the query is under way: its time is not the database's, and queries it makes count.
    #[cfg(feature = "rusqlite")]
    pub(crate) fn outside<T>(&mut self, work: impl FnOnce() -> T) -> T {
        // One that counts nothing leaves to the query around it what is inside.
        if self.query.is_none() {
            return work();
        }
        self.pause();
        let output = {
            // There is none around one that counts.
            let _outside = Inside::mark(None);
            work()
        };
        self.resume();
        output
    }

    /// Ends the query.
    ///
    /// # Examples
    /// ```
    /// let running = gemba::query!("orders.by_user", Sqlite).start();
    /// let rows = 3; // the work
    /// running.finish(Some(rows));
    /// ```
    #[inline]
    pub fn finish(mut self, rows: Option<u64>) {
        self.end(QueryEnd::done(rows));
    }

    /// Ends the query as failed; `error` is a kind, never a message.
    ///
    /// # Examples
    /// ```
    /// let running = gemba::query!("orders.by_user", Sqlite).start();
    /// match "x".parse::<u64>() {
    ///     Ok(rows) => running.finish(Some(rows)),
    ///     Err(_) => running.fail("decode"),
    /// }
    /// ```
    pub fn fail(mut self, error: &'static str) {
        self.end(QueryEnd::failed(error, None));
    }

    #[inline]
    pub(crate) fn end(&mut self, end: QueryEnd) {
        let Some(query) = self.query.take() else { return };
        let end_ticks = if self.paused_ticks == 0 { clock::now() } else { self.paused_ticks };
        let context = self.context.as_ref().map_or_else(scope::current, ContextRef::id);
        let (elapsed_ns, end_ns) = clock::ended_ns(self.start_ticks, end_ticks);
        table::record(&Measured {
            query,
            code: self.code,
            context,
            end_ticks,
            end_ns,
            elapsed_ns,
            rows: end.rows,
            error: end.error.unwrap_or_default(),
            status: end.status,
        });
    }
}

impl Drop for Running {
    #[inline]
    fn drop(&mut self) {
        if self.query.is_some() {
            self.end_dropped();
        }
    }
}

impl Running {
    #[cold]
    fn end_dropped(&mut self) {
        let has_panicked = match self.if_dropped {
            IfDropped::Guessed => std::thread::panicking(),
            // Asked of nobody: whoever polls may catch the panic, and drop the future later.
            IfDropped::Panicked => true,
            IfDropped::Cancelled => false,
        };
        self.end(QueryEnd::failed(if has_panicked { PANICKED } else { CANCELLED }, None));
    }
}

/// Counts a query that was measured elsewhere and ended just now, in this scope.
#[cfg(feature = "tracing")]
pub(crate) fn record_ended(query: &'static Known, context: ContextId, elapsed_ns: u64, rows: Option<u64>) {
    let end_ticks = clock::now();
    table::record(&Measured {
        query,
        code: Code::default(),
        context,
        end_ticks,
        end_ns: clock::wall_ns(end_ticks),
        elapsed_ns,
        rows,
        error: "",
        status: None,
    });
}

/// Runs `work` inside the query.
#[inline]
pub(super) fn run<T: QueryOutput>(running: Running, work: impl FnOnce() -> T) -> T {
    run_with(running, work, T::query_end)
}

/// Runs `work` inside the query; `judge` says how it ended.
#[inline]
pub(crate) fn run_with<T>(running: Running, work: impl FnOnce() -> T, judge: impl FnOnce(&T) -> QueryEnd) -> T {
    run_knowing(running, |_| work(), judge)
}

/// As [`run_with`], for work that goes [`outside`](Running::outside) in between.
#[inline]
pub(crate) fn run_knowing<T>(
    mut running: Running,
    work: impl FnOnce(&mut Running) -> T,
    judge: impl FnOnce(&T) -> QueryEnd,
) -> T {
    running.keep_scope();
    let output = {
        let _inside = running.query.map(Inside::enter);
        work(&mut running)
    };
    running.end(judge(&output));
    output
}

/// Which query a future is, looked up at its first poll.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject {
    Nothing,
    Site(&'static QuerySite),
    Name(Dialect, &'static str),
    Known(&'static Known),
}

/// What is needed to begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begin {
    pub(crate) query: Subject,
    pub(crate) code: Code,
}

impl Begin {
    #[inline]
    pub(crate) fn begin(self) -> Running {
        match self.query {
            Subject::Nothing => Running::nothing(self.code),
            Subject::Site(site) => Running::begin(|| site.known(), self.code),
            Subject::Name(dialect, name) => Running::begin(|| known::by_name(dialect, name), self.code),
            Subject::Known(known) => Running::begin(|| known, self.code),
        }
    }
}

pin_project! {
    /// A future that is a query.
    ///
    /// # Examples
    /// ```
    /// use std::future::{Ready, ready};
    /// type Answer = Ready<Result<u8, std::fmt::Error>>;
    /// let timed: gemba::query::TimedQuery<Answer> = gemba::query!("orders.by_user", Postgres).timed(ready(Ok(1)));
    /// # drop(timed);
    /// ```
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct TimedQuery<F: Future, J = fn(&<F as Future>::Output) -> QueryEnd> {
        // Dropped first, so that queries inside end before this one.
        #[pin]
        future: F,
        begin: Begin,
        // Set from the first poll on.
        running: Option<Running>,
        judge: Option<J>,
    }
}

impl<F: Future, J: FnOnce(&F::Output) -> QueryEnd> TimedQuery<F, J> {
    pub(crate) fn new(future: F, judge: J, begin: Begin) -> Self {
        Self { future, begin, running: None, judge: Some(judge) }
    }
}

impl<F: Future, J: FnOnce(&F::Output) -> QueryEnd> Future for TimedQuery<F, J> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let judge = this.judge;
        let running = this.running.get_or_insert_with(|| this.begin.begin());
        let polled = running.poll(|| this.future.poll(cx));
        match &polled {
            Poll::Pending => running.wait(),
            Poll::Ready(output) => {
                if let Some(judge) = judge.take() {
                    running.end(judge(output));
                }
            }
        }
        polled
    }
}
