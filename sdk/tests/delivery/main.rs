//! What is recorded arrives, or is counted where it went: against a server that is well, busy, wrong, silent or away.
//!
//! Recording starts once in a process, so every claim runs in a process of its own: the test starts this very program again
//! with `child::child` as the only test and the scenario in its environment, and plays the server itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::let_underscore_must_use,
    clippy::mem_forget,
    clippy::exit,
    reason = "what goes wrong here ends the test, and some hosts leave without goodbye"
)]

mod child;
#[path = "../support/mod.rs"]
mod support;

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::server::{
    Figures, Reply, Request, Server, attribute, drop_points, named, ok, reported_drops, stored, text,
};

const SCENARIO: &str = "DELIVERY_SCENARIO";
const EVENTS: u64 = 300;

fn run_child(scenario: &str, address: SocketAddr) -> Figures {
    run_child_and_listen(scenario, address).0
}

fn child_of(scenario: &str, address: SocketAddr) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["child::child", "--exact", "--nocapture"])
        .env(SCENARIO, scenario)
        .env("GEMBA_ENDPOINT", format!("http://{address}"))
        .env("GEMBA_KEY", "gi_test");
    command
}

/// The child's figures and what it said on stderr.
fn run_child_and_listen(scenario: &str, address: SocketAddr) -> (Figures, String) {
    let output = child_of(scenario, address).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}\n{told}");
    (Figures::in_text(&text), told)
}

#[test]
fn a_well_server_gets_everything_once_and_readable() {
    let server = Server::start(Vec::new(), ok());
    let figures = run_child("well", server.address);
    let requests = server.requests();
    let records = stored(&requests);
    assert_eq!(figures.get("delivered"), records.len() as u64, "{figures:?}");
    assert_eq!(figures.get("recorded"), figures.get("delivered"));

    let used = named(&records, "gemba.feature.used");
    assert_eq!(used.len() as u64, EVENTS);
    let mut last_seq = 0;
    for (number, record) in used.iter().enumerate() {
        let attributes = &record.attributes;
        assert_eq!(text(attributes, "gemba.feature.name"), "delivery.used");
        assert_eq!((text(attributes, "user.id"), text(attributes, "gemba.tenant")), ("u-7", "acme"));
        assert_eq!(text(attributes, "session.id").len(), 32, "hashed");
        assert_eq!(attribute(attributes, "number"), Some(&Value::IntValue(i64::try_from(number).unwrap())));
        assert_eq!(text(attributes, "big"), u64::MAX.to_string(), "beyond an OTLP integer: text, not rounded");
        assert_eq!(text(attributes, "name"), "ä");
        assert_eq!(attribute(attributes, "ok"), Some(&Value::BoolValue(true)));
        assert_eq!(attribute(attributes, "ratio"), Some(&Value::DoubleValue(0.5)));
        let Some(Value::IntValue(seq)) = attribute(attributes, "gemba.seq") else { panic!("no seq") };
        assert!(*seq > last_seq, "{seq} after {last_seq}");
        last_seq = *seq;
    }
    let ended = named(&records, "gemba.feature.ended");
    assert_eq!(text(&ended[0].attributes, "gemba.outcome"), "failed");
    assert_eq!(text(&ended[0].attributes, "error.type"), std::any::type_name::<std::fmt::Error>());
    let started = named(&records, "gemba.feature.started");
    assert_eq!(text(&started[0].attributes, "gemba.attempt.id"), text(&ended[0].attributes, "gemba.attempt.id"));
    let step = named(&records, "gemba.funnel.step");
    assert_eq!(text(&step[0].attributes, "gemba.step.name"), "mail");
    let declared: Vec<_> = named(&records, "gemba.catalog")
        .iter()
        .map(|record| text(&record.attributes, "gemba.catalog.name").to_owned())
        .collect();
    for name in ["delivery.used", "delivery.tried", "signup.form", "signup.mail", "flood.used"] {
        assert!(declared.contains(&name.to_owned()), "{name} in {declared:?}");
    }
    let was = |name: &str| -> Option<&Value> {
        let catalog = named(&records, "gemba.catalog");
        let declared = catalog.iter().find(|record| text(&record.attributes, "gemba.catalog.name") == name).unwrap();
        attribute(&declared.attributes, "gemba.catalog.was")
    };
    assert_eq!(was("delivery.used"), Some(&Value::StringValue("delivery.use".into())), "a feature's name as it stands");
    assert_eq!(was("signup.mail"), Some(&Value::StringValue("signup.email".into())), "a step's with its funnel");
    assert_eq!((was("signup.form"), was("delivery.tried")), (None, None));
    assert_eq!(named(&records, "gemba.sdk.stopped").len(), 1);
    assert!(
        named(&records, "gemba.feature.used").iter().all(|r| text(&r.attributes, "gemba.feature.name") != "after.stop")
    );

    let resource = requests[0].logs().resource_logs[0].resource.clone().unwrap().attributes;
    assert_eq!(text(&resource, "service.name"), "delivery-test");
    assert_eq!(text(&resource, "service.version"), "1.2.3");
    assert!(matches!(attribute(&resource, "gemba.sent_time"), Some(Value::IntValue(ns)) if *ns > 0));
    assert_eq!(requests[0].headers["authorization"], "Bearer gi_test");
    let instance = text(&resource, "service.instance.id");
    for (number, request) in requests.iter().enumerate() {
        assert_eq!(request.key(), format!("{instance}-{number}"), "no gap in the keys");
    }
}

