//! Settings of the server: plain values with documented defaults and limits.
//!
//! In: what the command line and the environment gave (`cli::serve` parses both), or what a test or the demo chooses.
//! Reads neither the environment nor a file itself.

use crate::alerts::AlertConfig;
use crate::store::ClusterName;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Default address of OTLP/HTTP, the API and the dashboard (OTLP's default port for HTTP).
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4318);
/// Default address of OTLP/gRPC (OTLP's default port for gRPC).
pub const DEFAULT_GRPC_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4317);

/// A ClickHouse server to use instead of the embedded engine.
#[derive(Clone)]
pub struct ClickHouseTarget {
    /// Its HTTP interface, `http://host:8123`.
    pub url: String,
    /// Name of the user; `default` if nothing else was given.
    pub user: String,
    /// Password of the user, may be empty.
    pub password: String,
    /// Database that holds the tables; it must exist.
    pub database: String,
    /// Cluster of ClickHouse servers, of which this is one; none for a server by itself.
    pub cluster: Option<ClusterName>,
}

impl ClickHouseTarget {
    /// Whether its address leads to the machine itself, by what it says alone: what names mean is not looked up.
    pub(crate) fn is_on_this_machine(&self) -> bool {
        let Ok(uri) = self.url.parse::<http::Uri>() else { return false };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl std::fmt::Debug for ClickHouseTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickHouseTarget")
            .field("url", &self.url)
            .field("user", &self.user)
            .field("database", &self.database)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// Bounds on what strangers can make the server hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once on one listener; further ones wait in the kernel's queue. Default 1,024: one file
    /// descriptor each, the usual soft limit of a process.
    pub max_connections: usize,
    /// Bytes of a request's line and headers together. Default 64 KiB, eight times what common proxies let through.
    pub max_header_bytes: usize,
    /// Time to send a request's headers, and how long an HTTP/1 connection may rest between requests. Default 30 s.
    pub header_timeout: Duration,
    /// Longest silence inside a body. Default 10 s.
    pub body_stall_timeout: Duration,
    /// Time for a whole body. Default 120 s: 64 MiB at 4.5 Mbit/s.
    pub body_timeout: Duration,
    /// Bytes of a body, as sent and again when inflated. Default 64 MiB (the OTLP specification's default).
    pub max_body_bytes: usize,
    /// Bytes all bodies in work may hold together; beyond it requests are answered 503 with Retry-After. Default
    /// 256 MiB: two of the largest bodies as sent and inflated.
    pub max_bodies_bytes: usize,
    /// How long a connection without a request stays open. Default 120 s, above the 60 s at which metric readers send.
    pub idle_timeout: Duration,
    /// Requests at once on one HTTP/2 connection. Default 128; 100 is the least HTTP/2 (RFC 9113, 6.5.2) recommends.
    pub max_streams: u32,
    /// How long a question about the books waits until no insert is under way. Default 30 s: an insert takes less than a
    /// second on a quiet machine, and several on one where everything is late.
    pub hold_timeout: Duration,
    /// How long deleting a project waits until what was acknowledged is stored, and again until the files that held its rows
    /// are off the disk. Default 20 s: most questions that read them end sooner.
    pub erase_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_header_bytes: 64 << 10,
            header_timeout: Duration::from_secs(30),
            body_stall_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_mins(2),
            max_body_bytes: 64 << 20,
            max_bodies_bytes: 256 << 20,
            idle_timeout: Duration::from_mins(2),
            max_streams: 128,
            hold_timeout: Duration::from_secs(30),
            erase_timeout: Duration::from_secs(20),
        }
    }
}

/// Files of a certificate, and of those that clients are asked for, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those that lead to a root.
    pub certificate: PathBuf,
    /// Its private key (PKCS #8, SEC 1 or PKCS #1).
    pub key: PathBuf,
    /// The authorities that clients must show a certificate of; `None` asks them for none.
    pub client_ca: Option<PathBuf>,
}

/// Everything `gemba serve` can be told.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Folder of the log, the control snapshot and the embedded engine's data; created if missing.
    pub data: PathBuf,
    /// Address of OTLP/HTTP, the API and the dashboard; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address of OTLP/gRPC; `None` leaves gRPC to the main address, which takes it too.
    pub grpc_listen: Option<SocketAddr>,
    /// What encrypts on addresses beyond loopback; those on loopback stay as they are. Default none.
    pub tls: Option<TlsFiles>,
    /// How often the files are looked at for a renewed certificate. Default a minute.
    pub tls_refresh: Duration,
    /// Listen beyond loopback without TLS, because something in front encrypts.
    pub insecure_listen: bool,
    /// A ClickHouse server; `None` starts the embedded engine.
    pub clickhouse: Option<ClickHouseTarget>,
    /// Folder of the team's own saved queries.
    pub queries: Option<PathBuf>,
    /// Origins whose pages may send data from a browser; `*` means any. Default `*`: a request carries its key in a
    /// header of its own and no cookie, so another page gains nothing, and a key used in a browser is public anyway.
    pub cors_origins: Vec<String>,
    /// Path that may stand before `/v1/logs`, `/v1/traces`, `/v1/metrics`, for a proxy that keeps its own; begins with `/`
    /// and does not end with one. Empty, the default: none.
    pub otlp_prefix: String,
    /// Bounds on requests.
    pub limits: Limits,
    /// Memory of the embedded engine in bytes; `None` leaves it to the engine's own default.
    pub engine_memory_bytes: Option<u64>,
    /// The `gemba` binary that runs the embedded engine; `None` is the running program itself. Tests and the demo,
    /// whose program is another, name it.
    pub engine_program: Option<PathBuf>,
    /// Age of a project's newest stored row beyond which it is told as fallen silent. Default none: only the operator knows
    /// how often something has to come.
    pub stale_after: Option<Duration>,
    /// Where somebody is told of what is wrong. Default nowhere.
    pub alerts: Option<AlertConfig>,
    /// How long storing what is acknowledged may take on the way out. What is not stored by then stays in the log and
    /// is stored at the next start. Default 30 s.
    pub drain_timeout: Duration,
    /// Size of the log on disk beyond which new data are refused. Default 64 GiB.
    pub max_log_bytes: u64,
}

impl ServeConfig {
    /// The defaults, over one data folder.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            listen: DEFAULT_LISTEN,
            grpc_listen: Some(DEFAULT_GRPC_LISTEN),
            tls: None,
            tls_refresh: Duration::from_mins(1),
            insecure_listen: false,
            clickhouse: None,
            queries: None,
            cors_origins: vec!["*".to_owned()],
            otlp_prefix: String::new(),
            limits: Limits::default(),
            engine_memory_bytes: None,
            engine_program: None,
            stale_after: None,
            alerts: None,
            drain_timeout: Duration::from_secs(30),
            max_log_bytes: 64 << 30,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_machine_itself_is_known_by_what_it_says() {
        for (url, expected) in [
            ("http://127.0.0.1:8123", true),
            ("http://127.8.0.1", true),
            ("http://[::1]:8123/", true),
            ("https://localhost:8443", true),
            ("http://10.0.0.7:8123", false),
            ("http://localhost.example.org:8123", false),
            ("no address", false),
        ] {
            let (user, password, database, cluster) = Default::default();
            let target = ClickHouseTarget { url: url.to_owned(), user, password, database, cluster };
            assert_eq!(target.is_on_this_machine(), expected, "{url}");
        }
    }
}
