//! Fingerprints of foreign queries, remembered by text so that a repeated query costs a lookup.
//!
//! The rules are the SDK's own ([`gemba::query`]); this file only remembers them, and knows the one hash they lack: that
//! of a metric series without text. A cache changes no result, so it survives [`Rows::clear`](crate::rows::Rows::clear).

use foldhash::fast::RandomState;
use gemba::query::{Dialect, Fingerprint, fingerprint};
use hashbrown::HashTable;
use siphasher::sip::SipHasher24;
use std::hash::{BuildHasher, Hasher};

/// Most texts remembered; chosen: an application has hundreds of statements, but texts with literals in clear would
/// fill any number. Then all are forgotten.
const MAX_TEXTS: usize = 8192;
/// Most bytes of texts remembered.
const MAX_BYTES: usize = 4 << 20;

#[derive(Debug)]
struct Remembered {
    dialect: Dialect,
    text: Box<str>,
    fingerprint: Fingerprint,
}

/// Query text → fingerprint.
#[derive(Debug, Default)]
pub(crate) struct FingerprintCache {
    entries: Vec<Remembered>,
    table: HashTable<usize>,
    bytes: usize,
    state: RandomState,
}

impl FingerprintCache {
    /// The fingerprint of a text.
    pub(super) fn get(&mut self, dialect: Dialect, text: &str) -> &Fingerprint {
        let hash = self.state.hash_one((dialect, text));
        let same = |entry: &Remembered| entry.dialect == dialect && *entry.text == *text;
        let found = self.table.find(hash, |at| self.entries.get(*at).is_some_and(same)).copied();
        let at = found.unwrap_or_else(|| self.remember(hash, dialect, text));
        &self.entries[at].fingerprint
    }

    fn remember(&mut self, hash: u64, dialect: Dialect, text: &str) -> usize {
        let entry = Remembered { dialect, text: text.into(), fingerprint: fingerprint(dialect, text) };
        let bytes =
            text.len() + entry.fingerprint.text.len() + entry.fingerprint.summary.len() + size_of::<Remembered>();
        if self.entries.len() >= MAX_TEXTS || self.bytes + bytes > MAX_BYTES {
            self.entries.clear();
            self.table.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        let at = self.entries.len();
        self.entries.push(entry);
        let Self { entries, table, state, .. } = self;
        table.insert_unique(hash, at, |at| {
            entries.get(*at).map_or(0, |entry| state.hash_one((entry.dialect, &*entry.text)))
        });
        at
    }
}

/// The fingerprint of a foreign metric series that names its query only by these attributes; the same everywhere, never
/// 0. Not the hash of any text, so a series and a span of the same query stay two fingerprints.
pub(super) fn of_series(parts: &[&str]) -> u64 {
    let mut hasher = SipHasher24::new();
    for part in parts {
        hasher.write_usize(part.len());
        hasher.write(part.as_bytes());
    }
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remembered_text_has_the_fingerprint_of_a_new_one() {
        let mut cache = FingerprintCache::default();
        for round in 0..3 {
            for n in 0..MAX_TEXTS + 10 {
                let text = format!("SELECT a FROM t{n}");
                let expected = fingerprint(Dialect::Postgres, &text).hash;
                assert_eq!(cache.get(Dialect::Postgres, &text).hash, expected, "{round} {n}");
            }
            assert!(cache.bytes <= MAX_BYTES && cache.entries.len() <= MAX_TEXTS);
        }
    }

    #[test]
    fn series_differ_by_where_their_parts_end() {
        assert_ne!(of_series(&["ab", "c"]), of_series(&["a", "bc"]));
    }
}
