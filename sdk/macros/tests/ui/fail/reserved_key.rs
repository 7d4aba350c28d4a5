//! A key that is Gemba's own.

fn main() {
    gemba::feature!("search.filter", gemba.seq = 1);
}
