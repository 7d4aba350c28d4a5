//! A funnel whose steps have no names.

gemba::funnel! {
    enum Checkout { Cart, Payment }
}

fn main() {}
