//! What the wrappers of database crates share.
//!
//! In: the text a wrapper is about to execute, and what comes of it. Out: which query that is, and streams of rows that
//! count themselves. What a crate's errors and rows mean is each wrapper's own.

#[cfg(any(feature = "sea-orm", feature = "tokio-postgres"))]
pub(crate) use stream::start;
#[cfg(any(feature = "sqlx", feature = "tokio-postgres"))]
pub(crate) use stream::{Reading, TimedStream};

use super::Dialect;
use super::known;
use super::table::Code;
use super::timing::{self, Begin, Subject};
use crate::state;

/// Which query a text is; none when nobody counts it, or when a query around it counts, which then learns the text.
pub(crate) fn subject(dialect: Dialect, sql: &str) -> Subject {
    if !state::is_recording() {
        return Subject::Nothing;
    }
    if let Some(outer) = timing::outer() {
        outer.learn_text(dialect, sql);
        return Subject::Nothing;
    }
    Subject::Known(known::by_text(dialect, sql))
}

/// What is needed to begin the query with this text, from this line of code.
pub(crate) fn begin(dialect: Dialect, sql: &str, code: impl Into<Code>) -> Begin {
    Begin { query: subject(dialect, sql), code: code.into() }
}

#[cfg(any(feature = "sqlx", feature = "tokio-postgres"))]
mod stream {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures_core::Stream;
    use pin_project_lite::pin_project;

    use super::super::timing::{Begin, QueryEnd, Running};

    /// What a crate's items and errors mean.
    #[derive(Debug)]
    pub(crate) struct Reading<T, E> {
        /// Rows that came with an item: 0 for the result of a statement.
        pub(crate) rows: fn(&T) -> u64,
        pub(crate) failure: fn(&E) -> QueryEnd,
    }

    impl<T, E> Clone for Reading<T, E> {
        fn clone(&self) -> Self {
            *self
        }
    }

    impl<T, E> Copy for Reading<T, E> {}

    pin_project! {
        /// The rows of a query that count themselves. Dropped after the first came, the reader has seen enough, which is no
        /// failure; dropped before, it counts as cancelled. Whenever its own poll does not return, it panicked.
        #[derive(Debug)]
        pub(crate) struct TimedStream<S, T, E> {
            #[pin]
            stream: S,
            begin: Begin,
            // Set from the first poll on.
            running: Option<Running>,
            rows: u64,
            has_yielded: bool,
            reading: Reading<T, E>,
        }

        impl<S, T, E> PinnedDrop for TimedStream<S, T, E> {
            fn drop(this: Pin<&mut Self>) {
                let this = this.project();
                if let Some(running) = this.running && *this.has_yielded {
                    running.end_read(*this.rows);
                }
            }
        }
    }

    impl<S, T, E> TimedStream<S, T, E> {
        /// A stream that begins with its first poll.
        #[cfg(feature = "sqlx")]
        pub(crate) fn new(stream: S, begin: Begin, reading: Reading<T, E>) -> Self {
            Self { stream, begin, running: None, rows: 0, has_yielded: false, reading }
        }

        /// The stream inside.
        #[cfg(feature = "tokio-postgres")]
        pub(crate) fn inner(&self) -> &S {
            &self.stream
        }
    }

    impl<S: Stream<Item = Result<T, E>>, T, E> Stream for TimedStream<S, T, E> {
        type Item = Result<T, E>;

        fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            let this = self.project();
            let begin = *this.begin;
            let running = this.running.get_or_insert_with(|| begin.begin());
            let polled = running.poll(|| this.stream.poll_next(cx));
            match &polled {
                Poll::Pending => running.wait(),
                Poll::Ready(None) => running.end(QueryEnd::done(Some(*this.rows))),
                Poll::Ready(Some(Err(error))) => {
                    running.end(QueryEnd { rows: Some(*this.rows), ..(this.reading.failure)(error) });
                }
                Poll::Ready(Some(Ok(item))) => {
                    *this.has_yielded = true;
                    *this.rows += (this.reading.rows)(item);
                    running.wait();
                }
            }
            polled
        }
    }

    /// A query whose rows come after a first answer: timed from the first poll of `future` to the end of its rows.
    #[cfg(any(feature = "sea-orm", feature = "tokio-postgres"))]
    pub(crate) async fn start<F, S, T, E>(
        begin: Begin,
        future: F,
        reading: Reading<T, E>,
    ) -> Result<TimedStream<S, T, E>, E>
    where
        F: Future<Output = Result<S, E>>,
    {
        let mut running = begin.begin();
        let mut future = std::pin::pin!(future);
        let answer = std::future::poll_fn(|cx| {
            let polled = running.poll(|| future.as_mut().poll(cx));
            // Ready too: its rows are polled next, if ever.
            running.wait();
            polled
        })
        .await;
        match answer {
            Ok(stream) => {
                let running = Some(running);
                Ok(TimedStream { stream, begin, running, rows: 0, has_yielded: false, reading })
            }
            Err(error) => {
                running.end((reading.failure)(&error));
                Err(error)
            }
        }
    }
}
