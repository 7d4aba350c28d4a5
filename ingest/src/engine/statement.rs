//! Reads just enough of a statement to run it: where an insert's data begins, where a result's format is named, whether
//! there is more than one statement.
//!
//! In: the text as it came. Out: a [`Plan`]. No I/O, no clock. Decides nothing about meaning: a text that fits no rule
//! goes to the engine as it is, whose parser gives the message.
//!
//! Why at all: ClickHouse's HTTP server takes data behind an `INSERT` and writes results in any format while the
//! statement runs. The engine's C interface has neither; it wants data apart from the statement, and gives a result
//! piece by piece only as one complete document per piece (a CSV header before each), but it can write a result to a
//! file as it is made. So a result goes through a pipe named by an `INTO OUTFILE` clause that is added here.

use std::ops::Range;

/// How a statement has to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Data follows the statement.
    Insert {
        /// The statement without its `FORMAT` clause.
        head: String,
        /// Format of the data.
        format: String,
        /// Where the data begins in the text.
        data: usize,
    },
    /// The result can be written to a file while it is made.
    Stream {
        /// Where an `INTO OUTFILE` clause belongs.
        clause: usize,
        /// The format named in the statement.
        format: Option<String>,
    },
    /// The result is small or there is none: run it as it is.
    Whole {
        /// The format named in the statement.
        format: Option<String>,
    },
}

/// Why a statement is refused before the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing but blanks and comments.
    #[error("Empty query")]
    Empty,
    /// More than one statement.
    #[error("Syntax error (Multi-statements are not allowed): failed at position {0} (end of query)")]
    Several(usize),
    /// A lone word: the engine's interface takes some (`exit`) for orders to itself.
    #[error("Syntax error: failed at position 1 ({0}): {0}. Expected a query")]
    Word(String),
    /// `INTO OUTFILE` or `FROM INFILE`: files of the server are none of a client's business.
    #[error("{0} is not allowed over HTTP")]
    File(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Quoted,
    Number,
    Sign(u8),
}

/// A token outside of blanks and comments.
#[derive(Debug, Clone)]
struct Token {
    kind: Kind,
    at: Range<usize>,
    /// How many brackets are open around it.
    depth: usize,
}

/// Cuts a text into tokens by the rules of ClickHouse's lexer, as far as needed to know strings from words.
struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), at: 0, depth: 0 }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Moves behind the next `needle`, or to the end.
    fn skip_past(&mut self, needle: &[u8]) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at = memchr::memmem::find(rest, needle).map_or(self.text.len(), |found| self.at + found + needle.len());
    }

    fn skip_blanks(&mut self) {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b'-', b'-') | (b'#', b' ' | b'!') => self.skip_past(b"\n"),
                (b'/', b'*') => {
                    self.at += 2;
                    self.skip_past(b"*/");
                }
                (byte, _) if self.at < self.text.len() && (byte.is_ascii_whitespace() || byte == 0x0b) => self.at += 1,
                // A no-break space, which editors like to leave behind.
                (0xc2, 0xa0) => self.at += 2,
                _ => return,
            }
        }
    }

    /// Behind a quoted text that begins here; a backslash and a doubled quote stay inside.
    fn skip_quoted(&mut self, quote: u8) {
        self.at += 1;
        while self.at < self.text.len() {
            match self.peek(0) {
                b'\\' => self.at += 2,
                byte if byte == quote && self.peek(1) == quote => self.at += 2,
                byte if byte == quote => {
                    self.at += 1;
                    return;
                }
                _ => self.at += 1,
            }
        }
        self.at = self.text.len();
    }

    /// Length of the `$tag$` that begins here, if one does.
    fn heredoc(&self) -> Option<usize> {
        let rest = self.text.get(self.at + 1..)?;
        let end = rest.iter().position(|byte| *byte == b'$')?;
        rest.get(..end)?.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').then_some(end + 2)
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blanks();
        if self.at >= self.text.len() {
            return None;
        }
        let start = self.at;
        let mut depth = self.depth;
        let kind = match self.peek(0) {
            quote @ (b'\'' | b'"' | b'`') => {
                self.skip_quoted(quote);
                Kind::Quoted
            }
            b'$' if self.heredoc().is_some() => {
                let length = self.heredoc().unwrap_or_default();
                let tag = self.text.get(start..start + length).unwrap_or_default();
                self.at += length;
                self.skip_past(tag);
                Kind::Quoted
            }
            byte if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 || byte == b'$' => {
                while self.peek(0).is_ascii_alphanumeric() || matches!(self.peek(0), b'_' | b'$' | 0x80..) {
                    self.at += 1;
                }
                Kind::Word
            }
            byte if byte.is_ascii_digit() => {
                while self.peek(0).is_ascii_alphanumeric() || matches!(self.peek(0), b'_') {
                    self.at += 1;
                }
                Kind::Number
            }
            sign => {
                self.at += 1;
                match sign {
                    b'(' | b'[' | b'{' => self.depth += 1,
                    b')' | b']' | b'}' => {
                        self.depth = self.depth.saturating_sub(1);
                        depth = self.depth;
                    }
                    _ => {}
                }
                Kind::Sign(sign)
            }
        };
        Some(Token { kind, at: start..self.at, depth })
    }
}

