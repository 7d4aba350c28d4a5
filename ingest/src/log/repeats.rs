//! Which requests came before, so that a request sent twice is stored once.
//!
//! In: the keys of entries in log order. Out: whether a key was seen. No clock: the caller gives the receive time. The file
//! `repeats` holds all keys of entries before a position, so that segments before it can be removed.
//!
//! Three kinds of key:
//! * our SDK's `<instance uuid>-<number>`: for ever, or until the instance is forgotten by name, as [`Numbers`] per (project, instance).
//!   A high-water mark with a window was the first plan; ranges cost less (a finished instance is one range) and never
//!   guess: a batch that comes from a spool days late, behind thousands of newer ones, is neither lost nor doubled.
//! * any other `Idempotency-Key`: 24 hours.
//! * no key: a 128-bit hash of project, signal and inflated body, for 10 minutes.
//!
//! Memory: 100 bytes an instance and 40 a hash. The hashes are bounded by [`MAX_HASHES`] of each kind; beyond it the oldest
//! are forgotten early and counted.

use super::LogError;
use super::disk::{self, Disk};
use super::frame;
use super::numbers::Numbers;
use crate::identity::ProjectId;
use crate::otlp::Signal;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

/// How long a key of the client's own choosing is remembered (design: at least 24 h).
pub const NAMED_KEY_MS: i64 = 24 * 60 * 60 * 1_000;
/// How long a body is remembered (design: 10 minutes).
pub const BODY_MS: i64 = 10 * 60 * 1_000;
/// Most hashes of each kind. Chosen: 1,000 requests a second without a key for ten minutes are 600,000.
pub const MAX_HASHES: usize = 1 << 20;
/// Bit of the number of ranges in a snapshot that says that older numbers follow: builds that know nothing of them refuse the
/// snapshot, since what is not in it would be stored twice.
const OLDER_FOLLOW: u64 = 1 << 63;

/// What a repeat of a request is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepeatKey {
    /// Repeats are not looked for.
    None,
    /// Batch `number` of an instance of our SDK.
    Sdk {
        /// The instance's uuid.
        instance: u128,
        /// Number of the batch, rising within the instance.
        number: u64,
    },
    /// Hash of another `Idempotency-Key`.
    Named(u128),
    /// Hash of project, signal and inflated body.
    Body(u128),
}

impl RepeatKey {
    /// The key of a request: from its `Idempotency-Key`, else from its body unless that is switched off.
    pub fn of(project: ProjectId, signal: Signal, key: Option<&str>, body: &[u8], look_at_bodies: bool) -> Self {
        match key {
            Some(key) => parse_sdk_key(key).unwrap_or_else(|| Self::Named(hash(project, signal, key.as_bytes()))),
            None if look_at_bodies => Self::Body(hash(project, signal, body)),
            None => Self::None,
        }
    }

    pub(crate) fn to_parts(self) -> (u8, u128, u64) {
        match self {
            Self::None => (0, 0, 0),
            Self::Sdk { instance, number } => (1, instance, number),
            Self::Named(hash) => (2, hash, 0),
            Self::Body(hash) => (3, hash, 0),
        }
    }

    pub(crate) fn from_parts(kind: u8, high: u128, low: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::None),
            1 => Some(Self::Sdk { instance: high, number: low }),
            2 => Some(Self::Named(high)),
            3 => Some(Self::Body(high)),
            _ => None,
        }
    }
}

/// `<uuid>-<u64>`, the uuid in its 36 characters; anything else is a key of another kind.
fn parse_sdk_key(key: &str) -> Option<RepeatKey> {
    let (uuid, number) = key.split_at_checked(36)?;
    let number = number.strip_prefix('-')?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut instance = 0u128;
    for (index, byte) in uuid.bytes().enumerate() {
        let dash = matches!(index, 8 | 13 | 18 | 23);
        match (dash, char::from(byte).to_digit(16)) {
            (true, None) if byte == b'-' => {}
            (false, Some(digit)) => instance = instance << 4 | u128::from(digit),
            _ => return None,
        }
    }
    Some(RepeatKey::Sdk { instance, number: number.parse().ok()? })
}

fn hash(project: ProjectId, signal: Signal, bytes: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&project.0.to_le_bytes());
    hasher.update(&[signal as u8]);
    hasher.update(bytes);
    hasher.digest128()
}

/// Why a snapshot cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the snapshot of repeat keys makes no sense at byte {at}")]
pub struct SnapshotError {
    at: usize,
}

