//! Each rule as a small stream anybody can follow by hand: `A0 B1` is event A at 0 ms and event B at 1 ms; `A5#2/7` carries
//! sequence number 2 of instance 7. What a table says is checked on the scan, in every order of storage, and on the
//! reference.

use super::{PlainEvent, PlainLink, answer, counts, event, feed, funnel, rows};
use crate::funnel::matcher::Scalar;
use crate::funnel::reference::{self, PlainProperty, Subject};
use crate::funnel::{Columns, FunnelAnswer, FunnelScan, TimeBucket};
use gemba_conventions::EventKind;
use serde_json::{Value, json};

fn stream(text: &str) -> Vec<PlainEvent> {
    text.split_whitespace()
        .map(|word| {
            let (name, rest) = word.split_at(1);
            let (time, order) = rest.split_once('#').unwrap_or((rest, ""));
            let mut event = event(name, time.parse().unwrap());
            event.seq = order.split_once('/').map(|(seq, instance)| (seq.parse().unwrap(), instance.parse().unwrap()));
            event
        })
        .collect()
}

/// Steps are one letter each, `*` for any event; entries lie in [0, 100) and the window is 10 ms unless `more` says else.
fn ask(steps: &str, more: Value, events: &[PlainEvent]) -> FunnelAnswer {
    answer(&funnel(question(steps, &more)), events)
}

fn question(steps: &str, more: &Value) -> Value {
    let step = |name: char| if name == '*' { json!({}) } else { json!({"event": name.to_string()}) };
    let mut question = json!({
        "steps": steps.chars().map(step).collect::<Vec<_>>(), "window_ms": 10,
        "from": "1970-01-01T00:00:00Z", "to": "1970-01-01T00:00:00.100Z",
    });
    for (key, value) in more.as_object().unwrap() {
        question[key] = value.clone();
    }
    question
}

fn check(steps: &str, more: Value, events: &str, expected: &[u64]) {
    assert_eq!(counts(&ask(steps, more.clone(), &stream(events))), expected, "{steps} {more} on {events}");
}

fn exclude(event: &str, from: u64, to: u64) -> Value {
    json!({"exclude": [{"event": event, "from_step": from, "to_step": to}]})
}

fn ordered() -> Value {
    json!({})
}

#[test]
fn the_window_runs_from_the_first_step_and_its_end_is_inside() {
    check("ABC", ordered(), "A0 B5 C10", &[1, 1, 1]);
    check("ABC", ordered(), "A0 B5 C11", &[1, 1, 0]);
    check("ABC", ordered(), "A0 B6 C12", &[1, 1, 0]);
}

#[test]
fn entries_lie_in_the_range_and_later_steps_may_lie_behind_it() {
    check("AB", ordered(), "A99 B105", &[1, 1]);
    check("AB", ordered(), "A100 B105", &[0, 0]);
    check("AB", json!({"from": "1970-01-01T00:00:00.005Z"}), "A4 B6", &[0, 0]);
    check("AB", json!({"from": "1970-01-01T00:00:00.005Z"}), "A5 B6", &[1, 1]);
}

#[test]
fn a_unit_may_enter_again_when_the_first_entry_led_nowhere() {
    check("AB", ordered(), "A0 A20 B25", &[1, 1]);
    check("ABC", ordered(), "A0 B1 A20 B21 C22", &[1, 1, 1]);
}

#[test]
fn any_chain_counts_not_only_the_greedy_one() {
    // A0 B1 A2 B3 C4: the chain that is reported starts late, at 2.
    let answer = ask("ABC", ordered(), &stream("A0 B1 A2 B3 C4"));
    assert_eq!(counts(&answer), [1, 1, 1]);
    assert_eq!(answer.steps[1].time_from_previous_ms.unwrap().p50, 1);
    assert_eq!(answer.steps[2].time_from_previous_ms.unwrap().p50, 1);
}

#[test]
fn the_last_entry_before_the_second_step_counts() {
    let answer = ask("AB", ordered(), &stream("A0 A3 A5 B7 B8"));
    assert_eq!(answer.steps[1].time_from_previous_ms.unwrap().p50, 2);
}

