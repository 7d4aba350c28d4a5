//! The statement that fetches what a funnel looks at: one row per event that fits a step or an exclusion, in no order.
//!
//! In: a [`Funnel`], a project, which of its rows. Out: a [`FunnelPlan`]: a statement with its parameters, and which columns
//! it answers.
//! Every name, key and value travels as a ClickHouse parameter; the text of the statement holds none of them. The
//! statement decides which event fits what; which chains that makes is decided by [`super::scan`].

use super::conditions::{Params, conditions, fits, hold_key, sees_ends, value_text};
use super::matcher::Matcher;
use super::property;
use super::validate::{Attribution, CountBy, Exclusion, Funnel, Order, Step};
use crate::catalog::BoundQuery;
use std::fmt::Write as _;

/// Kinds a user causes: what "any event" and "other event" mean.
const VISIBLE: &str = "kind IN ('used', 'step', 'event')";

/// The person behind a row joined with `links`.
pub(crate) const PERSON: &str = "if(links.person = 0, fitting.unit, links.person)";

/// Joins each row with the person its unit was first linked to.
pub(crate) const LINKS: &str = "LEFT ANY JOIN (SELECT anonymous, argMin(person, (time, person)) AS person FROM identity_links \
                     WHERE project = {project:UInt32} GROUP BY anonymous) AS links ON fitting.unit = links.anonymous";

/// Which columns the rows of a plan have.
///
/// First `unit_id` UInt64, `time_ms` Int64, `step_mask` (8, 16 or 32 bits, see [`mask_bits`]); then those there are of the
/// following, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says whether one column is there")]
pub struct Columns {
    /// Number of steps: bits of `step_mask`.
    pub steps: usize,
    /// Number of exclusions: bits of `exclusion_mask`, one for each exclusion the event fits; no such column when 0.
    pub exclusions: usize,
    /// `seq` UInt64 and `instance_id` UInt64: the order of events inside a millisecond.
    pub order: bool,
    /// `derived` UInt8: 1 where `unit_id` is a person whose events have no session and are to be split by pauses.
    pub derived: bool,
    /// `visible` UInt8: 1 for an event that breaks a strict chain.
    pub visible: bool,
    /// `hold_key` UInt64: hash of the values held constant; 0 where one is missing.
    pub hold: bool,
    /// `value` String: breakdown value as a letter for its type (`s`, `n`, `b`) and its text; empty where missing.
    pub value: bool,
}

impl Columns {
    /// The columns a funnel needs, with or without the order of events inside a millisecond.
    pub(crate) fn of(funnel: &Funnel, order: bool) -> Self {
        Self {
            steps: funnel.steps.len(),
            exclusions: funnel.exclusions.len(),
            order,
            derived: funnel.count_by == CountBy::Session,
            visible: funnel.order == Order::Strict,
            hold: !funnel.hold.is_empty(),
            value: funnel.breakdown.is_some(),
        }
    }
}

/// Width of the narrowest integer with this many bits for masks.
pub(crate) fn mask_bits(bits: usize) -> usize {
    match bits {
        0..=8 => 8,
        9..=16 => 16,
        _ => 32,
    }
}

/// ClickHouse's name for it.
pub(crate) fn mask_type(bits: usize) -> &'static str {
    match mask_bits(bits) {
        8 => "UInt8",
        16 => "UInt16",
        _ => "UInt32",
    }
}

/// Which of a funnel's rows to fetch, and how.
#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    /// Whether any session or anonymous id is linked to a person. Without links the rows need not be joined with them.
    pub has_links: bool,
    /// Whether rows tell the order of events inside a millisecond. They cost twice as much.
    pub order: bool,
    /// Only this part of all units, of so many: for questions whose rows do not fit into memory at once.
    pub part: (u32, u32),
    /// Only these units; all when empty.
    pub units: &'a [u64],
    /// Only what lies at these instants, milliseconds since the Unix epoch; all when empty.
    pub times_ms: &'a [i64],
}

