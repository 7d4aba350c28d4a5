//! `gemba serve`: the server until it is told to stop.
//!
//! In: arguments and `GEMBA_*`. Out: one line with the addresses on stdout once it accepts connections; exit code 0
//! after SIGTERM or SIGINT.

use super::{Failure, say};
use crate::alerts::AlertConfig;
use crate::config::{ClickHouseTarget, DEFAULT_GRPC_LISTEN, DEFAULT_LISTEN, Limits, ServeConfig, TlsFiles};
use crate::serve;
use crate::store::ClusterName;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Which ClickHouse holds the data.
#[derive(Debug, Clone, Args)]
pub(super) struct StoreArgs {
    /// Folder of the log, the keys and the embedded engine's data; made if missing
    #[arg(long, global = true, env = "GEMBA_DATA", default_value = "gemba-data", value_name = "DIR")]
    pub(super) data: PathBuf,
    /// HTTP interface of a ClickHouse server to use instead of the embedded engine
    #[arg(long, global = true, env = "GEMBA_CLICKHOUSE", value_name = "URL")]
    clickhouse: Option<String>,
    /// User of that server
    #[arg(long, global = true, env = "GEMBA_CLICKHOUSE_USER", default_value = "default", value_name = "USER")]
    clickhouse_user: String,
    /// Password of that user
    #[arg(
        long,
        global = true,
        env = "GEMBA_CLICKHOUSE_PASSWORD",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    clickhouse_password: String,
    /// Database of that server; it must exist
    #[arg(long, global = true, env = "GEMBA_CLICKHOUSE_DATABASE", default_value = "default", value_name = "NAME")]
    clickhouse_database: String,
    /// Cluster that server belongs to, as its `remote_servers` names it: one shard, whose servers hold replicas
    #[arg(long, global = true, env = "GEMBA_CLUSTER", value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// Memory of the embedded engine, bytes
    #[arg(long, global = true, env = "GEMBA_ENGINE_MEMORY", value_name = "BYTES")]
    engine_memory: Option<u64>,
}

impl StoreArgs {
    /// The settings these arguments make, everything else at its default.
    ///
    /// # Errors
    /// A cluster without a server of it.
    pub(super) fn config(&self) -> Result<ServeConfig, Failure> {
        if let (Some(cluster), None) = (&self.cluster, &self.clickhouse) {
            return Err(Failure::new(
                format!("--cluster {cluster} names servers, and the embedded engine is none of them"),
                "name one server of the cluster with --clickhouse URL, or leave --cluster out",
            ));
        }
        let clickhouse = self.clickhouse.as_ref().map(|url| ClickHouseTarget {
            url: url.trim_end_matches('/').to_owned(),
            user: self.clickhouse_user.clone(),
            password: self.clickhouse_password.clone(),
            database: self.clickhouse_database.clone(),
            cluster: self.cluster.clone(),
        });
        Ok(ServeConfig { clickhouse, engine_memory_bytes: self.engine_memory, ..ServeConfig::new(&self.data) })
    }
}

/// Arguments of `gemba serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Address of OTLP/HTTP, the API and the dashboard
    #[arg(long, env = "GEMBA_LISTEN", default_value_t = DEFAULT_LISTEN, value_name = "ADDR")]
    listen: SocketAddr,
    /// Address of OTLP/gRPC; the main address takes gRPC too
    #[arg(long, env = "GEMBA_GRPC_LISTEN", default_value_t = DEFAULT_GRPC_LISTEN, value_name = "ADDR")]
    grpc_listen: SocketAddr,
    /// Open no address of its own for gRPC
    #[arg(long, env = "GEMBA_NO_GRPC_LISTEN")]
    no_grpc_listen: bool,
    /// Certificate chain in PEM: addresses beyond this machine speak TLS; a renewed file is taken within a minute
    #[arg(long, env = "GEMBA_TLS_CERTIFICATE", requires = "tls_key", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, env = "GEMBA_TLS_KEY", requires = "tls_certificate", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Certificates in PEM of authorities: who comes from another machine must show a certificate that one of them signed
    #[arg(long, env = "GEMBA_TLS_CLIENT_CA", requires = "tls_certificate", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Listen beyond this machine without TLS, because something in front encrypts
    #[arg(long, env = "GEMBA_INSECURE_LISTEN")]
    insecure_listen: bool,
    /// Folder of your own saved queries
    #[arg(long, env = "GEMBA_QUERIES", value_name = "DIR")]
    queries: Option<PathBuf>,
    /// Origins whose pages may send data from a browser
    #[arg(long, env = "GEMBA_CORS_ORIGINS", value_delimiter = ',', default_value = "*", value_name = "ORIGIN,..")]
    cors_origins: Vec<String>,
    /// Path that exporters may have before /v1/logs and its like, for example /telemetry
    #[arg(long, env = "GEMBA_OTLP_PREFIX", default_value = "", hide_default_value = true, value_name = "PATH")]
    otlp_prefix: String,
    /// Largest body in bytes, as sent and again when decompressed
    #[arg(long, env = "GEMBA_MAX_BODY_BYTES", value_name = "BYTES")]
    max_body_bytes: Option<usize>,
    /// Connections at once on one address
    #[arg(long, env = "GEMBA_MAX_CONNECTIONS", value_name = "N")]
    max_connections: Option<usize>,
    /// Do not record Gemba's own use in the project `gemba`
    #[arg(long, env = "GEMBA_NO_OWN_USE")]
    no_own_use: bool,
    /// Tell of projects of which nothing was stored for so long, as 90s, 30m, 12h or 7d (`gemba_stale_projects`, `/readyz`,
    /// the log, `gemba check`)
    #[arg(long, env = "GEMBA_STALE_AFTER", value_name = "TIME", value_parser = super::project::seconds)]
    stale_after: Option<u64>,
    /// Post alerts to this address as to a Prometheus Alertmanager: data stale (by --stale-after) or refused, ClickHouse
    /// away, disk low, records set aside
    #[arg(long, env = "GEMBA_ALERT_URL", hide_env_values = true, value_name = "URL", value_parser = alert_url)]
    alert_url: Option<String>,
    /// Seconds that storing what is acknowledged may take on the way out; the rest is stored at the next start
    #[arg(long, env = "GEMBA_DRAIN_TIMEOUT", default_value_t = 30, value_name = "SECONDS")]
    drain_timeout: u64,
}

