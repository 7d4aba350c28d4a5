//! What pages in a browser may do (Fetch standard, "CORS protocol").
//!
//! In: a request and where it comes from. Out: the headers that let a page send and read the answer. Whether a key may be
//! used by a page is decided where the key is checked ([`super::otlp::admitted`]); this is what the browser is told of it.

use super::{App, Request, Response, auth, response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

/// Seconds a browser may keep the answer to a preflight; two hours is the most Chromium takes.
const PREFLIGHT_SECONDS: &str = "7200";

/// Which pages are let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Allowed {
    /// None, or nobody asks.
    Nobody,
    /// Those of any origin.
    Anybody,
    /// Those of this one.
    Origin(HeaderValue),
}

/// Which pages may do what the request asks for: those on the server's list, and those bound to the key it carries. A preflight
/// carries no key, and one that is unknown is bound to nobody: what is bound to any key may go on then, and the page is told more.
pub(super) fn allowed_origin(app: &App, request: &Request) -> Allowed {
    let headers = request.headers();
    let Some(origin) = headers.get(header::ORIGIN) else { return Allowed::Nobody };
    let names = |list: &[String]| list.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
    let is_bound = || {
        let key = (*request.method() != Method::OPTIONS)
            .then(|| auth::ingest(&app.control, headers, request.uri().query()).ok());
        match key.flatten() {
            Some(key) => names(&key.origins),
            None => app.control.is_origin_of_a_key(origin.as_bytes()),
        }
    };
    if names(&app.cors_origins) || is_bound() {
        return Allowed::Origin(origin.clone());
    }
    if app.cors_origins.iter().any(|allowed| allowed == "*") { Allowed::Anybody } else { Allowed::Nobody }
}

/// The answer to a browser's question whether it may send: headers only, no key, no effect.
pub(super) fn preflight(headers: &HeaderMap) -> Response {
    let mut answer = response(StatusCode::NO_CONTENT, "text/plain", Bytes::new());
    let answered = answer.headers_mut();
    answered.remove(header::CONTENT_TYPE);
    answered.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS"));
    answered.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_SECONDS));
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    // Exporters send headers of the application's choice; none of them has any power here.
    let allowed =
        asked.unwrap_or(HeaderValue::from_static("authorization, content-type, content-encoding, idempotency-key"));
    answered.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    answer
}

/// Lets a page of an allowed origin send and read the answer. A beacon sends the browser's credentials along, which mean nothing
/// here; the browser wants to be told all the same that they may come, and takes that of an origin by name only.
pub(super) fn allow(allowed: Allowed, answered: &mut HeaderMap) {
    let value = match allowed {
        Allowed::Nobody => return,
        Allowed::Anybody => HeaderValue::from_static("*"),
        Allowed::Origin(origin) => {
            answered.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            origin
        }
    };
    answered.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
    answered.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    answered.append(header::VARY, HeaderValue::from_static("Origin"));
}
