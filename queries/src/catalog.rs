//! The saved queries: reads and checks their files, and binds values to one of them.
//!
//! In: files, then names and values. Out: [`BoundQuery`]. Everything that can be wrong with a file is found here, when
//! the catalogue is built, with file and line; what can be wrong with a value is a [`ParamError`].

use crate::ctes::{self, Lines};
use crate::error::{CatalogError, ParamError, Problem};
use crate::funnel;
use crate::header::{self, Entry, Header};
use crate::lex::{Token, TokenKind, tokens};
use crate::param::{self, Allowed, Kind, Param};
use crate::population::is_about_people;
use crate::rules::{check_presence, check_statement, check_tables};
use crate::trends;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The folders of the built-in queries, one a purpose.
pub const FOLDERS: [&str; 4] = ["usability", "optimization", "reliability", "trust"];

/// The folder a team's own queries are listed under.
pub const OWN_FOLDER: &str = "own";

/// Parameters only the server sets.
pub const SERVER_PARAMS: [&str; 4] = ["project", "now", "pending", "booked"];

/// Parameters every query accepts; one that has no use for them checks and ignores them.
pub const COMMON_PARAMS: [&str; 3] = ["from", "to", "tz"];

/// Parameters that say whose events are looked at and as known when; whoever asks applies them (see
/// [`crate::Population`]), so no query may have one of its own of such a name.
pub const POPULATION_PARAMS: [&str; 5] = ["cohort", "where", "filter", "split_by", "as_of"];

/// Largest file of a saved query, in bytes; chosen, ten times the longest built-in one.
const MAX_FILE_BYTES: usize = 256 * 1024;

const BUILTIN: &[(&str, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// All saved queries of an installation, by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    queries: BTreeMap<String, Query>,
}

/// One saved query.
#[derive(Debug, Clone)]
pub struct Query {
    /// Its name, unique in the catalogue: the file name without `.sql`.
    pub name: String,
    /// The file it was read from: a path as given, or `FOLDER/NAME.sql` of a built-in one.
    pub file: String,
    /// Its purpose: one of [`FOLDERS`], or [`OWN_FOLDER`].
    pub folder: String,
    /// A few words.
    pub title: String,
    /// The question it answers, in a sentence.
    pub question: String,
    /// What one row of the answer is; begins with "one row".
    pub grain: String,
    /// Its parameters in the order of the header, without those the server sets.
    pub params: Vec<Param>,
    /// Its columns in order.
    pub columns: Vec<Column>,
    /// What to keep in mind when reading the answer.
    pub caveats: Option<String>,
    /// Who computes the answer.
    pub engine: Engine,
    /// The statement, without the header, beginning with SELECT or WITH. Where the engine is not ClickHouse it only
    /// declares the types of parameters and columns and answers no row.
    pub sql: String,
    lines: Lines,
}

/// Who computes the answer of a saved query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// ClickHouse, by the statement.
    ClickHouse,
    /// The exact funnel: `engine: funnel` in the header. See [`crate::funnel::saved`].
    Funnel,
    /// Two funnels and whether they differ by more than chance: `engine: funnel_comparison`.
    FunnelComparison,
    /// A funnel period by period: `engine: funnel_over_time`.
    FunnelOverTime,
    /// Trends and formulas over them: `engine: trends`. See [`crate::trends`].
    Trends,
}

impl Engine {
    /// The engines that are not ClickHouse: word in the header, the parameters each understands.
    const OTHERS: [(&str, Self, &[&str]); 4] = [
        ("funnel", Self::Funnel, &funnel::saved::PARAMS),
        ("funnel_comparison", Self::FunnelComparison, &funnel::saved::COMPARISON_PARAMS),
        ("funnel_over_time", Self::FunnelOverTime, &funnel::saved::OVER_TIME_PARAMS),
        ("trends", Self::Trends, &trends::PARAMS),
    ];

    /// The engine of this word in a header, which must understand all `params`.
    fn of(word: Option<&str>, params: &[Param]) -> Result<Self, Problem> {
        let Some(word) = word else { return Ok(Self::ClickHouse) };
        let Some((_, engine, known)) = Self::OTHERS.iter().find(|(known, ..)| *known == word) else {
            let words = Self::OTHERS.map(|(word, ..)| word).join(", ");
            return Err(Problem::Engine(format!("there is no engine {word:?}"), words));
        };
        match params.iter().find(|param| !known.contains(&param.name.as_str())) {
            None => Ok(*engine),
            Some(param) => {
                let problem =
                    format!("parameter {} is none of engine {word}, which takes {}", param.name, known.join(", "));
                Err(Problem::Engine(problem, Self::OTHERS.map(|(word, ..)| word).join(", ")))
            }
        }
    }
}

