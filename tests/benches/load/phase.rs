//! One load with everything that is looked at meanwhile: CPU, memory, parts, and when what was acknowledged can be seen.

use super::drive::{self, Load, Sent};
use super::engine::{Store, TableSize};
use super::process::{Looked, quantile_ms};
use super::traffic::EVENTS;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the store is asked during a paced load, which is how exact visibility is.
const POLL: Duration = Duration::from_millis(50);
/// How often otherwise, so that asking costs next to nothing.
const SAMPLE: Duration = Duration::from_secs(1);

/// What is measured.
#[derive(Debug)]
pub(crate) struct Server {
    /// `gemba serve`.
    pub(crate) serve: Looked,
    /// Its engine.
    pub(crate) engine: Looked,
    /// The engine, to be asked.
    pub(crate) store: Store,
}

/// Where a phase ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Everything acknowledged is stored.
    Stored,
    /// And merges are quiet.
    Quiet,
}

/// The figures of a phase; CPU in µs an event.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Phase {
    /// Events acknowledged.
    pub(crate) events: u64,
    /// Bytes of an event before compression.
    pub(crate) bytes_per_event: f64,
    /// Bytes of an event as sent.
    pub(crate) sent_bytes_per_event: f64,
    /// Events acknowledged a second while the load was on.
    pub(crate) acknowledged_per_second: f64,
    /// Events a second from the start until all were stored.
    pub(crate) stored_per_second: f64,
    /// From the end of the load until all were stored, seconds.
    pub(crate) stored_after_s: f64,
    /// And from there until merges were quiet, seconds.
    pub(crate) quiet_after_s: f64,
    /// Answers that told to come again.
    pub(crate) refused: u64,
    /// Latency of acknowledgement.
    pub ack_ms_p50: f64,
    /// Latency of acknowledgement.
    pub ack_ms_p99: f64,
    /// From acknowledgement until the event can be queried; only of a paced load.
    pub visible_ms_p50: Option<f64>,
    /// From acknowledgement until the event can be queried; only of a paced load.
    pub visible_ms_p99: Option<f64>,
    /// The server until all was stored.
    pub(crate) serve_us: f64,
    /// The engine until all was stored.
    pub(crate) engine_us: f64,
    /// The engine until merges were quiet.
    pub(crate) engine_merged_us: Option<f64>,
    /// The generator.
    pub(crate) generator_us: f64,
    /// Events of one insert, on average.
    pub(crate) events_per_insert: f64,
    /// The server's memory at its highest, bytes.
    pub(crate) resident: u64,
    /// The engine's memory at its highest, bytes.
    pub(crate) engine_resident: u64,
    /// Active parts of the table of events: seconds since the start, parts.
    pub(crate) parts: Vec<(u64, u64)>,
    /// CPU of the server's threads, µs an event.
    pub(crate) serve_threads_us: Vec<(String, f64)>,
    /// CPU of the engine's threads, µs an event.
    pub(crate) engine_threads_us: Vec<(String, f64)>,
}

/// A look at everything.
struct Sample {
    at: Instant,
    size: TableSize,
    resident: u64,
    engine_resident: u64,
}

