//! Settings: from code, then from the environment, which wins so that an operator has the last word.
//!
//! In: a [`Config`] and environment variables, read once at the start. Out: the checked [`Settings`] of the pipeline.
//! The only module that reads the environment.

use crate::guard::{Guard, InitError};
use crate::pipeline::ring;
use crate::privacy::{self, KeyRules, Privacy};
use crate::problem::{OnError, Problem};
use gemba_conventions::attribute;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where to send when nothing is said: `gemba serve` on this machine (its default address, OTLP's own port).
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:4318";

/// How the SDK records and where it sends.
///
/// The environment wins over what is said here, so that an operator has the last word: `GEMBA_ENDPOINT`, `GEMBA_KEY`,
/// `GEMBA_RELEASE`, `GEMBA_ENVIRONMENT`, `GEMBA_HASH_KEY`, `GEMBA_HASH_USERS`, `GEMBA_ALLOW_ATTRIBUTES`,
/// `GEMBA_DENY_ATTRIBUTES`, `GEMBA_SAMPLE_RATE`, `GEMBA_SPOOL_DIR`, `GEMBA_SPOOL_MAX_BYTES` and `GEMBA_DISABLED`;
/// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` describe the resource. The endpoint of the host's own OpenTelemetry is
/// never used by itself, else user ids would reach somebody's tracing vendor. Where records go is said once at the start.
///
/// ```no_run
/// # fn main() -> Result<(), gemba::InitError> {
/// let _gemba = gemba::Config::new("shop").endpoint("http://gemba:4318").key("gi_..").release("1.4.0").start()?;
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
            on_error: None,
        }
    }

    /// Base address of the server, such as `http://127.0.0.1:4318`; `/v1/logs` and so on are added.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// The project's ingest key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The release that runs: `service.version`.
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
    pub fn environment(mut self, environment: impl Into<String>) -> Self {
        self.environment = Some(environment.into());
        self
    }

    /// A further resource attribute.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((key.into(), value.into()));
        self
    }

    /// Keeps the catalogue to what is declared in source files whose names (as `file!()` gives them) begin so. For a
    /// program that holds several services, each of which would else declare the features of all.
    pub fn declares_in(mut self, files: impl Into<String>) -> Self {
        self.declares_in = Some(files.into());
        self
    }

    /// Secret that keys the hashes of sessions and, if asked for, users. Services that share sessions share it.
    pub fn hash_key(mut self, secret: impl Into<String>) -> Self {
        self.hash_key = Some(secret.into());
        self
    }

    /// Sends users and anonymous ids as keyed hashes too. Wants a [`hash_key`](Self::hash_key): users are easily guessed.
    pub fn hash_users(mut self, hashes_users: bool) -> Self {
        self.hashes_users = hashes_users;
        self
    }

    /// The only attributes of features, steps, users and tenants that may leave: keys, or `cart.*` for all that begin with
    /// `cart.`. Default: all. `GEMBA_ALLOW_ATTRIBUTES` (separated by commas) takes the place of this list.
    ///
    /// ```
    /// let config = gemba::Config::new("shop").allow_attributes(["kind", "cart.*"]).deny_attributes(["cart.coupon"]);
    /// ```
    pub fn allow_attributes<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.keys.allowed = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Attributes that never leave, even if they are [allowed](Self::allow_attributes); written like those.
    /// `GEMBA_DENY_ATTRIBUTES` adds to this list.
    pub fn deny_attributes<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.keys.denied = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Records this share of the people, above 0 and at most 1, which is the default: all or nothing of a person, by the hash
    /// of the user, else of the session, the same in every service with the same [`hash_key`](Self::hash_key).
    ///
    /// Only what people do is left out: uses, attempts and steps. Who they are, database queries and requests served stay
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
    pub fn disabled(mut self, is_disabled: bool) -> Self {
        self.is_disabled = is_disabled;
        self
    }

    /// Ignores the environment: for a program whose `GEMBA_*` variables are meant for something else.
    pub fn without_environment(mut self) -> Self {
        self.reads_environment = false;
        self
    }

    /// Bytes of each thread's ring, 4 KiB to 8 MiB, rounded up to a power of two; default 64 KiB.
    pub fn ring_bytes(mut self, bytes: usize) -> Self {
        self.ring_bytes = bytes;
        self
    }

    /// Threads that can record at the same time; default 64. Records of further threads are counted as `no_ring`.
    pub fn max_rings(mut self, rings: usize) -> Self {
        self.max_rings = rings;
        self
    }

    /// Bytes of encoded records that may wait for the server; default 16 MiB. Beyond it the newest batch is dropped.
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
    pub fn spool(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spool = Some(folder.into());
        self
    }

    /// Bytes of the files a process keeps in its [`spool`](Self::spool), those it took over included; default 256 MiB.
    /// Beyond it the oldest are dropped and counted.
    pub fn max_spool_bytes(mut self, bytes: u64) -> Self {
        self.max_spool_bytes = bytes;
        self
    }

    /// How long a batch may wait in the [`spool`](Self::spool); default 7 days. Older ones are dropped and counted.
    pub fn max_spool_age(mut self, age: Duration) -> Self {
        self.max_spool_age = age;
        self
    }

    /// Hosts that [`web::propagate`](crate::web::propagate) tells who the user, session and tenant are: names, or `.internal` for
    /// all names below it. Default: none.
    #[cfg(feature = "http")]
    pub fn baggage_to<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.baggage_to = hosts.into_iter().map(|host| host.into().to_ascii_lowercase()).collect();
        self
    }

    /// How long a record may wait for more before it is sent; default 1 s.
    pub fn send_interval(mut self, interval: Duration) -> Self {
        self.send_interval = interval;
        self
    }

    /// How long dropping the [`Guard`] may block to deliver what is left; default 5 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// How long one request to the server may take; default 10 s, as OTLP exporters have it.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Told of problems on the sending thread, at most once a minute for each kind; default: one line on stderr. For
    /// observing only: what it records makes an outage worse.
    pub fn on_error(mut self, hook: impl Fn(Problem) + Send + Sync + 'static) -> Self {
        self.on_error = Some(Arc::new(hook));
        self
    }

    /// Starts recording. Blocks for about two milliseconds to measure the clock.
    ///
    /// # Errors
    /// [`InitError`]: a setting is wrong, recording has been started before, or a thread cannot be had.
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

    /// The checked settings, with the environment as `lookup` gives it.
    pub(crate) fn settings(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Settings, InitError> {
        let pick = |name: &str, said: &Option<String>| lookup(name).or_else(|| said.clone());
        let endpoint = pick("GEMBA_ENDPOINT", &self.endpoint).unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let is_plain = endpoint.starts_with("http://");
        let is_encrypted = endpoint.starts_with("https://");
        if !is_plain && !is_encrypted {
            return Err(InitError::InvalidEndpoint { endpoint });
        }
        if is_encrypted && !cfg!(feature = "tls") {
            return Err(InitError::NoTls { endpoint });
        }
        let key = pick("GEMBA_KEY", &self.key);
        if key.as_ref().is_some_and(|key| key.bytes().any(|byte| !byte.is_ascii_graphic())) {
            return Err(InitError::InvalidKey);
        }
        let is_disabled = lookup("GEMBA_DISABLED").map_or(self.is_disabled, |word| is_true(&word));
        let privacy = self.privacy(lookup)?;
        let mut resource = self.resource(lookup);
        if let Some(rate) = privacy.sample_rate {
            resource.push((attribute::SAMPLE_RATE.to_owned(), rate.to_string()));
            resource.sort();
        }
        let spool = self.spool_settings(lookup, &resource)?;
        Ok(Settings {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            key,
            resource,
            spool,
            privacy,
            is_disabled,
            ring_bytes: self.ring_bytes,
            max_rings: self.max_rings,
            max_queue_bytes: self.max_queue_bytes,
            send_interval: self.send_interval,
            shutdown_timeout: self.shutdown_timeout,
            request_timeout: self.request_timeout,
            on_error: self.on_error.clone(),
        })
    }

    fn privacy(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Privacy, InitError> {
        let key = lookup("GEMBA_HASH_KEY").or_else(|| self.hash_key.clone());
        let hashes_users = lookup("GEMBA_HASH_USERS").map_or(self.hashes_users, |word| is_true(&word));
        if hashes_users && key.is_none() {
            return Err(InitError::NoHashKey);
        }
        let mut keys = self.keys.clone();
        if let Some(allowed) = lookup("GEMBA_ALLOW_ATTRIBUTES") {
            keys.allowed = list(&allowed).collect();
        }
        keys.denied.extend(list(&lookup("GEMBA_DENY_ATTRIBUTES").unwrap_or_default()));
        let rate = match lookup("GEMBA_SAMPLE_RATE") {
            Some(value) => value.parse().map_err(|_| InitError::InvalidSampleRate { value })?,
            None => self.sample_rate,
        };
        // Written so that a NaN is refused too.
        if !(rate > 0.0 && rate <= 1.0) {
            return Err(InitError::InvalidSampleRate { value: rate.to_string() });
        }
        let sample_rate = (rate < 1.0).then_some(rate);
        Ok(Privacy { key: key.map(|key| privacy::key_of(&key)), hashes_users, keys, sample_rate })
    }

    fn spool_settings(
        &self,
        lookup: &dyn Fn(&str) -> Option<String>,
        resource: &[(String, String)],
    ) -> Result<Option<SpoolSettings>, InitError> {
        const MAX_BYTES: &str = "GEMBA_SPOOL_MAX_BYTES";
        let max_bytes = match lookup(MAX_BYTES) {
            Some(value) => value.parse().map_err(|_| InitError::InvalidNumber { name: MAX_BYTES, value })?,
            None => self.max_spool_bytes,
        };
        let Some(folder) = lookup("GEMBA_SPOOL_DIR").map(PathBuf::from).or_else(|| self.spool.clone()) else {
            return Ok(None);
        };
        // Services may share the folder, and each may send with a key of its own: a batch waits for its own kind.
        let of = |key| resource.iter().find(|(of, _)| of == key).map_or("", |(_, value)| value.as_str());
        let name = match (of(attribute::SERVICE_NAME), of(attribute::ENVIRONMENT)) {
            (service, "") => file_name(service),
            (service, environment) => format!("{}@{}", file_name(service), file_name(environment)),
        };
        Ok(Some(SpoolSettings { folder: folder.join(name), max_bytes, max_age: self.max_spool_age }))
    }

    /// The resource: what the environment says for OpenTelemetry, then what is said here, then `GEMBA_*`; sorted by key.
    fn resource(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Vec<(String, String)> {
        let mut resource = std::collections::BTreeMap::new();
        if let Some(release) = &self.default_release {
            resource.insert(attribute::SERVICE_VERSION.to_owned(), release.clone());
        }
        resource.insert(attribute::SERVICE_NAME.to_owned(), self.service.clone());
        resource.extend(parse_resource(&lookup("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default()));
        resource.extend(self.attributes.iter().cloned());
        let named = [
            (attribute::SERVICE_NAME, lookup("OTEL_SERVICE_NAME")),
            (attribute::SERVICE_VERSION, lookup("GEMBA_RELEASE").or_else(|| self.release.clone())),
            (attribute::ENVIRONMENT, lookup("GEMBA_ENVIRONMENT").or_else(|| self.environment.clone())),
        ];
        for (key, value) in named {
            if let Some(value) = value {
                resource.insert(key.to_owned(), value);
            }
        }
        resource.into_iter().collect()
    }
}

/// What the pipeline works with.
pub(crate) struct Settings {
    /// Without a trailing slash.
    pub(crate) endpoint: String,
    pub(crate) key: Option<String>,
    /// Sorted by key; without instance id and sent time.
    pub(crate) resource: Vec<(String, String)>,
    pub(crate) privacy: Privacy,
    pub(crate) is_disabled: bool,
    pub(crate) ring_bytes: usize,
    pub(crate) max_rings: usize,
    pub(crate) max_queue_bytes: usize,
    pub(crate) spool: Option<SpoolSettings>,
    pub(crate) send_interval: Duration,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) on_error: Option<OnError>,
}

impl Settings {
    /// Service, release and environment, as far as they are known.
    pub(crate) fn name(&self) -> String {
        let of = |key| self.resource.iter().find(|(of, _)| of == key).map(|(_, value)| value.as_str());
        let known = [attribute::SERVICE_NAME, attribute::SERVICE_VERSION, attribute::ENVIRONMENT];
        known.into_iter().filter_map(of).collect::<Vec<_>>().join(" ")
    }
}

/// Where batches wait on disk.
#[derive(Debug, Clone)]
pub(crate) struct SpoolSettings {
    /// The service's own.
    pub(crate) folder: PathBuf,
    /// Of all files together.
    pub(crate) max_bytes: u64,
    pub(crate) max_age: Duration,
}

/// `text` as the name of a folder: what could mean something to a file system is percent-encoded.
fn file_name(text: &str) -> String {
    use std::fmt::Write as _;
    let mut name = String::new();
    for (index, byte) in text.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && index > 0);
        if is_plain {
            name.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _always = write!(name, "%{byte:02X}");
        }
    }
    name
}

fn environment_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The entries of a list separated by commas.
fn list(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned)
}

/// OpenTelemetry's rule for booleans: `true` in any case; we also take `1`.
fn is_true(word: &str) -> bool {
    word.eq_ignore_ascii_case("true") || word == "1"
}

/// `key=value,key=value` with percent-encoded values (OpenTelemetry resource SDK, "Specifying resource information via an
/// environment variable"); an entry without `=` is left out.
fn parse_resource(text: &str) -> Vec<(String, String)> {
    let pair = |entry: &str| {
        let (key, value) = entry.split_once('=')?;
        Some((decode_percent(key.trim()), decode_percent(value.trim())))
    };
    text.split(',').filter_map(pair).filter(|(key, _)| !key.is_empty()).collect()
}

pub(crate) fn decode_percent(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after
            .split_first_chunk::<2>()
            .filter(|_| first == b'%')
            .and_then(|(digits, tail)| Some((u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?, tail)));
        let (byte, tail) = escaped.unwrap_or((first, after));
        bytes.push(byte);
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Random bits from the system; where it has none, from the seeds of the standard library's hash maps.
pub(crate) fn random_u64() -> u64 {
    getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource_with(variables: &[(&str, &str)]) -> Vec<(String, String)> {
        let variables: Vec<_> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let lookup = move |name: &str| variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Config::new("shop").default_release("0.1").environment("test").settings(&lookup).unwrap().resource
    }

    #[test]
    fn the_environment_has_the_last_word_on_the_resource() {
        let plain = resource_with(&[]);
        assert!(plain.contains(&("service.version".into(), "0.1".into())), "{plain:?}");
        let told = resource_with(&[
            ("OTEL_RESOURCE_ATTRIBUTES", "service.version=0.2,region=eu%2Cwest,broken"),
            ("OTEL_SERVICE_NAME", "shop-eu"),
            ("GEMBA_RELEASE", "0.3"),
        ]);
        let expected = [
            ("deployment.environment.name", "test"),
            ("region", "eu,west"),
            ("service.name", "shop-eu"),
            ("service.version", "0.3"),
        ];
        assert_eq!(told, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn a_spool_folder_is_the_services_own_and_a_name_cannot_leave_it() {
        let spool = |config: Config, size: &'static str| {
            let lookup =
                move |name: &str| (name == "GEMBA_SPOOL_MAX_BYTES" && !size.is_empty()).then(|| size.to_owned());
            config.settings(&lookup).map(|settings| settings.spool)
        };
        assert!(spool(Config::new("shop"), "").unwrap().is_none(), "nothing is written unasked");
        let told = spool(Config::new("../shop").environment("eu/1").spool("/var/spool"), "4096").unwrap().unwrap();
        assert_eq!(told.folder, PathBuf::from("/var/spool/%2E.%2Fshop@eu%2F1"));
        assert_eq!(told.max_bytes, 4096);
        let wrong = spool(Config::new("shop"), "lots").err();
        assert!(matches!(wrong, Some(InitError::InvalidNumber { .. })), "{wrong:?}");
    }

    #[test]
    fn the_environment_has_the_last_word_on_privacy() {
        let privacy = |config: Config, variables: &'static [(&str, &str)]| {
            let lookup =
                move |name: &str| variables.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
            config.settings(&lookup).map(|settings| settings.privacy)
        };
        let said = Config::new("shop").allow_attributes(["kind"]).deny_attributes(["mail"]).sample_rate(0.5);
        let told = privacy(
            said.clone(),
            &[
                ("GEMBA_ALLOW_ATTRIBUTES", "n, cart.*,"),
                ("GEMBA_DENY_ATTRIBUTES", "cart.coupon"),
                ("GEMBA_SAMPLE_RATE", "1"),
            ],
        );
        let told = told.unwrap();
        assert_eq!(told.keys.allowed, ["n", "cart.*"], "takes the place of the list in the code");
        assert_eq!(told.keys.denied, ["mail", "cart.coupon"], "adds to the list in the code");
        assert_eq!(told.sample_rate, None, "all");
        assert_eq!(privacy(said, &[]).unwrap().sample_rate, Some(0.5));
        for wrong in ["0", "-1", "1.01", "NaN", "half"] {
            let lookup = |name: &str| (name == "GEMBA_SAMPLE_RATE").then(|| wrong.to_owned());
            let problem = Config::new("shop").settings(&lookup).err();
            assert!(matches!(problem, Some(InitError::InvalidSampleRate { .. })), "{wrong}: {problem:?}");
        }
        let unkeyed = privacy(Config::new("shop"), &[("GEMBA_HASH_USERS", "true")]).err();
        assert!(matches!(unkeyed, Some(InitError::NoHashKey)), "{unkeyed:?}");
        let keyed = privacy(Config::new("shop"), &[("GEMBA_HASH_USERS", "true"), ("GEMBA_HASH_KEY", "secret")]);
        assert!(keyed.unwrap().hashes_users);
    }

    #[test]
    fn a_wrong_endpoint_is_refused_at_the_start() {
        let problem = Config::new("shop").endpoint("localhost:4318").settings(&|_| None).err();
        assert!(matches!(problem, Some(InitError::InvalidEndpoint { .. })), "{problem:?}");
    }
}
