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

mod lexer;
#[cfg(test)]
mod tests;

use std::hash::Hasher;

use lexer::Lexer;
pub(crate) use lexer::{Kind, Token};

use super::summary;

/// Version of the rules. It travels with every fingerprint; a rule that changes any hash raises it.
pub const FINGERPRINT_VERSION: u16 = 1;

/// The kind of SQL a text is written in.
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
    pub const ALL: &'static [Self] =
        &[Self::Generic, Self::Postgres, Self::MySql, Self::Sqlite, Self::ClickHouse, Self::SqlServer];

    /// The dialect of a `db.system.name` or of the older `db.system`; [`Dialect::Generic`] for every other word.
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
    let mut normaliser = Normaliser::new(dialect, sql);
    for token in Lexer::new(dialect, sql) {
        normaliser.take(token);
        if normaliser.is_finished {
            break;
        }
    }
    normaliser.flush_signs();
    let tokens = normaliser.out;
    Fingerprint { hash: hash(sql, &tokens), text: print(sql, &tokens), summary: summary::summary(sql, &tokens) }
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

/// What an open bracket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The statement itself.
    Statement,
    /// `IN ( .. )`.
    InList,
    /// A row after `VALUES`.
    Row,
    /// `[ .. ]`.
    Array,
    /// Any other parenthesis.
    Group,
}

/// An open bracket and what has been seen inside it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one bracket, not states of a machine")]
struct Frame {
    role: Role,
    /// Where its opening token stands in the output.
    open: usize,
    /// Nothing but plain values and commas so far.
    is_plain: bool,
    /// A value may come next: at the beginning and after a comma.
    wants_item: bool,
    /// Length of the output when the first item was complete; 0 before.
    first_end: usize,
    /// `VALUES` was seen here and rows may follow.
    takes_rows: bool,
    /// Range in the output of the last row kept, if it was plain.
    last_row: Option<(usize, usize)>,
    /// The word `ARRAY` was the last token and counts as part of an item if a bracket follows.
    after_array: bool,
}

impl Frame {
    const fn new(role: Role, open: usize) -> Self {
        Self {
            role,
            open,
            is_plain: true,
            wants_item: true,
            first_end: 0,
            takes_rows: false,
            last_row: None,
            after_array: false,
        }
    }

    /// An item of the list is complete; `len` is the length of the output.
    fn add_item(&mut self, len: usize) {
        if !self.wants_item {
            self.is_plain = false;
        }
        self.wants_item = false;
        if self.first_end == 0 {
            self.first_end = len;
        }
    }
}

/// Where a secret may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secret {
    /// No secret in sight.
    None,
    /// The next value, word or quoted identifier is one.
    Next,
    /// It was one; what touches it belongs to it.
    Tail,
}

/// What kind of statement a text is, as far as the rules 6 and 7 ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statement {
    /// No word yet.
    Start,
    /// `CREATE` or `ALTER`, with the number of words since.
    Definition(u8),
    /// `CREATE USER`, `ALTER ROLE`, `GRANT` and so on: may name a password.
    Credentials,
    /// `SET`.
    Set,
    /// `SET PASSWORD`.
    SetPassword,
    /// `PRAGMA`.
    Pragma,
    /// `ATTACH`.
    Attach,
    /// `INSERT`.
    Insert,
    /// `COPY`.
    Copy,
    /// `COPY .. FROM STDIN`.
    CopyIn,
    /// Anything else.
    Other,
}

/// Rewrites the stream of tokens by the rules, in one pass.
#[derive(Debug)]
struct Normaliser<'a> {
    sql: &'a str,
    dialect: Dialect,
    out: Vec<Token>,
    /// Open brackets; the statement itself is the first and never goes.
    frames: Vec<Frame>,
    /// Signs that go with a number if one follows.
    signs: Vec<Token>,
    statement: Statement,
    secret: Secret,
    /// `IDENTIFIED` was seen in a statement about users.
    is_identified: bool,
    /// The rest of the text is data.
    is_finished: bool,
}