#[test]
fn a_busy_server_gets_the_same_batch_again_when_it_asked_for_it() {
    let busy = Reply::Status(429, "retry-after: 1\r\n", Vec::new());
    let server = Server::start(vec![Reply::Status(503, "", Vec::new()), busy], ok());
    let figures = run_child("busy", server.address);
    let requests = server.requests();
    let first = requests[0].key();
    assert!(requests[..3].iter().all(|request| request.key() == first), "{:?}", requests[1].key());
    assert!(requests[2].at - requests[1].at >= Duration::from_secs(1), "Retry-After is honoured");
    assert_eq!(figures.get("delivered"), stored(&requests).len() as u64);
    assert_eq!(figures.get("recorded"), figures.get("delivered"));
}

#[test]
fn a_refused_batch_is_dropped_and_the_count_is_reported() {
    let server = Server::start(vec![Reply::Status(400, "", Vec::new())], ok());
    let figures = run_child("refused", server.address);
    let requests = server.requests();
    let refused: usize =
        requests[0].logs().resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len()).sum();
    assert_eq!(figures.get("refused"), refused as u64, "{figures:?}");
    assert_ne!(requests[0].key(), requests[1].key(), "a refused batch is not sent again");
    assert_eq!(reported_drops(&requests).get("refused"), Some(&(refused as u64)));
    assert_eq!(figures.get("recorded"), figures.get("delivered") + figures.get("refused"));
}

#[test]
fn rejected_records_of_a_partial_success_are_dropped_and_the_rest_delivered() {
    let partial = ExportLogsPartialSuccess { rejected_log_records: 2, error_message: "two too many".into() };
    let body = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let server = Server::start(vec![Reply::Status(200, "", body)], ok());
    let figures = run_child("partial", server.address);
    assert_eq!(figures.get("rejected"), 2, "{figures:?}");
    assert_eq!(figures.get("recorded"), figures.get("delivered") + 2);
}

#[test]
fn without_a_server_everything_is_counted_as_dropped_at_the_stop() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let figures = run_child("away", address);
    assert_eq!(figures.get("recorded"), figures.get("shutdown"), "{figures:?}");
    assert!(figures.get("recorded") > EVENTS);
}

