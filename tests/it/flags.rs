//! Feature flags from the SDK to the answer: who was shown which variant, and whether those reached the goal more often.
//!
//! The recording process is this program again with `child` as the only test.

use gemba_tests::project::Project;
use gemba_tests::server::Server;
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
