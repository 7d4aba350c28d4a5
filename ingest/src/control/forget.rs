//! Removes what is kept of a person, and proves that it is gone.
//!
//! In: a [`Tombstone`], which holds hashes and no id. Out: rows removed by table, and what is left. Covers every table that
//! has a column `unit`, so that a table added by a later migration is not forgotten, the links, the records set aside and
//! the resources that hold the id. Rows received after the tombstone's time stay: a person who comes back is a new person.
//! Projections are made anew by ClickHouse with the parts that are rewritten.

use super::Tombstone;
use super::erase::{columns_of_tables, drop_replaced_parts};
use crate::identity::{IdDomain, IdHasher, ProjectId};
use crate::store::removals::{Pass, Why, begin_to_delete, deleted};
use crate::store::{Client, StoreError};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

/// Tables whose rows hold a person's id in a text and not in a column of units.
const SET_ASIDE: &str = "set_aside";
const RESOURCES: &str = "resources";
/// Who an id stands for.
const UNITS: &str = "units";
/// Ids in one statement. Chosen: 20 digits each are well below the 256 KiB that ClickHouse reads of a statement.
pub(super) const IDS_AT_A_TIME: usize = 4_000;
/// Rows of texts looked through at a time.
const TEXTS_AT_A_TIME: u64 = 1_000;

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Rows by table; tables that held none are left out.
    pub deleted: BTreeMap<String, u64>,
    /// Tables whose replaced parts, which may hold what was removed, are still on the disk; empty when all is well.
    pub on_disk: Vec<String>,
}

/// The units that stand for a user: the user's own and the anonymous ones whose first link leads to it.
///
/// # Errors
/// Those of ClickHouse.
pub async fn units_of(store: &Client, project: ProjectId, user: u64) -> Result<Vec<u64>, StoreError> {
    let sql = format!(
        "SELECT anonymous FROM (SELECT anonymous, argMin(person, (time, person)) AS first FROM identity_links \
         WHERE project = {project} GROUP BY anonymous) WHERE first = {user} ORDER BY anonymous"
    );
    store.catch_up("identity_links").await?;
    let mut units = vec![user];
    units.extend(store.raw().query_raw(&sql).fetch_all::<u64>().await?);
    Ok(units)
}

/// How many rows are there of the tombstone's units that were received up to its time.
///
/// # Errors
/// Those of ClickHouse.
pub async fn remaining(store: &Client, ids: &IdHasher, tombstone: &Tombstone) -> Result<u64, StoreError> {
    let mut remaining = 0;
    let texts = in_texts(store, ids, tombstone).await?;
    for (table, condition) in conditions(store, tombstone, texts).await? {
        remaining += count(store, &table, &condition.sql).await?;
    }
    Ok(remaining)
}

/// A removal that ClickHouse is at.
#[derive(Debug)]
#[must_use = "nobody knows yet that it came to its end"]
pub struct Removing {
    pass: Pass,
    /// Rows that go, by table.
    deleted: BTreeMap<String, u64>,
    /// Those of the tables whose removal the book knows.
    booked: BTreeSet<String>,
    /// All tables that may hold something of a person.
    tables: BTreeSet<String>,
}

/// Has ClickHouse remove everything that is stored of the tombstone's units and was received up to its time. Nothing may be
/// inserted meanwhile, on any node: what came between the count for the book and the removal would go without being counted.
/// Inserts may go on once this returns. Which texts name the person is found before, because it takes long where many records are
/// set aside.
///
/// # Errors
/// Those of ClickHouse; beginning again goes on.
pub async fn begin(store: &Client, tombstone: &Tombstone, texts: InTexts) -> Result<Removing, StoreError> {
    let mut removing = Removing {
        pass: Pass::begin(Why::Forgotten),
        deleted: BTreeMap::new(),
        booked: BTreeSet::new(),
        tables: BTreeSet::new(),
    };
    for (table, condition) in conditions(store, tombstone, texts).await? {
        removing.tables.insert(table.clone());
        let rows = count(store, &table, &condition.sql).await?;
        if rows == 0 {
            continue;
        }
        if condition.is_booked {
            removing.pass.intend(store, &table, "", &condition.sql).await?;
            removing.booked.insert(table.clone());
        }
        begin_to_delete(store, &table, removing.pass, &condition.sql).await?;
        *removing.deleted.entry(table).or_default() += rows;
    }
    Ok(removing)
}

