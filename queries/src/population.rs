//! Whose events a question looks at, and as known when: cohorts, conditions and the project's filter on any saved query.
//!
//! In: a [`BoundQuery`] and a [`Population`]. Out: the same statement, whose every read of `events` sees only the events of
//! that population, and whose every read of a table sees only what had been received by an instant. The rules of saved
//! queries make this possible: a table is always read as `FROM table [FINAL] [AS alias] WHERE project = ..`, so a subquery
//! can stand in its place. Names and values travel as parameters. No I/O.

use crate::catalog::BoundQuery;
use crate::error::ParamError;
use crate::funnel::conditions::{
    Bearer, OTHER_ROW, Params, bearer, condition, fits, sees_ends, told_by_beginning, told_by_end, value_text,
};
use crate::funnel::matcher::{self, Condition, Matcher, Scalar, Test};
use crate::funnel::property::{USER, joined, of_people};
use crate::funnel::request::{ConditionRequest, FunnelError, MatchRequest, parse_conditions};
use crate::funnel::sql::{LINKS, PERSON, WITH_ENDS, read_of_events};
use crate::lex::{Token, TokenKind, tokens};
use crate::rules::{PRESENCE, TABLES};
use gemba_conventions::attribute;
use serde_json::Value;
use std::fmt::Write as _;

/// Tables whose rows are not received but looked up.
const TIMELESS: [&str; 2] = ["units", "resources"];
/// Tables about what happened to everybody: a question that reads one cannot be asked of some people.
const OF_EVERYBODY: [&str; 6] =
    ["query_usage", "query_histograms", "query_samples", "query_texts", "requests", "ledger"];
/// The alias of reads that match the beginnings of attempts with their ends, in the shared expressions.
const ATTEMPT_ROWS: &str = "attempt_rows";
/// The alias of reads of who was shown which variant.
const EXPOSURES: &str = "exposures";
/// Its rows as the projection `activity` has them: a quarter of an hour, unit and session each.
const PRESENCE_ROLLED_UP: &str = "SELECT project, `toStartOfFifteenMinutes(time)` AS moment, unit, session, \
    finalizeAggregation(`countIf(notEquals(kind, 'ended'))`) AS uses \
    FROM mergeTreeProjection(currentDatabase(), 'events', 'activity') WHERE project = {project:UInt32} AND uses > 0";
/// The same rows, one for each event.
const PRESENCE_OF_EVENTS: &str = "SELECT project, time AS moment, unit, session, toUInt64(1) AS uses \
    FROM events WHERE project = {project:UInt32} AND kind != 'ended'";
/// Values a question is split into, besides the rest and those without. Chosen: each is a question of its own.
pub const MAX_SPLIT: usize = 10;

/// A cohort as it was at one of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CohortVersion {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
}

/// What the table `unit_presence` stands for in a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The events themselves.
    Events,
    /// The projection `activity`, which must be there in every part of `events`. Moments are quarters of an hour.
    RolledUp,
}

/// Whose events are looked at; the default is everybody's, all that is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Population {
    /// Only the people of this cohort.
    pub cohort: Option<CohortVersion>,
    /// Only events that meet all of these.
    pub only: Vec<Condition>,
    /// No event that meets one of these: internal users, bots.
    pub without: Vec<Condition>,
    /// Nothing received at or after this, milliseconds since the Unix epoch.
    pub received_before_ms: Option<i64>,
}

/// Reads conditions as they are given in a parameter: JSON, an object (equality) or a list of `{attr, op, value}`.
///
/// # Errors
/// The field, named below `field`.
pub fn conditions(field: &str, json: &str) -> Result<Vec<Condition>, FunnelError> {
    let json: Value = serde_json::from_str(json).map_err(|error| {
        let problem = format!("must be JSON such as {{\"plan\":\"pro\"}} or [{{\"attr\",\"op\",\"value\"}}]: {error}");
        FunnelError::new(field, problem)
    })?;
    let asked: Vec<ConditionRequest> = parse_conditions(json, field)?;
    matcher::conditions(field, &asked)
}

