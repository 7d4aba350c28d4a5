//! How much each project may send: records a second on this node, records a day and a month over all nodes.
//!
//! In: acknowledged records, and from time to time what the ledger says. Out: whether a project may send now, and if not,
//! after how long. A request is let in while there is anything left and charged when its records are counted, so that a
//! limit is overshot by one request at most and the debt is waited for. The counts of day and month are read back from the
//! ledger, so a restart forgets at most what is not stored yet; the burst starts anew. Does not know HTTP.

use crate::control::{Project, Quota};
use crate::identity::ProjectId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Seconds' worth of records that may come at once. Chosen: SDKs gather for some seconds and then send.
const BURST_SECONDS: f64 = 10.0;
const DAY_MS: i64 = 86_400_000;

/// Why a project may not send now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the project has used up its {}", limit.as_str())]
pub struct Over {
    /// What is used up.
    pub limit: Limit,
    /// When it may send again.
    pub retry_after: Duration,
}

/// What can be used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Records a second.
    Second,
    /// Records a day.
    Day,
    /// Records a month.
    Month,
}

impl Limit {
    /// For a person.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "records a second",
            Self::Day => "records a day",
            Self::Month => "records a month",
        }
    }

    /// A word for the metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Second => "rate_limited",
            Self::Day => "over_day_quota",
            Self::Month => "over_month_quota",
        }
    }
}

/// Records of a project since the beginning of the present day and month, UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Today.
    pub day: u64,
    /// This month.
    pub month: u64,
}

/// The meters of all projects.
#[derive(Debug, Default)]
pub struct Quotas {
    meters: Mutex<HashMap<ProjectId, Meter>>,
}

#[derive(Debug)]
struct Meter {
    /// Records it may still send in this burst; below 0 a debt.
    level: f64,
    level_at_ms: i64,
    period: Period,
    used: Used,
    refused: u64,
}

/// A day and the month it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Period {
    day: i64,
    month_starts_ms: i64,
    next_month_ms: i64,
}

impl Period {
    fn at(now_ms: i64) -> Self {
        let day = now_ms.div_euclid(DAY_MS);
        let date =
            jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC).date();
        let ms = |date: jiff::civil::Date| {
            let begin = date.to_zoned(jiff::tz::TimeZone::UTC).map(|begin| begin.timestamp().as_millisecond());
            begin.unwrap_or(now_ms)
        };
        let next = date.last_of_month().tomorrow().map_or(now_ms.saturating_add(DAY_MS), ms);
        Self { day, month_starts_ms: ms(date.first_of_month()), next_month_ms: next }
    }
}

/// Beginnings of the present day and month, UTC, in milliseconds since the epoch.
pub fn period_starts(now_ms: i64) -> (i64, i64) {
    let period = Period::at(now_ms);
    (period.day * DAY_MS, period.month_starts_ms)
}

impl Meter {
    fn new(quota: Quota, now_ms: i64) -> Self {
        let level = quota.per_second as f64 * BURST_SECONDS;
        Self { level, level_at_ms: now_ms, period: Period::at(now_ms), used: Used::default(), refused: 0 }
    }

    fn go_on(&mut self, quota: Quota, now_ms: i64) {
        let rate = quota.per_second as f64;
        // A clock that was set back adds nothing.
        let passed = (now_ms - self.level_at_ms).max(0) as f64 / 1000.0;
        self.level = (self.level + passed * rate).min(rate * BURST_SECONDS);
        self.level_at_ms = now_ms;
        let period = Period::at(now_ms);
        if period.day != self.period.day {
            self.used.day = 0;
        }
        if period.month_starts_ms != self.period.month_starts_ms {
            self.used.month = 0;
        }
        self.period = period;
    }

    fn over(&self, quota: Quota, now_ms: i64) -> Option<Over> {
        let until = |ms: i64| Duration::from_millis(u64::try_from(ms - now_ms).unwrap_or(0));
        if quota.per_month > 0 && self.used.month >= quota.per_month {
            return Some(Over { limit: Limit::Month, retry_after: until(self.period.next_month_ms) });
        }
        if quota.per_day > 0 && self.used.day >= quota.per_day {
            return Some(Over { limit: Limit::Day, retry_after: until((self.period.day + 1) * DAY_MS) });
        }
        if quota.per_second > 0 && self.level < 1.0 {
            let wait = (1.0 - self.level) / quota.per_second as f64;
            return Some(Over { limit: Limit::Second, retry_after: Duration::from_secs_f64(wait) });
        }
        None
    }
}