fn is_word(text: &str, token: &Token, word: &str) -> bool {
    token.kind == Kind::Word && text.get(token.at.clone()).is_some_and(|found| found.eq_ignore_ascii_case(word))
}

/// Whether a text begins like an insert, so that data may follow it.
pub fn begins_insert(text: &str) -> bool {
    Lexer::new(text).next().is_some_and(|token| is_word(text, &token, "INSERT"))
}

/// First words of statements whose result may be written to a file.
const READS: [&str; 8] = ["SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS"];

/// Reads a statement.
///
/// # Errors
///
/// [`Refusal`]; retrying does not help.
pub fn plan(text: &str) -> Result<Plan, Refusal> {
    if begins_insert(text)
        && let Some(insert) = plan_insert(text)?
    {
        return Ok(insert);
    }
    let tokens: Vec<Token> = Lexer::new(text).collect();
    let Some(first) = tokens.first() else { return Err(Refusal::Empty) };
    let mut end = tokens.len();
    if let Some(semicolon) = tokens.iter().position(|token| token.kind == Kind::Sign(b';')) {
        if let Some(further) = tokens.iter().skip(semicolon).find(|token| token.kind != Kind::Sign(b';')) {
            return Err(Refusal::Several(further.at.start));
        }
        end = semicolon;
    }
    let tokens = tokens.get(..end).unwrap_or_default();
    let Some(last) = tokens.last() else { return Err(Refusal::Empty) };
    if let [word] = tokens
        && word.kind == Kind::Word
    {
        return Err(Refusal::Word(text.get(word.at.clone()).unwrap_or_default().to_owned()));
    }
    let top = |token: &&Token| token.depth == 0;
    for pair in tokens.windows(2) {
        if let [one, two] = pair
            && one.depth == 0
        {
            if is_word(text, one, "INTO") && is_word(text, two, "OUTFILE") {
                return Err(Refusal::File("INTO OUTFILE"));
            }
            if is_word(text, one, "FROM") && is_word(text, two, "INFILE") {
                return Err(Refusal::File("FROM INFILE"));
            }
        }
    }
    let (clause, format) = trailing_format(text, tokens).unwrap_or((last.at.end, None));
    let reads = first.kind == Kind::Sign(b'(') || READS.iter().any(|word| is_word(text, first, word));
    let writes =
        tokens.iter().filter(top).any(|token| is_word(text, token, "INSERT")) && !is_word(text, first, "EXPLAIN");
    Ok(if reads && !writes { Plan::Stream { clause, format } } else { Plan::Whole { format } })
}

/// Finds `FORMAT name [SETTINGS ...]` at the end: where it begins, and the name.
fn trailing_format(text: &str, tokens: &[Token]) -> Option<(usize, Option<String>)> {
    for (index, pair) in tokens.windows(2).enumerate().rev() {
        let [word, name] = pair else { continue };
        if word.depth != 0 || name.kind != Kind::Word || !is_word(text, word, "FORMAT") {
            continue;
        }
        let follows = tokens.get(index + 2);
        if follows.is_none_or(|token| is_word(text, token, "SETTINGS")) {
            return Some((word.at.start, text.get(name.at.clone()).map(str::to_owned)));
        }
    }
    None
}

