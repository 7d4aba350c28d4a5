//! Makes the requests of the load: what clients of an instrumented product would send, no two alike.
//!
//! In: a seed, shares. Out: bodies of OTLP log requests of [`EVENTS`] events. A request is a template whose times, users,
//! sessions, trace ids and values are written anew each time, in place and of equal length, so that making one costs the
//! generator little and yet neither values nor what compresses repeat: only the order of names within a template does.

use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use std::io::Write as _;

/// Events in a request.
pub(crate) const EVENTS: usize = 500;
/// Resources: 20 services of 3 instances each.
pub(crate) const RESOURCES: usize = 60;
/// Templates of a connection.
const TEMPLATES: u64 = 40;
/// Event names, used as often as one over their rank.
const NAMES: usize = 120;
/// People; the square of an even draw chooses, so that few are seen often.
const USERS: u64 = 300_000;
/// Sessions at work at a time, all connections together.
const SESSIONS: usize = 40_000;
/// Events of a session, on average.
const EVENTS_OF_SESSION: u64 = 20;
/// Events of a trace.
const EVENTS_OF_TRACE: usize = 4;
/// Bytes of a user id, `user-0012345`.
const USER_BYTES: usize = 12;
/// Bytes of a session id: 128 random bits in hexadecimal.
const SESSION_BYTES: usize = 32;

/// Random numbers (splitmix64): quick, and the same for the same seed.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Begins at a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `limit`, evenly.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        u64::try_from((u128::from(self.next()) * u128::from(limit)) >> 64).unwrap()
    }

    /// Less than `limit`, low numbers more often: the density falls as one over the root.
    fn skewed_below(&mut self, limit: u64) -> u64 {
        let even = self.below(1 << 24);
        (((even * even) >> 24) * limit) >> 24
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap()
    }
}

/// What is written anew in a template.
#[derive(Debug, Clone, Copy)]
enum Slot {
    /// When it happened, nanoseconds, rising within a request.
    Time,
    /// A user; the session behind it is theirs.
    User,
    /// The session.
    Session,
    /// Four digits of 9,000 numbers, skewed: a product, a document.
    Digits,
    /// One of twelve countries, skewed.
    Country,
    /// An amount up to 500 in cents, skewed.
    Amount,
    /// A count of 128 to 1,151, skewed.
    Count,
    /// A trace of four events.
    Trace,
    /// A span.
    Span,
    /// When it was handed over, nanoseconds.
    Observed,
}

impl Slot {
    /// The bytes that hold its place until the first writing; each is found nowhere else in a record.
    fn marker(self) -> &'static [u8] {
        match self {
            Self::Time => &[0xa1; 8],
            Self::User => b"uuuuuuuuuuuu",
            Self::Session => b"ssssssssssssssssssssssssssssssss",
            Self::Digits => b"####",
            Self::Country => b"??",
            Self::Amount => &[0xa5; 8],
            // 5,461 as a varint.
            Self::Count => &[0xd5, 0x2a],
            Self::Trace => &[0xa3; 16],
            Self::Span => &[0xa4; 8],
            Self::Observed => &[0xa2; 8],
        }
    }

    fn word(self) -> u64 {
        u64::from_le_bytes(self.marker().try_into().unwrap())
    }

    fn text(self) -> &'static str {
        std::str::from_utf8(self.marker()).unwrap()
    }
}

const COUNTRIES: [&[u8; 2]; 12] = [b"de", b"us", b"fr", b"gb", b"jp", b"br", b"in", b"it", b"es", b"nl", b"se", b"pl"];

/// One request with its places.
#[derive(Debug)]
struct Template {
    body: Vec<u8>,
    slots: Vec<(usize, Slot)>,
}

#[derive(Debug)]
struct Session {
    user: [u8; USER_BYTES],
    id: [u8; SESSION_BYTES],
}

/// The requests of one connection.
#[derive(Debug)]
pub(crate) struct Traffic {
    random: Random,
    templates: Vec<Template>,
    sessions: Vec<Session>,
    next: usize,
    gzip_percent: u64,
    packed: Vec<u8>,
}

/// A request's body.
#[derive(Debug)]
pub(crate) struct Made<'a> {
    /// As sent.
    pub(crate) bytes: &'a [u8],
    /// Whether it is compressed.
    pub(crate) is_gzip: bool,
}

