//! Parameters of saved queries: their types, what is allowed, and the check of a value.
//!
//! In: text somebody gave, or a default. Out: the text ClickHouse reads as a value of the declared type. No clock: the
//! caller passes the time that `now` stands for.

use crate::error::ParamError;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::fmt;

/// Longest value that is looked at, in bytes; chosen, since no name on the wire is longer than 256.
pub const MAX_VALUE_BYTES: usize = 4096;

/// The type of a parameter, as written in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `DateTime64(3)`, with or without `'UTC'`: an instant in milliseconds.
    Time,
    /// `UInt8` to `UInt64`, with its largest value.
    Unsigned(u64),
    /// `Int64`.
    Signed,
    /// `Float64`; finite.
    Float,
    /// `Bool`.
    Bool,
    /// `String`.
    Text,
}

impl Kind {
    /// The type spelled `text` in a body, or `None` when values of it cannot be checked.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "DateTime64(3)" | "DateTime64(3, 'UTC')" => Self::Time,
            "UInt8" => Self::Unsigned(u64::from(u8::MAX)),
            "UInt16" => Self::Unsigned(u64::from(u16::MAX)),
            "UInt32" => Self::Unsigned(u64::from(u32::MAX)),
            "UInt64" => Self::Unsigned(u64::MAX),
            "Int64" => Self::Signed,
            "Float64" => Self::Float,
            "Bool" => Self::Bool,
            "String" => Self::Text,
            _ => return None,
        })
    }

    /// The type in words, for messages.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Time => "a time (RFC 3339, a date or date and time in tz, now, or now - 7d)",
            Self::Unsigned(_) | Self::Signed => "a whole number",
            Self::Float => "a number",
            Self::Bool => "true or false",
            Self::Text => "text",
        }
    }
}

/// Which values of its type a parameter takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Allowed {
    /// All values of the type.
    Any,
    /// Instants from the first to the last, inclusive.
    Times(Timestamp, Timestamp),
    /// Numbers from the first to the last, inclusive.
    Numbers(f64, f64),
    /// One of these words.
    OneOf(Vec<String>),
    /// At most this many bytes.
    Bytes(usize),
    /// The name of an IANA time zone.
    TimeZone,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Times(low, high) => write!(f, "from {low} to {high}"),
            Self::Numbers(low, high) => write!(f, "from {low} to {high}"),
            Self::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Self::Bytes(most) => write!(f, "at most {most} bytes"),
            Self::TimeZone => f.write_str("an IANA time zone such as Europe/Berlin"),
        }
    }
}

/// One parameter of a saved query.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Its name, the same in header, body and request.
    pub name: String,
    /// Its type, from the body.
    pub kind: Kind,
    /// What it means, for people.
    pub meaning: String,
    /// The value it has when nobody gives one, as somebody would write it; `None`: it must be given.
    pub default: Option<String>,
    /// Which values it takes.
    pub allowed: Allowed,
}

impl Param {
    /// A parameter that means the same in every query: from, to, tz, limit. A header names it without a word more.
    pub(crate) fn common(name: &str) -> Option<Self> {
        // The wire carries nanoseconds since 1970 in 64 bits, which end in 2262.
        let times = Allowed::Times(Timestamp::UNIX_EPOCH, Timestamp::constant(9_214_646_400, 0));
        let (kind, meaning, default, allowed) = match name {
            "from" => (Kind::Time, "beginning of the time looked at, inclusive", "now - 7d", times),
            "to" => (Kind::Time, "end of the time looked at, exclusive", "now", times),
            "tz" => (Kind::Text, "time zone of days and hours", "UTC", Allowed::TimeZone),
            "limit" => (Kind::Unsigned(u64::from(u32::MAX)), "most rows", "100", Allowed::Numbers(1.0, 10_000.0)),
            _ => return None,
        };
        let (name, meaning) = (name.to_owned(), meaning.to_owned());
        Some(Self { name, kind, meaning, default: Some(default.to_owned()), allowed })
    }

    /// Some value it takes.
    pub(crate) fn example(&self) -> String {
        match (&self.allowed, self.kind) {
            (Allowed::OneOf(words), _) => words.first().cloned().unwrap_or_default(),
            (Allowed::Numbers(low, _), _) => low.to_string(),
            (Allowed::TimeZone, _) => "UTC".to_owned(),
            (_, Kind::Time) => "now".to_owned(),
            (_, Kind::Bool) => "true".to_owned(),
            (_, Kind::Unsigned(_) | Kind::Signed | Kind::Float) => "1".to_owned(),
            (_, Kind::Text) => "x".to_owned(),
        }
    }

    /// The text ClickHouse reads for the value `given`.
    ///
    /// `now` is what `now` means, `tz` the zone a date without one is in.
    pub(crate) fn value(&self, given: &str, now: Timestamp, tz: &TimeZone) -> Result<String, ParamError> {
        self.read(given, now, tz).ok_or_else(|| ParamError::Invalid {
            name: self.name.clone(),
            expected: self.kind.expected(),
            given: given.chars().take(100).collect(),
            allowed: self.allowed.to_string(),
        })
    }