/// Reads an insert with data; `None` when it takes its rows from a query.
fn plan_insert(text: &str) -> Result<Option<Plan>, Refusal> {
    let mut lexer = Lexer::new(text);
    let mut previous: Option<Token> = None;
    while let Some(token) = lexer.next() {
        if token.kind == Kind::Sign(b';') {
            return Ok(None);
        }
        let follows_from = previous.as_ref().is_some_and(|previous| is_word(text, previous, "FROM"));
        // Behind a dot a word is part of a name, whatever it spells.
        let is_name = previous.as_ref().is_some_and(|previous| previous.kind == Kind::Sign(b'.'));
        if token.depth == 0 && token.kind == Kind::Word && !is_name {
            if follows_from && is_word(text, &token, "INFILE") {
                return Err(Refusal::File("FROM INFILE"));
            }
            if ["SELECT", "WITH", "WATCH"].iter().any(|word| is_word(text, &token, word)) {
                return Ok(None);
            }
            let head = || text.get(..token.at.start).unwrap_or_default().trim_end().to_owned();
            if is_word(text, &token, "VALUES") {
                return Ok(Some(Plan::Insert { head: head(), format: "Values".into(), data: token.at.end }));
            }
            if is_word(text, &token, "FORMAT") {
                let head = head();
                let Some(name) = lexer.next().filter(|name| name.kind == Kind::Word) else { return Ok(None) };
                let format = text.get(name.at.clone()).unwrap_or_default().to_owned();
                return Ok(Some(Plan::Insert { head, format, data: data_start(text.as_bytes(), name.at.end) }));
            }
        }
        previous = Some(token);
    }
    Ok(None)
}

/// Where the data of an insert begins behind its format's name: after the blanks of the line and its end (ClickHouse,
/// `ParserInsertQuery`).
fn data_start(text: &[u8], mut at: usize) -> usize {
    let byte = |at: usize| text.get(at).copied().unwrap_or(0);
    while matches!(byte(at), b' ' | b'\t' | 0x0c) {
        at += 1;
    }
    if byte(at) == b'\r' {
        at += 1;
    }
    if byte(at) == b'\n' {
        at += 1;
    }
    at
}

/// The expression that gives a statement's id as its client knows it. The C interface cannot set the engine's own
/// query id, so the id travels in `log_comment`, behind a byte that no client sends.
pub const QUERY_ID: &str = "if(position(Settings['log_comment'], '\\x01') > 0, \
     splitByChar('\\x01', Settings['log_comment'])[-1], query_id)";

