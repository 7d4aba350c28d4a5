//! The OpenTelemetry span that a record belongs to.
//!
//! In: OpenTelemetry's context of this thread. Out: the ids of its span, or none. Never a panic, also while the thread is ending.

/// Ids of the current OpenTelemetry span; zeros when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_field_names, reason = "the names of OpenTelemetry and of W3C Trace Context")]
pub(crate) struct Trace {
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    /// Whether whoever began the trace keeps its spans; to be handed on, since Gemba itself keeps each of its own.
    pub(crate) is_sampled: bool,
}

impl Trace {
    /// The span that is current on this thread; none once the thread is ending.
    pub(crate) fn current() -> Self {
        #[cfg(feature = "opentelemetry")]
        {
            use opentelemetry::trace::TraceContextExt as _;
            map_current(|context| {
                if !context.has_active_span() {
                    return Self::default();
                }
                let span = context.span();
                let span_context = span.span_context();
                Self {
                    trace_id: span_context.trace_id().to_bytes(),
                    span_id: span_context.span_id().to_bytes(),
                    is_sampled: span_context.is_sampled(),
                }
            })
        }
        #[cfg(not(feature = "opentelemetry"))]
        {
            Self::default()
        }
    }

    /// `tracestate` of the span that is current on this thread; empty without one.
    #[cfg(feature = "http")]
    pub(crate) fn current_state() -> String {
        #[cfg(feature = "opentelemetry")]
        {
            use opentelemetry::trace::TraceContextExt as _;
            map_current(|context| context.span().span_context().trace_state().header())
        }
        #[cfg(not(feature = "opentelemetry"))]
        {
            String::new()
        }
    }

    pub(super) fn is_some(self) -> bool {
        self.trace_id != [0; 16]
    }
}

/// What is made of OpenTelemetry's current context; the default once the thread is ending, where asking OpenTelemetry would
/// panic, and a panic in a destructor of the thread ends the process.
#[cfg(feature = "opentelemetry")]
fn map_current<T: Default>(make: impl FnOnce(&opentelemetry::Context) -> T) -> T {
    /// Goes before OpenTelemetry's own, because it comes after it: a thread's values go in reverse order.
    struct Alive;
    impl Drop for Alive {
        fn drop(&mut self) {}
    }
    thread_local! {
        static ALIVE: Option<Alive> = {
            // A thread that asks for the first time while it is ending may come too late already.
            let touch = || opentelemetry::Context::map_current(|_| ());
            std::panic::catch_unwind(touch).ok().map(|()| Alive)
        };
    }
    match ALIVE.try_with(Option::is_some) {
        Ok(true) => opentelemetry::Context::map_current(make),
        _ => T::default(),
    }
}
