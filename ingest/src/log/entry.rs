//! What one entry of the log says about the request whose body it holds.
//!
//! In and out: the head of a frame. Everything time-dependent later uses `received_ms` from here, never a clock.
//! A head begins with its version; heads of this and the previous version can be read, and a head that needs nothing of this
//! one is written as before, so that an earlier build reads it.

use super::repeats::RepeatKey;
use crate::identity::ProjectId;
use crate::otlp::{Encoding, Signal};
use crate::outcome::{Fate, Tally};
use thiserror::Error;

/// Version of a head that says when its records had been set aside; the tally of such a one holds [`Fate::Retried`].
const VERSION: u8 = 2;
/// Version of all others.
const PLAIN: u8 = 1;

/// How the body of a request was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentEncoding {
    /// Not at all.
    Identity,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// What became of an entry's records besides being stored: the words of [`Tally`] as they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoggedTally {
    /// Records in the request.
    pub received: u64,
    /// Fate, reason and count; each pair once.
    pub others: Vec<(Fate, String, u64)>,
}

impl From<&Tally> for LoggedTally {
    fn from(tally: &Tally) -> Self {
        let others = tally.others.iter().map(|(fate, reason, count)| (*fate, reason.as_str().to_owned(), *count));
        Self { received: tally.received, others: others.collect() }
    }
}

/// The head of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryHead {
    /// Version of the decoder whose rows were counted and cut.
    pub decoder_version: u16,
    /// Whose data.
    pub project: ProjectId,
    /// Retention class of its rows; 0 is the project's default.
    pub retention_class: u8,
    /// Kind of request.
    pub signal: Signal,
    /// Encoding of the body.
    pub encoding: Encoding,
    /// Compression of the body as it lies in the log.
    pub content_encoding: ContentEncoding,
    /// When the request was received, ms since the Unix epoch.
    pub received_ms: i64,
    /// Bytes of the body after inflating.
    pub inflated_len: u64,
    /// What a repeat of the request is known by.
    pub key: RepeatKey,
    /// True for a request that came before: its body is not kept and gives no rows, only counts.
    pub is_repeat: bool,
    /// What became of its records.
    pub tally: LoggedTally,
    /// Of records that are taken in again ([`Fate::Retried`]): when they were received that were set aside, ms since the Unix
    /// epoch.
    pub set_aside_ms: Option<i64>,
}

/// Why a head cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeadError {
    /// Written by a newer build.
    #[error("an entry has version {found}, this build reads up to {VERSION}")]
    Newer {
        /// Version found.
        found: u8,
    },
    /// The checksum fits but the content does not: a mistake of the writer.
    #[error("an entry's head makes no sense at byte {at}")]
    Malformed {
        /// Offset in the head.
        at: usize,
    },
}

