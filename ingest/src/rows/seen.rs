//! What is written once per [`Rows`](super::Rows): units, resources, texts of foreign queries.

use super::column::clear_capped;
use super::stored::{StoredIds, era};
use foldhash::fast::RandomState;
use std::collections::HashSet;
use std::sync::Arc;

/// The kinds of things written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Once {
    /// A row of `resources`; the number is the resource, which the project is part of.
    Resource,
    /// A row of `query_texts` of this project, for a query of foreign origin.
    QueryText(u32),
}

/// A unit that a record of the present request names.
#[derive(Debug)]
struct Named {
    unit: u64,
    /// Value of `units.kind`.
    kind: u8,
    is_stored: bool,
    /// Where its id ends in the common text.
    end: usize,
}

/// A set that can forget what was added last.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    set: HashSet<(Once, u64), RandomState>,
    /// Units with a row in `units`; the project is part of them. By themselves, since there are two to look for an event.
    units: HashSet<u64, RandomState>,
    /// Added since the mark.
    recent: Vec<(Once, u64)>,
    recent_units: Vec<u64>,
    /// Units of the present request and, one behind the other, their ids.
    named: Vec<Named>,
    ids: Vec<u8>,
    /// What earlier rows brought to ClickHouse.
    stored: Option<Arc<StoredIds>>,
    /// Era of the latest look at it.
    era: u64,
}

impl Seen {
    /// Nothing seen, but leaving out what is known to be stored.
    pub(super) fn knowing(stored: Arc<StoredIds>) -> Self {
        Self { stored: Some(stored), ..Self::default() }
    }

    /// Whether this is the first time.
    #[inline]
    pub(crate) fn first(&mut self, once: Once, id: u64) -> bool {
        let first = self.set.insert((once, id));
        if first {
            self.recent.push((once, id));
        }
        first
    }

    /// Whether this is the first time, and no earlier rows brought it to ClickHouse. For tables that are not counted.
    #[inline]
    pub(crate) fn first_and_not_stored(&mut self, once: Once, id: u64, received_ms: i64) -> bool {
        if let Some(stored) = &self.stored {
            self.era = era(received_ms);
            if stored.contains(id, self.era) {
                return false;
            }
        }
        self.first(once, id)
    }

    /// Notes that a record of the present request names a unit.
    #[inline]
    pub(crate) fn name(&mut self, unit: u64, kind: u8, id: &str) {
        self.ids.extend_from_slice(id.as_bytes());
        self.named.push(Named { unit, kind, is_stored: false, end: self.ids.len() });
    }

    /// Calls `write` with unit, kind and id of those named whose row is to be written.
    ///
    /// Together for a request, because what is known of an id lies anywhere in megabytes: one after the other each look
    /// waited for memory, which was a third of decoding; in one small loop the processor overlaps them.
    pub(crate) fn write_named(&mut self, received_ms: i64, mut write: impl FnMut(u64, u8, &[u8])) {
        let mut named = std::mem::take(&mut self.named);
        if let Some(stored) = &self.stored {
            self.era = era(received_ms);
            for one in &mut named {
                one.is_stored = stored.contains(one.unit, self.era);
            }
        }
        let ids = std::mem::take(&mut self.ids);
        let mut start = 0;
        for Named { unit, kind, is_stored, end } in named.drain(..) {
            if !is_stored && self.units.insert(unit) {
                self.recent_units.push(unit);
                write(unit, kind, ids.get(start..end).unwrap_or_default());
            }
            start = end;
        }
        (self.named, self.ids) = (named, ids);
        self.forget_named();
    }

    fn forget_named(&mut self) {
        clear_capped(&mut self.named);
        clear_capped(&mut self.ids);
    }

    /// Notes that the rows of tables that are not counted are stored.
    pub(super) fn note_stored(&self) {
        let Some(stored) = &self.stored else { return };
        let resources = self.set.iter().filter(|(once, _)| *once == Once::Resource).map(|(_, id)| id);
        for id in self.units.iter().chain(resources) {
            stored.note(*id, self.era);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.set.len() * 20 + self.units.len() * 10
    }

    pub(super) fn mark(&mut self) {
        self.forget_named();
        self.recent.clear();
        self.recent_units.clear();
    }

    pub(super) fn rollback(&mut self) {
        self.forget_named();
        for unit in self.recent_units.drain(..) {
            self.units.remove(&unit);
        }
        for key in self.recent.drain(..) {
            self.set.remove(&key);
        }
    }

    pub(super) fn clear(&mut self) {
        self.forget_named();
        self.set.clear();
        // Chosen: 64 Ki ids, 1.3 MiB, cover an ordinary cut.
        self.set.shrink_to(1 << 16);
        self.units.clear();
        self.units.shrink_to(1 << 16);
        self.recent.clear();
        self.recent.shrink_to(1 << 16);
        self.recent_units.clear();
        self.recent_units.shrink_to(1 << 16);
    }
}
