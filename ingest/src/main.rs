//! The `gemba` command.

fn main() {}
