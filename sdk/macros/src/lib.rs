//! The attribute macro of the Gemba SDK: a function as an attempt.
//!
//! In: `#[gemba::instrument("invoice.send", key = value, ..)]` on a function. Out: the same function whose body runs inside
//! an attempt. It only rewrites the body; names and values are checked by the macros it calls.

mod args;
mod expand;

use proc_macro::TokenStream;

/// Makes each call of the function an attempt at a feature.
///
/// `Ok` and plain values are completed, `Err` is failed with the error's type name, a panic is panicked, and for an `async fn` a
/// future dropped before it is ready is cancelled. Attributes after the name may use the function's arguments.
///
/// ```
/// #[gemba::instrument("invoice.send", lines = lines.len())]
/// async fn send(lines: Vec<String>) -> Result<(), std::io::Error> {
///     Ok(())
/// }
/// # drop(send(Vec::new()));
/// ```
#[proc_macro_attribute]
pub fn instrument(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = syn::parse(arguments)
        .and_then(|arguments: args::Arguments| Ok((arguments, syn::parse::<syn::ItemFn>(item)?)))
        .map(|(arguments, function)| expand::function(&arguments, function));
    expanded.unwrap_or_else(|error| error.to_compile_error()).into()
}
