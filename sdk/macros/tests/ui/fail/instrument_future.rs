//! Futures behind a name or a type parameter, from bodies that do not show the work: nobody would see how it ends.

use std::future::Future;

type Sent = std::future::Ready<Result<(), std::fmt::Error>>;

#[gemba::instrument("invoice.send")]
fn send() -> Sent {
    std::future::ready(Ok(()))
}

#[gemba::instrument("invoice.hand")]
fn hand<F: Future>(work: F) -> F {
    work
}

#[gemba::instrument("invoice.make")]
async fn make() -> Sent {
    std::future::ready(Ok(()))
}

fn main() {
    drop((send(), hand(send()), make()));
}
