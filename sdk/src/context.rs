//! The slab of contexts: who, in which session, tenant, trace, feature and attempt, resolved once and named by 4 bytes.
//!
//! In: what a scope or an attempt says at its entry. Out: a [`ContextId`] that a record carries instead of all that, and
//! [`Resolved`] for the drain thread. It does not know which context is current on a thread (`local`) and encodes nothing.
//!
//! Invariants:
//! 1. A slot is written only by the one owner that took it from the free list and has not shared it yet.
//! 2. A slot goes back to the free list only after a drain pass that began after its last owner let go, so every record
//!    that names it has been resolved before.
//! 3. The slab never grows beyond [`MAX_CONTEXTS`]; without a free slot the context is 0 and the loss is counted.

mod slots;
mod trace;

use crate::callsite::{Callsite, StepDeclaration};
use slots::{Link, Slots};
use std::cell::UnsafeCell;
use std::fmt;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

pub(crate) use trace::Trace;

/// Contexts alive or waiting for the drain thread at the same time; 64 chunks of 1,024, each allocated at need. Chosen:
/// 10,000 requests a second times the drain interval, with room for slow ones.
pub(crate) const MAX_CONTEXTS: u32 = CHUNKS * CHUNK_SLOTS;
const CHUNKS: u32 = 64;
const CHUNK_SLOTS: u32 = 1024;

/// Longest chain of contexts that keep each other alive. Chosen: deeper than code nests; a task that begins the next one inside
/// its own scope, again and again, would else fill the slab for everybody.
const MAX_DEPTH: u32 = 64;

/// Longest id of a user, session, tenant or route that a context keeps, in bytes; longer ones are cut at a character.
const MAX_ID_BYTES: usize = 1024;

/// Memory for ids that a slot gets at its first use: user, hashed session, tenant and route of usual length.
const USUAL_TEXT_BYTES: usize = 128;

/// Names a context; 0 is none. Cheap to copy into every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct ContextId(pub(crate) u32);

impl ContextId {
    /// No context: nobody, nowhere.
    pub(crate) const NONE: Self = Self(0);
}

/// What an id in a context is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    User,
    Session,
    Tenant,
    Route,
}

/// What a context says; written once at entry.
#[derive(Debug, Default)]
struct Data {
    parent: ContextId,
    /// How many contexts lie above it in the chain of parents.
    depth: u32,
    /// The context whose `text` holds the ids: itself or an ancestor; 0 when nobody is known.
    identity: ContextId,
    feature: Option<&'static Callsite>,
    attempt: u64,
    trace: Trace,
    /// Non-zero: records go to this test's capture and are never sent.
    capture: u32,
    /// Whoever it is lies outside the sample.
    is_left_out: bool,
    /// The ids, one after the other; its memory is kept when the slot is used again.
    text: String,
    /// Where user, session, tenant and route lie in `text`.
    parts: [(u32, u32); 4],
}

#[derive(Default)]
struct Slot {
    link: Link,
    /// The funnel step last reached inside, so that queries know it.
    step: AtomicPtr<StepDeclaration>,
    data: UnsafeCell<Data>,
}

#[expect(unsafe_code, reason = "shared slots are read without a lock under invariants 1 and 2")]
// SAFETY: `data` is written only while exactly one thread owns the slot (invariant 1) and is read-only afterwards until
// the drain thread has returned the slot (invariant 2); everything else in it is atomic.
unsafe impl Sync for Slot {}

/// The slots by chunk.
static CHUNKED: [OnceLock<Box<[Slot]>>; CHUNKS as usize] = [const { OnceLock::new() }; CHUNKS as usize];
/// Which of them are free and which were let go since the last drain pass.
static SLOTS: Slots = Slots::new();
/// Contexts that found no slot.
static REFUSED: AtomicU64 = AtomicU64::new(0);

fn slot(id: ContextId) -> Option<&'static Slot> {
    let index = id.0.checked_sub(1)?;
    let chunk = CHUNKED.get((index / CHUNK_SLOTS) as usize)?;
    let slots = chunk.get_or_init(|| {
        // Many scopes since the last pass: let it return those that ended before a further chunk is filled.
        crate::pipeline::wake();
        (0..CHUNK_SLOTS).map(|_| Slot::default()).collect()
    });
    slots.get((index % CHUNK_SLOTS) as usize)
}

