//! What an outage left behind: which of old and new is stored when, how much is left behind at most, and real kills while some
//! of it is.
//!
//! What this does not prove: power cuts, which are the claims about the disk's.

use crate::durability_outage::{Between, Trouble};
use crate::durability_site::{Engine, PATIENCE, Site, pipeline_with, submission};
use crate::durability_support::{check_exactly_once, check_ledger, kill_now, texts};
use gemba_ingest::log::cuts::CutBook;
use gemba_ingest::log::disk::OsDisk;
use gemba_ingest::pipeline::{Mode, Pipeline, PipelineConfig, PipelineStatus};
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names the role of the process of [`child`].
const ROLE: &str = "BACKLOG_LOG";
/// Events of a request, and rows of a cut.
const EVENTS: u64 = 500;
/// Requests that an outage leaves behind, a cut each.
const LEFT: u64 = 80;

/// Cuts so small, and so little memory, that an outage soon has the pipeline read its log.
fn small(log: PathBuf) -> PipelineConfig {
    PipelineConfig {
        max_cut_age: Duration::from_millis(20),
        max_waiting_bytes: 1 << 20,
        max_cut_rows: EVENTS,
        segment_bytes: 64 << 10,
        ..PipelineConfig::new(log)
    }
}

/// What the file of cuts says is left behind, read from a copy, since opening it writes it anew.
fn left_behind(log: &Path) -> Vec<Range<u64>> {
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(log.join("cuts"), copy.path().join("cuts")).unwrap();
    CutBook::open(Arc::new(OsDisk), copy.path()).unwrap().backlog().to_vec()
}

/// Looks at the figures until they are so.
async fn until(pipeline: &Pipeline, what: &str, mut is_so: impl FnMut(&PipelineStatus) -> bool) -> PipelineStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = pipeline.status();
        if is_so(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "never {what}: {status:?}");
        // The figures tell nobody when they change.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_log_is_more_than_half_full_what_is_oldest_is_stored_first() {
    let mut site = Site::start().await;
    let pipeline = pipeline_with(small(site.log()), site.engine.client());
    site.engine.kill();
    for _ in 0..LEFT {
        site.send(&pipeline, EVENTS).await;
    }
    let max_log_bytes = pipeline.status().log_bytes * 5 / 4;
    drop(pipeline);
    site.engine.restart();
    let pipeline = pipeline_with(PipelineConfig { max_log_bytes, ..small(site.log()) }, site.engine.client());
    let status = until(&pipeline, "live", |status| status.mode == Mode::Live).await;
    // Nothing came in, so the log was no larger when new data were let before the rest.
    assert!(status.log_bytes <= max_log_bytes / 2, "{} of {max_log_bytes} bytes", status.log_bytes);
    assert!(pipeline.flush(PATIENCE).await);
    site.check("after a log that was nearly full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_that_is_merely_slow_leaves_one_stretch_behind_at_most() {
    let mut site = Site::start().await;
    let between = Between::start(&site.engine.address).await;
    let store = || Engine::client_at(between.address.strip_prefix("http://").unwrap());
    let config = PipelineConfig { max_waiting_bytes: 1 << 16, ..small(site.log()) };
    between.make(Trouble::Slow(Duration::from_millis(30)));
    let pipeline = pipeline_with(config.clone(), store());
    for _ in 0..LEFT {
        site.send(&pipeline, EVENTS).await;
    }
    let status = pipeline.status();
    assert!(status.store_problem.is_none() && status.pending_records > 20 * EVENTS, "{status:?}");
    drop(pipeline);
    let stretches = left_behind(&site.log());
    assert!(stretches.len() <= 1, "{stretches:?}");
    between.make(Trouble::None);
    let pipeline = pipeline_with(config, store());
    assert!(pipeline.flush(PATIENCE).await);
    site.check("after more than it could store").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_while_clickhouse_is_away_goes_live_only_once_it_stores() {
    const SMALL: u64 = 50;
    let mut site = Site::start().await;
    let config = PipelineConfig { max_cut_rows: SMALL, ..small(site.log()) };
    let pipeline = pipeline_with(config.clone(), site.engine.client());
    site.engine.kill();
    for _ in 0..10 {
        site.send(&pipeline, SMALL).await;
    }
    drop(pipeline);
    // Every cut may be sent at once, so the end of the log is reached while nothing is stored.
    let config = PipelineConfig { max_inserts: 64, ..config };
    let pipeline = pipeline_with(config, site.engine.client());
    until(&pipeline, "told of the problem", |status| status.store_problem.is_some()).await;
    assert!(!pipeline.flush(Duration::from_millis(300)).await);
    let status = pipeline.status();
    assert_eq!((status.mode, status.pending_records), (Mode::Behind, 10 * SMALL));
    site.engine.restart();
    let status = until(&pipeline, "live", |status| status.mode == Mode::Live).await;
    assert!(status.inserts.ok > 0, "{status:?}");
    assert!(pipeline.flush(PATIENCE).await);
    site.check("after a start without an engine").await;
}

/// A process with a pipeline, told line by line what to do; by itself it has no role and ends at once.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(log) = std::env::var(ROLE) else { return };
    let variable = |name: &str| std::env::var(name).unwrap();
    let shares_store = variable("BACKLOG_SHARES").parse().unwrap();
    let config = PipelineConfig { shares_store, ..small(PathBuf::from(log)) };
    let pipeline = pipeline_with(config, Engine::client_at(&variable("BACKLOG_ADDRESS")));
    for line in std::io::stdin().lines() {
        let answer = match line.unwrap().parse() {
            Ok(number) => {
                let (submission, _) = submission(number, EVENTS, Some(&format!("batch {number}")));
                format!("acknowledged {}", pipeline.submit(submission).await.unwrap().tally.kept())
            }
            Err(_) => format!("{:?}", pipeline.status().mode),
        };
        println!("\n> {answer}");
    }
}

