//! Attempts: features that begin and end, and how they ended.
//!
//! In: a begin, and a verdict, a drop or neither. Out: a started and at most one ended record. The verdict comes from what
//! really happened: a closure that did not return or a poll that did not return panicked; a future dropped between polls
//! was cancelled; whether *some* panic is under way on the thread is never asked for those, because a bystander's future
//! dropped by somebody else's panic sees the same. A process that dies leaves the attempt open.

use crate::callsite::Callsite;
use crate::context::ContextRef;
use crate::local::{self, RecordKind};
use crate::scope::{self, Entered};
use crate::ticket::{Ticket, TicketError, callsite_of};
use crate::value::{Values, Word};
use crate::verdict::{Outcome, Verdict};
use crate::{clock, event, state};
use gemba_conventions::{self as conventions, DropReason};
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

/// What a drop without a verdict means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfDropped {
    /// A bare guard went out of scope.
    Abandoned,
    /// The closure or poll under way did not return.
    Panicked,
    /// The future was dropped between polls.
    Cancelled,
}

/// Why an attempt ended so; the second byte of the verdict word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum EndReason {
    None = 0,
    Shutdown = 1,
    Unwinding = 2,
    Ignored = 3,
}

impl EndReason {
    /// The word on the wire, empty for none.
    pub(crate) fn as_str(code: u8) -> &'static str {
        match code {
            1 => "shutdown",
            2 => "unwinding",
            3 => "ignored",
            _ => "",
        }
    }
}

/// The process is going down: what is cut off now was not given up by anybody.
static STOPPING: AtomicBool = AtomicBool::new(false);
/// Attempts begun so far; added to [`FIRST_ID`].
static BEGUN: AtomicU64 = AtomicU64::new(0);
/// Random start of this process's attempt ids, so that two processes' ids do not meet.
static FIRST_ID: OnceLock<u64> = OnceLock::new();

/// Tells the SDK that the process is going down: futures dropped from now on are `cancelled` with reason `shutdown`
/// instead of looking like people who left. Call it where you handle the stop signal; dropping the
/// [`Guard`](crate::Guard) does it too.
///
/// ```
/// # async fn serve() {}
/// # async fn stop_signal() {}
/// # async fn main_loop() {
/// serve().await; // until the signal comes
/// gemba::shutting_down();
/// // Requests that are cut off from here on were given up by nobody.
/// # }
/// ```
pub fn shutting_down() {
    STOPPING.store(true, Ordering::Relaxed);
}

fn next_id() -> u64 {
    let first = *FIRST_ID.get_or_init(crate::config::random_u64);
    // 0 stands for an inert attempt.
    first.wrapping_add(BEGUN.fetch_add(1, Ordering::Relaxed)).max(1)
}

/// The guard of one attempt, made by [`attempt!`](crate::attempt).
///
/// Ends once: by [`run`](Self::run) or [`run_async`](Self::run_async) and what they return, by [`complete`](Self::complete),
/// [`fail`](Self::fail), [`abandon`](Self::abandon) or [`cancel`](Self::cancel); dropped without any of them it counts
/// as abandoned, marked as inferred. It belongs to the scope it was begun in, wherever it ends.
///
/// What is recorded and what databases are asked belongs to the attempt inside [`run`](Self::run), [`run_async`](Self::run_async)
/// and [`#[instrument]`](macro@crate::instrument); beside a bare guard it belongs to the scope alone.
///
/// ```
/// let checkout = gemba::attempt!("checkout", items = 3);
/// checkout.complete();
/// ```
#[derive(Debug)]
#[must_use = "an attempt dropped at once counts as abandoned: bind it to a name, or call `run` or `run_async`"]
pub struct Attempt {
    callsite: &'static Callsite,
    /// 0: inert, records nothing.
    id: u64,
    /// 0 when it was begun elsewhere (resumed from a ticket).
    start_ticks: u64,
    start_wall_ns: u64,
    /// The thread's [`local::position`] after the beginning was recorded.
    begun_at: u64,
    context: ContextRef,
    if_dropped: IfDropped,
}

