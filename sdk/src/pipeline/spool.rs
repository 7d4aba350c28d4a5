//! Batches on disk while the server is away, or slower than the host: bounded, and found again by a later process.
//!
//! In: batches from the sending thread, oldest first. Out: the same in the same order, with the key they had, so that the
//! server stores each once however often it is sent. It sends nothing itself.
//!
//! A service has a folder; in it each process has one, named by its instance id, with a file for each batch, named
//! `NUMBER-RECORDS.batch`. Files are readable by their owner only; they hold what would have been sent, compressed.
//!
//! Invariants:
//! 1. A folder belongs to the process that holds the lock on the file `lock` in it. The kernel lets the lock go when the
//!    process ends, in whatever way (a forked child that lives on holds it too).
//! 2. Folders are made and taken over only under the lock of the service's folder, so a folder nobody holds was left
//!    by a process that is gone.
//! 3. A process's batches on disk are older than those in its memory.
//! 4. A file that is not as it was written is never sent. It is counted, by the number of records in its name.

pub(crate) mod file;
#[cfg(test)]
mod tests;

use super::ledger::Place;
use super::queue::{Batch, Queue, Receipt};
use crate::config::SpoolSettings;
use crate::problem::Problem;
use file::Contents;
use gemba_conventions::DropReason;
use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often folders that others left are looked for, at most. Chosen: a process that died is noticed within a minute, and
/// a look costs the reading of one folder.
const LOOK_AROUND: Duration = Duration::from_mins(1);
const LOCK: &str = "lock";
const ENDING: &str = ".batch";

/// Whose batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Of this process.
    Own,
    /// Of processes that ended before.
    Earlier,
}

/// The oldest batch of a folder, read.
#[derive(Debug)]
pub(crate) struct Spooled {
    pub(crate) whose: Whose,
    /// Instance id of the process that recorded it.
    pub(crate) instance: String,
    pub(crate) contents: Contents,
}

/// One file.
#[derive(Debug)]
struct Entry {
    number: u64,
    records: u64,
    bytes: u64,
    written: SystemTime,
    receipt: Option<Receipt>,
}

impl Entry {
    fn name(&self) -> String {
        format!("{:020}-{}{ENDING}", self.number, self.records)
    }

    fn parse(name: &str) -> Option<(u64, u64)> {
        let (number, records) = name.strip_suffix(ENDING)?.split_once('-')?;
        Some((number.parse().ok()?, records.parse().ok()?))
    }
}

/// The files of one process.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    instance: String,
    /// Keeps the folder ours.
    _lock: File,
    /// Oldest first.
    entries: VecDeque<Entry>,
}

impl Folder {
    /// Takes the folder if nobody holds it, and reads the names in it.
    fn take(path: PathBuf, instance: &str) -> io::Result<Option<Self>> {
        let lock = open_private(&path.join(LOCK))?;
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        let mut entries = Vec::new();
        for found in fs::read_dir(&path)? {
            let found = found?;
            let Some((number, records)) = found.file_name().to_str().and_then(Entry::parse) else { continue };
            let about = found.metadata()?;
            let written = about.modified()?;
            entries.push(Entry { number, records, bytes: about.len(), written, receipt: None });
        }
        entries.sort_by_key(|entry| entry.number);
        Ok(Some(Self { path, instance: instance.to_owned(), _lock: lock, entries: entries.into() }))
    }

    fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    fn records(&self) -> u64 {
        self.entries.iter().map(|entry| entry.records).sum()
    }

    /// Removes the folder, which holds no batch any more.
    fn remove(&self) -> io::Result<()> {
        fs::remove_file(self.path.join(LOCK))?;
        fs::remove_dir(&self.path)
    }
}

/// The spool.
#[derive(Debug)]
pub(crate) struct Spool {
    settings: SpoolSettings,
    own: Folder,
    earlier: VecDeque<Folder>,
    /// Bytes of all files held.
    bytes: u64,
    /// Written, and not yet known to survive a power cut.
    unsynced: Vec<File>,
    looked: Option<Instant>,
    queue: Arc<Queue>,
}

