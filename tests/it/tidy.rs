//! The house rules, as tests: what prose asks for and no compiler checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files of the project, relative to its root: those git tracks, and new ones it does not ignore.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the project's files");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    let files: Vec<PathBuf> = names.lines().map(PathBuf::from).filter(|file| root().join(file).is_file()).collect();
    assert!(files.len() > 50, "the list of files is far too short: {}", files.len());
    files
}

fn has_ending(file: &Path, endings: &[&str]) -> bool {
    file.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| endings.contains(&ending))
}

fn text_of(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Which of our crates each of our crates may use; dev-dependencies are free.
const EDGES: &[(&str, &[&str])] = &[
    ("gemba-conventions", &[]),
    ("gemba-macros", &["gemba-conventions"]),
    ("gemba", &["gemba-conventions", "gemba-macros"]),
    ("gemba-queries", &["gemba-conventions"]),
    ("gemba-shop", &["gemba"]),
    ("gemba-ingest", &["gemba", "gemba-conventions", "gemba-queries", "gemba-shop"]),
    ("gemba-examples", &["gemba"]),
];

#[test]
fn crates_depend_only_along_the_edges_of_the_code_map() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        EDGES.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    let mut seen = BTreeSet::new();
    for file in files().iter().filter(|file| file.ends_with("Cargo.toml") && file.parent() != Some(Path::new(""))) {
        let text = text_of(file);
        if !text.contains("[package]") {
            // Only gathers crates.
            continue;
        }
        let name = text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).unwrap().to_owned();
        let Some(allowed) = allowed.get(name.as_str()) else { continue };
        seen.insert(name.clone());
        let mut in_dependencies = false;
        for line in text.lines() {
            if let Some(section) = line.strip_prefix('[') {
                in_dependencies = section.starts_with("dependencies");
            }
            let used = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if in_dependencies && (used == "gemba" || used.starts_with("gemba-")) {
                assert!(allowed.contains(used), "{name} must not use {used}: see the code map in README.md");
            }
        }
    }
    assert_eq!(seen.len(), EDGES.len(), "a crate of the code map is gone: {seen:?}");
}

#[test]
fn every_rust_file_opens_by_saying_what_it_owns() {
    for file in files().iter().filter(|file| has_ending(file, &["rs"])) {
        if file.components().any(|part| part.as_os_str() == "ui") {
            // The sources of compile-message tests are what users write.
            continue;
        }
        let text = text_of(file);
        assert!(text.starts_with("//!"), "{} must open with //!", file.display());
    }
}

#[test]
fn no_stub_and_no_postponed_work_is_committed() {
    // Spelled in two halves, so that this file does not find itself.
    let forbidden = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    for file in files().iter().filter(|file| has_ending(file, &["rs", "sql", "sh", "toml", "js", "css"])) {
        if file.components().any(|part| part.as_os_str() == "vendor") {
            continue;
        }
        let text = text_of(file);
        for word in forbidden {
            assert!(!text.contains(word), "{}: {word}: open an issue instead", file.display());
        }
    }
}

#[test]
fn nothing_committed_names_a_machine_or_a_registry() {
    let forbidden = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("registry.npm", "js"),
        concat!("pypi", ".org"),
        concat!("static.crates", ".io"),
    ];
    for file in files() {
        if has_ending(&file, &["lock", "gz", "png", "bz2"])
            || file.components().any(|part| part.as_os_str() == "vendor")
        {
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(root().join(&file)).unwrap()).into_owned();
        for word in forbidden {
            assert!(!text.contains(word), "{} holds {word}", file.display());
        }
    }
}

#[test]
fn paths_named_in_documents_exist() {
    for file in files().iter().filter(|file| has_ending(file, &["md"])) {
        if file.components().any(|part| part.as_os_str() == "vendor") {
            continue;
        }
        let text = text_of(file);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = root().join(file.parent().unwrap()).join(target);
            assert!(path.exists(), "{} links to {target}, which is not there", file.display());
        }
    }
}