impl Attempt {
    #[inline]
    pub(crate) fn begin(state: u8, callsite: &'static Callsite, values: &impl Values) -> Self {
        let id = next_id();
        let start_ticks = clock::read(state);
        let context = ContextRef::share(scope::current());
        local::write(RecordKind::Started, callsite, start_ticks, Some(context.id()), &(Word(id), values));
        Self {
            callsite,
            id,
            start_ticks,
            start_wall_ns: clock::wall_ns(start_ticks),
            begun_at: local::position(),
            context,
            if_dropped: IfDropped::Abandoned,
        }
    }

    #[inline]
    pub(crate) fn inert(callsite: &'static Callsite) -> Self {
        Self {
            callsite,
            id: 0,
            start_ticks: 0,
            start_wall_ns: 0,
            begun_at: 0,
            context: ContextRef::NONE,
            if_dropped: IfDropped::Abandoned,
        }
    }

    /// Ends it as completed.
    ///
    /// ```
    /// let checkout = gemba::attempt!("checkout");
    /// checkout.complete();
    /// ```
    #[inline]
    pub fn complete(mut self) {
        self.end(conventions::Outcome::Completed, false, EndReason::None, "");
    }

    /// Ends it as failed. `kind` says of what kind the failure is: a declared word, never a message.
    ///
    /// ```
    /// gemba::attempt!("checkout").fail("card_declined");
    /// ```
    #[inline]
    pub fn fail(mut self, kind: &'static str) {
        self.end(conventions::Outcome::Failed, false, EndReason::None, kind);
    }

    /// Ends it as given up by the user.
    ///
    /// ```
    /// gemba::attempt!("checkout").abandon();
    /// ```
    #[inline]
    pub fn abandon(mut self) {
        self.end(conventions::Outcome::Abandoned, false, EndReason::None, "");
    }

    /// Ends it as cancelled.
    ///
    /// ```
    /// gemba::attempt!("checkout").cancel();
    /// ```
    #[inline]
    pub fn cancel(mut self) {
        self.end(conventions::Outcome::Cancelled, false, EndReason::None, "");
    }

    /// Runs `work` as the attempt; its result is the verdict, a panic ends it as panicked.
    ///
    /// ```
    /// let sum = gemba::attempt!("report.sum").run(|| "40".parse::<u32>());
    /// assert_eq!(sum, Ok(40));
    /// ```
    #[inline]
    pub fn run<T: Outcome>(self, work: impl FnOnce() -> T) -> T {
        self.run_with(work, T::verdict)
    }

    /// Runs `work` as the attempt, with a `judge` for results that do not say themselves how it ended.
    ///
    /// ```
    /// use gemba::Verdict;
    /// let status = gemba::attempt!("mail.send").run_with(
    ///     || 250_u16,
    ///     |status| if *status < 400 { Verdict::Completed } else { Verdict::Failed("smtp_refused") },
    /// );
    /// assert_eq!(status, 250);
    /// ```
    #[inline]
    pub fn run_with<T>(mut self, work: impl FnOnce() -> T, judge: impl FnOnce(&T) -> Verdict) -> T {
        let inside = self.inside();
        // Whatever keeps the next lines from reaching the end is a panic.
        self.if_dropped = IfDropped::Panicked;
        let result = {
            let _entered = inside.as_ref().map(|inside| Entered::new(inside.id()));
            work()
        };
        let verdict = judge(&result);
        self.judged(verdict);
        result
    }

    /// Wraps `future` as the attempt: its output is the verdict; dropped before it is ready it is cancelled; a poll that
    /// does not return ends it as panicked.
    ///
    /// ```
    /// # async fn export() -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn handler() -> Result<(), std::io::Error> {
    /// gemba::attempt!("report.export", rows = 12).run_async(export()).await
    /// # }
    /// ```
    pub fn run_async<F>(self, future: F) -> Attempted<F, fn(&F::Output) -> Verdict>
    where
        F: Future,
        F::Output: Outcome,
    {
        self.run_async_with(future, F::Output::verdict)
    }

