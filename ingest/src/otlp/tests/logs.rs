//! Checklist D and G, and our own records.

use super::*;
use crate::identity::IdDomain;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
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

#[test]
fn d2_the_attribute_event_name_names_a_record_only_without_the_field() {
    let row = event(record("", vec![kv("event.name", "old.name"), kv("a", 1)]));
    assert_eq!((&row["name"], &row["strings"]), (&json!("old.name"), &json!({})));
    let row = event(record("new.name", vec![kv("event.name", "old.name")]));
    assert_eq!((&row["name"], &row["strings"]), (&json!("new.name"), &json!({"event.name": "old.name"})));
    let row = event(record("same", vec![kv("event.name", "same")]));
    assert_eq!((&row["name"], &row["strings"]), (&json!("same"), &json!({})));
}

#[test]
fn d3_the_time_is_observed_or_received_where_it_is_unknown() {
    let at = |time, observed| {
        let (time_unix_nano, observed_time_unix_nano) = (time, observed);
        event(opentelemetry_proto::tonic::logs::v1::LogRecord {
            time_unix_nano,
            observed_time_unix_nano,
            ..record("e", vec![])
        })["time"]
            .clone()
    };
    assert_eq!(at(RECEIVED_NS - 5_000_000_000, RECEIVED_NS), RECEIVED_MS - 5000);
    assert_eq!(at(0, RECEIVED_NS - 3_000_000_000), RECEIVED_MS - 3000);
    assert_eq!(at(0, 0), RECEIVED_MS);
    assert_eq!(at(1, 0), 0);
}

#[test]
fn a_time_too_far_ahead_is_replaced_by_receipt_and_kept_beside() {
    let mut late = record("e", vec![]);
    late.time_unix_nano = RECEIVED_NS + 600_000_000_000;
    let row = event(late.clone());
    assert_eq!((&row["time"], &row["flags"], &row["numbers"]), (&json!(RECEIVED_MS + 600_000), &json!(0), &json!({})));
    late.time_unix_nano += 1_000_000;
    let row = event(late.clone());
    assert_eq!((&row["time"], &row["flags"]), (&json!(RECEIVED_MS), &json!(1)));
    assert_eq!(row["numbers"], json!({"gemba.time_sent_ms": (RECEIVED_MS + 600_001) as f64}));
    assert_eq!(row["day"], RECEIVED_MS / 86_400_000);
    late.time_unix_nano = u64::MAX;
    assert_eq!(fate(Signal::Logs, &logs(vec![late])), (Fate::SetAside, Reason::TimeOutOfRange));
}

#[test]
fn d4_a_body_of_any_kind_is_kept_as_the_attribute_body() {
    let with = |body: opentelemetry_proto::tonic::common::v1::AnyValue, attributes| {
        event(opentelemetry_proto::tonic::logs::v1::LogRecord { body: Some(body), ..record("e", attributes) })
    };
    assert_eq!(with("text".any(), vec![])["strings"], json!({"body": "text"}));
    assert_eq!(with(7.any(), vec![])["numbers"], json!({"body": 7.0}));
    assert_eq!(with(true.any(), vec![])["bools"], json!({"body": true}));
    assert_eq!(with(vec![kv("a", 1)].any(), vec![])["strings"], json!({"body": "{\"a\":1}"}));
    assert_eq!(with(array([1, 2]), vec![])["strings"], json!({"body": "[1,2]"}));
    assert_eq!(with((&b"ab"[..]).any(), vec![])["strings"], json!({"body": "YWI="}));
    assert_eq!(with(AnyValue::default(), vec![])["strings"], json!({}));
    assert_eq!(with("text".any(), vec![kv("body", "attribute")])["strings"], json!({"body": "attribute"}));
}

#[test]
fn d5_severity_is_kept_where_it_is_given() {
    for (number, expected) in
        [(0, json!({})), (9, json!({"severity_number": 9.0})), (25, json!({"severity_number": 25.0}))]
    {
        let row = event(LogRecord { severity_number: number, ..record("e", vec![]) });
        assert_eq!(row["numbers"], expected);
    }
    let row = event(LogRecord { severity_text: "notice".to_owned(), ..record("e", vec![]) });
    assert_eq!(row["strings"], json!({"severity_text": "notice"}));
}