impl Traffic {
    /// The requests of connection `connection` of `connections`, which share the resources and the sessions at work.
    pub(crate) fn new(
        seed: u128,
        connection: usize,
        connections: usize,
        gzip_percent: u64,
        traced_percent: u64,
    ) -> Self {
        let mut random = Random::new(u64::try_from(seed & u128::from(u64::MAX)).unwrap());
        let resources = (0..RESOURCES).filter(|resource| resource % connections == connection % RESOURCES);
        let resources: Vec<usize> = resources.chain([connection % RESOURCES]).collect();
        // Exactly the share asked for, spread evenly.
        let is_traced = |number: u64| number * traced_percent / 100 < (number + 1) * traced_percent / 100;
        let templates = (0..TEMPLATES).zip(resources.iter().cycle());
        let templates = templates.map(|(number, resource)| template(*resource, is_traced(number), &mut random));
        let templates = templates.collect();
        let sessions = (0..SESSIONS.div_ceil(connections)).map(|_| session(&mut random)).collect();
        Self { random, templates, sessions, next: 0, gzip_percent, packed: Vec::new() }
    }

    /// The next request, with events of the last second before `now_ns`.
    pub(crate) fn make(&mut self, now_ns: u64) -> Made<'_> {
        let Self { random, templates, sessions, next, gzip_percent, packed } = self;
        *next = (*next + 1) % templates.len();
        let template = &mut templates[*next];
        fill(template, sessions, random, now_ns);
        let is_gzip = random.below(100) < *gzip_percent;
        if is_gzip {
            packed.clear();
            let mut encoder = GzEncoder::new(std::mem::take(packed), Compression::fast());
            encoder.write_all(&template.body).unwrap();
            *packed = encoder.finish().unwrap();
        }
        Made { bytes: if is_gzip { packed } else { &template.body }, is_gzip }
    }

    /// Bytes of an event before compression, on average over the templates.
    pub(crate) fn bytes_per_event(&self) -> f64 {
        let bytes: usize = self.templates.iter().map(|template| template.body.len()).sum();
        bytes as f64 / (self.templates.len() * EVENTS) as f64
    }
}

fn session(random: &mut Random) -> Session {
    let mut id = [0; SESSION_BYTES];
    for byte in &mut id {
        *byte = b"0123456789abcdef"[random.index(16)];
    }
    let mut user = *b"user-0000000";
    put_digits(random.skewed_below(USERS), &mut user[5..]);
    Session { user, id }
}

