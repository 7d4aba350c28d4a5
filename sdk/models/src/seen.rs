//! Claims about what the process remembers of texts: whoever finds something finds the right thing, written to its end.

#[path = "../../src/query/seen.rs"]
mod place;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use place::Seen;

/// A value whose bytes loom watches; its number is written before it is remembered.
struct Watched(UnsafeCell<u64>);

#[expect(unsafe_code, reason = "a cell that loom watches")]
// SAFETY: loom checks what the pointer's order is there for: no reading beside the writing.
unsafe impl Sync for Watched {}

/// Spread over all bits, as hashes are: small numbers differ as addresses do.
fn hash_of(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[test]
fn two_threads_that_push_each_other_out_are_never_taken_for_one_another() {
    loom::model(|| {
        let seen = Arc::new(Seen::<Watched, 1>::new());
        let writers: Vec<_> = [4_u64, 5]
            .into_iter()
            .map(|number| {
                let seen = Arc::clone(&seen);
                thread::spawn(move || {
                    let value: &'static Watched = Box::leak(Box::new(Watched(UnsafeCell::new(0))));
                    #[expect(unsafe_code, reason = "loom's cell hands out a pointer")]
                    // SAFETY: nobody else knows the value yet.
                    value.0.with_mut(|inside| unsafe { *inside = number });
                    seen.remember(hash_of(number), value);
                })
            })
            .collect();
        for number in [4_u64, 5] {
            if let Some(found) = seen.find(hash_of(number)) {
                #[expect(unsafe_code, reason = "loom's cell hands out a pointer")]
                // SAFETY: it is not written any more, which loom checks.
                found.0.with(|inside| assert_eq!(unsafe { *inside }, number));
            }
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        // Two halves of different entries are found by nobody, and are there until the next one is remembered.
        let left = [4_u64, 5].iter().filter(|number| seen.find(hash_of(**number)).is_some()).count();
        assert!(left <= 1, "{left} in one place");
    });
}
