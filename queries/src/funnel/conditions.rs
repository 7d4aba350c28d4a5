//! Conditions on events and values of their attributes, as expressions over the columns of `events`.
//!
//! In: conditions, keys. Out: text whose names and values are ClickHouse parameters, kept in [`Params`].
//!
//! Numbers travel as the 64 bits of their floating point form, because ClickHouse's default parser of decimal text may be
//! one unit off in the last place and `eq` must mean equal.

use super::matcher::{Comparison, Condition, Matcher, Scalar, Test};
use super::overlap::kinds;
use super::property::Property;
use super::sql::LAST_MS;
use gemba_conventions::{EventKind, attribute};
use std::collections::BTreeMap;

/// The values of a statement's parameters. Equal texts share one.
#[derive(Default)]
pub(crate) struct Params {
    values: BTreeMap<String, String>,
    texts: BTreeMap<String, String>,
    prefix: &'static str,
    /// The placeholders of the range that is looked at, milliseconds since the Unix epoch.
    range: Option<(String, String)>,
}

impl Params {
    /// Tells in which range is looked, so that what belongs to it is looked for near it.
    pub(crate) fn look_near(&mut self, (from_ms, to_ms): (i64, i64)) {
        let [from, to] = ["from", "to"].map(|end| format!("{}near_{end}", self.prefix));
        self.values.insert(from.clone(), from_ms.saturating_sub(LONGEST_ATTEMPT_MS).max(0).to_string());
        self.values.insert(to.clone(), to_ms.saturating_add(LONGEST_ATTEMPT_MS).min(LAST_MS).to_string());
        self.range = Some((from, to));
    }

    /// Parameters whose names begin so, for a part that is put into a statement with parameters of its own.
    pub(crate) fn with_prefix(prefix: &'static str) -> Self {
        Self { prefix, ..Self::default() }
    }

    pub(crate) fn add(&mut self, name: &str, value: String) {
        self.values.insert(name.to_owned(), value);
    }

    /// The placeholder of a text.
    pub(crate) fn text(&mut self, text: &str) -> String {
        let next = format!("{}t{}", self.prefix, self.texts.len());
        let name = self.texts.entry(text.to_owned()).or_insert(next).clone();
        self.values.insert(name.clone(), text.to_owned());
        format!("{{{name}:String}}")
    }

    /// The expression of a number, exact to the bit.
    fn number(&mut self, number: f64) -> String {
        let name = format!("{}n{}", self.prefix, self.values.len());
        self.values.insert(name.clone(), number.to_bits().to_string());
        format!("reinterpretAsFloat64({{{name}:UInt64}})")
    }

    pub(crate) fn into_sorted(self) -> Vec<(String, String)> {
        self.values.into_iter().collect()
    }
}

/// Whether the event fits, as an expression of 0 or 1.
pub(crate) fn fits(matcher: &Matcher, params: &mut Params) -> String {
    let kinds: Vec<String> = kinds(matcher).iter().map(|kind| format!("'{kind}'")).collect();
    let mut terms = Vec::new();
    if let Some(event) = &matcher.event {
        terms.push(format!("name = {}", params.text(&event.name)));
    }
    terms.push(format!("kind IN ({})", kinds.join(", ")));
    terms.extend(conditions(&matcher.conditions, sees_ends(&[matcher]), params));
    format!("({})", terms.join(" AND "))
}

/// Whether one of these can be fitted by the end of an attempt.
pub(crate) fn sees_ends(matchers: &[&Matcher]) -> bool {
    matchers.iter().any(|matcher| kinds(matcher).contains(&EventKind::Ended))
}

/// All conditions together; `None` where there are none. `with_ends`: the rows may be ends of attempts.
pub(crate) fn conditions(list: &[Condition], with_ends: bool, params: &mut Params) -> Option<String> {
    let one = |item: &Condition, params: &mut Params| match bearer(&item.attr) {
        Bearer::Beginning if with_ends => told_by_beginning(item, params, condition),
        _ => condition(item, params),
    };
    let terms: Vec<String> = list.iter().map(|item| one(item, params)).collect();
    (!terms.is_empty()).then(|| format!("({})", terms.join(" AND ")))
}

/// How far from the range looked at the other row of an attempt is looked for: without a bound every condition would read all of
/// the project's history. Chosen: an attempt that spans requests may take days.
const LONGEST_ATTEMPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// The alias of that read: it is of everybody, since who is looked at is decided by the row it answers for.
pub(crate) const OTHER_ROW: &str = "other_row";

/// Whether a row meets a condition on what the application gave along, which the end of an attempt does not repeat: its
/// beginning answers for it. `meets` is the condition on a row of its own.
pub(crate) fn told_by_beginning(
    asked: &Condition,
    params: &mut Params,
    meets: impl Fn(&Condition, &mut Params) -> String,
) -> String {
    told_by_other(asked, ("started", "ended"), params, meets)
}

