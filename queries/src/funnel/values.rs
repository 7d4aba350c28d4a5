//! Breakdown values as numbers: each distinct value is kept once.
//!
//! In: bytes as the plan's column `value` spells them. Out: numbers, and back. 0 is "missing".

use foldhash::fast::RandomState;
use std::cmp::Ordering;
use std::collections::HashMap;

/// What a distinct value takes beside its text, which is kept twice, in bytes. Reckoned: two boxes, the place in the table, and
/// its tally by step on some threads.
const BYTES_A_VALUE: usize = 512;

/// The values seen so far.
#[derive(Debug, Default)]
pub(super) struct Values {
    numbers: HashMap<Box<[u8]>, u32, RandomState>,
    texts: Vec<Box<[u8]>>,
    /// The value asked for last: neighbours are often equal.
    last: Option<u32>,
    text_bytes: usize,
}

impl Values {
    /// The number of a value; empty bytes are 0.
    pub(super) fn number(&mut self, bytes: &[u8]) -> u32 {
        if bytes.is_empty() {
            return 0;
        }
        if let Some(last) = self.last.filter(|&last| self.bytes(last) == bytes) {
            return last;
        }
        let known = self.numbers.get(bytes).copied();
        let number = known.unwrap_or_else(|| {
            self.texts.push(bytes.into());
            self.text_bytes += bytes.len();
            let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
            self.numbers.insert(bytes.into(), number);
            number
        });
        self.last = Some(number);
        number
    }

    /// Memory the values take, and what is counted for each of them, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        2 * self.text_bytes + self.texts.len() * BYTES_A_VALUE
    }

    /// The bytes of a number; empty for 0.
    pub(super) fn bytes(&self, number: u32) -> &[u8] {
        match number.checked_sub(1) {
            None => &[],
            Some(index) => self.texts.get(index as usize).map_or(&[], |text| &text[..]),
        }
    }

    /// By bytes; missing comes first.
    pub(super) fn compare(&self, a: u32, b: u32) -> Ordering {
        if a == b { Ordering::Equal } else { self.bytes(a).cmp(self.bytes(b)) }
    }

    /// Value by value.
    pub(super) fn compare_all(&self, a: &[u32], b: &[u32]) -> Ordering {
        let different = a.iter().zip(b).map(|(&a, &b)| self.compare(a, b)).find(|ordering| ordering.is_ne());
        different.unwrap_or_else(|| a.len().cmp(&b.len()))
    }
}
