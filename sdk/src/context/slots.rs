//! Which slots of a slab are free, shared or let go: two lists without a lock, threaded through the slots themselves.
//!
//! In: numbers of slots, from 1; 0 is none. Out: a slot that is the caller's alone, until it has been let go and returned. It
//! knows no slot's data. `sdk/models` runs this very file through every interleaving (loom).
//!
//! Invariants:
//! 1. A slot is in one place: never handed out, free, owned by one or more, or let go.
//! 2. Who takes a slot sees everything that was done with it before it was returned; who takes those let go sees everything
//!    their owners did.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A slot's part in the lists.
#[derive(Debug, Default)]
pub(crate) struct Link {
    owners: AtomicU32,
    /// The next slot in the free list or in that of those let go.
    next: AtomicU32,
}

impl Link {
    /// Another owner; the caller's own share keeps the slot alive meanwhile.
    pub(crate) fn share(&self) {
        // Relaxed, as in `Arc::clone`.
        self.owners.fetch_add(1, Ordering::Relaxed);
    }

    /// One owner less; true when it was the last.
    pub(crate) fn unshare(&self) -> bool {
        // AcqRel: everything other owners did comes before what the last one does next.
        self.owners.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// The lists of a slab.
#[derive(Debug)]
pub(crate) struct Slots {
    /// Slots ever handed out; the next new one has this number, plus one.
    used: AtomicU32,
    /// Head of the free list: a counter in the upper half against reuse between a look and an exchange, the slot in the lower.
    free: AtomicU64,
    /// Head of the list of slots let go and not yet taken by [`take_retired`](Self::take_retired).
    retired: AtomicU32,
}

impl Slots {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self { used: AtomicU32::new(0), free: AtomicU64::new(0), retired: AtomicU32::new(0) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self { used: AtomicU32::new(0), free: AtomicU64::new(0), retired: AtomicU32::new(0) }
    }

    /// A slot for the caller alone, its one owner: a returned one, else a new one with number `max` at most. None when there
    /// is none left.
    pub(crate) fn take<'a>(&self, max: u32, link: impl Fn(u32) -> Option<&'a Link>) -> Option<u32> {
        let id = self.take_free(&link).or_else(|| self.take_new(max))?;
        // Relaxed: nobody else knows the slot yet.
        link(id)?.owners.store(1, Ordering::Relaxed);
        Some(id)
    }

    fn take_free<'a>(&self, link: &impl Fn(u32) -> Option<&'a Link>) -> Option<u32> {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let id = low(head);
            // Relaxed: the acquiring look at the head has seen the store that put the slot there.
            let after = link(id)?.next.load(Ordering::Relaxed);
            let next = (head >> 32).wrapping_add(1) << 32 | u64::from(after);
            // Acquire: the return of the slot comes before our writes to it.
            match self.free.compare_exchange_weak(head, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(id),
                Err(now) => head = now,
            }
        }
    }

    fn take_new(&self, max: u32) -> Option<u32> {
        let next = |used| if used < max { Some(used + 1) } else { None };
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok().map(|used| used + 1)
    }

    /// Returns a slot that nobody names any more.
    pub(crate) fn give<'a>(&self, id: u32, link: impl Fn(u32) -> Option<&'a Link>) {
        let Some(freed) = link(id) else { return };
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            freed.next.store(low(head), Ordering::Relaxed);
            let next = (head >> 32).wrapping_add(1) << 32 | u64::from(id);
            // Release: all our reads of the slot's data come before anybody takes it.
            match self.free.compare_exchange_weak(head, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Puts a slot without owners on the list of those let go; for its last owner.
    pub(crate) fn retire(&self, id: u32, ended: &Link) {
        let mut head = self.retired.load(Ordering::Relaxed);
        loop {
            ended.next.store(head, Ordering::Relaxed);
            // Release: all that the owners did comes before.
            match self.retired.compare_exchange_weak(head, id, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes all that were let go so far and shows each; for one caller at a time.
    pub(crate) fn take_retired<'a>(&self, link: impl Fn(u32) -> Option<&'a Link>, mut show: impl FnMut(u32)) {
        // Acquire: everything done with a slot before it was let go is visible.
        let mut id = self.retired.swap(0, Ordering::Acquire);
        while let Some(ended) = link(id) {
            show(id);
            id = ended.next.load(Ordering::Relaxed);
        }
    }
}

fn low(word: u64) -> u32 {
    (word & 0xffff_ffff) as u32
}
