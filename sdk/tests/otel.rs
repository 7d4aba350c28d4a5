//! A good citizen beside OpenTelemetry: the host's own provider stays the host's, and both sides see one trace.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here ends the test")]

mod support;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
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

/// Records while its thread is ending, when OpenTelemetry's own context is gone.
struct Last;

impl Drop for Last {
    fn drop(&mut self) {
        gemba::scope().user("last").run(|| gemba::feature!("otel.last"));
        gemba::attempt!("otel.last_tried").run(|| gemba::feature!("otel.last"));
        let database = gemba::query::Database::new(gemba::query::Dialect::Sqlite);
        let ran = database.run_text("SELECT otel FROM last", || Ok::<_, ()>(1));
        gemba::web::propagate("localhost", &mut http::HeaderMap::new());
        assert_eq!(ran, Ok(1));
    }
}

#[test]
fn a_thread_that_is_ending_may_still_record() {
    thread_local! {
        static LAST: Last = const { Last };
    }
    start();
    // A panic in the destructor would end this process.
    std::thread::spawn(|| {
        // Destroyed in reverse order of their first use.
        LAST.with(|_| ());
        gemba::scope().user("first").run(|| gemba::feature!("otel.first"));
    })
    .join()
    .unwrap();
    // One that asks for the first time.
    std::thread::spawn(|| LAST.with(|_| ())).join().unwrap();
    flush();
    // The first thread had given its ring back by then: its use and its attempt with another are counted as dropped.
    let dropped = gemba::stats().dropped;
    assert_eq!(dropped, [(gemba::DropReason::NoRing, 4)]);
    assert_eq!((used("otel.first").len(), used("otel.last").len()), (1, 2));
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

/// A service of the host that makes a span each way, and hands on its trace.
#[derive(Clone)]
struct Handler(SdkTracerProvider);

impl tower_service::Service<http::Request<()>> for Handler {
    type Response = http::Response<http::HeaderMap>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<()>) -> Self::Future {
        let tracer = self.0.tracer("host");
        Box::pin(async move {
            tracer.in_span("direct", |_| ());
            // The next poll may be on another thread, so what is current must come back with it.
            let mut is_second = false;
            std::future::poll_fn(
                |_| if std::mem::replace(&mut is_second, true) { Poll::Ready(()) } else { Poll::Pending },
            )
            .await;
            tracing::info_span!("traced").in_scope(|| ());
            Ok(http::Response::new(handed_on()))
        })
    }
}

/// Serves one request, with `outer` around the layer; the headers its handler hands on.
fn serve(layer: &gemba::web::Layer, provider: &SdkTracerProvider, headers: &[(&'static str, &str)]) -> http::HeaderMap {
    let traced = tracing_opentelemetry::layer().with_tracer(provider.tracer("host"));
    let subscriber = tracing_subscriber::registry().with(traced);
    let mut request = http::Request::get("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    tracing::subscriber::with_default(subscriber, || {
        let mut service = tower_layer::Layer::layer(layer, Handler(provider.clone()));
        let mut answer = Box::pin(tower_service::Service::call(&mut service, request.body(()).unwrap()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(answer.as_mut().poll(&mut context).is_pending());
        assert!(!opentelemetry::Context::current().has_active_span(), "between polls nothing is current");
        let Poll::Ready(Ok(answer)) = answer.as_mut().poll(&mut context) else { panic!("not answered") };
        answer.into_body()
    })
}

/// Server spans of a trace that Gemba was sent.
fn server_spans(trace_id: TraceId) -> Vec<opentelemetry_proto::tonic::trace::v1::Span> {
    flush();
    let requests: Vec<ExportTraceServiceRequest> = bodies("/v1/traces");
    let scopes = requests.into_iter().flat_map(|request| request.resource_spans).flat_map(|spans| spans.scope_spans);
    scopes.flat_map(|scope| scope.spans).filter(|span| span.trace_id == trace_id.to_bytes()).collect()
}

#[test]
fn spans_that_the_host_makes_for_a_request_are_children_of_its_server_span() {
    start();
    let host = Host::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(host.clone()).build();
    let trusting = gemba::web::Layer::new().trust(|_| true);
    let parent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let handed = serve(&trusting, &provider, &[parent, ("tracestate", "vendor=opaque")]);
    assert_eq!(handed["tracestate"], "vendor=opaque");
    serve(&gemba::web::Layer::new(), &provider, &[parent]);
    let spans = host.0.lock().unwrap();
    let [direct, traced, strangers, _] = &spans[..] else { panic!("{spans:?}") };
    let [server] = &server_spans(direct.span_context.trace_id())[..] else { panic!("one server span") };
    assert_eq!(direct.span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(server.parent_span_id, SpanId::from_hex("b7ad6b7169203331").unwrap().to_bytes());
    for span in [direct, traced] {
        assert_eq!(span.parent_span_id.to_bytes()[..], server.span_id, "{}", span.name);
    }
    // What a stranger sends begins a trace here, and the host's spans are in that one.
    let [server] = &server_spans(strangers.span_context.trace_id())[..] else { panic!("one server span") };
    assert_eq!(
        (server.parent_span_id.is_empty(), strangers.parent_span_id.to_bytes()[..] == server.span_id),
        (true, true)
    );
}

#[test]
fn below_a_span_of_the_host_its_spans_stay_and_the_server_span_is_its_child() {
    start();
    let host = Host::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(host.clone()).build();
    let outer = provider.tracer("host").in_span("outer", |context| {
        let outer = context.span().span_context().clone();
        let mut service = tower_layer::Layer::layer(&gemba::web::Layer::new(), Handler(provider.clone()));
        drop(tower_service::Service::call(&mut service, http::Request::new(())));
        provider.tracer("host").in_span("inner", |_| ());
        outer
    });
    let [server] = &server_spans(outer.trace_id())[..] else { panic!("one server span") };
    assert_eq!(server.parent_span_id, outer.span_id().to_bytes());
    let spans = host.0.lock().unwrap();
    assert!(spans.iter().all(|span| span.name == "outer" || span.parent_span_id == outer.span_id()), "{spans:?}");
}

#[test]
fn a_trace_that_begins_here_is_sampled_as_the_layer_says_and_the_hosts_sampler_goes_by_it() {
    start();
    for (share, kept, flags) in [(0.0, 0, "-00"), (1.0, 2, "-01")] {
        let host = Host::default();
        let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
        let provider = SdkTracerProvider::builder().with_sampler(sampler).with_simple_exporter(host.clone()).build();
        let handed = serve(&gemba::web::Layer::new().sample_traces(share), &provider, &[]);
        assert!(handed["traceparent"].to_str().unwrap().ends_with(flags), "{handed:?}");
        assert_eq!(host.0.lock().unwrap().len(), kept, "share {share}");
    }
}
