//! The bounded byte rings between the application's threads and the drain thread: one writer, one reader, no lock.
//!
//! In: records written by `local` through a [`Writer`]. Out: the same bytes in the same order to the drain thread. It knows
//! sizes and positions, not what a record says. `sdk/models` runs this very file through every interleaving (loom).
//!
//! Invariants:
//! 1. Bytes between `tail` and `head` belong to the reader, all others to the one thread that leases the ring.
//! 2. `head - tail` never exceeds the capacity.
//! 3. A record lies in one piece: the buffer has a second capacity of slack behind the first, so a record that begins
//!    before the end runs over it, and the next one begins where it would have ended going round. Pages of the slack
//!    that no record reaches are never touched, so they cost addresses, not memory.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU64};
use std::alloc::{Layout, alloc_zeroed};
use std::cell::Cell;
use std::ptr;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::atomic::{AtomicUsize, Ordering};
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
    /// Tells the model who touches which byte when.
    #[cfg(loom)]
    touched: Vec<loom::cell::UnsafeCell<()>>,
}

#[expect(unsafe_code, reason = "the buffer is shared between one writer and one reader")]
// SAFETY: invariant 1 divides the buffer between the two at every moment; `head` and `tail` hand bytes over with
// release and acquire.
unsafe impl Sync for Ring {}
#[expect(unsafe_code, reason = "the buffer is shared between one writer and one reader")]
// SAFETY: as above; nothing in it belongs to one thread.
unsafe impl Send for Ring {}