#[test]
fn steps_between_come_as_early_as_possible() {
    let answer = ask("ABC", ordered(), &stream("A0 B2 B4 C6"));
    assert_eq!(answer.steps[1].time_from_previous_ms.unwrap().p50, 2);
    assert_eq!(answer.steps[2].time_from_previous_ms.unwrap().p50, 4);
}

#[test]
fn a_repeated_step_needs_another_event() {
    check("AAA", ordered(), "A0", &[1, 0, 0]);
    check("AAA", ordered(), "A0 A1", &[1, 1, 0]);
    check("AAA", ordered(), "A0 A1 A2", &[1, 1, 1]);
    check("AA", ordered(), "A0 A0", &[1, 1]);
    check("ABA", ordered(), "A0 B1", &[1, 1, 0]);
}

/// A second fetch costs as much as the first: only units whose answer depends on an order are asked for again.
#[test]
fn the_order_inside_a_millisecond_is_asked_for_where_it_matters_only() {
    let asked_again = |steps: &str, events: &str| {
        let events = stream(events);
        let funnel = funnel(question(steps, &ordered()));
        answer(&funnel, &events);
        let mut scan = FunnelScan::new(funnel.clone());
        let rows = rows(&funnel, &events, &[]);
        feed(&mut scan, Columns::of(&funnel, false), &rows.iter().collect::<Vec<_>>());
        scan.settle();
        scan.unordered(usize::MAX).expect("few rows are kept").units.len()
    };
    // A new entry beside the end of a try that is longer anyway; what comes before its step, and again after it.
    assert_eq!(asked_again("ABC", "A0 B5 C9 A9"), 0);
    assert_eq!(asked_again("ABC", "A0 C3 A3 B7 C8"), 0);
    assert_eq!(asked_again("AAB", "A1 A2 B4 A9 B9"), 0);
    // Whether B follows A is the question, or when.
    assert_eq!(asked_again("AB", "A3 B3"), 1);
    assert_eq!(asked_again("AB", "A3 B3 B7"), 1);
    assert_eq!(asked_again("AAB", "A1 A5 B5 B9"), 1);
}

#[test]
fn events_of_an_unordered_millisecond_serve_in_any_order() {
    check("AB", ordered(), "B5 A5", &[1, 1]);
    check("ABC", ordered(), "C5 B5 A5", &[1, 1, 1]);
    check("AB", ordered(), "B4 A5", &[1, 0]);
    // One sequence number is missing.
    check("AB", ordered(), "B5#1/1 A5", &[1, 1]);
}

#[test]
fn sequence_numbers_of_one_instance_order_a_millisecond() {
    check("AB", ordered(), "B5#1/1 A5#2/1", &[1, 0]);
    check("AB", ordered(), "A5#1/1 B5#2/1", &[1, 1]);
    // What fits nothing does not unsettle the order of what does.
    check("AB", ordered(), "B5#1/1 A5#2/1 Z5", &[1, 0]);
}

#[test]
fn sequence_numbers_of_two_instances_do_not_compare() {
    check("AB", ordered(), "B5#1/1 A5#2/2", &[1, 1]);
    check("AB", ordered(), "B5#1/1 A5#1/1", &[1, 1]);
}

#[test]
fn an_exclusion_hits_between_its_steps() {
    check("ABC", exclude("X", 0, 1), "A0 X1 B2 C3", &[0, 0, 0]);
    check("ABC", exclude("X", 0, 1), "A0 B2 X3 C4", &[1, 1, 1]);
    check("ABC", exclude("X", 1, 2), "A0 X1 B2 C3", &[1, 1, 1]);
    check("ABC", exclude("X", 0, 2), "X0 A1 B2 C3 X4", &[1, 1, 1]);
    assert_eq!(ask("ABC", exclude("X", 0, 1), &stream("A0 X1 B2 C3")).excluded, 1);
}

#[test]
fn another_chain_of_the_same_try_may_escape_the_exclusion() {
    let answer = ask("ABC", exclude("X", 1, 2), &stream("A0 B1 X2 B3 C4"));
    assert_eq!(counts(&answer), [1, 1, 1]);
    assert_eq!(answer.steps[1].time_from_previous_ms.unwrap().p50, 3);
    assert_eq!(answer.excluded, 0);
}