#[test]
fn what_a_full_queue_refuses_is_counted_and_reported() {
    let server = Server::start(vec![Reply::Slow(Duration::from_secs(2))], ok());
    let figures = run_child("full", server.address);
    let requests = server.requests();
    let refused = figures.get("queue_full");
    // Of five rounds one may be on its way and one wait; the uses of the others found no room.
    assert!(refused >= 3 * EVENTS, "{figures:?}");
    assert_eq!(figures.get("recorded"), figures.get("delivered") + refused + figures.get("shutdown"), "{figures:?}");
    // Each flush reports what was dropped since the one before, in a record for each reason; all of them found room.
    let reports = drop_points(&requests).len() as u64;
    assert_eq!(stored(&requests).len() as u64 + reports, figures.get("delivered"), "{reports} records of reports");
    assert_eq!(reported_drops(&requests).get("queue_full"), Some(&refused));
}

#[test]
fn what_is_declared_in_a_batch_that_is_lost_is_declared_again() {
    let refused = || Reply::Status(400, "", Vec::new());
    // The catalogue, the texts of queries, the events, and what follows them at once.
    let server = Server::start((0..8).map(|_| refused()).collect(), ok());
    run_child("undeclared", server.address);
    let requests = server.requests();
    let (lost, taken) = requests.split_at(8);
    let count = |requests: &[_], event: &str, key: &str, value: &str| {
        let records = stored(requests);
        named(&records, event).iter().filter(|record| text(&record.attributes, key) == value).count()
    };
    for (event, key, value) in [
        ("gemba.catalog", "gemba.catalog.name", "signup.mail"),
        ("gemba.query.declared", "db.query.text", "SELECT ? FROM refused"),
    ] {
        assert_eq!((count(lost, event, key, value), count(taken, event, key, value)), (1, 1), "{event}");
    }
}

#[test]
fn a_resource_says_each_thing_once_and_the_instance_is_this_process_whatever_it_is_told() {
    let server = Server::start(Vec::new(), ok());
    let given = "service.instance.id=pod-7,gemba.sent_time=5,gemba.sample_rate=0.5,region=eu";
    let output = child_of("few", server.address).env("OTEL_RESOURCE_ATTRIBUTES", given).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let requests = server.requests();
    for request in requests.iter().filter(|request| request.path == "/v1/logs") {
        let resource = request.logs().resource_logs[0].resource.clone().unwrap().attributes;
        let mut keys: Vec<_> = resource.iter().map(|pair| pair.key.as_str()).collect();
        keys.sort_unstable();
        let expected = [
            "gemba.given_instance_id",
            "gemba.sent_time",
            "region",
            "service.instance.id",
            "service.name",
            "service.version",
        ];
        assert_eq!(keys, expected);
        let instance = text(&resource, "service.instance.id");
        assert_eq!(request.key().rsplit_once('-').unwrap().0, instance, "the batches of one process");
        assert_eq!(text(&resource, "gemba.given_instance_id"), "pod-7");
        assert!(matches!(attribute(&resource, "gemba.sent_time"), Some(Value::IntValue(ns)) if *ns > 5));
    }
}

#[test]
fn a_server_that_never_answers_leaves_batches_unconfirmed() {
    let server = Server::start(Vec::new(), Reply::Reset);
    let figures = run_child("silent", server.address);
    assert!(figures.get("unconfirmed") > 0, "{figures:?}");
    assert_eq!(figures.get("recorded"), figures.get("unconfirmed") + figures.get("shutdown"));
}

/// The reports of drops at the line that the child has named, and nothing else; how many were dropped.
fn dropped_there(requests: &[Request], figures: &Figures, reason: &str, feature: &str) -> u64 {
    let callsite = format!("sdk/tests/delivery/child.rs:{} {feature}", figures.get("line"));
    let points = drop_points(requests);
    assert!(points.iter().all(|point| point.reason == reason && point.callsite == callsite), "{callsite}: {points:?}");
    points.iter().map(|point| point.count).sum()
}

