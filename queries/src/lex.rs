//! Splits SQL into tokens, as far as the catalogue's rules need it.
//!
//! In: the body of a query. Out: tokens with their line. It knows comments, strings, quoted identifiers and ClickHouse
//! parameters; it does not parse expressions, and it never fails: an unterminated string runs to the end of the text.

/// One token, the line it begins on, counted from 1, and the byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) line: usize,
    pub(crate) at: usize,
    pub(crate) kind: TokenKind<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind<'a> {
    /// A keyword, an unquoted identifier or a number.
    Word(&'a str),
    /// An identifier in back ticks or double quotes, without them.
    Identifier(&'a str),
    /// A string literal, without its quotes.
    Text(&'a str),
    /// `{name:Type}`.
    Param { name: &'a str, kind: &'a str },
    /// Anything else.
    Punctuation(char),
}

impl TokenKind<'_> {
    /// Whether this is the keyword `word`, in any case.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found.eq_ignore_ascii_case(word))
    }

    /// Whether this is the character `c`.
    pub(crate) fn is(&self, c: char) -> bool {
        *self == Self::Punctuation(c)
    }
}

/// The tokens of `sql` in order, without comments and white space.
pub(crate) fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = sql;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (kind, taken) = next(rest, first);
        let (text, after) = rest.split_at(taken);
        if let Some(kind) = kind {
            found.push(Token { line, at: sql.len() - rest.len(), kind });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    found
}

/// The token `rest` begins with (`None`: white space or comment) and how many bytes it takes, at least 1.
fn next(rest: &str, first: char) -> (Option<TokenKind<'_>>, usize) {
    let until = |end: &str| rest.find(end).map_or(rest.len(), |at| at + end.len());
    match first {
        _ if first.is_whitespace() => (None, first.len_utf8()),
        '-' if rest.starts_with("--") => (None, until("\n")),
        '/' if rest.starts_with("/*") => (None, until("*/")),
        '\'' | '"' | '`' => {
            let (inner, taken) = quoted(rest, first);
            let kind = if first == '\'' { TokenKind::Text(inner) } else { TokenKind::Identifier(inner) };
            (Some(kind), taken)
        }
        '{' => match parameter(rest) {
            Some((kind, taken)) => (Some(kind), taken),
            None => (Some(TokenKind::Punctuation('{')), 1),
        },
        _ if is_word_character(first) => {
            let taken = rest.find(|c| !is_word_character(c)).unwrap_or(rest.len());
            (rest.get(..taken).map(TokenKind::Word), taken)
        }
        _ => (Some(TokenKind::Punctuation(first)), first.len_utf8()),
    }
}

fn is_word_character(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What stands between the quotes `rest` begins with, and how many bytes the whole takes. A quote is escaped by a
/// backslash or by doubling it.
fn quoted(rest: &str, quote: char) -> (&str, usize) {
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c == '\\' {
            characters.next();
        } else if c == quote {
            if characters.peek().is_some_and(|(_, following)| *following == quote) {
                characters.next();
            } else {
                return (rest.get(1..at).unwrap_or_default(), at + 1);
            }
        }
    }
    (rest.get(1..).unwrap_or_default(), rest.len())
}

/// A parameter at the beginning of `rest`, and how many bytes it takes.
fn parameter(rest: &str) -> Option<(TokenKind<'_>, usize)> {
    let end = rest.find('}')?;
    let (name, kind) = rest.get(1..end)?.split_once(':')?;
    let name = name.trim();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    is_name.then_some((TokenKind::Param { name, kind: kind.trim() }, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &[TokenKind<'_>]) {
        let found: Vec<_> = tokens(sql).into_iter().map(|token| token.kind).collect();
        assert_eq!(found, expected, "{sql}");
    }

    #[test]
    fn comments_strings_and_quoted_names_hide_what_is_in_them() {
        check(
            "a -- FROM b\n/* FROM c */ 'it''s \\' FROM' `d``e` \"f\"",
            &[
                TokenKind::Word("a"),
                TokenKind::Text("it''s \\' FROM"),
                TokenKind::Identifier("d``e"),
                TokenKind::Identifier("f"),
            ],
        );
    }

    #[test]
    fn a_parameter_is_one_token_and_a_map_is_not() {
        check(
            "{from:DateTime64(3, 'UTC')}{'a':1}",
            &[
                TokenKind::Param { name: "from", kind: "DateTime64(3, 'UTC')" },
                TokenKind::Punctuation('{'),
                TokenKind::Text("a"),
                TokenKind::Punctuation(':'),
                TokenKind::Word("1"),
                TokenKind::Punctuation('}'),
            ],
        );
    }

    #[test]
    fn what_is_not_closed_runs_to_the_end() {
        check("'abc", &[TokenKind::Text("abc")]);
        check("/* abc", &[]);
        check("é{", &[TokenKind::Word("é"), TokenKind::Punctuation('{')]);
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let lines: Vec<_> = tokens("a\n'x\ny' b\n-- c\nd").into_iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 2, 3, 5]);
    }
}
