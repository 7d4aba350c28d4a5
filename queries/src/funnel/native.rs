//! Rows of a plan out of ClickHouse's Native format.
//!
//! In: pieces of the answer's bytes, cut anywhere. Out: [`Row`]s pushed into a [`FunnelScan`]. Native is read because it is
//! the cheapest to write for ClickHouse and to read here: whole columns, no row by row parsing.
//!
//! The format, of a statement sent without a protocol version: blocks, each the number of columns and of rows as variable
//! length integers, then for each column its name and type as length-prefixed text and its values one after the other.
//! Integers are little-endian; a string is its length and its bytes.

use super::scan::{FunnelScan, Row};
use super::sql::{Columns, mask_bits, mask_type};
use super::unit::Event;

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

/// Reads pieces of an answer and pushes the rows of every block that is complete.
#[derive(Debug)]
pub struct NativeReader {
    columns: Columns,
    pending: Vec<u8>,
    /// Bytes the pending block is known to need at least; spares trying again with every piece.
    needs: usize,
}

impl NativeReader {
    /// A reader for rows with these columns.
    pub fn new(columns: Columns) -> Self {
        Self { columns, pending: Vec::new(), needs: 0 }
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
            match read_block(&mut input, self.columns, scan) {
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

    fn mask(&mut self, name: &str, bits: usize, rows: usize) -> Result<Masks<'a>, Stop> {
        let width = mask_bits(bits) / 8;
        let column = self.integers(name, mask_type(bits), rows, width)?;
        Ok(Masks { column, width })
    }
}

fn word(column: &[u8], row: usize) -> u64 {
    let bytes = column[row * 8..row * 8 + 8].first_chunk::<8>();
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A column of masks, as narrow as its bits allow.
#[derive(Clone, Copy)]
struct Masks<'a> {
    column: &'a [u8],
    width: usize,
}

impl Masks<'_> {
    #[inline]
    fn get(self, row: usize) -> u32 {
        let at = row * self.width;
        match self.width {
            1 => u32::from(self.column[at]),
            2 => self.column[at..].first_chunk().map_or(0, |bytes| u32::from(u16::from_le_bytes(*bytes))),
            _ => self.column[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)),
        }
    }
}

fn read_block(input: &mut Input<'_>, columns: Columns, scan: &mut FunnelScan) -> Result<(), Stop> {
    let _columns = input.varint()?;
    let rows = input.varint()?;
    if rows > MAX_BLOCK_ROWS {
        return Err(NativeError::Length.into());
    }
    let rows = usize::try_from(rows).map_err(|_| NativeError::Length)?;
    let unit = input.integers("unit_id", "UInt64", rows, 8)?;
    let time = input.integers("time_ms", "Int64", rows, 8)?;
    let steps = input.mask("step_mask", columns.steps, rows)?;
    let exclusions = (columns.exclusions > 0).then(|| input.mask("exclusion_mask", columns.exclusions, rows));
    let exclusions = exclusions.transpose()?;
    let mut optional = |is_there: bool, name: &str, kind: &str, width: usize| {
        is_there.then(|| input.integers(name, kind, rows, width)).transpose()
    };
    let seq = optional(columns.order, "seq", "UInt64", 8)?;
    let instance = optional(columns.order, "instance_id", "UInt64", 8)?;
    let derived = optional(columns.derived, "derived", "UInt8", 1)?;
    let visible = optional(columns.visible, "visible", "UInt8", 1)?;
    let hold = optional(columns.hold, "hold_key", "UInt64", 8)?;
    let mut values = None;
    if columns.value {
        input.header("value", "String")?;
        // Read once to see that all are there: a row pushed twice would be counted twice.
        let start = input.at;
        for _ in 0..rows {
            input.text()?;
        }
        values = Some(Input { bytes: input.bytes, at: start });
    }
    let mut cut = Ok(());
    scan.extend(rows, |row, table| {
        let value = values.as_mut().map_or(Ok(0), |values| values.text().map(|text| table.number(text)));
        let value = value.unwrap_or_else(|stop| {
            cut = Err(stop);
            0
        });
        let event = Event {
            time_ms: word(time, row).cast_signed(),
            seq: seq.map_or(0, |column| word(column, row)),
            instance: instance.map_or(0, |column| word(column, row)),
            steps: steps.get(row),
            exclusions: exclusions.map_or(0, |column| column.get(row)),
            hold: hold.map_or(0, |column| word(column, row)),
            value,
            visible: visible.is_some_and(|column| column[row] != 0),
        };
        let derived = derived.is_some_and(|column| column[row] != 0);
        Row { unit: word(unit, row), derived, event }
    });
    cut
}