impl Removing {
    /// Waits until all of it is gone, and for up to `patience` until the parts that held it are off the disk.
    ///
    /// # Errors
    /// Those of ClickHouse; it goes on by itself then.
    pub async fn finish(self, store: &Client, patience: Duration) -> Result<Removed, StoreError> {
        for table in self.deleted.keys() {
            deleted(store, table, self.pass).await?;
            if self.booked.contains(table) {
                self.pass.done(store, table, "").await?;
            }
        }
        let on_disk = drop_replaced_parts(store, &self.tables, patience).await?;
        Ok(Removed { deleted: self.deleted, on_disk })
    }
}

/// Rows of other people in which an attribute holds just this text. Whether it means the person nobody can tell from
/// outside (an id may be `1`), so they are counted and left alone.
///
/// # Errors
/// Those of ClickHouse.
pub async fn mentions(store: &Client, project: ProjectId, id: &str) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut found = BTreeMap::new();
    for (table, columns) in columns_of_tables(store).await? {
        if !(columns.contains("strings") && columns.contains("project")) {
            continue;
        }
        let sql = format!(
            "SELECT count() FROM `{table}` WHERE project = {project} AND has(mapValues(strings), {{id:String}})"
        );
        let rows = store.raw().query_raw(&sql).param("id", id).fetch_one::<u64>().await?;
        if rows > 0 {
            found.insert(table, rows);
        }
    }
    Ok(found)
}

/// Which rows of a table go.
#[derive(Debug)]
struct Condition {
    sql: String,
    /// Whether its rows are counted as stored, so that the book of removals must name them.
    is_booked: bool,
}

/// Which records set aside and which resources name a person in a text.
#[derive(Debug)]
pub struct InTexts(Vec<(String, Condition)>);

async fn conditions(
    store: &Client,
    tombstone: &Tombstone,
    InTexts(texts): InTexts,
) -> Result<Vec<(String, Condition)>, StoreError> {
    let Tombstone { project, units, .. } = tombstone;
    let list = listed(units);
    let received = received_before(tombstone);
    let mut conditions = Vec::new();
    let mut with_sessions = Vec::new();
    let mut later = Vec::new();
    for (table, columns) in columns_of_tables(store).await? {
        // What is read here says which rows go with these.
        store.catch_up(&table).await?;
        let has = |name: &str| columns.contains(name);
        if !has("project") || table == UNITS {
            continue;
        }
        let whose = if has("unit") {
            format!("unit IN ({list})")
        } else if has("anonymous") && has("person") {
            format!("(person IN ({list}) OR anonymous IN ({list}))")
        } else {
            continue;
        };
        let mut sql = format!("project = {project} AND {whose}");
        if has("received") {
            if has("unit") {
                later.push(format!("SELECT unit FROM `{table}` WHERE {sql} AND NOT ({received})"));
            }
            sql = format!("{sql} AND {received}");
        }
        if has("unit") && has("session") {
            with_sessions.push((table.clone(), sql.clone()));
        }
        conditions.push((table, Condition { sql, is_booked: has("record") && has("received") }));
    }
    conditions.extend(texts);
    // Before the rows that lead to the sessions: what a kill interrupts finds them again.
    let mut all = Vec::new();
    let mut gone = no_longer_used(store, *project, &with_sessions).await?;
    let here = distinct(store, "unit", &later).await?;
    gone.extend(units.iter().filter(|unit| !here.contains(unit)));
    for some in gone.into_iter().collect::<Vec<_>>().chunks(IDS_AT_A_TIME) {
        let sql = format!("project = {project} AND unit IN ({})", listed(some));
        all.push((UNITS.to_owned(), Condition { sql, is_booked: false }));
    }
    all.extend(conditions);
    Ok(all)
}

/// Sessions of the rows that go which no other row belongs to: their ids go, too.
async fn no_longer_used(
    store: &Client,
    project: ProjectId,
    going: &[(String, String)],
) -> Result<BTreeSet<u64>, StoreError> {
    let of_going =
        |(table, sql): &(String, String)| format!("SELECT session FROM `{table}` WHERE {sql} AND session != 0");
    let mut sessions = distinct(store, "session", &going.iter().map(of_going).collect::<Vec<_>>()).await?;
    for some in sessions.clone().into_iter().collect::<Vec<_>>().chunks(IDS_AT_A_TIME) {
        let of_others = |(table, sql): &(String, String)| {
            format!(
                "SELECT session FROM `{table}` WHERE project = {project} AND session IN ({}) AND NOT ({sql})",
                listed(some)
            )
        };
        for used in distinct(store, "session", &going.iter().map(of_others).collect::<Vec<_>>()).await? {
            sessions.remove(&used);
        }
    }
    Ok(sessions)
}

