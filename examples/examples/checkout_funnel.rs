//! A funnel declared in code.

gemba::funnel! {
    /// From the cart to the order.
    pub enum Checkout = "checkout" {
        /// The cart is looked at.
        Cart = "cart",
        /// The address is asked for.
        Address = "address",
        /// The order is paid.
        Payment = "payment",
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _gemba = gemba::init!("checkout_funnel")?;
    for (person, steps) in [("ann", 3), ("ben", 2), ("eve", 1)] {
        gemba::scope().user(person).run(|| {
            for step in [Checkout::Cart, Checkout::Address, Checkout::Payment].into_iter().take(steps) {
                gemba::step!(step, plan = "pro");
            }
        });
    }
    // Ask: gemba funnel checkout.cart checkout.address checkout.payment
    Ok(())
}
