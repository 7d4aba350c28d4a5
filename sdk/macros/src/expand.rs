//! The function around its body: the body becomes the work of an attempt.

use crate::args::Arguments;
use crate::future::{self, Holds};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::spanned::Spanned as _;
use syn::{Block, ItemFn, ReturnType, Token, Type};

/// The rewritten function.
pub(crate) fn function(arguments: &Arguments, mut function: ItemFn) -> TokenStream {
    rewrite(arguments, &mut function).map_or_else(|error| error.to_compile_error(), |()| quote!(#function))
}

fn rewrite(arguments: &Arguments, function: &mut ItemFn) -> syn::Result<()> {
    let Arguments { name, attributes } = arguments;
    let output = match &function.sig.output {
        ReturnType::Type(_, output) => Some((**output).clone()),
        ReturnType::Default => None,
    };
    let attempt = quote!(::gemba::attempt!(#name #attributes));
    let judge = judge(output.as_ref());
    // The type is named, so that `?` and `return` in the body know what they convert to.
    let typed = output.clone().map(future::nameable);
    if function.sig.asyncness.is_some() {
        *function.block = awaited(&attempt, &function.block, typed, &judge)?;
        return Ok(());
    }
    // As an `async fn`, of which this is another way to write it: the attempt begins with the first poll.
    if let Some(made) = future::only_async(&mut function.block) {
        let typed = output.and_then(future::output);
        made.block = awaited(&attempt, &made.block, typed, &judge)?;
        made.capture.get_or_insert_with(|| Token![move](Span::call_site()));
        return Ok(());
    }
    let body = &function.block;
    let typed = typed.map(|output| quote!(-> #output));
    let work = quote!(move || #typed #body);
    let wrapped = match output.as_ref().and_then(future::held) {
        // Something is done before there is a future: the attempt begins with the call.
        Some(Holds::Opaque) => quote!({ #attempt.run_making_with(#work, #judge) }),
        Some(Holds::Boxed) => quote!({ ::std::boxed::Box::pin(#attempt.run_making_with(#work, #judge)) }),
        None => quote!({ #attempt.run_with(#work, #judge) }),
    };
    *function.block = syn::parse2(wrapped)?;
    Ok(())
}

/// The body of something `async`, as an attempt that is awaited. `output` is what it comes to, where that can be named.
fn awaited(attempt: &TokenStream, body: &Block, output: Option<Type>, judge: &TokenStream) -> syn::Result<Block> {
    let work = match output {
        Some(output) if !matches!(output, Type::Infer(_)) => quote! {
            let __gemba_output: #output = #body;
            #[allow(unreachable_code, reason = "the body may return")]
            __gemba_output
        },
        _ => quote!(#body),
    };
    syn::parse2(quote!({ #attempt.run_async_with(async move { #work }, #judge).await }))
}

/// The closure that judges what came back.
fn judge(output: Option<&Type>) -> TokenStream {
    // Where it cannot be judged, the compiler points at the type.
    let place = output.map_or_else(Span::call_site, |output| Span::call_site().located_at(output.span()));
    let verdict = Ident::new("verdict", place);
    quote! {
        |__gemba_output| {
            #[allow(unused_imports, reason = "only one of the three fits the type")]
            use ::gemba::__private::judge::{ByFuture as _, ByOutcome as _, ByReturn as _, Judged};
            #[allow(clippy::needless_borrow, reason = "the borrows select the best fit")]
            (&&&Judged(__gemba_output)).#verdict()
        }
    }
}