#[test]
fn d6_flags_beyond_the_trace_flags_change_nothing() {
    let plain = event(LogRecord { flags: 1, ..record("e", vec![]) });
    assert_eq!(event(LogRecord { flags: 0x101, ..record("e", vec![]) }), plain);
    assert_eq!(plain["flags"], 0);
}

#[test]
fn d7_c8_a_trace_context_counts_only_with_valid_ids() {
    let with = |trace_id: Vec<u8>, span_id: Vec<u8>| {
        let row = event(LogRecord { trace_id, span_id, ..record("e", vec![]) });
        (row["trace_id"].clone(), row["span_id"].clone())
    };
    let trace: Vec<u8> = (1..=16).collect();
    let hex = json!("0102030405060708090a0b0c0d0e0f10");
    let none = json!("00000000000000000000000000000000");
    assert_eq!(with(trace.clone(), vec![0, 0, 0, 0, 0, 0, 1, 2]), (hex.clone(), json!(258)));
    assert_eq!(with(vec![], vec![]), (none.clone(), json!(0)));
    assert_eq!(with(vec![0; 16], vec![1; 8]), (none.clone(), json!(0)));
    assert_eq!(with(vec![1; 15], vec![1; 8]), (none, json!(0)));
    assert_eq!(with(trace, vec![1; 7]), (hex, json!(0)));
}

#[test]
fn d8_of_equal_keys_the_last_wins_whatever_its_type() {
    let row = event(record("e", vec![kv("a", "text"), kv("b", 1), kv("a", 2.5), kv("b", true), kv("b", "end")]));
    assert_eq!(row["strings"], json!({"b": "end"}));
    assert_eq!(row["numbers"], json!({"a": 2.5}));
    assert_eq!(row["bools"], json!({}));
    let many: Vec<_> = (0..40).map(|n| kv(&format!("k{}", n % 20), n)).collect();
    assert_eq!(event(record("e", many))["numbers"]["k3"], 23.0);
}

#[test]
fn d9_a_name_beyond_256_bytes_is_set_aside_with_the_record() {
    assert_eq!(event(record(&"n".repeat(256), vec![]))["kind"], "event");
    let request = logs(vec![record(&"n".repeat(257), vec![])]);
    assert_eq!(fate(Signal::Logs, &request), (Fate::SetAside, Reason::EventNameTooLong));
    let (tally, rows) = both(Signal::Logs, &request);
    let aside = &table(&rows, Table::SetAside)[0];
    assert_eq!((&aside["reason"], &aside["signal"]), (&json!("event_name_too_long"), &json!("logs")));
    let body: Json = serde_json::from_str(aside["body"].as_str().expect("text")).expect("JSON");
    assert_eq!(body, json!({"timeUnixNano": (RECEIVED_NS - 1_500_000).to_string(), "eventName": "n".repeat(257)}));
    assert!(tally.first_problem.expect("a problem").contains("log record 1: event_name_too_long"));
}

#[test]
fn d10_d11_an_exception_event_keeps_its_attributes_and_a_nameless_one_is_no_event() {
    let attributes = || vec![kv("exception.type", "ValueError"), kv("exception.message", "bad")];
    let row = event(record("exception", attributes()));
    assert_eq!(row["strings"], json!({"exception.type": "ValueError", "exception.message": "bad"}));
    assert_eq!(fate(Signal::Logs, &logs(vec![record("", attributes())])), (Fate::Rejected, Reason::MissingEventName));
}

#[test]
fn g1_session_events_are_kept_with_both_ids() {
    let row = event(record("session.start", vec![kv("session.id", "new"), kv("session.previous_id", "old")]));
    assert_eq!((&row["name"], &row["session"]), (&json!("session.start"), &json!(hash(IdDomain::Session, "new"))));
    assert_eq!(row["strings"], json!({"session.previous_id": "old"}));
}

