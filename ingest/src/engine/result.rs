//! A result on its way from the engine to the client.
//!
//! In: the engine's pipe and events. Out: compressed pieces in a queue. Holds a few pieces, never the result.

use std::io::{self, Read, Seek};

use bytes::Bytes;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use super::codec::Encoder;
use super::exception::exception_text;
use super::host::Event;
use super::http::BUFFER_BYTES;
use super::library::Statistics;

/// Bytes read from a result at once. Chosen: a quarter of the pipe, so that the engine writes while we send.
const PIECE_BYTES: usize = 256 << 10;

/// What comes next of a result.
pub(super) enum Next {
    Data(Vec<u8>),
    Ended(Result<Statistics, String>),
}

/// A result as it is made.
pub(super) struct Source {
    pub(super) pipe: Option<pipe::Receiver>,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    pub(super) release: Option<oneshot::Sender<()>>,
    /// The statement's end, seen while the pipe still holds data.
    pub(super) ended: Option<Result<Statistics, String>>,
}

impl Source {
    /// The next piece, or the end.
    pub(super) async fn next(&mut self) -> Next {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        loop {
            if let (Some(_), Some(pipe)) = (&self.ended, &self.pipe) {
                // Everything the engine wrote is in the pipe by now. After an error it keeps the pipe open, so the end
                // is where nothing more is to be had. Read past tokio, which tries only when it has been told of data.
                piece.resize(PIECE_BYTES, 0);
                match rustix::io::read(pipe, &mut piece) {
                    Ok(read) if read > 0 => {
                        piece.truncate(read);
                        return Next::Data(piece);
                    }
                    Err(rustix::io::Errno::INTR) => continue,
                    _ => self.pipe = None,
                }
            }
            if self.pipe.is_none() || self.ended.is_some() {
                self.pipe = None;
                self.release = None;
                until_released(&mut self.events).await;
                let lost = || Err("Code: 1001. DB::Exception: the statement was lost. (STD_EXCEPTION)".into());
                return Next::Ended(self.ended.take().unwrap_or_else(lost));
            }
            let Some(pipe) = &self.pipe else { continue };
            tokio::select! {
                ready = pipe.readable() => match ready.and_then(|()| pipe.try_read_buf(&mut piece)) {
                    Ok(read) if read > 0 => return Next::Data(piece),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // All writers are gone: only the end is left to come.
                    _ => self.ended = Some(self.end().await),
                },
                ended = Self::end_of(&mut self.events) => self.ended = Some(ended),
            }
        }
    }

    async fn end(&mut self) -> Result<Statistics, String> {
        Self::end_of(&mut self.events).await
    }

    async fn end_of(events: &mut mpsc::UnboundedReceiver<Event>) -> Result<Statistics, String> {
        loop {
            match events.recv().await {
                Some(Event::Ended(outcome)) => return outcome,
                Some(_) => {}
                None => return Err("Code: 1001. DB::Exception: the statement was lost. (STD_EXCEPTION)".into()),
            }
        }
    }
}

/// Waits until the statement's connection is closed or its session free again, which the events' end tells: a client
/// that has its answer may use its session at once.
pub(super) async fn until_released(events: &mut mpsc::UnboundedReceiver<Event>) {
    while events.recv().await.is_some() {}
}

/// The way to the client.
pub(super) struct Sender {
    pub(super) parts: mpsc::Sender<Result<Bytes, io::Error>>,
    pub(super) encoder: io::Result<Encoder>,
}

impl Sender {
    /// Sends a piece; false when the client is gone.
    pub(super) async fn send(&mut self, data: Vec<u8>) -> bool {
        let encoded = match &mut self.encoder {
            Ok(encoder) => encoder.push(data),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        match encoded {
            Ok(data) if data.is_empty() => true,
            other => self.parts.send(other.map(Bytes::from)).await.is_ok(),
        }
    }

    pub(super) async fn finish(self) {
        let last = self.encoder.and_then(Encoder::finish);
        if !matches!(&last, Ok(data) if data.is_empty()) {
            // A client that is gone by now has all of the result or does not want it.
            drop(self.parts.send(last.map(Bytes::from)).await);
        }
    }

    /// Breaks the body off, so that no client takes it for whole.
    pub(super) async fn abort(self) {
        drop(self.parts.send(Err(io::Error::other("the statement failed"))).await);
    }
}

/// How sending a result ended.
pub(super) enum Sent {
    /// The client has all of it.
    All,
    /// The statement failed in the middle, and the client has been told.
    Failed,
    /// The client is gone.
    Gone,
}

/// Sends a result that waited in a file.
pub(super) async fn send_spool(mut spool: tempfile::SpooledTempFile, rest: Vec<u8>, sender: &mut Sender) -> Sent {
    if spool.rewind().is_err() {
        return Sent::Failed;
    }
    loop {
        let mut piece = Vec::with_capacity(BUFFER_BYTES);
        let limit = u64::try_from(BUFFER_BYTES).unwrap_or(u64::MAX);
        match Read::by_ref(&mut spool).take(limit).read_to_end(&mut piece) {
            Ok(0) => return if sender.send(rest).await { Sent::All } else { Sent::Gone },
            Ok(_) if sender.send(piece).await => {}
            Ok(_) => return Sent::Gone,
            Err(_) => return Sent::Failed,
        }
    }
}

/// Sends a result as it is made. After an error in the middle the client gets the error behind the data, framed as
/// ClickHouse 25.11 and later do it, and then a broken body.
pub(super) async fn pump(mut source: Source, held: Vec<u8>, sender: &mut Sender, tag: &str, version: &str) -> Sent {
    if !sender.send(held).await {
        return Sent::Gone;
    }
    loop {
        let next = tokio::select! {
            next = source.next() => next,
            () = sender.parts.closed() => return Sent::Gone,
        };
        match next {
            Next::Data(piece) => {
                if !sender.send(piece).await {
                    return Sent::Gone;
                }
            }
            Next::Ended(Ok(_)) => return Sent::All,
            Next::Ended(Err(message)) => {
                let text = exception_text(&message, version);
                let length = text.len();
                let framed = format!("\r\n__exception__\r\n{tag}\r\n{text}{length} {tag}\r\n__exception__\r\n");
                return if sender.send(framed.into_bytes()).await { Sent::Failed } else { Sent::Gone };
            }
        }
    }
}
