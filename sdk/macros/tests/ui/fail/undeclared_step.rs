//! A step the funnel does not have.

gemba::funnel! {
    enum Checkout = "checkout" { Cart = "cart", Payment = "payment" }
}

fn main() {
    gemba::step!(Checkout::Adress);
}
