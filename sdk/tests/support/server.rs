//! What the claims about delivery share: a server that answers by a script and keeps what it saw, the figures a child prints,
//! and views of what arrived.

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One request as the server saw it.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Request {
    pub fn key(&self) -> &str {
        &self.headers["idempotency-key"]
    }

    pub fn inflated(&self) -> Vec<u8> {
        assert_eq!(self.headers["content-encoding"], "zstd");
        zstd::stream::decode_all(&self.body[..]).unwrap()
    }

    pub fn logs(&self) -> ExportLogsServiceRequest {
        ExportLogsServiceRequest::decode(&self.inflated()[..]).unwrap()
    }
}

/// How the server answers one request.
#[derive(Debug, Clone)]
pub enum Reply {
    Status(u16, &'static str, Vec<u8>),
    /// Reads the request and closes the connection.
    Reset,
    /// Thinks so long, then takes the request.
    Slow(Duration),
}

pub fn ok() -> Reply {
    Reply::Status(200, "", Vec::new())
}

/// Answers requests by the script, one after the other, then as `rest` says.
pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(script: Vec<Reply>, rest: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (shared, script) = (Arc::clone(&seen), Arc::new(Mutex::new(script.into_iter())));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (seen, script, rest) = (Arc::clone(&shared), Arc::clone(&script), rest.clone());
                std::thread::spawn(move || serve(&connection.unwrap(), &seen, &script, &rest));
            }
        });
        Self { address, seen }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

pub fn serve(
    connection: &TcpStream,
    seen: &Mutex<Vec<Request>>,
    script: &Mutex<std::vec::IntoIter<Reply>>,
    rest: &Reply,
) {
    let mut reader = BufReader::new(connection);
    while let Some(request) = read_request(&mut reader) {
        seen.lock().unwrap().push(request);
        let mut reply = script.lock().unwrap().next().unwrap_or_else(|| rest.clone());
        if let Reply::Slow(pause) = reply {
            std::thread::sleep(pause);
            reply = ok();
        }
        match reply {
            Reply::Status(status, headers, body) => {
                let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
                let mut connection = connection;
                // The client may be gone by now; then there is nobody to tell.
                let _gone = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&body));
            }
            Reply::Reset | Reply::Slow(_) => return,
        }
    }
}

pub fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, headers, body, at: Instant::now() })
}

/// What the child printed about itself.
#[derive(Debug, Default, PartialEq)]
pub struct Figures(pub BTreeMap<String, u64>);

impl Figures {
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The figures in what a child printed: `figure:NAME=NUMBER`.
    pub fn in_text(text: &str) -> Self {
        let words = text.split_whitespace().filter_map(|word| word.strip_prefix("figure:"));
        let pairs = words.filter_map(|word| word.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect())
    }
}

/// Prints where everything is, for the parent, after checking that it adds up.
pub fn print_figures() {
    let stats = gemba::stats();
    assert_eq!(
        stats.recorded + stats.adopted,
        stats.delivered + stats.dropped_total() + stats.unconfirmed + stats.pending + stats.spooled,
        "{stats:?}"
    );
    println!("figure:recorded={} figure:adopted={}", stats.recorded, stats.adopted);
    println!("figure:delivered={} figure:spooled={}", stats.delivered, stats.spooled);
    println!("figure:unconfirmed={} figure:pending={}", stats.unconfirmed, stats.pending);
    println!("figure:ignored_guards={} figure:left_out={}", stats.ignored_guards, stats.left_out);
    for (reason, count) in stats.dropped {
        println!("figure:{reason}={count}");
    }
}

pub fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref().and_then(|AnyValue { value }| value.as_ref())
}

pub fn text<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    match attribute(attributes, key) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key}: {other:?}"),
    }
}

/// Log records by idempotency key, each key once: what a server that forgets repeats has.
pub fn stored(requests: &[Request]) -> Vec<LogRecord> {
    let mut keys = BTreeSet::new();
    let logs = requests.iter().filter(|request| request.path == "/v1/logs" && keys.insert(request.key().to_owned()));
    logs.flat_map(|request| request.logs().resource_logs)
        .flat_map(|resource| resource.scope_logs)
        .flat_map(|scope| scope.log_records)
        .collect()
}

/// A point of `gemba.sdk.dropped`.
#[derive(Debug, PartialEq)]
pub struct DropPoint {
    pub reason: String,
    /// File, line and name of the call site; empty for what was dropped behind the rings.
    pub callsite: String,
    pub count: u64,
}

pub fn drop_points(requests: &[Request]) -> Vec<DropPoint> {
    let mut points = Vec::new();
    let mut keys = BTreeSet::new();
    for request in
        requests.iter().filter(|request| request.path == "/v1/metrics" && keys.insert(request.key().to_owned()))
    {
        let export = ExportMetricsServiceRequest::decode(&request.inflated()[..]).unwrap();
        for metric in export.resource_metrics.into_iter().flat_map(|r| r.scope_metrics).flat_map(|s| s.metrics) {
            assert_eq!(metric.name, "gemba.sdk.dropped");
            let Some(Data::Sum(sum)) = metric.data else { panic!("not a sum") };
            assert!(sum.is_monotonic);
            assert_eq!(sum.aggregation_temporality, 1, "delta");
            for point in sum.data_points {
                let Some(number_data_point::Value::AsInt(count)) = point.value else { panic!("not an integer") };
                let callsite = attribute(&point.attributes, "gemba.callsite");
                points.push(DropPoint {
                    reason: text(&point.attributes, "gemba.reason").to_owned(),
                    callsite: callsite.map_or("", |_| text(&point.attributes, "gemba.callsite")).to_owned(),
                    count: u64::try_from(count).unwrap(),
                });
            }
        }
    }
    points
}

/// Their counts, summed by reason.
pub fn reported_drops(requests: &[Request]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for point in drop_points(requests) {
        *sums.entry(point.reason).or_default() += point.count;
    }
    sums
}

pub fn named<'a>(records: &'a [LogRecord], event_name: &str) -> Vec<&'a LogRecord> {
    records.iter().filter(|record| record.event_name == event_name).collect()
}
