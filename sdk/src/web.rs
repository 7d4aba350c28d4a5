//! Identity and trace between services, in the headers of HTTP (W3C Trace Context and Baggage).
//!
//! In: the headers of a request that arrives, and whether its sender is trusted. Out: a scope; and the other way round,
//! headers for a request that leaves. It opens no connection.
//!
//! What is trusted is said, never guessed:
//! - `traceparent` and `baggage` of a request count only if the [layer](Layer::trust) is told to trust its sender. Else anybody on
//!   the internet could act as any user, and of any tenant.
//! - `baggage` leaves only to hosts that [`Config::baggage_to`](crate::Config::baggage_to) lists, because it names people. A
//!   `traceparent` names nobody and leaves to every host.
//! - Ids leave as they would to Gemba: sessions hashed, users too if so configured.

#[cfg(feature = "tower")]
mod begun;
#[cfg(feature = "tower")]
mod client;
#[cfg(feature = "tower")]
pub(crate) mod layer;
#[cfg(feature = "tower")]
mod parent;

#[cfg(feature = "tower")]
pub use client::{ClientLayer, ClientService};
#[cfg(feature = "tower")]
pub use layer::{Layer, ResponseFuture, Service};

use crate::context::{self, Trace};
use crate::scope;
use gemba_conventions::attribute;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write as _;
use std::sync::OnceLock;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Hosts that may see who somebody is.
static BAGGAGE_TO: OnceLock<Vec<String>> = OnceLock::new();

/// Sets the hosts for the process; the first call counts.
pub(crate) fn configure(hosts: Vec<String>) {
    let _first_wins = BAGGAGE_TO.set(hosts);
}

/// Adds the current trace to the headers of a request to `host`, and if [`Config::baggage_to`](crate::Config::baggage_to) lists
/// the host, the current user, session and tenant. A `traceparent` that is there already stays, and so does its `tracestate`;
/// what `baggage` there says of user, session and tenant goes, because it may come from whoever sent the request that is being
/// served. Never blocks.
///
/// Whether the trace is sampled is handed on as its beginner said it: the host's own span, or a sender that is trusted. A trace that
/// begins in Gemba's layer is sampled as the layer says. A `tracestate` is handed on with feature `opentelemetry`.
///
/// ```
/// # fn send(_: http::Request<()>) {}
/// let mut request = http::Request::get("http://orders.internal/orders").body(())?;
/// gemba::web::propagate("orders.internal", request.headers_mut());
/// send(request);
/// # Ok::<(), http::Error>(())
/// ```
///
/// With reqwest, whose headers are these too:
///
/// ```
/// # async fn orders(client: reqwest::Client, url: &str) -> Result<(), reqwest::Error> {
/// let mut request = client.get(url).build()?;
/// let host = request.url().host_str().unwrap_or_default().to_owned();
/// gemba::web::propagate(&host, request.headers_mut());
/// let answer = client.execute(request).await?;
/// # drop(answer);
/// # Ok(())
/// # }
/// ```
///
/// With hyper's client, or any other tower service, [`ClientLayer`] does it for each request.
pub fn propagate(host: &str, headers: &mut HeaderMap) {
    let others = others_baggage(headers);
    if !crate::state::is_recording() {
        return;
    }
    context::visit(scope::current(), |here| {
        let current = Trace::current();
        let trace = if current == Trace::default() { here.trace } else { current };
        if trace != Trace::default()
            && !headers.contains_key(TRACEPARENT)
            && let Ok(value) = HeaderValue::from_str(&traceparent(trace))
        {
            let state = if current == Trace::default() { String::new() } else { Trace::current_state() };
            headers.insert(TRACEPARENT, value);
            // Without the trace it belongs to it would say something about another one (Trace Context, section 3.3).
            headers.remove(TRACESTATE);
            if let (false, Ok(value)) = (state.is_empty(), HeaderValue::from_str(&state)) {
                headers.insert(TRACESTATE, value);
            }
        }
        if !may_see(host) {
            return;
        }
        let parts =
            [(attribute::USER_ID, here.user), (attribute::SESSION_ID, here.session), (attribute::TENANT, here.tenant)];
        let value = baggage(&parts);
        if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(&value)) {
            // Beside what others carry, and before it, because readers may look at so many members and no more. Several headers
            // make one list (RFC 9110, section 5.3).
            headers.insert(BAGGAGE, value);
            for value in others {
                headers.append(BAGGAGE, value);
            }
        }
    });
}

