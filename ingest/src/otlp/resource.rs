//! The resource and scope around records: read once, shared by all records under them.

use super::fields::Fields;
use super::keys::{Key, KeySet, Known};
use super::sink::{Fault, Sink};
use super::value::{Value, ValueError, key_value, utf8};
use super::wire::{Field, Malformed, Message};
use crate::identity::IdDomain;
use crate::outcome::Reason;
use crate::rows::{Attributes, Once, ResourceRow, day_of_ms};
use std::cmp::Ordering;

/// What a sender that does not name itself is called (OpenTelemetry semantic conventions, resource, service).
const UNKNOWN_SERVICE: &str = "unknown_service";

const KEYS: KeySet = KeySet::of(&[
    Key::ServiceName,
    Key::ServiceVersion,
    Key::ServiceNamespace,
    Key::ServiceInstance,
    Key::Environment,
    Key::EnvironmentOld,
    Key::SentTime,
    Key::UserId,
    Key::EnduserId,
    Key::EnduserPseudoId,
    Key::SessionId,
    Key::AnonymousId,
    Key::Tenant,
]);

/// A resource.
#[derive(Debug, Default)]
pub(super) struct Resource<'a> {
    /// Hash of all attributes but `gemba.sent_time`.
    pub(super) hash: u64,
    /// Hash of `service.instance.id`, 0 without one.
    pub(super) instance: u64,
    /// `service.name`, with the namespace before it where there is one: equal names in two namespaces are two services.
    pub(super) service: String,
    /// `service.version`.
    pub(super) release: String,
    /// `deployment.environment.name`, or its old name.
    pub(super) environment: String,
    /// The attributes with a meaning.
    pub(super) known: Known<'a>,
}

impl<'a> Resource<'a> {
    /// Reads the resource of a `ResourceLogs`, `ResourceSpans` or `ResourceMetrics`, wherever in the message it stands,
    /// and on first sight appends its row. One that cannot be used says what becomes of the records under it; those of other
    /// resources are none of its business.
    pub(super) fn read(container: &'a [u8], sink: &mut Sink<'_>) -> Result<Self, Fault> {
        let mut pairs = Vec::new();
        let mut schema_url = "";
        for field in Message::new(container) {
            match field? {
                (1, Field::Bytes(resource)) => push_pairs(resource, 1, &mut pairs)?,
                (3, Field::Bytes(url)) => schema_url = utf8(url).map_err(of_resource)?,
                _ => {}
            }
        }
        let mut sorted = sorted_pairs(&pairs).map_err(of_resource)?;
        sorted.retain(|(key, _)| *key != gemba_conventions::attribute::SENT_TIME);
        let mut text = Vec::new();
        put_pairs(&sorted, &mut text).map_err(of_resource)?;
        let mut fields = Fields::default();
        fields.read(&pairs, KEYS, false).map_err(|fault| match fault {
            Fault::Refused(refusal) if refusal.reason == Reason::TooLarge => Fault::set_aside(
                Reason::TooLarge,
                "the attributes of its resource exceed 512 keys or 1 MiB; send fewer",
            ),
            fault => fault,
        })?;
        let known = fields.known;
        let instance = known.word(Key::ServiceInstance);
        let resource = Self {
            hash: sink.hash(IdDomain::Resource, &text),
            instance: if instance.is_empty() { 0 } else { sink.hash(IdDomain::Instance, instance.as_bytes()) },
            service: service(&known),
            release: known.word(Key::ServiceVersion).into_owned(),
            environment: match known.word(Key::Environment) {
                stable if stable.is_empty() => known.word(Key::EnvironmentOld).into_owned(),
                stable => stable.into_owned(),
            },
            known,
        };
        if sink.seen.first_and_not_stored(Once::Resource, resource.hash, sink.origin.received_ms) {
            resource.push_row(&instance, &sorted, schema_url, sink).map_err(of_resource)?;
        }
        Ok(resource)
    }

