//! OTLP over HTTP: `POST /v1/logs`, `/v1/traces`, `/v1/metrics`.
//!
//! In: a request. Out: 200 with the typed answer once the data is durable, or a `google.rpc.Status` in the request's own
//! type. Statuses follow what clients do with them: 400, 401, 403, 413, 415 make a client drop the batch, so they are
//! for what will never pass; whatever passes by itself is 503 with Retry-After, or 429 where the project has used up what it
//! may send, never 400 or 500.

use super::auth::{self, Denied, Ingest};
use super::body::{self, BodyError, Compression};
use super::cors;
use super::error::{RETRY_AFTER_SECONDS, chain};
use super::{App, Request, Response, response};
use crate::clock;
use crate::control::{Project, Quota};
use crate::otlp::{self as wire, Encoding, Signal};
use crate::pipeline::{ContentEncoding, Receipt, Submission, SubmitError};
use crate::quota::Over;
use crate::throttle::Throttle;
use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use gemba_conventions::IDEMPOTENCY_KEY;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::io::Write as _;
use std::time::Duration;

/// Longest idempotency key, in bytes of visible ASCII (see `gemba_conventions::IDEMPOTENCY_KEY`).
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 128;
/// Bytes of a problem's text that are told to the client; the specification wants answers below 4 MiB, a person less.
const MAX_MESSAGE_BYTES: usize = 2_000;

/// Why data was not taken, before it has a status of HTTP or of gRPC.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The key.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The body.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The pipeline.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The project's limit.
    #[error(transparent)]
    Over(#[from] Over),
    /// The page that sends it is not one of those the key is for.
    #[error("the key may not be used by pages of {0}")]
    Origin(String),
    /// The idempotency key is not one.
    #[error("the header Idempotency-Key takes 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible ASCII characters")]
    IdempotencyKey,
    /// Content type other than the two of OTLP.
    #[error("the content type is not one of OTLP: send application/x-protobuf or application/json")]
    ContentType,
}

impl Refusal {
    /// A word for the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Origin(_) => "origin",
            Self::Over(over) => over.limit.reason(),
            Self::Body(BodyError::TooLarge { .. }) => "too_large",
            Self::Body(BodyError::TooSlow) => "too_slow",
            Self::Body(BodyError::NoRoom) => "no_room",
            Self::Body(BodyError::BrokeOff(_)) => "broke_off",
            Self::Body(BodyError::UnknownEncoding(_)) | Self::ContentType => "unsupported",
            Self::Body(BodyError::Damaged(_)) | Self::Submit(SubmitError::Decode(_)) | Self::IdempotencyKey => {
                "bad_data"
            }
            Self::Submit(SubmitError::Busy { .. }) => "busy",
            Self::Submit(SubmitError::Closed) => "stopping",
        }
    }

    /// The status, and after how long to try again where that helps.
    fn status(&self) -> (StatusCode, Option<Duration>) {
        let soon = Some(Duration::from_secs(RETRY_AFTER_SECONDS));
        match self {
            Self::Denied(denied) => (denied.status(), None),
            Self::Origin(_) => (StatusCode::FORBIDDEN, None),
            Self::Over(over) => (StatusCode::TOO_MANY_REQUESTS, Some(over.retry_after)),
            Self::Body(BodyError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            Self::Body(BodyError::UnknownEncoding(_)) | Self::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
            // 408 would be the word for it, but clients drop the batch on it or send it again at once.
            Self::Body(BodyError::TooSlow | BodyError::NoRoom) | Self::Submit(SubmitError::Closed) => {
                (StatusCode::SERVICE_UNAVAILABLE, soon)
            }
            Self::Body(BodyError::BrokeOff(_) | BodyError::Damaged(_))
            | Self::Submit(SubmitError::Decode(_))
            | Self::IdempotencyKey => (StatusCode::BAD_REQUEST, None),
            Self::Submit(SubmitError::Busy { retry_after, .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, Some(*retry_after))
            }
        }
    }

    /// What the client is told: the problem and, where somebody must act, how.
    pub fn message(&self) -> String {
        let mut text = chain(self);
        if let Self::Denied(denied) = self {
            text.push_str("; ");
            text.push_str(denied.hint());
        }
        text.truncate(text.floor_char_boundary(MAX_MESSAGE_BYTES));
        text
    }
}

/// Answers a request on one of the three paths.
pub async fn handle(app: &App, signal: Signal, request: Request) -> Response {
    let allowed = cors::allowed_origin(app, &request);
    let encoding = encoding_of(request.headers(), request.uri().query());
    let accepts_gzip = accepts_gzip(request.headers());
    let mut answer = match *request.method() {
        Method::POST => post(app, signal, encoding, accepts_gzip, request).await,
        Method::OPTIONS => cors::preflight(request.headers()),
        _ => {
            let mut answer = status_response(
                StatusCode::METHOD_NOT_ALLOWED,
                encoding.unwrap_or(Encoding::Json),
                "send data with POST",
                accepts_gzip,
            );
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
            answer
        }
    };
    cors::allow(allowed, answer.headers_mut());
    answer
}

