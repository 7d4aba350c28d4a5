//! Packages of other languages, installed once by their ordinary clients and kept in Gemba's cache, beside the engine's
//! library and outside of `target`, so that a clean build does not fetch them again.
//!
//! Every version is pinned by name where it is used; no address of a registry and no lock file is written anywhere.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folder for what is installed once: `GEMBA_CACHE`, else the user's cache.
fn folder() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = named("GEMBA_CACHE").or_else(|| named("HOME").map(|home| home.join(".cache/gemba")));
    cache.expect("GEMBA_CACHE or HOME says where packages are kept").join("clients")
}

/// Installs packages once: into a folder aside, renamed when complete, so that a broken install is never used.
fn installed(client: &str, packages: &[&str], install: impl FnOnce(&Path) -> Command) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    packages.hash(&mut hasher);
    let folder = folder();
    let target = folder.join(format!("{client}-{:016x}", hasher.finish()));
    std::fs::create_dir_all(&folder).unwrap();
    let lock = std::fs::File::create(folder.join(format!("{client}.lock"))).unwrap();
    lock.lock().unwrap();
    if !target.exists() {
        let aside = tempfile::tempdir_in(&folder).unwrap();
        let mut command = install(aside.path());
        let output = command.output().unwrap_or_else(|error| panic!("{client} is needed for {packages:?}: {error}"));
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{client} cannot install {packages:?}: {talk}");
        std::fs::rename(aside.keep(), &target).unwrap();
    }
    target
}

/// Python packages, each as `name==version`; the answer is for `PYTHONPATH`. The first call fetches them.
pub fn python(packages: &[&str]) -> PathBuf {
    installed("pip", packages, |folder| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
        pip.arg(folder).args(packages);
        pip
    })
}

/// npm packages, each as `name@version`; a script must lie in the answer's folder to import them. The first call fetches
/// them.
pub fn node(packages: &[&str]) -> PathBuf {
    installed("npm", packages, |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"]);
        npm.arg(folder).args(packages);
        npm
    })
}

/// A program of `harness/clients`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/clients").join(name)
}

/// A script of `harness/clients` beside the npm packages it imports: a module is looked for from the script's folder up.
pub fn node_script(packages: &Path, name: &str) -> PathBuf {
    let target = packages.join(name);
    // Renamed into place, since another test process may be reading it.
    let aside = tempfile::NamedTempFile::new_in(packages).unwrap();
    std::fs::copy(script(name), aside.path()).unwrap();
    aside.persist(&target).unwrap();
    target
}
