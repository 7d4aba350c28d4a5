//! Accepts connections and bounds them: how many, how long silent, how large their headers.
//!
//! In: a bound listener and a signal to stop. Out: every request to [`route::handle`]. Speaks HTTP/1.1 and HTTP/2 on the same
//! port: HTTP/2 with prior knowledge, or as agreed on with TLS. Where there is TLS, other machines must speak it, and this one may:
//! what it sends does not leave it. Does not read bodies.

use super::tls::Certificate;
use super::{App, Body, route};
use crate::config::Limits;
use crate::throttle::Throttle;
use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often an HTTP/2 peer is asked whether it is still there, so that a dead one gives its connection back.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes one HTTP/2 stream may send before it waits for us: a typical batch in one go. Chosen.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for a whole connection: four streams at full speed. Chosen.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Pause after the kernel refused to accept (out of descriptors): at once it would refuse again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// First byte of a connection that begins with TLS: a record of the handshake (RFC 8446, 5.1). No request begins with it.
const HANDSHAKE: u8 = 0x16;

/// How far a server is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It is not.
    Serving,
    /// Connections that were open before are told to leave once their requests are answered; new ones are served, since what
    /// they bring is better taken than lost.
    Leaving,
    /// All are told to leave, and nobody new is let in.
    Stopping,
}

/// A bound address, and what encrypts there.
pub struct Listener {
    /// The address.
    pub tcp: TcpListener,
    /// What other machines must use; `None`: nothing that arrives is encrypted.
    pub tls: Option<Arc<Certificate>>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("tcp", &self.tcp).field("is_encrypted", &self.tls.is_some()).finish()
    }
}

/// Serves `listener` until `phase` is [`Phase::Stopping`], then lets requests in flight finish for up to `grace` and returns.
///
/// At most [`Limits::max_connections`] are open at once; further ones wait in the kernel's queue.
pub async fn serve(listener: Listener, app: Arc<App>, mut phase: watch::Receiver<Phase>, grace: Duration) {
    let builder = Arc::new(builder(&app.limits));
    let slots = Arc::new(Semaphore::new(app.limits.max_connections));
    let mut connections = JoinSet::new();
    let mut stopping = pin!(reached(Phase::Stopping, phase.clone()));
    loop {
        let accepted = tokio::select! {
            () = &mut stopping => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener.tcp, &slots) => accepted,
        };
        if let Some((stream, slot)) = accepted {
            // Answers are small and complete; waiting to fill a packet only delays them. A socket that refuses works all
            // the same.
            drop(stream.set_nodelay(true));
            let (builder, app, phase) = (Arc::clone(&builder), Arc::clone(&app), phase.clone());
            match &listener.tls {
                None => connections.spawn(connection(stream, builder, app, phase, slot)),
                Some(shown) => connections.spawn(encrypted(shown.acceptor(), stream, builder, app, phase, slot)),
            };
        }
    }
    // Nobody new is let in from here on; a client gets a refused connection and tries another node.
    drop(listener);
    phase.mark_unchanged();
    let finishing = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, finishing).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections did not finish in time and are cut");
        connections.shutdown().await;
    }
}

