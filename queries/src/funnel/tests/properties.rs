//! The scan and the reference agree on random streams made to be nasty: many ties, repeats, identical steps, times on the
//! very boundary, missing and equal sequence numbers, several instances, overlapping conditions, exclusions, links.
//!
//! `PROPTEST_CASES` says how many; the long run takes a million.

use super::{PlainEvent, PlainLink, reference, scanned, scanned_twice};
use crate::funnel::FunnelRequest;
use crate::funnel::matcher::Scalar;
use crate::funnel::validate::Funnel;
use gemba_conventions::EventKind;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Events lie from 0 to this; ranges and windows are drawn from the same small numbers, so that boundaries are hit.
const LAST_MS: i64 = 9;

fn plain_event() -> impl Strategy<Value = PlainEvent> {
    let kind = prop_oneof![
        8 => Just(EventKind::Event),
        1 => Just(EventKind::Used),
        1 => Just(EventKind::Started),
        1 => Just(EventKind::Ended),
        1 => Just(EventKind::Step),
    ];
    let plan = prop_oneof![
        3 => Just(None),
        2 => Just(Some(Scalar::Text("5".to_owned()))),
        2 => Just(Some(Scalar::Number(5.0))),
        1 => Just(Some(Scalar::Flag(true))),
        1 => Just(Some(Scalar::Text("a".to_owned()))),
    ];
    (
        (option::weighted(0.95, 1..4u64), option::weighted(0.5, 1..3u64), 0..3usize),
        0..=LAST_MS,
        option::weighted(0.7, (1..4u64, 1..3u64)),
        kind,
        0..5usize,
        plan,
        option::weighted(0.8, 1..3u32),
    )
        .prop_map(|((unit, session, tenant), time_ms, seq, kind, name, plan, cart)| {
            let mut attributes = BTreeMap::new();
            attributes.extend(plan.map(|plan| ("plan".to_owned(), plan)));
            attributes.extend(cart.map(|cart| ("cart".to_owned(), Scalar::Number(f64::from(cart)))));
            PlainEvent {
                unit,
                session,
                tenant: ["", "t", "u"][tenant].to_owned(),
                time_ms,
                seq,
                kind,
                name: ["A", "B", "C", "X", "Y"][name].to_owned(),
                attributes,
            }
        })
}

fn step() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => Just(json!({"event": "A"})),
        4 => Just(json!({"event": "B"})),
        4 => Just(json!({"event": "C"})),
        1 => Just(json!({})),
        1 => Just(json!({"where": {"plan": 5}})),
        1 => Just(json!({"event": "A", "where": {"plan": "5"}})),
        1 => Just(json!({"event": "B", "where": [{"attr": "cart", "op": "gt", "value": 1}]})),
        1 => Just(json!({"event": "completed:A"})),
        1 => Just(json!({"event": "feature:B"})),
        1 => Just(json!({"where": [{"attr": "plan", "op": "ne", "value": "5"}]})),
    ]
}

prop_compose! {
    fn question()(
        order in prop_oneof![Just("ordered"), Just("strict"), Just("any")],
        steps in vec(step(), 2..5),
        window_ms in 1..8i64,
        range in (0..5i64, 1..7i64),
        excluded in vec((prop_oneof![Just("X"), Just("Y"), Just("C")], 0..4i64, 1..5i64), 0..3),
        count_by in prop_oneof![4 => Just("user"), 1 => Just("session"), 1 => Just("tenant")],
        breakdown in (option::of(Just("plan")), prop_oneof![Just("first"), Just("last"), Just("step:1")], 1..3i64),
        hold in proptest::bool::weighted(0.2),
        first_time in proptest::bool::weighted(0.2),
        filter in proptest::bool::weighted(0.15),
        as_of in 0..15i64,
    ) -> Value {
        let last = i64::try_from(steps.len()).unwrap() - 1;
        let exclude: Vec<Value> = excluded
            .iter()
            .map(|&(event, from, to)| {
                let from = if order == "any" { 0 } else { from.min(last - 1) };
                let to = if order == "any" { last } else { to.clamp(from + 1, last) };
                json!({"event": event, "from_step": from, "to_step": to})
            })
            .collect();
        let time = |ms: i64| format!("1970-01-01T00:00:00.{ms:03}Z");
        let mut json = json!({
            "order": order, "steps": steps, "window_ms": window_ms, "exclude": exclude, "count_by": count_by,
            "from": time(range.0), "to": time(range.0 + range.1), "session_gap_ms": 2, "attribution": breakdown.1,
            "breakdown_limit": breakdown.2, "first_time": first_time, "as_of": time(as_of),
        });
        if let Some(key) = breakdown.0 {
            json["breakdown"] = key.into();
        }
        if hold {
            json["hold"] = json!(["cart"]);
        }
        if filter {
            json["filter"] = json!([{"attr": "cart", "op": "set"}]);
        }
        json
    }
}