/// One column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it is measured in: `count`, `ms`, `rate` (0 to 1), `name`, `time` and so on.
    pub unit: String,
    /// What it means.
    pub meaning: String,
    /// Largest relative error in percent, as written; `0` when exact.
    pub error_percent: String,
}

/// Values only the server may set.
#[derive(Debug, Clone, Copy)]
pub struct ServerParams {
    /// The project whose data are asked about.
    pub project: u32,
    /// The present time, milliseconds since the Unix epoch: what `now` means.
    pub now_ms: i64,
    /// Records of the project acknowledged and not yet stored, for the conservation equation.
    pub pending_records: u64,
    /// Of them those that the ledger tells of already, because only a part of their cut could be stored.
    pub booked_records: u64,
}

/// A statement with the values of its parameters, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundQuery {
    /// The statement, without FORMAT. May contain `?`; send it verbatim.
    pub sql: String,
    /// Name (without `param_`) and value, sorted by name. Values are not escaped: `clickhouse::Query::param` does that.
    pub params: Vec<(String, String)>,
    /// The time looked at, milliseconds since the Unix epoch, `[from, to)`; `None` where the query takes no range.
    pub range_ms: Option<(i64, i64)>,
}

impl Catalog {
    /// The queries that come with Gemba.
    ///
    /// # Errors
    /// Never for a build whose tests passed.
    pub fn builtin() -> Result<Self, CatalogError> {
        let mut catalog = Self::default();
        for (folder, name, text) in BUILTIN {
            catalog.add(&format!("{folder}/{name}.sql"), folder, name, text)?;
        }
        Ok(catalog)
    }

    /// The built-in queries and those of the `.sql` files in `dir`. Blocks on the disk.
    ///
    /// # Errors
    /// [`CatalogError::Read`] when the folder or a file cannot be read, [`CatalogError::File`] when one breaks a rule.
    pub fn with_dir(dir: &Path) -> Result<Self, CatalogError> {
        let mut catalog = Self::builtin()?;
        let read_error = |source| CatalogError::Read { path: dir.to_owned(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir).map_err(read_error)? {
            paths.push(entry.map_err(read_error)?.path());
        }
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "sql")) {
            let file = path.display().to_string();
            let text = fs::read_to_string(path).map_err(|source| CatalogError::Read { path: path.clone(), source })?;
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            catalog.add(&file, OWN_FOLDER, name, &text)?;
        }
        Ok(catalog)
    }

    /// Reads one file's text and adds its query.
    ///
    /// # Errors
    /// [`CatalogError::File`] with the line and the rule that is broken.
    pub fn add(&mut self, file: &str, folder: &str, name: &str, text: &str) -> Result<(), CatalogError> {
        let at = |(line, problem)| CatalogError::File { file: file.to_owned(), line, problem };
        let is_name = !name.is_empty()
            && name.len() <= 64
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !is_name {
            return Err(at((1, Problem::FileName)));
        }
        if let Some(taken) = self.queries.get(name) {
            return Err(at((1, Problem::Taken(name.to_owned(), taken.folder.clone()))));
        }
        let query = Query::read(file, folder, name, text).map_err(at)?;
        self.queries.insert(name.to_owned(), query);
        Ok(())
    }

    /// The query of this name.
    pub fn get(&self, name: &str) -> Option<&Query> {
        self.queries.get(name)
    }

    /// All queries, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Query> {
        self.queries.values()
    }
}

impl Query {
    /// Reads a file; an error carries its line.
    fn read(file: &str, folder: &str, name: &str, text: &str) -> Result<Self, (usize, Problem)> {
        if text.len() > MAX_FILE_BYTES {
            return Err((1, Problem::TooLarge(MAX_FILE_BYTES)));
        }
        let header = header::read(text)?;
        let assembled = ctes::assemble(&header, text)?;
        let mut tokens = tokens(&assembled.sql);
        for token in &mut tokens {
            token.line = assembled.lines.of(token.line);
        }
        check_statement(&tokens, header.lines)?;
        check_tables(&tokens)?;
        check_presence(&tokens, header.lines)?;
        let params = params(&header, &tokens)?;
        let columns = header.columns.iter().map(column).collect::<Result<_, _>>()?;
        let engine = Engine::of(header.engine.as_deref(), &params).map_err(|problem| (1, problem))?;
        let Header { title, question, grain, caveats, .. } = header;
        Ok(Self {
            name: name.to_owned(),
            file: file.to_owned(),
            folder: folder.to_owned(),
            title,
            question,
            grain,
            params,
            columns,
            caveats,
            engine,
            sql: assembled.sql,
            lines: assembled.lines,
        })
    }