#[test]
fn another_try_may_escape_the_exclusion() {
    check("AB", exclude("X", 0, 1), "A0 X1 A2 B3", &[1, 1]);
    check("AB", exclude("X", 0, 1), "A0 X1 B3 A20", &[1, 0]);
}

#[test]
fn an_exclusion_whose_second_step_is_not_reached_hits_until_the_window_ends() {
    check("ABC", exclude("X", 1, 2), "A0 B1 X10", &[0, 0, 0]);
    check("ABC", exclude("X", 1, 2), "A0 B1 X11", &[1, 1, 0]);
    // A chain that is not longer than f is not touched.
    check("ABC", exclude("X", 1, 2), "A0 X1", &[1, 0, 0]);
    // A later event of the step escapes.
    check("ABC", exclude("X", 1, 2), "A0 B1 X5 B6", &[1, 1, 0]);
}

#[test]
fn what_is_excluded_in_the_unordered_millisecond_of_a_boundary_is_outside() {
    check("AB", exclude("X", 0, 1), "A0 X0 B2", &[1, 1]);
    check("AB", exclude("X", 0, 1), "A0 X2 B2", &[1, 1]);
    check("AB", exclude("X", 0, 1), "A0 X2#1/1 B2#2/1", &[0, 0]);
}

#[test]
fn strict_allows_repeats_of_the_step_just_reached_and_nothing_else() {
    let strict = || json!({"order": "strict"});
    check("ABC", strict(), "A0 A1 B2 B3 C4", &[1, 1, 1]);
    check("AB", strict(), "A0 X1 B2", &[1, 0]);
    check("AB", strict(), "A0 X1 B2 A3 B4", &[1, 1]);
    check("ABC", strict(), "A0 B1 A2 C3", &[1, 1, 0]);
    check("AB", strict(), "A0 X0 B1 X1", &[1, 1]);
    check("A*B", strict(), "A0 X1 B2", &[1, 1, 1]);
}

#[test]
fn strict_does_not_see_started_and_ended_attempts() {
    let mut events = stream("A0 Z1 B2");
    events[1].kind = EventKind::Started;
    assert_eq!(counts(&ask("AB", json!({"order": "strict"}), &events)), [1, 1]);
    events[1].kind = EventKind::Used;
    assert_eq!(counts(&ask("AB", json!({"order": "strict"}), &events)), [1, 0]);
}

#[test]
fn any_order_counts_steps_done() {
    let any = || json!({"order": "any"});
    check("ABC", any(), "C0 A1 B2", &[1, 1, 1]);
    check("ABC", any(), "C0 C1 B2", &[1, 1, 0]);
    check("ABC", any(), "C0 B11", &[1, 0, 0]);
    check("ABC", any(), "C0 B10", &[1, 1, 0]);
    check("AAB", any(), "A0 B1", &[1, 1, 0]);
}

#[test]
fn any_order_finds_the_largest_matching_of_overlapping_conditions() {
    // The second event fits both steps, the first only one of them.
    let mut events = stream("A0 A1");
    events[1].attributes.insert("plan".to_owned(), Scalar::Text("pro".to_owned()));
    let steps = json!([{"event": "A"}, {"event": "A", "where": {"plan": "pro"}}]);
    assert_eq!(counts(&ask("AA", json!({"order": "any", "steps": steps}), &events)), [1, 1]);
    let steps = json!([{"event": "A", "where": {"plan": "pro"}}, {"event": "A"}]);
    assert_eq!(counts(&ask("AA", json!({"order": "any", "steps": steps}), &events)), [1, 1]);
    assert_eq!(counts(&ask("AA", json!({"steps": steps}), &events)), [1, 0]);
}

#[test]
fn any_order_keeps_what_was_done_before_an_exclusion() {
    let mut question = exclude("X", 0, 2);
    question["order"] = json!("any");
    check("ABC", question.clone(), "B0 A1 X2 C3", &[1, 1, 0]);
    check("ABC", question, "B0 X1 C2 A3 B4", &[1, 1, 1]);
}

