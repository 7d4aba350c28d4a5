//! What does an event cost on its way from a client to the disk, and how many a second does this machine take?
//!
//! Run: `cargo bench -p gemba-tests --bench load -- [--seconds 60] [--connections 8] [--gzip 30] [--traced 25]
//! [--data DIR] [--json] [--only-full]`
//!
//! Starts the release build of `gemba serve` with its embedded engine on an empty folder and sends it OTLP/HTTP protobuf
//! log requests of 500 events, about 250 bytes and 6 attributes each. Phases: idle; full load, then until everything is
//! stored, then until merges are quiet; half of that rate, paced; full load without and with nothing but gzip, for the
//! server's CPU; at last the bare engine with Native blocks of the same rows. CPU is each process's own accounting, the
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
mod report;
mod traffic;

use drive::Load;
use engine::Store;
use gemba_tests::server::{Keys, Process};
use phase::Server;
use process::Looked;
use std::path::PathBuf;
use std::time::Duration;

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
}

impl Arguments {
    fn read() -> Self {
        let mut read =
            Self { seconds: 60, connections: 8, gzip: 30, traced: 25, data: None, json: false, only_full: false };
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
    let mut syncs = process::syncs(folder.path());
    let data = folder.path().join("data");
    let process = Process::start(&data, &["--no-own-use"]);
    let serve = Looked(u32::try_from(process.id()).unwrap());
    let engine = serve.child();
    let server = Server { serve, engine, store: Store::of(engine) };
    let time = Duration::from_secs(arguments.seconds);
    let load = Load {
        url: process.url.clone(),
        key: Keys::of(&data).ingest,
        connections: arguments.connections,
        time,
        rate: None,
        gzip_percent: arguments.gzip,
        traced_percent: arguments.traced,
    };
    // What a server holds at rest is what is left when its start is over; there is no event that says so.
    std::thread::sleep(Duration::from_secs(5));
    let mut report = report::Report {
        sync_ms_p50: process::quantile_ms(&mut syncs, 0.5),
        sync_ms_p99: process::quantile_ms(&mut syncs, 0.99),
        idle_resident: serve.resident(),
        idle_engine_resident: engine.resident(),
        ..report::Report::default()
    };
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
    if !arguments.only_full {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bare = folder.path().join("bare");
        let time = Duration::from_secs(arguments.seconds.min(30));
        report.bare = Some(runtime.block_on(baseline::measure(&bare, time, events_per_insert, arguments.traced)));
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap());
    } else {
        report.print();
    }
}