/// Keywords that stand before an expression, never behind an operand: a sign after them belongs to a number, and NULL
/// after them is a value. Reserved words only, because `start - 1` may be a column.
const BEFORE_EXPRESSION: &[&str] = &[
    "select",
    "distinct",
    "all",
    "where",
    "and",
    "or",
    "xor",
    "not",
    "in",
    "like",
    "ilike",
    "rlike",
    "regexp",
    "similar",
    "between",
    "then",
    "else",
    "when",
    "case",
    "limit",
    "offset",
    "by",
    "on",
    "having",
    "returning",
    "values",
    "set",
    "from",
    "for",
    "to",
    "default",
    "interval",
    "using",
    "return",
    "union",
    "except",
    "intersect",
    "check",
    "top",
    "div",
    "escape",
    "increment",
    "minvalue",
    "maxvalue",
    "prewhere",
    "qualify",
    "call",
    "exec",
    "execute",
    "as",
    "with",
    "is",
    "any",
    "some",
];

/// Whether `word` is one of `words` (in lower case).
fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|candidate| word.eq_ignore_ascii_case(candidate))
}

impl<'a> Normaliser<'a> {
    fn new(dialect: Dialect, sql: &'a str) -> Self {
        Self {
            sql,
            dialect,
            out: Vec::with_capacity((sql.len() / 6).min(4096)),
            frames: vec![Frame::new(Role::Statement, 0)],
            signs: Vec::new(),
            statement: Statement::Start,
            secret: Secret::None,
            is_identified: false,
            is_finished: false,
        }
    }

    /// The text of the output's token `back` places from its end (0 = the last), with its kind.
    fn behind(&self, back: usize) -> Option<(Kind, &'a str)> {
        let index = self.out.len().checked_sub(back + 1)?;
        self.out.get(index).map(|token| (token.kind, slice(self.sql, token)))
    }

    /// Whether the token `back` places from the end is this keyword and not part of a dotted name.
    fn is_keyword(&self, back: usize, words: &[&str]) -> bool {
        matches!(self.behind(back), Some((Kind::Word, word)) if is_one_of(word, words))
            && self.behind(back + 1) != Some((Kind::Symbol, "."))
    }

    fn frame(&mut self) -> Option<&mut Frame> {
        self.frames.last_mut()
    }

    /// Takes the next token of the text.
    fn take(&mut self, mut token: Token) {
        let text = slice(self.sql, &token);
        if self.secret != Secret::None && self.hide(&mut token, text) {
            return;
        }
        if token.kind == Kind::Symbol && matches!(text, "+" | "-") && self.is_before_operand() {
            self.signs.push(token);
            return;
        }
        if token.kind == Kind::Number {
            if let Some(first) = self.signs.first() {
                token.spaced = first.spaced;
            }
            self.signs.clear();
        } else {
            self.flush_signs();
        }
        self.accept(token, text);
    }

    /// Puts signs that turned out to be operators into the output.
    fn flush_signs(&mut self) {
        for sign in std::mem::take(&mut self.signs) {
            self.accept(sign, slice(self.sql, &sign));
        }
    }

    /// Whether an operand is due, so that a sign here is a number's own.
    fn is_before_operand(&self) -> bool {
        if !self.signs.is_empty() {
            return true;
        }
        match self.behind(0) {
            None => true,
            Some((Kind::Symbol, symbol)) => !matches!(symbol, ")" | "]" | "}" | "."),
            Some((Kind::Word, _)) => self.is_keyword(0, BEFORE_EXPRESSION),
            Some(_) => false,
        }
    }

    /// Rule 6. True: the token was dealt with.
    fn hide(&mut self, token: &mut Token, text: &str) -> bool {
        if self.secret == Secret::Tail {
            if !token.spaced && !matches!(text, ";" | "," | ")") {
                return true;
            }
            self.secret = Secret::None;
            return false;
        }
        match token.kind {
            Kind::Symbol if matches!(text, "=" | "(" | ":=" | ":" | "." | "==") => return false,
            Kind::Symbol => {
                self.secret = Secret::None;
                return false;
            }
            Kind::Word if is_one_of(text, &["password", "by", "as", "to", "with", "values", "encrypted"]) => {
                return false;
            }
            Kind::Word if is_one_of(text, &["for", "expire", "history", "reuse", "require", "null", "from"]) => {
                self.secret = Secret::None;
                return false;
            }
            Kind::Word | Kind::Quoted => token.kind = Kind::Placeholder,
            Kind::Number | Kind::Text | Kind::Placeholder => {}
        }
        self.flush_signs();
        self.secret = Secret::Tail;
        self.accept(*token, "");
        true
    }

