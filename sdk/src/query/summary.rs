//! OpenTelemetry's `db.query.summary`: the operations of a query and what they work on, in the order of the text.
//!
//! In: the tokens of a normalised query. Out: `{operation} {target} {target} {operation} ..`, at most 255 characters,
//! cut between parts only (semantic conventions 1.44, database spans, "Generating a summary of the query"). Names keep
//! their case and quotes. Pure, linear, never fails; a text without a statement has an empty summary.
//!
//! Beyond the letter of the conventions: a second `SELECT` after `UNION` is not repeated, a definition names its kind of
//! object (`CREATE INDEX i`) and nothing of a body that follows, an `UPDATE`, `DELETE` or `MERGE` names the table it
//! changes only, and the name of a `WITH` query is no target, as a subquery in parentheses has none either.

use std::collections::HashSet;

use super::fingerprint::{Dialect, Kind, Token, slice, work};

/// Longest summary, in characters; the conventions' number.
const MAX_CHARS: usize = 255;

/// Longest string literal taken for a table name, in bytes; PostgreSQL's length of an identifier.
const MAX_LITERAL_BYTES: usize = 63;

/// Where in a statement a frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing is looked for, save a `SELECT`.
    Open,
    /// Between `SELECT` and `FROM`.
    SelectList,
    /// In the list of tables.
    From,
    /// Behind an operation, before its target.
    Target,
    /// Behind `EXEC` or `CALL`, before the procedure's name.
    Call,
    /// Behind `CREATE`, `ALTER` or `DROP`, before the kind of object.
    Definition,
    /// The rest of the statement names nothing.
    Idle,
}

/// One level of parentheses.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one bracket, not states of a machine")]
struct Frame {
    place: Place,
    /// A statement may begin here.
    starts: bool,
    /// The next name is a target.
    wants: bool,
    /// A comma brings a further target.
    lists: bool,
    /// The next `SELECT` belongs to a set operation.
    continues: bool,
    /// Behind `WITH`: the next name is a query's own.
    names_query: bool,
    /// Between `WITH` and its statement: parentheses hold statements.
    is_with: bool,
    /// A subquery or bracket, where only `SELECT` and `WITH` begin something.
    is_inner: bool,
}

impl Frame {
    const OUTER: Self = Self {
        place: Place::Open,
        starts: true,
        wants: false,
        lists: false,
        continues: false,
        names_query: false,
        is_with: false,
        is_inner: false,
    };
}

/// Collects the parts.
struct Summary<'a> {
    sql: &'a str,
    tokens: &'a [Token],
    frames: Vec<Frame>,
    /// Names of `WITH` queries, in lower case.
    queries: HashSet<String>,
    /// A string may be the name of a table here.
    has_string_names: bool,
    text: String,
    chars: usize,
    is_full: bool,
    /// The last word: a `FROM` behind `DISTINCT` belongs to a comparison, a parenthesis behind `AS` holds a statement.
    last_word: &'a str,
}

/// The summary of a query, from its tokens.
pub(crate) fn summary(dialect: Dialect, sql: &str, tokens: &[Token]) -> String {
    let mut summary = Summary {
        sql,
        tokens,
        frames: vec![Frame::OUTER],
        queries: HashSet::new(),
        has_string_names: matches!(dialect, Dialect::Generic | Dialect::MySql | Dialect::Sqlite),
        text: String::new(),
        chars: 0,
        is_full: false,
        last_word: "",
    };
    let mut at = 0;
    while at < tokens.len() && !summary.is_full {
        at = summary.take(at).max(at + 1);
    }
    summary.text
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|candidate| word.eq_ignore_ascii_case(candidate))
}

/// Kinds of objects a definition is about.
const OBJECTS: &[&str] = &[
    "table",
    "index",
    "view",
    "database",
    "schema",
    "user",
    "role",
    "login",
    "group",
    "sequence",
    "procedure",
    "proc",
    "function",
    "trigger",
    "type",
    "domain",
    "extension",
    "server",
    "publication",
    "subscription",
    "event",
    "tablespace",
    "policy",
    "aggregate",
    "dictionary",
    "collation",
    "rule",
    "synonym",
    "package",
    "partition",
];

/// Objects whose definition holds statements of its own, which are not run by it.
const BODIES: &[&str] = &["view", "procedure", "proc", "function", "trigger", "event", "rule", "package"];

/// Words between an operation and its target.
const FILLERS: &[&str] = &[
    "into",
    "from",
    "only",
    "table",
    "if",
    "not",
    "exists",
    "ignore",
    "low_priority",
    "high_priority",
    "delayed",
    "quick",
    "or",
    "replace",
    "rollback",
    "abort",
    "fail",
    "overwrite",
    "concurrently",
    "lateral",
    "on",
    "full",
    "freeze",
    "verbose",
    "analyze",
    "materialized",
    "view",
    "temporary",
    "function",
    "tables",
    "final",
];

