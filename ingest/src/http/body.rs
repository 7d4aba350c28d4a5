//! The only door for bytes of strangers: reads and inflates request bodies under limits.
//!
//! In: a body as it arrives. Out: its bytes, or a [`BodyError`] that says which limit it broke. Does not know what the
//! bytes mean. Invariants:
//! 1. No body holds more than [`Limits::max_body_bytes`](crate::config::Limits), as sent and when inflated.
//! 2. All bodies together hold no more than the [`Budget`]; room is reserved before it is filled and given back when
//!    the [`Reservation`] is dropped. Nobody waits for room, so two requests can never wait for each other.
//! 3. Inflating more than [`SMALL_BYTES`] happens on blocking threads, so that a large body does not hold up others'
//!    connections.

use crate::config::Limits;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// Unit of the budget: fine enough for small bodies, and 256 MiB are 65,536 permits, far below a semaphore's limit.
const BUDGET_UNIT_BYTES: usize = 4 << 10;
/// First buffer for a body that does not say its length. Chosen: most requests of SDKs are smaller when compressed.
const FIRST_BUFFER_BYTES: usize = 16 << 10;
/// Inflated size up to which a body is inflated at once. Chosen: half a millisecond, while handing it to another thread and
/// back takes a tenth of one; a batch of 500 events is 107 KiB.
const SMALL_BYTES: usize = 256 << 10;
/// Largest window a zstd frame may ask for: 2^26 bytes, the default body limit; the decoder allocates it up front.
const ZSTD_WINDOW_LOG_MAX: u32 = 26;
/// How far a gzip body's word on its inflated length is believed, as a multiple of its length. Chosen: above the three- to
/// tenfold of OTLP; a buffer grows beyond it if it must.
const MAX_HINTED_RATIO: usize = 16;
/// How much of a refused body is read and thrown away, so that its sender gets to read the answer instead of a reset
/// connection. Chosen: twice the default limit.
const MAX_DISCARD_BYTES: usize = 128 << 20;
/// How long a refused body is thrown away at most.
const MAX_DISCARD_TIME: Duration = Duration::from_secs(10);

/// How the bytes of a body are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// The compression a `Content-Encoding` or `grpc-encoding` names, any letter case; absent means none.
    ///
    /// # Errors
    /// [`BodyError::UnknownEncoding`] for any other, several at once included.
    pub fn parse(value: Option<&str>) -> Result<Self, BodyError> {
        let value = value.unwrap_or("identity").trim();
        [
            ("identity", Self::Identity),
            ("", Self::Identity),
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("zstd", Self::Zstd),
        ]
        .into_iter()
        .find(|(name, _)| value.eq_ignore_ascii_case(name))
        .map(|(_, compression)| compression)
        .ok_or_else(|| BodyError::UnknownEncoding(value.chars().take(64).collect()))
    }
}

/// Why a body was refused.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Larger than the limit, as sent or inflated. The same body will never pass.
    #[error("the body is larger than {limit} bytes{}", if *inflated { " when decompressed" } else { "" })]
    TooLarge {
        /// The limit.
        limit: usize,
        /// Whether the inflated body broke it.
        inflated: bool,
    },
    /// The sender fell silent or took too long; trying again can help.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// All room for bodies is taken; trying again helps.
    #[error("too many bytes of requests are in work")]
    NoRoom,
    /// The connection broke off or its framing is damaged.
    #[error("the body broke off")]
    BrokeOff(#[source] hyper::Error),
    /// A compression this server does not know.
    #[error("content encoding {0:?} is not supported: send gzip, zstd or identity")]
    UnknownEncoding(String),
    /// The compressed data is damaged or cut.
    #[error("the body cannot be decompressed")]
    Damaged(#[source] std::io::Error),
}

/// The bytes all bodies in work may hold together. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
}

