//! Compression on the engine's HTTP interface: request bodies in, responses out.
//!
//! In: bytes as they came. Out: bytes in the clear, and the other way round. HTTP's own codings (gzip, deflate, zstd,
//! LZ4 frames) and ClickHouse's block framing (`compress=1`, `decompress=1`): 16 bytes CityHash128 (version 1.0.2) over
//! what follows, 1 byte method, 4 bytes size of method, sizes and data, 4 bytes size in the clear, data.

use std::io::{self, Read, Write};

/// Method byte of an LZ4 block.
const METHOD_LZ4: u8 = 0x82;
/// Method byte of a zstd block.
const METHOD_ZSTD: u8 = 0x90;
/// Method byte of a block that is not compressed.
const METHOD_NONE: u8 = 0x02;
/// Bytes of method and the two sizes; the checksum covers them too.
const BLOCK_HEADER: usize = 9;
/// Largest block taken, in the clear: ClickHouse's own limit (`DBMS_MAX_COMPRESSED_SIZE`, 1 GiB).
const MAX_BLOCK_BYTES: usize = 1 << 30;

/// How a response is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// `Content-Encoding: gzip`.
    Gzip,
    /// `Content-Encoding: deflate`, in zlib's wrapping as HTTP means it.
    Deflate,
    /// `Content-Encoding: zstd`.
    Zstd,
    /// `Content-Encoding: lz4`, LZ4 frames.
    Lz4,
    /// ClickHouse's own blocks, `compress=1`; no header says so.
    Blocks,
}

impl Coding {
    /// The coding for a response, from an `Accept-Encoding` header: the first known of zstd, lz4, gzip and deflate, by
    /// the cost of making it. Coding names with `q=0` are refused ones.
    pub fn accepted(header: &str) -> Self {
        let offers = |name: &str| {
            header.split(',').any(|offer| {
                let mut parts = offer.split(';');
                let named = parts.next().is_some_and(|found| found.trim().eq_ignore_ascii_case(name));
                named && !parts.any(|q| matches!(q.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
            })
        };
        [("zstd", Self::Zstd), ("lz4", Self::Lz4), ("gzip", Self::Gzip), ("deflate", Self::Deflate)]
            .into_iter()
            .find_map(|(name, coding)| offers(name).then_some(coding))
            .unwrap_or(Self::Identity)
    }

    /// Value of `Content-Encoding`, if one is due.
    pub fn header(self) -> Option<&'static str> {
        match self {
            Self::Identity | Self::Blocks => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
            Self::Zstd => Some("zstd"),
            Self::Lz4 => Some("lz4"),
        }
    }
}

/// Compresses a response piece by piece; every piece can be read without the next one.
pub enum Encoder {
    /// See [`Coding::Identity`].
    Identity,
    /// See [`Coding::Gzip`].
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    /// See [`Coding::Deflate`].
    Deflate(flate2::write::ZlibEncoder<Vec<u8>>),
    /// See [`Coding::Zstd`].
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    /// See [`Coding::Lz4`].
    Lz4(Box<lz4_flex::frame::FrameEncoder<Vec<u8>>>),
    /// See [`Coding::Blocks`].
    Blocks,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    /// An encoder at the fastest useful level: the other end is on the same machine or near.
    ///
    /// # Errors
    ///
    /// When zstd cannot get its memory.
    pub fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Identity => Self::Identity,
            Coding::Gzip => Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast())),
            Coding::Deflate => Self::Deflate(flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast())),
            Coding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
            Coding::Lz4 => Self::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(Vec::new()))),
            Coding::Blocks => Self::Blocks,
        })
    }

    /// Compresses a piece and returns what can be sent.
    ///
    /// # Errors
    ///
    /// Only when memory is short.
    pub fn push(&mut self, data: Vec<u8>) -> io::Result<Vec<u8>> {
        macro_rules! push {
            ($encoder:expr) => {{
                $encoder.write_all(&data)?;
                $encoder.flush()?;
                Ok(std::mem::take($encoder.get_mut()))
            }};
        }
        match self {
            Self::Identity => Ok(data),
            Self::Gzip(encoder) => push!(encoder),
            Self::Deflate(encoder) => push!(encoder),
            Self::Zstd(encoder) => push!(encoder),
            Self::Lz4(encoder) => push!(encoder),
            Self::Blocks => {
                let mut out = Vec::with_capacity(data.len() / 2);
                // 1 MiB: ClickHouse's own block size (`DBMS_DEFAULT_BUFFER_SIZE`).
                for piece in data.chunks(1 << 20) {
                    write_block(piece, &mut out)?;
                }
                Ok(out)
            }
        }
    }

    /// Ends the stream and returns its last bytes.
    ///
    /// # Errors
    ///
    /// Only when memory is short.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity | Self::Blocks => Ok(Vec::new()),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
        }
    }
}

