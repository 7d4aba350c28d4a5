//! What holds for a process as a whole: the bound on fingerprints, and the warning about a hidden layer.
//!
//! Both are settings of the process, so these claims have one of their own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here ends the test")]

mod support;

use gemba::query::{Database, Dialect, Limits, QueryLayer, set_limits};
use std::sync::atomic::{AtomicU64, Ordering};
use support::{flush, logs, numbers, points, start, text, texts};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

#[test]
fn fingerprints_beyond_the_limit_are_counted_as_other() {
    start();
    assert_eq!(Limits::default().max_fingerprints, 2000);
    set_limits(Limits { max_fingerprints: 40, ..Limits::default() });
    let db = Database::new(Dialect::Sqlite);
    gemba::scope().user("many").run(|| {
        for number in 0..100 {
            for _ in 0..3 {
                db.run_text(&format!("SELECT column_{number} FROM t"), || Ok::<_, ()>(())).unwrap();
            }
        }
    });
    flush();
    let other: u64 = points("other").iter().map(|(_, point)| point.count).sum();
    // The other claim of this process may hold one of the 40.
    assert!((180..=183).contains(&other), "{other}");
    let usage: Vec<_> =
        logs("gemba.query.usage").into_iter().filter(|record| text(record, "user.id") == "many").collect();
    let calls: i64 = usage.iter().flat_map(|record| numbers(record, "gemba.query.usage.calls")).sum();
    assert_eq!(calls, 300, "statements are exact, whatever they are called");
    assert!(usage.iter().any(|record| texts(record, "gemba.query.usage.fingerprints").contains(&"other".to_owned())));
    assert!(logs("gemba.query.declared").len() <= 40);
}

/// Counts the SDK's warnings.
struct Warnings;

static WARNINGS: AtomicU64 = AtomicU64::new(0);

impl<S: tracing::Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target() == "gemba" {
            let mut message = Message::default();
            event.record(&mut message);
            WARNINGS.fetch_add(u64::from(message.0.contains("sqlx::query=debug")), Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
struct Message(String);

impl tracing::field::Visit for Message {
    fn record_debug(&mut self, _field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write as _;
        write!(self.0, "{value:?} ").unwrap();
    }
}

#[test]
fn a_filter_that_hides_the_queries_is_told_once() {
    // Only the process's own subscriber counts: the SDK's thread sees no other.
    let subscriber =
        tracing_subscriber::registry().with(QueryLayer::new(Dialect::Sqlite)).with(LevelFilter::INFO).with(Warnings);
    tracing::subscriber::set_global_default(subscriber).unwrap();
    start();
    for _ in 0..3 {
        flush();
    }
    assert_eq!(WARNINGS.load(Ordering::Relaxed), 1);
}
