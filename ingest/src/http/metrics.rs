//! `/metrics`: Prometheus text, every name beginning with `gemba_`.
//!
//! In: counters of the handlers, the pipeline's status, the process. Out: the text exposition format 0.0.4. The names
//! are an interface: each is documented beside its name, and `DEPLOYMENT.md` holds the same as a table, which a test compares.

use super::{App, Response, response};
use crate::freshness::stale;
use crate::outcome::{Fate, Reason, Tally};
use http::StatusCode;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

/// What the handlers count.
#[derive(Debug, Default)]
pub struct Counters {
    answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    others: Mutex<BTreeMap<(Fate, Reason), u64>>,
}

impl Counters {
    /// One answer of `route` with `status`.
    pub fn answered(&self, route: &'static str, status: u16) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry((route, status)).or_default() += 1;
    }

    /// One request with data that was refused as a whole.
    pub fn refused(&self, reason: &'static str) {
        *self.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    /// What became of the records of an acknowledged request, as far as they did not become rows.
    pub fn tallied(&self, tally: &Tally) {
        if tally.others.is_empty() {
            return;
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        for (fate, reason, records) in &tally.others {
            *others.entry((*fate, *reason)).or_default() += records;
        }
    }
}

/// The text under construction.
#[derive(Default)]
pub(super) struct Exposition {
    text: String,
}

impl Exposition {
    /// A metric's head; its samples follow.
    pub(super) fn metric(&mut self, name: &str, kind: &str, help: &str) -> &mut Self {
        // Writing to a String cannot fail, here and below.
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}").unwrap_or_default();
        self
    }

    /// A sample. `labels` is empty or `{name="value"}` with values of our own words only.
    pub(super) fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) -> &mut Self {
        writeln!(self.text, "{name}{labels} {value}").unwrap_or_default();
        self
    }

    /// A metric with a single sample.
    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.metric(name, kind, help).sample(name, "", value);
    }
}

/// The answer to `GET /metrics`.
pub fn exposition(app: &App) -> Response {
    let mut out = Exposition::default();
    requests(&mut out, &app.counters);
    pipeline(&mut out, app);
    freshness(&mut out, app);
    alerts(&mut out, app);
    process(&mut out, app);
    response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", out.text)
}

fn requests(out: &mut Exposition, counters: &Counters) {
    out.metric("gemba_http_answers_total", "counter", "Answers by route and HTTP status.");
    for ((route, status), count) in counters.answers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        out.sample("gemba_http_answers_total", &format!("{{route=\"{route}\",status=\"{status}\"}}"), count);
    }
    out.metric("gemba_requests_refused_total", "counter", "Requests with data refused as a whole, by reason.");
    for (reason, count) in counters.refusals.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        out.sample("gemba_requests_refused_total", &format!("{{reason=\"{reason}\"}}"), count);
    }
}

/// Records that did not become rows, by reason: the fates with a reason of their own.
fn others(out: &mut Exposition, counters: &Counters, refused_by_store: u64) {
    let fates = [
        (Fate::Rejected, "gemba_records_rejected_total", "Records a rule refused; the sender was told."),
        (Fate::SetAside, "gemba_records_set_aside_total", "Records kept aside with a reason."),
        (Fate::Ignored, "gemba_records_ignored_total", "Valid records of a kind Gemba does not keep."),
    ];
    let others = counters.others.lock().unwrap_or_else(PoisonError::into_inner);
    for (fate, name, help) in fates {
        out.metric(name, "counter", help);
        for ((_, reason), count) in others.iter().filter(|((of, _), _)| *of == fate) {
            out.sample(name, &format!("{{reason=\"{reason}\"}}"), count);
        }
        // Known only after the sender was answered.
        if fate == Fate::SetAside && refused_by_store > 0 {
            out.sample(name, &format!("{{reason=\"{}\"}}", Reason::RefusedByStore), refused_by_store);
        }
    }
}

