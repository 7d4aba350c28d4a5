//! What leaves the process and what does not: attributes by their keys, people by consent and by sample.
//!
//! Recording starts once in a process, so every claim runs in a process of its own, as in `delivery`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here ends the test")]

mod support;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;
use support::server::{Figures, Reply, Server, attribute, named, ok, print_figures, stored, text};

const SCENARIO: &str = "PRIVACY_SCENARIO";
/// People in the claim about the sample.
const PEOPLE: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(20);

gemba::funnel! {
    enum Visit = "visit" { Door = "door", Desk = "desk" }
}

fn child_of(scenario: &str, address: SocketAddr) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["child", "--exact", "--nocapture"])
        .env(SCENARIO, scenario)
        .env("GEMBA_ENDPOINT", format!("http://{address}"));
    command
}

fn figures_of(output: &Output) -> Figures {
    let told = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{told}");
    Figures::in_text(&text)
}

/// The process the other tests start; by itself it has no scenario and ends at once.
#[test]
fn child() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    // Far longer than the test: what is to be sent is flushed.
    let config = gemba::Config::new("privacy-test").release("1").send_interval(Duration::from_mins(10));
    match scenario.as_str() {
        "keys" => {
            let _gemba = config.allow_attributes(["ignored"]).deny_attributes(["cart.coupon"]).start().unwrap();
            gemba::feature!("keys.used", kind = "price", cart.id = 7, cart.coupon = "SUMMER", mail = "a@b.c");
            gemba::step!(Visit::Desk, kind = "walk", mail = "a@b.c");
            gemba::user_set!("u-7", kind = "pro", mail = "a@b.c");
        }
        "flags" => {
            let config = config.hash_key("shared").hash_users(true).allow_attributes(["ignored"]);
            let _gemba = config.deny_attributes(["feature_flag.set.id"]).start().unwrap();
            evaluate();
        }
        "contexts" => {
            let _gemba = config.hash_key("shared").start().unwrap();
            gemba::scope().user("u-7").session("CONTEXTMARKER").run(|| {
                gemba::feature_flag!("Buy button", variant = "blue", context = "CONTEXTMARKER");
                gemba::feature_flag!("Buy button", variant = "blue", context = "u-7");
            });
        }
        "consent" => change_minds(config),
        "spool" => withdraw_from_disk(config),
        "sample" => {
            let _gemba = config.hash_key("shared").sample_rate(0.5).start().unwrap();
            visit();
            gemba::flush(PATIENCE).unwrap();
        }
        other => panic!("{other}"),
    }
    print_figures();
}

/// Evaluates one flag inside an attempt and one of nobody.
fn evaluate() {
    gemba::scope().user("u-7").run(|| {
        gemba::attempt!("shop.visit").run(|| {
            gemba::feature_flag!(
                "Buy button",
                variant = String::from("blue"),
                reason = Some("split"),
                provider = "flagd",
                context = "u-7",
                set = "shop",
                version = None::<&str>,
                error = "type_mismatch",
            );
        });
    });
    gemba::feature_flag!("Buy button", variant = "red", context = None::<&str>, reason = "static");
}

/// Consent is withheld at first, given, and withdrawn.
fn change_minds(config: gemba::Config) {
    gemba::consent(false);
    let guard = config.start().unwrap();
    let mut evaluated = 0;
    gemba::feature!(
        "consent.withheld",
        n = {
            evaluated += 1;
            evaluated
        }
    );
    gemba::flush(PATIENCE).unwrap();
    assert_eq!((evaluated, gemba::stats().recorded), (0, 0), "not even the catalogue");
    gemba::consent(true);
    gemba::feature!("consent.given");
    gemba::flush(PATIENCE).unwrap();
    gemba::scope().user("around").run(|| {
        gemba::consent(false);
        gemba::scope().user("withheld").run(|| {
            gemba::consent(true);
            gemba::feature!("consent.nobody");
        });
    });
    gemba::flush(PATIENCE).unwrap();
    let delivered = gemba::stats().delivered;
    assert!(delivered > 0);
    gemba::feature!("consent.unsent");
    gemba::consent(false);
    gemba::consent(false);
    gemba::feature!("consent.withdrawn");
    let stats = gemba::stats();
    assert_eq!((stats.delivered, stats.pending), (delivered, 0), "{stats:?}");
    drop(guard);
}

