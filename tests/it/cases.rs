//! Golden cases of the saved queries, on the real engine.
//!
//! A case is a folder `tests/cases/QUERY/CASE`: `given.sql` fills the tables and says in a comment what follows by hand,
//! `params` holds lines `name = value` (also `now`, `pending`, `booked` and `project`, which the server sets), `expected.txt` is the
//! answer with tabs. With `UPDATE_EXPECT=1` the answers are written anew; read the difference against the comment.

use gemba_ingest::store::select::Limits;
use gemba_ingest::store::{Client, funnel, migrations};
use gemba_queries::{BoundQuery, Catalog, Engine as Computes, Population, Presence, Query, ServerParams};
use gemba_tests::database::Engine;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What `now` is where a case does not say: 2026-03-08T00:00:00Z.
const NOW_MS: i64 = 1_772_928_000_000;

/// The cases every query has, by how their names begin.
const KINDS: [&str; 3] = ["empty", "typical", "hostile"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// The values of a case, bound.
fn bind(query: &Query, case: &Path) -> BoundQuery {
    let mut server = ServerParams { project: 1, now_ms: NOW_MS, pending_records: 0, booked_records: 0 };
    let mut given = BTreeMap::new();
    let text = fs::read_to_string(case.join("params")).unwrap_or_default();
    for line in text.lines() {
        let (name, value) = line.split_once(" = ").unwrap();
        match name {
            "now" => server.now_ms = value.parse::<jiff::Timestamp>().unwrap().as_millisecond(),
            "pending" => server.pending_records = value.parse().unwrap(),
            "booked" => server.booked_records = value.parse().unwrap(),
            "project" => server.project = value.parse().unwrap(),
            _ => drop(given.insert(name.to_owned(), value.to_owned())),
        }
    }
    // A parameter without default that a case does not care about.
    query.bind(&given, &server).unwrap_or_else(|error| panic!("{}: {error}", case.display()))
}

async fn answer(client: &Client, sql: &str, bound: &BoundQuery, format: &str) -> Result<String, String> {
    let mut request = client.questions().query_raw(sql);
    for (name, value) in &bound.params {
        request = request.param(name, value);
    }
    let bytes = request.fetch_bytes(format).map_err(|error| error.to_string())?.collect().await;
    Ok(String::from_utf8(bytes.map_err(|error| error.to_string())?.to_vec()).unwrap())
}

/// The answer of a query that ClickHouse does not compute by itself, written like the others but without escapes.
async fn computed(client: &Client, engine: Computes, bound: &BoundQuery) -> String {
    let answer = funnel::saved(client, engine, bound, 1, (NOW_MS, NOW_MS), Limits::default(), &Population::default())
        .await
        .unwrap();
    let names: Vec<&str> = answer.columns.iter().map(|column| column.name.as_str()).collect();
    let mut text = names.join("\t") + "\n";
    for row in &answer.rows {
        let cell = |value: &Value| match value {
            Value::Null => "\\N".to_owned(),
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_f64() => number.as_f64().unwrap().to_string(),
            other => other.to_string(),
        };
        text.push_str(&row.iter().map(cell).collect::<Vec<_>>().join("\t"));
        text.push('\n');
    }
    text
}

async fn fill(client: &Client, given: &str) {
    let without_comments: Vec<&str> = given.lines().filter(|line| !line.starts_with("--")).collect();
    for statement in without_comments.join("\n").split(";\n") {
        if !statement.trim().is_empty() {
            client.execute(statement.trim().trim_end_matches(';')).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_answers_its_cases_as_worked_out_by_hand() {
    let engine = Engine::start();
    let rewrite = std::env::var("UPDATE_EXPECT").is_ok_and(|value| value == "1");
    let make = async |name: &str| engine.database(name).await;
    let drop = async |client: &Client| {
        client.execute(&format!("DROP DATABASE {} SYNC", client.config().database)).await.unwrap();
    };
    let wrong = wrong_answers(make, drop, rewrite).await;
    engine.stop().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Everybody's answer when who was there is read from here.
async fn read_from(presence: Presence, client: &Client, bound: &BoundQuery) -> Result<String, String> {
    let mut bound = bound.clone();
    Population::default().apply_with(&mut bound, presence);
    answer(client, &bound.sql, &bound, "TabSeparatedWithNames").await
}

/// The cases whose answers are not the expected ones, each asked in an empty database that `make` gives and `clear` takes back.
pub(crate) async fn wrong_answers(
    make: impl AsyncFn(&str) -> Client,
    clear: impl AsyncFn(&Client),
    rewrite: bool,
) -> Vec<String> {
    let catalog = Catalog::builtin().unwrap();
    // Only the queries whose names hold this, for whoever works on one.
    let only = std::env::var("GEMBA_CASES").unwrap_or_default();
    let mut wrong = Vec::new();
    for query in catalog.iter().filter(|query| query.name.contains(&only)) {
        let cases = folders(&root().join(&query.name));
        let names: BTreeSet<String> = cases.iter().map(|case| name(case)).collect();
        let kinds_are_there = KINDS.iter().all(|kind| names.iter().any(|name| name.starts_with(kind)));
        assert!(kinds_are_there, "{} needs an empty, a typical and a hostile case", query.name);
        for case in &cases {
            let database = format!("{}__{}", query.name, name(case));
            let client = make(&database).await;
            migrations::up(&client).await.unwrap();
            fill(&client, &fs::read_to_string(case.join("given.sql")).unwrap()).await;
            let bound = bind(query, case);
            let found = match query.engine {
                Computes::ClickHouse => read_from(Presence::Events, &client, &bound).await,
                engine => Ok(computed(&client, engine, &bound).await),
            };
            let found = found.unwrap_or_else(|error| format!("{error}\n"));
            if Population::default().may_be_rolled_up(&bound) && client.config().cluster.is_none() {
                let rolled_up = read_from(Presence::RolledUp, &client, &bound).await;
                if rolled_up.as_ref().ok() != Some(&found) {
                    wrong.push(format!("{database} answers from the roll-up\n{rolled_up:?}"));
                }
            }
            let file = case.join("expected.txt");
            if rewrite {
                fs::write(&file, &found).unwrap();
            } else if fs::read_to_string(&file).unwrap_or_default() != found {
                wrong.push(format!("{database} answers\n{found}"));
            }
            clear(&client).await;
        }
    }
    wrong
}

#[test]
fn every_case_belongs_to_a_query() {
    let catalog = Catalog::builtin().unwrap();
    for folder in folders(&root()) {
        assert!(catalog.get(&name(&folder)).is_some(), "{} is no query", folder.display());
    }
}

/// Whether a column of the type can be measured in the unit.
fn fits(unit: &str, kind: &str) -> bool {
    let kind = kind.strip_prefix("Nullable(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(kind);
    let is_integer = kind.starts_with("UInt") || kind.starts_with("Int");
    match unit {
        "count" => is_integer,
        "ms" | "s" | "h" | "number" => is_integer || kind == "Float64",
        "rate" | "ratio" | "1/s" | "people per week" | "person-seconds per week" => kind == "Float64",
        "name" | "id" | "sql" => {
            matches!(kind, "String" | "LowCardinality(String)" | "Array(String)")
                || kind == "Array(LowCardinality(String))"
        }
        "time" => kind == "DateTime64(3, 'UTC')",
        "date" => kind == "Date",
        "flag" => kind == "UInt8",
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_header_names_the_columns_of_its_answer_in_fitting_units() {
    let catalog = Catalog::builtin().unwrap();
    let engine = Engine::start();
    let client = engine.database("described").await;
    migrations::up(&client).await.unwrap();
    for query in catalog.iter() {
        let mut bound = bind(query, &root().join(&query.name).join("empty"));
        Population::default().apply(&mut bound);
        let described =
            answer(&client, &format!("DESCRIBE ({}\n)", bound.sql), &bound, "TabSeparatedRaw").await.unwrap();
        let found: Vec<(&str, &str)> = described
            .lines()
            .map(|line| {
                let mut fields = line.split('\t');
                (fields.next().unwrap(), fields.next().unwrap())
            })
            .collect();
        let in_header: Vec<&str> = query.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(in_header, found.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{}", query.name);
        for (column, (_, kind)) in query.columns.iter().zip(&found) {
            assert!(fits(&column.unit, kind), "{}: {} is {kind}, not {}", query.name, column.name, column.unit);
        }
    }
    engine.stop().await;
}
