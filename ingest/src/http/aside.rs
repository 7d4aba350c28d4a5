//! Records of a project that were set aside, with the admin token: `GET` lists them, `POST retry` takes them in again.
//!
//! A record that is retried goes through the log like a new one, under a key made of its id, and its row of `set_aside` is removed
//! once it is stored. The key holds until then, so a retry that was broken off anywhere, or is sent again, stores nothing twice,
//! and the books count the record once. Then it is forgotten: should the row come back, it came with a backup that was made
//! before, which knows nothing of the retry. A record that would be refused again stays where it is.

use super::acts::{alone, recorded};
use super::admin::read_or;
use super::error::ApiError;
use super::health::flushed;
use super::{App, Request, Response, json_response, query_pairs};
use crate::clock;
use crate::control::{ControlError, Project};
use crate::otlp::{self, Encoding, Origin, Signal};
use crate::outcome::Fate;
use crate::pipeline::{ContentEncoding, MAX_REFUSED, Receipt, SetAside, Submission, SubmitError};
use crate::store::aside::{self, Listed, Place, Which, Whole};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Items listed when the request does not say how many.
const LISTED: u32 = 100;
/// Pages of items taken in by one request; the answer says where to go on. Chosen: about ten seconds.
const MAX_PAGES: usize = 5;
/// Items that stay and are named in an answer, with what is wrong with them.
const MAX_NAMED: usize = 100;
/// Bytes of equal records sent together.
const REQUEST_BYTES: usize = 1 << 20;
/// Records taken in before it is waited for that they are stored. If nothing was mended all of them are refused again, and a cut
/// in which too many are is moved by nobody. Chosen: half of that, since others may be refused in the same cut.
const MAX_TOGETHER: u64 = MAX_REFUSED as u64 / 2;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    ids: Vec<String>,
    reason: Option<String>,
    after: Option<String>,
    of_all_logs: bool,
}

