//! Ids of people, sessions, attempts and resources as 64-bit keyed hashes.
//!
//! SipHash-2-4 under a key of the installation: equal ids give equal numbers inside one project, and nobody without the
//! key can test a guess. The key and the project number are part of every hash, so the same id in two projects gives two
//! unrelated numbers. Two nodes that share a store share the key (it lives in the control data).
//!
//! Every event has two ids to hash, so the hash is written out here: a general hasher that takes its input in pieces costs
//! twice as much for ids of 12 and 32 bytes (`benches/decode.rs`). A test holds it to the crate's.

use std::fmt;

/// The number of a project; never reused, part of every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectId(pub u32);

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an id names; ids of different domains never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum IdDomain {
    /// A `user.id`.
    User = 1,
    /// A `session.id`.
    Session = 2,
    /// A `gemba.anonymous.id`.
    Anonymous = 3,
    /// A `gemba.attempt.id`.
    Attempt = 4,
    /// A `service.instance.id`.
    Instance = 5,
    /// A whole set of resource attributes.
    Resource = 6,
    /// A metric stream.
    Stream = 7,
}

/// Hashes ids under the key of the installation.
#[derive(Clone)]
pub struct IdHasher {
    /// The state under the key, before any input.
    start: Sip,
}

impl fmt::Debug for IdHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdHasher(..)")
    }
}

impl IdHasher {
    /// A hasher under `key`.
    pub fn new(key: [u8; 16]) -> Self {
        let [low, high] =
            [0, 8].map(|at| key.iter().skip(at).take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        // The constants spell "somepseudorandomlygeneratedbytes" (SipHash paper, 2.1).
        let start = Sip(
            low ^ 0x736f_6d65_7073_6575,
            high ^ 0x646f_7261_6e64_6f6d,
            low ^ 0x6c79_6765_6e65_7261,
            high ^ 0x7465_6462_7974_6573,
        );
        Self { start }
    }

    /// The number of `id` in its domain and project; never 0, which stands for "none".
    #[inline]
    pub fn hash(&self, project: ProjectId, domain: IdDomain, id: &[u8]) -> u64 {
        let mut state = self.start;
        // Five bytes of project and domain; the id follows them without a gap.
        let mut word = u64::from(project.0) | (domain as u64) << 32;
        let mut rest = id;
        if let Some((head, after)) = id.split_first_chunk::<3>() {
            let [first, second, third] = *head;
            state.take(word | u64::from_le_bytes([0, 0, 0, 0, 0, first, second, third]));
            (word, rest) = (0, after);
            while let Some((full, after)) = rest.split_first_chunk::<8>() {
                state.take(u64::from_le_bytes(*full));
                rest = after;
            }
        }
        let used = if id.len() < 3 { 5 } else { 0 };
        for (at, byte) in (used..).zip(rest) {
            word |= u64::from(*byte) << (8 * at);
        }
        // The last word ends with the length's low byte.
        state.take(word | (id.len() as u64 + 5) << 56);
        state.finish().max(1)
    }
}

/// The four words of SipHash-2-4.
#[derive(Clone, Copy)]
struct Sip(u64, u64, u64, u64);

impl Sip {
    #[inline]
    fn round(&mut self) {
        let Self(v0, v1, v2, v3) = self;
        *v0 = v0.wrapping_add(*v1);
        *v2 = v2.wrapping_add(*v3);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.rotate_left(32).wrapping_add(*v3);
        *v2 = v2.wrapping_add(*v1);
        *v3 = v3.rotate_left(21) ^ *v0;
        *v1 = v1.rotate_left(17) ^ *v2;
        *v2 = v2.rotate_left(32);
    }

    #[inline]
    fn take(&mut self, word: u64) {
        self.3 ^= word;
        self.round();
        self.round();
        self.0 ^= word;
    }

    #[inline]
    fn finish(mut self) -> u64 {
        self.2 ^= 0xff;
        for _ in 0..4 {
            self.round();
        }
        self.0 ^ self.1 ^ self.2 ^ self.3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siphasher::sip::SipHasher24;
    use std::hash::Hasher;

    #[test]
    fn hashes_are_siphash_2_4_of_project_domain_and_id_whatever_its_length() {
        let key = std::array::from_fn(|index| u8::try_from(index * 7 + 1).unwrap());
        let id: Vec<u8> = (0..70).map(|byte| byte * 3 + 5).collect();
        for length in 0..=id.len() {
            let mut reference = SipHasher24::new_with_key(&key);
            reference.write(&0x0102_0304_u32.to_le_bytes());
            reference.write(&[IdDomain::Session as u8]);
            reference.write(&id[..length]);
            let hash = IdHasher::new(key).hash(ProjectId(0x0102_0304), IdDomain::Session, &id[..length]);
            assert_eq!(hash, reference.finish(), "{length}");
        }
    }

    #[test]
    fn the_same_id_differs_by_project_domain_and_key() {
        let hasher = IdHasher::new([7; 16]);
        let base = hasher.hash(ProjectId(1), IdDomain::User, b"ann");
        assert_eq!(base, hasher.hash(ProjectId(1), IdDomain::User, b"ann"));
        assert_ne!(base, hasher.hash(ProjectId(2), IdDomain::User, b"ann"));
        assert_ne!(base, hasher.hash(ProjectId(1), IdDomain::Session, b"ann"));
        assert_ne!(base, IdHasher::new([8; 16]).hash(ProjectId(1), IdDomain::User, b"ann"));
    }
}
