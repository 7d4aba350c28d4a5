//! Trends: how often events happen, how many people do them, or a sum of an attribute, period by period, and a formula over
//! them.
//!
//! In: the bound parameters of a saved query with `engine: trends`. Out: one statement, and the rows of its answer put in
//! order, with every period there is. Series are named A, B and so on in the order given; the formula is computed here and
//! is never part of the statement. No I/O.

use crate::catalog::BoundQuery;
use crate::formula::Expression;
use crate::funnel::conditions::{Params, fits, sees_ends, value_text};
use crate::funnel::matcher::{self, Matcher};
use crate::funnel::period;
use crate::funnel::property::joined;
use crate::funnel::request::{FunnelError, MatchRequest, parse_conditions};
use crate::funnel::sql::{LINKS, PERSON, read_of_events, write_names};
use crate::funnel::validate::Interval;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Most series: one column of the answer each.
pub const MAX_SERIES: usize = 6;
/// Parameters such a query may have.
pub const PARAMS: [&str; 8] = ["from", "to", "tz", "series", "formula", "period", "breakdown", "breakdown_limit"];
/// Columns of the rows and their types in ClickHouse, in order.
pub const COLUMNS: [(&str, &str); 11] = [
    ("period", "DateTime64(3, 'UTC')"),
    ("local_time", "String"),
    ("group", "String"),
    ("value", "String"),
    ("result", "Nullable(Float64)"),
    ("a", "Nullable(Float64)"),
    ("b", "Nullable(Float64)"),
    ("c", "Nullable(Float64)"),
    ("d", "Nullable(Float64)"),
    ("e", "Nullable(Float64)"),
    ("f", "Nullable(Float64)"),
];

/// What is counted of the events of a series.
#[derive(Debug, Clone, PartialEq)]
enum Measure {
    Events,
    Users,
    Sessions,
    Tenants,
    Sum(String),
    Average(String),
}

#[derive(Debug, Clone, PartialEq)]
struct Series {
    matcher: Matcher,
    measure: Measure,
}

/// A trend that can be computed.
#[derive(Debug, Clone)]
pub struct Trend {
    series: Vec<Series>,
    formula: Option<Expression>,
    breakdown: Option<String>,
    breakdown_limit: u64,
    tz: TimeZone,
    range_ms: (i64, i64),
    periods: Vec<i64>,
}