/// Answers what lies under `/api/v1/projects/NAME/set-aside`; whose request it is was looked at before.
pub(super) async fn answer(
    app: &Arc<App>,
    actor: &str,
    (method, name, verb): (Method, &str, &str),
    request: Request,
) -> Result<Response, ApiError> {
    let project = app.control.project_named(name).ok_or_else(|| ControlError::NoSuchProject(name.to_owned()))?;
    match (method, verb) {
        (Method::GET, "set-aside") => list(app, &project, &request).await,
        (_, "set-aside") => Err(ApiError::method_not_allowed("GET")),
        (Method::POST, "set-aside/retry") => {
            let wanted = read_or(app, request, r#"{"reason":"refused_by_store"}"#, Wanted::default()).await?;
            for id in wanted.ids.iter().chain(&wanted.after) {
                check_id("ids", id)?;
            }
            if let Some(reason) = &wanted.reason {
                check_reason(reason)?;
            }
            let detail = match (&wanted.reason, wanted.ids.len()) {
                (Some(reason), 0) => reason.clone(),
                (None, 0) => String::new(),
                (_, ids) => format!("{ids} ids"),
            };
            let act = ("project.retry", name, &*detail);
            let answer = recorded(app, actor, act, |app| retry(app, project, wanted)).await?;
            Ok(json_response(StatusCode::OK, &answer))
        }
        (_, "set-aside/retry") => Err(ApiError::method_not_allowed("POST")),
        _ => Err(ApiError::not_found(request.uri().path())),
    }
}

fn check_id(field: &str, id: &str) -> Result<(), ApiError> {
    if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(ApiError::bad_request(
        format!("{field}: {id:?} is no id"),
        "ids are the 32 hexadecimal digits that a list shows",
    ))
}

fn check_reason(reason: &str) -> Result<(), ApiError> {
    if !reason.is_empty()
        && reason.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    {
        return Ok(());
    }
    Err(ApiError::bad_request(
        format!("reason is {reason:?}"),
        "a word such as refused_by_store; a list names those there are",
    ))
}

async fn list(app: &App, project: &Project, request: &Request) -> Result<Response, ApiError> {
    let (mut which, mut behind, mut limit) = (Which::default(), None, LISTED);
    for (parameter, value) in query_pairs(request.uri().query()) {
        match parameter.as_str() {
            "limit" => {
                limit =
                    value.parse().ok().filter(|limit| (1..=aside::MAX_LISTED).contains(limit)).ok_or_else(|| {
                        let hint = format!("a number from 1 to {}", aside::MAX_LISTED);
                        ApiError::bad_request(format!("limit is {value:?}"), hint)
                    })?;
            }
            "reason" => {
                check_reason(&value)?;
                which.reason = Some(value);
            }
            "id" => {
                check_id("id", &value)?;
                which.ids.push(value);
            }
            "after" => {
                let place = Place::parse(&value);
                behind = Some(place.ok_or_else(|| {
                    ApiError::bad_request(format!("after is {value:?}"), "the place that the end of a list names")
                })?);
            }
            "token" => {}
            _ => {
                let hint = "the parameters are limit, reason, id and after";
                return Err(ApiError::bad_request(format!("there is no parameter {parameter:?}"), hint));
            }
        }
    }
    let (Listed { items, after }, counts) = tokio::try_join!(
        aside::list(&app.store, project.id, &which, behind.as_ref(), limit),
        aside::counts(&app.store, project.id)
    )?;
    let records: u64 = counts.iter().map(|count| count.records).sum();
    let after = after.as_ref().map(Place::to_string);
    let body =
        json!({"project": project.name, "records": records, "by_reason": counts, "items": items, "after": after});
    Ok(json_response(StatusCode::OK, &body))
}

/// What came of a retry.
#[derive(Debug, Default)]
struct Outcome {
    /// Records taken in.
    retried: u64,
    /// Records that an earlier retry had taken in already.
    repeated: u64,
    /// Of the records taken in, those that ClickHouse refused once more.
    refused_again: u64,
    /// Ids of the items that are gone from where they were.
    removed: Vec<u128>,
    /// Records that stay, and what is wrong with some of them.
    left: u64,
    named: Vec<Value>,
}

impl Outcome {
    fn leave(&mut self, item: &Whole, problem: &str) {
        self.left += item.records;
        if self.named.len() < MAX_NAMED {
            self.named.push(json!({"id": item.id, "reason": item.reason, "problem": problem}));
        }
    }
}

async fn retry(app: Arc<App>, project: Project, wanted: Wanted) -> Result<Value, ApiError> {
    let mut outcome = Outcome::default();
    let retried = alone(&app, Box::pin(retry_alone(&app, &project, wanted, &mut outcome))).await;
    // Also where it was broken off, which skips the rest of it.
    app.pipeline.forget_keys(project.id, outcome.removed).await;
    retried
}

async fn retry_alone(
    app: &Arc<App>,
    project: &Project,
    wanted: Wanted,
    outcome: &mut Outcome,
) -> Result<Value, ApiError> {
    // Where no other node can store, what other logs set aside is settled: it came with a backup.
    let of_all_logs = wanted.of_all_logs || !app.pipeline.shares_store();
    let which = Which { ids: wanted.ids, reason: wanted.reason };
    let after = retry_pages(app, project, (&which, of_all_logs), wanted.after, outcome).await?;
    let elsewhere = if of_all_logs {
        0
    } else {
        aside::of_other_logs(&app.store, project.id, &which, &app.pipeline.unsettled()).await?
    };
    let Outcome { retried, repeated, refused_again, left, ref named, .. } = *outcome;
    Ok(json!({"project": project.name, "retried": retried, "repeated": repeated, "refused_again": refused_again,
        "left": left, "problems": named, "of_other_nodes": elsewhere, "after": after}))
}

/// Takes in some pages of items, and answers where to go on.
async fn retry_pages(
    app: &Arc<App>,
    project: &Project,
    (which, of_all_logs): (&Which, bool),
    mut after: Option<String>,
    outcome: &mut Outcome,
) -> Result<Option<String>, ApiError> {
    for _ in 0..MAX_PAGES {
        // Before the rows are read: what is stored later is not yet looked at.
        let unsettled = app.pipeline.unsettled();
        let page = aside::settled(&app.store, project.id, which, (&unsettled, of_all_logs), after).await?;
        take_in(app, project, page.items, outcome).await?;
        after = page.after;
        if after.is_none() {
            break;
        }
    }
    Ok(after)
}

/// Takes in the items that can be, waits until they are stored, and removes them from where they were set aside.
async fn take_in(app: &Arc<App>, project: &Project, items: Vec<Whole>, outcome: &mut Outcome) -> Result<(), ApiError> {
    let began_ms = clock::now_ms();
    let mut taken = Vec::new();
    let mut together = 0;
    for item in items.into_iter().map(Arc::new) {
        let looking = {
            let (app, project, item) = (Arc::clone(app), project.clone(), Arc::clone(&item));
            tokio::task::spawn_blocking(move || look_at(&app, &project, &item))
        };
        // A panic of the decoder, which would be a mistake in it, costs this item and no other.
        let looked = looking.await.unwrap_or_else(|_panic| Err("the decoder failed on it".to_owned()));
        let signal = match looked {
            Ok(signal) => signal,
            Err(problem) => {
                outcome.leave(&item, &problem);
                continue;
            }
        };
        for (copies, submission) in requests(project, signal, &item) {
            if together + copies > MAX_TOGETHER {
                flushed(app).await?;
                together = 0;
            }
            let was = SetAside { reason: item.reason.clone(), received_ms: item.booked_ms };
            let Receipt { tally, deduplicated } =
                app.pipeline.submit_again(submission, was).await.map_err(|error| not_taken(&error))?;
            *(if deduplicated { &mut outcome.repeated } else { &mut outcome.retried }) += tally.received;
            together += copies;
        }
        taken.push(item);
    }
    if taken.is_empty() {
        return Ok(());
    }
    // Only what is stored may go from where it was; until then a retry that is sent again finds it there.
    flushed(app).await?;
    let taken: Vec<&Whole> = taken.iter().map(|item| &**item).collect();
    aside::remove(&app.store, project.id, &taken).await?;
    outcome.removed.extend(taken.iter().filter_map(|item| u128::from_str_radix(&item.id, 16).ok()));
    outcome.refused_again += aside::refused_again(&app.store, project.id, &taken, began_ms).await?;
    Ok(())
}

/// The signal of an item that can be taken in; or why it would only be set aside again. Computes for as long as decoding takes.
fn look_at(app: &App, project: &Project, item: &Whole) -> Result<Signal, String> {
    let signal = Signal::ALL.iter().copied().find(|signal| signal.as_str() == item.signal);
    let (Some(signal), false) = (signal, item.context.is_empty()) else {
        return Err("it was not kept whole: send the record again, shorter or without what is wrong with it".to_owned());
    };
    let origin = Origin {
        project: project.id,
        retention_class: project.retention_class,
        received_ms: clock::now_ms(),
        ids: app.control.id_hasher(),
        reads_span_events: false,
    };
    let one = otlp::close_envelope(signal, &item.context, &item.body);
    let tally = otlp::try_decode(signal, Encoding::Json, one.as_bytes(), &origin).map_err(|error| error.to_string())?;
    if (tally.received, tally.kept()) != (1, 1) {
        let ignored = tally.others.iter().find(|(fate, ..)| *fate == Fate::Ignored);
        let problem = tally.first_problem.clone().or_else(|| ignored.map(|(_, reason, _)| reason.to_string()));
        return Err(problem.unwrap_or_else(|| "it is no record any more".to_owned()));
    }
    Ok(signal)
}

/// The requests that hold an item's records, made one by one, with how many each holds and keys of their own. The same pieces
/// every time, since equal items have as many records.
fn requests<'a>(project: &'a Project, signal: Signal, item: &'a Whole) -> impl Iterator<Item = (u64, Submission)> + 'a {
    let piece = (REQUEST_BYTES / (item.body.len() + 1)).max(1) as u64;
    let piece = piece.min(MAX_TOGETHER);
    (0..item.records.div_ceil(piece)).map(move |number| {
        let copies = piece.min(item.records - number * piece);
        let records = vec![item.body.as_str(); usize::try_from(copies).unwrap_or(1)].join(",");
        let body = Bytes::from(otlp::close_envelope(signal, &item.context, &records));
        let submission = Submission {
            project: project.id,
            retention_class: project.retention_class,
            signal,
            encoding: Encoding::Json,
            raw: body.clone(),
            body,
            content_encoding: ContentEncoding::Identity,
            key: Some(key(&item.id, number)),
        };
        (copies, submission)
    })
}

/// A key of the kind that holds until it is forgotten: the id as a uuid, and which piece it is.
fn key(id: &str, number: u64) -> String {
    let part = |from: usize, to: usize| id.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}-{number}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

fn not_taken(error: &SubmitError) -> ApiError {
    let hint = "what was taken in already is not stored twice: send the retry again";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error.to_string(), hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ProjectId;
    use crate::log::repeats::RepeatKey;

    #[test]
    fn keys_of_retries_are_of_the_kind_that_holds_until_it_is_forgotten() {
        let key = key("00112233445566778899aabbccddeeff", 7);
        let parsed = RepeatKey::of(ProjectId(1), Signal::Logs, Some(&key), b"", true);
        assert_eq!(parsed, RepeatKey::Sdk { instance: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff, number: 7 });
    }
}