/// Reads a filter: a list of conditions of which none may hold.
///
/// # Errors
/// The field, named below `exclude`.
pub fn exclusions(json: Value) -> Result<Vec<Condition>, FunnelError> {
    matcher::conditions("exclude", &parse_conditions(json, "exclude")?)
}

/// Whether a saved question looks at people, so that it can be asked of some of them: it reads `events` or `unit_presence`
/// and nothing about everybody. Questions of trust count everything.
pub fn is_about_people(folder: &str, sql: &str) -> bool {
    let tokens = tokens(sql);
    let read: Vec<&str> = (0..tokens.len()).filter_map(|index| Some(read_at(&tokens, index)?.table)).collect();
    folder != "trust"
        && (read.contains(&"events") || read.contains(&PRESENCE))
        && !read.iter().any(|table| OF_EVERYBODY.contains(table))
}

impl Population {
    /// Whether it is everybody, and all that is known.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// The same population, narrowed to events that meet these conditions as well.
    #[must_use]
    pub fn narrowed(&self, further: Vec<Condition>) -> Self {
        let mut only = self.only.clone();
        only.extend(further);
        Self { only, ..self.clone() }
    }

    /// Everybody, as known at the same instant.
    #[must_use]
    pub fn everybody(&self) -> Self {
        Self { received_before_ms: self.received_before_ms, ..Self::default() }
    }

    /// Whether the statement reads `unit_presence`, and of this population the projection can tell: it knows people and sessions, and
    /// not what else an event said, nor when it was received. Not where the statement has settings of its own.
    pub fn may_be_rolled_up(&self, bound: &BoundQuery) -> bool {
        let tokens = tokens(&bound.sql);
        (0..tokens.len()).any(|index| read_at(&tokens, index).is_some_and(|read| read.table == PRESENCE))
            && !tokens.iter().any(|token| token.kind.is_word("SETTINGS"))
            && self.received_before_ms.is_none()
            && self.only.iter().chain(&self.without).all(|asked| is_of_unit(&asked.attr))
    }

    /// Lets the statement see this population only, and read `unit_presence` from the events.
    pub fn apply(&self, bound: &mut BoundQuery) {
        self.apply_with(bound, Presence::Events);
    }

    /// The same with `unit_presence` read from where is said; rolled up only if [`Population::may_be_rolled_up`].
    pub fn apply_with(&self, bound: &mut BoundQuery, presence: Presence) {
        let mut params = Params::with_prefix("p_");
        if let Some(range_ms) = bound.range_ms {
            params.look_near(range_ms);
        }
        let mut sql = rewrite(&bound.sql, |read| match read.table {
            "events" if read.alias != OTHER_ROW => {
                self.seen(&mut params, Rows::of(read.alias)).map(|seen| read.narrowed(&seen))
            }
            PRESENCE => {
                let rows = match presence {
                    Presence::Events => PRESENCE_OF_EVENTS,
                    Presence::RolledUp => PRESENCE_ROLLED_UP,
                };
                let seen = self.seen(&mut params, Rows::Events).map(|seen| format!(" AND {seen}"));
                Some(format!("{rows}{}", seen.unwrap_or_default()))
            }
            _ => None,
        });
        if let Some(before_ms) = self.received_before_ms {
            params.add("p_before", before_ms.to_string());
            // In a second pass, so that what the first put in is bound by it too.
            sql = rewrite(&sql, |read| {
                (!TIMELESS.contains(&read.table))
                    .then(|| read.narrowed("received < fromUnixTimestamp64Milli({p_before:Int64}, 'UTC')"))
            });
        }
        if presence == Presence::RolledUp {
            // Otherwise ClickHouse takes what a statement reads of a table for that of its projection (seen with 26.7).
            sql.push_str("\nSETTINGS enable_shared_storage_snapshot_in_query = 0");
        }
        bound.sql = sql;
        bound.params.extend(params.into_sorted());
        bound.params.sort();
    }

