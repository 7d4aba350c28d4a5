//! Which requests count as repeats, and for how long.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

const PROJECT: ProjectId = ProjectId(1);

#[test]
fn only_a_uuid_and_a_number_make_a_key_of_our_sdk() {
    let parsed = parse_sdk_key("0198c0de-0000-7000-8000-0000000000ff-42");
    assert_eq!(parsed, Some(RepeatKey::Sdk { instance: 0x0198_c0de_0000_7000_8000_0000_0000_00ff, number: 42 }));
    for other in [
        "",
        "abc",
        "0198c0de-0000-7000-8000-0000000000ff",
        "0198c0de-0000-7000-8000-0000000000ff-",
        "0198c0de-0000-7000-8000-0000000000ff-+1",
        "0198c0de-0000-7000-8000-0000000000ff-99999999999999999999",
        "0198c0de00000-7000-8000-0000000000ff-1",
        "0198c0dg-0000-7000-8000-0000000000ff-1",
        "ünïcödé-ünïcödé-ünïcödé-ünïcödé-1",
    ] {
        assert_eq!(parse_sdk_key(other), None, "{other}");
    }
}

#[test]
fn a_batch_that_comes_thousands_of_batches_late_is_no_repeat() {
    let mut repeats = Repeats::default();
    let key = |number| RepeatKey::Sdk { instance: 7, number };
    for number in (0..10_000).filter(|number| *number != 17) {
        repeats.note(PROJECT, key(number), 0);
    }
    assert!(!repeats.contains(PROJECT, key(17), 0));
    assert!(repeats.contains(PROJECT, key(16), i64::MAX / 2), "kept for ever");
    assert!(!repeats.contains(ProjectId(2), key(16), 0), "another project's batch");
}

/// Behind a balancer each of two nodes takes every other batch.
#[test]
fn a_batch_that_comes_late_to_one_of_two_nodes_is_no_repeat_also_after_a_restart() {
    let mut repeats = Repeats::default();
    let key = |number| RepeatKey::Sdk { instance: 7, number };
    for number in (0..100_000).step_by(2).filter(|number| *number != 42) {
        repeats.note(PROJECT, key(number), 0);
    }
    let again = Repeats::decode(&repeats.encode()).unwrap();
    for repeats in [&repeats, &again] {
        for number in [17, 42, 43, 2_049, 99_999] {
            assert!(!repeats.contains(PROJECT, key(number), 0), "{number} was sent to the other node or not at all");
        }
        assert!((0..100_000).step_by(2).filter(|number| *number != 42).all(|number| repeats.contains(
            PROJECT,
            key(number),
            0
        )));
    }
    assert_eq!(again.encode(), repeats.encode());
    assert_eq!(repeats.forgotten(), 0);
    // A word without a bit, which is last in what is written of the one instance, is no word.
    let mut damaged = repeats.encode();
    let at = damaged.len() - 2 * size_of::<u64>() - size_of::<u64>();
    damaged[at..][..size_of::<u64>()].fill(0);
    assert!(Repeats::decode(&damaged).is_err());
}

#[test]
fn keys_hold_for_their_time_and_no_longer() {
    let mut repeats = Repeats::default();
    repeats.note(PROJECT, RepeatKey::Named(1), 1_000);
    repeats.note(PROJECT, RepeatKey::Body(1), 1_000);
    assert!(repeats.contains(PROJECT, RepeatKey::Named(1), 1_000 + NAMED_KEY_MS));
    assert!(!repeats.contains(PROJECT, RepeatKey::Named(1), 1_001 + NAMED_KEY_MS));
    assert!(repeats.contains(PROJECT, RepeatKey::Body(1), 1_000 + BODY_MS));
    assert!(!repeats.contains(PROJECT, RepeatKey::Body(1), 1_001 + BODY_MS));
}

#[test]
fn the_same_body_differs_by_project_and_signal() {
    let of = |project, signal| RepeatKey::of(ProjectId(project), signal, None, b"body", true);
    assert_eq!(of(1, Signal::Logs), of(1, Signal::Logs));
    assert_ne!(of(1, Signal::Logs), of(2, Signal::Logs));
    assert_ne!(of(1, Signal::Logs), of(1, Signal::Traces));
    assert_eq!(RepeatKey::of(PROJECT, Signal::Logs, None, b"body", false), RepeatKey::None);
}

#[test]
fn too_many_hashes_forget_the_oldest_and_count_it() {
    let mut repeats = Repeats::default();
    for hash in 0..=MAX_HASHES as u128 {
        repeats.note(PROJECT, RepeatKey::Body(hash), 0);
    }
    assert_eq!(repeats.forgotten(), 1);
    assert!(!repeats.contains(PROJECT, RepeatKey::Body(0), 0));
    assert!(repeats.contains(PROJECT, RepeatKey::Body(1), 0));
}

#[test]
fn an_instance_that_is_forgotten_is_news_and_leaves_nothing_behind() {
    let mut repeats = Repeats::default();
    let nothing = repeats.encode();
    let key = |number| RepeatKey::Sdk { instance: 1, number };
    for number in [0, 1, 5] {
        repeats.note(PROJECT, key(number), 0);
    }
    repeats.forget(PROJECT, 1);
    assert!([0, 1, 5].iter().all(|number| !repeats.contains(PROJECT, key(*number), 0)));
    assert_eq!(repeats.encode(), nothing);
}

proptest! {
    /// Ranges against a plain set, with numbers taken back in between and a snapshot at the end.
    #[test]
    fn ranges_say_what_a_set_says(steps in proptest::collection::vec((0u64..64, any::<bool>()), 0..200)) {
        let mut repeats = Repeats::default();
        let mut model = HashSet::new();
        for (number, note) in steps {
            let key = RepeatKey::Sdk { instance: 1, number };
            if note {
                repeats.note(PROJECT, key, 0);
                model.insert(number);
            } else {
                repeats.take_back(PROJECT, key);
                model.remove(&number);
            }
            let ranges = repeats.instances.get(&(PROJECT, 1)).map_or(&[][..], Numbers::newest);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{ranges:?}");
        }
        let repeats = Repeats::decode(&repeats.encode()).unwrap();
        for number in 0..64 {
            let seen = repeats.contains(PROJECT, RepeatKey::Sdk { instance: 1, number }, 0);
            prop_assert_eq!(seen, model.contains(&number), "{}", number);
        }
    }
}
