//! Managing the installation, with the admin token: `/api/v1/projects`, `/api/v1/backups`, `/api/v1/audit`.
//!
//! `GET` lists, `POST {"name"}` creates and answers the only copy of the keys, `POST NAME/rotate` makes new keys,
//! `GET`, `PUT` and `DELETE NAME/filter` say which events are left out of answers (internal users, bots),
//! `DELETE NAME` removes the project and proves that nothing of it is left, `POST NAME/forget {"user"}` does the same for one
//! person; `POST NAME/limits`, `NAME/retention` and `NAME/origins` set what their names say, `GET NAME/usage` tells what it sent.
//! `GET NAME/set-aside` lists what was set aside and `POST NAME/set-aside/retry` takes it in again ([`aside`]).
//! `POST /api/v1/backups {"name"}` saves all data while the server goes on taking more. What is done is done in
//! [`acts`], under the record that `GET /api/v1/audit` lists.

use super::acts::{self, recorded};
use super::aside;
use super::auth;
use super::body;
use super::cohorts;
use super::error::ApiError;
use super::{App, Request, Response, json_response, query_pairs};
use crate::clock;
use crate::config::Limits;
use crate::control::{ControlError, NewProject, Quota};
use crate::quota;
use crate::store::{audit, usage};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Longest body of a request to this API; a name is at most 63 bytes.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Acts listed when the request does not say how many.
const LISTED_ACTS: u32 = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// How long the old keys still hold; 0 revokes them at once.
    #[serde(default)]
    grace_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retention {
    /// Missing is an error and not "for ever".
    #[serde(deserialize_with = "Option::deserialize")]
    days: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Origins {
    origins: Vec<String>,
}

/// Answers what lies under `/api/v1/projects`; `rest` is what follows, without the slash.
pub async fn projects(app: &Arc<App>, rest: &str, request: Request) -> Result<Response, ApiError> {
    let actor = auth::admin(&app.control, request.headers(), request.uri().query())?;
    if let Some(name) = rest.strip_suffix("/filter").filter(|name| !name.contains('/')) {
        return cohorts::filter(app, &actor, name, request).await;
    }
    let (name, verb) = rest.split_once('/').unwrap_or((rest, ""));
    let name = name.to_owned();
    match (request.method().clone(), name.as_str(), verb) {
        (Method::GET, "", "") => Ok(list(app)),
        (Method::POST, "", "") => create(app, &actor, request).await,
        (_, "", "") => Err(ApiError::method_not_allowed("GET, POST")),
        (Method::DELETE, _, "") => {
            let act = ("project.delete", &*name, "");
            let answer = recorded(app, &actor, act, |app| acts::delete(app, name.clone())).await?;
            Ok(json_response(StatusCode::OK, &answer))
        }
        (_, _, "") => Err(ApiError::method_not_allowed("DELETE")),
        (Method::POST, _, "rotate") => rotate(app, &actor, name, request).await,
        (Method::POST, _, "forget") => {
            let Person { user } = read(app, request, r#"{"user":"ID"}"#).await?;
            if user.is_empty() {
                return Err(ApiError::bad_request("user is empty", r#"send {"user":"ID"}"#));
            }
            // Whom it is about is what shall be forgotten, so the record does not say.
            let act = ("project.forget", &*name, "");
            let answer = recorded(app, &actor, act, |app| acts::forget(app, name.clone(), user)).await?;
            Ok(json_response(StatusCode::OK, &answer))
        }
        (Method::POST, _, "limits") => {
            let quota: Quota = read(app, request, r#"{"per_second":1000,"per_day":0,"per_month":0}"#).await?;
            let act = ("project.limits", &*name, &*json!(quota).to_string());
            let answer = recorded(app, &actor, act, |app| acts::limit(app, name.clone(), quota)).await?;
            Ok(json_response(StatusCode::OK, &answer))
        }
        (Method::POST, _, "retention") => {
            let Retention { days } = read(app, request, r#"{"days":90}, or {"days":null} to keep everything"#).await?;
            if days == Some(0) {
                return Err(ApiError::bad_request("days is 0", "keep data for a day at least"));
            }
            let detail = days.map_or_else(|| "for ever".to_owned(), |days| format!("{days} days"));
            let act = ("project.retention", &*name, &*detail);
            let answer = recorded(app, &actor, act, |app| acts::retain(app, name.clone(), days)).await?;
            Ok(json_response(StatusCode::OK, &answer))
        }
        (Method::POST, _, "origins") => {
            let Origins { origins } = read(app, request, r#"{"origins":["https://shop.example"]}"#).await?;
            check_origins(&origins)?;
            let act = ("project.origins", &*name, &*origins.join(" "));
            let answer =
                recorded(app, &actor, act, |app| acts::set_origins(app, name.clone(), origins.clone())).await?;
            Ok(json_response(StatusCode::OK, &answer))
        }
        (method, _, verb) if verb == "set-aside" || verb.starts_with("set-aside/") => {
            aside::answer(app, &actor, (method, &name, verb), request).await
        }
        (Method::GET, _, "usage") => usage(app, &name, &request).await,
        (_, _, "usage") => Err(ApiError::method_not_allowed("GET")),
        (_, _, "rotate" | "forget" | "limits" | "retention" | "origins") => Err(ApiError::method_not_allowed("POST")),
        _ => Err(ApiError::not_found(request.uri().path())),
    }
}

/// An origin is a scheme, a host and perhaps a port, as a browser sends it.
fn check_origins(origins: &[String]) -> Result<(), ApiError> {
    let is_one = |origin: &str| {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).unwrap_or_default();
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@,".contains(&byte))
    };
    match origins.iter().find(|origin| !is_one(origin)) {
        None => Ok(()),
        Some(wrong) => Err(ApiError::bad_request(
            format!("{wrong:?} is not an origin"),
            "an origin is https://HOST or https://HOST:PORT, without a path",
        )),
    }
}

/// What a project sent, by day and signal.
async fn usage(app: &App, name: &str, request: &Request) -> Result<Response, ApiError> {
    let project = app.control.project_named(name).ok_or_else(|| ControlError::NoSuchProject(name.to_owned()))?;
    let mut days: u32 = 30;
    for (parameter, value) in query_pairs(request.uri().query()) {
        if parameter == "days" {
            let wrong = |_| ApiError::bad_request(format!("days is {value:?}"), "a whole number of days, as days=30");
            days = value.parse().map_err(wrong)?;
        }
    }
    let (today_ms, month_ms) = quota::period_starts(clock::now_ms());
    let since_ms = today_ms.saturating_sub(i64::from(days.saturating_sub(1)) * 86_400_000).max(0);
    let (days, used) =
        tokio::try_join!(usage::days(&app.store, project.id, since_ms), usage::used(&app.store, today_ms, month_ms))?;
    let used = used.into_iter().find(|(id, _)| *id == project.id).map(|(_, used)| used).unwrap_or_default();
    let body = json!({"project": project.name, "today": used.day, "this_month": used.month, "limits": project.quota,
        "refused_requests": app.quotas.refused(project.id), "days": days});
    Ok(json_response(StatusCode::OK, &body))
}

fn list(app: &App) -> Response {
    let projects: Vec<_> = app
        .control
        .projects()
        .into_iter()
        .map(|project| {
            json!({"project": project.name, "id": project.id.0, "retention_class": project.retention_class,
                "retention_days": app.control.retention_days(project.retention_class), "limits": project.quota,
                "origins": app.control.origins(project.id)})
        })
        .collect();
    json_response(StatusCode::OK, &json!({"projects": projects}))
}

async fn create(app: &Arc<App>, actor: &str, request: Request) -> Result<Response, ApiError> {
    let Named { name } = read(app, request, r#"{"name":"shop"}"#).await?;
    let act = ("project.create", &*name, "");
    let made = recorded(app, actor, act, |app| {
        let name = name.clone();
        async move { Ok(keys(&app.control.create_project(&name).await?)) }
    });
    Ok(json_response(StatusCode::CREATED, &made.await?))
}

async fn rotate(app: &Arc<App>, actor: &str, name: String, request: Request) -> Result<Response, ApiError> {
    let Rotation { grace_seconds } = read_or(app, request, r#"{"grace_seconds":3600}"#, Rotation::default()).await?;
    let detail = format!("old keys hold for {grace_seconds} s");
    let grace = Duration::from_secs(grace_seconds);
    let made = recorded(app, actor, ("project.rotate", &*name, &*detail), |app| {
        let name = name.clone();
        async move { Ok(keys(&app.control.rotate_keys(&name, grace).await?)) }
    });
    Ok(json_response(StatusCode::OK, &made.await?))
}

/// The request's body; `example` is what a wrong one is answered with.
async fn read<T: DeserializeOwned>(app: &App, request: Request, example: &str) -> Result<T, ApiError> {
    let bytes = bytes_of(app, request).await?;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_request(error.to_string(), format!("send {example}")))
}

/// The same; an empty body means `otherwise`.
pub(super) async fn read_or<T: DeserializeOwned>(
    app: &App,
    request: Request,
    example: &str,
    otherwise: T,
) -> Result<T, ApiError> {
    let bytes = bytes_of(app, request).await?;
    if bytes.is_empty() {
        return Ok(otherwise);
    }
    serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_request(error.to_string(), format!("send {example}")))
}

async fn bytes_of(app: &App, request: Request) -> Result<bytes::Bytes, ApiError> {
    let limits = Limits { max_body_bytes: MAX_BODY_BYTES, ..app.limits.clone() };
    Ok(body::read(request.into_body(), &limits, &mut app.bodies.reserve()).await?)
}

/// Answers `POST /api/v1/backups`.
pub async fn backups(app: &Arc<App>, request: Request) -> Result<Response, ApiError> {
    let actor = auth::admin(&app.control, request.headers(), request.uri().query())?;
    if request.method() != Method::POST {
        return Err(ApiError::method_not_allowed("POST"));
    }
    let Named { name } = read(app, request, r#"{"name":"monday"}"#).await?;
    let saved = recorded(app, &actor, ("backup.make", &*name, ""), |app| acts::backup(app, name.clone())).await?;
    Ok(json_response(StatusCode::CREATED, &saved))
}

/// Answers `GET /api/v1/audit`: the latest acts, the newest first; `limit` says how many.
pub async fn audited(app: &App, request: Request) -> Result<Response, ApiError> {
    auth::admin(&app.control, request.headers(), request.uri().query())?;
    if request.method() != Method::GET {
        return Err(ApiError::method_not_allowed("GET"));
    }
    let mut limit = LISTED_ACTS;
    for (name, value) in query_pairs(request.uri().query()) {
        if name == "limit" {
            limit = value.parse().map_err(|_| {
                let hint = format!("a number up to {}", audit::MAX_LISTED);
                ApiError::bad_request(format!("limit is {value:?}"), hint)
            })?;
        }
    }
    let acts = audit::list(&app.store, limit).await?;
    Ok(json_response(StatusCode::OK, &json!({"acts": acts})))
}

fn keys(new: &NewProject) -> Value {
    json!({"project": new.project.name, "ingest_key": new.ingest_key, "read_key": new.read_key})
}
