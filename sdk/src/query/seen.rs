//! Which text is which query, remembered by the whole process: many threads look, none waits.
//!
//! In: a hash of 64 bits and what it stands for. Out: the same, as long as it was not pushed out by another. It does not know
//! what it remembers. `sdk/models` runs this very file through every interleaving (loom).
//!
//! Invariant: a pointer that is not null came from a `&'static T`, whatever hash stands beside it; and what stands beside it is
//! the hash mixed with that pointer, so that halves of two different entries fit no hash.

#[cfg(loom)]
use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::ptr;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Entries whose hashes share a place: with 16 bytes each they share a cache line. One in a model, whose interleavings are
/// counted in the powers of what is looked at.
const WAYS: usize = if cfg!(loom) { 1 } else { 4 };

#[derive(Debug)]
struct Entry<T> {
    /// The hash, mixed with the address of `value`.
    check: AtomicU64,
    value: AtomicPtr<T>,
}

#[derive(Debug)]
#[repr(align(64))]
struct Set<T>([Entry<T>; WAYS]);

/// Remembers up to `4 * SETS` values by their hashes.
#[derive(Debug)]
pub(crate) struct Seen<T: 'static, const SETS: usize>([Set<T>; SETS]);

impl<T: Sync, const SETS: usize> Seen<T, SETS> {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self(
            [const { Set([const { Entry { check: AtomicU64::new(0), value: AtomicPtr::new(ptr::null_mut()) } }; WAYS]) };
                SETS],
        )
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        let entry = |_| Entry { check: AtomicU64::new(0), value: AtomicPtr::new(ptr::null_mut()) };
        Self(std::array::from_fn(|_| Set(std::array::from_fn(entry))))
    }

    /// What the hash stands for.
    #[inline]
    pub(crate) fn find(&self, hash: u64) -> Option<&'static T> {
        self.set(hash)?.0.iter().find_map(|entry| {
            // Relaxed: a check that belongs to another value fits no hash.
            let check = entry.check.load(Ordering::Relaxed);
            // Acquire: what is behind the pointer was written before it.
            let value = entry.value.load(Ordering::Acquire);
            if value.is_null() || mixed(hash, value) != check {
                return None;
            }
            #[expect(unsafe_code, reason = "what is remembered is found without a lock")]
            // SAFETY: the invariant: the pointer came from a `&'static T`.
            unsafe {
                value.as_ref()
            }
        })
    }

    /// Remembers `value` under the hash, in place of another one where there is no room.
    pub(crate) fn remember(&self, hash: u64, value: &'static T) {
        let Some(set) = self.set(hash) else { return };
        let free = set.0.iter().find(|entry| entry.value.load(Ordering::Relaxed).is_null());
        // Bits that did not choose the set.
        let victim = || set.0.get(usize::try_from(hash >> 62).unwrap_or(0) % WAYS);
        if let Some(entry) = free.or_else(victim) {
            let value = ptr::from_ref(value).cast_mut();
            entry.check.store(mixed(hash, value), Ordering::Relaxed);
            // Release: whoever finds the pointer finds what is behind it.
            entry.value.store(value, Ordering::Release);
        }
    }

    #[inline]
    fn set(&self, hash: u64) -> Option<&Set<T>> {
        self.0.get(usize::try_from(hash % SETS as u64).unwrap_or(0))
    }
}

#[inline]
fn mixed<T>(hash: u64, value: *mut T) -> u64 {
    hash ^ value.addr() as u64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_found_and_nothing_else() {
        static NUMBERS: [u32; 6] = [0, 1, 2, 3, 4, 5];
        let seen = Seen::<u32, 2>::new();
        assert_eq!(seen.find(7), None);
        for (hash, value) in (0..8_u64).zip(NUMBERS.iter().cycle()) {
            seen.remember(hash, value);
        }
        for (hash, value) in (0..8_u64).zip(NUMBERS.iter().cycle()) {
            assert_eq!(seen.find(hash), Some(value), "{hash}");
        }
        assert_eq!(seen.find(8), None);
        // No room in its set: one of the four there goes.
        seen.remember(8, &NUMBERS[5]);
        assert_eq!(seen.find(8), Some(&5));
        assert_eq!((0..8).filter(|hash| seen.find(*hash).is_none()).count(), 1);
        // Remembered anew under the same hash, by two threads that computed it at once: still the same.
        seen.remember(8, &NUMBERS[5]);
        assert_eq!(seen.find(8), Some(&5));
    }

    #[test]
    fn threads_that_push_each_other_out_never_find_what_is_not_theirs() {
        const ROUNDS: u64 = if cfg!(miri) { 50 } else { 100_000 };
        static SEEN: Seen<u64, 1> = Seen::new();
        static NUMBERS: [u64; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        std::thread::scope(|threads| {
            for first in 0..4 {
                threads.spawn(move || {
                    for round in 0..ROUNDS {
                        let value = &NUMBERS[usize::try_from((first + round * 3) % 16).unwrap()];
                        // Spread over all bits, as hashes are; the value tells which.
                        let hash = (*value + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                        match SEEN.find(hash) {
                            Some(found) => assert_eq!(found, value),
                            None => SEEN.remember(hash, value),
                        }
                    }
                });
            }
        });
    }
}
