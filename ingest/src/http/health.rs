//! How the server is: `/healthz` (the process answers), `/readyz` (send traffic here or not), `POST /api/v1/flush`.

use super::auth;
use super::error::ApiError;
use super::{App, Request, Response, body, json_response, response};
use crate::freshness;
use http::{Method, StatusCode};
use serde_json::json;
use std::time::Duration;

/// How long a flush may take before it is answered 503.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two tries to have ClickHouse answer. Chosen: short beside the second a restart of the engine takes.
const ANSWER_PAUSE: Duration = Duration::from_millis(50);

/// The process is alive and answers.
pub fn healthz() -> Response {
    response(StatusCode::OK, "text/plain; charset=utf-8", "ok\n")
}

/// Whether to send data here. 503 while stopping, and while new data are refused because the log or the disk is full, so that a
/// balancer tries another node. With ClickHouse away the log goes on acknowledging: the node is ready then, and the body says
/// what is missing for questions.
pub fn readyz(app: &App) -> Response {
    let is_draining = app.is_draining();
    let status = app.pipeline.status();
    let is_ready = !is_draining && status.refusing.is_none();
    let body = json!({
        "ready": is_ready,
        "draining": is_draining,
        // While stopping, what comes all the same is taken until the log is closed.
        "accepts_data": app.takes_data() && status.refusing.is_none(),
        "refusing": status.refusing,
        "store_problem": app.store_problem(&status),
        "engine": app.engine.as_ref().map(|engine| json!({"restarts": engine.restarts()})),
        "pending_records": status.pending_records,
        // Nothing where nobody is judged, which is not the same as none.
        "stale_projects": app.stale_after.map(|_| freshness::stale(app).len()),
    });
    json_response(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

/// Answers when everything acknowledged before can be queried. Any key will do.
pub async fn flush(app: &App, request: Request) -> Result<Response, ApiError> {
    if request.method() != Method::POST {
        return Err(ApiError::method_not_allowed("POST"));
    }
    auth::any(&app.control, request.headers(), request.uri().query())?;
    body::discard(request.into_body());
    flushed(app).await?;
    Ok(json_response(StatusCode::OK, &json!({"flushed": true})))
}

/// Waits until everything acknowledged before can be queried: it is stored, and ClickHouse answers.
pub(super) async fn flushed(app: &App) -> Result<(), ApiError> {
    let queryable = async {
        let is_stored = app.pipeline.flush(FLUSH_TIMEOUT).await;
        answers(app).await;
        is_stored
    };
    if tokio::time::timeout(FLUSH_TIMEOUT, queryable).await.unwrap_or(false) {
        return Ok(());
    }
    let message = format!("not everything could be stored and queried within {} s", FLUSH_TIMEOUT.as_secs());
    let hint = "ClickHouse is away or behind; what was acknowledged is safe in the log";
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_flushed", message, hint))
}

/// Waits until ClickHouse answers. It may have died after everything was stored, and an embedded engine is back within
/// two seconds.
async fn answers(app: &App) {
    while let Err(error) = app.store.number("SELECT toUInt64(1)").await {
        tracing::debug!(error = super::error::chain(&error), "stored, but ClickHouse does not answer");
        tokio::time::sleep(ANSWER_PAUSE).await;
    }
}
