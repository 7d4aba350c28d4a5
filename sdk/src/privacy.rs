//! What leaves the process: sessions and contexts of flags always as a keyed hash, users as they are unless the application
//! says so, attributes by the rules for their keys, and of people only those in the sample.
//!
//! A session id is often a secret that lets its bearer in, so it never leaves. The hash is the same in every process
//! that has the same key, so that a session can be followed through several services; so is the sample.

use crate::context::Part;
use crate::hex;
use siphasher::sip128::{Hasher128 as _, SipHasher24};
use std::fmt::{self, Write};
use std::hash::Hasher as _;
use std::sync::OnceLock;

/// The key when none is given. Public on purpose: it only separates our hashes from others of the same id; guessing a
/// session id of the usual 128 random bits from its hash is hopeless without any key.
pub(crate) const DEFAULT_KEY: [u8; 16] = *b"gemba.session.id";

/// What the application says about privacy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Privacy {
    /// Key of all hashes; None for [`DEFAULT_KEY`].
    pub(crate) key: Option<[u8; 16]>,
    /// Whether users and anonymous ids are hashed too.
    pub(crate) hashes_users: bool,
    /// Which attributes of the application leave.
    pub(crate) keys: KeyRules,
    /// Share of the people that are recorded, in (0, 1]; None for all.
    pub(crate) sample_rate: Option<f64>,
}

/// Which keys of attributes may leave: with something in `allowed` only those, and none in `denied`. An entry is a key, or
/// `cart.*` for all keys that begin with `cart.`.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyRules {
    pub(crate) allowed: Vec<String>,
    pub(crate) denied: Vec<String>,
}

impl KeyRules {
    fn allow(&self, key: &str) -> bool {
        (self.allowed.is_empty() || names(&self.allowed, key)) && !self.deny(key)
    }

    pub(crate) fn deny(&self, key: &str) -> bool {
        names(&self.denied, key)
    }
}

/// Whether one of the entries stands for this key.
fn names(entries: &[String], key: &str) -> bool {
    entries.iter().any(|entry| match entry.strip_suffix('*') {
        Some(beginning) => key.starts_with(beginning),
        None => entry == key,
    })
}

static PRIVACY: OnceLock<Privacy> = OnceLock::new();

/// Sets the rules for the process; the first call counts.
pub(crate) fn configure(privacy: Privacy) {
    let _first_wins = PRIVACY.set(privacy);
}

/// A key made of any secret text.
pub(crate) fn key_of(secret: &str) -> [u8; 16] {
    let mut hasher = SipHasher24::new_with_key(&DEFAULT_KEY);
    hasher.write(secret.as_bytes());
    hasher.finish128().as_bytes()
}

fn hash_key() -> [u8; 16] {
    PRIVACY.get().and_then(|privacy| privacy.key).unwrap_or(DEFAULT_KEY)
}

/// Whether an attribute of the application under this key may leave the process.
pub(crate) fn may_leave(key: &str) -> bool {
    PRIVACY.get().is_none_or(|privacy| privacy.keys.allow(key))
}

/// Whether an attribute under this key may not leave the process, whatever else is allowed.
pub(crate) fn is_denied(key: &str) -> bool {
    PRIVACY.get().is_some_and(|privacy| privacy.keys.deny(key))
}

/// Whether users and anonymous ids leave as keyed hashes only.
fn hashes_users() -> bool {
    PRIVACY.get().is_some_and(|privacy| privacy.hashes_users)
}

/// Whether only a share of the people is recorded.
pub(crate) fn is_sampling() -> bool {
    PRIVACY.get().is_some_and(|privacy| privacy.sample_rate.is_some())
}

/// Whether the person of this user, else of this session (as they leave the process), lies outside the sample; nobody never does.
pub(crate) fn is_left_out(user: &str, session: &str) -> bool {
    let Some(rate) = PRIVACY.get().and_then(|privacy| privacy.sample_rate) else { return false };
    let person = if user.is_empty() { session } else { user };
    !person.is_empty() && point_of(&hash_key(), person) >= rate
}

/// Where a person lies in [0, 1), the same in every process with the same key.
fn point_of(key: &[u8; 16], person: &str) -> f64 {
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(person.as_bytes());
    // The upper 53 bits are what a float holds exactly.
    (hasher.finish128().h1 >> 11) as f64 / (1_u64 << 53) as f64
}

/// Writes `id` as it may leave the process. Allocates nothing itself.
pub(crate) fn write_id(part: Part, id: &dyn fmt::Display, out: &mut impl Write) {
    let is_hashed = match part {
        Part::Session => true,
        Part::User => hashes_users(),
        Part::Tenant | Part::Route => false,
    };
    // `out` is bounded memory and never fails by itself; a failing `Display` leaves what it wrote.
    let _written = if is_hashed {
        let mut hashing = Hashing { hasher: SipHasher24::new_with_key(&hash_key()), is_empty: true };
        // An id that fails to print is as good as none.
        if write!(hashing, "{id}").is_err() || hashing.is_empty {
            return;
        }
        let hash = hashing.hasher.finish128();
        [hash.h1, hash.h2].into_iter().try_for_each(|half| {
            let digits = hex::digits(half);
            str::from_utf8(&digits).map_or(Err(fmt::Error), |digits| out.write_str(digits))
        })
    } else {
        write!(out, "{id}")
    };
}

struct Hashing {
    hasher: SipHasher24,
    is_empty: bool,
}

impl Write for Hashing {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.is_empty &= piece.is_empty();
        self.hasher.write(piece.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leaves_when_it_is_allowed_and_not_denied() {
        let rules = |allowed: &[&str], denied: &[&str]| KeyRules {
            allowed: allowed.iter().map(ToString::to_string).collect(),
            denied: denied.iter().map(ToString::to_string).collect(),
        };
        assert!(rules(&[], &[]).allow("anything"));
        assert!(rules(&["kind", "cart.*"], &[]).allow("cart.id"));
        assert!(!rules(&["kind", "cart.*"], &[]).allow("cart"));
        assert!(!rules(&["kind", "cart.*"], &[]).allow("kinds"));
        assert!(!rules(&["cart.*"], &["cart.coupon"]).allow("cart.coupon"), "a denial wins");
        assert!(!rules(&[], &["*"]).allow("anything"));
    }

    #[test]
    fn the_sample_holds_its_share_of_the_people() {
        let key = key_of("secret");
        let points: Vec<f64> = (0..20_000).map(|number| point_of(&key, &format!("user-{number}"))).collect();
        assert!(points.iter().all(|point| (0.0..1.0).contains(point)));
        let within = points.iter().filter(|point| **point < 0.1).count();
        // 2,000 expected; five standard deviations of a binomial (42) on both sides.
        assert!((1790..=2210).contains(&within), "{within}");
        assert!((point_of(&key, "user-1") - point_of(&key_of("other"), "user-1")).abs() > f64::EPSILON);
    }
}
