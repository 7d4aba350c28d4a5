//! What a start with a log costs that was never stored: ready when, stored how fast, and what new data feel of it.
//!
//! In: how large the log is to be. Out: figures. The engine is stopped (SIGSTOP) while the log is filled, as a ClickHouse
//! that hangs, and then both processes are killed, so that everything is left to the next start.

use super::drive::{self, Load};
use super::engine::Store;
use super::process::{Looked, quantile_ms};
use gemba_tests::server::{Keys, Process};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long the log is filled between two looks at its size.
const FILL: Duration = Duration::from_secs(2);
/// New data while the log is replayed: events a second, and how long.
const NEW_RATE: f64 = 50_000.0;
const NEW_TIME: Duration = Duration::from_secs(5);

/// The figures of a replay.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Replay {
    /// Bytes of the log at the start.
    pub(crate) log_bytes: u64,
    /// Events in it.
    pub(crate) events: u64,
    /// From the start until the server accepted requests, seconds.
    pub(crate) ready_s: f64,
    /// Events stored a second, from the start until everything was, new data included.
    pub(crate) stored_per_second: f64,
    /// Acknowledgement of new data meanwhile.
    pub(crate) ack_ms_p50: f64,
    /// Acknowledgement of new data meanwhile.
    pub(crate) ack_ms_p99: f64,
    /// From the first acknowledgement of new data until all data could be queried, seconds.
    pub(crate) visible_s: f64,
    /// The server's memory at its highest while it filled the log and while it replayed it, bytes.
    pub(crate) resident: u64,
}

/// Leaves a log of `bytes` in a new folder under `folder` and starts on it; `load` says how to send.
pub(crate) fn measure(folder: &Path, load: &Load, bytes: u64) -> Replay {
    let data = folder.join("replay");
    let first = Process::start(&data, &["--no-own-use"]);
    let serve = Looked(u32::try_from(first.id()).unwrap());
    let engine = serve.child();
    signal(engine, "STOP");
    let filling = Load { url: first.url.clone(), key: Keys::of(&data).ingest, time: FILL, rate: None, ..load.clone() };
    let mut events = 0;
    while size(&data.join("log")) < bytes {
        events += drive::send(&filling).events();
    }
    let mut resident = serve.resident();
    drop(first);
    signal(engine, "KILL");
    let log_bytes = size(&data.join("log"));

    let started = Instant::now();
    let second = Process::start(&data, &["--no-own-use"]);
    let ready_s = started.elapsed().as_secs_f64();
    let serve = Looked(u32::try_from(second.id()).unwrap());
    let new = Load { url: second.url.clone(), rate: Some(NEW_RATE), time: NEW_TIME, ..filling };
    let sent = drive::send(&new);
    drive::flush(&new);
    let all = events + sent.events();
    let took = started.elapsed().as_secs_f64();
    let first_ack = sent.acks.first().map_or(sent.started, |ack| sent.started + ack.at);
    let visible_s = first_ack.elapsed().as_secs_f64();
    resident = resident.max(serve.resident());
    let stored = Store::of(serve.child()).number("SELECT count() FROM events");
    assert_eq!(stored, all, "every acknowledged event is stored once");
    let mut latencies: Vec<Duration> = sent.acks.iter().map(|ack| ack.latency).collect();
    assert_eq!(second.stop(), Some(0), "the server ends in order");
    fs::remove_dir_all(&data).unwrap();
    Replay {
        log_bytes,
        events,
        ready_s,
        stored_per_second: all as f64 / took,
        ack_ms_p50: quantile_ms(&mut latencies, 0.5),
        ack_ms_p99: quantile_ms(&mut latencies, 0.99),
        visible_s,
        resident,
    }
}

fn signal(process: Looked, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &process.0.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Bytes of the files in a folder.
fn size(folder: &Path) -> u64 {
    // A segment may be removed while it is looked at.
    fs::read_dir(folder).unwrap().filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
}
