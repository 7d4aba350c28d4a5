//! The clock of every record: one processor tick count read by the caller, turned into time by the drain thread.
//!
//! In: the time stamp counter where the kernel itself trusts it, the monotonic clock elsewhere. Out: [`now`] (ticks),
//! and a [`Timeline`] that turns ticks into wall time and into nanoseconds since the process started. It does not decide
//! what a record's time means, and it never alters a time once read.
//!
//! Invariants:
//! 1. Ticks never run backwards on one thread.
//! 2. Monotonic nanoseconds are continuous over anchors: a later tick never gives a smaller number.
//! 3. A tick is converted by the anchor in force when it was read, however late that happens.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time spent at the first start to learn the length of a tick. A clock read is exact to about 30 ns here, so 1 ms gives
/// 6e-5; the drain thread refines it.
const FIRST_CALIBRATION: Duration = Duration::from_millis(1);

/// Nanoseconds in a second.
const SECOND_NS: u64 = 1_000_000_000;

/// Reads the clock: ticks of an unspecified length, comparable inside this process only. Never blocks.
#[inline]
pub(crate) fn now() -> u64 {
    read(crate::state::load())
}

/// Reads the clock whose kind `state` names, so that a caller that has the state already does not load it again.
#[inline(always)]
#[expect(clippy::inline_always, reason = "one instruction on the path of every record; a call would double it")]
pub(crate) fn read(state: u8) -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if state & crate::state::COUNTER != 0 {
        #[expect(unsafe_code, reason = "the intrinsic is declared unsafe")]
        // SAFETY: `rdtsc` exists on every x86-64 processor and has no precondition.
        return unsafe { core::arch::x86_64::_rdtsc() };
    }
    let _ = state;
    monotonic()
}

/// Nanoseconds since the clock was first used: the clock of machines without a trusted counter.
fn monotonic() -> u64 {
    static BASE: OnceLock<Instant> = OnceLock::new();
    let elapsed = BASE.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether the time stamp counter runs at one rate on all processors and the kernel uses it as its own clock source.
fn counter_is_trusted() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
    {
        // CPUID leaf 0x8000_0007, EDX bit 8: invariant counter (AMD64 manual vol. 3, appendix E.4.6; Intel SDM 18.17.1).
        let highest = core::arch::x86_64::__cpuid(0x8000_0000).eax;
        if highest < 0x8000_0007 || core::arch::x86_64::__cpuid(0x8000_0007).edx & (1 << 8) == 0 {
            return false;
        }
        std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .is_ok_and(|source| source.trim() == "tsc")
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
    {
        false
    }
}

/// A point where ticks, wall time and monotonic time are known together, and the slope from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Anchor {
    ticks: u64,
    /// Nanoseconds since the Unix epoch.
    wall_ns: u64,
    /// Nanoseconds since the clock started.
    monotonic_ns: u64,
    /// Nanoseconds per tick, times 2^32.
    slope: u64,
}

impl Anchor {
    /// Nanoseconds from the anchor to `ticks`; negative is false in the flag.
    fn distance(&self, ticks: u64) -> (u64, bool) {
        let (ahead, is_later) =
            if ticks >= self.ticks { (ticks - self.ticks, true) } else { (self.ticks - ticks, false) };
        (u64::try_from((u128::from(ahead) * u128::from(self.slope)) >> 32).unwrap_or(u64::MAX), is_later)
    }

    fn wall(&self, ticks: u64) -> u64 {
        match self.distance(ticks) {
            (ns, true) => self.wall_ns.saturating_add(ns),
            (ns, false) => self.wall_ns.saturating_sub(ns),
        }
    }

    fn monotonic(&self, ticks: u64) -> u64 {
        match self.distance(ticks) {
            (ns, true) => self.monotonic_ns.saturating_add(ns),
            (ns, false) => self.monotonic_ns.saturating_sub(ns),
        }
    }
}

/// The anchors in force now and earlier, oldest first, never empty once the clock has started.
static ANCHORS: Mutex<Vec<Anchor>> = Mutex::new(Vec::new());

/// The newest anchor for readers that must not lock: a sequence lock over four words.
static CURRENT: SequenceLock = SequenceLock {
    version: AtomicU64::new(0),
    words: [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)],
};

/// Set once a test has shifted the wall clock; from then on the offset is kept instead of the system's time.
static SHIFTED: AtomicBool = AtomicBool::new(false);

struct SequenceLock {
    version: AtomicU64,
    words: [AtomicU64; 4],
}

