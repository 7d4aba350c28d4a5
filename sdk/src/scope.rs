//! Scopes: who does it, in which session and tenant, for everything that runs inside.
//!
//! In: ids from the application, once per request or task. Out: the context current on the thread while a closure runs
//! or a future is polled, and nothing of it before or after. It records nothing itself.

use crate::context::{ContextId, ContextRef, OwnedContext, Part};
use crate::{local, state};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The context current on this thread.
#[inline]
pub(crate) fn current() -> ContextId {
    local::context()
}

/// Makes a context current until dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    before: ContextId,
}

impl Entered {
    #[inline]
    pub(crate) fn new(context: ContextId) -> Self {
        Self { before: local::swap_context(context) }
    }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        local::swap_context(self.before);
    }
}

/// Opens a scope that knows what the current one knows, for [`user`](Scope::user), [`session`](Scope::session),
/// [`tenant`](Scope::tenant) and [`route`](Scope::route) to add to.
///
/// Without an addition it carries the current identity into a spawned task or thread:
///
/// ```
/// # async fn handle() {}
/// # fn spawn<F: std::future::Future>(_: F) {}
/// gemba::scope().user("u-7").run(|| {
///     // `spawn` would lose the identity; the scope takes it along.
///     spawn(gemba::scope().run_async(handle()));
/// });
/// ```
///
/// A thread is given the scope itself:
///
/// ```
/// gemba::scope().user("u-7").run(|| {
///     let scope = gemba::scope();
///     std::thread::spawn(move || scope.run(|| gemba::feature!("report.printed"))).join()
/// })
/// # .unwrap();
/// ```
pub fn scope() -> Scope {
    if !state::is_recording() {
        return Scope { context: None, is_nobodys: state::is_withheld() };
    }
    let context = ContextRef::below(current());
    Scope { is_nobodys: context.is_none(), context }
}

/// Identity for everything that runs inside it; see [`scope`].
///
/// Ids are kept up to 1,024 bytes. An empty id says nothing.
///
/// ```
/// gemba::scope().user("u-7").tenant("acme").run(|| gemba::feature!("search.filter"));
/// ```
#[derive(Debug)]
#[must_use = "a scope does nothing until `run` or `run_async`"]
pub struct Scope {
    /// None when nothing is recorded or the table of contexts is full (counted as `no_context`).
    pub(crate) context: Option<OwnedContext>,
    /// Whoever it is for is not known, for want of room or of consent: inside nobody is, not even whoever is outside, who would
    /// be the wrong one.
    is_nobodys: bool,
}

impl Scope {
    fn with(mut self, part: Part, id: &dyn fmt::Display) -> Self {
        if let Some(context) = &mut self.context {
            context.set(part, id);
        }
        self
    }

    /// The signed-in user. Sent as it is unless [`Config::hash_users`](crate::Config::hash_users) says otherwise.
    ///
    /// ```
    /// gemba::scope().user("u-7").run(|| gemba::feature!("search.filter"));
    /// ```
    pub fn user(self, id: impl fmt::Display) -> Self {
        self.with(Part::User, &id)
    }

    /// The session. Only its keyed hash leaves the process.
    ///
    /// ```
    /// gemba::scope().session("s-1").run(|| gemba::feature!("search.filter"));
    /// ```
    pub fn session(self, id: impl fmt::Display) -> Self {
        self.with(Part::Session, &id)
    }

    /// The customer account the user belongs to.
    ///
    /// ```
    /// gemba::scope().tenant("acme").run(|| gemba::feature!("search.filter"));
    /// ```
    pub fn tenant(self, id: impl fmt::Display) -> Self {
        self.with(Part::Tenant, &id)
    }

    /// The route template that is served, such as `/orders/{id}`; never the path itself.
    ///
    /// ```
    /// gemba::scope().route("/orders/{id}").run(|| gemba::feature!("search.filter"));
    /// ```
    pub fn route(self, template: impl fmt::Display) -> Self {
        self.with(Part::Route, &template)
    }

    /// The scope's context, from now on read-only; of nobody when there was no room for one.
    #[cfg(feature = "tower")]
    pub(crate) fn into_context(self) -> ContextRef {
        self.context.map_or(ContextRef::NONE, OwnedContext::publish)
    }

    /// What becomes current inside; None leaves what is.
    fn inside(self) -> Option<ContextRef> {
        let nobody = self.is_nobodys.then_some(ContextRef::NONE);
        self.context.map(OwnedContext::publish).or(nobody)
    }

    pub(crate) fn capture(mut self, capture: u32) -> Self {
        if let Some(context) = &mut self.context {
            context.set_capture(capture);
        }
        self
    }

    /// Runs `work` inside the scope. A panic leaves the scope as a return does.
    ///
    /// ```
    /// let total = gemba::scope().user("u-7").session("s-1").run(|| 40 + 2);
    /// assert_eq!(total, 42);
    /// ```
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        let Some(context) = self.inside() else { return work() };
        let _entered = Entered::new(context.id());
        work()
    }

    /// Runs `future` inside the scope: the scope is current while the future is polled, on whichever thread, and at no
    /// other time, so tasks that share a thread never see each other's identity.
    ///
    /// ```
    /// # async fn handle() {}
    /// let task = gemba::scope().user("u-7").tenant("acme").run_async(handle());
    /// # drop(task);
    /// ```
    pub fn run_async<F: Future>(self, future: F) -> Scoped<F> {
        Scoped { context: self.inside(), future }
    }
}

pin_project! {
    /// A future inside a [`Scope`].
    ///
    /// ```
    /// let task = gemba::scope().user("u-7").run_async(async { 42 });
    /// # drop(task);
    /// ```
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scoped<F> {
        context: Option<ContextRef>,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.context.as_ref().map(|context| Entered::new(context.id()));
        this.future.poll(cx)
    }
}
