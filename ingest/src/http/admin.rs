//! Managing the installation, with the admin token: `/api/v1/projects` and `/api/v1/backups`.
//!
//! `GET` lists, `POST {"name"}` creates and answers the only copy of the keys, `POST NAME/rotate` makes new keys,
//! `GET`, `PUT` and `DELETE NAME/filter` say which events are left out of answers (internal users, bots),
//! `DELETE NAME` removes the project and proves that nothing of it is left. `POST /api/v1/backups {"name"}` saves all data
//! while the server goes on taking more.

use super::auth;
use super::body;
use super::cohorts;
use super::error::ApiError;
use super::health::{FLUSH_TIMEOUT, flushed};
use super::{App, Request, Response, json_response};
use crate::config::Limits;
use crate::control::NewProject;
use crate::control::erase::{self, Erased};
use crate::store::archive::{self, Saved};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Longest body of a request to this API; a name is at most 63 bytes.
const MAX_BODY_BYTES: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

/// Answers what lies under `/api/v1/projects`; `rest` is what follows, without the slash.
pub async fn projects(app: &Arc<App>, rest: &str, request: Request) -> Result<Response, ApiError> {
    auth::admin(&app.control, request.headers(), request.uri().query())?;
    if let Some(name) = rest.strip_suffix("/filter").filter(|name| !name.contains('/')) {
        return cohorts::filter(app, name, request).await;
    }
    match (request.method(), rest) {
        (&Method::GET, "") => Ok(list(app)),
        (&Method::POST, "") => create(app, request).await,
        (_, "") => Err(ApiError::method_not_allowed("GET, POST")),
        (&Method::DELETE, name) if !name.contains('/') => delete(app, name.to_owned()).await,
        (&Method::POST, rest) => match rest.strip_suffix("/rotate") {
            Some(name) if !name.contains('/') => Ok(keys(StatusCode::OK, &app.control.rotate_keys(name).await?)),
            _ => Err(ApiError::not_found(request.uri().path())),
        },
        (_, name) if name.contains('/') => Err(ApiError::not_found(request.uri().path())),
        _ => Err(ApiError::method_not_allowed("DELETE")),
    }
}

fn list(app: &App) -> Response {
    let projects: Vec<_> = app
        .control
        .projects()
        .into_iter()
        .map(|project| json!({"project": project.name, "id": project.id.0, "retention_class": project.retention_class}))
        .collect();
    json_response(StatusCode::OK, &json!({"projects": projects}))
}

async fn create(app: &App, request: Request) -> Result<Response, ApiError> {
    let asked = named(app, request).await?;
    Ok(keys(StatusCode::CREATED, &app.control.create_project(&asked.name).await?))
}

async fn named(app: &App, request: Request) -> Result<Named, ApiError> {
    let limits = Limits { max_body_bytes: MAX_BODY_BYTES, ..app.limits.clone() };
    let bytes = body::read(request.into_body(), &limits, &mut app.bodies.reserve()).await?;
    let hint = r#"send {"name":"shop"}"#;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_request(error.to_string(), hint))
}

/// Answers `POST /api/v1/backups`: everything acknowledged before is in the backup, nothing is stored while it is made,
/// and requests are acknowledged all the while. Runs to its end even when the client goes away in the middle.
pub async fn backups(app: &Arc<App>, request: Request) -> Result<Response, ApiError> {
    auth::admin(&app.control, request.headers(), request.uri().query())?;
    if request.method() != Method::POST {
        return Err(ApiError::method_not_allowed("POST"));
    }
    let name = named(app, request).await?.name;
    let app = Arc::clone(app);
    let saving = tokio::spawn(async move {
        flushed(&app).await?;
        let Some(_held) = app.pipeline.hold_inserts(FLUSH_TIMEOUT).await else {
            let message = "an insert is under way and does not end";
            let hint = "ClickHouse is away or behind; try again";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_flushed", message, hint));
        };
        let Saved { rows } = archive::backup(&app.store, &name).await?;
        Ok::<_, ApiError>(json!({"backup": name, "rows": rows}))
    });
    let saved = saving.await.map_err(|error| ApiError::internal(&error))??;
    Ok(json_response(StatusCode::CREATED, &saved))
}

fn keys(status: StatusCode, new: &NewProject) -> Response {
    let body = json!({"project": new.project.name, "ingest_key": new.ingest_key, "read_key": new.read_key});
    json_response(status, &body)
}

/// Runs to its end even when the client goes away in the middle.
async fn delete(app: &Arc<App>, name: String) -> Result<Response, ApiError> {
    let app = Arc::clone(app);
    let erased = tokio::spawn(async move {
        let project = app.control.bury_project(&name).await?;
        // From here on nothing new comes in, and what is on its way is discarded by the pipeline.
        if !app.pipeline.flush(FLUSH_TIMEOUT).await {
            let message = "the project's keys are revoked, its data is not deleted yet: ClickHouse is away or behind";
            let hint = "the deletion goes on by itself when the server is started next, or send DELETE again";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_deleted_yet", message, hint));
        }
        let erased = erase::erase(&app.store, project.id).await?;
        if !app.pipeline.tidy(FLUSH_TIMEOUT).await {
            tracing::warn!("the log was not tidied; what it holds of the project goes with the next full segment");
        }
        Ok::<_, ApiError>((project, erased))
    });
    let (project, Erased { deleted, remaining }) = erased.await.map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string(), "see the log")
    })??;
    Ok(json_response(StatusCode::OK, &json!({"project": project.name, "deleted": deleted, "remaining": remaining})))
}
