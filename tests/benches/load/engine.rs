//! The store of a server, asked directly: its engine is found by what the operating system says of the child process.

use super::process::Looked;
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

/// How long nothing may be merged before merges count as done.
const QUIET: Duration = Duration::from_secs(10);
/// Longest wait for that.
const QUIET_TIMEOUT: Duration = Duration::from_mins(15);

/// One table.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct TableSize {
    /// Active parts.
    pub(crate) parts: u64,
    /// Rows in them.
    pub(crate) rows: u64,
    /// Bytes on disk, projections, marks and indexes included.
    pub(crate) bytes: u64,
}

/// A way to ask an engine.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    agent: ureq::Agent,
    url: String,
    password: String,
}

impl Store {
    /// Of an engine at an address.
    pub(crate) fn at(url: String, password: String) -> Self {
        Self { agent: ureq::Agent::new_with_defaults(), url, password }
    }

    /// Of a server's engine: a supervised engine listens on its standard input and has its password in the environment.
    pub(crate) fn of(engine: Looked) -> Self {
        let environment = fs::read(format!("/proc/{}/environ", engine.0)).unwrap();
        let wanted = format!("{}=", gemba_ingest::engine::PASSWORD_VARIABLE);
        let password = environment
            .split(|byte| *byte == 0)
            .find_map(|entry| entry.strip_prefix(wanted.as_bytes()))
            .expect("a supervised engine has a password");
        let socket = fs::read_link(format!("/proc/{}/fd/0", engine.0)).unwrap().to_string_lossy().into_owned();
        let inode = socket.trim_start_matches("socket:[").trim_end_matches(']').to_owned();
        // Lines of `sl local_address rem_address st ... uid timeout inode`, addresses in hexadecimal.
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        let line = sockets.lines().find(|line| line.split_whitespace().nth(9) == Some(inode.as_str()));
        let address = line.and_then(|line| line.split_whitespace().nth(1)).expect("the engine listens");
        let port = u16::from_str_radix(address.split_once(':').unwrap().1, 16).unwrap();
        Self::at(format!("http://127.0.0.1:{port}"), String::from_utf8(password.to_vec()).unwrap())
    }

    /// Rows of a statement's answer, each an array.
    pub(crate) fn ask(&self, sql: &str) -> Vec<Value> {
        let mut answer = self
            .agent
            .post(&self.url)
            .header("X-ClickHouse-User", "default")
            .header("X-ClickHouse-Key", &self.password)
            .send(format!("{sql} SETTINGS output_format_json_quote_64bit_integers = 0 FORMAT JSONCompactEachRow"))
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let text = answer.body_mut().read_to_string().unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The only number of an answer.
    pub(crate) fn number(&self, sql: &str) -> u64 {
        self.ask(sql)[0][0].as_u64().unwrap()
    }

    /// Parts, rows and bytes of a table.
    pub(crate) fn size(&self, table: &str) -> TableSize {
        let row = self.ask(&format!(
            "SELECT count(), sum(rows), sum(bytes_on_disk) FROM system.parts \
             WHERE active AND database = 'default' AND table = '{table}'"
        ));
        let field = |index: usize| row[0][index].as_u64().unwrap();
        TableSize { parts: field(0), rows: field(1), bytes: field(2) }
    }

    /// Bytes on disk of all tables.
    pub(crate) fn bytes(&self) -> u64 {
        self.number("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'default'")
    }

    /// Columns of the events with their bytes on disk, most first.
    pub(crate) fn columns(&self) -> Vec<(String, u64)> {
        let rows = self.ask(
            "SELECT column, sum(column_bytes_on_disk) AS bytes FROM system.parts_columns \
             WHERE active AND database = 'default' AND table = 'events' GROUP BY column ORDER BY bytes DESC",
        );
        rows.iter().map(|row| (row[0].as_str().unwrap().to_owned(), row[1].as_u64().unwrap())).collect()
    }

    /// Waits until merges have been silent for a while; answers how long that took, the silence not counted.
    pub(crate) fn wait_for_quiet(&self) -> Duration {
        let started = Instant::now();
        let (mut since, mut known) = (started, 0);
        while since.elapsed() < QUIET {
            assert!(started.elapsed() < QUIET_TIMEOUT, "merges do not end");
            std::thread::sleep(Duration::from_millis(500));
            let merges = self.number("SELECT count() FROM system.merges");
            let parts = self.number("SELECT count() FROM system.parts WHERE active");
            if merges > 0 || parts != known {
                (since, known) = (Instant::now(), parts);
            }
        }
        since.duration_since(started)
    }
}
