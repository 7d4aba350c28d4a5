//! The macros in places that are easy to get wrong: without a prelude, in generic code, in `const` items, beside names of
//! their own, with keywords as keys, under `forbid(unsafe_code)`.

#![no_implicit_prelude]
#![forbid(unsafe_code)]
#![deny(warnings)]


mod shop {
    ::gemba::funnel! {
        pub enum Checkout = "checkout" { Cart = "cart", Payment = "payment" (was = "pay") }
    }
}

struct Option;

fn generic<T: ::gemba::Value>(value: T) {
    ::gemba::feature!("generic.used", value = value);
}

fn fallible(text: &str) -> ::core::result::Result<u8, ::core::num::ParseIntError> {
    ::gemba::feature!("early.return", n = text.parse::<u8>()?);
    ::core::result::Result::Ok(1)
}

#[::gemba::instrument("service.call", id = id)]
async fn call<'a>(id: u64, text: &'a str) -> ::core::result::Result<&'a str, ::core::fmt::Error> {
    if id == 0 {
        return ::core::result::Result::Err(::core::fmt::Error);
    }
    ::core::result::Result::Ok(text)
}

#[::gemba::instrument("service.generic")]
fn twice<T: ::core::clone::Clone>(value: &T) -> (T, T) {
    (value.clone(), value.clone())
}

#[::gemba::instrument("service.opaque", id = id)]
fn opaque(id: u64) -> impl ::core::future::Future<Output = u64> {
    async move { id }
}

#[::gemba::instrument("service.boxed")]
fn boxed<'a>(text: &'a str) -> ::core::pin::Pin<::std::boxed::Box<dyn ::core::future::Future<Output = usize> + 'a>> {
    let work = async move { text.len() };
    ::std::boxed::Box::pin(work)
}

fn main() {
    let _ = Option;
    let recording = 1;
    let state = recording;
    ::gemba::feature!("names.clash", state = state, recording = recording, r#type = 1, async = 2, cart.id = "c",);
    ::gemba::feature!("renamed.feature", was = "old.feature");
    generic(3);
    generic("text");
    // Nothing records, so the value is not evaluated and its `?` does not return.
    ::core::assert!(fallible("x").is_ok());
    ::gemba::step!(shop::Checkout::Payment, plan = "pro");
    let chosen: ::core::option::Option<&str> = ::core::option::Option::None;
    ::gemba::feature_flag!("New checkout", variant = "on", reason = chosen, provider = "flagd", context = "u-7",);
    let result: ::core::result::Result<(), ()> = ::gemba::attempt!("plain.attempt", n = 1).run(|| ::core::result::Result::Ok(()));
    ::core::assert!(result.is_ok());
    ::core::assert!(twice(&1) == (1, 1));
    ::core::mem::drop((call(1, "a"), opaque(1), boxed("a")));
}
