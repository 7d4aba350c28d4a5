//! The bounded byte rings between the application's threads and the drain thread: one writer, one reader, no lock.
//!
//! In: records written by `local`. Out: the same bytes in the same order to the drain thread. It knows sizes and
//! positions, not what a record says.
//!
//! Invariants:
//! 1. Bytes between `tail` and `head` belong to the reader, all others to the one thread that leases the ring.
//! 2. `head - tail` never exceeds the capacity.
//! 3. A record lies in one piece: the buffer has a second capacity of slack behind the first, so a record that begins
//!    before the end runs over it, and the next one begins where it would have ended going round. Pages of the slack
//!    that no record reaches are never touched, so they cost addresses, not memory.

use std::alloc::{Layout, alloc_zeroed};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Capacity of a ring unless configured: 64 KiB, about 1,300 records of three attributes. Chosen: at 1 million records
/// a second it lasts longer than a wake of the drain thread takes, and 64 rings stay below 5 MiB.
pub(crate) const DEFAULT_CAPACITY: usize = 64 * 1024;
/// Rings per process unless configured; threads beyond it have their records counted as `no_ring`.
pub(crate) const DEFAULT_MAX_RINGS: usize = 64;

static CAPACITY: AtomicUsize = AtomicUsize::new(DEFAULT_CAPACITY);
static MAX_RINGS: AtomicUsize = AtomicUsize::new(DEFAULT_MAX_RINGS);
static RINGS: Mutex<Vec<&'static Ring>> = Mutex::new(Vec::new());

/// Keeps the writer's and the reader's word on cache lines of their own (pairs of lines are fetched together).
#[repr(align(128))]
struct Apart<T>(T);

/// One ring.
pub(crate) struct Ring {
    buffer: *mut u8,
    /// A power of two.
    capacity: u64,
    /// Bytes ever written; stored by the writer.
    head: Apart<AtomicU64>,
    /// Bytes ever read; stored by the reader.
    tail: Apart<AtomicU64>,
    /// A thread has it.
    is_leased: AtomicBool,
    /// The drain thread has been woken and has not come by since.
    is_waking: AtomicBool,
}

#[expect(unsafe_code, reason = "the buffer is shared between one writer and one reader")]
// SAFETY: invariant 1 divides the buffer between the two at every moment; `head` and `tail` hand bytes over with
// release and acquire.
unsafe impl Sync for Ring {}
#[expect(unsafe_code, reason = "the buffer is shared between one writer and one reader")]
// SAFETY: as above; nothing in it belongs to one thread.
unsafe impl Send for Ring {}

impl Ring {
    fn new(capacity: usize) -> Option<Self> {
        let layout = Layout::from_size_align(capacity.checked_mul(2)?, 64).ok()?;
        #[expect(unsafe_code, reason = "zeroed pages straight from the allocator, untouched until used")]
        // SAFETY: the size is not zero: a capacity is a power of two.
        let buffer = unsafe { alloc_zeroed(layout) };
        if buffer.is_null() {
            return None;
        }
        Some(Self {
            buffer,
            capacity: capacity as u64,
            head: Apart(AtomicU64::new(0)),
            tail: Apart(AtomicU64::new(0)),
            is_leased: AtomicBool::new(true),
            is_waking: AtomicBool::new(false),
        })
    }

    pub(crate) fn buffer(&self) -> *mut u8 {
        self.buffer
    }

    /// Bytes, a power of two.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(crate) fn head(&self) -> &AtomicU64 {
        &self.head.0
    }

    pub(crate) fn tail(&self) -> &AtomicU64 {
        &self.tail.0
    }

    /// Wakes the drain thread unless that has been done since it last came by.
    pub(crate) fn wake(&self) {
        if !self.is_waking.swap(true, Ordering::Relaxed) {
            super::wake();
        }
    }

    /// Ends the lease; what is unread stays readable, and the next thread goes on behind it.
    pub(crate) fn give_back(&self) {
        // Release: the next writer sees the final head.
        self.is_leased.store(false, Ordering::Release);
    }

    /// Hands every record that is complete now to `visit`, oldest first, then frees their room. Gives back the number.
    ///
    /// For the one reader only (the drain's lock).
    pub(crate) fn drain(&self, mut visit: impl FnMut(&[u8])) -> u64 {
        self.is_waking.store(false, Ordering::Relaxed);
        // Acquire: the bytes of all records below the head are visible.
        let head = self.head.0.load(Ordering::Acquire);
        let mut tail = self.tail.0.load(Ordering::Relaxed);
        let mut records = 0;
        while tail < head {
            let place = usize::try_from(tail & (self.capacity - 1)).unwrap_or(0);
            #[expect(unsafe_code, reason = "reads bytes the writer has published")]
            // SAFETY: invariants 1 and 3: a whole record begins here, its first word holds its size, and none of it is
            // written again before the tail has moved on.
            let record = unsafe {
                let at = self.buffer.add(place);
                let size = (u32::from_ne_bytes(at.cast::<[u8; 4]>().read_unaligned()) & 0x00ff_ffff) as usize;
                std::slice::from_raw_parts(at, size)
            };
            visit(record);
            records += 1;
            tail += record.len().max(1) as u64;
            // Release, record by record: the writer gets room back while a long drain is under way.
            self.tail.0.store(tail, Ordering::Release);
        }
        records
    }
}

/// Sets the size of rings to come (rounded up to a power of two between 4 KiB and 8 MiB) and how many there may be.
pub(crate) fn configure(capacity: usize, max_rings: usize) {
    CAPACITY.store(capacity.clamp(4 * 1024, 8 * 1024 * 1024).next_power_of_two(), Ordering::Relaxed);
    MAX_RINGS.store(max_rings.max(1), Ordering::Relaxed);
}

/// A ring for the calling thread: one that an ended thread left, else a new one; None at the limit.
pub(crate) fn lease() -> Option<&'static Ring> {
    let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
    for ring in rings.iter() {
        // Acquire: the head the last owner left is visible.
        if ring.is_leased.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Some(ring);
        }
    }
    if rings.len() >= MAX_RINGS.load(Ordering::Relaxed) {
        return None;
    }
    let ring: &'static Ring = Box::leak(Box::new(Ring::new(CAPACITY.load(Ordering::Relaxed))?));
    rings.push(ring);
    Some(ring)
}

/// The rings there are, in the order of their making; rings are never removed.
pub(crate) fn all(known: &mut Vec<&'static Ring>) {
    let rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
    known.extend(rings.iter().skip(known.len()));
}
