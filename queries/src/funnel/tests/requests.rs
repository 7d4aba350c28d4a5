//! What a question may hold, and how it is told what is wrong.

use crate::funnel::FunnelRequest;
use crate::funnel::validate::Funnel;
use serde_json::{Value, json};

const NOW_MS: i64 = 1_772_366_400_000;

fn good() -> Value {
    json!({"steps": [{"event": "cart"}, {"event": "pay"}, {"event": "done"}], "from": "2026-02-01", "to": "2026-03-01"})
}

fn read(json: Value) -> Result<Funnel, crate::funnel::FunnelError> {
    FunnelRequest::parse(json)?.validate(NOW_MS, NOW_MS - 60_000)
}

/// The good question with these fields refuses, naming `field`, and says `says`.
#[track_caller]
fn refused(changes: Value, field: &str, says: &str) {
    let mut json = good();
    for (key, value) in changes.as_object().unwrap() {
        json[key] = value.clone();
    }
    let error = read(json).expect_err("must be refused");
    assert_eq!(error.field, field, "{error}");
    assert!(error.problem.contains(says), "{error}");
}

#[test]
fn what_is_left_out_has_defaults() {
    let funnel = read(json!({"steps": [{"event": "a"}, {}]})).unwrap();
    assert_eq!((funnel.window_ms, funnel.to_ms, funnel.as_of_ms), (14 * 86_400_000, NOW_MS, NOW_MS - 60_000));
    assert_eq!(funnel.from_ms, NOW_MS - 30 * 86_400_000);
    assert_eq!((funnel.breakdown_limit, funnel.session_gap_ms), (25, 1_800_000));
    assert_eq!(funnel.steps[1].label, "any event");
}

#[test]
fn every_field_is_named_when_its_value_cannot_be_used() {
    refused(json!({"steps": []}), "steps", "2 to 32");
    refused(json!({"steps": [{"event": "a"}]}), "steps", "given 1");
    refused(json!({"steps": vec![json!({}); 33]}), "steps", "given 33");
    refused(json!({"steps": [{"event": 5}, {}]}), "steps[0].event", "text");
    refused(json!({"steps": [{"event": ""}, {}]}), "steps[0].event", "1 to 1024");
    refused(json!({"steps": [{"event": "step:"}, {}]}), "steps[0].event", "1 to 1024");
    refused(json!({"steps": [{"evnt": "a"}, {}]}), "steps[0].evnt", "event, where");
    refused(json!({"order": "sorted"}), "order", "ordered, strict, any");
    refused(json!({"window_ms": 0}), "window_ms", "1 to");
    refused(json!({"window_ms": -5}), "window_ms", "given -5");
    refused(json!({"window_ms": "1h"}), "window_ms", "whole number");
    refused(json!({"window_ms": 1.5}), "window_ms", "whole number");
    refused(json!({"from": "2026-03-01"}), "from", "before to");
    refused(json!({"from": "yesterday"}), "from", "RFC 3339");
    refused(json!({"to": "1960-01-01T00:00:00Z"}), "to", "1970");
    refused(json!({"count_by": "device"}), "count_by", "user, session, tenant");
    refused(json!({"attribution": "step:3"}), "attribution", "step:2");
    refused(json!({"attribution": "middle"}), "attribution", "first, last");
    refused(json!({"breakdown_limit": 0}), "breakdown_limit", "1 to 1000");
    refused(json!({"breakdown": ""}), "breakdown", "1 to 1024");
    refused(json!({"hold": ["a", "b", "c", "d", "e"]}), "hold", "at most 4");
    refused(json!({"hold": "cart"}), "hold", "a list");
    refused(json!({"tz": "Mars/Olympus"}), "tz", "IANA");
    refused(json!({"interval": "minute"}), "interval", "day, hour, week, month");
    refused(json!({"interval": "hour", "from": "2020-01-01"}), "interval", "periods");
    refused(json!({"first_time": "yes"}), "first_time", "true or false");
    refused(json!({"cohort": {"users": []}}), "cohort.users", "1 to 1000");
    refused(json!({"cohort": {"people": []}}), "cohort.people", "unknown");
    refused(json!({"as_of": 5}), "as_of", "text");
    refused(json!({"session_gap_ms": 0}), "session_gap_ms", "1 to");
    refused(json!({"session_gap_ms": 86_400_001}), "session_gap_ms", "given 86400001");
    refused(json!({"dropped": {}}), "dropped.step", "must be given");
    refused(json!({"dropped": {"step": 2}}), "dropped.step", "0 to 1");
    refused(json!({"dropped": {"step": -1}}), "dropped.step", "given -1");
    refused(json!({"dropped": {"step": 0, "limit": 0}}), "dropped.limit", "1 to 5000");
    refused(json!({"dropped": {"step": 0, "limit": 5001}}), "dropped.limit", "given 5001");
    let exclusion = json!({"event": "x", "from_step": 0, "to_step": 1});
    refused(json!({"exclude": vec![exclusion; 33]}), "exclude", "at most 32");
    let condition = json!({"attr": "a", "op": "ne", "value": 1});
    refused(json!({"filter": vec![condition.clone(); 21]}), "filter", "at most 20");
    refused(json!({"steps": [{"where": vec![condition; 21]}, {}]}), "steps[0].where", "at most 20");
    refused(json!({"windw_ms": 5}), "windw_ms", "window_ms");
    assert!(read(json!({"stepz": [], "steps": [{}, {}]})).unwrap_err().unknown_field);
}

