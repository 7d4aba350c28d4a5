//! An attempt that nobody holds.

#![deny(unused_must_use)]

fn main() {
    gemba::attempt!("report.export");
}
