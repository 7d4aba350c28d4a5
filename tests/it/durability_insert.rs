//! The pipeline on the real engine while something goes wrong around single inserts: killed in the middle, answers lost,
//! ClickHouse away, tables missing, the server itself gone.

use crate::durability_proxy::Proxy;
use crate::durability_site::{Engine, PATIENCE, Site, pipeline_with};
use gemba_ingest::log::cuts::{CutBlock, CutBook, Ghost};
use gemba_ingest::log::disk::OsDisk;
use gemba_ingest::pipeline::{Mode, Pipeline, PipelineConfig, SubmitError};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_stored_and_the_log_is_empty_after_a_drain() {
    let mut site = Site::start().await;
    let pipeline = site.pipeline();
    for _ in 0..5 {
        site.send(&pipeline, 100).await;
    }
    assert!(pipeline.flush(PATIENCE).await);
    site.check("after a flush").await;
    let status = pipeline.status();
    assert_eq!((status.pending_records, status.mode), (0, Mode::Live));
    assert_eq!(status.fates.received, 505);
    assert_eq!(status.fates.rejected, 5);
    site.send(&pipeline, 100).await;
    assert!(pipeline.drain(PATIENCE).await);
    site.check("after a drain").await;
    assert_eq!(pipeline.status().log_bytes, 0);
    let (late, _) = site.submission(1, None);
    assert_eq!(pipeline.submit(late).await, Err(SubmitError::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_cut_is_one_part() {
    let mut site = Site::start().await;
    let pipeline =
        pipeline_with(PipelineConfig { max_cut_age: Duration::from_mins(1), ..site.config() }, site.engine.client());
    site.engine.client().execute("SYSTEM STOP MERGES").await.unwrap();
    for _ in 0..40 {
        site.send(&pipeline, 2_000).await;
    }
    assert!(pipeline.flush(PATIENCE).await);
    let client = site.engine.client();
    let parts = client.number("SELECT count() FROM system.parts WHERE table = 'events' AND active").await.unwrap();
    let batches = client.number("SELECT uniqExact(batch) FROM events").await.unwrap();
    assert_eq!((parts, batches), (1, 1));
    site.check("one part").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_again_is_stored_once_also_after_a_restart_and_a_drain() {
    let mut site = Site::start().await;
    let pipeline = site.pipeline();
    let ours = "0198c0de-0000-7000-8000-0000000000ff-1";
    let mut sent = Vec::new();
    for key in [Some(ours), Some("of somebody else"), None] {
        let (submission, ids) = site.submission(10, key);
        let twice = tokio::join!(pipeline.submit(submission.clone()), pipeline.submit(submission.clone()));
        let receipts = [twice.0.unwrap(), twice.1.unwrap()];
        assert_eq!(receipts.iter().filter(|receipt| receipt.deduplicated).count(), 1, "{key:?}");
        assert_eq!(receipts[0].tally, receipts[1].tally, "a repeat is told what the first was told");
        site.acknowledged.extend(ids);
        sent.push(submission);
    }
    drop(pipeline);
    let pipeline = site.pipeline();
    for submission in &sent {
        assert!(
            pipeline.submit(submission.clone()).await.unwrap().deduplicated,
            "{:?} after a restart",
            submission.key
        );
    }
    assert!(pipeline.drain(PATIENCE).await);
    let pipeline = site.pipeline();
    for submission in &sent {
        assert!(pipeline.submit(submission.clone()).await.unwrap().deduplicated, "{:?} after a drain", submission.key);
    }
    assert!(pipeline.flush(PATIENCE).await);
    site.check("repeats").await;
    let deduplicated = "SELECT sum(records) FROM ledger FINAL WHERE fate = 'deduplicated'";
    assert_eq!(site.engine.client().number(deduplicated).await.unwrap(), 9 * 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_clickhouse_is_away_memory_stays_flat_and_everything_is_stored_later() {
    let mut site = Site::start().await;
    let config =
        PipelineConfig { max_waiting_bytes: 1 << 20, max_cut_rows: 2_000, segment_bytes: 1 << 20, ..site.config() };
    let pipeline = pipeline_with(config, site.engine.client());
    site.send(&pipeline, 100).await;
    site.engine.kill();
    for _ in 0..120 {
        site.send(&pipeline, 500).await;
    }
    let status = pipeline.status();
    assert_eq!(status.mode, Mode::Behind);
    assert!(status.waiting_bytes <= 2 << 20, "{} bytes wait in memory", status.waiting_bytes);
    assert!(status.pending_records >= 60_000, "{} records pending", status.pending_records);
    assert!(status.store_problem.is_some());
    assert!(!status.needs_attention, "an engine that is away comes back by itself");
    assert!(!pipeline.flush(Duration::from_millis(300)).await);
    site.engine.restart();
    for _ in 0..20 {
        site.send(&pipeline, 500).await;
    }
    assert!(pipeline.flush(PATIENCE).await);
    site.check("after an outage").await;
    site.send(&pipeline, 500).await;
    assert!(pipeline.flush(PATIENCE).await);
    let status = pipeline.status();
    assert_eq!((status.mode, status.pending_records, status.store_problem), (Mode::Live, 0, None));
    assert!(status.log_bytes <= 2 << 20, "{} bytes of stored log are kept", status.log_bytes);
    site.check("live again").await;
}

/// Sends one event once ClickHouse is known to be back, and waits until it can be queried; how many records wait then.
async fn pending_when_new_data_are_visible(site: &mut Site, pipeline: &Pipeline) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    while pipeline.status().mode == Mode::Behind {
        assert!(Instant::now() < deadline, "it stays behind: {:?}", pipeline.status());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (submission, ids) = site.submission(1, None);
    pipeline.submit(submission).await.unwrap();
    let sql = format!("SELECT count() FROM events WHERE strings['id'] = '{}'", ids[0]);
    site.acknowledged.extend(ids);
    // The engine is just coming back, so it may refuse to answer at first.
    while site.engine.client().number(&sql).await.unwrap_or(0) == 0 {
        assert!(Instant::now() < deadline, "a new event is not stored: {:?}", pipeline.status());
    }
    pipeline.status().pending_records
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_outage_left_behind_holds_up_no_new_data_also_after_a_restart() {
    const LEFT: u64 = 60_000;
    let mut site = Site::start().await;
    let config = PipelineConfig { max_waiting_bytes: 1 << 20, max_cut_rows: 500, ..site.config() };
    let pipeline = pipeline_with(config.clone(), site.engine.client());
    site.send(&pipeline, 100).await;
    assert!(pipeline.flush(PATIENCE).await);
    site.engine.kill();
    for _ in 0..LEFT / 500 {
        site.send(&pipeline, 500).await;
    }
    assert_eq!(pipeline.status().mode, Mode::Behind);
    site.engine.restart();
    let pending = pending_when_new_data_are_visible(&mut site, &pipeline).await;
    assert!(pending > LEFT / 2, "{pending} of {LEFT} were left when new data became visible");

    // Ended without storing the rest: what was in no cut is known from the file of cuts alone.
    drop(pipeline);
    let pipeline = pipeline_with(config, site.engine.client());
    let left = pipeline.status().pending_records;
    assert!(left > 0, "everything was stored before the kill");
    let pending = pending_when_new_data_are_visible(&mut site, &pipeline).await;
    assert!(pending > left / 2, "{pending} of {left} were left when new data became visible");
    assert!(pipeline.flush(PATIENCE).await);
    site.check("after a backlog").await;
    let status = pipeline.status();
    assert_eq!((status.mode, status.pending_records), (Mode::Live, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_during_an_outage_goes_on_where_the_last_one_ended() {
    let mut site = Site::start().await;
    for round in 0..3 {
        let pipeline = site.pipeline();
        for _ in 0..10 {
            site.send(&pipeline, 50).await;
        }
        if round == 0 {
            assert!(pipeline.flush(PATIENCE).await);
            site.engine.kill();
        }
        // Dropped with cuts open or entries in no cut: what a kill leaves.
        drop(pipeline);
    }
    site.engine.restart();
    let pipeline = site.pipeline();
    assert_eq!(pipeline.status().pending_records, 1_000);
    assert!(pipeline.flush(PATIENCE).await);
    site.check("after two starts without an engine").await;
    assert_eq!(pipeline.status().pending_records, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_whose_answer_is_lost_is_proven_by_counting_and_not_sent_again() {
    let mut site = Site::start().await;
    let (proxy, address) = Proxy::start(&site.engine.address).await;
    let client = Engine::client_at(&address);
    let pipeline = pipeline_with(site.config(), client);
    for _ in 0..5 {
        proxy.holds.store(true, Ordering::SeqCst);
        site.send(&pipeline, 200).await;
        proxy.held.notified().await;
        proxy.let_go.notify_one();
        proxy.lose(1).await;
        assert!(pipeline.flush(PATIENCE).await);
    }
    let inserts = pipeline.status().inserts;
    assert_eq!((inserts.failed, inserts.proven, inserts.reinserted), (5, 5, 0), "{inserts:?}");
    site.check("answers lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_told_and_loses_nothing() {
    let mut site = Site::start().await;
    let client = site.engine.client();
    client.execute("RENAME TABLE events TO events_away").await.unwrap();
    let pipeline = site.pipeline();
    site.send(&pipeline, 100).await;
    while !pipeline.status().needs_attention {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    site.send(&pipeline, 100).await;
    client.execute("RENAME TABLE events_away TO events").await.unwrap();
    assert!(pipeline.flush(PATIENCE).await);
    site.check("the table is back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_that_comes_out_of_the_log_differently_is_stored_anew_and_once() {
    let mut site = Site::start().await;
    site.engine.kill();
    let pipeline = site.pipeline();
    site.send(&pipeline, 100).await;
    let refused = async {
        while pipeline.status().store_problem.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("an insert fails while the engine is dead");
    drop(pipeline);
    // As an older decoder would have cut it: other rows, in a table that gets none now.
    let mut book = CutBook::open(Arc::new(OsDisk), &site.log()).unwrap();
    let mut cut = book.open_cuts().next().expect("the cut whose insert failed").clone();
    cut.decoder = 0;
    cut.blocks[0].rows += 1;
    let elsewhere = CutBlock { table: "requests".into(), ..cut.blocks[0].clone() };
    cut.blocks.push(elsewhere);
    book.number_blocks(&mut cut.blocks);
    book.replace(cut, Vec::new()).unwrap();
    drop(book);
    site.engine.restart();
    let pipeline = site.pipeline();
    assert!(pipeline.flush(PATIENCE).await);
    site.check("cut by an older decoder").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_insert_that_comes_through_late_is_removed() {
    let mut site = Site::start().await;
    let client = site.engine.client();
    let pipeline = site.pipeline();
    site.send(&pipeline, 100).await;
    assert!(pipeline.drain(PATIENCE).await);
    // The same rows under the number of an insert that was replaced, as a server brings them that was told to stop late.
    let row = "SELECT toUInt64(any(batch) + 1000000), toUInt16(any(toMonday(received))) FROM events";
    let (late, week) = client.raw().query(row).fetch_one::<(u64, u16)>().await.unwrap();
    let copy = format!("INSERT INTO events SELECT * REPLACE ({late} AS batch) FROM events");
    client.execute(&copy).await.unwrap();
    let insert = late & ((1 << 40) - 1);
    let block = CutBlock { table: "events".into(), class: 0, week, insert, rows: 100, records: 100 };
    let mut book = CutBook::open(Arc::new(OsDisk), &site.log()).unwrap();
    let mut cut = gemba_ingest::log::cuts::Cut {
        number: book.next_cut(),
        first: book.uncut(),
        end: book.uncut(),
        decoder: 1,
        records: 0,
        lost: Vec::new(),
        blocks: Vec::new(),
        refused: Vec::new(),
    };
    book.number_blocks(&mut cut.blocks);
    let number = cut.number;
    book.replace(cut, vec![Ghost { block, since_ms: 0 }]).unwrap();
    book.done(number).unwrap();
    drop(book);
    let pipeline = site.pipeline();
    let doubled = "SELECT count() FROM events";
    while client.number(doubled).await.unwrap() > 100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    site.check("the late insert is gone").await;
    assert!(pipeline.drain(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_refuses_new_data_and_keeps_the_old() {
    let mut site = Site::start().await;
    let pipeline = site.pipeline();
    site.send(&pipeline, 100).await;
    drop(pipeline);
    let pipeline = pipeline_with(PipelineConfig { min_free_bytes: u64::MAX, ..site.config() }, site.engine.client());
    while pipeline.status().refusing.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (submission, _) = site.submission(1, None);
    let refused = pipeline.submit(submission).await;
    assert!(matches!(refused, Err(SubmitError::Busy { reason: "disk_full", .. })), "{refused:?}");
    assert!(pipeline.flush(PATIENCE).await);
    site.check("what was there is stored").await;
}

/// Kills the engine when a thread of it makes its `count`th call of `call`; returns once the trap is set.
struct Trap {
    strace: Child,
}

impl Trap {
    fn set(engine: &Engine, call: &str, count: u32) -> Self {
        let mut strace = Command::new("strace")
            .args(["-f", "-p", &engine.child.id().to_string(), "-o", "/dev/null"])
            .args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:signal=KILL:when={count}")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is needed to kill an engine at a given call");
        let mut talk = BufReader::new(strace.stderr.take().unwrap());
        let mut line = String::new();
        talk.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "strace said {line:?}");
        // It goes on telling about threads; nobody may block on that.
        std::thread::spawn(move || std::io::copy(&mut talk, &mut std::io::sink()));
        Self { strace }
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        // SIGINT detaches, SIGKILL would leave the engine stopped.
        crate::durability_support::interrupt(i32::try_from(self.strace.id()).unwrap());
        drop(self.strace.wait());
    }
}

/// The calls by which an insert reaches the disk; some are there so that a library that changes its ways is still hit.
const CALLS: &[&str] = &["rename", "renameat2", "fsync", "fdatasync", "pwrite64", "write"];

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_killed_at_any_write_sync_or_rename_is_stored_exactly_once() {
    let mut site = Site::start().await;
    let (proxy, address) = Proxy::start(&site.engine.address).await;
    let client = Engine::client_at(&address);
    let pipeline = pipeline_with(site.config(), client);
    let mut killed = 0;
    for call in CALLS {
        for count in 1..200 {
            // Nothing but the insert is to write, so that the kill hits it.
            site.engine.client().execute("SYSTEM STOP MERGES").await.unwrap();
            proxy.holds.store(true, Ordering::SeqCst);
            site.send(&pipeline, 50).await;
            // Ledger and resources are written by now; the trap is for the insert of the events alone.
            tokio::time::timeout(PATIENCE, proxy.held.notified()).await.unwrap();
            let trap = Trap::set(&site.engine, call, count);
            proxy.let_go.notify_one();
            let flushed = pipeline.flush(PATIENCE);
            tokio::pin!(flushed);
            let is_dead = loop {
                tokio::select! {
                    done = &mut flushed => {
                        assert!(done, "{call} {count}");
                        break site.engine.child.try_wait().unwrap().is_some();
                    }
                    () = tokio::time::sleep(Duration::from_millis(5)) => {
                        if site.engine.child.try_wait().unwrap().is_some() {
                            break true;
                        }
                    }
                }
            };
            drop(trap);
            if !is_dead {
                break;
            }
            killed += 1;
            site.engine.restart();
            assert!(pipeline.flush(PATIENCE).await, "killed at {call} {count}");
            site.check(&format!("killed at {call} {count}")).await;
        }
    }
    let inserts = pipeline.status().inserts;
    println!("{killed} kills, {inserts:?}");
    assert!(inserts.failed >= 20, "only {} inserts were hit by {killed} kills", inserts.failed);
    site.check("at the end").await;
}