#[test]
fn conditions_are_checked() {
    let condition = |condition: Value| json!({"filter": [condition]});
    refused(condition(json!({"attr": "a", "op": "like", "value": 1})), "filter[0].op", "eq, ne, in");
    refused(condition(json!({"op": "eq", "value": 1})), "filter[0].attr", "must be given");
    refused(condition(json!({"attr": "a", "op": "in", "value": 1})), "filter[0].value", "a list");
    refused(condition(json!({"attr": "a", "op": "in", "value": []})), "filter[0].value", "1 to 100");
    refused(condition(json!({"attr": "a", "op": "lt", "value": true})), "filter[0].value", "text or a number");
    refused(condition(json!({"attr": "a", "op": "contains", "value": 1})), "filter[0].value", "text");
    refused(condition(json!({"attr": "a", "op": "eq"})), "filter[0].value", "given null");
    refused(condition(json!({"attr": "a", "op": "set", "value": 1})), "filter[0].value", "absent, true or false");
    refused(condition(json!({"attr": "a", "op": "eq", "value": [1]})), "filter[0].value", "text of at most");
    refused(json!({"filter": 5}), "filter", "an object (equality) or a list");
    refused(json!({"steps": [{"where": {"a": {}}}, {}]}), "steps[0].where[0].value", "must be");
}

#[test]
fn exclusions_must_lie_inside_the_funnel_and_fit_no_step_of_theirs() {
    let exclusion =
        |event: &str, from: i64, to: i64| json!({"exclude": [{"event": event, "from_step": from, "to_step": to}]});
    refused(exclusion("x", 0, 3), "exclude[0].to_step", "0 to 2");
    refused(exclusion("x", -1, 2), "exclude[0].from_step", "0 to 2");
    refused(exclusion("x", 1, 1), "exclude[0].from_step", "smaller");
    refused(json!({"exclude": [{"event": "x"}]}), "exclude[0].from_step", "must be given");
    refused(exclusion("pay", 0, 2), "exclude[0]", "step 1");
    refused(exclusion("event:pay", 0, 2), "exclude[0]", "step 1");
    refused(json!({"exclude": [{"from_step": 0, "to_step": 1}]}), "exclude[0]", "step 0");
    let mut partial = exclusion("x", 0, 1);
    partial["order"] = json!("any");
    refused(partial, "exclude[0].from_step", "whole funnel");
}

