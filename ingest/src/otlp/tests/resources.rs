//! Checklist E: resource and scope.

use super::*;
use crate::identity::IdDomain;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde_json::json;

fn under(attributes: Vec<KeyValue>) -> (Row, Row) {
    let resource = Resource { attributes, ..Resource::default() };
    let (_, rows) = both(Signal::Logs, &logs_of(Some(resource), vec![record("e", vec![])]));
    (table(&rows, Table::Events).remove(0), table(&rows, Table::Resources).remove(0))
}

#[test]
fn e1_a_service_without_name_is_unknown_service() {
    assert_eq!(under(vec![]).0["service"], "unknown_service");
    assert_eq!(under(vec![kv("service.name", "")]).0["service"], "unknown_service");
    assert_eq!(under(vec![kv("service.name", "unknown_service:python")]).0["service"], "unknown_service:python");
}

#[test]
fn e2_old_and_new_names_of_the_environment() {
    assert_eq!(under(vec![kv("deployment.environment", "old")]).0["environment"], "old");
    let both_names = vec![kv("deployment.environment.name", "new"), kv("deployment.environment", "old")];
    assert_eq!(under(both_names).0["environment"], "new");
}

#[test]
fn e3_the_same_name_in_two_namespaces_is_two_services() {
    let (event, resource) = under(vec![kv("service.name", "api"), kv("service.namespace", "shop")]);
    assert_eq!((&event["service"], &resource["service"]), (&json!("shop/api"), &json!("shop/api")));
}

#[test]
fn e4_scopes_belong_to_the_records_under_them() {
    let scope_logs = |name: &str, value: &str| {
        let mut scope = scope();
        scope.name = name.to_owned();
        scope.attributes = vec![kv("k", value), kv("only", "scope")];
        ScopeLogs {
            scope: Some(scope),
            log_records: vec![record("e", vec![kv("k", "record")]), record("f", vec![])],
            schema_url: String::new(),
        }
    };
    let mut request = logs(vec![]);
    request.resource_logs[0].scope_logs = vec![scope_logs("one", "1"), scope_logs("two", "2")];
    let (_, rows) = both(Signal::Logs, &request);
    let strings: Vec<_> = table(&rows, Table::Events).into_iter().map(|mut row| row["strings"].take()).collect();
    let expected =
        |scope: &str, k: &str| json!({"otel.scope.name": scope, "otel.scope.version": "9", "k": k, "only": "scope"});
    assert_eq!(
        strings,
        // By name.
        [expected("one", "record"), expected("two", "record"), expected("one", "1"), expected("two", "2")]
    );
}

#[test]
fn e5_the_schema_url_is_kept_with_the_resource() {
    let mut request = logs(vec![record("e", vec![])]);
    request.resource_logs[0].schema_url = "https://opentelemetry.io/schemas/1.44.0".to_owned();
    let (_, rows) = both(Signal::Logs, &request);
    assert_eq!(
        table(&rows, Table::Resources)[0]["attributes"]["otel.schema_url"],
        "https://opentelemetry.io/schemas/1.44.0"
    );
}

#[test]
fn a_resource_is_its_attributes_in_any_order_without_the_time_of_sending() {
    let base = under(vec![kv("a", "1"), kv("b", 2), kv("gemba.sent_time", 5)]).1;
    assert_eq!(base["attributes"], json!({"a": "1", "b": "2"}));
    assert_eq!(under(vec![kv("b", 2), kv("a", "1"), kv("gemba.sent_time", 6)]).1["resource"], base["resource"]);
    assert_eq!(
        under(vec![kv("b", 3), kv("b", 2), kv("a", "1")]).1["resource"],
        base["resource"],
        "the last of equal keys"
    );
    assert_ne!(under(vec![kv("b", "2"), kv("a", "1")]).1["resource"], base["resource"]);
    assert_ne!(under(vec![kv("a", "1")]).1["resource"], base["resource"]);
}

#[test]
fn a_resource_is_written_once_and_read_wherever_it_stands() {
    let mut request = logs(vec![record("e", vec![])]);
    request.resource_logs.push(request.resource_logs[0].clone());
    let (_, rows) = both(Signal::Logs, &request);
    assert_eq!(table(&rows, Table::Resources).len(), 1);
    // Field 2 (scope_logs) before field 1 (resource), as the wire allows.
    let ResourceLogs { resource, scope_logs, .. } = request.resource_logs[0].clone();
    let part = |resource, scope_logs| ResourceLogs { resource, scope_logs, schema_url: String::new() }.encode_to_vec();
    let swapped = [part(None, scope_logs), part(resource, vec![])].concat();
    let mut body = Vec::new();
    wire::put_bytes(1, &swapped, &mut body);
    let mut swapped = Rows::new();
    try_decode(Signal::Logs, Encoding::Protobuf, &body, &mut swapped).expect("decodes");
    assert_eq!(table(&swapped, Table::Events)[0], table(&rows, Table::Events)[0]);
}

