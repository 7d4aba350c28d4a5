//! Records that were set aside: what they are, why, and which can be taken in again.
//!
//! In: a project, always; so nothing of another one can be read or removed. Out: equal rows of one insert as one [`Item`],
//! with an id that is made of what they hold, so that it names the same rows for everybody and for ever.
//!
//! Whatever reads items first finds those of a page by their ids alone: ClickHouse would otherwise keep the texts of all that
//! are left to group them.

use super::removals::delete_rows;
use super::{Client, StoreError};
use crate::identity::ProjectId;
use crate::pipeline::Unsettled;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};

/// Most items of one list.
pub const MAX_LISTED: u32 = 1_000;
/// Items read whole at a time. Chosen: a record and what it lies in are 64 KiB each at most, so these are 25 MiB at worst.
const PAGE_ITEMS: usize = 200;
/// Characters of a record that a list shows.
const SHOWN: usize = 1_000;

/// Names equal rows of one insert, of columns told as `s.` or, where a statement cannot, without.
fn id_of(told: &str) -> String {
    let columns = ["batch", "signal", "reason", "detail", "body", "context"].map(|column| format!("{told}{column}"));
    format!("lower(hex(sipHash128({})))", columns.join(", "))
}

/// Names what a record is, wherever it is stored.
const CONTENT: &str = "cityHash64(s.signal, s.body, s.context)";

/// Which records are meant; all of the project where nothing is given.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// Ids, each 32 hexadecimal digits.
    pub ids: Vec<String>,
    /// A reason, one of our words.
    pub reason: Option<String>,
}

impl Which {
    fn sql(&self, project: ProjectId, told: &str) -> String {
        let mut sql = format!("{told}project = {project}");
        // Hexadecimal digits and words of a closed set, checked where they came in; the filters keep it so whatever comes.
        if !self.ids.is_empty() {
            let ids: Vec<String> = self.ids.iter().map(|id| format!("'{}'", hexadecimal(id))).collect();
            write!(sql, " AND {} IN ({})", id_of(told), ids.join(", ")).unwrap_or_default();
        }
        if let Some(reason) = &self.reason {
            let reason: String = reason.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            write!(sql, " AND {told}reason = '{reason}'").unwrap_or_default();
        }
        sql
    }
}

fn hexadecimal(id: &str) -> String {
    id.chars().filter(char::is_ascii_hexdigit).collect()
}

/// A place in a list, behind the item it was made of; it stays one when that item is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    received_ms: i64,
    id: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.received_ms, self.id)
    }
}

impl Place {
    /// The place that a list wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (received_ms, id) = text.split_once('-')?;
        let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then_some(Self { received_ms: received_ms.parse().ok()?, id: id.to_ascii_lowercase() })
    }
}

/// An item without what it holds.
#[derive(Debug, Clone, Deserialize, clickhouse::Row)]
struct Found {
    id: String,
    batch: u64,
    received_ms: i64,
}

impl Found {
    fn place(&self) -> Place {
        Place { received_ms: self.received_ms, id: self.id.clone() }
    }
}

/// Finds items: those of `rows` as they are after `GROUP BY`.
async fn find(store: &Client, rows: &str, order: &str) -> Result<Vec<Found>, StoreError> {
    let known = id_of("s.");
    let sql = format!(
        "SELECT {known} AS id, any(s.batch) AS batch, toUnixTimestamp64Milli(min(s.received)) AS received_ms \
         FROM set_aside AS s WHERE {rows} GROUP BY id {order}"
    );
    store.rows(&sql).await
}

/// The rows of items, of columns told as `told`; their inserts are named as well, since hashing reads whole texts.
fn rows_of<'a>(project: ProjectId, items: impl Iterator<Item = (&'a str, u64)>, told: &str) -> String {
    let (mut ids, mut batches) = (Vec::new(), Vec::new());
    for (id, batch) in items {
        ids.push(format!("'{}'", hexadecimal(id)));
        batches.push(batch.to_string());
    }
    let (batches, ids) = (batches.join(", "), ids.join(", "));
    format!("{told}project = {project} AND {told}batch IN ({batches}) AND {} IN ({ids})", id_of(told))
}

fn found_rows(project: ProjectId, found: &[Found]) -> String {
    rows_of(project, found.iter().map(|item| (&*item.id, item.batch)), "s.")
}