#[test]
fn g2_the_user_is_user_id_before_enduser_id_before_the_pseudonym_before_the_session() {
    let mut ids = vec![
        ("gemba.anonymous.id", IdDomain::Anonymous),
        ("session.id", IdDomain::Session),
        ("enduser.pseudo.id", IdDomain::User),
        ("enduser.id", IdDomain::User),
        ("user.id", IdDomain::User),
    ];
    while let Some((best, domain)) = ids.last().copied() {
        let row = event(record("e", ids.iter().map(|(key, _)| kv(key, *key)).collect()));
        assert_eq!(row["unit"], hash(domain, best), "{best}");
        assert_eq!(row["strings"], json!({}), "ids are columns, not attributes");
        ids.pop();
    }
    assert_eq!(event(record("e", vec![]))["unit"], 0);
    assert_eq!(event(record("e", vec![kv("user.id", 7)]))["unit"], hash(IdDomain::User, "7"));
    assert_eq!(event(record("e", vec![kv("user.id", "")]))["unit"], 0);
}

#[test]
fn every_unit_is_named_once() {
    let of = |user| record("e", vec![kv("user.id", user), kv("session.id", "s")]);
    let (_, rows) = both(Signal::Logs, &logs(vec![of("ann"), of("bob"), of("ann")]));
    let units: Vec<_> =
        table(&rows, Table::Units).into_iter().map(|row| (row["kind"].clone(), row["id"].clone())).collect();
    assert_eq!(units, [(json!("session"), json!("s")), (json!("user"), json!("ann")), (json!("user"), json!("bob"))]);
}

#[test]
fn g3_g4_feature_flag_evaluations_read_the_same_under_old_names() {
    let row = event(record(
        "feature_flag.evaluation",
        vec![
            kv("feature_flag.key", "f"),
            kv("feature_flag.variant", "b"),
            kv("feature_flag.provider_name", "p"),
            kv("feature_flag.evaluation.reason", "split"),
        ],
    ));
    let expected = json!({
        "feature_flag.key": "f",
        "feature_flag.result.variant": "b",
        "feature_flag.provider.name": "p",
        "feature_flag.result.reason": "split",
    });
    assert_eq!(row["strings"], expected);
    let both_names = vec![kv("feature_flag.variant", "old"), kv("feature_flag.result.variant", "new")];
    let row = event(record("feature_flag.evaluation", both_names));
    assert_eq!(row["strings"]["feature_flag.result.variant"], "new");
}

#[test]
fn g5_every_evaluation_is_a_row_of_its_own() {
    let same = || record("feature_flag.evaluation", vec![kv("feature_flag.context.id", "ann")]);
    let (_, rows) = both(Signal::Logs, &logs(vec![same(), same()]));
    assert_eq!(table(&rows, Table::Events).len(), 2);
}

#[test]
fn g6_g7_any_name_is_as_good_as_a_conventional_one() {
    for name in ["app.widget.click", "browser.web_vital", "Seite Geöffnet!", "gemba.unheard.of"] {
        let row = event(record(name, vec![kv("app.widget.id", "w")]));
        assert_eq!(
            (&row["name"], &row["kind"], &row["strings"]),
            (&json!(name), &json!("event"), &json!({"app.widget.id": "w"}))
        );
    }
}

#[test]
fn g8_any_number_of_names_fits_a_block() {
    let names: Vec<_> = (0..70_000).map(|n| record(&format!("name{n:05}"), vec![])).collect();
    let mut rows = Rows::new();
    let body = logs(names).encode_to_vec();
    try_decode(Signal::Logs, Encoding::Protobuf, &body, &mut rows).expect("decodes");
    let events = table(&rows, Table::Events);
    for position in [0, 255, 256, 65_535, 65_536, 69_999] {
        assert_eq!(events[position]["name"], format!("name{position:05}"));
    }
}

#[test]
fn large_integers_keep_their_digits_beside_the_number() {
    let row = event(record("e", vec![kv("exact", 1_i64 << 53), kv("large", (1_i64 << 53) + 1)]));
    assert_eq!(row["numbers"], json!({"exact": 2_f64.powi(53), "large": 2_f64.powi(53)}));
    assert_eq!(row["strings"], json!({"large": "9007199254740993"}));
}