impl Spool {
    /// Makes the folder of this process. Blocks for the disk, and for other processes that do the same.
    pub(crate) fn open(settings: SpoolSettings, instance: &str, queue: Arc<Queue>) -> io::Result<Self> {
        make_private(&settings.folder)?;
        let shared = open_private(&settings.folder.join(LOCK))?;
        shared.lock()?;
        let path = settings.folder.join(instance);
        make_private(&path)?;
        let own = Folder::take(path, instance)?.ok_or(io::ErrorKind::ResourceBusy)?;
        Ok(Self { settings, own, earlier: VecDeque::new(), bytes: 0, unsynced: Vec::new(), looked: None, queue })
    }

    /// Takes over what processes that are gone have left; looks at most once a minute.
    pub(crate) fn look_around(&mut self) -> io::Result<()> {
        if self.looked.is_some_and(|when| when.elapsed() < LOOK_AROUND) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let shared = open_private(&self.settings.folder.join(LOCK))?;
        if shared.try_lock().is_err() {
            // Somebody else is looking: the next time will do.
            return Ok(());
        }
        for found in fs::read_dir(&self.settings.folder)? {
            let found = found?;
            let name = found.file_name();
            let Some(instance) = name.to_str().filter(|name| is_instance(name)) else { continue };
            let is_held = self.own.instance == instance || self.earlier.iter().any(|held| held.instance == instance);
            if is_held {
                continue;
            }
            let Some(folder) = Folder::take(found.path(), instance)? else { continue };
            if folder.entries.is_empty() {
                folder.remove()?;
                continue;
            }
            self.bytes += folder.bytes();
            self.queue.adopted(folder.records());
            self.earlier.push_back(folder);
        }
        self.make_room(0)
    }

    /// Puts a batch of this process behind those on disk. Not yet safe from a power cut: see [`sync`](Self::sync).
    /// When that fails the batch comes back.
    pub(crate) fn put(&mut self, mut batch: Batch, resource: &[(String, String)]) -> Result<(), (Batch, io::Error)> {
        match self.write(&batch, resource) {
            Ok(entry) => {
                let receipt = batch.receipt.take();
                self.queue.spooled(batch);
                self.bytes += entry.bytes;
                self.own.entries.push_back(Entry { receipt, ..entry });
                Ok(())
            }
            Err(problem) => Err((batch, problem)),
        }
    }

    fn write(&mut self, batch: &Batch, resource: &[(String, String)]) -> io::Result<Entry> {
        let content = file::encode(batch, resource)?;
        let bytes = content.len() as u64;
        if bytes > self.settings.max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.make_room(bytes)?;
        let written = SystemTime::now();
        let entry = Entry { number: batch.number, records: batch.records, bytes, written, receipt: None };
        let path = self.own.path.join(entry.name());
        let mut file = open_private(&path)?;
        if let Err(problem) = file.write_all(&content) {
            // A file cut short is never sent; gone it also takes no room.
            drop(fs::remove_file(&path));
            return Err(problem);
        }
        self.unsynced.push(file);
        Ok(entry)
    }