/// Equal records that were set aside by one insert.
#[derive(Debug, Clone, Serialize, Deserialize, clickhouse::Row)]
pub struct Item {
    /// 32 hexadecimal digits.
    pub id: String,
    /// When they were received, RFC 3339 in UTC.
    pub received: String,
    /// `logs`, `traces` or `metrics`.
    pub signal: String,
    /// Why they were set aside.
    pub reason: String,
    /// The same in words.
    pub detail: String,
    /// How many there are.
    pub records: u64,
    /// Bytes of the text of one.
    pub bytes: u64,
    /// The beginning of its text, OTLP JSON.
    pub body: String,
    /// Whether it was kept whole, so that it can be taken in again.
    #[serde(deserialize_with = "flag")]
    pub can_be_retried: bool,
}

/// ClickHouse answers comparisons as numbers.
fn flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(u8::deserialize(deserializer)? != 0)
}

/// How many records of a reason there are.
#[derive(Debug, Clone, Serialize, Deserialize, clickhouse::Row)]
pub struct Count {
    /// The reason.
    pub reason: String,
    /// Records.
    pub records: u64,
}

/// A part of the list.
#[derive(Debug, Default)]
pub struct Listed {
    /// The newest first.
    pub items: Vec<Item>,
    /// Where the list goes on, if it does.
    pub after: Option<Place>,
}

/// The newest items that are meant and lie behind `after`, `limit` at most.
///
/// # Errors
/// Those of ClickHouse.
pub async fn list(
    store: &Client,
    project: ProjectId,
    which: &Which,
    after: Option<&Place>,
    limit: u32,
) -> Result<Listed, StoreError> {
    let (limit, known) = (limit.min(MAX_LISTED), id_of("s."));
    let behind = after.map_or_else(String::new, |Place { received_ms, id }| {
        format!("HAVING (received_ms, id) < ({received_ms}, '{}')", hexadecimal(id))
    });
    let order = format!("{behind} ORDER BY received_ms DESC, id DESC LIMIT {limit}");
    let found = find(store, &which.sql(project, "s."), &order).await?;
    if found.is_empty() {
        return Ok(Listed::default());
    }
    let is_full = found.len() as u64 == u64::from(limit);
    let after = found.last().filter(|_| is_full).map(Found::place);
    let sql = format!(
        "SELECT {known} AS id, concat(replaceOne(toString(min(s.received)), ' ', 'T'), 'Z') AS received, \
         toString(any(s.signal)) AS signal, toString(any(s.reason)) AS reason, any(s.detail) AS detail, \
         count() AS records, any(length(s.body)) AS bytes, any(substringUTF8(s.body, 1, {SHOWN})) AS body, \
         any(s.context) != '' AS can_be_retried \
         FROM set_aside AS s WHERE {} GROUP BY id ORDER BY min(s.received) DESC, id DESC",
        found_rows(project, &found)
    );
    Ok(Listed { items: store.rows(&sql).await?, after })
}

/// All reasons of a project with what was set aside for them.
///
/// # Errors
/// Those of ClickHouse.
pub async fn counts(store: &Client, project: ProjectId) -> Result<Vec<Count>, StoreError> {
    let sql = format!(
        "SELECT toString(s.reason) AS reason, count() AS records FROM set_aside AS s WHERE s.project = {project} \
         GROUP BY reason ORDER BY records DESC, reason"
    );
    store.rows(&sql).await
}

/// An item as it is taken in again.
#[derive(Debug, Clone, Deserialize, clickhouse::Row)]
pub struct Whole {
    /// Its id.
    pub id: String,
    /// Its value of `batch`.
    pub batch: u64,
    /// When it was received, ms since the Unix epoch.
    pub received_ms: i64,
    /// When the books tell that it was: with the first entry of its cut.
    pub booked_ms: i64,
    /// Its signal.
    pub signal: String,
    /// Its reason.
    pub reason: String,
    /// OTLP JSON of one of its records.
    pub body: String,
    /// The request around it; empty where it was not kept whole.
    pub context: String,
    /// How many equal records there are.
    pub records: u64,
    /// Names what it is, wherever it is stored.
    pub content: u64,
}

/// Some items, read whole.
#[derive(Debug, Default)]
pub struct Page {
    /// In the order of their ids.
    pub items: Vec<Whole>,
    /// Where the next page begins, if there is one.
    pub after: Option<String>,
}

