//! The decoder against requests written with the official types of opentelemetry-proto.

mod build;
mod json;
mod logs;
mod points;
mod properties;
mod resources;
mod responses;
mod spans;

use super::*;
use crate::outcome::{Fate, Reason};
use crate::rows::{Table, native};
use build::*;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;
use serde::Serialize;
use serde_json::{Map, Value as Json};

/// Time of receipt: 2025-11-23T12:13:20Z, a Sunday.
const RECEIVED_MS: i64 = 1_763_900_000_000;
const RECEIVED_NS: u64 = 1_763_900_000_000_000_000;

type Row = Map<String, Json>;

fn ids() -> IdHasher {
    IdHasher::new([7; 16])
}

fn try_decode(signal: Signal, encoding: Encoding, body: &[u8], rows: &mut Rows) -> Result<Tally, DecodeError> {
    let ids = ids();
    decode(
        signal,
        encoding,
        body,
        &Origin {
            project: ProjectId(5),
            retention_class: 2,
            received_ms: RECEIVED_MS,
            ids: &ids,
            reads_span_events: true,
        },
        rows,
    )
}

/// All blocks, encoded.
fn encoded(rows: &Rows) -> Vec<(Table, Vec<u8>)> {
    rows.blocks()
        .iter()
        .map(|key| {
            let mut out = Vec::new();
            rows.encode(key, 99, &mut out);
            (key.table, out)
        })
        .collect()
}

/// The rows of a table, read back.
fn table(rows: &Rows, table: Table) -> Vec<Row> {
    encoded(rows).into_iter().filter(|(found, _)| *found == table).flat_map(|(_, block)| native::read(&block)).collect()
}

/// Decodes a request as protobuf and as JSON, and expects the same of both.
fn both<R: Message + Serialize>(signal: Signal, request: &R) -> (Tally, Rows) {
    let (mut protobuf, mut json) = (Rows::new(), Rows::new());
    let text = serde_json::to_vec(request).expect("serialises");
    let tally = try_decode(signal, Encoding::Protobuf, &request.encode_to_vec(), &mut protobuf).expect("protobuf");
    let from_json = try_decode(signal, Encoding::Json, &text, &mut json).expect("JSON");
    assert_eq!(tally, from_json);
    for ((name, left), (_, right)) in encoded(&protobuf).into_iter().zip(encoded(&json)) {
        if left != right {
            assert_eq!(native::read(&left), native::read(&right), "{name}");
            panic!("blocks of {name} differ in form only");
        }
    }
    assert_eq!(protobuf.blocks(), json.blocks());
    (tally, protobuf)
}

/// The one event row of one log record.
fn event(record: opentelemetry_proto::tonic::logs::v1::LogRecord) -> Row {
    let (tally, rows) = both(Signal::Logs, &logs(vec![record]));
    assert_eq!((tally.received, tally.kept()), (1, 1), "{tally:?}");
    let mut events = table(&rows, Table::Events);
    assert_eq!(events.len(), 1);
    events.remove(0)
}

/// Where the one record went instead of a table.
fn fate<R: Message + Serialize>(signal: Signal, request: &R) -> (Fate, Reason) {
    let (tally, _) = both(signal, request);
    assert_eq!((tally.received, tally.kept(), tally.others.len()), (1, 0, 1), "{tally:?}");
    (tally.others[0].0, tally.others[0].1)
}

fn hash(domain: crate::identity::IdDomain, id: &str) -> u64 {
    ids().hash(ProjectId(5), domain, id.as_bytes())
}

#[test]
fn an_empty_request_succeeds() {
    let mut rows = Rows::new();
    for signal in Signal::ALL {
        for (encoding, body) in [(Encoding::Protobuf, &b""[..]), (Encoding::Json, b"{}"), (Encoding::Json, b"{}\n")] {
            assert_eq!(try_decode(*signal, encoding, body, &mut rows), Ok(Tally::default()));
        }
    }
    assert!(rows.is_empty());
}

#[test]
fn a_request_of_no_known_field_succeeds() {
    let mut rows = Rows::new();
    let request = ExportLogsServiceRequest::default();
    assert_eq!(try_decode(Signal::Logs, Encoding::Protobuf, &request.encode_to_vec(), &mut rows), Ok(Tally::default()));
}

#[test]
fn records_of_every_kind_reach_every_table() {
    let (logs, traces, metrics) = everything();
    let mut rows = Rows::new();
    for (signal, body) in [
        (Signal::Logs, logs.encode_to_vec()),
        (Signal::Traces, traces.encode_to_vec()),
        (Signal::Metrics, metrics.encode_to_vec()),
    ] {
        try_decode(signal, Encoding::Protobuf, &body, &mut rows).expect("decodes");
    }
    for name in Table::ALL {
        assert!(!table(&rows, *name).is_empty(), "{name}");
    }
    both(Signal::Logs, &logs);
    both(Signal::Traces, &traces);
    both(Signal::Metrics, &metrics);
}

#[test]
fn units_and_resources_are_left_out_once_they_are_stored_and_nothing_else_is() {
    let (logs, ..) = everything();
    let body = logs.encode_to_vec();
    let mut rows = Rows::knowing(std::sync::Arc::default());
    let again = |rows: &mut Rows| {
        rows.clear();
        try_decode(Signal::Logs, Encoding::Protobuf, &body, rows).expect("decodes");
        encoded(rows)
    };
    let all = again(&mut rows);
    assert!(
        all.iter().any(|(table, _)| *table == Table::Units) && all.iter().any(|(table, _)| *table == Table::Resources)
    );
    // Decoding alone proves nothing: the cut may never be stored.
    assert_eq!(again(&mut rows), all);
    rows.note_stored();
    let counted: Vec<_> = all.into_iter().filter(|(table, _)| table.is_counted()).collect();
    assert_eq!(again(&mut rows), counted);
}
