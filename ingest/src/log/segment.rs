//! One file of the log: its name, and walking it with damage told from a torn end.
//!
//! In: an open segment and where the next one begins. Out: its entries' heads in order, and what was broken. Reads only.

use super::disk::DiskFile;
use super::frame::{self, Frame};
use std::io;
use std::path::{Path, PathBuf};

/// A segment's name: the position of its first entry, and a number that rises when a segment had to be begun anew at the
/// same position after a failed sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub(crate) first: u64,
    pub(crate) generation: u32,
}

impl SegmentName {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (first, generation) = name.strip_suffix(".log")?.split_once('-')?;
        if first.len() != 16 || generation.len() != 8 {
            return None;
        }
        let first = u64::from_str_radix(first, 16).ok()?;
        Some(Self { first, generation: u32::from_str_radix(generation, 16).ok()? })
    }

    pub(crate) fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:016x}-{:08x}.log", self.first, self.generation))
    }
}

/// A stretch of a segment that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// Where the damage begins.
    pub offset: u64,
    /// Where entries can be read again, or the end of the file.
    pub until: u64,
    /// Positions that should have been there.
    pub positions: std::ops::Range<u64>,
}

/// What a walk over a segment found.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The entries, positions rising; a position that is not here was damaged.
    pub(crate) frames: Vec<Frame>,
    /// Position after the last entry.
    pub(crate) next: u64,
    /// Offset after the last entry.
    pub(crate) end: u64,
    /// What was broken in between.
    pub(crate) damage: Vec<Damage>,
}

/// Walks a segment's heads.
///
/// `ends_before` is the first position of the next segment; entries from there on were replaced by it. It is `None` for
/// the last segment, whose bodies are checked too: there, broken entries that no intact head calls durable are a torn end.
pub(crate) fn walk(file: &dyn DiskFile, path: &Path, name: SegmentName, ends_before: Option<u64>) -> io::Result<Walk> {
    let (intact, durable) = intact(file, name, ends_before)?;
    let mut walk = Walk { frames: Vec::with_capacity(intact.len()), next: name.first, end: 0, damage: Vec::new() };
    for frame in intact {
        if frame.position > walk.next {
            if walk.next >= durable {
                // Never acknowledged, and neither was what lies behind it: the log ends here.
                return Ok(walk);
            }
            walk.damage.push(Damage {
                path: path.to_owned(),
                offset: walk.end,
                until: frame.offset,
                positions: walk.next..frame.position,
            });
        }
        walk.next = frame.position + 1;
        walk.end = frame.end();
        walk.frames.push(frame);
    }
    if walk.next < durable {
        let until = file.len()?;
        // The last head may be whole and its body cut off.
        let offset = walk.end.min(until);
        walk.damage.push(Damage { path: path.to_owned(), offset, until, positions: walk.next..durable });
        walk.next = durable;
        walk.end = until;
    }
    Ok(walk)
}

/// All intact entries with rising positions, and the position before which everything is known to have been durable.
fn intact(file: &dyn DiskFile, name: SegmentName, ends_before: Option<u64>) -> io::Result<(Vec<Frame>, u64)> {
    let mut frames = Vec::new();
    let mut durable = ends_before.unwrap_or(0);
    let mut next = name.first;
    let mut offset = 0;
    while ends_before.is_none_or(|end| next < end) {
        let Some(frame) = frame::find(file, offset)? else { break };
        if frame.position < next || ends_before.is_some_and(|end| frame.position >= end) {
            offset = frame.offset + 1;
            continue;
        }
        durable = durable.max(frame.durable);
        offset = frame.end();
        if ends_before.is_some() || frame.body(file)?.is_some() {
            next = frame.position + 1;
            frames.push(frame);
        }
    }
    Ok((frames, durable))
}