impl Default for Fetch<'_> {
    /// Everything at once.
    fn default() -> Self {
        Self { has_links: true, order: true, part: (0, 1), units: &[], times_ms: &[] }
    }
}

/// What to ask ClickHouse for a funnel.
#[derive(Debug, Clone)]
pub struct FunnelPlan {
    /// The statement; its rows come in no order.
    pub bound: BoundQuery,
    /// The columns of its rows.
    pub columns: Columns,
}

impl Funnel {
    /// The statement for all rows of this funnel in `project`.
    pub fn plan(&self, project: u32) -> FunnelPlan {
        self.plan_part(project, &Fetch::default())
    }

    /// The statement for some of the rows of this funnel in `project`.
    pub fn plan_part(&self, project: u32, fetch: &Fetch<'_>) -> FunnelPlan {
        let columns = Columns::of(self, fetch.order);
        let mut params = Params::default();
        params.add("project", project.to_string());
        params.look_near((self.from_ms, self.until_ms()));
        let inner = self.fitting_rows(columns, fetch, &mut params);
        let sql = self.resolved_rows(&inner, columns, fetch, &mut params);
        let range_ms = Some((self.from_ms, self.to_ms));
        FunnelPlan { bound: BoundQuery { sql, params: params.into_sorted(), range_ms }, columns }
    }

    /// Whether the rows of a unit can be told by its number alone. Not those of sessions: the number may stand for a
    /// session and for a person without one.
    pub fn tells_units_by_number(&self) -> bool {
        self.count_by != CountBy::Session
    }

    /// Whether the order of events inside a millisecond is fetched at once, since it cannot be asked for again. It doubles what a
    /// row costs to fetch and to hold, and few units need it: others are asked for without.
    pub fn fetches_order_at_once(&self) -> bool {
        !self.tells_units_by_number()
    }

    /// Last instant that can belong to a chain.
    pub(crate) fn until_ms(&self) -> i64 {
        (self.to_ms - 1).saturating_add(self.window_ms)
    }

    /// The inner statement: rows of the table `events` with their masks, units not yet resolved.
    fn fitting_rows(&self, columns: Columns, fetch: &Fetch<'_>, params: &mut Params) -> String {
        let mut sql = String::from(
            "SELECT unit, session, tenant, toUnixTimestamp64Milli(time) AS time_ms, seq, \
             CAST(instance AS UInt64) AS instance_id",
        );
        // A derived session is cut by pauses in all that its person did, so rows a filter hides must still come through;
        // the filter then only clears their masks.
        let steps: Vec<&Matcher> = self.steps.iter().map(|Step { matcher, .. }| matcher).collect();
        let exclusions: Vec<&Matcher> = self.exclusions.iter().map(|Exclusion { matcher, .. }| matcher).collect();
        let with_ends = sees_ends(&steps) || sees_ends(&exclusions);
        let seen = conditions(&self.filter, with_ends, params);
        let fillers = self.count_by == CountBy::Session;
        let masked = |mask: String| match &seen {
            Some(seen) if fillers => format!("if({seen}, {mask}, 0)"),
            _ => mask,
        };
        let step_mask = masked(mask(&steps, params));
        write_column(&mut sql, &step_mask, "step_mask");
        let mut wanted = vec!["step_mask != 0".to_owned()];
        if columns.exclusions > 0 {
            write_column(&mut sql, &masked(mask(&exclusions, params)), "exclusion_mask");
            wanted.push("exclusion_mask != 0".to_owned());
        }
        if columns.visible {
            let visible = match &seen {
                Some(seen) if fillers => format!("toUInt8({VISIBLE} AND {seen})"),
                _ => format!("toUInt8({VISIBLE})"),
            };
            write_column(&mut sql, &visible, "visible");
            wanted.push("visible = 1".to_owned());
        }
        if columns.hold {
            write_column(&mut sql, &hold_key(&self.hold, params), "hold_key");
        }
        if fillers {
            wanted.push("(session = 0 AND unit != 0)".to_owned());
        }
        let mut rows = read_of_events(with_ends);
        if !fillers && !columns.visible {
            write_names(&mut rows, &steps, &exclusions, params);
        }
        self.write_range(&mut rows, fillers, params);
        if !fetch.times_ms.is_empty() {
            let times: Vec<String> = fetch.times_ms.iter().map(i64::to_string).collect();
            params.add("times", format!("[{}]", times.join(",")));
            // As a set of what the column holds, so that ClickHouse finds them by the sorting key.
            rows.push_str(" AND time IN (SELECT fromUnixTimestamp64Milli(arrayJoin({times:Array(Int64)}), 'UTC'))");
        }
        if let (Some(seen), false) = (&seen, fillers) {
            let _infallible = write!(rows, " AND {seen}");
        }
        let _infallible = write!(rows, " AND ({})", wanted.join(" OR "));
        match self.breakdown.as_ref().filter(|key| !property::is_joined(key)) {
            None => sql + &rows,
            Some(key) => self.valued_rows(&sql, key, &rows, params),
        }
    }

