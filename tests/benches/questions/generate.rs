//! The events: 60 days of a shop, made by ClickHouse itself from hashes of running numbers, so every run has the same.
//!
//! Eight events make a session. Sessions fall on people by a power law, so that the liveliest has some thousand events and
//! half of all have under 40; one session in 200 is one of 50 bots with ten thousand events each. Two sessions in five walk
//! through the checkout and give up where they like: those are the events of the funnel. The others use features whose
//! popularity follows Zipf's law, a third of them attempts that begin and end. One session in 2,000 records all its events
//! within three milliseconds. Each event carries a country; times, sequence numbers, instances and releases are those of
//! sixteen instances that restart each week.

use gemba_ingest::store::Client;
use std::time::Instant;

/// Days the events lie in.
pub(crate) const DAYS: u64 = 60;
/// The first of them, 2026-01-01T00:00:00Z.
pub(crate) const START_MS: i64 = 1_767_225_600_000;
/// Events for each person, on average.
const EVENTS_PER_PERSON: u64 = 50;

/// Makes the events of one day.
const STATEMENT: &str = "
INSERT INTO events (project, retention_class, name, kind, day, unit, time, seq, instance, resource, session, tenant,
    attempt, outcome, duration_ns, service, release, environment, strings, received, record, batch)
WITH
    intDiv(number, 8) AS visit, number % 8 AS turn,
    cityHash64(visit, 'session') AS h, cityHash64(number, 'event') AS e, cityHash64(visit, 'shape') AS shape,
    toUInt64(if(h % 1000 < 5, {people:UInt64} + h % 50,
        pow((cityHash64(visit, 'person') % 4294967296) / 4294967296, 1.3) * {people:UInt64})) AS person,
    shape % 100 < 40 AS is_checkout,
    multiIf(shape % 1009 < 400, 1, shape % 1009 < 650, 2, shape % 1009 < 800, 3, 4) AS depth,
    toUInt16(pow(300, (cityHash64(visit, intDiv(turn, 2), 'feature') % 1048576) / 1048576)) AS feature_number,
    NOT is_checkout AND feature_number % 3 = 0 AS is_attempt,
    {start:Int64} + {day:Int64} * 86400000 + intDiv(h, 1000) % 85800000
        + if(intDiv(shape, 1000000) % 2000 = 7, e % 3, turn * (2000 + intDiv(h, 7) % 60000) + e % 2000) AS at,
    fromUnixTimestamp64Milli(toInt64(at), 'UTC') AS at_time
SELECT
    1, 0,
    if(is_checkout,
        ['checkout.cart', 'checkout.address', 'checkout.payment', 'checkout.done'][least(intDiv(turn, 2) + 1, depth)],
        concat('feature.n', toString(feature_number))),
    if(is_checkout, 'step', if(is_attempt, if(turn % 2 = 0, 'started', 'ended'), 'used')) AS kind_name,
    toDate(at_time), cityHash64(person, 'user'), at_time,
    toUInt64(at - {start:Int64} - intDiv({day:Int64}, 7) * 604800000) * 1000000 + e % 1000000 + 1,
    cityHash64(intDiv({day:Int64}, 7), h % 16, 'instance'), cityHash64(intDiv({day:Int64}, 7), h % 16, 'resource'),
    cityHash64(visit, 'id'), concat('t', toString(person % 500)),
    if(is_attempt, cityHash64(visit, intDiv(turn, 2), 'attempt'), 0),
    if(kind_name = 'ended', if(e % 10 = 0, 'abandoned', 'completed'), ''),
    if(kind_name = 'ended', e % 5000000000, 0),
    'shop', concat('1.', toString(intDiv({day:Int64}, 7))), if(h % 20 = 0, 'staging', 'production'),
    map('country', concat('c', toString(toUInt8(pow(60, (cityHash64(person, 'country') % 1024) / 1024))))),
    at_time + toIntervalSecond(1), 1, {day:UInt64}
FROM numbers({first:UInt64}, {rows:UInt64})";

/// Fills the table with about this many events and merges it, unless it is filled.
pub(crate) async fn fill(client: &Client, events: u64) {
    let found = client.number("SELECT count() FROM events WHERE project = 1").await.unwrap();
    if found == 0 {
        let started = Instant::now();
        // What is measured are questions, so writing need not survive a power cut, and parts merged away may go at once.
        client
            .execute(
                "ALTER TABLE events MODIFY SETTING old_parts_lifetime = 1, fsync_after_insert = 0, \
                 fsync_part_directory = 0, min_rows_to_fsync_after_merge = 0",
            )
            .await
            .unwrap();
        client.execute("SYSTEM STOP MERGES events").await.unwrap();
        let rows = events / DAYS / 8 * 8;
        for day in 0..DAYS {
            insert(client, day, rows, events / EVENTS_PER_PERSON).await;
        }
        client.execute("SYSTEM START MERGES events").await.unwrap();
        merge(client).await;
        println!("{} events in {:.0} s", rows * DAYS, started.elapsed().as_secs_f64());
    }
    declare(client).await;
    let bytes = client
        .number(
            "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'default' AND table = 'events'",
        )
        .await
        .unwrap();
    let events = client.number("SELECT count() FROM events WHERE project = 1").await.unwrap();
    println!("{events} events, {:.1} bytes each", bytes as f64 / events as f64);
}

/// Declares the checkout, so that it is among what can be hard to use.
async fn declare(client: &Client) {
    if client.number("SELECT count() FROM catalog WHERE project = 1").await.unwrap() == 0 {
        client
            .execute(
                "INSERT INTO catalog (project, kind, name, funnel, position, service, release, time, received, record) \
                 SELECT 1, 'step', concat('checkout.', ['cart', 'address', 'payment', 'done'][number + 1]), 'checkout', number, \
                 'shop', '1.0', '2026-01-01 00:00:00', '2026-01-01 00:00:00', 1 FROM numbers(4)",
            )
            .await
            .unwrap();
    }
}

async fn insert(client: &Client, day: u64, rows: u64, people: u64) {
    let mut request = client.raw().query_raw(STATEMENT);
    let values =
        [("people", people), ("start", START_MS.unsigned_abs()), ("day", day), ("first", day * rows), ("rows", rows)];
    for (name, value) in values {
        request = request.param(name, value);
    }
    request
        .with_setting("max_insert_threads", "1")
        .with_setting("min_insert_block_size_rows", "2000000")
        .with_setting("min_insert_block_size_bytes", "2000000000")
        .with_setting("async_insert", "0")
        .with_setting("wait_end_of_query", "1")
        .execute()
        .await
        .unwrap();
}

/// One part a partition, as after a while of rest.
async fn merge(client: &Client) {
    let partitions: Vec<String> = client
        .raw()
        .query(
            "SELECT DISTINCT partition_id FROM system.parts \
             WHERE active AND database = 'default' AND table = 'events' ORDER BY partition_id",
        )
        .fetch_all()
        .await
        .unwrap();
    for partition in partitions {
        // Without the client's usual limit of a minute.
        let sql = format!("OPTIMIZE TABLE events PARTITION ID '{partition}' FINAL");
        client.raw().query_raw(&sql).with_setting("wait_end_of_query", "1").execute().await.unwrap();
    }
}