impl Budget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self { units: Arc::new(Semaphore::new(bytes.div_ceil(BUDGET_UNIT_BYTES).min(Semaphore::MAX_PERMITS))) }
    }

    /// A reservation of nothing, to be grown. Without room it grows not at all.
    pub fn reserve(&self) -> Reservation {
        self.reserve_until(Instant::now())
    }

    /// The same, but while a body is read it waits for room until `deadline`.
    pub fn reserve_until(&self, deadline: Instant) -> Reservation {
        Reservation { units: Arc::clone(&self.units), held: None, deadline }
    }
}

/// Room held in a [`Budget`] until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    units: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    deadline: Instant,
}

impl Reservation {
    /// As [`Self::grow_to`], waiting for room until the deadline. Whoever waits while holding a part may keep the others
    /// waiting, so all that will be needed is asked for at once where its size is known.
    async fn grow_in_time(&mut self, bytes: usize) -> Result<(), BodyError> {
        match self.grow_to(bytes) {
            Err(BodyError::NoRoom) if Instant::now() < self.deadline => {}
            grown => return grown,
        }
        let missing = u32::try_from(self.missing(bytes)).map_err(|_| BodyError::NoRoom)?;
        let more = timeout_at(self.deadline, Arc::clone(&self.units).acquire_many_owned(missing)).await;
        self.hold(more.map_err(|_| BodyError::NoRoom)?.map_err(|_| BodyError::NoRoom)?);
        Ok(())
    }

    /// Units missing for `bytes`.
    fn missing(&self, bytes: usize) -> usize {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        bytes.div_ceil(BUDGET_UNIT_BYTES).saturating_sub(held)
    }

    fn hold(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.held {
            Some(permit) => permit.merge(more),
            None => self.held = Some(more),
        }
    }

    /// Makes sure at least `bytes` are reserved. Never blocks.
    ///
    /// # Errors
    /// [`BodyError::NoRoom`] when the budget has not got them; what was held stays held.
    fn grow_to(&mut self, bytes: usize) -> Result<(), BodyError> {
        let missing = self.missing(bytes);
        if missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).map_err(|_| BodyError::NoRoom)?;
        self.hold(Arc::clone(&self.units).try_acquire_many_owned(missing).map_err(|_| BodyError::NoRoom)?);
        Ok(())
    }
}

/// Reads a body as it was sent.
///
/// Waits up to [`Limits::body_stall_timeout`] for each piece and [`Limits::body_timeout`] for all. The caller keeps
/// `room` for as long as it keeps the bytes.
///
/// # Errors
/// Any [`BodyError`] but the two about encodings.
pub async fn read(body: Incoming, limits: &Limits, room: &mut Reservation) -> Result<Bytes, BodyError> {
    read_announced(body, limits, room, |_| 0).await
}