    /// The inner statement with the breakdown's value, which is read where it can count only: reading and sending the value of a row
    /// costs more than all the rest of it.
    fn valued_rows(&self, columns: &str, key: &str, rows: &str, params: &mut Params) -> String {
        let value = value_text(key, params);
        let Some(valued) = self.valued_steps() else { return format!("{columns}, {value} AS value{rows}") };
        let steps: Vec<&Matcher> = self.steps[..valued].iter().map(|step| &step.matcher).collect();
        let mut named = String::new();
        write_names(&mut named, &steps, &[], params);
        let bits = (1_u64 << valued) - 1;
        format!(
            "{columns}, {value} AS value{rows}{named} AND bitAnd(step_mask, {bits}) != 0 \
             UNION ALL {columns}, '' AS value{rows} AND bitAnd(step_mask, {bits}) = 0"
        )
    }

    /// How many of the first steps have values that can count: those up to the one whose value stands for the chain. `None`: all.
    ///
    /// Of chains that differ by their values alone the one with the least counts, step by step; so values behind that step
    /// decide nothing. Where steps come in any order it is not known beforehand which event is the first.
    pub(crate) fn valued_steps(&self) -> Option<usize> {
        let steps = match self.attribution {
            Attribution::First => 1,
            Attribution::Step(step) => step + 1,
            Attribution::Last => return None,
        };
        (self.order != Order::Any && steps < self.steps.len()).then_some(steps)
    }

    /// Restricts the rows to the time of the funnel. The sorting key holds the minute, so ClickHouse skips the rest.
    fn write_range(&self, sql: &mut String, fillers: bool, params: &mut Params) {
        params.add("until_ms", self.until_ms().min(LAST_MS).to_string());
        sql.push_str(" AND time <= fromUnixTimestamp64Milli({until_ms:Int64}, 'UTC')");
        params.add("from_ms", self.from_ms.to_string());
        if !self.first_time {
            sql.push_str(" AND time >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')");
        } else if !fillers && self.order != Order::Any {
            // Earlier entries are read to know which one is the first; nothing else before the range matters.
            sql.push_str(" AND (time >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') OR bitTest(step_mask, 0))");
        }
    }

