//! A sample of people asked about alone, as project 2: what the funnels answer must be what the reference answers.

use super::ask::{funnel_of, funnels};
use gemba_conventions::EventKind;
use gemba_ingest::store::select::Limits;
use gemba_ingest::store::{Client, funnel};
use gemba_queries::funnel::matcher::Scalar;
use gemba_queries::funnel::reference::{self, PlainEvent};
use std::collections::BTreeMap;

/// One person in this many.
const ONE_IN: u32 = 2000;
/// Events of the checkout a person of the sample has at most: the reference looks at every chain.
const MAX_EVENTS: u32 = 60;

/// A row of the table: unit, time, sequence number, instance, kind, name, country.
type Stored = (u64, i64, u64, u64, String, String, String);

/// Copies the sample and compares. The rows are chosen in a statement of their own: beside `REPLACE`, `project` would mean
/// the new one.
pub(crate) async fn compare(client: &Client) {
    client.execute("ALTER TABLE events DELETE WHERE project = 2 SETTINGS mutations_sync = 2").await.unwrap();
    client
        .raw()
        .query_raw(&format!(
            "INSERT INTO events SELECT * REPLACE (toUInt32(2) AS project, toUInt8(8) AS retention_class) FROM \
             (SELECT * FROM events WHERE project = 1 AND intDiv(unit, 1024) % {ONE_IN} = 7 AND unit IN \
             (SELECT unit FROM events WHERE project = 1 AND intDiv(unit, 1024) % {ONE_IN} = 7 \
             GROUP BY unit HAVING count() <= {MAX_EVENTS}))"
        ))
        .with_setting("async_insert", "0")
        .with_setting("wait_end_of_query", "1")
        .execute()
        .await
        .unwrap();
    let rows: Vec<Stored> = client
        .raw()
        .query(
            "SELECT unit, toUnixTimestamp64Milli(time), seq, CAST(instance AS UInt64), toString(kind), toString(name), \
             strings['country'] FROM events WHERE project = 2",
        )
        .fetch_all()
        .await
        .unwrap();
    let kinds = [EventKind::Used, EventKind::Started, EventKind::Ended, EventKind::Step, EventKind::Event];
    let plain = |(unit, time_ms, seq, instance, kind, name, country): Stored| PlainEvent {
        unit: Some(unit),
        session: None,
        tenant: String::new(),
        time_ms,
        seq: Some((seq, instance)),
        kind: kinds.into_iter().find(|known| known.as_str() == kind).unwrap(),
        name,
        attributes: BTreeMap::from([("country".to_owned(), Scalar::Text(country))]),
    };
    let events: Vec<PlainEvent> = rows.into_iter().map(plain).collect();
    assert!(!events.is_empty(), "the sample holds people");
    for (name, question) in funnels() {
        if question["steps"].as_array().unwrap().len() > 4 {
            // Too many chains for the reference.
            continue;
        }
        let funnel = funnel_of(&question, 1);
        let found = funnel::answer(client, &funnel, 2, Limits::default()).await.unwrap();
        assert_eq!(found, reference::answer(&funnel, &events, &[]), "{name}");
        println!("as the reference over {} events of {} people: {name}", events.len(), found.steps[0].count);
    }
    client.execute("ALTER TABLE events DELETE WHERE project = 2 SETTINGS mutations_sync = 2").await.unwrap();
}
