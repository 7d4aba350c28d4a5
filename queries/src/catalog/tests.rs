//! Claims about the catalogue: what a file must be, and what binding refuses.

use super::*;
use std::fmt::Write as _;

const HEAD: &str = "-- title: T\n-- question: Q?\n-- grain: one row per name\n-- column n: count | things | exact\n";

fn read(head_more: &str, body: &str) -> Result<Query, (usize, Problem)> {
    Query::read("trust/q.sql", "trust", "q", &format!("{HEAD}{head_more}{body}"))
}

fn problem(head_more: &str, body: &str) -> Problem {
    read(head_more, body).unwrap_err().1
}

fn server() -> ServerParams {
    ServerParams { project: 7, now_ms: 1_772_366_400_000, pending_records: 3, booked_records: 0 }
}

fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_built_in_query_is_well_formed() {
    let catalog = Catalog::builtin().unwrap();
    assert_eq!(catalog.iter().count(), BUILTIN.len());
    assert!(BUILTIN.iter().all(|(folder, ..)| FOLDERS.contains(folder)));
}

#[test]
fn a_table_is_read_only_with_a_filter_by_project() {
    let good = [
        "SELECT count() AS n FROM events WHERE project = {project:UInt32}",
        "SELECT count() AS n FROM units FINAL AS u WHERE project = {project:UInt32} AND (kind = 'user' OR unit = 0)",
        "WITH a AS (SELECT 1 FROM events PREWHERE project = {project:UInt32} GROUP BY name) SELECT count() AS n FROM a",
        "SELECT n FROM (SELECT 1 AS n) AS x INNER JOIN (SELECT 1 AS n) AS y USING n",
        "SELECT extract(DAY FROM toDate('2026-01-01')) AS n FROM numbers(3)",
    ];
    for body in good {
        assert!(read("", body).is_ok(), "{body}: {:?}", read("", body).err());
    }
    let bad = [
        "SELECT count() AS n FROM events",
        "SELECT count() AS n FROM events WHERE name = 'a' AND project = {project:UInt32}",
        "SELECT count() AS n FROM events WHERE project = {project:UInt32} OR 1",
        "SELECT count() AS n FROM events WHERE project = {project:UInt32} + 1",
        "SELECT count() AS n FROM events WHERE project = {project:UInt32} ? 1 : 1",
        "SELECT 1 AS n FROM (SELECT 1) AS a CROSS JOIN events WHERE project = {project:UInt32}",
    ];
    for body in bad {
        assert_eq!(problem("", body), Problem::NoProjectFilter("events".to_owned()), "{body}");
    }
}

#[test]
fn nothing_but_our_tables_can_be_read() {
    let bad = [
        "SELECT 1 AS n FROM control",
        "SELECT 1 AS n FROM system.tables",
        "SELECT 1 AS n FROM other.events WHERE project = {project:UInt32}",
        "SELECT 1 AS n FROM `events`",
        "SELECT 1 AS n FROM file('/etc/passwd')",
        "SELECT 1 AS n FROM remote('host', default.events)",
        "SELECT 1 AS n FROM numbers(1), events",
        "WITH control AS (SELECT 1) SELECT 1 AS n FROM control.x",
    ];
    for body in bad {
        assert!(matches!(problem("", body), Problem::UnknownTable(..)), "{body}");
    }
}

#[test]
fn a_body_is_one_select() {
    for body in
        ["", "DROP TABLE events", "SELECT 1 AS n; SELECT 2", "SELECT 1 AS n FORMAT CSV", "SELECT 1 INTO OUTFILE 'a'"]
    {
        assert_eq!(problem("", body), Problem::NotOneSelect, "{body}");
    }
}

#[test]
fn header_and_body_agree_on_parameters() {
    assert_eq!(problem("-- param from\n", "SELECT 1 AS n"), Problem::ParamUnused("from".to_owned()));
    assert_eq!(problem("", "SELECT {x:UInt8} AS n"), Problem::ParamUndeclared("x".to_owned()));
    assert_eq!(
        problem("-- param project: p | range 1..2\n", "SELECT {project:UInt32} AS n"),
        Problem::ParamOfServer("project".to_owned())
    );
    let of_type = |body: &str| matches!(problem("-- param x: m | range 1..2\n", body), Problem::ParamType { .. });
    assert!(of_type("SELECT {x:Array(String)} AS n"));
    assert!(of_type("SELECT {x:UInt8} + {x:UInt16} AS n"));
    assert!(of_type("SELECT {project:String} AS n"));
    let line = |head: &str, body: &str| matches!(problem(head, body), Problem::ParamLine { .. });
    assert!(line("-- param x\n", "SELECT {x:UInt8} AS n"));
    assert!(line("-- param x: m | default 3 | range 1..2\n", "SELECT {x:UInt8} AS n"));
    assert!(line("-- param x: m | about 2\n", "SELECT {x:UInt8} AS n"));
    assert!(line("-- param x: m\n", "SELECT {x:String} AS n"));
    assert!(line("-- param from\n", "SELECT {from:String} AS n"));
}

