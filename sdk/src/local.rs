//! What belongs to one thread: its current context and the writing end of its ring.
//!
//! In: a call site, ticks, a context and values. Out: one record in the thread's ring, or one count of a drop. No
//! allocation, lock or system call after a thread's first record, save one wake of the drain thread per half-full ring.
//!
//! A record is `word: u32` (size in the lower 24 bits, kind above), `context: u32`, `callsite: u64`, `ticks: u64`, then
//! the values. Not to be called from a signal handler: it could interrupt a record half written.

use crate::callsite::Callsite;
use crate::context::ContextId;
use crate::pipeline::ring::{self, Writer};
use crate::value::Encode;
use gemba_conventions::DropReason;
use std::cell::Cell;
use std::ptr;

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
    /// A feature flag was evaluated: the call site's values, all texts.
    Evaluated = 4,
    /// Somebody was recognised: user, session, anonymous id.
    Identify = 5,
    /// Properties of a user: the id, then the values.
    UserSet = 6,
    /// Properties of a tenant: the id, then the values.
    TenantSet = 7,
    /// A request was answered, or not: start in wall time, status and ending, span, parent span, method.
    Served = 8,
}

/// The writing end of this thread's ring and its current context.
struct Local {
    /// Without a ring until the first record, and again once the thread is ending.
    writer: Writer,
    context: Cell<u32>,
}

thread_local! {
    static LOCAL: Local = const { Local { writer: Writer::new(), context: Cell::new(0) } };
    /// Never has a ring, so this is looked at only where there is no room.
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
    /// Gives the ring back when the thread ends; apart from `LOCAL`, so that reading that needs no registration.
    static LEASE: Lease = const { Lease };
}

struct Lease;

impl Drop for Lease {
    fn drop(&mut self) {
        LOCAL.with(|local| local.writer.give_back());
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
    LOCAL.with(|local| local.writer.head())
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
        if !local.writer.has_room(size) && !make_room(&local.writer, callsite, size) {
            return;
        }
        let context = context.map_or_else(|| local.context.get(), |context| context.0);
        #[expect(clippy::cast_possible_truncation, reason = "a size is at most half a ring's capacity, 4 MiB")]
        let word = size as u32 | (kind as u32) << 24;
        let fill = |at: *mut u8| {
            #[expect(unsafe_code, reason = "the record is laid out by hand, in place")]
            // SAFETY: `publish` hands over `size` bytes: the header's and what `encoded_len` has asked for, which is what
            // `encode` writes (its contract).
            unsafe {
                at.cast::<[u8; 4]>().write_unaligned(word.to_ne_bytes());
                at.add(4).cast::<[u8; 4]>().write_unaligned(context.to_ne_bytes());
                at.add(8).cast::<[u8; 8]>().write_unaligned((ptr::from_ref(callsite) as u64).to_ne_bytes());
                at.add(16).cast::<[u8; 8]>().write_unaligned(ticks.to_ne_bytes());
                values.encode(at.add(HEADER_BYTES));
            }
        };
        #[expect(unsafe_code, reason = "the ring is written in place")]
        // SAFETY: there is room for `size` (just asked), `fill` writes exactly that much, its first word holds the size.
        unsafe {
            local.writer.publish(size, fill);
        }
    });
}

/// Keeps this thread from recording: it is the SDK's own, and what the host records about its HTTP client or in a hook would
/// make the next request about the last one.
pub(crate) fn silence() {
    IS_OWN.set(true);
}

/// Whether this thread is the SDK's own.
pub(crate) fn is_own_thread() -> bool {
    IS_OWN.get()
}

/// Whether people outside the sample are left out of records of this kind: what they did, never who they are, nor how the
/// service did, which its figures need in full.
pub(crate) fn is_sampled(kind: u8) -> bool {
    kind <= RecordKind::Evaluated as u8
}

/// The uncommon part: the thread has no ring yet, the reader has to be looked at, or the record must be dropped.
#[cold]
#[inline(never)]
fn make_room(writer: &Writer, callsite: &'static Callsite, size: usize) -> bool {
    if is_own_thread() {
        return false;
    }
    if !writer.is_attached() && !attach(writer) {
        callsite.count(DropReason::NoRing);
        return false;
    }
    if size > writer.max_record() {
        callsite.count(DropReason::TooLarge);
        return false;
    }
    let has_room = writer.look(size) || crate::testing::make_room() && writer.look(size);
    if !has_room {
        callsite.count(DropReason::RingFull);
    }
    has_room
}

fn attach(writer: &Writer) -> bool {
    // A thread whose locals are being destroyed gets no ring any more: nobody would give it back.
    if LEASE.try_with(|_| ()).is_err() {
        return false;
    }
    ring::lease(crate::testing::is_under_way()).map(|ring| writer.attach(ring)).is_some()
}
