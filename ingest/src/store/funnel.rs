//! Asks ClickHouse for a funnel's rows and computes the answer.
//!
//! In: a checked [`Funnel`] and a project. Out: a [`FunnelAnswer`]. The statements come from `gemba_queries`, which also
//! reads the rows; here is only the connection between the two: pieces of an answer go through a short queue to a thread
//! of their own, so that reading and ClickHouse work at the same time and no thread that serves connections is held up.
//!
//! Where rows are cheap they are fetched without the order of events inside a millisecond, which few units need; what lies in those
//! milliseconds is fetched once more with it. Memory is bounded: when the rows do not fit, they are fetched in several parts, each
//! some of the units.

use super::select::{self, Limits, SelectedColumn, Selection};
use super::{Client, StoreError};
use bytes::Bytes;
use gemba_queries::funnel::compare::{self, StepComparison};
use gemba_queries::funnel::{
    Done, Dropped, DroppedUnit, Fetch, Funnel, FunnelAnswer, FunnelError, FunnelPlan, FunnelRequest, FunnelScan,
    NativeError, NativeReader, StepAnswer, saved,
};
use gemba_queries::trends::{self, Trend};
use gemba_queries::{BoundQuery, Engine, Population};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;

/// Pieces that may wait for the scan. Chosen: enough that neither side waits for the other's next breath; a piece is what
/// one read of the connection gave, at most some hundred kilobytes.
const QUEUED_PIECES: usize = 16;

/// Most units, and most instants, that are asked for again: they travel in the address line of a request to ClickHouse, 23 and 16
/// bytes each, which takes a mebibyte.
const MAX_ASKED_AGAIN: usize = 20_000;
/// By how much the number of parts grows when one does not fit.
const PARTS_FACTOR: u32 = 4;
/// Most parts. Chosen: then the units are too few and too large for parts to help.
const MAX_PARTS: u32 = 1024;
/// The part of the memory, as a divisor, that the values of a breakdown may take; parts do not help there, since each value is
/// counted to the end.
const VALUES_SHARE: usize = 2;

/// What a question answers that does not fit, as if ClickHouse had said so (241, MEMORY_LIMIT_EXCEEDED).
const TOO_LARGE: StoreError = StoreError::TooHeavy { code: 241, limit: "memory" };

/// Computes a funnel of `project`, with the units that dropped where they are asked for.
///
/// Waits as long as the limits allow. Its own memory is bounded by that of the limits too, beside what ClickHouse takes.
/// Dropping the future stops the scan; ClickHouse notices with the next piece.
///
/// # Errors
/// See [`StoreError`].
pub async fn answer(
    client: &Client,
    funnel: &Funnel,
    project: u32,
    limits: Limits,
) -> Result<FunnelAnswer, StoreError> {
    answer_of(client, funnel, project, limits, &Population::default()).await
}

/// The same for a population.
///
/// # Errors
/// See [`StoreError`].
pub async fn answer_of(
    client: &Client,
    funnel: &Funnel,
    project: u32,
    limits: Limits,
    population: &Population,
) -> Result<FunnelAnswer, StoreError> {
    let mut answer = scanned(client, funnel, project, limits, population).await?;
    if let Some(dropped) = answer.dropped.as_mut().filter(|dropped| !dropped.is_empty()) {
        tell_what_they_did(client, funnel, project, limits, population, dropped).await?;
    }
    Ok(answer)
}

/// The units that reached a step and can no longer reach the next, or, where `reached`, all that reached it; however many.
///
/// # Errors
/// See [`StoreError`].
pub async fn units_at(
    client: &Client,
    funnel: &Funnel,
    (step, reached): (usize, bool),
    project: u32,
    limits: Limits,
    population: &Population,
) -> Result<Vec<u64>, StoreError> {
    let mut funnel = funnel.clone();
    funnel.dropped = Some(Dropped { step, limit: usize::MAX, reached });
    let answer = scanned(client, &funnel, project, limits, population).await?;
    let there = answer.dropped.unwrap_or_default().into_iter().filter(|unit| reached || !unit.open);
    Ok(there.map(|unit| unit.unit).collect())
}

