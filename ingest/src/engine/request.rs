//! Reads a request of ClickHouse's HTTP interface.
//!
//! In: the URL, headers, and for forms the body. Out: [`Request`], or the refusal as ClickHouse words it. No I/O.

use std::time::Duration;

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use subtle::ConstantTimeEq as _;

use super::codec::Coding;
use super::host::ExternalTable;

/// The only user.
pub const USER: &str = "default";
/// How long a session lives without a request when the client does not say (ClickHouse's `default_session_timeout`).
const SESSION_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest a client may ask for (ClickHouse's `max_session_timeout`).
const MAX_SESSION_TIMEOUT: Duration = Duration::from_hours(1);

/// A session the client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    /// The client's name for it.
    pub id: String,
    /// How long it lives without a request.
    pub timeout: Duration,
    /// Refuse if it is not there.
    pub must_exist: bool,
}

/// What a request asks for, apart from its body.
#[derive(Debug)]
pub struct Request {
    /// Statement text outside of the body.
    pub query: String,
    /// Values of query parameters, names without `param_`.
    pub parameters: Vec<(String, String)>,
    /// Everything that is no parameter of the interface is a setting.
    pub settings: Vec<(String, String)>,
    /// Current database.
    pub database: Option<String>,
    /// Format of a result whose statement names none.
    pub format: String,
    /// The client's id, or a fresh one.
    pub query_id: String,
    /// The client's `log_comment`.
    pub log_comment: String,
    /// Session.
    pub session: Option<SessionRequest>,
    /// Tables sent along.
    pub tables: Vec<ExternalTable>,
    /// Compression of the answer.
    pub coding: Coding,
    /// The body is in ClickHouse's blocks.
    pub decompress: bool,
    /// HTTP's own coding of the body.
    pub content_encoding: String,
    /// Answer only when the statement has ended.
    pub wait_end: bool,
}

/// The fields of the interface as they came, with those of a form.
#[derive(Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads the part of the URL behind `?`.
    pub fn from_url(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value, "1" | "true"))
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether user and password fit: from `X-ClickHouse-User`/`-Key`, else `Authorization: Basic`, else the URL.
///
/// # Errors
///
/// ClickHouse's message of a failed authentication.
pub fn authenticate(headers: &HeaderMap, fields: &Fields, password: &str) -> Result<(), String> {
    let basic = header(headers, AUTHORIZATION.as_str())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| base64(encoded.trim()))
        .and_then(|pair| pair.split_once(':').map(|(user, key)| (user.to_owned(), key.to_owned())));
    let (user, key) = match (header(headers, "x-clickhouse-user"), header(headers, "x-clickhouse-key"), basic) {
        (None, None, Some(pair)) => pair,
        (None, None, None) => {
            (fields.get("user").unwrap_or(USER).to_owned(), fields.get("password").unwrap_or_default().to_owned())
        }
        (user, key, _) => (user.unwrap_or(USER).to_owned(), key.unwrap_or_default().to_owned()),
    };
    let fits = bool::from(key.as_bytes().ct_eq(password.as_bytes()));
    if fits && user == USER {
        return Ok(());
    }
    Err(format!(
        "Code: 516. DB::Exception: {user}: Authentication failed: password is incorrect, or there is no user with such \
         name. (AUTHENTICATION_FAILED)"
    ))
}

/// Decodes base64 of the standard alphabet (RFC 4648, section 4); `None` when it is not that or not UTF-8.
fn base64(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    String::from_utf8(out).ok()
}

/// Parameters of the interface that are no settings and are used elsewhere or have no meaning with one user.
const OTHER: [&str; 13] = [
    "query",
    "user",
    "password",
    "quota_key",
    "role",
    "stacktrace",
    "buffer_size",
    "compress",
    "decompress",
    "session_timeout",
    "session_check",
    "close_session",
    "client_protocol_version",
];

