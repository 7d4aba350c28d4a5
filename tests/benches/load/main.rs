//! What does an event cost on its way from a client to the disk, and how many a second does this machine take?
//!
//! Run: `cargo bench -p gemba-tests --bench load -- [--seconds 60] [--connections 8] [--gzip 30] [--traced 25]
//! [--data DIR] [--json] [--only-full | --only-replay] [--replay-mib 1024]`
//!
//! Starts the release build of `gemba serve` with its embedded engine on an empty folder and sends it OTLP/HTTP protobuf
//! log requests of 500 events, about 250 bytes and 6 attributes each. Phases: idle; full load, then until everything is
//! stored, then until merges are quiet; half of that rate, paced; full load without and with nothing but gzip, for the
//! server's CPU; the bare engine with Native blocks of the same rows; at last a start on a log that was never stored. CPU is each process's own accounting, the
//! generator's is shown apart. At the end of a phase every acknowledged event is counted in the store, else the run fails.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program that prints its measurements"
)]

mod baseline;
mod drive;
mod engine;
mod phase;
#[expect(dead_code, reason = "the questions use the rest")]
mod process;
mod replay;
mod report;
mod traffic;

use drive::Load;
use engine::Store;
use gemba_tests::server::{Keys, Process};
use phase::Server;
use process::Looked;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Length of a full load from which on the number of parts must have become flat.
const FLAT_SECONDS: u64 = 120;

/// What the command line asks for.
#[derive(Debug)]
struct Arguments {
    seconds: u64,
    connections: usize,
    gzip: u64,
    traced: u64,
    data: Option<PathBuf>,
    json: bool,
    only_full: bool,
    only_replay: bool,
    replay_mib: u64,
}

impl Arguments {
    fn read() -> Self {
        let mut read = Self {
            seconds: 60,
            connections: 8,
            gzip: 30,
            traced: 25,
            data: None,
            json: false,
            only_full: false,
            only_replay: false,
            replay_mib: 1_024,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            match word.as_str() {
                "--seconds" => read.seconds = value().parse().unwrap(),
                "--connections" => read.connections = value().parse().unwrap(),
                "--gzip" => read.gzip = value().parse().unwrap(),
                "--traced" => read.traced = value().parse().unwrap(),
                "--data" => read.data = Some(value().into()),
                "--json" => read.json = true,
                "--only-full" => read.only_full = true,
                "--only-replay" => read.only_replay = true,
                "--replay-mib" => read.replay_mib = value().parse().unwrap(),
                // What cargo adds.
                "--bench" => {}
                other => panic!("{other} is unknown; see the head of this file"),
            }
        }
        read
    }
}

fn main() {
    let arguments = Arguments::read();
    let folder = match &arguments.data {
        Some(data) => tempfile::tempdir_in(data),
        None => tempfile::tempdir(),
    };
    let folder = folder.unwrap();
    let load = Load {
        url: String::new(),
        key: String::new(),
        connections: arguments.connections,
        time: Duration::from_secs(arguments.seconds),
        rate: None,
        gzip_percent: arguments.gzip,
        traced_percent: arguments.traced,
    };
    let mut report = report::Report::default();
    if !arguments.only_replay {
        let events_per_insert = through_server(&arguments, folder.path(), &load, &mut report);
        if !arguments.only_full {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let bare = folder.path().join("bare");
            let time = Duration::from_secs(arguments.seconds.min(30));
            report.bare = Some(runtime.block_on(baseline::measure(&bare, time, events_per_insert, arguments.traced)));
        }
    }
    if !arguments.only_full {
        report.replay = Some(replay::measure(folder.path(), &load, arguments.replay_mib << 20));
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap());
    } else {
        report.print();
    }
    // Said last, so that what was measured is known also where it fails.
    if let Some(full) = report.full.filter(|_| arguments.seconds >= FLAT_SECONDS) {
        full.assert_flat();
    }
}

/// The phases with a server; answers how many events one insert held at full load.
fn through_server(arguments: &Arguments, folder: &Path, load: &Load, report: &mut report::Report) -> usize {
    let mut syncs = process::syncs(folder);
    let data = folder.join("data");
    let process = Process::start(&data, &["--no-own-use"]);
    let serve = Looked(u32::try_from(process.id()).unwrap());
    let engine = serve.child();
    let server = Server { serve, engine, store: Store::of(engine) };
    let load = Load { url: process.url.clone(), key: Keys::of(&data).ingest, ..load.clone() };
    // What a server holds at rest is what is left when its start is over; there is no event that says so.
    std::thread::sleep(Duration::from_secs(5));
    report.sync_ms_p50 = process::quantile_ms(&mut syncs, 0.5);
    report.sync_ms_p99 = process::quantile_ms(&mut syncs, 0.99);
    report.idle_resident = serve.resident();
    report.idle_engine_resident = engine.resident();
    let full = phase::run(&server, &load, phase::Until::Quiet);
    report.sizes(&server.store, full.events);
    let rate = full.acknowledged_per_second;
    let events_per_insert = (full.events_per_insert as usize / traffic::EVENTS).max(1) * traffic::EVENTS;
    report.full = Some(full);
    if !arguments.only_full {
        let half = Load { rate: Some(rate / 2.0), ..load.clone() };
        report.half = Some(phase::run(&server, &half, phase::Until::Quiet));
        let short = Duration::from_secs(arguments.seconds.min(20));
        for (gzip_percent, place) in [(0, &mut report.identity), (100, &mut report.gzip)] {
            let load = Load { gzip_percent, time: short, ..load.clone() };
            *place = Some(phase::run(&server, &load, phase::Until::Stored));
        }
    }
    assert_eq!(process.stop(), Some(0), "the server ends in order");
    std::fs::remove_dir_all(&data).unwrap();
    events_per_insert
}
