//! A name with capitals and a space.

fn main() {
    gemba::feature!("Search Filter", kind = "price");
}