impl Trend {
    /// Checks what a saved question asks for.
    ///
    /// # Errors
    /// The parameter and what it takes.
    pub fn of(bound: &BoundQuery) -> Result<Self, FunnelError> {
        let given = |name: &str| bound.params.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value);
        let series = series(given("series"))?;
        let formula = Some(given("formula")).filter(|formula| !formula.is_empty());
        let formula = formula.map(|formula| Expression::parse(formula, series.len())).transpose();
        let tz = TimeZone::get(given("tz")).unwrap_or(TimeZone::UTC);
        let range_ms = bound.range_ms.unwrap_or_default();
        let interval = match given("period") {
            "hour" => Interval::Hour,
            "week" => Interval::Week,
            "month" => Interval::Month,
            _ => Interval::Day,
        };
        let periods = period::starts(interval, &tz, range_ms.0, range_ms.1);
        let breakdown = Some(given("breakdown")).filter(|key| !key.is_empty());
        Ok(Self {
            formula: formula.map_err(|error| FunnelError::new("formula", error.to_string()))?,
            series,
            breakdown: breakdown.map(|key| matcher::attribute("breakdown", key)).transpose()?,
            breakdown_limit: given("breakdown_limit").parse().unwrap_or(10),
            tz,
            range_ms,
            periods: periods.map_err(|error| FunnelError { field: "period".to_owned(), ..error })?,
        })
    }

    /// The statement: columns `start` Int64, `value` String (a letter for the type, then its text; `o` for the rest, empty
    /// where missing) and one Float64 for each series.
    pub fn plan(&self, project: u32) -> BoundQuery {
        let mut params = Params::default();
        params.add("project", project.to_string());
        params.add("from_ms", self.range_ms.0.to_string());
        params.add("to_ms", self.range_ms.1.to_string());
        params.look_near(self.range_ms);
        let starts: Vec<String> = self.periods.iter().map(i64::to_string).collect();
        params.add("starts", format!("[{}]", starts.join(",")));
        let joined = self.breakdown.as_ref().and_then(|key| joined(key, &mut params));
        let own = match (&self.breakdown, &joined) {
            (Some(key), None) => value_text(key, &mut params),
            _ => "''".to_owned(),
        };
        let mut inner = format!("SELECT unit, session, tenant, toUnixTimestamp64Milli(time) AS time_ms, {own} AS own");
        let mut outer = String::new();
        for (place, series) in self.series.iter().enumerate() {
            let _infallible = write!(inner, ", toUInt8({}) AS f{place}", fits(&series.matcher, &mut params));
            let measured = match &series.measure {
                Measure::Events => format!("countIf(f{place})"),
                Measure::Users => format!("uniqExactIf(person, f{place} AND person != 0)"),
                Measure::Sessions => format!("uniqExactIf(session, f{place} AND session != 0)"),
                Measure::Tenants => format!("uniqExactIf(tenant, f{place} AND tenant != '')"),
                Measure::Sum(key) | Measure::Average(key) => {
                    let key = params.text(key);
                    let _infallible =
                        write!(inner, ", if(mapContains(numbers, {key}), numbers[{key}], NULL) AS x{place}");
                    let function = if matches!(series.measure, Measure::Sum(_)) { "sumIf" } else { "avgIf" };
                    format!("ifNull({function}(x{place}, f{place}), 0)")
                }
            };
            let _infallible = write!(outer, ", toFloat64({measured}) AS m{place}");
        }
        let matchers: Vec<&Matcher> = self.series.iter().map(|series| &series.matcher).collect();
        inner.push_str(&read_of_events(sees_ends(&matchers)));
        inner.push_str(
            " AND day >= toDate(fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')) \
             AND day <= toDate(fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')) \
             AND time >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') \
             AND time < fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')",
        );
        write_names(&mut inner, &matchers, &[], &mut params);
        let any: Vec<String> = (0..self.series.len()).map(|place| format!("f{place}")).collect();
        let _infallible = write!(inner, " AND ({})", any.join(" OR "));
        let (value, join) = match joined {
            Some(joined) => (joined.value, joined.join),
            None => ("fitting.own".to_owned(), String::new()),
        };
        let fields: String = (0..self.series.len()).fold(String::new(), |mut fields, place| {
            let _infallible = write!(fields, ", f{place}");
            if matches!(self.series.get(place).map(|one| &one.measure), Some(Measure::Sum(_) | Measure::Average(_))) {
                let _infallible = write!(fields, ", x{place}");
            }
            fields
        });
        params.add("most", self.breakdown_limit.to_string());
        // The largest values by people, then by bytes, stand by themselves; all the others are one group.
        let sql = format!(
            "WITH told AS (SELECT {PERSON} AS person, session, fitting.tenant AS tenant, \
             roundDown(time_ms, {{starts:Array(Int64)}}) AS start, {value} AS own_value{fields} \
             FROM ({inner}) AS fitting {LINKS} {join}), \
             largest AS (SELECT own_value FROM told WHERE own_value != '' GROUP BY own_value \
             ORDER BY uniqExactIf(person, person != 0) DESC, count() DESC, own_value LIMIT {{most:UInt64}}) \
             SELECT start, if(own_value = '' OR own_value IN (SELECT own_value FROM largest), own_value, 'o') AS value{outer} \
             FROM told GROUP BY start, value ORDER BY value, start"
        );
        BoundQuery { sql, params: params.into_sorted(), range_ms: Some(self.range_ms) }
    }

    /// The rows of the answer, columns as in [`COLUMNS`], from the rows of the plan: group by group, every period.
    pub fn rows(&self, found: &[Vec<Value>]) -> Vec<Vec<Value>> {
        let mut groups: BTreeMap<(u8, String), BTreeMap<i64, Vec<f64>>> = BTreeMap::new();
        for row in found {
            let [start, value, measures @ ..] = row.as_slice() else { continue };
            let value = value.as_str().unwrap_or_default();
            let rank = match value {
                "" if self.breakdown.is_some() => 3,
                "o" => 2,
                _ => 1,
            };
            let measures = measures.iter().map(|one| one.as_f64().unwrap_or_default()).collect();
            groups.entry((rank, value.to_owned())).or_default().insert(start.as_i64().unwrap_or_default(), measures);
        }
        if groups.is_empty() && self.breakdown.is_none() {
            groups.insert((1, String::new()), BTreeMap::new());
        }
        let mut rows = Vec::new();
        for ((rank, value), periods) in groups {
            let group = match rank {
                3 => "missing",
                2 => "other",
                _ if self.breakdown.is_some() => "value",
                _ => "whole",
            };
            let value = if rank == 1 { value.chars().skip(1).collect() } else { String::new() };
            let nothing = vec![0.0; self.series.len()];
            rows.extend(self.periods.iter().map(|start| {
                let measures = periods.get(start).unwrap_or(&nothing);
                self.row(*start, group, &value, measures)
            }));
        }
        rows
    }

    fn row(&self, start: i64, group: &str, value: &str, measures: &[f64]) -> Vec<Value> {
        let at = Timestamp::from_millisecond(start).unwrap_or_default();
        let local = at.to_zoned(self.tz.clone()).strftime("%Y-%m-%d %H:%M").to_string();
        let result = match &self.formula {
            Some(formula) => formula.value(measures),
            None => measures.first().copied(),
        };
        let mut row = vec![json!(at.to_string()), json!(local), json!(group), json!(value), json!(result)];
        row.extend((0..MAX_SERIES).map(|place| json!(measures.get(place))));
        row
    }
}

