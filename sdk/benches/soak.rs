//! Does anything grow, or get lost, over a billion events?
//!
//! Run: `cargo bench -p gemba --bench soak -- 1000000000` (in `.ci/long`; without a number ten million). A thread records
//! through the real pipeline, in scopes that come and go, with attempts and named queries among the events; another takes its
//! place for each tenth of the way. A server in this process unpacks every request and counts. Every tenth it prints the memory in use. At the end nothing may
//! have been dropped, everything recorded must have arrived, and the memory of the second half must not have grown.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a program that prints its measurements")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

/// Records of one scope: 96 uses, beginning and end of two attempts.
const SCOPE: u64 = 100;
/// Growth that is allowed in the second half, in KiB. Chosen: what an allocator may keep.
const ALLOWED_KIB: u64 = 1024;

/// Records so far as [`gemba::stats`] will count them.
static RECORDED: AtomicU64 = AtomicU64::new(0);

/// KiB of memory in use (`VmRSS`).
fn resident_kib() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

/// Waits while more than half a ring is unread, so that the drain thread has been woken, or the queue is filling: a soak wants
/// no drops.
fn keep_pace() {
    loop {
        let stats = gemba::stats();
        let unread = RECORDED.load(Ordering::Relaxed).saturating_sub(stats.recorded);
        if unread < 900 && stats.pending < 30_000 {
            return;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn record(events: u64) {
    for number in 0..events / SCOPE {
        keep_pace();
        gemba::scope().user(number % 10_007).session(number).tenant("acme").run(|| {
            for item in 0..SCOPE - 4 {
                gemba::feature!("soak.used", n = item, ratio = 0.5, kind = "price");
            }
            gemba::attempt!("soak.attempt", n = number).run(|| Some(number));
            gemba::attempt!("soak.given_up").abandon();
            gemba::query!("soak.query", Sqlite).start().finish(Some(3));
        });
        // And one of usage, once the scope has ended.
        RECORDED.fetch_add(SCOPE + 1, Ordering::Relaxed);
    }
}

fn main() -> Result<(), Failure> {
    let number = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let events: u64 = number.unwrap_or(10_000_000);
    let (server, arrived) = support::start_sink()?;
    let guard = gemba::Config::new("soak").without_environment().endpoint(server).start()?;
    let begin = Instant::now();
    let mut memory = Vec::new();
    println!("{:>14} {:>10} {:>12}", "events", "seconds", "memory, KiB");
    for tenth in 1..=10 {
        std::thread::scope(|threads| drop(threads.spawn(|| record(events / 10))));
        assert_eq!(gemba::flush(Duration::from_secs(30)), Ok(()), "the server answers");
        RECORDED.store(gemba::stats().recorded, Ordering::Relaxed);
        memory.push(resident_kib()?);
        println!("{:>14} {:>10.0} {:>12}", events / 10 * tenth, begin.elapsed().as_secs_f64(), memory.last().unwrap());
    }
    drop(guard);
    let stats = gemba::stats();
    assert_eq!((stats.dropped_total(), stats.delivered), (0, stats.recorded), "{stats:?}");
    assert_eq!(stats.without_context, 0, "{stats:?}");
    let records = arrived.records.load(Ordering::Relaxed);
    let expected = events / 10 / SCOPE * (SCOPE + 1) * 10;
    assert!(records >= expected, "{records} log records arrived of {expected} and more");
    let (half, end) = (memory[4], memory[9]);
    assert!(end <= half + ALLOWED_KIB, "{half} KiB after half of the way, {end} at its end");
    println!("{} recorded, {} delivered, 0 dropped; {records} log records arrived", stats.recorded, stats.delivered);
    Ok(())
}
