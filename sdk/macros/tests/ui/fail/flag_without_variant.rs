//! A flag that came to nothing.

fn main() {
    gemba::feature_flag!("new-checkout", reason = "split");
}