/// Returns once `at` is reached (or the sender is gone).
async fn reached(at: Phase, mut phase: watch::Receiver<Phase>) {
    // An error means that nobody is left to say stop: the server is being taken down.
    drop(phase.wait_for(|phase| *phase >= at).await);
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    static LINES: Throttle = Throttle::new();
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            if let Some(left_out) = LINES.pass() {
                tracing::warn!(%error, left_out, "cannot accept connections");
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.max_header_bytes)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// What a connection turned out to be.
enum Opened {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// Whether a peer is this machine itself: the kernel takes its own addresses as a source from nobody else.
fn is_local(peer: SocketAddr, own: SocketAddr) -> bool {
    let (peer, own) = (peer.ip().to_canonical(), own.ip().to_canonical());
    peer.is_loopback() || peer == own
}

/// Whether a connection goes on without encryption: its first byte tells, and where it comes from.
async fn is_plain(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0];
    Ok(is_local(stream.peer_addr()?, stream.local_addr()?)
        && stream.peek(&mut first).await? > 0
        && first != [HANDSHAKE])
}

/// A connection where TLS is spoken, to be agreed on within as long as the headers of a request may take.
async fn encrypted(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    builder: Arc<Builder<TokioExecutor>>,
    app: Arc<App>,
    phase: watch::Receiver<Phase>,
    slot: OwnedSemaphorePermit,
) {
    let opening = async {
        if is_plain(&stream).await? {
            return Ok(Opened::Plain(stream));
        }
        acceptor.accept(stream).await.map(|stream| Opened::Encrypted(Box::new(stream)))
    };
    let opening = tokio::time::timeout(app.limits.header_timeout, opening);
    let opened: Result<std::io::Result<Opened>, _> = tokio::select! {
        opened = opening => opened,
        () = reached(Phase::Stopping, phase.clone()) => return,
    };
    match opened {
        Ok(Ok(Opened::Plain(stream))) => connection(stream, builder, app, phase, slot).await,
        Ok(Ok(Opened::Encrypted(stream))) => connection(stream, builder, app, phase, slot).await,
        Ok(Err(error)) => tracing::debug!(%error, "a connection could not be encrypted"),
        Err(_) => tracing::debug!("a connection did not say how to encrypt in time"),
    }
}

/// One connection from its first byte to its last; `_slot` is its place among the connections.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    builder: Arc<Builder<TokioExecutor>>,
    app: Arc<App>,
    phase: watch::Receiver<Phase>,
    _slot: OwnedSemaphorePermit,
) {
    let idle_timeout = app.limits.idle_timeout;
    // Leaving is for those that were here before: one that begins later would be closed before its first request.
    let was_early = *phase.borrow() == Phase::Serving;
    let leaves_at = if was_early { Phase::Leaving } else { Phase::Stopping };
    let counting = Arc::clone(&app);
    let _counted = was_early.then(|| counting.connected());
    let activity = Arc::new(Activity::new());
    let service = {
        let activity = Arc::clone(&activity);
        service_fn(move |request| {
            let request_is_here = RequestGuard::new(Arc::clone(&activity));
            let app = Arc::clone(&app);
            let activity = Arc::clone(&activity);
            async move {
                let response = route::handle(app, request).await;
                drop(request_is_here);
                // What lies there whole is written at once; what is made while it is sent takes its time.
                let is_whole = response.body().size_hint().exact().is_some();
                let made = move |body: Body| if is_whole { body } else { Made::new(body, activity).boxed_unsync() };
                Ok::<_, Infallible>(response.map(made))
            }
        })
    };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stopping = pin!(reached(leaves_at, phase));
    let mut is_closing = false;
    let mut tick = tokio::time::interval(idle_timeout / 4);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = &mut stopping, if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = tick.tick() => {
                if activity.is_idle_for(idle_timeout) {
                    // The second time round the peer has ignored the polite way.
                    if is_closing {
                        return;
                    }
                    is_closing = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// What a connection is doing.
struct Activity {
    started: Instant,
    requests: AtomicUsize,
    /// Milliseconds after `started` when the last request ended.
    last_end_ms: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { started: Instant::now(), requests: AtomicUsize::new(0), last_end_ms: AtomicU64::new(0) }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Relaxed throughout: a request that begins this instant is seen at the next tick, and the graceful way out
    /// answers it all the same.
    fn is_idle_for(&self, timeout: Duration) -> bool {
        let idle_ms = self.now_ms().saturating_sub(self.last_end_ms.load(Ordering::Relaxed));
        self.requests.load(Ordering::Relaxed) == 0 && u128::from(idle_ms) >= timeout.as_millis()
    }
}

/// Counts a request while it is being answered, also when its client goes away in the middle.
struct RequestGuard(Arc<Activity>);

impl RequestGuard {
    fn new(activity: Arc<Activity>) -> Self {
        activity.requests.fetch_add(1, Ordering::Relaxed);
        Self(activity)
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.last_end_ms.store(self.0.now_ms(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that is made while it is sent. While it waits for us the connection is at work; while it waits for its reader it is
/// idle from the last frame on, so that one who never reads does not keep what makes it.
struct Made {
    body: Body,
    activity: Arc<Activity>,
    waits_for_us: Option<RequestGuard>,
}

impl Made {
    fn new(body: Body, activity: Arc<Activity>) -> Self {
        Self { body, activity, waits_for_us: None }
    }
}

impl http_body::Body for Made {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let made = self.get_mut();
        // Begun before and not after, so that each frame counts as one request that ends with it.
        let guard = made.waits_for_us.take().unwrap_or_else(|| RequestGuard::new(Arc::clone(&made.activity)));
        let polled = Pin::new(&mut made.body).poll_frame(context);
        made.waits_for_us = polled.is_pending().then_some(guard);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_the_address_itself_are_this_machine() {
        for (peer, own, expected) in [
            ("127.0.0.1:50000", "127.0.0.1:4318", true),
            ("127.0.0.2:50000", "198.51.100.7:4318", true),
            ("[::1]:50000", "[::1]:4318", true),
            ("[::ffff:127.0.0.1]:50000", "[::ffff:198.51.100.7]:4318", true),
            ("198.51.100.7:50000", "198.51.100.7:4318", true),
            ("[::ffff:198.51.100.7]:50000", "198.51.100.7:4318", true),
            ("198.51.100.8:50000", "198.51.100.7:4318", false),
            ("198.51.100.7:50000", "127.0.0.1:4318", false),
            ("[2001:db8::1]:50000", "[2001:db8::2]:4318", false),
        ] {
            assert_eq!(is_local(peer.parse().unwrap(), own.parse().unwrap()), expected, "{peer} to {own}");
        }
    }
}
