//! What the engine alone can store: Native inserts of the same kind of rows into the same tables, nothing else at work.
//!
//! In: how many events an insert holds. Out: events stored a second and the engine's CPU. Blocks are encoded before the
//! clock starts and sent over the engine's HTTP interface by the server's own client, two at a time as the server does.

use super::engine::Store;
use super::process::Looked;
use super::traffic::{EVENTS, Traffic};
use gemba_ingest::engine::{EngineConfig, Supervisor};
use gemba_ingest::identity::{IdHasher, ProjectId};
use gemba_ingest::otlp::{Encoding, Origin, Signal, decode};
use gemba_ingest::rows::{Rows, Table};
use gemba_ingest::store::{Client, StoreConfig, migrations};
use gemba_tests::binary;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Inserts at a time, as many as the server's (`PipelineConfig::max_inserts`).
const INSERTS: usize = 2;
/// Memory for encoded blocks; when they are used up they are sent again.
const MAX_BLOCK_BYTES: usize = 768 << 20;

/// The bare engine's figures.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Baseline {
    /// Events stored a second.
    pub(crate) stored_per_second: f64,
    /// Events of one insert.
    pub(crate) events_per_insert: usize,
    /// CPU of the engine an event until the last insert ended, µs.
    pub(crate) engine_us: f64,
    /// The same with merges until quiet.
    pub(crate) engine_merged_us: f64,
    /// CPU of the client that sends the blocks, µs an event.
    pub(crate) client_us: f64,
}

/// Blocks of one cut, in the order the server inserts them.
type Cut = Vec<(Table, bytes::Bytes)>;

fn cuts(events_per_insert: usize, traced_percent: u64) -> Vec<Arc<Cut>> {
    let ids = IdHasher::new([7; 16]);
    let mut traffic: Vec<Traffic> = (0..8)
        .map(|connection| Traffic::new(1 + connection, usize::try_from(connection).unwrap(), 8, 0, traced_percent))
        .collect();
    let mut rows = Rows::new();
    let (mut cuts, mut bytes) = (Vec::new(), 0);
    let mut received = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().saturating_sub(Duration::from_mins(1));
    while bytes < MAX_BLOCK_BYTES {
        rows.clear();
        for request in 0..events_per_insert / EVENTS {
            // As if half a million events came a second.
            received += Duration::from_millis(1);
            let origin = Origin {
                project: ProjectId(1),
                retention_class: 0,
                received_ms: i64::try_from(received.as_millis()).unwrap(),
                ids: &ids,
                reads_span_events: true,
            };
            let made = traffic[request % 8].make(u64::try_from(received.as_nanos()).unwrap());
            decode(Signal::Logs, Encoding::Protobuf, made.bytes, &origin, &mut rows).unwrap();
        }
        // Units and resources, which are not counted, the server writes once and not with every cut.
        let is_first = cuts.is_empty();
        let mut keys = rows.blocks();
        keys.retain(|key| is_first || key.table.is_counted());
        keys.sort_by_key(|key| key.table.is_counted());
        let blocks = keys.into_iter().map(|key| {
            let mut block = Vec::new();
            rows.encode(&key, cuts.len() as u64, &mut block);
            bytes += block.len();
            (key.table, bytes::Bytes::from(block))
        });
        cuts.push(Arc::new(blocks.collect()));
    }
    cuts
}

/// Inserts for `time` into a new engine in `folder`.
pub(crate) async fn measure(folder: &Path, time: Duration, events_per_insert: usize, traced_percent: u64) -> Baseline {
    let config = EngineConfig {
        data_dir: folder.to_owned(),
        program: Some(binary::gemba().to_owned()),
        ..EngineConfig::default()
    };
    let engine = tokio::task::spawn_blocking(move || Supervisor::start(config)).await.unwrap().unwrap();
    let client = Client::new(StoreConfig {
        url: engine.url(),
        user: engine.user().to_owned(),
        password: engine.password().to_owned(),
        database: "default".to_owned(),
        compress: false,
        cluster: None,
    });
    migrations::up(&client).await.unwrap();
    let cuts = cuts(events_per_insert, traced_percent);
    let process = Looked(engine.process_id().expect("the engine runs"));
    let next = Arc::new(AtomicUsize::new(0));
    let (cpu, own_cpu, started) = (process.cpu(), Looked::own().cpu(), Instant::now());
    let inserting: Vec<_> = (0..INSERTS)
        .map(|_| {
            let (client, cuts, next) = (client.clone(), cuts.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                while started.elapsed() < time {
                    // Relaxed: the numbers only have to differ.
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    for (index, (table, block)) in cuts[number % cuts.len()].iter().enumerate() {
                        let id = format!("baseline-{number}-{index}");
                        client.insert_native(table.name(), &id, &id, block.clone()).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for one in inserting {
        one.await.unwrap();
    }
    let took = started.elapsed().as_secs_f64();
    let stored = (next.load(Ordering::Relaxed) * (events_per_insert / EVENTS) * EVENTS) as u64;
    let events = stored as f64;
    let (cpu_inserted, own_cpu) = (process.cpu() - cpu, Looked::own().cpu() - own_cpu);
    let store = Store::at(engine.url(), engine.password().to_owned());
    let counted = tokio::task::spawn_blocking(move || {
        store.wait_for_quiet();
        store.number("SELECT count() FROM events")
    });
    assert_eq!(counted.await.unwrap(), stored, "every event is stored once");
    let cpu_merged = process.cpu() - cpu;
    engine.stop().await;
    Baseline {
        stored_per_second: events / took,
        events_per_insert,
        engine_us: cpu_inserted / events * 1e6,
        engine_merged_us: cpu_merged / events * 1e6,
        client_us: own_cpu / events * 1e6,
    }
}