    /// The condition on such rows of `events`; `None` for everybody.
    fn seen(&self, params: &mut Params, rows: Rows) -> Option<String> {
        let mut terms = Vec::new();
        if let Some(cohort) = &self.cohort {
            let name = params.text(&cohort.name);
            params.add("p_version", cohort.version.to_string());
            terms.push(of_people(&format!(
                "SELECT if(found.person = 0, member.unit, found.person) AS unit FROM \
                 (SELECT unit FROM cohort_members WHERE project = {{project:UInt32}} AND cohort = {name} \
                 AND version = {{p_version:UInt64}}) AS member \
                 LEFT ANY JOIN (SELECT anonymous, argMin(person, (time, person)) AS person FROM identity_links \
                 WHERE project = {{project:UInt32}} GROUP BY anonymous) AS found ON member.unit = found.anonymous"
            )));
        }
        terms.extend(self.only.iter().filter_map(|one| rows.meet(one, params)));
        terms.extend(self.without.iter().map(|one| format!("NOT {}", rows.meet_excluded(one, params))));
        (!terms.is_empty()).then(|| terms.join(" AND "))
    }
}

/// Whether an event meets a condition. `user.id` means the person, whatever id the event itself carries.
fn meets(asked: &Condition, params: &mut Params) -> String {
    if asked.attr != attribute::USER_ID {
        return format!("({})", condition(asked, params));
    }
    // The own condition is about the unit of a row; the units of people are in the table of that name.
    let (own, negated) = asked.positive();
    let people = format!("SELECT unit FROM units WHERE project = {{project:UInt32}} AND {}", condition(&own, params));
    let met = of_people(&people);
    if negated { format!("(NOT {met})") } else { met }
}

/// Whether a condition on this key is one on the unit of an event.
fn is_of_unit(key: &str) -> bool {
    key == attribute::USER_ID || key.starts_with(USER)
}

/// What the rows of a read of `events` stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// Themselves.
    Events,
    /// Themselves, and the ends of attempts for their attempt.
    WithEnds,
    /// The beginnings and ends of attempts.
    Attempts,
    /// Who was shown which variant.
    Exposures,
}

impl Rows {
    /// Those of a read under this alias.
    fn of(alias: &str) -> Self {
        match alias {
            WITH_ENDS => Self::WithEnds,
            ATTEMPT_ROWS => Self::Attempts,
            EXPOSURES => Self::Exposures,
            _ => Self::Events,
        }
    }

    /// Whether a row meets a condition that it must meet; `None` where it is not asked of such rows.
    fn meet(self, asked: &Condition, params: &mut Params) -> Option<String> {
        match (self, bearer(&asked.attr)) {
            // What they did afterwards, and where, is none of its own: asked for that, nobody would be exposed.
            (Self::Exposures, Bearer::Both | Bearer::Beginning | Bearer::End) => None,
            (Self::Attempts | Self::WithEnds, Bearer::Beginning) => Some(told_by_beginning(asked, params, meets)),
            (Self::Attempts, Bearer::End) => Some(told_by_end(asked, params, meets)),
            _ => Some(meets(asked, params)),
        }
    }

    /// Whether a row meets a condition that none of the rows looked at may meet.
    fn meet_excluded(self, asked: &Condition, params: &mut Params) -> String {
        self.meet(asked, params).unwrap_or_else(|| {
            // What it says itself, such as who asked, counts; what it does not say is no reason to leave it out.
            let present = Condition { attr: asked.attr.clone(), test: Test::Present(true) };
            format!("({} AND {})", meets(&present, params), meets(asked, params))
        })
    }
}

