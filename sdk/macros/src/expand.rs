//! The function around its body: the body becomes the work of an attempt.

use crate::args::Arguments;
use proc_macro2::TokenStream;
use quote::quote;
use syn::{ItemFn, ReturnType};

/// The rewritten function.
pub(crate) fn function(arguments: &Arguments, mut function: ItemFn) -> TokenStream {
    let Arguments { name, attributes } = arguments;
    let body = &function.block;
    // The type is named, so that `?` and `return` in the body know what they convert to. `impl Trait` cannot be named there.
    let typed = match &function.sig.output {
        ReturnType::Type(_, output) if !matches!(**output, syn::Type::ImplTrait(_)) => quote!(-> #output),
        _ => quote!(),
    };
    let judge = quote! {
        |__gemba_output| {
            #[allow(unused_imports, reason = "only one of the two fits the type")]
            use ::gemba::__private::judge::{ByOutcome as _, ByReturn as _, Judged};
            #[allow(clippy::needless_borrow, reason = "the borrow selects the better fit")]
            (&Judged(__gemba_output)).verdict()
        }
    };
    let wrapped = if function.sig.asyncness.is_some() {
        let output = match &function.sig.output {
            ReturnType::Type(_, output) if !matches!(**output, syn::Type::ImplTrait(_)) => {
                quote!(let __gemba_output: #output = #body; #[allow(unreachable_code, reason = "the body may return")] __gemba_output)
            }
            _ => quote!(#body),
        };
        quote!({
            ::gemba::attempt!(#name #attributes).run_async_with(async move { #output }, #judge).await
        })
    } else {
        quote!({
            ::gemba::attempt!(#name #attributes).run_with(move || #typed #body, #judge)
        })
    };
    match syn::parse2(wrapped) {
        Ok(block) => function.block = block,
        Err(error) => return error.to_compile_error(),
    }
    quote!(#function)
}
