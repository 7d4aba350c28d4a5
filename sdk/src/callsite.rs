//! The static side of a macro: what a call site records, under which keys, from which line of code.
//!
//! Each use of `feature!`, `attempt!`, `step!`, `feature_flag!` and `funnel!` makes one static here and registers it at link time, so
//! that the catalogue knows what a build declares even if it never runs. A record carries only the address.

mod counts;

use crate::privacy;
use counts::Counts;
use gemba_conventions::DropReason;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// Every call site of the build, in no particular order.
///
/// Filled by the linker: a call site in a library that is not linked is not in it, and one in a library opened at run
/// time is not either (its records are still taken).
#[linkme::distributed_slice]
pub static CALLSITES: [&'static Callsite];

/// Of [`identify`](crate::identify).
pub(crate) static IDENTIFY: Callsite = Callsite::new(CallsiteKind::Identity, "identify", None, &[], (file!(), line!()));
/// Of the requests that [`web::Layer`](crate::web::Layer) serves.
#[cfg(feature = "tower")]
pub(crate) static SERVED: Callsite = Callsite::new(CallsiteKind::Identity, "request", None, &[], (file!(), line!()));

/// Names of features that only tickets bring. Bounded, because tickets come from outside.
static UNDECLARED: Mutex<BTreeMap<&'static str, &'static Callsite>> = Mutex::new(BTreeMap::new());

/// The call site for resumed attempts at a feature that this build does not declare; None beyond 1,000 such features.
pub(crate) fn undeclared(feature: &str) -> Option<&'static Callsite> {
    const MAX_UNDECLARED: usize = 1000;
    let mut undeclared = UNDECLARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(callsite) = undeclared.get(feature) {
        return Some(callsite);
    }
    if undeclared.len() >= MAX_UNDECLARED {
        return None;
    }
    let name: &'static str = Box::leak(feature.to_owned().into_boxed_str());
    let callsite: &'static Callsite =
        Box::leak(Box::new(Callsite::new(CallsiteKind::Attempt, name, None, &[], ("", 0))));
    undeclared.insert(name, callsite);
    Some(callsite)
}

/// Every call site whose counts are this process's to tell: those of the build, the SDK's own, and those that tickets brought.
pub(crate) fn counting() -> impl Iterator<Item = &'static Callsite> {
    let brought: Vec<_> = UNDECLARED.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect();
    let own = [
        &IDENTIFY,
        #[cfg(feature = "tower")]
        &SERVED,
    ];
    CALLSITES.iter().copied().chain(own).chain(brought)
}

/// The steps of every funnel of the build, one entry a funnel.
#[linkme::distributed_slice]
pub static FUNNELS: [&'static [StepDeclaration]];

/// What a call site records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallsiteKind {
    /// A use of a feature.
    Feature,
    /// Attempts at a feature.
    Attempt,
    /// A step of a funnel; the step comes with each record.
    Step,
    /// Evaluations of a feature flag.
    Flag,
    /// Who somebody is, or properties of a user or a tenant.
    Identity,
}

/// One place in the code that records.
#[derive(Debug)]
pub struct Callsite {
    kind: CallsiteKind,
    name: &'static str,
    was: Option<&'static str>,
    keys: &'static [&'static str],
    file: &'static str,
    line: u32,
    /// Where the drain thread keeps what it has encoded of this call site, plus one; 0 until its first record.
    place: AtomicU32,
    /// An attempt begun here was once held: something was recorded meanwhile, or its end was said.
    is_held: AtomicBool,
    /// What a caller's thread counted here, by [`REASONS`].
    counted: Counts<{ REASONS.len() }>,
}

/// The reasons that a caller's thread can count for, in the order of the counters. An ignored guard is a mistake in the code
/// and no lost record.
pub(crate) const REASONS: [DropReason; 4] =
    [DropReason::RingFull, DropReason::NoRing, DropReason::TooLarge, DropReason::GuardIgnored];

impl Callsite {
    /// Describes a call site; used by the macros.
    pub const fn new(
        kind: CallsiteKind,
        name: &'static str,
        was: Option<&'static str>,
        keys: &'static [&'static str],
        (file, line): (&'static str, u32),
    ) -> Self {
        Self {
            kind,
            name,
            was,
            keys,
            file,
            line,
            place: AtomicU32::new(0),
            is_held: AtomicBool::new(false),
            counted: Counts::new(),
        }
    }

    /// The feature's name or the flag's key; empty for a step, whose name comes with the record.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn kind(&self) -> CallsiteKind {
        self.kind
    }

    pub(crate) fn was(&self) -> Option<&'static str> {
        self.was
    }

    /// Keys of the attributes, in the order of the values.
    pub(crate) fn keys(&self) -> &'static [&'static str] {
        self.keys
    }

    /// Whether the value under this key may leave the process. What a flag came to is the record itself and no attribute of
    /// the application's choice, so only a denial keeps it here.
    pub(crate) fn lets_go_of(&self, key: &str) -> bool {
        match self.kind {
            CallsiteKind::Flag => !privacy::is_denied(key),
            _ => privacy::may_leave(key),
        }
    }

    pub(crate) fn file(&self) -> &'static str {
        self.file
    }

    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    /// Where the drain thread keeps what it has encoded of this call site; None until it has said so.
    #[inline]
    pub(crate) fn place(&self) -> Option<usize> {
        // Relaxed: only who holds the drain's lock reads and writes it.
        self.place.load(Ordering::Relaxed).checked_sub(1).map(|place| place as usize)
    }

    /// Says where; for who holds the drain's lock.
    pub(crate) fn set_place(&self, place: usize) {
        let Ok(place) = u32::try_from(place + 1) else { return };
        self.place.store(place, Ordering::Relaxed);
    }

    /// Whether the code at this place holds the guards of its attempts.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        // Relaxed: it says something about the code, not about other memory.
        self.is_held.load(Ordering::Relaxed)
    }

    /// Notes that it does.
    #[inline]
    pub(crate) fn hold(&self) {
        // Looked at first, so that a line of cache is not written to again and again.
        if !self.is_held() {
            self.is_held.store(true, Ordering::Relaxed);
        }
    }

    /// Counts one record of this call site that found no room, or one guard that was ignored.
    #[cold]
    pub(crate) fn count(&self, reason: DropReason) {
        if let Some(which) = REASONS.iter().position(|of| *of == reason) {
            self.counted.add(which);
        }
    }

    /// What was counted here so far, by reason.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        REASONS.iter().copied().zip(self.counted.all())
    }
}

/// One declared step of a funnel.
#[derive(Debug, PartialEq, Eq)]
pub struct StepDeclaration {
    funnel: &'static str,
    step: &'static str,
    was: Option<&'static str>,
    position: u32,
    file: &'static str,
    line: u32,
}

impl StepDeclaration {
    /// Describes a step; used by `funnel!`.
    pub const fn new(
        (funnel, step): (&'static str, &'static str),
        was: Option<&'static str>,
        position: u32,
        (file, line): (&'static str, u32),
    ) -> Self {
        Self { funnel, step, was, position, file, line }
    }

    /// The funnel's name.
    pub fn funnel(&self) -> &'static str {
        self.funnel
    }

    /// The step's name inside its funnel.
    pub fn step(&self) -> &'static str {
        self.step
    }

    /// Position inside the funnel, from 0.
    pub fn position(&self) -> u32 {
        self.position
    }

    pub(crate) fn was(&self) -> Option<&'static str> {
        self.was
    }

    pub(crate) fn file(&self) -> &'static str {
        self.file
    }

    pub(crate) fn line(&self) -> u32 {
        self.line
    }
}