    fn accept(&mut self, mut token: Token, text: &str) {
        match token.kind {
            Kind::Word => {
                if self.is_constant(text) {
                    token.kind = Kind::Placeholder;
                    self.push_value(token);
                } else {
                    self.push_word(token, text);
                }
            }
            Kind::Quoted => {
                self.break_list();
                self.out.push(token);
            }
            Kind::Text if matches!(self.out.last(), Some(last) if last.kind == Kind::Text) => {}
            Kind::Number | Kind::Text | Kind::Placeholder => self.push_value(token),
            Kind::Symbol => self.push_symbol(token, text),
        }
    }

    /// Rule 4: whether a word is a value.
    fn is_constant(&self, word: &str) -> bool {
        let is_null = word.eq_ignore_ascii_case("null");
        if !is_null && !is_one_of(word, &["true", "false"]) {
            return false;
        }
        if self.behind(0) == Some((Kind::Symbol, ".")) || self.is_keyword(0, &["is"]) {
            return false;
        }
        if self.is_keyword(0, &["not"]) {
            return !is_null && !self.is_keyword(1, &["is"]);
        }
        if !is_null {
            return true;
        }
        match self.behind(0) {
            None => true,
            // `ON DELETE SET NULL`, `DROP SET NULL`; an assignment has its operator.
            Some((Kind::Word, word)) => !word.eq_ignore_ascii_case("set") && self.is_keyword(0, BEFORE_EXPRESSION),
            Some((Kind::Symbol, symbol)) => !matches!(symbol, ")" | "]"),
            Some(_) => false,
        }
    }

    fn push_value(&mut self, token: Token) {
        self.out.push(token);
        let len = self.out.len();
        if let Some(frame) = self.frame() {
            frame.takes_rows = false;
            frame.add_item(len);
        }
    }

    /// What came is no plain value: the list it stands in stays as it is.
    fn break_list(&mut self) {
        if let Some(frame) = self.frame() {
            frame.is_plain = false;
            frame.takes_rows = false;
            frame.last_row = None;
        }
    }

    fn push_word(&mut self, token: Token, word: &str) {
        let is_name = self.behind(0) == Some((Kind::Symbol, "."));
        // The key of an encrypted SQLite database may be set as `PRAGMA main.key`.
        if !is_name || self.statement == Statement::Pragma {
            self.watch(word);
        }
        self.out.push(token);
        let len = self.out.len();
        let opens_rows = !is_name && is_one_of(word, &["values", "value"]);
        let Some(frame) = self.frames.last_mut() else { return };
        if frame.takes_rows && word.eq_ignore_ascii_case("row") {
            return;
        }
        if frame.role == Role::Row && frame.wants_item && word.eq_ignore_ascii_case("default") {
            frame.add_item(len);
        } else if frame.wants_item && frame.role != Role::Statement && word.eq_ignore_ascii_case("array") {
            frame.after_array = true;
            frame.takes_rows = false;
        } else {
            frame.is_plain = false;
            frame.last_row = None;
            frame.takes_rows = opens_rows;
        }
    }

    /// Follows what kind of statement this is, for the rules 6 and 7.
    fn watch(&mut self, word: &str) {
        use Statement as S;
        let is = |words: &[&str]| is_one_of(word, words);
        self.statement = match self.statement {
            S::Start if is(&["create", "alter"]) => S::Definition(0),
            S::Start if is(&["grant"]) => S::Credentials,
            S::Start if is(&["set"]) => S::Set,
            S::Start if is(&["pragma"]) => S::Pragma,
            S::Start if is(&["attach"]) => S::Attach,
            S::Start if is(&["insert"]) => S::Insert,
            S::Start if is(&["copy"]) => S::Copy,
            // `EXPLAIN` and the like stand before the statement proper, and so do the parts of a multi-line script.
            S::Start if is(&["explain", "analyze", "begin"]) => S::Start,
            S::Definition(_) if is(&["user", "role", "login", "group", "database", "credential"]) => S::Credentials,
            S::Definition(words) if words >= 4 || is(&["table", "view", "index"]) => S::Other,
            S::Definition(words) => S::Definition(words + 1),
            S::Set if is(&["password"]) => S::SetPassword,
            S::Start | S::Set => S::Other,
            S::Copy if is(&["stdin"]) && self.is_keyword(0, &["from"]) => S::CopyIn,
            other => other,
        };
        let arms = match self.statement {
            S::Credentials => {
                self.is_identified |= is(&["identified"]);
                is(&["password"]) || (self.is_identified && is(&["by", "as", "using"]))
            }
            S::SetPassword => is(&["to"]),
            S::Pragma => is(&["key", "rekey", "hexkey", "hexrekey", "textkey"]),
            S::Attach => is(&["key"]),
            _ => false,
        };
        if arms {
            self.secret = Secret::Next;
        }
        let formats =
            matches!(self.dialect, Dialect::ClickHouse) || (self.dialect == Dialect::Generic && is_data_format(word));
        if self.statement == S::Insert && formats && self.frames.len() == 1 && self.is_keyword(0, &["format"]) {
            self.is_finished = !is(&["from", "as"]);
        }
    }

