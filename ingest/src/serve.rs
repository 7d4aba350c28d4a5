//! The whole server as a value: [`start`] brings everything up in order, [`Running::stop`] takes it down in order.
//!
//! Up: data folder locked → listeners bound (a taken port is found before anything else is done) → engine or ClickHouse
//! → migrations → control data → pipeline → connections accepted. With a control snapshot in the data folder ClickHouse
//! may be away: the log acknowledges, and what is missing is caught up in the background.
//!
//! Down: `/readyz` 503 and open connections told to leave (GOAWAY) → what is acknowledged is stored, within a deadline, while what
//! still comes is taken → new data refused with Retry-After → requests in flight finish and are stored → connections end → engine
//! stops → the folder is free.

use crate::alerts;
use crate::clock;
use crate::config::ServeConfig;
use crate::contact;
use crate::control::{Control, ControlError};
use crate::engine::{EngineConfig, EngineError, Supervisor};
use crate::http::tls::{Certificate, TlsError};
use crate::http::{self, App, Listener, Phase};
use crate::log::LogError;
use crate::nodes;
use crate::pipeline::{Pipeline, PipelineConfig, PipelineError};
use crate::store::leases::LeaseError;
use crate::store::migrations::{self, MigrationError};
use crate::store::{Client, StoreConfig, own};
use crate::upkeep;
use gemba_queries::{Catalog, CatalogError};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// File in the data folder that a running server holds locked; its content is the server's process id.
const LOCK: &str = "lock";
/// Folder of the log inside the data folder.
const LOG: &str = "log";
/// Folder of the embedded engine inside the data folder.
const ENGINE: &str = "engine";
/// How long a first start waits for a ClickHouse that is just coming up. Chosen: a server takes a few seconds.
const FIRST_CONTACT: Duration = Duration::from_secs(15);
/// Pause between two tries to reach a ClickHouse that is away.
const CONTACT_PAUSE: Duration = Duration::from_secs(1);
/// How long requests in flight may take to finish on the way out, and connections after them.
const REQUEST_GRACE: Duration = Duration::from_secs(10);
/// How long data are taken at least for connections that were told to leave and still hold requests on their way. Chosen: many
/// round trips of the farthest client.
const LEAVE_GRACE: Duration = Duration::from_secs(2);
/// How long a node that stops may take to tell the others. Chosen: many answers of a ClickHouse that is well.
const GOODBYE: Duration = Duration::from_secs(5);
/// Least time for storing what came in while all before it was stored. Chosen: a cut and its inserts.
const LAST_DRAIN: Duration = Duration::from_secs(2);
/// Users that share the machine have no business in the data folder.
const DATA_MODE: u32 = 0o700;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder cannot be made or opened.
    #[error("cannot use the data folder {}", path.display())]
    Data {
        /// The folder or the file in it.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Another server is at work on the data folder.
    #[error("the data folder {} is in use by another gemba{}", path.display(), pid.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The other's process id, where it is known.
        pid: Option<String>,
    },
    /// An address beyond loopback without encryption.
    #[error("{0} can be reached from other machines, and keys and data would travel there unencrypted")]
    Exposed(SocketAddr),
    /// A certificate, and no address beyond loopback.
    #[error("--tls-certificate is given, and {0} is reached from this machine only, where nothing is encrypted")]
    UnusedCertificate(SocketAddr),
    /// The certificate.
    #[error("the certificate cannot be used")]
    Tls(#[source] TlsError),
    /// An address that cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A saved question that cannot be read.
    #[error("the saved questions cannot be loaded")]
    Queries(#[source] CatalogError),
    /// The embedded engine.
    #[error("the embedded ClickHouse engine did not start")]
    Engine(#[source] EngineError),
    /// The tables.
    #[error("the tables in ClickHouse cannot be brought up to date")]
    Migration(#[source] MigrationError),
    /// Projects and keys.
    #[error("the control data cannot be loaded")]
    Control(#[source] ControlError),
    /// The log.
    #[error("the log cannot be opened")]
    Pipeline(#[source] PipelineError),
}

impl ServeError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Data { .. } => "name another folder with --data, or give this user the right to write there".into(),
            Self::InUse { .. } => "stop the other one, or name another folder with --data".into(),
            Self::Exposed(_) => {
                "give a certificate with --tls-certificate and --tls-key, listen on 127.0.0.1 behind a proxy that speaks TLS, or allow \
                 it with --insecure-listen"
                    .into()
            }
            Self::UnusedCertificate(_) => {
                "listen on an address that other machines reach, --listen 0.0.0.0:4318, or leave --tls-certificate and --tls-key out"
                    .into()
            }
            Self::Tls(_) => "mend the file the message names; --tls-certificate takes the whole chain, all files are PEM".into(),
            Self::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                "another program has the address; stop it, or name another with --listen and --grpc-listen".into()
            }
            Self::Listen { .. } => "name an address of this machine with --listen and --grpc-listen".into(),
            Self::Queries(_) => "mend the file the message names, or start without --queries".into(),
            Self::Engine(_) => "`gemba check` looks at the engine; --clickhouse URL uses a server instead".into(),
            Self::Migration(error) => match error {
                MigrationError::Newer { .. } => "start the newer gemba, or undo its migrations there".into(),
                MigrationError::Cluster(_) => "the message names the way out".into(),
                _ => "`gemba migrate status` shows how far they are".into(),
            },
            Self::Control(ControlError::AnotherInstallation) => {
                "each data folder belongs to one ClickHouse database; name the right one with --data or --clickhouse"
                    .into()
            }
            Self::Control(ControlError::NothingToStartFrom(_) | ControlError::Store(_)) => {
                "the first start needs ClickHouse; check --clickhouse, user and password".into()
            }
            Self::Control(ControlError::Unreadable { .. }) => {
                "move the file away: the control data is read from ClickHouse again".into()
            }
            Self::Control(_) => "the message names the file".into(),
            Self::Pipeline(PipelineError::Log(LogError::Newer { .. })) => {
                "start the newer gemba that wrote it; what it holds and is not stored yet would be lost here".into()
            }
            Self::Pipeline(PipelineError::Log(LogError::Cuts { .. })) => {
                "keep the file; if a newer gemba wrote it, start that one until `/readyz` tells of no pending records".into()
            }
            Self::Pipeline(_) => "the disk of the data folder may be full or failing; `gemba check` looks".into(),
        }
    }
}

/// The sole right to work on a data folder, for as long as it lives; also ends with the process, however it ends.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Makes the folder if it is missing, and locks it.
    ///
    /// # Errors
    /// [`ServeError::Data`], [`ServeError::InUse`].
    pub fn take(data: &Path) -> Result<Self, ServeError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ServeError::Data { path, source }
        };
        std::fs::DirBuilder::new().recursive(true).mode(DATA_MODE).create(data).map_err(failed(data))?;
        let path = data.join(LOCK);
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed(&path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            // The number is a help for the reader only; without it the message is as true.
            let is_known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let pid = is_known.then(|| pid.trim().to_owned());
            return Err(ServeError::InUse { path: data.to_owned(), pid });
        }
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(failed(&path))?;
        Ok(Self { _file: file })
    }
}