/// The answer of the scan alone.
async fn scanned(
    client: &Client,
    funnel: &Funnel,
    project: u32,
    limits: Limits,
    population: &Population,
) -> Result<FunnelAnswer, StoreError> {
    let links = format!("SELECT count() FROM (SELECT 1 FROM identity_links WHERE project = {project} LIMIT 1)");
    let has_links = client.number(&links).await? > 0;
    let (mut parts, mut order) = (1, funnel.fetches_order_at_once());
    loop {
        let mut scan = Some(FunnelScan::new(funnel.clone()));
        for part in 0..parts {
            let Some(before) = scan.take() else { break };
            let fetch = Fetch { has_links, order, part: (part, parts), ..Fetch::default() };
            scan = run(client, funnel.plan_part(project, &fetch), limits, population, before).await?;
        }
        let Some(mut scan) = scan else {
            if parts >= MAX_PARTS {
                return Err(TOO_LARGE);
            }
            parts *= PARTS_FACTOR;
            continue;
        };
        let Some(again) = scan.unordered(MAX_ASKED_AGAIN) else {
            order = true;
            continue;
        };
        if !again.units.is_empty() {
            let (units, times_ms) = (&again.units[..], &again.times_ms[..]);
            let fetch = Fetch { has_links, order: true, part: (0, 1), units, times_ms };
            let ordered = run(client, funnel.plan_part(project, &fetch), limits, population, scan).await?;
            let Some(whole) = ordered else {
                order = true;
                continue;
            };
            scan = whole;
        }
        return finished(move || scan.finish()).await;
    }
}

/// Does work that takes a processor for long, away from the threads that serve connections.
async fn finished<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    let stopped = |error| StoreError::Answer(format!("the scan stopped: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(stopped)
}

/// Fills in who the units are and what they did.
async fn tell_what_they_did(
    client: &Client,
    funnel: &Funnel,
    project: u32,
    limits: Limits,
    population: &Population,
    dropped: &mut [DroppedUnit],
) -> Result<(), StoreError> {
    let asked: Vec<(u64, i64)> = dropped.iter().map(|unit| (unit.unit, unit.at_ms)).collect();
    let mut plan = funnel.plan_dropped(project, &asked);
    population.apply(&mut plan);
    let selection = select::select(client, &plan, limits).await?;
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let done = |event: &Value, at: &Value| Some(Done { event: text(event)?, at_ms: at.as_i64()? });
    for row in &selection.rows {
        let [unit, at, id, id_kind, next_event, next_ms, last_event, last_ms] = row.as_slice() else { continue };
        // A derived session is a person, who may stand in the list more than once.
        let is_it = |known: &&mut DroppedUnit| (Some(known.unit), Some(known.at_ms)) == (unit.as_u64(), at.as_i64());
        for known in dropped.iter_mut().filter(is_it) {
            known.id = text(id);
            known.id_kind = text(id_kind);
            known.next = done(next_event, next_ms);
            known.last = done(last_event, last_ms);
        }
    }
    Ok(())
}

/// Feeds the scan with the rows of a plan and lets it look at them; `None` when they take more memory than allowed, an error
/// when the values of the breakdown do.
async fn run(
    client: &Client,
    mut plan: FunnelPlan,
    limits: Limits,
    population: &Population,
    mut scan: FunnelScan,
) -> Result<Option<FunnelScan>, StoreError> {
    population.apply(&mut plan.bound);
    let mut request = client
        .questions()
        .query_raw(&plan.bound.sql)
        // 2: reads only, but settings of this request may be given.
        .with_setting("readonly", "2")
        .with_setting("max_execution_time", limits.max_seconds.to_string())
        .with_setting("max_memory_usage", limits.max_memory_bytes.to_string());
    for (name, value) in &plan.bound.params {
        request = request.param(name, value);
    }
    let asked = |error| StoreError::from(error).of_question();
    let mut pieces = request.fetch_bytes("Native").map_err(asked)?;
    let (sender, mut receiver) = mpsc::channel::<Bytes>(QUEUED_PIECES);
    let columns = plan.columns;
    let max_bytes = usize::try_from(limits.max_memory_bytes).unwrap_or(usize::MAX);
    let scanning = finished(move || -> Result<Scanned, NativeError> {
        scan.expect(columns);
        let mut reader = NativeReader::new(columns);
        while let Some(piece) = receiver.blocking_recv() {
            reader.push(&piece, &mut scan)?;
            if scan.values_bytes() > max_bytes / VALUES_SHARE {
                return Ok(Scanned::TooManyValues);
            }
            if scan.bytes() + scan.values_bytes() + reader.pending_bytes() > max_bytes {
                return Ok(Scanned::TooManyRows);
            }
        }
        reader.finish(&mut scan)?;
        scan.settle();
        Ok(Scanned::Whole(scan))
    });
    let sending = async move {
        while let Some(piece) = pieces.next().await.map_err(asked)? {
            if sender.send(piece).await.is_err() {
                // The scan has stopped; its error says why.
                break;
            }
        }
        Ok::<(), StoreError>(())
    };
    // Both at once: the scan ends when the sender is dropped.
    let (sent, scanned) = tokio::join!(sending, scanning);
    sent?;
    match scanned?.map_err(|error| StoreError::Answer(error.to_string()))? {
        Scanned::Whole(scan) => Ok(Some(scan)),
        Scanned::TooManyRows => Ok(None),
        Scanned::TooManyValues => Err(TOO_LARGE),
    }
}

/// How far the rows of a plan were taken in.
#[expect(clippy::large_enum_variant, reason = "there is one a question")]
enum Scanned {
    Whole(FunnelScan),
    TooManyRows,
    TooManyValues,
}

/// A funnel compared with its base: the tries of both whose window had ended, since of younger ones only who was quick is known.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The answer of the base, where it is a question of its own and no group of the breakdown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<FunnelAnswer>,
    /// Compared are tries that began before this, RFC 3339: the window of later ones ends after `as_of`. Null: no window had
    /// ended.
    pub until: Option<String>,
    /// The same of the base.
    pub base_until: Option<String>,
    /// Step by step: the rates of both, their difference, and whether it is more than chance.
    pub steps: Vec<StepComparison>,
}

