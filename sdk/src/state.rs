//! The one word that every macro loads first: whether anything is recorded, and which clock is read.
//!
//! A few bits in a static byte, so that a switched-off macro costs one relaxed load and a branch. Consent is folded into the same
//! bit: withheld, nothing is recorded whoever asks for records.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

/// Something takes records (the pipeline runs, or a test captures), and consent is not withheld.
pub(crate) const RECORDING: u8 = 1;
/// The processor's time stamp counter is the clock.
pub(crate) const COUNTER: u8 = 2;
/// This process was forked off a recording one; it never records.
pub(crate) const FORKED: u8 = 4;
/// Consent is withheld: nothing is recorded, nothing is sent.
const WITHHELD: u8 = 8;

static STATE: AtomicU8 = AtomicU8::new(0);

/// Who keeps recording switched on: the pipeline counts as one, each capturing test as one.
static HOLDERS: Mutex<u32> = Mutex::new(0);

/// The state; relaxed, because a record that misses a switch by an instant is as good as one made an instant earlier.
#[inline]
pub(crate) fn load() -> u8 {
    if cfg!(feature = "off") { 0 } else { STATE.load(Ordering::Relaxed) }
}

/// Whether records are taken.
#[inline]
pub(crate) fn is_recording() -> bool {
    load() & RECORDING != 0
}

/// Whether consent is withheld.
pub(crate) fn is_withheld() -> bool {
    load() & WITHHELD != 0
}

/// Sets `bits`.
pub(crate) fn set(bits: u8) {
    STATE.fetch_or(bits, Ordering::Relaxed);
}

/// Keeps recording on until the matching [`release`].
pub(crate) fn hold() {
    change(|holders| *holders += 1);
}

/// Gives back one [`hold`].
pub(crate) fn release() {
    change(|holders| *holders = holders.saturating_sub(1));
}

/// Withholds or gives consent; whether it was withheld before.
pub(crate) fn withhold(is_withheld: bool) -> bool {
    let mut before = 0;
    change(|_| {
        before = if is_withheld {
            STATE.fetch_or(WITHHELD, Ordering::Relaxed)
        } else {
            STATE.fetch_and(!WITHHELD, Ordering::Relaxed)
        };
    });
    before & WITHHELD != 0
}

/// Changes what decides about recording, then decides.
fn change(change: impl FnOnce(&mut u32)) {
    let mut holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    change(&mut holders);
    if *holders > 0 && load() & (FORKED | WITHHELD) == 0 {
        set(RECORDING);
    } else {
        STATE.fetch_and(!RECORDING, Ordering::Relaxed);
    }
}

/// Switches recording off for good in a forked child. Only atomic stores: it runs between `fork` and whatever follows.
pub(crate) fn forked() {
    STATE.fetch_or(FORKED, Ordering::Relaxed);
    STATE.fetch_and(!RECORDING, Ordering::Relaxed);
}