async fn distinct(store: &Client, column: &str, selects: &[String]) -> Result<BTreeSet<u64>, StoreError> {
    if selects.is_empty() {
        return Ok(BTreeSet::new());
    }
    let sql = format!("SELECT DISTINCT {column} FROM ({})", selects.join(" UNION ALL "));
    Ok(store.raw().query_raw(&sql).fetch_all::<u64>().await?.into_iter().collect())
}

pub(super) fn listed(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

fn received_before(tombstone: &Tombstone) -> String {
    format!("received <= fromUnixTimestamp64Milli({})", tombstone.until_ms)
}

/// Finds the records set aside and the resources that hold an id of the tombstone's units in a text, by reading all of them.
///
/// # Errors
/// Those of ClickHouse.
pub async fn in_texts(store: &Client, ids: &IdHasher, tombstone: &Tombstone) -> Result<InTexts, StoreError> {
    let Tombstone { project, .. } = tombstone;
    let received = received_before(tombstone);
    let mut conditions = Vec::new();
    let is_meant = Meant::new(ids, tombstone);
    for (table, key, text, more) in [
        (SET_ASIDE, "cityHash64(body, context)", "concat(body, ' ', context)", received.as_str()),
        (RESOURCES, "resource", "toJSONString(mapValues(attributes))", "1"),
    ] {
        store.catch_up(table).await?;
        let mut keys = Vec::new();
        let mut after = 0_u64;
        loop {
            let sql = format!(
                "SELECT DISTINCT {key} AS key, {text} AS text FROM `{table}` WHERE project = {project} AND {more} \
                 AND {key} > {after} ORDER BY key LIMIT {TEXTS_AT_A_TIME}"
            );
            let rows = store.raw().query_raw(&sql).fetch_all::<(u64, String)>().await?;
            let Some((last, _)) = rows.last() else { break };
            after = *last;
            keys.extend(rows.iter().filter(|(_, text)| is_meant.in_text(text)).map(|(key, _)| key.to_string()));
        }
        if !keys.is_empty() {
            let sql = format!("project = {project} AND {more} AND {key} IN ({})", keys.join(", "));
            // What is set aside is in the books under its fate, which stays.
            conditions.push((table.to_owned(), Condition { sql, is_booked: false }));
        }
    }
    Ok(InTexts(conditions))
}

async fn count(store: &Client, table: &str, condition: &str) -> Result<u64, StoreError> {
    store.catch_up(table).await?;
    store.number(&format!("SELECT count() FROM `{table}` WHERE {condition}")).await
}

/// Tells whether a text names one of the tombstone's units: by hashing what is quoted in it, since the id itself is kept
/// nowhere.
struct Meant<'a> {
    ids: &'a IdHasher,
    project: ProjectId,
    units: HashSet<u64>,
}

impl<'a> Meant<'a> {
    fn new(ids: &'a IdHasher, tombstone: &Tombstone) -> Self {
        Self { ids, project: tombstone.project, units: tombstone.units.iter().copied().collect() }
    }

    /// Whether a string literal in a JSON text is an id of the units. The text may be cut anywhere.
    fn in_text(&self, json: &str) -> bool {
        let mut rest = json;
        while let Some(begin) = rest.find('"') {
            let literal = &rest[begin..];
            let mut escaped = false;
            let end = literal.char_indices().skip(1).find(|(_, c)| {
                let is_end = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                is_end
            });
            let Some((end, _)) = end else { return false };
            let is_id = serde_json::from_str::<String>(&literal[..=end]).is_ok_and(|text| self.is_id(&text));
            if is_id {
                return true;
            }
            rest = &literal[end + 1..];
        }
        false
    }

    fn is_id(&self, text: &str) -> bool {
        let domains = [IdDomain::User, IdDomain::Session, IdDomain::Anonymous];
        domains.iter().any(|domain| self.units.contains(&self.ids.hash(self.project, *domain, text.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_in_a_text_by_its_hash_alone_even_where_the_text_is_cut() {
        let ids = IdHasher::new([7; 16]);
        let project = ProjectId(3);
        let unit = |id: &str| ids.hash(project, IdDomain::User, id.as_bytes());
        let tombstone = Tombstone { project, units: vec![unit("ann \"a\"")], until_ms: 0 };
        let meant = Meant::new(&ids, &tombstone);
        for (text, expected) in [
            (r#"{"value":{"stringValue":"ann \"a\""}}"#, true),
            (r#"{"value":{"stringValue":"ann \"a\""},"body":"cut he"#, true),
            (r#"{"value":{"stringValue":"ann \"a"#, false),
            (r#"{"value":{"stringValue":"joann"}}"#, false),
            (r#"["x","ann \"a\""]"#, true),
            ("", false),
        ] {
            assert_eq!(meant.in_text(text), expected, "{text}");
        }
    }
}
