//! The attribute macro of the Gemba SDK: a function as an attempt.
//!
//! In: `#[gemba::instrument("invoice.send", key = value, ..)]` on a function. Out: the same function whose body, or the future it
//! gives, runs inside an attempt. It only rewrites the body; names and values are checked by the macros it calls.

mod args;
mod expand;
mod future;

use proc_macro::TokenStream;

/// Makes each call of the function an attempt at a feature.
///
/// `Ok` and plain values are completed, `Err` is failed with the error's type name, a panic is panicked, and a future dropped before
/// it is ready is cancelled. Attributes after the name may use the function's arguments.
///
/// ```
/// #[gemba::instrument("invoice.send", lines = lines.len())]
/// async fn send(lines: Vec<String>) -> Result<(), std::io::Error> {
///     Ok(())
/// }
/// # drop(send(Vec::new()));
/// ```
///
/// # Functions that give a future
///
/// The attempt is the work of the future: of each `async fn`, and of
/// - methods under `#[async_trait]` and all functions whose body ends with `async { .. }` or `Box::pin(async { .. })`. The attempt
///   begins with the first poll, when its attributes are evaluated too. The block takes what it uses, as if it said `move`;
/// - other bodies where the type is written as `impl Future`, `Pin<Box<dyn Future>>`, `BoxFuture` or `LocalBoxFuture`. The attempt
///   begins with the call; what the body does before it has a future is part of it. A boxed future is boxed once more.
///
/// Any other future (behind an alias, of a named type such as `JoinHandle`, of a type parameter) does not compile, because its work
/// would not be seen. A stream is no future: giving one completes.
///
/// ```
/// use std::future::Future;
///
/// #[gemba::instrument("invoice.send", lines = lines.len())]
/// fn send(lines: Vec<String>) -> impl Future<Output = Result<(), std::io::Error>> + Send {
///     async move { Ok(drop(lines)) }
/// }
/// # drop(send(Vec::new()));
/// ```
///
/// # What is judged
///
/// What comes back is judged by `gemba::Outcome` where its type, as the function names it, implements that; else it is completed. So
/// a type parameter `T` is completed, also where a caller makes a `Result` of it, unless its bounds say `T: gemba::Outcome`. Of nested
/// types the outermost counts: `Ok(None)` is completed.
#[proc_macro_attribute]
pub fn instrument(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = syn::parse(arguments)
        .and_then(|arguments: args::Arguments| Ok((arguments, syn::parse::<syn::ItemFn>(item)?)))
        .map(|(arguments, function)| expand::function(&arguments, function));
    expanded.unwrap_or_else(|error| error.to_compile_error()).into()
}