#[test]
fn a_unit_is_open_while_a_clean_window_runs() {
    let at = |as_of: &str| json!({"as_of": format!("1970-01-01T00:00:00.{as_of}Z")});
    let open = |as_of: &str, events: &str| {
        let answer = ask("ABC", at(as_of), &stream(events));
        answer.steps.iter().map(|step| (step.lost, step.open)).collect::<Vec<_>>()
    };
    assert_eq!(open("009", "A0 B5"), [(0, 0), (0, 1), (0, 0)]);
    assert_eq!(open("010", "A0 B5"), [(0, 0), (1, 0), (0, 0)]);
    // A later entry keeps the unit open at the level it has.
    assert_eq!(open("030", "A0 B5 A25"), [(0, 0), (0, 1), (0, 0)]);
    assert_eq!(open("000", "A0 B5 C6"), [(0, 0), (0, 0), (0, 0)]);
}

/// Events of unit `unit` that carry `key` = `value`.
fn with(unit: u64, events: &str, key: &str, value: &str) -> Vec<PlainEvent> {
    let mut events = stream(events);
    for event in &mut events {
        event.unit = Some(unit);
        event.attributes.insert(key.to_owned(), Scalar::Text(value.to_owned()));
    }
    events
}

#[test]
fn attributes_held_constant_tie_a_chain_to_one_value() {
    let hold = || json!({"hold": ["cart"]});
    let mut events = with(1, "A0", "cart", "1");
    events.extend(with(1, "B1", "cart", "2"));
    assert_eq!(counts(&ask("AB", hold(), &events)), [1, 0]);
    events.extend(with(1, "B2", "cart", "1"));
    assert_eq!(counts(&ask("AB", hold(), &events)), [1, 1]);
    assert_eq!(counts(&ask("AB", hold(), &stream("A0 B1"))), [0, 0]);
}

#[test]
fn the_first_time_ever_must_lie_in_the_range() {
    let first = |from: &str| json!({"first_time": true, "from": format!("1970-01-01T00:00:00.{from}Z")});
    check("AB", first("005"), "A4 A6 B7", &[0, 0]);
    check("AB", first("004"), "A4 A6 B7", &[1, 1]);
}

fn groups(answer: &FunnelAnswer) -> Vec<(Value, Vec<u64>)> {
    let group =
        |group: &crate::funnel::GroupAnswer| (group.value.clone(), group.steps.iter().map(|step| step.count).collect());
    answer.breakdown.iter().map(group).collect()
}

#[test]
fn a_breakdown_by_the_last_value_groups_a_lost_unit_by_the_step_it_reached() {
    let mut events = with(1, "A0", "plan", "free");
    events.extend(with(1, "B1", "plan", "pro"));
    let by = |attribution: &str| json!({"breakdown": "plan", "attribution": attribution});
    assert_eq!(groups(&ask("ABC", by("last"), &events)), [(json!("pro"), vec![1, 1, 0])]);
    assert_eq!(groups(&ask("ABC", by("first"), &events)), [(json!("free"), vec![1, 1, 0])]);
    let answer = ask("ABC", by("step:2"), &events);
    assert_eq!(groups(&answer), [(Value::Null, vec![1, 1, 0])]);
    assert_eq!(answer.breakdown[0].group, "not_reached");
}

#[test]
fn small_groups_add_up_in_other_and_missing_stands_apart() {
    let mut events = Vec::new();
    for (unit, plan) in [(1, "b"), (2, "a"), (3, "c"), (4, "c")] {
        events.extend(with(unit, "A0 B1", "plan", plan));
    }
    events.push(PlainEvent { unit: Some(9), ..event("A", 3) });
    let answer = ask("AB", json!({"breakdown": "plan", "breakdown_limit": 2}), &events);
    let expected =
        [(json!("c"), vec![2, 2]), (json!("a"), vec![1, 1]), (json!("other"), vec![1, 1]), (Value::Null, vec![1, 0])];
    assert_eq!(groups(&answer), expected);
    assert_eq!(answer.breakdown[3].group, "missing");
}

#[test]
fn values_are_typed() {
    let mut events = stream("A0 B1");
    events[0].attributes.insert("n".to_owned(), Scalar::Number(5.0));
    let with = |value: Value| json!({"steps": [{"event": "A", "where": {"n": value}}, {"event": "B"}]});
    assert_eq!(counts(&ask("AB", with(json!(5)), &events)), [1, 1]);
    assert_eq!(counts(&ask("AB", with(json!("5")), &events)), [0, 0]);
    assert_eq!(counts(&ask("AB", with(json!(true)), &events)), [0, 0]);
}