/// The same on what became of an attempt: its end answers for the beginning, and where there is none it has no such attribute.
pub(crate) fn told_by_end(
    asked: &Condition,
    params: &mut Params,
    meets: impl Fn(&Condition, &mut Params) -> String,
) -> String {
    told_by_other(asked, ("ended", "started"), params, meets)
}

fn told_by_other(
    asked: &Condition,
    (told_by, other): (&str, &str),
    params: &mut Params,
    meets: impl Fn(&Condition, &mut Params) -> String,
) -> String {
    // What an attempt without the other row lacks meets a condition that something is not so.
    let (positive, negated) = asked.positive();
    let (told, own) = (meets(&positive, params), meets(asked, params));
    let is_in = if negated { "NOT IN" } else { "IN" };
    let near = params.range.as_ref().map_or_else(String::new, |(from, to)| {
        format!(
            " AND time >= fromUnixTimestamp64Milli({{{from}:Int64}}, 'UTC') \
             AND time < fromUnixTimestamp64Milli({{{to}:Int64}}, 'UTC')"
        )
    });
    format!(
        "if(kind = '{other}' AND attempt != 0, attempt {is_in} (SELECT attempt FROM events AS {OTHER_ROW} \
         WHERE project = {{project:UInt32}} AND kind = '{told_by}' AND attempt != 0{near} AND {told}), {own})"
    )
}

