//! After a thread's first event, recording allocates nothing: counted by the allocator itself. Its own file: the count is of
//! the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

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

fn record(owned: &String) {
    gemba::feature!("alloc.used", n = 3, ratio = 0.5, ok = true, text = owned, none = None::<u8>);
    gemba::scope().user(7).session("s-1").tenant("acme").run(|| {
        gemba::feature!("alloc.scoped", n = 3);
        gemba::feature_flag!("alloc-flag", variant = owned, reason = "split", provider = "flagd", context = Some("7"));
        gemba::attempt!("alloc.tried", n = 1).complete();
        gemba::attempt!("alloc.ran").run(|| ());
    });
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
    let stats = gemba::stats();
    assert_eq!(stats.dropped_total(), 0, "{stats:?}");
    drop(guard);
}
