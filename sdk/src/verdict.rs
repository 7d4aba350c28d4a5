//! What a result says about the attempt that gave it.
//!
//! In: a result of the application. Out: a [`Verdict`]. It records nothing.

/// How an attempt ended, by its result.
///
/// ```
/// use gemba::Verdict;
/// let judge = |found: &Vec<u32>| if found.is_empty() { Verdict::Abandoned } else { Verdict::Completed };
/// gemba::attempt!("search.run").run_with(|| vec![7], judge);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It did what the user wanted.
    Completed,
    /// It did not; the word is a type name or a declared kind, never a message.
    Failed(&'static str),
    /// The user gave it up.
    Abandoned,
}

/// Results that say how an attempt ended.
///
/// Implemented for `Result` (`Err` failed, by its type name), `Option` (`None` failed, kind `none`), `()` (completed), and with
/// feature `http` for `http::Response` (status 500 and above failed). What is inside does not matter: `Ok(None)` and an `Ok` with
/// status 500 are completed. For other types, and to look inside, use [`run_with`](crate::Attempt::run_with).
///
/// ```
/// use gemba::{Outcome, Verdict};
/// enum Answer { Found, Nothing }
/// impl Outcome for Answer {
///     fn verdict(&self) -> Verdict {
///         match self {
///             Self::Found => Verdict::Completed,
///             Self::Nothing => Verdict::Failed("nothing_found"),
///         }
///     }
/// }
/// gemba::attempt!("search.run").run(|| Answer::Nothing);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how an attempt ended",
    note = "return a Result, an Option or (), implement `gemba::Outcome`, or use `run_with` / `run_async_with`"
)]
pub trait Outcome {
    /// The verdict of this result.
    fn verdict(&self) -> Verdict;
}

impl<T, E> Outcome for Result<T, E> {
    fn verdict(&self) -> Verdict {
        match self {
            Ok(_) => Verdict::Completed,
            Err(_) => Verdict::Failed(std::any::type_name::<E>()),
        }
    }
}

impl<T> Outcome for Option<T> {
    fn verdict(&self) -> Verdict {
        match self {
            Some(_) => Verdict::Completed,
            None => Verdict::Failed("none"),
        }
    }
}

impl Outcome for () {
    fn verdict(&self) -> Verdict {
        Verdict::Completed
    }
}

#[cfg(feature = "http")]
impl<B> Outcome for http::Response<B> {
    fn verdict(&self) -> Verdict {
        if self.status().is_server_error() { Verdict::Failed("http_5xx") } else { Verdict::Completed }
    }
}

/// How `#[gemba::instrument]` judges any result: by [`Outcome`] where the type implements it, else as completed. A future that
/// nobody awaits is no result and does not compile.
#[doc(hidden)]
pub mod judge {
    use super::{Outcome, Verdict};
    use std::future::IntoFuture;

    /// Wraps a reference to a result; the method that fits best is found by the number of references before it.
    #[derive(Debug)]
    pub struct Judged<'a, T>(pub &'a T);

    /// For types that say how the attempt ended.
    pub trait ByOutcome {
        /// The verdict.
        fn verdict(&self) -> Verdict;
    }

    impl<T: Outcome> ByOutcome for &&Judged<'_, T> {
        fn verdict(&self) -> Verdict {
            self.0.verdict()
        }
    }

    /// For futures that came back in place of what they come to: always refused, since nothing is an [`Answer`].
    pub trait ByFuture<T> {
        /// Never called.
        fn verdict(&self) -> Verdict
        where
            Seen: Answer<T>;
    }

    impl<T: IntoFuture> ByFuture<T> for &Judged<'_, T> {
        fn verdict(&self) -> Verdict
        where
            Seen: Answer<T>,
        {
            Verdict::Completed
        }
    }

    /// Implemented by nothing: a requirement for the sake of its message.
    #[diagnostic::on_unimplemented(
        message = "`{T}` is a future: the attempt would end before its work begins",
        label = "a future whose work `instrument` does not see",
        note = "make it an `async fn`, end the body with `async move {{ .. }}` or `Box::pin(async move {{ .. }})`, or write the \
                type as `impl Future`, `Pin<Box<dyn Future>>` or `BoxFuture`",
        note = "or without the attribute: `gemba::attempt!(..).run_async(..)` around the future, or `run_with` where making it \
                is the feature"
    )]
    pub trait Answer<T> {}

    /// What `instrument` sees.
    #[derive(Debug)]
    pub enum Seen {}

    /// For all others: it came back, so it completed.
    pub trait ByReturn {
        /// The verdict.
        fn verdict(&self) -> Verdict;
    }

    impl<T> ByReturn for Judged<'_, T> {
        fn verdict(&self) -> Verdict {
            Verdict::Completed
        }
    }
}
