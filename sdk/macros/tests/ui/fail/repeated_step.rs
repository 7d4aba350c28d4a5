//! Two steps of one name.

gemba::funnel! {
    enum Checkout = "checkout" { Cart = "cart", Basket = "cart" }
}

fn main() {
    gemba::step!(Checkout::Cart);
    gemba::step!(Checkout::Basket);
}
