//! Something that an evaluation does not have.

fn main() {
    gemba::feature_flag!("new-checkout", variant = "on", reasons = "split");
}