/// What identity travels as.
const IDENTITY: [&str; 3] = [attribute::USER_ID, attribute::SESSION_ID, attribute::TENANT];

/// Takes identity out of the baggage that is in the headers already, and gives what is left of it there. A service that hands a
/// request's headers on would else let whoever sent them say who he is, to a service that trusts this one.
fn others_baggage(headers: &mut HeaderMap) -> Vec<HeaderValue> {
    let is_identity = |member: &str| {
        let name = member.split(['=', ';']).next().unwrap_or_default();
        IDENTITY.contains(&name.trim())
    };
    let mut others = Vec::new();
    let mut has_identity = false;
    for value in headers.get_all(BAGGAGE) {
        match value.to_str() {
            Ok(list) if list.split(',').any(is_identity) => {
                has_identity = true;
                let rest: Vec<_> = list.split(',').filter(|member| !is_identity(member)).collect();
                // Made of a valid one.
                others.extend(HeaderValue::from_str(&rest.join(",")).ok().filter(|rest| !rest.is_empty()));
            }
            // What is no text names nobody: readers pass over it.
            _ => others.push(value.clone()),
        }
    }
    if has_identity {
        headers.remove(BAGGAGE);
        for value in &others {
            headers.append(BAGGAGE, value.clone());
        }
    }
    others
}

/// Whether a host is listed: by its name, or by an entry beginning with a dot for all names below it.
fn may_see(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let fits = |entry: &String| if entry.starts_with('.') { host.ends_with(entry.as_str()) } else { host == *entry };
    BAGGAGE_TO.get().is_some_and(|hosts| hosts.iter().any(fits))
}

/// `traceparent` of version 00, with the one flag that it knows (Trace Context, section 3.2.2.5).
fn traceparent(trace: Trace) -> String {
    let (trace_id, span_id) = (u128::from_be_bytes(trace.trace_id), u64::from_be_bytes(trace.span_id));
    format!("00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(trace.is_sampled))
}

/// The trace of a `traceparent` (Trace Context, section 3.2); None when it is malformed or all zeros.
#[cfg_attr(not(feature = "tower"), expect(dead_code, reason = "only servers read it"))]
fn parse_traceparent(value: &str) -> Option<Trace> {
    let mut parts = value.trim().split('-');
    let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    // A later version may add parts behind these four; version 00 has no more, ff is none.
    let has_shape = is_hex(version, 2) && is_hex(trace_id, 32) && is_hex(span_id, 16) && is_hex(flags, 2);
    if !has_shape || version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|id| *id != 0)?;
    let span_id = u64::from_str_radix(span_id, 16).ok().filter(|id| *id != 0)?;
    // The lowest bit; what the others mean is not for us to hand on.
    let is_sampled = u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1);
    Some(Trace { trace_id: trace_id.to_be_bytes(), span_id: span_id.to_be_bytes(), is_sampled })
}

/// Property of a member that says that its value is as a process of ours lets it leave: hashed where it is to be. What another
/// sender calls `session.id` is the session itself.
const FIT_TO_LEAVE: &str = "gemba";

/// `key=value;gemba` members; empty values are left out.
fn baggage(parts: &[(&str, &str)]) -> String {
    let mut list = String::new();
    for (key, value) in parts.iter().filter(|(_, value)| !value.is_empty()) {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(key);
        list.push('=');
        for byte in value.bytes() {
            // Fewer than the `baggage-octet`s that may stand for themselves (Baggage, section 3.3.1.3), so that none of them
            // has a meaning to anybody.
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'@') {
                list.push(char::from(byte));
            } else {
                // Writing to a string cannot fail.
                let _always = write!(list, "%{byte:02X}");
            }
        }
        list.push(';');
        list.push_str(FIT_TO_LEAVE);
    }
    list
}