#[test]
fn every_saved_query_has_an_empty_a_typical_and_a_hostile_case() {
    let mut queries = 0;
    for file in files() {
        let is_query = has_ending(&file, &["sql"])
            && file.starts_with("queries")
            && ["usability", "optimization", "reliability", "trust"]
                .iter()
                .any(|folder| file.parent().is_some_and(|parent| parent.ends_with(folder)));
        if !is_query {
            continue;
        }
        queries += 1;
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let cases: Vec<String> = fs::read_dir(root().join("tests/cases").join(&name))
            .unwrap_or_else(|error| panic!("tests/cases/{name}: {error}"))
            .map(|case| case.unwrap().file_name().into_string().unwrap())
            .collect();
        for kind in ["empty", "typical", "hostile"] {
            assert!(cases.iter().any(|case| case.starts_with(kind)), "{name} has no {kind} case: {cases:?}");
        }
    }
    assert!(queries >= 10, "only {queries} saved queries found");
}

/// Modules of the SDK whose public items are its interface.
const SDK_MODULES: &[&str] = &[
    "attempt.rs",
    "config.rs",
    "funnel.rs",
    "guard.rs",
    "identity.rs",
    "macros.rs",
    "pipeline/ledger.rs",
    "problem.rs",
    "query/database.rs",
    "query/diesel.rs",
    "query/fingerprint.rs",
    "query/histogram.rs",
    "query/layer.rs",
    "query/mod.rs",
    "query/named.rs",
    "query/rusqlite.rs",
    "query/rusqlite/connected.rs",
    "query/rusqlite/statement.rs",
    "query/sea_orm.rs",
    "query/sqlx.rs",
    "query/status.rs",
    "query/timing.rs",
    "query/tokio_postgres.rs",
    "query/tokio_postgres/rows.rs",
    "query/tokio_postgres/statement.rs",
    "scope.rs",
    "testing.rs",
    "ticket.rs",
    "value.rs",
    "verdict.rs",
    "web.rs",
    "web/client.rs",
    "web/layer.rs",
];

/// Public for the compiler, not for people: what macros expand to, and sealed traits.
const WITHOUT_EXAMPLE: &[&str] = &[
    "Answer",
    "ByFuture",
    "ByOutcome",
    "ByReturn",
    "Encode",
    "Judged",
    "Seen",
    "Text",
    "Values",
    "tenant_set",
    "user_set",
];

#[test]
fn every_public_item_of_the_sdk_shows_an_example() {
    let mut missing = Vec::new();
    let mut shown = 0;
    for module in SDK_MODULES {
        let text = text_of(Path::new(&format!("sdk/src/{module}")));
        // Documentation and attributes before the line at hand.
        let mut before = String::new();
        for line in text.lines().map(str::trim_start).take_while(|line| !line.starts_with("mod tests")) {
            if line.starts_with("///") || line.starts_with('#') || line.contains(" = \"") || line == ")]" {
                before.push_str(line);
                continue;
            }
            let public = line.strip_prefix("pub ").map(|rest| rest.strip_prefix("async ").unwrap_or(rest));
            let named = ["fn ", "struct ", "enum ", "trait "].iter().find_map(|kind| public?.strip_prefix(kind));
            let item = named.or_else(|| line.strip_prefix("macro_rules! "));
            let is_end = |letter: char| !letter.is_alphanumeric() && letter != '_';
            if let Some(name) = item.and_then(|item| item.split(is_end).next()) {
                let is_hidden =
                    before.contains("doc(hidden)") || line.starts_with("macro") && !before.contains("export");
                if !is_hidden && !WITHOUT_EXAMPLE.contains(&name) {
                    shown += 1;
                    if !before.contains("```") {
                        missing.push(format!("{module}: {name}"));
                    }
                }
            }
            before.clear();
        }
    }
    assert!(shown > 80, "far too few public items are seen: {shown}");
    assert!(missing.is_empty(), "public items without an example: {missing:#?}");
}
