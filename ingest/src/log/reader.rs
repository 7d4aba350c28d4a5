//! Reading the log by position, behind the writer.
//!
//! In: a position. Out: entries in order up to what is durable. Used for catching up and for replay; several readers may
//! run beside the writer.

use super::disk::{Disk, DiskFile};
use super::entry::EntryHead;
use super::frame;
use super::segment::{Damage, SegmentName};
use super::{LogError, Shared};
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;

/// One entry, or the place where one was.
#[derive(Debug)]
pub enum ReadEntry {
    /// An entry as it was appended.
    Entry {
        /// Its number.
        position: u64,
        /// What is known about it.
        head: EntryHead,
        /// Its body as received.
        body: Bytes,
    },
    /// An acknowledged entry that cannot be read any more; its bytes were set aside where they could be.
    Damaged {
        /// Its number.
        position: u64,
    },
}

/// Reads entries in order.
#[derive(Debug)]
pub struct Reader {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    shared: Arc<Shared>,
    next: u64,
    open: Option<OpenSegment>,
}

#[derive(Debug)]
struct OpenSegment {
    name: SegmentName,
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl Reader {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, shared: Arc<Shared>, next: u64) -> Self {
        Self { disk, dir, shared, next, open: None }
    }

    /// Position of the entry [`Self::read`] gives next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next durable entry; nothing when all of them were read. Blocks for the disk.
    ///
    /// # Errors
    /// [`LogError::Io`] when the disk fails; [`LogError::Head`] when an entry is from a newer build.
    pub fn read(&mut self) -> Result<Option<ReadEntry>, LogError> {
        if self.next >= self.shared.durable() {
            return Ok(None);
        }
        let position = self.next;
        let Some(name) = self.shared.segment_of(position) else {
            // Between two segments nothing is left but what was damaged and reported when the log was opened.
            self.next += 1;
            return Ok(Some(ReadEntry::Damaged { position }));
        };
        if self.open.as_ref().is_none_or(|open| open.name != name) {
            let file = self.disk.open(&name.path(&self.dir))?;
            self.open = Some(OpenSegment { name, file, offset: 0 });
        }
        let Some(open) = &mut self.open else { return Ok(None) };
        while let Some(frame) = frame::find(open.file.as_ref(), open.offset)? {
            if frame.position < position {
                open.offset = frame.end();
                continue;
            }
            self.next += 1;
            if frame.position > position {
                break;
            }
            open.offset = frame.end();
            let Some(body) = frame.body(open.file.as_ref())? else {
                let path = name.path(&self.dir);
                let damage =
                    Damage { path, offset: frame.offset, until: frame.end(), positions: position..position + 1 };
                self.shared.report(self.disk.as_ref(), &self.dir, &damage);
                return Ok(Some(ReadEntry::Damaged { position }));
            };
            let head = EntryHead::decode(&frame.head)?;
            return Ok(Some(ReadEntry::Entry { position, head, body: Bytes::from(body) }));
        }
        self.next = position + 1;
        Ok(Some(ReadEntry::Damaged { position }))
    }
}