impl EntryHead {
    /// The head as bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(if self.set_aside_ms.is_some() { VERSION } else { PLAIN });
        out.push(u8::from(self.is_repeat));
        out.extend_from_slice(&self.decoder_version.to_le_bytes());
        out.extend_from_slice(&self.project.0.to_le_bytes());
        out.push(self.retention_class);
        out.push(match self.signal {
            Signal::Logs => 1,
            Signal::Traces => 2,
            Signal::Metrics => 3,
        });
        out.push(match self.encoding {
            Encoding::Protobuf => 1,
            Encoding::Json => 2,
        });
        out.push(match self.content_encoding {
            ContentEncoding::Identity => 0,
            ContentEncoding::Gzip => 1,
            ContentEncoding::Zstd => 2,
        });
        out.extend_from_slice(&self.received_ms.to_le_bytes());
        out.extend_from_slice(&self.inflated_len.to_le_bytes());
        let (kind, high, low) = self.key.to_parts();
        out.push(kind);
        out.extend_from_slice(&high.to_le_bytes());
        out.extend_from_slice(&low.to_le_bytes());
        out.extend_from_slice(&self.tally.received.to_le_bytes());
        // A tally holds at most one entry per fate and reason, of which there are a few dozen.
        let count = u8::try_from(self.tally.others.len()).unwrap_or(u8::MAX);
        out.push(count);
        for (fate, reason, records) in self.tally.others.iter().take(usize::from(count)) {
            let reason = &reason.as_bytes()[..reason.len().min(255)];
            out.push(*fate as u8);
            out.push(u8::try_from(reason.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(reason);
            out.extend_from_slice(&records.to_le_bytes());
        }
        if let Some(set_aside_ms) = self.set_aside_ms {
            out.extend_from_slice(&set_aside_ms.to_le_bytes());
        }
    }

    /// The head again.
    ///
    /// # Errors
    /// [`HeadError`]; trying again cannot help.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeadError> {
        let mut bytes = Cursor { bytes, at: 0 };
        let version = bytes.u8()?;
        if version > VERSION {
            return Err(HeadError::Newer { found: version });
        }
        let is_repeat = bytes.u8()? == 1;
        let decoder_version = u16::from_le_bytes(bytes.take()?);
        let project = ProjectId(u32::from_le_bytes(bytes.take()?));
        let retention_class = bytes.u8()?;
        let signal = match bytes.u8()? {
            1 => Signal::Logs,
            2 => Signal::Traces,
            3 => Signal::Metrics,
            _ => return Err(bytes.malformed()),
        };
        let encoding = match bytes.u8()? {
            1 => Encoding::Protobuf,
            2 => Encoding::Json,
            _ => return Err(bytes.malformed()),
        };
        let content_encoding = match bytes.u8()? {
            0 => ContentEncoding::Identity,
            1 => ContentEncoding::Gzip,
            2 => ContentEncoding::Zstd,
            _ => return Err(bytes.malformed()),
        };
        let received_ms = i64::from_le_bytes(bytes.take()?);
        let inflated_len = u64::from_le_bytes(bytes.take()?);
        let kind = bytes.u8()?;
        let (high, low) = (u128::from_le_bytes(bytes.take()?), u64::from_le_bytes(bytes.take()?));
        let key = RepeatKey::from_parts(kind, high, low).ok_or_else(|| bytes.malformed())?;
        let received = u64::from_le_bytes(bytes.take()?);
        let mut others = Vec::new();
        for _ in 0..bytes.u8()? {
            let fate = fate(bytes.u8()?).ok_or_else(|| bytes.malformed())?;
            let length = usize::from(bytes.u8()?);
            let reason = bytes.slice(length)?.to_vec();
            let reason = String::from_utf8(reason).map_err(|_| bytes.malformed())?;
            others.push((fate, reason, u64::from_le_bytes(bytes.take()?)));
        }
        let set_aside_ms = if version > PLAIN { Some(i64::from_le_bytes(bytes.take()?)) } else { None };
        Ok(Self {
            decoder_version,
            project,
            retention_class,
            signal,
            encoding,
            content_encoding,
            received_ms,
            inflated_len,
            key,
            is_repeat,
            tally: LoggedTally { received, others },
            set_aside_ms,
        })
    }
}

fn fate(code: u8) -> Option<Fate> {
    [Fate::Received, Fate::Rejected, Fate::SetAside, Fate::Ignored, Fate::Deduplicated, Fate::Retried]
        .into_iter()
        .find(|fate| *fate as u8 == code)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn malformed(&self) -> HeadError {
        HeadError::Malformed { at: self.at }
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], HeadError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else { return Err(self.malformed()) };
        let slice = &self.bytes[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], HeadError> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, HeadError> {
        Ok(u8::from_le_bytes(self.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_head_that_says_when_its_records_were_set_aside_is_of_the_new_version() {
        let plain = EntryHead {
            decoder_version: 1,
            project: ProjectId(3),
            retention_class: 2,
            signal: Signal::Logs,
            encoding: Encoding::Json,
            content_encoding: ContentEncoding::Identity,
            received_ms: 1_700_000_000_000,
            inflated_len: 7,
            key: RepeatKey::Sdk { instance: 9, number: 1 },
            is_repeat: false,
            tally: LoggedTally { received: 5, others: vec![] },
            set_aside_ms: None,
        };
        let tally = LoggedTally { received: 5, others: vec![(Fate::Retried, "too_deep".to_owned(), 5)] };
        let retried = EntryHead { set_aside_ms: Some(1_600_000_000_000), tally, ..plain.clone() };
        for (head, version) in [(plain, 1), (retried, 2)] {
            let mut bytes = Vec::new();
            head.encode(&mut bytes);
            assert_eq!(bytes[0], version);
            assert_eq!(EntryHead::decode(&bytes).as_ref(), Ok(&head));
            bytes[0] = VERSION + 1;
            assert_eq!(EntryHead::decode(&bytes), Err(HeadError::Newer { found: VERSION + 1 }));
        }
    }
}
