//! The normal form of a query: what it is when its values are taken out.
//!
//! In: dialect and text. Out: [`Fingerprint`] with the normalised text, its hash and its summary. The SDK and the
//! server use this one implementation, so that a query seen by an SDK, by a foreign instrumentation and by hand is the
//! same query. Pure: no I/O, no clock, no lock; linear in the length of the text; it never fails and never panics.
//!
//! Rules, numbered so that tests can name them:
//! 1. Comments go; nested ones where the dialect nests them.
//! 2. Every literal and every parameter (`$1 ? ?1 :x @p %s %(x)s {x:Type}`) prints as `?`. Neighbouring strings are one
//!    string. `E'..'`, `N'..'`, `X'..'`, `B'..'`, `U&'..'`, `_utf8'..'` and dollar quotes are strings.
//! 3. A sign before a number goes with it where an operator, comma, parenthesis or keyword stands before the sign.
//! 4. `NULL`, `TRUE`, `FALSE` are values, save in `IS [NOT] NULL`, `NOT NULL`, `SET NULL` and after a column's type.
//! 5. Lists after `IN` and array literals that hold plain values keep one of them; equal rows of plain values after
//!    `VALUES` keep one row. Lists that hold an expression stay as they are.
//! 6. What follows `PASSWORD`, `IDENTIFIED BY` and the like in statements about users goes, quoted or not.
//! 7. Rows that follow the statement (`INSERT .. FORMAT CSV ..` in ClickHouse, `COPY .. FROM STDIN; ..`) go.
//! 8. A string, comment or quoted identifier left open ends with the text, and nothing of it survives.
//! 9. White space and comments between two tokens print as one space. The hash does not see them, nor the case of
//!    keywords and unquoted identifiers, nor semicolons at the end. Identifiers keep their digits.
//!
//! Where the rules and PostgreSQL's own grouping (libpg_query) differ: that one reads `END` and `COMMIT` as the same
//! statement, and sees through synonyms of syntax (`AS` left out, `<>` and `!=`); these rules do not.

#[cfg(test)]
mod leaks;
mod lexer;
mod normalise;
#[cfg(test)]
mod tests;

use std::hash::Hasher;

use lexer::Lexer;
pub(crate) use lexer::{Kind, Token};
use normalise::Normaliser;

use super::summary;

/// Version of the rules. It travels with every fingerprint; a rule that changes any hash raises it.
///
/// # Examples
/// ```
/// use gemba::query::{Dialect, FINGERPRINT_VERSION, fingerprint};
/// // What is kept for long is kept with the version that it was made by.
/// let key = (FINGERPRINT_VERSION, fingerprint(Dialect::Sqlite, "SELECT 1").hash);
/// assert_eq!(key.0, 1);
/// ```
pub const FINGERPRINT_VERSION: u16 = 1;

/// The kind of SQL a text is written in.
///
/// # Examples
/// ```
/// use gemba::query::{Dialect, fingerprint};
/// let sql = "SELECT \"name\" FROM users";
/// assert_eq!(fingerprint(Dialect::Postgres, sql).text, sql, "a column");
/// assert_eq!(fingerprint(Dialect::MySql, sql).text, "SELECT ? FROM users", "a string");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Dialect {
    /// Anything else, and text of unknown origin: reads doubtful places so that more is hidden.
    #[default]
    Generic = 0,
    /// PostgreSQL and what speaks its dialect.
    Postgres = 1,
    /// MySQL and MariaDB.
    MySql = 2,
    /// SQLite.
    Sqlite = 3,
    /// ClickHouse.
    ClickHouse = 4,
    /// Microsoft SQL Server.
    SqlServer = 5,
}

impl Dialect {
    /// All dialects, in the order of their codes.
    ///
    /// # Examples
    /// ```
    /// use gemba::query::Dialect;
    /// assert!(Dialect::ALL.iter().all(|dialect| Dialect::from_system(dialect.system()) == *dialect));
    /// ```
    pub const ALL: &'static [Self] =
        &[Self::Generic, Self::Postgres, Self::MySql, Self::Sqlite, Self::ClickHouse, Self::SqlServer];

    /// The dialect of a `db.system.name` or of the older `db.system`; [`Dialect::Generic`] for every other word.
    ///
    /// # Examples
    /// ```
    /// use gemba::query::Dialect;
    /// assert_eq!(Dialect::from_system("mariadb"), Dialect::MySql);
    /// assert_eq!(Dialect::from_system("cobol"), Dialect::Generic);
    /// ```
    pub fn from_system(system: &str) -> Self {
        match system {
            "postgresql" | "postgres" | "redshift" | "aws.redshift" | "cockroachdb" | "edb" | "greenplum"
            | "yugabytedb" | "timescaledb" => Self::Postgres,
            "mysql" | "mariadb" | "tidb" => Self::MySql,
            "sqlite" => Self::Sqlite,
            "clickhouse" => Self::ClickHouse,
            "microsoft.sql_server" | "mssql" | "sqlserver" | "mssqlcompact" => Self::SqlServer,
            _ => Self::Generic,
        }
    }

