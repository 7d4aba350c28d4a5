//! Cohorts: `/api/v1/cohorts`, with the project's read key; and the filter of a project, with the admin token.
//!
//! `GET` lists, `PUT NAME` chooses the members and saves a version, `GET NAME` tells it, `DELETE NAME` deletes it with its
//! members. Members are chosen once, when the cohort is put, so that questions about it can be compared over time; putting
//! the same again chooses anew. Four ways: `{"users":[..]}`, ids as the application sends them; `{"funnel":{..},"step":1}`,
//! who reached that step and can no longer reach the next; `{"funnel":{..},"reached":1}`, who reached that step, whatever
//! they did then; `{"did":{"event":..,"where":..,"at_least":2,"at_most":9,
//! "from":..,"to":..},"where":[..]}`, who did something so often and meets conditions (`user:KEY` among them). Of ids only
//! hashes are kept, so that nothing of a person who is forgotten remains.

use super::acts::recorded;
use super::ask::rfc3339;
use super::error::ApiError;
use super::query::{MAX_BODY_BYTES, json_body, only};
use super::saved::check_name;
use super::{App, Request, Response, auth, json_response};
use crate::clock;
use crate::control::{ControlError, Project};
use crate::identity::IdDomain;
use crate::store::funnel;
use crate::store::saved::{self, Kind, Saved};
use crate::store::select::Limits;
use gemba_queries::funnel::{CountBy, Funnel, FunnelError, FunnelRequest, MatchRequest};
use gemba_queries::population::{self, Did};
use gemba_queries::{Population, param};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest body of an upload, in bytes. Chosen: 200,000 ids of 36 characters.
const MAX_UPLOAD_BYTES: usize = 8 << 20;
/// Where something is done when a cohort does not say: all that is known.
const EVER: (&str, &str) = ("1970-01-01", "now");

/// Answers what lies under `/api/v1/cohorts`; `name` is what follows, without the slash.
pub async fn cohorts(app: &Arc<App>, name: &str, request: Request) -> Result<Response, ApiError> {
    let project = auth::read(&app.control, request.headers(), request.uri().query())?;
    if name.is_empty() {
        only(&request, &Method::GET)?;
        let all = saved::list(&app.store, project.id.0, Kind::Cohort).await?;
        let all: Vec<Value> = all.iter().map(shown).collect();
        return Ok(json_response(StatusCode::OK, &json!({"cohorts": all})));
    }
    check_name(name)?;
    match *request.method() {
        Method::GET => {
            let held = saved::held_at(&app.store, project.id.0, Kind::Cohort, name, None).await?;
            Ok(json_response(StatusCode::OK, &shown(&held.ok_or_else(|| unknown(name))?)))
        }
        Method::PUT => put(app, &project, name, request).await,
        Method::DELETE => delete(app, &project, name).await,
        _ => Err(ApiError::method_not_allowed("GET, PUT, DELETE")),
    }
}

/// A cohort as the API tells it: how it was chosen, never by whom it is made.
fn shown(one: &Saved) -> Value {
    let part = |name: &str| one.payload.as_ref().and_then(|payload| payload.get(name)).cloned().unwrap_or_default();
    json!({"name": one.name, "version": one.version, "at": rfc3339(one.at_ms), "members": part("members"),
        "chosen_by": part("chosen_by")})
}

async fn put(app: &Arc<App>, project: &Project, name: &str, request: Request) -> Result<Response, ApiError> {
    let Value::Object(asked) = json_body(app, request, MAX_UPLOAD_BYTES).await? else {
        return Err(FunnelError::of("request", "must be an object").into());
    };
    let choice = Choice::read(app, project, asked).await?;
    let _one_at_a_time = app.saving.lock().await;
    let now_ms = clock::now_ms();
    let snapshot = u64::try_from(now_ms).unwrap_or_default();
    choice.store(app, project, name, snapshot).await?;
    let members = saved::count_members(&app.store, project.id.0, name, snapshot).await?;
    let payload = json!({"snapshot": snapshot, "members": members, "chosen_by": choice.told()});
    let version = saved::append(&app.store, project.id.0, Kind::Cohort, name, Some(&payload), now_ms).await?;
    saved::remove_members(&app.store, project.id.0, name, true).await?;
    let status = if version == 1 { StatusCode::CREATED } else { StatusCode::OK };
    let held = Saved { name: name.to_owned(), version, payload: Some(payload), at_ms: now_ms };
    Ok(json_response(status, &shown(&held)))
}

