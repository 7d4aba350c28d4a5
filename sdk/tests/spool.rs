//! What waits on disk while the server is away arrives later, once, or is counted: by the same process, by the next one after
//! an orderly end, and after `kill -9`.
//!
//! As in `delivery`, the test starts this program again with `child` as the only test, and plays the server itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here ends the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::server::{Figures, Reply, Request, Server, named, ok, print_figures, reported_drops, stored, text};

const SCENARIO: &str = "SPOOL_SCENARIO";
const EVENTS: u64 = 300;

fn busy() -> Reply {
    Reply::Status(503, "", Vec::new())
}

/// This program again, as a process that records with a spool.
fn child_of(scenario: &str, server: SocketAddr, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["child", "--exact", "--nocapture"])
        .env(SCENARIO, scenario)
        .env("GEMBA_ENDPOINT", format!("http://{server}"))
        .env("GEMBA_SPOOL_DIR", folder);
    command
}

fn run_child(scenario: &str, server: &Server, folder: &Path) -> Figures {
    let output = child_of(scenario, server.address, folder).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    Figures::in_text(&text)
}

/// The process the other tests start; by itself it has no scenario and ends at once.
#[test]
fn child() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    let config = gemba::Config::new("spool-test")
        .send_interval(Duration::from_millis(20))
        .shutdown_timeout(Duration::from_secs(10))
        .max_spool_bytes(if scenario == "full" { 8 * 1024 } else { 1 << 20 });
    let guard = config.start().unwrap();
    match scenario.as_str() {
        "idle" => wait_until(|stats| stats.adopted > 0 && stats.spooled == 0),
        "comes_back" => {
            record("before");
            wait_until(|stats| stats.spooled > 0);
            record("after");
            guard.flush(Duration::from_mins(1)).unwrap();
            assert_eq!(gemba::stats().spooled, 0);
        }
        "killed" => {
            record("before");
            wait_until(|stats| stats.spooled >= EVENTS);
            println!("\nready");
            std::thread::park();
        }
        "full" => {
            for round in 1..=40 {
                record("many");
                wait_until(|stats| stats.spooled + stats.dropped_total() >= round * EVENTS);
            }
        }
        _ => record("before"),
    }
    drop(guard);
    print_figures();
}

fn record(what: &'static str) {
    gemba::scope()
        .user("u-7")
        .run(|| (0..EVENTS).for_each(|number| gemba::feature!("spool.used", number = number, what = what)));
}