/// The items that are meant and stay as they are, in the order of their ids and from `after` on. Of what other logs set aside
/// nothing can be known here, so it is left out unless `of_all_logs`.
///
/// # Errors
/// Those of ClickHouse.
pub async fn settled(
    store: &Client,
    project: ProjectId,
    which: &Which,
    (unsettled, of_all_logs): (&Unsettled, bool),
    after: Option<String>,
) -> Result<Page, StoreError> {
    let Unsettled { log, inserts, from } = unsettled;
    let mut changing = vec![from.to_string()];
    changing.extend(inserts.iter().map(u64::to_string));
    let others = if of_all_logs { "1" } else { "0" };
    let behind = hexadecimal(after.as_deref().unwrap_or_default());
    let rows = format!(
        "{} AND if(bitShiftRight(s.batch, 40) = {log}, \
         bitAnd(s.batch, {mask}) < {from} AND bitAnd(s.batch, {mask}) NOT IN ({}), {others}) AND {} > '{behind}'",
        which.sql(project, "s."),
        changing.join(", "),
        id_of("s."),
        mask = (1_u64 << 40) - 1
    );
    let found = find(store, &rows, &format!("ORDER BY id LIMIT {PAGE_ITEMS}")).await?;
    if found.is_empty() {
        return Ok(Page::default());
    }
    let after = found.last().filter(|_| found.len() == PAGE_ITEMS).map(|item| item.id.clone());
    let items = format!(
        "SELECT {} AS id, any(s.batch) AS batch, min(s.received) AS received, \
         toString(any(s.signal)) AS signal, toString(any(s.reason)) AS reason, \
         any(s.body) AS body, any(s.context) AS context, count() AS records, any({CONTENT}) AS content \
         FROM set_aside AS s WHERE {} GROUP BY id",
        id_of("s."),
        found_rows(project, &found)
    );
    // A log is cut in the order of receipt, so the last of these cuts that does not begin after it is its own.
    let cuts = format!(
        "SELECT toUInt64(log) AS log, toString(signal) AS signal, toString(reason) AS reason, received FROM ledger FINAL \
         WHERE project = {project} AND fate = 'set_aside'"
    );
    let sql = format!(
        "SELECT i.id, i.batch, toUnixTimestamp64Milli(i.received) AS received_ms, \
         toUnixTimestamp64Milli(if(l.log = 0 AND l.reason = '', i.received, l.received)) AS booked_ms, \
         i.signal, i.reason, i.body, i.context, i.records, i.content \
         FROM ({items}) AS i ASOF LEFT JOIN ({cuts}) AS l \
         ON bitShiftRight(i.batch, 40) = l.log AND i.signal = l.signal AND i.reason = l.reason AND i.received >= l.received \
         ORDER BY i.id"
    );
    Ok(Page { items: store.rows(&sql).await?, after })
}

/// Records that are meant and that another log set aside.
///
/// # Errors
/// Those of ClickHouse.
pub async fn of_other_logs(
    store: &Client,
    project: ProjectId,
    which: &Which,
    unsettled: &Unsettled,
) -> Result<u64, StoreError> {
    let own = unsettled.log;
    let sql = format!(
        "SELECT count() FROM set_aside AS s WHERE {} AND bitShiftRight(s.batch, 40) != {own}",
        which.sql(project, "s.")
    );
    store.number(&sql).await
}

/// Removes the rows of items, and returns when they are gone from every part, however long that takes.
///
/// # Errors
/// Those of ClickHouse; removing again goes on.
pub async fn remove(store: &Client, project: ProjectId, items: &[&Whole]) -> Result<(), StoreError> {
    if items.is_empty() {
        return Ok(());
    }
    let rows = rows_of(project, items.iter().map(|item| (&*item.id, item.batch)), "");
    delete_rows(store, "set_aside", &rows).await
}

/// Records that are the same as those of these items, set aside anew since a time of receipt.
///
/// # Errors
/// Those of ClickHouse.
pub async fn refused_again(
    store: &Client,
    project: ProjectId,
    items: &[&Whole],
    since_ms: i64,
) -> Result<u64, StoreError> {
    if items.is_empty() {
        return Ok(0);
    }
    let contents: Vec<String> = items.iter().map(|item| item.content.to_string()).collect();
    let sql = format!(
        "SELECT count() FROM set_aside AS s WHERE s.project = {project} AND s.received >= fromUnixTimestamp64Milli({since_ms}) \
         AND {CONTENT} IN ({})",
        contents.join(", ")
    );
    store.number(&sql).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_for_names_one_project_and_leaves_the_statement_whole() {
        let which =
            Which { ids: vec!["ab'); DROP TABLE events --".into()], reason: Some("x' OR project = 2 OR '".into()) };
        let sql = which.sql(ProjectId(7), "s.");
        assert!(sql.starts_with("s.project = 7 AND "), "{sql}");
        assert_eq!(sql.matches('\'').count(), 4, "{sql}");
        assert!(!sql.contains("DROP") && !sql.contains("OR project"), "{sql}");
    }

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is_one() {
        let place = Place { received_ms: 1_790_000_000_000, id: "00112233445566778899aabbccddeeff".to_owned() };
        assert_eq!(Place::parse(&place.to_string()), Some(place));
        for text in ["", "1", "1-1", "-1-00112233445566778899aabbccddeeff", "1-00112233445566778899aabbccddeefg"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