/// The value of a member, percent-decoded, and whether a process of ours wrote it; the first one of that key. Empty when there is
/// none.
#[cfg_attr(not(feature = "tower"), expect(dead_code, reason = "only servers read it"))]
fn member(headers: &HeaderMap, key: &str) -> (String, bool) {
    /// Bytes and members that are looked at: the least that Baggage, section 3.3.2, asks of everybody.
    const MAX_BYTES: usize = 8192;
    const MAX_MEMBERS: usize = 64;
    let lists = headers.get_all(BAGGAGE).into_iter().filter_map(|value| value.to_str().ok());
    let members = lists.filter(|list| list.len() <= MAX_BYTES).flat_map(|list| list.split(','));
    let value = members.take(MAX_MEMBERS).find_map(|member| {
        let mut parts = member.split(';');
        let (name, value) = parts.next()?.split_once('=')?;
        let is_ours = parts.any(|property| property.trim() == FIT_TO_LEAVE);
        (name.trim() == key).then(|| (crate::config::settings::decode_percent(value.trim()), is_ours))
    });
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_reads_back_and_a_malformed_one_is_none() {
        let trace = Trace {
            trace_id: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255],
            span_id: [0, 0, 0, 0, 0, 0, 0, 1],
            is_sampled: true,
        };
        assert_eq!(parse_traceparent(&traceparent(trace)), Some(trace));
        let unsampled = Trace { is_sampled: false, ..trace };
        assert_eq!(parse_traceparent(&traceparent(unsampled)), Some(unsampled));
        let (id, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        assert!(parse_traceparent(&format!("00-{id}-{span}-00")).is_some());
        assert!(parse_traceparent(&format!("cc-{id}-{span}-01-what-later-versions-add")).is_some());
        for wrong in [
            String::new(),
            format!("00-{id}-{span}"),
            format!("00-{id}-{span}-01-more"),
            format!("ff-{id}-{span}-01"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
            format!("00-{}-{span}-01", id.to_uppercase()),
            format!("00-{id}-+7ad6b716920333-01"),
        ] {
            assert_eq!(parse_traceparent(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_baggage_carries_reads_back_whatever_it_holds() {
        let hostile = "a,b;c=d %2C\"\\\r\nä";
        let list = baggage(&[("user.id", hostile), ("session.id", ""), ("gemba.tenant", "acme")]);
        assert!(!list.contains("session.id"));
        let mut headers = HeaderMap::new();
        headers.append(BAGGAGE, HeaderValue::from_static("other=1;property, broken"));
        headers.append(BAGGAGE, HeaderValue::from_str(&list).unwrap());
        assert_eq!(member(&headers, "user.id"), (hostile.to_owned(), true));
        assert_eq!(member(&headers, "gemba.tenant"), ("acme".to_owned(), true));
        assert_eq!(member(&headers, "session.id"), (String::new(), false));
        assert_eq!(member(&headers, "other"), ("1".to_owned(), false));
    }

    proptest::proptest! {
        #[test]
        fn hostile_headers_are_read_or_refused(
            text in "[0-9a-fA-F -]{0,60}",
            noise in "\\PC{0,60}",
            (trace_id, span_id, is_sampled) in proptest::prelude::any::<([u8; 16], [u8; 8], bool)>(),
            members in proptest::collection::vec("[a-z.]{0,8} ?[=;%,]?[ -~]{0,12}", 0..80),
            value in "\\PC{1,20}",
        ) {
            for header in [&text, &noise, &format!("00-{text}")] {
                if let Some(trace) = parse_traceparent(header) {
                    proptest::prop_assert_eq!(parse_traceparent(&traceparent(trace)), Some(trace));
                }
            }
            let trace = Trace { trace_id, span_id, is_sampled };
            let is_valid = trace_id != [0; 16] && span_id != [0; 8];
            proptest::prop_assert_eq!(parse_traceparent(&traceparent(trace)), is_valid.then_some(trace));
            let mut headers = HeaderMap::new();
            // What others wrote comes first; a member of ours behind it is found unless theirs has the key or there are too many.
            let theirs = members.join(",");
            if let Ok(theirs) = HeaderValue::from_str(&theirs) {
                headers.append(BAGGAGE, theirs);
            }
            headers.append(BAGGAGE, HeaderValue::from_str(&baggage(&[("gemba.tenant", &value)])).unwrap());
            let (found, is_ours) = member(&headers, "gemba.tenant");
            if theirs.split(',').count() < 64 && !theirs.contains("gemba.tenant") {
                proptest::prop_assert_eq!((found, is_ours), (value, true));
            }
        }
    }
}
