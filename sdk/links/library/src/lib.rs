//! A library of the program: what it declares is in the catalogue, whether the program ever calls it or not.

gemba::funnel! {
    /// Used across crates.
    pub enum Order = "order" { Cart = "cart", Paid = "paid" (was = "payed") }
}

/// Called by the program.
pub fn called() {
    gemba::feature!("library.called");
}

/// Called by nobody: the linker removes the function and must keep what it declares.
pub fn never_called() {
    gemba::feature!("library.never_called");
}