#[test]
fn an_exclusion_that_no_event_of_a_step_can_fit_is_taken() {
    let accepted = |step: Value, excluded: Value| {
        let mut excluded = excluded;
        excluded["from_step"] = json!(0);
        excluded["to_step"] = json!(1);
        read(json!({"steps": [{"event": "a"}, step], "exclude": [excluded]})).is_ok()
    };
    // Outside its range.
    let mut json = good();
    json["exclude"] = json!([{"event": "done", "from_step": 0, "to_step": 1}]);
    assert!(read(json).is_ok());
    let where_plan =
        |op: &str, value: Value| json!({"event": "b", "where": [{"attr": "plan", "op": op, "value": value}]});
    assert!(accepted(json!({"event": "feature:b"}), json!({"event": "completed:b"})));
    assert!(accepted(where_plan("eq", json!("pro")), where_plan("eq", json!("free"))));
    assert!(accepted(where_plan("eq", json!("5")), where_plan("eq", json!(5))));
    assert!(accepted(where_plan("lt", json!(5)), where_plan("ge", json!(5))));
    assert!(accepted(where_plan("eq", json!("pro")), where_plan("ne", json!("pro"))));
    assert!(accepted(where_plan("set", json!(true)), where_plan("set", json!(false))));
    assert!(!accepted(where_plan("le", json!(5)), where_plan("ge", json!(5))));
    assert!(!accepted(where_plan("in", json!(["pro", "team"])), where_plan("contains", json!("tea"))));
    assert!(!accepted(where_plan("ne", json!("pro")), where_plan("set", json!(false))));
}

#[test]
fn names_and_values_never_become_part_of_the_statement() {
    let nasty = "x'); DROP TABLE events; -- \\ ` \" { } \u{0} \u{1F980} \u{202e}";
    let json = json!({
        "steps": [{"event": nasty, "where": {nasty: nasty}}, {"event": "b", "where": [{"attr": nasty, "op": "contains", "value": nasty}]}],
        "filter": [{"attr": nasty, "op": "in", "value": [nasty, 5, true]}], "breakdown": nasty, "hold": [nasty],
        "exclude": [{"event": "DROP", "from_step": 0, "to_step": 1}], "cohort": {"users": [nasty]},
    });
    let plan = read(json).unwrap().plan(7);
    assert!(!plan.bound.sql.contains("DROP") && !plan.bound.sql.contains('\u{0}'), "{}", plan.bound.sql);
    let values: Vec<&str> = plan.bound.params.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values.iter().filter(|value| **value == nasty).count(), 1);
    assert!(plan.bound.params.is_sorted());
}

#[test]
fn too_much_text_is_refused() {
    let long = "x".repeat(1024);
    let values: Vec<String> = (0..100).map(|index| format!("{long:.1000}{index}")).collect();
    let condition = json!({"attr": "a", "op": "in", "value": values});
    refused(json!({"filter": [condition.clone(), condition]}), "request", "bytes together");
}

#[test]
fn periods_follow_the_clock_of_their_zone() {
    let starts = |interval: &str, tz: &str, from: &str, to: &str| {
        let json = json!({"steps": [{}, {}], "interval": interval, "tz": tz, "from": from, "to": to});
        let funnel = read(json).unwrap();
        let text = |&ms: &i64| jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
        funnel.periods.iter().map(text).collect::<Vec<_>>()
    };
    // Kathmandu is 5:45 ahead.
    let days = starts("day", "Asia/Kathmandu", "2026-02-01", "2026-02-03");
    assert_eq!(days, ["2026-01-31T18:15:00Z", "2026-02-01T18:15:00Z"]);
    // The clocks of Berlin went forward on 29 March 2026: that day has 23 hours.
    let days = starts("day", "Europe/Berlin", "2026-03-28T12:00:00", "2026-03-31");
    assert_eq!(days, ["2026-03-27T23:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"]);
    let weeks = starts("week", "UTC", "2026-02-04", "2026-02-10");
    assert_eq!(weeks, ["2026-02-02T00:00:00Z", "2026-02-09T00:00:00Z"]);
    let months = starts("month", "UTC", "2026-01-15", "2026-03-01");
    assert_eq!(months, ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]);
}
