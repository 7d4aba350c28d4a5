//! One spooled batch as bytes: a checksum over everything, what the batch is, the resource, the compressed records.
//!
//! In: a batch. Out: the bytes of its file, and the batch again, or nothing when a single bit is not as it was written.
//! Pure: no I/O.
//!
//! Integers are little-endian: `magic: [u8; 8]`, `crc32: u32` of all that follows, `number: u64`, `records: u64`,
//! `signal: u8`, `items: u32` (bytes of the records before compression), `pairs: u32`, for each pair of the resource key
//! and value as `length: u32` and bytes, then the records as one zstd frame.

use crate::pipeline::queue::{Batch, Signal};
use std::io;

/// Says what the file is and how it is laid out; the digit is the version.
const MAGIC: [u8; 8] = *b"gembaSP1";
/// Most bytes of records that are read from one file; far beyond a batch, so that a file that is not ours cannot ask for all
/// memory.
const MAX_ITEMS_BYTES: usize = 16 * 1024 * 1024;
/// zstd level; as for sending.
const ZSTD_LEVEL: i32 = 1;

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) number: u64,
    pub(crate) records: u64,
    pub(crate) signal: Signal,
    /// Concatenated items of the signal, as in a [`Batch`].
    pub(crate) items: Vec<u8>,
    /// Of the process that recorded them.
    pub(crate) resource: Vec<(String, String)>,
}

/// The bytes of a batch's file.
pub(crate) fn encode(batch: &Batch, resource: &[(String, String)]) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "a length beyond 4 GiB");
    let items = zstd::bulk::compress(&batch.items, ZSTD_LEVEL)?;
    let mut out = Vec::with_capacity(items.len() + 512);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&batch.number.to_le_bytes());
    out.extend_from_slice(&batch.records.to_le_bytes());
    out.push(batch.signal as u8);
    out.extend_from_slice(&u32::try_from(batch.items.len()).map_err(too_long)?.to_le_bytes());
    out.extend_from_slice(&u32::try_from(resource.len()).map_err(too_long)?.to_le_bytes());
    for text in resource.iter().flat_map(|(key, value)| [key, value]) {
        out.extend_from_slice(&u32::try_from(text.len()).map_err(too_long)?.to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(&items);
    let (head, body) = out.split_at_mut(MAGIC.len() + 4);
    if let Some(crc) = head.last_chunk_mut::<4>() {
        *crc = crc32fast::hash(body).to_le_bytes();
    }
    Ok(out)
}

/// The batch of a file; None when the file is cut short, damaged, or of another version.
pub(crate) fn decode(bytes: &[u8]) -> Option<Contents> {
    let mut rest = bytes.strip_prefix(&MAGIC)?;
    if u32::from_le_bytes(take(&mut rest)?) != crc32fast::hash(rest) {
        return None;
    }
    let number = u64::from_le_bytes(take(&mut rest)?);
    let records = u64::from_le_bytes(take(&mut rest)?);
    let [code] = take(&mut rest)?;
    let signal = *Signal::ALL.get(usize::from(code))?;
    let items_len = length(&mut rest).filter(|length| *length <= MAX_ITEMS_BYTES)?;
    let pairs = length(&mut rest)?;
    let mut resource = Vec::new();
    for _ in 0..pairs {
        resource.push((text(&mut rest)?, text(&mut rest)?));
    }
    let items = zstd::bulk::decompress(rest, items_len).ok()?;
    Some(Contents { number, records, signal, items, resource })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(take(rest)?)).ok()
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = length(rest)?;
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    String::from_utf8(taken.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_batch_reads_back_and_no_shorter_or_altered_file_does(
            items in proptest::collection::vec(any::<u8>(), 0..300),
            value in ".{0,40}",
            (number, records) in any::<(u64, u64)>(),
            (place, bit) in (any::<proptest::sample::Index>(), 0..8u8),
        ) {
            let mut batch = Batch::new(Signal::Traces, items.clone(), records, None);
            batch.number = number;
            let resource = vec![("service.name".to_owned(), value)];
            let file = encode(&batch, &resource).unwrap();
            let contents = Contents { number, records, signal: Signal::Traces, items, resource };
            prop_assert_eq!(decode(&file), Some(contents));
            let cut = place.index(file.len());
            prop_assert_eq!(decode(&file[..cut]), None);
            let mut altered = file;
            altered[cut] ^= 1 << bit;
            prop_assert_eq!(decode(&altered), None);
        }

        /// With a checksum that fits, as whoever may write to the folder can make it.
        #[test]
        fn hostile_files_are_read_or_refused(
            items in proptest::collection::vec(any::<u8>(), 0..100),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<proptest::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            let batch = Batch::new(Signal::Logs, items, 3, None);
            let mut file = encode(&batch, &[("service.name".to_owned(), "shop".to_owned())]).unwrap();
            if is_cut {
                file.truncate(cut.index(file.len()));
            }
            let head = MAGIC.len() + 4;
            if file.len() > head {
                let body = file.len() - head;
                for (place, value) in changes {
                    file[head + place.index(body)] = value;
                }
                let crc = crc32fast::hash(&file[head..]).to_le_bytes();
                file[MAGIC.len()..head].copy_from_slice(&crc);
            }
            if let Some(contents) = decode(&file) {
                prop_assert!(contents.items.len() <= MAX_ITEMS_BYTES);
                prop_assert!(contents.resource.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() < file.len());
            }
        }
    }
}