#[test]
fn a_problem_is_reported_with_its_line() {
    let (line, _) = read("", "SELECT count() AS n\nFROM events\n").unwrap_err();
    assert_eq!(line, 6);
    let mut catalog = Catalog::default();
    let error = catalog.add("own/a.sql", OWN_FOLDER, "a", &format!("{HEAD}SELECT 1 AS n FROM x")).unwrap_err();
    assert!(error.to_string().starts_with("own/a.sql:5: x is no table of Gemba; known: events, "), "{error}");
}

#[test]
fn a_folder_of_ones_own_adds_to_the_built_in_queries() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ours.sql"), format!("{HEAD}SELECT 1 AS n")).unwrap();
    fs::write(dir.path().join("notes.txt"), "not a query").unwrap();
    let catalog = Catalog::with_dir(dir.path()).unwrap();
    assert_eq!(catalog.get("ours").unwrap().folder, OWN_FOLDER);
    assert_eq!(catalog.iter().count(), BUILTIN.len() + 1);

    fs::write(dir.path().join("Ours!.sql"), "").unwrap();
    let error = Catalog::with_dir(dir.path()).unwrap_err();
    assert!(matches!(error, CatalogError::File { problem: Problem::FileName, .. }), "{error}");
    assert!(matches!(Catalog::with_dir(&dir.path().join("none")), Err(CatalogError::Read { .. })));

    let mut catalog = Catalog::default();
    catalog.add("a", OWN_FOLDER, "a", &format!("{HEAD}SELECT 1 AS n")).unwrap();
    assert!(catalog.add("a", OWN_FOLDER, "a", &format!("{HEAD}SELECT 1 AS n")).is_err());
}

fn sample() -> Query {
    let mut head = String::new();
    for line in ["from", "to", "tz", "limit", "kind: which | default day | one of day, week"] {
        writeln!(head, "-- param {line}").unwrap();
    }
    let body = "SELECT {from:DateTime64(3)} + {to:DateTime64(3)} + {limit:UInt32} + {kind:String} + {tz:String} AS n \
                FROM events WHERE project = {project:UInt32} AND time < {now:DateTime64(3, 'UTC')}";
    read(&head, body).unwrap()
}

