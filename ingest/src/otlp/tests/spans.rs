//! Checklist E and F for spans.

use super::*;
use crate::identity::IdDomain;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::Event};
use serde_json::json;

fn sample(span: Span) -> Row {
    let (tally, rows) = both(Signal::Traces, &traces(vec![span]));
    assert_eq!((tally.received, tally.kept()), (1, 1), "{tally:?}");
    table(&rows, Table::QuerySamples).remove(0)
}

fn request(attributes: Vec<KeyValue>) -> Row {
    let (tally, rows) = both(Signal::Traces, &traces(vec![span(2, attributes)]));
    assert_eq!((tally.received, tally.kept()), (1, 1), "{tally:?}");
    table(&rows, Table::Requests).remove(0)
}

fn failed(mut span: Span) -> Span {
    span.status = Some(Status { code: 2, message: "secret 4711".to_owned() });
    span
}

fn exception(kind: &str) -> Event {
    Event { name: "exception".to_owned(), attributes: vec![kv("exception.type", kind)], ..Event::default() }
}

#[test]
fn e6_only_database_spans_and_requests_are_kept_by_kind() {
    for (kind, kept) in [(0, true), (1, true), (2, false), (3, true), (4, false), (5, false), (77, false)] {
        let request = traces(vec![Span { kind, ..query_span(vec![]) }]);
        let (tally, rows) = both(Signal::Traces, &request);
        assert_eq!(table(&rows, Table::QuerySamples).len(), usize::from(kept), "{kind}");
        assert_eq!(tally.of(Fate::Ignored), u64::from(!kept));
        assert_eq!((tally.refused(), &tally.first_problem), (0, &None), "nothing is wrong with it");
    }
}

#[test]
fn e6_f10_a_sample_has_its_times_ids_and_status() {
    let row = sample(query_span(vec![kv("user.id", "ann"), kv("db.response.returned_rows", 12)]));
    assert_eq!(row["time"], (RECEIVED_NS - 2_000_000_001).cast_signed());
    assert_eq!(row["duration_ns"], 1_000_000_001_u64);
    assert_eq!(
        (&row["failed"], &row["rows"], &row["source"], &row["weight"]),
        (&json!(false), &json!(12), &json!("span"), &json!(1.0))
    );
    assert_eq!(
        (&row["trace_id"], &row["span_id"]),
        (&json!("0102030405060708090a0b0c0d0e0f10"), &json!(0x0102_0304_0506_0708_u64))
    );
    assert_eq!(row["unit"], hash(crate::identity::IdDomain::User, "ann"));
    assert_eq!(sample(query_span(vec![]))["rows"], -1);
}

#[test]
fn e7_a_span_that_ends_before_it_starts_lasts_0() {
    let span = Span { end_time_unix_nano: 1, ..query_span(vec![]) };
    assert_eq!(sample(span)["duration_ns"], 0);
    let span = Span { start_time_unix_nano: 0, ..query_span(vec![]) };
    assert_eq!(sample(span)["duration_ns"], 0);
}

#[test]
fn f1_a_database_span_without_text_is_no_query() {
    for attributes in [
        vec![kv("db.system.name", "postgresql")],
        vec![kv("db.system", "postgresql"), kv("db.query.text", "")],
        vec![kv("db.query.text", "SELECT 1")],
    ] {
        assert_eq!(fate(Signal::Traces, &traces(vec![span(3, attributes)])), (Fate::Ignored, Reason::SpanNotKept));
    }
}

#[test]
fn f2_f3_old_names_read_the_same_and_stable_ones_win() {
    let stable = vec![kv("db.system.name", "mysql"), kv("db.query.text", "SELECT 1 FROM a"), kv("db.namespace", "n")];
    let old = vec![kv("db.system", "mysql"), kv("db.statement", "SELECT 1 FROM a"), kv("db.name", "n")];
    let expected = sample(span(3, stable.clone()));
    assert_eq!(sample(span(3, old)), expected);
    let wrong = vec![kv("db.system", "redis"), kv("db.statement", "SELECT 2 FROM b"), kv("db.name", "m")];
    assert_eq!(sample(span(3, [wrong.clone(), stable.clone()].concat())), expected);
    let (_, rows) = both(Signal::Traces, &traces(vec![span(3, [stable, wrong].concat())]));
    assert_eq!(table(&rows, Table::QuerySamples), [expected], "counted once");
}

