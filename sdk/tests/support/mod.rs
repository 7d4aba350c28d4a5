//! What the claims share: a server that keeps what it gets, and views of it; `server` for the claims about delivery.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in here ends the test that asked for it")]
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    clippy::print_stdout,
    reason = "each test uses its part"
)]

pub mod server;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{ExponentialHistogramDataPoint, metric::Data};
use prost::Message as _;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// Path and inflated body of every request.
pub static RECEIVED: Mutex<Vec<(String, Vec<u8>)>> = Mutex::new(Vec::new());

pub fn serve(stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap().to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        RECEIVED.lock().unwrap().push((path, zstd::stream::decode_all(&body[..]).unwrap()));
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

/// Starts recording to a server of this test, once.
pub fn start() {
    static GUARD: OnceLock<gemba::Guard> = OnceLock::new();
    GUARD.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::thread::spawn(move || serve(&stream.unwrap()));
            }
        });
        gemba::Config::new("query-test").endpoint(endpoint).without_environment().start().unwrap()
    });
}

pub fn flush() {
    gemba::flush(Duration::from_secs(20)).unwrap();
}

pub fn bodies<M: prost::Message + Default>(path: &str) -> Vec<M> {
    let received = RECEIVED.lock().unwrap();
    received.iter().filter(|(of, _)| of == path).map(|(_, body)| M::decode(&body[..]).unwrap()).collect()
}

pub type Attributes = BTreeMap<String, Value>;

pub fn attributes(pairs: Vec<KeyValue>) -> Attributes {
    pairs.into_iter().filter_map(|pair| Some((pair.key, pair.value?.value?))).collect()
}

pub fn text<'a>(attributes: &'a Attributes, key: &str) -> &'a str {
    match attributes.get(key) {
        Some(Value::StringValue(text)) => text,
        None => "",
        other => panic!("{key}: {other:?}"),
    }
}

pub fn texts(attributes: &Attributes, key: &str) -> Vec<String> {
    let Some(Value::ArrayValue(array)) = attributes.get(key) else { panic!("{key} is missing") };
    let text = |value: &AnyValue| match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{key}: {other:?}"),
    };
    array.values.iter().map(text).collect()
}

pub fn numbers(attributes: &Attributes, key: &str) -> Vec<i64> {
    let Some(Value::ArrayValue(array)) = attributes.get(key) else { panic!("{key} is missing") };
    let number = |value: &AnyValue| match value.value {
        Some(Value::IntValue(number)) => number,
        ref other => panic!("{key}: {other:?}"),
    };
    array.values.iter().map(number).collect()
}

/// Records of this event name.
pub fn logs(event: &str) -> Vec<Attributes> {
    let requests = bodies::<ExportLogsServiceRequest>("/v1/logs");
    let scopes = requests.into_iter().flat_map(|request| request.resource_logs).flat_map(|logs| logs.scope_logs);
    let records = scopes.flat_map(|scope| scope.log_records).filter(|record| record.event_name == event);
    records.map(|record| attributes(record.attributes)).collect()
}

/// Points of the metric for a fingerprint.
pub fn points(fingerprint: &str) -> Vec<(Attributes, ExponentialHistogramDataPoint)> {
    let requests = bodies::<ExportMetricsServiceRequest>("/v1/metrics");
    let scopes = requests.into_iter().flat_map(|request| request.resource_metrics).flat_map(|all| all.scope_metrics);
    let mut found = Vec::new();
    for metric in scopes.flat_map(|scope| scope.metrics).filter(|metric| metric.name == "db.client.operation.duration")
    {
        assert_eq!(metric.unit, "s");
        let Some(Data::ExponentialHistogram(histogram)) = metric.data else { panic!("no exponential histogram") };
        assert_eq!(histogram.aggregation_temporality, 1, "delta");
        for point in histogram.data_points {
            let of = attributes(point.attributes.clone());
            if text(&of, "gemba.query.fingerprint") == fingerprint {
                found.push((of, point));
            }
        }
    }
    found
}

pub fn samples(fingerprint: &str) -> Vec<(Attributes, opentelemetry_proto::tonic::trace::v1::Span)> {
    let requests = bodies::<ExportTraceServiceRequest>("/v1/traces");
    let scopes = requests.into_iter().flat_map(|request| request.resource_spans).flat_map(|all| all.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans).map(|span| (attributes(span.attributes.clone()), span));
    spans.filter(|(of, _)| text(of, "gemba.query.fingerprint") == fingerprint).collect()
}

/// Usage lines of a user: (fingerprint, calls, rows, errors, feature, step, code).
pub fn usage_of(user: &str) -> Vec<(String, i64, i64, i64, String, String, String)> {
    let mut lines = Vec::new();
    for record in logs("gemba.query.usage").iter().filter(|record| text(record, "user.id") == user) {
        let (calls, rows) = (numbers(record, "gemba.query.usage.calls"), numbers(record, "gemba.query.usage.rows"));
        let errors = numbers(record, "gemba.query.usage.errors");
        let code = texts(record, "gemba.query.usage.code");
        for (at, fingerprint) in texts(record, "gemba.query.usage.fingerprints").into_iter().enumerate() {
            lines.push((
                fingerprint,
                calls[at],
                rows[at],
                errors[at],
                text(record, "gemba.feature.name").to_owned(),
                text(record, "gemba.step.name").to_owned(),
                code[at].clone(),
            ));
        }
    }
    lines
}
