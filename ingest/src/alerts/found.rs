//! What is wrong now, as this node knows it without asking ClickHouse.
//!
//! In: the figures of the pipeline, when ClickHouse answered last, how fresh the projects are. Out: alerts.

use super::book::Book;
use super::{Alert, AlertConfig, Labels, Scope, labels, whole_ms};
use crate::freshness;
use crate::http::App;
use crate::identity::ProjectId;
use crate::pipeline::SetAsideCounts;
use std::collections::BTreeMap;
use std::time::Duration;

/// For how long records set aside are told of, in milliseconds. Chosen: long enough to be one alert while more come.
const SET_ASIDE_MS: i64 = 15 * 60_000;
/// How long acknowledged data may wait to be stored. Chosen: longer than a backup of a small store keeps inserts still.
const BEHIND: Duration = Duration::from_mins(5);
const DISK_LOW: &str = "GembaDiskLow";

/// What is wrong with this node. What cannot be seen just now is as it was, by the book.
pub(super) fn of_node(app: &App, config: &AlertConfig, instance: &str, book: &Book, now_ms: i64) -> Vec<Alert> {
    let status = app.pipeline.status();
    let labelled = |name, severity| labels(name, severity, [("instance", instance.to_owned())]);
    let alert = |labels: Labels, summary: String| Alert { scope: Scope::Node, labels, summary, since_ms: now_ms };
    let mut found = Vec::new();
    if let Some(reason) = status.refusing {
        let summary = format!("{instance} refuses new data: {reason}");
        found.push(alert(labelled("GembaDataRefused", "critical"), summary));
    }
    let low = labelled(DISK_LOW, "warning");
    if let Some(problem) = disk_problem(status.free_bytes, config.disk_low_bytes, book.is_on(&low)) {
        found.push(alert(low, format!("{instance} {problem} on the disk of its log")));
    }
    if let Some(silence) = app.contact.silence().filter(|silence| silence.lasts >= config.unreachable_after) {
        let summary = format!(
            "{instance} has had no answer from ClickHouse for {} s: {}",
            silence.lasts.as_secs(),
            silence.problem
        );
        let labels = labelled("GembaStoreUnreachable", "warning");
        found.push(Alert { since_ms: now_ms.saturating_sub(whole_ms(silence.lasts)), ..alert(labels, summary) });
    }
    if status.oldest_pending >= BEHIND {
        let minutes = status.oldest_pending.as_secs() / 60;
        let why = status.store_problem.map_or_else(String::new, |problem| format!(": {problem}"));
        let summary = format!("data that {instance} acknowledged has waited {minutes} min for ClickHouse{why}");
        found.push(alert(labelled("GembaStoringBehind", "warning"), summary));
    }
    found
}

/// What is wrong with a disk of which so much is free, if that is known. One that is low has to have a quarter more to be well, since
/// merges come and go around any bound, and has not become well by not being seen.
fn disk_problem(free: Option<u64>, low: u64, is_low: bool) -> Option<String> {
    let bound = if is_low { low.saturating_add(low / 4) } else { low };
    match free {
        Some(free) => (free < bound).then(|| format!("has {} MiB left", free >> 20)),
        None => is_low.then(|| "cannot see what is left".to_owned()),
    }
}

/// Projects fallen silent.
pub(super) fn stale(app: &App, now_ms: i64) -> Vec<Alert> {
    let threshold = app.stale_after.unwrap_or_default();
    let alert = |(project, age): (ProjectId, Duration)| {
        let project = name_of(app, project);
        Alert {
            scope: Scope::Store,
            summary: format!("nothing of project {project} was stored for {} min", age.as_secs() / 60),
            labels: labels("GembaDataStale", "warning", [("project", project)]),
            since_ms: now_ms.saturating_sub(whole_ms(age.saturating_sub(threshold))),
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

impl Growth {
    fn is_told(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.until_ms) < SET_ASIDE_MS
    }
}

/// How many records this node has set aside, look by look. By their number and not by when they were received: what ClickHouse
/// refuses after an outage was received long before it is set aside.
#[derive(Debug, Default)]
pub(super) struct SetAside {
    known: BTreeMap<(ProjectId, String), Growth>,
}

impl SetAside {
    pub(super) fn look(&mut self, app: &App, instance: &str, now_ms: i64) -> Vec<Alert> {
        let alert = |((project, reason), growth): ((ProjectId, String), Growth)| {
            let (project, instance) = (name_of(app, project), instance.to_owned());
            Alert {
                scope: Scope::Node,
                summary: format!("{} records of project {project} were set aside: {reason}", growth.new),
                labels: labels(
                    "GembaRecordsSetAside",
                    "warning",
                    [("instance", instance), ("project", project), ("reason", reason)],
                ),
                since_ms: growth.since_ms,
            }
        };
        self.take_in(app.pipeline.status().set_aside, now_ms).into_iter().map(alert).collect()
    }

    /// Takes in how many there are; what is to be told of.
    fn take_in(&mut self, counts: SetAsideCounts, now_ms: i64) -> Vec<((ProjectId, String), Growth)> {
        for (key, records) in counts {
            let fresh = Growth { records: 0, since_ms: now_ms, until_ms: i64::MIN, new: 0 };
            let growth = self.known.entry(key).or_insert(fresh);
            let grown = records.saturating_sub(growth.records);
            if grown == 0 {
                continue;
            }
            if !growth.is_told(now_ms) {
                (growth.since_ms, growth.new) = (now_ms, 0);
            }
            growth.until_ms = now_ms;
            growth.new += grown;
            growth.records = records;
        }
        let told = self.known.iter().filter(|(_, growth)| growth.is_told(now_ms));
        told.map(|(key, growth)| (key.clone(), *growth)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_set_aside_are_told_of_by_how_many_more_there_are() {
        let counts = |records| SetAsideCounts::from([((ProjectId(1), "too_large".to_owned()), records)]);
        let told = |told: Vec<((ProjectId, String), Growth)>| -> Vec<(u64, i64)> {
            told.into_iter().map(|(_, growth)| (growth.new, growth.since_ms)).collect()
        };
        let mut aside = SetAside::default();
        assert_eq!(told(aside.take_in(SetAsideCounts::new(), 0)), []);
        assert_eq!(told(aside.take_in(counts(2), 1_000)), [(2, 1_000)]);
        assert_eq!(told(aside.take_in(counts(2), 2_000)), [(2, 1_000)], "one alert while it lasts");
        assert_eq!(told(aside.take_in(counts(3), 3_000)), [(3, 1_000)]);
        assert_eq!(told(aside.take_in(counts(3), 3_000 + SET_ASIDE_MS)), []);
        assert_eq!(told(aside.take_in(counts(7), 4_000 + SET_ASIDE_MS)), [(4, 4_000 + SET_ASIDE_MS)]);
    }

    #[test]
    fn a_disk_that_is_low_needs_a_quarter_more_to_be_well_and_to_be_seen() {
        let is_wrong = |free, is_low| disk_problem(free, 400, is_low).is_some();
        assert!(is_wrong(Some(399), false) && !is_wrong(Some(400), false));
        assert!(is_wrong(Some(499), true) && !is_wrong(Some(500), true));
        assert!(is_wrong(None, true) && !is_wrong(None, false), "what is not seen is as it was");
        assert!(!is_wrong(Some(u64::MAX), true) && !is_wrong(Some(u64::MAX), false));
    }
}
