//! What strangers can make the server hold is bounded, one limit at a time: slow bodies, streams and headers of HTTP/2, streams that
//! are reset as soon as they are opened, connections that rest.
//!
//! HTTP/2 is spoken frame by frame (RFC 9113), since a client library keeps to the limits it is told. Headers of HTTP/1, silence
//! inside a body and connections in all are claimed in `protocol`.

use gemba_tests::client::{bare, post, send, send_h2};
use gemba_tests::export::events;
use gemba_tests::server::Server;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PROTOBUF: &str = "application/x-protobuf";
/// How long anything that must happen by itself may take.
const PATIENCE: Duration = Duration::from_mins(1);

// Types of frames (RFC 9113, section 6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
// Flags, settings and errors.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const MAX_HEADER_LIST_SIZE: u16 = 6;
const CANCEL: u32 = 8;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

async fn connected(server: &Server) -> TcpStream {
    TcpStream::connect(server.running.url().strip_prefix("http://").unwrap()).await.unwrap()
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The number at this place of the payload.
    fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The value of a setting, where the frame tells it.
    fn setting(&self, id: u16) -> Option<u32> {
        let pair = self.payload.chunks(6).find(|pair| pair[..2] == id.to_be_bytes())?;
        Some(u32::from_be_bytes(pair[2..].try_into().unwrap()))
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// What a client begins with.
fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes
}

/// A request of data, as literals and entries of the static table (RFC 7541, appendix A).
fn head(key: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        block.extend(name);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(value.as_bytes());
    };
    literal(&[0x01], "gemba");
    literal(&[0x04], "/v1/logs");
    literal(&[0x0f, 0x08], &format!("Bearer {key}"));
    literal(&[0x0f, 0x10], PROTOBUF);
    block
}

/// Reads frames until one is what is looked for; all that came, and whether it did before the end.
async fn until(stream: &mut TcpStream, is_it: impl Fn(&[Frame]) -> bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    let reading = async {
        while !is_it(&frames) {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
            let mut payload = vec![0; length];
            if stream.read_exact(&mut payload).await.is_err() {
                return;
            }
            let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
            frames.push(Frame { kind: head[3], stream, payload });
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reading).await.is_ok(), "the server says nothing more: {frames:?}");
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_stalls_and_never_ends_has_a_time_of_its_own() {
    let server = Server::start_with(|config| config.limits.body_timeout = Duration::from_secs(1)).await;
    let head = format!(
        "POST /v1/logs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: {PROTOBUF}\r\ncontent-length: 100000\r\n\r\n",
        server.keys.ingest
    );
    let (mut from, mut to) = connected(&server).await.into_split();
    let started = Instant::now();
    let trickling = tokio::spawn(async move {
        to.write_all(head.as_bytes()).await.unwrap();
        // Until nobody takes it any more; all of it would take an hour.
        while to.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    });
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, from.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    drop(from);
    trickling.abort();
    assert_eq!(server.send_logs(events(&["a"], "m")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_beyond_the_limit_are_refused_so_that_they_can_be_opened_again() {
    let server = Server::start_with(|config| config.limits.max_streams = 4).await;
    let mut stream = connected(&server).await;
    let mut bytes = preface();
    for number in 0..6 {
        // Each waits for its body.
        bytes.extend(frame(HEADERS, END_HEADERS, 2 * number + 1, &head(&server.keys.ingest)));
    }
    stream.write_all(&bytes).await.unwrap();
    let is_reset = |frame: &&Frame| frame.kind == RST_STREAM;
    let frames = until(&mut stream, |frames| frames.iter().filter(is_reset).count() == 2).await;
    let told: Vec<u32> = frames
        .iter()
        .filter_map(|frame| (frame.kind == SETTINGS).then(|| frame.setting(MAX_CONCURRENT_STREAMS))?)
        .collect();
    assert_eq!(told, [4]);
    let reset: Vec<(u32, u32)> = frames.iter().filter(is_reset).map(|frame| (frame.stream, frame.number(0))).collect();
    assert_eq!(reset, [(9, REFUSED_STREAM), (11, REFUSED_STREAM)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_http_2_are_bounded_by_the_same_number_as_those_of_http_1() {
    const HEADER_BYTES: u32 = 16 << 10;
    let server = Server::start_with(|config| config.limits.max_header_bytes = HEADER_BYTES.try_into().unwrap()).await;
    let mut stream = connected(&server).await;
    stream.write_all(&preface()).await.unwrap();
    let frames = until(&mut stream, |frames| frames.iter().any(|frame| frame.kind == SETTINGS)).await;
    assert_eq!(frames.iter().find_map(|frame| frame.setting(MAX_HEADER_LIST_SIZE)), Some(HEADER_BYTES));
    // Whoever sends more all the same.
    let mut large = post(&server.url("/v1/logs"), &server.keys.ingest, PROTOBUF, "");
    large.headers_mut().insert("x-large", "a".repeat(32 << 10).parse().unwrap());
    assert_eq!(send_h2(vec![large]).await[0].status, 431);
    let small = post(&server.url("/v1/logs"), &server.keys.ingest, PROTOBUF, "");
    assert_eq!(send_h2(vec![small]).await[0].status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_streams_only_to_reset_them_is_sent_away() {
    let server = Server::start().await;
    let mut stream = connected(&server).await;
    let mut bytes = preface();
    for number in 0..2_000 {
        let id = 2 * number + 1;
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &head(&server.keys.ingest)));
        bytes.extend(frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes()));
    }
    // The server may close before all of it is written.
    let (mut from, mut to) = stream.split();
    let mut frames = Vec::new();
    let writing = async {
        drop(to.write_all(&bytes).await);
    };
    let reading = async {
        from.read_to_end(&mut frames).await.ok();
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(writing, reading) }).await.unwrap();
    // The last frame before the end, with its reason behind the last stream that was looked at.
    let goaway =
        frames.windows(17).find(|bytes| bytes[3] == GOAWAY && bytes[13..17] == ENHANCE_YOUR_CALM.to_be_bytes());
    let last = goaway.map(|bytes| u32::from_be_bytes(bytes[9..13].try_into().unwrap()));
    assert!(last.is_some_and(|last| last < 4_000), "{last:?} of {} bytes", frames.len());
    assert_eq!(server.send_logs(events(&["a"], "m")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_rests_between_requests_is_closed_and_one_of_http_2_is_told_before() {
    let server = Server::start_with(|config| config.limits.idle_timeout = Duration::from_millis(400)).await;
    let mut first = connected(&server).await;
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, first.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("ok\n"), "{text}");

    let mut second = connected(&server).await;
    second.write_all(&preface()).await.unwrap();
    let frames = until(&mut second, |_| false).await;
    let told = frames.iter().find(|frame| frame.kind == GOAWAY).unwrap_or_else(|| panic!("{frames:?}"));
    assert_eq!(told.number(4), 0, "no error");
    assert_eq!(send(bare("GET", &server.url("/healthz"), None)).await.status, 200);
}
