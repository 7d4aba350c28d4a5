//! The attributes of one record, sorted into those with a meaning and those that become map entries.

use super::keys::{KeySet, Known, lookup};
use super::sink::Fault;
use super::value::{Value, key_value};
use crate::outcome::Reason;
use crate::rows::Attributes;

/// Most attributes of one record; chosen: OpenTelemetry SDKs stop at 128 by default.
const MAX_ATTRIBUTES: usize = 512;
/// Most bytes of one record's attributes.
const MAX_ATTRIBUTE_BYTES: usize = 1 << 20;

/// Attributes of one record.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) known: Known<'a>,
    pub(super) attributes: Attributes<'a>,
}

impl<'a> Fields<'a> {
    /// Forgets all, keeping the buffers.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.attributes.clear();
    }

    /// Adds attributes, later ones over earlier ones: keys of `take` go to `known`, all others to `attributes` if
    /// `keep`, else nowhere.
    #[inline]
    pub(super) fn read(&mut self, pairs: &[&'a [u8]], take: KeySet, keep: bool) -> Result<(), Fault> {
        if pairs.len() > MAX_ATTRIBUTES || pairs.iter().map(|pair| pair.len()).sum::<usize>() > MAX_ATTRIBUTE_BYTES {
            return Err(Fault::set_aside(Reason::TooLarge, "the attributes exceed 512 keys or 1 MiB; send fewer"));
        }
        for pair in pairs {
            let (key, value) = key_value(pair)?;
            match lookup(key) {
                Some(known) if take.contains(known) => self.known.set(known, value),
                _ if keep => self.keep(key, value)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds one attribute to the maps.
    #[inline]
    pub(super) fn keep(&mut self, key: &'a str, value: Value<'a>) -> Result<(), Fault> {
        match value {
            Value::Text(text) => self.attributes.set_text(key, text),
            Value::Int(number) => self.attributes.set_integer(key, number),
            Value::Double(number) => self.attributes.set_number(key, number),
            Value::Bool(flag) => self.attributes.set_bool(key, flag),
            Value::Empty => self.attributes.set_text(key, ""),
            Value::Array(_) | Value::Map(_) | Value::Bytes(_) => {
                self.attributes.set_rendered(key, |out| value.render(out))?;
            }
        }
        Ok(())
    }
}
