//! Answers questions: saved queries, funnels, fingerprints.
//!
//! In: a request with a read key. Out: an [`Answer`] or a funnel's answer in the format asked for, each with how far it
//! can be trusted; every refusal names what was wrong and what is allowed. A read key sees its own project and nothing
//! else: the project's number comes from the key, never from the request.

use super::error::ApiError;
use super::{App, Request, Response, auth, body, json_response, query_pairs, response};
use crate::answer::{Answer, AnswerColumn, Format, KnownLoss, Trust};
use crate::clock;
use crate::config::Limits as RequestLimits;
use crate::control::Project;
use crate::store::select::{self, Limits};
use crate::store::{StoreError, funnel};
use gemba::query::{Dialect, fingerprint};
use gemba_queries::funnel::FunnelRequest;
use gemba_queries::{BoundQuery, Engine, Query, ServerParams};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest body of a question, in bytes. Chosen: a funnel of 32 steps with conditions takes some KiB.
const MAX_BODY_BYTES: usize = 1 << 20;

/// How long a question about the books waits for the inserts under way to end. Chosen: an insert takes less than a second,
/// and one that takes longer means a ClickHouse that answers no question in time either.
const HOLD_TIMEOUT: Duration = Duration::from_secs(5);

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
    let mut given = BTreeMap::new();
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
    let answer = ask(app, &project, query, &given).await?;
    let text = answer.render(format).map_err(|error| ApiError::internal(&error))?;
    Ok(response(StatusCode::OK, format.content_type(), text))
}

/// Answers `POST /api/v1/funnel`.
pub async fn funnel(app: &Arc<App>, request: Request) -> Result<Response, ApiError> {
    only(&request, &Method::POST)?;
    let project = auth::read(&app.control, request.headers(), request.uri().query())?;
    let asked = FunnelRequest::parse(json_body(app, request).await?)?;
    let started = Instant::now();
    let now_ms = clock::now_ms();
    let until_ms = complete_until_ms(app, &project, now_ms);
    let asked = asked.validate(now_ms, until_ms)?;
    let range = Some((asked.from_ms, asked.to_ms));
    let _turn = turn(app).await?;
    let (answer, known_loss) = tokio::try_join!(
        funnel::answer(&app.store, &asked, project.id.0, Limits::default()),
        known_loss(app, &project, range)
    )?;
    let trust = trust(range, now_ms, until_ms, known_loss, started);
    let mut body = serde_json::to_value(&answer).map_err(|error| ApiError::internal(&error))?;
    if let (Value::Object(body), Ok(Value::Object(trust))) = (&mut body, serde_json::to_value(&trust)) {
        body.extend(trust);
    }
    Ok(json_response(StatusCode::OK, &body))
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
    let asked: FingerprintRequest = serde_json::from_value(json_body(app, request).await?).map_err(|error| {
        ApiError::bad_request(error.to_string(), r#"send {"dialect":"postgresql","sql":"SELECT 1"}"#)
    })?;
    let made = fingerprint(Dialect::from_system(&asked.dialect), &asked.sql);
    let body = json!({"fingerprint": format!("{:016x}", made.hash), "text": made.text, "summary": made.summary});
    Ok(json_response(StatusCode::OK, &body))
}

/// Runs a saved query for a project and says how far its answer can be trusted.
async fn ask(
    app: &Arc<App>,
    project: &Project,
    query: &Query,
    given: &BTreeMap<String, String>,
) -> Result<Answer, ApiError> {
    let started = Instant::now();
    let now_ms = clock::now_ms();
    // Values are checked before anything is waited for.
    let server = |pending_records| ServerParams { project: project.id.0, now_ms, pending_records };
    query.bind(given, &server(0))?;
    let _turn = turn(app).await?;
    // What is pending and what is stored add up only while no insert is half done.
    let _held = match query.tells_pending() {
        true => app.pipeline.hold_inserts(HOLD_TIMEOUT).await,
        false => None,
    };
    let pending = app.pipeline.status().pending_by_project.get(&project.id.0).copied().unwrap_or(0);
    let bound = query.bind(given, &server(pending))?;
    let until_ms = complete_until_ms(app, project, now_ms);
    let rows = async {
        match query.engine {
            Engine::ClickHouse => Ok(select::select(&app.store, &bound, Limits::default()).await?),
            Engine::Funnel => {
                let times = (now_ms, until_ms);
                funnel::saved(&app.store, &bound, project.id.0, times, Limits::default()).await.map_err(ApiError::from)
            }
        }
    };
    let loss = async { Ok(known_loss(app, project, bound.range_ms).await?) };
    let (selection, known_loss) = tokio::try_join!(rows, loss)?;
    let unit = |name: &str| query.columns.iter().find(|column| column.name == name).map(|column| column.unit.clone());
    let columns = selection
        .columns
        .into_iter()
        .map(|column| AnswerColumn {
            unit: unit(&column.name).unwrap_or_default(),
            name: column.name,
            kind: column.kind,
        })
        .collect();
    Ok(Answer {
        query: query.name.clone(),
        columns,
        rows: selection.rows,
        trust: trust(bound.range_ms, now_ms, until_ms, known_loss, started),
    })
}

/// Waits for a turn: a question may take all cores and its share of memory, so only few run at a time.
pub(super) async fn turn(app: &App) -> Result<tokio::sync::SemaphorePermit<'_>, ApiError> {
    app.questions.acquire().await.map_err(|_| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping", "ask again in a moment")
    })
}

