//! OTLP over gRPC: the unary call `Export` of the three collector services.
//!
//! In: an HTTP/2 request whose content type begins with `application/grpc`, on any listener. Out: the answer message
//! and the trailers. gRPC here is one message in, one message out, so the framing is a flag, a length and the message;
//! that is less code than a generated service would need around it, and it shares every limit with OTLP/HTTP.
//!
//! Which code means what to a client (OTLP specification, table of retryable codes): UNAVAILABLE is sent again,
//! RESOURCE_EXHAUSTED without RetryInfo and INVALID_ARGUMENT are not. Some clients drop the batch on UNAVAILABLE all
//! the same, so a full server first makes a gRPC caller wait.

use super::auth::Denied;
use super::body::{self, BodyError, Compression};
use super::otlp::{Refusal, admitted, content_encoding, idempotency_key, log_refusal, submit};
use super::{App, Body, Request, Response, full};
use crate::control::Project;
use crate::otlp::{self as wire, Encoding, Signal};
use crate::pipeline::{Receipt, Submission, SubmitError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body_util::BodyExt as _;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::Instant;

/// Flag and length before a message (gRPC over HTTP/2, "Length-Prefixed-Message").
const FRAME_HEADER_BYTES: usize = 5;
/// How long a call waits in all for a full server to have room. Chosen: half of the 10 s that exporters allow a call.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Pause before a message is inflated again for which there was no room. Chosen: most bodies are in work no longer.
const ROOM_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause between two tries while waiting.
const MAX_PAUSE: Duration = Duration::from_secs(1);

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Codes of gRPC (`google.rpc.Code`) that this server answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Code {
    InvalidArgument = 3,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Whether a request is a gRPC call.
pub fn is_grpc(request: &Request) -> bool {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let rest = value.get("application/grpc".len()..).unwrap_or("-");
    value.to_ascii_lowercase().starts_with("application/grpc") && (rest.is_empty() || rest.starts_with(['+', ';', ' ']))
}

/// Answers a call.
pub async fn handle(app: &App, request: Request) -> Response {
    let Some(signal) = signal_of(request.uri().path()).filter(|_| request.method() == Method::POST) else {
        let message = format!("no method {} here", request.uri().path());
        return failure(Code::Unimplemented, &message);
    };
    match take(app, signal, request).await {
        Ok(receipt) => success(&wire::response(signal, Encoding::Protobuf, &receipt.tally)),
        Err(refusal) => {
            app.counters.refused(refusal.reason());
            log_refusal(&refusal, signal);
            let code = code_of(&refusal);
            let mut answer = failure(code, &refusal.message());
            if let Refusal::Over(over) = &refusal {
                let status = wire::retry_status(code as u8, &refusal.message(), over.retry_after);
                // Binary metadata travels as base64 without padding (gRPC over HTTP/2, "Custom-Metadata").
                if let Ok(details) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(status)) {
                    answer.headers_mut().insert(GRPC_STATUS_DETAILS, details);
                }
            }
            if matches!(refusal, Refusal::Body(BodyError::UnknownEncoding(_))) {
                answer.headers_mut().insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("identity,gzip,zstd"));
            }
            answer
        }
    }
}

fn code_of(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::Denied(Denied::NoKey | Denied::UnknownKey) => Code::Unauthenticated,
        Refusal::Denied(Denied::WrongRole { .. }) | Refusal::Origin(_) => Code::PermissionDenied,
        // A limit passes and goes with RetryInfo; a message that is too large goes without, since it will never fit.
        Refusal::Over(_) | Refusal::Body(BodyError::TooLarge { .. }) => Code::ResourceExhausted,
        Refusal::Body(BodyError::UnknownEncoding(_)) | Refusal::ContentType => Code::Unimplemented,
        Refusal::Body(BodyError::TooSlow | BodyError::NoRoom)
        | Refusal::Submit(SubmitError::Busy { .. } | SubmitError::Closed) => Code::Unavailable,
        Refusal::Body(BodyError::BrokeOff(_) | BodyError::Damaged(_))
        | Refusal::Submit(SubmitError::Decode(_))
        | Refusal::IdempotencyKey => Code::InvalidArgument,
    }
}

fn signal_of(path: &str) -> Option<Signal> {
    match path {
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        _ => None,
    }
}

async fn take(app: &App, signal: Signal, request: Request) -> Result<Receipt, Refusal> {
    let _in_flight = app.admit().ok_or(SubmitError::Closed)?;
    let (parts, incoming) = request.into_parts();
    let project = admitted(app, &parts.headers, parts.uri.query())?;
    let key = idempotency_key(&parts.headers)?;
    let encoding = Compression::parse(parts.headers.get(GRPC_ENCODING).and_then(|value| value.to_str().ok()))?;
    let deadline = Instant::now() + MAX_WAIT;
    let mut room = app.bodies.reserve_until(deadline);
    let mut framed = body::read_announced(incoming, &app.limits, &mut room, announced).await?;
    let is_compressed = frame_flag(&framed)?;
    let raw = framed.split_off(FRAME_HEADER_BYTES);
    let compression = if is_compressed { encoding } else { Compression::Identity };
    let (inflated, _room) = loop {
        match body::inflate(raw.clone(), compression, app.limits.max_body_bytes, room).await {
            // What was held is given back, so that another body can be finished meanwhile.
            Err(BodyError::NoRoom) if Instant::now() < deadline => tokio::time::sleep(ROOM_PAUSE).await,
            inflated => break inflated?,
        }
        room = app.bodies.reserve_until(deadline);
    };
    submit_patiently(app, signal, &project, key, compression, (raw, inflated)).await
}

