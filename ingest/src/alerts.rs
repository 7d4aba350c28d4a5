//! Tells an alert receiver when something is wrong, and when it no longer is.
//!
//! In: what this node knows of itself (data refused, disk low, storing behind) and of the store (projects fallen silent, records set
//! aside).
//! Out: `POST`s of a JSON array as Prometheus's Alertmanager takes it at `/api/v2/alerts`: labels that name an alert, annotations
//! for people, `startsAt`, `endsAt`. Whoever is told and what becomes of it is the receiver's.
//!
//! What lasts is told again and again and ends by itself [`LASTS`] after it was told last, so that nothing stays on that nobody
//! speaks of any more. What was not delivered is told with the next look; there is no queue, only what holds now and what ended
//! within [`KEPT_MS`]. What concerns a node alone it tells itself, also while ClickHouse is away; of what concerns the store
//! one node tells, which has a lease for it.

use crate::clock;
use crate::freshness;
use crate::http::App;
use crate::http::error::chain;
use crate::identity::ProjectId;
use crate::store::StoreError;
use crate::store::leases::{self, Lease, Watched};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// After how many times [`AlertConfig::repeat_after`] an alert ends that is not told again, as Prometheus does it.
const LASTS: u32 = 4;
/// How long a delivery may take.
const DELIVERY: Duration = Duration::from_secs(10);
/// Alerts in one delivery.
const MAX_TOLD: usize = 1_000;
/// How long the end of an alert is kept that cannot be delivered, in milliseconds. Chosen: it ended by itself long before.
const KEPT_MS: i64 = 3_600_000;
/// For how long records set aside are told of, in milliseconds. Chosen: long enough to be one alert while more come.
const SET_ASIDE_MS: i64 = 15 * 60_000;
/// How long acknowledged data may wait to be stored. Chosen: longer than a backup of a small store keeps inserts still.
const BEHIND: Duration = Duration::from_mins(5);
const DISK_LOW: &str = "GembaDiskLow";

/// Where alerts go.
#[derive(Debug, Clone)]
pub struct AlertConfig {
    /// Where they are posted to, as `http://alertmanager:9093/api/v2/alerts`.
    pub url: String,
    /// Free bytes of the log's disk below which it counts as low. Default 4 GiB, four times where data are refused.
    pub disk_low_bytes: u64,
    /// Pause between two looks. Default 5 s.
    pub look_every: Duration,
    /// How often what lasts is told. Default 1 min.
    pub repeat_after: Duration,
}

impl AlertConfig {
    /// The defaults, to this address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            disk_low_bytes: 4 << 30,
            look_every: Duration::from_secs(5),
            repeat_after: Duration::from_mins(1),
        }
    }
}

/// Deliveries since the process began.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// That the receiver took.
    pub ok: AtomicU64,
    /// That it did not.
    pub failed: AtomicU64,
}

/// Whom an alert concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Node,
    Store,
}

/// Names and values that tell an alert from others.
type Labels = BTreeMap<&'static str, String>;

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alert {
    scope: Scope,
    labels: Labels,
    summary: String,
    /// Since when, ms since the Unix epoch.
    since_ms: i64,
}

/// What ClickHouse says of the alerts of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OfStore {
    /// These there are.
    Found(Vec<Alert>),
    /// Nothing.
    Unknown,
    /// Another node tells of them.
    Elsewhere,
}

impl OfStore {
    /// The same after a look that ClickHouse did not answer: whoever told goes on, since nobody can take it over.
    fn unanswered(&self) -> Self {
        if let Self::Elsewhere = self { Self::Elsewhere } else { Self::Unknown }
    }
}

/// An alert that was found, until its end was told.
#[derive(Debug)]
struct Told {
    alert: Alert,
    ended_ms: Option<i64>,
    /// By a clock that only goes forward: a wall clock set back would leave it untold until it ends by itself.
    delivered_tick_ms: Option<i64>,
}

#[derive(Debug, Default)]
struct Book {
    told: BTreeMap<Labels, Told>,
}