/// Up to when everything acknowledged of a project can be seen: now, or the oldest record, of whichever project, that
/// waits to be stored.
fn complete_until_ms(app: &App, project: &Project, now_ms: i64) -> i64 {
    let status = app.pipeline.status();
    if !status.pending_by_project.contains_key(&project.id.0) {
        return now_ms;
    }
    now_ms.saturating_sub(i64::try_from(status.oldest_pending.as_millis()).unwrap_or(i64::MAX))
}

fn trust(range: Option<(i64, i64)>, now_ms: i64, until_ms: i64, known_loss: KnownLoss, started: Instant) -> Trust {
    // A range that reaches into the future is complete when the present is.
    let end_ms = range.map_or(now_ms, |(_, to_ms)| to_ms.min(now_ms));
    Trust {
        from: range.map(|(from_ms, _)| rfc3339(from_ms)),
        to: range.map(|(_, to_ms)| rfc3339(to_ms)),
        complete: until_ms >= end_ms,
        complete_until: rfc3339(until_ms),
        known_loss,
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

fn rfc3339(ms: i64) -> String {
    // Parameters are checked to lie between 1970 and 2262, which the timestamp can hold.
    jiff::Timestamp::from_millisecond(ms).map(|time| time.to_string()).unwrap_or_default()
}

/// What SDKs report as dropped and the server as rejected or set aside in a range. A `rejected` of an SDK is the
/// server's own count seen from the other side, a missing identity or an ignored guard loses no record: neither counts.
const KNOWN_LOSS: &str = "
SELECT reason, sum(records) AS lost, any(all_records) AS received
FROM
(
    SELECT reason, records FROM sdk_reports
    WHERE project = {project:UInt32} AND kind = 'dropped' AND reason NOT IN ('rejected', 'no_context', 'guard_ignored')
        AND time >= {from:DateTime64(3)} AND time < {to:DateTime64(3)}
    UNION ALL
    SELECT reason, records FROM ledger FINAL
    WHERE project = {project:UInt32} AND fate IN ('rejected', 'set_aside')
        AND received >= {from:DateTime64(3)} AND received < {to:DateTime64(3)}
) AS lost_records
CROSS JOIN
(
    SELECT sum(records) AS all_records FROM ledger FINAL
    WHERE project = {project:UInt32} AND fate = 'received'
        AND received >= {from:DateTime64(3)} AND received < {to:DateTime64(3)}
) AS received_records
GROUP BY reason";

async fn known_loss(app: &App, project: &Project, range: Option<(i64, i64)>) -> Result<KnownLoss, StoreError> {
    let Some((from_ms, to_ms)) = range else { return Ok(KnownLoss::default()) };
    let time = |ms: i64| format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000));
    let params = [("project", project.id.to_string()), ("from", time(from_ms)), ("to", time(to_ms))];
    let bound = BoundQuery {
        sql: KNOWN_LOSS.to_owned(),
        params: params.map(|(name, value)| (name.to_owned(), value)).into(),
        range_ms: Some((from_ms, to_ms)),
    };
    let mut loss = KnownLoss::default();
    let mut received = 0;
    for row in select::select(&app.store, &bound, Limits::default()).await?.rows {
        if let [Value::String(reason), lost, all] = row.as_slice() {
            let lost = lost.as_u64().unwrap_or(0);
            received = all.as_u64().unwrap_or(0);
            loss.records += lost;
            loss.by_reason.insert(reason.clone(), lost);
        }
    }
    if loss.records > 0 {
        loss.share = loss.records as f64 / (received.max(loss.records)) as f64;
    }
    Ok(loss)
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
                "grain": query.grain, "params": params, "columns": columns, "caveats": query.caveats})
        })
        .collect();
    json!({"queries": queries})
}

async fn json_body(app: &App, request: Request) -> Result<Value, ApiError> {
    let limits = RequestLimits { max_body_bytes: MAX_BODY_BYTES, ..app.limits.clone() };
    let bytes = body::read(request.into_body(), &limits, &mut app.bodies.reserve()).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::bad_request(format!("not JSON: {error}"), "send a JSON object"))
}

/// Refuses every other method.
pub(super) fn only(request: &Request, method: &Method) -> Result<(), ApiError> {
    if request.method() == method { Ok(()) } else { Err(ApiError::method_not_allowed(method.as_str())) }
}

fn unknown_query(app: &App, name: &str) -> ApiError {
    let names: Vec<&str> = app.catalog.iter().map(|query| query.name.as_str()).collect();
    let message = format!("there is no query {name:?}");
    ApiError::new(StatusCode::NOT_FOUND, "unknown_query", message, format!("queries: {}", names.join(", ")))
}
