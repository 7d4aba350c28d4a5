//! Managing projects, with the admin token: `/api/v1/projects`.
//!
//! `GET` lists, `POST {"name"}` creates and answers the only copy of the keys, `POST NAME/rotate` makes new keys,
//! `DELETE NAME` removes the project and proves that nothing of it is left.

use super::auth;
use super::body;
use super::error::ApiError;
use super::health::FLUSH_TIMEOUT;
use super::{App, Request, Response, json_response};
use crate::config::Limits;
use crate::control::NewProject;
use crate::control::erase::{self, Erased};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Longest body of a request to this API; a name is at most 63 bytes.
const MAX_BODY_BYTES: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateProject {
    name: String,
}

/// Answers what lies under `/api/v1/projects`; `rest` is what follows, without the slash.
pub async fn projects(app: &Arc<App>, rest: &str, request: Request) -> Result<Response, ApiError> {
    auth::admin(&app.control, request.headers(), request.uri().query())?;
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
    let limits = Limits { max_body_bytes: MAX_BODY_BYTES, ..app.limits.clone() };
    let bytes = body::read(request.into_body(), &limits, &mut app.bodies.reserve()).await?;
    let hint = r#"send {"name":"shop"}"#;
    let asked: CreateProject =
        serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_request(error.to_string(), hint))?;
    Ok(keys(StatusCode::CREATED, &app.control.create_project(&asked.name).await?))
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