    /// What is wrong with the statement, found by whoever runs it at a line of it, from 1; told of the file it came from.
    pub fn fault(&self, line: usize, problem: Problem) -> CatalogError {
        CatalogError::File { file: self.file.clone(), line: self.lines.of(line), problem }
    }

    /// Checks the names of the columns that the statement answers against the header.
    ///
    /// # Errors
    /// [`Problem::Columns`], at the first line of the statement.
    pub fn check_columns(&self, answered: &[&str]) -> Result<(), CatalogError> {
        let named: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        if named == answered {
            return Ok(());
        }
        Err(self.fault(1, Problem::Columns(named.join(", "), answered.join(", "))))
    }

    /// The statement with some value for every parameter, to be looked at and not to be asked.
    ///
    /// # Errors
    /// [`ParamError`] where a default does not fit.
    pub fn example(&self, server: &ServerParams) -> Result<BoundQuery, ParamError> {
        let needed = self.params.iter().filter(|param| param.default.is_none());
        self.bind(&needed.map(|param| (param.name.clone(), param.example())).collect(), server)
    }

    /// Whether the answer holds what is pending in the server, and so must not be asked while an insert is half done.
    pub fn tells_pending(&self) -> bool {
        uses(&self.sql, "pending")
    }

    /// Whether it can be asked of some people only: of a cohort, of those that meet conditions, without those a project
    /// leaves out.
    pub fn is_about_people(&self) -> bool {
        self.engine != Engine::ClickHouse || is_about_people(&self.folder, &self.sql)
    }

    /// Checks the values `given`, fills in defaults and what the server sets.
    ///
    /// # Errors
    /// [`ParamError`] for a parameter the query does not take, a value outside its type or range, and a range that ends
    /// before it begins.
    pub fn bind(&self, given: &BTreeMap<String, String>, server: &ServerParams) -> Result<BoundQuery, ParamError> {
        let takes = |name: &str| self.params.iter().any(|param| param.name == name);
        if let Some(name) = given.keys().find(|name| !takes(name) && !COMMON_PARAMS.contains(&name.as_str())) {
            let allowed = self.params.iter().map(|param| param.name.clone()).collect();
            return Err(ParamError::Unknown { name: name.clone(), allowed });
        }
        let now = Timestamp::from_millisecond(server.now_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        let tz = given.get("tz").and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
        let mut params = vec![
            ("project".to_owned(), server.project.to_string()),
            ("now".to_owned(), param::time_text(now)),
            ("pending".to_owned(), server.pending_records.to_string()),
            ("booked".to_owned(), server.booked_records.to_string()),
        ];
        params.retain(|(name, _)| uses(&self.sql, name));
        for param in &self.params {
            let Some(value) = given.get(&param.name).or(param.default.as_ref()) else {
                return Err(ParamError::Missing {
                    name: param.name.clone(),
                    expected: param.kind.expected(),
                    allowed: param.allowed.to_string(),
                });
            };
            params.push((param.name.clone(), param.value(value, now, &tz)?));
        }
        for name in COMMON_PARAMS.iter().filter(|name| !takes(name)) {
            if let (Some(value), Some(param)) = (given.get(*name), Param::common(name)) {
                param.value(value, now, &tz)?;
            }
        }
        params.sort();
        let range_ms = range(&params)?;
        Ok(BoundQuery { sql: self.sql.clone(), params, range_ms })
    }
}

/// Whether the body uses the parameter `name`.
fn uses(sql: &str, name: &str) -> bool {
    tokens(sql).iter().any(|token| matches!(token.kind, TokenKind::Param { name: found, .. } if found == name))
}

/// The time range among bound parameters, checked not to be empty.
fn range(params: &[(String, String)]) -> Result<Option<(i64, i64)>, ParamError> {
    let of = |name: &str| {
        let (_, value) = params.iter().find(|(found, _)| found == name)?;
        value.replace('.', "").parse::<i64>().ok()
    };
    let (Some(from), Some(to)) = (of("from"), of("to")) else { return Ok(None) };
    if from >= to {
        let show = |ms| Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.to_string());
        return Err(ParamError::EmptyRange { from: show(from), to: show(to) });
    }
    Ok(Some((from, to)))
}

