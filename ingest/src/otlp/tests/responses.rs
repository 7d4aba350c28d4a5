//! Checklist A, the parts about bodies.

use super::*;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use serde_json::json;

fn tally(received: u64, rejected: u64, problem: Option<&str>) -> Tally {
    let mut tally = Tally { received, first_problem: problem.map(str::to_owned), ..Tally::default() };
    if rejected > 0 {
        tally.add(Fate::Rejected, Reason::MissingEventName, rejected);
    }
    tally
}

#[test]
fn a13_a14_full_success_is_empty_or_an_empty_object() {
    let mut all = tally(3, 0, None);
    all.add(Fate::Ignored, Reason::SpanNotKept, 2);
    for signal in Signal::ALL {
        assert_eq!(response(*signal, Encoding::Protobuf, &all), b"");
        assert_eq!(response(*signal, Encoding::Json, &all), b"{}");
    }
}

#[test]
fn a16_a17_a20_a_partial_success_says_how_many_and_why() {
    let mut request = logs((0..9).map(|_| record("e", vec![])).collect());
    request.resource_logs[0].scope_logs[0].log_records.insert(4, record("", vec![]));
    let (tally, _) = both(Signal::Logs, &request);
    let partial = ExportLogsServiceResponse::decode(&*response(Signal::Logs, Encoding::Protobuf, &tally))
        .expect("decodes")
        .partial_success
        .expect("partial");
    assert_eq!(partial.rejected_log_records, 1);
    assert!(partial.error_message.contains("1 of 10") && partial.error_message.contains("log record 5"), "{partial:?}");
    let answer: Json = serde_json::from_slice(&response(Signal::Logs, Encoding::Json, &tally)).expect("JSON");
    assert_eq!(answer["partialSuccess"]["rejectedLogRecords"], "1");
    assert_eq!(answer["partialSuccess"]["errorMessage"], json!(partial.error_message));
}

#[test]
fn a16_every_signal_has_its_own_field() {
    let some = tally(300, 200, None);
    let body = |signal| response(signal, Encoding::Protobuf, &some);
    let spans = ExportTraceServiceResponse::decode(&*body(Signal::Traces)).expect("decodes").partial_success;
    assert_eq!(spans.map(|partial| partial.rejected_spans), Some(200));
    let points = ExportMetricsServiceResponse::decode(&*body(Signal::Metrics)).expect("decodes").partial_success;
    assert_eq!(points.map(|partial| partial.rejected_data_points), Some(200));
    for (signal, field) in [(Signal::Traces, "rejectedSpans"), (Signal::Metrics, "rejectedDataPoints")] {
        let answer: Json = serde_json::from_slice(&response(signal, Encoding::Json, &some)).expect("JSON");
        assert_eq!(answer["partialSuccess"][field], "200");
    }
}

#[test]
fn a18_a_warning_comes_with_no_record_rejected() {
    let body = response(Signal::Logs, Encoding::Protobuf, &tally(1, 0, Some("clock is off")));
    let partial = ExportLogsServiceResponse::decode(&*body).expect("decodes").partial_success.expect("partial");
    assert_eq!((partial.rejected_log_records, &*partial.error_message), (0, "clock is off"));
}

#[test]
fn a21_an_error_is_a_status_with_a_message() {
    // google.rpc.Status { int32 code = 1; string message = 2; }
    assert_eq!(error_status(Encoding::Protobuf, "bad"), [0x12, 3, b'b', b'a', b'd']);
    assert_eq!(error_status(Encoding::Json, "bad \"x\""), br#"{"message":"bad \"x\""}"#);
}

#[test]
fn a25_a_message_is_cut_at_a_character_rather_than_the_limit_broken() {
    let long = "ü".repeat(1_000_000);
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        for body in
            [response(Signal::Logs, encoding, &tally(1_000_000, 1_000_000, Some(&long))), error_status(encoding, &long)]
        {
            assert!(body.len() < response::MAX_MESSAGE_BYTES + 100);
        }
    }
    let body = error_status(Encoding::Protobuf, &long);
    assert!(std::str::from_utf8(&body[3..]).is_ok(), "cut between characters");
}
