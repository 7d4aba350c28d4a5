//! An old name that no record can ever have had.

gemba::funnel! {
    enum Checkout = "checkout" { Cart = "cart", Address = "address" (was = "Shipping Address") }
}

#[gemba::instrument("invoice.send", was = "invoice send")]
fn send() {}

fn main() {
    gemba::feature!("search.filter", was = "Search Filter", kind = "price");
    let export = gemba::attempt!("report.export", was = "report..export");
    export.complete();
    send();
}
