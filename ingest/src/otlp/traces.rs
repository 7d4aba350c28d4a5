//! Spans into rows: database queries with text become samples, requests served become requests, all others are ignored. Evaluations
//! of feature flags among their events are records of their own.

mod flags;

use super::fields::Fields;
use super::keys::{Key, KeySet, Known};
use super::resource::{Resource, Scope};
use super::sink::{Fault, Sink, code, funnel_step, parse_fingerprint, span_id, trace_id, usable};
use super::value::{Value, key_value, utf8};
use super::wire::{Field, Malformed, Message};
use crate::outcome::Reason;
use crate::rows::{Once, QuerySampleRow, QueryTextRow, RequestRow, day_of_ms};
use gemba::query::{Dialect, FINGERPRINT_VERSION};
use gemba_conventions::attribute;
use std::borrow::Cow;

/// What failed without saying how (semantic conventions, `error.type`).
const ERROR_OTHER: &str = "_OTHER";
/// Share of spans that the 56-bit thresholds of `tracestate` are parts of (OpenTelemetry, TraceState: Probability
/// Sampling).
const THRESHOLD_BITS: u32 = 56;

const SPAN_KEYS: KeySet = KeySet::of(&[
    Key::UserId,
    Key::EnduserId,
    Key::EnduserPseudoId,
    Key::SessionId,
    Key::AnonymousId,
    Key::Tenant,
    Key::Feature,
    Key::Attempt,
    Key::Funnel,
    Key::Step,
    Key::ErrorType,
    Key::Fingerprint,
    Key::QuerySample,
    Key::CodeFile,
    Key::CodeFileOld,
    Key::CodeLine,
    Key::CodeLineOld,
    Key::CodeFunction,
    Key::DbSystem,
    Key::DbSystemOld,
    Key::DbQueryText,
    Key::DbStatementOld,
    Key::DbQuerySummary,
    Key::DbNamespace,
    Key::DbNameOld,
    Key::DbReturnedRows,
    Key::DbStatusCode,
    Key::HttpRoute,
    Key::HttpMethod,
    Key::HttpMethodOld,
    Key::HttpStatus,
    Key::HttpStatusOld,
    Key::UrlPath,
    Key::HttpTargetOld,
]);

/// Kinds of spans (opentelemetry/proto/trace/v1/trace.proto).
const UNSPECIFIED: u64 = 0;
const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
/// Status code of a failed span.
const STATUS_ERROR: u64 = 2;

/// One span, read but not understood yet.
#[derive(Debug, Default)]
struct Span<'a> {
    trace_id: &'a [u8],
    id: &'a [u8],
    parent_id: &'a [u8],
    trace_state: &'a [u8],
    kind: u64,
    start: u64,
    end: u64,
    status: u64,
    pairs: Vec<&'a [u8]>,
    events: Vec<&'a [u8]>,
    fields: Fields<'a>,
}

