//! What threads cost in memory: while they live, and once they have ended. Its own file: the allocator counts the whole process.

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test")]

#[path = "../benches/support/live.rs"]
mod live;
#[path = "../benches/support/mod.rs"]
mod sink;

use gemba::DropReason;
use gemba::query::{Database, Dialect};
use std::sync::{Barrier, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

const KIB: isize = 1024;
const MAX_RINGS: usize = 64;

/// One claim at a time: they share the process's memory and rings.
fn started() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    static GUARD: OnceLock<gemba::Guard> = OnceLock::new();
    let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    GUARD.get_or_init(|| {
        let (server, _) = sink::start_sink().unwrap();
        gemba::Config::new("threads").without_environment().endpoint(server).max_rings(MAX_RINGS).start().unwrap()
    });
    alone
}

fn flush() {
    assert_eq!(gemba::flush(Duration::from_mins(1)), Ok(()));
}

fn dropped(reason: DropReason) -> u64 {
    gemba::stats().dropped.iter().find(|(of, _)| *of == reason).map_or(0, |(_, count)| *count)
}

/// What a short-lived thread does: an event, an attempt and a query in a scope.
fn live_briefly(number: usize) {
    gemba::scope().user(number).session("s-1").run(|| {
        gemba::feature!("threads.used", n = number);
        gemba::attempt!("threads.tried").complete();
        gemba::query!("threads.query", Sqlite).start().finish(Some(1));
    });
}

/// Threads that live and end, eight at a time, with a flush after each `batch` of them.
fn short_lived(threads: usize, batch: usize) {
    for first in (0..threads).step_by(batch) {
        for group in (first..first + batch).step_by(8) {
            let threads: Vec<_> =
                (group..group + 8).map(|number| std::thread::spawn(move || live_briefly(number))).collect();
            // Joined one by one, which waits until their rings are given back; the end of a scope of threads does not, and then
            // the next ones need rings of their own.
            for thread in threads {
                thread.join().unwrap();
            }
        }
        flush();
    }
}

/// The least that is allocated over some flushes: what is kept to be used again, such as the memory of a batch, comes and
/// goes, while what threads left behind would stay.
fn kept() -> isize {
    let live = |_| {
        short_lived(200, 200);
        live::bytes()
    };
    (0..10).map(live).min().unwrap()
}

#[test]
fn ten_thousand_short_lived_threads_leave_nothing_behind() {
    let _alone = started();
    // The memory of a batch stays as large as the largest one was, so the largest ones come first.
    short_lived(10_000, 2_000);
    let (before, recorded) = (kept(), gemba::stats().recorded);
    short_lived(10_000, 200);
    let left = kept() - before;
    assert!(left < 100 * KIB, "{left} bytes are left, ten a thread or more");
    let stats = gemba::stats();
    assert!(stats.recorded - recorded >= 3 * 10_000, "{stats:?}");
    assert_eq!((stats.delivered + stats.dropped_total(), stats.pending), (stats.recorded, 0), "{stats:?}");
}

#[test]
fn threads_beyond_the_cap_cost_nothing_and_are_counted() {
    const THREADS: usize = 512;
    const EVENTS: u64 = 3;
    let _alone = started();
    flush();
    let (before, refused) = (live::bytes(), dropped(DropReason::NoRing));
    let (recorded, measured) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    let grown = std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let spawned = std::thread::Builder::new().stack_size(128 * 1024).spawn_scoped(scope, || {
                (0..EVENTS).for_each(|n| gemba::feature!("threads.crowd", n = n));
                recorded.wait();
                measured.wait();
            });
            drop(spawned.unwrap());
        }
        recorded.wait();
        let grown = live::bytes() - before;
        measured.wait();
        grown
    });
    // Each ring has as much slack behind it, whose pages are never touched.
    let rings = isize::try_from(MAX_RINGS).unwrap() * 2 * 64 * KIB;
    assert!(grown <= rings + 1024 * KIB, "{grown} bytes for {THREADS} threads");
    let expected = (THREADS - MAX_RINGS) as u64 * EVENTS;
    assert_eq!(dropped(DropReason::NoRing) - refused, expected);
}

#[test]
fn rings_and_query_tables_of_eight_threads_stay_within_six_mebibytes() {
    const THREADS: usize = 8;
    const QUERIES: usize = 250;
    let _alone = started();
    flush();
    let before = live::bytes();
    let wait = Barrier::new(THREADS + 1);
    let (rings, tables) = std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                gemba::feature!("threads.eight");
                wait.wait();
                wait.wait();
                for number in 0..QUERIES {
                    let sql = format!("SELECT a FROM threads_{number} WHERE b = 7");
                    assert_eq!(Database::new(Dialect::Sqlite).run_text(&sql, || Ok::<_, String>(1)), Ok(1));
                }
                wait.wait();
                wait.wait();
            });
        }
        wait.wait();
        let rings = live::bytes() - before;
        wait.wait();
        wait.wait();
        let tables = live::bytes() - before - rings;
        wait.wait();
        (rings, tables)
    });
    assert!(rings <= 4 * 1024 * KIB, "{rings} bytes for rings");
    assert!(tables <= 2 * 1024 * KIB, "{tables} bytes for the tables of {QUERIES} queries on each thread");
}

#[test]
fn who_somebody_is_a_request_and_an_attempt_from_elsewhere_are_counted_when_there_is_no_room() {
    use tower_layer::Layer as _;
    use tower_service::Service as _;
    let _alone = started();
    flush();
    let before = gemba::stats();
    let refused = dropped(DropReason::NoRing);
    let wait = Barrier::new(MAX_RINGS + 1);
    std::thread::scope(|scope| {
        for _ in 0..MAX_RINGS {
            scope.spawn(|| {
                gemba::feature!("threads.holds_a_ring");
                wait.wait();
                wait.wait();
            });
        }
        wait.wait();
        let without_room = scope.spawn(|| {
            gemba::identify("u-7", gemba::Known::Session("s-1"));
            let ticket = "1-00000000000000ff-0000000000000001-threads.from_elsewhere".parse().unwrap();
            gemba::Attempt::resume(&ticket).unwrap().complete();
            let mut service = gemba::web::Layer::new().layer(axum::Router::<()>::new());
            drop(service.call(http::Request::new(axum::body::Body::empty())));
        });
        without_room.join().unwrap();
        wait.wait();
    });
    assert_eq!(dropped(DropReason::NoRing) - refused, 3);
    flush();
    let stats = gemba::stats();
    assert!(stats.recorded - before.recorded >= MAX_RINGS as u64 + 3, "{stats:?}");
    assert_eq!(stats.delivered + stats.dropped_total(), stats.recorded, "{stats:?}");
}
