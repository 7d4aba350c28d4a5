//! ClickHouse's HTTP interface over the engine in this process.
//!
//! In: requests of ordinary ClickHouse clients. Out: answers such a client cannot tell from a server's: results as they
//! are made, errors with ClickHouse's code, status and text, also in the middle of a result. HTTP/1 only, like
//! ClickHouse. Knows only one user.
//!
//! Invariants:
//! 1. A result uses constant memory, whatever its size: at most [`BUFFER_BYTES`] wait here, unless the client asked to
//!    wait for the end, then the rest waits in a file.
//! 2. A client that goes away cancels its statement.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::codec::{BlockReader, Coding, Decoder, Encoder, is_known};
use super::exception::{exception_code, exception_tag, exception_text, status_of};
use super::host::{Event, Host, Job, Running};
use super::library::Statistics;
use super::request::{Fields, Request, authenticate, form_boundary, random_id, read_form};
use super::result::{Next, Sender, Sent, Source, pump, send_spool, until_released};
use super::socket::Flushes;

/// Bytes of a result held back before the answer begins, so that most errors still get their status. ClickHouse's
/// own buffer is as large (`DBMS_DEFAULT_BUFFER_SIZE`).
pub(super) const BUFFER_BYTES: usize = 1 << 20;
/// Largest form taken: ClickHouse's `http_max_multipart_form_data_size`, an eighth of it, since it waits in memory.
const MAX_FORM_BYTES: usize = 128 << 20;
/// Pieces of a body or of a result that may wait between two tasks.
const QUEUE: usize = 4;
/// How much of a body is read and thrown away after its statement failed, so that the client can read why instead of
/// finding its connection closed.
const MAX_DISCARD_BYTES: usize = 256 << 20;

/// What serves every request.
#[derive(Debug)]
pub struct Interface {
    /// The engine.
    pub host: Arc<Host>,
    /// The only password.
    pub password: String,
}

/// Body of an answer: whole, or as it is made.
pub enum Answer {
    /// All of it.
    Whole(Full<Bytes>),
    /// As it is made; an error closes the connection in the middle of the body.
    Parts {
        /// The pieces.
        pieces: mpsc::Receiver<Result<Bytes, io::Error>>,
        /// An error that waits until what came before it has left, and the flushes seen when it came.
        error: Option<(io::Error, u64)>,
        /// Flushes of the connection it goes to.
        flushes: Arc<Flushes>,
    },
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never: Infallible| match never {}))),
            Self::Parts { pieces, error, flushes } => loop {
                if let Some((_, seen)) = error {
                    ready!(flushes.poll_after(*seen, cx));
                    return Poll::Ready(error.take().map(|(error, _)| Err(error)));
                }
                match ready!(pieces.poll_recv(cx)) {
                    Some(Err(found)) => *error = Some((found, flushes.count())),
                    other => return Poll::Ready(other.map(|piece| piece.map(Frame::data))),
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(body) if body.is_end_stream())
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Parts { .. } => hyper::body::SizeHint::default(),
        }
    }
}

/// Cancels the statement when it is dropped before the statement has ended.
struct Guard {
    flushes: Arc<Flushes>,
    host: Arc<Host>,
    query_id: String,
    running: Arc<Running>,
    armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            tokio::spawn(Arc::clone(&self.host).cancel(self.query_id.clone(), Arc::clone(&self.running)));
        }
    }
}

/// Gives a request's body to a thread that reads.
struct BodyReader {
    pieces: mpsc::Receiver<Result<Bytes, io::Error>>,
    current: Bytes,
}

impl Read for BodyReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.current = piece?,
            }
        }
        let length = self.current.len().min(out.len());
        let piece = self.current.split_to(length);
        out.get_mut(..length).unwrap_or_default().copy_from_slice(&piece);
        Ok(length)
    }
}

/// Passes a body on; when its reader is gone, the rest is read and thrown away.
async fn forward(mut body: Incoming, pieces: mpsc::Sender<Result<Bytes, io::Error>>) {
    let mut discarded = 0;
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => Ok(data),
                Err(_trailers) => continue,
            },
            Err(error) => Err(io::Error::other(error)),
        };
        let (failed, length) = (piece.is_err(), piece.as_ref().map_or(0, Bytes::len));
        if pieces.send(piece).await.is_err() {
            discarded += length;
        }
        if failed || discarded > MAX_DISCARD_BYTES {
            return;
        }
    }
}