impl Request {
    /// Reads the fields and headers. `get`: a GET may only read.
    pub fn read(fields: Fields, headers: &HeaderMap, get: bool) -> Self {
        let session = fields.get("session_id").map(|id| SessionRequest {
            id: id.to_owned(),
            timeout: fields
                .get("session_timeout")
                .and_then(|seconds| seconds.parse().ok())
                .map_or(SESSION_TIMEOUT, |seconds| Duration::from_secs(seconds).min(MAX_SESSION_TIMEOUT)),
            must_exist: fields.is_on("session_check"),
        });
        // Compression by HTTP is on in ClickHouse since 25.9 whenever the client accepts one.
        let http_compression =
            fields.get("enable_http_compression").is_none_or(|value| value != "0" && value != "false");
        let coding = if fields.is_on("compress") {
            Coding::Blocks
        } else if http_compression {
            header(headers, ACCEPT_ENCODING.as_str()).map_or(Coding::Identity, Coding::accepted)
        } else {
            Coding::Identity
        };
        let own = |name: &str| fields.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let by_header = |name: &str| header(headers, name).filter(|value| !value.is_empty()).map(str::to_owned);
        let mut request = Request {
            query: fields.get("query").unwrap_or_default().to_owned(),
            parameters: Vec::new(),
            settings: Vec::new(),
            database: own("database").or_else(|| by_header("x-clickhouse-database")),
            format: own("default_format")
                .or_else(|| by_header("x-clickhouse-format"))
                .unwrap_or_else(|| "TabSeparated".into()),
            query_id: own("query_id").unwrap_or_else(random_id),
            log_comment: fields.get("log_comment").unwrap_or_default().to_owned(),
            session,
            tables: Vec::new(),
            coding,
            decompress: fields.is_on("decompress"),
            content_encoding: header(headers, CONTENT_ENCODING.as_str()).unwrap_or_default().to_owned(),
            wait_end: fields.is_on("wait_end_of_query") || fields.is_on("http_wait_end_of_query"),
        };
        for (name, value) in fields.0 {
            if let Some(name) = name.strip_prefix("param_") {
                request.parameters.push((name.to_owned(), value));
            } else if !OTHER.contains(&name.as_str())
                && !["database", "default_format", "query_id", "session_id", "log_comment", "wait_end_of_query"]
                    .contains(&name.as_str())
            {
                request.settings.push((name, value));
            }
        }
        if get && !request.settings.iter().any(|(name, _)| name == "readonly") {
            // As ClickHouse does: a GET reads, and may change settings but this one.
            request.settings.push(("readonly".into(), "2".into()));
        }
        request
    }
}

/// The boundary of a form, if the body is one.
pub fn form_boundary(headers: &HeaderMap) -> Option<String> {
    let value = header(headers, CONTENT_TYPE.as_str())?;
    let rest = value.strip_prefix("multipart/form-data")?;
    let boundary = rest.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?;
    Some(boundary.trim_matches('"').to_owned())
}

/// One part of a form.
struct Part {
    name: String,
    is_file: bool,
    data: Vec<u8>,
}

/// Cuts a form (RFC 7578) into parts; `None` when it is not well formed.
fn parts(body: &[u8], boundary: &str) -> Option<Vec<Part>> {
    let marker = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(format!("--{boundary}").as_bytes())?;
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(parts);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let head_end = memchr::memmem::find(rest, b"\r\n\r\n")?;
        let head = std::str::from_utf8(rest.get(..head_end)?).ok()?;
        let content = rest.get(head_end + 4..)?;
        let end = memchr::memmem::find(content, marker.as_bytes())?;
        let disposition = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
        let value = |key: &str| {
            disposition.split(';').find_map(|part| {
                part.trim().strip_prefix(key)?.strip_prefix('=').map(|value| value.trim_matches('"').to_owned())
            })
        };
        parts.push(Part {
            name: value("name")?,
            is_file: value("filename").is_some(),
            data: content.get(..end)?.to_vec(),
        });
        rest = content.get(end + marker.len()..)?;
    }
}

