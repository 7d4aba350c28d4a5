//! A variant that is given twice.

fn main() {
    gemba::feature_flag!("new-checkout", variant = "on", variant = "off");
}
