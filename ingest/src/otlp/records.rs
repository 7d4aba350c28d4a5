//! The bookkeeping records of our SDK: identity, properties, catalogue, query texts, query usage, its own end.
//!
//! Unlike events they go to tables of their own and never count as something a person did.

use super::keys::{Key, KeySet};
use super::logs::{Record, own_name};
use super::resource::Resource;
use super::sink::{Fault, Sink, When, code, funnel_step, parse_fingerprint};
use super::value::{Value, elements};
use crate::identity::IdDomain;
use crate::rows::{CatalogRow, IdentityLinkRow, PropertyRow, QueryTextRow, QueryUsageRow, SdkReportRow, day_of_ms};
use gemba_conventions::{CatalogKind, attribute, event};

/// Kinds of bookkeeping records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bookkeeping {
    Identify,
    UserSet,
    TenantSet,
    Catalog,
    QueryDeclared,
    QueryUsage,
    SdkStopped,
}

impl Bookkeeping {
    /// The kind an event name stands for.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            event::IDENTIFY => Some(Self::Identify),
            event::USER_SET => Some(Self::UserSet),
            event::TENANT_SET => Some(Self::TenantSet),
            event::CATALOG => Some(Self::Catalog),
            event::QUERY_DECLARED => Some(Self::QueryDeclared),
            event::QUERY_USAGE => Some(Self::QueryUsage),
            event::SDK_STOPPED => Some(Self::SdkStopped),
            _ => None,
        }
    }
}

const IDENTITY_KEYS: KeySet = KeySet::of(&[
    Key::UserId,
    Key::EnduserId,
    Key::EnduserPseudoId,
    Key::SessionId,
    Key::AnonymousId,
    Key::Tenant,
    Key::Seq,
    Key::EventNameOld,
]);
const CATALOG_KEYS: KeySet = KeySet::of(&[
    Key::CatalogKind,
    Key::CatalogName,
    Key::CatalogPosition,
    Key::CatalogWas,
    Key::Funnel,
    Key::CodeFile,
    Key::CodeFileOld,
    Key::CodeLine,
    Key::CodeLineOld,
    Key::CodeFunction,
]);
const DECLARED_KEYS: KeySet = KeySet::of(&[
    Key::Fingerprint,
    Key::FingerprintVersion,
    Key::QueryName,
    Key::DbSystem,
    Key::DbQueryText,
    Key::DbQuerySummary,
]);
const USAGE_KEYS: KeySet = IDENTITY_KEYS.and(KeySet::of(&[
    Key::Feature,
    Key::Funnel,
    Key::Step,
    Key::Attempt,
    Key::HttpRoute,
    Key::UsageFingerprints,
    Key::UsageCode,
    Key::UsageCalls,
    Key::UsageTotalNs,
    Key::UsageMaxNs,
    Key::UsageRows,
    Key::UsageErrors,
]));
const STOPPED_KEYS: KeySet =
    KeySet::of(&[Key::Reason, Key::SdkRecorded, Key::SdkDelivered, Key::SdkSpooled, Key::SdkUnconfirmed]);

/// Turns one bookkeeping record into rows.
pub(super) fn read(
    kind: Bookkeeping,
    record: &mut Record<'_>,
    when: When,
    resource: &Resource<'_>,
    sink: &mut Sink<'_>,
) -> Result<(), Fault> {
    let (take, keep) = match kind {
        Bookkeeping::Identify => (IDENTITY_KEYS, false),
        Bookkeeping::UserSet | Bookkeeping::TenantSet => (IDENTITY_KEYS, true),
        Bookkeeping::Catalog => (CATALOG_KEYS, false),
        Bookkeeping::QueryDeclared => (DECLARED_KEYS, false),
        Bookkeeping::QueryUsage => (USAGE_KEYS, false),
        Bookkeeping::SdkStopped => (STOPPED_KEYS, false),
    };
    record.fields.read(&record.pairs, take, keep)?;
    match kind {
        Bookkeeping::Identify => identify(record, when, sink),
        Bookkeeping::UserSet | Bookkeeping::TenantSet => properties(kind, record, when, sink),
        Bookkeeping::Catalog => catalog(record, when, resource, sink),
        Bookkeeping::QueryDeclared => declared(record, when, resource, sink),
        Bookkeeping::QueryUsage => usage(record, when, resource, sink),
        Bookkeeping::SdkStopped => {
            stopped(record, when, resource, sink);
            Ok(())
        }
    }
}

/// The record's own user id, by the conventions' precedence.
fn user(record: &Record<'_>, sink: &mut Sink<'_>) -> Result<u64, Fault> {
    let known = &record.fields.known;
    [Key::UserId, Key::EnduserId, Key::EnduserPseudoId]
        .into_iter()
        .find_map(|key| known.get(key).word())
        .map(|id| sink.unit(IdDomain::User, &id))
        .ok_or_else(|| Fault::missing(attribute::USER_ID))
}