/// The tries of a funnel whose window had ended.
struct Decided {
    until: String,
    answer: FunnelAnswer,
}

fn steps_of(side: Option<&Decided>) -> Option<&[StepAnswer]> {
    side.map(|side| side.answer.steps.as_slice())
}

/// The answer of the tries whose window had ended, also `by_value` of the breakdown; `None` where there are none. `whole` is that of
/// all of them.
async fn decided(
    client: &Client,
    (funnel, by_value): (&Funnel, bool),
    whole: &FunnelAnswer,
    project: u32,
    limits: Limits,
    population: &Population,
) -> Result<Option<Decided>, StoreError> {
    let Some(decided) = funnel.decided(by_value) else { return Ok(None) };
    let until = Timestamp::from_millisecond(decided.to_ms).map_or_else(|_| String::new(), |at| at.to_string());
    let is_whole = decided.to_ms == funnel.to_ms
        && (decided.breakdown.is_none() || decided.breakdown_limit == funnel.breakdown_limit);
    let answer = if is_whole { whole.clone() } else { scanned(client, &decided, project, limits, population).await? };
    Ok(Some(Decided { until, answer }))
}

/// The answer of a request, compared where it asks for that, each side with its population. `now_ms` and `complete_until_ms` as in
/// [`FunnelRequest::validate`].
///
/// # Errors
/// [`SavedError`]; fields of the base are named `compare.FIELD`.
pub async fn compared(
    client: &Client,
    asked: &FunnelRequest,
    project: u32,
    (now_ms, complete_until_ms): (i64, i64),
    limits: Limits,
    (population, base_population): (&Population, &Population),
) -> Result<(Funnel, FunnelAnswer, Option<Comparison>), SavedError> {
    let funnel = asked.validate(now_ms, complete_until_ms)?;
    let Some(comparing) = &asked.compare else {
        let answer = answer_of(client, &funnel, project, limits, population).await?;
        return Ok((funnel, answer, None));
    };
    let base = asked.base()?.map(|base| base.validate(now_ms, complete_until_ms)).transpose();
    let base = base.map_err(|error| FunnelError { field: format!("compare.{}", error.field), ..error })?;
    let found = answer_of(client, &funnel, project, limits, population).await?;
    let head = decided(client, (&funnel, base.is_none()), &found, project, limits, population).await?;
    let until = head.as_ref().map(|head| head.until.clone());
    let comparison = match (base, &comparing.values) {
        (Some(base_funnel), _) => {
            let base = answer_of(client, &base_funnel, project, limits, base_population).await?;
            let other = decided(client, (&base_funnel, false), &base, project, limits, base_population).await?;
            let steps = compare::steps(&found.steps, steps_of(other.as_ref()), steps_of(head.as_ref()));
            Comparison { base: Some(base), until, base_until: other.map(|other| other.until), steps }
        }
        (None, Some((base, asked))) => {
            let groups = head.as_ref().map_or(&[][..], |head| &head.answer.breakdown);
            let base = compare::group("compare.values[0]", base, groups, &found.breakdown)?;
            let head = compare::group("compare.values[1]", asked, groups, &found.breakdown)?;
            let steps = compare::steps(&found.steps, base, head);
            Comparison { base: None, base_until: until.clone(), until, steps }
        }
        // `base` refuses a comparison with nothing.
        (None, None) => Comparison { base: None, base_until: None, until, steps: Vec::new() },
    };
    Ok((funnel, found, Some(comparison)))
}

