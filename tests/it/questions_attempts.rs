//! Conditions and attempts: what an attempt was begun with and what became of it stand in two records, and hold for both.

use crate::questions_support::{MINUTE_NS, RANGE, START_NS, cell, encoded, get, leave_out, put};
use gemba_tests::export;
use gemba_tests::project::Project;
use gemba_tests::server::Server;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_is_of_those_its_beginning_or_its_end_says() {
    let server = Server::start().await;
    let shop = Project::default_of(server.running.url(), &server.keys);
    let mut records = Vec::new();
    for (attempt, plan, outcome) in [
        (1, "pro", "completed"),
        (2, "pro", "completed"),
        (3, "pro", "failed"),
        (4, "free", "completed"),
        (5, "free", ""),
    ] {
        let (id, user) = (format!("{attempt:016x}"), format!("u{attempt}"));
        let at = START_NS + attempt * MINUTE_NS;
        let begun = [("gemba.feature.name", "pay"), ("gemba.attempt.id", &id), ("user.id", &user), ("plan", plan)];
        records.push(export::event(at, "gemba.feature.started", &begun));
        // As our SDK does: the attributes came with the beginning.
        let ended =
            [("gemba.feature.name", "pay"), ("gemba.attempt.id", &id), ("user.id", &user), ("gemba.outcome", outcome)];
        if !outcome.is_empty() {
            let error = ("error.type", "timeout");
            let ended: Vec<_> = ended.into_iter().chain((outcome == "failed").then_some(error)).collect();
            records.push(export::event(at + MINUTE_NS / 2, "gemba.feature.ended", &ended));
        }
    }
    shop.send("/v1/logs", vec![export::logs("shop", records)]).await;
    shop.flush().await;
    let cells = async |more: &str| {
        let answer = get(&shop, &format!("/api/v1/queries/feature_completion?{RANGE}{more}")).await;
        let told = |column: &str| cell(&answer, ("feature", "pay"), column).as_u64();
        (told("begun"), told("completed"), told("failed"), told("open"))
    };
    assert_eq!(cells("").await, (Some(5), Some(3), Some(1), Some(1)));
    let asked = |json: &str| format!("&where={}", encoded(json));
    assert_eq!(cells(&asked(r#"{"plan":"pro"}"#)).await, (Some(3), Some(2), Some(1), Some(0)));
    assert_eq!(cells(&asked(r#"{"plan":"free"}"#)).await, (Some(2), Some(1), Some(0), Some(1)));
    assert_eq!(cells(&asked(r#"{"error.type":"timeout"}"#)).await, (Some(1), Some(0), Some(1), Some(0)));
    let not_free = r#"[{"attr":"plan","op":"ne","value":"free"}]"#;
    assert_eq!(cells(&asked(not_free)).await, (Some(3), Some(2), Some(1), Some(0)));
    // One that has not ended has no error, so it meets what says that something is not so.
    for without in [
        r#"[{"attr":"error.type","op":"ne","value":"timeout"}]"#,
        r#"[{"attr":"error.type","op":"set","value":false}]"#,
    ] {
        assert_eq!(cells(&asked(without)).await, (Some(4), Some(3), Some(0), Some(1)), "{without}");
    }
    let split = get(&shop, &format!("/api/v1/queries/feature_completion?{RANGE}&split_by=error.type")).await;
    assert_eq!(cell(&split, ("split", "timeout"), "begun"), 1, "{split}");
    assert_eq!(cell(&split, ("split", "(missing)"), "begun"), 4, "{split}");

    // Wherever ends are counted, what was given along with the beginning holds for them.
    let ended = async |more: &str| {
        let path = format!("/api/v1/queries/trends?{RANGE}&period=month&{more}");
        cell(&get(&shop, &path).await, ("group", "whole"), "result").as_f64()
    };
    for (plan, times) in [("pro", 3.0), ("free", 1.0), ("none", 0.0)] {
        let found = ended(&format!("series=completed:pay&where={}", encoded(&json!({"plan": plan}).to_string()))).await;
        assert_eq!(found, Some(times), "{plan}");
        let series = json!([{"event": "completed:pay", "where": {"plan": plan}}]).to_string();
        assert_eq!(ended(&format!("series={}", encoded(&series))).await, Some(times), "{plan}");
    }
    // A condition on how it ended beside one on how it began: each is asked of the row that knows, and neither hides the other's.
    let series = encoded(&json!([{"event": "completed:pay", "where": {"plan": "pro"}}]).to_string());
    let timed_out = encoded(&json!({"error.type": "timeout"}).to_string());
    assert_eq!(ended(&format!("series={series}&where={timed_out}")).await, Some(1.0));
    for (condition, members) in
        [(json!({"plan": "pro"}), 3), (json!([{"attr": "plan", "op": "ne", "value": "pro"}]), 1)]
    {
        let cohort = json!({"did": {"event": "completed:pay", "where": condition, "from": "2026-03-01"}});
        assert_eq!(put(&shop, "/api/v1/cohorts/payers", &cohort).await["members"], members, "{cohort}");
    }
    let reached = async |more: Value| {
        let mut funnel = json!({
            "steps": [{"event": "feature:pay"}, {"event": "completed:pay"}], "from": "2026-03-01", "to": "2026-04-01"
        });
        funnel.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = shop.funnel(&funnel).await;
        (answer["steps"][0]["count"].as_u64(), answer["steps"][1]["count"].as_u64())
    };
    let pro = json!([{"event": "feature:pay"}, {"event": "completed:pay", "where": {"plan": "pro"}}]);
    assert_eq!(reached(json!({"steps": pro})).await, (Some(5), Some(3)));
    assert_eq!(reached(json!({"filter": {"plan": "pro"}})).await, (Some(3), Some(3)));
    assert_eq!(reached(json!({"filter": [{"attr": "plan", "op": "ne", "value": "pro"}]})).await, (Some(2), Some(1)));
    let exclude = json!({"exclude": [{"attr": "plan", "op": "eq", "value": "free"}]});
    leave_out(&shop, &server.keys.admin, &exclude).await;
    assert_eq!(ended("series=completed:pay").await, Some(3.0));
    assert_eq!(reached(json!({})).await, (Some(3), Some(3)));
}
