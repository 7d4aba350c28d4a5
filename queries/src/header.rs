//! Reads the header of a saved query: the `--` comment lines a file opens with.
//!
//! In: the text of a file. Out: what the header says, and where the body begins. Types of parameters are not here; they
//! stand in the body alone.

use crate::error::Problem;

/// The header's text, taken apart but not yet compared with the body.
#[derive(Debug, Default)]
pub(crate) struct Header<'a> {
    pub(crate) title: String,
    pub(crate) question: String,
    pub(crate) grain: String,
    pub(crate) caveats: Option<String>,
    pub(crate) engine: Option<String>,
    /// Names of the shared common table expressions it begins with, and the line that says so.
    pub(crate) ctes: Option<(usize, String)>,
    pub(crate) params: Vec<Entry<'a>>,
    pub(crate) columns: Vec<Entry<'a>>,
    /// Lines the header takes; the body begins after them.
    pub(crate) lines: usize,
}

/// A parameter or column: its name, its line (from 1), and the parts of its text between bars.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) line: usize,
    pub(crate) parts: Vec<String>,
}

/// Reads the header; an error carries the line it is on.
pub(crate) fn read(text: &str) -> Result<Header<'_>, (usize, Problem)> {
    let mut header = Header::default();
    for (number, words, content) in paragraphs(text, &mut header.lines) {
        let mut words = words.split_whitespace();
        let word = words.next().unwrap_or_default();
        let name = words.next();
        let fail = |problem| Err((number, problem));
        match (word, name, words.next()) {
            ("title", None, None) => once(&mut header.title, "title", content),
            ("question", None, None) => once(&mut header.question, "question", content),
            ("grain", None, None) if !content.starts_with("one row") => return fail(Problem::Grain),
            ("grain", None, None) => once(&mut header.grain, "grain", content),
            ("caveats", None, None) => once(header.caveats.get_or_insert_default(), "caveats", content),
            ("engine", None, None) => once(header.engine.get_or_insert_default(), "engine", content),
            ("ctes", None, None) => {
                once(&mut header.ctes.get_or_insert_with(|| (number, String::new())).1, "ctes", content)
            }
            ("param", Some(name), None) => entry(&mut header.params, name, number, &content),
            ("column", Some(name), None) => entry(&mut header.columns, name, number, &content),
            _ => return fail(Problem::HeaderWord(word.to_owned())),
        }
        .map_err(|problem| (number, problem))?;
    }
    for (name, value) in [("title", &header.title), ("question", &header.question), ("grain", &header.grain)] {
        if value.is_empty() {
            return Err((1, Problem::Missing(name)));
        }
    }
    if header.columns.is_empty() {
        return Err((1, Problem::Missing("columns")));
    }
    Ok(header)
}

/// The paragraphs of the header: line, what stands before the colon, what stands after it with continuations joined.
/// Counts the header's lines into `lines`.
fn paragraphs<'a>(text: &'a str, lines: &mut usize) -> Vec<(usize, &'a str, String)> {
    let mut found: Vec<(usize, &str, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some(comment) = line.strip_prefix("--") else { break };
        *lines = index + 1;
        if let (Some(continued), Some(last)) = (comment.strip_prefix("   "), found.last_mut()) {
            last.2.push(' ');
            last.2.push_str(continued.trim());
        } else if !comment.trim().is_empty() {
            let (words, content) = comment.split_once(':').unwrap_or((comment, ""));
            found.push((index + 1, words.trim(), content.trim().to_owned()));
        }
    }
    found
}

fn once(place: &mut String, name: &'static str, content: String) -> Result<(), Problem> {
    if !place.is_empty() {
        return Err(Problem::Twice(name.to_owned()));
    }
    if content.is_empty() {
        return Err(Problem::Missing(name));
    }
    *place = content;
    Ok(())
}

fn entry<'a>(entries: &mut Vec<Entry<'a>>, name: &'a str, line: usize, content: &str) -> Result<(), Problem> {
    if entries.iter().any(|entry| entry.name == name) {
        return Err(Problem::Twice(name.to_owned()));
    }
    let parts =
        if content.is_empty() { Vec::new() } else { content.split(" | ").map(|part| part.trim().to_owned()).collect() };
    entries.push(Entry { name, line, parts });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations_join_and_the_body_begins_after_the_last_comment() {
        let header = read(
            "-- title: A\n-- question: What\n--   is it?\n-- grain: one row per thing\n-- param from\n\
             -- column n: count | things | exact\nSELECT 1 AS n -- no header\n",
        )
        .unwrap();
        assert_eq!(header.question, "What is it?");
        assert_eq!(header.lines, 6);
        assert_eq!(header.params[0].parts, Vec::<String>::new());
        assert_eq!(header.columns[0].parts, ["count", "things", "exact"]);
    }

    fn check(text: &str, line: usize, problem: &Problem) {
        let (found_line, found) = read(text).unwrap_err();
        assert_eq!((found_line, &found), (line, problem), "{text}");
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        check("SELECT 1", 1, &Problem::Missing("title"));
        check("-- title: A\n-- title: B\n", 2, &Problem::Twice("title".to_owned()));
        check("-- title: A\n-- colour: red\n", 2, &Problem::HeaderWord("colour".to_owned()));
        check("-- title: A\n-- question: Q\n-- grain: things\n", 3, &Problem::Grain);
        check("-- title: A\n-- question: Q\n-- grain: one row\n", 1, &Problem::Missing("columns"));
        check("-- column n: a\n-- column n: b\n", 2, &Problem::Twice("n".to_owned()));
    }
}
