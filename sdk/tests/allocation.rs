//! After a thread's first event, recording allocates nothing, and a query only for what is new about it: counted by the
//! allocator itself. Its own file: the count is of
//! the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts allocations of the calling thread.
struct Counting;

#[expect(unsafe_code, reason = "an allocator is unsafe by nature")]
// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: handed through.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: handed through.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

gemba::funnel! {
    enum Alloc = "alloc" { First = "first", Second = "second" }
}

/// Ready at the second poll.
struct Later(bool);

impl Future for Later {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Polls to the end on this thread, in the stack.
fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

fn record(owned: &String) {
    gemba::feature!("alloc.used", n = 3, ratio = 0.5, ok = true, text = owned, none = None::<u8>);
    gemba::scope().user(7).session("s-1").tenant("acme").run(|| {
        gemba::feature!("alloc.scoped", n = 3);
        gemba::feature_flag!("alloc-flag", variant = owned, reason = "split", provider = "flagd", context = Some("7"));
        gemba::attempt!("alloc.tried", n = 1).complete();
        gemba::attempt!("alloc.ran").run(|| ());
        gemba::step!(Alloc::First);
        gemba::step!(Alloc::Second, plan = owned, n = 3);
        finish(gemba::attempt!("alloc.polled", text = owned).run_async(Later(false)));
        finish(gemba::scope().run_async(Later(false)));
    });
}

/// A query of each kind, in the current scope.
fn query() {
    let done = gemba::query!("alloc.ran", Sqlite).run(|| Ok::<_, std::fmt::Error>(1));
    assert_eq!(done, Ok(1));
    gemba::query!("alloc.begun", Sqlite).start().finish(Some(1));
    let work = async {
        Later(false).await;
        Ok::<_, std::fmt::Error>(2)
    };
    assert_eq!(finish(gemba::query!("alloc.timed", Sqlite).timed(work)), Ok(2));
}

/// Rounds of queries in one scope that allocated.
fn rounds_that_allocated(rounds: u32) -> usize {
    let allocates = |_: &u32| {
        let before = ALLOCATIONS.get();
        query();
        ALLOCATIONS.get() != before
    };
    gemba::scope().user(7).run(|| (0..rounds).filter(allocates).count())
}

#[test]
fn recording_allocates_nothing_after_a_threads_first_event() {
    let owned = String::from("an owned text");
    let guard = gemba::Config::new("allocation")
        .without_environment()
        .endpoint("http://127.0.0.1:9")
        .shutdown_timeout(std::time::Duration::from_millis(100))
        .start()
        .unwrap();
    // The first round attaches the ring; the others let the contexts come round once with their memory.
    for _ in 0..20 {
        record(&owned);
    }
    let drained = gemba::flush(std::time::Duration::from_millis(1));
    assert!(drained.is_err(), "nobody listens");
    let before = ALLOCATIONS.get();
    for _ in 0..10 {
        record(&owned);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    // A thread's table of queries grows with what it has to tell apart: queries, scopes, buckets of durations, samples. Bound:
    // the buckets of three histograms double their room a few times each, twice over if the drain thread empties the table
    // meanwhile. Calls themselves cost no memory.
    let allocated = rounds_that_allocated(1_000);
    assert!((1..=30).contains(&allocated), "{allocated} rounds of 1,000");
    let stats = gemba::stats();
    assert_eq!(stats.dropped_total(), 0, "{stats:?}");
    drop(guard);
}
