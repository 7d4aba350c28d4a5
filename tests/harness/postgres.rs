//! A PostgreSQL of a claim's own, from the server binaries of Debian's package `postgresql`, on a socket in its folder.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// User and group `nobody` of Debian; PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// A running cluster with the user `gemba` and the database `postgres`; it ends when dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: TempDir,
}

impl Postgres {
    /// Starts one. Blocks until it answers.
    pub fn start() -> Self {
        let versions = std::fs::read_dir("/usr/lib/postgresql").expect("install the package `postgresql`");
        let programs = versions.map(|version| version.unwrap().path().join("bin")).max().unwrap();
        // A short path: the name of a socket has 107 bytes at most.
        let folder = tempfile::Builder::new().prefix("pg-").tempdir_in(std::env::temp_dir()).unwrap();
        let cluster = Self { programs, folder };
        if is_root() {
            std::os::unix::fs::chown(cluster.socket(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        cluster.run("initdb", &["-D", "data", "-A", "trust", "-U", "gemba", "--no-sync", "--no-instructions"]);
        let options = format!("-c listen_addresses='' -c unix_socket_directories={} -F", cluster.socket().display());
        // Waits until the server answers.
        cluster.run("pg_ctl", &["-D", "data", "-l", "log", "-w", "-o", &options, "start"]);
        cluster
    }

    /// Folder of its socket: the `host` clients connect to.
    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(self.programs.join(program));
        command.args(arguments).current_dir(self.socket()).env("LC_ALL", "C").stdout(Stdio::null());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let status = command.status().unwrap();
        assert!(status.success(), "{program} {arguments:?}: {status}");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-D", "data", "-m", "immediate", "-w", "stop"]);
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}