impl SequenceLock {
    /// Publishes `anchor`. Writers are serialised by the lock of [`ANCHORS`].
    fn store(&self, anchor: Anchor) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        // An odd version must be visible before any word changes.
        fence(Ordering::Release);
        let [ticks, wall, monotonic, slope] = &self.words;
        ticks.store(anchor.ticks, Ordering::Relaxed);
        wall.store(anchor.wall_ns, Ordering::Relaxed);
        monotonic.store(anchor.monotonic_ns, Ordering::Relaxed);
        slope.store(anchor.slope, Ordering::Relaxed);
        // The even version comes after all words.
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    fn load(&self) -> Anchor {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let [ticks, wall, monotonic, slope] = &self.words;
            let anchor = Anchor {
                ticks: ticks.load(Ordering::Relaxed),
                wall_ns: wall.load(Ordering::Relaxed),
                monotonic_ns: monotonic.load(Ordering::Relaxed),
                slope: slope.load(Ordering::Relaxed),
            };
            // The words must be read before the version is looked at again.
            fence(Ordering::Acquire);
            if before & 1 == 0 && self.version.load(Ordering::Relaxed) == before {
                return anchor;
            }
            std::hint::spin_loop();
        }
    }
}

/// Where the calibration began: ticks and the system's monotonic clock, read together.
static ORIGIN: OnceLock<(u64, Instant)> = OnceLock::new();

/// Starts the clock once; later calls do nothing. Blocks for about a millisecond the first time.
pub(crate) fn start() {
    let mut is_first = false;
    let origin = *ORIGIN.get_or_init(|| {
        is_first = true;
        if counter_is_trusted() {
            crate::state::set(crate::state::COUNTER);
        }
        let (ticks, instant, _) = read_together();
        (ticks, instant)
    });
    let mut anchors = ANCHORS.lock().unwrap_or_else(PoisonError::into_inner);
    if !anchors.is_empty() {
        return;
    }
    while origin.1.elapsed() < FIRST_CALIBRATION {
        std::hint::spin_loop();
    }
    let (ticks, instant, wall_ns) = read_together();
    let anchor =
        Anchor { ticks, wall_ns, monotonic_ns: since(origin.1, instant), slope: slope(origin, ticks, instant) };
    anchors.push(anchor);
    CURRENT.store(anchor);
}

/// Measures the length of a tick anew and follows corrections of the system's clock. Called by the drain thread.
pub(crate) fn recalibrate() {
    let Some(origin) = ORIGIN.get() else { return };
    let mut anchors = ANCHORS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(last) = anchors.last().copied() else { return };
    let (ticks, instant, system_ns) = read_together();
    let wall_ns = if SHIFTED.load(Ordering::Relaxed) { last.wall(ticks) } else { system_ns };
    let anchor = Anchor { ticks, wall_ns, monotonic_ns: last.monotonic(ticks), slope: slope(*origin, ticks, instant) };
    anchors.push(anchor);
    CURRENT.store(anchor);
}

/// Makes `time` the wall time from now on; every tick read before keeps its own.
pub(crate) fn shift(time: SystemTime) {
    start();
    let mut anchors = ANCHORS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(last) = anchors.last().copied() else { return };
    SHIFTED.store(true, Ordering::Relaxed);
    let ticks = now();
    let anchor = Anchor { ticks, wall_ns: epoch_ns(time), monotonic_ns: last.monotonic(ticks), slope: last.slope };
    anchors.push(anchor);
    CURRENT.store(anchor);
}

/// Whether a test has shifted the wall clock, so that wall time rather than ticks tells how long something took.
pub(crate) fn is_shifted() -> bool {
    SHIFTED.load(Ordering::Relaxed)
}

/// The wall time of `ticks`, nanoseconds since the Unix epoch, by the newest anchor. Never blocks; for ticks read just now.
pub(crate) fn wall_ns(ticks: u64) -> u64 {
    CURRENT.load().wall(ticks)
}

/// The wall time now, nanoseconds since the Unix epoch.
pub(crate) fn wall_now_ns() -> u64 {
    wall_ns(now())
}

/// What ended at `end`, read just now, and began at `begin`: nanoseconds it took, 0 if they are the other way round, and the
/// wall time of its end in nanoseconds since the Unix epoch. By the newest anchor, which is looked at once.
#[inline]
pub(crate) fn ended_ns(begin: u64, end: u64) -> (u64, u64) {
    let anchor = CURRENT.load();
    (Anchor { ticks: begin, ..anchor }.distance(end.max(begin)).0, anchor.wall(end))
}

/// Nanoseconds from one tick count to a later one, by the newest slope; 0 if they are the other way round.
pub(crate) fn elapsed_ns(from: u64, to: u64) -> u64 {
    ended_ns(from, to).0
}

/// The tick count `ns` nanoseconds ago; 0 if the counter is younger.
pub(crate) fn ticks_before(ns: u64) -> u64 {
    let slope = u128::from(CURRENT.load().slope.max(1));
    now().saturating_sub(u64::try_from((u128::from(ns) << 32) / slope).unwrap_or(u64::MAX))
}

