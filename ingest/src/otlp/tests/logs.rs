//! Checklist D and G, and our own records.

use super::*;
use crate::identity::IdDomain;
use serde_json::json;

#[test]
fn d1_a_record_with_an_event_name_is_an_event_of_that_name() {
    let row = event(record("cart.added", vec![kv("plan", "pro"), kv("items", 3), kv("new", true), kv("sum", 1.5)]));
    assert_eq!(row["name"], "cart.added");
    assert_eq!(row["kind"], "event");
    assert_eq!(row["time"], RECEIVED_MS - 2);
    assert_eq!(row["strings"], json!({"plan": "pro"}));
    assert_eq!(row["numbers"], json!({"items": 3.0, "sum": 1.5}));
    assert_eq!(row["bools"], json!({"new": true}));
    assert_eq!(
        (&row["service"], &row["release"], &row["environment"]),
        (&json!("shop"), &json!("1.2.3"), &json!("test"))
    );
    assert_eq!(row["instance"], hash(IdDomain::Instance, "i-1"));
    assert_eq!((&row["project"], &row["retention_class"], &row["batch"]), (&json!(5), &json!(2), &json!(99)));
    assert_eq!((&row["record"], &row["received"]), (&json!(1), &json!(RECEIVED_MS)));
    assert_eq!(row["day"], RECEIVED_MS / 86_400_000);
}
