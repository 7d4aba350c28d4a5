//! The server's HTTP surface: takes bytes from strangers and answers them.
//!
//! [`serve`] accepts connections (HTTP/1.1 and HTTP/2 on one port, with [`tls`] where other machines reach it), [`route`] finds
//! who answers, [`body`] is the only door for bodies, [`auth`] tells whose key it is. [`otlp`] and [`grpc`] take data, [`admin`] manages
//! projects, [`query`], [`saved`], [`cohorts`] and `books` answer questions, [`health`] and [`metrics`] tell how the server is, [`error`] is the one place where errors get a status.
//! What the bytes mean is decided elsewhere: nothing here looks inside a record.

pub mod acts;
pub mod admin;
mod aside;
pub mod ask;
pub mod auth;
pub mod body;
mod books;
pub mod cohorts;
mod connection;
mod cors;
pub mod dashboard;
pub mod error;
pub mod export;
pub mod grpc;
pub mod health;
pub mod metrics;
pub mod otlp;
pub mod query;
pub mod route;
pub mod saved;
pub mod tls;
pub mod trust;
pub mod turns;

use crate::alerts::Deliveries;
use crate::config::{Limits, ServeConfig};
use crate::contact::Contact;
use crate::control::Control;
use crate::engine::Supervisor;
use crate::freshness::Freshness;
use crate::pipeline::{Pipeline, PipelineStatus};
use crate::quota::Quotas;
use crate::store::{self, leases};
use body::Budget;
use bytes::Bytes;
use gemba_queries::Catalog;
use http::{HeaderValue, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use metrics::Counters;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use turns::Turns;

pub use connection::{Listener, Phase, serve};

/// Questions answered at a time; the others wait. Chosen: each may use all cores and gigabytes of memory.
const MAX_QUESTIONS: usize = 2;

/// Body of an answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// An answer.
pub type Response = http::Response<Body>;
/// A request whose body has not been read.
pub type Request = http::Request<hyper::body::Incoming>;

/// What the handlers share. One per server.
#[derive(Debug)]
pub struct App {
    /// Projects and keys.
    pub control: Arc<Control>,
    /// Where data goes.
    pub pipeline: Arc<Pipeline>,
    /// ClickHouse, for questions and management.
    pub store: store::Client,
    /// The saved questions.
    pub catalog: Catalog,
    /// Held by whatever removes or saves many rows, so that one does not see another's half; [`crate::nodes::turn`] takes it.
    pub upkeep: tokio::sync::Mutex<()>,
    /// What this node is called among others on the same store: a number of chance.
    pub node: u64,
    /// Under which number it asks something of them; 0 before the first time.
    pub asking: AtomicU64,
    /// Turns for questions, so that few run at a time.
    pub questions: Arc<Turns>,
    /// The turn for exports, a slice at a time beside the questions: who reads one slowly keeps no question waiting.
    pub exports: Semaphore,
    /// The turn for questions about the books, one at a time beside the others: inserts wait while they do.
    pub books: Semaphore,
    /// Held while something is saved, so that versions follow each other.
    pub saving: tokio::sync::Mutex<()>,
    /// The embedded engine, where there is one.
    pub engine: Option<Arc<Supervisor>>,
    /// Bounds on requests.
    pub limits: Limits,
    /// Origins whose pages may send data; `*` means any.
    pub cors_origins: Vec<String>,
    /// Path that may stand before those of OTLP.
    pub otlp_prefix: String,
    /// When ClickHouse answered last.
    pub contact: Contact,
    /// When the newest stored row of each project was received.
    pub freshness: Freshness,
    /// Age of it beyond which a project counts as fallen silent; `None` judges nobody.
    pub stale_after: Option<Duration>,
    /// Alerts delivered and not.
    pub alerts: Deliveries,
    /// How much each project may send, and has sent.
    pub quotas: Quotas,
    /// Room for bodies in work.
    pub bodies: Budget,
    /// Answers by route and status, refusals by reason.
    pub counters: Counters,
    /// True from the moment the server began to stop.
    draining: AtomicBool,
    /// True from the moment nothing more is taken.
    intake_closed: AtomicBool,
    /// Connections that were opened before the server began to stop; whoever stops waits for 0.
    connections: watch::Sender<usize>,
    /// Whether requests of the API are recorded as Gemba's own use.
    own_use: AtomicBool,
    /// Requests with data in flight; whoever stops waits for 0.
    in_flight: watch::Sender<usize>,
}

impl App {
    /// The shared state of a server that is about to listen.
    pub fn new(
        config: &ServeConfig,
        control: Arc<Control>,
        pipeline: Arc<Pipeline>,
        store: store::Client,
        engine: Option<Arc<Supervisor>>,
        catalog: Catalog,
    ) -> Self {
        Self {
            control,
            pipeline,
            store,
            engine,
            catalog,
            upkeep: tokio::sync::Mutex::new(()),
            node: leases::chance(),
            asking: AtomicU64::new(0),
            questions: Turns::new(MAX_QUESTIONS),
            exports: Semaphore::new(1),
            books: Semaphore::new(1),
            saving: tokio::sync::Mutex::new(()),
            contact: Contact::default(),
            freshness: Freshness::default(),
            stale_after: config.stale_after,
            alerts: Deliveries::default(),
            quotas: Quotas::default(),
            bodies: Budget::new(config.limits.max_bodies_bytes),
            limits: config.limits.clone(),
            cors_origins: config.cors_origins.clone(),
            otlp_prefix: config.otlp_prefix.clone(),
            counters: Counters::default(),
            draining: AtomicBool::new(false),
            intake_closed: AtomicBool::new(false),
            connections: watch::Sender::new(0),
            own_use: AtomicBool::new(false),
            in_flight: watch::Sender::new(0),
        }
    }

    /// What keeps data from being stored, or would if there were any; `status` is the pipeline's.
    pub fn store_problem(&self, status: &PipelineStatus) -> Option<String> {
        status.store_problem.clone().or_else(|| Some(self.contact.silence()?.problem))
    }

    /// Makes `/readyz` say no, so that load balancers send nothing more. What comes all the same is taken until
    /// [`close_intake`](Self::close_intake): a client may drop what is refused.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether the server is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Refuses new data from here on, because the log is about to be closed.
    pub fn close_intake(&self) {
        self.intake_closed.store(true, Ordering::SeqCst);
    }

    /// Whether new data are taken, where there is room.
    pub fn takes_data(&self) -> bool {
        !self.intake_closed.load(Ordering::SeqCst)
    }

    /// Counts a connection until the value is dropped.
    pub fn connected(&self) -> Counted<'_> {
        Counted::one_of(&self.connections)
    }

    /// Connections open now that were opened before the server began to stop.
    pub fn open_connections(&self) -> usize {
        *self.connections.borrow()
    }

    /// Waits until none of them is open; false when `timeout` came first.
    pub async fn connections_done(&self, timeout: Duration) -> bool {
        done(&self.connections, timeout).await
    }

    /// From here on requests of the API are recorded through the SDK, which the caller has started.
    pub fn record_own_use(&self) {
        self.own_use.store(true, Ordering::Relaxed);
    }

    /// Whether requests of the API are recorded.
    pub fn records_own_use(&self) -> bool {
        self.own_use.load(Ordering::Relaxed)
    }

    /// Counts a request with data until the value is dropped; `None` once nothing more is taken.
    pub fn admit(&self) -> Option<Counted<'_>> {
        // Counted first and looked at afterwards, so that whoever stops either sees the request or refuses it.
        let admitted = Counted::one_of(&self.in_flight);
        self.takes_data().then_some(admitted)
    }

    /// Waits until no request with data is in flight; false when `timeout` came first.
    pub async fn requests_done(&self, timeout: Duration) -> bool {
        done(&self.in_flight, timeout).await
    }
}

