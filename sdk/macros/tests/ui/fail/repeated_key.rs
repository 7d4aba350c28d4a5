//! A key that is given twice.

fn main() {
    gemba::feature!("search.filter", kind = "price", r#kind = "size");
}
