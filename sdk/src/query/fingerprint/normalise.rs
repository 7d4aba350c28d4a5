//! Takes the values out of a stream of tokens: the rules 2 to 7 of the normal form.
//!
//! In: the tokens of a text, as the lexer cut them. Out: those that make the normal form, values as single tokens, repeated
//! ones gone. One pass, looking back a token or two; memory grows with the depth of brackets and the length of the output.

mod secret;

use secret::{Secret, Statement};

use super::{Dialect, Kind, Token, slice, work};

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

/// Rewrites the stream of tokens by the rules, in one pass.
#[derive(Debug)]
pub(super) struct Normaliser<'a> {
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
    pub(super) fn new(dialect: Dialect, sql: &'a str) -> Self {
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

    /// The tokens that are left when the values of the text's `tokens` are taken out.
    pub(super) fn run(mut self, tokens: impl Iterator<Item = Token>) -> Vec<Token> {
        for token in tokens {
            self.take(token);
            if self.is_finished {
                break;
            }
        }
        self.flush_signs();
        self.out
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
        work(1);
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
    work(one.len().min(two.len()));
    one.len() == two.len()
        && one.iter().zip(two).all(|(a, b)| {
            (a.kind.is_value() && b.kind.is_value())
                || (a.kind == b.kind && slice(sql, a).eq_ignore_ascii_case(slice(sql, b)))
        })
}
