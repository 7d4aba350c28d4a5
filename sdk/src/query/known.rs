//! The queries this process knows: by name or by the fingerprint of their text.
//!
//! In: names and texts. Out: a [`Known`] that lives as long as the process, so that everything after names a query by its
//! address. Bounded: beyond [`max_fingerprints`] every new query is [`OTHER`], still timed and counted. A text seen before
//! costs one hash and no lock; a new one is normalised and looked up under a lock once.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use super::seen::Seen;
use super::{Dialect, Fingerprint, fingerprint};
use foldhash::quality::RandomState;

/// Fingerprints a process keeps unless told otherwise; issue of the design: 2,000 and the rest `other`.
const MAX_FINGERPRINTS: usize = 2000;

/// Texts a process remembers, in sets of four; a power of two. Chosen: 4,096 texts, twice the fingerprints, in 64 KiB.
const REMEMBERED_SETS: usize = 1024;

/// Longest text that is remembered by its hash, in bytes. Longer ones are rare, and mostly lists that never come again.
const MAX_REMEMBERED_BYTES: usize = 4096;

static LIMIT: AtomicUsize = AtomicUsize::new(MAX_FINGERPRINTS);

/// A query of this process.
#[derive(Debug)]
pub(crate) struct Known {
    /// 0 for [`OTHER`].
    pub(crate) fingerprint: u64,
    pub(crate) dialect: Dialect,
    /// The name the application gave it, or empty.
    pub(crate) name: &'static str,
    /// Text and summary; of a named query those of the first text that ran under the name, if one was seen.
    text: OnceLock<(String, String)>,
    /// Its own 99th percentile in nanoseconds; `u64::MAX` until enough calls are known.
    pub(crate) tail_ns: AtomicU64,
    /// When the next ordinary sample is due, in nanoseconds since the Unix epoch.
    pub(crate) ordinary_due_ns: AtomicU64,
    /// When the next sample above the 99th percentile is due, likewise.
    pub(crate) tail_due_ns: AtomicU64,
    /// The text came after the last declaration.
    pub(crate) is_text_new: AtomicBool,
}

/// Longest text of a query that is kept, declared and sent with samples, in bytes; longer ones are cut at a character. With
/// [`max_fingerprints`] it bounds what the texts take: 32 MiB, and a small part of that with usual ones.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Text and summary as they are kept.
fn kept(fingerprint: Fingerprint) -> (String, String) {
    let Fingerprint { mut text, summary, .. } = fingerprint;
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    text.shrink_to_fit();
    (text, summary)
}

/// The query that stands for all beyond the limit.
pub(crate) static OTHER: Known = Known::new(0, Dialect::Generic, "");

impl Known {
    const fn new(fingerprint: u64, dialect: Dialect, name: &'static str) -> Self {
        Self {
            fingerprint,
            dialect,
            name,
            text: OnceLock::new(),
            tail_ns: AtomicU64::new(u64::MAX),
            ordinary_due_ns: AtomicU64::new(0),
            tail_due_ns: AtomicU64::new(0),
            is_text_new: AtomicBool::new(false),
        }
    }

    pub(crate) fn text(&self) -> &str {
        self.text.get().map_or("", |(text, _)| text)
    }

    pub(crate) fn summary(&self) -> &str {
        self.text.get().map_or("", |(_, summary)| summary)
    }

    /// The fingerprint on the wire.
    pub(crate) fn wire_fingerprint(&self) -> String {
        if self.fingerprint == 0 { gemba_conventions::OTHER.to_owned() } else { format!("{:016x}", self.fingerprint) }
    }

    /// Remembers the text that ran under the name; the first one counts.
    #[cfg(any(
        feature = "tracing",
        feature = "diesel",
        feature = "rusqlite",
        feature = "sqlx",
        feature = "tokio-postgres",
        test
    ))]
    pub(crate) fn learn_text(&self, dialect: Dialect, sql: &str) {
        if self.fingerprint != 0 && self.text.get().is_none() && self.text.set(kept(fingerprint(dialect, sql))).is_ok()
        {
            self.is_text_new.store(true, Ordering::Relaxed);
        }
    }
}

/// Most fingerprints this process keeps.
pub(crate) fn max_fingerprints() -> usize {
    LIMIT.load(Ordering::Relaxed)
}

/// Sets how many fingerprints this process keeps; queries already known stay known.
pub(crate) fn set_max_fingerprints(limit: usize) {
    LIMIT.store(limit, Ordering::Relaxed);
}

/// Fingerprint, dialect and whether it is named.
type Key = (u64, Dialect, bool);

/// All known queries.
static KNOWN: LazyLock<Mutex<HashMap<Key, &'static Known>>> = LazyLock::new(Mutex::default);

