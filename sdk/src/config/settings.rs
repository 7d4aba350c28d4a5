//! The settings of a start: a [`Config`] and the environment, checked.
//!
//! In: both, the environment as a function of a variable's name. Out: [`Settings`], or the first that is wrong. Pure: it reads
//! nothing by itself.

use super::{Compression, Config};
use crate::guard::InitError;
use crate::privacy::{self, Privacy};
use crate::problem::OnError;
use gemba_conventions::attribute;
use std::path::PathBuf;
use std::time::Duration;

/// Where to send when nothing is said: `gemba serve` on this machine (its default address, OTLP's own port).
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:4318";

impl Config {
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
        let resource = self.resource(lookup, &privacy);
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
            // Nothing reads it without encryption, and a file that is missing must not keep the application from starting then.
            tls: is_encrypted.then(|| self.tls.with(lookup)).transpose()?,
            compression: match lookup("GEMBA_COMPRESSION") {
                Some(name) => compression(name)?,
                None => self.compression,
            },
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

    /// The resource: what the environment says for OpenTelemetry, then what is said here, then `GEMBA_*`, then what only the
    /// SDK can know; sorted by key, each once. What is denied is left out of what the host is told of itself, which may be anything;
    /// service, release and environment were named for Gemba.
    fn resource(&self, lookup: &dyn Fn(&str) -> Option<String>, privacy: &Privacy) -> Vec<(String, String)> {
        let own_names = [attribute::SERVICE_NAME, attribute::SERVICE_VERSION, attribute::ENVIRONMENT];
        let mut resource = std::collections::BTreeMap::new();
        if let Some(release) = &self.default_release {
            resource.insert(attribute::SERVICE_VERSION.to_owned(), release.clone());
        }
        resource.insert(attribute::SERVICE_NAME.to_owned(), self.service.clone());
        resource.extend(parse_resource(&lookup("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default()));
        resource.extend(self.attributes.iter().cloned());
        resource.retain(|key, _| own_names.contains(&key.as_str()) || !privacy.keys.deny(key));
        let named = [
            lookup("OTEL_SERVICE_NAME"),
            lookup("GEMBA_RELEASE").or_else(|| self.release.clone()),
            lookup("GEMBA_ENVIRONMENT").or_else(|| self.environment.clone()),
        ];
        for (key, value) in own_names.into_iter().zip(named) {
            if let Some(value) = value {
                resource.insert(key.to_owned(), value);
            }
        }
        // What the SDK itself says of each batch cannot be told it.
        for own in [attribute::SENT_TIME, attribute::SAMPLE_RATE, attribute::GIVEN_INSTANCE] {
            resource.remove(own);
        }
        if let Some(given) = resource.remove(attribute::SERVICE_INSTANCE) {
            resource.insert(attribute::GIVEN_INSTANCE.to_owned(), given);
        }
        if let Some(rate) = privacy.sample_rate {
            resource.insert(attribute::SAMPLE_RATE.to_owned(), rate.to_string());
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
    /// With https only.
    pub(crate) tls: Option<Tls>,
    pub(crate) compression: Compression,
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

/// Files of certificates.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls {
    /// Whom to trust; without one the public authorities.
    pub(crate) ca: Option<PathBuf>,
    /// What to show to a server that asks for it, and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// These, with what the environment says.
    fn with(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, InitError> {
        let client = match (lookup("GEMBA_CLIENT_CERTIFICATE"), lookup("GEMBA_CLIENT_KEY")) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => self.client.clone(),
            (None, _) => return Err(InitError::HalfAClientCertificate { missing: "GEMBA_CLIENT_CERTIFICATE" }),
            (_, None) => return Err(InitError::HalfAClientCertificate { missing: "GEMBA_CLIENT_KEY" }),
        };
        Ok(Self { ca: lookup("GEMBA_CA").map(PathBuf::from).or_else(|| self.ca.clone()), client })
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

fn compression(name: String) -> Result<Compression, InitError> {
    match name.as_str() {
        "zstd" => Ok(Compression::Zstd),
        "gzip" => Ok(Compression::Gzip),
        _ => Err(InitError::UnknownCompression { value: name }),
    }
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
    fn an_instance_that_is_given_goes_by_another_key_and_what_only_the_sdk_knows_is_not_taken() {
        let told = |config: Config| {
            let said = "service.instance.id=pod-7,service.instance.id=pod-8,gemba.sent_time=5,gemba.sample_rate=1";
            config.settings(&|name| (name == "OTEL_RESOURCE_ATTRIBUTES").then(|| said.to_owned())).unwrap().resource
        };
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let shop = ("service.name", "shop");
        assert_eq!(told(Config::new("shop")), pairs(&[("gemba.given_instance_id", "pod-8"), shop]));
        let half = Config::new("shop").sample_rate(0.5).attribute("service.instance.id", "code-1");
        assert_eq!(
            told(half),
            pairs(&[("gemba.given_instance_id", "code-1"), ("gemba.sample_rate", "0.5"), shop]),
            "the code comes after OpenTelemetry's environment"
        );
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
    fn every_variable_that_is_read_is_told_of_where_settings_are_made() {
        let documentation = include_str!("../config.rs");
        let code = include_str!("settings.rs").split("mod tests {").next().unwrap();
        let mut variables = 0;
        for prefix in ["\"GEMBA_", "\"OTEL_"] {
            for rest in code.split(prefix).skip(1) {
                let name = format!("{}{}", &prefix[1..], rest.split('"').next().unwrap());
                assert!(documentation.contains(&format!("`{name}`")), "{name}");
                variables += 1;
            }
        }
        assert!(variables >= 12, "{variables}");
    }

    #[test]
    fn files_of_certificates_count_with_https_only() {
        let tls = |endpoint: &'static str, set: &'static str| {
            let lookup = move |name: &str| set.contains(name).then(|| format!("{name}.pem"));
            let said = Config::new("shop").ca("own.pem").client_certificate("shop.pem", "shop.key");
            said.endpoint(endpoint).settings(&lookup).map(|settings| settings.tls)
        };
        assert!(tls("http://127.0.0.1:4318", "GEMBA_CA GEMBA_CLIENT_KEY").unwrap().is_none());
        #[cfg(feature = "tls")]
        {
            let https = "https://gemba.example.com";
            let told = tls(https, "GEMBA_CA").unwrap().unwrap();
            assert_eq!(told.ca, Some("GEMBA_CA.pem".into()));
            assert_eq!(told.client, Some(("shop.pem".into(), "shop.key".into())));
            let both = tls(https, "GEMBA_CLIENT_CERTIFICATE GEMBA_CLIENT_KEY").unwrap().unwrap();
            assert_eq!(both.client, Some(("GEMBA_CLIENT_CERTIFICATE.pem".into(), "GEMBA_CLIENT_KEY.pem".into())));
            let half = tls(https, "GEMBA_CLIENT_KEY").err();
            assert!(
                matches!(half, Some(InitError::HalfAClientCertificate { missing: "GEMBA_CLIENT_CERTIFICATE" })),
                "{half:?}"
            );
        }
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
    fn the_environment_names_a_compression_or_is_told_which_there_are() {
        let told = |name: &'static str| {
            let lookup = move |of: &str| (of == "GEMBA_COMPRESSION" && !name.is_empty()).then(|| name.to_owned());
            Config::new("shop").compression(Compression::Gzip).settings(&lookup).map(|settings| settings.compression)
        };
        assert_eq!((told("").unwrap(), told("zstd").unwrap()), (Compression::Gzip, Compression::Zstd));
        let wrong = told("lz4").err().map(|problem| problem.to_string());
        assert_eq!(wrong.as_deref(), Some("GEMBA_COMPRESSION is \"lz4\"; it can be zstd or gzip"));
    }

    #[test]
    fn a_wrong_endpoint_is_refused_at_the_start() {
        let problem = Config::new("shop").endpoint("localhost:4318").settings(&|_| None).err();
        assert!(matches!(problem, Some(InitError::InvalidEndpoint { .. })), "{problem:?}");
    }
}
