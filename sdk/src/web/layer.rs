//! The way in: a tower layer that opens a scope around each request and records one span for it.
//!
//! In: a request. Out: the same to the service inside; a server span when it has answered, failed, panicked or been given up.
//! When the client leaves, the server drops the handler, and with it the attempts inside, which end as cancelled.

use super::begun::{Sampled, new_span_id, new_trace_id};
use super::parent::{Current, Parent};
use super::{TRACEPARENT, TRACESTATE, member, parse_traceparent};
use crate::callsite::SERVED;
use crate::context::{ContextRef, Part, Trace};
use crate::local::{self, RecordKind};
use crate::pipeline::drain::Record;
use crate::pipeline::encode::{Span, SpanKind};
use crate::pipeline::outbox::Outbox;
use crate::scope::{Entered, Scope};
use crate::value::{self, Read, Word};
use crate::{clock, event};
use gemba_conventions::attribute;
use http::request::Parts;
use http::{Request, Response};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

type Question<T> = Arc<dyn Fn(&Parts) -> T + Send + Sync>;
type Identify = Arc<dyn Fn(&Parts, Scope) -> Scope + Send + Sync>;

/// What the application says about its requests.
#[derive(Clone, Default)]
struct Options {
    route: Option<Question<Option<String>>>,
    trust: Option<Question<bool>>,
    identify: Option<Identify>,
    sampled: Option<Sampled>,
}

impl Options {
    /// The share of traces that is sampled; the environment has the last word.
    fn sampled(&self) -> Sampled {
        static TOLD: OnceLock<Option<Sampled>> = OnceLock::new();
        let told = *TOLD.get_or_init(|| Sampled::in_environment(|name| std::env::var(name).ok()));
        told.or(self.sampled).unwrap_or(Sampled::ALL)
    }
}

/// A [tower layer](tower_layer::Layer) that opens a scope around each request and records a server span for it.
///
/// Said nothing further, it trusts nobody and knows no routes:
///
/// ```
/// use gemba::web::Layer;
/// let layer = Layer::new()
///     // With axum: `|request| Some(request.extensions.get::<axum::extract::MatchedPath>()?.as_str().to_owned())`
///     .route(|request| request.uri.path().starts_with("/orders/").then(|| "/orders/{id}".to_owned()))
///     .identify(|request, scope| match request.headers.get("x-session") {
///         Some(session) => scope.session(session.to_str().unwrap_or_default()),
///         None => scope,
///     });
/// # let _ = layer;
/// ```
///
/// The span ends when the handler has answered; a body that is sent afterwards is not in it. A client that leaves is no failure
/// of the server: the span has no status and `error.type` `client_left`.
///
/// With feature `opentelemetry` both sides see one trace. Where a span of the host is current already, the server span is its
/// child. Where none is, the spans that the host makes while it serves the request, by OpenTelemetry or by tracing and
/// tracing-opentelemetry, are children of the server span; a sampler that goes by the parent then goes by the sampled flag of the
/// trusted sender, or of [`sample_traces`](Self::sample_traces) for a trace that begins here.
#[derive(Clone, Default)]
#[must_use = "a layer does nothing until it is put around a service"]
pub struct Layer {
    options: Options,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").finish_non_exhaustive()
    }
}

impl Layer {
    /// Trusts nobody, knows no routes, recognises nobody.
    ///
    /// ```
    /// let layer = gemba::web::Layer::new();
    /// # let _ = layer;
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// The route template of a request, such as `/orders/{id}`; never the path itself, of which there are too many.
    ///
    /// ```
    /// let layer = gemba::web::Layer::new().route(|request| (request.uri.path() == "/").then(|| "/".to_owned()));
    /// # let _ = layer;
    /// ```
    pub fn route(mut self, route: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.options.route = Some(Arc::new(route));
        self
    }

    /// Whether the sender of a request is one of your own services, so that its `traceparent` and `baggage` count: by a secret
    /// header, a client certificate, a network that only services reach. Default: nobody is.
    ///
    /// What a trusted sender says of people by [`propagate`](super::propagate) is taken as it is. Baggage that anything else
    /// wrote leaves as what this process says of people: a session is hashed, a user too under
    /// [`Config::hash_users`](crate::Config::hash_users).
    ///
    /// ```
    /// let layer = gemba::web::Layer::new().trust(|request| request.headers.contains_key("x-from-our-mesh"));
    /// # let _ = layer;
    /// ```
    pub fn trust(mut self, trust: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.options.trust = Some(Arc::new(trust));
        self
    }