fn intern(
    fingerprint: u64,
    dialect: Dialect,
    name: &'static str,
    text: impl FnOnce() -> Option<(String, String)>,
) -> &'static Known {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_full = known.len() >= max_fingerprints();
    let key = (fingerprint, dialect, !name.is_empty());
    if let Some(found) = known.get(&key) {
        return found;
    }
    if is_full {
        return &OTHER;
    }
    let new = Known::new(fingerprint, dialect, name);
    if let Some(text) = text() {
        // The only owner sets it: this cannot fail.
        drop(new.text.set(text));
    }
    // Lives as long as the process; the limit bounds how many there are.
    let new: &'static Known = Box::leak(Box::new(new));
    known.insert(key, new);
    new
}

/// The query with this name. `dialect` says for which database.
pub(crate) fn by_name(dialect: Dialect, name: &'static str) -> &'static Known {
    remembered(text_hash(name) ^ NAMED, dialect, || intern(name_fingerprint(name), dialect, name, || None))
}

/// The query with this text.
pub(crate) fn by_text(dialect: Dialect, sql: &str) -> &'static Known {
    let compute = || {
        let fingerprint = fingerprint(dialect, sql);
        intern(fingerprint.hash, dialect, "", || Some(kept(fingerprint)))
    };
    if sql.len() > MAX_REMEMBERED_BYTES { compute() } else { remembered(text_hash(sql), dialect, compute) }
}

/// The fingerprint of a name: stable over releases, whatever the text becomes.
fn name_fingerprint(name: &str) -> u64 {
    let mut hasher = siphasher::sip::SipHasher13::new();
    hasher.write(b"name\0");
    hasher.write(name.as_bytes());
    hasher.finish().max(1)
}

/// Which text or name is which query.
static SEEN: Seen<Known, REMEMBERED_SETS> = Seen::new();

/// Sets the hashes of names apart from those of texts; any odd constant does.
const NAMED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Looks the hash up in the process's memory; a miss is computed and remembered.
#[inline]
fn remembered(hash: u64, dialect: Dialect, compute: impl FnOnce() -> &'static Known) -> &'static Known {
    // The same text is another query in another dialect; any odd constant sets them apart.
    let hash = hash.wrapping_add((dialect as u64).wrapping_mul(0xd6e8_feb8_6659_fd93));
    SEEN.find(hash).unwrap_or_else(|| {
        let known = compute();
        SEEN.remember(hash, known);
        known
    })
}

/// A hash of a text, seeded by the process, so that nobody can prepare texts whose hashes meet.
#[inline]
fn text_hash(text: &str) -> u64 {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    SEED.hash_one(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_same_query_on_every_thread() {
        let sql = "SELECT known_test FROM t WHERE id = 7";
        let one = by_text(Dialect::Sqlite, sql);
        let two =
            std::thread::spawn(move || std::ptr::from_ref(by_text(Dialect::Sqlite, sql)) as usize).join().unwrap();
        assert_eq!(std::ptr::from_ref(one) as usize, two);
        assert!(std::ptr::eq(one, by_text(Dialect::Sqlite, "select known_test from t where id = ?")));
        assert_eq!(one.text(), "SELECT known_test FROM t WHERE id = ?");
        assert_eq!(one.summary(), "SELECT t");
    }

    #[test]
    fn a_name_is_no_text_and_learns_its_first_one() {
        let named = by_name(Dialect::Sqlite, "known.test");
        assert!(std::ptr::eq(named, by_name(Dialect::Sqlite, "known.test")));
        assert_ne!(named.fingerprint, by_text(Dialect::Sqlite, "known.test").fingerprint);
        named.learn_text(Dialect::Sqlite, "SELECT 1 FROM a");
        named.learn_text(Dialect::Sqlite, "SELECT 2 FROM b");
        assert_eq!(named.summary(), "SELECT a");
    }

    #[test]
    #[cfg_attr(miri, ignore = "a text of a megabyte and no unsafe code")]
    fn of_a_long_text_its_beginning_is_kept_and_the_whole_is_the_query() {
        let long = |last: &str| format!("SELECT {} {last}", "ä + f(b), ".repeat(100_000));
        let known = by_text(Dialect::Sqlite, &long("last"));
        assert!(known.text().len() <= MAX_TEXT_BYTES && known.text().len() > MAX_TEXT_BYTES - 4);
        assert!(long("last").starts_with(known.text()));
        assert!(!std::ptr::eq(known, by_text(Dialect::Sqlite, &long("other"))));
        let named = by_name(Dialect::Sqlite, "known.long");
        named.learn_text(Dialect::Sqlite, &long("last"));
        assert_eq!(named.text(), known.text());
    }

    #[test]
    #[cfg_attr(miri, ignore = "20,000 hashes and no unsafe code")]
    fn hashes_of_texts_differ_in_every_byte_and_length() {
        let mut seen = std::collections::HashSet::new();
        for len in 0..200 {
            assert!(seen.insert(text_hash(&"a".repeat(len))), "length {len}");
            for at in 0..len {
                let mut text = vec![b'a'; len];
                text[at] = b'b';
                assert!(seen.insert(text_hash(std::str::from_utf8(&text).unwrap())), "length {len}, place {at}");
            }
        }
    }
}