impl Quotas {
    /// Whether the project may send now. Never blocks for long; a project without limits costs nothing.
    ///
    /// # Errors
    /// [`Over`], which is counted.
    pub fn check(&self, project: &Project, now_ms: i64) -> Result<(), Over> {
        let quota = project.quota;
        if quota.is_unlimited() {
            return Ok(());
        }
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = meters.entry(project.id).or_insert_with(|| Meter::new(quota, now_ms));
        meter.go_on(quota, now_ms);
        let Some(over) = meter.over(quota, now_ms) else { return Ok(()) };
        meter.refused += 1;
        Err(over)
    }

    /// Charges records that were acknowledged.
    pub fn charge(&self, project: ProjectId, quota: Quota, records: u64, now_ms: i64) {
        if quota.is_unlimited() {
            return;
        }
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = meters.entry(project).or_insert_with(|| Meter::new(quota, now_ms));
        meter.go_on(quota, now_ms);
        meter.level -= records as f64;
        meter.used.day += records;
        meter.used.month += records;
    }

    /// Takes in what the ledger says: other nodes' records, and this one's from before its start.
    pub fn learn(&self, project: ProjectId, quota: Quota, stored: Used, now_ms: i64) {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = meters.entry(project).or_insert_with(|| Meter::new(quota, now_ms));
        meter.go_on(quota, now_ms);
        // What this node counted and has not stored yet is not in the ledger.
        meter.used.day = meter.used.day.max(stored.day);
        meter.used.month = meter.used.month.max(stored.month);
    }

    /// Requests refused since the start.
    pub fn refused(&self, project: ProjectId) -> u64 {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner).get(&project).map_or(0, |meter| meter.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-31T23:59:50Z.
    const NOW_MS: i64 = 1_769_903_990_000;

    fn project(per_second: u64, per_day: u64, per_month: u64) -> Project {
        let quota = Quota { per_second, per_day, per_month };
        Project { id: ProjectId(1), name: "shop".into(), retention_class: 0, quota }
    }

    #[test]
    fn a_burst_passes_and_its_debt_is_waited_for() {
        let (quotas, project) = (Quotas::default(), project(100, 0, 0));
        quotas.check(&project, NOW_MS).unwrap();
        quotas.charge(project.id, project.quota, 1_500, NOW_MS);
        let over = quotas.check(&project, NOW_MS).unwrap_err();
        assert_eq!((over.limit, over.retry_after), (Limit::Second, Duration::from_millis(5_010)));
        assert!(quotas.check(&project, NOW_MS + 5_000).is_err());
        quotas.check(&project, NOW_MS + 5_010).unwrap();
        assert_eq!(quotas.refused(project.id), 2);
        // A long rest gives one burst and no more.
        quotas.charge(project.id, project.quota, 1_000, NOW_MS + 3_600_000);
        assert!(quotas.check(&project, NOW_MS + 3_600_000).is_err());
    }

    #[test]
    fn day_and_month_end_in_utc_and_what_the_ledger_says_counts() {
        let quotas = Quotas::default();
        let day = project(0, 10, 0);
        quotas.charge(day.id, day.quota, 10, NOW_MS);
        let over = quotas.check(&day, NOW_MS).unwrap_err();
        assert_eq!((over.limit, over.retry_after), (Limit::Day, Duration::from_secs(10)));
        quotas.check(&day, NOW_MS + 10_000).unwrap();

        let month = Project { id: ProjectId(2), ..project(0, 0, 10) };
        quotas.learn(month.id, month.quota, Used { day: 0, month: 10 }, NOW_MS);
        assert_eq!(quotas.check(&month, NOW_MS).unwrap_err().limit, Limit::Month);
        quotas.check(&month, NOW_MS + 10_000).unwrap();
        assert_eq!(period_starts(NOW_MS), (1_769_817_600_000, 1_767_225_600_000));
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let (quotas, project) = (Quotas::default(), project(0, 0, 0));
        quotas.charge(project.id, project.quota, u64::MAX, NOW_MS);
        quotas.check(&project, NOW_MS).unwrap();
        assert!(quotas.meters.lock().unwrap().is_empty());
    }
}
