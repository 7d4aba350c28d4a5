//! What the macros call: one function per kind of record.
//!
//! In: a call site and its values. Out: a record in the thread's ring. Everything here is `pub` for the macros only.

use crate::attempt::Attempt;
use crate::callsite::{Callsite, StepDeclaration};
use crate::context;
use crate::local::{self, RecordKind};
use crate::value::{Value, Values, Word};
use crate::{clock, state};
use std::ptr;

pub use crate::callsite::{CALLSITES, CallsiteKind, FUNNELS};
pub use gemba_conventions::is_valid_name;
pub use linkme;

/// The state of recording when it is on; the one load of a switched-off macro.
#[inline]
pub fn recording() -> Option<u8> {
    let state = state::load();
    (state & state::RECORDING != 0).then_some(state)
}

/// Marks an attribute value, so that the compiler names the value when its type does not fit.
#[inline]
pub fn value<T: Value + ?Sized>(value: &T) -> &T {
    value
}

/// An identifier as it is meant: `r#type` is `type`.
const fn bare(text: &str) -> &str {
    match text.as_bytes() {
        [b'r', b'#', ..] => text.split_at(2).1,
        _ => text,
    }
}

/// The key behind an identifier.
pub const fn key(text: &'static str) -> &'static str {
    let text = bare(text);
    assert!(
        !matches!(text.as_bytes(), [b'g', b'e', b'm', b'b', b'a', b'.', ..]),
        "attributes under `gemba.` are Gemba's own; choose another key"
    );
    text
}

/// Records one use of a feature.
#[inline]
pub fn used(state: u8, callsite: &'static Callsite, values: &impl Values) {
    local::write(RecordKind::Used, callsite, clock::read(state), None, values);
}

/// Begins an attempt.
#[inline]
pub fn begin(state: u8, callsite: &'static Callsite, values: &impl Values) -> Attempt {
    Attempt::begin(state, callsite, values)
}

/// An attempt that records nothing.
#[inline]
pub fn inert(callsite: &'static Callsite) -> Attempt {
    Attempt::inert(callsite)
}

/// Records that a step was reached.
#[inline]
pub fn reached(state: u8, callsite: &'static Callsite, step: &'static StepDeclaration, values: &impl Values) {
    context::reach_step(local::context(), step);
    let address = Word(ptr::from_ref(step) as u64);
    local::write(RecordKind::Step, callsite, clock::read(state), None, &(address, values));
}

/// Whether two steps of one funnel, or two attributes of one record, have the same name.
pub const fn has_repeated(names: &[&str]) -> bool {
    let mut first = 0;
    while first < names.len() {
        let mut second = first + 1;
        while second < names.len() {
            if same(bare(names[first]).as_bytes(), bare(names[second]).as_bytes()) {
                return true;
            }
            second += 1;
        }
        first += 1;
    }
    false
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}