/// Words that end a list of tables.
const AFTER_FROM: &[&str] = &[
    "where", "group", "order", "having", "limit", "window", "offset", "fetch", "for", "qualify", "prewhere",
    "settings", "format", "into", "set",
];

impl<'a> Summary<'a> {
    fn push(&mut self, part: &str) {
        let chars = part.chars().count() + usize::from(!self.text.is_empty());
        if self.is_full || self.chars + chars > MAX_CHARS {
            self.is_full = true;
            return;
        }
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(part);
        self.chars += chars;
    }

    /// Handles the token at `at`; answers the index of the next one to handle.
    fn take(&mut self, at: usize) -> usize {
        work(1);
        let Some(token) = self.tokens.get(at) else { return at };
        let text = slice(self.sql, token);
        match token.kind {
            Kind::Symbol => {
                self.take_symbol(text);
                at + 1
            }
            Kind::Number | Kind::Text | Kind::Placeholder => {
                self.take_value(at, token, text);
                at + 1
            }
            Kind::Quoted => self.take_name(at),
            Kind::Word => {
                let is_member = at
                    .checked_sub(1)
                    .and_then(|before| self.tokens.get(before))
                    .is_some_and(|before| before.kind == Kind::Symbol && slice(self.sql, before) == ".");
                let next = if is_member { at + 1 } else { self.take_word(at, text) };
                self.last_word = text;
                next
            }
        }
    }

    fn take_symbol(&mut self, symbol: &str) {
        let is_outer = self.frames.len() == 1;
        let Some(frame) = self.frames.last_mut() else { return };
        match symbol {
            "(" => {
                let is_query = frame.is_with && is_one_of(self.last_word, &["as", "materialized"]);
                let mut inner = Frame { starts: true, is_inner: !is_query, ..Frame::OUTER };
                if frame.place == Place::From && frame.wants {
                    inner.place = Place::From;
                    inner.wants = true;
                    inner.lists = true;
                    frame.wants = false;
                }
                frame.wants &= frame.place != Place::Target;
                if frame.starts && !frame.is_inner {
                    frame.starts = false;
                }
                self.frames.push(inner);
            }
            ")" => {
                if !is_outer {
                    self.frames.pop();
                }
            }
            ";" => {
                if is_outer {
                    *frame = Frame::OUTER;
                }
            }
            "," => {
                frame.wants = frame.lists && matches!(frame.place, Place::From | Place::Target);
                frame.names_query = frame.is_with;
            }
            _ => {
                if frame.place != Place::Call {
                    frame.wants = false;
                }
            }
        }
    }