fn put_digits(mut number: u64, out: &mut [u8]) {
    for byte in out.iter_mut().rev() {
        *byte = b'0' + u8::try_from(number % 10).unwrap();
        number /= 10;
    }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// The rank of a name, low ones more often: chances fall as one over the rank.
fn rank(random: &mut Random) -> usize {
    let total: f64 = (1..=NAMES).map(|rank| 1.0 / rank as f64).sum();
    let mut left = random.below(1 << 24) as f64 / f64::from(1 << 24) * total;
    (1..NAMES)
        .find(|rank| {
            left -= 1.0 / *rank as f64;
            left < 0.0
        })
        .unwrap_or(NAMES)
}

/// One event with markers, and its slots in the order they are encoded. Six attributes: who, in which session, and four
/// that belong to the kind of event.
fn record(is_traced: bool, slots: &mut Vec<Slot>, random: &mut Random) -> LogRecord {
    let rank = rank(random);
    let area = ["cart", "search", "review", "invoice", "report", "profile"][rank % 6];
    let action = ["opened", "changed", "submitted", "closed"][rank / 6 % 4];
    let amount = || Value::DoubleValue(f64::from_bits(Slot::Amount.word()));
    let (mut attributes, own) = (
        vec![text("user.id", Slot::User.text()), text("session.id", Slot::Session.text())],
        match rank % 3 {
            0 => [
                (text("product", format!("product-{}", Slot::Digits.text())), Some(Slot::Digits)),
                (text("country", Slot::Country.text()), Some(Slot::Country)),
                (attribute("amount", amount()), Some(Slot::Amount)),
                (attribute("items", Value::IntValue(5_461)), Some(Slot::Count)),
            ],
            1 => [
                (text("screen.name", format!("{area} page {}", rank % 12)), None),
                (text("document", format!("doc-{}", Slot::Digits.text())), Some(Slot::Digits)),
                (attribute("elapsed_ms", Value::IntValue(5_461)), Some(Slot::Count)),
                (attribute("is_repeated", Value::BoolValue(rank.is_multiple_of(5))), None),
            ],
            _ => [
                (text("app.variant", ["control", "short form", "long form"][rank % 7 % 3]), None),
                (text("country", Slot::Country.text()), Some(Slot::Country)),
                (text("query", format!("shoes size {}", Slot::Digits.text())), Some(Slot::Digits)),
                (attribute("score", amount()), Some(Slot::Amount)),
            ],
        },
    );
    slots.extend([Slot::Time, Slot::User, Slot::Session]);
    for (attribute, slot) in own {
        attributes.push(attribute);
        slots.extend(slot);
    }
    let (mut trace_id, mut span_id) = (Vec::new(), Vec::new());
    if is_traced {
        (trace_id, span_id) = (Slot::Trace.marker().to_vec(), Slot::Span.marker().to_vec());
        slots.extend([Slot::Trace, Slot::Span]);
    }
    slots.push(Slot::Observed);
    LogRecord {
        time_unix_nano: Slot::Time.word(),
        observed_time_unix_nano: Slot::Observed.word(),
        severity_number: 9,
        event_name: format!("{area}.{action}.v{}", rank / 24),
        attributes,
        trace_id,
        span_id,
        ..LogRecord::default()
    }
}

fn template(resource: usize, is_traced: bool, random: &mut Random) -> Template {
    let (service, instance) = (resource / 3, resource % 3);
    let attributes = vec![
        text("service.name", format!("service-{service}")),
        text("service.version", format!("1.{}.{}", service % 7, resource % 2)),
        text("service.instance.id", format!("627cc493-f310-47de-96bd-71410b7d{resource:04x}")),
        text("deployment.environment.name", "production"),
        text("host.name", format!("host-{instance}.internal")),
        text("telemetry.sdk.language", "rust"),
    ];
    let mut expected = Vec::new();
    let log_records = (0..EVENTS).map(|_| record(is_traced, &mut expected, random)).collect();
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_logs: vec![ScopeLogs {
                scope: Some(InstrumentationScope { name: "app".to_owned(), ..InstrumentationScope::default() }),
                log_records,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    };
    let body = request.encode_to_vec();
    let mut from = 0;
    let places = expected.into_iter().map(|slot| {
        let marker = slot.marker();
        let at = from + body[from..].windows(marker.len()).position(|bytes| bytes == marker).unwrap();
        from = at + marker.len();
        (at, slot)
    });
    Template { slots: places.collect(), body }
}

fn fill(template: &mut Template, sessions: &mut [Session], random: &mut Random, now_ns: u64) {
    let Template { body, slots } = template;
    let mut put = |at: usize, bytes: &[u8]| body[at..at + bytes.len()].copy_from_slice(bytes);
    // As a client gathers them: rising times up to the moment of sending.
    let mut time = now_ns - 1_000_000_000;
    let mut trace = [0; 16];
    let mut spans = 0;
    let mut person = 0;
    for &(at, slot) in slots.iter() {
        match slot {
            Slot::Time => {
                time = (time + random.below(2 * 1_000_000_000 / EVENTS as u64)).min(now_ns);
                put(at, &time.to_le_bytes());
            }
            Slot::User => {
                person = random.index(sessions.len());
                if random.below(EVENTS_OF_SESSION) == 0 {
                    sessions[person] = session(random);
                }
                put(at, &sessions[person].user);
            }
            Slot::Session => put(at, &sessions[person].id),
            Slot::Digits => {
                let mut digits = [0; 4];
                put_digits(random.skewed_below(9_000), &mut digits);
                put(at, &digits);
            }
            Slot::Country => {
                let country = usize::try_from(random.skewed_below(COUNTRIES.len() as u64)).unwrap();
                put(at, COUNTRIES[country]);
            }
            Slot::Amount => put(at, &(random.skewed_below(50_000) as f64 / 100.0).to_le_bytes()),
            Slot::Count => {
                let count = random.skewed_below(1_024) + 128;
                // A varint of two bytes.
                put(at, &[u8::try_from(count & 0x7f).unwrap() | 0x80, u8::try_from(count >> 7).unwrap()]);
            }
            Slot::Trace => {
                if spans % EVENTS_OF_TRACE == 0 {
                    trace[..8].copy_from_slice(&random.next().to_le_bytes());
                    trace[8..].copy_from_slice(&random.next().to_le_bytes());
                }
                spans += 1;
                put(at, &trace);
            }
            Slot::Span => put(at, &random.next().to_le_bytes()),
            Slot::Observed => put(at, &now_ns.to_le_bytes()),
        }
    }
}
