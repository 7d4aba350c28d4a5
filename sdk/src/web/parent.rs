//! The server span as the parent of the spans that the host makes while it serves a request.
//!
//! In: the span's ids. Out: OpenTelemetry's current context for as long as a guard lives; nothing without feature
//! `opentelemetry`.

use crate::context::Trace;
use http::HeaderValue;

#[cfg(feature = "opentelemetry")]
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};

/// A span that spans of the host may have as their parent.
#[derive(Debug)]
pub(super) struct Parent {
    #[cfg(feature = "opentelemetry")]
    context: opentelemetry::Context,
}

/// The parent is current until this is dropped.
pub(super) struct Current {
    #[cfg(feature = "opentelemetry")]
    _guard: opentelemetry::ContextGuard,
}

impl Parent {
    /// `state` is the `tracestate` that came with the trace.
    #[cfg(feature = "opentelemetry")]
    pub(super) fn new(span: Trace, state: Option<&HeaderValue>) -> Self {
        // One that is malformed is left out, as the specification asks (Trace Context, section 4.3).
        let state: Option<TraceState> = state.and_then(|state| state.to_str().ok()?.parse().ok());
        let flags = if span.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
        let (trace_id, span_id) = (TraceId::from_bytes(span.trace_id), SpanId::from_bytes(span.span_id));
        // Remote: it is not a span of the host's provider.
        let span = SpanContext::new(trace_id, span_id, flags, true, state.unwrap_or_default());
        Self { context: opentelemetry::Context::current().with_remote_span_context(span) }
    }

    #[cfg(not(feature = "opentelemetry"))]
    pub(super) fn new(_span: Trace, _state: Option<&HeaderValue>) -> Self {
        Self {}
    }

    pub(super) fn enter(&self) -> Current {
        Current {
            #[cfg(feature = "opentelemetry")]
            _guard: self.context.clone().attach(),
        }
    }
}
