//! Room for the lines of all tables together, so that a process of many threads needs no more memory than one of few.
//!
//! In: lines that tables want and give back. Out: whether there is room. A line already there costs nothing to count into.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Lines that may be taken at once.
#[derive(Debug)]
pub(super) struct Room {
    taken: AtomicUsize,
    limit: usize,
}

impl Room {
    pub(super) const fn new(limit: usize) -> Self {
        Self { taken: AtomicUsize::new(0), limit }
    }

    /// Takes room for one line, and a `beyond` of the limit where that is not 0. None: there is none. Some(true): this one
    /// made it half full, so somebody should empty the tables.
    pub(super) fn take(&self, beyond: usize) -> Option<bool> {
        // Relaxed: a count orders nothing else.
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        if before >= self.limit + beyond {
            self.give_back(1);
            return None;
        }
        Some(before == self.limit / 2)
    }

    pub(super) fn give_back(&self, lines: usize) {
        self.taken.fetch_sub(lines, Ordering::Relaxed);
    }
}