    fn push_row(
        &self,
        instance: &str,
        sorted: &[(&'a str, Value<'a>)],
        schema_url: &'a str,
        sink: &mut Sink<'_>,
    ) -> Result<(), ValueError> {
        let mut attributes = Attributes::default();
        if !schema_url.is_empty() {
            attributes.set_text("otel.schema_url", schema_url);
        }
        for (key, value) in sorted {
            match value {
                Value::Text(text) => attributes.set_text(key, text),
                other => attributes.set_rendered(key, |out| other.render(out))?,
            }
        }
        sink.set.resources.push(
            true,
            ResourceRow {
                project: sink.origin.project.0,
                resource: self.hash,
                service: &self.service,
                release: &self.release,
                environment: &self.environment,
                instance: instance.as_bytes(),
                attributes: &attributes,
                last_seen: day_of_ms(sink.origin.received_ms),
            },
        );
        Ok(())
    }
}

fn service(known: &Known<'_>) -> String {
    let name = match known.word(Key::ServiceName) {
        missing if missing.is_empty() => UNKNOWN_SERVICE.into(),
        name => name,
    };
    match known.word(Key::ServiceNamespace) {
        none if none.is_empty() => name.into_owned(),
        namespace => format!("{namespace}/{name}"),
    }
}

/// What is wrong with a resource is wrong with all records under it.
fn of_resource(error: ValueError) -> Fault {
    match error {
        ValueError::Malformed(error) => Fault::Malformed(error),
        ValueError::Refused(reason) => {
            Fault::set_aside(reason, "its resource holds invalid UTF-8 or nests arrays or maps deeper than 64")
        }
    }
}

/// An instrumentation scope.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    /// Its attributes: they hold for all records under it unless a record says otherwise.
    pub(super) pairs: Vec<&'a [u8]>,
}

impl<'a> Scope<'a> {
    /// Reads the scope of a `ScopeLogs`, `ScopeSpans` or `ScopeMetrics`, wherever in the message it stands.
    pub(super) fn read(container: &'a [u8]) -> Result<Self, Fault> {
        let text = |bytes| {
            utf8(bytes).map_err(|_| {
                Fault::set_aside(Reason::InvalidUtf8, "the name or version of its scope is not valid UTF-8")
            })
        };
        let mut scope = Self::default();
        for field in Message::new(container) {
            let (1, Field::Bytes(bytes)) = field? else { continue };
            for field in Message::new(bytes) {
                match field? {
                    (1, Field::Bytes(name)) => scope.name = text(name)?,
                    (2, Field::Bytes(version)) => scope.version = text(version)?,
                    (3, Field::Bytes(pair)) => scope.pairs.push(pair),
                    _ => {}
                }
            }
        }
        Ok(scope)
    }
}

/// Appends the attributes in `field` of a message.
pub(super) fn push_pairs<'a>(message: &'a [u8], number: u32, pairs: &mut Vec<&'a [u8]>) -> Result<(), Malformed> {
    for field in Message::new(message) {
        match field? {
            (found, Field::Bytes(pair)) if found == number => pairs.push(pair),
            _ => {}
        }
    }
    Ok(())
}

/// Reads attributes and orders them by key; of equal keys the last holds.
pub(super) fn sorted_pairs<'a>(pairs: &[&'a [u8]]) -> Result<Vec<(&'a str, Value<'a>)>, ValueError> {
    let mut sorted = pairs.iter().map(|pair| key_value(pair)).collect::<Result<Vec<_>, _>>()?;
    // Stable, so the last of equal keys is the last sent.
    sorted.sort_by_key(|(key, _)| *key);
    let mut unique: Vec<(&str, Value<'_>)> = Vec::with_capacity(sorted.len());
    for pair in sorted {
        match unique.last_mut() {
            Some(last) if last.0.cmp(pair.0) == Ordering::Equal => *last = pair,
            _ => unique.push(pair),
        }
    }
    Ok(unique)
}

/// Appends attributes in a form where different attributes give different bytes, for hashing.
pub(super) fn put_pairs(sorted: &[(&str, Value<'_>)], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let mut text = String::new();
    for (key, value) in sorted {
        text.clear();
        value.render(&mut text)?;
        let kind = match value {
            Value::Empty => 0_u8,
            Value::Text(_) => 1,
            Value::Bool(_) => 2,
            Value::Int(_) => 3,
            Value::Double(_) => 4,
            Value::Array(_) => 5,
            Value::Map(_) => 6,
            Value::Bytes(_) => 7,
        };
        for part in [key.as_bytes(), text.as_bytes()] {
            out.extend_from_slice(&(part.len() as u64).to_le_bytes());
            out.extend_from_slice(part);
        }
        out.push(kind);
    }
    Ok(())
}
