//! The write-ahead log: what was acknowledged and is not yet proven to be stored in ClickHouse.
//!
//! In: heads and raw bodies of requests, in groups. Out: positions, durable when [`Log::commit`] returns; the entries
//! again, by position, through [`Reader`]. It does not know what bodies mean, when to cut, or what is stored; [`cuts`]
//! and [`repeats`] keep their own files beside the segments.
//!
//! Layout of the folder: `id` (24 random bits naming this log), `XXXXXXXXXXXXXXXX-GGGGGGGG.log` (segments, first position
//! and generation in hexadecimal), `cuts`, `repeats`, `probe` (of a disk that had failed), `damaged-*.bin` (bytes set aside for a person to look at).
//!
//! Invariants:
//! 1. An entry whose commit succeeded is read back whole, after any number of process kills and power cuts, until
//!    [`Log::remove_before`] was called beyond it.
//! 2. Positions are dense and never given twice to acknowledged entries.
//! 3. Damage in what was acknowledged is reported and counted ([`Damage`]), and reading goes on behind it; a torn end,
//!    which was never acknowledged, is cut off.
//! 4. After a failed sync nothing is appended to the same file again: what the kernel then holds of it is unknown.
//!
//! Why own code (crates looked at: okaywal 0.3, raft-engine 0.4, wal-db 1.0, commitlog, walcraft): wal-db and commitlog
//! stop at the first broken record, so one rotten sector would silently end the log and lose all acknowledged entries
//! behind it, and neither tells a torn end from damage; okaywal checkpoints whole files through a callback and cannot be
//! read by position beside the writer; raft-engine keeps an index of every entry in memory and compresses and rewrites
//! entries, made for many small ones of many Raft groups. None can put its files on a simulated disk for power cuts, and
//! the code needed for one writer, many entries to one fdatasync, is smaller than any adapter.

pub mod cuts;
pub mod disk;
mod entry;
mod frame;
mod numbers;
mod reader;
pub mod repeats;
mod segment;

pub use entry::{ContentEncoding, EntryHead, HeadError, LoggedTally};
pub use reader::{ReadEntry, Reader};
pub use segment::Damage;

use disk::{Disk, DiskFile};
use segment::SegmentName;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Bytes reserved for a segment. Chosen: small enough that a slow consumer frees room in steps, large enough that a new
/// file and its folder sync are rare (one a second at 500 k events/s uncompressed).
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Why the log could not do what it was asked.
#[derive(Debug, Error)]
pub enum LogError {
    /// The disk refused; trying again can help when it was full.
    #[error("the log's disk failed")]
    Io(#[from] io::Error),
    /// An entry cannot be understood.
    #[error("the log holds an entry this build cannot read")]
    Head(#[from] HeadError),
    /// The file `cuts` is broken in the middle.
    #[error("the file {path} is broken: {problem}")]
    Cuts {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file `cuts` is from a newer build.
    #[error("the file {path} is of version {version} and this build reads versions up to {known}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The highest this build reads.
        known: u32,
    },
}

impl LogError {
    /// Whether the disk had no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::StorageFull)
    }
}

/// What readers and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    segments: Mutex<BTreeMap<SegmentName, u64>>,
    durable: AtomicU64,
    damaged: AtomicU64,
}

impl Shared {
    /// All entries before this position are durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    fn segments(&self) -> MutexGuard<'_, BTreeMap<SegmentName, u64>> {
        // The map is changed in single steps, so a panic elsewhere cannot leave it half changed.
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segment that holds a position: the last one that begins at or before it.
    fn segment_of(&self, position: u64) -> Option<SegmentName> {
        let limit = SegmentName { first: position, generation: u32::MAX };
        self.segments().range(..=limit).next_back().map(|(name, _)| *name)
    }

    /// Counts and reports damage, and keeps a copy of the bytes beside the log, since the segment will go.
    fn report(&self, disk: &dyn Disk, dir: &Path, damage: &Damage) {
        if let Err(error) = set_aside(disk, dir, damage) {
            tracing::error!(%error, "damaged bytes of the log could not be set aside");
        }
        let entries = damage.positions.end - damage.positions.start;
        self.damaged.fetch_add(entries, Ordering::Relaxed);
        tracing::error!(
            path = %damage.path.display(),
            offset = damage.offset,
            until = damage.until,
            entries,
            "acknowledged entries of the log are damaged"
        );
    }
}

/// How long syncs took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SyncTimes {
    /// Syncs.
    pub count: u64,
    /// Their total time.
    pub total: Duration,
    /// The longest.
    pub max: Duration,
    /// Syncs that failed.
    pub failed: u64,
}

/// What is known of a log from its other files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// All entries before this position are stored; whether they can still be read does not matter.
    pub stored_before: u64,
    /// Positions before this one were given; their entries may all have been removed since.
    pub given_before: u64,
}

