//! The attributes of one record on their way into the maps `strings`, `numbers` and `bools`.
//!
//! Keys are unique: the last value of a key wins, whatever its type. Values are borrowed from the request where they
//! can be, and rendered into one shared text where they cannot (arrays, bytes, large integers), so a record costs no
//! allocation once the buffers have grown.

use super::dictionary::same;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Integers up to here are exact as doubles; larger ones are kept as text as well (IEEE 754, 53 bits).
const MAX_EXACT_INTEGER: u64 = 1 << 53;
/// Up to this many keys are compared one by one, more are hashed. Chosen: comparing lengths of 16 keys is cheaper than
/// one hash, and beyond it the work stays linear.
const MAX_SCANNED_KEYS: usize = 16;

/// A value in the form of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cell<'a> {
    /// Text of the request.
    Text(&'a str),
    /// Text at these bytes of [`Attributes::rendered`].
    Rendered(usize, usize),
    /// A number.
    Number(f64),
    /// An integer that a double does not hold: nearest double, and its digits in [`Attributes::rendered`].
    Large(f64, usize, usize),
    /// A boolean.
    Bool(bool),
}

impl Cell<'_> {
    /// The value for the map `strings`.
    #[inline]
    pub(crate) fn text<'a>(&'a self, rendered: &'a str) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Rendered(start, end) | Self::Large(_, start, end) => rendered.get(*start..*end),
            Self::Number(_) | Self::Bool(_) => None,
        }
    }

    /// The value for the map `numbers`.
    #[inline]
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) | Self::Large(number, ..) => Some(*number),
            _ => None,
        }
    }

    /// The value for the map `bools`.
    #[inline]
    pub(crate) fn boolean(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }
}

/// One attribute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Entry<'a> {
    /// Its key, unique in the record.
    pub(crate) key: &'a str,
    /// Its value.
    pub(crate) cell: Cell<'a>,
}

/// The attributes of one record, in the order their keys first came.
#[derive(Debug, Default)]
pub(crate) struct Attributes<'a> {
    entries: Vec<Entry<'a>>,
    rendered: String,
    /// Key → position, kept only beyond [`MAX_SCANNED_KEYS`].
    positions: HashMap<&'a str, usize, RandomState>,
    /// The marks of all keys so far: a key whose mark is missing is new, which spares most looks through the others.
    marks: u64,
}

/// One of 64 bits by the length and the ends of a key.
#[inline]
fn mark(key: &str) -> u64 {
    let ends = key.as_bytes().first().zip(key.as_bytes().last()).map_or(0, |(first, last)| first ^ last.rotate_left(3));
    1 << ((usize::from(ends) + 5 * key.len()) % 64)
}

impl<'a> Attributes<'a> {
    /// Forgets all, keeping the buffers.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.rendered.clear();
        self.marks = 0;
        if !self.positions.is_empty() {
            self.positions.clear();
        }
    }

    /// The attributes so far.
    #[inline]
    pub(crate) fn entries(&self) -> &[Entry<'a>] {
        &self.entries
    }

    /// The text that [`Cell::Rendered`] and [`Cell::Large`] point into.
    #[inline]
    pub(crate) fn rendered(&self) -> &str {
        &self.rendered
    }

    /// Sets a text.
    #[inline]
    pub(crate) fn set_text(&mut self, key: &'a str, value: &'a str) {
        self.set(key, Cell::Text(value));
    }

    /// Sets a double.
    #[inline]
    pub(crate) fn set_number(&mut self, key: &'a str, value: f64) {
        self.set(key, Cell::Number(value));
    }

    /// Sets an integer, with its digits beside it when a double does not hold it.
    #[inline]
    pub(crate) fn set_integer(&mut self, key: &'a str, value: i64) {
        let number = value as f64;
        if value.unsigned_abs() <= MAX_EXACT_INTEGER {
            self.set(key, Cell::Number(number));
        } else {
            let start = self.rendered.len();
            // Writing to a String cannot fail.
            let _infallible = write!(self.rendered, "{value}");
            self.set(key, Cell::Large(number, start, self.rendered.len()));
        }
    }

    /// Sets a boolean.
    #[inline]
    pub(crate) fn set_bool(&mut self, key: &'a str, value: bool) {
        self.set(key, Cell::Bool(value));
    }

    /// Sets a text that `render` appends to the buffer it is given; on its error nothing is set.
    pub(crate) fn set_rendered<E>(
        &mut self,
        key: &'a str,
        render: impl FnOnce(&mut String) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.rendered.len();
        render(&mut self.rendered).inspect_err(|_| self.rendered.truncate(start))?;
        self.set(key, Cell::Rendered(start, self.rendered.len()));
        Ok(())
    }

    /// Gives an attribute another key, unless that one is set as well.
    pub(crate) fn rename(&mut self, from: &str, to: &'a str) {
        if self.position(to).is_some() {
            return;
        }
        let Some(position) = self.position(from) else { return };
        if let Some(entry) = self.entries.get_mut(position) {
            entry.key = to;
            self.marks |= mark(to);
            if self.positions.remove(from).is_some() {
                self.positions.insert(to, position);
            }
        }
    }

    #[inline]
    fn position(&self, key: &str) -> Option<usize> {
        if self.entries.len() <= MAX_SCANNED_KEYS {
            self.entries.iter().position(|entry| same(entry.key.as_bytes(), key.as_bytes()))
        } else {
            self.positions.get(key).copied()
        }
    }

    #[inline]
    fn set(&mut self, key: &'a str, cell: Cell<'a>) {
        let mark = mark(key);
        if self.marks & mark != 0
            && let Some(entry) = self.position(key).and_then(|position| self.entries.get_mut(position))
        {
            entry.cell = cell;
            return;
        }
        self.marks |= mark;
        self.entries.push(Entry { key, cell });
        if self.entries.len() > MAX_SCANNED_KEYS {
            let known = self.positions.len();
            for (position, entry) in self.entries.iter().enumerate().skip(known) {
                self.positions.insert(entry.key, position);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_key_wins_whatever_its_type() {
        let keys: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
        let mut attributes = Attributes::default();
        for key in &keys {
            attributes.set_text(key, "first");
        }
        for (key, n) in keys.iter().zip(0_i64..) {
            attributes.set_integer(key, n);
        }
        attributes.set_bool("key39", true);
        assert_eq!(attributes.entries().len(), 40);
        assert_eq!(attributes.entries()[7].cell, Cell::Number(7.0));
        assert_eq!(attributes.entries()[39].cell, Cell::Bool(true));
    }

    #[test]
    fn integers_beyond_53_bits_keep_their_digits() {
        let mut attributes = Attributes::default();
        attributes.set_integer("small", -(1 << 53));
        attributes.set_integer("large", i64::MIN);
        let [small, large] = attributes.entries() else { panic!("two entries") };
        assert_eq!(small.cell.text(attributes.rendered()), None);
        assert_eq!(large.cell.text(attributes.rendered()), Some("-9223372036854775808"));
        assert_eq!(large.cell.number(), Some(-(2_f64.powi(63))));
    }
}
