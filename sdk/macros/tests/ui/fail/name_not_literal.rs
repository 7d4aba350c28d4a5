//! A name that is only known at run time.

fn main() {
    let name = String::from("search.filter");
    gemba::feature!(name, kind = "price");
}