/// The statement that finds the values of a key among the events a population did in a range, most people first: columns
/// `value` (a letter for the type, then the text; empty where there is none) and `people`.
pub fn split_values(key: &str, project: u32, range_ms: Option<(i64, i64)>) -> BoundQuery {
    let mut params = Params::with_prefix("s_");
    params.add("project", project.to_string());
    let mut within = String::new();
    if let Some((from, to)) = range_ms {
        params.add("s_from", from.to_string());
        params.add("s_to", to.to_string());
        within.push_str(
            " AND time >= fromUnixTimestamp64Milli({s_from:Int64}, 'UTC') \
             AND time < fromUnixTimestamp64Milli({s_to:Int64}, 'UTC')",
        );
    }
    let (value, outer, join) = match joined(key, &mut params) {
        Some(joined) => ("''".to_owned(), joined.value, joined.join),
        None => (value_text(key, &mut params), "fitting.own".to_owned(), String::new()),
    };
    // What became of an attempt is told by its end, and one that has not ended is without it.
    let kinds = if bearer(key) == Bearer::End { "'started', 'ended'" } else { "'used', 'started', 'step', 'event'" };
    let sql = format!(
        "SELECT {outer} AS value, uniqExact(if(links.person = 0, fitting.unit, links.person)) AS people FROM \
         (SELECT unit, tenant, toUnixTimestamp64Milli(time) AS time_ms, {value} AS own FROM events \
         WHERE project = {{project:UInt32}} AND kind IN ({kinds}){within}) AS fitting \
         {LINKS} {join} GROUP BY value ORDER BY people DESC, value LIMIT 1000"
    );
    BoundQuery { sql, params: params.into_sorted(), range_ms }
}

/// Which people did something so many times: the condition of a cohort.
#[derive(Debug, Clone, PartialEq)]
pub struct Did {
    /// What.
    pub matcher: Matcher,
    /// At least so many times; 0 for those who may not have done it, but did something.
    pub at_least: u64,
    /// At most so many times.
    pub at_most: u64,
    /// When, milliseconds since the Unix epoch, `[from, to)`.
    pub range_ms: (i64, i64),
}

impl Did {
    /// Reads what somebody asks for; fields are named below `did`.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn of(
        asked: &MatchRequest,
        (at_least, at_most): (Option<i64>, Option<i64>),
        range_ms: (i64, i64),
    ) -> Result<Self, FunnelError> {
        let count = |field: &str, given: Option<i64>, otherwise: u64| match given.map(u64::try_from) {
            None => Ok(otherwise),
            Some(Ok(count)) => Ok(count),
            Some(Err(_)) => Err(FunnelError::new(field, "must be 0 or more")),
        };
        let at_least = count("did.at_least", at_least, 1)?;
        let at_most = count("did.at_most", at_most, u64::MAX)?;
        if at_least > at_most {
            return Err(FunnelError::new("did.at_least", "must not be more than at_most"));
        }
        Ok(Self { matcher: matcher::matcher("did", asked)?, at_least, at_most, range_ms })
    }

    /// The statement: one column, `unit`, the people.
    pub fn plan(&self, project: u32) -> BoundQuery {
        let mut params = Params::with_prefix("d_");
        params.add("project", project.to_string());
        params.add("d_from", self.range_ms.0.to_string());
        params.add("d_to", self.range_ms.1.to_string());
        params.add("d_least", self.at_least.to_string());
        params.add("d_most", self.at_most.to_string());
        params.look_near(self.range_ms);
        let fits = fits(&self.matcher, &mut params);
        let read = read_of_events(sees_ends(&[&self.matcher]));
        let sql = format!(
            "SELECT {PERSON} AS unit FROM (SELECT unit, countIf({fits}) AS times{read} AND unit != 0 \
             AND day >= toDate(fromUnixTimestamp64Milli({{d_from:Int64}}, 'UTC')) \
             AND day <= toDate(fromUnixTimestamp64Milli({{d_to:Int64}}, 'UTC')) \
             AND time >= fromUnixTimestamp64Milli({{d_from:Int64}}, 'UTC') \
             AND time < fromUnixTimestamp64Milli({{d_to:Int64}}, 'UTC') GROUP BY unit) AS fitting \
             {LINKS} GROUP BY unit HAVING sum(times) >= {{d_least:UInt64}} AND sum(times) <= {{d_most:UInt64}}"
        );
        BoundQuery { sql, params: params.into_sorted(), range_ms: Some(self.range_ms) }
    }
}

