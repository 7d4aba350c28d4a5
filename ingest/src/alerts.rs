//! Tells an alert receiver when something is wrong, and when it no longer is.
//!
//! In: what this node knows of itself (data refused, disk low) and what the store says (projects fallen silent, records set aside).
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
use crate::store::leases::{self, Lease};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;

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

/// What is known of the alerts of the store.
#[derive(Debug)]
enum OfStore {
    /// These there are.
    Found(Vec<Alert>),
    /// ClickHouse does not say.
    Unknown,
    /// Another node tells of them.
    Elsewhere,
}

/// An alert that was found, until its end was told.
#[derive(Debug)]
struct Told {
    alert: Alert,
    ended_ms: Option<i64>,
    delivered_ms: Option<i64>,
}

#[derive(Debug, Default)]
struct Book {
    told: BTreeMap<Labels, Told>,
}

impl Book {
    /// Takes in what was found: what is new, what goes on, what ended.
    fn look(&mut self, of_node: Vec<Alert>, of_store: OfStore, now_ms: i64) {
        let is_known = !matches!(of_store, OfStore::Unknown);
        if let OfStore::Elsewhere = of_store {
            self.told.retain(|_, told| told.alert.scope == Scope::Node);
        }
        let mut found: BTreeMap<Labels, Alert> = BTreeMap::new();
        let of_store = if let OfStore::Found(alerts) = of_store { alerts } else { Vec::new() };
        found.extend(of_node.into_iter().chain(of_store).map(|alert| (alert.labels.clone(), alert)));
        for (labels, told) in &mut self.told {
            let is_judged = told.alert.scope == Scope::Node || is_known;
            if told.ended_ms.is_none() && is_judged && !found.contains_key(labels) {
                told.ended_ms = Some(now_ms);
                told.delivered_ms = None;
            }
        }
        self.told.retain(|_, told| told.ended_ms.is_none_or(|ended_ms| now_ms - ended_ms < KEPT_MS));
        for (labels, alert) in found {
            match self.told.get_mut(&labels) {
                // It began once, whatever is found out about that later.
                Some(told) if told.ended_ms.is_none() => told.alert.summary = alert.summary,
                _ => drop(self.told.insert(labels, Told { alert, ended_ms: None, delivered_ms: None })),
            }
        }
    }

    /// What is to be told now.
    fn due(&self, now_ms: i64, repeat_ms: i64) -> Vec<Labels> {
        let is_due = |told: &Told| told.delivered_ms.is_none_or(|delivered_ms| now_ms - delivered_ms >= repeat_ms);
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
    fn delivered(&mut self, due: &[Labels], now_ms: i64) {
        for labels in due {
            if let Some(told) = self.told.get_mut(labels) {
                told.delivered_ms = Some(now_ms);
            }
        }
        self.told.retain(|_, told| told.ended_ms.is_none() || told.delivered_ms.is_none());
    }
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|time| time.to_string()).unwrap_or_default()
}

/// Looks and tells until the server ends.
pub(crate) async fn watch(app: Arc<App>, config: AlertConfig, instance: String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(DELIVERY)).build().into();
    let repeat_ms = i64::try_from(config.repeat_after.as_millis()).unwrap_or(i64::MAX);
    let (mut book, mut lease, mut is_failing) = (Book::default(), None, false);
    loop {
        let of_store = if has_turn(&app, &mut lease).await {
            of_store(&app).await.map_or_else(
                |error| {
                    tracing::debug!(error = chain(&error), "cannot look what is wrong with the data");
                    OfStore::Unknown
                },
                OfStore::Found,
            )
        } else {
            OfStore::Elsewhere
        };
        book.look(of_node(&app, &config, &instance), of_store, clock::now_ms());
        let now_ms = clock::now_ms();
        let due = book.due(now_ms, repeat_ms);
        if !due.is_empty() {
            let outcome = deliver(&agent, &config.url, book.body(&due, now_ms, repeat_ms)).await;
            let count = if outcome.is_ok() { &app.alerts.ok } else { &app.alerts.failed };
            count.fetch_add(1, Ordering::Relaxed);
            match outcome {
                Ok(()) => {
                    book.delivered(&due, now_ms);
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
        Ok(Ok(_taken)) => Ok(()),
        // An answer that is no success is an error as well.
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether this node is the one that tells of the store.
async fn has_turn(app: &App, lease: &mut Option<Lease>) -> bool {
    if !app.pipeline.shares_store() {
        return true;
    }
    if lease.as_ref().is_none_or(|lease| !lease.is_sure()) {
        *lease = match leases::take(&app.store, "alerts").await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::debug!(error = chain(&error), "cannot look who tells of what is wrong");
                None
            }
        };
    }
    lease.is_some()
}

/// What is wrong with this node.
fn of_node(app: &App, config: &AlertConfig, instance: &str) -> Vec<Alert> {
    let status = app.pipeline.status();
    let now_ms = clock::now_ms();
    let alert = |name: &str, severity: &str, summary: String| Alert {
        scope: Scope::Node,
        labels: labels(name, severity, [("instance", instance.to_owned())]),
        summary,
        since_ms: now_ms,
    };
    let mut found = Vec::new();
    if let Some(reason) = status.refusing {
        found.push(alert("GembaDataRefused", "critical", format!("{instance} refuses new data: {reason}")));
    }
    if status.free_bytes < config.disk_low_bytes {
        let free = status.free_bytes >> 20;
        found.push(alert("GembaDiskLow", "warning", format!("{instance} has {free} MiB left on the disk of its log")));
    }
    found
}

/// What is wrong with the data.
async fn of_store(app: &App) -> Result<Vec<Alert>, StoreError> {
    let now_ms = clock::now_ms();
    let name_of = |id: ProjectId| {
        let projects = app.control.projects();
        projects.into_iter().find(|project| project.id == id).map_or_else(|| id.to_string(), |project| project.name)
    };
    let mut found = Vec::new();
    for (project, age) in freshness::stale(app) {
        let project = name_of(project);
        let threshold = app.stale_after.unwrap_or_default();
        let over = i64::try_from(age.saturating_sub(threshold).as_millis()).unwrap_or(i64::MAX);
        found.push(Alert {
            scope: Scope::Store,
            summary: format!("nothing of project {project} was stored for {} min", age.as_secs() / 60),
            labels: labels("GembaDataStale", "warning", [("project", project)]),
            since_ms: now_ms.saturating_sub(over),
        });
    }
    let sql = format!(
        "SELECT project, toString(reason), sum(records), toUnixTimestamp64Milli(min(received)) FROM ledger FINAL \
         WHERE fate = 'set_aside' AND received >= fromUnixTimestamp64Milli({}) GROUP BY project, reason ORDER BY ALL",
        now_ms - SET_ASIDE_MS
    );
    for (project, reason, records, since_ms) in app.store.rows::<(u32, String, u64, i64)>(&sql).await? {
        let project = name_of(ProjectId(project));
        found.push(Alert {
            scope: Scope::Store,
            summary: format!("{records} records of project {project} were set aside: {reason}"),
            labels: labels("GembaRecordsSetAside", "warning", [("project", project), ("reason", reason)]),
            since_ms,
        });
    }
    Ok(found)
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
}
