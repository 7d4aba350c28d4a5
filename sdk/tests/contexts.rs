//! What becomes of scopes that find no room: 65,536 are known at a time, and a process has one table of them, so this claim has a
//! process of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here ends the test")]

mod support;

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;
use support::server::{DropPoint, Server, attribute, drop_points, named, ok, stored, text};

/// Scopes known at the same time, as the SDK has it.
const MOST: usize = 65_536;

#[test]
fn a_scope_beyond_the_most_is_nobodys_its_records_are_kept_and_it_is_reported_once() {
    let server = Server::start(Vec::new(), ok());
    let config = gemba::Config::new("contexts-test").endpoint(format!("http://{}", server.address));
    let guard = config.without_environment().send_interval(Duration::from_mins(10)).start().unwrap();
    let flush = || guard.flush(Duration::from_secs(20)).unwrap();

    let mut held: Vec<_> = (0..MOST).map(|number| gemba::scope().user(number)).collect();
    assert_eq!(gemba::stats().without_context, 0);
    let last = held.pop().unwrap();
    last.run(|| {
        gemba::scope().user("beyond").tenant("acme").run(|| gemba::feature!("full.closure"));
        gemba::feature!("full.around");
        let work = async { gemba::feature!("full.future") };
        let mut future = pin!(gemba::scope().user("beyond").run_async(work));
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    });
    assert_eq!(gemba::stats().without_context, 2);
    flush();
    // The place of the one that ended is free now.
    gemba::scope().user("next").run(|| gemba::feature!("full.next"));
    flush();
    assert_eq!(gemba::stats().without_context, 2);
    drop(held);
    drop(guard);

    let records = stored(&server.requests());
    let users: Vec<_> = named(&records, "gemba.feature.used").into_iter().map(feature_and_user).collect();
    let last = (MOST - 1).to_string();
    let expected = [("full.closure", ""), ("full.around", &last), ("full.future", ""), ("full.next", "next")];
    assert_eq!(users, expected.map(|(feature, user)| (feature.to_owned(), user.to_owned())));
    let nobodys = named(&records, "gemba.feature.used")[0];
    assert_eq!(attribute(&nobodys.attributes, "gemba.tenant"), None);
    let reported = DropPoint { reason: "no_context".to_owned(), callsite: String::new(), count: 2 };
    assert_eq!(drop_points(&server.requests()), [reported]);
    let stats = gemba::stats();
    assert_eq!((stats.dropped_total(), stats.recorded), (0, stats.delivered), "no record is lost by it: {stats:?}");
}

fn feature_and_user(record: &LogRecord) -> (String, String) {
    let user = attribute(&record.attributes, "user.id").map_or("", |_| text(&record.attributes, "user.id"));
    (text(&record.attributes, "gemba.feature.name").to_owned(), user.to_owned())
}