fn link(id: u32) -> Option<&'static Link> {
    slot(ContextId(id)).map(|slot| &slot.link)
}

/// Contexts that found no free slot so far; each is a scope whose records lack identity.
pub(crate) fn refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

/// A share in a context; the last one to drop lets the context go.
#[derive(Debug)]
pub(crate) struct ContextRef(ContextId);

impl ContextRef {
    /// A share in nothing.
    pub(crate) const NONE: Self = Self(ContextId::NONE);

    pub(crate) fn id(&self) -> ContextId {
        self.0
    }

    /// Another share in the context `id`, which the caller knows to be alive: it is current or a share is at hand.
    pub(crate) fn share(id: ContextId) -> Self {
        if let Some(slot) = slot(id) {
            slot.link.share();
        }
        Self(id)
    }

    /// A context of its own below `parent` (0: below nothing); it says what the parent says until told otherwise. None
    /// when the slab is full, which is counted.
    pub(crate) fn below(parent: ContextId) -> Option<OwnedContext> {
        let Some(id) = SLOTS.take(MAX_CONTEXTS, link).map(ContextId) else {
            REFUSED.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let slot = slot(id)?;
        let mut inherited_step = ptr::null_mut();
        let mut owned = OwnedContext(Self(id));
        let data = owned.data();
        data.text.clear();
        // Memory of a slot once taken is kept, so scopes allocate only until each slot has been used.
        data.text.reserve(USUAL_TEXT_BYTES);
        data.parts = [(0, 0); 4];
        if let Some((above, step)) = read(parent) {
            data.identity = above.identity;
            data.feature = above.feature;
            data.attempt = above.attempt;
            data.trace = above.trace;
            data.capture = above.capture;
            data.is_left_out = above.is_left_out;
            inherited_step = step;
            if above.depth < MAX_DEPTH {
                // The child keeps its parent alive: the step it reaches is told to the parent too.
                data.parent = Self::share(parent).keep();
                data.depth = above.depth + 1;
            } else {
                data.parent = ContextId::NONE;
                data.depth = 0;
                if let Some((who, _)) = read(above.identity) {
                    data.text.push_str(&who.text);
                    data.parts = who.parts;
                    data.identity = id;
                }
            }
        } else {
            data.parent = ContextId::NONE;
            data.depth = 0;
            data.identity = ContextId::NONE;
            data.feature = None;
            data.attempt = 0;
            data.trace = Trace::default();
            data.capture = 0;
            data.is_left_out = false;
        }
        let trace = Trace::current();
        if trace.is_some() {
            data.trace = trace;
        }
        slot.step.store(inherited_step, Ordering::Relaxed);
        Some(owned)
    }

    /// Gives up the guard but not the share.
    fn keep(self) -> ContextId {
        let id = self.0;
        #[expect(clippy::mem_forget, reason = "the share lives on in the child's `parent` and is dropped with it")]
        std::mem::forget(self);
        id
    }
}

impl Drop for ContextRef {
    #[inline]
    fn drop(&mut self) {
        if self.0 != ContextId::NONE {
            self.let_go();
        }
    }
}

impl ContextRef {
    fn let_go(&self) {
        let mut id = self.0;
        // A loop instead of recursion: a long chain of parents may end at once.
        while let Some(ended) = slot(id) {
            if !ended.link.unshare() {
                return;
            }
            let parent = read(id).map_or(ContextId::NONE, |(data, _)| data.parent);
            // All records that name the context were published before.
            SLOTS.retire(id.0, &ended.link);
            id = parent;
        }
    }
}

/// A context nobody else can see yet, so it may still be written.
#[derive(Debug)]
pub(crate) struct OwnedContext(ContextRef);

impl OwnedContext {
    #[expect(unsafe_code, reason = "the slot's data lie in a shared static")]
    fn data(&mut self) -> &mut Data {
        match slot(self.0.id()) {
            // SAFETY: invariant 1: `self` is the only owner, and `&mut self` the only access through it.
            Some(slot) => unsafe { &mut *slot.data.get() },
            None => unreachable!("an owned context always names a slot"),
        }
    }