/// As [`read`], for a body whose first piece tells the size of the whole, which `announces` reads there.
///
/// # Errors
/// As [`read`].
pub async fn read_announced(
    mut body: Incoming,
    limits: &Limits,
    room: &mut Reservation,
    announces: fn(&[u8]) -> usize,
) -> Result<Bytes, BodyError> {
    let limit = limits.max_body_bytes;
    let too_large = BodyError::TooLarge { limit, inflated: false };
    let announced = body.size_hint().exact().map_or(Ok(0), usize::try_from);
    let Some(announced) = announced.ok().filter(|bytes| *bytes <= limit) else {
        discard(body);
        return Err(too_large);
    };
    if let Err(error) = room.grow_in_time(announced).await {
        discard(body);
        return Err(error);
    }
    let deadline = Instant::now() + limits.body_timeout;
    let mut bytes = BytesMut::new();
    while let Some(frame) = next_frame(&mut body, limits.body_stall_timeout, deadline).await? {
        let Ok(data) = frame.into_data() else { continue };
        let told = if bytes.is_empty() { announces(&data) } else { 0 };
        let total = (bytes.len() + data.len()).max(told);
        let outcome = if total > limit { Err(too_large_again(limit)) } else { room.grow_in_time(total).await };
        if let Err(error) = outcome {
            discard(body);
            return Err(error);
        }
        if bytes.is_empty() {
            if data.len() == announced {
                // A small body comes in one piece and needs no copy.
                bytes = BytesMut::from(data);
                continue;
            }
            bytes.reserve(announced.max(FIRST_BUFFER_BYTES));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

fn too_large_again(limit: usize) -> BodyError {
    BodyError::TooLarge { limit, inflated: false }
}

async fn next_frame(
    body: &mut Incoming,
    stall: Duration,
    deadline: Instant,
) -> Result<Option<hyper::body::Frame<Bytes>>, BodyError> {
    match timeout_at(deadline, timeout(stall, body.frame())).await {
        Ok(Ok(Some(frame))) => frame.map(Some).map_err(BodyError::BrokeOff),
        Ok(Ok(None)) => Ok(None),
        Ok(Err(_)) | Err(_) => Err(BodyError::TooSlow),
    }
}

/// Reads a refused body to its end and throws it away, in a task of its own and within bounds: a sender that is still
/// sending when its connection is closed would see a reset instead of the answer.
pub fn discard(mut body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    tokio::spawn(async move {
        let discarding = async {
            let mut seen = 0_usize;
            while let Some(Ok(frame)) = body.frame().await {
                seen += frame.data_ref().map_or(0, Bytes::len);
                if seen > MAX_DISCARD_BYTES {
                    break;
                }
            }
        };
        // Out of time is as good an end as any: the answer is long sent.
        drop(timeout(MAX_DISCARD_TIME, discarding).await);
    });
}

/// The bytes behind a compressed body. `raw` itself for [`Compression::Identity`].
///
/// Runs on a blocking thread unless it is small. `room` must hold `raw`; it grows by what the inflated body needs.
///
/// # Errors
/// [`BodyError::TooLarge`], [`BodyError::NoRoom`], [`BodyError::Damaged`].
pub async fn inflate(
    raw: Bytes,
    compression: Compression,
    limit: usize,
    mut room: Reservation,
) -> Result<(Bytes, Reservation), BodyError> {
    if compression == Compression::Identity {
        return Ok((raw, room));
    }
    // A small body may inflate to a large one: then this ends at the limit, and another thread begins anew.
    if raw.len() <= SMALL_BYTES / 2 {
        match inflate_now(&raw, compression, limit.min(SMALL_BYTES), &mut room) {
            Err(BodyError::TooLarge { .. }) if limit > SMALL_BYTES => {}
            inflated => return Ok((inflated?, room)),
        }
    }
    let inflating = tokio::task::spawn_blocking(move || {
        let bytes = inflate_now(&raw, compression, limit, &mut room)?;
        Ok((bytes, room))
    });
    inflating.await.unwrap_or_else(|error| Err(BodyError::Damaged(std::io::Error::other(error))))
}

fn inflate_now(raw: &[u8], compression: Compression, limit: usize, room: &mut Reservation) -> Result<Bytes, BodyError> {
    match compression {
        Compression::Identity => Ok(Bytes::copy_from_slice(raw)),
        Compression::Gzip => {
            // The last four bytes tell the inflated length (RFC 1952, 2.3.1, ISIZE): a hint for the buffer, of a stranger.
            let told = raw.last_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length));
            let expected = usize::try_from(told).unwrap_or(0).min(raw.len().saturating_mul(MAX_HINTED_RATIO));
            read_to_limit(flate2::bufread::MultiGzDecoder::new(raw), raw.len(), expected, limit, room)
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(raw).map_err(BodyError::Damaged)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(BodyError::Damaged)?;
            // OTLP compresses three- to tenfold; four saves most copies without reserving much too much.
            read_to_limit(decoder, raw.len(), raw.len().saturating_mul(4), limit, room)
        }
    }
}

/// Reads all, into a buffer that first holds `expected` bytes.
fn read_to_limit(
    mut from: impl Read,
    raw: usize,
    expected: usize,
    limit: usize,
    room: &mut Reservation,
) -> Result<Bytes, BodyError> {
    let mut bytes = Vec::new();
    // One byte more tells the end from a buffer that happens to be full.
    let mut capacity = expected.saturating_add(1).clamp(BUDGET_UNIT_BYTES, limit.max(BUDGET_UNIT_BYTES));
    loop {
        room.grow_to(raw.saturating_add(capacity))?;
        bytes.reserve_exact(capacity - bytes.len());
        let missing = capacity - bytes.len();
        let read = from.by_ref().take(missing as u64).read_to_end(&mut bytes).map_err(BodyError::Damaged)?;
        if read < missing {
            break;
        }
        if bytes.len() > limit {
            return Err(BodyError::TooLarge { limit, inflated: true });
        }
        // One byte beyond the limit tells a body that just fits from one that does not.
        capacity = capacity.saturating_mul(2).min(limit.saturating_add(1));
        if capacity <= bytes.len() {
            return Err(BodyError::TooLarge { limit, inflated: true });
        }
    }
    if bytes.len() > limit {
        return Err(BodyError::TooLarge { limit, inflated: true });
    }
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn inflated(raw: &[u8], compression: Compression, limit: usize) -> Result<Bytes, BodyError> {
        inflate_now(raw, compression, limit, &mut Budget::new(1 << 20).reserve())
    }

    #[test]
    fn what_was_compressed_comes_back_up_to_the_limit_and_not_beyond() {
        for length in [0, 1, 4_095, 4_096, 4_097, 100_000] {
            let body: Vec<u8> = (0..length).map(|index| u8::try_from(index % 7).unwrap()).collect();
            for (raw, compression) in
                [(gzip(&body), Compression::Gzip), (zstd::encode_all(&body[..], 1).unwrap(), Compression::Zstd)]
            {
                assert_eq!(inflated(&raw, compression, length).unwrap(), body);
                assert_eq!(inflated(&raw, compression, length + 1).unwrap(), body);
                if length > 0 {
                    let error = inflated(&raw, compression, length - 1).unwrap_err();
                    assert!(matches!(error, BodyError::TooLarge { inflated: true, .. }), "{length} {error}");
                }
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit_and_not_at_its_size() {
        let raw = gzip(&vec![0; 50 << 20]);
        assert!(raw.len() < 1 << 20);
        let budget = Budget::new(1 << 20);
        let mut room = budget.reserve();
        let error = inflate_now(&raw, Compression::Gzip, 256 << 10, &mut room).unwrap_err();
        assert!(matches!(error, BodyError::TooLarge { limit: 262_144, inflated: true }));
    }

    #[test]
    fn damaged_and_cut_data_is_told_from_data_that_is_too_large() {
        let raw = gzip(b"hello hello hello");
        for bad in [&raw[..raw.len() - 3], b"nonsense", b""] {
            assert!(matches!(inflated(bad, Compression::Gzip, 100), Err(BodyError::Damaged(_))), "{bad:?}");
        }
        let raw = zstd::encode_all(&b"hello hello hello"[..], 1).unwrap();
        assert!(matches!(inflated(&raw[..raw.len() - 1], Compression::Zstd, 100), Err(BodyError::Damaged(_))));
    }

    #[test]
    fn room_is_given_back_and_never_overdrawn() {
        let budget = Budget::new(16 << 10);
        let mut one = budget.reserve();
        one.grow_to(12 << 10).unwrap();
        let mut two = budget.reserve();
        assert!(matches!(two.grow_to(8 << 10), Err(BodyError::NoRoom)));
        two.grow_to(4 << 10).unwrap();
        assert!(matches!(one.grow_to(13 << 10), Err(BodyError::NoRoom)));
        drop(two);
        one.grow_to(16 << 10).unwrap();
        drop(one);
        budget.reserve().grow_to(16 << 10).unwrap();
    }

    #[test]
    fn encodings_are_read_in_any_case_and_others_named() {
        assert_eq!(Compression::parse(None).unwrap(), Compression::Identity);
        assert_eq!(Compression::parse(Some(" GZip ")).unwrap(), Compression::Gzip);
        assert_eq!(Compression::parse(Some("zstd")).unwrap(), Compression::Zstd);
        for bad in ["br", "gzip, gzip", "deflate"] {
            assert!(matches!(Compression::parse(Some(bad)), Err(BodyError::UnknownEncoding(name)) if name == bad));
        }
    }
}