fn identify(record: &Record<'_>, when: When, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let known = &record.fields.known;
    let anonymous = [(Key::SessionId, IdDomain::Session), (Key::AnonymousId, IdDomain::Anonymous)]
        .map(|(key, domain)| known.get(key).word().map(|id| (id, domain)));
    if anonymous.iter().all(Option::is_none) {
        return Err(Fault::missing("session.id or gemba.anonymous.id"));
    }
    let person = user(record, sink)?;
    for (position, (id, domain)) in anonymous.into_iter().flatten().enumerate() {
        let anonymous = sink.unit(domain, &id);
        sink.set.identity_links.push(
            position == 0,
            IdentityLinkRow {
                project: sink.origin.project.0,
                retention_class: sink.origin.retention_class,
                anonymous,
                person,
                time: when.ms(),
                received: sink.origin.received_ms,
            },
        );
    }
    Ok(())
}

fn properties(kind: Bookkeeping, record: &Record<'_>, when: When, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let tenant = record.fields.known.word(Key::Tenant);
    let (subject, unit, tenant) = if kind == Bookkeeping::UserSet {
        (1, user(record, sink)?, "")
    } else if tenant.is_empty() {
        return Err(Fault::missing(attribute::TENANT));
    } else {
        (2, 0, &*tenant)
    };
    sink.set.properties.push(
        true,
        PropertyRow {
            project: sink.origin.project.0,
            retention_class: sink.origin.retention_class,
            subject,
            unit,
            tenant,
            time: when.ms(),
            strings: &record.fields.attributes,
            numbers: &record.fields.attributes,
            bools: &record.fields.attributes,
            received: sink.origin.received_ms,
        },
    );
    Ok(())
}

fn catalog(record: &Record<'_>, when: When, resource: &Resource<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let known = &record.fields.known;
    let kind = CatalogKind::parse(known.text(Key::CatalogKind))
        .ok_or_else(|| Fault::invalid(attribute::CATALOG_KIND, "feature, step or query"))?;
    let name = known.text(Key::CatalogName);
    if name.is_empty() {
        return Err(Fault::missing(attribute::CATALOG_NAME));
    }
    let mut funnel = "";
    if kind != CatalogKind::Query {
        own_name(attribute::CATALOG_NAME, name)?;
    }
    if kind == CatalogKind::Step {
        funnel = match known.text(Key::Funnel) {
            "" => name.rsplit_once('.').map_or("", |(funnel, _)| funnel),
            funnel => funnel,
        };
        own_name(attribute::FUNNEL_NAME, funnel)?;
    }
    let position = match known.get(Key::CatalogPosition) {
        Value::Empty => 0,
        value => value
            .count()
            .and_then(|position| u16::try_from(position).ok())
            .ok_or_else(|| Fault::invalid(attribute::CATALOG_POSITION, "an integer from 0 to 65535"))?,
    };
    sink.set.catalog.push(
        true,
        CatalogRow {
            project: sink.origin.project.0,
            retention_class: sink.origin.retention_class,
            kind: kind as u8,
            name: name.as_bytes(),
            funnel,
            position,
            was: known.text(Key::CatalogWas).as_bytes(),
            code: &code(known),
            service: &resource.service,
            release: &resource.release,
            environment: &resource.environment,
            time: when.ms(),
            received: sink.origin.received_ms,
        },
    );
    Ok(())
}

const FINGERPRINT_RULE: &str = "16 hexadecimal digits, or `other`";

fn declared(record: &Record<'_>, when: When, resource: &Resource<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let known = &record.fields.known;
    let fingerprint = parse_fingerprint(known.text(Key::Fingerprint))
        .ok_or_else(|| Fault::invalid(attribute::QUERY_FINGERPRINT, FINGERPRINT_RULE))?;
    let version = known.get(Key::FingerprintVersion).count().and_then(|version| u16::try_from(version).ok());
    sink.set.query_texts.push(
        true,
        QueryTextRow {
            project: sink.origin.project.0,
            retention_class: sink.origin.retention_class,
            fingerprint,
            version: version.unwrap_or(0),
            system: known.text(Key::DbSystem),
            name: known.text(Key::QueryName),
            summary: known.text(Key::DbQuerySummary).as_bytes(),
            text: known.text(Key::DbQueryText).as_bytes(),
            service: &resource.service,
            release: &resource.release,
            environment: &resource.environment,
            time: when.ms(),
            received: sink.origin.received_ms,
        },
    );
    Ok(())
}