impl Interface {
    /// Answers one request. Never fails: errors are answers too.
    pub async fn serve(
        self: Arc<Self>,
        request: http::Request<Incoming>,
        flushes: Arc<Flushes>,
    ) -> Result<Response<Answer>, Infallible> {
        let plain = |status: StatusCode, text: &'static str| {
            let mut response = Response::new(Answer::Whole(Full::from(text)));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=UTF-8"));
            response
        };
        let get = request.method() == Method::GET || request.method() == Method::HEAD;
        let response = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/ping" | "/replicas_status") => plain(StatusCode::OK, "Ok.\n"),
            (&Method::GET | &Method::HEAD, "/")
                if request.uri().query().is_none_or(|query| !query.contains("query=")) =>
            {
                plain(StatusCode::OK, "Ok.\n")
            }
            (&Method::GET | &Method::HEAD | &Method::POST, "/" | "/query") => self.query(request, get, flushes).await,
            (_, "/" | "/query") => plain(StatusCode::METHOD_NOT_ALLOWED, "GET or POST\n"),
            _ => plain(StatusCode::NOT_FOUND, "There is no such page. Use / with a query, or /ping.\n"),
        };
        Ok(response)
    }

    async fn query(
        self: &Arc<Self>,
        request: http::Request<Incoming>,
        get: bool,
        flushes: Arc<Flushes>,
    ) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let mut fields = Fields::from_url(parts.uri.query().unwrap_or_default());
        let early = |message: String| self.failure(&message, &random_id(), Coding::Identity);
        if let Err(message) = authenticate(&parts.headers, &fields, &self.password) {
            return early(message);
        }
        let mut tables = Vec::new();
        let mut body = Some(body);
        if let Some(boundary) = form_boundary(&parts.headers)
            && let Some(form) = body.take()
        {
            let form = match Limited::new(form, MAX_FORM_BYTES).collect().await {
                Ok(form) => form.to_bytes(),
                Err(error) => {
                    return early(format!(
                        "Code: 33. DB::Exception: Cannot read the form: {error}. (CANNOT_READ_ALL_DATA)"
                    ));
                }
            };
            match read_form(&form, &boundary, &mut fields) {
                Ok(found) => tables = found,
                Err(message) => return early(message),
            }
        }
        let mut request = Request::read(fields, &parts.headers, get);
        request.tables = tables;
        if !is_known(&request.content_encoding) {
            let message = format!(
                "Code: 1. DB::Exception: Unknown Content-Encoding '{}'. (UNSUPPORTED_METHOD)",
                request.content_encoding
            );
            return self.failure(&message, &request.query_id, request.coding);
        }
        let session = match &request.session {
            None => None,
            Some(wish) => match self.host.session(&wish.id, wish.timeout, wish.must_exist) {
                Ok(session) => Some(session),
                Err(error) => return self.failure(&error.to_string(), &request.query_id, request.coding),
            },
        };
        let reader: Box<dyn Read + Send> = match body {
            None => Box::new(io::empty()),
            Some(body) => {
                let (pieces, receiver) = mpsc::channel(QUEUE);
                tokio::spawn(forward(body, pieces));
                let reader = BodyReader { pieces: receiver, current: Bytes::new() };
                let reader = Decoder::New(request.content_encoding, reader);
                if request.decompress { Box::new(BlockReader::new(reader)) } else { Box::new(reader) }
            }
        };
        let running = Arc::new(Running::default());
        let (events, receiver) = mpsc::unbounded_channel();
        let guard = Guard {
            flushes,
            host: Arc::clone(&self.host),
            query_id: request.query_id.clone(),
            running: Arc::clone(&running),
            armed: true,
        };
        self.host.run(Job {
            query: request.query,
            body: reader,
            settings: request.settings,
            parameters: request.parameters,
            tables: request.tables,
            database: request.database,
            format: request.format,
            query_id: request.query_id,
            log_comment: request.log_comment,
            session,
            running,
            events,
        });
        self.answer(receiver, guard, request.coding, request.wait_end).await
    }

    /// Waits for the statement's events and turns them into the answer.
    async fn answer(
        self: &Arc<Self>,
        mut events: mpsc::UnboundedReceiver<Event>,
        mut guard: Guard,
        coding: Coding,
        wait_end: bool,
    ) -> Response<Answer> {
        let (mut data, mut named) = (Vec::new(), None);
        loop {
            match events.recv().await {
                Some(Event::Whole { data: found, format }) => (data, named) = (found, Some(format)),
                Some(Event::Ended(Ok(statistics))) => {
                    guard.armed = false;
                    until_released(&mut events).await;
                    return self.whole(data, named.as_deref(), &guard.query_id, coding, &statistics);
                }
                Some(Event::Ended(Err(message))) => {
                    guard.armed = false;
                    until_released(&mut events).await;
                    return self.failure(&message, &guard.query_id, coding);
                }
                Some(Event::Pipe { reader, format, release }) => {
                    let source = match pipe::Receiver::from_owned_fd(reader) {
                        Ok(pipe) => Source { pipe: Some(pipe), events, release: Some(release), ended: None },
                        Err(error) => {
                            let message = format!("Code: 75. DB::Exception: no pipe: {error}. (CANNOT_OPEN_FILE)");
                            return self.failure(&message, &guard.query_id, coding);
                        }
                    };
                    return self.stream(source, guard, &format, coding, wait_end).await;
                }
                None => {
                    guard.armed = false;
                    let message = "Code: 1001. DB::Exception: the statement ended without an answer. (STD_EXCEPTION)";
                    return self.failure(message, &guard.query_id, coding);
                }
            }
        }
    }

    /// Answers with a result as it is made; small results and early errors as a whole.
    async fn stream(
        self: &Arc<Self>,
        mut source: Source,
        mut guard: Guard,
        format: &str,
        coding: Coding,
        wait_end: bool,
    ) -> Response<Answer> {
        let mut held = Vec::new();
        let mut spool = None;
        let outcome = loop {
            match source.next().await {
                Next::Data(piece) => held.extend_from_slice(&piece),
                Next::Ended(outcome) => break Some(outcome),
            }
            if held.len() >= BUFFER_BYTES {
                if !wait_end {
                    break None;
                }
                // Memory stays bounded: what has come goes to a file.
                let file: &mut tempfile::SpooledTempFile =
                    spool.get_or_insert_with(|| tempfile::SpooledTempFile::new(BUFFER_BYTES));
                if let Err(error) = file.write_all(&held) {
                    let message =
                        format!("Code: 75. DB::Exception: no space to hold the result: {error}. (CANNOT_WRITE)");
                    return self.failure(&message, &guard.query_id, coding);
                }
                held.clear();
            }
        };
        let statistics = match outcome {
            Some(Err(message)) => {
                guard.armed = false;
                return self.failure(&message, &guard.query_id, coding);
            }
            Some(Ok(statistics)) if spool.is_none() => {
                guard.armed = false;
                return self.whole(held, Some(format), &guard.query_id, coding, &statistics);
            }
            Some(Ok(statistics)) => {
                guard.armed = false;
                Some(statistics)
            }
            None => None,
        };
        let tag = exception_tag();
        let mut response = self.head(Some(format), &guard.query_id, coding, statistics.as_ref());
        set(&mut response, "x-clickhouse-exception-tag", &tag);
        let (parts, receiver) = mpsc::channel(QUEUE);
        let version = self.host.about().version.clone();
        let flushes = Arc::clone(&guard.flushes);
        tokio::spawn(async move {
            // Whole: a block takes no more of a value than it names, and the guard must not end with this function.
            let mut guard = guard;
            let mut sender = Sender { parts, encoder: Encoder::new(coding) };
            let sent = match spool {
                Some(spool) => send_spool(spool, held, &mut sender).await,
                None => pump(source, held, &mut sender, &tag, &version).await,
            };
            // A client that is gone leaves the guard armed, which ends the statement.
            guard.armed = matches!(sent, Sent::Gone);
            match sent {
                Sent::All => sender.finish().await,
                Sent::Failed => sender.abort().await,
                Sent::Gone => {}
            }
        });
        response.map(|()| Answer::Parts { pieces: receiver, error: None, flushes })
    }

    /// Status 200 and the headers of every answer.
    fn head(
        &self,
        format: Option<&str>,
        query_id: &str,
        coding: Coding,
        statistics: Option<&Statistics>,
    ) -> Response<()> {
        let mut response = Response::new(());
        let about = self.host.about();
        set(&mut response, "x-clickhouse-query-id", query_id);
        set(&mut response, "x-clickhouse-timezone", &about.timezone);
        set(&mut response, "x-clickhouse-server-display-name", &about.host_name);
        if let Some(format) = format {
            set(&mut response, "x-clickhouse-format", format);
        }
        set(&mut response, CONTENT_TYPE.as_str(), content_type(format.unwrap_or("TabSeparated")));
        if let Some(coding) = coding.header() {
            set(&mut response, CONTENT_ENCODING.as_str(), coding);
        }
        let s = statistics.copied().unwrap_or_default();
        let nanoseconds = Duration::try_from_secs_f64(s.elapsed).unwrap_or_default().as_nanos();
        let summary = format!(
            "{{\"read_rows\":\"{}\",\"read_bytes\":\"{}\",\"written_rows\":\"{}\",\"written_bytes\":\"{}\",\
             \"total_rows_to_read\":\"0\",\"result_rows\":\"{}\",\"result_bytes\":\"{}\",\"elapsed_ns\":\"{nanoseconds}\"}}",
            s.read_rows, s.read_bytes, s.written_rows, s.written_bytes, s.result_rows, s.result_bytes
        );
        set(&mut response, "x-clickhouse-summary", &summary);
        response
    }

    fn whole(
        &self,
        data: Vec<u8>,
        format: Option<&str>,
        query_id: &str,
        coding: Coding,
        statistics: &Statistics,
    ) -> Response<Answer> {
        // An empty body carries no coding: some clients refuse to undo one over nothing.
        let coding = if data.is_empty() { Coding::Identity } else { coding };
        match encode(data, coding) {
            Ok(data) => self
                .head(format, query_id, coding, Some(statistics))
                .map(|()| Answer::Whole(Full::from(Bytes::from(data)))),
            Err(error) => {
                let message =
                    format!("Code: 1001. DB::Exception: cannot compress the answer: {error}. (STD_EXCEPTION)");
                self.failure(&message, query_id, Coding::Identity)
            }
        }
    }

    /// Answers with an error as ClickHouse sends it.
    fn failure(&self, message: &str, query_id: &str, coding: Coding) -> Response<Answer> {
        let code = exception_code(message);
        let text = exception_text(message, &self.host.about().version);
        let (data, coding) = match encode(text.clone().into_bytes(), coding) {
            Ok(data) => (data, coding),
            Err(_) => (text.into_bytes(), Coding::Identity),
        };
        let mut response = self.head(None, query_id, coding, None);
        set(&mut response, CONTENT_TYPE.as_str(), "text/plain; charset=UTF-8");
        set(&mut response, "x-clickhouse-exception-code", &code.to_string());
        *response.status_mut() = status_of(code);
        response.map(|()| Answer::Whole(Full::from(Bytes::from(data))))
    }
}

