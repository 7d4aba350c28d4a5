//! Asks: runs a saved query or a funnel for a project, for the people asked about, as known when asked for, and says how
//! far the answer can be trusted.
//!
//! In: a project, a question, and the parameters any question takes: `cohort`, `where`, `filter`, `split_by`, `as_of`. Out:
//! an [`Answer`], or a funnel's answer as JSON. Whoever calls has checked the key.

use super::error::ApiError;
use super::trust::{Sources, known_loss, sampling_weight};
use super::turns::Turn;
use super::{App, books};
use crate::answer::{Answer, AnswerColumn, CohortUse, FilterUse, Trust};
use crate::clock;
use crate::control::Project;
use crate::pipeline::{Held, Waiting};
use crate::store::saved::{self, Kind};
use crate::store::select::{self, Limits, Selection};
use crate::store::{funnel, people, removals};
use gemba_queries::funnel::{FunnelError, FunnelRequest};
use gemba_queries::{
    BoundQuery, CohortVersion, Engine, ParamError, Population, Query, ServerParams, param, population,
};
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::SemaphorePermit;

/// Parameters of a question by name.
pub type Given = BTreeMap<String, String>;

/// Who is looked at, and when.
struct View {
    population: Population,
    filter: FilterUse,
    cohort: Option<CohortUse>,
    /// The instant asked for with `as_of`.
    as_of_ms: Option<i64>,
    /// What `now` means.
    now_ms: i64,
    /// Up to when everything acknowledged can be seen.
    until_ms: i64,
    split_by: Option<String>,
    started: Instant,
}

impl View {
    /// Takes the parameters of the view out of `given` and looks up what they name.
    async fn open(app: &App, project: &Project, given: &mut Given, about: &About<'_>) -> Result<Self, ApiError> {
        let started = Instant::now();
        let present_ms = clock::now_ms();
        let tz = given.get("tz").cloned();
        let as_of = given.remove("as_of");
        let as_of_ms = as_of.map(|text| param::past_instant("as_of", &text, present_ms, tz.as_deref())).transpose()?;
        let (cohort, only) = (given.remove("cohort"), given.remove("where"));
        let (switch, split_by) = (given.remove("filter"), given.remove("split_by"));
        for (name, value) in [("cohort", &cohort), ("where", &only), ("split_by", &split_by)] {
            about.refuse(name, value.as_ref())?;
        }
        let mut view = Self {
            population: Population { received_before_ms: as_of_ms, ..Population::default() },
            filter: FilterUse::default(),
            cohort: None,
            as_of_ms,
            now_ms: as_of_ms.unwrap_or(present_ms),
            until_ms: complete_until_ms(app, project, present_ms).min(as_of_ms.unwrap_or(i64::MAX)),
            split_by: split_by.map(|key| population::split_key(&key)).transpose()?,
            started,
        };
        view.take_filter(app, project, switch.as_deref(), about).await?;
        if let Some(only) = only.filter(|only| !only.is_empty()) {
            view.population.only = population::conditions("where", &only)?;
        }
        if let Some(name) = cohort.filter(|name| !name.is_empty()) {
            let (version, used) = cohort_named(app, project, &name, as_of_ms).await?;
            view.population.cohort = Some(version);
            view.cohort = Some(used);
        }
        Ok(view)
    }

    /// Looks from the present instant, where no other was asked for: what was received while the question waited is stored by
    /// now, and a cut that lies on both sides of `now` would be counted in part.
    fn move_to_now(&mut self, app: &App, project: &Project) {
        if self.as_of_ms.is_none() {
            self.now_ms = clock::now_ms();
            self.until_ms = complete_until_ms(app, project, self.now_ms);
        }
    }

    /// Applies the project's filter, where there is one and the question is about people.
    async fn take_filter(
        &mut self,
        app: &App,
        project: &Project,
        switch: Option<&str>,
        about: &About<'_>,
    ) -> Result<(), ApiError> {
        let is_on = match switch {
            None | Some("on") => true,
            Some("off") => false,
            Some(other) => {
                return Err(ParamError::Invalid {
                    name: "filter".to_owned(),
                    expected: "on or off",
                    given: other.chars().take(100).collect(),
                    allowed: "off shows what the project's filter leaves out".to_owned(),
                }
                .into());
            }
        };
        let held = saved::held_at(&app.store, project.id.0, Kind::Filter, "", self.as_of_ms).await?;
        let Some(excludes) = held.as_ref().and_then(|held| held.payload.as_ref()?.get("exclude").cloned()) else {
            return Ok(());
        };
        self.filter.version = held.map_or(0, |held| held.version);
        self.filter.excludes = excludes.as_array().cloned().unwrap_or_default();
        self.filter.because = match (about.is_people(), is_on) {
            (false, _) => Some("this question counts what happened to everybody".to_owned()),
            (true, false) => Some("filter=off".to_owned()),
            (true, true) => None,
        };
        self.filter.applied = self.filter.because.is_none();
        if self.filter.applied {
            self.population.without = population::exclusions(excludes)?;
        }
        Ok(())
    }

