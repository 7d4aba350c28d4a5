//! Settings: from code, then from the environment, which wins so that an operator has the last word.
//!
//! In: what the application says. Out: a [`Config`]; `settings` checks it, and what the environment says, at the start. The
//! only module that reads the environment.

pub(crate) mod settings;

pub(crate) use settings::{Settings, SpoolSettings, Tls};

use crate::guard::{Guard, InitError};
use crate::pipeline::ring;
use crate::privacy::KeyRules;
use crate::problem::{OnError, Problem};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How requests are made smaller before they are sent.
///
/// ```
/// let config = gemba::Config::new("shop").compression(gemba::Compression::Gzip);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Zstandard, level 1.
    #[default]
    Zstd,
    /// gzip, level 1: for receivers that know no Zstandard; OTLP asks for no other.
    Gzip,
}

/// How the SDK records and where it sends.
///
/// The environment wins over what is said here, so that an operator has the last word: `GEMBA_ENDPOINT`, `GEMBA_KEY`,
/// `GEMBA_RELEASE`, `GEMBA_ENVIRONMENT`, `GEMBA_HASH_KEY`, `GEMBA_HASH_USERS`, `GEMBA_ALLOW_ATTRIBUTES`,
/// `GEMBA_DENY_ATTRIBUTES`, `GEMBA_SAMPLE_RATE`, `GEMBA_SPOOL_DIR`, `GEMBA_SPOOL_MAX_BYTES`, `GEMBA_COMPRESSION`,
/// `GEMBA_CA`, `GEMBA_CLIENT_CERTIFICATE`, `GEMBA_CLIENT_KEY` and `GEMBA_DISABLED`;
/// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` describe the resource. `service.instance.id` is always a random UUID of this
/// start, because the order of events holds within one start of a process only; one that is given (the name of a pod, say) is
/// sent as `gemba.given_instance_id` instead. The endpoint of the host's own OpenTelemetry is
/// never used by itself, else user ids would reach somebody's tracing vendor, nor are the certificates meant for that one. Where records go is said once at the start.
///
/// ```
/// # fn main() -> Result<(), gemba::InitError> {
/// let config = gemba::Config::new("shop").endpoint("http://gemba:4318").key("gi_..").release("1.4.0");
/// // Where there is no server, as here, it is switched off.
/// let _gemba = config.disabled(true).start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a configuration does nothing until `start`"]
pub struct Config {
    service: String,
    endpoint: Option<String>,
    key: Option<String>,
    release: Option<String>,
    default_release: Option<String>,
    environment: Option<String>,
    hash_key: Option<String>,
    hashes_users: bool,
    keys: KeyRules,
    sample_rate: f64,
    is_disabled: bool,
    reads_environment: bool,
    attributes: Vec<(String, String)>,
    declares_in: Option<String>,
    ring_bytes: usize,
    max_rings: usize,
    max_queue_bytes: usize,
    spool: Option<PathBuf>,
    max_spool_bytes: u64,
    max_spool_age: Duration,
    #[cfg(feature = "http")]
    baggage_to: Vec<String>,
    send_interval: Duration,
    shutdown_timeout: Duration,
    request_timeout: Duration,
    tls: Tls,
    compression: Compression,
    on_error: Option<OnError>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is a secret and stays out.
        f.debug_struct("Config")
            .field("service", &self.service)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Settings for the service of this name.
    ///
    /// ```
    /// let config = gemba::Config::new("shop");
    /// ```
    pub fn new(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            endpoint: None,
            key: None,
            release: None,
            default_release: None,
            environment: None,
            hash_key: None,
            hashes_users: false,
            keys: KeyRules::default(),
            sample_rate: 1.0,
            is_disabled: false,
            reads_environment: true,
            attributes: Vec::new(),
            declares_in: None,
            ring_bytes: ring::DEFAULT_CAPACITY,
            max_rings: ring::DEFAULT_MAX_RINGS,
            // Chosen: about 100,000 records, minutes of a busy service, without hurting the host.
            max_queue_bytes: 16 * 1024 * 1024,
            spool: None,
            // Chosen: about 8 million records, a day of a busy service, on any disk.
            max_spool_bytes: 256 * 1024 * 1024,
            // Chosen: a long weekend with room to spare; older figures change answers that were read and acted on.
            max_spool_age: Duration::from_hours(7 * 24),
            #[cfg(feature = "http")]
            baggage_to: Vec::new(),
            send_interval: Duration::from_secs(1),
            shutdown_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            tls: Tls::default(),
            compression: Compression::default(),
            on_error: None,
        }
    }

    /// Base address of the server, such as `http://127.0.0.1:4318`; `/v1/logs` and so on are added.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").endpoint("https://gemba.example.com");
    /// ```
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The project's ingest key.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").key("gi_0123");
    /// ```
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The release that runs: `service.version`.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").release("1.4.0");
    /// ```
    pub fn release(mut self, release: impl Into<String>) -> Self {
        self.release = Some(release.into());
        self
    }

    /// The release when nobody else names one; `init!` gives the calling crate's version.
    #[doc(hidden)]
    pub fn default_release(mut self, release: impl Into<String>) -> Self {
        self.default_release = Some(release.into());
        self
    }

    /// Where it is deployed: `production`, `staging` and so on.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").environment("production");
    /// ```
    pub fn environment(mut self, environment: impl Into<String>) -> Self {
        self.environment = Some(environment.into());
        self
    }

    /// A further resource attribute.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").attribute("cloud.region", "eu-west-1");
    /// ```
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((key.into(), value.into()));
        self
    }

    /// Keeps the catalogue to what is declared in source files whose names (as `file!()` gives them) begin so. For a
    /// program that holds several services, each of which would else declare the features of all.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").declares_in("services/shop/");
    /// ```
    pub fn declares_in(mut self, files: impl Into<String>) -> Self {
        self.declares_in = Some(files.into());
        self
    }

    /// Secret that keys the hashes of sessions, of the contexts of flags and, if asked for, of users. Services that share
    /// sessions share it.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").hash_key("from the vault");
    /// ```
    pub fn hash_key(mut self, secret: impl Into<String>) -> Self {
        self.hash_key = Some(secret.into());
        self
    }

    /// Sends users and anonymous ids as keyed hashes too. Wants a [`hash_key`](Self::hash_key): users are easily guessed.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").hash_key("from the vault").hash_users(true);
    /// ```
    pub fn hash_users(mut self, hashes_users: bool) -> Self {
        self.hashes_users = hashes_users;
        self
    }

    /// The only attributes of features, steps, users and tenants that may leave: keys, or `cart.*` for all that begin with
    /// `cart.`. Default: all. `GEMBA_ALLOW_ATTRIBUTES` (separated by commas) takes the place of this list. What
    /// [`feature_flag!`](crate::feature_flag) says leaves whatever is listed here: without its variant it says nothing.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").allow_attributes(["kind", "cart.*"]).deny_attributes(["cart.coupon"]);
    /// ```
    pub fn allow_attributes<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.keys.allowed = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Attributes that never leave, even if they are [allowed](Self::allow_attributes); written like those.
    /// `GEMBA_DENY_ATTRIBUTES` adds to this list. It holds for [`feature_flag!`](crate::feature_flag) too, by the name an
    /// attribute is sent under: `feature_flag.context.id`, not `context`. And for what the host is told of itself
    /// (`OTEL_RESOURCE_ATTRIBUTES`, [`attribute`](Self::attribute)), save service, release and environment.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").deny_attributes(["mail", "cart.*"]);
    /// ```
    pub fn deny_attributes<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.keys.denied = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Records this share of the people, above 0 and at most 1, which is the default: all or nothing of a person, by the hash
    /// of the user, else of the session, the same in every service with the same [`hash_key`](Self::hash_key).
    ///
    /// Only what people do is left out: uses, attempts, steps and evaluations of flags. Who they are, database queries and requests served stay
    /// complete, because a rare slow query or an outage shows in no sample. Events of nobody stay too. The rate travels as
    /// `gemba.sample_rate`. A visitor who signs in becomes another person to the sample: do not sample where a funnel
    /// crosses the sign-in.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").sample_rate(0.25);
    /// ```
    pub fn sample_rate(mut self, rate: f64) -> Self {
        self.sample_rate = rate;
        self
    }

    /// Records nothing and starts no thread.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").disabled(cfg!(test));
    /// ```
    pub fn disabled(mut self, is_disabled: bool) -> Self {
        self.is_disabled = is_disabled;
        self
    }

    /// Ignores the environment: for a program whose `GEMBA_*` variables are meant for something else.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").without_environment();
    /// ```
    pub fn without_environment(mut self) -> Self {
        self.reads_environment = false;
        self
    }

    /// Bytes of each thread's ring, 4 KiB to 8 MiB, rounded up to a power of two; default 64 KiB.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").ring_bytes(256 * 1024);
    /// ```
    pub fn ring_bytes(mut self, bytes: usize) -> Self {
        self.ring_bytes = bytes;
        self
    }

    /// Threads that can record at the same time; default 64. Records of further threads are counted as `no_ring`.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").max_rings(128);
    /// ```
    pub fn max_rings(mut self, rings: usize) -> Self {
        self.max_rings = rings;
        self
    }

    /// Bytes of encoded records that may wait for the server; default 16 MiB. Beyond it the newest batch is dropped.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").max_queue_bytes(4 * 1024 * 1024);
    /// ```
    pub fn max_queue_bytes(mut self, bytes: usize) -> Self {
        self.max_queue_bytes = bytes;
        self
    }

    /// Keeps batches in this folder while the server is away or the process ends without it; this process or a later one of
    /// the same service and environment sends them, each stored once. Default: none, because a library writes nothing to a
    /// disk unasked: the files hold what would have been sent (user ids among it), readable by their owner only.
    ///
    /// Processes and services may share it. A folder that cannot be used is told to [`on_error`](Self::on_error), and
    /// records wait in memory as without it.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").spool("/var/lib/shop/gemba");
    /// ```
    pub fn spool(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spool = Some(folder.into());
        self
    }

    /// Bytes of the files a process keeps in its [`spool`](Self::spool), those it took over included; default 256 MiB.
    /// Beyond it the oldest are dropped and counted.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").spool("/var/lib/shop/gemba").max_spool_bytes(1 << 30);
    /// ```
    pub fn max_spool_bytes(mut self, bytes: u64) -> Self {
        self.max_spool_bytes = bytes;
        self
    }

    /// How long a batch may wait in the [`spool`](Self::spool); default 7 days. Older ones are dropped and counted.
    ///
    /// ```
    /// use std::time::Duration;
    /// let config = gemba::Config::new("shop").max_spool_age(Duration::from_hours(24));
    /// ```
    pub fn max_spool_age(mut self, age: Duration) -> Self {
        self.max_spool_age = age;
        self
    }

    /// Hosts that [`web::propagate`](crate::web::propagate) tells who the user, session and tenant are: names, or `.internal` for
    /// all names below it. Default: none.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").baggage_to(["orders.internal", ".trusted.example"]);
    /// ```
    #[cfg(feature = "http")]
    pub fn baggage_to<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.baggage_to = hosts.into_iter().map(|host| host.into().to_ascii_lowercase()).collect();
        self
    }

    /// How requests are made smaller; `GEMBA_COMPRESSION` (`zstd` or `gzip`) wins.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").compression(gemba::Compression::Gzip);
    /// ```
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How long a record may wait for more before it is sent; default 1 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// let config = gemba::Config::new("shop").send_interval(Duration::from_millis(200));
    /// ```
    pub fn send_interval(mut self, interval: Duration) -> Self {
        self.send_interval = interval;
        self
    }

    /// How long dropping the [`Guard`] may block to deliver what is left; default 5 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// let config = gemba::Config::new("shop").shutdown_timeout(Duration::from_secs(1));
    /// ```
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// How long one request to the server may take; default 10 s, as OTLP exporters have it.
    ///
    /// ```
    /// use std::time::Duration;
    /// let config = gemba::Config::new("shop").request_timeout(Duration::from_secs(3));
    /// ```
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// File of the certificates in PEM that a server with https is trusted by, for one whose certificate no public authority has
    /// signed; `GEMBA_CA` wins. Read once, at the start, and only for an endpoint with https. Without it the public authorities are
    /// trusted, as Mozilla lists them.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").ca("/etc/ssl/our-own.pem");
    /// ```
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(file.into());
        self
    }

    /// Files in PEM of the certificate chain, and of its key, that are shown to a server which asks for them;
    /// `GEMBA_CLIENT_CERTIFICATE` and `GEMBA_CLIENT_KEY` win together. Read once, at the start, and only for an endpoint with https.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").client_certificate("/etc/ssl/shop.pem", "/etc/ssl/shop.key");
    /// ```
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.client = Some((certificate.into(), key.into()));
        self
    }

    /// Told of problems on the sending thread, at most once a minute for each kind; default: one line on stderr. For
    /// observing only: what it records makes an outage worse, and if it ends the process or drops the guard, what has not been
    /// delivered by then is not waited for.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").on_error(|problem| eprintln!("{problem}"));
    /// ```
    pub fn on_error(mut self, hook: impl Fn(Problem) + Send + Sync + 'static) -> Self {
        self.on_error = Some(Arc::new(hook));
        self
    }

    /// Starts recording. Blocks for about two milliseconds to measure the clock.
    ///
    /// # Errors
    /// [`InitError`]: a setting is wrong, recording has been started before, or a thread cannot be had.
    ///
    /// ```
    /// let refused = gemba::Config::new("shop").without_environment().sample_rate(7.0).start();
    /// assert!(matches!(refused, Err(gemba::InitError::InvalidSampleRate { .. })));
    /// // Switched off, it checks the settings and records nothing.
    /// let _gemba = gemba::Config::new("shop").disabled(true).start()?;
    /// # Ok::<(), gemba::InitError>(())
    /// ```
    pub fn start(self) -> Result<Guard, InitError> {
        let lookup = |name: &str| if self.reads_environment { environment_variable(name) } else { None };
        let settings = self.settings(&lookup)?;
        if let Some(files) = self.declares_in {
            crate::catalog::keep_to(files);
        }
        let guard = crate::guard::start(settings)?;
        #[cfg(feature = "http")]
        crate::web::configure(self.baggage_to);
        Ok(guard)
    }
}

fn environment_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Random bits from the system; where it has none, from the seeds of the standard library's hash maps.
pub(crate) fn random_u64() -> u64 {
    getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one(std::process::id()))
}
