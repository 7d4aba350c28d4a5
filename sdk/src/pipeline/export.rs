//! The sending thread: batches to the server, again and again where that can help.
//!
//! In: batches from the queue. Out: OTLP/HTTP requests (protobuf, zstd) with an idempotency key, and the fate of each
//! batch. It touches no async runtime and records nothing with this SDK.

use super::encode::{self, Attributes};
use super::queue::{Batch, Queue};
use crate::clock;
use crate::config::Problem;
use gemba_conventions::{DropReason, IDEMPOTENCY_KEY, attribute};
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::http::StatusCode;

/// First pause before a retry, doubled each time up to [`MAX_PAUSE`] (OTLP asks for exponential backoff with jitter).
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause of our own; a server may ask for longer with Retry-After, up to [`MAX_ASKED`].
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Longest pause a server can ask for.
const MAX_ASKED: Duration = Duration::from_mins(5);
/// Bytes of an answer that are read; an honest one is below 1 KiB.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;
/// zstd level: 1 is the fastest of the ordinary levels; telemetry repeats itself, so it already shrinks tenfold.
const ZSTD_LEVEL: i32 = 1;

/// What sends.
pub(crate) struct Exporter {
    pub(crate) queue: Arc<Queue>,
    pub(crate) endpoint: String,
    pub(crate) key: Option<String>,
    /// Sorted attributes of the resource, the instance id among them.
    pub(crate) resource: Vec<(String, String)>,
    pub(crate) instance: String,
    pub(crate) request_timeout: Duration,
}

/// What an attempt to send came to.
enum Answer {
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
    /// Sends until the queue is closed and empty, or its deadline passes.
    pub(crate) fn run(&self) {
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("gemba/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        while let Some(batch) = self.queue.next() {
            self.deliver(&agent, &batch);
        }
        self.queue.finish();
    }

    fn deliver(&self, agent: &Agent, batch: &Batch) {
        let mut pause = FIRST_PAUSE;
        let mut may_have_it = false;
        loop {
            let asked = match self.post(agent, batch) {
                Answer::Taken { rejected } => return self.queue.delivered(batch, rejected),
                Answer::Refused { status } => {
                    self.queue.tell(Problem::Refused { status, records: batch.records });
                    return self.queue.dropped(batch, DropReason::Refused);
                }
                Answer::Later { pause } => pause,
                Answer::Unknown => {
                    may_have_it = true;
                    None
                }
            };
            self.queue.tell(Problem::Unreachable);
            let wait = asked.map_or_else(|| jittered(pause), |asked| asked.min(MAX_ASKED));
            if !self.queue.pause(wait) {
                return if may_have_it {
                    self.queue.unconfirmed(batch);
                } else {
                    self.queue.dropped(batch, DropReason::Shutdown);
                };
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn post(&self, agent: &Agent, batch: &Batch) -> Answer {
        // The sent time is that of this very request, so that a retry does not look like a slow clock.
        let sent_ns = clock::wall_now_ns();
        let body = encode::request(|attributes| self.describe(attributes, sent_ns), &batch.items);
        let Ok(body) = zstd::bulk::compress(body.as_slice(), ZSTD_LEVEL) else {
            return Answer::Refused { status: 0 };
        };
        let timeout = self.queue.time_left().unwrap_or(self.request_timeout).min(self.request_timeout);
        let mut request = agent
            .post(format!("{}{}", self.endpoint, batch.signal.path()))
            .config()
            .timeout_global(Some(timeout.max(Duration::from_millis(1))))
            .build()
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "zstd")
            .header(IDEMPOTENCY_KEY, format!("{}-{}", self.instance, batch.number));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        match request.send(&body[..]) {
            Ok(mut response) => {
                let retry_after = response
                    .headers()
                    .get("retry-after")
                    .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok())
                    .map(Duration::from_secs);
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

    fn describe(&self, attributes: &mut Attributes<'_>, sent_ns: u64) {
        for (key, value) in &self.resource {
            attributes.text(key, value);
        }
        attributes.unsigned(attribute::SENT_TIME, sent_ns);
    }
}

/// A pause between half and one and a half of `pause`, so that many processes do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let share = crate::config::random_u64() % 1024;
    pause / 2 + pause * u32::try_from(share).unwrap_or(0) / 1024
}