fn write_block(data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let compressed = lz4_flex::block::compress(data);
    let size = |length: usize| u32::try_from(length).map_err(io::Error::other);
    let mut block = Vec::with_capacity(BLOCK_HEADER + compressed.len());
    block.push(METHOD_LZ4);
    block.extend_from_slice(&size(BLOCK_HEADER + compressed.len())?.to_le_bytes());
    block.extend_from_slice(&size(data.len())?.to_le_bytes());
    block.extend_from_slice(&compressed);
    out.extend_from_slice(&checksum(&block));
    out.extend_from_slice(&block);
    Ok(())
}

/// CityHash128 as ClickHouse writes it: the two halves swapped against the crate's order.
fn checksum(block: &[u8]) -> [u8; 16] {
    cityhash_rs::cityhash_102_128(block).rotate_left(64).to_le_bytes()
}

/// Reads ClickHouse's blocks and gives their content.
#[derive(Debug)]
pub struct BlockReader<R> {
    inner: R,
    block: Vec<u8>,
    at: usize,
}

impl<R: Read> BlockReader<R> {
    /// A reader over compressed blocks.
    pub fn new(inner: R) -> Self {
        Self { inner, block: Vec::new(), at: 0 }
    }

    /// Reads the next block; false at the end of the input between two blocks.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut sum = [0; 16];
        let mut filled = 0;
        while filled < sum.len() {
            let read = self.inner.read(sum.get_mut(filled..).unwrap_or_default())?;
            if read == 0 {
                if filled == 0 {
                    return Ok(false);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
        }
        let mut header = [0; BLOCK_HEADER];
        self.inner.read_exact(&mut header)?;
        let [method, sizes @ ..] = header;
        let (packed, clear) = sizes.split_at(4);
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let length = |bytes: &[u8]| {
            let bytes = bytes.try_into().map_err(io::Error::other)?;
            usize::try_from(u32::from_le_bytes(bytes)).map_err(io::Error::other)
        };
        let (packed, clear) = (length(packed)?, length(clear)?);
        if !(BLOCK_HEADER..=MAX_BLOCK_BYTES).contains(&packed) || clear > MAX_BLOCK_BYTES {
            return Err(bad("compressed block with impossible sizes"));
        }
        let mut block = header.to_vec();
        // Grows with what really arrives, so that a lying size costs no memory.
        let rest = u64::try_from(packed - BLOCK_HEADER).map_err(io::Error::other)?;
        if self.inner.by_ref().take(rest).read_to_end(&mut block)? != packed - BLOCK_HEADER {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if checksum(&block) != sum {
            return Err(bad("Checksum doesn't match: corrupted data"));
        }
        let data = block.get(BLOCK_HEADER..).unwrap_or_default();
        self.at = 0;
        self.block = match method {
            METHOD_LZ4 => lz4_flex::block::decompress(data, clear).map_err(io::Error::other)?,
            METHOD_ZSTD => zstd::bulk::decompress(data, clear)?,
            METHOD_NONE => data.to_vec(),
            _ => return Err(bad("unknown compression method")),
        };
        if self.block.len() != clear {
            return Err(bad("compressed block of another size than it says"));
        }
        Ok(true)
    }
}

impl<R: Read> Read for BlockReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let read = self.block.get(self.at..).unwrap_or_default().read(out)?;
        self.at += read;
        Ok(read)
    }
}

