//! The ring against a model of it: a queue of marks and the bytes they take.

use super::ring::{Ring, Writer};
use proptest::prelude::*;
use std::collections::VecDeque;

const CAPACITY: usize = 4096;
/// Steps of a run, at most; some laps of the ring where each byte costs a thousandfold.
const MOST: usize = if cfg!(miri) { 40 } else { 400 };

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// A record of this size.
    Write(usize),
    /// The reader comes by.
    Read,
    /// The thread ends and another takes the ring up.
    HandOver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (5..=CAPACITY / 2).prop_map(Step::Write),
        8 => (5..100_usize).prop_map(Step::Write),
        2 => Just(Step::Read),
        1 => Just(Step::HandOver),
    ]
}

/// Writes a record of `size` bytes, all of them `mark` behind the size; false when there is no room.
fn write(writer: &Writer, size: usize, mark: u8) -> bool {
    if !writer.has_room(size) && !writer.look(size) {
        return false;
    }
    #[expect(unsafe_code, reason = "the ring is written in place")]
    // SAFETY: there is room (just asked); four bytes of size and the rest as marks make exactly `size`.
    unsafe {
        writer.publish(size, |at| {
            at.cast::<[u8; 4]>().write_unaligned(u32::try_from(size).unwrap_or(0).to_ne_bytes());
            at.add(4).write_bytes(mark, size - 4);
        });
    }
    true
}

proptest! {
    #[test]
    fn a_ring_takes_what_fits_and_gives_it_back_in_order(steps in proptest::collection::vec(step(), 1..MOST)) {
        let ring: &'static Ring = Box::leak(Box::new(Ring::new(CAPACITY).unwrap()));
        let mut writer = Writer::new();
        writer.attach(ring);
        let mut model: VecDeque<(usize, u8)> = VecDeque::new();
        for (number, step) in steps.into_iter().enumerate() {
            let used: usize = model.iter().map(|(size, _)| size).sum();
            match step {
                Step::Write(size) => {
                    let mark = u8::try_from(number % 251).unwrap();
                    let is_taken = write(&writer, size, mark);
                    prop_assert_eq!(is_taken, used + size <= CAPACITY, "{} bytes onto {}", size, used);
                    if is_taken {
                        model.push_back((size, mark));
                    }
                }
                Step::Read => {
                    let mut seen = Vec::new();
                    let records = ring.drain(|record| {
                        let mark = record[4];
                        let is_whole = record[4..].iter().all(|byte| *byte == mark);
                        seen.push((if is_whole { record.len() } else { 0 }, mark));
                    });
                    prop_assert_eq!(records, seen.len() as u64);
                    prop_assert_eq!(seen, model.drain(..).collect::<Vec<_>>());
                }
                Step::HandOver => {
                    writer.give_back();
                    prop_assert!(ring.try_lease(), "the lease is free");
                    writer = Writer::new();
                    writer.attach(ring);
                }
            }
        }
    }
}