/// Series as they are given: names of events separated by commas, or a JSON list of `{"event","where","measure"}`.
fn series(given: &str) -> Result<Vec<Series>, FunnelError> {
    let asked: Vec<(MatchRequest, String)> = if given.trim_start().starts_with('[') {
        let json: Vec<Value> = serde_json::from_str(given)
            .map_err(|error| FunnelError::new("series", format!("is no JSON list: {error}")))?;
        json.into_iter().enumerate().map(|(place, one)| one_of_json(place, one)).collect::<Result<_, _>>()?
    } else {
        let named = |name: &str| MatchRequest {
            event: Some(name.trim()).filter(|name| *name != "*").map(str::to_owned),
            conditions: Vec::new(),
        };
        given.split(',').map(|name| (named(name), "events".to_owned())).collect()
    };
    if !(1..=MAX_SERIES).contains(&asked.len()) {
        return Err(FunnelError::new("series", format!("must hold 1 to {MAX_SERIES} series, given {}", asked.len())));
    }
    let checked = |(place, (asked, measured)): (usize, &(MatchRequest, String))| {
        let path = format!("series[{place}]");
        Ok(Series { matcher: matcher::matcher(&path, asked)?, measure: measure(&path, measured)? })
    };
    asked.iter().enumerate().map(checked).collect()
}

fn one_of_json(place: usize, one: Value) -> Result<(MatchRequest, String), FunnelError> {
    let path = format!("series[{place}]");
    let Value::Object(mut fields) = one else {
        return Err(FunnelError::new(path, r#"must be an object such as {"event":"cart.view","measure":"users"}"#));
    };
    let mut text = |name: &str| match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(FunnelError::new(format!("{path}.{name}"), format!("must be text, given {other}"))),
    };
    let event = text("event")?;
    let measure = text("measure")?.unwrap_or_else(|| "events".to_owned());
    let conditions = match fields.remove("where") {
        None | Some(Value::Null) => Vec::new(),
        Some(json) => parse_conditions(json, &format!("{path}.where"))?,
    };
    match fields.keys().next() {
        None => Ok((MatchRequest { event, conditions }, measure)),
        Some(name) => Err(FunnelError {
            field: format!("{path}.{name}"),
            problem: "is unknown; known here: event, where, measure".to_owned(),
            unknown_field: true,
        }),
    }
}

fn measure(path: &str, given: &str) -> Result<Measure, FunnelError> {
    let field = format!("{path}.measure");
    match (given, given.split_once(':')) {
        ("events", _) => Ok(Measure::Events),
        ("users", _) => Ok(Measure::Users),
        ("sessions", _) => Ok(Measure::Sessions),
        ("tenants", _) => Ok(Measure::Tenants),
        (_, Some(("sum", key))) => Ok(Measure::Sum(matcher::text(&field, key)?)),
        (_, Some(("avg", key))) => Ok(Measure::Average(matcher::text(&field, key)?)),
        _ => {
            let problem = format!("must be events, users, sessions, tenants, sum:KEY or avg:KEY, given {given:?}");
            Err(FunnelError::new(field, problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(series: &str, formula: &str) -> Result<Trend, FunnelError> {
        let given = [("series", series), ("formula", formula), ("tz", "Asia/Kathmandu"), ("period", "day")];
        let params = given.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        // 2026-03-01T18:15:00Z is midnight there.
        Trend::of(&BoundQuery {
            sql: String::new(),
            params,
            range_ms: Some((1_772_388_900_000, 1_772_388_900_000 + 2 * 86_400_000)),
        })
    }

    #[test]
    fn every_period_is_there_and_a_division_by_nothing_has_no_result() {
        let trend = of("a,b", "A / B").unwrap();
        let start = 1_772_388_900_000_i64;
        let rows = trend.rows(&[vec![json!(start), json!(""), json!(3.0), json!(2.0)]]);
        assert_eq!(rows.len(), 2);
        assert_eq!(
            rows[0][..7],
            [
                json!("2026-03-01T18:15:00Z"),
                json!("2026-03-02 00:00"),
                json!("whole"),
                json!(""),
                json!(1.5),
                json!(3.0),
                json!(2.0)
            ]
        );
        assert_eq!((&rows[1][4], &rows[1][5], &rows[1][7]), (&Value::Null, &json!(0.0), &Value::Null));
    }

    #[test]
    fn mistakes_name_the_parameter() {
        for (series, formula, field) in [
            ("", "", "series[0].event"),
            ("a,b,c,d,e,f,g", "", "series"),
            ("a", "A / B", "formula"),
            ("[", "", "series"),
            ("[1]", "", "series[0]"),
            (r#"[{"event":"a","measure":"median:x"}]"#, "", "series[0].measure"),
            (r#"[{"event":"a","were":{}}]"#, "", "series[0].were"),
            (r#"[{"event":"a","where":[{"attr":"x","op":"near","value":1}]}]"#, "", "series[0].where[0].op"),
        ] {
            assert_eq!(of(series, formula).unwrap_err().field, field, "{series} {formula}");
        }
    }

    #[test]
    fn names_and_formulas_never_become_part_of_the_statement() {
        let plan = of(r#"[{"event":"x'); DROP TABLE events; --","measure":"sum:k'ey"}]"#, "A / 2").unwrap().plan(1);
        assert!(!plan.sql.contains("DROP") && !plan.sql.contains("k'ey"), "{}", plan.sql);
    }
}