/// Adds what a form holds to the fields; tables sent along (`NAME`, `NAME_format`, `NAME_structure`) come back apart.
///
/// # Errors
///
/// ClickHouse's message for a broken form.
pub fn read_form(body: &[u8], boundary: &str, fields: &mut Fields) -> Result<Vec<ExternalTable>, String> {
    let broken = || String::from("Code: 36. DB::Exception: Cannot read the multipart form. (BAD_ARGUMENTS)");
    let mut files = Vec::new();
    for part in parts(body, boundary).ok_or_else(broken)? {
        if part.is_file {
            files.push(part);
        } else {
            fields.0.push((part.name, String::from_utf8(part.data).map_err(|_| broken())?));
        }
    }
    let mut tables = Vec::new();
    for file in files {
        let mut described = |suffix: &str| {
            let key = format!("{}_{suffix}", file.name);
            let value = fields.get(&key).map(str::to_owned);
            fields.0.retain(|(name, _)| *name != key);
            value
        };
        let format = described("format").unwrap_or_else(|| "TabSeparated".into());
        let types = described("types");
        let structure = described("structure").or_else(|| {
            types.map(|types| {
                let columns: Vec<String> =
                    types.split(',').enumerate().map(|(index, kind)| format!("_{} {kind}", index + 1)).collect();
                columns.join(", ")
            })
        });
        let structure = structure.ok_or_else(broken)?;
        tables.push(ExternalTable { name: file.name, structure, format, data: file.data });
    }
    Ok(tables)
}

/// A fresh id in the shape of a UUID (version 4).
pub fn random_id() -> String {
    let mut bytes = [0_u8; 16];
    // Without randomness ids repeat; they only label statements.
    getrandom::fill(&mut bytes).ok();
    let n = (u128::from_be_bytes(bytes) & !(0xf << 76 | 0x3 << 62)) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{n:032x}");
    let piece = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", piece(0, 8), piece(8, 12), piece(12, 16), piece(16, 20), piece(20, 32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_password_is_taken_from_headers_or_the_url() {
        let check = |pairs: &[(&'static str, &str)], url: &str, good: bool| {
            let outcome = authenticate(&headers(pairs), &Fields::from_url(url), "p:w");
            assert_eq!(outcome.is_ok(), good, "{pairs:?} {url}: {outcome:?}");
        };
        check(&[("authorization", "Basic ZGVmYXVsdDpwOnc=")], "", true);
        check(&[("x-clickhouse-user", "default"), ("x-clickhouse-key", "p:w")], "", true);
        check(&[], "user=default&password=p%3Aw", true);
        check(&[("x-clickhouse-key", "wrong")], "password=p%3Aw", false);
        check(&[("x-clickhouse-user", "root"), ("x-clickhouse-key", "p:w")], "", false);
        check(&[], "", false);
    }

    #[test]
    fn what_is_no_parameter_of_the_interface_is_a_setting() {
        let fields = Fields::from_url("query=SELECT+1&param_a=x&max_threads=1&session_id=s&query_id=q&compress=1");
        let request = Request::read(fields, &HeaderMap::new(), true);
        assert_eq!(request.query, "SELECT 1");
        assert_eq!(request.parameters, [("a".to_owned(), "x".to_owned())]);
        let settings: Vec<&str> = request.settings.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(settings, ["max_threads", "readonly"]);
        assert_eq!((request.query_id.as_str(), request.coding), ("q", Coding::Blocks));
    }

    #[test]
    fn a_form_gives_fields_and_tables() {
        let body = b"--x\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT 1\r\n\
            --x\r\nContent-Disposition: form-data; name=\"t_structure\"\r\n\r\na UInt8\r\n\
            --x\r\nContent-Disposition: form-data; name=\"t\"; filename=\"f\"\r\nContent-Type: x/y\r\n\r\n1\r\n2\r\n--x--\r\n";
        let mut fields = Fields::from_url("max_threads=1");
        let tables = read_form(body, "x", &mut fields).unwrap();
        assert_eq!(fields.get("query"), Some("SELECT 1"));
        assert_eq!(fields.get("t_structure"), None);
        let [table] = tables.as_slice() else { panic!("{tables:?}") };
        assert_eq!((table.structure.as_str(), table.data.as_slice()), ("a UInt8", b"1\r\n2".as_slice()));
        assert!(read_form(b"--x\r\nnonsense", "x", &mut fields).is_err());
    }

    #[test]
    fn ids_look_like_uuids_and_differ() {
        let (one, two) = (random_id(), random_id());
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        assert_eq!(one.as_bytes()[14], b'4', "{one}");
    }
}