/// The parameters of the body, each with what the header says of it, in the header's order.
fn params(header: &Header<'_>, tokens: &[Token<'_>]) -> Result<Vec<Param>, (usize, Problem)> {
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    for token in tokens {
        let TokenKind::Param { name, kind } = token.kind else { continue };
        let differs = |expected: &str| {
            Err((token.line, Problem::ParamType { name: name.into(), kind: kind.into(), expected: expected.into() }))
        };
        if types.insert(name, kind).is_some_and(|before| before != kind) {
            return differs("it has another type elsewhere in the body");
        }
        match (name, kind) {
            ("project", "UInt32") | ("now", "DateTime64(3, 'UTC')") | ("pending" | "booked", "UInt64") => {}
            ("project", _) => return differs("it must be UInt32"),
            ("now", _) => return differs("it must be DateTime64(3, 'UTC')"),
            ("pending" | "booked", _) => return differs("it must be UInt64"),
            _ if Kind::parse(kind).is_none() => {
                return differs("use DateTime64(3), UInt8 to UInt64, Int64, Float64, Bool or String");
            }
            _ if header.params.iter().all(|entry| entry.name != name) => {
                return Err((token.line, Problem::ParamUndeclared(name.to_owned())));
            }
            _ => {}
        }
    }
    let one = |entry: &Entry<'_>| {
        if SERVER_PARAMS.contains(&entry.name) || POPULATION_PARAMS.contains(&entry.name) {
            return Err((entry.line, Problem::ParamOfServer(entry.name.to_owned())));
        }
        let kind = types.get(entry.name).and_then(|kind| Kind::parse(kind));
        let kind = kind.ok_or_else(|| (entry.line, Problem::ParamUnused(entry.name.to_owned())))?;
        param(entry, kind)
    };
    header.params.iter().map(one).collect()
}

/// One parameter from its line in the header.
fn param(entry: &Entry<'_>, kind: Kind) -> Result<Param, (usize, Problem)> {
    let name = entry.name.to_owned();
    let fail = |reason: String| (entry.line, Problem::ParamLine { name: entry.name.to_owned(), reason });
    let standard = Param::common(entry.name);
    let Some((meaning, rules)) = entry.parts.split_first() else {
        let standard = standard.ok_or_else(|| fail("it is none of from, to, tz, limit and needs a text".to_owned()))?;
        if kind != standard.kind {
            return Err(fail(format!("its type in the body must be {}", standard.kind.expected())));
        }
        return Ok(standard);
    };
    let common_allowed = standard.map(|param| param.allowed).filter(|allowed| *allowed == Allowed::TimeZone);
    let mut param = Param { name, kind, meaning: meaning.clone(), default: None, allowed: Allowed::Any };
    for rule in rules {
        if let Some(default) = rule.strip_prefix("default") {
            param.default = Some(default.trim().trim_matches('"').to_owned());
        } else {
            param.allowed = allowed(rule, kind).ok_or_else(|| fail(format!("{rule:?} does not fit")))?;
        }
    }
    if let Some(allowed) = common_allowed {
        param.allowed = allowed;
    }
    if kind == Kind::Text && param.allowed == Allowed::Any {
        return Err(fail("text needs \"one of A, B\" or \"at most N bytes\"".to_owned()));
    }
    if let Some(default) = &param.default {
        let default =
            param.value(default, Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * 20_000), &TimeZone::UTC);
        default.map_err(|error| fail(format!("its default does not fit: {error}")))?;
    }
    Ok(param)
}

/// What `range LOW..HIGH`, `one of A, B` or `at most N bytes` allows, where it fits the type.
fn allowed(rule: &str, kind: Kind) -> Option<Allowed> {
    if let Some(range) = rule.strip_prefix("range ") {
        let (low, high) = range.split_once("..")?;
        if kind == Kind::Time {
            return Some(Allowed::Times(low.trim().parse().ok()?, high.trim().parse().ok()?));
        }
        let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        return (low <= high && !matches!(kind, Kind::Text | Kind::Bool)).then_some(Allowed::Numbers(low, high));
    }
    if kind != Kind::Text {
        return None;
    }
    if let Some(words) = rule.strip_prefix("one of ") {
        return Some(Allowed::OneOf(words.split(',').map(|word| word.trim().to_owned()).collect()));
    }
    rule.strip_prefix("at most ")?.strip_suffix(" bytes")?.parse().ok().map(Allowed::Bytes)
}

/// One column from its line in the header.
fn column(entry: &Entry<'_>) -> Result<Column, (usize, Problem)> {
    let malformed = || (entry.line, Problem::ColumnLine(entry.name.to_owned()));
    let [unit, meaning, precision] = entry.parts.as_slice() else { return Err(malformed()) };
    let error_percent = if precision == "exact" {
        "0".to_owned()
    } else {
        let percent = precision.strip_prefix('±').and_then(|rest| rest.strip_suffix('%')).map(str::trim);
        percent.filter(|number| number.parse::<f64>().is_ok()).ok_or_else(malformed)?.to_owned()
    };
    if unit.is_empty() || meaning.is_empty() {
        return Err(malformed());
    }
    Ok(Column { name: entry.name.to_owned(), unit: unit.clone(), meaning: meaning.clone(), error_percent })
}

#[cfg(test)]
mod tests;
