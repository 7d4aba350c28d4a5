//! Counts that any thread adds to and one reports: how much there is more each time it looks.
//!
//! `sdk/models` runs this very file through every interleaving (loom).

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

/// `N` counts; they only rise.
#[derive(Debug)]
pub(crate) struct Counts<const N: usize>([AtomicU64; N]);

impl<const N: usize> Counts<N> {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// One more of `which`, below `N`.
    pub(crate) fn add(&self, which: usize) {
        if let Some(count) = self.0.get(which) {
            // Relaxed: a count orders nothing else, and one that is missed now is seen at the next look.
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All of them, in their order.
    pub(crate) fn all(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|count| count.load(Ordering::Relaxed))
    }
}