impl Book {
    /// Takes in what was found: what is new, what goes on, what ended. `without_store` is known also when ClickHouse does not
    /// answer: of this node, and of the store if it is this node's to tell.
    fn look(&mut self, without_store: Vec<Alert>, of_store: OfStore, now_ms: i64) {
        let is_known = of_store != OfStore::Unknown;
        let is_elsewhere = of_store == OfStore::Elsewhere;
        let of_store = if let OfStore::Found(alerts) = of_store { alerts } else { Vec::new() };
        let mut found: BTreeMap<Labels, Alert> = BTreeMap::new();
        found.extend(without_store.into_iter().chain(of_store).map(|alert| (alert.labels.clone(), alert)));
        if is_elsewhere {
            found.retain(|_, alert| alert.scope == Scope::Node);
            self.told.retain(|_, told| told.alert.scope == Scope::Node);
        }
        for (labels, told) in &mut self.told {
            let is_judged = told.alert.scope == Scope::Node || is_known;
            if told.ended_ms.is_none() && is_judged && !found.contains_key(labels) {
                told.ended_ms = Some(now_ms);
                told.delivered_tick_ms = None;
            }
        }
        self.told.retain(|_, told| told.ended_ms.is_none_or(|ended_ms| now_ms - ended_ms < KEPT_MS));
        for (labels, alert) in found {
            match self.told.get_mut(&labels) {
                // It began once, whatever is found out about that later.
                Some(told) if told.ended_ms.is_none() => told.alert.summary = alert.summary,
                _ => drop(self.told.insert(labels, Told { alert, ended_ms: None, delivered_tick_ms: None })),
            }
        }
    }

    /// Whether something goes on.
    fn is_on(&self, labels: &Labels) -> bool {
        self.told.get(labels).is_some_and(|told| told.ended_ms.is_none())
    }

    /// What is to be told now.
    fn due(&self, tick_ms: i64, repeat_ms: i64) -> Vec<Labels> {
        let is_due = |told: &Told| told.delivered_tick_ms.is_none_or(|delivered| tick_ms - delivered >= repeat_ms);
        let due = self.told.iter().filter(|(_, told)| is_due(told));
        due.map(|(labels, _)| labels.clone()).take(MAX_TOLD).collect()
    }

    /// The alerts of these labels as the receiver takes them.
    fn body(&self, due: &[Labels], now_ms: i64, repeat_ms: i64) -> Value {
        let shown = |told: &Told| {
            let ends_ms = told.ended_ms.unwrap_or(now_ms.saturating_add(repeat_ms.saturating_mul(LASTS.into())));
            json!({
                "labels": told.alert.labels,
                "annotations": {"summary": told.alert.summary},
                "startsAt": time(told.alert.since_ms.min(ends_ms)),
                "endsAt": time(ends_ms),
            })
        };
        due.iter().filter_map(|labels| self.told.get(labels)).map(shown).collect()
    }

    /// Notes that the receiver took these.
    fn delivered(&mut self, due: &[Labels], tick_ms: i64) {
        for labels in due {
            if let Some(told) = self.told.get_mut(labels) {
                told.delivered_tick_ms = Some(tick_ms);
            }
        }
        self.told.retain(|_, told| told.ended_ms.is_none() || told.delivered_tick_ms.is_none());
    }
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|time| time.to_string()).unwrap_or_default()
}

/// Looks and tells until the server ends.
pub(crate) async fn watch(app: Arc<App>, config: AlertConfig, instance: String) {
    // Nobody is told of the store before it is known who tells of it.
    let first = if app.pipeline.shares_store() { OfStore::Elsewhere } else { OfStore::Unknown };
    let (found, of_store) = watch::channel(first);
    // Apart: what a node knows of itself does not wait for a ClickHouse that hangs.
    tokio::join!(look_at_store(&app, &config, &found), tell(&app, &config, &instance, &of_store));
}

async fn look_at_store(app: &App, config: &AlertConfig, found: &watch::Sender<OfStore>) {
    let (mut lease, mut watched, mut aside) = (None, Watched::default(), SetAside::default());
    loop {
        let looked = async {
            if !has_turn(app, &mut lease, &mut watched).await? {
                aside = SetAside::default();
                return Ok(OfStore::Elsewhere);
            }
            aside.look(app).await.map(OfStore::Found)
        };
        let of_store = looked.await.unwrap_or_else(|error: StoreError| {
            tracing::debug!(error = chain(&error), "cannot look what is wrong with the data");
            found.borrow().unanswered()
        });
        found.send_replace(of_store);
        sleep(config.look_every).await;
    }
}

