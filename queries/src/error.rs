//! What can be wrong with a saved query, and with a value given to one.

use std::io;
use std::path::PathBuf;

/// What is wrong with a file of saved queries. Found when the catalogue is built, so never at the time of a question.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A file breaks a rule of the format.
    #[error("{file}:{line}: {problem}")]
    File {
        /// Path as given, or `FOLDER/NAME.sql` of a built-in one.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The rule that is broken.
        problem: Problem,
    },
    /// A folder or file cannot be read; trying again helps once it can.
    #[error("cannot read {path}")]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A rule of the format of saved queries, broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The name of the file cannot be the name of a query.
    #[error("the file name must be lower-case letters, digits and _, at most 64, ending in .sql")]
    FileName,
    /// Another query has this name.
    #[error("a query named {0} exists already, in folder {1}")]
    Taken(String, String),
    /// The file is larger than a saved query may be.
    #[error("the file is larger than {0} bytes")]
    TooLarge(usize),
    /// A line of the header begins with a word that means nothing there.
    #[error(
        "header word {0:?} is unknown; known: title, question, grain, param NAME, column NAME, caveats, engine, \
         ctes; a line that goes on is indented by two spaces more"
    )]
    HeaderWord(String),
    /// The header names an engine there is none of, or the query has parameters the engine does not know.
    #[error("{0}; engines: {1}")]
    Engine(String, String),
    /// The header names a common table expression that is none of the shared ones.
    #[error("there is no shared common table expression {0:?}; known: {1}")]
    UnknownCte(String, String),
    /// A query with shared expressions does not begin with SELECT or a line of its own for WITH.
    #[error("a query with ctes begins with SELECT, or with WITH or WITH RECURSIVE on a line of its own")]
    CtesPlace,
    /// Something the header must say is missing.
    #[error("the header lacks {0}")]
    Missing(&'static str),
    /// Something the header says once is said again.
    #[error("the header says {0} twice")]
    Twice(String),
    /// The text of a grain does not say what a row is.
    #[error("grain must begin with \"one row\"")]
    Grain,
    /// A parameter's line is malformed.
    #[error(
        "param {name}: {reason}; form: meaning | default VALUE | range LOW..HIGH, or one of A, B, or at most N bytes"
    )]
    ParamLine {
        /// The parameter.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// A column's line is malformed.
    #[error("column {0}: form: unit | meaning | exact, or ± N %")]
    ColumnLine(String),
    /// The header names a parameter that the body does not use.
    #[error("parameter {0} is in the header and not in the body")]
    ParamUnused(String),
    /// The body uses a parameter that the header does not name.
    #[error("parameter {0} is in the body and not in the header")]
    ParamUndeclared(String),
    /// The header names a parameter only the server sets.
    #[error("parameter {0} is set by the server and has no place in the header")]
    ParamOfServer(String),
    /// The type of a parameter is not one values can be checked against, or differs between its uses.
    #[error("parameter {name} has type {kind}; {expected}")]
    ParamType {
        /// The parameter.
        name: String,
        /// Its type in the body.
        kind: String,
        /// What it must be.
        expected: String,
    },
    /// The body is not a single SELECT.
    #[error("the body must be one statement that begins with SELECT or WITH, without a semicolon or FORMAT")]
    NotOneSelect,
    /// The body reads something that is no table of Gemba, no common table expression and no harmless function.
    #[error("{0} is no table of Gemba; known: {1}")]
    UnknownTable(String, String),
    /// ClickHouse cannot make sense of the statement.
    #[error("clickhouse refuses the statement: {0}")]
    Refused(String),
    /// The columns of the header are not those of the answer.
    #[error("the header names the columns {0}, the statement answers {1}; both must be the same in the same order")]
    Columns(String, String),
    /// A table is read without a filter by project.
    #[error(
        "table {0} must be read as FROM {0} [FINAL] [AS alias] WHERE project = {{project:UInt32}} [AND ..], with any \
         OR in parentheses"
    )]
    NoProjectFilter(String),
}

/// What is wrong with a value somebody gave. Trying again with the same value never helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// The query has no such parameter.
    #[error("unknown parameter {name}; this query takes {}", list(allowed))]
    Unknown {
        /// What was given.
        name: String,
        /// The parameters of this query.
        allowed: Vec<String>,
    },
    /// A parameter without default was not given.
    #[error("parameter {name} is missing; expected {expected}, {allowed}")]
    Missing {
        /// The parameter.
        name: String,
        /// Its type, in words.
        expected: &'static str,
        /// What is allowed, in words.
        allowed: String,
    },
    /// The value does not fit the type or the range.
    #[error("parameter {name} is {given:?}; expected {expected}, {allowed}")]
    Invalid {
        /// The parameter.
        name: String,
        /// Its type, in words.
        expected: &'static str,
        /// What was given, cut to 100 characters.
        given: String,
        /// What is allowed, in words.
        allowed: String,
    },
    /// `from` is not before `to`.
    #[error("parameter from ({from}) must be before to ({to})")]
    EmptyRange {
        /// The beginning, RFC 3339.
        from: String,
        /// The end, RFC 3339.
        to: String,
    },
}

impl ParamError {
    /// The word of this error in the API's answers.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown_parameter",
            Self::Missing { .. } => "missing_parameter",
            Self::Invalid { .. } | Self::EmptyRange { .. } => "invalid_parameter",
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