async fn delete(app: &App, project: &Project, name: &str) -> Result<Response, ApiError> {
    let _one_at_a_time = app.saving.lock().await;
    if saved::held_at(&app.store, project.id.0, Kind::Cohort, name, None).await?.is_none() {
        return Err(unknown(name));
    }
    let version = saved::append(&app.store, project.id.0, Kind::Cohort, name, None, clock::now_ms()).await?;
    saved::remove_members(&app.store, project.id.0, name, false).await?;
    Ok(json_response(StatusCode::OK, &json!({"name": name, "deleted": true, "version": version})))
}

/// How the members of a cohort are chosen.
enum Choice {
    /// These.
    Users { units: Vec<u64> },
    /// Who was lost at a step of a funnel, or, where `reached`, who reached it.
    Funnel { asked: Value, funnel: Box<Funnel>, step: usize, reached: bool, population: Population },
    /// Who did something and meets conditions.
    Did { asked: Value, did: Did, population: Population },
}

impl Choice {
    async fn read(app: &App, project: &Project, mut asked: Map<String, Value>) -> Result<Self, ApiError> {
        let told = Value::Object(asked.clone());
        let (users, funnel) = (asked.remove("users"), asked.remove("funnel"));
        let (did, only) = (asked.remove("did"), asked.remove("where"));
        let (step, reached) = (asked.remove("step"), asked.remove("reached"));
        if let Some(name) = asked.keys().next() {
            let problem = "is unknown; known here: users, or funnel with step or reached, or did and where";
            return Err(FunnelError { unknown_field: true, ..FunnelError::of(name, problem) }.into());
        }
        match (users, funnel, did.is_some() || only.is_some()) {
            (_, None, _) if step.is_some() || reached.is_some() => {
                let field = if step.is_some() { "step" } else { "reached" };
                Err(FunnelError::of(field, "is a step of funnel, which is not given").into())
            }
            (Some(users), None, false) => Self::users(app, project, users),
            (None, Some(funnel), false) => {
                Self::funnel(app, project, told, funnel, (step.as_ref(), reached.as_ref())).await
            }
            (None, None, true) => Self::did(told, did, only),
            _ => Err(FunnelError::of(
                "request",
                "must hold users, or funnel with step or reached, or did, where or both",
            )
            .into()),
        }
    }

    fn users(app: &App, project: &Project, users: Value) -> Result<Self, ApiError> {
        let wrong = || FunnelError::of("users", "must be a list of ids, text of 1 to 1024 bytes each");
        let Value::Array(users) = users else { return Err(wrong().into()) };
        let hasher = app.control.id_hasher();
        let unit = |id: &Value| {
            let id = id.as_str().filter(|id| (1..=1024).contains(&id.len())).ok_or_else(wrong)?;
            Ok(hasher.hash(project.id, IdDomain::User, id.as_bytes()))
        };
        let units = users.iter().map(unit).collect::<Result<_, FunnelError>>()?;
        Ok(Self::Users { units })
    }

    async fn funnel(
        app: &App,
        project: &Project,
        told: Value,
        funnel: Value,
        at: (Option<&Value>, Option<&Value>),
    ) -> Result<Self, ApiError> {
        let now_ms = clock::now_ms();
        let mut asked = FunnelRequest::parse(funnel)?;
        let mut population = Population::default();
        if let (Some(name), _) = asked.take_cohorts() {
            population.cohort = Some(super::ask::cohort_named(app, project, &name, None).await?.0);
        }
        let funnel = asked.validate(now_ms, now_ms)?;
        if funnel.count_by != CountBy::User {
            return Err(FunnelError::of("funnel.count_by", "must be user: a cohort is of people").into());
        }
        let last = funnel.steps.len() - 1;
        let (field, given, last, meaning) = match at {
            (_, None) => ("step", at.0, last - 1, "the last step they reached"),
            (None, _) => ("reached", at.1, last, "a step they reached, whatever they did then"),
            (Some(_), Some(_)) => return Err(FunnelError::of("reached", "cannot stand beside step: name one").into()),
        };
        let step = given.and_then(Value::as_u64).and_then(|step| usize::try_from(step).ok());
        let step = step
            .filter(|step| *step <= last)
            .ok_or_else(|| FunnelError::of(field, &format!("must be 0 to {last}: {meaning}")))?;
        Ok(Self::Funnel { asked: told, funnel: Box::new(funnel), step, reached: field == "reached", population })
    }