async fn tell(app: &App, config: &AlertConfig, instance: &str, of_store: &watch::Receiver<OfStore>) {
    // A receiver that sends elsewhere has taken nothing: a redirected POST becomes a GET.
    let agent = ureq::Agent::config_builder().timeout_global(Some(DELIVERY)).max_redirects(0).build();
    let agent: ureq::Agent = agent.into();
    let whole_ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let (repeat_ms, started) = (whole_ms(config.repeat_after), Instant::now());
    let (mut book, mut is_failing) = (Book::default(), false);
    loop {
        let of_store = of_store.borrow().clone();
        let mut without_store = of_node(app, config, instance, &book);
        without_store.extend(stale(app));
        let (now_ms, tick_ms) = (clock::now_ms(), whole_ms(started.elapsed()));
        book.look(without_store, of_store, now_ms);
        let due = book.due(tick_ms, repeat_ms);
        if !due.is_empty() {
            let outcome = deliver(&agent, &config.url, book.body(&due, now_ms, repeat_ms)).await;
            let count = if outcome.is_ok() { &app.alerts.ok } else { &app.alerts.failed };
            count.fetch_add(1, Ordering::Relaxed);
            match outcome {
                Ok(()) => {
                    book.delivered(&due, tick_ms);
                    is_failing = false;
                }
                Err(problem) => {
                    // Once, and not for every try.
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(problem, "alerts cannot be delivered; they are tried again with every look");
                    }
                }
            }
        }
        sleep(config.look_every).await;
    }
}

