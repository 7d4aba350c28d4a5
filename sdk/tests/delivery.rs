//! What is recorded arrives, or is counted where it went: against a server that is well, busy, wrong, silent or away.
//!
//! Recording starts once in a process, so every claim runs in a process of its own: the test starts this very program again
//! with `child` as the only test and the scenario in its environment, and plays the server itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::let_underscore_must_use,
    clippy::mem_forget,
    clippy::exit,
    reason = "what goes wrong here ends the test, and some hosts leave without goodbye"
)]

mod support;

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;
use support::server::{Figures, Reply, Server, attribute, named, ok, print_figures, reported_drops, stored, text};

const SCENARIO: &str = "DELIVERY_SCENARIO";
const EVENTS: u64 = 300;

gemba::funnel! {
    enum Signup = "signup" { Form = "form", Mail = "mail" (was = "email") }
}

fn run_child(scenario: &str, address: SocketAddr) -> Figures {
    run_child_and_listen(scenario, address).0
}

/// The child's figures and what it said on stderr.
fn run_child_and_listen(scenario: &str, address: SocketAddr) -> (Figures, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(SCENARIO, scenario)
        .env("GEMBA_ENDPOINT", format!("http://{address}"))
        .env("GEMBA_KEY", "gi_test")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}\n{told}");
    (Figures::in_text(&text), told)
}

/// The process the other tests start; by itself it has no scenario and ends at once.
#[test]
fn child() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    let patience = if matches!(scenario.as_str(), "away" | "silent") { 300 } else { 10_000 };
    let guard = gemba::Config::new("delivery-test")
        .release("1.2.3")
        .send_interval(Duration::from_millis(20))
        .shutdown_timeout(Duration::from_millis(patience))
        .start()
        .unwrap();
    assert!(matches!(gemba::init!("again"), Err(gemba::InitError::AlreadyStarted)));
    match scenario.as_str() {
        "flood" => {
            for number in 0..200_000_u32 {
                gemba::feature!("flood.used", number = number);
            }
        }
        "exit" => {
            record_all();
            std::mem::forget(guard);
            // The guard never drops: the figures are the server's to tell.
            std::process::exit(0);
        }
        "fork" => fork_and_record(),
        "panic" => {
            let thread = std::thread::spawn(|| {
                gemba::attempt!("panic.work").run(|| assert!(std::hint::black_box(false), "on purpose"));
            });
            assert!(thread.join().is_err());
            record_all();
        }
        "ignored" => {
            for _ in 0..100 {
                let _ = gemba::attempt!("ignored.guard");
            }
            let held = gemba::attempt!("held.guard");
            gemba::feature!("inside.held");
            drop(held);
        }
        "refused" => {
            record_all();
            guard.flush(Duration::from_secs(10)).unwrap();
            record_all();
        }
        "short" => {
            for number in 0..500_u32 {
                std::thread::spawn(move || gemba::feature!("short.lived", number = number)).join().unwrap();
            }
        }
        _ => record_all(),
    }
    drop(guard);
    gemba::feature!("after.stop");
    print_figures();
}

fn record_all() {
    gemba::scope().user("u-7").session("secret").tenant("acme").run(|| {
        for number in 0..EVENTS {
            gemba::feature!("delivery.used", number = number, big = u64::MAX, name = "ä", ok = true, ratio = 0.5);
        }
        let _ = gemba::attempt!("delivery.tried").run(|| Err::<(), _>(std::fmt::Error));
        gemba::step!(Signup::Mail, plan = "pro");
    });
}

/// Records in the parent and in a forked child, which inherits everything and must send nothing of it.
fn fork_and_record() {
    record_all();
    #[expect(unsafe_code, reason = "the claim is about fork")]
    // SAFETY: the child only records (which does nothing there), drops nothing and leaves with `_exit`.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0);
        if pid == 0 {
            gemba::feature!("fork.child");
            assert_eq!(gemba::flush(Duration::from_secs(1)), Err(gemba::FlushError::Closed));
            libc::_exit(0);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        assert_eq!(status, 0);
    }
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
fn a_server_that_never_answers_leaves_batches_unconfirmed() {
    let server = Server::start(Vec::new(), Reply::Reset);
    let figures = run_child("silent", server.address);
    assert!(figures.get("unconfirmed") > 0, "{figures:?}");
    assert_eq!(figures.get("recorded"), figures.get("unconfirmed") + figures.get("shutdown"));
}

#[test]
fn what_a_full_ring_drops_is_counted_and_reported_by_reason() {
    let server = Server::start(Vec::new(), ok());
    let figures = run_child("flood", server.address);
    let requests = server.requests();
    let arrived = named(&stored(&requests), "gemba.feature.used").len() as u64;
    assert_eq!(arrived + figures.get("ring_full"), 200_000, "{figures:?}");
    let reported = reported_drops(&requests);
    assert_eq!(reported.get("ring_full").copied().unwrap_or(0), figures.get("ring_full"), "{reported:?}");
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
    assert_eq!(reasons("held.guard").len(), 0);
    assert_eq!(told.matches("is dropped at once").count(), 1, "{told}");
    assert!(told.contains("\"ignored.guard\" in sdk/tests/delivery.rs:"), "{told}");
}

#[test]
fn short_lived_threads_hand_their_ring_on() {
    let server = Server::start(Vec::new(), ok());
    let figures = run_child("short", server.address);
    let records = stored(&server.requests());
    assert_eq!(named(&records, "gemba.feature.used").len(), 500);
    assert_eq!(figures.get("no_ring"), 0, "500 threads, 64 rings");
}