/// The keys seen.
#[derive(Debug, Default)]
pub struct Repeats {
    instances: HashMap<(ProjectId, u128), Numbers>,
    /// Numbers of instances forgotten because there were too many.
    forgotten: u64,
    named: Hashes,
    bodies: Hashes,
}

const NAME: &str = "repeats";

impl Repeats {
    /// The keys as last saved and the position of the first entry whose key is not among them.
    ///
    /// Nothing when none were saved. A file that cannot be read is reported and taken as none: repeats of what was
    /// removed from the log would then be stored twice, which is less harm than a server that does not start.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<(Self, u64)>, LogError> {
        let path = dir.join(NAME);
        let file = match disk.open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let read = match frame::read(file.as_ref(), 0)? {
            Some(frame) => frame.body(file.as_ref())?.map(|body| (body, frame.position)),
            None => None,
        };
        let decoded = read.and_then(|(body, position)| Some((Self::decode(&body).ok()?, position)));
        if decoded.is_none() {
            tracing::error!(path = %path.display(), "the file of repeat keys is damaged: repeats may be stored twice");
        }
        Ok(decoded)
    }

    /// Writes all keys, of entries before `position`, and makes them durable. Blocks for the disk.
    ///
    /// # Errors
    /// [`LogError::Io`]; the file is as before, or new.
    pub fn save(&self, disk: &dyn Disk, dir: &Path, position: u64) -> Result<(), LogError> {
        let mut bytes = Vec::new();
        frame::append(&mut bytes, position, position, &[], &self.encode())?;
        Ok(disk::replace(disk, dir, NAME, &bytes)?)
    }

    /// Whether `key` was noted and still holds at `now_ms`.
    pub fn contains(&self, project: ProjectId, key: RepeatKey, now_ms: i64) -> bool {
        match key {
            RepeatKey::None => false,
            RepeatKey::Sdk { instance, number } => {
                self.instances.get(&(project, instance)).is_some_and(|numbers| numbers.contains(number))
            }
            RepeatKey::Named(hash) => self.named.contains(project, hash, now_ms - NAMED_KEY_MS),
            RepeatKey::Body(hash) => self.bodies.contains(project, hash, now_ms - BODY_MS),
        }
    }

    /// Notes a key of an entry received at `received_ms`.
    pub fn note(&mut self, project: ProjectId, key: RepeatKey, received_ms: i64) {
        match key {
            RepeatKey::None => {}
            RepeatKey::Sdk { instance, number } => {
                self.forgotten += self.instances.entry((project, instance)).or_default().insert(number);
            }
            RepeatKey::Named(hash) => self.named.note(project, hash, received_ms, NAMED_KEY_MS),
            RepeatKey::Body(hash) => self.bodies.note(project, hash, received_ms, BODY_MS),
        }
    }

    /// Takes back a key noted for an entry that did not become durable.
    pub fn take_back(&mut self, project: ProjectId, key: RepeatKey) {
        match key {
            RepeatKey::None => {}
            RepeatKey::Sdk { instance, number } => {
                if let Some(numbers) = self.instances.get_mut(&(project, instance)) {
                    numbers.remove(number);
                }
            }
            RepeatKey::Named(hash) => self.named.take_back(project, hash),
            RepeatKey::Body(hash) => self.bodies.take_back(project, hash),
        }
    }

    /// Forgets all keys of an instance, under which nothing will be sent any more.
    pub fn forget(&mut self, project: ProjectId, instance: u128) {
        self.instances.remove(&(project, instance));
    }

    /// Keys forgotten before their time because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.forgotten + self.named.forgotten + self.bodies.forgotten
    }

    /// All keys as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(64 * self.instances.len() + 28 * (self.named.seen.len() + self.bodies.seen.len()));
        put_len(&mut out, self.instances.len());
        for ((project, instance), numbers) in &self.instances {
            out.extend_from_slice(&project.0.to_le_bytes());
            out.extend_from_slice(&instance.to_le_bytes());
            let (newest, long, words) = (numbers.newest(), numbers.long(), numbers.words());
            let has_older = !long.is_empty() || !words.is_empty();
            let flag = if has_older { OLDER_FOLLOW } else { 0 };
            out.extend_from_slice(&(newest.len() as u64 | flag).to_le_bytes());
            put_pairs(&mut out, newest.iter().copied());
            if has_older {
                put_len(&mut out, long.len());
                put_pairs(&mut out, long.iter().copied());
                put_len(&mut out, words.len());
                put_pairs(&mut out, words.iter().map(|(word, bits)| (*word, *bits)));
            }
        }
        self.named.encode(&mut out);
        self.bodies.encode(&mut out);
        out
    }

    /// The keys again.
    ///
    /// # Errors
    /// [`SnapshotError`]; trying again cannot help.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut bytes = Bytes { bytes, at: 0 };
        let mut repeats = Self::default();
        for _ in 0..bytes.u64()? {
            let project = ProjectId(u32::from_le_bytes(bytes.take()?));
            let instance = u128::from_le_bytes(bytes.take()?);
            let newest = bytes.u64()?;
            let ranges = bytes.pairs(newest & !OLDER_FOLLOW)?;
            let (mut long, mut words) = (Vec::new(), Vec::new());
            if newest & OLDER_FOLLOW != 0 {
                let count = bytes.u64()?;
                long = bytes.pairs(count)?;
                let count = bytes.u64()?;
                words = bytes.pairs(count)?;
            }
            let numbers = Numbers::of_parts(ranges, long, words.into_iter().collect());
            let numbers = numbers.ok_or(SnapshotError { at: bytes.at })?;
            repeats.instances.insert((project, instance), numbers);
        }
        repeats.named = Hashes::decode(&mut bytes, NAMED_KEY_MS)?;
        repeats.bodies = Hashes::decode(&mut bytes, BODY_MS)?;
        Ok(repeats)
    }
}

