//! The easy path: a tracing layer that counts the queries sqlx logs.
//!
//! In: sqlx's events of target `sqlx::query`. Out: the same counts as the wrapper's, as far as the events go. It changes no
//! event and prints nothing.
//!
//! Limits, which the wrapper [`Timed`](crate::sqlx::Timed) does not have:
//! 1. sqlx writes one event when a query ends, without its error: failed queries count as successful ones.
//! 2. It writes none when the log filter hides target `sqlx::query` at the level of the event (DEBUG, and WARN for slow
//!    ones); [`is_hidden`] says so, and the SDK warns about it once.
//! 3. It does not say which database it is: give the layer the dialect. Where a process has several, use the wrapper.
//! 4. sqlx-sqlite works on a thread of its own, where no scope is current: the scope is then the one in which the
//!    current tracing span was opened; without a span nobody is known.
//! 5. There is no line of code.
//! 6. Once a query has gone through a wrapper of sqlx or sea-orm, the layer leaves all of sqlx's events alone: nothing is
//!    counted twice.
//! 7. Crates without such an event (diesel, rusqlite, tokio-postgres) are not seen: they have wrappers.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::Dialect;
use super::known;
use super::timing;
use crate::context::{ContextId, ContextRef};
use crate::{scope, state};

/// Target of sqlx's events about queries.
const TARGET: &str = "sqlx::query";

/// A layer was made in this process.
static IS_LAYERED: AtomicBool = AtomicBool::new(false);
/// The warning about a filter was given.
static HAS_WARNED: AtomicBool = AtomicBool::new(false);

/// Counts the queries sqlx logs; add it to the host's subscriber.
///
/// ```
/// use gemba::query::{Dialect, QueryLayer};
/// use tracing_subscriber::layer::SubscriberExt as _;
/// let subscriber = tracing_subscriber::registry().with(QueryLayer::new(Dialect::Postgres));
/// # drop(subscriber);
/// ```
#[derive(Debug, Clone)]
pub struct QueryLayer {
    dialect: Dialect,
}

impl QueryLayer {
    /// A layer for an application whose queries go to a database of this dialect.
    ///
    /// # Examples
    /// ```
    /// let layer = gemba::query::QueryLayer::new(gemba::query::Dialect::MySql);
    /// # drop(layer);
    /// ```
    pub fn new(dialect: Dialect) -> Self {
        IS_LAYERED.store(true, Ordering::Relaxed);
        Self { dialect }
    }
}

/// Whether a [`QueryLayer`] is part of this thread's subscriber and a filter keeps sqlx's events from it.
///
/// # Examples
/// ```
/// use gemba::query::{Dialect, QueryLayer, is_hidden};
/// use tracing_subscriber::filter::LevelFilter;
/// use tracing_subscriber::layer::SubscriberExt as _;
/// let subscriber = tracing_subscriber::registry().with(QueryLayer::new(Dialect::Sqlite)).with(LevelFilter::INFO);
/// tracing::subscriber::with_default(subscriber, || assert!(is_hidden()));
/// ```
pub fn is_hidden() -> bool {
    let has_layer = tracing::dispatcher::get_default(|dispatch| dispatch.downcast_ref::<QueryLayer>().is_some());
    has_layer && !tracing::enabled!(target: "sqlx::query", Level::DEBUG)
}

/// Warns once when the process's subscriber has the layer and hides the queries from it. For the SDK's own thread, which
/// sees the subscriber of the process and not one of a test.
pub(crate) fn warn_if_hidden() {
    if IS_LAYERED.load(Ordering::Relaxed) && !HAS_WARNED.load(Ordering::Relaxed) && is_hidden() {
        HAS_WARNED.store(true, Ordering::Relaxed);
        tracing::warn!(
            target: "gemba",
            "a log filter hides sqlx's queries from gemba: let `sqlx::query=debug` through, or wrap the pool in gemba::sqlx::Timed"
        );
    }
}

/// The scope a span was opened in.
struct SpanScope(ContextRef);

/// What an event says about a query.
#[derive(Default)]
struct Seen {
    /// The first words of the text; all of it when it is short.
    summary: String,
    /// The text when it is longer.
    statement: String,
    rows: u64,
    elapsed_ns: Option<u64>,
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.trim().clone_into(&mut self.statement),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if matches!(field.name(), "rows_returned" | "rows_affected") {
            self.rows += value;
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            let elapsed = std::time::Duration::try_from_secs_f64(value).unwrap_or_default();
            self.elapsed_ns = u64::try_from(elapsed.as_nanos()).ok();
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}
}

impl<S> Layer<S> for QueryLayer
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn on_new_span(&self, _attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let current = scope::current();
        if current != ContextId::NONE
            && let Some(span) = context.span(id)
        {
            span.extensions_mut().insert(SpanScope(ContextRef::share(current)));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !is_query(event.metadata()) || !state::is_recording() || is_captured_otherwise() {
            return;
        }
        let mut seen = Seen::default();
        event.record(&mut seen);
        let Some(elapsed_ns) = seen.elapsed_ns else { return };
        let sql = if seen.statement.is_empty() { &seen.summary } else { &seen.statement };
        if let Some(outer) = timing::outer() {
            outer.learn_text(self.dialect, sql);
            return;
        }
        let current = scope::current();
        let of_span = || {
            let spans = context.event_scope(event)?;
            spans
                .into_iter()
                .find_map(|span| span.extensions().get::<SpanScope>().map(|scope| ContextRef::share(scope.0.id())))
        };
        let found = if current == ContextId::NONE { of_span() } else { None };
        let scope = found.as_ref().map_or(current, ContextRef::id);
        timing::record_ended(known::by_text(self.dialect, sql), scope, elapsed_ns, Some(seen.rows));
    }
}

fn is_query(metadata: &Metadata<'_>) -> bool {
    metadata.target() == TARGET
}

/// Whether wrappers count this process's sqlx queries.
fn is_captured_otherwise() -> bool {
    #[cfg(feature = "sqlx")]
    {
        super::sqlx::is_in_use()
    }
    #[cfg(not(feature = "sqlx"))]
    {
        false
    }
}