#[test]
fn defaults_follow_the_time_that_is_passed_in() {
    let bound = sample().bind(&given(&[]), &server()).unwrap();
    let expected = [
        ("from", "1771761600.000"),
        ("kind", "day"),
        ("limit", "100"),
        ("now", "1772366400.000"),
        ("project", "7"),
        ("to", "1772366400.000"),
        ("tz", "UTC"),
    ];
    assert_eq!(bound.params, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(bound.range_ms, Some((1_771_761_600_000, 1_772_366_400_000)));
}

#[test]
fn a_date_is_midnight_in_the_zone_that_was_given() {
    let values = given(&[("from", "2026-02-01"), ("to", "2026-02-02"), ("tz", "America/New_York")]);
    let bound = sample().bind(&values, &server()).unwrap();
    assert_eq!(bound.range_ms, Some((1_769_922_000_000, 1_770_008_400_000)));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let bind = |pairs: &[(&str, &str)]| sample().bind(&given(pairs), &server()).unwrap_err();
    let unknown = bind(&[("projekt", "1")]);
    assert_eq!(unknown.to_string(), "unknown parameter projekt; this query takes from, to, tz, limit, kind");
    assert_eq!(unknown.code(), "unknown_parameter");
    assert!(matches!(bind(&[("project", "8")]), ParamError::Unknown { .. }), "callers never choose the project");
    assert!(matches!(bind(&[("now", "now")]), ParamError::Unknown { .. }));
    assert!(matches!(bind(&[("limit", "0")]), ParamError::Invalid { .. }));
    assert!(matches!(bind(&[("kind", "month")]), ParamError::Invalid { .. }));
    let empty = bind(&[("from", "2026-02-01"), ("to", "2026-02-01")]);
    assert_eq!(empty.to_string(), "parameter from (2026-02-01T00:00:00Z) must be before to (2026-02-01T00:00:00Z)");
}

#[test]
fn common_parameters_are_accepted_checked_and_ignored_where_they_have_no_use() {
    let query = read("", "SELECT 1 AS n").unwrap();
    let bound = query.bind(&given(&[("from", "now - 1d"), ("to", "now"), ("tz", "UTC")]), &server()).unwrap();
    assert_eq!((bound.params, bound.range_ms), (vec![], None));
    assert!(matches!(query.bind(&given(&[("tz", "Mars")]), &server()), Err(ParamError::Invalid { .. })));
    assert!(matches!(query.bind(&given(&[("limit", "1")]), &server()), Err(ParamError::Unknown { .. })));
}

#[test]
fn a_parameter_without_default_must_be_given() {
    let query = read("-- param x: m | range 1..2\n", "SELECT {x:UInt8} AS n").unwrap();
    assert!(matches!(query.bind(&given(&[]), &server()), Err(ParamError::Missing { .. })));
    assert_eq!(query.bind(&given(&[("x", "2")]), &server()).unwrap().params, [("x".to_owned(), "2".to_owned())]);
}

#[test]
fn a_shared_expression_brings_what_it_reads_and_only_shared_ones_read_who_was_there() {
    let own = "WITH\n    toDate('2026-01-01') AS active_from,\n    active_from AS active_to\nSELECT count() AS n FROM active_days\n";
    for asked in ["active_days", "links, active_days", "used, links, active_days"] {
        let sql = read(&format!("-- param tz\n-- ctes: {asked}\n"), own).unwrap().sql;
        for name in ["links", "used", "active_days"] {
            assert_eq!(sql.matches(&format!("    {name} AS\n")).count(), 1, "{name} of {asked}: {sql}");
        }
    }
    for own in ["unit_presence", "`unit_presence`"] {
        let own = format!("SELECT count() AS n\nFROM {own} WHERE project = {{project:UInt32}}\n");
        let (line, problem) = read("", &own).unwrap_err();
        assert!(matches!(&problem, Problem::UnknownTable(name, _) if name == "unit_presence"), "{problem}");
        assert_eq!(line, 6);
    }
}

#[test]
fn shared_expressions_stand_before_the_querys_own_expressions_and_keep_the_lines_of_the_file() {
    let own = "WITH\n    a AS (SELECT person AS n FROM links)\nSELECT n FROM a\n";
    let sql = read("-- ctes: links\n", own).unwrap().sql;
    assert!(sql.starts_with("WITH\n-- ") && sql.contains("    links AS\n") && sql.contains("),\n    a AS"), "{sql}");
    let sql = read("-- ctes: links\n", "select person AS n FROM links").unwrap().sql;
    assert!(sql.starts_with("WITH\n-- ") && sql.ends_with(")\nselect person AS n FROM links"), "{sql}");

    let (line, problem) = read("-- ctes: links\n", &own.replace("FROM a", "FROM b")).unwrap_err();
    assert!(matches!(problem, Problem::UnknownTable(name, _) if name == "b"));
    assert_eq!(line, 8, "the third line below five of the header");
    let (line, problem) = read("-- ctes: normal\n\n", "SELECT {x:UInt8} AS n").unwrap_err();
    assert_eq!((line, problem), (7, Problem::ParamUndeclared("x".to_owned())));
    let (line, problem) = read("-- ctes: releases\n", "SELECT 1 AS n FROM releases").unwrap_err();
    assert_eq!((line, problem), (5, Problem::ParamUndeclared("to".to_owned())), "its parameters are the query's");

    let (line, unknown) = read("-- ctes: links, what\n", own).unwrap_err();
    assert_eq!(line, 5);
    assert!(
        unknown
            .to_string()
            .starts_with("there is no shared common table expression \"what\"; known: active_days, attempt_events, "),
        "{unknown}"
    );
    assert_eq!(problem_of_place("WITH a AS (SELECT 1 AS n) SELECT n FROM a"), (6, Problem::CtesPlace));
}

fn problem_of_place(body: &str) -> (usize, Problem) {
    read("-- ctes: links\n", body).unwrap_err()
}