#[test]
fn what_a_full_ring_drops_is_counted_and_reported_by_reason_and_line_of_code() {
    let server = Server::start(Vec::new(), ok());
    let figures = run_child("flood", server.address);
    let requests = server.requests();
    let arrived = named(&stored(&requests), "gemba.feature.used").len() as u64;
    let dropped = figures.get("ring_full");
    assert!(dropped > 0, "a loop is faster than the drain");
    assert_eq!(arrived + dropped, 200_000, "{figures:?}");
    assert_eq!(dropped_there(&requests, &figures, "ring_full", "flood.used"), dropped);
}

#[test]
fn a_record_larger_than_half_a_ring_is_counted_and_reported_and_the_others_arrive() {
    let server = Server::start(Vec::new(), ok());
    let figures = run_child("large", server.address);
    let requests = server.requests();
    let records = stored(&requests);
    let notes: Vec<_> =
        named(&records, "gemba.feature.used").iter().map(|record| text(&record.attributes, "note").len()).collect();
    assert_eq!(notes, [30_000]);
    assert_eq!(figures.get("too_large"), 2, "{figures:?}");
    assert_eq!(dropped_there(&requests, &figures, "too_large", "large.used"), 2);
    assert_eq!(figures.get("recorded"), figures.get("delivered") + 2);
}

#[test]
fn an_exit_without_dropping_the_guard_delivers_what_is_left() {
    let server = Server::start(Vec::new(), ok());
    run_child("exit", server.address);
    let records = stored(&server.requests());
    assert_eq!(named(&records, "gemba.feature.used").len() as u64, EVENTS);
    assert_eq!(named(&records, "gemba.sdk.stopped").len(), 1);
}

#[test]
fn a_forked_child_sends_nothing_of_what_it_inherited() {
    let server = Server::start(Vec::new(), ok());
    let figures = run_child("fork", server.address);
    let records = stored(&server.requests());
    assert_eq!(named(&records, "gemba.feature.used").len() as u64, EVENTS);
    assert_eq!(figures.get("delivered"), records.len() as u64);
}

#[test]
fn a_panicking_thread_loses_nothing() {
    let server = Server::start(Vec::new(), ok());
    run_child("panic", server.address);
    let records = stored(&server.requests());
    let ended = named(&records, "gemba.feature.ended");
    assert!(ended.iter().any(|record| text(&record.attributes, "gemba.outcome") == "panicked"));
    assert_eq!(named(&records, "gemba.feature.used").len() as u64, EVENTS);
}

#[test]
fn a_guard_bound_to_nothing_is_counted_and_told_once() {
    let server = Server::start(Vec::new(), ok());
    let (figures, told) = run_child_and_listen("ignored", server.address);
    let count = figures.get("ignored_guards");
    // A thread that loses its processor in between looks like one that waited; not a hundred times.
    assert!((1..=100).contains(&count), "{figures:?}");
    assert_eq!(figures.get("recorded"), figures.get("delivered"), "no record is lost by it");
    let requests = server.requests();
    assert_eq!(reported_drops(&requests).get("guard_ignored"), Some(&count));
    let records = stored(&requests);
    let reasons = |feature: &str| -> Vec<String> {
        let ended = named(&records, "gemba.feature.ended").into_iter();
        let ended = ended.filter(|record| text(&record.attributes, "gemba.feature.name") == feature);
        ended
            .filter_map(|record| attribute(&record.attributes, "gemba.outcome.reason"))
            .map(|_| "ignored".into())
            .collect()
    };
    assert_eq!(reasons("ignored.guard").len() as u64, count);
    assert_eq!(
        (reasons("held.guard").len(), reasons("form.submit").len()),
        (0, 0),
        "a refusal is no mistake in the code"
    );
    assert_eq!(told.matches("is dropped at once").count(), 1, "{told}");
    assert!(told.contains("\"ignored.guard\" in sdk/tests/delivery/child.rs:"), "{told}");
}