impl<'a> Span<'a> {
    fn read(&mut self, bytes: &'a [u8], scope: &Scope<'a>) -> Result<(), Malformed> {
        let Self { mut pairs, mut events, mut fields, .. } = std::mem::take(self);
        pairs.clear();
        events.clear();
        fields.clear();
        *self = Self { pairs, events, fields, ..Self::default() };
        self.pairs.extend_from_slice(&scope.pairs);
        for field in Message::new(bytes) {
            match field? {
                (1, Field::Bytes(id)) => self.trace_id = id,
                (2, Field::Bytes(id)) => self.id = id,
                (3, Field::Bytes(state)) => self.trace_state = state,
                (4, Field::Bytes(id)) => self.parent_id = id,
                (6, Field::Varint(kind)) => self.kind = kind,
                (7, Field::Fixed64(time)) => self.start = time,
                (8, Field::Fixed64(time)) => self.end = time,
                (9, Field::Bytes(pair)) => self.pairs.push(pair),
                (11, Field::Bytes(event)) => self.events.push(event),
                (15, Field::Bytes(status)) => {
                    for field in Message::new(status) {
                        if let (3, Field::Varint(code)) = field? {
                            self.status = code;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Nanoseconds from start to end; 0 where the clock was set back in between.
    fn duration_ns(&self) -> u64 {
        if self.start == 0 { 0 } else { self.end.saturating_sub(self.start) }
    }

    /// `exception.type` of the last exception recorded on the span.
    fn exception_type(&self) -> Result<&'a str, Fault> {
        for event in self.events.iter().rev() {
            let (mut name, mut kind): (&[u8], _) = (&[], "");
            for field in Message::new(event) {
                match field? {
                    (2, Field::Bytes(text)) => name = text,
                    (3, Field::Bytes(pair)) => {
                        if let (attribute::EXCEPTION_TYPE, Value::Text(text)) = key_value(pair)? {
                            kind = text;
                        }
                    }
                    _ => {}
                }
            }
            if name == b"exception" && !kind.is_empty() {
                return Ok(kind);
            }
        }
        Ok("")
    }

    /// How many spans this one stands for: 1 / probability where the sampler says so in `tracestate`, else 1.
    fn weight(&self) -> Result<f32, Fault> {
        Ok(sampling_threshold(utf8(self.trace_state)?).map_or(1.0, |threshold| {
            let whole = 1_u64 << THRESHOLD_BITS;
            // A weight needs no more digits than a float has.
            #[expect(clippy::cast_possible_truncation, reason = "between 1 and 2^56, in range of f32")]
            let weight = (whole as f64 / (whole - threshold) as f64) as f32;
            weight
        }))
    }
}

/// The rejection threshold `ot=th:HEX` of a `tracestate`, in 2^-56; trailing zeros of HEX are left out on the wire.
fn sampling_threshold(trace_state: &str) -> Option<u64> {
    let member = trace_state.split(',').find_map(|member| member.trim().strip_prefix("ot="))?;
    let digits = member.split(';').find_map(|pair| pair.trim().strip_prefix("th:"))?;
    if digits.len() > 14 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(&format!("{digits:0<14}"), 16).ok()
}

/// Reads an `ExportTraceServiceRequest`.
pub(super) fn read<'r>(body: &'r [u8], sink: &mut Sink<'r>) -> Result<(), Malformed> {
    let mut span = Span::default();
    for field in Message::new(body) {
        let (1, Field::Bytes(container)) = field? else { continue };
        let (resource, refused) = usable(Resource::read(container, sink))?;
        sink.around.enter_resource(container);
        for field in Message::new(container) {
            let (2, Field::Bytes(container)) = field? else { continue };
            let (scope, scope_refused) = usable(Scope::read(container))?;
            let refused = refused.as_ref().or(scope_refused.as_ref());
            sink.around.enter_scope(container);
            for field in Message::new(container) {
                let (2, Field::Bytes(bytes)) = field? else { continue };
                span.read(bytes, &scope)?;
                sink.take_of(refused, bytes, |sink| one(&mut span, &resource, &scope, sink))?;
                if sink.origin.reads_span_events {
                    flags::read(&span, &resource, &scope, refused, sink)?;
                }
            }
        }
    }
    Ok(())
}

fn one(span: &mut Span<'_>, resource: &Resource<'_>, scope: &Scope<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    // Most spans of an instrumented application are of no kind kept, so the kind is looked at first.
    if !matches!(span.kind, UNSPECIFIED | INTERNAL | SERVER | CLIENT) {
        return Err(Fault::ignored(Reason::SpanNotKept));
    }
    span.fields.read(&span.pairs, SPAN_KEYS, false)?;
    let known = &span.fields.known;
    if span.kind == SERVER {
        let is_request =
            [Key::HttpRoute, Key::UrlPath, Key::HttpTargetOld].into_iter().any(|key| !known.text(key).is_empty());
        return if is_request { request(span, resource, sink) } else { Err(Fault::ignored(Reason::SpanNotKept)) };
    }
    let text = known.first_text(&[Key::DbQueryText, Key::DbStatementOld]);
    let system = system(known);
    let is_ours = known.get(Key::Fingerprint) != Value::Empty;
    if is_ours || !(system.is_empty() || text.is_empty()) {
        query(span, system, text, (resource, scope), sink)
    } else {
        Err(Fault::ignored(Reason::SpanNotKept))
    }
}

/// The database system under its stable name.
pub(super) fn system<'a>(known: &Known<'a>) -> &'a str {
    match known.first_text(&[Key::DbSystem, Key::DbSystemOld]) {
        "mssql" => "microsoft.sql_server",
        "oracle" => "oracle.db",
        "dynamodb" => "aws.dynamodb",
        system => system,
    }
}

fn query(
    span: &Span<'_>,
    system: &str,
    text: &str,
    (resource, scope): (&Resource<'_>, &Scope<'_>),
    sink: &mut Sink<'_>,
) -> Result<(), Fault> {
    let known = &span.fields.known;
    let when = sink.when(&[span.start, span.end])?;
    let weight = span.weight()?;
    let error_type = known.first_text(&[Key::ErrorType]);
    let failed = span.status == STATUS_ERROR || !error_type.is_empty();
    let error_type: Cow<'_, str> = match (failed, error_type) {
        (false, _) => Cow::Borrowed(""),
        (true, "") => match (known.word(Key::DbStatusCode), span.exception_type()?) {
            (status, _) if !status.is_empty() => status,
            (_, "") => Cow::Borrowed(ERROR_OTHER),
            (_, exception) => Cow::Borrowed(exception),
        },
        (true, error_type) => Cow::Borrowed(error_type),
    };
    let (source, fingerprint) = match known.get(Key::Fingerprint) {
        Value::Empty => (2, foreign_fingerprint(system, text, when.ms(), resource, sink)),
        Value::Text(hex) => (
            1,
            parse_fingerprint(hex)
                .ok_or_else(|| Fault::invalid(attribute::QUERY_FINGERPRINT, "16 hexadecimal digits, or `other`"))?,
        ),
        _ => return Err(Fault::invalid(attribute::QUERY_FINGERPRINT, "a string")),
    };
    let identity = sink.identity(known, resource);
    let tenant = known.get(Key::Tenant).word().unwrap_or_else(|| resource.known.word(Key::Tenant));
    let rows = known.get(Key::DbReturnedRows).count().and_then(|rows| i64::try_from(rows).ok());
    sink.set.query_samples.push(
        true,
        QuerySampleRow {
            project: sink.origin.project.0,
            retention_class: sink.origin.retention_class,
            fingerprint,
            day: day_of_ms(when.ms()),
            time: when.ns,
            duration_ns: span.duration_ns(),
            source,
            weight: if source == 1 { 1.0 } else { weight },
            // Why our SDK kept it; of a foreign span, which instrumentation saw the query, since several may.
            sample: if source == 1 { known.text(Key::QuerySample) } else { scope.name },
            unit: identity.unit,
            session: identity.session,
            tenant: &tenant,
            feature: &known.word(Key::Feature),
            funnel_step: &funnel_step(known),
            attempt: sink.attempt(known),
            route: known.text(Key::HttpRoute),
            code: &code(known),
            system,
            namespace: known.first_text(&[Key::DbNamespace, Key::DbNameOld]),
            rows: rows.unwrap_or(-1),
            failed,
            error_type: &error_type,
            trace_id: trace_id(span.trace_id),
            span_id: span_id(span.id),
            parent_span_id: span_id(span.parent_id),
            instance: resource.instance,
            resource: resource.hash,
            service: &resource.service,
            release: &resource.release,
            environment: &resource.environment,
            received: sink.origin.received_ms,
        },
    );
    Ok(())
}

/// The fingerprint of a foreign query; on first sight its text, without values, is written as well.
pub(super) fn foreign_fingerprint(
    system: &str,
    text: &str,
    time: i64,
    resource: &Resource<'_>,
    sink: &mut Sink<'_>,
) -> u64 {
    let fingerprint = sink.fingerprints.get(Dialect::from_system(system), text);
    if sink.seen.first(Once::QueryText(sink.origin.project.0), fingerprint.hash) {
        sink.set.query_texts.push(
            false,
            QueryTextRow {
                project: sink.origin.project.0,
                retention_class: sink.origin.retention_class,
                fingerprint: fingerprint.hash,
                version: FINGERPRINT_VERSION,
                system,
                name: "",
                summary: fingerprint.summary.as_bytes(),
                text: fingerprint.text.as_bytes(),
                service: &resource.service,
                release: &resource.release,
                environment: &resource.environment,
                time,
                received: sink.origin.received_ms,
            },
        );
    }
    fingerprint.hash
}

fn request(span: &Span<'_>, resource: &Resource<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let known = &span.fields.known;
    let when = sink.when(&[span.start, span.end])?;
    let weight = span.weight()?;
    let status = [Key::HttpStatus, Key::HttpStatusOld].into_iter().find_map(|key| known.get(key).count());
    let status = status.and_then(|status| u16::try_from(status).ok()).unwrap_or(0);
    let failed = span.status == STATUS_ERROR || status >= 500;
    let error_type: Cow<'_, str> = match (failed, known.text(Key::ErrorType), span.exception_type()?) {
        (true, "", "") if status >= 500 => Cow::Owned(status.to_string()),
        (true, "", "") => Cow::Borrowed(ERROR_OTHER),
        (true, "", exception) => Cow::Borrowed(exception),
        (_, error_type, _) => Cow::Borrowed(error_type),
    };
    let route: Cow<'_, str> = match known.text(Key::HttpRoute) {
        "" => Cow::Owned(route_of_path(known.first_text(&[Key::UrlPath, Key::HttpTargetOld]))),
        route => Cow::Borrowed(route),
    };
    let identity = sink.identity(known, resource);
    let tenant = known.get(Key::Tenant).word().unwrap_or_else(|| resource.known.word(Key::Tenant));
    sink.set.requests.push(
        true,
        RequestRow {
            project: sink.origin.project.0,
            retention_class: sink.origin.retention_class,
            route: &route,
            method: known.first_text(&[Key::HttpMethod, Key::HttpMethodOld]),
            day: day_of_ms(when.ms()),
            time: when.ns,
            duration_ns: span.duration_ns(),
            status_code: status,
            failed,
            error_type: &error_type,
            weight,
            unit: identity.unit,
            session: identity.session,
            tenant: &tenant,
            feature: &known.word(Key::Feature),
            trace_id: trace_id(span.trace_id),
            span_id: span_id(span.id),
            parent_span_id: span_id(span.parent_id),
            instance: resource.instance,
            resource: resource.hash,
            service: &resource.service,
            release: &resource.release,
            environment: &resource.environment,
            received: sink.origin.received_ms,
        },
    );
    Ok(())
}