#[test]
fn attributes_beyond_512_keys_or_1_mib_set_the_record_aside() {
    let many = |count| record("e", (0..count).map(|n| kv(&format!("k{n}"), n)).collect());
    assert_eq!(event(many(512))["numbers"].as_object().map(Map::len), Some(512));
    assert_eq!(fate(Signal::Logs, &logs(vec![many(513)])), (Fate::SetAside, Reason::TooLarge));
    let large = record("e", vec![kv("k", &*"x".repeat(1 << 20))]);
    assert_eq!(fate(Signal::Logs, &logs(vec![large])), (Fate::SetAside, Reason::TooLarge));
}

#[test]
fn invalid_utf8_sets_only_that_record_aside() {
    let mut body = logs(vec![record("bad", vec![kv("key", "MARK")]), record("good", vec![])]).encode_to_vec();
    let at = body.windows(4).position(|window| window == b"MARK").expect("there");
    body[at] = 0xff;
    let mut rows = Rows::new();
    let tally = try_decode(Signal::Logs, Encoding::Protobuf, &body, &mut rows).expect("decodes");
    assert_eq!((tally.received, tally.of(Fate::SetAside), tally.kept()), (2, 1, 1));
    assert_eq!(table(&rows, Table::Events)[0]["name"], "good");
    assert_eq!(table(&rows, Table::SetAside)[0]["reason"], "invalid_utf8");
}

#[test]
fn seq_counts_only_beside_an_instance() {
    let with_seq = || record("e", vec![kv("gemba.seq", 42)]);
    assert_eq!(event(with_seq())["seq"], 42);
    let (_, rows) = both(Signal::Logs, &logs_of(None, vec![with_seq()]));
    let row = &table(&rows, Table::Events)[0];
    assert_eq!((&row["seq"], &row["instance"], &row["service"]), (&json!(0), &json!(0), &json!("unknown_service")));
}

#[test]
fn our_own_records_become_the_rows_they_mean() {
    let (request, ..) = everything();
    let (tally, rows) = both(Signal::Logs, &request);
    assert_eq!((tally.received, tally.kept(), tally.of(Fate::SetAside)), (13, 12, 1));
    let events = table(&rows, Table::Events);
    let kinds: Vec<_> = events.iter().map(|row| (row["kind"].as_str(), row["name"].as_str())).collect();
    // By name, as a block is written.
    let expected = [
        ("step", "checkout.pay"),
        ("event", "foreign \"event\" ü"),
        ("used", "search"),
        ("started", "search"),
        ("ended", "search"),
    ];
    assert_eq!(kinds, expected.map(|(kind, name)| (Some(kind), Some(name))));
    let ended = &events[4];
    assert_eq!((&ended["outcome"], &ended["outcome_inferred"]), (&json!("failed"), &json!(true)));
    assert_eq!((&ended["outcome_reason"], &ended["duration_ns"]), (&json!("timeout"), &json!(1_234_567)));
    assert_eq!((&ended["error_type"], &ended["seq"]), (&json!("Io"), &json!(42)));
    assert_eq!(ended["attempt"], events[3]["attempt"]);
    assert_eq!(ended["attempt"], hash(IdDomain::Attempt, "a1"));
    let links: Vec<_> = table(&rows, Table::IdentityLinks)
        .iter()
        .map(|row| (row["anonymous"].clone(), row["person"].clone(), row["record"].clone()))
        .collect();
    let person = json!(hash(IdDomain::User, "ann"));
    let (session, device) = (hash(IdDomain::Session, "s1"), hash(IdDomain::Anonymous, "d1"));
    assert_eq!(links, [(json!(session), person.clone(), json!(1)), (json!(device), person, json!(0))]);
    let properties = table(&rows, Table::Properties);
    assert_eq!((&properties[0]["subject"], &properties[0]["strings"]), (&json!("user"), &json!({"plan": "pro"})));
    assert_eq!((&properties[0]["numbers"], &properties[0]["bools"]), (&json!({"seats": 5.0}), &json!({"beta": false})));
    assert_eq!((&properties[1]["tenant"], &properties[1]["unit"]), (&json!("acme"), &json!(0)));
    let catalog = &table(&rows, Table::Catalog)[0];
    assert_eq!((&catalog["funnel"], &catalog["position"]), (&json!("checkout"), &json!(2)));
    assert_eq!((&catalog["was"], &catalog["code"]), (&json!("checkout.buy"), &json!("src/shop.rs:12")));
    let text = &table(&rows, Table::QueryTexts)[0];
    assert_eq!(
        (&text["fingerprint"], &text["version"], &text["name"]),
        (&json!(255), &json!(1), &json!("orders.by_user"))
    );
    let stopped = &table(&rows, Table::SdkReports)[0];
    assert_eq!(
        (&stopped["kind"], &stopped["records"], &stopped["unconfirmed"]),
        (&json!("stopped"), &json!(10), &json!(1))
    );
}

