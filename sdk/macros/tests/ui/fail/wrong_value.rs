//! A type that cannot be an attribute.

fn main() {
    gemba::feature!("search.filter", kinds = vec!["price", "size"]);
}