    /// As [`run_async`](Self::run_async), with a `judge` for outputs that do not say themselves how it ended.
    ///
    /// ```
    /// use gemba::Verdict;
    /// # async fn send() -> u16 { 250 }
    /// # async fn handler() {
    /// let judge = |status: &u16| if *status < 400 { Verdict::Completed } else { Verdict::Failed("smtp_refused") };
    /// let status = gemba::attempt!("mail.send").run_async_with(send(), judge).await;
    /// # }
    /// ```
    pub fn run_async_with<F: Future, J: FnOnce(&F::Output) -> Verdict>(
        mut self,
        future: F,
        judge: J,
    ) -> Attempted<F, J> {
        let inside = self.inside();
        self.if_dropped = IfDropped::Cancelled;
        Attempted { future, attempt: Some(self), inside, judge: Some(judge) }
    }

    /// As [`run_async_with`](Self::run_async_with), with a future that `make` makes inside the attempt.
    #[doc(hidden)]
    pub fn run_making_with<F: Future, J: FnOnce(&F::Output) -> Verdict>(
        mut self,
        make: impl FnOnce() -> F,
        judge: J,
    ) -> Attempted<F, J> {
        let inside = self.inside();
        self.if_dropped = IfDropped::Panicked;
        let future = {
            let _entered = inside.as_ref().map(|inside| Entered::new(inside.id()));
            make()
        };
        self.if_dropped = IfDropped::Cancelled;
        Attempted { future, attempt: Some(self), inside, judge: Some(judge) }
    }

    /// Lets the attempt go on beyond this process or request: the ticket resumes it.
    ///
    /// ```
    /// use gemba::{Attempt, Ticket};
    /// # fn main() -> Result<(), gemba::TicketError> {
    /// let ticket: String = gemba::attempt!("checkout").detach().to_string();
    /// // Later, perhaps in another process:
    /// Attempt::resume(&ticket.parse::<Ticket>()?)?.complete();
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(mut self) -> Ticket {
        self.callsite.hold();
        let ticket =
            Ticket { feature: self.callsite.name().to_owned(), id: self.id, start_wall_ns: self.start_wall_ns };
        self.id = 0;
        ticket
    }

    /// Takes up an attempt that was [detached](Self::detach), in the scope current now. No second beginning is recorded.
    ///
    /// # Errors
    /// [`TicketError::UnknownFeature`] when this build declares no attempt of that name and already knows 1,000 such.
    ///
    /// ```
    /// let ticket = gemba::attempt!("checkout").detach();
    /// gemba::Attempt::resume(&ticket)?.abandon();
    /// # Ok::<(), gemba::TicketError>(())
    /// ```
    pub fn resume(ticket: &Ticket) -> Result<Self, TicketError> {
        let callsite = callsite_of(&ticket.feature)?;
        if ticket.id == 0 || !state::is_recording() {
            return Ok(Self::inert(callsite));
        }
        Ok(Self {
            callsite,
            id: ticket.id,
            start_ticks: 0,
            start_wall_ns: ticket.start_wall_ns,
            begun_at: 0,
            context: ContextRef::share(scope::current()),
            if_dropped: IfDropped::Abandoned,
        })
    }

    /// A context inside the attempt, so that what runs there knows it.
    #[inline]
    fn inside(&self) -> Option<ContextRef> {
        if self.id == 0 { None } else { self.context_inside() }
    }

    fn context_inside(&self) -> Option<ContextRef> {
        let mut inside = ContextRef::below(self.context.id())?;
        inside.set_attempt(self.callsite, self.id);
        Some(inside.publish())
    }

    /// Begun a moment ago, this thread has recorded nothing since, and no guard of this place in the code was ever held: it was
    /// bound to `_` or forgotten. Where one was held, a moment is how long it took to refuse.
    fn is_ignored(&self) -> bool {
        /// Chosen: far above what a begin and a drop take unoptimised (about 1 microsecond), far below what a person does.
        const MOMENT_NS: u64 = 10_000;
        !self.callsite.is_held()
            && self.start_ticks != 0
            && self.begun_at == local::position()
            && clock::elapsed_ns(self.start_ticks, clock::now()) < MOMENT_NS
    }

