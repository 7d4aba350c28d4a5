//! The claim the product stands on: whatever is killed when, every acknowledged event is stored exactly once.
//!
//! `gemba serve`, the engine or both are killed with SIGKILL at seeded moments while several connections send and repeat
//! what was not acknowledged. After each round every acknowledged event is there once, the projection equals a recount
//! from raw, and the ledger adds up. `GEMBA_KILL_ROUNDS` asks for more rounds than the twenty of the suite, and
//! `GEMBA_KILL_SEED` for other moments. What this does not prove: power cuts (`power_cut.rs`), loss of the disk.

use crate::durability_support::{Die, Load, engine_of, kill_now};
use gemba_tests::server::{Keys, Process};
use std::time::Duration;

const DEFAULT_ROUNDS: u64 = 20;
const CONNECTIONS: usize = 6;

fn number_from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_event_is_stored_exactly_once_whatever_is_killed() {
    let rounds = number_from_environment("GEMBA_KILL_ROUNDS", DEFAULT_ROUNDS);
    let mut die = Die(number_from_environment("GEMBA_KILL_SEED", 20_261_123));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut serve = Process::start(&data, &[]);
    let keys = Keys::of(&data);
    let load = Load::start(CONNECTIONS, &serve.url, &keys.ingest);
    let mut kills = [0; 3];
    for round in 0..rounds {
        load.resume();
        // Several kills before the books are looked at: a kill hits the recovery from the one before.
        for _ in 0..=die.roll(2) {
            tokio::time::sleep(Duration::from_millis(30 + die.roll(1_500))).await;
            let victim = die.roll(3);
            kills[usize::try_from(victim).unwrap()] += 1;
            let engine = engine_of(&serve).map(|engine| engine.process_id);
            if let (Some(engine), true) = (engine, victim != 0) {
                kill_now(engine);
            }
            if victim != 1 {
                kill_now(serve.id());
                serve.wait(Duration::from_secs(10));
                serve = Process::start(&data, &[]);
                load.point_to(&serve.url);
            }
        }
        load.pause();
        let context = format!("round {round}, kills of serve, engine, both: {kills:?}");
        load.check(&serve, &keys, &context).await;
    }
    let sent = load.stop();
    println!("{} events acknowledged, {} requests repeated, kills {kills:?}", sent.acknowledged, sent.repeated);
    assert!(sent.acknowledged > 1_000 * rounds, "{sent:?} is too little load to mean anything");
    assert!(sent.repeated > 0, "no request was ever cut off");
    assert_eq!(serve.stop(), Some(0));
}
