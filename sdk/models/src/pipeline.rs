//! Stands where the SDK has its pipeline: the ring, and the wake-ups it asks for.

#[path = "../../src/pipeline/ring.rs"]
pub(crate) mod ring;

use loom::sync::atomic::{AtomicBool, Ordering};

loom::lazy_static! {
    /// What `Thread::unpark` leaves for the next `park`.
    static ref TOKEN: AtomicBool = AtomicBool::new(false);
}

pub(crate) fn wake() {
    TOKEN.swap(true, Ordering::AcqRel);
}

/// What `park` takes.
pub(crate) fn take_wake() -> bool {
    TOKEN.swap(false, Ordering::AcqRel)
}
