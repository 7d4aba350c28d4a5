//! The order in which a block of events is written: that of the table's sorting key.
//!
//! In: what the key is made of, row by row. Out: the numbers of the rows. ClickHouse would bring a block into this order before it
//! writes a part, and is spared most of that by finding it there (measured, ingest/DESIGN.md). It takes rows in any order,
//! so a mistake here would cost time and nothing else.

use super::dictionary::WordDictionary;

/// Most counters of a counting sort, for each row; with more of them than that, comparing is cheaper. Chosen.
const MAX_COUNTERS: u64 = 4;

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
    let first = minutes.iter().min().copied().unwrap_or(0);
    let span = minutes.iter().max().map_or(1, |last| last.abs_diff(first).saturating_add(1));
    let ranks = ranks(words);
    let mut last_project = (u32::MAX, 0);
    let keys = projects.iter().zip(names).zip(&minutes).map(|((project, name), minute)| {
        if last_project.0 != *project {
            last_project = (*project, known.partition_point(|other| other < project));
        }
        let rank = ranks.get(*name as usize).copied().unwrap_or_default();
        let group = last_project.1 as u128 * ranks.len() as u128 + u128::from(rank);
        group * u128::from(span) + u128::from(minute.abs_diff(first))
    });
    let groups = known.len() as u128 * ranks.len() as u128 * u128::from(span);
    if groups <= u128::from(MAX_COUNTERS) * names.len() as u128 {
        let keys: Vec<usize> = keys.map(|key| usize::try_from(key).unwrap_or(0)).collect();
        counted(&keys, usize::try_from(groups).unwrap_or(0))
    } else {
        let keys: Vec<u128> = keys.collect();
        let mut rows: Vec<u32> = (0_u32..).take(keys.len()).collect();
        rows.sort_by_key(|row| keys.get(*row as usize).copied().unwrap_or_default());
        (!keys.is_sorted()).then_some(rows)
    }
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

/// Rows by keys below `groups`, in two passes; `None` where they are sorted.
fn counted(keys: &[usize], groups: usize) -> Option<Vec<u32>> {
    if keys.is_sorted() {
        return None;
    }
    let mut next = vec![0_u32; groups];
    for key in keys {
        if let Some(count) = next.get_mut(*key) {
            *count += 1;
        }
    }
    let mut total = 0;
    for place in &mut next {
        total += std::mem::replace(place, total);
    }
    let mut rows = vec![0; keys.len()];
    for (row, key) in (0_u32..).zip(keys) {
        if let Some(place) = next.get_mut(*key) {
            if let Some(slot) = rows.get_mut(*place as usize) {
                *slot = row;
            }
            *place += 1;
        }
    }
    Some(rows)
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