/// Checks the name of an attribute or property that a question is to be split by.
///
/// # Errors
/// [`ParamError::Invalid`].
pub fn split_key(given: &str) -> Result<String, ParamError> {
    let is_flag = given.starts_with(crate::funnel::property::FLAG);
    // Ids are people and visits, not groups of them.
    let is_id = [attribute::USER_ID, attribute::SESSION_ID].contains(&given);
    matcher::attribute("split_by", given).ok().filter(|_| !is_flag && !is_id).ok_or_else(|| ParamError::Invalid {
        name: "split_by".to_owned(),
        expected: "the key of an attribute, or user:KEY or tenant:KEY",
        given: given.chars().take(100).collect(),
        allowed: "1 to 1024 bytes, no flag and no id".to_owned(),
    })
}

/// The parts a question is split into by the values found of a key: what each is called, and the conditions that make it.
/// The largest [`MAX_SPLIT`] stand by themselves, then the rest, then those without a value.
pub fn parts(key: &str, values: &[String]) -> Vec<(String, Vec<Condition>)> {
    let is = |test: Test| Condition { attr: key.to_owned(), test };
    let present: Vec<(&String, Scalar)> = values.iter().filter_map(|value| Some((value, scalar(value)?))).collect();
    let (shown, rest) = present.split_at(present.len().min(MAX_SPLIT));
    let mut parts: Vec<(String, Vec<Condition>)> = shown
        .iter()
        .map(|(value, scalar)| (value.chars().skip(1).collect(), vec![is(Test::In(vec![scalar.clone()]))]))
        .collect();
    if !rest.is_empty() {
        let others = shown.iter().map(|(_, scalar)| is(Test::NotEqual(scalar.clone())));
        parts.push(("(other)".to_owned(), others.chain([is(Test::Present(true))]).collect()));
    }
    if values.iter().any(String::is_empty) {
        parts.push(("(missing)".to_owned(), vec![is(Test::Present(false))]));
    }
    parts
}

/// The value behind a letter for its type and its text; `None` where there is none.
fn scalar(value: &str) -> Option<Scalar> {
    let mut characters = value.chars();
    let kind = characters.next()?;
    let text = characters.as_str();
    Some(match kind {
        'n' => Scalar::Number(text.parse().ok()?),
        'b' => Scalar::Flag(text == "true"),
        _ => Scalar::Text(text.to_owned()),
    })
}

/// One read of a table in a statement.
struct Read<'a> {
    table: &'a str,
    /// Bytes from the table's name up to WHERE.
    bytes: std::ops::Range<usize>,
    is_final: bool,
    alias: &'a str,
}

impl Read<'_> {
    /// The rows of the table that meet a further condition.
    fn narrowed(&self, condition: &str) -> String {
        let last = if self.is_final { " FINAL" } else { "" };
        format!("SELECT * FROM {}{last} WHERE project = {{project:UInt32}} AND {condition}", self.table)
    }
}

/// The read that begins with the FROM at this token: `FROM table [FINAL] [AS alias] WHERE project = {project:UInt32}`.
fn read_at<'a>(tokens: &[Token<'a>], from: usize) -> Option<Read<'a>> {
    let mut rest = tokens.get(from..)?.iter();
    rest.next().filter(|token| token.kind.is_word("FROM"))?;
    let first = rest.next()?;
    let TokenKind::Word(table) = first.kind else { return None };
    if !TABLES.contains(&table) && table != PRESENCE {
        return None;
    }
    let mut next = rest.next()?;
    let is_final = next.kind.is_word("FINAL");
    if is_final {
        next = rest.next()?;
    }
    let mut alias = table;
    if next.kind.is_word("AS") {
        let TokenKind::Word(named) = rest.next()?.kind else { return None };
        alias = named;
        next = rest.next()?;
    }
    let is_bound = (next.kind.is_word("WHERE") || next.kind.is_word("PREWHERE"))
        && rest.next().is_some_and(|token| token.kind.is_word("project"))
        && rest.next().is_some_and(|token| token.kind.is('='));
    is_bound.then_some(Read { table, bytes: first.at..next.at, is_final, alias })
}

