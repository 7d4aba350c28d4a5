//! Random requests: equal to a naive reading of the official types, equal in both encodings, never a panic, never half
//! a request.

use super::*;
use crate::identity::IdDomain;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use proptest::prelude::*;
use serde_json::json;

fn any_value() -> impl Strategy<Value = AnyValue> {
    let scalar = prop_oneof![
        Just(None),
        "[ -~ü\n\"]{0,12}".prop_map(|text| Some(Value::StringValue(text))),
        any::<bool>().prop_map(|flag| Some(Value::BoolValue(flag))),
        prop_oneof![any::<i64>(), -9_i64..9].prop_map(|number| Some(Value::IntValue(number))),
        prop_oneof![-1e9..1e9, any::<f64>().prop_filter("JSON writes null", |number| number.is_finite())]
            .prop_map(|number: f64| Some(Value::DoubleValue(number))),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Some(Value::BytesValue(bytes))),
    ]
    .prop_map(|value| AnyValue { value });
    scalar.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|values| AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) }),
            prop::collection::vec(("[a-c]{0,2}", inner), 0..3).prop_map(|pairs| {
                let values = pairs.into_iter().map(|(key, value)| kv(&key, value)).collect();
                AnyValue { value: Some(Value::KvlistValue(KeyValueList { values })) }
            }),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[a-e]{1,2}",
        1 => prop::sample::select(vec![
            "user.id", "enduser.id", "session.id", "gemba.tenant", "gemba.feature.name", "gemba.attempt.id",
            "error.type", "gemba.seq", "db.system.name", "service.name", "gemba.outcome",
        ])
        .prop_map(str::to_owned),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    prop_oneof![9 => 0_usize..7, 1 => 15_usize..40]
        .prop_flat_map(|count| prop::collection::vec((key(), any_value()), count))
        .prop_map(|pairs| pairs.into_iter().map(|(key, value)| kv(&key, value)).collect())
}

fn foreign_record() -> impl Strategy<Value = LogRecord> {
    let time = prop_oneof![Just(0), RECEIVED_NS - 1_000_000_000..RECEIVED_NS + 700_000_000_000, any::<u64>()];
    let ids = prop_oneof![Just((vec![], vec![])), Just((vec![1; 16], vec![2; 8])), Just((vec![1; 3], vec![2; 8]))];
    ("[a-z.]{0,5}", time.clone(), time, attributes(), prop::option::of(any_value()), ids, 0..25).prop_map(
        |(event_name, time_unix_nano, observed_time_unix_nano, attributes, body, (trace_id, span_id), severity)| {
            LogRecord {
                time_unix_nano,
                observed_time_unix_nano,
                severity_number: severity,
                body,
                attributes,
                trace_id,
                span_id,
                event_name,
                ..LogRecord::default()
            }
        },
    )
}

