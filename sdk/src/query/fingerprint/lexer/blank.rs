//! White space and comments, by dialect: what a lexer passes between two tokens.

use super::Lexer;
use crate::query::fingerprint::Dialect;

impl Lexer<'_> {
    /// Passes white space and comments; true if there were any.
    pub(super) fn skip_blank(&mut self) -> bool {
        let start = self.at;
        loop {
            match self.peek(0) {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                0 if !self.is_at_end() => self.at += 1,
                b'-' if self.peek(1) == b'-' && self.is_dash_comment() => self.skip_dash_comment(),
                b'#' if self.is_hash_comment() => self.skip_until(|byte| byte == b'\n'),
                b'/' if self.peek(1) == b'*' => self.skip_block_comment(),
                _ => return self.at > start,
            }
        }
    }

    /// Passes white space and comments that begin with two dashes.
    pub(super) fn skip_lines(&mut self) {
        loop {
            match self.peek(0) {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'-' if self.peek(1) == b'-' => self.skip_dash_comment(),
                _ => return,
            }
        }
    }

    /// To the end of the line, which a carriage return is to PostgreSQL.
    fn skip_dash_comment(&mut self) {
        let is_postgres = self.dialect == Dialect::Postgres;
        self.skip_until(|byte| byte == b'\n' || is_postgres && byte == b'\r');
    }

    /// MySQL wants white space (or the end) after `--`; everywhere else two dashes are enough.
    fn is_dash_comment(&self) -> bool {
        self.dialect != Dialect::MySql || self.peek(2) <= b' '
    }

    /// `#` opens a comment in MySQL, and in ClickHouse before a blank or `!`. In text of unknown origin it does unless
    /// it begins one of PostgreSQL's JSON operators: to read a comment as SQL could let an apostrophe in it turn
    /// strings inside out.
    pub(super) fn is_hash_comment(&self) -> bool {
        let next = self.peek(1);
        match self.dialect {
            Dialect::MySql => true,
            Dialect::ClickHouse => next <= b' ' || next == b'!',
            Dialect::Generic => !matches!(next, b'>' | b'-' | b'=' | b'#' | b'&'),
            Dialect::Postgres | Dialect::Sqlite | Dialect::SqlServer => false,
        }
    }

    /// Nested in PostgreSQL, SQL Server and ClickHouse; in text of unknown origin too, because that hides more.
    fn skip_block_comment(&mut self) {
        let nests = !matches!(self.dialect, Dialect::MySql | Dialect::Sqlite);
        let mut depth = 1_usize;
        self.at += 2;
        while depth > 0 {
            self.skip_until(|byte| byte == b'*' || byte == b'/');
            if self.is_at_end() {
                return;
            }
            if self.peek(0) == b'*' && self.peek(1) == b'/' {
                depth -= 1;
                self.at += 2;
            } else if nests && self.peek(0) == b'/' && self.peek(1) == b'*' {
                depth += 1;
                self.at += 2;
            } else {
                self.at += 1;
            }
        }
    }
}
