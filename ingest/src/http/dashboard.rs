//! Serves the dashboard: a handful of static files inside the binary, no build step, no other origin.
//!
//! The files carry no data and need no key; everything shown is asked from the API with the reader's key.

use super::error::ApiError;
use super::{Request, Response, response};
use http::{HeaderValue, Method, StatusCode, header};

/// Path, content type, content.
const FILES: &[(&str, &str, &[u8])] = &[
    ("/", "text/html; charset=utf-8", include_bytes!("../../dashboard/index.html")),
    ("/dashboard.css", "text/css; charset=utf-8", include_bytes!("../../dashboard/dashboard.css")),
    ("/dashboard.js", "text/javascript; charset=utf-8", include_bytes!("../../dashboard/dashboard.js")),
    ("/vendor/htm-preact.js", "text/javascript; charset=utf-8", include_bytes!("../../dashboard/vendor/htm-preact.js")),
    ("/vendor/uplot.js", "text/javascript; charset=utf-8", include_bytes!("../../dashboard/vendor/uplot.js")),
    ("/vendor/uplot.css", "text/css; charset=utf-8", include_bytes!("../../dashboard/vendor/uplot.css")),
];

/// Nothing from elsewhere, nothing inline: a name or query text that somebody recorded can never run as a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file at `path`, or `None` where there is none.
pub fn file(path: &str, request: &Request) -> Option<Response> {
    let (_, content_type, content) = FILES.iter().find(|(name, ..)| *name == path)?;
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Some(ApiError::method_not_allowed("GET").into_response());
    }
    let mut answer = response(StatusCode::OK, content_type, *content);
    let headers = answer.headers_mut();
    // The files belong to the binary: after an upgrade the next load must see the new ones.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Some(answer)
}