/// JSON text of a value, by way of a tree.
fn text_of(value: &AnyValue) -> String {
    fn tree(value: &AnyValue) -> String {
        match &value.value {
            None => "null".to_owned(),
            Some(Value::StringValue(text)) => json!(text).to_string(),
            Some(Value::BoolValue(flag)) => flag.to_string(),
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::DoubleValue(number)) => format!("{number:?}"),
            Some(Value::BytesValue(bytes)) => json!(base64_of(bytes)).to_string(),
            Some(Value::ArrayValue(array)) => {
                format!("[{}]", array.values.iter().map(tree).collect::<Vec<_>>().join(","))
            }
            Some(Value::KvlistValue(map)) => {
                let pair = |pair: &KeyValue| {
                    format!("{}:{}", json!(pair.key), pair.value.as_ref().map_or("null".to_owned(), tree))
                };
                format!("{{{}}}", map.values.iter().map(pair).collect::<Vec<_>>().join(","))
            }
            other => panic!("{other:?}"),
        }
    }
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BytesValue(bytes)) => base64_of(bytes),
        None => String::new(),
        _ => tree(value),
    }
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn word(value: Option<&AnyValue>) -> Option<String> {
    match &value?.value {
        Some(Value::StringValue(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::IntValue(number)) => Some(number.to_string()),
        Some(Value::DoubleValue(number)) => Some(number.to_string()),
        Some(Value::BoolValue(flag)) => Some(flag.to_string()),
        _ => None,
    }
}

fn plain_text(value: Option<&AnyValue>) -> String {
    match value.map(|value| &value.value) {
        Some(Some(Value::StringValue(text))) => text.clone(),
        _ => String::new(),
    }
}

/// What the contract says of a foreign event, computed from the tree without haste; `None` if it is refused.
fn reference(record: &LogRecord) -> Option<Row> {
    if record.event_name.is_empty() {
        return None;
    }
    let ns =
        [record.time_unix_nano, record.observed_time_unix_nano, RECEIVED_NS].into_iter().find(|time| *time != 0)?;
    let sent = i64::try_from(ns).ok()? / 1_000_000;
    let ahead = sent > RECEIVED_MS + 600_000;
    let time = if ahead { RECEIVED_MS } else { sent };
    let mut last: std::collections::BTreeMap<&str, &AnyValue> = std::collections::BTreeMap::new();
    let empty = AnyValue::default();
    for pair in &record.attributes {
        last.insert(&pair.key, pair.value.as_ref().unwrap_or(&empty));
    }
    let known = last.clone();
    let get = |key: &str| known.get(key).copied();
    let session = word(get("session.id")).map_or(0, |id| hash(IdDomain::Session, &id));
    let user = word(get("user.id")).or_else(|| word(get("enduser.id")));
    let attempt = plain_text(get("gemba.attempt.id"));
    let seq = match get("gemba.seq").map(|value| &value.value) {
        Some(Some(Value::IntValue(number))) => u64::try_from(*number).unwrap_or(0),
        Some(Some(Value::StringValue(digits))) => digits.parse().unwrap_or(0),
        _ => 0,
    };
    let (mut strings, mut numbers, mut bools) = (Row::new(), Row::new(), Row::new());
    if let Some(body) = record.body.as_ref().filter(|body| body.value.is_some()) {
        last.entry("body").or_insert(body);
    }
    let severity = i64::from(record.severity_number).any();
    if record.severity_number != 0 {
        last.entry("severity_number").or_insert(&severity);
    }
    let columns = [
        "user.id",
        "enduser.id",
        "session.id",
        "gemba.tenant",
        "gemba.feature.name",
        "gemba.attempt.id",
        "error.type",
        "gemba.seq",
    ];
    for (key, value) in last.iter().filter(|(key, _)| !columns.contains(key)) {
        match value.value {
            Some(Value::BoolValue(flag)) => drop(bools.insert((*key).to_owned(), json!(flag))),
            Some(Value::DoubleValue(number)) => drop(numbers.insert((*key).to_owned(), json!(number))),
            Some(Value::IntValue(number)) => {
                numbers.insert((*key).to_owned(), json!(number as f64));
                if number.unsigned_abs() > 1 << 53 {
                    strings.insert((*key).to_owned(), json!(number.to_string()));
                }
            }
            _ => drop(strings.insert((*key).to_owned(), json!(text_of(value)))),
        }
    }
    if ahead {
        numbers.insert("gemba.time_sent_ms".to_owned(), json!(sent as f64));
        strings.remove("gemba.time_sent_ms");
    }
    let traced = record.trace_id.len() == 16;
    let row = json!({
        "name": record.event_name, "kind": "event", "time": time, "day": time / 86_400_000, "flags": u8::from(ahead),
        "unit": user.map_or(session, |id| hash(IdDomain::User, &id)), "session": session, "seq": seq,
        "tenant": word(get("gemba.tenant")).unwrap_or_default(),
        "feature": word(get("gemba.feature.name")).unwrap_or_default(),
        "attempt": if attempt.is_empty() { 0 } else { hash(IdDomain::Attempt, &attempt) },
        "error_type": plain_text(get("error.type")), "outcome": "", "outcome_inferred": false, "outcome_reason": "",
        "duration_ns": 0, "service": "shop", "release": "1.2.3", "environment": "test",
        "trace_id": if traced { "01".repeat(16) } else { "00".repeat(16) },
        "span_id": if traced { 0x0202_0202_0202_0202_u64 } else { 0 },
        "strings": strings, "numbers": numbers, "bools": bools,
    });
    row.as_object().cloned()
}

/// Changes one place of a body: a byte, a cut, a repetition.
fn damage(mut body: Vec<u8>, at: usize, byte: u8, how: u8) -> Vec<u8> {
    let at = if body.is_empty() { 0 } else { at % body.len() };
    match how % 4 {
        0 => body.truncate(at),
        1 => body.insert(at, byte),
        2 => body.extend_from_within(at..),
        _ => {
            if let Some(place) = body.get_mut(at) {
                *place = byte;
            }
        }
    }
    body
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_equal_a_naive_reading_of_the_request(records in prop::collection::vec(foreign_record(), 0..6)) {
        let (tally, rows) = both(Signal::Logs, &logs(records.clone()));
        let mut expected: Vec<Row> = records.iter().filter_map(reference).collect();
        // A block is written by its table's sorting key.
        expected.sort_by_key(|row| {
            let minute = row["time"].as_i64().expect("a time").div_euclid(60_000);
            (row["name"].as_str().expect("a name").to_owned(), minute)
        });
        let mut got = table(&rows, Table::Events);
        prop_assert_eq!(tally.kept(), expected.len() as u64);
        prop_assert_eq!(tally.received, records.len() as u64);
        for row in &mut got {
            row.retain(|column, _| expected.first().is_some_and(|row| row.contains_key(column)));
        }
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn equal_requests_give_equal_blocks(records in prop::collection::vec(foreign_record(), 0..6)) {
        let body = logs(records).encode_to_vec();
        let (mut first, mut second) = (Rows::new(), Rows::new());
        // The second has been used before, and cleared.
        let (everything, ..) = everything();
        try_decode(Signal::Logs, Encoding::Protobuf, &everything.encode_to_vec(), &mut second).expect("decodes");
        second.clear();
        prop_assert!(second.is_empty() && second.rows() == 0 && second.blocks().is_empty());
        for rows in [&mut first, &mut second] {
            try_decode(Signal::Logs, Encoding::Protobuf, &body, rows).expect("decodes");
            try_decode(Signal::Logs, Encoding::Protobuf, &body, rows).expect("decodes");
        }
        prop_assert_eq!(first.blocks(), second.blocks());
        prop_assert_eq!(encoded(&first), encoded(&second));
    }

    #[test]
    fn damaged_bodies_never_panic_and_an_error_leaves_the_rows_untouched(
        signal in prop::sample::select(Signal::ALL),
        encoding in prop::sample::select(vec![Encoding::Protobuf, Encoding::Json]),
        damages in prop::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..4),
    ) {
        let (logs, traces, metrics) = everything();
        let body = match (signal, encoding) {
            (Signal::Logs, Encoding::Protobuf) => logs.encode_to_vec(),
            (Signal::Traces, Encoding::Protobuf) => traces.encode_to_vec(),
            (Signal::Metrics, Encoding::Protobuf) => metrics.encode_to_vec(),
            (Signal::Logs, Encoding::Json) => serde_json::to_vec(&logs).expect("serialises"),
            (Signal::Traces, Encoding::Json) => serde_json::to_vec(&traces).expect("serialises"),
            (Signal::Metrics, Encoding::Json) => serde_json::to_vec(&metrics).expect("serialises"),
        };
        let damaged = damages.into_iter().fold(body, |body, (at, byte, how)| damage(body, at, byte, how));
        let mut rows = Rows::new();
        try_decode(Signal::Traces, Encoding::Protobuf, &traces.encode_to_vec(), &mut rows).expect("decodes");
        let (before, blocks) = (encoded(&rows), rows.blocks());
        if let Ok(tally) = try_decode(signal, encoding, &damaged, &mut rows) {
            prop_assert!(tally.others.iter().map(|(.., count)| count).sum::<u64>() <= tally.received);
        } else {
            prop_assert_eq!(rows.blocks(), blocks);
            prop_assert_eq!(encoded(&rows), before);
        }
        // Whatever happened, the rows go on working, and what is decoded next is whole.
        let tally = try_decode(Signal::Logs, Encoding::Protobuf, &logs.encode_to_vec(), &mut rows).expect("decodes");
        prop_assert_eq!(tally.kept(), 12);
        for (_, block) in encoded(&rows) {
            native::read(&block);
        }
    }

    #[test]
    fn garbage_never_panics(signal in prop::sample::select(Signal::ALL), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut rows = Rows::new();
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            if try_decode(signal, encoding, &body, &mut rows).is_err() {
                prop_assert!(rows.is_empty());
            }
            rows.clear();
        }
    }
}
