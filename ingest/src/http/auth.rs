//! Who is asking: takes the key out of a request and looks it up.
//!
//! In: headers and query string. Out: an [`Access`], or why not: [`Denied::NoKey`] and [`Denied::UnknownKey`] are 401,
//! [`Denied::WrongRole`] is 403.

use super::error::ApiError;
use crate::control::{Access, Control, Project, Role};
use http::{HeaderMap, StatusCode, header};

/// Longest key looked at, in bytes: ours have 67; longer ones are not hashed at all.
const MAX_KEY_BYTES: usize = 256;

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It carries no key.
    #[error("the request carries no key")]
    NoKey,
    /// Its key is unknown or revoked.
    #[error("the key is unknown or revoked")]
    UnknownKey,
    /// Its key is good for something else.
    #[error("this takes {} key, and the one sent is {} key", article(*.needed), article(*.given))]
    WrongRole {
        /// Role it would take.
        needed: Role,
        /// Role of the key.
        given: Role,
    },
}

fn article(role: Role) -> &'static str {
    match role {
        Role::Ingest => "an ingest",
        Role::Read => "a read",
        Role::Admin => "an admin",
    }
}

impl Denied {
    /// What to do about it.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::NoKey => {
                "send the header Authorization: Bearer <key>; the first start writes keys to credentials.json"
            }
            Self::UnknownKey => "see credentials.json in the data folder, or make new keys with `gemba project rotate`",
            Self::WrongRole { .. } => "ingest keys begin with gi_, read keys with gr_, admin tokens with ga_",
        }
    }

    /// 401 or 403.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NoKey | Self::UnknownKey => StatusCode::UNAUTHORIZED,
            Self::WrongRole { .. } => StatusCode::FORBIDDEN,
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let code = match denied {
            Denied::NoKey => "no_key",
            Denied::UnknownKey => "unknown_key",
            Denied::WrongRole { .. } => "wrong_key_role",
        };
        Self::new(denied.status(), code, denied.to_string(), denied.hint())
    }
}

/// What the request's key opens, whatever its role.
pub fn any(control: &Control, headers: &HeaderMap, query: Option<&str>) -> Result<Access, Denied> {
    let key = key_of(headers, query).ok_or(Denied::NoKey)?;
    if key.len() > MAX_KEY_BYTES {
        return Err(Denied::UnknownKey);
    }
    control.authenticate(&key).ok_or(Denied::UnknownKey)
}

/// What an ingest key opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// Its project.
    pub project: Project,
    /// Origins of the pages that may use it from a browser; empty leaves that to the server's list.
    pub origins: Vec<String>,
}

/// What the ingest key opens that the request carries.
pub fn ingest(control: &Control, headers: &HeaderMap, query: Option<&str>) -> Result<Ingest, Denied> {
    let access = any(control, headers, query)?;
    let origins = access.origins.clone();
    Ok(Ingest { project: project(access, Role::Ingest)?, origins })
}

/// The project whose read key the request carries.
pub fn read(control: &Control, headers: &HeaderMap, query: Option<&str>) -> Result<Project, Denied> {
    project(any(control, headers, query)?, Role::Read)
}

/// Whether the request carries an admin token; answers what to call it in the record of acts.
pub fn admin(control: &Control, headers: &HeaderMap, query: Option<&str>) -> Result<String, Denied> {
    match any(control, headers, query)?.role {
        Role::Admin => {
            let key = key_of(headers, query).ok_or(Denied::NoKey)?;
            Ok(format!("admin {}", Control::fingerprint(&key)))
        }
        given => Err(Denied::WrongRole { needed: Role::Admin, given }),
    }
}

fn project(access: Access, needed: Role) -> Result<Project, Denied> {
    match access {
        Access { role, project: Some(project), .. } if role == needed => Ok(project),
        Access { role, .. } => Err(Denied::WrongRole { needed, given: role }),
    }
}

/// Whether the key that counts is the one in the query string.
pub fn is_key_in_query(headers: &HeaderMap, query: Option<&str>) -> bool {
    !headers.contains_key(header::AUTHORIZATION) && key_of(headers, query).is_some()
}

/// The key in `Authorization: Bearer KEY` (the scheme in any letter case), else the one in `?key=KEY`, for clients that
/// can set a URL but no header.
fn key_of(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = value.to_str().ok()?.trim().split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().to_owned());
    }
    let value = query?.split('&').find_map(|pair| pair.strip_prefix("key="))?;
    Some(super::percent_decoded(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(authorization: Option<&'static str>, query: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        key_of(&headers, query)
    }

    #[test]
    fn a_key_comes_in_the_header_or_else_in_the_query_string() {
        assert_eq!(key(Some("Bearer gi_1"), None).as_deref(), Some("gi_1"));
        assert_eq!(key(Some("bEARER  gi_1 "), Some("key=other")).as_deref(), Some("gi_1"));
        assert_eq!(key(None, Some("a=b&key=gi%5F1&c")).as_deref(), Some("gi_1"));
        for (header, query) in [
            (None, None),
            (Some("Basic Zm9v"), None),
            (Some("Bearer"), None),
            (None, Some("monkey=1")),
            (Some("Basic x"), Some("key=gi_1")),
        ] {
            assert_eq!(key(header, query), None, "{header:?} {query:?}");
        }
    }
}