async fn post(app: &App, signal: Signal, encoding: Option<Encoding>, accepts_gzip: bool, request: Request) -> Response {
    // A sender of an unknown type gets JSON: a person is more likely to read it than a decoder.
    let typed = encoding.unwrap_or(Encoding::Json);
    match take(app, signal, encoding, request).await {
        Ok(receipt) => {
            typed_response(StatusCode::OK, typed, wire::response(signal, typed, &receipt.tally), accepts_gzip)
        }
        Err(refusal) => {
            app.counters.refused(refusal.reason());
            log_refusal(&refusal, signal);
            let (status, retry_after) = refusal.status();
            let mut answer = status_response(status, typed, &refusal.message(), accepts_gzip);
            let headers = answer.headers_mut();
            if let Some(retry_after) = retry_after {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(retry_after)));
            }
            if status == StatusCode::UNAUTHORIZED {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            answer
        }
    }
}

async fn take(app: &App, signal: Signal, encoding: Option<Encoding>, request: Request) -> Result<Receipt, Refusal> {
    let (parts, incoming) = request.into_parts();
    let in_flight = app.admit();
    let checked = (|| {
        if in_flight.is_none() {
            return Err(SubmitError::Closed.into());
        }
        let project = admitted(app, &parts.headers, parts.uri.query())?;
        let encoding = encoding.ok_or(Refusal::ContentType)?;
        let compression = Compression::parse(text_of(&parts.headers, &header::CONTENT_ENCODING))?;
        let key = idempotency_key(&parts.headers)?;
        Ok::<_, Refusal>((project, encoding, compression, key))
    })();
    let (project, encoding, compression, key) = match checked {
        Ok(checked) => checked,
        Err(refusal) => {
            // A sender that waits for "100 Continue" has sent nothing; reading would ask it to.
            if !parts.headers.contains_key(header::EXPECT) {
                body::discard(incoming);
            }
            return Err(refusal);
        }
    };
    let mut room = app.bodies.reserve();
    let raw = body::read(incoming, &app.limits, &mut room).await?;
    let (inflated, _room) = body::inflate(raw.clone(), compression, app.limits.max_body_bytes, room).await?;
    let quota = project.quota;
    let submission = Submission {
        project: project.id,
        retention_class: project.retention_class,
        signal,
        encoding,
        body: inflated,
        raw,
        content_encoding: content_encoding(compression),
        key,
    };
    submit(app, submission, quota).await
}

/// The project whose ingest key a request carries, where the key may be used and the project may send now.
pub(super) fn admitted(app: &App, headers: &HeaderMap, query: Option<&str>) -> Result<Project, Refusal> {
    let Ingest { project, origins } = auth::ingest(&app.control, headers, query)?;
    if let Some(origin) = headers.get(header::ORIGIN)
        && !origins.is_empty()
        && !origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
    {
        return Err(Refusal::Origin(String::from_utf8_lossy(origin.as_bytes()).into_owned()));
    }
    app.quotas.check(&project, clock::now_ms())?;
    Ok(project)
}

/// Hands a request to the pipeline, and counts what became of its records.
pub async fn submit(app: &App, submission: Submission, quota: Quota) -> Result<Receipt, Refusal> {
    let project = submission.project;
    // A body takes its time to arrive; the project may have been deleted meanwhile.
    if app.control.is_deleted(submission.project) {
        return Err(Denied::UnknownKey.into());
    }
    let receipt = app.pipeline.submit(submission).await?;
    if !receipt.deduplicated {
        app.quotas.charge(project, quota, receipt.tally.received, clock::now_ms());
        app.counters.tallied(&receipt.tally);
    }
    Ok(receipt)
}

/// How the log names a compression.
pub const fn content_encoding(compression: Compression) -> ContentEncoding {
    match compression {
        Compression::Identity => ContentEncoding::Identity,
        Compression::Gzip => ContentEncoding::Gzip,
        Compression::Zstd => ContentEncoding::Zstd,
    }
}

/// Refusals that lose data are worth a line; a full server and a leaving client are seen in the metrics.
pub fn log_refusal(refusal: &Refusal, signal: Signal) {
    static LINES: Throttle = Throttle::new();
    if let Some(left_out) = LINES.pass() {
        tracing::warn!(
            signal = signal.as_str(),
            reason = refusal.reason(),
            problem = refusal.message(),
            left_out,
            "data refused"
        );
    }
}