/// Puts a subquery in the place of each table for which there is one.
fn rewrite(sql: &str, mut subquery: impl FnMut(&Read<'_>) -> Option<String>) -> String {
    let tokens = tokens(sql);
    let mut written = String::with_capacity(sql.len());
    let mut done = 0;
    for index in 0..tokens.len() {
        let Some(read) = read_at(&tokens, index) else { continue };
        let Some(rows) = subquery(&read) else { continue };
        written.push_str(sql.get(done..read.bytes.start).unwrap_or_default());
        let _infallible = write!(written, "({rows}) AS {} ", read.alias);
        done = read.bytes.end;
    }
    written.push_str(sql.get(done..).unwrap_or_default());
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(sql: &str) -> BoundQuery {
        BoundQuery { sql: sql.to_owned(), params: vec![("project".to_owned(), "1".to_owned())], range_ms: None }
    }

    #[test]
    fn everybody_leaves_the_statement_as_it_is() {
        let mut asked = bound("SELECT count() FROM events WHERE project = {project:UInt32}");
        Population::default().apply(&mut asked);
        assert_eq!(asked, bound("SELECT count() FROM events WHERE project = {project:UInt32}"));
    }

    #[test]
    fn every_read_of_events_is_narrowed_and_no_text_is_taken_for_one() {
        let only = conditions("where", r#"{"pl'an":"x'); --"}"#).unwrap();
        let mut asked = bound(
            "SELECT ' FROM events WHERE project = ' FROM events AS e WHERE project = {project:UInt32} AND e.unit IN \
             (SELECT unit FROM events WHERE project = {project:UInt32}) -- FROM events WHERE project = 1",
        );
        Population { only, ..Population::default() }.apply(&mut asked);
        assert_eq!(asked.sql.matches("(SELECT * FROM events WHERE").count(), 2, "{}", asked.sql);
        assert!(asked.sql.contains(") AS e WHERE project") && asked.sql.contains(") AS events WHERE project"));
        assert!(!asked.sql.contains("pl'an") && !asked.sql.contains("x')"));
        assert!(asked.params.contains(&("p_t0".to_owned(), "pl'an".to_owned())), "{:?}", asked.params);
    }

    #[test]
    fn an_exposure_is_narrowed_by_whom_it_was_and_not_by_what_they_did_then() {
        let sql = "SELECT 1 FROM events AS exposures WHERE project = {project:UInt32}";
        let narrowed = |json: &str| {
            let mut asked = bound(sql);
            Population { only: conditions("where", json).unwrap(), ..Population::default() }.apply(&mut asked);
            asked
        };
        assert_eq!(narrowed(r#"{"cart.kind":"gift"}"#), bound(sql));
        let by_person = narrowed(r#"{"cart.kind":"gift","user:plan":"pro"}"#);
        assert_eq!(by_person.sql.matches("(SELECT * FROM events WHERE").count(), 1, "{by_person:?}");
        let asks = |text: &str| by_person.params.iter().any(|(_, value)| value == text);
        assert!(by_person.sql.contains("FROM properties") && asks("pro") && !asks("gift"), "{by_person:?}");
    }

    #[test]
    fn an_exposure_goes_by_what_it_says_itself_where_events_are_left_out() {
        let mut asked = bound("SELECT 1 FROM events AS exposures WHERE project = {project:UInt32}");
        let without = exclusions(serde_json::json!([{"attr": "agent", "op": "contains", "value": "bot"}])).unwrap();
        Population { without, ..Population::default() }.apply(&mut asked);
        assert!(asked.sql.contains("NOT (((mapContains(strings, {p_t0:String})"), "{}", asked.sql);
        assert!(asked.sql.contains("position(strings[{p_t0:String}], {p_t1:String}) > 0"), "{}", asked.sql);
    }

    #[test]
    fn an_instant_binds_all_that_is_received() {
        let mut asked = bound(
            "SELECT 1 FROM catalog AS c WHERE project = {project:UInt32} AND unit IN \
             (SELECT unit FROM units FINAL WHERE project = {project:UInt32})",
        );
        Population { received_before_ms: Some(5), ..Population::default() }.apply(&mut asked);
        assert_eq!(asked.sql.matches("received <").count(), 1, "{}", asked.sql);
        assert!(asked.params.contains(&("p_before".to_owned(), "5".to_owned())));
    }

    #[test]
    fn who_was_there_is_read_from_the_roll_up_where_it_can_tell() {
        let sql = "SELECT count() FROM unit_presence AS p WHERE project = {project:UInt32} AND moment > 5";
        let of = |json: &str| Population { only: conditions("where", json).unwrap(), ..Population::default() };
        let told = |population: &Population, presence: Presence| {
            let mut asked = bound(sql);
            population.apply_with(&mut asked, presence);
            asked.sql
        };
        for can_tell in ["{}", r#"{"user:plan":"pro"}"#, r#"{"user.id":"ann"}"#] {
            assert!(of(can_tell).may_be_rolled_up(&bound(sql)), "{can_tell}");
            let read = told(&of(can_tell), Presence::RolledUp);
            assert!(read.contains("mergeTreeProjection") && !read.contains("FROM events WHERE"), "{read}");
            assert_eq!(read.contains("unit IN"), can_tell != "{}", "{read}");
        }
        for cannot in
            [r#"{"plan":"pro"}"#, r#"{"tenant:plan":"pro"}"#, r#"{"service.version":"1"}"#, r#"{"session.id":"s"}"#]
        {
            assert!(!of(cannot).may_be_rolled_up(&bound(sql)), "{cannot}");
            let read = told(&of(cannot), Presence::Events);
            assert!(read.contains("FROM events WHERE project = {project:UInt32} AND kind != 'ended' AND "), "{read}");
        }
        let without = Population { without: of(r#"{"agent":"bot"}"#).only, ..Population::default() };
        let as_of = Population { received_before_ms: Some(5), ..Population::default() };
        assert!(!without.may_be_rolled_up(&bound(sql)) && !as_of.may_be_rolled_up(&bound(sql)));
        assert!(told(&as_of, Presence::Events).contains("received < "));
        let of_events = "SELECT count() FROM events WHERE project = {project:UInt32}";
        assert!(!Population::default().may_be_rolled_up(&bound(of_events)));
        assert!(!Population::default().may_be_rolled_up(&bound(&format!("{sql} SETTINGS max_threads = 1"))));
    }

    #[test]
    fn a_question_about_everybody_is_told_from_one_about_people() {
        let of = |table: &str| format!("SELECT 1 FROM {table} WHERE project = {{project:UInt32}}");
        assert!(is_about_people("usability", &of("events")));
        assert!(!is_about_people("trust", &of("events")));
        assert!(!is_about_people("optimization", &format!("{} UNION ALL {}", of("events"), of("query_usage"))));
        assert!(!is_about_people("usability", "SELECT 1"));
    }

    #[test]
    fn mistakes_in_conditions_name_their_place() {
        let field = |json: &str| conditions("where", json).unwrap_err().field;
        assert_eq!(field("{"), "where");
        assert_eq!(field("5"), "where");
        assert_eq!(field(r#"[{"attr":"a","op":"like","value":"x"}]"#), "where[0].op");
        assert_eq!(field(r#"[{"attr":"flag:x","value":"a"}]"#), "where[0].attr");
        assert!(split_key("").is_err() && split_key("flag:x").is_err() && split_key("user.id").is_err());
        assert!(split_key("user:plan").is_ok());
    }
}
