//! Which events fit: names, kinds and conditions, checked.
//!
//! In: a [`MatchRequest`]. Out: a [`Matcher`], or a [`FunnelError`] that names the field and what is allowed. What a
//! condition means in SQL is written in `conditions.rs`, what it means on a plain event in [`super::reference`].

use super::property;
use super::request::{ConditionRequest, FunnelError, MatchRequest, shown};
use serde_json::Value;

/// Most conditions of one step, exclusion or filter; chosen to bound the statement.
pub const MAX_CONDITIONS: usize = 20;
/// Most values of one `in`; chosen to bound the statement.
pub const MAX_IN_VALUES: usize = 100;
/// Longest name, key or text compared with, in bytes; names on the wire end at 256.
pub const MAX_TEXT_BYTES: usize = 1024;

/// Which kinds of events a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// `NAME`: a feature used or started, a funnel step, a foreign event.
    Plain,
    /// `feature:NAME`: a feature used or started.
    Feature,
    /// `completed:NAME`: an attempt at a feature ended, whatever the outcome.
    Completed,
    /// `step:FUNNEL.STEP`.
    Step,
    /// `event:NAME`: a foreign event.
    Event,
}

/// The name of an event and the kinds it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventName {
    /// The kinds.
    pub kind: NameKind,
    /// The name, as in the column `name` of the table `events`.
    pub name: String,
}

/// A value of one of the three types attributes have.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// Text.
    Text(String),
    /// A number; finite.
    Number(f64),
    /// True or false.
    Flag(bool),
}

/// An ordering comparison: the attribute stands left of the sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// What must be true of an attribute. Values of another type than the attribute's never equal it and never compare.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Present and one of these.
    In(Vec<Scalar>),
    /// Not (present and equal): an event without the attribute meets it.
    NotEqual(Scalar),
    /// Text that contains this text.
    Contains(String),
    /// A number, or text by its bytes, so compared; never a flag.
    Compare(Comparison, Scalar),
    /// Present (true) or absent (false), of any type.
    Present(bool),
}

/// A condition on one attribute.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Key of the attribute; `release` is spelled `service.version` here.
    pub attr: String,
    /// What must be true of it.
    pub test: Test,
}

impl Condition {
    /// What must hold, or where the flag is set must not hold, for the condition to be met: `ne` is not `in`, `set: false` is not
    /// `set: true`.
    pub(crate) fn positive(&self) -> (Self, bool) {
        let (test, negated) = match &self.test {
            Test::NotEqual(value) => (Test::In(vec![value.clone()]), true),
            Test::Present(false) => (Test::Present(true), true),
            test => (test.clone(), false),
        };
        (Self { attr: self.attr.clone(), test }, negated)
    }
}

/// Which events fit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matcher {
    /// The name; `None`: any event a user causes.
    pub event: Option<EventName>,
    /// All of these must hold.
    pub conditions: Vec<Condition>,
}

pub(crate) fn text(field: &str, given: &str) -> Result<String, FunnelError> {
    if given.is_empty() || given.len() > MAX_TEXT_BYTES {
        let problem = format!("must be 1 to {MAX_TEXT_BYTES} bytes long, given {} bytes", given.len());
        return Err(FunnelError::new(field, problem));
    }
    Ok(given.to_owned())
}

/// A key; the product's word `release` means `service.version`.
pub(crate) fn attribute(field: &str, given: &str) -> Result<String, FunnelError> {
    Ok(if given == "release" { gemba_conventions::attribute::SERVICE_VERSION.to_owned() } else { text(field, given)? })
}

pub(crate) fn matcher(path: &str, asked: &MatchRequest) -> Result<Matcher, FunnelError> {
    let event = asked.event.as_deref().map(|event| event_name(&format!("{path}.event"), event)).transpose()?;
    Ok(Matcher { event, conditions: conditions(&format!("{path}.where"), &asked.conditions)? })
}

fn event_name(field: &str, given: &str) -> Result<EventName, FunnelError> {
    let prefixes = [
        ("feature:", NameKind::Feature),
        ("completed:", NameKind::Completed),
        ("step:", NameKind::Step),
        ("event:", NameKind::Event),
    ];
    let found = prefixes.iter().find_map(|(prefix, kind)| Some((*kind, given.strip_prefix(prefix)?)));
    let (kind, name) = found.unwrap_or((NameKind::Plain, given));
    Ok(EventName { kind, name: text(field, name)? })
}

pub(crate) fn conditions(path: &str, asked: &[ConditionRequest]) -> Result<Vec<Condition>, FunnelError> {
    if asked.len() > MAX_CONDITIONS {
        return Err(FunnelError::new(path, format!("must hold at most {MAX_CONDITIONS} conditions")));
    }
    asked.iter().enumerate().map(|(index, asked)| condition(&format!("{path}[{index}]"), asked)).collect()
}

fn condition(path: &str, asked: &ConditionRequest) -> Result<Condition, FunnelError> {
    let value_field = format!("{path}.value");
    let wrong = |expected: &str| {
        let problem = format!("must be {expected} with op {:?}, given {}", asked.op, shown(&asked.value));
        FunnelError::new(&value_field, problem)
    };
    let scalar = |value: &Value| match value {
        Value::String(text) if text.len() <= MAX_TEXT_BYTES => Some(Scalar::Text(text.clone())),
        Value::Number(number) => number.as_f64().filter(|number| number.is_finite()).map(Scalar::Number),
        Value::Bool(flag) => Some(Scalar::Flag(*flag)),
        _ => None,
    };
    let any_scalar = "text of at most 1024 bytes, a number, true or false";
    let compare = |comparison| match scalar(&asked.value) {
        Some(value @ (Scalar::Text(_) | Scalar::Number(_))) => Ok(Test::Compare(comparison, value)),
        _ => Err(wrong("text or a number")),
    };
    let test = match asked.op.as_str() {
        "eq" => Test::In(vec![scalar(&asked.value).ok_or_else(|| wrong(any_scalar))?]),
        "ne" => Test::NotEqual(scalar(&asked.value).ok_or_else(|| wrong(any_scalar))?),
        "in" => match asked.value.as_array() {
            Some(values) if (1..=MAX_IN_VALUES).contains(&values.len()) => {
                Test::In(values.iter().map(scalar).collect::<Option<_>>().ok_or_else(|| wrong("a list of values"))?)
            }
            _ => return Err(wrong(&format!("a list of 1 to {MAX_IN_VALUES} values"))),
        },
        "contains" => match scalar(&asked.value) {
            Some(Scalar::Text(text)) => Test::Contains(text),
            _ => return Err(wrong("text")),
        },
        "lt" => compare(Comparison::Less)?,
        "le" => compare(Comparison::LessOrEqual)?,
        "gt" => compare(Comparison::Greater)?,
        "ge" => compare(Comparison::GreaterOrEqual)?,
        "set" => match asked.value {
            Value::Null => Test::Present(true),
            Value::Bool(present) => Test::Present(present),
            _ => return Err(wrong("absent, true or false")),
        },
        other => {
            let problem = format!("must be eq, ne, in, contains, lt, le, gt, ge or set, given {other:?}");
            return Err(FunnelError::new(format!("{path}.op"), problem));
        }
    };
    if asked.attr.starts_with(property::FLAG) {
        return Err(FunnelError::new(
            format!("{path}.attr"),
            "can only be a breakdown: the variant is a person's, from a moment on",
        ));
    }
    Ok(Condition { attr: attribute(&format!("{path}.attr"), &asked.attr)?, test })
}