#[test]
fn percentiles_are_values_of_nearest_rank() {
    let mut events = Vec::new();
    for unit in 1..=10u64 {
        let time = i64::try_from(unit).unwrap();
        events.push(PlainEvent { unit: Some(unit), ..event("A", 0) });
        events.push(PlainEvent { unit: Some(unit), ..event("B", time) });
    }
    let step = &ask("AB", ordered(), &events).steps[1];
    let times = step.time_from_previous_ms.unwrap();
    assert_eq!((times.avg, times.p50, times.p90), (5.5, 5, 9));
    assert_eq!(step.times_histogram, [TimeBucket { up_to_ms: Some(10), count: 10 }]);
}

#[test]
fn a_histogram_counts_up_to_its_bounds_and_shows_what_lies_empty_between() {
    let mut events = Vec::new();
    for (unit, time) in [(1u64, 10), (2, 11), (3, 1_001)] {
        events.push(PlainEvent { unit: Some(unit), ..event("A", 0) });
        events.push(PlainEvent { unit: Some(unit), ..event("B", time) });
    }
    let asked = json!({"window_ms": 5_000});
    let found = ask("AB", asked, &events).steps[1].times_histogram.clone();
    let bucket = |up_to_ms: i64, count: u64| TimeBucket { up_to_ms: Some(up_to_ms), count };
    assert_eq!(found, [bucket(10, 1), bucket(100, 1), bucket(500, 0), bucket(1_000, 0), bucket(2_000, 1)]);
}

#[test]
fn events_of_nobody_are_counted_and_enter_nothing() {
    let mut events = stream("A0 B1 A200 Z3");
    for event in &mut events {
        event.unit = None;
    }
    let answer = ask("AB", ordered(), &events);
    assert_eq!((counts(&answer), answer.without_unit), (vec![0, 0], 2));
}

#[test]
fn sessions_without_an_id_are_cut_by_pauses() {
    let by = |gap: i64| json!({"count_by": "session", "session_gap_ms": gap});
    assert_eq!(counts(&ask("AB", by(3), &stream("A0 B3"))), [1, 1]);
    assert_eq!(counts(&ask("AB", by(3), &stream("A0 B4"))), [1, 0]);
    // What fits no step bridges the pause.
    assert_eq!(counts(&ask("AB", by(3), &stream("A0 Z2 B4"))), [1, 1]);
}

#[test]
fn a_unit_counts_once_in_each_period_where_a_try_starts() {
    let day = 86_400_000;
    let events: Vec<PlainEvent> =
        [("A", 0), ("B", 1), ("A", 5), ("A", day + 3)].into_iter().map(|(name, time)| event(name, time)).collect();
    let question = json!({"to": "1970-01-03T00:00:00Z", "interval": "day"});
    let answer = ask("AB", question, &events);
    let periods: Vec<_> = answer.over_time.iter().map(|period| (period.start.as_str(), &period.counts[..])).collect();
    assert_eq!(periods, [("1970-01-01T00:00:00+00:00", &[1, 1][..]), ("1970-01-02T00:00:00+00:00", &[1, 0][..])]);
    assert_eq!(answer.over_time[1].open, [0, 0]);
}

#[test]
fn a_period_tells_who_still_has_time() {
    // The window of 10 ms of the second day's entry ends at day + 13; the first day's unit is through and never open.
    let day = 86_400_000;
    let events: Vec<PlainEvent> =
        [("A", 0), ("B", 1), ("A", 5), ("A", day + 3)].into_iter().map(|(name, time)| event(name, time)).collect();
    for (as_of, open) in [(12, 1), (13, 0)] {
        let question = json!({"to": "1970-01-03T00:00:00Z", "interval": "day",
            "as_of": format!("1970-01-02T00:00:00.{as_of:03}Z")});
        let answer = ask("AB", question, &events);
        let periods: Vec<_> = answer.over_time.iter().map(|period| (&period.counts[..], &period.open[..])).collect();
        assert_eq!(periods, [(&[1, 1][..], &[0, 0][..]), (&[1, 0], &[open, 0])], "as of {as_of}");
    }
}