    /// Publishes the context: from now on it is read-only.
    pub(crate) fn publish(mut self) -> ContextRef {
        let id = self.0.id();
        if crate::privacy::is_sampling() && self.data().identity == id {
            let said = of(id);
            self.data().is_left_out = crate::privacy::is_left_out(said.user, said.session);
        }
        self.0
    }

    /// Says who or where; an empty id leaves the part out.
    pub(crate) fn set(&mut self, part: Part, id: &dyn fmt::Display) {
        self.set_by(part, |text| crate::privacy::write_id(part, id, text));
    }

    /// As [`set`](Self::set), for an id that another process has made fit to leave it.
    #[cfg(feature = "tower")]
    pub(crate) fn set_as_it_is(&mut self, part: Part, id: &str) {
        use std::fmt::Write as _;
        self.set_by(part, |text| {
            // Bounded memory never fails.
            let _always = text.write_str(id);
        });
    }

    /// Puts the context into a trace.
    #[cfg(feature = "tower")]
    pub(crate) fn set_trace(&mut self, trace: Trace) {
        self.data().trace = trace;
    }

    /// What the context says so far of its trace.
    #[cfg(feature = "tower")]
    pub(crate) fn trace(&mut self) -> Trace {
        self.data().trace
    }

    fn set_by(&mut self, part: Part, write: impl FnOnce(&mut Bounded<'_>)) {
        let own = self.0.id();
        let inherited = self.data().identity;
        if inherited != own {
            let (parts, text) = match read(inherited) {
                Some((above, _)) => (above.parts, above.text.as_str()),
                None => ([(0, 0); 4], ""),
            };
            let data = self.data();
            data.text.push_str(text);
            data.parts = parts;
            data.identity = own;
        }
        let data = self.data();
        let start = data.text.len();
        write(&mut Bounded { text: &mut data.text, room: MAX_ID_BYTES });
        let range = (u32::try_from(start).unwrap_or(0), u32::try_from(data.text.len()).unwrap_or(0));
        if let Some(entry) = data.parts.get_mut(part as usize) {
            *entry = range;
        }
    }

    /// Puts the context inside an attempt at a feature.
    pub(crate) fn set_attempt(&mut self, feature: &'static Callsite, attempt: u64) {
        let data = self.data();
        data.feature = Some(feature);
        data.attempt = attempt;
    }

    /// Sends the records of the context to a test's capture.
    pub(crate) fn set_capture(&mut self, capture: u32) {
        self.data().capture = capture;
    }
}

/// Takes at most `room` bytes and drops the rest, at a character boundary.
struct Bounded<'a> {
    text: &'a mut String,
    room: usize,
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let taken = piece.floor_char_boundary(self.room);
        self.text.push_str(piece.get(..taken).unwrap_or_default());
        self.room = if taken < piece.len() { 0 } else { self.room - taken };
        Ok(())
    }
}

#[expect(unsafe_code, reason = "the slot's data lie in a shared static")]
fn read(id: ContextId) -> Option<(&'static Data, *mut StepDeclaration)> {
    let slot = slot(id)?;
    // SAFETY: every caller holds a share in `id` (or is the drain thread before it returns the slot), so by invariants 1
    // and 2 nobody writes; callers do not keep the reference beyond their share.
    Some((unsafe { &*slot.data.get() }, slot.step.load(Ordering::Relaxed)))
}

/// Remembers the step reached inside `id` and every context around it.
pub(crate) fn reach_step(id: ContextId, step: &'static StepDeclaration) {
    let mut id = id;
    while let Some(current) = slot(id) {
        current.step.store(ptr::from_ref(step).cast_mut(), Ordering::Relaxed);
        id = read(id).map_or(ContextId::NONE, |(data, _)| data.parent);
    }
}

/// The funnel step last reached inside `id`; the caller holds a share in it or it is current.
pub(crate) fn current_step(id: ContextId) -> Option<&'static StepDeclaration> {
    let step = slot(id)?.step.load(Ordering::Relaxed);
    #[expect(unsafe_code, reason = "the pointer was stored as an address")]
    // SAFETY: only `reach_step` and inheritance store here, both from a `&'static`; null gives None.
    unsafe {
        step.as_ref()
    }
}