/// Protobuf or JSON by `Content-Type`, whatever its parameters and letter case; `None` for any other. Text is JSON where the key
/// is in the query string alone: `navigator.sendBeacon` can neither set a header nor, without a preflight, name another type
/// than `text/plain;charset=UTF-8`.
fn encoding_of(headers: &HeaderMap, query: Option<&str>) -> Option<Encoding> {
    let value = text_of(headers, &header::CONTENT_TYPE)?;
    if is_utf8_text(value) && auth::is_key_in_query(headers, query) {
        return Some(Encoding::Json);
    }
    let essence = value.split(';').next().unwrap_or_default().trim();
    [Encoding::Protobuf, Encoding::Json]
        .into_iter()
        .find(|encoding| essence.eq_ignore_ascii_case(content_type(*encoding)))
}

/// Whether a content type is `text/plain`, in UTF-8 or without a word about it.
fn is_utf8_text(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let is_utf8 = |parameter: &str| {
        parameter.is_empty()
            || parameter.split_once('=').is_some_and(|(name, value)| {
                !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
    };
    parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("text/plain")) && parts.all(is_utf8)
}

/// The content type of an encoding.
pub const fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    }
}

/// The idempotency key, if there is one.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let bytes = value.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_IDEMPOTENCY_KEY_BYTES || !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::IdempotencyKey);
    }
    Ok(value.to_str().ok().map(str::to_owned))
}

fn text_of<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Retry-After has whole seconds; rounding down to 0 would mean "at once".
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0).max(u64::from(wait.is_zero()))
}

fn status_response(status: StatusCode, encoding: Encoding, message: &str, accepts_gzip: bool) -> Response {
    typed_response(status, encoding, wire::error_status(encoding, message), accepts_gzip)
}

/// An answer in the request's type, compressed where the sender takes that and it is worth it.
fn typed_response(status: StatusCode, encoding: Encoding, body: Vec<u8>, accepts_gzip: bool) -> Response {
    let gzipped = accepts_gzip.then(|| {
        let mut gzip = GzEncoder::new(Vec::new(), Level::default());
        gzip.write_all(&body).and_then(|()| gzip.finish())
    });
    let gzipped = match gzipped {
        // The frame alone is 18 bytes, and most answers are empty.
        Some(Ok(gzipped)) if gzipped.len() < body.len() => gzipped,
        _ => return response(status, content_type(encoding), Bytes::from(body)),
    };
    let mut answer = response(status, content_type(encoding), Bytes::from(gzipped));
    answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    answer
}

/// Whether `Accept-Encoding` names gzip with another weight than 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let value = text_of(headers, &header::ACCEPT_ENCODING).unwrap_or_default();
    value.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn content_types_are_read_with_parameters_and_in_any_case() {
        for (text, expected) in [
            ("application/x-protobuf", Some(Encoding::Protobuf)),
            ("Application/X-Protobuf", Some(Encoding::Protobuf)),
            ("application/json; charset=utf-8", Some(Encoding::Json)),
            ("APPLICATION/JSON;charset=UTF-8", Some(Encoding::Json)),
            ("text/plain", None),
            ("application/jsonx", None),
        ] {
            assert!(encoding_of(&headers("content-type", text), None) == expected, "{text}");
        }
        assert!(encoding_of(&HeaderMap::new(), None).is_none());
    }

    #[test]
    fn a26_gzip_is_accepted_where_it_is_named_with_a_weight() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, GZip;q=0.5, br", true),
            ("gzip;q=0", false),
            ("gzip;q=x", false),
            ("br", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(&headers("accept-encoding", value)), expected, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn idempotency_keys_are_bounded_visible_ascii() {
        assert!(idempotency_key(&HeaderMap::new()).unwrap().is_none());
        assert_eq!(idempotency_key(&headers(IDEMPOTENCY_KEY, "a-1")).unwrap().as_deref(), Some("a-1"));
        for bad in ["", "a b", "ä", &"a".repeat(129)] {
            assert!(idempotency_key(&headers(IDEMPOTENCY_KEY, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn waiting_times_are_rounded_up_and_never_zero() {
        for (ms, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (30_000, 30)] {
            assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds, "{ms}");
        }
    }

    #[test]
    fn passing_faults_are_never_a_status_that_makes_clients_drop() {
        for refusal in [
            Refusal::Body(BodyError::NoRoom),
            Refusal::Body(BodyError::TooSlow),
            Refusal::Submit(SubmitError::Closed),
            Refusal::Submit(SubmitError::Busy { retry_after: Duration::from_secs(3), reason: "log full" }),
        ] {
            let (status, retry_after) = refusal.status();
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{refusal}");
            assert!(retry_after.is_some(), "{refusal}");
        }
    }
}
