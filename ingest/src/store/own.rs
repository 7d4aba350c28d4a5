//! Looks at a team's own saved queries when the server starts: whether ClickHouse can make sense of each, and whether it answers the
//! columns its header names. Nothing is run.
//!
//! In: the catalogue. Out: the first file that is wrong, with line and reason.

use super::select::{self, Limits};
use super::{Client, Obstacle, StoreError};
use gemba_queries::catalog::OWN_FOLDER;
use gemba_queries::{BoundQuery, Catalog, CatalogError, Engine, Population, Problem, Query, ServerParams};

/// Most characters of what ClickHouse says that are repeated. Chosen: two or three lines of a terminal.
const MAX_REASON_CHARS: usize = 300;

/// Checks every own query. Where ClickHouse is away they are not looked at, which is logged; asked, they are refused then.
///
/// # Errors
/// [`CatalogError::File`].
pub async fn check(client: &Client, catalog: &Catalog, now_ms: i64) -> Result<(), CatalogError> {
    let server = ServerParams { project: 0, now_ms, pending_records: 0, booked_records: 0 };
    for query in catalog.iter().filter(|query| query.folder == OWN_FOLDER && query.engine == Engine::ClickHouse) {
        let example = query.example(&server);
        let mut bound = example.map_err(|error| query.fault(1, Problem::Refused(error.to_string())))?;
        Population::default().apply(&mut bound);
        let described = BoundQuery { sql: format!("DESCRIBE ({}\n)", bound.sql), ..bound };
        match select::select(client, &described, Limits::default()).await {
            Ok(answered) => {
                let names: Vec<&str> = answered.rows.iter().filter_map(|row| row.first()?.as_str()).collect();
                query.check_columns(&names)?;
            }
            Err(error) => {
                if let (Obstacle::Table | Obstacle::Rows, StoreError::Refused { message, .. }) =
                    (error.obstacle(), &error)
                {
                    return Err(refused(query, message));
                }
                tracing::warn!(%error, query = query.name, "own queries cannot be looked at");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What ClickHouse says, at the line it names; at the statement's first where it names none.
fn refused(query: &Query, message: &str) -> CatalogError {
    let line = message.split_once("(line ").and_then(|(_, rest)| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    let said = message.split_once("DB::Exception: ").map_or(message, |(_, said)| said);
    // What follows repeats the statement, or lists all that might have stood there.
    let said = [" In scope ", ". Expected one of", " (version "]
        .iter()
        .fold(said, |said, word| said.split_once(word).map_or(said, |(before, _)| before));
    let one_line: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
    query.fault(line.unwrap_or(1), Problem::Refused(one_line.chars().take(MAX_REASON_CHARS).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_names_the_file_its_line_and_the_reason() {
        let text =
            "-- title: T\n-- question: Q?\n-- grain: one row\n-- column n: count | n | exact\n\nSELECT\n    1 AS n";
        let mut catalog = Catalog::default();
        catalog.add("own/a.sql", OWN_FOLDER, "a", text).unwrap();
        let query = catalog.get("a").unwrap();
        for (message, told) in [
            (
                "Code: 62. DB::Exception: Syntax error: failed at position 20 (n) (line 2, col 7): n. Expected one of: AS, x. \
                 (SYNTAX_ERROR) (version 26.7)",
                "own/a.sql:7: clickhouse refuses the statement: Syntax error: failed at position 20 (n) (line 2, col 7): n",
            ),
            (
                "Code: 47. DB::Exception: Unknown expression identifier `x` In scope SELECT x. (UNKNOWN_IDENTIFIER)",
                "own/a.sql:6: clickhouse refuses the statement: Unknown expression identifier `x`",
            ),
            ("gone", "own/a.sql:6: clickhouse refuses the statement: gone"),
        ] {
            assert_eq!(refused(query, message).to_string(), told);
        }
        assert_eq!(
            query.check_columns(&["m", "n"]).unwrap_err().to_string(),
            "own/a.sql:6: the header names the columns n, the statement answers m, n; both must be the same in the same order"
        );
        query.check_columns(&["n"]).unwrap();
    }
}