/// The feature whose attempt `id` is inside of; the caller holds a share in it or it is current.
pub(crate) fn current_feature(id: ContextId) -> Option<&'static Callsite> {
    read(id).and_then(|(data, _)| data.feature)
}

/// Whether whoever `id` names lies outside the sample; the caller holds a share in it or it is current.
pub(crate) fn is_left_out(id: ContextId) -> bool {
    read(id).is_some_and(|(data, _)| data.is_left_out)
}

/// The test capture `id` belongs to, 0 for none.
pub(crate) fn capture(id: ContextId) -> u32 {
    read(id).map_or(0, |(data, _)| data.capture)
}

/// What a context says, for the drain thread. Empty strings stand for "not said".
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Resolved<'a> {
    pub(crate) user: &'a str,
    /// Hashed.
    pub(crate) session: &'a str,
    pub(crate) tenant: &'a str,
    pub(crate) route: &'a str,
    pub(crate) feature: Option<&'static str>,
    /// 0 for none.
    pub(crate) attempt: u64,
    pub(crate) trace: Trace,
    /// Non-zero: belongs to a test's capture.
    pub(crate) capture: u32,
}

/// The contexts let go before a drain pass began; they are returned when it ends.
///
/// While it lives, every context named by a drained record can be resolved.
#[derive(Debug)]
pub(crate) struct Retired {
    ids: Vec<ContextId>,
}

impl Retired {
    pub(crate) const fn new() -> Self {
        Self { ids: Vec::new() }
    }

    /// Takes all that were let go so far. Only one pass runs at a time (the drain's lock).
    pub(crate) fn take(&mut self) {
        // Records published before a context was let go are visible to the pass.
        SLOTS.take_retired(link, |id| self.ids.push(ContextId(id)));
    }

    /// The contexts that ended.
    pub(crate) fn ids(&self) -> &[ContextId] {
        &self.ids
    }

    /// Returns their slots; nothing may name them any more.
    pub(crate) fn free(&mut self) {
        for id in self.ids.drain(..) {
            SLOTS.give(id.0, link);
        }
    }
}

/// What the context `id` says. For the drain thread inside a pass only: the references end with the pass.
pub(crate) fn resolve(_pass: &Retired, id: ContextId) -> Resolved<'_> {
    of(id)
}

/// Lets `visit` see what `id` says; the caller holds a share in it or it is current.
#[cfg(feature = "http")]
pub(crate) fn visit<R>(id: ContextId, visit: impl for<'a> FnOnce(&Resolved<'a>) -> R) -> R {
    visit(&of(id))
}

/// What `id` says; the caller sees to it that the references do not outlive the context.
fn of<'a>(id: ContextId) -> Resolved<'a> {
    let Some((data, _)) = read(id) else { return Resolved::default() };
    let ids = read(data.identity).map(|(identity, _)| identity);
    let part = |part: Part| -> &'a str {
        let Some(identity) = ids else { return "" };
        let (start, end) = identity.parts.get(part as usize).copied().unwrap_or_default();
        identity.text.get(start as usize..end as usize).unwrap_or_default()
    };
    Resolved {
        user: part(Part::User),
        session: part(Part::Session),
        tenant: part(Part::Tenant),
        route: part(Part::Route),
        feature: data.feature.map(Callsite::name),
        attempt: data.attempt,
        trace: data.trace,
        capture: data.capture,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "as many contexts as there are slots")]
    fn a_task_that_begins_the_next_one_inside_its_scope_for_ever_holds_few_contexts() {
        let mut first = ContextRef::below(ContextId::NONE).unwrap();
        first.set(Part::User, &"chained");
        first.set(Part::Tenant, &"acme");
        let mut current = first.publish();
        let before = refused();
        for round in 0..=MAX_CONTEXTS {
            // The next one keeps what it needs of the one before, which ends.
            current = ContextRef::below(current.id()).unwrap().publish();
            if round % 1024 == 0 {
                crate::pipeline::drain::pass();
            }
        }
        assert_eq!(refused(), before);
        let who = of(current.id());
        assert_eq!((who.user, who.session, who.tenant), ("chained", "", "acme"));
    }
}
