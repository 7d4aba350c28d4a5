//! What each insert holds, written down and durable before the insert is sent.
//!
//! In: cuts as the pipeline makes them, and word of what became of them. Out, after any crash: the cuts not proven to be
//! stored, the positions in no cut, and numbers never given before. Replay reads cuts and never derives them anew: a
//! cut made by a timer or by an older decoder would come out differently. Knows nothing of ClickHouse.
//!
//! The file `cuts` holds frames (see the log) whose heads are JSON. It is rewritten, to what still matters, at every
//! opening, whenever it has grown beyond [`REWRITE_BYTES`], and once nothing is left of a backlog: builds before the first
//! with one refuse its records, since they would take all of it for stored, and can open the file again from then on.

use super::disk::{self, Disk, DiskFile};
use super::{LogError, frame};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Size at which the file is rewritten. Chosen: a cut takes 0.3 to 1 KiB, so about once in ten minutes at one a second.
const REWRITE_BYTES: u64 = 1 << 20;
const NAME: &str = "cuts";
/// Version of the file, and the highest this build reads. To be raised with every change after which a build that does not
/// know it would lose something; builds before the check refuse records of a kind that is new to them.
const VERSION: u32 = 1;

/// One block of a cut: one insert, one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutBlock {
    /// Table.
    pub table: String,
    /// Retention class of its partition.
    pub class: u8,
    /// Monday of its partition, days since 1970-01-01.
    pub week: u16,
    /// Number of the insert, unique in this log; the lower 40 bits of `batch`.
    pub insert: u64,
    /// Rows.
    pub rows: u64,
    /// Records.
    pub records: u64,
}

/// Records of one entry that ClickHouse refuses in any insert; they are set aside instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Position of the entry.
    pub position: u64,
    /// Numbers of the records in its body, from 0, rising.
    pub records: Vec<u64>,
    /// What ClickHouse said to the first of them.
    pub problem: String,
}

/// What one round of inserts holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Rising within the log.
    pub number: u64,
    /// Position of its first entry.
    pub first: u64,
    /// Position after its last entry.
    pub end: u64,
    /// Version of the decoder that made its rows.
    pub decoder: u16,
    /// Records that became rows.
    #[serde(default)]
    pub records: u64,
    /// Positions of entries that another node on the same store claimed first, rising: they give no rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<u64>,
    /// Its blocks in counted tables; blocks of other tables can be written again freely.
    pub blocks: Vec<CutBlock>,
    /// Records to set aside when its entries are decoded again, by rising position.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refusal>,
}

impl Cut {
    /// Records that ClickHouse refused and that are set aside instead.
    pub fn refused_records(&self) -> u64 {
        self.refused.iter().map(|refusal| refusal.records.len() as u64).sum()
    }
}

/// An insert whose outcome was unknown and that was replaced by another one with a new number. A server may still carry
/// it out later than it was told to stop, so its number is looked for some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ghost {
    /// The replaced block.
    pub block: CutBlock,
    /// When it was replaced, ms since the Unix epoch.
    pub since_ms: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Record {
    /// First record of a file: everything before it in short.
    Base { version: u32, next_cut: u64, next_insert: u64, uncut: u64 },
    /// What is in no cut before `uncut`, where there is any; follows `Base`. Of a kind of its own, so that a build that knows
    /// nothing of it stops instead of passing over it.
    Backlog { stretches: Vec<Range<u64>> },
    /// A cut; one of the same number replaces it.
    Cut(Cut),
    /// The cut is stored.
    Done { number: u64 },
    /// Inserts of a cut were replaced: the cut as it is now and the inserts to watch, in one record so that neither can be
    /// there without the other.
    Replaced { cut: Cut, ghosts: Vec<Ghost> },
    /// Cuts go on from here, and what lies before it in no cut joins the backlog.
    Fork { at: u64 },
    /// A replaced insert still watched when the file was rewritten.
    Ghost(Ghost),
    /// A replaced insert needs no more watching.
    Laid { insert: u64 },
}

/// The file `cuts` and what it says.
#[derive(Debug)]
pub struct CutBook {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Box<dyn DiskFile>,
    offset: u64,
    next_record: u64,
    /// The last append failed, so that what the file holds behind `offset` is unknown.
    poisoned: bool,
    /// The file tells of a backlog of which nothing is left.
    tells_of_backlog: bool,
    next_cut: u64,
    next_insert: u64,
    uncut: u64,
    /// In no cut either, before `uncut`: rising, none of them empty.
    backlog: Vec<Range<u64>>,
    open: BTreeMap<u64, Cut>,
    ghosts: Vec<Ghost>,
}

