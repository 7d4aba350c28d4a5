//! A key with a space behind it.

fn main() {
    gemba::feature_flag!("new-checkout ", variant = "on");
}