#[test]
fn f5_f9_f11_fingerprint_and_summary_come_from_the_text() {
    let texts =
        ["SELECT * FROM users WHERE id = 7", "SELECT * FROM users WHERE id = $1", "select * from users where id=%s"];
    let spans = texts.map(|text| span(3, vec![kv("db.system", "postgresql"), kv("db.query.text", text)]));
    let (tally, rows) = both(Signal::Traces, &traces(spans.to_vec()));
    assert_eq!(tally.kept(), 3);
    let samples = table(&rows, Table::QuerySamples);
    let expected = gemba::query::fingerprint(gemba::query::Dialect::Postgres, texts[0]);
    assert!(samples.iter().all(|row| row["fingerprint"] == expected.hash));
    let stored = table(&rows, Table::QueryTexts);
    assert_eq!(stored.len(), 1, "a text is written once");
    assert_eq!((&stored[0]["text"], &stored[0]["summary"]), (&json!(expected.text), &json!("SELECT users")));
    assert_eq!((&stored[0]["record"], &stored[0]["fingerprint"]), (&json!(0), &json!(expected.hash)));
    assert!(!stored[0]["text"].as_str().is_some_and(|text| text.contains('7')), "no literal is stored");
    let block = rows.blocks().into_iter().find(|block| block.table == Table::QueryTexts).expect("a block");
    assert_eq!((block.rows, block.records), (1, 0));
}

#[test]
fn f6_renamed_systems_read_under_their_stable_names() {
    for (old, stable) in [
        ("mssql", "microsoft.sql_server"),
        ("oracle", "oracle.db"),
        ("dynamodb", "aws.dynamodb"),
        ("other_sql", "other_sql"),
    ] {
        let row = sample(span(3, vec![kv("db.system", old), kv("db.statement", "SELECT 1")]));
        assert_eq!(row["system"], stable);
    }
}

#[test]
fn f7_the_namespace_is_kept_as_sent() {
    assert_eq!(sample(query_span(vec![kv("db.namespace", "shop|public")]))["namespace"], "shop|public");
}

#[test]
fn f8_a_failure_is_named_by_type_then_status_then_exception() {
    let error = |span| sample(span)["error_type"].clone();
    let status = || kv("db.response.status_code", "42000/1071");
    assert_eq!(error(query_span(vec![kv("error.type", "Timeout"), status()])), "Timeout");
    assert_eq!(error(failed(query_span(vec![status()]))), "42000/1071");
    let unique = Span { events: vec![exception("First"), exception("UniqueViolation")], ..failed(query_span(vec![])) };
    assert_eq!(error(unique), "UniqueViolation");
    assert_eq!(error(failed(query_span(vec![]))), "_OTHER");
    let fine = Span { events: vec![exception("Handled")], ..query_span(vec![kv("db.response.status_code", "00000")]) };
    let row = sample(fine);
    assert_eq!((&row["error_type"], &row["failed"]), (&json!(""), &json!(false)));
}

#[test]
fn a_sample_of_our_sdk_keeps_its_fingerprint_and_context() {
    let row = sample(query_span(vec![
        kv("gemba.query.fingerprint", "00000000000000ff"),
        kv("gemba.query.sample", "slow"),
        kv("gemba.feature.name", "search"),
        kv("gemba.funnel.name", "checkout"),
        kv("gemba.step.name", "pay"),
        kv("gemba.attempt.id", "a1"),
        kv("code.file.path", "src/db.rs"),
        kv("code.line.number", 9),
        kv("gemba.tenant", "acme"),
    ]));
    assert_eq!((&row["fingerprint"], &row["source"], &row["sample"]), (&json!(255), &json!("sdk"), &json!("slow")));
    assert_eq!((&row["feature"], &row["funnel_step"]), (&json!("search"), &json!("checkout.pay")));
    assert_eq!((&row["code"], &row["tenant"]), (&json!("src/db.rs:9"), &json!("acme")));
    let (_, rows) = both(Signal::Traces, &traces(vec![query_span(vec![kv("gemba.query.fingerprint", "other")])]));
    assert_eq!(table(&rows, Table::QuerySamples)[0]["fingerprint"], 0);
    assert!(table(&rows, Table::QueryTexts).is_empty(), "the SDK declares its texts itself");
    let broken = traces(vec![query_span(vec![kv("gemba.query.fingerprint", "zz")])]);
    assert_eq!(fate(Signal::Traces, &broken), (Fate::SetAside, Reason::InvalidAttribute));
}

