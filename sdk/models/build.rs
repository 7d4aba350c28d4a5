//! Switches the SDK's files that this crate includes to loom's atomics. Here and not in `RUSTFLAGS`, because other crates
//! (tokio among them) change shape under that switch too.

fn main() {
    // `cargo::` lines are how a build script speaks.
    let line = "cargo::rustc-cfg=loom\n";
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).expect("cargo reads what it is told");
}
