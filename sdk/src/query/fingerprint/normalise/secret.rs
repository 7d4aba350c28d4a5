//! What kind of statement a text is, as far as secrets and rows behind it ask: the rules 6 and 7 of the normal form.

use super::{Normaliser, is_one_of};
use crate::query::fingerprint::{Dialect, Kind, Token};

/// Where a secret may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secret {
    /// No secret in sight.
    None,
    /// The next value, word or quoted identifier is one.
    Next,
    /// It was one; what touches it belongs to it.
    Tail,
}

/// What kind of statement a text is, as far as the rules 6 and 7 ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statement {
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

impl Normaliser<'_> {
    /// Rule 6. True: the token was dealt with.
    pub(super) fn hide(&mut self, token: &mut Token, text: &str) -> bool {
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

    /// Follows what kind of statement this is, for the rules 6 and 7.
    pub(super) fn watch(&mut self, word: &str) {
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
