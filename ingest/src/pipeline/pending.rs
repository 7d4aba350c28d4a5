//! Records acknowledged and not yet proven to be stored, by project.
//!
//! In: entries as they are acknowledged or found in the log at the start, and cuts as they are stored. Out: how many records
//! wait. Cuts found open at the start are kept apart, because their rows may be proven to be stored without being decoded
//! again; there are no more of them than inserts may be under way.

use crate::identity::ProjectId;
use crate::log::cuts::CutBook;
use std::collections::BTreeMap;
use std::ops::Range;

/// Records by project.
pub(super) type ByProject = BTreeMap<u32, u64>;

/// What `before` holds beyond `after`.
pub(super) fn less(before: &ByProject, after: &ByProject) -> ByProject {
    let left = |project: &u32| after.get(project).copied().unwrap_or(0);
    before.iter().map(|(project, records)| (*project, records.saturating_sub(left(project)))).collect()
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    by_project: ByProject,
    /// The part of it that lies in cuts found open at the start, by their first position.
    found_in_cuts: BTreeMap<u64, ByProject>,
}

impl Pending {
    /// Counts an entry.
    pub(super) fn add(&mut self, project: ProjectId, records: u64) {
        if records > 0 {
            *self.by_project.entry(project.0).or_default() += records;
        }
    }

    /// Counts an entry found in the log, in the cut that begins at `cut` where it lies in one.
    pub(super) fn found(&mut self, cut: Option<u64>, project: ProjectId, records: u64) {
        self.add(project, records);
        if let (Some(cut), true) = (cut, records > 0) {
            *self.found_in_cuts.entry(cut).or_default().entry(project.0).or_default() += records;
        }
    }

    /// Takes back what a cut held that is stored now.
    pub(super) fn stored(&mut self, records: &ByProject) {
        for (project, records) in records {
            if let Some(waiting) = self.by_project.get_mut(project) {
                *waiting = waiting.saturating_sub(*records);
            }
        }
        self.by_project.retain(|_, waiting| *waiting > 0);
    }

    /// Takes back what a cut held that was found open at the start, and is stored now.
    pub(super) fn stored_cut(&mut self, first: u64) {
        if let Some(records) = self.found_in_cuts.remove(&first) {
            self.stored(&records);
        }
    }

    /// Notes that a cut found open at the start holds no more than `kept`; what it held beyond that.
    pub(super) fn lessen_cut(&mut self, first: u64, kept: &ByProject) -> ByProject {
        let Some(before) = self.found_in_cuts.insert(first, kept.clone()) else { return ByProject::new() };
        let gone = less(&before, kept);
        self.stored(&gone);
        gone
    }

    /// All of it.
    pub(super) fn records(&self) -> u64 {
        self.by_project.values().sum()
    }

    /// Records by project; projects without any are left out.
    pub(super) fn by_project(&self) -> &ByProject {
        &self.by_project
    }
}

/// Where an entry of the log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Stored.
    Stored,
    /// In the open cut that begins at this position.
    InCut(u64),
    /// In no cut yet.
    Uncut,
}

/// Tells where entries stand; used while the log is opened.
#[derive(Debug)]
pub(super) struct Standings {
    ranges: BTreeMap<u64, u64>,
    backlog: Vec<Range<u64>>,
    uncut: u64,
}

impl Standings {
    pub(super) fn of(book: &CutBook) -> Self {
        Self {
            ranges: book.open_cuts().map(|cut| (cut.first, cut.end)).collect(),
            backlog: book.backlog().to_vec(),
            uncut: book.uncut(),
        }
    }

    pub(super) fn of_entry(&self, position: u64) -> Standing {
        if position >= self.uncut || self.backlog.iter().any(|stretch| stretch.contains(&position)) {
            return Standing::Uncut;
        }
        match self.ranges.range(..=position).next_back() {
            Some((first, end)) if position < *end => Standing::InCut(*first),
            _ => Standing::Stored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_taken_back_by_project() {
        let mut pending = Pending::default();
        pending.add(ProjectId(1), 5);
        pending.add(ProjectId(2), 3);
        pending.add(ProjectId(3), 0);
        pending.found(Some(40), ProjectId(1), 7);
        pending.found(None, ProjectId(2), 1);
        assert_eq!(*pending.by_project(), ByProject::from([(1, 12), (2, 4)]));
        pending.stored(&ByProject::from([(1, 5), (2, 3)]));
        assert_eq!((pending.records(), pending.by_project().get(&1)), (8, Some(&7)));
        assert_eq!(pending.lessen_cut(40, &ByProject::from([(1, 6)])), ByProject::from([(1, 1)]));
        assert_eq!(pending.by_project().get(&1), Some(&6));
        pending.stored_cut(40);
        pending.stored_cut(40);
        assert_eq!(*pending.by_project(), ByProject::from([(2, 1)]));
    }
}
