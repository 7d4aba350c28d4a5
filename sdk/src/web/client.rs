//! The way out: a tower layer for HTTP clients, which does for each request what [`propagate`] does for one.
//!
//! In: a request of the application. Out: the same with the headers its host may see. It opens no connection and records nothing.

use super::propagate;
use http::uri::Authority;
use http::{Request, header};
use std::task::{Context, Poll};

/// A [tower layer](tower_layer::Layer) around an HTTP client (hyper-util's, or any tower service that takes
/// [`http::Request`]s): [`propagate`] for each request, by the host it goes to.
///
/// The scope that is current when the request is *made* counts, as with `propagate`; the answer is polled as it was.
///
/// ```
/// use tower_layer::Layer as _;
/// # #[derive(Clone)] struct Client;
/// # let client = Client;
/// let client = gemba::web::ClientLayer::new().layer(client);
/// # drop(client);
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use = "a layer does nothing until it is put around a client"]
#[non_exhaustive]
pub struct ClientLayer;

impl ClientLayer {
    /// Tells each host what [`Config::baggage_to`](crate::Config::baggage_to) lets it see.
    ///
    /// ```
    /// let layer = gemba::web::ClientLayer::new();
    /// # let _ = layer;
    /// ```
    pub fn new() -> Self {
        Self
    }
}

impl<S> tower_layer::Layer<S> for ClientLayer {
    type Service = ClientService<S>;

    fn layer(&self, inner: S) -> ClientService<S> {
        ClientService { inner }
    }
}

/// A client inside a [`ClientLayer`].
///
/// ```
/// use gemba::web::{ClientLayer, ClientService};
/// use tower_layer::Layer as _;
/// # #[derive(Clone)] struct Client;
/// # let client = Client;
/// let client: ClientService<Client> = ClientLayer::new().layer(client);
/// # drop(client);
/// ```
#[derive(Debug, Clone)]
pub struct ClientService<S> {
    inner: S,
}

impl<S, Body> tower_service::Service<Request<Body>> for ClientService<S>
where
    S: tower_service::Service<Request<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        // A request that names no host in its address names it in a header (RFC 9112, section 3.2.1), with its port.
        let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let named = named.and_then(|host| host.parse::<Authority>().ok());
        let host = request.uri().host().or_else(|| named.as_ref().map(Authority::host));
        let host = host.unwrap_or_default().to_owned();
        propagate(&host, request.headers_mut());
        self.inner.call(request)
    }
}