/// The drain thread's own copy of the anchors: conversion without a lock.
#[derive(Debug)]
pub(crate) struct Timeline {
    anchors: Vec<Anchor>,
}

impl Timeline {
    pub(crate) const fn new() -> Self {
        Self { anchors: Vec::new() }
    }

    /// Takes over the anchors set since the last call, and forgets those that nothing unread can need: all that were
    /// followed by another before `oldest_ticks`.
    pub(crate) fn refresh(&mut self, oldest_ticks: u64) {
        let mut anchors = ANCHORS.lock().unwrap_or_else(PoisonError::into_inner);
        let needed = anchors.partition_point(|anchor| anchor.ticks <= oldest_ticks).saturating_sub(1);
        anchors.drain(..needed);
        self.anchors.clear();
        self.anchors.extend_from_slice(&anchors);
    }

    fn anchor(&self, ticks: u64) -> Anchor {
        let after = self.anchors.partition_point(|anchor| anchor.ticks <= ticks);
        // A tick from before the first anchor is extended backwards from it.
        self.anchors.get(after.saturating_sub(1)).copied().unwrap_or_else(|| CURRENT.load())
    }

    /// Wall time of `ticks` and nanoseconds since the clock started, by one look at the anchors.
    #[inline]
    pub(crate) fn times(&self, ticks: u64) -> (u64, u64) {
        // Nearly every record was made after the newest anchor.
        if let Some(newest) = self.anchors.last()
            && ticks >= newest.ticks
        {
            let (ns, _) = newest.distance(ticks);
            return (newest.wall_ns.saturating_add(ns), newest.monotonic_ns.saturating_add(ns));
        }
        let anchor = self.anchor(ticks);
        (anchor.wall(ticks), anchor.monotonic(ticks))
    }

    /// Wall time of `ticks`, nanoseconds since the Unix epoch.
    pub(crate) fn wall_ns(&self, ticks: u64) -> u64 {
        self.anchor(ticks).wall(ticks)
    }

    /// Nanoseconds since the clock started.
    pub(crate) fn monotonic_ns(&self, ticks: u64) -> u64 {
        self.anchor(ticks).monotonic(ticks)
    }
}

/// Ticks, the monotonic clock and the wall clock (nanoseconds since the epoch), read as close together as possible.
fn read_together() -> (u64, Instant, u64) {
    let mut best: Option<(u64, u64, Instant, SystemTime)> = None;
    // Of eight tries the one least disturbed by an interrupt.
    for _ in 0..8 {
        let before = now();
        let instant = Instant::now();
        let wall = SystemTime::now();
        let after = now();
        let width = after.saturating_sub(before);
        if best.is_none_or(|(least, ..)| width < least) {
            best = Some((width, before + width / 2, instant, wall));
        }
    }
    match best {
        Some((_, ticks, instant, wall)) => (ticks, instant, epoch_ns(wall)),
        None => (now(), Instant::now(), epoch_ns(SystemTime::now())),
    }
}

fn slope(origin: (u64, Instant), ticks: u64, instant: Instant) -> u64 {
    let passed_ticks = u128::from(ticks.saturating_sub(origin.0)).max(1);
    u64::try_from((u128::from(since(origin.1, instant)) << 32) / passed_ticks).unwrap_or(u64::MAX)
}

fn since(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds since the Unix epoch; 0 before it.
pub(crate) fn epoch_ns(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// The moment `ns` nanoseconds after the Unix epoch.
pub(crate) fn from_epoch_ns(ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::new(ns / SECOND_NS, u32::try_from(ns % SECOND_NS).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_keeps_the_anchor_it_was_read_under() {
        let timeline = Timeline {
            anchors: vec![
                Anchor { ticks: 100, wall_ns: 1_000, monotonic_ns: 0, slope: 1 << 32 },
                Anchor { ticks: 200, wall_ns: 90_000, monotonic_ns: 100, slope: 2 << 32 },
            ],
        };
        assert_eq!(timeline.wall_ns(150), 1_050);
        assert_eq!(timeline.wall_ns(210), 90_020);
        assert_eq!(timeline.wall_ns(90), 990, "before the first anchor");
        assert_eq!((timeline.monotonic_ns(199), timeline.monotonic_ns(200)), (99, 100));
        for ticks in [90, 150, 199, 200, 210] {
            assert_eq!(timeline.times(ticks), (timeline.wall_ns(ticks), timeline.monotonic_ns(ticks)));
        }
    }

    #[test]
    fn the_counter_agrees_with_the_system_clock() {
        start();
        recalibrate();
        let (ticks, instant) = (now(), Instant::now());
        while instant.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let (ours, theirs) = (elapsed_ns(ticks, now()), since(instant, Instant::now()));
        let error = ours.abs_diff(theirs);
        assert!(error < 1_000_000, "{ours} ns by ticks, {theirs} ns by the system");
    }
}
