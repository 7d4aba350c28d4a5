//! Common table expressions that several saved queries share, so that they count alike.
//!
//! A header says `-- ctes: calls, links`; these then stand, in this order, before the query's own expressions. They
//! are SQL text put together when the catalogue is built, since ClickHouse cannot share an expression between statements
//! without an object in the database, which would tie every query to a migration.

use crate::error::Problem;
use crate::header::Header;

const CTES: &[(&str, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/ctes.rs"));

/// Expressions, and what they read and need not be asked for.
const NEEDED: &[(&str, &str)] = &[("active_days", "links"), ("active_days", "used")];

/// A body with the shared expressions in place.
#[derive(Debug)]
pub(crate) struct Assembled {
    /// The statement.
    pub(crate) sql: String,
    /// Where its lines come from.
    pub(crate) lines: Lines,
}

/// Which line of a file each line of its statement comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines {
    /// The line of the header that asks for them.
    asked: usize,
    /// How many lines of the file stand before the statement's first.
    skipped: usize,
    /// The first line of the statement that belongs to a shared expression, and the first behind them.
    shared: (usize, usize),
}

impl Lines {
    /// The line of the file that a line of the statement comes from, both from 1; for a shared expression the line that asks for it.
    pub(crate) fn of(&self, line: usize) -> usize {
        let (first, behind) = self.shared;
        match line {
            _ if line < first => line + self.skipped,
            _ if line < behind => self.asked,
            _ => line + self.skipped - (behind - first),
        }
    }
}

/// Puts the expressions that `header` asks for into the body of `text`. An error carries its line.
pub(crate) fn assemble(header: &Header<'_>, text: &str) -> Result<Assembled, (usize, Problem)> {
    let is_blank = |line: &&str| line.trim().is_empty();
    let skipped = header.lines + text.lines().skip(header.lines).take_while(is_blank).count();
    let mut lines: Vec<&str> = text.lines().skip(skipped).collect();
    let Some((asked, names)) = &header.ctes else {
        let sql = lines.join("\n").trim_end().to_owned();
        let lines = Lines { asked: 0, skipped, shared: (usize::MAX, usize::MAX) };
        return Ok(Assembled { sql, lines });
    };
    let mut wanted: Vec<&str> = Vec::new();
    for name in names.split(',').map(str::trim) {
        let needed = NEEDED.iter().filter(|(by, _)| *by == name).map(|(_, needed)| *needed);
        let further: Vec<&str> = needed.chain([name]).filter(|name| !wanted.contains(name)).collect();
        wanted.extend(further);
    }
    let mut shared: Vec<&str> = Vec::new();
    for name in wanted {
        let found = CTES.iter().find(|(_, known, _)| *known == name);
        let Some((.., text)) = found else {
            let known: Vec<&str> = CTES.iter().map(|(_, known, _)| *known).collect();
            return Err((*asked, Problem::UnknownCte(name.to_owned(), known.join(", "))));
        };
        shared.push(text.trim_end());
    }
    let mut shared = shared.join(",\n");
    let first = lines.first().map_or("", |line| line.trim());
    let is_list = ["WITH", "WITH RECURSIVE"].iter().any(|word| first.eq_ignore_ascii_case(word));
    if is_list {
        shared.push(',');
    } else if first.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("SELECT")) {
        shared.insert_str(0, "WITH\n");
    } else {
        return Err((skipped + 1, Problem::CtesPlace));
    }
    let place = usize::from(is_list);
    lines.insert(place, &shared);
    let sql = lines.join("\n").trim_end().to_owned();
    let range = (place + 1, place + 1 + shared.lines().count());
    Ok(Assembled { sql, lines: Lines { asked: *asked, skipped, shared: range } })
}
