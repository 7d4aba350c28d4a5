//! Claims about a value that changes hands: what its owner adds is taken once.
//!
//! The mark that says where to look has no model yet.

#[path = "../../src/query/handed.rs"]
mod place;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use place::Handed;

/// A count that fails the model when two threads touch it without an order between them.
struct Count(UnsafeCell<u32>);

impl Count {
    fn new() -> Box<Self> {
        Box::new(Self(UnsafeCell::new(0)))
    }

    fn add(&mut self) {
        #[expect(unsafe_code, reason = "loom's cell hands out a pointer")]
        // SAFETY: the count is borrowed mutably.
        self.0.with_mut(|count| unsafe { *count += 1 });
    }

    fn take(&mut self) -> u32 {
        #[expect(unsafe_code, reason = "loom's cell hands out a pointer")]
        // SAFETY: the count is borrowed mutably.
        self.0.with_mut(|count| unsafe { std::mem::take(&mut *count) })
    }
}

/// Takes what is there and puts `spare` in its place; how much there was.
fn take(place: &Handed<Count>, spare: &mut Option<Box<Count>>) -> u32 {
    let Some(fresh) = spare.take() else { return 0 };
    match place.exchange(fresh) {
        Ok(mut taken) => {
            let count = taken.take();
            *spare = Some(taken);
            count
        }
        Err(unused) => {
            *spare = Some(unused);
            0
        }
    }
}

#[test]
fn what_is_added_is_taken_once() {
    loom::model(|| {
        let place = Arc::new(Handed::new(Count::new()));
        let owner = {
            let place = Arc::clone(&place);
            thread::spawn(move || (0..2).for_each(|_| place.change(Count::add)))
        };
        let mut spare = Some(Count::new());
        let mut taken = take(&place, &mut spare) + take(&place, &mut spare);
        owner.join().unwrap();
        taken += take(&place, &mut spare);
        assert_eq!(taken, 2);
    });
}

#[test]
fn nothing_comes_after_what_is_taken_from_a_closed_one() {
    loom::model(|| {
        let place = Arc::new(Handed::new(Count::new()));
        let owner = {
            let place = Arc::clone(&place);
            thread::spawn(move || {
                place.change(Count::add);
                place.change(Count::add);
                place.close();
            })
        };
        let mut spare = Some(Count::new());
        let early = take(&place, &mut spare);
        let was_closed = place.is_closed();
        let late = take(&place, &mut spare);
        if was_closed {
            assert_eq!(early + late, 2, "the place may be forgotten now");
        }
        owner.join().unwrap();
    });
}
