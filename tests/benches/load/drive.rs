//! Sends the load over connections that are kept open, and notes when each request was acknowledged.
//!
//! In: where to, how many connections, how fast. Out: one [`Ack`] a request. Every connection is a thread that sends one
//! request at a time, as exporters do. With a rate, requests have a time to be sent at, and a latency counts from that
//! time, so that a server that stalls is charged for the requests it kept waiting, too.

use super::traffic::{EVENTS, Traffic};
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{IoSlice, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What to send.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// The server, `http://127.0.0.1:4318`.
    pub(crate) url: String,
    /// Ingest key.
    pub(crate) key: String,
    /// Connections, each with one request at a time.
    pub(crate) connections: usize,
    /// How long.
    pub(crate) time: Duration,
    /// Events a second, all connections together; as fast as they are acknowledged otherwise.
    pub(crate) rate: Option<f64>,
    /// Requests of a hundred that are compressed.
    pub(crate) gzip_percent: u64,
    /// Requests of a hundred whose events belong to traces.
    pub(crate) traced_percent: u64,
}

/// A request that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack {
    /// When, since the start of the load.
    pub(crate) at: Duration,
    /// Since it was sent, or should have been.
    pub(crate) latency: Duration,
}

/// What became of a load.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The start of the load.
    pub(crate) started: Instant,
    /// Acknowledged requests, by time.
    pub(crate) acks: Vec<Ack>,
    /// Answers that told to come again later; the request was sent again.
    pub(crate) refused: u64,
    /// Bytes of bodies, as sent.
    pub(crate) bytes: u64,
    /// Bytes of an event before compression.
    pub(crate) bytes_per_event: f64,
}

impl Sent {
    fn new(started: Instant) -> Self {
        Self { started, acks: Vec::new(), refused: 0, bytes: 0, bytes_per_event: 0.0 }
    }

    /// Events acknowledged.
    pub(crate) fn events(&self) -> u64 {
        (self.acks.len() * EVENTS) as u64
    }

    /// Events acknowledged a second, from the start to the last acknowledgement.
    pub(crate) fn rate(&self) -> f64 {
        self.events() as f64 / self.acks.last().map_or(f64::NAN, |ack| ack.at.as_secs_f64())
    }
}

/// Sends a load and returns when the last request is acknowledged.
pub(crate) fn send(load: &Load) -> Sent {
    let ready = Barrier::new(load.connections);
    let ticket = AtomicU64::new(0);
    let started = OnceLock::new();
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..load.connections)
            .map(|connection| {
                let (ready, ticket, started) = (&ready, &ticket, &started);
                scope.spawn(move || {
                    let mut sender = Sender::new(load, connection);
                    ready.wait();
                    let started = *started.get_or_init(Instant::now);
                    sender.run(load, started, ticket)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a connection ends in order")).collect::<Vec<_>>()
    });
    let mut all = Sent::new(started.into_inner().expect("there is a connection"));
    for part in parts {
        all.acks.extend(part.acks);
        all.refused += part.refused;
        all.bytes += part.bytes;
        all.bytes_per_event += part.bytes_per_event / load.connections as f64;
    }
    all.acks.sort_unstable_by_key(|ack| ack.at);
    all
}

/// Asks the server to store all and waits until it has.
pub(crate) fn flush(load: &Load) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    loop {
        let answer = agent
            .post(format!("{}/api/v1/flush", load.url))
            .header("authorization", format!("Bearer {}", load.key))
            .send_empty();
        match answer.unwrap().status().as_u16() {
            200 => return,
            // It gives up after 30 s, which means that it is behind; asking again is waiting on.
            503 => {}
            other => panic!("flush answered {other}"),
        }
    }
}

struct Sender {
    stream: TcpStream,
    traffic: Traffic,
    /// Everything of a request's head that does not change.
    head: String,
    /// Half of the connections number their requests as our SDK does, the others send no key, as OpenTelemetry's do.
    instance: Option<u128>,
    number: u64,
    answer: Vec<u8>,
}