/// A server at work. Dropping it without [`stop`](Self::stop) leaves what is not stored in the log for the next start.
#[derive(Debug)]
pub struct Running {
    url: String,
    inner_url: String,
    grpc_address: Option<SocketAddr>,
    data: PathBuf,
    app: Arc<App>,
    phase: watch::Sender<Phase>,
    servers: JoinSet<()>,
    background: JoinSet<()>,
    /// What other nodes see of this one; goes on until everything is stored.
    part: JoinSet<()>,
    drain_timeout: Duration,
    _lock: DataLock,
}

/// Starts the server. Returns once it accepts connections.
///
/// # Errors
/// Each [`ServeError`] has a [hint](ServeError::hint).
pub async fn start(config: ServeConfig) -> Result<Running, ServeError> {
    let addresses = || [Some(config.listen), config.grpc_listen].into_iter().flatten();
    let exposed = addresses().find(|address| !address.ip().is_loopback());
    match (exposed, &config.tls) {
        (Some(address), None) if !config.insecure_listen => return Err(ServeError::Exposed(address)),
        (None, Some(_)) => return Err(ServeError::UnusedCertificate(config.listen)),
        _ => {}
    }
    let lock = DataLock::take(&config.data)?;
    let catalog = match &config.queries {
        Some(dir) => Catalog::with_dir(dir),
        None => Catalog::builtin(),
    };
    let catalog = catalog.map_err(ServeError::Queries)?;
    let certificate = config.tls.clone().map(Certificate::load).transpose().map_err(ServeError::Tls)?;
    let listener = bind(config.listen, certificate.as_ref()).await?;
    let grpc_listener = match config.grpc_listen {
        Some(address) => Some(bind(address, certificate.as_ref()).await?),
        None => None,
    };
    let (store, engine) = connect(&config).await?;
    let control = Arc::new(prepare(&config.data, &store).await?);
    own::check(&store, &catalog, clock::now_ms()).await.map_err(ServeError::Queries)?;
    let pipeline = Pipeline::start_still(pipeline_config(&config), store.clone(), control.id_hasher().clone());
    let (pipeline, still) = pipeline.map_err(ServeError::Pipeline)?;
    let app = Arc::new(App::new(&config, control, Arc::new(pipeline), store, engine, catalog));

    let address_of = |listener: &Listener| {
        listener.tcp.local_addr().map_err(|source| ServeError::Listen { address: config.listen, source })
    };
    let scheme = if listener.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", address_of(&listener)?);
    let inner_url = format!("http://{}", reached_from_here(address_of(&listener)?));
    let grpc_address = grpc_listener.as_ref().map(address_of).transpose()?;
    let (phase, phases) = watch::channel(Phase::Serving);
    let mut servers = JoinSet::new();
    for listener in [Some(listener), grpc_listener].into_iter().flatten() {
        servers.spawn(http::serve(listener, Arc::clone(&app), phases.clone(), REQUEST_GRACE));
    }
    let mut background = JoinSet::new();
    background.spawn(upkeep::keep_up(Arc::clone(&app)));
    let asking = Arc::clone(&app);
    background.spawn(async move { contact::keep(&asking).await });
    if let Some(alerts) = config.alerts.clone() {
        background.spawn(alerts::watch(Arc::clone(&app), alerts, instance(&inner_url)));
    }
    let mut part = JoinSet::new();
    if app.pipeline.shares_store() {
        let (app, phases) = (Arc::clone(&app), phase.subscribe());
        part.spawn(async move { nodes::take_part(&app, still, phases).await });
    } else {
        drop(still);
    }
    if let Some(certificate) = certificate {
        background.spawn(keep_certificate(certificate, config.tls_refresh));
    }
    let drain_timeout = config.drain_timeout;
    Ok(Running {
        url,
        inner_url,
        grpc_address,
        data: config.data,
        app,
        phase,
        servers,
        background,
        part,
        drain_timeout,
        _lock: lock,
    })
}

