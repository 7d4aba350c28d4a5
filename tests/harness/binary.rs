//! The `gemba` binary, built like the tests themselves, and programs of other workspaces.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Path of the client in `tests/otel-rust`; the first call builds it if it is not up to date. Its dependencies are its own, so
/// that they do not change the product's.
pub fn otel_rust() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let target = profile().parent().unwrap().join("otel-rust");
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("otel-rust/Cargo.toml");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--manifest-path"]).arg(manifest).arg("--target-dir").arg(&target);
        assert!(build.status().unwrap().success(), "the Rust client does not build");
        target.join("debug/gemba-otel-rust")
    })
}

/// Folder of the profile: target/PROFILE of target/PROFILE/deps/it-HASH.
fn profile() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_owned()
}

/// Path of the `gemba` binary; the first call builds it if it is not up to date.
pub fn gemba() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let profile = profile();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "gemba-ingest", "--bin", "gemba"]);
        build.current_dir(env!("CARGO_MANIFEST_DIR")).arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "gemba does not build");
        profile.join("gemba")
    })
}