    /// A string where a table is due is a name (`FROM "song list", 'artists'` of the conventions' examples), if it
    /// looks like one, follows at once, since it is a value in broken SQL, and the dialect takes it for one: SQLite does, and
    /// MySQL in its ANSI mode.
    fn take_value(&mut self, at: usize, token: &Token, text: &str) {
        let before = at.checked_sub(1).and_then(|before| self.tokens.get(before));
        let follows = before.is_some_and(|before| match before.kind {
            Kind::Word => is_one_of(slice(self.sql, before), &["from", "join"]),
            Kind::Symbol => slice(self.sql, before) == ",",
            _ => false,
        });
        let Some(frame) = self.frames.last_mut() else { return };
        let is_due =
            self.has_string_names && follows && frame.wants && frame.place == Place::From && token.kind == Kind::Text;
        if frame.place != Place::Call {
            frame.wants = false;
        }
        frame.starts = false;
        let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'));
        let Some(name) = quote.and_then(|quote| text.strip_prefix(quote)?.strip_suffix(quote)) else { return };
        let looks_like_name = !name.is_empty()
            && name.len() <= MAX_LITERAL_BYTES
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ' '));
        if is_due && looks_like_name {
            self.push(text);
        }
    }

    fn take_word(&mut self, at: usize, word: &'a str) -> usize {
        let Some(frame) = self.frames.last_mut() else { return at + 1 };
        if frame.names_query && !is_one_of(word, &["recursive", "select", "insert", "update", "delete", "merge"]) {
            frame.names_query = word.eq_ignore_ascii_case("recursive");
            self.queries.insert(word.to_ascii_lowercase());
            return at + 1;
        }
        if frame.is_with && is_one_of(word, &["as", "not", "materialized", "recursive"]) {
            return at + 1;
        }
        if frame.starts || frame.is_with {
            if self.begin(word) {
                return at + 1;
            }
            if let Some(frame) = self.frames.last_mut() {
                frame.starts = false;
            }
        }
        self.go_on(at, word)
    }

    /// Begins a statement. False: the word begins none here.
    fn begin(&mut self, word: &str) -> bool {
        let Some(frame) = self.frames.last_mut() else { return false };
        let lower = word.to_ascii_lowercase();
        let (place, wants, lists) = match lower.as_str() {
            "with" => {
                frame.is_with = true;
                frame.names_query = true;
                return true;
            }
            "select" => (Place::SelectList, false, false),
            _ if frame.is_inner => return false,
            "insert" | "replace" | "update" | "delete" | "merge" | "copy" | "use" => (Place::Target, true, false),
            "truncate" | "vacuum" | "lock" | "optimize" | "reindex" | "refresh" => (Place::Target, true, true),
            "create" | "alter" | "drop" => (Place::Definition, false, false),
            "call" | "exec" | "execute" => (Place::Call, true, false),
            "explain" => {
                self.push(word);
                return true;
            }
            "analyze" | "verbose" | "query" | "plan" | "pipeline" if !self.text.is_empty() => return true,
            _ => (Place::Idle, false, false),
        };
        frame.place = place;
        frame.wants = wants;
        frame.lists = lists;
        frame.starts = false;
        frame.is_with = false;
        frame.names_query = false;
        self.push(word);
        true
    }

    /// Goes on inside a statement; answers the index of the next token to handle.
    fn go_on(&mut self, at: usize, word: &str) -> usize {
        let after_distinct = self.last_word.eq_ignore_ascii_case("distinct");
        let Some(frame) = self.frames.last_mut() else { return at + 1 };
        let lower = word.to_ascii_lowercase();
        match (frame.place, lower.as_str()) {
            (Place::Idle, _) => {
                // `PREPARE p AS SELECT ..`, `DECLARE c CURSOR FOR SELECT ..`.
                frame.starts = lower == "as";
                return at + 1;
            }
            (Place::Definition, kind) => {
                if is_one_of(kind, OBJECTS) {
                    frame.place = Place::Target;
                    frame.wants = true;
                    frame.lists = true;
                    self.push(word);
                }
                return at + 1;
            }
            (_, "select") => {
                let continues = frame.continues;
                *frame = Frame { place: Place::SelectList, starts: false, continues: false, wants: false, ..*frame };
                if !continues {
                    self.push(word);
                }
                return at + 1;
            }
            (_, "union" | "except" | "intersect" | "minus") => {
                frame.continues = true;
                frame.wants = false;
                frame.place = Place::Open;
                return at + 1;
            }
            (Place::SelectList, "from") if !after_distinct => {
                frame.place = Place::From;
                frame.wants = true;
                frame.lists = true;
                return at + 1;
            }
            (Place::From, "join" | "apply" | "straight_join") => {
                frame.wants = true;
                return at + 1;
            }
            (Place::From, word) if is_one_of(word, AFTER_FROM) => {
                frame.place = Place::Open;
                frame.wants = false;
                return at + 1;
            }
            (Place::Target, "table") if frame.wants && self.text.to_ascii_lowercase().ends_with("truncate") => {
                self.push(word);
                return at + 1;
            }
            _ => {}
        }
        if frame.wants && !is_one_of(word, FILLERS) { self.take_name(at) } else { at + 1 }
    }

    /// Takes a name, dotted or not, as a target if one is wanted; answers the index behind it.
    fn take_name(&mut self, at: usize) -> usize {
        let mut end = at;
        while let (Some(dot), Some(member)) = (self.tokens.get(end + 1), self.tokens.get(end + 2)) {
            let is_dot = dot.kind == Kind::Symbol && slice(self.sql, dot) == "." && !dot.spaced && !member.spaced;
            if !is_dot || !matches!(member.kind, Kind::Word | Kind::Quoted) {
                break;
            }
            work(1);
            end += 2;
        }
        let Some(frame) = self.frames.last_mut() else { return end + 1 };
        frame.starts = false;
        if frame.names_query {
            frame.names_query = false;
            if let Some(token) = self.tokens.get(at) {
                self.queries.insert(slice(self.sql, token).to_ascii_lowercase());
            }
            return end + 1;
        }
        if !std::mem::take(&mut frame.wants) {
            return end + 1;
        }
        if frame.place == Place::Call {
            frame.place = Place::Idle;
        }
        if let (Some(first), Some(last)) = (self.tokens.get(at), self.tokens.get(end)) {
            let name = self.sql.get(first.start..last.end).unwrap_or_default();
            if self.queries.is_empty() || !self.queries.contains(&name.to_ascii_lowercase()) {
                self.push(name);
            }
        }
        self.end_definition();
        end + 1
    }

    /// Behind the name in `CREATE VIEW v` nothing counts any more.
    fn end_definition(&mut self) {
        let mut words = self.text.split(' ').rev().skip(1);
        let (kind, operation) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if is_one_of(kind, BODIES) && is_one_of(operation, &["create", "alter"]) {
            self.is_full = true;
        }
    }
}
