//! Rows put into the tables by hand, for questions whose answers are then worked out another way; and numbers to make
//! them of.

use gemba_ingest::store::Client;
use gemba_queries::funnel::matcher::Scalar;
use gemba_queries::funnel::reference::{PlainEvent, PlainLink};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// When all rows are said to have been received; behind every event.
pub const RECEIVED_MS: i64 = 1_800_000_000_000;

/// An event as a row of the table `events`.
pub fn event_row(project: u32, event: &PlainEvent) -> Value {
    let text = |key: &str| match event.attributes.get(key) {
        Some(Scalar::Text(text)) => text.clone(),
        _ => String::new(),
    };
    let mut strings = BTreeMap::new();
    let mut numbers = BTreeMap::new();
    let mut bools = BTreeMap::new();
    for (key, value) in event.attributes.iter().filter(|(key, _)| key.as_str() != "service.version") {
        match value {
            Scalar::Text(text) => drop(strings.insert(key, text)),
            Scalar::Number(number) => drop(numbers.insert(key, number)),
            Scalar::Flag(flag) => drop(bools.insert(key, flag)),
        }
    }
    let (seq, instance) = event.seq.unwrap_or((0, 0));
    json!({
        "project": project, "name": event.name, "kind": event.kind.as_str(), "day": event.time_ms / 86_400_000,
        "unit": event.unit.unwrap_or(0), "time": seconds(event.time_ms), "seq": seq, "instance": instance,
        "session": event.session.unwrap_or(0), "tenant": event.tenant, "release": text("service.version"),
        "strings": strings, "numbers": numbers, "bools": bools, "received": seconds(RECEIVED_MS), "record": 1,
    })
}

/// A link as a row of the table `identity_links`.
pub fn link_row(project: u32, link: &PlainLink) -> Value {
    json!({"project": project, "anonymous": link.anonymous, "person": link.person, "time": seconds(link.time_ms)})
}

/// Milliseconds since the Unix epoch as ClickHouse reads them.
pub fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// Stores rows in one insert.
pub async fn store(client: &Client, table: &str, rows: impl IntoIterator<Item = Value>) {
    let mut text = String::new();
    for row in rows {
        text.push_str(&row.to_string());
        text.push('\n');
    }
    let mut insert = client
        .raw()
        .insert_formatted_with(format!("INSERT INTO {table} FORMAT JSONEachRow"))
        .with_setting("async_insert", "0")
        .with_setting("wait_end_of_query", "1");
    insert.send(text.into()).await.unwrap();
    insert.end().await.unwrap();
}

/// Numbers without a pattern, always the same (SplitMix64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// An instant below `bound`, in milliseconds.
    pub fn time(&mut self, bound: u64) -> i64 {
        i64::try_from(self.below(bound)).unwrap()
    }

    /// Whether the one of so many chances came up.
    pub fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    /// One of the list.
    pub fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()].clone()
    }
}