#[test]
fn identity_on_the_resource_holds_for_records_that_name_none() {
    let resource = Resource {
        attributes: vec![kv("session.id", "s"), kv("user.id", "ann"), kv("gemba.tenant", "acme")],
        ..Resource::default()
    };
    let records = vec![record("e", vec![]), record("e", vec![kv("user.id", "bob"), kv("gemba.tenant", "other")])];
    let (_, rows) = both(Signal::Logs, &logs_of(Some(resource), records));
    let events = table(&rows, Table::Events);
    assert_eq!((&events[0]["unit"], &events[0]["tenant"]), (&json!(hash(IdDomain::User, "ann")), &json!("acme")));
    assert_eq!((&events[1]["unit"], &events[1]["tenant"]), (&json!(hash(IdDomain::User, "bob")), &json!("other")));
    assert_eq!(events[1]["session"], hash(IdDomain::Session, "s"));
}

/// What a gateway puts into one request comes from many senders.
#[test]
fn records_of_a_resource_or_scope_that_cannot_be_used_are_set_aside_and_those_of_others_are_kept() {
    let many = |count: usize| (0..count).map(|number| kv(&format!("k{number}"), "v")).collect::<Vec<_>>();
    let deep = (0..70).fold(kv("k", "v").value.unwrap(), |inner, _| array_of(inner));
    let bad: [(Vec<KeyValue>, &str, &str); 3] = [
        (many(600), "too_large", "its resource"),
        (vec![kv("huge", "x".repeat(2 << 20).as_str())], "too_large", "its resource"),
        (
            vec![KeyValue { key: "deep".to_owned(), value: Some(deep), ..KeyValue::default() }],
            "too_deep",
            "its resource",
        ),
    ];
    for (attributes, reason, detail) in bad {
        let mut request = logs(vec![record("good", vec![])]);
        let resource = Some(Resource { attributes, ..Resource::default() });
        let scope_logs = vec![ScopeLogs { log_records: vec![record("bad", vec![]); 2], ..ScopeLogs::default() }];
        request.resource_logs.insert(0, ResourceLogs { resource, scope_logs, ..ResourceLogs::default() });
        let mut rows = Rows::new();
        let tally = try_decode(Signal::Logs, Encoding::Protobuf, &request.encode_to_vec(), &mut rows).unwrap();
        assert_eq!((tally.received, tally.kept()), (3, 1), "{reason}");
        assert_eq!(table(&rows, Table::Events)[0]["name"], "good");
        let aside = table(&rows, Table::SetAside);
        assert_eq!((aside.len(), &aside[0]["reason"]), (2, &json!(reason)), "{aside:?}");
        assert!(aside[0]["detail"].as_str().unwrap().contains(detail), "{aside:?}");
    }
    // Bytes that are no UTF-8, in the resource and in the scope's name: found and put in place of the text.
    for marker in ["badresource", "badscope"] {
        let mut request = logs(vec![record("bad", vec![])]);
        request.resource_logs[0].resource.get_or_insert_default().attributes.push(kv("marker", "badresource"));
        request.resource_logs[0].scope_logs[0].scope.get_or_insert_default().name = "badscope".to_owned();
        let mut body = request.encode_to_vec();
        let at = body.windows(marker.len()).position(|window| window == marker.as_bytes()).unwrap();
        body[at] = 0xff;
        body.extend(logs(vec![record("good", vec![])]).encode_to_vec());
        let mut rows = Rows::new();
        let tally = try_decode(Signal::Logs, Encoding::Protobuf, &body, &mut rows).unwrap();
        assert_eq!((tally.received, tally.kept()), (2, 1), "{marker}");
        assert_eq!(table(&rows, Table::SetAside)[0]["reason"], "invalid_utf8", "{marker}");
    }
    // The same for spans and data points.
    let (_, mut traces, mut metrics) = everything();
    let huge = Resource { attributes: many(600), ..Resource::default() };
    (traces.resource_spans[0].resource, metrics.resource_metrics[0].resource) = (Some(huge.clone()), Some(huge));
    for (signal, body) in [(Signal::Traces, traces.encode_to_vec()), (Signal::Metrics, metrics.encode_to_vec())] {
        let mut rows = Rows::new();
        let tally = try_decode(signal, Encoding::Protobuf, &body, &mut rows).unwrap();
        assert!(tally.received > 0 && tally.kept() == 0, "{signal:?}");
        assert_eq!(table(&rows, Table::SetAside).len() as u64, tally.received, "{signal:?}");
    }
}

fn array_of(inner: AnyValue) -> AnyValue {
    let values = vec![inner];
    AnyValue { value: Some(any_value::Value::ArrayValue(ArrayValue { values })) }
}

#[test]
fn e13_table_indexes_for_strings_are_unknown_outside_profiles() {
    // AnyValue field 8 (string_value_strindex) and KeyValue field 3 (key_strindex).
    let mut value = Vec::new();
    wire::put_tag(8, 0, &mut value);
    wire::put_varint(3, &mut value);
    assert_eq!(value::Value::read(&value), Ok(value::Value::Empty));
}