    /// The share of the traces that begin here whose sampled flag is set, from 0 to 1 (default); what lies beyond is the nearest.
    /// Chosen by the trace's id as OpenTelemetry's `TraceIdRatioBased` does. `OTEL_TRACES_SAMPLER` and
    /// `OTEL_TRACES_SAMPLER_ARG` win. It is for the host's own spans and for the services behind it: Gemba keeps all requests.
    ///
    /// ```
    /// let layer = gemba::web::Layer::new().sample_traces(0.1);
    /// # let _ = layer;
    /// ```
    pub fn sample_traces(mut self, share: f64) -> Self {
        self.options.sampled = Some(Sampled::new(share));
        self
    }

    /// Who it is: adds to the scope of a request what its cookies or tokens say. It wins over baggage.
    ///
    /// ```
    /// let layer = gemba::web::Layer::new().identify(|request, scope| match request.extensions.get::<String>() {
    ///     Some(user) => scope.user(user),
    ///     None => scope,
    /// });
    /// # let _ = layer;
    /// ```
    pub fn identify(mut self, identify: impl Fn(&Parts, Scope) -> Scope + Send + Sync + 'static) -> Self {
        self.options.identify = Some(Arc::new(identify));
        self
    }
}

impl<S> tower_layer::Layer<S> for Layer {
    type Service = Service<S>;

    fn layer(&self, inner: S) -> Service<S> {
        Service { inner, options: self.options.clone() }
    }
}

/// A service inside a [`Layer`].
///
/// ```
/// use gemba::web::{Layer, Service};
/// use tower_layer::Layer as _;
/// # struct Shop;
/// # let shop = Shop;
/// let service: Service<Shop> = Layer::new().layer(shop);
/// # drop(service);
/// ```
#[derive(Clone)]
pub struct Service<S> {
    inner: S,
    options: Options,
}

impl<S> fmt::Debug for Service<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl<S, In, Out> tower_service::Service<Request<In>> for Service<S>
where
    S: tower_service::Service<Request<In>, Response = Response<Out>>,
{
    type Response = Response<Out>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let served = Served::begin(&parts, &self.options);
        let request = Request::from_parts(parts, body);
        let _entered = served.as_ref().map(Served::enter);
        ResponseFuture { future: self.inner.call(request), served }
    }
}

pin_project! {
    /// The answer of a [`Service`].
    ///
    /// ```
    /// use gemba::web::{Layer, ResponseFuture};
    /// use tower_layer::Layer as _;
    /// use tower_service::Service as _;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), std::convert::Infallible> {
    /// # type Answer = std::future::Ready<Result<http::Response<&'static str>, std::convert::Infallible>>;
    /// # struct Shop;
    /// # impl tower_service::Service<http::Request<()>> for Shop {
    /// #     type Response = http::Response<&'static str>;
    /// #     type Error = std::convert::Infallible;
    /// #     type Future = Answer;
    /// #     fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
    /// #         std::task::Poll::Ready(Ok(()))
    /// #     }
    /// #     fn call(&mut self, _: http::Request<()>) -> Answer { std::future::ready(Ok(http::Response::new("done"))) }
    /// # }
    /// let mut service = Layer::new().layer(Shop);
    /// let answer: ResponseFuture<_> = service.call(http::Request::new(()));
    /// assert_eq!(*answer.await?.body(), "done");
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        // Dropped first, so that attempts inside end before the span.
        #[pin]
        future: F,
        // None when nothing is recorded, and after the answer.
        served: Option<Served>,
    }
}

impl<F, Out, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<Out>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let served = this.served;
        if let Some(served) = served {
            // Until the poll returns, the only way out is a panic.
            served.ending = Ending::Panicked;
        }
        let polled = {
            let _entered = served.as_ref().map(Served::enter);
            this.future.poll(cx)
        };
        if let Some(served) = served {
            served.ending = match &polled {
                Poll::Pending => Ending::ClientLeft,
                Poll::Ready(Ok(response)) => Ending::Answered(response.status().as_u16()),
                Poll::Ready(Err(_)) => Ending::Failed,
            };
        }
        if polled.is_ready() {
            *served = None;
        }
        polled
    }
}

/// How a request ended, or would if it were dropped now.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// The future is dropped between polls: nobody waits for it any more.
    ClientLeft,
    /// With this status.
    Answered(u16),
    /// The service gave an error instead of a response.
    Failed,
    /// A poll did not return.
    Panicked,
}

impl Ending {
    /// The status in the lower 16 bits, the ending above them.
    fn to_word(self) -> u64 {
        match self {
            Self::Answered(status) => u64::from(status),
            Self::ClientLeft => 1 << 16,
            Self::Failed => 2 << 16,
            Self::Panicked => 3 << 16,
        }
    }

    /// Status, whether the server failed, and `error.type`.
    fn of_word(word: u64) -> (u64, bool, &'static str) {
        match word >> 16 {
            // A status says by itself what failed.
            0 => (word, word >= 500, ""),
            1 => (0, false, "client_left"),
            2 => (0, true, "service_error"),
            _ => (0, true, "panic"),
        }
    }
}