impl Sender {
    fn new(load: &Load, connection: usize) -> Self {
        let address = load.url.strip_prefix("http://").expect("an address");
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let instance = u128::from(random()) << 64 | u128::from(random());
        Self {
            stream,
            traffic: Traffic::new(instance, connection, load.connections, load.gzip_percent, load.traced_percent),
            head: format!(
                "POST /v1/logs HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
                 content-type: application/x-protobuf\r\nuser-agent: load\r\n",
                load.key
            ),
            instance: connection.is_multiple_of(2).then_some(instance),
            number: 0,
            answer: Vec::new(),
        }
    }

    fn run(&mut self, load: &Load, started: Instant, ticket: &AtomicU64) -> Sent {
        let mut sent = Sent { bytes_per_event: self.traffic.bytes_per_event(), ..Sent::new(started) };
        loop {
            let due = match load.rate {
                // Relaxed: the numbers only have to differ.
                Some(rate) => {
                    Duration::from_secs_f64(ticket.fetch_add(1, Ordering::Relaxed) as f64 * EVENTS as f64 / rate)
                }
                None => started.elapsed(),
            };
            if due >= load.time {
                return sent;
            }
            self.one(load.rate.is_some().then_some(started + due), &mut sent, started);
        }
    }

    /// Makes a request, sends it at `due` or at once, and repeats it until it is acknowledged.
    fn one(&mut self, due: Option<Instant>, sent: &mut Sent, started: Instant) {
        let lead = due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + lead;
        let made = self.traffic.make(u64::try_from(now.as_nanos()).unwrap());
        self.number += 1;
        let mut head = self.head.clone();
        if made.is_gzip {
            head.push_str("content-encoding: gzip\r\n");
        }
        if let Some(instance) = self.instance {
            let (high, low) = (instance >> 64, instance & u128::from(u64::MAX));
            let uuid = format!(
                "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
                high >> 32,
                high >> 16 & 0xffff,
                high & 0xffff,
                low >> 48,
                low & 0xffff_ffff_ffff
            );
            write!(head, "idempotency-key: {uuid}-{}\r\n", self.number).unwrap();
        }
        write!(head, "content-length: {}\r\n\r\n", made.bytes.len()).unwrap();
        if let Some(due) = due {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let sent_at = due.unwrap_or_else(Instant::now);
        loop {
            write(&mut self.stream, head.as_bytes(), made.bytes);
            match read_status(&mut self.stream, &mut self.answer) {
                200 => break,
                503 => {
                    sent.refused += 1;
                    std::thread::sleep(Duration::from_millis(100));
                }
                other => panic!("answer {other}: {}", String::from_utf8_lossy(&self.answer)),
            }
        }
        sent.bytes += made.bytes.len() as u64;
        let now = Instant::now();
        sent.acks.push(Ack { at: now - started, latency: now - sent_at });
    }
}

/// A number no other run has.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Writes head and body in as few calls as the socket takes.
fn write(stream: &mut TcpStream, head: &[u8], body: &[u8]) {
    let mut pieces = [IoSlice::new(head), IoSlice::new(body)];
    let mut left = &mut pieces[..];
    while !left.is_empty() {
        let written = stream.write_vectored(left).expect("the server reads");
        IoSlice::advance_slices(&mut left, written);
    }
}

/// Reads an answer and gives its status.
fn read_status(stream: &mut TcpStream, answer: &mut Vec<u8>) -> u16 {
    answer.clear();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).expect("the server answers");
        assert!(read > 0, "the server closed the connection");
        answer.extend_from_slice(&piece[..read]);
        let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&answer[..end]).unwrap();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        if answer.len() >= end + 4 + length.expect("answers have a length") {
            return head.split(' ').nth(1).unwrap().parse().unwrap();
        }
    }
}