    /// The outer statement: units resolved, cohort applied.
    fn resolved_rows(&self, inner: &str, columns: Columns, fetch: &Fetch<'_>, params: &mut Params) -> String {
        let joined = self.breakdown.as_ref().and_then(|key| property::joined(key, params));
        // What is joined is joined onto links.
        let has_links = fetch.has_links || joined.is_some();
        let unit = self.unit_expression(has_links);
        let mut sql = format!("SELECT {unit} AS unit_id, time_ms, step_mask");
        let value = joined.as_ref().map_or_else(|| "value".to_owned(), |joined| format!("{} AS value", joined.value));
        let optional = [
            (columns.exclusions > 0, "exclusion_mask"),
            (columns.order, "seq, instance_id"),
            (columns.derived, "toUInt8(session = 0) AS derived"),
            (columns.visible, "visible"),
            (columns.hold, "hold_key"),
            (columns.value, &value),
        ];
        for (_, column) in optional.iter().filter(|(is_there, _)| *is_there) {
            let _infallible = write!(sql, ", {column}");
        }
        let _infallible = write!(sql, " FROM ({inner}) AS fitting");
        if has_links && (self.count_by != CountBy::Tenant || self.cohort.is_some() || joined.is_some()) {
            let _infallible = write!(sql, " {LINKS}");
        }
        if let Some(joined) = &joined {
            let _infallible = write!(sql, " {}", joined.join);
        }
        let mut wanted = Vec::new();
        if let Some(users) = &self.cohort {
            let ids: Vec<String> = users.iter().map(|user| params.text(user)).collect();
            let person = if has_links { PERSON } else { "fitting.unit" };
            wanted.push(format!(
                "{person} IN (SELECT unit FROM units WHERE project = {{project:UInt32}} AND kind = 'user' \
                 AND id IN ({}))",
                ids.join(", ")
            ));
        }
        let (part, parts) = fetch.part;
        if parts > 1 {
            params.add("part", part.to_string());
            params.add("parts", parts.to_string());
            wanted.push("intDiv(unit_id, 64) % {parts:UInt32} = {part:UInt32}".to_owned());
        }
        if !fetch.units.is_empty() {
            let units: Vec<String> = fetch.units.iter().map(u64::to_string).collect();
            params.add("units", format!("[{}]", units.join(",")));
            wanted.push("unit_id IN {units:Array(UInt64)}".to_owned());
        }
        if !wanted.is_empty() {
            let _infallible = write!(sql, " WHERE {}", wanted.join(" AND "));
        }
        sql
    }

    /// The unit of a row of `events`, joined with `links` where there are any, 0 where it has none.
    fn unit_expression(&self, has_links: bool) -> &'static str {
        match (self.count_by, has_links) {
            (CountBy::User, true) => PERSON,
            (CountBy::User, false) => "fitting.unit",
            (CountBy::Session, true) => "if(session != 0, session, if(links.person = 0, fitting.unit, links.person))",
            (CountBy::Session, false) => "if(session != 0, session, fitting.unit)",
            (CountBy::Tenant, _) => "if(tenant = '', 0, greatest(sipHash64(tenant), 1))",
        }
    }

    /// The statement for what these units, each with the instant it dropped, did next and last: one row each, columns
    /// `unit` UInt64, `at_ms` Int64, `id`, `id_kind`, `next_event`, `next_ms` Int64, `last_event`, `last_ms` Int64; empty and 0 where
    /// there is none.
    pub fn plan_dropped(&self, project: u32, units: &[(u64, i64)]) -> BoundQuery {
        let list = |numbers: Vec<String>| format!("[{}]", numbers.join(","));
        let mut params = Params::default();
        params.add("project", project.to_string());
        params.add("units", list(units.iter().map(|(unit, _)| unit.to_string()).collect()));
        params.add("times", list(units.iter().map(|(_, at)| at.to_string()).collect()));
        params.add("from_ms", self.from_ms.to_string());
        let unit = self.unit_expression(true);
        let (id, kind) = match self.count_by {
            CountBy::Tenant => ("any(did.tenant)", "'tenant'"),
            CountBy::User | CountBy::Session => ("any(names.id)", "any(names.kind)"),
        };
        let sql = format!(
            "SELECT asked.unit AS unit, asked.at_ms AS at_ms, {id} AS id, {kind} AS id_kind, \
             argMinIf(did.name, (did.time_ms, did.name), did.time_ms > asked.at_ms) AS next_event, \
             minIf(did.time_ms, did.time_ms > asked.at_ms) AS next_ms, \
             argMax(did.name, (did.time_ms, did.name)) AS last_event, max(did.time_ms) AS last_ms \
             FROM (SELECT pair.1 AS unit, pair.2 AS at_ms FROM \
             (SELECT arrayJoin(arrayZip({{units:Array(UInt64)}}, {{times:Array(Int64)}})) AS pair)) AS asked \
             LEFT JOIN (SELECT {unit} AS unit_id, toString(fitting.name) AS name, fitting.time_ms AS time_ms, \
             toString(fitting.tenant) AS tenant FROM \
             (SELECT unit, session, tenant, name, toUnixTimestamp64Milli(time) AS time_ms FROM events \
             WHERE project = {{project:UInt32}} AND {VISIBLE} \
             AND day >= toDate(fromUnixTimestamp64Milli({{from_ms:Int64}}, 'UTC')) \
             AND time >= fromUnixTimestamp64Milli({{from_ms:Int64}}, 'UTC')) AS fitting {LINKS} \
             WHERE unit_id IN {{units:Array(UInt64)}}) AS did ON did.unit_id = asked.unit \
             LEFT JOIN (SELECT unit, any(id) AS id, toString(any(kind)) AS kind FROM units \
             WHERE project = {{project:UInt32}} AND unit IN {{units:Array(UInt64)}} GROUP BY unit) AS names \
             ON names.unit = asked.unit GROUP BY unit, at_ms"
        );
        BoundQuery { sql, params: params.into_sorted(), range_ms: Some((self.from_ms, self.to_ms)) }
    }

    /// The step whose value stands for a unit that reached `level` steps; `None` when it did not reach that step.
    pub(crate) fn value_step(&self, level: usize) -> Option<usize> {
        match self.attribution {
            Attribution::First => Some(0),
            Attribution::Last => level.checked_sub(1),
            Attribution::Step(step) => (step < level).then_some(step),
        }
    }
}