    #[inline]
    fn judged(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Completed => self.end(conventions::Outcome::Completed, false, EndReason::None, ""),
            Verdict::Failed(kind) => self.end(conventions::Outcome::Failed, false, EndReason::None, kind),
            Verdict::Abandoned => self.end(conventions::Outcome::Abandoned, false, EndReason::None, ""),
        }
    }

    #[inline]
    fn end(&mut self, outcome: conventions::Outcome, is_inferred: bool, reason: EndReason, error: &'static str) {
        if self.id != 0 {
            self.record_end(outcome, is_inferred, reason, error);
        }
    }

    fn record_end(&mut self, outcome: conventions::Outcome, is_inferred: bool, reason: EndReason, error: &'static str) {
        let id = std::mem::take(&mut self.id);
        if !is_inferred {
            self.callsite.hold();
        }
        let Some(state) = event::recording() else { return };
        let verdict = u64::from(outcome as u8) | u64::from(is_inferred) << 8 | u64::from(reason as u8) << 16;
        let values = (
            Word(id),
            Word(self.start_ticks),
            Word(self.start_wall_ns),
            Word(verdict),
            Word(error.as_ptr() as u64),
            Word(error.len() as u64),
        );
        local::write(RecordKind::Ended, self.callsite, clock::read(state), Some(self.context.id()), &values);
    }
}

impl Drop for Attempt {
    #[inline]
    fn drop(&mut self) {
        if self.id != 0 {
            self.end_dropped();
        }
    }
}

impl Attempt {
    fn end_dropped(&mut self) {
        let stopping = STOPPING.load(Ordering::Relaxed);
        match self.if_dropped {
            IfDropped::Panicked => self.end(conventions::Outcome::Panicked, false, EndReason::None, "panic"),
            IfDropped::Abandoned | IfDropped::Cancelled if stopping => {
                self.end(conventions::Outcome::Cancelled, true, EndReason::Shutdown, "");
            }
            IfDropped::Cancelled => self.end(conventions::Outcome::Cancelled, false, EndReason::None, ""),
            // A guard cannot know whether the panic that unwinds past it is its own; the reason lets queries tell.
            IfDropped::Abandoned if std::thread::panicking() => {
                self.end(conventions::Outcome::Abandoned, true, EndReason::Unwinding, "");
            }
            IfDropped::Abandoned if self.is_ignored() => {
                self.callsite.count(DropReason::GuardIgnored);
                self.end(conventions::Outcome::Abandoned, true, EndReason::Ignored, "");
            }
            IfDropped::Abandoned => {
                // Time alone says nothing: a thread may lose its processor in between.
                if self.begun_at != local::position() {
                    self.callsite.hold();
                }
                self.end(conventions::Outcome::Abandoned, true, EndReason::None, "");
            }
        }
    }
}

pin_project! {
    /// A future that is an attempt; see [`Attempt::run_async`].
    ///
    /// ```
    /// let export = gemba::attempt!("report.export").run_async(async { Some(12) });
    /// # drop(export);
    /// ```
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Attempted<F, J> {
        // Dropped first, so that attempts inside end before this one.
        #[pin]
        future: F,
        attempt: Option<Attempt>,
        inside: Option<ContextRef>,
        judge: Option<J>,
    }
}

impl<F: Future, J: FnOnce(&F::Output) -> Verdict> Future for Attempted<F, J> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let (attempt, inside, judge) = (this.attempt, this.inside, this.judge);
        if let Some(attempt) = attempt {
            // Until the poll returns, the only way out is a panic.
            attempt.if_dropped = IfDropped::Panicked;
        }
        let polled = {
            let _entered = inside.as_ref().map(|inside| Entered::new(inside.id()));
            this.future.poll(cx)
        };
        match &polled {
            Poll::Pending => {
                if let Some(attempt) = attempt {
                    attempt.if_dropped = IfDropped::Cancelled;
                }
            }
            Poll::Ready(output) => {
                if let (Some(attempt), Some(judge)) = (attempt.as_mut(), judge.take()) {
                    attempt.judged(judge(output));
                }
            }
        }
        polled
    }
}
