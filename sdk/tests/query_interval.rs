//! What arrives of a scope that stays open, when nobody flushes and nothing ends. A flush sends everything of the process, so this
//! claim has one of its own; it waits for the interval, which is no setting.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here ends the test")]

mod support;

use gemba::query::{Database, Dialect, fingerprint};
use std::time::{Duration, Instant};
use support::{flush, logs, numbers, points, start, text, usage_of};

#[test]
fn usage_and_durations_of_an_open_scope_arrive_without_a_flush_and_no_call_is_told_twice() {
    start();
    let sql = "SELECT place FROM parcel";
    let hex = fingerprint(Dialect::Sqlite, sql).hex();
    let ask = || Database::new(Dialect::Sqlite).run_text(sql, || Ok::<_, ()>(())).unwrap();
    gemba::scope().user("patient").run(|| {
        ask();
        ask();
        // Far beyond the 10 seconds, for a machine with other things to do.
        let deadline = Instant::now() + Duration::from_mins(2);
        while usage_of("patient").is_empty() || points(&hex).is_empty() {
            assert!(Instant::now() < deadline, "usage: {:?}, durations: {:?}", usage_of("patient"), points(&hex));
            std::thread::sleep(Duration::from_millis(20));
        }
        ask();
    });
    flush();
    let records = logs("gemba.query.usage");
    let calls: Vec<_> = records
        .iter()
        .filter(|record| text(record, "user.id") == "patient")
        .map(|record| numbers(record, "gemba.query.usage.calls"))
        .collect();
    assert_eq!(calls, [[2], [1]]);
    assert_eq!(points(&hex).iter().map(|(_, point)| point.count).sum::<u64>(), 3);
}