/// A route guessed from a path: without the query, and with `*` for segments that look like ids (a digit in them, or
/// longer than 32 bytes), so that there are as many routes as kinds of requests.
fn route_of_path(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut route = String::with_capacity(path.len());
    for (position, segment) in path.split('/').enumerate() {
        if position > 0 {
            route.push('/');
        }
        let is_version = segment.len() <= 3 && segment.starts_with('v');
        let is_id = segment.len() > 32 || (segment.bytes().any(|byte| byte.is_ascii_digit()) && !is_version);
        route.push_str(if is_id { "*" } else { segment });
    }
    route
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_guessed_from_paths_hold_no_ids() {
        for (path, route) in [
            ("/api/v1/orders/4711?token=abc", "/api/v1/orders/*"),
            ("/users/6f9619ff-8b86-d011-b42d-00cf4fc964ff/edit", "/users/*/edit"),
            ("/", "/"),
            ("", ""),
            ("/a/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "/a/*"),
        ] {
            assert_eq!(route_of_path(path), route);
        }
    }

    #[test]
    fn weight_is_one_over_the_probability_in_the_trace_state() {
        let weight = |trace_state: &str| {
            Span { trace_state: trace_state.as_bytes(), ..Span::default() }.weight().expect("valid UTF-8")
        };
        assert_eq!(weight("").to_bits(), 1.0_f32.to_bits());
        assert_eq!(weight("ot=th:0").to_bits(), 1.0_f32.to_bits());
        assert_eq!(weight("vendor=1,ot=rv:abc;th:8").to_bits(), 2.0_f32.to_bits());
        assert_eq!(weight("ot=th:c").to_bits(), 4.0_f32.to_bits());
        assert_eq!(weight("ot=th:ffffffffffffff").to_bits(), 2_f32.powi(56).to_bits());
        assert_eq!(weight("ot=th:nonsense").to_bits(), 1.0_f32.to_bits());
        assert_eq!(weight("ot=th:fffffffffffffff").to_bits(), 1.0_f32.to_bits());
    }
}