    fn did(told: Value, did: Option<Value>, only: Option<Value>) -> Result<Self, ApiError> {
        let mut did = match did {
            None => Map::new(),
            Some(Value::Object(did)) => did,
            Some(_) => return Err(FunnelError::of("did", "must be an object").into()),
        };
        let mut text = |name: &str, otherwise: &str| match did.remove(name) {
            None | Some(Value::Null) => Ok(otherwise.to_owned()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(FunnelError::of(&format!("did.{name}"), "must be text")),
        };
        let range = [("from", text("from", EVER.0)?), ("to", text("to", EVER.1)?), ("tz", text("tz", "UTC")?)];
        let range: BTreeMap<String, String> = range.map(|(name, value)| (name.to_owned(), value)).into();
        let range_ms = param::range_ms(&range, clock::now_ms())?;
        let mut number = |name: &str| match did.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => Err(FunnelError::of(&format!("did.{name}"), "must be a whole number")),
            },
        };
        let counts = (number("at_least")?, number("at_most")?);
        let matcher = MatchRequest::parse(Value::Object(did), "did")?;
        let did = Did::of(&matcher, counts, range_ms)?;
        let only = only.map(|only| population::conditions("where", &only.to_string())).transpose()?;
        Ok(Self::Did {
            asked: told,
            did,
            population: Population { only: only.unwrap_or_default(), ..Population::default() },
        })
    }

    /// Chooses, and stores who was chosen.
    async fn store(&self, app: &App, project: &Project, name: &str, snapshot: u64) -> Result<(), ApiError> {
        let (store, project, limits) = (&app.store, project.id.0, Limits::default());
        match self {
            Self::Users { units } => saved::add_members(store, project, name, snapshot, units).await?,
            Self::Funnel { funnel, step, reached, population, .. } => {
                let units = funnel::units_at(store, funnel, (*step, *reached), project, limits, population).await?;
                saved::add_members(store, project, name, snapshot, &units).await?;
            }
            Self::Did { did, population, .. } => {
                let mut people = did.plan(project);
                population.apply(&mut people);
                saved::select_members(store, project, name, snapshot, &people, limits).await?;
            }
        }
        Ok(())
    }

    /// What is kept of the request. Ids are not.
    fn told(&self) -> Value {
        match self {
            Self::Users { units } => json!({"users": units.len()}),
            Self::Funnel { asked, .. } | Self::Did { asked, .. } => asked.clone(),
        }
    }
}

fn unknown(name: &str) -> ApiError {
    let message = format!("there is no cohort {name:?}");
    ApiError::new(StatusCode::NOT_FOUND, "unknown_cohort", message, "GET /api/v1/cohorts lists them")
}

/// Answers `/api/v1/projects/NAME/filter`, for the admin: `GET` tells, `PUT {"exclude":[{attr, op, value}, ..]}` leaves out
/// of every answer about people the events that meet one of the conditions, `DELETE` leaves out nothing any more. Both change what
/// everybody is answered, so they are acts on record.
pub async fn filter(app: &Arc<App>, actor: &str, name: &str, request: Request) -> Result<Response, ApiError> {
    let project = app.control.project_named(name).ok_or_else(|| ControlError::NoSuchProject(name.to_owned()))?;
    let id = project.id.0;
    let payload = match *request.method() {
        Method::GET => {
            let held = saved::held_at(&app.store, id, Kind::Filter, "", None).await?;
            let version = held.as_ref().map_or(0, |held| held.version);
            let exclude = held.and_then(|held| held.payload?.get("exclude").cloned()).unwrap_or_else(|| json!([]));
            return Ok(json_response(
                StatusCode::OK,
                &json!({"project": name, "version": version, "exclude": exclude}),
            ));
        }
        Method::PUT => {
            let body = json_body(app, request, MAX_BODY_BYTES).await?;
            let exclude = body.get("exclude").cloned().filter(Value::is_array).ok_or_else(|| {
                FunnelError::of(
                    "exclude",
                    r#"must be a list such as [{"attr":"user:internal","op":"eq","value":true}]"#,
                )
            })?;
            population::exclusions(exclude.clone())?;
            Some(json!({"exclude": exclude}))
        }
        Method::DELETE => None,
        _ => return Err(ApiError::method_not_allowed("GET, PUT, DELETE")),
    };
    let exclude = payload.as_ref().and_then(|payload| payload.get("exclude").cloned());
    let detail = exclude.as_ref().map_or_else(|| "nothing is left out".to_owned(), Value::to_string);
    let told = json!({"project": name, "exclude": exclude.unwrap_or_else(|| json!([]))});
    let set = |app: Arc<App>| async move {
        let _one_at_a_time = app.saving.lock().await;
        let version = saved::append(&app.store, id, Kind::Filter, "", payload.as_ref(), clock::now_ms()).await?;
        let mut told = told;
        told["version"] = json!(version);
        Ok(told)
    };
    let answer = recorded(app, actor, ("project.filter", name, &detail), set).await?;
    Ok(json_response(StatusCode::OK, &answer))
}
