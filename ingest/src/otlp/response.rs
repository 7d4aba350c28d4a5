//! Bodies of answers: success, partial success, `google.rpc.Status`.
//!
//! In: the tally of a request, or what was wrong with it. Out: the body in the request's encoding, at most
//! [`MAX_MESSAGE_BYTES`] and some framing. Status codes and headers are the HTTP layer's.

use super::wire::{put_bytes, put_tag, put_varint};
use super::{Encoding, Signal};
use crate::outcome::Tally;
use serde_json::json;
use std::time::Duration;

/// Longest message in an answer, in bytes. Clients cap answers at 4 MiB and the message must be shortened rather than
/// that limit be broken (OTLP specification 1.11, "OTLP/HTTP Response"); 1 KiB is chosen because people read it in a log.
pub(super) const MAX_MESSAGE_BYTES: usize = 1024;

/// The body of a 200 answer: empty or `{}` when all was accepted, partial success otherwise.
pub fn response(signal: Signal, encoding: Encoding, tally: &Tally) -> Vec<u8> {
    let refused = tally.refused();
    let message = match (&tally.first_problem, refused) {
        (None, 0) => String::new(),
        (None, _) => format!("{refused} of {} records were not accepted", tally.received),
        (Some(problem), 0) => problem.clone(),
        (Some(problem), _) => {
            format!("{refused} of {} records were not accepted; the first: {problem}", tally.received)
        }
    };
    let message = cut(&message);
    match encoding {
        Encoding::Protobuf if refused == 0 && message.is_empty() => Vec::new(),
        Encoding::Json if refused == 0 && message.is_empty() => b"{}".to_vec(),
        Encoding::Protobuf => {
            // PartialSuccess { int64 rejected = 1; string error_message = 2 } as field 1 of the response.
            let mut partial = Vec::with_capacity(message.len() + 16);
            if refused > 0 {
                put_tag(1, 0, &mut partial);
                put_varint(refused, &mut partial);
            }
            put_text(2, message, &mut partial);
            let mut body = Vec::with_capacity(partial.len() + 8);
            put_bytes(1, &partial, &mut body);
            body
        }
        Encoding::Json => {
            let field = match signal {
                Signal::Logs => "rejectedLogRecords",
                Signal::Traces => "rejectedSpans",
                Signal::Metrics => "rejectedDataPoints",
            };
            // An int64 is a string in JSON protobuf.
            json!({ "partialSuccess": { field: refused.to_string(), "errorMessage": message } })
                .to_string()
                .into_bytes()
        }
    }
}

/// A `google.rpc.Status` with `message`, which is cut to [`MAX_MESSAGE_BYTES`]; `code` is left out as OTLP allows.
pub fn error_status(encoding: Encoding, message: &str) -> Vec<u8> {
    let message = cut(message);
    match encoding {
        Encoding::Protobuf => {
            let mut body = Vec::with_capacity(message.len() + 4);
            put_text(2, message, &mut body);
            body
        }
        Encoding::Json => json!({ "message": message }).to_string().into_bytes(),
    }
}

/// A `google.rpc.Status` in protobuf with a `google.rpc.RetryInfo` that says when to send again.
pub fn retry_status(code: u8, message: &str, retry_after: Duration) -> Vec<u8> {
    // Duration { int64 seconds = 1; int32 nanos = 2 } as field 1 of RetryInfo.
    let mut delay = Vec::new();
    for (field, value) in [(1, retry_after.as_secs()), (2, u64::from(retry_after.subsec_nanos()))] {
        if value > 0 {
            put_tag(field, 0, &mut delay);
            put_varint(value, &mut delay);
        }
    }
    let mut info = Vec::new();
    put_bytes(1, &delay, &mut info);
    let mut any = Vec::new();
    put_text(1, "type.googleapis.com/google.rpc.RetryInfo", &mut any);
    put_bytes(2, &info, &mut any);
    let mut status = Vec::new();
    put_tag(1, 0, &mut status);
    put_varint(u64::from(code), &mut status);
    put_text(2, cut(message), &mut status);
    put_bytes(3, &any, &mut status);
    status
}

fn cut(message: &str) -> &str {
    let end = message.floor_char_boundary(MAX_MESSAGE_BYTES);
    message.get(..end).unwrap_or_default()
}

/// Appends a string field unless it is empty, as proto3 leaves defaults out.
fn put_text(field: u32, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        put_bytes(field, text.as_bytes(), out);
    }
}