#[test]
fn a_usage_record_becomes_one_row_an_entry_and_counts_once() {
    let (tally, rows) = both(Signal::Logs, &logs(vec![usage()]));
    assert_eq!((tally.received, tally.kept()), (1, 1));
    let usage = table(&rows, Table::QueryUsage);
    let block = rows.blocks().into_iter().find(|block| block.table == Table::QueryUsage).expect("a block");
    assert_eq!((block.rows, block.records), (2, 1));
    let column = |name: &str| usage.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("fingerprint"), [json!(255), json!(0)]);
    assert_eq!(column("calls"), [json!(3), json!(4)]);
    assert_eq!(column("rows"), [json!(30), json!(0)]);
    assert_eq!(column("errors"), [json!(0), json!(1)]);
    assert_eq!(column("code"), [json!("src/a.rs:7"), json!("")]);
    assert_eq!(column("funnel_step"), [json!("checkout.pay"), json!("checkout.pay")]);
    assert_eq!(column("record"), [json!(1), json!(0)]);
}

#[test]
fn our_own_records_are_set_aside_where_they_lack_what_they_need() {
    let feature = || kv("gemba.feature.name", "search");
    let missing = [
        record("gemba.feature.used", vec![]),
        record("gemba.feature.started", vec![feature()]),
        record("gemba.funnel.step", vec![kv("gemba.funnel.name", "f")]),
        record("gemba.identify", vec![kv("user.id", "ann")]),
        record("gemba.identify", vec![kv("session.id", "s")]),
        record("gemba.user.set", vec![kv("plan", "pro")]),
        record("gemba.tenant.set", vec![kv("plan", "pro")]),
        record("gemba.catalog", vec![kv("gemba.catalog.kind", "feature")]),
        record("gemba.query.usage", vec![]),
    ];
    let attempt = || kv("gemba.attempt.id", "a");
    let fingerprints = || kv("gemba.query.usage.fingerprints", array(["other"]));
    let invalid = [
        record("gemba.feature.used", vec![kv("gemba.feature.name", "Not Valid")]),
        record("gemba.feature.ended", vec![feature(), attempt()]),
        record("gemba.feature.ended", vec![feature(), attempt(), kv("gemba.outcome", "won")]),
        record("gemba.catalog", vec![kv("gemba.catalog.kind", "thing"), kv("gemba.catalog.name", "a")]),
        record("gemba.query.declared", vec![kv("gemba.query.fingerprint", "xyz")]),
        record("gemba.query.usage", vec![kv("gemba.query.usage.fingerprints", array(["+000000000000001"]))]),
        record("gemba.query.usage", vec![fingerprints(), kv("gemba.query.usage.calls", array([1, 2]))]),
        record("gemba.query.usage", vec![fingerprints(), kv("gemba.query.usage.calls", array([-1]))]),
    ];
    for (reason, records) in [(Reason::MissingAttribute, &missing[..]), (Reason::InvalidAttribute, &invalid[..])] {
        for record in records {
            assert_eq!(fate(Signal::Logs, &logs(vec![record.clone()])), (Fate::SetAside, reason), "{record:?}");
        }
    }
}

