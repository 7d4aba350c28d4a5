//! What the statement of a saved query may do: read our tables, each filtered by project where it is read.
//!
//! In: the tokens of a body. Out: the line and the rule that is broken, or nothing. A rule that cannot tell refuses.

use crate::error::Problem;
use crate::lex::{Token, TokenKind};

/// The tables a saved query may read.
pub(crate) const TABLES: [&str; 16] = [
    "events",
    "query_usage",
    "query_histograms",
    "query_texts",
    "query_samples",
    "requests",
    "identity_links",
    "properties",
    "catalog",
    "sdk_reports",
    "set_aside",
    "units",
    "resources",
    "ledger",
    "removals",
    "retries",
];

/// Who was there when. No table of ClickHouse: `population` puts a subquery in its place, whose moments are exact or not. So only the
/// shared expression `used` reads it, which knows.
pub(crate) const PRESENCE: &str = "unit_presence";

/// Table functions that read nothing but their arguments.
const HARMLESS_FUNCTIONS: [&str; 4] = ["numbers", "values", "generate_series", "view"];

/// One statement, a SELECT, without a format of its own.
pub(crate) fn check_statement(tokens: &[Token<'_>], header_lines: usize) -> Result<(), (usize, Problem)> {
    let line = tokens.first().map_or(header_lines + 1, |token| token.line);
    let begins = tokens.first().is_some_and(|token| token.kind.is_word("SELECT") || token.kind.is_word("WITH"));
    if !begins {
        return Err((line, Problem::NotOneSelect));
    }
    let forbidden =
        |token: &&Token<'_>| token.kind.is(';') || token.kind.is_word("FORMAT") || token.kind.is_word("OUTFILE");
    tokens.iter().find(forbidden).map_or(Ok(()), |token| Err((token.line, Problem::NotOneSelect)))
}

/// The file itself, whose header has so many lines, does not name what only shared expressions may read.
pub(crate) fn check_presence(tokens: &[Token<'_>], header_lines: usize) -> Result<(), (usize, Problem)> {
    let named = |token: &&Token<'_>| {
        token.line > header_lines
            && matches!(token.kind, TokenKind::Word(name) | TokenKind::Identifier(name) if name == PRESENCE)
    };
    tokens.iter().find(named).map_or(Ok(()), |token| Err((token.line, unknown(PRESENCE))))
}

/// Every table is one of ours and filtered by project where it is read.
pub(crate) fn check_tables(tokens: &[Token<'_>]) -> Result<(), (usize, Problem)> {
    let common_table = |name: &str| {
        tokens.windows(3).any(|three| {
            matches!(three, [first, second, third] if first.kind == TokenKind::Word(name) && second.kind.is_word("AS")
                && third.kind.is('('))
        })
    };
    for (index, token) in tokens.iter().enumerate() {
        if !(token.kind.is_word("FROM") || token.kind.is_word("JOIN"))
            || is_argument(tokens, index)
            || is_fill(tokens, index)
            || is_array_join(tokens, index)
        {
            continue;
        }
        let rest = tokens.get(index + 1..).unwrap_or_default();
        let source = rest.first().map_or(TokenKind::Punctuation(';'), |next| next.kind);
        let after = rest.get(1).map(|next| next.kind);
        match source {
            TokenKind::Punctuation('(') => {}
            TokenKind::Word(name) if after.is_some_and(|after| after.is('(')) => {
                if !HARMLESS_FUNCTIONS.iter().any(|harmless| name.eq_ignore_ascii_case(harmless)) {
                    return Err((token.line, unknown(name)));
                }
            }
            TokenKind::Word(name) if TABLES.contains(&name) || name == PRESENCE => {
                if token.kind.is_word("JOIN") || !is_filtered(rest) {
                    return Err((token.line, Problem::NoProjectFilter(name.to_owned())));
                }
            }
            TokenKind::Word(name) if common_table(name) && !after.is_some_and(|after| after.is('.')) => {}
            TokenKind::Word(name) | TokenKind::Identifier(name) => return Err((token.line, unknown(name))),
            _ => return Err((token.line, unknown("what follows FROM"))),
        }
        // `FROM a, b` would read a second source past this check.
        if is_listed(rest) {
            return Err((token.line, unknown("a list of sources after FROM, use JOIN; it")));
        }
    }
    Ok(())
}

fn unknown(name: &str) -> Problem {
    Problem::UnknownTable(name.to_owned(), TABLES.join(", "))
}

/// Whether the FROM at `index` belongs to `extract(.. FROM ..)`, `trim(.. FROM ..)` or `substring(.. FROM ..)`: then the
/// parenthesis around it opens after a function's name and no SELECT stands between.
fn is_argument(tokens: &[Token<'_>], index: usize) -> bool {
    let mut depth = 0_usize;
    for at in (0..index).rev() {
        let Some(token) = tokens.get(at) else { return false };
        if token.kind.is(')') {
            depth += 1;
        } else if token.kind.is('(') {
            if depth == 0 {
                let before = at.checked_sub(1).and_then(|before| tokens.get(before));
                return before.is_some_and(|before| {
                    ["extract", "trim", "substring"].iter().any(|function| before.kind.is_word(function))
                });
            }
            depth -= 1;
        } else if depth == 0 && token.kind.is_word("SELECT") {
            return false;
        }
    }
    false
}

/// Whether the JOIN at `index` belongs to `ARRAY JOIN`, which reads no table.
fn is_array_join(tokens: &[Token<'_>], index: usize) -> bool {
    let before = index.checked_sub(1).and_then(|at| tokens.get(at));
    before.is_some_and(|token| token.kind.is_word("ARRAY"))
        && tokens.get(index).is_some_and(|token| token.kind.is_word("JOIN"))
}

/// Whether the FROM at `index` belongs to `ORDER BY .. WITH FILL FROM ..`.
fn is_fill(tokens: &[Token<'_>], index: usize) -> bool {
    let before = |back: usize| index.checked_sub(back).and_then(|at| tokens.get(at));
    before(1).is_some_and(|token| token.kind.is_word("FILL"))
        && before(2).is_some_and(|token| token.kind.is_word("WITH"))
}

/// Whether `source`, the tokens after FROM, goes `TABLE [FINAL] [AS alias] (WHERE | PREWHERE) project =
/// {project:UInt32}`, with only AND behind it at the same depth.
fn is_filtered(source: &[Token<'_>]) -> bool {
    let mut rest = source.iter().skip(1).peekable();
    rest.next_if(|token| token.kind.is_word("FINAL"));
    if rest.next_if(|token| token.kind.is_word("AS")).is_some() {
        rest.next();
    }
    let mut expect = |fits: &dyn Fn(TokenKind<'_>) -> bool| rest.next().is_some_and(|token| fits(token.kind));
    if !(expect(&|kind| kind.is_word("WHERE") || kind.is_word("PREWHERE"))
        && expect(&|kind| kind.is_word("project"))
        && expect(&|kind| kind.is('='))
        && expect(&|kind| kind == TokenKind::Param { name: "project", kind: "UInt32" }))
    {
        return false;
    }
    let mut depth = 0_usize;
    for (position, token) in rest.enumerate() {
        let kind = token.kind;
        let ends = ["GROUP", "ORDER", "LIMIT", "UNION", "HAVING", "SETTINGS", "WINDOW", "QUALIFY"];
        if kind.is('(') {
            depth += 1;
        } else if depth == 0 && (kind.is(')') || ends.iter().any(|end| kind.is_word(end))) {
            return true;
        } else if kind.is(')') {
            depth -= 1;
        } else if depth == 0 && (kind.is_word("OR") || kind.is('?') || position == 0 && !kind.is_word("AND")) {
            return false;
        }
    }
    true
}

/// Whether a comma at the depth of FROM follows before the clause ends.
fn is_listed(source: &[Token<'_>]) -> bool {
    let mut depth = 0_usize;
    let ends = ["WHERE", "PREWHERE", "GROUP", "ORDER", "LIMIT", "UNION", "HAVING", "SETTINGS", "ARRAY", "SELECT"];
    for token in source {
        if token.kind.is('(') {
            depth += 1;
        } else if token.kind.is(')') {
            let Some(less) = depth.checked_sub(1) else { return false };
            depth = less;
        } else if depth == 0 && token.kind.is(',') {
            return true;
        } else if depth == 0 && ends.iter().any(|end| token.kind.is_word(end)) {
            return false;
        }
    }
    false
}