/// A request being served; records its span when dropped.
#[derive(Debug)]
struct Served {
    context: ContextRef,
    /// Of the host's spans, if none of them was current.
    parent: Option<Parent>,
    /// Since the Unix epoch.
    start_ns: u64,
    span_id: u64,
    parent_id: u64,
    method: http::Method,
    ending: Ending,
}

impl Served {
    fn begin(parts: &Parts, options: &Options) -> Option<Self> {
        let state = event::recording()?;
        let start_ns = clock::wall_ns(clock::read(state));
        let mut scope = crate::scope();
        let span_id = new_span_id();
        let mut parent_id = 0;
        let of_host = Trace::current();
        let mut own = Trace { span_id: span_id.to_be_bytes(), ..Trace::default() };
        let mut state = None;
        if let Some(context) = &mut scope.context {
            let mut above = context.trace();
            if options.trust.as_ref().is_some_and(|trust| trust(parts)) {
                let sent = parts.headers.get(TRACEPARENT).and_then(|value| parse_traceparent(value.to_str().ok()?));
                // A span that the host has made for the request is nearer than the sender's.
                if let Some(sent) = sent.filter(|sent| sent.trace_id != of_host.trace_id) {
                    above = sent;
                    state = parts.headers.get(TRACESTATE);
                }
                let ids = [
                    (Part::User, attribute::USER_ID),
                    (Part::Session, attribute::SESSION_ID),
                    (Part::Tenant, attribute::TENANT),
                ];
                for (part, key) in ids {
                    let (id, is_ours) = member(&parts.headers, key);
                    if is_ours && !id.is_empty() {
                        context.set_as_it_is(part, &id);
                    } else if !id.is_empty() {
                        context.set(part, &id);
                    }
                }
            }
            parent_id = u64::from_be_bytes(above.span_id);
            own = Trace { span_id: own.span_id, ..above };
            if above == Trace::default() {
                own.trace_id = new_trace_id();
                own.is_sampled = options.sampled().holds(own.trace_id);
            }
            context.set_trace(own);
        }
        if let Some(route) = options.route.as_ref().and_then(|route| route(parts)) {
            scope = scope.route(route);
        }
        if let Some(identify) = &options.identify {
            scope = identify(parts, scope);
        }
        // Below a span of its own the host's spans stay: whoever looks at them may not see ours.
        let parent = (of_host == Trace::default()).then(|| Parent::new(own, state));
        Some(Self {
            context: scope.into_context(),
            parent,
            start_ns,
            span_id,
            parent_id,
            method: parts.method.clone(),
            ending: Ending::ClientLeft,
        })
    }

    /// Until the pair is dropped its scope is current, and its span where the host has none.
    fn enter(&self) -> (Entered, Option<Current>) {
        (Entered::new(self.context.id()), self.parent.as_ref().map(Parent::enter))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let Some(state) = event::recording() else { return };
        let values = (
            Word(self.start_ns),
            Word(self.ending.to_word()),
            Word(self.span_id),
            Word(self.parent_id),
            self.method.as_str(),
        );
        local::write(RecordKind::Served, &SERVED, clock::read(state), Some(self.context.id()), &values);
    }
}

/// Encodes the span of a request; on the drain thread.
pub(crate) fn send(outbox: &mut Outbox, record: &Record<'_>) {
    let mut values = record.values;
    let mut word = || value::take_word(&mut values);
    let (Some(start_ns), Some(ending), Some(span_id), Some(parent_id)) = (word(), word(), word(), word()) else {
        return;
    };
    let Some(Read::Text(method)) = value::take(&mut values) else { return };
    let context = record.context();
    let (status, is_error, error) = Ending::of_word(ending);
    let name = format!("{method} {}", context.route);
    // Without room for a context the request has no trace, but a span must lie in one.
    let trace_id = if context.trace == Trace::default() { new_trace_id() } else { context.trace.trace_id };
    let span = Span {
        kind: SpanKind::Server,
        trace_id,
        id: span_id.to_be_bytes(),
        parent_id: parent_id.to_be_bytes(),
        name: name.trim_end(),
        start_ns,
        end_ns: record.time_ns.max(start_ns),
        is_error,
    };
    outbox.span(&span, |attributes| {
        attributes.text(attribute::HTTP_METHOD, method);
        attributes.some_text(attribute::HTTP_ROUTE, context.route);
        if status != 0 {
            attributes.unsigned(attribute::HTTP_STATUS, status);
        }
        attributes.some_text(attribute::ERROR_TYPE, error);
        attributes.some_text(attribute::USER_ID, context.user);
        attributes.some_text(attribute::SESSION_ID, context.session);
        attributes.some_text(attribute::TENANT, context.tenant);
    });
}
