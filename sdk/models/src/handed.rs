//! Claims about a value that changes hands: what its owner adds is taken once, and the count of changes leads to all of it.
//!
//! The count has one writer on purpose: loom lets a swap read a store that is older than one which must come before it (a
//! thread stores true; another swaps false before and after joining it, and neither swap has read true), so a mark that both
//! sides write could not be shown here.

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

/// Takes what is there and puts `spare` in its place; how much there was, nothing if the owner was changing it.
fn take(place: &Handed<Count>, spare: &mut Option<Box<Count>>) -> Option<u32> {
    match place.exchange(spare.take()?) {
        Ok(mut taken) => {
            let count = taken.take();
            *spare = Some(taken);
            Some(count)
        }
        Err(unused) => {
            *spare = Some(unused);
            None
        }
    }
}

/// Takes what is there if there were changes since, as the drain does; how much there was.
fn visit(place: &Handed<Count>, known: &mut u32, spare: &mut Option<Box<Count>>) -> u32 {
    let changes = place.changes();
    if changes == *known {
        return 0;
    }
    let taken = take(place, spare);
    if taken.is_some() {
        *known = changes;
    }
    taken.unwrap_or(0)
}

#[test]
fn the_count_of_changes_leads_to_everything_that_is_added() {
    loom::model(|| {
        let place = Arc::new(Handed::new(Count::new()));
        let owner = {
            let place = Arc::clone(&place);
            thread::spawn(move || (0..2).for_each(|_| place.change(Count::add)))
        };
        let (mut known, mut spare) = (0, Some(Count::new()));
        let mut taken = visit(&place, &mut known, &mut spare) + visit(&place, &mut known, &mut spare);
        owner.join().unwrap();
        taken += visit(&place, &mut known, &mut spare);
        assert_eq!(taken, 2, "something lies there and the count does not tell");
    });
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
        let mut taken = take(&place, &mut spare).unwrap_or(0) + take(&place, &mut spare).unwrap_or(0);
        owner.join().unwrap();
        taken += take(&place, &mut spare).unwrap_or(0);
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
        let early = take(&place, &mut spare).unwrap_or(0);
        let was_closed = place.is_closed();
        let late = take(&place, &mut spare).unwrap_or(0);
        if was_closed {
            assert_eq!(early + late, 2, "the place may be forgotten now");
        }
        owner.join().unwrap();
    });
}