/// Sends a load and measures until its end.
pub(crate) fn run(server: &Server, load: &Load, until: Until) -> Phase {
    let before = server.store.size("events").rows;
    let inserts_before = inserts(&server.store);
    let (serve_cpu, engine_cpu, own_cpu) = (server.serve.cpu(), server.engine.cpu(), Looked::own().cpu());
    let threads_before = (server.serve.cpu_by_thread(), server.engine.cpu_by_thread());
    let ended = AtomicBool::new(false);
    let (sent, samples, stored_at, generator_cpu) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| samples(server, load.rate.map_or(SAMPLE, |_| POLL), &ended));
        let sent = drive::send(load);
        let generator_cpu = Looked::own().cpu() - own_cpu;
        drive::flush(load);
        let stored_at = Instant::now();
        // Release: the sampler looks once more after it sees this, and then sees all that is stored.
        ended.store(true, Ordering::Release);
        (sent, sampler.join().unwrap(), stored_at, generator_cpu)
    });
    let events = sent.events() as f64;
    let per_event = |seconds: f64| seconds / events * 1e6;
    let (serve_us, engine_us) =
        (per_event(server.serve.cpu() - serve_cpu), per_event(server.engine.cpu() - engine_cpu));
    let rows = server.store.size("events").rows;
    assert_eq!(rows - before, sent.events(), "every acknowledged event is stored once");
    let last = sent.acks.last().map_or(sent.started, |ack| sent.started + ack.at);
    let quiet_after_s = if until == Until::Quiet { server.store.wait_for_quiet().as_secs_f64() } else { 0.0 };
    let mut latencies: Vec<Duration> = sent.acks.iter().map(|ack| ack.latency).collect();
    let mut lags = load.rate.map(|_| visible(&sent, before, &samples));
    let threads = |now: Vec<(String, f64)>, before: &[(String, f64)]| -> Vec<(String, f64)> {
        let used = now.into_iter().map(|(name, seconds)| {
            let earlier = before.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, seconds)| *seconds);
            (name, per_event(seconds - earlier))
        });
        used.filter(|(_, us)| *us >= 0.005).collect()
    };
    Phase {
        events: sent.events(),
        bytes_per_event: sent.bytes_per_event,
        sent_bytes_per_event: sent.bytes as f64 / events,
        acknowledged_per_second: sent.rate(),
        stored_per_second: events / (stored_at - sent.started).as_secs_f64(),
        stored_after_s: (stored_at - last).as_secs_f64(),
        quiet_after_s,
        refused: sent.refused,
        ack_ms_p50: quantile_ms(&mut latencies, 0.5),
        ack_ms_p99: quantile_ms(&mut latencies, 0.99),
        visible_ms_p50: lags.as_mut().map(|lags| quantile_ms(lags, 0.5)),
        visible_ms_p99: lags.as_mut().map(|lags| quantile_ms(lags, 0.99)),
        serve_us,
        engine_us,
        engine_merged_us: (until == Until::Quiet).then(|| per_event(server.engine.cpu() - engine_cpu)),
        generator_us: per_event(generator_cpu),
        events_per_insert: events / (inserts(&server.store) - inserts_before).max(1) as f64,
        resident: samples.iter().map(|sample| sample.resident).max().unwrap_or(0),
        engine_resident: samples.iter().map(|sample| sample.engine_resident).max().unwrap_or(0),
        parts: parts(&sent, &samples),
        serve_threads_us: threads(server.serve.cpu_by_thread(), &threads_before.0),
        engine_threads_us: threads(server.engine.cpu_by_thread(), &threads_before.1),
    }
}

impl Phase {
    /// Fails when parts grew in number while the load was on: merges would not have kept up with it for ever.
    pub(crate) fn assert_flat(&self) {
        let highest = |from: usize, to: usize| self.parts[from..to].iter().map(|(_, parts)| *parts).max().unwrap_or(0);
        let third = self.parts.len() / 3;
        let (middle, last) = (highest(third, 2 * third), highest(2 * third, self.parts.len()));
        // One round of merges more or less is chance.
        assert!(last <= middle + 10, "parts grow: {middle}, then {last}");
    }
}

/// Inserts of events so far: each wrote a batch of its own.
fn inserts(store: &Store) -> u64 {
    store.number("SELECT uniqExact(batch) FROM events")
}

fn samples(server: &Server, every: Duration, ended: &AtomicBool) -> Vec<Sample> {
    let mut samples = Vec::new();
    loop {
        let is_last = ended.load(Ordering::Acquire);
        let size = server.store.size("events");
        samples.push(Sample {
            at: Instant::now(),
            size,
            resident: server.serve.resident(),
            engine_resident: server.engine.resident(),
        });
        if is_last {
            return samples;
        }
        std::thread::sleep(every);
    }
}

/// For each acknowledged request, how long until the store held as many events as were acknowledged by then. Looked at
/// from time to time, so each is too long by up to [`POLL`].
fn visible(sent: &Sent, before: u64, samples: &[Sample]) -> Vec<Duration> {
    let mut samples = samples.iter();
    let mut sample = samples.next();
    let mut lags = Vec::with_capacity(sent.acks.len());
    for (ack, events) in sent.acks.iter().zip((1_u64..).map(|requests| before + requests * EVENTS as u64)) {
        while sample.is_some_and(|sample| sample.size.rows < events) {
            sample = samples.next();
        }
        let seen = sample.expect("the last look was after everything was stored");
        lags.push(seen.at.saturating_duration_since(sent.started + ack.at));
    }
    lags
}

/// Parts over time, at most twenty points.
fn parts(sent: &Sent, samples: &[Sample]) -> Vec<(u64, u64)> {
    let step = samples.len().div_ceil(20).max(1);
    let points = samples.iter().step_by(step);
    points.map(|sample| (sample.at.saturating_duration_since(sent.started).as_secs(), sample.size.parts)).collect()
}
