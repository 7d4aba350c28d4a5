//! Common table expressions that several saved queries share, so that they count alike.
//!
//! A header says `-- parts: calls, links`; the parts then stand, in this order, before the query's own expressions. They
//! are SQL text put together when the catalogue is built, since ClickHouse cannot share an expression between statements
//! without an object in the database, which would tie every query to a migration.

use crate::error::Problem;
use crate::header::Header;

const PARTS: &[(&str, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/parts.rs"));

/// A body with its parts in place.
#[derive(Debug)]
pub(crate) struct Assembled {
    /// The statement.
    pub(crate) sql: String,
    /// The line of the header that asks for parts.
    asked: usize,
    /// How many lines of the file stand before the statement's first.
    skipped: usize,
    /// The first line of the statement that belongs to a part, and the first behind the parts.
    parts: (usize, usize),
}

impl Assembled {
    /// The line of the file that a line of the statement comes from, both from 1; for a part the line that asks for it.
    pub(crate) fn line(&self, line: usize) -> usize {
        let (first, behind) = self.parts;
        match line {
            _ if line < first => line + self.skipped,
            _ if line < behind => self.asked,
            _ => line + self.skipped - (behind - first),
        }
    }
}

/// Puts the parts that `header` asks for into the body of `text`. An error carries its line.
pub(crate) fn assemble(header: &Header<'_>, text: &str) -> Result<Assembled, (usize, Problem)> {
    let is_blank = |line: &&str| line.trim().is_empty();
    let skipped = header.lines + text.lines().skip(header.lines).take_while(is_blank).count();
    let mut lines: Vec<&str> = text.lines().skip(skipped).collect();
    let Some((asked, names)) = &header.parts else {
        let sql = lines.join("\n").trim_end().to_owned();
        return Ok(Assembled { sql, asked: 0, skipped, parts: (usize::MAX, usize::MAX) });
    };
    let mut parts: Vec<&str> = Vec::new();
    for name in names.split(',').map(str::trim) {
        let found = PARTS.iter().find(|(_, known, _)| *known == name);
        let Some((.., part)) = found else {
            let known: Vec<&str> = PARTS.iter().map(|(_, known, _)| *known).collect();
            return Err((*asked, Problem::UnknownPart(name.to_owned(), known.join(", "))));
        };
        parts.push(part.trim_end());
    }
    let mut parts = parts.join(",\n");
    let first = lines.first().map_or("", |line| line.trim());
    let is_list = ["WITH", "WITH RECURSIVE"].iter().any(|word| first.eq_ignore_ascii_case(word));
    if is_list {
        parts.push(',');
    } else if first.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("SELECT")) {
        parts.insert_str(0, "WITH\n");
    } else {
        return Err((skipped + 1, Problem::PartsPlace));
    }
    let place = usize::from(is_list);
    lines.insert(place, &parts);
    let sql = lines.join("\n").trim_end().to_owned();
    let range = (place + 1, place + 1 + parts.lines().count());
    Ok(Assembled { sql, asked: *asked, skipped, parts: range })
}