#[test]
fn very_many_events_of_one_unit_cost_no_square() {
    // Every shape that has made a scan quadratic: entries without end, steps without end, exclusions between, all in one
    // window. A quadratic scan would need 10^11 steps and never come back.
    let question = |more: Value| {
        let mut json = json!({
            "steps": [{"event": "A"}, {"event": "B"}, {"event": "C"}], "window_ms": 3_000_000_000_i64,
            "from": "1970-01-01T00:00:00Z", "to": "2000-01-01T00:00:00Z",
        });
        for (key, value) in more.as_object().unwrap() {
            json[key] = value.clone();
        }
        funnel(json)
    };
    let event = |steps: u32, exclusions: u32, time_ms: i64| crate::funnel::Event {
        time_ms,
        seq: 0,
        instance: 0,
        steps,
        exclusions,
        hold: 0,
        value: 0,
        visible: true,
    };
    let many = 300_000i64;
    let streams: [fn(i64) -> (u32, u32); 4] = [
        |_| (0b001, 0),
        |index| (1 << (index % 3), 0),
        |index| {
            if index < 100_000 {
                (0b001, 0)
            } else {
                [(0b010, 0), (0, 1), (0b100, 0)][usize::try_from(index % 3).unwrap()]
            }
        },
        |index| if index < 100_000 { (0b011, 0) } else { (0b010, 0) },
    ];
    for more in [json!({}), exclude("X", 1, 2), exclude("X", 0, 2), json!({"order": "strict"})] {
        let funnel = question(more.clone());
        for (index, stream) in streams.iter().enumerate() {
            for ties in [1, 2] {
                let mut scan = crate::funnel::FunnelScan::new(funnel.clone());
                let row = |time| {
                    let (steps, exclusions) = stream(time);
                    let exclusions = if funnel.exclusions.is_empty() { 0 } else { exclusions };
                    let event = event(steps, exclusions, time / ties);
                    super::Row { unit: 1, derived: false, event, value: String::new() }
                };
                let rows: Vec<super::Row> = (0..many).map(row).collect();
                super::feed(&mut scan, Columns::of(&funnel, true), &rows.iter().collect::<Vec<_>>());
                let answer = scan.finish();
                assert_eq!(answer.steps[0].count + answer.excluded, 1, "{more} stream {index} ties {ties}");
            }
        }
    }
}

#[test]
fn people_are_split_by_what_is_known_of_them_now_and_by_the_variant_they_saw_first() {
    // Unit 1 and the session 3 it was before are pro by what was said last; unit 2 never said anything.
    let links = [PlainLink { anonymous: 3, person: 1, time_ms: 50 }];
    let said = |value: &str, time_ms: i64| PlainProperty {
        subject: Subject::User(1),
        key: "plan".to_owned(),
        value: Scalar::Text(value.to_owned()),
        time_ms,
    };
    let mut events = Vec::new();
    for (unit, name, time) in [(3, "A", 0), (1, "B", 20), (2, "A", 0), (2, "B", 20)] {
        events.push(PlainEvent { unit: Some(unit), ..event(name, time) });
    }
    for (unit, variant, time) in [(1, "new", 10), (1, "old", 11), (2, "old", 0)] {
        let shown = [("feature_flag.key", "f"), ("feature_flag.result.variant", variant)];
        let attributes = shown.map(|(key, value)| (key.to_owned(), Scalar::Text(value.to_owned()))).into();
        events.push(PlainEvent { unit: Some(unit), attributes, ..event("feature_flag.evaluation", time) });
    }
    let known = [said("pro", 40), said("free", 30)];
    let ask = |key: &str, attribution: &str| {
        let asked = funnel(json!({"steps": [{"event": "A"}, {"event": "B"}], "from": "1970-01-01", "to": "1970-01-02",
            "breakdown": key, "attribution": attribution}));
        groups(&reference::answer_knowing(&asked, &events, &links, &known))
    };
    assert_eq!(ask("user:plan", "first"), [(json!("pro"), vec![1, 1]), (Value::Null, vec![1, 1])]);
    // Seen in the same millisecond counts as before; before the first exposure there is no variant.
    assert_eq!(ask("flag:f", "first"), [(json!("old"), vec![1, 1]), (Value::Null, vec![1, 1])]);
    assert_eq!(ask("flag:f", "last"), [(json!("new"), vec![1, 1]), (json!("old"), vec![1, 1])]);
}
