//! What leaves the process of an id: sessions always as a keyed hash, users as they are unless the application says so.
//!
//! A session id is often a secret that lets its bearer in, so it never leaves. The hash is the same in every process
//! that has the same key, so that a session can be followed through several services.

use crate::context::Part;
use siphasher::sip128::{Hasher128 as _, SipHasher24};
use std::fmt::{self, Write};
use std::hash::Hasher as _;
use std::sync::OnceLock;

/// The key when none is given. Public on purpose: it only separates our hashes from others of the same id; guessing a
/// session id of the usual 128 random bits from its hash is hopeless without any key.
pub(crate) const DEFAULT_KEY: [u8; 16] = *b"gemba.session.id";

/// The keys in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Privacy {
    /// Key of all hashes.
    pub(crate) key: [u8; 16],
    /// Whether users and anonymous ids are hashed too.
    pub(crate) hashes_users: bool,
}

static PRIVACY: OnceLock<Privacy> = OnceLock::new();

/// Sets the keys for the process; the first call counts.
pub(crate) fn configure(privacy: Privacy) {
    let _first_wins = PRIVACY.set(privacy);
}

/// A key made of any secret text.
pub(crate) fn key_of(secret: &str) -> [u8; 16] {
    let mut hasher = SipHasher24::new_with_key(&DEFAULT_KEY);
    hasher.write(secret.as_bytes());
    hasher.finish128().as_bytes()
}

/// Writes `id` as it may leave the process. Allocates nothing itself.
pub(crate) fn write_id(part: Part, id: &dyn fmt::Display, out: &mut impl Write) {
    let privacy = PRIVACY.get().copied().unwrap_or(Privacy { key: DEFAULT_KEY, hashes_users: false });
    let is_hashed = match part {
        Part::Session => true,
        Part::User => privacy.hashes_users,
        Part::Tenant | Part::Route => false,
    };
    // `out` is bounded memory and never fails by itself; a failing `Display` leaves what it wrote.
    let _written = if is_hashed {
        let mut hashing = Hashing { hasher: SipHasher24::new_with_key(&privacy.key), is_empty: true };
        // An id that fails to print is as good as none.
        if write!(hashing, "{id}").is_err() || hashing.is_empty {
            return;
        }
        let hash = hashing.hasher.finish128();
        write!(out, "{:016x}{:016x}", hash.h1, hash.h2)
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