/// A process of [`child`].
struct Node {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Node {
    fn start(log: PathBuf, engine: &Engine, shares_store: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["durability_backlog::child", "--exact", "--nocapture"]).env(ROLE, &log);
        command.env("BACKLOG_ADDRESS", &engine.address).env("BACKLOG_SHARES", shares_store.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, orders, answers, log }
    }

    fn tell(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").unwrap();
        let mut line = String::new();
        while self.answers.read_line(&mut line).unwrap() > 0 {
            if let Some(answer) = line.strip_prefix("> ") {
                return answer.trim_end().to_owned();
            }
            line.clear();
        }
        panic!("the process ended when told {order}");
    }

    fn send(&mut self, number: u64) {
        assert_eq!(self.tell(&number.to_string()), format!("acknowledged {EVENTS}"));
    }

    /// Whether new data go before what is left behind, and some of that is in no cut. It is live a moment before that is
    /// written down.
    fn has_left_something(&mut self) -> bool {
        self.tell("mode") == "Live" && !left_behind(&self.log).is_empty()
    }

    fn kill(mut self, context: &str) {
        kill_now(i32::try_from(self.child.id()).unwrap());
        self.child.wait().unwrap();
        assert!(!left_behind(&self.log).is_empty(), "{context}: nothing was left behind when it was killed");
    }
}

/// Kills each of the nodes as soon as it has left something behind, whichever is first.
fn kill_all(mut nodes: Vec<Node>, context: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !nodes.is_empty() {
        assert!(Instant::now() < deadline, "{context}: {} nodes leave nothing behind", nodes.len());
        let ready = nodes.iter_mut().position(Node::has_left_something);
        if let Some(ready) = ready {
            nodes.remove(ready).kill(context);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have been killed already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Kills nodes on one store twice each while something is left behind, and has them finish.
async fn killed_with_a_backlog(nodes: usize) {
    let mut site = Site::start().await;
    let logs: Vec<_> = (0..nodes).map(|node| site.log().join(node.to_string())).collect();
    let shares_store = nodes > 1;
    let start = |site: &Site| -> Vec<Node> {
        logs.iter().map(|log| Node::start(log.clone(), &site.engine, shares_store)).collect()
    };
    let mut running = start(&site);
    site.engine.kill();
    for number in 0..LEFT {
        for node in &mut running {
            node.send(number);
        }
        site.acknowledged.extend(submission(number, EVENTS, None).1);
    }
    site.engine.restart();
    for round in 0..2 {
        if round > 0 {
            running = start(&site);
            // Something new, so that there is something to be stored before the rest.
            for node in &mut running {
                node.send(LEFT + round);
            }
            site.acknowledged.extend(submission(LEFT + round, EVENTS, None).1);
        }
        kill_all(std::mem::take(&mut running), &format!("round {round}"));
    }
    let finish =
        |log: &PathBuf| pipeline_with(PipelineConfig { shares_store, ..small(log.clone()) }, site.engine.client());
    let pipelines: Vec<_> = logs.iter().map(finish).collect();
    for pipeline in &pipelines {
        // All that the nodes of a pair left, one after the other, with every key claimed.
        assert!(pipeline.flush(5 * PATIENCE).await, "{:?}", pipeline.status());
    }
    let client = site.engine.client();
    let stored = texts(&client, "SELECT strings['id'] FROM events").await;
    let context = format!("{nodes} nodes");
    check_exactly_once(&stored, &site.acknowledged, &context);
    check_ledger(&client, async || true, &context).await;
    let repeats = "SELECT sum(records) FROM ledger FINAL WHERE fate = 'deduplicated'";
    let copies = u64::try_from(nodes).unwrap() - 1;
    assert_eq!(client.number(repeats).await.unwrap(), copies * u64::try_from(stored.len()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_something_is_left_behind_loses_and_doubles_nothing() {
    killed_with_a_backlog(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_one_on_both_nodes_of_a_pair() {
    killed_with_a_backlog(2).await;
}