    fn push_symbol(&mut self, token: Token, symbol: &str) {
        match symbol {
            "(" | "[" => self.open(token, symbol),
            ")" | "]" => self.close(token),
            "," => {
                self.out.push(token);
                if let Some(frame) = self.frame() {
                    frame.is_plain &= !frame.wants_item;
                    frame.wants_item = true;
                    frame.takes_rows &= frame.last_row.is_some();
                }
            }
            ";" => {
                self.break_list();
                self.out.push(token);
                if self.frames.len() == 1 {
                    self.is_finished = self.statement == Statement::CopyIn;
                    self.statement = Statement::Start;
                    self.is_identified = false;
                }
            }
            _ => {
                self.break_list();
                self.out.push(token);
                if self.statement == Statement::SetPassword && symbol == "=" {
                    self.secret = Secret::Next;
                }
            }
        }
    }

    fn open(&mut self, token: Token, symbol: &str) {
        let follows_in = self.is_keyword(0, &["in"]);
        let open = self.out.len();
        self.out.push(token);
        let Some(frame) = self.frames.last_mut() else { return };
        let role = match symbol {
            "[" => Role::Array,
            _ if follows_in => Role::InList,
            _ if frame.takes_rows => Role::Row,
            _ => Role::Group,
        };
        if role != Role::Array && frame.after_array {
            frame.is_plain = false;
        }
        frame.after_array = false;
        if role != Role::Row {
            frame.takes_rows = false;
            frame.last_row = None;
        }
        self.frames.push(Frame::new(role, open));
    }

    /// Rule 5.
    fn close(&mut self, token: Token) {
        if self.frames.len() < 2 {
            self.break_list();
            self.out.push(token);
            return;
        }
        let Some(frame) = self.frames.pop() else { return };
        let is_plain = frame.is_plain && !frame.wants_item && !frame.after_array;
        if is_plain && matches!(frame.role, Role::InList | Role::Array) {
            self.out.truncate(frame.first_end);
        }
        self.out.push(token);
        let len = self.out.len();
        let Some(parent) = self.frames.last_mut() else { return };
        if frame.role == Role::Row {
            let row = is_plain.then_some((frame.open, len));
            match (parent.last_row, row) {
                (Some(last), Some(new)) if same_rows(self.sql, &self.out, last, new) => {
                    self.out.truncate(last.1);
                }
                _ => parent.last_row = row,
            }
            parent.takes_rows = true;
            parent.is_plain = false;
        } else if is_plain && frame.role != Role::InList && parent.wants_item {
            parent.add_item(len);
        } else {
            parent.is_plain = false;
        }
    }
}

/// Whether two ranges of tokens print alike.
fn same_rows(sql: &str, tokens: &[Token], one: (usize, usize), two: (usize, usize)) -> bool {
    let (Some(one), Some(two)) = (tokens.get(one.0..one.1), tokens.get(two.0..two.1)) else { return false };
    one.len() == two.len()
        && one.iter().zip(two).all(|(a, b)| {
            (a.kind.is_value() && b.kind.is_value())
                || (a.kind == b.kind && slice(sql, a).eq_ignore_ascii_case(slice(sql, b)))
        })
}

/// Whether the word names one of ClickHouse's formats of rows.
fn is_data_format(word: &str) -> bool {
    const FAMILIES: &[&str] = &[
        "csv",
        "tsv",
        "tabseparated",
        "json",
        "values",
        "rowbinary",
        "native",
        "parquet",
        "arrow",
        "orc",
        "avro",
        "protobuf",
        "msgpack",
        "bson",
        "customseparated",
        "lineasstring",
        "rawblob",
        "regexp",
        "template",
        "tskv",
        "one",
    ];
    FAMILIES.iter().any(|family| word.get(..family.len()).is_some_and(|head| head.eq_ignore_ascii_case(family)))
}
