//! A good citizen beside OpenTelemetry: the host's own provider stays the host's, and both sides see one trace.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here ends the test")]

mod support;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use std::sync::{Arc, Mutex};
use support::{attributes, bodies, flush, start, text};
use tracing_subscriber::layer::SubscriberExt as _;

/// The host's own way out.
#[derive(Debug, Clone, Default)]
struct Host(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Host {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// Records of uses of this feature.
fn used(feature: &str) -> Vec<LogRecord> {
    let requests: Vec<ExportLogsServiceRequest> = bodies("/v1/logs");
    let scopes = requests.into_iter().flat_map(|request| request.resource_logs).flat_map(|logs| logs.scope_logs);
    let records = scopes.flat_map(|scope| scope.log_records);
    let of = records.filter(|record| record.event_name == "gemba.feature.used");
    of.filter(|record| text(&attributes(record.attributes.clone()), "gemba.feature.name") == feature).collect()
}

#[test]
fn a_scope_entered_in_a_span_of_the_host_belongs_to_its_trace_however_the_span_was_made() {
    start();
    let host = Host::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(host.clone()).build();
    // By OpenTelemetry's own interface.
    provider.tracer("host").in_span("direct", |context| {
        assert!(context.span().span_context().is_valid());
        gemba::scope().user("o").run(|| gemba::feature!("otel.direct"));
    });
    // By tracing, linked by tracing-opentelemetry.
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("host"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("traced").in_scope(|| gemba::scope().user("o").run(|| gemba::feature!("otel.traced")));
    });
    flush();
    let spans = host.0.lock().unwrap();
    assert_eq!(spans.len(), 2, "the host's provider has its own spans and none of ours: {spans:?}");
    for (span, feature) in spans.iter().zip(["otel.direct", "otel.traced"]) {
        let [record] = &used(feature)[..] else { panic!("{feature}") };
        assert_eq!(record.trace_id, span.span_context.trace_id().to_bytes(), "{feature}");
        assert_eq!(record.span_id, span.span_context.span_id().to_bytes(), "{feature}");
    }
}

/// The headers of a request made here.
fn handed_on() -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    gemba::web::propagate("example.com", &mut headers);
    headers
}

#[test]
fn what_the_host_does_not_sample_is_handed_on_as_not_sampled() {
    start();
    for (sampler, flags) in [(Sampler::AlwaysOff, "-00"), (Sampler::AlwaysOn, "-01")] {
        let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
        provider.tracer("host").in_span("calls", |context| {
            let trace_id = context.span().span_context().trace_id().to_string();
            for headers in [handed_on(), gemba::scope().user("o").run(handed_on)] {
                let traceparent = headers["traceparent"].to_str().unwrap();
                assert!(traceparent.contains(&trace_id) && traceparent.ends_with(flags), "{flags}: {traceparent}");
            }
            // A scope entered in the span knows its trace outside of it too.
            let scope = gemba::scope().user("o");
            let outside = opentelemetry::Context::new().attach();
            let headers = scope.run(handed_on);
            drop(outside);
            assert!(headers["traceparent"].to_str().unwrap().ends_with(flags), "{flags}: {headers:?}");
        });
    }
}

#[test]
fn the_hosts_tracestate_goes_with_its_trace() {
    start();
    let state = TraceState::from_key_value([("vendor", "opaque")]).unwrap();
    let span = SpanContext::new(TraceId::from(7), SpanId::from(7), TraceFlags::SAMPLED, true, state);
    let inside = opentelemetry::Context::new().with_remote_span_context(span).attach();
    assert_eq!(handed_on()["tracestate"], "vendor=opaque");
    // What a propagator of the host has written stays as it is, all of it.
    let mut headers = http::HeaderMap::new();
    headers.insert("traceparent", http::HeaderValue::from_static("theirs"));
    gemba::web::propagate("example.com", &mut headers);
    assert_eq!((headers["traceparent"].to_str().unwrap(), headers.get("tracestate")), ("theirs", None));
    drop(inside);
    assert!(handed_on().get("tracestate").is_none());
}