async fn done(counted: &watch::Sender<usize>, timeout: Duration) -> bool {
    let mut counted = counted.subscribe();
    tokio::time::timeout(timeout, counted.wait_for(|count| *count == 0)).await.is_ok()
}

/// A connection, or a request with data on its way through the server.
#[derive(Debug)]
pub struct Counted<'a>(&'a watch::Sender<usize>);

impl<'a> Counted<'a> {
    fn one_of(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer of these bytes in this type.
pub fn response(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
    let mut response = http::Response::new(full(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer in JSON, with a line end.
pub fn json_response(status: StatusCode, body: &serde_json::Value) -> Response {
    response(status, "application/json", format!("{body}\n"))
}

/// `%41` becomes `A`, `+` a space; what is not valid UTF-8 afterwards is replaced, and a lone `%` stays.
pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let escaped = || u8::from_str_radix(std::str::from_utf8(bytes.get(index + 1..index + 3)?).ok()?, 16).ok();
        match (byte, escaped()) {
            (b'%', Some(value)) => {
                decoded.push(value);
                index += 3;
            }
            (b'+', _) => {
                decoded.push(b' ');
                index += 1;
            }
            _ => {
                decoded.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Names and values of a query string, decoded, in order; a name without `=` has an empty value.
pub fn query_pairs(query: Option<&str>) -> Vec<(String, String)> {
    query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decoded(name), percent_decoded(value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_strings_are_taken_apart_and_decoded() {
        let pairs = query_pairs(Some("from=2026-01-01T00%3A00%3A00Z&name=a+b&&flag&odd=%zz%4&u=%C3%A4"));
        let expected = [("from", "2026-01-01T00:00:00Z"), ("name", "a b"), ("flag", ""), ("odd", "%zz%4"), ("u", "ä")];
        assert_eq!(pairs.len(), expected.len());
        for ((name, value), expected) in pairs.iter().zip(expected) {
            assert_eq!((name.as_str(), value.as_str()), expected);
        }
        assert!(query_pairs(None).is_empty());
    }
}