#[test]
fn a_server_span_is_a_request_under_old_and_new_names() {
    let row = request(vec![
        kv("http.route", "/cart/{id}"),
        kv("http.request.method", "GET"),
        kv("http.response.status_code", 404),
    ]);
    assert_eq!(
        (&row["route"], &row["method"], &row["status_code"]),
        (&json!("/cart/{id}"), &json!("GET"), &json!(404))
    );
    assert_eq!((&row["failed"], &row["error_type"]), (&json!(false), &json!("")));
    let row =
        request(vec![kv("http.target", "/cart/17?key=secret"), kv("http.method", "PUT"), kv("http.status_code", 502)]);
    assert_eq!((&row["route"], &row["method"], &row["status_code"]), (&json!("/cart/*"), &json!("PUT"), &json!(502)));
    assert_eq!((&row["failed"], &row["error_type"]), (&json!(true), &json!("502")));
    let no_route = traces(vec![span(2, vec![kv("rpc.system", "grpc")])]);
    assert_eq!(fate(Signal::Traces, &no_route), (Fate::Ignored, Reason::SpanNotKept));
}

fn evaluation(name: &str, variant: &str) -> Event {
    let attributes = vec![kv("feature_flag.key", "f"), kv("feature_flag.variant", variant)];
    Event { name: name.to_owned(), time_unix_nano: RECEIVED_NS - 1_000_000, attributes, ..Event::default() }
}

#[test]
fn g4_evaluations_told_as_events_of_any_span_are_records_of_their_own_about_whom_it_is_about() {
    let events =
        vec![evaluation("feature_flag", "on"), exception("Handled"), evaluation("feature_flag.evaluation", "off")];
    let attributes = vec![kv("user.id", "ann"), kv("http.route", "/cart")];
    let (tally, rows) = both(Signal::Traces, &traces(vec![Span { events, ..span(5, attributes) }]));
    assert_eq!((tally.received, tally.kept(), tally.of(Fate::Ignored)), (3, 2, 1), "{tally:?}");
    let found = table(&rows, Table::Events);
    let variants: Vec<_> = found.iter().map(|row| row["strings"]["feature_flag.result.variant"].clone()).collect();
    assert_eq!(variants, ["on", "off"]);
    for row in &found {
        assert_eq!(
            (&row["name"], &row["unit"]),
            (&json!("feature_flag.evaluation"), &json!(hash(IdDomain::User, "ann")))
        );
        assert_eq!(row["trace_id"], "0102030405060708090a0b0c0d0e0f10");
        assert_eq!((&row["strings"]["feature_flag.key"], row["strings"].get("http.route")), (&json!("f"), None));
    }
}

#[test]
fn g4_an_evaluation_that_is_set_aside_is_shown_and_cannot_be_sent_again() {
    let event = Event { time_unix_nano: u64::MAX, ..evaluation("feature_flag", "on") };
    let (tally, rows) = both(Signal::Traces, &traces(vec![Span { events: vec![event], ..query_span(vec![]) }]));
    assert_eq!((tally.received, tally.kept(), tally.of(Fate::SetAside)), (2, 1, 1), "{tally:?}");
    let aside = table(&rows, Table::SetAside).remove(0);
    assert_eq!((&aside["context"], &aside["reason"]), (&json!(""), &json!("time_out_of_range")));
    let shown: serde_json::Value = serde_json::from_str(aside["body"].as_str().unwrap()).unwrap();
    assert_eq!((&shown["name"], shown["attributes"].as_array().unwrap().len()), (&json!("feature_flag"), 2));
}

#[test]
fn g4_a_request_that_was_counted_without_them_is_read_without_them() {
    let request = traces(vec![Span { events: vec![evaluation("feature_flag", "on")], ..query_span(vec![]) }]);
    let (ids, mut rows) = (ids(), Rows::new());
    let (project, retention_class, received_ms) = (ProjectId(5), 2, RECEIVED_MS);
    let origin = Origin { project, retention_class, received_ms, ids: &ids, reads_span_events: false };
    let tally = decode(Signal::Traces, Encoding::Protobuf, &request.encode_to_vec(), &origin, &mut rows).unwrap();
    assert_eq!((tally.received, tally.kept(), table(&rows, Table::Events).len()), (1, 1, 0));
}