impl Running {
    /// Address of OTLP/HTTP, the API and the dashboard: `http://host:port`, or with https beyond loopback.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same as this machine reaches it, and this machine alone where [`url`](Self::url) is encrypted: `http://host:port`.
    pub fn inner_url(&self) -> &str {
        &self.inner_url
    }

    /// Address of OTLP/gRPC, where it has one of its own.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_address
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What the handlers share: projects, pipeline, store.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Stops in order, within the grace for requests (10 s) and the drain timeout. True when everything acknowledged
    /// is stored; otherwise the rest lies in the log and the next start stores it.
    pub async fn stop(mut self) -> bool {
        let started = clock::now_ms();
        self.app.begin_draining();
        let deadline = Instant::now() + self.drain_timeout;
        // No receiver means that the servers are gone already, here and below.
        self.phase.send_replace(Phase::Leaving);
        if self.app.pipeline.is_kept_still() {
            let wait_s = self.drain_timeout.as_secs();
            tracing::warn!(
                wait_s,
                "inserts are kept still, for a backup or the like: what is acknowledged waits so long for its end"
            );
        }
        // What is refused may be lost, since not every client sends it again; the log takes it as long as it is open.
        tokio::join!(self.app.connections_done(LEAVE_GRACE), self.app.pipeline.flush(self.drain_timeout));
        self.app.close_intake();
        if !self.app.requests_done(REQUEST_GRACE).await {
            tracing::warn!("requests in flight did not finish in time and are cut");
        }
        self.background.abort_all();
        // What was taken meanwhile has its share where storing works at all.
        let left = deadline.saturating_duration_since(Instant::now()).max(LAST_DRAIN.min(self.drain_timeout));
        let is_drained = self.app.pipeline.drain(left).await;
        let is_kept_still = self.app.pipeline.is_kept_still();
        self.phase.send_replace(Phase::Stopping);
        while self.servers.join_next().await.is_some() {}
        // It says that it leaves. Where ClickHouse does not answer, the others find out by themselves.
        let leaving = async { while self.part.join_next().await.is_some() {} };
        if tokio::time::timeout(GOODBYE, leaving).await.is_err() {
            self.part.abort_all();
        }
        if let Some(engine) = &self.app.engine {
            engine.stop().await;
        }
        let took_ms = clock::now_ms() - started;
        if is_drained {
            tracing::info!(took_ms, "stopped, everything acknowledged is stored");
        } else {
            let pending_records = self.app.pipeline.status().pending_records;
            tracing::warn!(
                took_ms,
                pending_records,
                is_kept_still,
                "stopped; the rest is safe in the log and is stored at the next start"
            );
        }
        is_drained
    }
}

/// What alerts call this node: name of the machine and port.
fn instance(url: &str) -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{name}:{}", url.rsplit(':').next().unwrap_or_default())
}