async fn deliver(agent: &ureq::Agent, url: &str, body: Value) -> Result<(), String> {
    let (agent, url) = (agent.clone(), url.to_owned());
    let sending = tokio::task::spawn_blocking(move || {
        agent.post(&url).header("content-type", "application/json").send(body.to_string())
    });
    match sending.await {
        Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
        Ok(Ok(answer)) => Err(format!("the receiver answers {}", answer.status())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether this node is the one that tells of the store.
async fn has_turn(app: &App, lease: &mut Option<Lease>, watched: &mut Watched) -> Result<bool, StoreError> {
    if !app.pipeline.shares_store() {
        return Ok(true);
    }
    if lease.as_ref().is_none_or(|lease| !lease.is_sure()) {
        *lease = None;
        leases::prepare(&app.store).await?;
        *lease = leases::take_watched(&app.store, "alerts", watched).await?;
    }
    Ok(lease.is_some())
}

/// What is wrong with this node. What cannot be seen just now is as it was, by the book.
fn of_node(app: &App, config: &AlertConfig, instance: &str, book: &Book) -> Vec<Alert> {
    let status = app.pipeline.status();
    let now_ms = clock::now_ms();
    let labelled = |name, severity| labels(name, severity, [("instance", instance.to_owned())]);
    let alert = |labels: Labels, summary: String| Alert { scope: Scope::Node, labels, summary, since_ms: now_ms };
    let mut found = Vec::new();
    if let Some(reason) = status.refusing {
        let summary = format!("{instance} refuses new data: {reason}");
        found.push(alert(labelled("GembaDataRefused", "critical"), summary));
    }
    let low = labelled(DISK_LOW, "warning");
    let is_low = book.is_on(&low);
    match status.free_bytes {
        Some(free) if is_disk_low(free, config.disk_low_bytes, is_low) => {
            found.push(alert(low, format!("{instance} has {} MiB left on the disk of its log", free >> 20)));
        }
        None if is_low => found.push(alert(low, format!("{instance} cannot see what is left on the disk of its log"))),
        _ => {}
    }
    if status.oldest_pending >= BEHIND {
        let minutes = status.oldest_pending.as_secs() / 60;
        let why = status.store_problem.map_or_else(String::new, |problem| format!(": {problem}"));
        let summary = format!("data that {instance} acknowledged has waited {minutes} min for ClickHouse{why}");
        found.push(alert(labelled("GembaStoringBehind", "warning"), summary));
    }
    found
}

/// Whether a disk counts as low; one that does has to have a quarter more, since merges come and go around any bound.
fn is_disk_low(free: u64, low: u64, is_low: bool) -> bool {
    free < if is_low { low.saturating_add(low / 4) } else { low }
}

/// Projects fallen silent; known without ClickHouse.
fn stale(app: &App) -> Vec<Alert> {
    let now_ms = clock::now_ms();
    let threshold = app.stale_after.unwrap_or_default();
    let alert = |(project, age): (ProjectId, Duration)| {
        let project = name_of(app, project);
        let over = i64::try_from(age.saturating_sub(threshold).as_millis()).unwrap_or(i64::MAX);
        Alert {
            scope: Scope::Store,
            summary: format!("nothing of project {project} was stored for {} min", age.as_secs() / 60),
            labels: labels("GembaDataStale", "warning", [("project", project)]),
            since_ms: now_ms.saturating_sub(over),
        }
    };
    freshness::stale(app).into_iter().map(alert).collect()
}

fn name_of(app: &App, id: ProjectId) -> String {
    let projects = app.control.projects();
    projects.into_iter().find(|project| project.id == id).map_or_else(|| id.to_string(), |project| project.name)
}

/// What is set aside of one project for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Growth {
    records: u64,
    /// When the first and the last came of those that are told of, ms since the Unix epoch.
    since_ms: i64,
    until_ms: i64,
    /// How many those are.
    new: u64,
}

/// How many records are set aside, look by look. By their number and not by when they were received: what ClickHouse refuses after
/// an outage was received long before it is set aside.
#[derive(Debug, Default)]
struct SetAside {
    known: Option<BTreeMap<(u32, String), Growth>>,
}

impl SetAside {
    async fn look(&mut self, app: &App) -> Result<Vec<Alert>, StoreError> {
        let now_ms = clock::now_ms();
        let sql = format!(
            "SELECT project, toString(reason), count(), \
             countIf(received >= fromUnixTimestamp64Milli({})) FROM set_aside GROUP BY project, reason ORDER BY ALL",
            now_ms - SET_ASIDE_MS
        );
        let rows = app.store.rows::<(u32, String, u64, u64)>(&sql).await?;
        let alert = |((project, reason), growth): ((u32, String), Growth)| {
            let project = name_of(app, ProjectId(project));
            Alert {
                scope: Scope::Store,
                summary: format!("{} records of project {project} were set aside: {reason}", growth.new),
                labels: labels("GembaRecordsSetAside", "warning", [("project", project), ("reason", reason)]),
                since_ms: growth.since_ms,
            }
        };
        Ok(self.take_in(rows, now_ms).into_iter().map(alert).collect())
    }

    /// Takes in how many there are, and how many of them were received just now; what is to be told of.
    fn take_in(&mut self, rows: Vec<(u32, String, u64, u64)>, now_ms: i64) -> Vec<((u32, String), Growth)> {
        let is_first = self.known.is_none();
        let known = self.known.get_or_insert_default();
        let mut left = std::mem::take(known);
        for (project, reason, records, fresh) in rows {
            let key = (project, reason);
            let before = left.remove(&key);
            // After a start nobody knows what came before it.
            let grown = match before {
                Some(before) => records.saturating_sub(before.records),
                None if is_first => fresh,
                None => records,
            };
            let mut growth = before.unwrap_or(Growth { records, since_ms: now_ms, until_ms: i64::MIN, new: 0 });
            growth.records = records;
            if grown > 0 {
                if !growth.is_told(now_ms) {
                    (growth.since_ms, growth.new) = (now_ms, 0);
                }
                growth.until_ms = now_ms;
                growth.new += grown;
            }
            known.insert(key, growth);
        }
        let told = known.iter().filter(|(_, growth)| growth.is_told(now_ms));
        told.map(|(key, growth)| (key.clone(), *growth)).collect()
    }
}

impl Growth {
    fn is_told(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.until_ms) < SET_ASIDE_MS
    }
}

fn labels<const N: usize>(name: &str, severity: &str, more: [(&'static str, String); N]) -> Labels {
    let mut labels = Labels::from([("alertname", name.to_owned()), ("severity", severity.to_owned())]);
    labels.extend(more);
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(scope: Scope, name: &str) -> Alert {
        Alert { scope, labels: labels(name, "warning", []), summary: name.to_owned(), since_ms: 1_000 }
    }

    fn told(book: &Book, now_ms: i64) -> Vec<(String, String)> {
        let body = book.body(&book.due(now_ms, 60_000), now_ms, 60_000);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        body.as_array().unwrap().iter().map(|one| (text(&one["labels"]["alertname"]), text(&one["endsAt"]))).collect()
    }

    #[test]
    fn what_lasts_is_told_again_after_a_while_and_its_end_once() {
        let mut book = Book::default();
        let low = || vec![alert(Scope::Node, "low")];
        book.look(low(), OfStore::Found(Vec::new()), 2_000);
        assert_eq!(told(&book, 2_000), [("low".to_owned(), time(242_000))]);
        // Not delivered: with the next look again.
        book.look(low(), OfStore::Unknown, 3_000);
        let due = book.due(3_000, 60_000);
        assert_eq!(due.len(), 1);
        book.delivered(&due, 3_000);
        book.look(low(), OfStore::Unknown, 4_000);
        assert_eq!((told(&book, 62_999).len(), told(&book, 63_000).len()), (0, 1));
        book.look(Vec::new(), OfStore::Unknown, 5_000);
        assert_eq!(told(&book, 6_000), [("low".to_owned(), time(5_000))]);
        book.delivered(&book.due(6_000, 60_000), 6_000);
        assert!(told(&book, 900_000).is_empty() && book.told.is_empty());
        // It comes back as a new one.
        book.look(low(), OfStore::Unknown, 7_000);
        assert_eq!(told(&book, 7_000).len(), 1);
    }

    #[test]
    fn what_the_store_does_not_say_has_not_ended_and_what_another_node_tells_is_not_told_here() {
        let mut book = Book::default();
        book.look(Vec::new(), OfStore::Found(vec![alert(Scope::Store, "stale")]), 2_000);
        book.delivered(&book.due(2_000, 60_000), 2_000);
        book.look(Vec::new(), OfStore::Unknown, 3_000);
        assert_eq!(told(&book, 70_000), [("stale".to_owned(), time(310_000))]);
        book.look(Vec::new(), OfStore::Elsewhere, 4_000);
        assert!(told(&book, 70_000).is_empty() && book.told.is_empty());
    }

    #[test]
    fn an_end_that_cannot_be_delivered_is_kept_for_an_hour() {
        let mut book = Book::default();
        book.look(vec![alert(Scope::Node, "low")], OfStore::Unknown, 0);
        book.look(Vec::new(), OfStore::Unknown, 1);
        assert_eq!(told(&book, 2), [("low".to_owned(), time(1))]);
        book.look(Vec::new(), OfStore::Unknown, KEPT_MS + 1);
        assert!(book.told.is_empty());
    }

    #[test]
    fn what_is_known_without_the_store_begins_while_it_is_away_unless_another_node_tells_of_it() {
        let stale = || vec![alert(Scope::Store, "stale")];
        let mut book = Book::default();
        book.look(stale(), OfStore::Unknown, 2_000);
        assert_eq!(told(&book, 2_000).len(), 1);
        // Nothing of the store ends before it says so.
        book.look(Vec::new(), OfStore::Unknown, 3_000);
        assert!(book.is_on(&stale()[0].labels));
        book.look(Vec::new(), OfStore::Found(Vec::new()), 4_000);
        assert_eq!(told(&book, 70_000), [("stale".to_owned(), time(4_000))]);
        book.look(stale(), OfStore::Elsewhere, 5_000);
        assert!(book.told.is_empty());
    }

    #[test]
    fn who_told_goes_on_when_the_store_does_not_answer_and_who_did_not_tell_does_not_begin() {
        let found = OfStore::Found(vec![alert(Scope::Store, "stale")]);
        assert_eq!(found.unanswered(), OfStore::Unknown);
        assert_eq!(OfStore::Unknown.unanswered(), OfStore::Unknown);
        assert_eq!(OfStore::Elsewhere.unanswered(), OfStore::Elsewhere);
    }

    #[test]
    fn records_set_aside_are_told_of_by_how_many_more_there_are() {
        let row = |records, fresh| vec![(1, "refused_by_store".to_owned(), records, fresh)];
        let counts = |told: Vec<((u32, String), Growth)>| -> Vec<(u64, i64)> {
            told.into_iter().map(|(_, growth)| (growth.new, growth.since_ms)).collect()
        };
        let mut aside = SetAside::default();
        assert_eq!(counts(aside.take_in(row(5, 0), 0)), [], "there before the start");
        // Received long ago, and set aside now.
        assert_eq!(counts(aside.take_in(row(7, 0), 1_000)), [(2, 1_000)]);
        assert_eq!(counts(aside.take_in(row(7, 0), 2_000)), [(2, 1_000)], "one alert while it lasts");
        assert_eq!(counts(aside.take_in(row(8, 1), 3_000)), [(3, 1_000)]);
        assert_eq!(counts(aside.take_in(row(8, 0), 3_000 + SET_ASIDE_MS)), []);
        // Taken in again, and others set aside.
        assert_eq!(counts(aside.take_in(row(1, 0), 4_000 + SET_ASIDE_MS)), []);
        assert_eq!(counts(aside.take_in(row(4, 3), 5_000 + SET_ASIDE_MS)), [(3, 5_000 + SET_ASIDE_MS)]);
        let mut started = SetAside::default();
        assert_eq!(counts(started.take_in(row(5, 2), 9_000)), [(2, 9_000)], "just before the start");
    }

    #[test]
    fn a_disk_that_is_low_needs_a_quarter_more_to_be_well() {
        assert!(is_disk_low(399, 400, false) && !is_disk_low(400, 400, false));
        assert!(is_disk_low(499, 400, true) && !is_disk_low(500, 400, true));
    }
}