fn encode(data: Vec<u8>, coding: Coding) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::new(coding)?;
    let mut out = encoder.push(data)?;
    out.extend(encoder.finish()?);
    Ok(out)
}

fn set<B>(response: &mut Response<B>, name: &str, value: &str) {
    // A client's own query id can hold bytes no header may; then it goes without.
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        response.headers_mut().insert(name, value);
    }
}

/// Media type of a format, as ClickHouse names it.
fn content_type(format: &str) -> &'static str {
    match format {
        "JSONEachRow" | "JSONCompactEachRow" | "JSONStringsEachRow" => "application/x-ndjson; charset=UTF-8",
        _ if format.starts_with("JSON") => "application/json; charset=UTF-8",
        _ if format.starts_with("CSVWithNames") => "text/csv; charset=UTF-8; header=present",
        _ if format.starts_with("CSV") => "text/csv; charset=UTF-8; header=absent",
        _ if format.starts_with("TabSeparated") || format.starts_with("TSV") => {
            "text/tab-separated-values; charset=UTF-8"
        }
        "XML" => "application/xml; charset=UTF-8",
        _ if format.starts_with("RowBinary") => "application/octet-stream",
        "Native" | "Parquet" | "Arrow" | "ArrowStream" | "ORC" | "Avro" | "MsgPack" => "application/octet-stream",
        _ => "text/plain; charset=UTF-8",
    }
}
