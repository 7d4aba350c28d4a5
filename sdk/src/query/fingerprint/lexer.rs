//! Cuts SQL text into tokens: words, quoted identifiers, values, symbols.
//!
//! In: the text of one query and its dialect. Out: tokens as byte ranges of the text, comments and white space gone.
//! It knows where literals begin and end, nothing about grammar, and it never fails: what is left open at the end of
//! the text ends there. One pass, no recursion, no allocation.
//!
//! Invariants:
//! 1. Every byte of a string, comment or dollar quote lies inside one token or in none: no part of it can turn up as
//!    a word. Where a dialect leaves a doubt, the reading that hides more is taken.
//! 2. Token ranges lie on character boundaries, because tokens start and end at ASCII bytes or at the text's ends.

mod blank;

use super::{Dialect, work};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword or an unquoted identifier.
    Word,
    /// A quoted identifier, quotes included.
    Quoted,
    /// A numeric literal, without its sign.
    Number,
    /// A string literal of any form, or an identifier or string left open.
    Text,
    /// A parameter, or any other value that prints as `?`.
    Placeholder,
    /// An operator or punctuation.
    Symbol,
}

impl Kind {
    /// Whether the token prints as `?`.
    pub(crate) const fn is_value(self) -> bool {
        matches!(self, Self::Number | Self::Text | Self::Placeholder)
    }
}

/// One token: a byte range of the text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// White space or a comment stood before it.
    pub(crate) spaced: bool,
}

/// The source of tokens.
#[derive(Debug)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    dialect: Dialect,
    /// The token before, to tell `a[1:n]` from `:n` and `t.5` from `.5`.
    last: Option<Token>,
}

const fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

const fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(dialect: Dialect, text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0, dialect, last: None }
    }

    /// The byte `ahead` of the current place; 0 beyond the end.
    fn peek(&self, ahead: usize) -> u8 {
        work(1);
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Moves to the first byte for which `stop` holds, or to the end.
    fn skip_until(&mut self, stop: impl Fn(u8) -> bool) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let passed = rest.iter().position(|byte| stop(*byte)).unwrap_or(rest.len());
        work(passed + 1);
        self.at += passed;
    }

    /// Moves behind the closing `quote` of an open quotation; a doubled quote stays inside, and so does what follows a
    /// backslash when `escapes`. False: the text ended first.
    fn skip_quotation(&mut self, quote: u8, escapes: bool) -> bool {
        loop {
            self.skip_until(|byte| byte == quote || (escapes && byte == b'\\'));
            if self.is_at_end() {
                return false;
            }
            if self.peek(0) == b'\\' && escapes {
                self.at = (self.at + 2).min(self.bytes.len());
            } else if self.peek(1) == quote {
                self.at += 2;
            } else {
                self.at += 1;
                return true;
            }
        }
    }

    /// Whether backslashes escape in plain strings.
    fn has_backslashes(&self) -> bool {
        matches!(self.dialect, Dialect::MySql | Dialect::ClickHouse)
    }

    /// A string whose opening quote is the current byte.
    fn lex_string(&mut self) -> Kind {
        let quote = self.peek(0);
        self.at += 1;
        self.skip_quotation(quote, self.has_backslashes());
        Kind::Text
    }

    /// A string with backslash escapes, `E'..'`. PostgreSQL glues a string on a later line to it, which then has
    /// backslash escapes too; white space and comments of a line may lie between, other comments may not.
    fn lex_escape_string(&mut self) -> Kind {
        self.at += 1;
        while self.skip_quotation(b'\'', true) {
            let end = self.at;
            self.skip_lines();
            let between = self.bytes.get(end..self.at).unwrap_or_default();
            let has_line = between.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
            if self.peek(0) != b'\'' || !has_line {
                self.at = end;
                break;
            }
            self.at += 1;
        }
        Kind::Text
    }

    /// A quoted identifier whose opening quote is the current byte; left open it counts as a string.
    fn lex_identifier(&mut self, close: u8, escapes: bool) -> Kind {
        self.at += 1;
        if self.skip_quotation(close, escapes) { Kind::Quoted } else { Kind::Text }
    }

    /// ClickHouse takes typographic quotes: one pair for strings, one for identifiers.
    fn lex_curly(&mut self) -> Option<Kind> {
        if self.dialect != Dialect::ClickHouse || self.peek(0) != 0xE2 || self.peek(1) != 0x80 {
            return None;
        }
        let (last, kind) = match self.peek(2) {
            0x98 => (0x99, Kind::Text),
            0x9C => (0x9D, Kind::Quoted),
            _ => return None,
        };
        self.at += 3;
        loop {
            self.skip_until(|byte| byte == 0xE2);
            if self.is_at_end() {
                return Some(Kind::Text);
            }
            if self.peek(1) == 0x80 && self.peek(2) == last {
                self.at += 3;
                return Some(kind);
            }
            self.at += 1;
        }
    }

    /// `$1`, `$tag$ .. $tag$`, `$name`, `$12.50`.
    fn lex_dollar(&mut self) -> Kind {
        let start = self.at;
        self.at += 1;
        if self.peek(0).is_ascii_digit() {
            self.skip_until(|byte| !byte.is_ascii_alphanumeric());
            if self.dialect == Dialect::SqlServer && self.peek(0) == b'.' {
                self.at += 1;
                self.skip_until(|byte| !byte.is_ascii_digit());
            }
            return Kind::Placeholder;
        }
        if matches!(self.dialect, Dialect::MySql) {
            self.skip_until(|byte| !continues_word(byte));
            return Kind::Word;
        }
        self.skip_until(|byte| !continues_word(byte) || byte == b'$');
        let quotes = matches!(self.dialect, Dialect::Postgres | Dialect::ClickHouse | Dialect::Generic);
        if quotes && self.peek(0) == b'$' {
            self.at += 1;
            let tag = self.text.get(start..self.at).unwrap_or_default();
            let rest = self.text.get(self.at..).unwrap_or_default();
            let start = self.at;
            self.at = rest.find(tag).map_or(self.bytes.len(), |found| start + found + tag.len());
            work(self.at - start);
            return Kind::Text;
        }
        if self.at == start + 1 {
            return Kind::Symbol;
        }
        // SQLite: `$name::more(suffix)`; elsewhere a driver's named parameter.
        while self.dialect == Dialect::Sqlite && self.peek(0) == b':' && self.peek(1) == b':' {
            self.at += 2;
            self.skip_until(|byte| !continues_word(byte));
        }
        Kind::Placeholder
    }

    /// A numeric literal, or in MySQL an identifier that begins with a digit. Letters that follow the digits go with
    /// them, so that no part of a value survives.
    fn lex_number(&mut self) -> Kind {
        let start = self.at;
        let is_hex = self.peek(0) == b'0' && matches!(self.peek(1), b'x' | b'X');
        let mut has_dot = false;
        loop {
            let byte = self.peek(0);
            if continues_word(byte) {
                self.at += 1;
                let is_exponent = matches!(byte, b'e' | b'E') && !is_hex;
                if is_exponent && matches!(self.peek(0), b'+' | b'-') && self.peek(1).is_ascii_digit() {
                    self.at += 1;
                }
            } else if byte == b'.' && !has_dot && self.peek(1) != b'.' {
                has_dot = true;
                self.at += 1;
            } else {
                break;
            }
        }
        let literal = self.bytes.get(start..self.at).unwrap_or_default();
        if self.dialect == Dialect::MySql && !has_dot && is_mysql_identifier(literal) {
            Kind::Word
        } else {
            Kind::Number
        }
    }

    /// A word, or the string or identifier it is a prefix of.
    fn lex_word(&mut self) -> Kind {
        let start = self.at;
        let more = matches!(self.dialect, Dialect::SqlServer);
        let curly = self.dialect == Dialect::ClickHouse;
        while continues_word(self.peek(0)) || (more && matches!(self.peek(0), b'#' | b'@')) {
            if curly && self.peek(0) == 0xE2 && self.peek(1) == 0x80 && matches!(self.peek(2), 0x98 | 0x9C) {
                break;
            }
            self.at += 1;
        }
        let word = self.bytes.get(start..self.at).unwrap_or_default();
        let next = self.peek(0);
        let is_open = matches!(self.dialect, Dialect::Postgres | Dialect::Generic);
        match (word, next) {
            (b"e" | b"E", b'\'') if is_open => self.lex_escape_string(),
            (b"q" | b"Q" | b"nq" | b"NQ" | b"nQ" | b"Nq", b'\'') if self.dialect == Dialect::Generic => {
                self.lex_delimited_string()
            }
            (b"b" | b"B" | b"x" | b"X" | b"n" | b"N", b'\'') => self.lex_string(),
            (b"u" | b"U", b'&') if is_open && self.peek(1) == b'\'' => {
                self.at += 1;
                self.lex_string()
            }
            (b"u" | b"U", b'&') if is_open && self.peek(1) == b'"' => {
                self.at += 1;
                self.lex_identifier(b'"', false)
            }
            ([b'_', ..] | [b'n' | b'N'], b'\'' | b'"') if self.dialect == Dialect::MySql => self.lex_string(),
            _ => Kind::Word,
        }
    }

    /// Oracle's `q'[..]'`, with any delimiter.
    fn lex_delimited_string(&mut self) -> Kind {
        let rest = self.text.get(self.at + 1..).unwrap_or_default();
        let Some(open) = rest.chars().next() else {
            self.at = self.bytes.len();
            return Kind::Text;
        };
        let close = match open {
            '[' => ']',
            '(' => ')',
            '{' => '}',
            '<' => '>',
            other => other,
        };
        self.at += 1 + open.len_utf8();
        let mut end = [0_u8; 5];
        let len = close.encode_utf8(&mut end).len();
        end[len] = b'\'';
        let end = core::str::from_utf8(&end[..=len]).unwrap_or("'");
        let rest = self.text.get(self.at..).unwrap_or_default();
        let start = self.at;
        self.at = rest.find(end).map_or(self.bytes.len(), |found| start + found + end.len());
        work(self.at - start);
        Kind::Text
    }

    /// Whether the last token touches the current place and ends an expression.
    fn follows_operand(&self) -> bool {
        self.last.is_some_and(|last| {
            let closes = matches!(self.bytes.get(last.start), Some(b')' | b']'));
            last.end == self.at && (last.kind != Kind::Symbol || closes)
        })
    }

    /// `::`, `:=`, `:name`, `:1`, or the colon of a slice.
    fn lex_colon(&mut self) -> Kind {
        let follows_operand = self.follows_operand();
        self.at += 1;
        if matches!(self.peek(0), b':' | b'=') {
            self.at += 1;
            return Kind::Symbol;
        }
        if !continues_word(self.peek(0)) || follows_operand {
            return Kind::Symbol;
        }
        self.skip_until(|byte| !continues_word(byte));
        Kind::Placeholder
    }

    /// `@p`, `@@system_variable`, or an operator.
    fn lex_at(&mut self) -> Kind {
        let has_system_variables = matches!(self.dialect, Dialect::MySql | Dialect::SqlServer | Dialect::Generic);
        if self.peek(1) == b'@' && has_system_variables && starts_word(self.peek(2)) {
            self.at += 2;
            self.skip_until(|byte| !continues_word(byte));
            return Kind::Word;
        }
        if continues_word(self.peek(1)) {
            self.at += 1;
            self.skip_until(|byte| !continues_word(byte) && byte != b'@' && byte != b'#');
            return Kind::Placeholder;
        }
        self.lex_operator()
    }

    /// `%s`, `%(name)s`, `%%`, or the modulo operator.
    fn lex_percent(&mut self) -> Kind {
        if self.peek(1) == b'(' {
            let rest = self.bytes.get(self.at + 2..).unwrap_or_default();
            let len = rest.iter().position(|byte| !continues_word(*byte)).unwrap_or(rest.len());
            work(len);
            let tail = rest.get(len..).unwrap_or_default();
            let ends = tail.get(2).is_none_or(|byte| !continues_word(*byte));
            let is_conversion = matches!(tail, [b')', b's' | b'd' | b'f' | b'b' | b't', ..]) && ends;
            // Or cut off by the end of the text.
            if len > 0 && (is_conversion || matches!(tail, [] | [b')'])) {
                self.at = (self.at + 2 + len + 2).min(self.bytes.len());
                return Kind::Placeholder;
            }
        }
        let is_conversion = matches!(self.peek(1), b's' | b'd' | b'b' | b't') && !continues_word(self.peek(2));
        let operand_before = self.last.is_some_and(|last| match last.kind {
            Kind::Word => last.end == self.at,
            Kind::Symbol => matches!(self.bytes.get(last.start), Some(b')' | b']')),
            Kind::Quoted | Kind::Number | Kind::Text | Kind::Placeholder => true,
        });
        if is_conversion && !operand_before {
            self.at += 2;
            return Kind::Placeholder;
        }
        self.at += 1;
        Kind::Symbol
    }

    /// ClickHouse's `{name:Type}`, or a brace.
    fn lex_brace(&mut self) -> Kind {
        let rest = self.bytes.get(self.at + 1..).unwrap_or_default();
        let len = rest.iter().position(|byte| !continues_word(*byte)).unwrap_or(rest.len());
        work(len);
        let names = matches!(self.dialect, Dialect::ClickHouse | Dialect::Generic);
        // Or cut off by the end of the text.
        if names && len > 0 && matches!(rest.get(len), Some(b':') | None) {
            self.skip_until(|byte| byte == b'}');
            self.at = (self.at + 1).min(self.bytes.len());
            return Kind::Placeholder;
        }
        self.at += 1;
        Kind::Symbol
    }

    /// A run of operator characters. Signs stand alone, save in `->` and `->>`; a comment is not run over.
    fn lex_operator(&mut self) -> Kind {
        let start = self.at;
        loop {
            match self.peek(0) {
                b'-' if self.peek(1) == b'>' => self.at += 2,
                b'/' if self.peek(1) == b'*' => break,
                b'@' if self.at > start && continues_word(self.peek(1)) && !self.is_containment() => break,
                b'#' if self.at > start && self.is_hash_comment() => break,
                b'<' | b'>' | b'=' | b'!' | b'~' | b'|' | b'&' | b'^' | b'*' | b'/' | b'@' | b'#' => self.at += 1,
                _ => break,
            }
        }
        // Anything else stands alone, as a whole character.
        if self.at == start {
            self.at += 1;
            self.skip_until(|byte| byte & 0xC0 != 0x80);
        }
        Kind::Symbol
    }

    /// PostgreSQL's `<@` and `@@`, whose `@` begins no parameter.
    fn is_containment(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.bytes.get(at));
        self.dialect == Dialect::Postgres && matches!(before, Some(b'<' | b'@'))
    }

    fn lex(&mut self) -> Kind {
        if let Some(kind) = self.lex_curly() {
            return kind;
        }
        let dialect = self.dialect;
        match self.peek(0) {
            b'\'' => self.lex_string(),
            b'"' if dialect == Dialect::MySql => self.lex_string(),
            b'"' => self.lex_identifier(b'"', dialect == Dialect::ClickHouse),
            b'`' if !matches!(dialect, Dialect::Postgres | Dialect::SqlServer) => {
                self.lex_identifier(b'`', dialect == Dialect::ClickHouse)
            }
            b'[' if matches!(dialect, Dialect::SqlServer | Dialect::Sqlite) => self.lex_identifier(b']', false),
            b'$' => self.lex_dollar(),
            b'0'..=b'9' => self.lex_number(),
            b'.' if self.peek(1).is_ascii_digit() && !self.follows_operand() => self.lex_number(),
            b'?' => {
                self.at += 1;
                self.skip_until(|byte| !byte.is_ascii_digit());
                Kind::Placeholder
            }
            b':' => self.lex_colon(),
            b'@' => self.lex_at(),
            b'%' => self.lex_percent(),
            b'{' => self.lex_brace(),
            b'#' if dialect == Dialect::SqlServer => {
                self.skip_until(|byte| byte != b'#');
                self.lex_word()
            }
            byte if starts_word(byte) => self.lex_word(),
            _ => self.lex_operator(),
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let spaced = self.skip_blank();
        if self.is_at_end() {
            return None;
        }
        let start = self.at;
        let kind = self.lex();
        let token = Token { kind, start, end: self.at, spaced };
        self.last = Some(token);
        Some(token)
    }
}

/// Whether a MySQL word that begins with a digit is an identifier: not plain digits, not hexadecimal or binary, not an
/// exponent form.
fn is_mysql_identifier(word: &[u8]) -> bool {
    let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = word.get(digits..).unwrap_or_default();
    match (digits, rest) {
        (_, []) => false,
        (1, [b'x' | b'X', hex @ ..]) if word.first() == Some(&b'0') => !hex.iter().all(u8::is_ascii_hexdigit),
        (1, [b'b' | b'B', bits @ ..]) if word.first() == Some(&b'0') => {
            !bits.iter().all(|byte| matches!(byte, b'0' | b'1'))
        }
        (_, [b'e' | b'E', exponent @ ..]) => {
            !exponent.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-'))
        }
        _ => true,
    }
}
