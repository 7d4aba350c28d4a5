//! Saved questions: `/api/v1/saved`, with the project's read key.
//!
//! `GET` lists, `PUT NAME` saves a version, `GET NAME` tells it with its history, `DELETE NAME` deletes, `GET NAME/answer`
//! answers it: with what was saved, with parameters of the request instead, of an older `version`, or as known at an
//! instant (`as_of`), in any `format`. A question is `{"query":NAME,"parameters":{..}}` or `{"funnel":{..},"parameters":{..}}`, and is
//! checked before it is saved.

use super::ask::{self, Given, rfc3339};
use super::error::ApiError;
use super::query::{MAX_BODY_BYTES, funnel_response, json_body, only, unknown_query};
use super::{App, Request, Response, auth, json_response, query_pairs, response};
use crate::answer::{Format, SavedUse};
use crate::clock;
use crate::control::{Project, is_valid_name};
use crate::store::saved::{self, Kind, Saved};
use gemba_queries::ServerParams;
use gemba_queries::catalog::POPULATION_PARAMS;
use gemba_queries::funnel::FunnelRequest;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is saved.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    /// A few words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// Name of a saved query of the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    /// Or a funnel, as `POST /api/v1/funnel` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    funnel: Option<Value>,
    /// Parameters by name, as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    parameters: Given,
}

/// Answers what lies under `/api/v1/saved`; `rest` is what follows, without the slash.
pub async fn saved(app: &Arc<App>, rest: &str, request: Request) -> Result<Response, ApiError> {
    let project = auth::read(&app.control, request.headers(), request.uri().query())?;
    match (rest.split_once('/'), request.method()) {
        _ if rest.is_empty() => {
            only(&request, &Method::GET)?;
            list(app, &project).await
        }
        (Some((name, "answer")), _) => {
            only(&request, &Method::GET)?;
            answer(app, &project, name, &request).await
        }
        (Some(_), _) => Err(ApiError::not_found(request.uri().path())),
        (None, &Method::GET) => tell(app, &project, rest).await,
        (None, &Method::PUT) => put(app, &project, rest, request).await,
        (None, &Method::DELETE) => delete(app, &project, rest).await,
        (None, _) => Err(ApiError::method_not_allowed("GET, PUT, DELETE")),
    }
}

async fn list(app: &App, project: &Project) -> Result<Response, ApiError> {
    let all = saved::list(&app.store, project.id.0, Kind::Question).await?;
    let all: Vec<Value> = all.iter().map(shown).collect();
    Ok(json_response(StatusCode::OK, &json!({"saved": all})))
}

/// A version as the API tells it: what was saved, with its name, version and time.
fn shown(one: &Saved) -> Value {
    let mut told = json!({"name": one.name, "version": one.version, "at": rfc3339(one.at_ms)});
    if let (Value::Object(told), Some(Value::Object(payload))) = (&mut told, &one.payload) {
        told.extend(payload.clone());
    }
    told
}

async fn tell(app: &App, project: &Project, name: &str) -> Result<Response, ApiError> {
    let all = saved::versions(&app.store, project.id.0, Kind::Question, name).await?;
    let Some(held) = all.first().filter(|latest| latest.payload.is_some()) else { return Err(unknown(name)) };
    let mut told = shown(held);
    let version =
        |one: &Saved| json!({"version": one.version, "at": rfc3339(one.at_ms), "deleted": one.payload.is_none()});
    told["versions"] = all.iter().map(version).collect();
    Ok(json_response(StatusCode::OK, &told))
}

async fn put(app: &Arc<App>, project: &Project, name: &str, request: Request) -> Result<Response, ApiError> {
    check_name(name)?;
    let body = json_body(app, request, MAX_BODY_BYTES).await?;
    let question: Question = serde_json::from_value(body).map_err(|error| {
        let hint = r#"send {"query":"feature_usage","parameters":{"from":"now - 30d"}} or {"funnel":{"steps":[..]}}"#;
        ApiError::bad_request(error.to_string(), hint)
    })?;
    check(app, project, &question)?;
    let payload = serde_json::to_value(&question).map_err(|error| ApiError::internal(&error))?;
    let _one_at_a_time = app.saving.lock().await;
    let at_ms = clock::now_ms();
    let version = saved::append(&app.store, project.id.0, Kind::Question, name, Some(&payload), at_ms).await?;
    let status = if version == 1 { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json_response(status, &json!({"name": name, "version": version, "at": rfc3339(at_ms)})))
}

