//! Ids of people, sessions, attempts and resources as 64-bit keyed hashes.
//!
//! SipHash-2-4 under a key of the installation: equal ids give equal numbers inside one project, and nobody without the
//! key can test a guess. The key and the project number are part of every hash, so the same id in two projects gives two
//! unrelated numbers. Two nodes that share a store share the key (it lives in the control data).

use siphasher::sip::SipHasher24;
use std::fmt;
use std::hash::Hasher;

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
    key: [u8; 16],
}

impl fmt::Debug for IdHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdHasher(..)")
    }
}

impl IdHasher {
    /// A hasher under `key`.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// The number of `id` in its domain and project; never 0, which stands for "none".
    pub fn hash(&self, project: ProjectId, domain: IdDomain, id: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u32(project.0);
        hasher.write_u8(domain as u8);
        hasher.write(id);
        hasher.finish().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
