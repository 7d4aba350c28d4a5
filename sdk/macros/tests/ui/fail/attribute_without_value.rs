//! An attribute in the short form that other crates have.

fn main() {
    let kind = "price";
    gemba::feature!("search.filter", kind);
}
