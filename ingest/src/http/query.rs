//! Answers questions: saved queries, funnels, fingerprints.
//!
//! In: a request with a read key. Out: an [`Answer`] or a funnel's answer in the format asked for, each with how far it
//! can be trusted; every refusal names what was wrong and what is allowed. A read key sees its own project and nothing
//! else: the project's number comes from the key, never from the request.

use super::ask::{self, Given};
use super::error::ApiError;
use super::{App, Request, Response, auth, body, json_response, query_pairs, response};
use crate::answer::Format;
use crate::config::Limits as RequestLimits;
use crate::funnel_table;
use gemba::query::{Dialect, fingerprint};
use gemba_queries::funnel::FunnelRequest;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Longest body of a question, in bytes. Chosen: a funnel of 32 steps with conditions takes some KiB.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;

/// Answers `GET /api/v1/project`: whose key it is.
pub fn project(app: &App, request: &Request) -> Result<Response, ApiError> {
    only(request, &Method::GET)?;
    let project = auth::read(&app.control, request.headers(), request.uri().query())?;
    Ok(json_response(StatusCode::OK, &json!({"project": project.name})))
}

/// Answers what lies under `/api/v1/queries`; `name` is what follows, without the slash.
pub async fn queries(app: &Arc<App>, name: &str, request: Request) -> Result<Response, ApiError> {
    only(&request, &Method::GET)?;
    let project = auth::read(&app.control, request.headers(), request.uri().query())?;
    if name.is_empty() {
        return Ok(json_response(StatusCode::OK, &list(app)));
    }
    let query = app.catalog.get(name).ok_or_else(|| unknown_query(app, name))?;
    let mut given = Given::new();
    let mut format = Format::Json;
    for (key, value) in query_pairs(request.uri().query()) {
        match key.as_str() {
            // The key itself, for those who cannot set a header.
            "key" => {}
            "format" => format = value.parse()?,
            _ => {
                given.insert(key, value);
            }
        }
    }
    let answer = ask::query(app, &project, query, &given).await?;
    let text = answer.render(format).map_err(|error| ApiError::internal(&error))?;
    Ok(response(StatusCode::OK, format.content_type(), text))
}

/// Answers `POST /api/v1/funnel`; the parameters of the view, and `format`, may stand in the query string.
pub async fn funnel(app: &Arc<App>, request: Request) -> Result<Response, ApiError> {
    only(&request, &Method::POST)?;
    let project = auth::read(&app.control, request.headers(), request.uri().query())?;
    let mut given: Given = query_pairs(request.uri().query()).into_iter().collect();
    given.remove("key");
    let format: Format = given.remove("format").map_or(Ok(Format::Json), |word| word.parse())?;
    let asked = FunnelRequest::parse(json_body(app, request, MAX_BODY_BYTES).await?)?;
    funnel_response(ask::funnel(app, &project, asked, &given).await?, format)
}

/// A funnel's answer in the format asked for: whole as JSON, else the rows of what was asked for beyond the steps.
pub(super) fn funnel_response(body: Value, format: Format) -> Result<Response, ApiError> {
    if format == Format::Json {
        return Ok(json_response(StatusCode::OK, &body));
    }
    let answer = funnel_table::of(body).map_err(|error| ApiError::internal(&error))?;
    let text = answer.render(format).map_err(|error| ApiError::internal(&error))?;
    Ok(response(StatusCode::OK, format.content_type(), text))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FingerprintRequest {
    #[serde(default)]
    dialect: String,
    sql: String,
}

/// Answers `POST /api/v1/fingerprint`: what the SDK makes of a query text, by the SDK's own code.
pub async fn fingerprint_of(app: &Arc<App>, request: Request) -> Result<Response, ApiError> {
    only(&request, &Method::POST)?;
    auth::read(&app.control, request.headers(), request.uri().query())?;
    let asked: FingerprintRequest =
        serde_json::from_value(json_body(app, request, MAX_BODY_BYTES).await?).map_err(|error| {
            ApiError::bad_request(error.to_string(), r#"send {"dialect":"postgresql","sql":"SELECT 1"}"#)
        })?;
    let made = fingerprint(Dialect::from_system(&asked.dialect), &asked.sql);
    let body = json!({"fingerprint": format!("{:016x}", made.hash), "text": made.text, "summary": made.summary});
    Ok(json_response(StatusCode::OK, &body))
}

fn list(app: &App) -> Value {
    let queries: Vec<Value> = app
        .catalog
        .iter()
        .map(|query| {
            let params: Vec<Value> = query
                .params
                .iter()
                .map(|param| {
                    json!({"name": param.name, "meaning": param.meaning, "default": param.default,
                        "allowed": param.allowed.to_string(), "type": param.kind.expected()})
                })
                .collect();
            let columns: Vec<Value> = query
                .columns
                .iter()
                .map(|column| {
                    json!({"name": column.name, "unit": column.unit, "meaning": column.meaning,
                    "error_percent": column.error_percent})
                })
                .collect();
            json!({"name": query.name, "folder": query.folder, "title": query.title, "question": query.question,
                "grain": query.grain, "about_people": query.is_about_people(), "params": params, "columns": columns, "caveats": query.caveats})
        })
        .collect();
    json!({"queries": queries})
}

/// The body as JSON, at most so long.
pub(super) async fn json_body(app: &App, request: Request, max_body_bytes: usize) -> Result<Value, ApiError> {
    let limits = RequestLimits { max_body_bytes, ..app.limits.clone() };
    let bytes = body::read(request.into_body(), &limits, &mut app.bodies.reserve()).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::bad_request(format!("not JSON: {error}"), "send a JSON object"))
}

/// Refuses every other method.
pub(super) fn only(request: &Request, method: &Method) -> Result<(), ApiError> {
    if request.method() == method { Ok(()) } else { Err(ApiError::method_not_allowed(method.as_str())) }
}

pub(super) fn unknown_query(app: &App, name: &str) -> ApiError {
    let names: Vec<&str> = app.catalog.iter().map(|query| query.name.as_str()).collect();
    let message = format!("there is no query {name:?}");
    ApiError::new(StatusCode::NOT_FOUND, "unknown_query", message, format!("queries: {}", names.join(", ")))
}