/// Hashes with the time they were noted, oldest first.
#[derive(Debug, Default)]
struct Hashes {
    seen: HashMap<(ProjectId, u128), i64>,
    order: VecDeque<(ProjectId, u128, i64)>,
    forgotten: u64,
}

impl Hashes {
    fn contains(&self, project: ProjectId, hash: u128, since_ms: i64) -> bool {
        self.seen.get(&(project, hash)).is_some_and(|noted| *noted >= since_ms)
    }

    fn note(&mut self, project: ProjectId, hash: u128, received_ms: i64, keep_ms: i64) {
        while let Some((project, hash, noted)) = self.order.front().copied() {
            let expired = noted < received_ms - keep_ms;
            if !expired && self.order.len() < MAX_HASHES {
                break;
            }
            self.order.pop_front();
            // A hash noted again since, or taken back, has another time or none.
            if self.seen.get(&(project, hash)) == Some(&noted) {
                self.seen.remove(&(project, hash));
                self.forgotten += u64::from(!expired);
            }
        }
        self.seen.insert((project, hash), received_ms);
        self.order.push_back((project, hash, received_ms));
    }

    fn take_back(&mut self, project: ProjectId, hash: u128) {
        self.seen.remove(&(project, hash));
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let live =
            || self.order.iter().filter(|(project, hash, noted)| self.seen.get(&(*project, *hash)) == Some(noted));
        put_len(out, live().count());
        for (project, hash, noted) in live() {
            out.extend_from_slice(&project.0.to_le_bytes());
            out.extend_from_slice(&hash.to_le_bytes());
            out.extend_from_slice(&noted.to_le_bytes());
        }
    }

    fn decode(bytes: &mut Bytes<'_>, keep_ms: i64) -> Result<Self, SnapshotError> {
        let mut hashes = Self::default();
        for _ in 0..bytes.u64()? {
            let project = ProjectId(u32::from_le_bytes(bytes.take()?));
            let hash = u128::from_le_bytes(bytes.take()?);
            hashes.note(project, hash, i64::from_le_bytes(bytes.take()?), keep_ms);
        }
        Ok(hashes)
    }
}

fn put_len(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as u64).to_le_bytes());
}

fn put_pairs(out: &mut Vec<u8>, pairs: impl Iterator<Item = (u64, u64)>) {
    for (one, other) in pairs {
        out.extend_from_slice(&one.to_le_bytes());
        out.extend_from_slice(&other.to_le_bytes());
    }
}

struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let bytes = self.bytes.get(self.at..self.at + N).ok_or(SnapshotError { at: self.at })?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        self.at += N;
        Ok(array)
    }

    fn u64(&mut self) -> Result<u64, SnapshotError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn pairs(&mut self, count: u64) -> Result<Vec<(u64, u64)>, SnapshotError> {
        let mut pairs = Vec::new();
        for _ in 0..count {
            pairs.push((self.u64()?, self.u64()?));
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests;