/// Where the value of an attribute is kept.
enum Source {
    /// A column of text; empty means absent.
    Text(&'static str),
    /// A column of numbers, on ended attempts only.
    Number(&'static str),
    /// A column of flags, on ended attempts only.
    Flag(&'static str),
    /// The id behind this column, of this kind in the table `units`.
    Id(&'static str, &'static str),
    /// The three maps; holds the placeholder of the key.
    Maps(String),
    /// A property of the person or the tenant, not of the event.
    Property(Property),
}

/// Which of the two events of an attempt knows an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bearer {
    Both,
    /// Both, and every other event of the person as well: it is about them.
    Person,
    /// What the application gave along.
    Beginning,
    /// What became of it.
    End,
}

pub(crate) fn bearer(key: &str) -> Bearer {
    match column(key) {
        _ if [attribute::ERROR_TYPE, attribute::OUTCOME, attribute::OUTCOME_REASON].contains(&key) => Bearer::End,
        Some(Source::Number(_) | Source::Flag(_)) => Bearer::End,
        Some(Source::Text("tenant") | Source::Id("unit", _)) => Bearer::Person,
        Some(_) => Bearer::Both,
        None if Property::is_named_by(key) => Bearer::Person,
        None => Bearer::Beginning,
    }
}

fn source(key: &str, params: &mut Params) -> Source {
    column(key).unwrap_or_else(|| match Property::of(key, params) {
        Some(property) => Source::Property(property),
        None => Source::Maps(params.text(key)),
    })
}

/// The column of an attribute that has one of its own.
fn column(key: &str) -> Option<Source> {
    Some(match key {
        attribute::SERVICE_VERSION => Source::Text("release"),
        attribute::SERVICE_NAME => Source::Text("service"),
        attribute::ENVIRONMENT | attribute::ENVIRONMENT_OLD => Source::Text("environment"),
        attribute::TENANT => Source::Text("tenant"),
        attribute::ERROR_TYPE => Source::Text("error_type"),
        attribute::OUTCOME => Source::Text("toString(outcome)"),
        attribute::OUTCOME_REASON => Source::Text("outcome_reason"),
        attribute::FEATURE_NAME => {
            Source::Text("if(kind IN ('used', 'started', 'ended'), toString(name), toString(feature))")
        }
        attribute::DURATION_NS => Source::Number("toFloat64(duration_ns)"),
        attribute::OUTCOME_INFERRED => Source::Flag("outcome_inferred"),
        attribute::USER_ID => Source::Id("unit", "user"),
        attribute::SESSION_ID => Source::Id("session", "session"),
        _ => return None,
    })
}

pub(crate) fn condition(condition: &Condition, params: &mut Params) -> String {
    let source = source(&condition.attr, params);
    match &condition.test {
        Test::In(values) => {
            let terms: Vec<String> = values.iter().map(|value| equals(&source, value, params)).collect();
            format!("({})", terms.join(" OR "))
        }
        Test::NotEqual(value) => format!("NOT {}", equals(&source, value, params)),
        Test::Contains(part) => {
            let part = params.text(part);
            text_test(&source, |text| format!("position({text}, {part}) > 0"))
        }
        Test::Compare(comparison, bound) => {
            let sign = match comparison {
                Comparison::Less => "<",
                Comparison::LessOrEqual => "<=",
                Comparison::Greater => ">",
                Comparison::GreaterOrEqual => ">=",
            };
            match bound {
                Scalar::Text(bound) => {
                    let bound = params.text(bound);
                    text_test(&source, |text| format!("{text} {sign} {bound}"))
                }
                Scalar::Number(bound) => {
                    let bound = params.number(*bound);
                    number_test(&source, |number| format!("{number} {sign} {bound}"))
                }
                Scalar::Flag(_) => "0".to_owned(),
            }
        }
        Test::Present(true) => present(&source),
        Test::Present(false) => format!("NOT {}", present(&source)),
    }
}

fn equals(source: &Source, value: &Scalar, params: &mut Params) -> String {
    match value {
        Scalar::Text(value) => {
            let value = params.text(value);
            text_test(source, |text| format!("{text} = {value}"))
        }
        Scalar::Number(value) => {
            let value = params.number(*value);
            number_test(source, |number| format!("{number} = {value}"))
        }
        Scalar::Flag(value) => match source {
            Source::Flag(column) => format!("(kind = 'ended' AND {column} = {value})"),
            Source::Maps(key) => format!("(mapContains(bools, {key}) AND bools[{key}] = {value})"),
            Source::Property(property) => property.test("bools", |flag| format!("{flag} = {value}")),
            _ => "0".to_owned(),
        },
    }
}

/// A test of the attribute as text; false where it is none.
fn text_test(source: &Source, test: impl Fn(&str) -> String) -> String {
    match source {
        Source::Text(column) => format!("({column} != '' AND {})", test(column)),
        Source::Maps(key) => format!("(mapContains(strings, {key}) AND {})", test(&format!("strings[{key}]"))),
        Source::Id(column, kind) => {
            let test = test("id");
            format!(
                "({column} IN (SELECT unit FROM units WHERE project = {{project:UInt32}} AND kind = '{kind}' AND {test}))"
            )
        }
        Source::Property(property) => property.test("strings", test),
        Source::Number(_) | Source::Flag(_) => "0".to_owned(),
    }
}

/// A test of the attribute as a number; false where it is none.
fn number_test(source: &Source, test: impl Fn(&str) -> String) -> String {
    match source {
        Source::Number(column) => format!("(kind = 'ended' AND {})", test(column)),
        Source::Maps(key) => format!("(mapContains(numbers, {key}) AND {})", test(&format!("numbers[{key}]"))),
        Source::Property(property) => property.test("numbers", test),
        Source::Text(_) | Source::Flag(_) | Source::Id(..) => "0".to_owned(),
    }
}

fn present(source: &Source) -> String {
    match source {
        Source::Text(column) => format!("({column} != '')"),
        Source::Number(_) | Source::Flag(_) => "(kind = 'ended')".to_owned(),
        Source::Id(..) => text_test(source, |_| "1".to_owned()),
        Source::Maps(key) => {
            format!("(mapContains(strings, {key}) OR mapContains(numbers, {key}) OR mapContains(bools, {key}))")
        }
        Source::Property(property) => property.present(),
    }
}

/// The attribute's value with a letter for its type; empty where it is missing.
pub(crate) fn value_text(key: &str, params: &mut Params) -> String {
    match source(key, params) {
        Source::Text(column) => format!("if({column} = '', '', concat('s', {column}))"),
        Source::Number(column) => format!("if(kind = 'ended', concat('n', toString({column})), '')"),
        Source::Flag(column) => format!("if(kind = 'ended', if({column}, 'btrue', 'bfalse'), '')"),
        // Ids are people, not groups; the hash tells them apart where they are held constant.
        Source::Id(column, _) => format!("if({column} = 0, '', concat('s', toString({column})))"),
        Source::Maps(key) => property_value(&key),
        // Belongs to the person, so it is joined where people are known; see `joined`.
        Source::Property(_) => "''".to_owned(),
    }
}

/// The value of a key in the three maps of a row, by its placeholder.
///
/// Keys and values are looked at apart: `map[key]` builds the pair of each row anew, which took a fifth more of the engine's time.
pub(crate) fn property_value(key: &str) -> String {
    let at = |map: &str| format!("indexOf({map}.keys, {key})");
    let value = |map: &str| format!("{map}.values[{}]", at(map));
    format!(
        "multiIf({} > 0, concat('s', {}), {} > 0, concat('n', toString({})), {} > 0, if({}, 'btrue', 'bfalse'), '')",
        at("strings"),
        value("strings"),
        at("numbers"),
        value("numbers"),
        at("bools"),
        value("bools"),
    )
}

/// One number for the values of all attributes held constant; 0 where one of them is missing.
pub(super) fn hold_key(keys: &[String], params: &mut Params) -> String {
    let values: Vec<String> = keys.iter().map(|key| value_text(key, params)).collect();
    let missing: Vec<String> = values.iter().map(|value| format!("({value}) = ''")).collect();
    format!("if({}, 0, greatest(sipHash64({}), 1))", missing.join(" OR "), values.join(", "))
}
