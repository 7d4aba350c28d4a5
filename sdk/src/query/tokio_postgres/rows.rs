//! The rows of a query as they come.
//!
//! In: a stream of tokio-postgres that counts itself. Out: the same rows, and how many there were.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::tokio_postgres::{self as postgres, Error, Row};
use futures_core::Stream;
use pin_project_lite::pin_project;

use super::super::wrap::{Reading, TimedStream};
use super::failure;

pub(super) const READING: Reading<Row, Error> = Reading { rows: |_| 1, failure };

pin_project! {
    /// The rows of a query as they come; made by [`Timed::query_raw`](super::Timed::query_raw).
    ///
    /// # Examples
    /// ```
    /// use futures_core::Stream as _;
    /// use gemba::tokio_postgres::RowStream;
    /// use std::pin::Pin;
    /// async fn titles(mut rows: Pin<&mut RowStream>) -> Result<Vec<String>, tokio_postgres::Error> {
    ///     let mut titles = Vec::new();
    ///     while let Some(row) = std::future::poll_fn(|cx| rows.as_mut().poll_next(cx)).await {
    ///         titles.push(row?.try_get(0)?);
    ///     }
    ///     Ok(titles)
    /// }
    /// ```
    pub struct RowStream {
        #[pin]
        rows: TimedStream<postgres::RowStream, Row, Error>,
    }
}

impl RowStream {
    pub(super) const fn new(rows: TimedStream<postgres::RowStream, Row, Error>) -> Self {
        Self { rows }
    }
}

impl fmt::Debug for RowStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream").finish_non_exhaustive()
    }
}

impl RowStream {
    /// Rows the statement changed or returned; known when the stream has ended.
    ///
    /// # Examples
    /// ```
    /// # async fn example(db: gemba::tokio_postgres::Timed<tokio_postgres::Client>) -> Result<(), tokio_postgres::Error> {
    /// let rows = db.query_raw("SELECT title FROM card WHERE id < $1", [7_i64]).await?;
    /// assert_eq!(rows.rows_affected(), None, "no row was read");
    /// # Ok(())
    /// # }
    /// ```
    pub fn rows_affected(&self) -> Option<u64> {
        self.rows.inner().rows_affected()
    }
}

impl Stream for RowStream {
    type Item = Result<Row, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.project().rows.poll_next(cx)
    }
}
