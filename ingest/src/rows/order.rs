//! The order in which a block of events is written: that of the table's sorting key.
//!
//! In: what the key is made of, row by row. Out: the numbers of the rows. ClickHouse would bring a block into this order before it
//! writes a part, and is spared most of that by finding it there (measured, ingest/DESIGN.md). It takes rows in any order,
//! so a mistake here would cost time and nothing else.

use super::dictionary::WordDictionary;

/// Most counters of a counting sort, for each row; with more of them than that, comparing is cheaper. Chosen.
const MAX_COUNTERS: usize = 4;

/// Rows by project, name (as bytes) and minute, otherwise as they come; `None` where they are in that order already.
///
/// `names` holds the words and each row's index among them, `times_ms` milliseconds since the Unix epoch.
pub(super) fn by_name_and_minute(
    projects: impl Iterator<Item = u32>,
    (words, names): (&WordDictionary, &[u32]),
    times_ms: impl Iterator<Item = i64>,
) -> Option<Vec<u32>> {
    let projects: Vec<u32> = projects.collect();
    let minutes: Vec<i64> = times_ms.map(|time| time.div_euclid(60_000)).collect();
    let mut known = projects.clone();
    known.dedup();
    known.sort_unstable();
    known.dedup();
    let ranks = ranks(words);
    let mut last_project = (u32::MAX, 0);
    let groups = projects.iter().zip(names).map(|(project, name)| {
        if last_project.0 != *project {
            last_project = (*project, known.partition_point(|other| other < project));
        }
        last_project.1 * ranks.len() + ranks.get(*name as usize).map_or(0, |rank| *rank as usize)
    });
    let groups: Vec<usize> = groups.collect();
    let count = known.len() * ranks.len();
    let minute = |row: &u32| minutes.get(*row as usize).copied().unwrap_or_default();
    let mut rows = if count <= MAX_COUNTERS * groups.len() {
        counted(&groups, count)
    } else {
        let mut rows: Vec<u32> = (0_u32..).take(groups.len()).collect();
        rows.sort_by_key(|row| groups.get(*row as usize).copied().unwrap_or_default());
        rows
    };
    // What is received together happened within few minutes, one after the other.
    for group in rows.chunk_by_mut(|one, other| groups.get(*one as usize) == groups.get(*other as usize)) {
        if !group.is_sorted_by_key(minute) {
            group.sort_by_key(minute);
        }
    }
    (!rows.is_sorted()).then_some(rows)
}

/// The place of each word among all, by their bytes.
fn ranks(words: &WordDictionary) -> Vec<u32> {
    let mut by_bytes: Vec<u32> = (0_u32..).take(words.len()).collect();
    by_bytes.sort_unstable_by_key(|index| words.word(*index));
    let mut ranks = vec![0; by_bytes.len()];
    for (rank, index) in (0_u32..).zip(by_bytes) {
        if let Some(place) = ranks.get_mut(index as usize) {
            *place = rank;
        }
    }
    ranks
}

/// Rows by their groups, of which there are `count`.
fn counted(groups: &[usize], count: usize) -> Vec<u32> {
    let mut next = vec![0_u32; count];
    for group in groups {
        if let Some(rows) = next.get_mut(*group) {
            *rows += 1;
        }
    }
    let mut total = 0;
    for place in &mut next {
        total += std::mem::replace(place, total);
    }
    let mut rows = vec![0; groups.len()];
    for (row, group) in (0_u32..).zip(groups) {
        if let Some(place) = next.get_mut(*group) {
            if let Some(slot) = rows.get_mut(*place as usize) {
                *slot = row;
            }
            *place += 1;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(names: &[&str]) -> WordDictionary {
        let mut words = WordDictionary::default();
        for name in names {
            words.index(name.as_bytes());
        }
        words
    }

    #[test]
    fn rows_that_are_in_order_need_none() {
        let words = words(&["b", "a"]);
        let order = |names: &[u32], times: &[i64]| {
            by_name_and_minute(names.iter().map(|_| 7), (&words, names), times.iter().copied())
        };
        assert_eq!(order(&[], &[]), None);
        assert_eq!(order(&[1, 1, 0], &[59_999, 0, 60_000]), None);
        assert_eq!(order(&[0, 1, 1], &[0, 60_000, 59_999]), Some(vec![2, 1, 0]));
    }

    proptest! {
        #[test]
        fn rows_are_ordered_as_by_comparing(
            rows in prop::collection::vec((0_u32..3, 0_u32..4, prop_oneof![0_i64..200_000, any::<i64>()]), 0..60),
        ) {
            let names = ["b", "ab", "", "a"];
            let words = words(&names);
            let order = by_name_and_minute(
                rows.iter().map(|row| row.0),
                (&words, &rows.iter().map(|row| row.1).collect::<Vec<_>>()),
                rows.iter().map(|row| row.2),
            );
            let as_pushed: Vec<u32> = (0_u32..).take(rows.len()).collect();
            let mut expected = as_pushed.clone();
            expected.sort_by_key(|row| {
                let (project, name, time) = rows[*row as usize];
                (project, names[name as usize].as_bytes(), time.div_euclid(60_000))
            });
            prop_assert_eq!(order.unwrap_or(as_pushed), expected);
        }
    }
}