    /// How far an answer about `range` can be trusted, without what [`Self::look_back`] finds out.
    async fn trust(
        &self,
        app: &App,
        project: &Project,
        range: Option<(i64, i64)>,
        sources: Sources<'_>,
    ) -> Result<Trust, ApiError> {
        let sampled = async { Ok::<_, ApiError>(sampling_weight(app, project, range, sources).await?) };
        let loss = async { Ok(known_loss(app, project, range).await?) };
        let expired = async { Ok(removals::expired_until_ms(&app.store, project.id).await?) };
        let (known_loss, sampling_weight, expired_until_ms) = tokio::try_join!(loss, sampled, expired)?;
        let kept_from = expired_until_ms.filter(|until_ms| range.is_some_and(|(from_ms, _)| from_ms < *until_ms));
        // A range that reaches into the future is complete when the present is.
        let end_ms = range.map_or(self.now_ms, |(_, to_ms)| to_ms.min(self.now_ms));
        Ok(Trust {
            from: range.map(|(from_ms, _)| rfc3339(from_ms)),
            to: range.map(|(_, to_ms)| rfc3339(to_ms)),
            complete: self.until_ms >= end_ms && kept_from.is_none(),
            complete_until: rfc3339(self.until_ms),
            kept_from: kept_from.map(rfc3339),
            known_loss,
            elapsed_ms: 0,
            as_of: rfc3339(self.as_of_ms.unwrap_or(self.until_ms)),
            filter: self.filter.clone(),
            cohort: self.cohort.clone(),
            sampling_weight,
            reproduced: None,
            saved: None,
        })
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Adds whether what was known at `as_of` is all still there, what has come since, and how long it all took. Asked after the
    /// question itself and without its turn: it may wait for inserts, and others need not wait with it.
    async fn look_back(
        &self,
        app: &App,
        project: &Project,
        range: Option<(i64, i64)>,
        held: Option<Held>,
        trust: &mut Trust,
    ) -> Result<(), ApiError> {
        if let Some(as_of_ms) = self.as_of_ms {
            trust.reproduced = Some(books::reproduced(app, project, range, as_of_ms, held).await?);
        }
        trust.elapsed_ms = self.elapsed_ms();
        Ok(())
    }
}

/// What is asked, as far as the view has to know.
struct About<'a> {
    query: Option<&'a Query>,
}

impl About<'_> {
    fn is_people(&self) -> bool {
        self.query.is_none_or(Query::is_about_people)
    }

    /// Refuses a parameter that the question cannot honour.
    fn refuse(&self, name: &str, given: Option<&String>) -> Result<(), ApiError> {
        let Some(given) = given else { return Ok(()) };
        let splits = name == "split_by" && self.query.is_none_or(|query| query.engine != Engine::ClickHouse);
        let reason = if !self.is_people() {
            "nothing, since this question counts what happened to everybody"
        } else if splits {
            "nothing, since this question has a breakdown of its own"
        } else {
            return Ok(());
        };
        Err(ParamError::Invalid {
            name: name.to_owned(),
            expected: reason,
            given: given.chars().take(100).collect(),
            allowed: "leave it out".to_owned(),
        }
        .into())
    }
}