/// Bytes of a call of one message, as its first piece tells.
fn announced(first: &[u8]) -> usize {
    let Some((&[_, a, b, c, d], _)) = first.split_first_chunk::<FRAME_HEADER_BYTES>() else { return 0 };
    usize::try_from(u32::from_be_bytes([a, b, c, d]))
        .map_or(usize::MAX, |length| length.saturating_add(FRAME_HEADER_BYTES))
}

/// Whether the one message in `framed` is compressed.
fn frame_flag(framed: &[u8]) -> Result<bool, Refusal> {
    let damaged = |what| Refusal::Body(BodyError::Damaged(std::io::Error::new(std::io::ErrorKind::InvalidData, what)));
    let Some((&[flag, a, b, c, d], message)) = framed.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Err(damaged("a call of one message begins with five bytes of flag and length"));
    };
    if usize::try_from(u32::from_be_bytes([a, b, c, d])).ok() != Some(message.len()) {
        return Err(damaged("the length before the message is not the message's"));
    }
    match flag {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(damaged("the flag before the message is neither 0 nor 1")),
    }
}

async fn submit_patiently(
    app: &App,
    signal: Signal,
    project: &Project,
    key: Option<String>,
    compression: Compression,
    (raw, body): (Bytes, Bytes),
) -> Result<Receipt, Refusal> {
    let deadline = Instant::now() + MAX_WAIT;
    loop {
        let submission = Submission {
            project: project.id,
            retention_class: project.retention_class,
            signal,
            encoding: Encoding::Protobuf,
            body: body.clone(),
            raw: raw.clone(),
            content_encoding: content_encoding(compression),
            key: key.clone(),
        };
        match submit(app, submission, project.quota).await {
            Err(Refusal::Submit(SubmitError::Busy { retry_after, .. }))
                if Instant::now() + retry_after.min(MAX_PAUSE) < deadline =>
            {
                tokio::time::sleep(retry_after.min(MAX_PAUSE)).await;
            }
            outcome => return outcome,
        }
    }
}

/// One message and the trailers of success.
fn success(message: &[u8]) -> Response {
    let mut framed = BytesMut::with_capacity(FRAME_HEADER_BYTES + message.len());
    framed.put_u8(0);
    // Answers are bounded far below 4 GiB by how much text they carry.
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let body = full(framed.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    answer(body.boxed_unsync())
}

/// An answer without a message: headers that are the trailers at once ("Trailers-Only").
fn failure(code: Code, message: &str) -> Response {
    let mut answer = answer(full(Bytes::new()));
    let headers = answer.headers_mut();
    headers.insert(GRPC_STATUS, HeaderValue::from(code as u16));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    answer
}

fn answer(body: Body) -> Response {
    let mut answer = http::Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}

/// As gRPC wants a message: visible ASCII and spaces but `%` as they are, all other bytes as `%XX`.
fn percent_encoded(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(text, "%{byte:02X}").unwrap_or_default();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_flag_a_length_and_exactly_one_message() {
        assert!(!frame_flag(&[0, 0, 0, 0, 0]).unwrap());
        assert!(frame_flag(&[1, 0, 0, 0, 2, 7, 7]).unwrap());
        for bad in [&[][..], &[0, 0, 0, 0], &[0, 0, 0, 0, 1], &[0, 0, 0, 0, 0, 9], &[2, 0, 0, 0, 0]] {
            assert!(frame_flag(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn messages_travel_as_visible_ascii() {
        assert_eq!(percent_encoded("50 % of \u{e4}\n"), "50 %25 of %C3%A4%0A");
    }

    #[test]
    fn only_passing_faults_get_the_code_that_clients_send_again() {
        let busy = SubmitError::Busy { retry_after: Duration::from_secs(1), reason: "log full" };
        let table = [
            (Refusal::Submit(busy), Code::Unavailable),
            (Refusal::Submit(SubmitError::Closed), Code::Unavailable),
            (Refusal::Body(BodyError::NoRoom), Code::Unavailable),
            (Refusal::Body(BodyError::TooLarge { limit: 1, inflated: true }), Code::ResourceExhausted),
            (Refusal::Denied(Denied::NoKey), Code::Unauthenticated),
            (Refusal::IdempotencyKey, Code::InvalidArgument),
        ];
        for (refusal, code) in table {
            assert_eq!(code_of(&refusal), code, "{refusal}");
        }
    }
}
