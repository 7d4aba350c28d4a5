//! Finds who answers a request.
//!
//! In: a request. Out: its answer, counted by route and status. New surfaces are one arm in [`dispatch`].

use super::error::ApiError;
use super::{App, Request, Response, admin, cohorts, dashboard, export, grpc, health, metrics, otlp, query, saved};
use crate::otlp::Signal;
use gemba::{Attempt, attempt};
use http::{Method, header};
use std::sync::Arc;

/// Paths under which the API lives; `/api/v1/projects/shop` has the rest `projects/shop`.
const API_PREFIX: &str = "/api/v1/";

/// Answers one request. Never fails: whatever goes wrong has a status.
pub async fn handle(app: Arc<App>, request: Request) -> Response {
    if grpc::is_grpc(&request) {
        let response = grpc::handle(&app, request).await;
        app.counters.answered("grpc", response.status().as_u16());
        return response;
    }
    let path = request.uri().path().to_owned();
    let (route, response) = dispatch(&app, &path, request).await;
    app.counters.answered(route, response.status().as_u16());
    response
}

/// The route's name in the metrics, and its answer.
async fn dispatch(app: &Arc<App>, path: &str, request: Request) -> (&'static str, Response) {
    if let Some(signal) = signal_of(app, path) {
        return (signal.path(), otlp::handle(app, signal, request).await);
    }
    match path {
        "/healthz" => ("/healthz", get_only(&request, health::healthz)),
        "/readyz" => ("/readyz", get_only(&request, || health::readyz(app))),
        "/metrics" => ("/metrics", get_only(&request, || metrics::exposition(app))),
        _ => match path.strip_prefix(API_PREFIX) {
            Some(rest) => api(app, rest, request).await,
            None => match dashboard::file(path, &request) {
                Some(file) => ("dashboard", file),
                None => ("other", ApiError::not_found(path).into_response()),
            },
        },
    }
}

/// What lies under `/api/v1/`.
async fn api(app: &Arc<App>, rest: &str, request: Request) -> (&'static str, Response) {
    let (first, further) = rest.split_once('/').unwrap_or((rest, ""));
    let (route, answer) = match first {
        "flush" if further.is_empty() => ("/api/v1/flush", health::flush(app, request).await),
        "queries" => (
            "/api/v1/queries",
            observed(app, || attempt!("query.ask"), Box::pin(query::queries(app, further, request))).await,
        ),
        "funnel" if further.is_empty() => {
            ("/api/v1/funnel", observed(app, || attempt!("funnel.ask"), Box::pin(query::funnel(app, request))).await)
        }
        "saved" => (
            "/api/v1/saved",
            observed(app, || attempt!("question.saved"), Box::pin(saved::saved(app, further, request))).await,
        ),
        "cohorts" => (
            "/api/v1/cohorts",
            observed(app, || attempt!("cohort.manage"), Box::pin(cohorts::cohorts(app, further, request))).await,
        ),
        "export" => {
            ("/api/v1/export", observed(app, || attempt!("data.export"), export::export(app, further, request)).await)
        }
        "fingerprint" if further.is_empty() => ("/api/v1/fingerprint", query::fingerprint_of(app, request).await),
        "project" if further.is_empty() => ("/api/v1/project", query::project(app, &request)),
        "projects" => (
            "/api/v1/projects",
            observed(app, || attempt!("project.manage"), admin::projects(app, further, request)).await,
        ),
        "backups" if further.is_empty() => {
            ("/api/v1/backups", observed(app, || attempt!("backup.make"), admin::backups(app, request)).await)
        }
        "audit" if further.is_empty() => ("/api/v1/audit", admin::audited(app, request).await),
        _ => ("other", Err(ApiError::not_found(request.uri().path()))),
    };
    (route, answer.unwrap_or_else(ApiError::into_response))
}

/// Answers as an attempt of Gemba's own use, where this server records it. A program that runs a server beside its own
/// use of the SDK does not find the server's features among its own.
async fn observed(
    app: &App,
    attempt: impl FnOnce() -> Attempt,
    answer: impl Future<Output = Result<Response, ApiError>>,
) -> Result<Response, ApiError> {
    if app.records_own_use() { attempt().run_async(answer).await } else { answer.await }
}

/// The signal a path of OTLP carries, with or without the configured prefix.
fn signal_of(app: &App, path: &str) -> Option<Signal> {
    let path = path.strip_prefix(app.otlp_prefix.as_str()).unwrap_or(path);
    [Signal::Logs, Signal::Traces, Signal::Metrics].into_iter().find(|signal| signal.path() == path)
}

fn get_only(request: &Request, answer: impl FnOnce() -> Response) -> Response {
    if request.method() == Method::GET || request.method() == Method::HEAD {
        let mut response = answer();
        response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
        response
    } else {
        ApiError::method_not_allowed("GET").into_response()
    }
}
