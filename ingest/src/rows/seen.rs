//! What is written once per [`Rows`](super::Rows): units, resources, texts of foreign queries.

use foldhash::fast::RandomState;
use std::collections::HashSet;

/// The kinds of things written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Once {
    /// A row of `units`; the number is the unit, which the project is part of.
    Unit,
    /// A row of `resources`; the number is the resource, which the project is part of.
    Resource,
    /// A row of `query_texts` of this project, for a query of foreign origin.
    QueryText(u32),
}

/// A set that can forget what was added last.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    set: HashSet<(Once, u64), RandomState>,
    /// Added since the mark.
    recent: Vec<(Once, u64)>,
}

impl Seen {
    /// Whether this is the first time.
    #[inline]
    pub(crate) fn first(&mut self, once: Once, id: u64) -> bool {
        let first = self.set.insert((once, id));
        if first {
            self.recent.push((once, id));
        }
        first
    }

    pub(super) fn bytes(&self) -> usize {
        self.set.len() * 20
    }

    pub(super) fn mark(&mut self) {
        self.recent.clear();
    }

    pub(super) fn rollback(&mut self) {
        for key in self.recent.drain(..) {
            self.set.remove(&key);
        }
    }

    pub(super) fn clear(&mut self) {
        self.set.clear();
        // Chosen: 64 Ki ids, 1.3 MiB, cover an ordinary cut.
        self.set.shrink_to(1 << 16);
        self.recent.clear();
        self.recent.shrink_to(1 << 16);
    }
}