/// The writer of the log; one a folder.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: u32,
    segment_bytes: u64,
    shared: Arc<Shared>,
    active: Option<Active>,
    generation: u32,
    /// Position of the next entry.
    next: u64,
    group: Vec<u8>,
    head: Vec<u8>,
    syncs: SyncTimes,
}

/// Makes readers of a log.
#[derive(Debug, Clone)]
pub struct LogSource {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    shared: Arc<Shared>,
}

impl LogSource {
    /// A reader from `position` on.
    pub fn reader(&self, position: u64) -> Reader {
        Reader::new(Arc::clone(&self.disk), self.dir.clone(), Arc::clone(&self.shared), position)
    }
}

#[derive(Debug)]
struct Active {
    name: SegmentName,
    file: Box<dyn DiskFile>,
    /// Bytes reserved.
    reserved: u64,
    /// Where the next group goes.
    offset: u64,
}

impl Log {
    /// Opens the log in `dir`, or begins one, and calls `each` with every entry's position and head.
    ///
    /// Blocks for a walk over all heads and a full check of the last segment.
    ///
    /// # Errors
    /// [`LogError`]; also whatever `each` answers.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        known: Known,
        mut each: impl FnMut(u64, &EntryHead),
    ) -> Result<Self, LogError> {
        disk.create_dir_all(dir)?;
        let id = open_id(disk.as_ref(), dir)?;
        let mut names: Vec<SegmentName> = disk.list(dir)?.iter().filter_map(|name| SegmentName::parse(name)).collect();
        names.sort_unstable();
        let shared = Arc::new(Shared {
            segments: Mutex::new(BTreeMap::new()),
            durable: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
        });
        let mut next = names.first().map_or(0, |name| name.first);
        let mut generation = 0;
        for (index, name) in names.iter().enumerate() {
            generation = generation.max(name.generation + 1);
            let ends_before = names.get(index + 1).map(|following| following.first);
            let path = name.path(dir);
            let file = disk.open(&path)?;
            let walk = segment::walk(file.as_ref(), &path, *name, ends_before)?;
            // Segments are removed oldest first, but a power cut may undo some of it: what is missing then was stored.
            for damage in walk.damage.iter().filter(|damage| damage.positions.end > known.stored_before) {
                shared.report(disk.as_ref(), dir, damage);
            }
            for frame in &walk.frames {
                each(frame.position, &EntryHead::decode(&frame.head)?);
            }
            next = walk.next;
            if walk.next == name.first {
                disk.remove(&path)?;
                continue;
            }
            if ends_before.is_none() && walk.end < file.len()? {
                // The torn end goes, and with it the room reserved: entries that follow begin a file of their own.
                file.set_len(walk.end)?;
                file.sync()?;
            }
            shared.segments().insert(*name, file.len()?);
        }
        disk.sync_dir(dir)?;
        let next = next.max(known.given_before);
        shared.durable.store(next, Ordering::Release);
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            id,
            segment_bytes: SEGMENT_BYTES,
            shared,
            active: None,
            generation,
            next,
            group: Vec::new(),
            head: Vec::new(),
            syncs: SyncTimes::default(),
        })
    }

    /// The same log with smaller segments, for tests that want many.
    pub fn with_segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// 24 random bits that name this log; with the number of an insert they make `batch`.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Position the next entry gets. All entries before [`Self::durable`] are durable.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// All entries before this position are durable.
    pub fn durable(&self) -> u64 {
        self.shared.durable()
    }

    /// Bytes of the group being gathered.
    pub fn group_bytes(&self) -> usize {
        self.group.len()
    }

    /// Bytes of all segments on disk.
    pub fn bytes(&self) -> u64 {
        self.shared.segments().values().sum()
    }

    /// Acknowledged entries that could not be read any more, since this log was opened.
    pub fn damaged(&self) -> u64 {
        self.shared.damaged.load(Ordering::Relaxed)
    }

    /// How long syncs took since this log was opened.
    pub fn syncs(&self) -> SyncTimes {
        self.syncs
    }

    /// Where readers come from; usable on other threads.
    pub fn source(&self) -> LogSource {
        LogSource { disk: Arc::clone(&self.disk), dir: self.dir.clone(), shared: Arc::clone(&self.shared) }
    }

    /// Adds an entry to the group and answers its position; nothing is written before [`Self::commit`].
    ///
    /// # Errors
    /// [`LogError::Io`] when the entry is too long for a frame; the group is as before.
    pub fn append(&mut self, head: &EntryHead, body: &[u8]) -> Result<u64, LogError> {
        self.head.clear();
        head.encode(&mut self.head);
        let position = self.next;
        frame::append(&mut self.group, position, self.shared.durable(), &self.head, body)?;
        self.next += 1;
        Ok(position)
    }

    /// Writes the group and makes it durable with one sync. Blocks for the disk.
    ///
    /// # Errors
    /// [`LogError::Io`]: the whole group is dropped and its positions will be given again. Its bytes may or may not be on
    /// disk; they are never read, because the next segment begins where the group began.
    pub fn commit(&mut self) -> Result<(), LogError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let outcome = self.write_group();
        self.group.clear();
        // A single huge group must not keep its memory for ever.
        self.group.shrink_to(16 << 20);
        match outcome {
            Ok(()) => {
                self.shared.durable.store(self.next, Ordering::Release);
                Ok(())
            }
            Err(error) => {
                self.syncs.failed += 1;
                self.next = self.shared.durable();
                self.seal_active();
                Err(error.into())
            }
        }
    }

    /// Whether the disk takes what a new segment needs, a file and its name, both durable. Blocks for the disk.
    ///
    /// # Errors
    /// [`LogError::Io`]; the log is as before.
    pub fn probe(&self) -> Result<(), LogError> {
        Ok(disk::replace(self.disk.as_ref(), &self.dir, "probe", b"\n")?)
    }

    fn write_group(&mut self) -> io::Result<()> {
        let length = self.group.len() as u64;
        let mut began = false;
        if self.active.as_ref().is_none_or(|active| active.offset + length > active.reserved) {
            self.seal_active();
            self.active = Some(self.begin_segment(length)?);
            began = true;
        }
        let Some(active) = &mut self.active else { return Ok(()) };
        active.file.write_all_at(&self.group, active.offset)?;
        let started = Instant::now();
        active.file.sync()?;
        if began {
            self.disk.sync_dir(&self.dir)?;
        }
        let took = started.elapsed();
        active.offset += length;
        self.syncs.count += 1;
        self.syncs.total += took;
        self.syncs.max = self.syncs.max.max(took);
        Ok(())
    }

    fn begin_segment(&mut self, at_least: u64) -> io::Result<Active> {
        let name = SegmentName { first: self.shared.durable(), generation: self.generation };
        self.generation += 1;
        let reserved = self.segment_bytes.max(at_least);
        let file = self.disk.create(&name.path(&self.dir), reserved)?;
        self.shared.segments().insert(name, reserved);
        Ok(Active { name, file, reserved, offset: 0 })
    }

    /// Whether [`Self::remove_before`] would remove anything.
    pub fn is_removable_before(&self, position: u64) -> bool {
        self.removable_before(position).is_some()
    }

    /// The oldest segment all of whose entries lie before `position`.
    fn removable_before(&self, position: u64) -> Option<SegmentName> {
        let segments = self.shared.segments();
        let mut names = segments.keys();
        let oldest = names.next()?;
        if self.active.as_ref().is_some_and(|active| active.name == *oldest) {
            return None;
        }
        let end = names.next().map_or(self.shared.durable(), |following| following.first);
        (end <= position).then_some(*oldest)
    }

    /// Removes the segments all of whose entries lie before `position`, oldest first, never the one being written.
    ///
    /// # Errors
    /// [`LogError::Io`]; the rest can be removed later.
    pub fn remove_before(&mut self, position: u64) -> Result<(), LogError> {
        while let Some(name) = self.removable_before(position) {
            self.disk.remove(&name.path(&self.dir))?;
            self.shared.segments().remove(&name);
        }
        Ok(())
    }

    /// Ends the segment being written, so that it can be removed once all of it is stored.
    pub fn seal_active(&mut self) {
        if let Some(active) = self.active.take() {
            // Gives the reserved room back. Best effort: where it fails, zero bytes stay, which no reader takes for entries.
            drop(active.file.set_len(active.offset));
            self.shared.segments().insert(active.name, active.offset);
        }
    }
}

/// Copies a damaged stretch to a file of its own, once.
fn set_aside(disk: &dyn Disk, dir: &Path, damage: &Damage) -> io::Result<()> {
    let segment = damage.path.file_stem().unwrap_or_default().to_string_lossy();
    let name = format!("damaged-{segment}-{:x}.bin", damage.offset);
    if disk.list(dir)?.contains(&name) {
        return Ok(());
    }
    let length = usize::try_from(damage.until - damage.offset).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let read = disk.open(&damage.path)?.read_at(&mut bytes, damage.offset)?;
    disk::replace(disk, dir, &name, &bytes[..read])
}

/// The log's id, made when there is none.
fn open_id(disk: &dyn Disk, dir: &Path) -> Result<u32, LogError> {
    let read = disk::content(disk, &dir.join("id"))?
        .and_then(|text| u32::from_str_radix(std::str::from_utf8(&text).ok()?.trim(), 16).ok())
        .filter(|id| *id < 1 << 24);
    if let Some(id) = read {
        return Ok(id);
    }
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    random[3] = 0;
    let id = u32::from_le_bytes(random);
    disk::replace(disk, dir, "id", format!("{id:06x}\n").as_bytes())?;
    Ok(id)
}

#[cfg(test)]
mod tests;
