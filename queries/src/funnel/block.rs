//! The rows of one block of an answer, column by column, as they lie in its bytes.

use std::ops::Range;

/// A column of 64-bit integers, little-endian.
pub(super) type Words<'a> = &'a [[u8; 8]];

/// The columns of a block; those a plan does not have are `None`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    /// The unit; 0: the event has none.
    pub unit: Words<'a>,
    /// Milliseconds since the Unix epoch, signed.
    pub time: Words<'a>,
    pub steps: Masks<'a>,
    pub exclusions: Option<Masks<'a>>,
    /// Sequence number and instance.
    pub order: Option<(Words<'a>, Words<'a>)>,
    pub derived: Option<&'a [u8]>,
    pub visible: Option<&'a [u8]>,
    pub hold: Option<Words<'a>>,
    /// Numbers of the breakdown values in the scan's table.
    pub values: Option<&'a [u32]>,
}

/// A column of masks, as narrow as its bits allow.
#[derive(Debug, Clone, Copy)]
pub(super) enum Masks<'a> {
    One(&'a [u8]),
    Two(&'a [[u8; 2]]),
    Four(&'a [[u8; 4]]),
}

impl<'a> Masks<'a> {
    /// The column whose integers have `width` bytes.
    pub(super) fn new(bytes: &'a [u8], width: usize) -> Self {
        match width {
            1 => Self::One(bytes),
            2 => Self::Two(bytes.as_chunks().0),
            _ => Self::Four(bytes.as_chunks().0),
        }
    }

    /// The mask of one row.
    pub(super) fn get(self, row: usize) -> u32 {
        match self {
            Self::One(column) => u32::from(column[row]),
            Self::Two(column) => u32::from(u16::from_le_bytes(column[row])),
            Self::Four(column) => u32::from_le_bytes(column[row]),
        }
    }

    /// Calls `each` with the masks of these rows, in order.
    #[inline]
    pub(super) fn each(self, rows: Range<usize>, mut each: impl FnMut(u64)) {
        match self {
            Self::One(column) => column[rows].iter().for_each(|mask| each(u64::from(*mask))),
            Self::Two(column) => column[rows].iter().for_each(|mask| each(u64::from(u16::from_le_bytes(*mask)))),
            Self::Four(column) => column[rows].iter().for_each(|mask| each(u64::from(u32::from_le_bytes(*mask)))),
        }
    }
}