    fn read(&self, given: &str, now: Timestamp, tz: &TimeZone) -> Option<String> {
        if given.len() > MAX_VALUE_BYTES || given.contains('\0') {
            return None;
        }
        match self.kind {
            Kind::Time => {
                let at = read_time(given, now, tz)?;
                self.takes_time(at).then(|| time_text(at))
            }
            Kind::Unsigned(largest) => {
                let number: u64 = given.parse().ok()?;
                (number <= largest && self.takes_number(number as f64)).then(|| number.to_string())
            }
            Kind::Signed => {
                let number: i64 = given.parse().ok()?;
                self.takes_number(number as f64).then(|| number.to_string())
            }
            Kind::Float => {
                let number: f64 = given.parse().ok()?;
                (number.is_finite() && self.takes_number(number)).then(|| number.to_string())
            }
            Kind::Bool => matches!(given, "true" | "false").then(|| given.to_owned()),
            Kind::Text => match &self.allowed {
                Allowed::TimeZone => zone_name(given),
                Allowed::OneOf(words) => words.iter().any(|word| word == given).then(|| given.to_owned()),
                Allowed::Bytes(most) => (given.len() <= *most).then(|| given.to_owned()),
                _ => Some(given.to_owned()),
            },
        }
    }

    fn takes_time(&self, at: Timestamp) -> bool {
        match self.allowed {
            Allowed::Times(low, high) => low <= at && at <= high,
            _ => true,
        }
    }

    fn takes_number(&self, number: f64) -> bool {
        match self.allowed {
            Allowed::Numbers(low, high) => low <= number && number <= high,
            _ => true,
        }
    }
}

/// The range that the common parameters `from`, `to` and `tz` give to a request that is no saved query, in milliseconds
/// since 1970, `from` inclusive and `to` exclusive; what is not given is without bound.
///
/// # Errors
/// [`ParamError`], also for every other parameter.
pub fn range_ms(given: &BTreeMap<String, String>, now_ms: i64) -> Result<(i64, i64), ParamError> {
    const NAMES: [&str; 3] = ["from", "to", "tz"];
    if let Some(name) = given.keys().find(|name| !NAMES.contains(&name.as_str())) {
        return Err(ParamError::Unknown { name: name.clone(), allowed: NAMES.map(str::to_owned).to_vec() });
    }
    let now = Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let value = |name: &str, otherwise: &str, tz: &TimeZone| {
        let given = given.get(name).map_or(otherwise, String::as_str);
        // The three are common parameters.
        Param::common(name).map_or_else(|| Ok(String::new()), |param| param.value(given, now, tz))
    };
    let tz = TimeZone::get(&value("tz", "UTC", &TimeZone::UTC)?).unwrap_or(TimeZone::UTC);
    let milliseconds = |text: String| text.replace('.', "").parse::<i64>().unwrap_or_default();
    let from = milliseconds(value("from", "1970-01-01", &tz)?);
    let to = milliseconds(value("to", "2262-01-01", &tz)?);
    if from >= to {
        let show = |ms| Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.to_string());
        return Err(ParamError::EmptyRange { from: show(from), to: show(to) });
    }
    Ok((from, to))
}

/// The instant a parameter names, in milliseconds since 1970; not after the present.
///
/// # Errors
/// [`ParamError::Invalid`].
pub fn past_instant(name: &str, given: &str, now_ms: i64, tz: Option<&str>) -> Result<i64, ParamError> {
    let now = Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let tz = tz.and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
    let at = read_time(given, now, &tz).filter(|at| *at <= now && *at >= Timestamp::UNIX_EPOCH);
    at.map(Timestamp::as_millisecond).ok_or_else(|| ParamError::Invalid {
        name: name.to_owned(),
        expected: Kind::Time.expected(),
        given: given.chars().take(100).collect(),
        allowed: "not after now".to_owned(),
    })
}

/// The canonical name of a time zone, or `None` when there is none of this name.
pub(crate) fn zone_name(given: &str) -> Option<String> {
    let zone = TimeZone::get(given).ok()?;
    zone.iana_name().filter(|name| !name.eq_ignore_ascii_case("Etc/Unknown")).map(str::to_owned)
}

/// Reads an instant, rounded down to the millisecond.
pub(crate) fn read_time(given: &str, now: Timestamp, tz: &TimeZone) -> Option<Timestamp> {
    let given = given.trim();
    let at = if let Some(rest) = given.strip_prefix("now") {
        let rest = rest.trim();
        if rest.is_empty() { now } else { now.checked_sub(read_span(rest.strip_prefix('-')?.trim())?).ok()? }
    } else if let Ok(at) = given.parse::<Timestamp>() {
        at
    } else {
        given.parse::<DateTime>().ok()?.to_zoned(tz.clone()).ok()?.timestamp()
    };
    Timestamp::from_millisecond(at.as_nanosecond().div_euclid(1_000_000).try_into().ok()?).ok()
}

/// Reads `7d`, `24h`, `30m` or `90s`; a day is 24 hours.
fn read_span(text: &str) -> Option<SignedDuration> {
    let unit = text.chars().last()?;
    let count: u32 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return None,
    };
    Some(SignedDuration::from_secs(i64::from(count) * seconds))
}

