//! Which single calls are kept beside the counts: slow, failed and ordinary ones.

use gemba::query::{Database, Dialect, Limits, fingerprint, set_limits};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::blocking_turn;
use crate::support::{flush, points, samples, start, text};

const SQLITE: Database = Database::new(Dialect::Sqlite);

fn kinds(sql: &str) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for (of, _) in samples(&fingerprint(Dialect::Sqlite, sql).hex()) {
        *kinds.entry(text(&of, "gemba.query.sample").to_owned()).or_default() += 1;
    }
    kinds
}

#[test]
fn of_failed_calls_ten_a_second_are_kept_and_all_are_counted() {
    let _turn = blocking_turn();
    start();
    let sql = "SELECT failing_often FROM t";
    let hex = fingerprint(Dialect::Sqlite, sql).hex();
    let mut calls = 0;
    // What other claims of this process kept of this second is gone; the next second has ten again.
    while samples(&hex).len() < 10 {
        for _ in 0..200 {
            SQLITE.run_text(sql, || Err::<(), _>("no")).unwrap_err();
        }
        calls += 200;
        assert!(calls < 10_000_000, "nothing is kept");
        flush();
    }
    assert_eq!(points(&hex).iter().map(|(_, point)| point.count).sum::<u64>(), calls);
    let mut by_second = BTreeMap::<u64, usize>::new();
    for (of, span) in samples(&hex) {
        assert_eq!(text(&of, "gemba.query.sample"), "failed", "a failed call is no example of an ordinary one");
        *by_second.entry(span.end_time_unix_nano / 1_000_000_000).or_default() += 1;
    }
    assert!(by_second.values().all(|kept| *kept <= 10), "{by_second:?}");
}

#[test]
fn a_call_above_the_querys_own_tail_is_kept_as_slow() {
    let _turn = blocking_turn();
    start();
    let sql = "SELECT own_tail FROM t";
    // Its 99th percentile is known after 200 calls.
    for _ in 0..300 {
        SQLITE.run_text(sql, || Ok::<_, ()>(())).unwrap();
    }
    flush();
    assert_eq!(kinds(sql).get("ordinary"), Some(&1), "one a minute");
    let before = kinds(sql).get("slow").copied().unwrap_or(0);
    let threshold = gemba::query::Limits::default().slow;
    assert_eq!(threshold, Duration::from_millis(200));
    let slow = || {
        std::thread::sleep(threshold / 4);
        Ok::<_, ()>(())
    };
    SQLITE.run_text(sql, slow).unwrap();
    flush();
    assert_eq!(kinds(sql).get("slow").copied().unwrap_or(0), before + 1, "{:?}", kinds(sql));
}

/// The bounds of the process as they are by default again, however the claim ends.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        set_limits(Limits::default());
    }
}

#[test]
fn a_call_longer_than_the_threshold_is_kept_as_slow_and_the_threshold_is_what_it_is_set_to() {
    let _turn = blocking_turn();
    start();
    let _restored = Restored;
    let long = Limits::default().slow * 5 / 4;
    // Of each query it is the first call, so its own tail is not known; the call lasts as long as it is said to, or longer.
    let kept = |slow: Option<Duration>, lasts: Duration, sql: &str| {
        if let Some(slow) = slow {
            set_limits(Limits { slow, ..Limits::default() });
        }
        let work = || {
            std::thread::sleep(lasts);
            Ok::<_, ()>(())
        };
        SQLITE.run_text(sql, work).unwrap();
        flush();
        kinds(sql)
    };
    let one = |kind: &str| BTreeMap::from([(kind.to_owned(), 1)]);
    assert_eq!(kept(None, long, "SELECT threshold_by_default FROM t"), one("slow"));
    assert_eq!(kept(Some(Duration::from_hours(1)), long, "SELECT threshold_raised FROM t"), one("ordinary"));
    let short = Duration::from_millis(2);
    assert_eq!(kept(Some(short), short * 5 / 4, "SELECT threshold_lowered FROM t"), one("slow"));
}
