//! OTLP request bodies into rows.
//!
//! In: one inflated body, its signal and encoding, who sent it and when it was received. Out: rows appended to
//! [`Rows`], a [`Tally`] of what became of every record, and the body of the answer. JSON is first rewritten as protobuf
//! (`json.rs`), so one walker and one set of rules serve both. Nothing here does I/O, reads a clock, takes a lock or
//! keeps state between requests.
//!
//! Invariants:
//! 1. On `Err` the rows are untouched.
//! 2. No body makes it panic, overflow the stack, or work longer than linear in the body's length.
//! 3. Every record is counted once: kept, or under a fate and reason.

mod fields;
mod fingerprint;
mod histogram;
mod json;
mod json_schema;
mod keys;
mod logs;
mod metrics;
mod records;
mod resource;
mod response;
mod show;
mod sink;
mod traces;
mod value;
mod wire;

pub(crate) use fingerprint::FingerprintCache;
pub use response::{error_status, response, retry_status};
pub(crate) use show::close as close_envelope;

use crate::identity::{IdHasher, ProjectId};
use crate::outcome::Tally;
use crate::rows::{Opened, Partition, Rows};
use show::Around;
use sink::{MAX_AROUND, Sink};
use std::fmt;

/// Version of the rules in this module. Replay of a log relies on equal rows under an equal version.
pub const DECODER_VERSION: u16 = 3;
/// The first one that reads evaluations of feature flags among the events of spans.
pub(crate) const SPAN_EVENTS_SINCE: u16 = 3;

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Log records; events are log records with a name.
    Logs,
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
}

impl Signal {
    /// All signals.
    pub const ALL: &'static [Self] = &[Self::Logs, Self::Traces, Self::Metrics];

    /// The word in the store and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    /// The path of OTLP/HTTP (OTLP specification, "OTLP/HTTP Request").
    pub const fn path(self) -> &'static str {
        match self {
            Self::Logs => "/v1/logs",
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/x-protobuf`, and gRPC messages.
    Protobuf,
    /// `application/json`.
    Json,
}

/// Who sent a body and when it came.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The project of the key.
    pub project: ProjectId,
    /// The project's retention class.
    pub retention_class: u8,
    /// Time of receipt, milliseconds since the Unix epoch.
    pub received_ms: i64,
    /// Hashes ids.
    pub ids: &'a IdHasher,
    /// Whether evaluations of flags that are events of a span are records of their own. Not on replay of a request that an earlier build
    /// counted without them, nor where their span, which had been set aside without them, is taken in once more.
    pub reads_span_events: bool,
}

/// What becomes of every record of a body that is not stored yet, without keeping any rows.
pub(crate) fn try_decode(
    signal: Signal,
    encoding: Encoding,
    body: &[u8],
    origin: &Origin<'_>,
) -> Result<Tally, DecodeError> {
    decode(signal, encoding, body, origin, &mut Rows::new())
}

/// Which records of a body become rows, for a replay that knows more than the first decoding did. Records are numbered
/// from 0 in the order they stand in the body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice<'a> {
    /// Records outside are passed over, as if they were not there.
    pub(crate) only: (u64, u64),
    /// Records that are set aside instead, rising, and why: ClickHouse refuses them.
    pub(crate) refused: &'a [u64],
    /// What ClickHouse said.
    pub(crate) problem: &'a str,
}

impl Choice<'_> {
    /// Everything.
    pub(crate) const ALL: Self = Self { only: (0, u64::MAX), refused: &[], problem: "" };

    fn is_all(&self) -> bool {
        self.only == Self::ALL.only && self.refused.is_empty()
    }
}

/// Why a body could not be read at all; the client must not send it again (400).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not protobuf of the expected message.
    #[error("malformed protobuf: {0}")]
    Protobuf(&'static str),
    /// The text is not JSON of the expected message.
    #[error("malformed OTLP JSON: {0}")]
    Json(String),
}

/// Decodes one inflated request body and appends its rows. On `Err` nothing was appended. Pure: no clock, no I/O.
///
/// Takes time linear in the body: about 0.5 µs a log record of 250 bytes (`benches/decode.rs`).
pub fn decode(
    signal: Signal,
    encoding: Encoding,
    body: &[u8],
    origin: &Origin<'_>,
    rows: &mut Rows,
) -> Result<Tally, DecodeError> {
    decode_chosen(signal, encoding, body, origin, rows, Choice::ALL)
}

/// As [`decode`], but only some of the records.
pub(crate) fn decode_chosen(
    signal: Signal,
    encoding: Encoding,
    body: &[u8],
    origin: &Origin<'_>,
    rows: &mut Rows,
    choice: Choice<'_>,
) -> Result<Tally, DecodeError> {
    let protobuf;
    let body = match encoding {
        Encoding::Protobuf => body,
        Encoding::Json => {
            protobuf = json::to_protobuf(signal, body)?;
            &protobuf
        }
    };
    let partition = Partition::new(origin.retention_class, origin.received_ms);
    rows.mark(partition);
    let Opened { set, seen, fingerprints } = rows.open(partition);
    let schema = json_schema::record(signal);
    let choice = (!choice.is_all()).then_some(choice);
    let mut sink = Sink {
        origin,
        signal,
        set,
        seen,
        fingerprints,
        schema,
        around: Around::default(),
        around_left: body.len().saturating_add(MAX_AROUND),
        choice,
        tally: Tally::default(),
    };
    let outcome = match signal {
        Signal::Logs => logs::read(body, &mut sink),
        Signal::Traces => traces::read(body, &mut sink),
        Signal::Metrics => metrics::read(body, &mut sink),
    };
    match outcome {
        Ok(()) => {
            sink.write_units();
            Ok(sink.tally)
        }
        Err(error) => {
            rows.rollback();
            Err(error.into())
        }
    }
}

#[cfg(test)]
mod tests;
