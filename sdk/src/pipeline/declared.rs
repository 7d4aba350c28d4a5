//! When something is declared to the server: at once, every six hours, and again when a declaration did not arrive.
//!
//! In: the receipts of what was sent. Out: whether it is due. It does not know what is declared.

use super::queue::Receipt;
use std::time::{Duration, Instant};

/// How often everything is declared anew (design: every 6 h).
const INTERVAL: Duration = Duration::from_hours(6);
/// Pause before a lost declaration is sent again, doubled each time up to [`INTERVAL`]: a server that refuses it is not
/// asked in a loop.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// One declaration, as often as it is sent.
#[derive(Debug)]
pub(crate) struct Declared {
    sent: Option<Instant>,
    /// Of the batches it went out in, without those that have arrived.
    waiting: Vec<Receipt>,
    is_lost: bool,
    pause: Duration,
}

impl Declared {
    /// Never sent.
    pub(crate) const fn new() -> Self {
        Self { sent: None, waiting: Vec::new(), is_lost: false, pause: FIRST_PAUSE }
    }

    /// Whether it is to be sent now.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let Some(sent) = self.sent else { return true };
        if !self.waiting.is_empty() {
            self.waiting.retain(|receipt| {
                self.is_lost |= receipt.fate() == Some(false);
                receipt.fate().is_none()
            });
            if self.waiting.is_empty() && !self.is_lost {
                self.pause = FIRST_PAUSE;
            }
        }
        let pause = if self.is_lost { self.pause } else { INTERVAL };
        now.saturating_duration_since(sent) >= pause
    }

    /// It was sent at `now`; `receipts` tell what becomes of it.
    pub(crate) fn send(&mut self, now: Instant, receipts: impl IntoIterator<Item = Receipt>) {
        if self.is_lost {
            self.pause = (self.pause * 2).min(INTERVAL);
        }
        self.sent = Some(now);
        self.is_lost = false;
        self.waiting.clear();
        self.waiting.extend(receipts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_is_declared_every_six_hours_and_what_did_not_soon_and_then_ever_later() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut declared = Declared::new();
        assert!(declared.is_due(start));

        let receipts = [Receipt::divisible(), Receipt::divisible()];
        declared.send(start, receipts.clone());
        assert!(!declared.is_due(after(60)), "on its way");
        receipts[0].settle(true);
        assert!(!declared.is_due(after(60)));
        receipts[1].settle(false);
        assert!(!declared.is_due(after(4)) && declared.is_due(after(5)), "half of it is lost");

        let again = Receipt::divisible();
        declared.send(after(5), [again.clone()]);
        again.settle(false);
        assert!(!declared.is_due(after(14)) && declared.is_due(after(15)), "twice the pause");

        let last = Receipt::divisible();
        declared.send(after(15), [last.clone()]);
        last.settle(true);
        assert!(!declared.is_due(after(15 + 6 * 3600 - 1)) && declared.is_due(after(15 + 6 * 3600)));

        let fresh = Receipt::divisible();
        declared.send(after(30_000), [fresh.clone()]);
        fresh.settle(false);
        assert!(declared.is_due(after(30_005)), "an arrival begins anew with the first pause");
    }
}
