//! Finds the engine library, or fetches it once.
//!
//! In: where to look. Out: the path of a library of the pinned version. Looks, in this order, at the file given (flag
//! `--library`, environment `GEMBA_ENGINE_LIBRARY`), the cache, the system's library folders; then asks the ordinary
//! package client `npm` for the pinned package. Knows no host name: the client does.
//!
//! Invariants:
//! 1. A file in the cache has the pinned SHA-256: it is checked while it is unpacked, and renamed into place after.
//! 2. Parallel first starts fetch once: a file lock is held while fetching.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// Version of the pinned engine package.
pub const PACKAGE_VERSION: &str = "26.7.3-stable.1";
/// Version the library gives of itself.
pub const LIBRARY_VERSION: &str = "26.7.3";
/// Name of the file in the package.
const LIBRARY_FILE: &str = "libchdb.so";
/// Where the system keeps libraries (Filesystem Hierarchy Standard 3.0, and what the engine's own installer uses).
const SYSTEM_FOLDERS: [&str; 4] =
    ["/usr/local/lib", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];

/// How folders for fetching begin.
const SCRATCH: &str = "fetch-";

/// The package of one platform. Sums were taken from the registry's package of that version with `sha256sum`.
struct Package {
    name: &'static str,
    /// SHA-256 of the package as the client delivers it.
    archive_sha256: &'static str,
    /// SHA-256 of the library in it.
    library_sha256: &'static str,
    /// Size of the library in bytes.
    library_bytes: u64,
}

/// The package for this machine; others run the engine with a library they name.
const PACKAGE: Option<Package> = if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
    Some(Package {
        name: "@chdb/lib-linux-x64-gnu",
        archive_sha256: "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad",
        library_sha256: "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
        library_bytes: 566_330_096,
    })
} else {
    None
};

/// Why there is no engine library.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The file named by hand does not exist.
    #[error("the engine library {0} does not exist")]
    Missing(PathBuf),
    /// This platform has no pinned package.
    #[error(
        "no engine library for this platform is known; \
         set GEMBA_ENGINE_LIBRARY to a libchdb of version {LIBRARY_VERSION}, or use --clickhouse URL"
    )]
    Platform,
    /// Neither a cache folder nor a home folder is known.
    #[error("no cache folder is known: set GEMBA_CACHE or HOME, or name the library in GEMBA_ENGINE_LIBRARY")]
    NoCache,
    /// `npm` is not installed.
    #[error(
        "the engine library is not here yet and npm, which fetches it, is not installed: install Node.js with npm, or \
         get libchdb {LIBRARY_VERSION} by other means and name it in GEMBA_ENGINE_LIBRARY, or use --clickhouse URL"
    )]
    NoClient,
    /// `npm` failed; retrying can help when the network was the cause.
    #[error("npm could not fetch {package}@{PACKAGE_VERSION}: {message}")]
    Client {
        /// The package asked for.
        package: &'static str,
        /// The last lines the client wrote.
        message: String,
    },
    /// What came is not what was pinned.
    #[error("{what} has SHA-256 {found}, expected {expected}: not used")]
    Checksum {
        /// The package or the library.
        what: &'static str,
        /// The sum of what came.
        found: String,
        /// The pinned sum.
        expected: &'static str,
    },
    /// The cache folder could not be written or read.
    #[error("engine cache {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> InstallError + '_ {
    |source| InstallError::Io { path: path.to_owned(), source }
}

/// Where to look; read from the environment by the command line.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// A library named by hand: used or refused, never replaced by another.
    pub library: Option<PathBuf>,
    /// Folder for fetched files.
    pub cache: Option<PathBuf>,
}

impl Places {
    /// Reads `GEMBA_ENGINE_LIBRARY`, `GEMBA_CACHE`, `XDG_CACHE_HOME` and `HOME`.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            library: variable("GEMBA_ENGINE_LIBRARY"),
            cache: variable("GEMBA_CACHE")
                .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("gemba")))
                .or_else(|| variable("HOME").map(|folder| folder.join(".cache/gemba"))),
        }
    }
}

/// Finds the library, or fetches it. Blocks: some 20 s for 178 MB when it has to be fetched, and as long as another
/// process is fetching it. Writes progress to `progress`.
///
/// # Errors
///
/// [`InstallError`]; its text says what to do.
pub fn find_or_fetch(places: &Places, progress: &mut dyn Write) -> Result<PathBuf, InstallError> {
    if let Some(library) = &places.library {
        return if library.is_file() { Ok(library.clone()) } else { Err(InstallError::Missing(library.clone())) };
    }
    let cached = places.cache.as_ref().map(|cache| cache.join("engine").join(PACKAGE_VERSION).join(LIBRARY_FILE));
    if let Some(cached) = &cached
        && cached.is_file()
    {
        return Ok(cached.clone());
    }
    if let Some(found) = SYSTEM_FOLDERS.iter().map(|folder| Path::new(folder).join(LIBRARY_FILE)).find(|f| f.is_file())
    {
        return Ok(found);
    }
    let package = PACKAGE.ok_or(InstallError::Platform)?;
    let target = cached.ok_or(InstallError::NoCache)?;
    fetch(&package, &target, progress)?;
    Ok(target)
}

