//! What was told, compared with what is wrong now: what is to be told next.
//!
//! In: the alerts of each look, and which of them the receiver took. Out: the alerts that are due, as the receiver takes them.

use super::{Alert, Labels, Scope};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// After how many times [`AlertConfig::repeat_after`](super::AlertConfig::repeat_after) an alert ends that is not told again, as
/// Prometheus does it.
const LASTS: u32 = 4;
/// Alerts in one delivery.
const MAX_TOLD: usize = 1_000;
/// How long the end of an alert is kept that cannot be delivered, in milliseconds. Chosen: it ended by itself long before.
const KEPT_MS: i64 = 3_600_000;

/// An alert that was found, until its end was told.
#[derive(Debug)]
struct Told {
    alert: Alert,
    ended_ms: Option<i64>,
    /// By a clock that only goes forward: a wall clock set back would leave it untold until it ends by itself.
    delivered_tick_ms: Option<i64>,
}

/// What was told, by what it is called.
#[derive(Debug, Default)]
pub(super) struct Book {
    told: BTreeMap<Labels, Told>,
}

impl Book {
    /// Takes in what was found: what is new, what goes on, what ended. Of the store nothing is kept where another node tells of it.
    pub(super) fn look(&mut self, found: Vec<Alert>, tells_of_store: bool, now_ms: i64) {
        let found: BTreeMap<Labels, Alert> = found.into_iter().map(|alert| (alert.labels.clone(), alert)).collect();
        if !tells_of_store {
            self.told.retain(|_, told| told.alert.scope == Scope::Node);
        }
        for (labels, told) in &mut self.told {
            if told.ended_ms.is_none() && !found.contains_key(labels) {
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
    pub(super) fn is_on(&self, labels: &Labels) -> bool {
        self.told.get(labels).is_some_and(|told| told.ended_ms.is_none())
    }

    /// What is to be told now.
    pub(super) fn due(&self, tick_ms: i64, repeat_ms: i64) -> Vec<Labels> {
        let is_due = |told: &Told| told.delivered_tick_ms.is_none_or(|delivered| tick_ms - delivered >= repeat_ms);
        let due = self.told.iter().filter(|(_, told)| is_due(told));
        due.map(|(labels, _)| labels.clone()).take(MAX_TOLD).collect()
    }

    /// The alerts of these labels as the receiver takes them.
    pub(super) fn body(&self, due: &[Labels], now_ms: i64, repeat_ms: i64) -> Value {
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
    pub(super) fn delivered(&mut self, due: &[Labels], tick_ms: i64) {
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

#[cfg(test)]
mod tests {
    use super::super::labels;
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
        book.look(low(), true, 2_000);
        assert_eq!(told(&book, 2_000), [("low".to_owned(), time(242_000))]);
        // Not delivered: with the next look again.
        book.look(low(), true, 3_000);
        let due = book.due(3_000, 60_000);
        assert_eq!(due.len(), 1);
        book.delivered(&due, 3_000);
        book.look(low(), true, 4_000);
        assert_eq!((told(&book, 62_999).len(), told(&book, 63_000).len()), (0, 1));
        book.look(Vec::new(), true, 5_000);
        assert_eq!(told(&book, 6_000), [("low".to_owned(), time(5_000))]);
        book.delivered(&book.due(6_000, 60_000), 6_000);
        assert!(told(&book, 900_000).is_empty() && book.told.is_empty());
        // It comes back as a new one.
        book.look(low(), true, 7_000);
        assert_eq!(told(&book, 7_000).len(), 1);
    }

    #[test]
    fn what_another_node_tells_is_neither_told_here_nor_ended() {
        let found = || vec![alert(Scope::Store, "stale"), alert(Scope::Node, "low")];
        let names = |book: &Book| told(book, 2_000).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let mut book = Book::default();
        book.look(found(), true, 2_000);
        assert_eq!(names(&book), ["low", "stale"]);
        book.look(found().split_off(1), false, 3_000);
        assert_eq!(names(&book), ["low"]);
        book.look(found(), true, 4_000);
        assert_eq!(names(&book), ["low", "stale"]);
    }

    #[test]
    fn an_end_that_cannot_be_delivered_is_kept_for_an_hour() {
        let mut book = Book::default();
        book.look(vec![alert(Scope::Node, "low")], true, 0);
        book.look(Vec::new(), true, 1);
        assert_eq!(told(&book, 2), [("low".to_owned(), time(1))]);
        book.look(Vec::new(), true, KEPT_MS + 1);
        assert!(book.told.is_empty());
    }
}
