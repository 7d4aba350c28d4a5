//! `GET /api/v1/export/TABLE`: the rows of a project, streamed.
//!
//! In: a read key, a range of event time (`from`, `to`, `tz`; everything where they are missing), `format=ndjson|csv`. Out:
//! the rows, oldest first, with their number in the header `gemba-rows`. What was acknowledged before the request is in
//! it. A body that breaks off is not whole: HTTP tells the two apart. The project's number comes from the key.

use super::error::ApiError;
use super::query::only;
use super::{App, Body, Request, Response, auth, health, query_pairs};
use crate::clock;
use crate::store::StoreError;
use crate::store::export::{self, Exported, Form, Slice, TABLES};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt as _;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Header with the number of rows that follow.
pub const ROWS: &str = "gemba-rows";
/// Pieces that may wait for a client that reads slowly. Chosen: a piece is at most some hundred kilobytes.
const QUEUED_PIECES: usize = 4;

/// What comes from ClickHouse.
type Piece = Result<Bytes, StoreError>;

/// Answers the request; `name` is the table.
pub async fn export(app: &Arc<App>, name: &str, request: Request) -> Result<Response, ApiError> {
    only(&request, &Method::GET)?;
    let project = auth::read(&app.control, request.headers(), request.uri().query())?;
    let table = TABLES.iter().find(|table| table.name == name).ok_or_else(|| unknown_table(name))?;
    let mut form = Form::NdJson;
    let mut given = BTreeMap::new();
    for (key, value) in query_pairs(request.uri().query()) {
        match (key.as_str(), value.as_str()) {
            // The key itself, for those who cannot set a header.
            ("key", _) => {}
            ("format", "ndjson") => form = Form::NdJson,
            ("format", "csv") => form = Form::Csv,
            ("format", other) => {
                let message = format!("unknown format {other:?} of an export");
                return Err(ApiError::new(
                    StatusCode::BAD_REQUEST,
                    "invalid_parameter",
                    message,
                    "formats: ndjson, csv",
                ));
            }
            _ => drop(given.insert(key, value)),
        }
    }
    let range = gemba_queries::param::range_ms(&given, clock::now_ms())?;
    health::flushed(app).await?;
    let slices = export::slices(&app.store, project.id.0, table, range).await?;
    let total: u64 = slices.iter().map(|slice| slice.rows).sum();
    let (pieces, mut receiver) = mpsc::channel(QUEUED_PIECES);
    tokio::spawn(send(Arc::clone(app), project.id.0, table, slices, form, pieces));
    // A refusal that comes at once can still be told properly.
    let first = receiver.recv().await.transpose()?;
    let body: Body = Pieces { first, receiver }.boxed_unsync();
    let mut response = http::Response::new(body);
    let content_type = match form {
        Form::NdJson => "application/x-ndjson",
        Form::Csv => "text/csv; charset=utf-8",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(ROWS, HeaderValue::from(total));
    Ok(response)
}

/// Sends slice after slice until all are sent, one fails, or nobody reads any more.
async fn send(
    app: Arc<App>,
    project: u32,
    table: &'static Exported,
    slices: Vec<Slice>,
    form: Form,
    pieces: mpsc::Sender<Piece>,
) {
    for (index, slice) in slices.into_iter().enumerate() {
        if pieces.is_closed() {
            return;
        }
        if let Err(error) = send_slice(&app, project, table, slice, (form, index == 0), &pieces).await {
            tracing::warn!(error = super::error::chain(&error), "an export broke off");
            // Nobody reads any more if this fails.
            drop(pieces.send(Err(error)).await);
            return;
        }
    }
}

async fn send_slice(
    app: &App,
    project: u32,
    table: &Exported,
    slice: Slice,
    (form, is_first): (Form, bool),
    pieces: &mpsc::Sender<Piece>,
) -> Result<(), StoreError> {
    // Between two slices other exports get their turn.
    let Ok(_turn) = app.exports.acquire().await else { return Err(StoreError::Timeout) };
    let mut cursor = export::rows(&app.store, project, table, slice, form, is_first)?;
    while let Some(piece) = cursor.next().await? {
        if pieces.send(Ok(piece)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// A body of pieces as they come.
#[derive(Debug)]
struct Pieces {
    first: Option<Bytes>,
    receiver: mpsc::Receiver<Piece>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let piece = std::task::ready!(self.receiver.poll_recv(context));
        Poll::Ready(piece.map(|piece| piece.map(Frame::data).map_err(std::io::Error::other)))
    }
}

fn unknown_table(name: &str) -> ApiError {
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    let message = format!("there is no table {name:?} to export");
    ApiError::new(StatusCode::NOT_FOUND, "unknown_table", message, format!("tables: {}", names.join(", ")))
}