/// An address that can be posted to.
fn alert_url(text: &str) -> Result<String, String> {
    let uri: http::Uri = text.parse().map_err(|error| format!("{error}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) => Ok(text.to_owned()),
        _ => Err("give the whole address, as http://alertmanager:9093/api/v2/alerts".to_owned()),
    }
}

impl ServeArgs {
    fn config(self) -> Result<ServeConfig, Failure> {
        let defaults = Limits::default();
        let limits = Limits {
            max_body_bytes: self.max_body_bytes.unwrap_or(defaults.max_body_bytes),
            max_connections: self.max_connections.unwrap_or(defaults.max_connections),
            ..defaults
        };
        // Room for one body of the largest size as sent and inflated, whatever that size is.
        let max_bodies_bytes = limits.max_bodies_bytes.max(limits.max_body_bytes.saturating_mul(3));
        Ok(ServeConfig {
            listen: self.listen,
            grpc_listen: (!self.no_grpc_listen).then_some(self.grpc_listen),
            tls: self.tls_certificate.zip(self.tls_key).map(|(certificate, key)| {
                let client_ca = self.tls_client_ca;
                TlsFiles { certificate, key, client_ca }
            }),
            insecure_listen: self.insecure_listen,
            queries: self.queries,
            cors_origins: self.cors_origins,
            otlp_prefix: match self.otlp_prefix.trim_matches('/') {
                "" => String::new(),
                path => format!("/{path}"),
            },
            limits: Limits { max_bodies_bytes, ..limits },
            stale_after: self.stale_after.map(Duration::from_secs),
            alerts: self.alert_url.map(AlertConfig::new),
            drain_timeout: Duration::from_secs(self.drain_timeout),
            ..self.store.config()?
        })
    }
}

/// Records which parts of Gemba are used, in its own project `gemba` of this very server and nowhere else: without the
/// environment, whose `GEMBA_ENDPOINT` may mean another server.
fn record_own_use(running: &serve::Running) -> Option<gemba::Guard> {
    let config = gemba::Config::new("gemba")
        .endpoint(running.inner_url())
        .key(running.app().control.own_key())
        .release(env!("CARGO_PKG_VERSION"))
        // The binary also holds the demo's shop.
        .declares_in("ingest/")
        .without_environment()
        .on_error(|problem| tracing::debug!(?problem, "own use is not recorded"));
    let guard = config.start().inspect_err(|error| tracing::warn!(%error, "own use is not recorded")).ok()?;
    running.app().record_own_use();
    Some(guard)
}

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(args: ServeArgs) -> Result<ExitCode, Failure> {
    // Before anything is started, so that a signal at any moment takes the orderly way.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let records_own_use = !args.no_own_use;
    let config = args.config()?;
    let running = tokio::select! {
        started = serve::start(config) => started?,
        _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
    };
    let grpc = running.grpc_address().map(|address| format!(", gRPC on {address}")).unwrap_or_default();
    say(&format!("gemba serves on {}{grpc}, data in {}", running.url(), running.data().display()))?;
    let own_use = records_own_use.then(|| record_own_use(&running)).flatten();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: finishing requests, storing what is acknowledged");
    // Delivered while the server still takes data; it waits for the server's own answers, so not on its threads.
    drop(tokio::task::spawn_blocking(move || drop(own_use)).await);
    // What could not be stored in time lies in the log, so the end is orderly either way.
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}
