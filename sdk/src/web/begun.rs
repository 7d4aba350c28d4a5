//! Traces that begin in this process: their ids, and whether they are sampled.
//!
//! In: nothing, or the share that is to be sampled. Out: ids no other process gives, and the flag that the host's own spans and
//! the services behind it go by. Gemba itself keeps every request, sampled or not.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Random for the process, then counted and mixed: a request must not wait for the system's random numbers.
fn new_id() -> u64 {
    static FIRST: OnceLock<u64> = OnceLock::new();
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    let first = FIRST.get_or_init(crate::config::random_u64);
    // SplitMix64 (Steele, Lea, Flood 2014): a bijection, so ids of one process differ.
    let mut id = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    id ^ (id >> 31)
}

pub(super) fn new_span_id() -> u64 {
    // 0 stands for no span.
    new_id().max(1)
}

pub(super) fn new_trace_id() -> [u8; 16] {
    (u128::from(new_id()) << 64 | u128::from(new_span_id())).to_be_bytes()
}

/// The share of traces that is sampled, in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampled(f64);

impl Sampled {
    /// All of them.
    pub(super) const ALL: Self = Self(1.0);

    /// A share beyond [0, 1] is the nearest inside; what is no number is all.
    pub(super) fn new(share: f64) -> Self {
        if share.is_nan() { Self::ALL } else { Self(share.clamp(0.0, 1.0)) }
    }

    /// What OpenTelemetry's variables `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` say of a trace without a parent; None
    /// when they say nothing, or name a sampler that is not of the specification ("General SDK configuration").
    pub(super) fn in_environment(lookup: impl Fn(&str) -> Option<String>) -> Option<Self> {
        match lookup("OTEL_TRACES_SAMPLER")?.as_str() {
            "always_on" | "parentbased_always_on" => Some(Self::ALL),
            "always_off" | "parentbased_always_off" => Some(Self(0.0)),
            "traceidratio" | "parentbased_traceidratio" => {
                // Absent or not a number it means 1 (the same section).
                let share = lookup("OTEL_TRACES_SAMPLER_ARG").and_then(|share| share.trim().parse().ok());
                Some(share.map_or(Self::ALL, Self::new))
            }
            _ => None,
        }
    }

    /// Whether the trace is one of them; decided by its id as OpenTelemetry's `TraceIdRatioBased` does, by the lower 63 of its bits.
    pub(super) fn holds(self, trace_id: [u8; 16]) -> bool {
        let lower = trace_id.last_chunk().copied().unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2^63")]
        let bound = (self.0 * (1_u64 << 63) as f64) as u64;
        u64::from_be_bytes(lower) >> 1 < bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_a_sampler_and_the_share_holds_of_many_traces() {
        let told = |sampler: &'static str, share: &'static str| {
            Sampled::in_environment(move |name| match name {
                "OTEL_TRACES_SAMPLER" => Some(sampler.to_owned()),
                _ => Some(share.to_owned()).filter(|share| !share.is_empty()),
            })
        };
        assert_eq!(Sampled::in_environment(|_| None), None);
        assert_eq!(told("xray", ""), None);
        assert_eq!(told("parentbased_always_on", ""), Some(Sampled(1.0)));
        assert_eq!(told("always_off", "1"), Some(Sampled(0.0)));
        assert_eq!(told("parentbased_traceidratio", "0.25"), Some(Sampled(0.25)));
        assert_eq!(told("traceidratio", "7"), Some(Sampled(1.0)));
        assert_eq!(told("traceidratio", "a half"), Some(Sampled(1.0)));
        let ids: Vec<_> = (0..10_000).map(|_| new_trace_id()).collect();
        let share = |of: f64| ids.iter().filter(|id| Sampled::new(of).holds(**id)).count();
        assert_eq!((share(0.0), share(-1.0), share(1.0), share(f64::NAN)), (0, 0, 10_000, 10_000));
        // Five standard deviations of a fair draw.
        assert!(share(0.25).abs_diff(2_500) < 5 * 44, "{}", share(0.25));
    }

    #[test]
    fn ids_differ_and_none_is_zero() {
        let ids: std::collections::BTreeSet<_> = (0..10_000).map(|_| new_span_id()).collect();
        assert_eq!((ids.len(), ids.contains(&0)), (10_000, false));
    }
}
