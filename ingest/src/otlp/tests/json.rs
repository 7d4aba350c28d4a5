//! Checklist C: what is special about OTLP in JSON.

use super::*;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use serde_json::json;

fn json_rows(signal: Signal, body: &str) -> Result<(Tally, Rows), DecodeError> {
    let mut rows = Rows::new();
    try_decode(signal, Encoding::Json, body.as_bytes(), &mut rows).map(|tally| (tally, rows))
}

/// A log record in JSON, wrapped into a request.
fn wrapped(record: &str) -> String {
    format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}"#)
}

fn json_event(record: &str) -> Row {
    let (tally, rows) = json_rows(Signal::Logs, &wrapped(record)).expect("decodes");
    assert_eq!(tally.kept(), 1, "{tally:?}");
    table(&rows, Table::Events).remove(0)
}

/// One event with one attribute.
fn json_value(value: &str) -> Row {
    json_event(&format!(r#"{{"eventName":"e","attributes":[{{"key":"k","value":{value}}}]}}"#))
}

fn refused(body: &str) -> String {
    match json_rows(Signal::Logs, body) {
        Err(DecodeError::Json(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn c1_ids_are_hexadecimal_in_any_case() {
    let with =
        |trace: &str| json_event(&format!(r#"{{"eventName":"e","traceId":"{trace}","spanId":"00000000000001FF"}}"#));
    let row = with("5B8EFFF798038103D269B633813FC60C");
    assert_eq!(row["trace_id"], "5b8efff798038103d269b633813fc60c");
    assert_eq!(row["span_id"], 511);
    assert_eq!(with("5b8efff798038103d269b633813fc60c"), row);
    assert!(refused(&wrapped(r#"{"eventName":"e","traceId":"W47/95gDgQPSabYzgT/GDA=="}"#)).contains("traceId"));
    assert!(refused(&wrapped(r#"{"eventName":"e","traceId":"abc"}"#)).contains("hexadecimal"));
}

#[test]
fn c2_enums_are_integers_and_their_names_are_refused() {
    let message = refused(&wrapped(r#"{"eventName":"e","severityNumber":"SEVERITY_NUMBER_INFO"}"#));
    assert!(message.contains("severityNumber") && message.contains("integer"), "{message}");
    let body = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":"SPAN_KIND_CLIENT"}]}]}]}"#;
    assert!(matches!(json_rows(Signal::Traces, body), Err(DecodeError::Json(message)) if message.contains("kind")));
    assert_eq!(json_event(r#"{"eventName":"e","severityNumber":9}"#)["numbers"], json!({"severity_number": 9.0}));
}

#[test]
fn c3_64_bit_integers_keep_all_digits_as_strings_and_as_numbers() {
    let span = |time: &str| {
        format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"kind":3,"startTimeUnixNano":{time},"endTimeUnixNano":{time},
            "attributes":[{{"key":"db.system","value":{{"stringValue":"mysql"}}}},
            {{"key":"db.statement","value":{{"stringValue":"SELECT 1"}}}}]}}]}}]}}]}}"#
        )
    };
    for time in ["\"1700000000000000001\"", "1700000000000000001"] {
        let (_, rows) = json_rows(Signal::Traces, &span(time)).expect("decodes");
        assert_eq!(table(&rows, Table::QuerySamples)[0]["time"], 1_700_000_000_000_000_001_i64);
    }
    assert_eq!(json_value(r#"{"intValue":9007199254740993}"#)["strings"], json!({"k": "9007199254740993"}));
    assert_eq!(json_value(r#"{"intValue":"-9223372036854775808"}"#)["strings"], json!({"k": "-9223372036854775808"}));
    assert_eq!(json_value(r#"{"intValue":1e3}"#)["numbers"], json!({"k": 1000.0}));
    for bad in ["9223372036854775808", "\"1.5\"", "1.5", "\"+1\"", "true", "\"\""] {
        let body = wrapped(&format!(r#"{{"attributes":[{{"key":"k","value":{{"intValue":{bad}}}}}]}}"#));
        assert!(refused(&body).contains("intValue"), "{bad}");
    }
}

#[test]
fn c4_unknown_fields_are_ignored_at_every_depth() {
    let unknown = r#""futureField":{"a":[1,{"b":null}],"c":"}"},"#;
    let body = format!(
        r#"{{{unknown}"resourceLogs":[{{{unknown}"resource":{{{unknown}"attributes":[]}},"scopeLogs":[{{{unknown}"scope":
        {{{unknown}"name":"s"}},"logRecords":[{{{unknown}"eventName":"e","attributes":[{{{unknown}"key":"k","value":
        {{{unknown}"kvlistValue":{{{unknown}"values":[{{{unknown}"key":"x","value":{{{unknown}"intValue":1}}}}]}}}}}}]}}]}}]}}]}}"#
    );
    let (tally, rows) = json_rows(Signal::Logs, &body).expect("decodes");
    assert_eq!(tally.kept(), 1);
    assert_eq!(table(&rows, Table::Events)[0]["strings"]["k"], r#"{"x":1}"#);
}

#[test]
fn c5_snake_case_keys_are_unknown() {
    let body = wrapped(r#"{"event_name":"e"}"#);
    let (tally, _) = json_rows(Signal::Logs, &body).expect("decodes");
    assert_eq!(tally.others, [(Fate::Rejected, Reason::MissingEventName, 1)]);
    let (tally, _) = json_rows(Signal::Logs, r#"{"resource_logs":[{"scope_logs":[]}]}"#).expect("decodes");
    assert_eq!(tally.received, 0);
}

#[test]
fn c6_bytes_are_base64_and_doubles_may_be_words() {
    for text in ["+/8=", "+/8", "-_8=", "-_8"] {
        assert_eq!(json_value(&format!(r#"{{"bytesValue":"{text}"}}"#))["strings"], json!({"k": "+/8="}), "{text}");
    }
    for (value, read) in
        [("NaN", json!("NaN")), ("Infinity", json!("inf")), ("-Infinity", json!("-inf")), ("0.1", json!(0.1))]
    {
        assert_eq!(json_value(&format!(r#"{{"doubleValue":"{value}"}}"#))["numbers"]["k"], read);
    }
    assert_eq!(json_value(r#"{"doubleValue":0.1}"#)["numbers"]["k"], 0.1);
    assert_eq!(json_value(r#"{"doubleValue":3}"#)["numbers"]["k"], 3.0);
    for bad in
        [r#"{"doubleValue":"infinity"}"#, r#"{"bytesValue":"%"}"#, r#"{"boolValue":"true"}"#, r#"{"stringValue":1}"#]
    {
        refused(&wrapped(&format!(r#"{{"attributes":[{{"key":"k","value":{bad}}}]}}"#)));
    }
}

#[test]
fn c7_missing_and_null_mean_default_and_an_empty_value_is_no_error() {
    for value in ["{}", "null", r#"{"stringValue":null}"#, r#"{"arrayValue":null}"#] {
        assert_eq!(json_value(value)["strings"], json!({"k": ""}), "{value}");
    }
    let nulls =
        r#"{"eventName":"e","timeUnixNano":null,"body":null,"attributes":null,"traceId":null,"severityNumber":null}"#;
    assert_eq!(json_event(nulls), json_event(r#"{"eventName":"e"}"#));
    let body = r#"{"resourceLogs":[{"resource":null,"scopeLogs":[{"scope":null,"logRecords":null}]}]}"#;
    assert_eq!(json_rows(Signal::Logs, body).expect("decodes").0.received, 0);
    assert_eq!(
        json_value(r#"{"boolValue":false}"#)["bools"],
        json!({"k": false}),
        "a default inside a oneof is a value"
    );
    assert_eq!(json_value(r#"{"intValue":"0"}"#)["numbers"], json!({"k": 0.0}));
}

#[test]
fn c8_an_empty_id_is_no_id() {
    let row = json_event(r#"{"eventName":"e","traceId":"","spanId":""}"#);
    assert_eq!(row["trace_id"], "00000000000000000000000000000000");
}

#[test]
fn c9_depth_is_limited_alike_in_both_encodings() {
    let json = |depth: usize| {
        let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(depth), "]}}".repeat(depth));
        wrapped(&format!(r#"{{"eventName":"e","attributes":[{{"key":"k","value":{open}{close}}}]}}"#))
    };
    let nested =
        |depth: usize| (1..depth).fold(Vec::<AnyValue>::new().any(), |inner, _: usize| array([inner])).into_request();
    for depth in [1, 64] {
        let expected = "[".repeat(depth) + &"]".repeat(depth);
        let (_, rows) = json_rows(Signal::Logs, &json(depth)).expect("decodes");
        assert_eq!(table(&rows, Table::Events)[0]["strings"]["k"], expected);
        assert_eq!(table(&both(Signal::Logs, &nested(depth)).1, Table::Events)[0]["strings"]["k"], expected);
    }
    for depth in [65, 66, 10_000] {
        let (tally, _) = json_rows(Signal::Logs, &json(depth)).expect("decodes");
        assert_eq!(tally.others, [(Fate::SetAside, Reason::TooDeep, 1)], "{depth}");
    }
    let mut rows = Rows::new();
    let body = nested(65).encode_to_vec();
    let tally = try_decode(Signal::Logs, Encoding::Protobuf, &body, &mut rows).expect("decodes");
    assert_eq!(tally.others, [(Fate::SetAside, Reason::TooDeep, 1)]);
    // What is ignored may nest as deep as it likes.
    let deep = format!(r#"{{"future":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(json_rows(Signal::Logs, &deep).is_ok());
}

trait IntoRequest {
    fn into_request(self) -> ExportLogsServiceRequest;
}

impl IntoRequest for AnyValue {
    fn into_request(self) -> ExportLogsServiceRequest {
        logs(vec![record("e", vec![kv("k", self)])])
    }
}

#[test]
fn c10_a_byte_order_mark_and_a_newline_are_accepted_and_garbage_is_not() {
    assert!(json_rows(Signal::Logs, "\u{feff}{}\n").is_ok());
    for bad in ["", "{", "[]", "1", "\"x\"", "{}{}", "{\"resourceLogs\":{}}", "{\"resourceLogs\":[1]}", "nul"] {
        assert!(json_rows(Signal::Logs, bad).is_err(), "{bad}");
    }
    let mut rows = Rows::new();
    assert!(
        try_decode(Signal::Logs, Encoding::Json, b"{\"resourceLogs\":[{\"schemaUrl\":\"\xff\"}]}", &mut rows).is_err()
    );
}
