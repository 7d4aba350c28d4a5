//! Asks about the books: what keeps the inserts still meanwhile, and what has been removed since an instant.
//!
//! In: a project and an instant. Out: [`Reproduced`], or what is in the way as an [`ApiError`]. The question `losses` itself is asked
//! like any other ([`super::ask`]).

use super::App;
use super::ask::{Given, complete_until_ms, stopping};
use super::error::ApiError;
use super::trust::number;
use crate::answer::Reproduced;
use crate::clock;
use crate::control::Project;
use crate::pipeline::{Held, HoldFor, NotHeld, Waiting};
use crate::store::removals;
use crate::store::select::{self, Limits};
use gemba_queries::ServerParams;
use http::StatusCode;
use serde_json::Value;
use tokio::sync::SemaphorePermit;

/// Keeps the inserts still for a question.
pub(super) async fn hold(app: &App) -> Result<Held, NotHeld> {
    app.pipeline.hold_inserts(HoldFor::Question, app.limits.hold_timeout).await
}

/// Waits for a turn of a question about the books. Inserts are held meanwhile, so it waits for its like alone.
pub(super) async fn turn(app: &App) -> Result<SemaphorePermit<'_>, ApiError> {
    app.books.acquire().await.map_err(|_| stopping())
}

/// 503 for what needs the inserts to be still; says what kept them from it.
pub(super) fn not_held(app: &App, reason: NotHeld) -> ApiError {
    let problem = app.pipeline.status().store_problem;
    let (code, message, hint) = match (reason, problem) {
        (NotHeld::InsertUnderWay, Some(problem)) => {
            let hint = "ask again when ClickHouse stores; /readyz tells";
            ("inserts_under_way", format!("{reason}: {problem}"), hint)
        }
        (NotHeld::InsertUnderWay, None) => {
            let hint = "ClickHouse takes long for it and reports no error; ask again in a minute";
            ("inserts_under_way", reason.to_string(), hint)
        }
        (NotHeld::Mending, _) => {
            let hint = "ask again in a minute; gemba_refused_cuts in /metrics says how much is left";
            ("inserts_under_way", reason.to_string(), hint)
        }
        (NotHeld::Held | NotHeld::Resting, _) => ("inserts_held", reason.to_string(), "ask again in a few seconds"),
    };
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message, hint)
}

/// Whether what was known at an instant is all still there, and what has come since.
pub(super) async fn reproduced(
    app: &App,
    project: &Project,
    range: Option<(i64, i64)>,
    as_of_ms: i64,
    held: Option<Held>,
) -> Result<Reproduced, ApiError> {
    let mut reproduced = Reproduced { exactly: true, ..Reproduced::default() };
    let removed = removals::records_since(&app.store, project.id, as_of_ms).await?;
    if removed > 0 {
        reproduced.because.push(format!(
            "{removed} records received before that instant, or in its hour, have been removed since (retention, or people \
             forgotten)"
        ));
    }
    match missing_records(app, project, held).await? {
        Ok(0) => {}
        Ok(missing) => reproduced.because.push(format!(
            "{missing} records of the project were stored and are no longer there, and nothing explains it"
        )),
        Err(reason) => reproduced.because.push(format!("{reason}, so it is not known whether records are missing")),
    }
    if as_of_ms > complete_until_ms(app, project, clock::now_ms()) {
        reproduced.because.push("records received before that instant are still being stored".to_owned());
    }
    reproduced.exactly = reproduced.because.is_empty();
    let Some((from_ms, to_ms)) = range else { return Ok(reproduced) };
    let sql = "SELECT count() AS late FROM events WHERE project = {project:UInt32} \
               AND time >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') \
               AND time < fromUnixTimestamp64Milli({to:Int64}, 'UTC') \
               AND received >= fromUnixTimestamp64Milli({as_of:Int64}, 'UTC')";
    let params = [("project", i64::from(project.id.0)), ("from", from_ms), ("to", to_ms), ("as_of", as_of_ms)];
    reproduced.late_events = number(app, sql, &params).await?;
    Ok(reproduced)
}

/// Records of the project that were stored and are no longer there without having been forgotten or expired, by the saved
/// question that keeps the books; `held` where the caller holds the inserts already. Why not, where they cannot
/// be held: the books cannot be told then.
async fn missing_records(app: &App, project: &Project, held: Option<Held>) -> Result<Result<u64, NotHeld>, ApiError> {
    let Some(losses) = app.catalog.get("losses") else { return Ok(Ok(0)) };
    let _held = match held {
        Some(held) => held,
        None => match hold(app).await {
            Ok(held) => held,
            Err(reason) => return Ok(Err(reason)),
        },
    };
    let _turn = turn(app).await?;
    let Waiting { records, booked } = app.pipeline.waiting(project.id).await?;
    let server = ServerParams {
        project: project.id.0,
        now_ms: clock::now_ms(),
        pending_records: records,
        booked_records: booked,
    };
    let bound = losses.bind(&Given::new(), &server)?;
    let selection = select::select(&app.store, &bound, Limits::default()).await?;
    let place = |name: &str| selection.columns.iter().position(|column| column.name == name);
    let (Some(term), Some(records)) = (place("term"), place("records")) else { return Ok(Ok(0)) };
    let is_missing = |row: &&Vec<Value>| row.get(term).and_then(Value::as_str) == Some("unexplained");
    let rows = selection.rows.iter().filter(is_missing);
    let missing: i64 = rows.filter_map(|row| row.get(records)?.as_i64()).sum();
    Ok(Ok(u64::try_from(missing).unwrap_or(0)))
}
