//! Claims about one ring: between its writer and its reader, between two writers one after the other, and about waking.

use crate::pipeline::ring::{Ring, Writer};
use crate::pipeline::{take_wake, wake};
use loom::thread;

const CAPACITY: usize = 64;

fn ring() -> &'static Ring {
    Box::leak(Box::new(Ring::new(CAPACITY).unwrap()))
}

/// Writes a record of `size` bytes, all of them `mark` behind the size; false when there is no room.
fn write(writer: &Writer, size: u8, mark: u8) -> bool {
    if !writer.has_room(size.into()) && !writer.look(size.into()) {
        return false;
    }
    #[expect(unsafe_code, reason = "the ring is written in place")]
    // SAFETY: there is room (just asked); four bytes of size and the rest as marks make exactly `size`.
    unsafe {
        writer.publish(size.into(), |at| {
            at.cast::<[u8; 4]>().write_unaligned(u32::from(size).to_ne_bytes());
            at.add(4).write_bytes(mark, usize::from(size) - 4);
        });
    }
    true
}

/// Reads what is there: the mark of each record, after checking that the record is whole.
fn read(ring: &Ring, marks: &mut Vec<u8>) {
    ring.drain(|record| {
        let mark = record[4];
        assert!(record[4..].iter().all(|byte| *byte == mark), "{record:?}");
        marks.push(mark);
    });
}

#[test]
fn what_had_room_arrives_whole_once_and_in_order() {
    loom::model(|| {
        let ring = ring();
        let writer = thread::spawn(move || {
            let writer = Writer::new();
            writer.attach(ring);
            // 100 bytes into 64, across the end: some find no room, and which ones depends on the reader.
            (1..=5).filter(|mark| write(&writer, 20, *mark)).collect::<Vec<u8>>()
        });
        let mut marks = Vec::new();
        read(ring, &mut marks);
        read(ring, &mut marks);
        let written = writer.join().unwrap();
        read(ring, &mut marks);
        assert_eq!(marks, written);
    });
}

#[test]
fn a_ring_that_changes_hands_loses_nothing() {
    loom::model(|| {
        let ring = ring();
        let first = thread::spawn(move || {
            let writer = Writer::new();
            writer.attach(ring);
            assert!(write(&writer, 16, 1) && write(&writer, 16, 2));
            writer.give_back();
        });
        let second = thread::spawn(move || {
            if !ring.try_lease() {
                return false;
            }
            let writer = Writer::new();
            writer.attach(ring);
            write(&writer, 16, 3)
        });
        let mut marks = Vec::new();
        read(ring, &mut marks);
        first.join().unwrap();
        let has_third = second.join().unwrap();
        read(ring, &mut marks);
        assert_eq!(marks, if has_third { &[1, 2, 3][..] } else { &[1, 2] });
    });
}

#[test]
fn a_reader_that_leaves_more_than_half_a_ring_has_been_woken_again() {
    loom::model(|| {
        let ring = ring();
        let writer = thread::spawn(move || {
            let writer = Writer::new();
            writer.attach(ring);
            (1..=6).filter(|mark| write(&writer, 16, *mark)).count()
        });
        let mut marks = Vec::new();
        for _ in 0..2 {
            take_wake();
            read(ring, &mut marks);
        }
        let written = writer.join().unwrap();
        // The writer looks at the reader once per half ring: so much may lie there unseen, and the record it was writing.
        let unread = (written - marks.len()) * 16;
        assert!(unread <= CAPACITY / 2 + 16 || take_wake(), "{unread} bytes lie there and nobody comes");
        wake();
    });
}