/// Consent is withdrawn while batches wait on disk for a server that is away.
fn withdraw_from_disk(config: gemba::Config) {
    let folder = tempfile::tempdir().unwrap();
    let guard = config.spool(folder.path()).start().unwrap();
    gemba::feature!("spool.used");
    assert!(gemba::flush(Duration::from_millis(100)).is_err(), "the server is away");
    wait_until(|stats| stats.spooled > 0 && stats.pending == 0);
    gemba::consent(false);
    wait_until(|stats| stats.spooled == 0);
    drop(guard);
    let mut folders = vec![folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            assert!(path.extension().is_none_or(|ending| ending != "batch"), "{}", path.display());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
}

fn wait_until(is_so: impl Fn(&gemba::Stats) -> bool) {
    let began = std::time::Instant::now();
    while !is_so(&gemba::stats()) {
        assert!(began.elapsed() < PATIENCE, "{:?}", gemba::stats());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn visit() {
    for person in 0..PEOPLE {
        let user = format!("u-{person}");
        gemba::user_set!(user, plan = "pro");
        gemba::scope().user(&user).session(person).run(|| {
            gemba::step!(Visit::Door);
            gemba::attempt!("visit.ask").run(|| {
                // A scope inside that adds nothing about who it is belongs to the same person.
                gemba::scope().route("/desk").run(|| gemba::feature!("visit.inside"));
            });
            gemba::feature_flag!("visit-desk", variant = "on");
        });
    }
    for _ in 0..10 {
        gemba::feature!("visit.nobody");
    }
}

#[test]
fn attributes_leave_by_the_rules_for_their_keys() {
    let server = Server::start(Vec::new(), ok());
    let output = child_of("keys", server.address).env("GEMBA_ALLOW_ATTRIBUTES", "kind,cart.*").output().unwrap();
    figures_of(&output);
    let records = stored(&server.requests());
    let own = |event: &str| -> BTreeSet<String> {
        let [record] = named(&records, event)[..] else { panic!("one {event}") };
        let keys = record.attributes.iter().map(|pair| pair.key.clone());
        keys.filter(|key| !key.starts_with("gemba.") && key != "user.id").collect()
    };
    assert_eq!(own("gemba.feature.used"), ["cart.id".to_owned(), "kind".to_owned()].into());
    assert_eq!(own("gemba.funnel.step"), ["kind".to_owned()].into());
    assert_eq!(own("gemba.user.set"), ["kind".to_owned()].into());
    let told = String::from_utf8_lossy(&output.stderr);
    let line = format!("gemba: recording privacy-test 1 to http://{}", server.address);
    assert_eq!(told.matches(&line).count(), 1, "{told}");
}

#[test]
fn what_the_host_is_told_of_itself_leaves_by_the_deny_list_save_who_sends() {
    let server = Server::start(Vec::new(), ok());
    let told =
        "process.command_line=--password%3DHOSTMARKER,host.name=HOSTMARKER,service.namespace=HOSTMARKER,region=eu";
    let output = child_of("keys", server.address)
        .env("OTEL_RESOURCE_ATTRIBUTES", told)
        .env("GEMBA_DENY_ATTRIBUTES", "process.*,host.name,service.*")
        .output()
        .unwrap();
    figures_of(&output);
    let requests = server.requests();
    let told = |request: &support::server::Request| String::from_utf8_lossy(&request.inflated()).contains("HOSTMARKER");
    assert!(!requests.iter().any(told), "what is denied left");
    let logs = requests.iter().find(|request| request.path == "/v1/logs").unwrap().logs();
    let resource = &logs.resource_logs[0].resource.as_ref().unwrap().attributes;
    let said = ["region", "service.name", "service.version"].map(|key| text(resource, key));
    assert_eq!(said, ["eu", "privacy-test", "1"]);
}

#[test]
fn an_evaluated_flag_says_what_it_came_to_and_names_nobody() {
    let server = Server::start(Vec::new(), ok());
    let output = child_of("flags", server.address).env("GEMBA_ALLOW_ATTRIBUTES", "kind").output().unwrap();
    let figures = figures_of(&output);
    let records = stored(&server.requests());
    let [inside, nobody] = named(&records, "feature_flag.evaluation")[..] else { panic!("two evaluations") };
    let told = |record: &LogRecord| -> BTreeMap<String, String> {
        let own = record.attributes.iter().filter(|pair| pair.key != "gemba.seq" && pair.key != "gemba.attempt.id");
        own.map(|pair| (pair.key.clone(), text(&record.attributes, &pair.key).to_owned())).collect()
    };
    let expected = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    // As the scope's user leaves, so does the same id as the flag's context.
    let user = text(&inside.attributes, "user.id");
    assert!(user.len() == 32 && !user.contains("u-7"), "{user}");
    assert!(attribute(&inside.attributes, "gemba.attempt.id").is_some());
    let whole = [
        ("feature_flag.key", "Buy button"),
        ("feature_flag.result.variant", "blue"),
        ("feature_flag.result.reason", "split"),
        ("feature_flag.provider.name", "flagd"),
        ("feature_flag.context.id", user),
        ("error.type", "type_mismatch"),
        ("gemba.feature.name", "shop.visit"),
        ("user.id", user),
    ];
    assert_eq!(told(inside), expected(&whole));
    let short = [("feature_flag.key", "Buy button"), ("feature_flag.result.variant", "red")];
    assert_eq!(told(nobody), expected(&[short.as_slice(), &[("feature_flag.result.reason", "static")]].concat()));
    let catalog = named(&records, "gemba.catalog");
    assert!(catalog.iter().all(|record| text(&record.attributes, "gemba.catalog.name") != "Buy button"), "no feature");
    assert_eq!(figures.get("recorded"), figures.get("delivered"));
}

#[test]
fn the_context_of_a_flag_leaves_as_a_session_does_though_users_leave_as_they_are() {
    let server = Server::start(Vec::new(), ok());
    figures_of(&child_of("contexts", server.address).output().unwrap());
    let requests = server.requests();
    let records = stored(&requests);
    let [of_session, of_user] = named(&records, "feature_flag.evaluation")[..] else { panic!("two evaluations") };
    for record in [of_session, of_user] {
        assert_eq!(text(&record.attributes, "user.id"), "u-7");
    }
    let session = text(&of_session.attributes, "session.id");
    assert_eq!((session.len(), text(&of_session.attributes, "feature_flag.context.id")), (32, session));
    let user = text(&of_user.attributes, "feature_flag.context.id");
    assert!(user.len() == 32 && user != session, "{user}");
    for request in &requests {
        assert!(!String::from_utf8_lossy(&request.inflated()).contains("CONTEXTMARKER"));
    }
}

#[test]
fn without_consent_nothing_is_recorded_or_sent_and_what_waited_is_dropped() {
    let server = Server::start(Vec::new(), ok());
    let figures = figures_of(&child_of("consent", server.address).output().unwrap());
    let records = stored(&server.requests());
    let used = named(&records, "gemba.feature.used");
    let names: Vec<_> = used.iter().map(|record| text(&record.attributes, "gemba.feature.name")).collect();
    assert_eq!(names, ["consent.given", "consent.nobody"]);
    let user = attribute(&used[1].attributes, "user.id");
    assert_eq!(user, None, "a scope entered while consent is withheld knows nobody, not even who is around it");
    assert_eq!(named(&records, "gemba.sdk.stopped").len(), 0, "no goodbye without consent");
    assert_eq!(figures.get("consent"), 1, "{figures:?}");
    assert_eq!(figures.get("recorded"), figures.get("delivered") + figures.get("consent"));
}

#[test]
fn withdrawn_consent_empties_the_disk_too() {
    let server = Server::start(Vec::new(), Reply::Status(503, "", Vec::new()));
    let figures = figures_of(&child_of("spool", server.address).output().unwrap());
    assert_eq!(figures.get("recorded"), figures.get("consent"), "{figures:?}");
    assert!(figures.get("consent") > 0);
}

/// Events of each user, those of nobody under an empty name.
fn events_of(records: &[LogRecord]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let kinds = ["used", "started", "ended"].map(|kind| format!("gemba.feature.{kind}"));
    let others = ["gemba.funnel.step", "feature_flag.evaluation"];
    for name in kinds.iter().map(String::as_str).chain(others) {
        for record in named(records, name) {
            let user = match attribute(&record.attributes, "user.id") {
                Some(Value::StringValue(user)) => user.clone(),
                _ => String::new(),
            };
            *counts.entry(user).or_default() += 1;
        }
    }
    counts
}

#[test]
fn a_sample_holds_all_or_nothing_of_a_person_and_the_same_people_in_every_process() {
    let run = || {
        let server = Server::start(Vec::new(), ok());
        let figures = figures_of(&child_of("sample", server.address).output().unwrap());
        let requests = server.requests();
        let records = stored(&requests);
        assert_eq!(named(&records, "gemba.user.set").len(), PEOPLE as usize, "who people are is never sampled");
        let resource = requests[0].logs().resource_logs[0].resource.clone().unwrap().attributes;
        assert_eq!(text(&resource, "gemba.sample_rate"), "0.5");
        (figures, events_of(&records))
    };
    let (figures, mut first) = run();
    let (_, second) = run();
    assert_eq!(first, second);
    assert_eq!(first.remove(""), Some(10), "nobody is in every sample");
    // Binomial with 200 and 1/2: 100 expected, six standard deviations are 42.
    assert!((58..=142).contains(&first.len()), "{}", first.len());
    assert!(first.values().all(|events| *events == 5), "{first:?}");
    assert_eq!(figures.get("left_out"), u64::from(PEOPLE) * 5 - first.len() as u64 * 5);
    assert_eq!(figures.get("recorded"), figures.get("delivered"));
}
