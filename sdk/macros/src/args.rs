//! The arguments of the attribute: a literal name, then attributes handed to `attempt!` as they are.

use gemba_conventions::is_valid_name;
use proc_macro2::TokenStream;
use syn::parse::{Parse, ParseStream};
use syn::{LitStr, Token};

/// `"invoice.send", key = value, ..`
pub(crate) struct Arguments {
    pub(crate) name: LitStr,
    /// Everything behind the name, with its leading comma.
    pub(crate) attributes: TokenStream,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if !input.peek(LitStr) {
            return Err(input.error("expected the feature's name: #[gemba::instrument(\"invoice.send\")]"));
        }
        let name: LitStr = input.parse()?;
        if !is_valid_name(&name.value()) {
            return Err(syn::Error::new(
                name.span(),
                "the name of a feature is lower-case words joined by dots, such as `search.filter`: \
                 [a-z0-9_]+(\\.[a-z0-9_]+)*, at most 128 bytes",
            ));
        }
        if !input.is_empty() && !input.peek(Token![,]) {
            return Err(input.error("expected `,` and attributes: #[gemba::instrument(\"invoice.send\", lines = n)]"));
        }
        Ok(Self { name, attributes: input.parse()? })
    }
}