/// Whether the question can be asked, as far as that can be told without asking it.
fn check(app: &App, project: &Project, question: &Question) -> Result<(), ApiError> {
    let now_ms = clock::now_ms();
    match (&question.query, &question.funnel) {
        (Some(name), None) => {
            let query = app.catalog.get(name).ok_or_else(|| unknown_query(app, name))?;
            let mut given = question.parameters.clone();
            given.retain(|name, _| !POPULATION_PARAMS.contains(&name.as_str()));
            query
                .bind(&given, &ServerParams { project: project.id.0, now_ms, pending_records: 0, booked_records: 0 })?;
            Ok(())
        }
        (None, Some(funnel)) => {
            let mut asked = FunnelRequest::parse(funnel.clone())?;
            asked.take_cohorts();
            asked.validate(now_ms, now_ms)?;
            if let Some(base) = asked.base()? {
                base.validate(now_ms, now_ms)?;
            }
            Ok(())
        }
        _ => Err(ApiError::bad_request("a question is either a query or a funnel", "send one of query and funnel")),
    }
}

async fn delete(app: &App, project: &Project, name: &str) -> Result<Response, ApiError> {
    let _one_at_a_time = app.saving.lock().await;
    if saved::held_at(&app.store, project.id.0, Kind::Question, name, None).await?.is_none() {
        return Err(unknown(name));
    }
    let version = saved::append(&app.store, project.id.0, Kind::Question, name, None, clock::now_ms()).await?;
    Ok(json_response(StatusCode::OK, &json!({"name": name, "deleted": true, "version": version})))
}

/// Answers a saved question: parameters of the request stand in the place of saved ones.
async fn answer(app: &Arc<App>, project: &Project, name: &str, request: &Request) -> Result<Response, ApiError> {
    let mut given: Given = query_pairs(request.uri().query()).into_iter().collect();
    given.remove("key");
    let format: Format = given.remove("format").map_or(Ok(Format::Json), |word| word.parse())?;
    let version = given.remove("version").map(|text| {
        text.parse::<u64>()
            .map_err(|_| ApiError::bad_request("version: must be a whole number", "GET the name lists them"))
    });
    let version = version.transpose()?;
    let all = saved::versions(&app.store, project.id.0, Kind::Question, name).await?;
    let wanted = match version {
        None => all.first(),
        Some(version) => all.iter().find(|one| one.version == version),
    };
    let held = wanted.filter(|one| one.payload.is_some()).ok_or_else(|| unknown(name))?;
    let question: Question =
        serde_json::from_value(held.payload.clone().unwrap_or_default()).map_err(|error| ApiError::internal(&error))?;
    let mut parameters = question.parameters;
    parameters.extend(given);
    let used = SavedUse { name: name.to_owned(), version: held.version };
    if let Some(funnel) = question.funnel {
        let mut body = ask::funnel(app, project, FunnelRequest::parse(funnel)?, &parameters).await?;
        body["saved"] = serde_json::to_value(&used).map_err(|error| ApiError::internal(&error))?;
        return funnel_response(body, format);
    }
    let query = question.query.unwrap_or_default();
    let query = app.catalog.get(&query).ok_or_else(|| unknown_query(app, &query))?;
    let mut answer = ask::query(app, project, query, &parameters).await?;
    answer.trust.saved = Some(used);
    let text = answer.render(format).map_err(|error| ApiError::internal(&error))?;
    Ok(response(StatusCode::OK, format.content_type(), text))
}

fn unknown(name: &str) -> ApiError {
    let message = format!("there is no saved question {name:?}");
    ApiError::new(StatusCode::NOT_FOUND, "unknown_saved", message, "GET /api/v1/saved lists them")
}

/// Refuses what cannot be the name of something saved.
pub(super) fn check_name(name: &str) -> Result<(), ApiError> {
    if is_valid_name(name) {
        return Ok(());
    }
    let hint = "lower-case letters, digits, _ and -, beginning with a letter or digit, at most 63";
    Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_name", format!("{name:?} is not a name"), hint))
}
