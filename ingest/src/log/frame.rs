//! How one entry lies in a file, and how damage is told from an end.
//!
//! In: a head (small, described by the caller) and a body (up to MiB). Out: a frame; and from a file's bytes the frames
//! again. Pure except for reading through [`DiskFile`]. Knows nothing of what head and body mean.
//!
//! ```text
//!  0  magic      4 bytes "GLF1"
//!  4  head_len   u32      bytes of the head
//!  8  body_len   u32      bytes of the body
//! 12  body_crc   u32      CRC-32 of the body
//! 16  position   u64      number of the entry
//! 24  durable    u64      all entries before this one were durable when the frame was written
//! 32  head_crc   u32      CRC-32 of bytes 0..32 and the head
//! 36  zero       4 bytes
//! 40  head, body, zero bytes up to a multiple of 8
//! ```
//! All numbers are little-endian. The head has a checksum of its own so that a log of many GiB can be walked at start
//! without reading the bodies. `durable` is what tells a torn end from damage: entries below the `durable` of any later
//! frame had been acknowledged, so finding one of them broken is damage; a broken entry that no later frame vouches for
//! was never acknowledged, and is cut off.

use super::disk::DiskFile;
use std::io;

/// Bytes before the head.
pub(crate) const PREFIX: usize = 40;
/// Frames begin at multiples of this, so that a search for the next one after damage is short.
const ALIGN: u64 = 8;
const MAGIC: [u8; 4] = *b"GLF1";
/// Longest head. Chosen: a head is below 1 KiB; the limit keeps a broken length from asking for much memory.
const MAX_HEAD: u32 = 64 << 10;
/// Longest body. Chosen: four times the largest request body the server may be configured to take.
const MAX_BODY: u32 = 1 << 30;

/// Where a frame lies and what its prefix says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Offset of the frame in its file.
    pub(crate) offset: u64,
    /// Number of the entry.
    pub(crate) position: u64,
    /// All entries before this position were durable when the frame was written.
    pub(crate) durable: u64,
    /// The head.
    pub(crate) head: Vec<u8>,
    body_len: u32,
    body_crc: u32,
}

impl Frame {
    fn body_offset(&self) -> u64 {
        self.offset + PREFIX as u64 + self.head.len() as u64
    }

    /// Offset of what follows.
    pub(crate) fn end(&self) -> u64 {
        (self.body_offset() + u64::from(self.body_len)).next_multiple_of(ALIGN)
    }

    /// Reads the body; nothing when it does not fit its checksum.
    pub(crate) fn body(&self, file: &dyn DiskFile) -> io::Result<Option<Vec<u8>>> {
        // Checked against MAX_BODY when the prefix was read.
        let mut body = vec![0; self.body_len as usize];
        let read = file.read_at(&mut body, self.body_offset())?;
        Ok((read == body.len() && crc32fast::hash(&body) == self.body_crc).then_some(body))
    }
}

/// Appends a frame to `out`.
///
/// # Errors
/// `InvalidInput` when head or body is longer than a frame can hold.
pub(crate) fn append(out: &mut Vec<u8>, position: u64, durable: u64, head: &[u8], body: &[u8]) -> io::Result<()> {
    let head_len = u32::try_from(head.len()).ok().filter(|length| *length <= MAX_HEAD);
    let body_len = u32::try_from(body.len()).ok().filter(|length| *length <= MAX_BODY);
    let (Some(head_len), Some(body_len)) = (head_len, body_len) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an entry of the log is too long"));
    };
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&head_len.to_le_bytes());
    out.extend_from_slice(&body_len.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    out.extend_from_slice(&position.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out[start..]);
    crc.update(head);
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(head);
    out.extend_from_slice(body);
    out.resize(start + (out.len() - start).next_multiple_of(8), 0);
    Ok(())
}

/// The frame at `offset`; nothing when there is none or its head is broken.
pub(crate) fn read(file: &dyn DiskFile, offset: u64) -> io::Result<Option<Frame>> {
    // One read takes prefix and head of nearly every entry.
    let mut buffer = [0; 512];
    let got = file.read_at(&mut buffer, offset)?;
    if got < PREFIX || buffer[..4] != MAGIC {
        return Ok(None);
    }
    let head_len = u32_at(&buffer, 4);
    let body_len = u32_at(&buffer, 8);
    if head_len > MAX_HEAD || body_len > MAX_BODY {
        return Ok(None);
    }
    let head_end = PREFIX + head_len as usize;
    let head = if head_end <= got {
        buffer[PREFIX..head_end].to_vec()
    } else {
        let mut head = vec![0; head_len as usize];
        if file.read_at(&mut head, offset + PREFIX as u64)? < head.len() {
            return Ok(None);
        }
        head
    };
    let mut crc = crc32fast::Hasher::new();
    crc.update(&buffer[..32]);
    crc.update(&head);
    if crc.finalize() != u32_at(&buffer, 32) {
        return Ok(None);
    }
    Ok(Some(Frame {
        offset,
        position: u64_at(&buffer, 16),
        durable: u64_at(&buffer, 24),
        head,
        body_len,
        body_crc: u32_at(&buffer, 12),
    }))
}

/// The first frame with an unbroken head at or after `offset`: what goes on behind damage.
pub(crate) fn find(file: &dyn DiskFile, offset: u64) -> io::Result<Option<Frame>> {
    let mut at = offset.next_multiple_of(ALIGN);
    if let Some(frame) = read(file, at)? {
        return Ok(Some(frame));
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        let got = file.read_at(&mut buffer, at)?;
        let mut steps = buffer[..got].chunks_exact(8).enumerate();
        // The magic is looked for in memory; only a hit costs a read.
        for (index, _) in steps.by_ref().filter(|(_, bytes)| bytes[..4] == MAGIC) {
            if let Some(frame) = read(file, at + index as u64 * ALIGN)? {
                return Ok(Some(frame));
            }
        }
        if got < buffer.len() {
            return Ok(None);
        }
        at += got as u64;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