/// Answers a saved query of the catalogue.
pub async fn query(app: &Arc<App>, project: &Project, query: &Query, given: &Given) -> Result<Answer, ApiError> {
    let mut given = given.clone();
    let mut view = View::open(app, project, &mut given, &About { query: Some(query) }).await?;
    // Values are checked before anything is waited for.
    let mut server = ServerParams { project: project.id.0, now_ms: view.now_ms, pending_records: 0, booked_records: 0 };
    let range = query.bind(&given, &server)?.range_ms;
    // What is pending and what is stored add up only while no insert is half done; books told during one would be wrong.
    // Held before the turn, since others would wait for the inserts as well.
    let held = if query.tells_pending() {
        let held = books::hold(app).await.map_err(|reason| books::not_held(app, reason))?;
        view.move_to_now(app, project);
        Some(held)
    } else {
        None
    };
    let turn = match held {
        Some(_) => OneOf::Books(books::turn(app).await?),
        None => OneOf::Questions(turn(app, project, &view, range, &query.name).await),
    };
    server.now_ms = view.now_ms;
    if held.is_some() {
        let Waiting { records, booked } = app.pipeline.waiting(project.id).await?;
        (server.pending_records, server.booked_records) = (records, booked);
    }
    let bound = query.bind(&given, &server)?;
    let rows = async {
        match &view.split_by {
            None => run(app, project, query, &bound, &view, &view.population).await,
            Some(key) => split(app, project, query, &bound, &view, key).await,
        }
    };
    let sources = Sources { sql: &bound.sql, people: query.is_about_people() };
    let (selection, mut trust) = tokio::try_join!(rows, view.trust(app, project, bound.range_ms, sources))?;
    turn.end();
    view.look_back(app, project, bound.range_ms, held, &mut trust).await?;
    let columns = selection.columns.into_iter().map(|column| {
        let known = query.columns.iter().find(|known| known.name == column.name);
        AnswerColumn {
            error_percent: known.map_or_else(|| "0".to_owned(), |known| known.error_percent.clone()),
            ..AnswerColumn::new(&column.name, &column.kind, known.map_or("name", |known| &known.unit))
        }
    });
    Ok(Answer { query: query.name.clone(), columns: columns.collect(), rows: selection.rows, trust })
}

/// Whose turn it is.
enum OneOf<'a> {
    Books(SemaphorePermit<'a>),
    Questions(Turn),
}

impl OneOf<'_> {
    fn end(self) {
        match self {
            Self::Books(permit) => drop(permit),
            Self::Questions(turn) => turn.end(),
        }
    }
}

/// What says how long a funnel takes beside the data it looks at.
fn length_of(asked: &FunnelRequest) -> String {
    let names: Vec<&str> = asked.steps.iter().map(|step| step.event.as_deref().unwrap_or("*")).collect();
    format!("funnel {:?} {:?} {}", asked.order, asked.breakdown, names.join(" > "))
}

async fn run(
    app: &App,
    project: &Project,
    query: &Query,
    bound: &BoundQuery,
    view: &View,
    population: &Population,
) -> Result<Selection, ApiError> {
    if query.engine != Engine::ClickHouse {
        let times = (view.now_ms, view.until_ms);
        let limits = Limits::default();
        return Ok(funnel::saved(&app.store, query.engine, bound, project.id.0, times, limits, population).await?);
    }
    Ok(people::ask(&app.store, bound, population, Limits::default()).await?)
}

/// Asks the question once for each value of a key, and puts the answers below each other.
async fn split(
    app: &App,
    project: &Project,
    query: &Query,
    bound: &BoundQuery,
    view: &View,
    key: &str,
) -> Result<Selection, ApiError> {
    let mut values = population::split_values(key, project.id.0, bound.range_ms);
    view.population.apply(&mut values);
    let found = select::select(&app.store, &values, Limits::default()).await?;
    let values: Vec<String> = found.rows.iter().filter_map(|row| row.first()?.as_str().map(str::to_owned)).collect();
    let mut all = Selection::default();
    for (name, conditions) in population::parts(key, &values) {
        let part = run(app, project, query, bound, view, &view.population.narrowed(conditions)).await?;
        if all.columns.is_empty() {
            all.columns = part.columns;
            let column = select::SelectedColumn { name: "split".to_owned(), kind: "String".to_owned() };
            all.columns.insert(0, column);
        }
        all.rows.extend(part.rows.into_iter().map(|mut row| {
            row.insert(0, json!(name));
            row
        }));
    }
    if all.columns.is_empty() {
        return run(app, project, query, bound, view, &view.population).await;
    }
    Ok(all)
}