/// Makes ids mean what the client meant: in `KILL QUERY ... WHERE query_id = ..`, and where `system.processes` is read.
pub fn with_query_ids(text: &str) -> String {
    let tokens: Vec<Token> = Lexer::new(text).collect();
    let kills =
        matches!(tokens.as_slice(), [kill, query, ..] if is_word(text, kill, "KILL") && is_word(text, query, "QUERY"));
    let mut out = String::with_capacity(text.len() + 256);
    let mut copied = 0;
    for (index, token) in tokens.iter().enumerate() {
        let replacement = if kills && (is_word(text, token, "query_id") || is_word(text, token, "initial_query_id")) {
            Some((token.at.clone(), format!("({QUERY_ID})")))
        } else if let Some(at) = reads_processes(text, &tokens, index) {
            let columns = format!(
                "{QUERY_ID} AS query_id, {QUERY_ID} AS initial_query_id, \
                 replaceRegexpOne(query, ' INTO OUTFILE \\'/dev/fd/[0-9]+\\' APPEND ', '') AS query"
            );
            Some((at, format!("(SELECT * REPLACE({columns}) FROM system.processes)")))
        } else {
            None
        };
        if let Some((at, replacement)) = replacement {
            out.push_str(text.get(copied..at.start).unwrap_or_default());
            out.push_str(&replacement);
            copied = at.end;
        }
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    out
}

/// The place of `system.processes` when the tokens from `index` read it as a table.
fn reads_processes(text: &str, tokens: &[Token], index: usize) -> Option<Range<usize>> {
    let reader = index.checked_sub(1).and_then(|before| tokens.get(before))?;
    let reads = reader.kind == Kind::Sign(b',') || ["FROM", "JOIN"].iter().any(|word| is_word(text, reader, word));
    let [system, dot, table] = tokens.get(index..index + 3)? else { return None };
    (reads && is_word(text, system, "system") && dot.kind == Kind::Sign(b'.') && is_word(text, table, "processes"))
        .then_some(system.at.start..table.at.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(text: &str) -> (String, Option<String>) {
        match plan(text) {
            Ok(Plan::Stream { clause, format }) => (format!("{}@{}", &text[..clause], &text[clause..]), format),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_output_clause_goes_before_the_format() {
        let check = |text: &str, expected: &str, format: Option<&str>| {
            assert_eq!(stream(text), (expected.to_owned(), format.map(str::to_owned)), "{text}");
        };
        check("SELECT 1", "SELECT 1@", None);
        check("SELECT 1 ; -- bye", "SELECT 1@ ; -- bye", None);
        check("select 1 format JSON", "select 1 @format JSON", Some("JSON"));
        check(
            "SELECT 1 FORMAT CSV SETTINGS max_threads=1;",
            "SELECT 1 @FORMAT CSV SETTINGS max_threads=1;",
            Some("CSV"),
        );
        check("SELECT format('{}', 'FORMAT CSV')", "SELECT format('{}', 'FORMAT CSV')@", None);
        check("SELECT format FROM t -- FORMAT CSV", "SELECT format FROM t@ -- FORMAT CSV", None);
        check("SELECT 1 /* ; */ , $x$;'$x$", "SELECT 1 /* ; */ , $x$;'$x$@", None);
        check("WITH 1 AS a SELECT a", "WITH 1 AS a SELECT a@", None);
        check("(SELECT 'it''s; \\' ok')", "(SELECT 'it''s; \\' ok')@", None);
    }

    #[test]
    fn data_begins_behind_the_format() {
        let check = |text: &str, head: &str, format: &str, data: &str| match plan(text) {
            Ok(Plan::Insert { head: found, format: name, data: at }) => {
                assert_eq!((found.as_str(), name.as_str(), &text[at..]), (head, format, data), "{text}");
            }
            other => panic!("{text}: {other:?}"),
        };
        check("INSERT INTO t FORMAT CSV\n1,2\n", "INSERT INTO t", "CSV", "1,2\n");
        check(
            "INSERT INTO t (a, `FORMAT`) SETTINGS x=1 FORMAT Native \r\nab",
            "INSERT INTO t (a, `FORMAT`) SETTINGS x=1",
            "Native",
            "ab",
        );
        check("insert into t values (1, ';')", "insert into t", "Values", " (1, ';')");
        check("INSERT INTO d.format FORMAT TSV a", "INSERT INTO d.format", "TSV", "a");
        check("INSERT INTO t FORMAT TSV\n\nx", "INSERT INTO t", "TSV", "\nx");
    }

    #[test]
    fn what_has_no_data_runs_whole() {
        for text in [
            "INSERT INTO t SELECT 1",
            "CREATE TABLE t (a UInt8) ENGINE = Memory",
            "OPTIMIZE TABLE t FINAL;",
            "INSERT INTO t",
        ] {
            assert_eq!(plan(text), Ok(Plan::Whole { format: None }), "{text}");
        }
    }

    #[test]
    fn files_and_second_statements_are_refused() {
        assert_eq!(plan("SELECT 1; SELECT 2"), Err(Refusal::Several(10)));
        assert_eq!(plan(" -- nothing"), Err(Refusal::Empty));
        assert_eq!(plan("exit;"), Err(Refusal::Word("exit".into())));
        assert_eq!(plan("SELECT 1 INTO OUTFILE '/x'"), Err(Refusal::File("INTO OUTFILE")));
        assert_eq!(plan("INSERT INTO t FROM INFILE '/x' FORMAT CSV"), Err(Refusal::File("FROM INFILE")));
    }

    #[test]
    fn ids_are_read_where_the_client_put_them() {
        assert_eq!(
            with_query_ids("KILL QUERY WHERE query_id = 'query_id' SYNC"),
            format!("KILL QUERY WHERE ({QUERY_ID}) = 'query_id' SYNC")
        );
        let read = with_query_ids("SELECT query_id FROM system.processes p WHERE query = 'system.processes'");
        assert!(read.starts_with("SELECT query_id FROM (SELECT * REPLACE("), "{read}");
        assert!(read.ends_with("FROM system.processes) p WHERE query = 'system.processes'"), "{read}");
        assert_eq!(with_query_ids("SELECT 1"), "SELECT 1");
    }
}
