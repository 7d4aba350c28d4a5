//! A user about whom nothing is said.

fn main() {
    gemba::user_set!("u-7");
}