fn pipeline(out: &mut Exposition, app: &App) {
    let status = app.pipeline.status();
    let (fates, inserts, syncs) = (status.fates, status.inserts, status.syncs);
    out.single(
        "gemba_records_received_total",
        "counter",
        "Records acknowledged, whatever became of them.",
        fates.received,
    );
    others(out, &app.counters, status.refused_records);
    out.single("gemba_records_deduplicated_total", "counter", "Records that had come before.", fates.deduplicated);
    out.single(
        "gemba_records_retried_total",
        "counter",
        "Records that had been set aside and were taken in again; they count as received once more.",
        fates.retried,
    );
    out.single(
        "gemba_records_pending",
        "gauge",
        "Records acknowledged and not yet proven to be stored.",
        status.pending_records,
    );
    out.single(
        "gemba_records_stored_total",
        "counter",
        "Records proven to be stored, also those acknowledged before this process began.",
        fates.stored,
    );
    out.single(
        "gemba_oldest_pending_seconds",
        "gauge",
        "Age of the oldest record not yet proven to be stored.",
        status.oldest_pending.as_secs_f64(),
    );
    out.single("gemba_log_bytes", "gauge", "Bytes of the log on disk.", status.log_bytes);
    if let Some(free) = status.free_bytes {
        out.single("gemba_log_disk_free_bytes", "gauge", "Bytes left on the disk of the log.", free);
    }
    out.single("gemba_log_syncs_total", "counter", "Syncs of the log.", syncs.count);
    out.single("gemba_log_sync_failures_total", "counter", "Syncs of the log that failed.", syncs.failed);
    out.single("gemba_log_sync_seconds_total", "counter", "Time spent in syncs of the log.", syncs.total.as_secs_f64());
    out.single("gemba_log_sync_seconds_max", "gauge", "Longest sync of the log.", syncs.max.as_secs_f64());
    out.single(
        "gemba_log_damaged_entries_total",
        "counter",
        "Acknowledged entries of the log that could not be read any more.",
        status.damaged_entries,
    );
    out.metric("gemba_inserts_total", "counter", "Inserts into ClickHouse by result.");
    for (result, count) in
        [("ok", inserts.ok), ("failed", inserts.failed), ("proven", inserts.proven), ("reinserted", inserts.reinserted)]
    {
        out.sample("gemba_inserts_total", &format!("{{result=\"{result}\"}}"), count);
    }
    out.single("gemba_rows_inserted_total", "counter", "Rows stored, all tables together.", inserts.rows);
    out.single("gemba_block_bytes_inserted_total", "counter", "Bytes of blocks stored.", inserts.bytes);
    out.single(
        "gemba_waiting_bytes",
        "gauge",
        "Memory of rows and blocks waiting for ClickHouse.",
        status.waiting_bytes,
    );
    out.single(
        "gemba_refused_cuts",
        "gauge",
        "Rounds of inserts that ClickHouse refuses; they wait in the log while others are stored.",
        status.refused_cuts,
    );
    out.single("gemba_queued_requests", "gauge", "Requests waiting to be made durable.", status.queued_requests);
    out.single("gemba_accepting", "gauge", "1 while new data are taken.", u8::from(status.refusing.is_none()));
    out.single(
        "gemba_store_reachable",
        "gauge",
        "1 while ClickHouse answers and takes data.",
        u8::from(app.store_problem(&status).is_none()),
    );
}

fn alerts(out: &mut Exposition, app: &App) {
    let name = "gemba_alert_deliveries_total";
    out.metric(name, "counter", "Deliveries to --alert-url by result.");
    for (result, count) in [("ok", &app.alerts.ok), ("failed", &app.alerts.failed)] {
        out.sample(name, &format!("{{result=\"{result}\"}}"), count.load(Ordering::Relaxed));
    }
}

fn freshness(out: &mut Exposition, app: &App) {
    let name = "gemba_newest_row_age_seconds";
    out.metric(name, "gauge", "Time since the newest stored row of a project was received, by project number.");
    for (project, age) in app.freshness.ages() {
        out.sample(name, &format!("{{project=\"{project}\"}}"), age.as_secs_f64());
    }
    out.single(
        "gemba_stale_projects",
        "gauge",
        "Projects whose newest row is older than --stale-after; 0 without it.",
        stale(app).len(),
    );
}

fn process(out: &mut Exposition, app: &App) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    out.single(
        "gemba_process_cpu_seconds_total",
        "counter",
        "CPU time of this process, the engine excluded.",
        cpu_seconds,
    );
    if let Some(bytes) = resident_bytes() {
        out.single("gemba_process_resident_bytes", "gauge", "Memory of this process, the engine excluded.", bytes);
    }
    if let Some(engine) = &app.engine {
        out.single("gemba_engine_restarts_total", "counter", "Restarts of the embedded engine.", engine.restarts());
    }
}

/// Resident memory of this process, where the operating system tells it in `/proc`.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_head_and_samples_with_our_prefix() {
        let counters = Counters::default();
        counters.answered("/v1/logs", 200);
        counters.answered("/v1/logs", 200);
        counters.refused("too_large");
        let mut tally = Tally { received: 3, ..Tally::default() };
        tally.add(Fate::Rejected, Reason::MissingEventName, 2);
        counters.tallied(&tally);
        counters.tallied(&tally);
        let mut out = Exposition::default();
        requests(&mut out, &counters);
        others(&mut out, &counters, 0);
        assert!(out.text.contains("gemba_http_answers_total{route=\"/v1/logs\",status=\"200\"} 2\n"), "{}", out.text);
        assert!(out.text.contains("gemba_requests_refused_total{reason=\"too_large\"} 1\n"), "{}", out.text);
        assert!(out.text.contains("gemba_records_rejected_total{reason=\"missing_event_name\"} 4\n"), "{}", out.text);
        assert!(out.text.lines().all(|line| line.starts_with("gemba_") || line.starts_with("# ")), "{}", out.text);
    }
}