/// Why a saved funnel has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// A value the funnel cannot use.
    #[error(transparent)]
    Question(#[from] FunnelError),
    /// ClickHouse.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Answers a saved query whose engine is not ClickHouse alone (funnels, comparisons, trends), as rows like those of any other.
///
/// `now_ms` is the present, `complete_until_ms` the instant until which data are complete, both since the Unix epoch.
///
/// # Errors
/// [`SavedError`].
pub async fn saved(
    client: &Client,
    engine: Engine,
    bound: &BoundQuery,
    project: u32,
    times: (i64, i64),
    limits: Limits,
    population: &Population,
) -> Result<Selection, SavedError> {
    if engine == Engine::Trends {
        return trends(client, bound, project, limits, population).await;
    }
    let mut declared = Vec::new();
    if let Some(funnel) = saved::declared_funnel(bound) {
        let mut steps = saved::declared_steps(project, funnel);
        // Who is asked about does not change what was declared; until when does.
        population.everybody().apply(&mut steps);
        let steps = select::select(client, &steps, limits).await?;
        declared = steps.rows.iter().filter_map(|row| Some(format!("step:{}", row.first()?.as_str()?))).collect();
    }
    let compares = engine == Engine::FunnelComparison;
    let asked = if compares { saved::comparison(bound, &declared)? } else { saved::request(bound, &declared)? };
    let answered = compared(client, &asked, project, times, limits, (population, population)).await;
    let (_, answer, comparison) = answered.map_err(|error| match error {
        SavedError::Question(error) if compares => SavedError::Question(saved::named_as_parameter(error)),
        error => error,
    })?;
    let (columns, rows) = match comparison {
        Some(comparison) => (&saved::COMPARISON_COLUMNS[..], saved::comparison_rows(&comparison.steps)),
        None if engine == Engine::FunnelOverTime => {
            (&saved::OVER_TIME_COLUMNS[..], saved::over_time_rows(&answer.steps, &answer.over_time))
        }
        None => (&saved::COLUMNS[..], saved::rows(&answer)),
    };
    Ok(Selection { columns: named(columns), rows })
}

fn named(columns: &[(&str, &str)]) -> Vec<SelectedColumn> {
    columns.iter().map(|(name, kind)| SelectedColumn { name: (*name).to_owned(), kind: (*kind).to_owned() }).collect()
}

async fn trends(
    client: &Client,
    bound: &BoundQuery,
    project: u32,
    limits: Limits,
    population: &Population,
) -> Result<Selection, SavedError> {
    let trend = Trend::of(bound)?;
    let mut plan = trend.plan(project);
    population.apply(&mut plan);
    let found = select::select(client, &plan, limits).await?;
    Ok(Selection { columns: named(&trends::COLUMNS), rows: trend.rows(&found.rows) })
}
