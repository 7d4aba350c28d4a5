//! Embeds the saved queries and the common table expressions they share: writes one `(folder, name, text)` entry for each `.sql` file.
//!
//! In: the folders beside this file. Out: `builtin.rs` and `ctes.rs` in the build's output folder, sorted by folder and
//! name. It does not look into the files; the catalogue does, and a test reads every one.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

/// The folders, one a purpose; [`crate::catalog::FOLDERS`] repeats them for readers of the crate.
const FOLDERS: [&str; 4] = ["usability", "optimization", "reliability", "trust"];

/// What queries share, see [`crate::ctes`].
const CTES: [&str; 1] = ["ctes"];

fn main() -> io::Result<()> {
    embed(&FOLDERS, "builtin.rs")?;
    embed(&CTES, "ctes.rs")
}

fn embed(folders: &[&str], file: &str) -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let mut code = String::from("&[\n");
    for folder in folders {
        let dir = Path::new(&root).join(folder);
        println!("cargo::rerun-if-changed={}", dir.display());
        if !dir.exists() {
            continue;
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "sql") {
                files.push(path);
            }
        }
        files.sort();
        for path in files {
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            writeln!(code, "    ({folder:?}, {name:?}, include_str!({:?})),", path.display().to_string())
                .map_err(io::Error::other)?;
        }
    }
    code.push_str("]\n");
    fs::write(Path::new(&out).join(file), code)
}