/// Answers a funnel; `given` holds the parameters of the view.
pub async fn funnel(
    app: &Arc<App>,
    project: &Project,
    mut asked: FunnelRequest,
    given: &Given,
) -> Result<Value, ApiError> {
    let mut given = given.clone();
    let (cohort, base_cohort) = asked.take_cohorts();
    if let Some(name) = cohort
        && given.insert("cohort".to_owned(), name).is_some()
    {
        return Err(FunnelError::of("cohort", "is given in the request and as a parameter").into());
    }
    let view = View::open(app, project, &mut given, &About { query: None }).await?;
    if let Some(name) = given.keys().find(|name| !["from", "to", "tz"].contains(&name.as_str())) {
        let allowed = ["cohort", "where", "filter", "as_of", "from", "to", "tz"].map(str::to_owned).to_vec();
        return Err(ParamError::Unknown { name: name.clone(), allowed }.into());
    }
    for (name, place) in [("from", &mut asked.from), ("to", &mut asked.to), ("tz", &mut asked.tz)] {
        if let Some(value) = given.remove(name) {
            *place = Some(value);
        }
    }
    let mut base = view.population.clone();
    if let Some(name) = base_cohort {
        base.cohort = Some(cohort_named(app, project, &name, view.as_of_ms).await?.0);
    }
    let times = (view.now_ms, view.until_ms);
    let range = asked.validate(times.0, times.1).map(|funnel| Some((funnel.from_ms, funnel.to_ms)))?;
    let turn = turn(app, project, &view, range, &length_of(&asked)).await;
    let populations = (&view.population, &base);
    let answer = async {
        let limits = Limits::default();
        Ok(funnel::compared(&app.store, &asked, project.id.0, times, limits, populations).await?)
    };
    let sources = Sources { sql: "", people: true };
    let ((_, answer, comparison), mut trust) = tokio::try_join!(answer, view.trust(app, project, range, sources))?;
    turn.end();
    view.look_back(app, project, range, None, &mut trust).await?;
    // The funnel's own as_of decides between open and lost; it is the same unless the request says otherwise.
    let mut body = serde_json::to_value(&trust).map_err(|error| ApiError::internal(&error))?;
    if let (Value::Object(body), Ok(Value::Object(answer))) = (&mut body, serde_json::to_value(&answer)) {
        body.extend(answer);
    }
    if let Some(comparison) = comparison {
        body["comparison"] = serde_json::to_value(&comparison).map_err(|error| ApiError::internal(&error))?;
    }
    Ok(body)
}

/// The cohort of this name as it was at an instant, and how it is told.
pub async fn cohort_named(
    app: &App,
    project: &Project,
    name: &str,
    at_ms: Option<i64>,
) -> Result<(CohortVersion, CohortUse), ApiError> {
    let unknown = || {
        let when = at_ms.map_or(String::new(), |at_ms| format!(" at {}", rfc3339(at_ms)));
        let hint = "GET /api/v1/cohorts lists them";
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "unknown_cohort",
            format!("cohort: there is no cohort {name:?}{when}"),
            hint,
        )
    };
    let held = saved::held_at(&app.store, project.id.0, Kind::Cohort, name, at_ms).await?.ok_or_else(unknown)?;
    let snapshot = held.payload.as_ref().and_then(|payload| payload.get("snapshot")?.as_u64()).ok_or_else(unknown)?;
    let chosen = held.payload.as_ref().and_then(|payload| payload.get("members")?.as_u64()).unwrap_or(0);
    let members = saved::count_members(&app.store, project.id.0, name, snapshot).await?;
    if members == 0 && chosen > 0 {
        let message = format!("cohort: the members of version {} of {name:?} are no longer kept", held.version);
        let hint = "ask with a later as_of, or without one";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "cohort_not_kept", message, hint));
    }
    let at = rfc3339(held.at_ms);
    let used = CohortUse { name: name.to_owned(), version: held.version, at, members };
    Ok((CohortVersion { name: name.to_owned(), version: snapshot }, used))
}

/// Waits for a turn: a question may take all cores and its share of memory, so only few run at a time. Of one name those run
/// about as long that look at a time of about the same length, and are asked once or for each part.
async fn turn(app: &App, project: &Project, view: &View, range: Option<(i64, i64)>, name: &str) -> Turn {
    let length = range.map(|(from_ms, to_ms)| to_ms.abs_diff(from_ms).checked_ilog2());
    let is_narrowed = !view.population.everybody().eq(&view.population);
    app.questions.take(format!("{} {length:?} {is_narrowed} {:?} {name}", project.id.0, view.split_by)).await
}

pub(super) fn stopping() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is stopping", "ask again in a moment")
}

/// Up to when everything acknowledged of a project can be seen: now, or the oldest record, of whichever project, that
/// waits to be stored.
pub(super) fn complete_until_ms(app: &App, project: &Project, now_ms: i64) -> i64 {
    let status = app.pipeline.status();
    if !status.pending_by_project.contains_key(&project.id.0) {
        return now_ms;
    }
    now_ms.saturating_sub(i64::try_from(status.oldest_pending.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn rfc3339(ms: i64) -> String {
    // Parameters are checked to lie between 1970 and 2262, which the timestamp can hold.
    jiff::Timestamp::from_millisecond(ms).map(|time| time.to_string()).unwrap_or_default()
}