#[test]
fn short_lived_threads_hand_their_ring_on() {
    let server = Server::start(Vec::new(), ok());
    let figures = run_child("short", server.address);
    let records = stored(&server.requests());
    assert_eq!(named(&records, "gemba.feature.used").len(), 500);
    assert_eq!(figures.get("no_ring"), 0, "500 threads, 64 rings");
}

#[test]
fn a_date_in_retry_after_is_honoured_by_the_servers_own_clock() {
    let pause = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:49:39 GMT\r\n";
    let server = Server::start(vec![Reply::Status(503, pause, Vec::new())], ok());
    let figures = run_child("well", server.address);
    let requests = server.requests();
    assert_eq!(requests[0].key(), requests[1].key());
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(2), "{:?}", requests[1].at - requests[0].at);
    assert_eq!(figures.get("recorded"), figures.get("delivered"));
}

#[test]
fn a_batch_too_large_for_the_server_goes_in_halves_without_a_gap() {
    let large = || Reply::Status(413, "", Vec::new());
    // The first batch is the catalogue, whose receipt two batches share then.
    let server = Server::start(vec![large(), large()], ok());
    let figures = run_child("well", server.address);
    assert_eq!(figures.get("recorded"), figures.get("delivered"), "{figures:?}");
    let requests = server.requests();
    assert_eq!(requests[0].key(), requests[1].key(), "the first half goes under the number of the whole");
    let taken = &requests[2..];
    let records = stored(taken);
    assert_eq!(records.len() as u64, figures.get("delivered"));
    assert_eq!(named(&records, "gemba.feature.used").len() as u64, EVENTS);
    let mut numbers: Vec<u64> =
        taken.iter().map(|request| request.key().rsplit_once('-').unwrap().1.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..taken.len() as u64), "{numbers:?}");
}

#[test]
fn what_is_too_large_record_by_record_is_refused_and_counted() {
    let server = Server::start(Vec::new(), Reply::Status(413, "", Vec::new()));
    let figures = run_child("few", server.address);
    assert_eq!(figures.get("recorded"), figures.get("refused"), "{figures:?}");
    let single = |request: &Request| request.path == "/v1/logs" && stored(std::slice::from_ref(request)).len() == 1;
    assert!(server.requests().iter().filter(|request| single(request)).count() >= 5);
}

#[test]
fn a_server_slower_than_a_request_may_take_gets_the_same_batch_again() {
    let server = Server::start(vec![Reply::Slow(Duration::from_secs(3))], ok());
    let figures = run_child("slow", server.address);
    let requests = server.requests();
    assert_eq!(requests[0].key(), requests[1].key(), "nothing came back, so it may be there: the key tells");
    assert_eq!(figures.get("recorded"), figures.get("delivered"), "{figures:?}");
    assert_eq!(stored(&requests).len() as u64, figures.get("delivered"));
}

#[test]
fn a_connection_that_is_reset_costs_a_repeat_and_nothing_else() {
    let server = Server::start(vec![Reply::Reset, Reply::Reset], ok());
    let figures = run_child("well", server.address);
    let requests = server.requests();
    assert!(requests[..3].iter().all(|request| request.key() == requests[0].key()), "the same batch until an answer");
    assert_eq!(figures.get("recorded"), figures.get("delivered"), "{figures:?}");
    assert_eq!(stored(&requests).len() as u64, figures.get("delivered"));
}

#[test]
fn a_hook_that_records_waits_and_panics_does_no_harm() {
    let server = Server::start(vec![Reply::Status(400, "", Vec::new())], ok());
    let figures = run_child("hook", server.address);
    assert_eq!(figures.get("hooked"), 1, "{figures:?}");
    assert_eq!(figures.get("recorded"), figures.get("delivered") + figures.get("refused"));
    // The catalogue was refused.
    let records = stored(&server.requests()[1..]);
    let of_hook = |record: &&opentelemetry_proto::tonic::logs::v1::LogRecord| {
        record.event_name != "gemba.catalog"
            && attribute(&record.attributes, "gemba.feature.name")
                .is_some_and(|name| matches!(name, Value::StringValue(name) if name.starts_with("hook.")))
    };
    assert_eq!(records.iter().filter(of_hook).count(), 0);
    assert_eq!(named(&records, "gemba.feature.used").len() as u64, 2 * EVENTS, "what came beside and after the hook");
}

