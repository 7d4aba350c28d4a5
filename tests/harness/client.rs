//! Clients that say exactly what a claim is about: one request, and everything that came back.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Everything that came back.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailers, empty if there were none.
    pub trailers: HeaderMap,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// A header as text; empty when missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A trailer as text, or the header of that name (gRPC sends an error in the headers alone).
    pub fn trailer(&self, name: &str) -> &str {
        self.trailers.get(name).map_or_else(|| self.header(name), |value| value.to_str().unwrap())
    }
}

/// A request with a key and a content type.
pub fn post(url: &str, key: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(url)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", content_type)
        .body(Full::new(body.into()))
        .unwrap()
}

/// A request without a body.
pub fn bare(method: &str, url: &str, key: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(url);
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    request.body(Full::new(Bytes::new())).unwrap()
}

async fn connect<B>(request: &Request<B>) -> TokioIo<tokio::net::TcpStream> {
    let address = request.uri().authority().unwrap().as_str();
    TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap())
}

async fn collect(response: hyper::Response<hyper::body::Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Answer { status: parts.status, headers: parts.headers, body: collected.to_bytes(), trailers }
}

/// Sends on a new HTTP/1.1 connection.
pub async fn send<B>(request: Request<B>) -> Answer
where
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let mut answers = send_all([request]).await;
    answers.remove(0)
}

/// Sends one after the other on one HTTP/1.1 connection.
pub async fn send_all<B>(requests: impl IntoIterator<Item = Request<B>>) -> Vec<Answer>
where
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let mut sender = None;
    let mut answers = Vec::new();
    for mut request in requests {
        let sender = match &mut sender {
            Some(sender) => sender,
            none => {
                let (handle, connection) = conn::http1::handshake(connect(&request).await).await.unwrap();
                tokio::spawn(connection);
                none.insert(handle)
            }
        };
        let host = request.uri().authority().unwrap().to_string();
        request.headers_mut().insert("host", host.parse().unwrap());
        *request.uri_mut() = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
        sender.ready().await.unwrap();
        answers.push(collect(sender.send_request(request).await.unwrap()).await);
    }
    answers
}

/// Sends all at once on one HTTP/2 connection (prior knowledge, no TLS).
pub async fn send_h2(requests: Vec<Request<Full<Bytes>>>) -> Vec<Answer> {
    let io = connect(&requests[0]).await;
    let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let sending: Vec<_> = requests
        .into_iter()
        .map(|request| {
            let mut sender = sender.clone();
            tokio::spawn(async move { collect(sender.send_request(request).await.unwrap()).await })
        })
        .collect();
    let mut answers = Vec::new();
    for one in sending {
        answers.push(one.await.unwrap());
    }
    answers
}

/// A unary gRPC call of one message, with further headers.
pub async fn call(url: &str, path: &str, headers: &[(&str, &str)], flag: u8, message: &[u8]) -> Answer {
    let mut framed = vec![flag];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    let mut request =
        Request::post(format!("{url}{path}")).header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send_h2(vec![request.body(Full::new(Bytes::from(framed))).unwrap()]).await.remove(0)
}

/// Sends raw bytes and reads what comes back until the server closes or falls silent for `patience`. Blocks.
pub fn send_raw(url: &str, bytes: &[u8], patience: Duration) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read) = stream.read(&mut buffer) {
        if read == 0 {
            break;
        }
        answer.extend(&buffer[..read]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}