fn fetch(package: &Package, target: &Path, progress: &mut dyn Write) -> Result<(), InstallError> {
    let folder = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).map_err(io_error(&lock_path))?;
    if lock.try_lock().is_err() {
        say(progress, "another process is fetching the engine; waiting for it");
        lock.lock().map_err(io_error(&lock_path))?;
    }
    // The lock goes with the file handle, at the latest when this process ends.
    if target.is_file() {
        return Ok(());
    }
    // What a killed fetch left behind; with the lock held none is at work.
    for entry in fs::read_dir(folder).map_err(io_error(folder))?.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(SCRATCH.as_bytes()) {
            fs::remove_dir_all(entry.path()).map_err(io_error(folder))?;
        }
    }
    let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(folder).map_err(io_error(folder))?;
    let megabytes = package.library_bytes / 1_000_000;
    say(progress, &format!("fetching the engine once: {}@{PACKAGE_VERSION}, {megabytes} MB unpacked", package.name));
    let archive = pack(package, scratch.path())?;
    let unpacked = scratch.path().join(LIBRARY_FILE);
    say(progress, "unpacking and checking the engine");
    unpack(package, &archive, &unpacked)?;
    fs::rename(&unpacked, target).map_err(io_error(target))?;
    say(progress, &format!("engine ready in {}", target.display()));
    Ok(())
}

fn say(progress: &mut dyn Write, text: &str) {
    // Progress that cannot be shown is no reason to stop.
    drop(writeln!(progress, "gemba: {text}"));
}

/// Lets npm put the package's archive into `folder` and checks its sum.
fn pack(package: &Package, folder: &Path) -> Result<PathBuf, InstallError> {
    let output = Command::new("npm")
        .args(["pack", "--silent", "--ignore-scripts", "--pack-destination"])
        .arg(folder)
        .arg(format!("{}@{PACKAGE_VERSION}", package.name))
        .current_dir(folder)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(InstallError::NoClient),
        Err(error) => return Err(io_error(Path::new("npm"))(error)),
    };
    let archive = fs::read_dir(folder)
        .map_err(io_error(folder))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"));
    match archive {
        Some(archive) if output.status.success() => Ok(archive),
        _ => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let lines: Vec<&str> = text.lines().rev().take(3).collect();
            let message = lines.into_iter().rev().collect::<Vec<_>>().join(" / ");
            Err(InstallError::Client { package: package.name, message })
        }
    }
}

/// Hashes what passes through.
struct Hashing<R> {
    inner: R,
    sum: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.sum.update(out.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Takes the library out of the archive and checks both sums, reading the archive once.
fn unpack(package: &Package, archive: &Path, target: &Path) -> Result<(), InstallError> {
    let failed = io_error(archive);
    let source = Hashing { inner: File::open(archive).map_err(io_error(archive))?, sum: Sha256::new() };
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(source));
    let mut library_sum = None;
    let entries = match tar.entries() {
        Ok(entries) => entries,
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(io_error(archive))?;
        let wanted = entry.path().is_ok_and(|path| path.as_ref() == Path::new("package").join(LIBRARY_FILE));
        if !wanted {
            continue;
        }
        let mut hashing = Hashing { inner: entry, sum: Sha256::new() };
        let mut file = File::create(target).map_err(io_error(target))?;
        io::copy(&mut hashing, &mut file).map_err(io_error(target))?;
        file.sync_all().map_err(io_error(target))?;
        library_sum = Some(hex(&hashing.sum.finalize()));
    }
    let mut source = tar.into_inner().into_inner();
    io::copy(&mut source, &mut io::sink()).map_err(io_error(archive))?;
    check("the engine package", hex(&source.sum.finalize()), package.archive_sha256)?;
    check("the engine library", library_sum.unwrap_or_else(|| "none".into()), package.library_sha256)
}

fn check(what: &'static str, found: String, expected: &'static str) -> Result<(), InstallError> {
    if found == expected { Ok(()) } else { Err(InstallError::Checksum { what, found, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(folder: &Path, content: &[u8]) -> PathBuf {
        let path = folder.join("x.tgz");
        let gzip = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        for (name, data) in [("package/other", b"other".as_slice()), ("package/libchdb.so", content)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append_data(&mut header, name, data).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    #[test]
    fn another_package_than_the_pinned_one_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = archive(folder.path(), b"not the engine");
        let target = folder.path().join("out");
        let error = unpack(&PACKAGE.unwrap(), &path, &target).unwrap_err();
        assert!(matches!(error, InstallError::Checksum { what: "the engine package", .. }), "{error}");
    }

    #[test]
    fn only_the_library_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let path = archive(folder.path(), b"library");
        let target = folder.path().join("out");
        unpack(&PACKAGE.unwrap(), &path, &target).unwrap_err();
        assert_eq!(fs::read(&target).unwrap(), b"library");
    }

    #[test]
    fn a_library_named_by_hand_is_used_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("lib.so");
        let places = Places { library: Some(library.clone()), cache: None };
        assert!(matches!(find_or_fetch(&places, &mut io::sink()), Err(InstallError::Missing(_))));
        fs::write(&library, "x").unwrap();
        assert_eq!(find_or_fetch(&places, &mut io::sink()).unwrap(), library);
    }

    #[test]
    fn the_cache_is_looked_at_before_anything_is_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let cached = folder.path().join("engine").join(PACKAGE_VERSION).join(LIBRARY_FILE);
        fs::create_dir_all(cached.parent().unwrap()).unwrap();
        fs::write(&cached, "x").unwrap();
        let places = Places { library: None, cache: Some(folder.path().to_owned()) };
        assert_eq!(find_or_fetch(&places, &mut io::sink()).unwrap(), cached);
    }
}