/// The elements of an array attribute; an absent one is empty.
fn array<'a>(value: Value<'a>, what: &'static str) -> Result<Vec<Value<'a>>, Fault> {
    match value {
        Value::Empty => Ok(Vec::new()),
        Value::Array(bytes) => {
            let mut values = Vec::new();
            for element in elements(bytes) {
                values.push(Value::read(element?)?);
            }
            Ok(values)
        }
        _ => Err(Fault::invalid(what, "an array")),
    }
}

/// The elements of an array of counts as long as the fingerprints; an absent one is all zero.
fn counts(value: Value<'_>, what: &'static str, entries: usize) -> Result<Vec<u64>, Fault> {
    let values = array(value, what)?;
    if values.is_empty() {
        return Ok(vec![0; entries]);
    }
    let counts: Option<Vec<u64>> = values.into_iter().map(Value::count).collect();
    counts
        .filter(|counts| counts.len() == entries)
        .ok_or_else(|| Fault::invalid(what, "integers from 0, as many as fingerprints"))
}

/// A count in a 32-bit column; saturates.
fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn usage(record: &Record<'_>, when: When, resource: &Resource<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let known = &record.fields.known;
    let fingerprints: Option<Vec<u64>> = array(known.get(Key::UsageFingerprints), attribute::USAGE_FINGERPRINTS)?
        .into_iter()
        .map(|value| match value {
            Value::Text(text) => parse_fingerprint(text),
            _ => None,
        })
        .collect();
    let fingerprints = fingerprints.ok_or_else(|| Fault::invalid(attribute::USAGE_FINGERPRINTS, FINGERPRINT_RULE))?;
    let entries = fingerprints.len();
    if entries == 0 {
        return Err(Fault::missing(attribute::USAGE_FINGERPRINTS));
    }
    let lines = array(known.get(Key::UsageCode), attribute::USAGE_CODE)?;
    if !lines.is_empty() && lines.len() != entries {
        return Err(Fault::invalid(attribute::USAGE_CODE, "as many as fingerprints"));
    }
    let calls = counts(known.get(Key::UsageCalls), attribute::USAGE_CALLS, entries)?;
    let total_ns = counts(known.get(Key::UsageTotalNs), attribute::USAGE_TOTAL_NS, entries)?;
    let max_ns = counts(known.get(Key::UsageMaxNs), attribute::USAGE_MAX_NS, entries)?;
    let rows = counts(known.get(Key::UsageRows), attribute::USAGE_ROWS, entries)?;
    let errors = counts(known.get(Key::UsageErrors), attribute::USAGE_ERRORS, entries)?;

    let identity = sink.identity(known, resource);
    let (attempt, step, feature) = (sink.attempt(known), funnel_step(known), known.word(Key::Feature));
    let tenant = known.get(Key::Tenant).word().unwrap_or_else(|| resource.known.word(Key::Tenant));
    for (entry, fingerprint) in fingerprints.into_iter().enumerate() {
        let at = |counts: &[u64]| counts.get(entry).copied().unwrap_or(0);
        sink.set.query_usage.push(
            entry == 0,
            QueryUsageRow {
                project: sink.origin.project.0,
                retention_class: sink.origin.retention_class,
                fingerprint,
                day: day_of_ms(when.ms()),
                unit: identity.unit,
                time: when.ms(),
                session: identity.session,
                tenant: &tenant,
                feature: &feature,
                funnel_step: &step,
                attempt,
                route: known.text(Key::HttpRoute),
                code: match lines.get(entry) {
                    Some(Value::Text(line)) => line,
                    _ => "",
                },
                calls: narrow(at(&calls)),
                total_ns: at(&total_ns),
                max_ns: at(&max_ns),
                rows: at(&rows),
                errors: narrow(at(&errors)),
                instance: resource.instance,
                resource: resource.hash,
                service: &resource.service,
                release: &resource.release,
                environment: &resource.environment,
                received: sink.origin.received_ms,
            },
        );
    }
    Ok(())
}

fn stopped(record: &Record<'_>, when: When, resource: &Resource<'_>, sink: &mut Sink<'_>) {
    let known = &record.fields.known;
    let count = |key| known.get(key).count().unwrap_or(0);
    sink.set.sdk_reports.push(
        true,
        SdkReportRow {
            project: sink.origin.project.0,
            retention_class: sink.origin.retention_class,
            time: when.ms(),
            kind: 2,
            reason: known.text(Key::Reason),
            callsite: "",
            records: count(Key::SdkRecorded),
            delivered: count(Key::SdkDelivered),
            spooled: count(Key::SdkSpooled),
            unconfirmed: count(Key::SdkUnconfirmed),
            instance: resource.instance,
            service: &resource.service,
            release: &resource.release,
            environment: &resource.environment,
            received: sink.origin.received_ms,
        },
    );
}