/// The address by which this machine reaches one that a listener is bound to.
fn reached_from_here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Binds an address; one that other machines reach is encrypted where there is a certificate.
async fn bind(address: SocketAddr, certificate: Option<&Arc<Certificate>>) -> Result<Listener, ServeError> {
    let tcp = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    Ok(Listener { tcp, tls: certificate.filter(|_| !address.ip().is_loopback()).map(Arc::clone) })
}

/// Shows a certificate that was renewed to whoever connects from then on. Ends with the server.
async fn keep_certificate(certificate: Arc<Certificate>, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        // A few small files; nothing waits for them.
        match certificate.refresh() {
            Ok(false) => {}
            Ok(true) => tracing::info!("the certificate or the authorities of clients were renewed"),
            Err(error) => {
                let error = http::error::chain(&error);
                tracing::warn!(error, "the certificate cannot be read again; the one before goes on");
            }
        }
    }
}

/// A client of the configured ClickHouse, or of the embedded engine, which is started.
pub async fn connect(config: &ServeConfig) -> Result<(Client, Option<Arc<Supervisor>>), ServeError> {
    if let Some(target) = &config.clickhouse {
        let store = StoreConfig {
            url: target.url.clone(),
            user: target.user.clone(),
            password: target.password.clone(),
            database: target.database.clone(),
            compress: !target.is_on_this_machine(),
            cluster: target.cluster.clone(),
        };
        return Ok((Client::new(store), None));
    }
    let engine_config = EngineConfig {
        data_dir: config.data.join(ENGINE),
        library: None,
        program: config.engine_program.clone(),
        max_memory_bytes: config.engine_memory_bytes,
    };
    // It blocks, for long when the library must be fetched.
    let starting = tokio::task::spawn_blocking(move || Supervisor::start(engine_config)).await;
    let engine = starting
        .unwrap_or_else(|panic| {
            Err(EngineError::Io { what: "its start broke off", source: std::io::Error::other(panic) })
        })
        .map_err(ServeError::Engine)?;
    let store = StoreConfig {
        url: engine.url(),
        user: engine.user().to_owned(),
        password: engine.password().to_owned(),
        database: "default".to_owned(),
        compress: false,
        cluster: None,
    };
    Ok((Client::new(store), Some(Arc::new(engine))))
}

/// Stores what an earlier server left in the log of the data folder, within the drain timeout, without listening.
/// Answers how many records are still not stored.
///
/// # Errors
/// [`ServeError::Control`], [`ServeError::Pipeline`].
pub async fn store_the_rest(config: &ServeConfig, store: &Client) -> Result<u64, ServeError> {
    let log = config.data.join(LOG);
    if !log.exists() {
        return Ok(0);
    }
    let control = Control::open(&config.data, store.raw().clone()).await.map_err(ServeError::Control)?;
    let pipeline = Pipeline::start(pipeline_config(config), store.clone(), control.id_hasher().clone());
    let pipeline = pipeline.map_err(ServeError::Pipeline)?;
    pipeline.drain(config.drain_timeout).await;
    Ok(pipeline.status().pending_records)
}

/// The pipeline of a server: a ClickHouse that is not embedded may be other nodes' too.
fn pipeline_config(config: &ServeConfig) -> PipelineConfig {
    PipelineConfig {
        shares_store: config.clickhouse.is_some(),
        max_log_bytes: config.max_log_bytes,
        ..PipelineConfig::new(config.data.join(LOG))
    }
}

/// Tables and control data. Waits for a ClickHouse that is coming up only where there is nothing else to start from.
async fn prepare(data: &Path, store: &Client) -> Result<Control, ServeError> {
    let deadline = Instant::now() + FIRST_CONTACT;
    loop {
        match migrations::up(store).await {
            Err(error) if !is_passing(&error) => return Err(ServeError::Migration(error)),
            Ok(_) | Err(_) => {}
        }
        match Control::open(data, store.raw().clone()).await {
            Ok(control) => return Ok(control),
            Err(ControlError::NothingToStartFrom(_) | ControlError::Store(_)) if Instant::now() < deadline => {
                tokio::time::sleep(CONTACT_PAUSE).await;
            }
            Err(error) => return Err(ServeError::Control(error)),
        }
    }
}

/// Whether ClickHouse is merely away, or another node is still at it.
fn is_passing(error: &MigrationError) -> bool {
    match error {
        MigrationError::Store { source, .. } | MigrationError::Turn(LeaseError::Store(source)) => source.is_retryable(),
        MigrationError::Turn(LeaseError::Held(_) | LeaseError::Lost(_)) => true,
        _ => false,
    }
}
