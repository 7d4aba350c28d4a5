//! Database servers of a test's own, started from Debian's packages on a socket in a folder of their own.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// User and group `nobody` of Debian; database servers refuse to run as root.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(Path::new("/proc/self")).unwrap().uid() == 0
}

/// A folder that `nobody` may write to, with a short path: the name of a socket has 107 bytes at most.
fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("gemba-db-{}-{number}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    if is_root() {
        std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    folder
}

fn command(program: &Path, arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("LC_ALL", "C").stdout(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn run(program: &Path, arguments: &[&str], folder: &Path) {
    let status = command(program, arguments, folder).status().unwrap();
    assert!(status.success(), "{} {arguments:?}: {status}", program.display());
}

/// A PostgreSQL of this test.
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        let versions = std::fs::read_dir("/usr/lib/postgresql").expect("install the package `postgresql`");
        let programs = versions.map(|version| version.unwrap().path().join("bin")).max().unwrap();
        let server = Self { programs, folder: folder() };
        server.run("initdb", &["-D", "data", "-A", "trust", "-U", "gemba", "--no-sync", "--no-instructions"]);
        let options = format!("-c listen_addresses='' -c unix_socket_directories={} -F", server.folder.display());
        // Waits until the server answers.
        server.run("pg_ctl", &["-D", "data", "-l", "log", "-w", "-o", &options, "start"]);
        server
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        run(&self.programs.join(program), arguments, &self.folder);
    }

    /// Where its socket is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-D", "data", "-m", "immediate", "-w", "stop"]);
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// A MariaDB of this test.
pub(crate) struct MariaDb {
    server: Child,
    folder: PathBuf,
}

impl MariaDb {
    pub(crate) fn start() -> Self {
        let installer = Path::new("/usr/bin/mariadb-install-db");
        let program = Path::new("/usr/sbin/mariadbd");
        assert!(installer.exists() && program.exists(), "install the package `mariadb-server`");
        let folder = folder();
        let data = format!("--datadir={}/data", folder.display());
        let quick = "--innodb-log-file-size=8M";
        let normal = "--auth-root-authentication-method=normal";
        run(installer, &["--no-defaults", &data, normal, "--skip-test-db", quick], &folder);
        let socket = format!("--socket={}/socket", folder.display());
        let pid = format!("--pid-file={}/pid", folder.display());
        let log = format!("--log-error={}/log", folder.display());
        let arguments = ["--no-defaults", &data, &socket, &pid, &log, quick, "--skip-networking"];
        let server = command(program, &arguments, &folder).stderr(Stdio::null()).spawn().unwrap();
        let mut started = Self { server, folder };
        // The socket is there once the server listens.
        let patience = Instant::now() + Duration::from_mins(2);
        while !started.socket().exists() {
            let ended = started.server.try_wait().unwrap();
            let log = || std::fs::read_to_string(started.folder.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "{ended:?}: {}", log());
            assert!(Instant::now() < patience, "no socket after two minutes: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        started
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}
