//! Breakdown values as numbers: each distinct value is kept once.
//!
//! In: bytes as the plan's column `value` spells them. Out: numbers, and back. 0 is "missing".

use foldhash::fast::RandomState;
use std::cmp::Ordering;
use std::collections::HashMap;

/// What a distinct value takes beside its text, which is kept twice, in bytes. Reckoned: two boxes, the place in the table, and
/// its tally by step on some threads.
const BYTES_A_VALUE: usize = 512;

/// Places for short values that came lately. Chosen: few values make most of a breakdown, and 4 KiB stay in the nearest cache.
const LATELY: usize = 256;

/// The values seen so far.
#[derive(Debug)]
pub(super) struct Values {
    numbers: HashMap<Box<[u8]>, u32, RandomState>,
    texts: Vec<Box<[u8]>>,
    /// Short values in one word each, with their numbers: most are found here, without hashing their bytes. 0 is no value.
    lately: Box<[(u64, u32); LATELY]>,
    text_bytes: usize,
}

impl Default for Values {
    fn default() -> Self {
        let lately = Box::new([(0, 0); LATELY]);
        Self { numbers: HashMap::default(), texts: Vec::new(), lately, text_bytes: 0 }
    }
}

impl Values {
    /// The number of a value; empty bytes are 0.
    pub(super) fn number(&mut self, bytes: &[u8]) -> u32 {
        if bytes.is_empty() {
            return 0;
        }
        let Some(word) = short(bytes) else { return self.find(bytes) };
        // Knuth's multiplicative hash, its upper bits.
        let place = usize::try_from(word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).unwrap_or(0) % LATELY;
        let (known, number) = self.lately[place];
        if known == word {
            return number;
        }
        let number = self.find(bytes);
        self.lately[place] = (word, number);
        number
    }

    fn find(&mut self, bytes: &[u8]) -> u32 {
        if let Some(known) = self.numbers.get(bytes) {
            return *known;
        }
        self.texts.push(bytes.into());
        self.text_bytes += bytes.len();
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.numbers.insert(bytes.into(), number);
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

/// Up to seven bytes and how many they are as one word, never 0; `None` where there are more, or none.
#[inline]
fn short(bytes: &[u8]) -> Option<u64> {
    let length = u8::try_from(bytes.len()).ok().filter(|length| (1..=7).contains(length))?;
    let word = bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
    Some(word << 8 | u64::from(length))
}

#[cfg(test)]
mod tests {
    use super::Values;

    #[test]
    fn every_value_has_a_number_of_its_own_and_keeps_it() {
        let mut values = Values::default();
        let texts: Vec<Vec<u8>> = (0..3_000_u32)
            .flat_map(|number| {
                [
                    format!("s{number}"),
                    format!("n{number}\0"),
                    "\0".repeat(number as usize % 12),
                    format!("s{number} and more"),
                ]
            })
            .map(String::into_bytes)
            .collect();
        let numbers: Vec<u32> = texts.iter().map(|text| values.number(text)).collect();
        for (text, number) in texts.iter().zip(&numbers) {
            assert_eq!(values.bytes(*number), text);
            assert_eq!(values.number(text), *number);
        }
    }
}