    /// Makes what was put safe from a power cut. Blocks for the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        for file in self.unsynced.drain(..) {
            file.sync_all()?;
        }
        // The names are in the folder.
        File::open(&self.own.path)?.sync_all()
    }

    /// The oldest batch, read; None when there is none. Those too old or damaged are dropped and counted on the way.
    pub(crate) fn front(&mut self, whose: Whose) -> io::Result<Option<Spooled>> {
        loop {
            let Some(folder) = self.folder(whose) else { return Ok(None) };
            let Some(entry) = folder.entries.front() else { return Ok(None) };
            let age = entry.written.elapsed().unwrap_or_default();
            if age > self.settings.max_age {
                self.drop_front(whose, DropReason::SpoolFull)?;
                continue;
            }
            let content = match fs::read(folder.path.join(entry.name())) {
                Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem),
                read => read.ok().and_then(|bytes| file::decode(&bytes)),
            };
            match content.filter(|of| (of.number, of.records) == (entry.number, entry.records)) {
                Some(contents) => {
                    return Ok(Some(Spooled { whose, instance: folder.instance.clone(), contents }));
                }
                None => self.drop_front(whose, DropReason::SpoolTorn)?,
            }
        }
    }

    /// The server took the oldest batch, except `rejected` of its records.
    pub(crate) fn delivered(&mut self, whose: Whose, rejected: u64) -> io::Result<()> {
        let Some(entry) = self.pop(whose) else { return Ok(()) };
        self.queue.delivered(Place::Spool, entry.records, rejected);
        self.forget(whose, &entry, rejected == 0)
    }

    /// Gives up the oldest batch for `reason`.
    pub(crate) fn drop_front(&mut self, whose: Whose, reason: DropReason) -> io::Result<()> {
        let Some(entry) = self.pop(whose) else { return Ok(()) };
        self.queue.dropped(Place::Spool, reason, entry.records);
        if matches!(reason, DropReason::SpoolFull | DropReason::SpoolTorn) {
            self.queue.tell(Problem::SpoolDropped { reason, records: entry.records });
        }
        self.forget(whose, &entry, false)
    }

    /// Gives up everything that is held, own and earlier, for `reason`.
    pub(crate) fn drop_all(&mut self, reason: DropReason) -> io::Result<()> {
        for whose in [Whose::Own, Whose::Earlier] {
            while self.folder(whose).is_some_and(|folder| !folder.entries.is_empty()) {
                self.drop_front(whose, reason)?;
            }
        }
        Ok(())
    }

    /// The process ends: makes everything safe; an empty folder goes.
    pub(crate) fn leave(mut self) -> io::Result<()> {
        self.sync()?;
        if self.own.entries.is_empty() { self.own.remove() } else { Ok(()) }
    }

    /// Drops the oldest until `bytes` more have room.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        while self.bytes > 0 && self.bytes + bytes > self.settings.max_bytes {
            // The folder with the oldest batch to the front, so that one of the two fronts is the oldest of all.
            let oldest = self.earlier.iter().enumerate().min_by_key(|(_, folder)| first_written(folder));
            if let Some((index, _)) = oldest {
                self.earlier.swap(0, index);
            }
            let of_earlier = self.earlier.front().and_then(first_written);
            let of_own = first_written(&self.own);
            let is_earlier = of_earlier.is_some_and(|earlier| of_own.is_none_or(|own| earlier <= own));
            self.drop_front(if is_earlier { Whose::Earlier } else { Whose::Own }, DropReason::SpoolFull)?;
        }
        Ok(())
    }

    fn folder(&self, whose: Whose) -> Option<&Folder> {
        match whose {
            Whose::Own => Some(&self.own),
            Whose::Earlier => self.earlier.front(),
        }
    }

    fn pop(&mut self, whose: Whose) -> Option<Entry> {
        let entry = match whose {
            Whose::Own => self.own.entries.pop_front(),
            Whose::Earlier => self.earlier.front_mut()?.entries.pop_front(),
        }?;
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        Some(entry)
    }

    /// Removes the file of a batch whose fate is known, and its folder when that was the last of an earlier process.
    fn forget(&mut self, whose: Whose, entry: &Entry, delivered: bool) -> io::Result<()> {
        let removed = self.folder(whose).map_or(Ok(()), |folder| fs::remove_file(folder.path.join(entry.name())));
        match whose {
            Whose::Own => self.queue.settle(entry.receipt.as_ref(), delivered),
            Whose::Earlier if self.earlier.front().is_some_and(|folder| folder.entries.is_empty()) => {
                if let Some(folder) = self.earlier.pop_front() {
                    folder.remove()?;
                }
            }
            Whose::Earlier => {}
        }
        removed.or_else(|problem| if problem.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(problem) })
    }
}

fn first_written(folder: &Folder) -> Option<SystemTime> {
    folder.entries.front().map(|entry| entry.written)
}

/// Whether a folder's name is an instance id, a UUID: it becomes part of the key that is sent.
fn is_instance(name: &str) -> bool {
    name.len() == 36 && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// A folder for its owner only, with all folders above it.
fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// A file for its owner only, made when it is not there.
fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