/// Waits until the books say so; the figures are what another thread does.
fn wait_until(is_so: impl Fn(&gemba::Stats) -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so(&gemba::stats()) {
        assert!(Instant::now() < deadline, "{:?}", gemba::stats());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Files of batches below the folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for found in std::fs::read_dir(folder).unwrap() {
            let path = found.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "batch") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Records in the batch of a file, as its name says.
fn records_of(file: &Path) -> u64 {
    let name = file.file_stem().unwrap().to_str().unwrap();
    name.split_once('-').unwrap().1.parse().unwrap()
}

fn used(requests: &[Request]) -> u64 {
    named(&stored(requests), "gemba.feature.used").len() as u64
}

/// Numbers of the batches of each instance, in the order in which they came.
fn numbers(requests: &[Request]) -> BTreeMap<String, Vec<u64>> {
    let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for request in requests {
        let (instance, number) = request.key().rsplit_once('-').unwrap();
        numbers.entry(instance.to_owned()).or_default().push(number.parse().unwrap());
    }
    numbers
}

#[test]
fn a_server_that_comes_back_gets_everything_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(vec![busy(), busy()], ok());
    let figures = run_child("comes_back", &server, folder.path());
    let requests = server.requests();
    assert_eq!(used(&requests), 2 * EVENTS);
    assert_eq!(figures.get("recorded"), figures.get("delivered"), "{figures:?}");
    // Twice refused, so three times the first; then each batch once, oldest first, from disk and from memory alike.
    let sent = numbers(&requests);
    let sent = sent.values().next().unwrap();
    assert_eq!(sent[..3], [0, 0, 0]);
    assert!(sent[2..].iter().copied().eq(0..(sent.len() - 2) as u64), "{sent:?}");
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn what_a_process_could_not_send_until_its_end_the_next_one_sends() {
    let folder = tempfile::tempdir().unwrap();
    let away = Server::start(Vec::new(), busy());
    let left = run_child("ends", &away, folder.path());
    assert_eq!(left.get("spooled"), left.get("recorded"), "{left:?}");
    let on_disk: u64 = files(folder.path()).iter().map(|file| records_of(file)).sum();
    assert_eq!(on_disk, left.get("spooled"));

    let server = Server::start(Vec::new(), ok());
    let figures = run_child("idle", &server, folder.path());
    assert_eq!(figures.get("adopted"), left.get("spooled"), "{figures:?}");
    assert_eq!(figures.get("recorded") + figures.get("adopted"), figures.get("delivered"));
    let requests = server.requests();
    assert_eq!(used(&requests), EVENTS);
    assert_eq!(figures.get("delivered"), stored(&requests).len() as u64);
    // The same batches under the same keys, said to come from the process that recorded them.
    let first = away.requests();
    let again = requests.iter().find(|request| request.key() == first[0].key()).unwrap();
    let instance = |request: &Request| {
        let resource = request.logs().resource_logs[0].resource.clone().unwrap();
        text(&resource.attributes, "service.instance.id").to_owned()
    };
    assert_eq!(instance(again), instance(&first[0]));
    assert!(again.key().starts_with(&instance(again)));
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn what_a_killed_process_had_on_disk_the_next_one_sends() {
    let folder = tempfile::tempdir().unwrap();
    let away = Server::start(Vec::new(), busy());
    let mut killed = child_of("killed", away.address, folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(killed.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim() != "ready" {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the child ended before it was ready");
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let on_disk: u64 = files(folder.path()).iter().map(|file| records_of(file)).sum();
    assert!(on_disk >= EVENTS, "{on_disk}");

    let server = Server::start(Vec::new(), ok());
    let figures = run_child("idle", &server, folder.path());
    assert_eq!(figures.get("adopted"), on_disk, "{figures:?}");
    assert_eq!(figures.get("recorded") + on_disk, figures.get("delivered"));
    assert_eq!(used(&server.requests()), EVENTS);
}

#[test]
fn torn_files_are_counted_and_never_sent() {
    let folder = tempfile::tempdir().unwrap();
    let away = Server::start(Vec::new(), busy());
    run_child("ends", &away, folder.path());
    // Once more, so that there are two processes' files.
    run_child("ends", &away, folder.path());
    let files = files(folder.path());
    let torn = files.first().unwrap();
    let content = std::fs::read(torn).unwrap();
    std::fs::write(torn, &content[..content.len() / 2]).unwrap();
    let lost = records_of(torn);
    let instance = torn.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let number: u64 = torn.file_stem().unwrap().to_str().unwrap().split_once('-').unwrap().0.parse().unwrap();

    let server = Server::start(Vec::new(), ok());
    let figures = run_child("idle", &server, folder.path());
    assert_eq!(figures.get("spool_torn"), lost, "{figures:?}");
    assert_eq!(figures.get("recorded") + figures.get("adopted"), figures.get("delivered") + lost);
    let requests = server.requests();
    assert_eq!(reported_drops(&requests).get("spool_torn"), Some(&lost));
    let key = format!("{instance}-{number}");
    assert!(requests.iter().all(|request| request.key() != key));
}

#[test]
fn a_full_folder_keeps_the_newest_and_the_count_of_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let away = Server::start(Vec::new(), busy());
    let figures = run_child("full", &away, folder.path());
    let kept = files(folder.path());
    let bytes: u64 = kept.iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes <= 8 * 1024, "{bytes}");
    assert!(figures.get("spool_full") > 0, "{figures:?}");
    assert_eq!(figures.get("recorded"), figures.get("spooled") + figures.get("spool_full"));
    assert_eq!(kept.iter().map(|file| records_of(file)).sum::<u64>(), figures.get("spooled"));
    // The newest numbers, without a gap.
    let numbers: Vec<u64> = kept
        .iter()
        .map(|file| file.file_stem().unwrap().to_str().unwrap().split_once('-').unwrap().0.parse().unwrap())
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert!(numbers[0] > 0);

    let server = Server::start(Vec::new(), ok());
    let next = run_child("idle", &server, folder.path());
    assert_eq!(next.get("adopted"), figures.get("spooled"), "{next:?}");
    // What was dropped before has been reported, for the report itself was kept.
    assert!(reported_drops(&server.requests()).get("spool_full").is_some_and(|count| *count > 0));
}

#[test]
fn processes_that_share_a_folder_each_keep_to_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let away = Server::start(Vec::new(), busy());
    let start = || child_of("ends", away.address, folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut spooled = 0;
    let children = [start(), start(), start()];
    for mut child in children {
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success());
        spooled += Figures::in_text(&text).get("spooled");
    }
    let server = Server::start(Vec::new(), ok());
    let figures = run_child("idle", &server, folder.path());
    // One that ended early may have been taken over by another, and is then that one's to count: all are on disk anyhow.
    assert!(figures.get("adopted") > 0 && figures.get("adopted") <= spooled, "{figures:?}");
    let requests = server.requests();
    assert_eq!(used(&requests), 3 * EVENTS);
    let keys: BTreeSet<_> = requests.iter().map(Request::key).collect();
    assert_eq!(keys.len(), requests.len(), "each batch was sent once");
}

#[test]
fn a_folder_that_cannot_be_used_is_no_reason_to_lose_anything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "a file where a folder should be").unwrap();
    let server = Server::start(vec![busy()], ok());
    let figures = run_child("ends", &server, &file);
    assert_eq!(figures.get("recorded"), figures.get("delivered"), "{figures:?}");
    assert_eq!(used(&server.requests()), EVENTS);
}
