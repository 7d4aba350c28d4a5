//! A value that one thread fills and another takes away, without either waiting: it changes hands through one pointer.
//!
//! In: changes by the thread that owns the [`Handed`]. Out: the value, for whoever puts another in its place. It does not know
//! what the value is. `sdk/models` runs this very file through every interleaving (loom).
//!
//! Invariant: the pointer is null only while the owner is changing the value. Whoever took it out owns it alone.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::ptr;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

/// The place of the value.
#[derive(Debug)]
pub(crate) struct Handed<T> {
    value: AtomicPtr<T>,
    /// Changes so far, modulo 2^32. Only the owner writes it: looking writes nothing.
    changes: AtomicU32,
    /// The owner has ended.
    is_closed: AtomicBool,
}

impl<T> Handed<T> {
    pub(crate) fn new(value: Box<T>) -> Self {
        Self {
            value: AtomicPtr::new(Box::into_raw(value)),
            changes: AtomicU32::new(0),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Changes the value; for the owner only, and not from inside `change`, which then does not happen.
    #[inline]
    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) {
        // Acquire: what the taker wrote into a value it put here comes before our use of it.
        let value = self.value.swap(ptr::null_mut(), Ordering::Acquire);
        #[expect(unsafe_code, reason = "the value changes owners through an atomic pointer instead of a lock")]
        // SAFETY: the invariant: a pointer taken out is owned by the taker alone; it came from `Box::into_raw`. Null can only
        // be met by a call inside a call, then nothing is changed.
        if let Some(value) = unsafe { value.as_mut() } {
            change(value);
            let changes = self.changes.load(Ordering::Relaxed).wrapping_add(1);
            // Release: who sees the count sees that the value was taken out, and cannot take the one from before the change.
            self.changes.store(changes, Ordering::Release);
        }
        // Release: the change comes before the taker's look.
        self.value.store(value, Ordering::Release);
    }

    /// Takes the value and leaves `fresh` in its place; gives `fresh` back when the owner is changing it right now.
    pub(crate) fn exchange(&self, fresh: Box<T>) -> Result<Box<T>, Box<T>> {
        let fresh = Box::into_raw(fresh);
        let mut current = self.value.load(Ordering::Relaxed);
        loop {
            if current.is_null() {
                #[expect(unsafe_code, reason = "takes back the box made above")]
                // SAFETY: `fresh` came from the box above and was not published.
                return Err(unsafe { Box::from_raw(fresh) });
            }
            // AcqRel: the owner's changes before our reading, what we did to `fresh` before the owner's next change.
            match self.value.compare_exchange_weak(current, fresh, Ordering::AcqRel, Ordering::Relaxed) {
                #[expect(unsafe_code, reason = "the value changes owners through an atomic pointer instead of a lock")]
                // SAFETY: the invariant: the pointer taken out came from `Box::into_raw` and is ours alone now.
                Ok(taken) => return Ok(unsafe { Box::from_raw(taken) }),
                Err(now) => current = now,
            }
        }
    }

    /// Changes so far, modulo 2^32: what is taken after this was asked holds all of them that were not taken before.
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    /// The owner changes nothing any more.
    pub(crate) fn close(&self) {
        // Release: everything the owner changed comes before its end.
        self.is_closed.store(true, Ordering::Release);
    }

    /// Whether the owner has ended; asked before the value is taken, it means that nothing comes after.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}

impl<T> Drop for Handed<T> {
    fn drop(&mut self) {
        let value = self.value.swap(ptr::null_mut(), Ordering::Acquire);
        if !value.is_null() {
            #[expect(unsafe_code, reason = "the place owns the value it holds")]
            // SAFETY: nobody else can reach the place any more, and the pointer came from `Box::into_raw`.
            drop(unsafe { Box::from_raw(value) });
        }
    }
}