fn link() -> impl Strategy<Value = PlainLink> {
    (1..4u64, 1..4u64, 0..5i64).prop_map(|(anonymous, person, time_ms)| PlainLink { anonymous, person, time_ms })
}

/// The funnel; exclusions that could fit a step are refused, so those are left out.
fn accepted(mut json: Value) -> Funnel {
    loop {
        match FunnelRequest::parse(json.clone()).unwrap().validate(super::NOW_MS, super::NOW_MS) {
            Ok(mut funnel) => {
                // Periods of 3 ms instead of days: the calendar is not what is tested here.
                funnel.periods = (0..funnel.to_ms).step_by(3).collect();
                return funnel;
            }
            Err(error) => {
                assert!(error.field.starts_with("exclude"), "{error}");
                json["exclude"].as_array_mut().unwrap().pop();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(6000), ..ProptestConfig::default() })]

    #[test]
    fn the_scan_answers_what_the_reference_answers(
        question in question(),
        events in vec(plain_event(), 0..12),
        links in vec(link(), 0..3),
    ) {
        let funnel = accepted(question);
        let expected = reference::answer(&funnel, &events, &links);
        prop_assert_eq!(&scanned(&funnel, &events, &links), &expected);
        if funnel.tells_units_by_number() {
            prop_assert_eq!(&scanned_twice(&funnel, &events, &links), &expected);
        }
    }

    #[test]
    fn one_crowded_unit_is_answered_alike(
        question in question(),
        mut events in vec(plain_event(), 4..9),
        spread in 1..10i64,
    ) {
        let mut funnel = accepted(question);
        funnel.from_ms = 0;
        for event in &mut events {
            event.unit = Some(1);
            event.session = Some(1);
            event.tenant = "t".to_owned();
            event.time_ms %= spread;
        }
        let expected = reference::answer(&funnel, &events, &[]);
        prop_assert_eq!(&scanned(&funnel, &events, &[]), &expected);
        if funnel.tells_units_by_number() {
            prop_assert_eq!(&scanned_twice(&funnel, &events, &[]), &expected);
        }
    }

    #[test]
    fn plain_funnels_are_answered_alike(
        order in prop_oneof![Just("ordered"), Just("strict")],
        steps in vec(step(), 2..7),
        window_ms in 1..12i64,
        range in (0..5i64, 1..12i64),
        breakdown in option::of(prop_oneof![Just("first"), Just("last"), Just("step:1")]),
        first_time in proptest::bool::weighted(0.2),
        as_of in 0..25i64,
        mut events in vec(plain_event(), 0..14),
        times in vec(0..14i64, 14),
    ) {
        // Few ties and one unit: what goes through in one pass.
        for (event, time) in events.iter_mut().zip(times) {
            event.unit = Some(1);
            event.time_ms = time;
        }
        let time = |ms: i64| format!("1970-01-01T00:00:00.{ms:03}Z");
        let mut question = json!({
            "order": order, "steps": steps, "window_ms": window_ms, "from": time(range.0), "to": time(range.0 + range.1),
            "first_time": first_time, "as_of": time(as_of),
        });
        if let Some(attribution) = breakdown {
            question["breakdown"] = "plan".into();
            question["attribution"] = attribution.into();
        }
        let funnel = FunnelRequest::parse(question).unwrap().validate(super::NOW_MS, super::NOW_MS).unwrap();
        prop_assert!(funnel.periods.is_empty());
        let expected = reference::answer(&funnel, &events, &[]);
        prop_assert_eq!(&scanned(&funnel, &events, &[]), &expected);
        prop_assert_eq!(&scanned_twice(&funnel, &events, &[]), &expected);
    }

    #[test]
    fn parts_sum_to_the_whole(question in question(), events in vec(plain_event(), 0..30)) {
        let funnel = accepted(question);
        let answer = scanned(&funnel, &events, &[]);
        for (index, step) in answer.steps.iter().enumerate() {
            let next = answer.steps.get(index + 1).map_or(step.count, |next| next.count);
            prop_assert_eq!(step.count, next + step.lost + step.open);
            if funnel.breakdown.is_some() {
                prop_assert_eq!(step.count, answer.breakdown.iter().map(|group| group.steps[index].count).sum::<u64>());
                prop_assert_eq!(step.lost, answer.breakdown.iter().map(|group| group.steps[index].lost).sum::<u64>());
            }
        }
    }
}