/// An instant as ClickHouse reads it whatever the server's time zone: seconds since the Unix epoch with three decimals.
pub(crate) fn time_text(at: Timestamp) -> String {
    let ms = at.as_millisecond();
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(kind: Kind, allowed: Allowed) -> Param {
        Param { name: "p".to_owned(), kind, meaning: String::new(), default: None, allowed }
    }

    fn check(param: &Param, given: &str, expected: Option<&str>) {
        // 2026-03-01T12:00:00.5Z
        let now = Timestamp::from_millisecond(1_772_366_400_500).unwrap();
        let tz = TimeZone::get("Asia/Kathmandu").unwrap();
        assert_eq!(param.value(given, now, &tz).ok().as_deref(), expected, "{given:?}");
    }

    #[test]
    fn times_are_rfc_3339_dates_in_the_zone_or_relative_to_now() {
        let from = Param::common("from").unwrap();
        check(&from, "2026-03-01T12:00:00Z", Some("1772366400.000"));
        check(&from, "2026-03-01T13:00:00.1239+01:00", Some("1772366400.123"));
        check(&from, "now", Some("1772366400.500"));
        check(&from, "now - 7d", Some("1771761600.500"));
        check(&from, "now-90s", Some("1772366310.500"));
        // Midnight in Kathmandu is 18:15 UTC of the day before.
        check(&from, "2026-03-01", Some("1772302500.000"));
        check(&from, "2026-03-01T00:00:00", Some("1772302500.000"));
        for bad in [
            "",
            "2026-03-01T12:00:00+99",
            "2026-02-30",
            "now + 1d",
            "now - 1y",
            "now - d",
            "1772366400",
            "1969-12-31T23:59:59Z",
        ] {
            check(&from, bad, None);
        }
        check(&from, "2300-01-01T00:00:00Z", None);
    }

    #[test]
    fn numbers_keep_to_type_and_range() {
        let limit = param(Kind::Unsigned(u64::from(u32::MAX)), Allowed::Numbers(1.0, 10_000.0));
        check(&limit, "10", Some("10"));
        for bad in ["0", "10001", "-1", "1e3", "1.0", " 1", "4294967296", "", "1; DROP TABLE events"] {
            check(&limit, bad, None);
        }
        check(&param(Kind::Unsigned(255), Allowed::Any), "256", None);
        check(&param(Kind::Float, Allowed::Any), "0.5", Some("0.5"));
        for bad in ["nan", "inf", "-inf", "x"] {
            check(&param(Kind::Float, Allowed::Any), bad, None);
        }
        check(&param(Kind::Signed, Allowed::Any), "-5", Some("-5"));
        check(&param(Kind::Bool, Allowed::Any), "TRUE", None);
    }

    #[test]
    fn text_keeps_to_its_words_and_length() {
        check(&param(Kind::Text, Allowed::Bytes(4)), "äö", Some("äö"));
        check(&param(Kind::Text, Allowed::Bytes(3)), "äö", None);
        check(&param(Kind::Text, Allowed::Any), "nul\0", None);
        check(&param(Kind::Text, Allowed::Any), "'; --", Some("'; --"));
        let words = param(Kind::Text, Allowed::OneOf(vec!["day".to_owned(), "week".to_owned()]));
        check(&words, "week", Some("week"));
        check(&words, "month", None);
    }

    #[test]
    fn a_range_is_without_bound_where_none_is_given() {
        let range = |pairs: &[(&str, &str)]| {
            range_ms(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(), 86_400_000)
        };
        assert_eq!(range(&[]).unwrap(), (0, 9_214_646_400_000));
        let berlin = [("from", "1970-01-02"), ("to", "1970-01-03"), ("tz", "Europe/Berlin")];
        assert_eq!(range(&berlin).unwrap(), (82_800_000, 169_200_000));
        assert_eq!(range(&[("from", "now - 1h")]).unwrap().0, 82_800_000);
        for bad in [("from", "soon"), ("tz", "Mars"), ("limit", "3"), ("to", "1970-01-01")] {
            assert!(range(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn time_zones_are_iana_names_in_their_own_spelling() {
        let tz = param(Kind::Text, Allowed::TimeZone);
        check(&tz, "UTC", Some("UTC"));
        check(&tz, "europe/berlin", Some("Europe/Berlin"));
        for bad in ["", "Berlin", "+02:00", "Europe/Berlin'", "Etc/Unknown", "../etc/passwd"] {
            check(&tz, bad, None);
        }
    }

    #[test]
    fn a_refusal_names_parameter_type_value_and_what_is_allowed() {
        let limit = Param { name: "limit".to_owned(), ..param(Kind::Unsigned(255), Allowed::Numbers(1.0, 9.0)) };
        let error = limit.value("ten", Timestamp::UNIX_EPOCH, &TimeZone::UTC).unwrap_err();
        assert_eq!(error.to_string(), "parameter limit is \"ten\"; expected a whole number, from 1 to 9");
    }
}
