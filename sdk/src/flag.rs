//! Evaluations of feature flags, as OpenTelemetry's event `feature_flag.evaluation`.
//!
//! In: a call site with the flag's key, and what it came to. Out: a record in the thread's ring, written as that of a feature.
//! What differs is done while it is drained: the flag's context is often a session, so it leaves as a session would.

use crate::callsite::Callsite;
use crate::context::Part;
use crate::local::{self, RecordKind};
use crate::value::{self, Read, Text, Values};
use crate::{clock, privacy};
use gemba_conventions::attribute;
use std::borrow::Cow;

/// Longest key in bytes: what the question `experiment_results` takes.
const MAX_KEY_BYTES: usize = 256;

/// Whether this can be the key of a flag: not empty, no control characters, no space at its ends, not too long.
pub const fn is_valid_flag(key: &str) -> bool {
    let bytes = key.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        if bytes[index].is_ascii_control() {
            return false;
        }
        index += 1;
    }
    match bytes {
        [] | [b' ', ..] | [.., b' '] => false,
        _ => bytes.len() <= MAX_KEY_BYTES,
    }
}

/// The attribute behind a short name of `feature_flag!`.
pub const fn flag_key(name: &str) -> &'static str {
    let key = match name.as_bytes() {
        b"variant" => attribute::FLAG_VARIANT,
        b"reason" => attribute::FLAG_REASON,
        b"provider" => attribute::FLAG_PROVIDER,
        b"context" => attribute::FLAG_CONTEXT,
        b"set" => attribute::FLAG_SET,
        b"version" => attribute::FLAG_VERSION,
        b"error" => attribute::ERROR_TYPE,
        _ => "",
    };
    assert!(
        !key.is_empty(),
        "an evaluation has a variant, reason, provider, context, set, version and error; record other things with feature!"
    );
    key
}

/// Marks what an evaluation says, so that the compiler names the value that is no text.
#[inline]
pub fn text<T: Text + ?Sized>(value: &T) -> &T {
    value
}

/// Records one evaluation of a flag.
#[inline]
pub fn evaluated(state: u8, callsite: &'static Callsite, values: &impl Values) {
    local::write(RecordKind::Evaluated, callsite, clock::read(state), None, values);
}

/// The values of an evaluation with its context as it may leave the process. Values that cannot be read end before it.
pub(crate) fn as_it_may_leave<'a>(callsite: &Callsite, values: &'a [u8]) -> Cow<'a, [u8]> {
    let place = callsite.keys().iter().position(|key| *key == attribute::FLAG_CONTEXT);
    let Some(place) = place else { return Cow::Borrowed(values) };
    let mut rest = values;
    let are_read = (0..place).all(|_| value::take_bytes(&mut rest).is_some());
    let before = values.split_at(values.len() - rest.len()).0;
    match value::take(&mut rest).filter(|_| are_read) {
        Some(Read::Text(context)) => {
            let mut id = String::new();
            privacy::write_id(Part::Session, &context, &mut id);
            let mut hashed = before.to_vec();
            value::push_text(&mut hashed, &id);
            hashed.extend(rest);
            Cow::Owned(hashed)
        }
        Some(Read::Absent) => Cow::Borrowed(values),
        _ => Cow::Borrowed(before),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_flags_are_those_of_their_providers() {
        for good in ["new-checkout", "a", "Team A/blau \u{e4}", "v2.flag_3", &"k".repeat(256)] {
            assert!(is_valid_flag(good), "{good}");
        }
        for bad in ["", " ", " a", "a ", "a\nb", "\u{7f}", &"k".repeat(257)] {
            assert!(!is_valid_flag(bad), "{bad:?}");
        }
    }
}
