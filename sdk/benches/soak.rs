//! Does anything grow, or get lost, over a billion events?
//!
//! Run: `cargo bench -p gemba --bench soak -- 1000000000` (in `.ci/long`; without a number ten million). A thread records
//! through the real pipeline, in scopes that come and go, with attempts and named queries among the events; another takes its
//! place for each tenth of the way. A server in this process unpacks every request and counts. Every tenth it prints the memory
//! in use, as its allocator counts it and as the system does, which adds what an allocator keeps for later. At the end nothing
//! may have been dropped, everything recorded must have arrived, and neither memory may have grown in the second half.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a program that prints its measurements")]

#[path = "support/live.rs"]
mod live;
mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

/// Records of one scope: 96 uses, beginning and end of two attempts.
const SCOPE: u64 = 100;
/// Growth of what is allocated that is allowed in the second half, in KiB. Chosen: far less than any leak by event
/// would leave.
const ALLOWED_KIB: isize = 64;
/// Growth of the most that is resident, in KiB. Chosen: what an allocator keeps comes and goes by this much.
const ALLOWED_RESIDENT_KIB: u64 = 4 * 1024;

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
    println!("{:>14} {:>10} {:>16} {:>14}", "events", "seconds", "allocated, KiB", "resident, KiB");
    for tenth in 1..=10 {
        std::thread::scope(|threads| drop(threads.spawn(|| record(events / 10))));
        assert_eq!(gemba::flush(Duration::from_secs(30)), Ok(()), "the server answers");
        RECORDED.store(gemba::stats().recorded, Ordering::Relaxed);
        let (allocated, resident) = (live::bytes() / 1024, resident_kib()?);
        memory.push((allocated, resident));
        let seconds = begin.elapsed().as_secs_f64();
        println!("{:>14} {seconds:>10.0} {allocated:>16} {resident:>14}", events / 10 * tenth);
    }
    drop(guard);
    let stats = gemba::stats();
    assert_eq!((stats.dropped_total(), stats.delivered), (0, stats.recorded), "{stats:?}");
    assert_eq!(stats.without_context, 0, "{stats:?}");
    let records = arrived.records.load(Ordering::Relaxed);
    let expected = events / 10 / SCOPE * (SCOPE + 1) * 10;
    assert!(records >= expected, "{records} log records arrived of {expected} and more");
    let (first, second) = memory.split_at(memory.len() / 2);
    let most = |half: &[(isize, u64)]| (half.iter().map(|of| of.0).max(), half.iter().map(|of| of.1).max());
    let (before, after) = (most(first), most(second));
    let is_flat = after.0 <= before.0.map(|most| most + ALLOWED_KIB)
        && after.1 <= before.1.map(|most| most + ALLOWED_RESIDENT_KIB);
    assert!(is_flat, "KiB allocated and resident: {before:?} at most in the first half, {after:?} in the second");
    println!("{} recorded, {} delivered, 0 dropped; {records} log records arrived", stats.recorded, stats.delivered);
    Ok(())
}
