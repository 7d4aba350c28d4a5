//! A variant that is no text.

fn main() {
    gemba::feature_flag!("new-checkout", variant = true);
}