#[test]
fn a_hook_that_ends_the_process_ends_it() {
    // The hook is told of the full queue, by whoever drains, amid a pass.
    let server = Server::start(vec![Reply::Slow(Duration::from_secs(2))], ok());
    let mut child = child_of("hook_exits", server.address).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let patience = Instant::now() + Duration::from_mins(1);
    let ended = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        if Instant::now() > patience {
            child.kill().unwrap();
            panic!("it waits for itself: {}", child.wait().unwrap());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(ended.code(), Some(child::HOOK_EXIT));
}

#[test]
fn what_the_host_says_about_the_sdks_own_requests_is_not_recorded() {
    let server = Server::start(Vec::new(), ok());
    let figures = run_child("chatty", server.address);
    assert!(figures.get("lines") > 0, "the HTTP client logs, and the host hears it: {figures:?}");
    let records = stored(&server.requests());
    let used = named(&records, "gemba.feature.used");
    assert!(used.iter().all(|record| text(&record.attributes, "gemba.feature.name") != "log.line"));
    assert_eq!(figures.get("recorded"), figures.get("delivered"));
}

#[test]
fn a_runtime_of_one_thread_is_not_needed_for_the_delivery() {
    let server = Server::start(Vec::new(), ok());
    let figures = run_child("current", server.address);
    assert_eq!(named(&stored(&server.requests()), "gemba.feature.used").len() as u64, EVENTS);
    assert_eq!(figures.get("recorded"), figures.get("delivered"), "{figures:?}");
}

#[test]
fn a_process_that_dies_leaves_its_attempt_open() {
    let server = Server::start(Vec::new(), ok());
    let output = child_of("dies", server.address).output().unwrap();
    assert!(!output.status.success());
    let records = stored(&server.requests());
    let features = |event: &str| -> Vec<String> {
        named(&records, event).iter().map(|record| text(&record.attributes, "gemba.feature.name").to_owned()).collect()
    };
    assert_eq!(features("gemba.feature.started"), ["dies.open", "dies.done"]);
    assert_eq!(features("gemba.feature.ended"), ["dies.done"]);
    assert_eq!(named(&records, "gemba.sdk.stopped").len(), 0);
}

#[test]
fn what_the_stop_cuts_off_was_given_up_by_nobody() {
    let server = Server::start(Vec::new(), ok());
    run_child("stopping", server.address);
    let records = stored(&server.requests());
    let endings: Vec<_> = named(&records, "gemba.feature.ended")
        .iter()
        .map(|record| {
            let reason = attribute(&record.attributes, "gemba.outcome.reason").is_some();
            let [feature, outcome] =
                ["gemba.feature.name", "gemba.outcome"].map(|key| text(&record.attributes, key).to_owned());
            (feature, outcome, reason.then(|| text(&record.attributes, "gemba.outcome.reason").to_owned()))
        })
        .collect();
    let shutdown = Some("shutdown".to_owned());
    let expected = [
        ("stopping.future".to_owned(), "cancelled".to_owned(), shutdown.clone()),
        ("stopping.bare".to_owned(), "cancelled".to_owned(), shutdown),
        ("stopping.finished".to_owned(), "completed".to_owned(), None),
    ];
    assert_eq!(endings, expected);
}

#[test]
fn switched_off_by_the_environment_nothing_is_recorded_or_sent() {
    let server = Server::start(Vec::new(), ok());
    let output = child_of("disabled", server.address).env("GEMBA_DISABLED", "true").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let figures = Figures::in_text(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(figures.get("recorded"), 0, "{figures:?}");
    assert!(server.requests().is_empty());
    assert!(!told.contains("gemba: "), "{told}");
}