impl Ring {
    /// A ring for the thread that asks. `capacity` is a power of two and not 0.
    pub(crate) fn new(capacity: usize) -> Option<Self> {
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
            #[cfg(loom)]
            touched: (0..capacity * 2).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        })
    }

    /// Wakes the drain thread unless that has been done since it last came by.
    fn wake(&self) {
        // AcqRel, as in `drain`: either this finds that the reader has come by since, or the reader, clearing it later, sees
        // all that was written before.
        if !self.is_waking.swap(true, Ordering::AcqRel) {
            super::wake();
        }
    }

    /// Takes the lease if nobody has it.
    pub(crate) fn try_lease(&self) -> bool {
        // Acquire: the head the last owner left is visible.
        self.is_leased.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Hands every record that is complete now to `visit`, oldest first, then frees their room. Gives back the number.
    ///
    /// For the one reader only (the drain's lock).
    pub(crate) fn drain(&self, mut visit: impl FnMut(&[u8])) -> u64 {
        // A swap and not a store, which could come into force after the head has been read, so that a wake in between is lost.
        self.is_waking.swap(false, Ordering::AcqRel);
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
                #[cfg(loom)]
                self.touched.iter().skip(place).take(size).for_each(|byte| byte.with(|_| ()));
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

/// The writing end of a ring: one thread's, or nobody's.
pub(crate) struct Writer {
    ring: Cell<Option<&'static Ring>>,
    buffer: Cell<*mut u8>,
    mask: Cell<u64>,
    /// Bytes ever written; equals the ring's published head between records.
    head: Cell<u64>,
    /// Up to here the head may go without a look at the reader's position; never more than the capacity above it.
    limit: Cell<u64>,
}

impl Writer {
    /// Without a ring: there is no room for anything.
    pub(crate) const fn new() -> Self {
        Self {
            ring: Cell::new(None),
            buffer: Cell::new(ptr::null_mut()),
            mask: Cell::new(0),
            head: Cell::new(0),
            limit: Cell::new(0),
        }
    }

    /// Takes up a leased ring behind what its last owner wrote.
    pub(crate) fn attach(&self, ring: &'static Ring) {
        // Relaxed: `lease` has acquired what the last owner released.
        let head = ring.head.0.load(Ordering::Relaxed);
        self.buffer.set(ring.buffer);
        self.mask.set(ring.capacity - 1);
        self.head.set(head);
        self.limit.set(head);
        self.ring.set(Some(ring));
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.ring.get().is_some()
    }

    /// Ends the lease; what is unread stays readable, and the next thread goes on behind it.
    pub(crate) fn give_back(&self) {
        self.limit.set(0);
        self.head.set(0);
        if let Some(ring) = self.ring.take() {
            // Release: the next writer sees the final head.
            ring.is_leased.store(false, Ordering::Release);
        }
    }

    /// Bytes ever written into the ring.
    #[inline]
    pub(crate) fn head(&self) -> u64 {
        self.head.get()
    }

    /// Whether `size` bytes fit without a look at the reader.
    #[inline]
    pub(crate) fn has_room(&self, size: usize) -> bool {
        self.head.get() + size as u64 <= self.limit.get()
    }

    /// The largest record the ring takes, in bytes: half of it; 0 without a ring.
    pub(crate) fn max_record(&self) -> usize {
        self.ring.get().and_then(|ring| usize::try_from(ring.capacity / 2).ok()).unwrap_or(0)
    }

    /// Looks how far the reader is; whether `size` bytes, at most [`max_record`](Self::max_record), fit now. Past the half
    /// it wakes the drain thread, once until that has come by.
    pub(crate) fn look(&self, size: usize) -> bool {
        let Some(ring) = self.ring.get() else { return false };
        let needed = self.head.get() + size as u64;
        // Acquire: the reader is done with the bytes before we write over them.
        let tail = ring.tail.0.load(Ordering::Acquire);
        let half = tail + ring.capacity / 2;
        if needed <= half {
            self.limit.set(half);
            return true;
        }
        // Past the half: wake the drain thread once, then write on up to the end.
        ring.wake();
        let full = tail + ring.capacity;
        self.limit.set(full);
        needed <= full
    }

    /// Publishes one record of `size` bytes, which `fill` writes.
    ///
    /// # Safety
    /// [`has_room`](Self::has_room) or [`look`](Self::look) has said yes to this `size` since the last record, `fill` writes
    /// all of the `size` bytes from the address it is given and none beyond, and the first word of them holds `size` in its
    /// lower 24 bits.
    #[inline]
    #[expect(unsafe_code, reason = "writes bytes that only this thread may touch until they are published")]
    pub(crate) unsafe fn publish(&self, size: usize, fill: impl FnOnce(*mut u8)) {
        let Some(ring) = self.ring.get() else { return };
        let head = self.head.get();
        #[expect(clippy::cast_possible_truncation, reason = "a place is below the mask, which fits the buffer")]
        let place = (head & self.mask.get()) as usize;
        #[cfg(loom)]
        ring.touched.iter().skip(place).take(size).for_each(|byte| byte.with_mut(|_| ()));
        // SAFETY: `limit` never lies more than the capacity above the reader, so the record's bytes are unread ground,
        // and the buffer has a capacity of slack behind it, so a record that begins before the end fits whole.
        fill(unsafe { self.buffer.get().add(place) });
        let head = head + size as u64;
        self.head.set(head);
        // Release: the record's bytes come before its publication.
        ring.head.0.store(head, Ordering::Release);
    }
}

/// Sets the size of rings to come (rounded up to a power of two between 4 KiB and 8 MiB) and how many there may be.
pub(crate) fn configure(capacity: usize, max_rings: usize) {
    CAPACITY.store(capacity.clamp(4 * 1024, 8 * 1024 * 1024).next_power_of_two(), Ordering::Relaxed);
    MAX_RINGS.store(max_rings.max(1), Ordering::Relaxed);
}

/// A ring for the calling thread: one that an ended thread left, else a new one; None at the limit, unless it holds for nobody.
pub(crate) fn lease(is_unlimited: bool) -> Option<&'static Ring> {
    let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
    for ring in rings.iter() {
        if ring.try_lease() {
            return Some(ring);
        }
    }
    if !is_unlimited && rings.len() >= MAX_RINGS.load(Ordering::Relaxed) {
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
