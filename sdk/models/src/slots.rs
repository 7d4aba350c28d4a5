//! Claims about the slab of contexts: a slot has one owner from its taking to its return, who sees all that was done before.

use crate::context::slots::{Link, Slots};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

/// A slab of slots with one word of data each.
struct Slab {
    slots: Slots,
    links: Vec<Link>,
    data: Vec<UnsafeCell<u32>>,
}

impl Slab {
    fn new(slots: usize) -> &'static Self {
        Box::leak(Box::new(Self {
            slots: Slots::new(),
            links: (0..slots).map(|_| Link::default()).collect(),
            data: (0..slots).map(|_| UnsafeCell::new(0)).collect(),
        }))
    }

    fn link(&'static self, id: u32) -> Option<&'static Link> {
        self.links.get((id as usize).checked_sub(1)?)
    }

    /// A slot with `mark` written into it.
    fn take(&'static self, mark: u32) -> Option<u32> {
        let id = self.slots.take(u32::try_from(self.links.len()).unwrap(), |id| self.link(id))?;
        #[expect(unsafe_code, reason = "loom's cell hands out a pointer")]
        // SAFETY: the claim under test: the slot is the caller's alone. loom fails the model where it is not.
        self.data[id as usize - 1].with_mut(|data| unsafe { *data = mark });
        Some(id)
    }

    fn mark(&'static self, id: u32) -> u32 {
        #[expect(unsafe_code, reason = "loom's cell hands out a pointer")]
        // SAFETY: the claim under test: nobody writes a slot that is owned or let go. loom fails the model where somebody does.
        self.data[id as usize - 1].with(|data| unsafe { *data })
    }

    /// Gives up one share, as `ContextRef::drop` does.
    fn let_go(&'static self, id: u32) {
        let link = self.link(id).unwrap();
        if link.unshare() {
            self.slots.retire(id, link);
        }
    }

    /// One drain pass: takes what was let go, reads it, returns it.
    fn pass(&'static self) -> Vec<u32> {
        let mut retired = Vec::new();
        self.slots.take_retired(|id| self.link(id), |id| retired.push(id));
        let marks = retired.iter().map(|id| self.mark(*id)).collect();
        for id in retired {
            self.slots.give(id, |id| self.link(id));
        }
        marks
    }
}

// Two preemptions find what threads can do to each other here (loom's advice for models that do not end else).
fn model(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn a_slot_is_read_by_the_pass_before_anybody_writes_it_again() {
    model(|| {
        let slab = Slab::new(1);
        let first = slab.take(7).unwrap();
        let other = thread::spawn(move || {
            slab.let_go(first);
            slab.take(8)
        });
        let mut marks = slab.pass();
        let second = other.join().unwrap();
        assert!(slab.take(9).is_none() || second.is_none(), "one slot has one owner");
        if let Some(second) = second {
            assert_eq!((second, marks.as_slice()), (first, &[7][..]), "it came back through the pass");
            slab.let_go(second);
            marks.extend(slab.pass());
            assert_eq!(marks, [7, 8]);
        }
    });
}

#[test]
fn two_owners_let_go_once() {
    model(|| {
        let slab = Slab::new(1);
        let id = slab.take(7).unwrap();
        slab.link(id).unwrap().share();
        let other = thread::spawn(move || {
            assert_eq!(slab.mark(id), 7);
            slab.let_go(id);
        });
        slab.let_go(id);
        let mut marks = slab.pass();
        other.join().unwrap();
        marks.extend(slab.pass());
        assert_eq!(marks, [7], "once");
    });
}

#[test]
fn threads_that_take_at_once_get_different_slots() {
    model(|| {
        let slab = Slab::new(2);
        // Both slots are on the free list, so both threads race for its head.
        for id in [slab.take(1).unwrap(), slab.take(2).unwrap()] {
            slab.let_go(id);
        }
        assert_eq!(slab.pass().len(), 2);
        let taken = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..2)
            .map(|mark| {
                let taken = Arc::clone(&taken);
                thread::spawn(move || {
                    let id = slab.take(10 + mark).unwrap();
                    assert_eq!(taken.fetch_or(1 << id, Ordering::Relaxed) & 1 << id, 0, "slot {id} has two owners");
                    assert_eq!(slab.mark(id), 10 + mark);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_slot_that_comes_and_goes_meanwhile_does_not_break_the_free_list() {
    model(|| {
        let slab = Slab::new(2);
        for id in [slab.take(1).unwrap(), slab.take(2).unwrap()] {
            slab.let_go(id);
        }
        slab.pass();
        // One takes while the other takes, lets go and a pass returns it: the head is the same slot again with another next.
        let other = thread::spawn(move || {
            let id = slab.take(3).unwrap();
            slab.let_go(id);
            slab.pass();
        });
        let own = slab.take(4).unwrap();
        other.join().unwrap();
        let rest = slab.take(5).unwrap();
        assert_ne!(own, rest);
        assert_eq!(slab.take(6), None, "two slots, two owners");
        assert_eq!((slab.mark(own), slab.mark(rest)), (4, 5));
    });
}
