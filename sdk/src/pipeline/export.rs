//! One request to the server.
//!
//! In: a batch. Out: an OTLP/HTTP request (protobuf, zstd or gzip) with an idempotency key, and what its answer means for
//! the batch. It does not try again, touches no async runtime and records nothing with this SDK.

use super::encode::{self, Attributes};
use super::queue::Signal;
use crate::clock;
use crate::config::Compression;
use gemba_conventions::{IDEMPOTENCY_KEY, attribute};
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};
use ureq::Agent;
use ureq::http::StatusCode;

/// Bytes of an answer that are read; an honest one is below 1 KiB.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;
/// zstd level: 1 is the fastest of the ordinary levels; telemetry repeats itself, so it already shrinks tenfold.
const ZSTD_LEVEL: i32 = 1;

/// The way to the server.
pub(crate) struct Exporter {
    agent: Agent,
    endpoint: String,
    key: Option<String>,
    request_timeout: Duration,
    packer: Packer,
    /// The request before and after compression; kept, because fresh pages cost more than the bytes in them.
    plain: Vec<u8>,
    packed: Vec<u8>,
}

/// A batch on its way, of this process or of an earlier one.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) signal: Signal,
    pub(crate) items: &'a [u8],
    /// Attributes of the process that recorded it, its instance id among them.
    pub(crate) resource: &'a [(String, String)],
    pub(crate) instance: &'a str,
    pub(crate) number: u64,
}

/// What an attempt to send came to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Taken, except so many records.
    Taken { rejected: u64 },
    /// Refused for good.
    Refused { status: u16 },
    /// Try again, not before the pause if the server named one.
    Later { pause: Option<Duration> },
    /// Nothing came back: the server may have it.
    Unknown,
}

impl Exporter {
    pub(crate) fn new(
        agent: Agent,
        endpoint: String,
        key: Option<String>,
        request_timeout: Duration,
        compression: Compression,
    ) -> io::Result<Self> {
        let packer = match compression {
            Compression::Zstd => Packer::Zstd(Box::new(zstd::bulk::Compressor::new(ZSTD_LEVEL)?)),
            Compression::Gzip => Packer::Gzip,
        };
        Ok(Self { agent, endpoint, key, request_timeout, packer, plain: Vec::new(), packed: Vec::new() })
    }

    /// One request; blocks for at most the request timeout, or `time_left` if that is shorter.
    pub(crate) fn post(&mut self, batch: &Outgoing<'_>, time_left: Option<Duration>) -> Answer {
        // The sent time is that of this very request, so that a retry does not look like a slow clock.
        let sent_ns = clock::wall_now_ns();
        let describe = |attributes: &mut Attributes<'_>| {
            for (key, value) in batch.resource {
                attributes.text(key, value);
            }
            attributes.unsigned(attribute::SENT_TIME, sent_ns);
        };
        encode::request(&mut self.plain, describe, batch.items);
        if self.packer.pack(&self.plain, &mut self.packed).is_err() {
            return Answer::Refused { status: 0 };
        }
        let timeout = time_left.unwrap_or(self.request_timeout).min(self.request_timeout);
        let mut request = self
            .agent
            .post(format!("{}{}", self.endpoint, batch.signal.path()))
            .config()
            .timeout_global(Some(timeout.max(Duration::from_millis(1))))
            .build()
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", self.packer.encoding())
            .header(IDEMPOTENCY_KEY, format!("{}-{}", batch.instance, batch.number));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        match request.send(&self.packed[..]) {
            Ok(mut response) => {
                let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
                let retry_after = retry_after(header("retry-after"), header("date"), SystemTime::now());
                match response.status() {
                    status if status.is_success() => {
                        let answer = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
                        // The status alone is the promise; a body cut short only hides a partial success.
                        Answer::Taken { rejected: answer.map_or(0, |body| encode::rejected_records(&body)) }
                    }
                    // OTLP/HTTP, "Retryable response codes".
                    StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT => Answer::Later { pause: retry_after },
                    status => Answer::Refused { status: status.as_u16() },
                }
            }
            // Nothing was sent: there was nobody to send it to.
            Err(ureq::Error::ConnectionFailed | ureq::Error::HostNotFound) => Answer::Later { pause: None },
            Err(ureq::Error::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Answer::Later { pause: None }
            }
            Err(_) => Answer::Unknown,
        }
    }
}

/// Makes a request smaller.
enum Packer {
    Zstd(Box<zstd::bulk::Compressor<'static>>),
    Gzip,
}

impl Packer {
    /// The name of the encoding (RFC 9110, section 8.4.1; RFC 8878 for zstd).
    fn encoding(&self) -> &'static str {
        match self {
            Self::Zstd(_) => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Puts `plain` into `packed`, whatever was in there.
    fn pack(&mut self, plain: &[u8], packed: &mut Vec<u8>) -> io::Result<()> {
        packed.clear();
        match self {
            Self::Zstd(compressor) => {
                packed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
                compressor.compress_to_buffer(plain, packed)?;
            }
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
                encoder.write_all(plain)?;
                encoder.finish()?;
            }
        }
        Ok(())
    }
}

/// How long a server asks to be left alone (RFC 9110, section 10.2.3): seconds, or a date, which is compared with the server's
/// own clock where it says what that shows. A date that is past asks for nothing.
fn retry_after(value: Option<&str>, date: Option<&str>, now: SystemTime) -> Option<Duration> {
    let value = value?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = date.and_then(|date| httpdate::parse_http_date(date.trim()).ok()).unwrap_or(now);
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let asked = |value, date| retry_after(Some(value), date, now).map(|pause| pause.as_secs());
        assert_eq!(asked("120", None), Some(120));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:42 GMT", None), Some(5), "RFC 9110's example, five seconds on");
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:32 GMT", None), Some(0), "past");
        let slow = Some("Sun, 06 Nov 1994 08:49:00 GMT");
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:42 GMT", slow), Some(42), "by the server's own clock");
        assert_eq!(asked("soon", None), None);
        assert_eq!(asked("-1", None), None);
        assert_eq!(retry_after(None, slow, now), None);
    }

    proptest::proptest! {
        #[test]
        fn hostile_pauses_are_read_or_refused(value in "\\PC{0,40}", digits in "[0-9]{0,30}", date in "\\PC{0,40}") {
            let now = SystemTime::now();
            for value in [&value, &digits] {
                for date in [None, Some(date.as_str()), Some(value.as_str())] {
                    let asked = retry_after(Some(value), date, now);
                    proptest::prop_assert!(asked.is_none() || value.bytes().any(|byte| byte.is_ascii_digit()), "{}", value);
                }
            }
        }
    }
}
