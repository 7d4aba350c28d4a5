//! What belongs to one thread: its current context and the writing end of its ring.
//!
//! In: a call site, ticks, a context and values. Out: one record in the thread's ring, or one count of a drop. No
//! allocation, lock or system call after a thread's first record, save one wake of the drain thread per half-full ring.
//!
//! A record is `word: u32` (size in the lower 24 bits, kind above), `context: u32`, `callsite: u64`, `ticks: u64`, then
//! the values. Not to be called from a signal handler: it could interrupt a record half written.

use crate::callsite::Callsite;
use crate::context::ContextId;
use crate::pipeline::ring::{self, Ring};
use crate::value::Encode;
use gemba_conventions::DropReason;
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::Ordering;

/// Bytes before the values of a record.
pub(crate) const HEADER_BYTES: usize = 24;

/// What a record says beyond its call site; in the uppermost byte of its first word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordKind {
    /// A feature was used: the call site's values.
    Used = 0,
    /// An attempt began: its id, then the values.
    Started = 1,
    /// An attempt ended: id, start in ticks and wall time, verdict, address and length of the error type.
    Ended = 2,
    /// A funnel step was reached: address of its declaration, then the values.
    Step = 3,
    /// Somebody was recognised: user, session, anonymous id.
    Identify = 4,
    /// Properties of a user: the id, then the values.
    UserSet = 5,
    /// Properties of a tenant: the id, then the values.
    TenantSet = 6,
}

/// The writing end of this thread's ring and its current context.
struct Local {
    /// None until the first record, and again once the thread is ending.
    ring: Cell<Option<&'static Ring>>,
    buffer: Cell<*mut u8>,
    mask: Cell<u64>,
    /// Bytes ever written; equals the ring's published head between records.
    head: Cell<u64>,
    /// Up to here the head may go without a look at the reader's position.
    limit: Cell<u64>,
    context: Cell<u32>,
}

thread_local! {
    static LOCAL: Local = const {
        Local {
            ring: Cell::new(None),
            buffer: Cell::new(ptr::null_mut()),
            mask: Cell::new(0),
            head: Cell::new(0),
            limit: Cell::new(0),
            context: Cell::new(0),
        }
    };
    /// Gives the ring back when the thread ends; apart from `LOCAL`, so that reading that needs no registration.
    static LEASE: Lease = const { Lease };
}

struct Lease;

impl Drop for Lease {
    fn drop(&mut self) {
        LOCAL.with(|local| {
            local.limit.set(0);
            local.head.set(0);
            if let Some(ring) = local.ring.take() {
                ring.give_back();
            }
        });
    }
}

/// The context current on this thread; [`ContextId::NONE`] outside every scope. Costs one load.
#[inline]
pub(crate) fn context() -> ContextId {
    ContextId(LOCAL.with(|local| local.context.get()))
}

/// Bytes this thread has recorded; the same as before when nothing has been recorded on it since.
#[inline]
pub(crate) fn position() -> u64 {
    LOCAL.with(|local| local.head.get())
}

/// Makes `context` current and gives back the one before.
#[inline]
pub(crate) fn swap_context(context: ContextId) -> ContextId {
    ContextId(LOCAL.with(|local| local.context.replace(context.0)))
}

/// Writes one record into this thread's ring, or counts why it could not.
#[inline]
pub(crate) fn write(
    kind: RecordKind,
    callsite: &'static Callsite,
    ticks: u64,
    context: Option<ContextId>,
    values: &impl Encode,
) {
    LOCAL.with(|local| {
        let size = HEADER_BYTES + values.encoded_len();
        let head = local.head.get();
        if head + size as u64 > local.limit.get() && !make_room(local, callsite, size) {
            return;
        }
        let Some(ring) = local.ring.get() else { return };
        // `make_room` may just have attached a ring.
        let head = local.head.get();
        let context = context.map_or_else(|| local.context.get(), |context| context.0);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a size is below a ring's capacity, a place below its mask"
        )]
        let (word, place) = (size as u32 | (kind as u32) << 24, (head & local.mask.get()) as usize);
        #[expect(unsafe_code, reason = "writes bytes that only this thread may touch until they are published")]
        // SAFETY: `limit` never lies more than the capacity above the reader, so the record's bytes are unread ground,
        // and the buffer has a capacity of slack behind it, so a record that begins before the end fits whole.
        unsafe {
            let at = local.buffer.get().add(place);
            at.cast::<[u8; 4]>().write_unaligned(word.to_ne_bytes());
            at.add(4).cast::<[u8; 4]>().write_unaligned(context.to_ne_bytes());
            at.add(8).cast::<[u8; 8]>().write_unaligned((ptr::from_ref(callsite) as u64).to_ne_bytes());
            at.add(16).cast::<[u8; 8]>().write_unaligned(ticks.to_ne_bytes());
            values.encode(at.add(HEADER_BYTES));
        }
        let head = head + size as u64;
        local.head.set(head);
        // Release: the record's bytes come before its publication.
        ring.head().store(head, Ordering::Release);
    });
}

/// The uncommon part: the thread has no ring yet, the reader has to be looked at, or the record must be dropped.
#[cold]
#[inline(never)]
fn make_room(local: &Local, callsite: &'static Callsite, size: usize) -> bool {
    if local.ring.get().is_none() && !attach(local) {
        callsite.count(DropReason::NoRing);
        return false;
    }
    let Some(ring) = local.ring.get() else { return false };
    let needed = local.head.get().saturating_add(size as u64);
    if size as u64 > ring.capacity() / 2 {
        callsite.count(DropReason::TooLarge);
        return false;
    }
    // Acquire: the reader is done with the bytes before we write over them.
    let mut tail = ring.tail().load(Ordering::Acquire);
    if needed > tail + ring.capacity() && crate::testing::make_room() {
        tail = ring.tail().load(Ordering::Acquire);
    }
    let half = tail + ring.capacity() / 2;
    if needed <= half {
        local.limit.set(half);
        return true;
    }
    // Past the half: wake the drain thread once, then write on up to the end.
    ring.wake();
    let full = tail + ring.capacity();
    local.limit.set(full);
    if needed > full {
        callsite.count(DropReason::RingFull);
        return false;
    }
    true
}

fn attach(local: &Local) -> bool {
    // A thread whose locals are being destroyed gets no ring any more: nobody would give it back.
    if LEASE.try_with(|_| ()).is_err() {
        return false;
    }
    let Some(ring) = ring::lease() else { return false };
    let head = ring.head().load(Ordering::Relaxed);
    local.buffer.set(ring.buffer());
    local.mask.set(ring.capacity() - 1);
    local.head.set(head);
    local.limit.set(head);
    local.ring.set(Some(ring));
    true
}