/// The containers kept beside each record set aside.
fn around(rows: &Rows) -> Vec<String> {
    let rows = table(rows, Table::SetAside);
    rows.iter().map(|row| row["context"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn many_small_records_set_aside_under_a_large_resource_keep_little_more_than_was_sent() {
    let poison = || LogRecord { event_name: "a".to_owned(), time_unix_nano: u64::MAX, ..LogRecord::default() };
    let large = "x".repeat(60_000);
    let resource = opentelemetry_proto::tonic::resource::v1::Resource {
        attributes: vec![kv("service.name", &*large)],
        ..opentelemetry_proto::tonic::resource::v1::Resource::default()
    };
    let request = logs_of(Some(resource), (0..10_000).map(|_| poison()).collect());
    let decoded = || {
        let mut rows = Rows::new();
        let tally = try_decode(Signal::Logs, Encoding::Protobuf, &request.encode_to_vec(), &mut rows).expect("decodes");
        assert_eq!(tally.of(Fate::SetAside), 10_000);
        rows
    };
    let (rows, body) = (decoded(), request.encoded_len());
    assert!(rows.bytes() < 20 * body, "{} bytes of rows from a body of {body}", rows.bytes());
    let kept: Vec<bool> = around(&rows).iter().map(|context| !context.is_empty()).collect();
    let whole = kept.iter().filter(|whole| **whole).count();
    assert!(whole > 10 && kept[..whole].iter().all(|whole| *whole), "the first are kept whole: {whole}");
    assert!(encoded(&rows) == encoded(&decoded()), "a replay gives the same rows");
}

#[test]
fn what_lies_around_a_record_set_aside_is_kept_as_it_was_read_in_pieces_and_each_record_with_its_own() {
    use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    let poison = || LogRecord { time_unix_nano: u64::MAX, ..record("a", vec![]) };
    let piece = |key: &str, scopes: &[&str], schema_url: &str| {
        let scope = |name: &&str| ScopeLogs {
            scope: Some(InstrumentationScope { name: (*name).to_owned(), ..InstrumentationScope::default() }),
            log_records: vec![poison()],
            schema_url: String::new(),
        };
        let resource = Resource { attributes: vec![kv(key, "v")], ..Resource::default() };
        let scope_logs = scopes.iter().map(scope).collect();
        ResourceLogs { resource: Some(resource), scope_logs, schema_url: schema_url.to_owned() }.encode_to_vec()
    };
    let mut body = Vec::new();
    // A message in two pieces is both of them merged, the resource in it as well.
    wire::put_bytes(1, &[piece("a", &["one"], "https://schema/1"), piece("b", &["two"], "")].concat(), &mut body);
    wire::put_bytes(1, &piece("c", &["three"], ""), &mut body);
    let mut rows = Rows::new();
    let tally = try_decode(Signal::Logs, Encoding::Protobuf, &body, &mut rows).expect("decodes");
    assert_eq!(tally.of(Fate::SetAside), 3);
    let contexts = around(&rows);
    let merged = r#"{"attributes":[{"key":"a","value":{"stringValue":"v"}},{"key":"b","value":{"stringValue":"v"}}]}"#;
    let third = r#"{"attributes":[{"key":"c","value":{"stringValue":"v"}}]}"#;
    for (context, resource, url, scope) in [
        (&contexts[0], merged, Some("https://schema/1"), "one"),
        (&contexts[1], merged, Some("https://schema/1"), "two"),
        (&contexts[2], third, None, "three"),
    ] {
        let request: Json = serde_json::from_str(&close_envelope(Signal::Logs, context, "{}")).expect("JSON");
        let container = &request["resourceLogs"][0];
        assert_eq!(container["resource"], serde_json::from_str::<Json>(resource).expect("JSON"), "{context}");
        assert_eq!(container["schemaUrl"].as_str(), url, "{context}");
        assert_eq!(container["scopeLogs"][0]["scope"]["name"], scope, "{context}");
    }
}