impl CutBook {
    /// Opens the file in `dir`, or begins one. Blocks for the disk.
    ///
    /// # Errors
    /// [`LogError::Cuts`] when the file is broken before its end, [`LogError::Newer`] when it is from a newer build.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, LogError> {
        disk.create_dir_all(dir)?;
        let path = dir.join(NAME);
        let file = match disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk::replace(disk.as_ref(), dir, NAME, &[])?;
                disk.open(&path)?
            }
            other => other?,
        };
        let mut book = Self {
            disk,
            dir: dir.to_owned(),
            file,
            offset: 0,
            next_record: 0,
            poisoned: false,
            tells_of_backlog: false,
            next_cut: 0,
            next_insert: 1,
            uncut: 0,
            backlog: Vec::new(),
            open: BTreeMap::new(),
            ghosts: Vec::new(),
        };
        book.read(&path)?;
        book.rewrite()?;
        Ok(book)
    }

    fn read(&mut self, path: &Path) -> Result<(), LogError> {
        let broken = |problem: String| LogError::Cuts { path: path.to_owned(), problem };
        while let Some(frame) = frame::read(self.file.as_ref(), self.offset)? {
            if frame.position != self.next_record {
                return Err(broken(format!("record {} where {} belongs", frame.position, self.next_record)));
            }
            let record = serde_json::from_slice(&frame.head)
                .map_err(|error| broken(format!("record {}: {error}", frame.position)))?;
            if let Record::Base { version, .. } = record
                && version > VERSION
            {
                return Err(LogError::Newer { path: path.to_owned(), version, known: VERSION });
            }
            self.apply(record);
            self.offset = frame.end();
            self.next_record += 1;
        }
        // A whole record behind a broken one: the broken one had been synced, so this is no torn end.
        match frame::find(self.file.as_ref(), self.offset + 1)? {
            Some(frame) if frame.durable > self.next_record => {
                Err(broken(format!("record {} cannot be read but later ones can", self.next_record)))
            }
            _ => Ok(()),
        }
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Base { version: _, next_cut, next_insert, uncut } => {
                self.next_cut = next_cut;
                self.next_insert = next_insert;
                self.uncut = uncut;
            }
            Record::Backlog { stretches } => self.backlog = stretches,
            Record::Fork { at } => {
                if self.uncut < at {
                    match self.backlog.last_mut().filter(|last| last.end == self.uncut) {
                        // Nothing was cut in between.
                        Some(last) => last.end = at,
                        None => self.backlog.push(self.uncut..at),
                    }
                    self.uncut = at;
                }
            }
            Record::Replaced { cut, ghosts } => {
                self.apply(Record::Cut(cut));
                self.ghosts.extend(ghosts);
            }
            Record::Cut(cut) => {
                self.next_cut = self.next_cut.max(cut.number + 1);
                let last = cut.blocks.iter().map(|block| block.insert + 1).max().unwrap_or(0);
                self.next_insert = self.next_insert.max(last);
                match self.backlog.iter_mut().find(|stretch| stretch.contains(&cut.first)) {
                    // Read from its beginning on, cut by cut.
                    Some(stretch) => stretch.start = cut.end,
                    None => self.uncut = self.uncut.max(cut.end),
                }
                let was_behind = !self.backlog.is_empty();
                self.backlog.retain(|stretch| !stretch.is_empty());
                self.tells_of_backlog |= was_behind && self.backlog.is_empty();
                self.open.insert(cut.number, cut);
            }
            Record::Done { number } => drop(self.open.remove(&number)),
            Record::Ghost(ghost) => self.ghosts.push(ghost),
            Record::Laid { insert } => self.ghosts.retain(|ghost| ghost.block.insert != insert),
        }
    }

    /// From this position on everything is in no cut.
    pub fn uncut(&self) -> u64 {
        self.uncut
    }

    /// What is in no cut before [`Self::uncut`], rising.
    pub fn backlog(&self) -> &[Range<u64>] {
        &self.backlog
    }

    /// All entries before this position are stored.
    pub fn stored_before(&self) -> u64 {
        let uncut = self.backlog.first().map_or(self.uncut, |oldest| oldest.start);
        self.open.values().map(|cut| cut.first).min().map_or(uncut, |first| first.min(uncut))
    }

    /// The cuts not proven to be stored, by number.
    pub fn open_cuts(&self) -> impl Iterator<Item = &Cut> {
        self.open.values()
    }

    /// Replaced inserts still to be watched.
    pub fn ghosts(&self) -> &[Ghost] {
        &self.ghosts
    }

    /// Number of the next cut.
    pub fn next_cut(&self) -> u64 {
        self.next_cut
    }

    /// Number of the next insert.
    pub fn next_insert(&self) -> u64 {
        self.next_insert
    }

    /// Gives the blocks numbers never given before.
    pub fn number_blocks(&self, blocks: &mut [CutBlock]) {
        for (insert, block) in (self.next_insert..).zip(blocks) {
            block.insert = insert;
        }
    }

    /// Writes a cut, or replaces the one of its number, and makes it durable. Blocks for the disk.
    ///
    /// # Errors
    /// [`LogError::Io`]; nothing changed, the same call can be tried again.
    pub fn record(&mut self, cut: Cut) -> Result<(), LogError> {
        self.append(Record::Cut(cut))
    }

    /// Leaves what is in no cut from [`Self::uncut`] to `at` to the backlog, so that cuts of newer entries need not wait for it.
    /// Durable on return.
    ///
    /// # Errors
    /// [`LogError::Io`]; nothing changed, the same call can be tried again.
    pub fn fork(&mut self, at: u64) -> Result<(), LogError> {
        self.append(Record::Fork { at })
    }

    /// Replaces a cut's blocks after an insert of unknown outcome, and watches the inserts replaced. Durable on return.
    ///
    /// # Errors
    /// [`LogError::Io`]; nothing changed, the same call can be tried again.
    pub fn replace(&mut self, cut: Cut, replaced: Vec<Ghost>) -> Result<(), LogError> {
        self.append(Record::Replaced { cut, ghosts: replaced })
    }

    /// Notes that a cut is stored. Durable on return, because segments are removed on the strength of it.
    ///
    /// # Errors
    /// [`LogError::Io`]; nothing changed, the same call can be tried again.
    pub fn done(&mut self, number: u64) -> Result<(), LogError> {
        self.append(Record::Done { number })
    }

    /// Stops watching a replaced insert.
    ///
    /// # Errors
    /// [`LogError::Io`]; nothing changed, the same call can be tried again.
    pub fn lay(&mut self, insert: u64) -> Result<(), LogError> {
        self.append(Record::Laid { insert })
    }

    fn append(&mut self, record: Record) -> Result<(), LogError> {
        let is_foldable = self.tells_of_backlog && self.backlog.is_empty();
        if self.poisoned || is_foldable || self.offset > REWRITE_BYTES {
            self.rewrite()?;
        }
        let head = serde_json::to_vec(&record).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        frame::append(&mut bytes, self.next_record, self.next_record, &head, &[])?;
        self.poisoned = true;
        self.file.write_all_at(&bytes, self.offset)?;
        self.file.sync()?;
        self.poisoned = false;
        self.offset += bytes.len() as u64;
        self.next_record += 1;
        self.apply(record);
        Ok(())
    }

    /// Writes a new file with only what matters, in the old one's place.
    fn rewrite(&mut self) -> Result<(), LogError> {
        let base = Record::Base {
            version: VERSION,
            next_cut: self.next_cut,
            next_insert: self.next_insert,
            uncut: self.uncut,
        };
        let backlog = (!self.backlog.is_empty()).then(|| Record::Backlog { stretches: self.backlog.clone() });
        let cuts = self.open.values().cloned().map(Record::Cut);
        let ghosts = self.ghosts.iter().cloned().map(Record::Ghost);
        let mut bytes = Vec::new();
        let mut records = 0;
        for record in std::iter::once(base).chain(backlog).chain(cuts).chain(ghosts) {
            let head = serde_json::to_vec(&record).map_err(io::Error::other)?;
            frame::append(&mut bytes, records, 0, &head, &[])?;
            records += 1;
        }
        // Poisoned until the new file is open: a failure in between leaves the old one in place under this handle.
        self.poisoned = true;
        disk::replace(self.disk.as_ref(), &self.dir, NAME, &bytes)?;
        self.file = self.disk.open(&self.dir.join(NAME))?;
        self.offset = bytes.len() as u64;
        self.next_record = records;
        self.poisoned = false;
        self.tells_of_backlog = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
