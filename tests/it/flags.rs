//! Feature flags from the SDK, and from events of spans, to the answer: who was shown which variant, and whether those reached the goal
//! more often.
//!
//! The recording process is this program again with `child` as the only test.

use gemba_tests::client::{post, send};
use gemba_tests::export::{now_ns, query_span, traces};
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue as Any, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use serde_json::json;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

const ROLE: &str = "FLAGS_ROLE";
/// 2026-03-02T10:00:00Z.
const DAY: Duration = Duration::from_hours(492_346);
/// People shown each variant.
const PEOPLE: u32 = 40;

/// The recording process; by itself it has no role and ends at once.
#[test]
fn child() {
    if std::env::var(ROLE).is_err() {
        return;
    }
    let guard = gemba::Config::new("shop").release("1.0").start().unwrap();
    // So long ago that nobody has time left to reach the goal.
    gemba::testing::set_time(SystemTime::UNIX_EPOCH + DAY);
    for person in 0..2 * PEOPLE {
        let variant = if person % 2 == 0 { "on" } else { "off" };
        gemba::scope().user(format!("u-{person}")).run(|| {
            // Shown the same twice: one exposure.
            for _ in 0..2 {
                gemba::feature_flag!("new checkout", variant = variant, reason = "split", provider = "flagd");
            }
            gemba::feature_flag!("another", variant = "on", reason = "static");
            // All with the new checkout pay, and a quarter of the others.
            if person % 2 == 0 || person % 8 == 1 {
                gemba::feature!("order.pay");
            }
        });
    }
    // Someone who is shown both is compared with nobody; a flag that came to nothing, or is nobody's, is no exposure.
    gemba::scope().user("both").run(|| {
        gemba::feature_flag!("new checkout", variant = "on");
        gemba::feature_flag!("new checkout", variant = "off");
    });
    gemba::scope()
        .user("neither")
        .run(|| gemba::feature_flag!("new checkout", variant = None::<&str>, reason = "error"));
    gemba::feature_flag!("new checkout", variant = "on");
    drop(guard);
    let stats = gemba::stats();
    assert_eq!((stats.dropped_total(), stats.unconfirmed, stats.recorded), (0, 0, stats.delivered), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_recorded_by_the_sdk_are_what_experiments_are_split_by() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["flags::child", "--exact", "--nocapture"])
        .env(ROLE, "record")
        .env("GEMBA_ENDPOINT", server.running.url())
        .env("GEMBA_KEY", &server.keys.ingest);
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
    shop.flush().await;

    let asked = [
        ("flag", "new%20checkout"),
        ("goal", "order.pay"),
        ("control", "off"),
        ("from", "2026-03-01"),
        ("to", "2026-04-01"),
    ];
    let rows = shop.ask("experiment_results", &asked).await;
    let found: Vec<_> =
        rows.iter().map(|row| ["variant", "users", "converted", "verdict"].map(|column| row[column].clone())).collect();
    assert_eq!(
        found,
        [
            [json!("off"), json!(PEOPLE), json!(PEOPLE / 4), json!("control")],
            [json!("on"), json!(PEOPLE), json!(PEOPLE), json!("more than chance")],
            [json!("(several)"), json!(1), json!(0), json!("nothing to compare")],
        ],
        "{rows:?}"
    );
    let breakdown = json!({
        "steps": [{"event": "feature_flag.evaluation", "where": {"feature_flag.result.reason": "split"}}, {"event": "order.pay"}],
        "from": "2026-03-01", "to": "2026-04-01", "breakdown": "flag:new checkout"
    });
    let answer = shop.funnel(&breakdown).await;
    let mut groups: Vec<_> = answer["breakdown"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| (group["value"].clone(), [0, 1].map(|step: usize| group["steps"][step]["count"].clone())))
        .collect();
    groups.sort_by_key(|(value, _)| value.to_string());
    let expected = [(json!("off"), [json!(PEOPLE), json!(PEOPLE / 4)]), (json!("on"), [json!(PEOPLE), json!(PEOPLE)])];
    assert_eq!(groups, expected, "{answer}");
}

fn pair(key: &str, value: &str) -> KeyValue {
    let value = Some(Any { value: Some(AnyValue::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_told_as_events_of_spans_are_what_experiments_are_split_by_too() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    // Two days ago, so that nobody has time left to reach the goal.
    let began_ns = now_ns() - 2 * 24 * 3_600 * 1_000_000_000;
    let spans: Vec<Span> = (0..20)
        .map(|person| {
            let variant = if person % 2 == 0 { "on" } else { "off" };
            let attributes = vec![pair("feature_flag.key", "new checkout"), pair("feature_flag.variant", variant)];
            let name = if person < 10 { "feature_flag" } else { "feature_flag.evaluation" };
            let event = Event { name: name.into(), time_unix_nano: began_ns, attributes, ..Event::default() };
            let mut span = query_span(person, began_ns, 1_000, "sqlite", "SELECT 1");
            // Every other one is of a kind that is not kept itself.
            span.kind = if person % 4 < 2 { 3 } else { 5 };
            span.attributes.push(pair("user.id", &format!("u-{person}")));
            Span { events: vec![event], ..span }
        })
        .collect();
    let body = traces("shop", spans);
    let sent = send(post(&server.url("/v1/traces"), &server.keys.ingest, "application/x-protobuf", body)).await;
    assert_eq!((sent.status.as_u16(), sent.body.len()), (200, 0), "nothing was refused");
    shop.flush().await;
    let asked = [
        ("flag", "new%20checkout"),
        ("goal", "order.pay"),
        ("control", "off"),
        ("from", "now%20-%203d"),
        ("to", "now"),
    ];
    let rows = shop.ask("experiment_results", &asked).await;
    let found: Vec<_> = rows.iter().map(|row| (row["variant"].clone(), row["users"].clone())).collect();
    assert_eq!(found, [(json!("off"), json!(10)), (json!("on"), json!(10))], "{rows:?}");
    let books =
        "SELECT toUInt64(sumIf(records, fate = 'received') * 100 + sumIf(records, fate = 'ignored')) FROM ledger FINAL";
    assert_eq!(server.number(books).await, 4_010, "20 spans, of which 10 are kept, and 20 evaluations");
    let stored =
        (server.number("SELECT count() FROM events").await, server.number("SELECT count() FROM query_samples").await);
    assert_eq!(stored, (20, 10));
}