/// Whether a `Content-Encoding` is one that [`Decoder`] undoes.
pub fn is_known(name: &str) -> bool {
    matches!(
        name.trim().to_ascii_lowercase().as_str(),
        "" | "identity" | "gzip" | "x-gzip" | "deflate" | "zstd" | "lz4"
    )
}

/// Undoes a `Content-Encoding`. Reads nothing before it is read from: some decoders begin with their header at once,
/// and the body must only be waited for on a thread that may wait.
pub enum Decoder<R> {
    /// Not begun: the coding's name and the body.
    New(String, R),
    /// At work.
    Begun(Box<dyn Read + Send>),
    /// Failed.
    Failed,
}

impl<R> std::fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl<R: Read + Send + 'static> Read for Decoder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Self::Begun(decoder) = self {
            return decoder.read(out);
        }
        let Self::New(name, inner) = std::mem::replace(self, Self::Failed) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut decoder: Box<dyn Read + Send> = match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Box::new(inner),
            "gzip" | "x-gzip" => Box::new(flate2::read::MultiGzDecoder::new(inner)),
            "deflate" => Box::new(flate2::read::ZlibDecoder::new(inner)),
            "zstd" => Box::new(zstd::stream::read::Decoder::new(inner)?),
            "lz4" => Box::new(lz4_flex::frame::FrameDecoder::new(inner)),
            other => return Err(io::Error::new(io::ErrorKind::InvalidInput, other.to_owned())),
        };
        let read = decoder.read(out)?;
        *self = Self::Begun(decoder);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coding_comes_back_as_it_went() {
        let data: Vec<u8> = (0..400_000_u32).flat_map(|n| (n % 251).to_le_bytes()).collect();
        for coding in [Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Zstd, Coding::Lz4, Coding::Blocks] {
            let mut encoder = Encoder::new(coding).unwrap();
            let mut packed = Vec::new();
            for piece in data.chunks(700_001) {
                packed.extend(encoder.push(piece.to_vec()).unwrap());
            }
            packed.extend(encoder.finish().unwrap());
            let mut reader: Box<dyn Read> = match coding {
                Coding::Blocks => Box::new(BlockReader::new(packed.as_slice())),
                _ => Box::new(Decoder::New(coding.header().unwrap_or("").into(), io::Cursor::new(packed))),
            };
            let mut back = Vec::new();
            reader.read_to_end(&mut back).unwrap();
            assert!(back == data, "{coding:?}");
        }
    }

    #[test]
    fn a_block_with_a_flipped_bit_is_refused() {
        let mut packed = Encoder::new(Coding::Blocks).unwrap().push(b"hello hello hello".to_vec()).unwrap();
        *packed.last_mut().unwrap() ^= 1;
        let error = io::read_to_string(BlockReader::new(packed.as_slice())).unwrap_err();
        assert!(error.to_string().contains("Checksum"), "{error}");
    }

    #[test]
    fn a_cut_block_is_an_error_not_an_end() {
        let packed = Encoder::new(Coding::Blocks).unwrap().push(b"hello hello hello".to_vec()).unwrap();
        for length in 1..packed.len() {
            assert!(io::read_to_string(BlockReader::new(&packed[..length])).is_err(), "{length}");
        }
    }

    #[test]
    fn the_client_chooses_the_coding() {
        let check = |header, expected| assert_eq!(Coding::accepted(header), expected, "{header}");
        check("gzip, deflate", Coding::Gzip);
        check("lz4", Coding::Lz4);
        check("zstd;q=0, deflate;q=0.5", Coding::Deflate);
        check("br", Coding::Identity);
        check("", Coding::Identity);
    }
}