/// Last instant `DateTime64` holds, 2299-12-31T23:59:59.999Z.
pub(crate) const LAST_MS: i64 = 10_413_791_999_999;

/// The alias of reads that may hold ends of attempts beside other events: conditions are asked of their beginnings
/// ([`crate::population`]).
pub(crate) const WITH_ENDS: &str = "with_ends";

/// The read of a project's events.
pub(crate) fn read_of_events(with_ends: bool) -> String {
    let alias = if with_ends { format!(" AS {WITH_ENDS}") } else { String::new() };
    format!(" FROM events{alias} WHERE project = {{project:UInt32}}")
}

fn write_column(sql: &mut String, expression: &str, alias: &str) {
    let _infallible = write!(sql, ", {expression} AS {alias}");
}

/// Restricts the rows to the names in question, which lead the sorting key; nothing where some matcher has no name.
pub(crate) fn write_names(sql: &mut String, steps: &[&Matcher], exclusions: &[&Matcher], params: &mut Params) {
    let names: Option<Vec<&str>> =
        steps.iter().chain(exclusions).map(|matcher| Some(matcher.event.as_ref()?.name.as_str())).collect();
    if let Some(mut names) = names {
        names.sort_unstable();
        names.dedup();
        let names: Vec<String> = names.into_iter().map(|name| params.text(name)).collect();
        let _infallible = write!(sql, " AND name IN ({})", names.join(", "));
    }
}

/// One bit for each matcher the event fits. Matchers that say the same share a term.
fn mask(matchers: &[&Matcher], params: &mut Params) -> String {
    let kind = mask_type(matchers.len());
    let mut terms: Vec<(String, u64)> = Vec::new();
    for (bit, matcher) in matchers.iter().enumerate() {
        let fits = fits(matcher, params);
        match terms.iter_mut().find(|(known, _)| *known == fits) {
            Some((_, bits)) => *bits |= 1 << bit,
            None => terms.push((fits, 1 << bit)),
        }
    }
    let terms = terms.into_iter().map(|(fits, bits)| format!("if({fits}, to{kind}({bits}), to{kind}(0))"));
    terms.reduce(|all, term| format!("bitOr({all}, {term})")).unwrap_or_default()
}