    /// The word for it in `db.system.name`.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(gemba::query::Dialect::Postgres.system(), "postgresql");
    /// ```
    pub const fn system(self) -> &'static str {
        match self {
            Self::Generic => "other_sql",
            Self::Postgres => "postgresql",
            Self::MySql => "mysql",
            Self::Sqlite => "sqlite",
            Self::ClickHouse => "clickhouse",
            Self::SqlServer => "microsoft.sql_server",
        }
    }
}

/// What a query is, whatever its values.
///
/// # Examples
/// ```
/// use gemba::query::{Dialect, Fingerprint, fingerprint};
/// let Fingerprint { text, summary, .. } = fingerprint(Dialect::Sqlite, "DELETE FROM card WHERE id = 7");
/// assert_eq!((text.as_str(), summary.as_str()), ("DELETE FROM card WHERE id = ?", "DELETE card"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// Equal for queries that differ in values, comments, white space and case only. Never 0: 0 stands for "other".
    pub hash: u64,
    /// The text with every value as `?`. Holds no literal. As long as the query at most, plus a few spaces.
    pub text: String,
    /// OpenTelemetry's `db.query.summary`: operations and targets, at most 255 characters.
    pub summary: String,
}

impl Fingerprint {
    /// The hash as it is written on the wire: 16 lower-case hexadecimal digits.
    ///
    /// # Examples
    /// ```
    /// use gemba::query::Fingerprint;
    /// assert_eq!(Fingerprint { hash: 0xcafe, ..Fingerprint::default() }.hex(), "000000000000cafe");
    /// ```
    pub fn hex(&self) -> String {
        format!("{:016x}", self.hash)
    }
}

/// Computes the fingerprint of one query text.
///
/// # Examples
/// ```
/// use gemba::query::{Dialect, fingerprint};
/// let one = fingerprint(Dialect::Postgres, "SELECT name FROM users WHERE id IN (1, 2, 3) -- mine");
/// let two = fingerprint(Dialect::Postgres, "select name from users where id in ($1)");
/// assert_eq!(one.hash, two.hash);
/// assert_eq!(one.text, "SELECT name FROM users WHERE id IN (?)");
/// assert_eq!(one.summary, "SELECT users");
/// ```
pub fn fingerprint(dialect: Dialect, sql: &str) -> Fingerprint {
    let tokens = Normaliser::new(dialect, sql).run(Lexer::new(dialect, sql));
    Fingerprint {
        hash: hash(sql, &tokens),
        text: print(sql, &tokens),
        summary: summary::summary(dialect, sql, &tokens),
    }
}

/// Counts steps that grow with a text, so that a test can show that their number is linear in its length. Nothing outside of tests.
#[inline]
pub(crate) fn work(steps: usize) {
    #[cfg(test)]
    WORK.with(|work| work.set(work.get() + steps));
    #[cfg(not(test))]
    let _ = steps;
}

#[cfg(test)]
thread_local! {
    static WORK: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The source text of a token.
pub(crate) fn slice<'a>(sql: &'a str, token: &Token) -> &'a str {
    sql.get(token.start..token.end).unwrap_or_default()
}

fn hash(sql: &str, tokens: &[Token]) -> u64 {
    let is_end = |token: &Token| token.kind == Kind::Symbol && slice(sql, token) == ";";
    let len = tokens.len() - tokens.iter().rev().take_while(|token| is_end(token)).count();
    let mut key = Vec::with_capacity(sql.len().min(64 * 1024));
    for token in tokens.iter().take(len) {
        // A byte that UTF-8 never holds, so that no two token lists make one key.
        let (tag, text) = match token.kind {
            Kind::Word => (0xF8, slice(sql, token)),
            Kind::Quoted => (0xF9, slice(sql, token)),
            Kind::Symbol => (0xFA, slice(sql, token)),
            Kind::Number | Kind::Text | Kind::Placeholder => (0xFB, ""),
        };
        key.push(tag);
        let start = key.len();
        key.extend_from_slice(text.as_bytes());
        if token.kind == Kind::Word {
            key[start..].make_ascii_lowercase();
        }
    }
    let mut hasher = siphasher::sip::SipHasher13::new();
    hasher.write(&key);
    hasher.finish().max(1)
}

fn print(sql: &str, tokens: &[Token]) -> String {
    let mut text = String::with_capacity(sql.len().min(64 * 1024));
    let mut last: Option<Kind> = None;
    for token in tokens {
        let piece = if token.kind.is_value() { "?" } else { slice(sql, token) };
        let glues = match last {
            None => false,
            // Two words side by side (`'a'AND`), or two symbols that would open a comment.
            Some(Kind::Symbol) => {
                (text.ends_with('-') && piece.starts_with('-')) || (text.ends_with('/') && piece.starts_with('*'))
            }
            Some(_) => token.kind != Kind::Symbol,
        };
        if (token.spaced && last.is_some()) || glues {
            text.push(' ');
        }
        text.push_str(piece);
        last = Some(token.kind);
    }
    text
}
