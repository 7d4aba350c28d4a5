//! Keeps hot failures from flooding the log: at most one line in a while, with the number of those left out.

use crate::clock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Least time between two lines of one kind, in milliseconds. Chosen: a person watching the log still sees that it goes on.
const PAUSE_MS: i64 = 5_000;

/// One kind of log line; a `static` beside the line.
#[derive(Debug)]
pub struct Throttle {
    last_ms: AtomicI64,
    left_out: AtomicU64,
}

impl Throttle {
    /// Lets the first line through.
    pub const fn new() -> Self {
        Self { last_ms: AtomicI64::new(i64::MIN), left_out: AtomicU64::new(0) }
    }

    /// `Some(lines left out since the last)` when a line may be written now. Never blocks.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(clock::now_ms())
    }

    fn pass_at(&self, now_ms: i64) -> Option<u64> {
        let last = self.last_ms.load(Ordering::Relaxed);
        // A clock that was set back must not silence the log until it has caught up.
        let is_due = last.saturating_add(PAUSE_MS) <= now_ms || now_ms < last;
        // Relaxed: only the winner of the exchange writes, and nothing else hangs on the order.
        if is_due && self.last_ms.compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_passes_in_a_while_and_tells_how_many_did_not() {
        let throttle = Throttle::new();
        assert_eq!(throttle.pass_at(10_000), Some(0));
        assert_eq!(throttle.pass_at(10_001), None);
        assert_eq!(throttle.pass_at(14_999), None);
        assert_eq!(throttle.pass_at(15_000), Some(2));
        assert_eq!(throttle.pass_at(14_000), Some(0), "the clock was set back");
    }
}
