//! Rows of a plan out of ClickHouse's Native format.
//!
//! In: pieces of the answer's bytes, cut anywhere. Out: [`Block`]s given to a [`FunnelScan`]. Native is read because it is
//! the cheapest to write for ClickHouse and to read here: whole columns, no row by row parsing.
//!
//! The format, of a statement sent without a protocol version: blocks, each the number of columns and of rows as variable
//! length integers, then for each column its name and type as length-prefixed text and its values one after the other.
//! Integers are little-endian; a string is its length and its bytes.

use super::block::{Block, Masks, Words};
use super::scan::FunnelScan;
use super::sql::{Columns, mask_bits, mask_type};

/// Why an answer cannot be read as rows of the plan: a mistake in Gemba or a server of another kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NativeError {
    /// The answer ended in the middle of a block.
    #[error("the answer ends in the middle of a block")]
    Truncated,
    /// A column has another name or type than the plan asked for.
    #[error("column {found} where {expected} was asked for")]
    Column {
        /// Name and type in the plan.
        expected: String,
        /// Name and type in the answer.
        found: String,
    },
    /// A number in the answer is out of all bounds.
    #[error("the answer holds an impossible length")]
    Length,
}

/// Most rows of a block that are believed; ClickHouse sends 65,409 by default and never more than a few million.
const MAX_BLOCK_ROWS: u64 = 1 << 26;

/// Reads pieces of an answer and gives every block that is complete to the scan.
#[derive(Debug)]
pub struct NativeReader {
    columns: Columns,
    pending: Vec<u8>,
    /// Numbers of the values of a block; kept for its room.
    values: Vec<u32>,
    /// Bytes the pending block is known to need at least; spares trying again with every piece.
    needs: usize,
}

impl NativeReader {
    /// A reader for rows with these columns.
    pub fn new(columns: Columns) -> Self {
        Self { columns, pending: Vec::new(), values: Vec::new(), needs: 0 }
    }

    /// Memory of what waits for the rest of its block, in bytes.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Takes a piece of the answer.
    pub fn push(&mut self, piece: &[u8], scan: &mut FunnelScan) -> Result<(), NativeError> {
        self.pending.extend_from_slice(piece);
        self.read(scan)
    }

    /// Says that the answer is over.
    ///
    /// # Errors
    /// [`NativeError::Truncated`] when a block is not whole.
    pub fn finish(mut self, scan: &mut FunnelScan) -> Result<(), NativeError> {
        self.needs = 0;
        self.read(scan)?;
        if self.pending.is_empty() { Ok(()) } else { Err(NativeError::Truncated) }
    }

    fn read(&mut self, scan: &mut FunnelScan) -> Result<(), NativeError> {
        let mut used = 0;
        while self.pending.len() - used >= self.needs.max(1) {
            let rest = &self.pending[used..];
            let mut input = Input { bytes: rest, at: 0 };
            match read_block(&mut input, self.columns, &mut self.values, scan) {
                Ok(()) => {
                    used += input.at;
                    self.needs = 0;
                }
                // Strings tell their lengths one by one, so a block of them is tried again only when it has grown by an
                // eighth: each byte is then looked at a few times and not once for every piece.
                Err(Stop::Needs(bytes)) => self.needs = bytes.max(rest.len() + rest.len() / 8),
                Err(Stop::Wrong(error)) => return Err(error),
            }
        }
        self.pending.drain(..used);
        Ok(())
    }
}

enum Stop {
    /// The block needs this many bytes at least.
    Needs(usize),
    Wrong(NativeError),
}

impl From<NativeError> for Stop {
    fn from(error: NativeError) -> Self {
        Self::Wrong(error)
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let end = self.at.checked_add(length).ok_or(NativeError::Length)?;
        let taken = self.bytes.get(self.at..end).ok_or(Stop::Needs(end))?;
        self.at = end;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Stop> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(NativeError::Length.into())
    }

    fn text(&mut self) -> Result<&'a [u8], Stop> {
        let length = usize::try_from(self.varint()?).map_err(|_| NativeError::Length)?;
        self.take(length)
    }

    fn header(&mut self, name: &str, kind: &str) -> Result<(), Stop> {
        let found = (self.text()?, self.text()?);
        if found != (name.as_bytes(), kind.as_bytes()) {
            let found = format!("{} {}", String::from_utf8_lossy(found.0), String::from_utf8_lossy(found.1));
            return Err(NativeError::Column { expected: format!("{name} {kind}"), found }.into());
        }
        Ok(())
    }

    /// The bytes of a column of integers `width` bytes wide.
    fn integers(&mut self, name: &str, kind: &str, rows: usize, width: usize) -> Result<&'a [u8], Stop> {
        self.header(name, kind)?;
        self.take(rows * width)
    }

    fn words(&mut self, name: &str, kind: &str, rows: usize) -> Result<Words<'a>, Stop> {
        Ok(self.integers(name, kind, rows, 8)?.as_chunks().0)
    }

    fn masks(&mut self, name: &str, bits: usize, rows: usize) -> Result<Masks<'a>, Stop> {
        let width = mask_bits(bits) / 8;
        Ok(Masks::new(self.integers(name, mask_type(bits), rows, width)?, width))
    }
}

/// `values` is room for the numbers of the block's values.
fn read_block(
    input: &mut Input<'_>,
    columns: Columns,
    values: &mut Vec<u32>,
    scan: &mut FunnelScan,
) -> Result<(), Stop> {
    let _columns = input.varint()?;
    let rows = input.varint()?;
    if rows > MAX_BLOCK_ROWS {
        return Err(NativeError::Length.into());
    }
    let rows = usize::try_from(rows).map_err(|_| NativeError::Length)?;
    let unit = input.words("unit_id", "UInt64", rows)?;
    let time = input.words("time_ms", "Int64", rows)?;
    let steps = input.masks("step_mask", columns.steps, rows)?;
    let exclusions = (columns.exclusions > 0).then(|| input.masks("exclusion_mask", columns.exclusions, rows));
    let exclusions = exclusions.transpose()?;
    let order = if columns.order {
        Some((input.words("seq", "UInt64", rows)?, input.words("instance_id", "UInt64", rows)?))
    } else {
        None
    };
    let derived = columns.derived.then(|| input.integers("derived", "UInt8", rows, 1)).transpose()?;
    let visible = columns.visible.then(|| input.integers("visible", "UInt8", rows, 1)).transpose()?;
    let hold = columns.hold.then(|| input.words("hold_key", "UInt64", rows)).transpose()?;
    if columns.value {
        input.header("value", "String")?;
        // Numbers given before the block turns out to be cut are the same when it is read again.
        values.clear();
        for _ in 0..rows {
            values.push(scan.value(input.text()?));
        }
    }
    let values = columns.value.then_some(&values[..]);
    scan.take(&Block { unit, time, steps, exclusions, order, derived, visible, hold, values });
    Ok(())
}
