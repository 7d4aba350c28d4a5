//! What does a question cost over a hundred million events, and does it answer what the oracle answers?
//!
//! Run: `cargo bench -p gemba-tests --bench questions -- [--events 100000000] [--data DIR] [--only-load | --beside] [--only TEXT]
//! [--runs 5]`
//!
//! Starts the release build of the embedded engine and fills the table `events` of the real schema (see [`generate`]); with
//! `--data` the folder is kept, and found filled the next time. Then asks each question several times, each time over a
//! range that is shifted, so that no cache of conditions or results can help, and prints the median of the wall time with the CPU
//! of this process and of the engine and their peak memory. Funnels go the whole way of `POST /api/v1/funnel` but for HTTP.
//! ClickHouse's own `windowFunnel` is asked about the same rows in the same run. At last a sample of people is asked about
//! alone, and the answers are compared with the reference's. `--only` asks the questions whose name holds the text and leaves out the
//! comparison. `--beside` asks five at once while data comes in, and nothing else (see [`beside`]).

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "a program that prints its measurements"
)]

mod ask;
mod beside;
#[path = "../load/drive.rs"]
#[expect(dead_code, reason = "the load generator uses the rest")]
mod drive;
mod generate;
#[path = "../load/process.rs"]
#[expect(dead_code, reason = "the load generator uses the rest")]
mod process;
mod sample;
#[path = "../load/traffic.rs"]
mod traffic;

use gemba_ingest::engine::{EngineConfig, Supervisor};
use gemba_ingest::store::{Client, StoreConfig, migrations};
use std::path::PathBuf;

/// What the command line asks for.
struct Arguments {
    events: u64,
    data: Option<PathBuf>,
    only_load: bool,
    only: Option<String>,
    runs: usize,
    beside: bool,
}

impl Arguments {
    fn read() -> Self {
        let mut read = Self { events: 100_000_000, data: None, only_load: false, only: None, runs: 5, beside: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            match word.as_str() {
                "--events" => read.events = value().parse().unwrap(),
                "--data" => read.data = Some(value().into()),
                "--runs" => read.runs = value().parse().unwrap(),
                "--only" => read.only = Some(value()),
                "--only-load" => read.only_load = true,
                "--beside" => read.beside = true,
                // What cargo adds.
                "--bench" => {}
                other => panic!("{other} is unknown; see the head of this file"),
            }
        }
        read
    }
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::read();
    let folder = tempfile::tempdir().unwrap();
    let engine = Supervisor::start(EngineConfig {
        data_dir: arguments.data.clone().unwrap_or_else(|| folder.path().to_owned()),
        program: Some(gemba_tests::binary::gemba().to_owned()),
        max_memory_bytes: Some(4 << 30),
        ..EngineConfig::default()
    })
    .unwrap();
    let config = StoreConfig {
        url: engine.url(),
        user: engine.user().to_owned(),
        password: engine.password().to_owned(),
        database: "default".to_owned(),
        compress: false,
        cluster: None,
    };
    let client = Client::new(config);
    migrations::up(&client).await.unwrap();
    generate::fill(&client, arguments.events).await;
    if arguments.beside {
        let data = arguments.data.as_deref().unwrap_or(folder.path()).join("server");
        tokio::task::block_in_place(|| beside::measure(&engine, &data));
    } else if !arguments.only_load {
        let only = arguments.only.as_deref().unwrap_or_default();
        ask::all(&client, arguments.runs, only).await;
        if only.is_empty() {
            sample::compare(&client).await;
        }
    }
    drop(client);
    drop(engine);
}
