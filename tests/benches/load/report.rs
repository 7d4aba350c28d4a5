//! The figures of a run, as a table for people and as JSON.

use super::baseline::Baseline;
use super::engine::Store;
use super::phase::Phase;
use super::replay::Replay;

/// Columns that hold a trace context.
const TRACE_COLUMNS: [&str; 2] = ["trace_id", "span_id"];

/// Everything measured.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Report {
    /// A sync of 128 KiB on the disk of the data folder, nothing else at work.
    pub sync_ms_p50: f64,
    /// The same.
    pub sync_ms_p99: f64,
    /// The server's memory five seconds after its start, bytes.
    pub(crate) idle_resident: u64,
    /// The engine's.
    pub(crate) idle_engine_resident: u64,
    /// Full load.
    pub(crate) full: Option<Phase>,
    /// Half of that rate.
    pub(crate) half: Option<Phase>,
    /// Full load, nothing compressed.
    pub(crate) identity: Option<Phase>,
    /// Full load, everything compressed.
    pub(crate) gzip: Option<Phase>,
    /// The engine alone.
    pub(crate) bare: Option<Baseline>,
    /// A start on a log that was never stored.
    pub(crate) replay: Option<Replay>,
    /// Bytes on disk an event after the full load and its merges, all tables and projections, but no trace context.
    pub(crate) disk_bytes_per_event: f64,
    /// Bytes of trace context, an event that has one.
    pub(crate) trace_bytes_per_traced_event: f64,
    /// Bytes an event of each column of the events, most first.
    pub(crate) columns: Vec<(String, f64)>,
    /// Bytes an event of what is not in a column: other tables, the projection, marks.
    pub(crate) other_bytes_per_event: f64,
}

impl Report {
    /// Takes the sizes of what `events` events left behind.
    pub(crate) fn sizes(&mut self, store: &Store, events: u64) {
        let events = events as f64;
        let columns = store.columns().into_iter().map(|(name, bytes)| (name, bytes as f64 / events));
        self.columns = columns.collect();
        let all = store.bytes() as f64 / events;
        let is_trace = |(name, _): &&(String, f64)| TRACE_COLUMNS.contains(&name.as_str());
        let trace = self.columns.iter().filter(is_trace).map(|(_, bytes)| bytes).sum::<f64>();
        let traced = store.number("SELECT countIf(span_id != 0) FROM events") as f64;
        self.trace_bytes_per_traced_event = if traced > 0.0 { trace * events / traced } else { 0.0 };
        self.other_bytes_per_event = all - self.columns.iter().map(|(_, bytes)| bytes).sum::<f64>();
        self.disk_bytes_per_event = all - trace;
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        if let Some(replay) = &self.replay {
            print_replay(replay);
        }
        if self.full.is_none() {
            return;
        }
        println!("disk: a sync of 128 KiB takes {:.2} / {:.2} ms (p50 / p99)", self.sync_ms_p50, self.sync_ms_p99);
        println!(
            "memory, idle: server {:.0} MiB, engine {:.0} MiB",
            mib(self.idle_resident),
            mib(self.idle_engine_resident)
        );
        let phases =
            [("full load", &self.full), ("half load", &self.half), ("identity", &self.identity), ("gzip", &self.gzip)];
        for (name, phase) in phases.into_iter().filter_map(|(name, phase)| Some((name, phase.as_ref()?))) {
            print(name, phase);
        }
        if let Some(bare) = &self.bare {
            println!("\nbare engine, Native blocks of {} events", bare.events_per_insert);
            line("events stored a second", format!("{:.0}", bare.stored_per_second));
            line("CPU, engine", format!("{:.2} µs/event, with merges {:.2}", bare.engine_us, bare.engine_merged_us));
            line("CPU, client", format!("{:.2} µs/event", bare.client_us));
            if let Some(full) = &self.full {
                line(
                    "server and engine / bare engine",
                    format!("{:.2}", full.stored_per_second / bare.stored_per_second),
                );
            }
        }
        println!("\ndisk after the full load and its merges");
        line("all but trace context", format!("{:.1} bytes/event", self.disk_bytes_per_event));
        line("trace context", format!("{:.1} bytes/event that has one", self.trace_bytes_per_traced_event));
        line("outside the columns of events", format!("{:.1} bytes/event", self.other_bytes_per_event));
        let columns: Vec<String> = self
            .columns
            .iter()
            .filter(|(_, bytes)| *bytes >= 0.05)
            .map(|(name, bytes)| format!("{name} {bytes:.1}"))
            .collect();
        line("columns", columns.join(", "));
    }
}

fn print_replay(replay: &Replay) {
    println!("start on a log of {} MiB, {} events, never stored", replay.log_bytes >> 20, replay.events);
    line("accepts requests after", format!("{:.2} s", replay.ready_s));
    line("events stored a second", format!("{:.0}", replay.stored_per_second));
    line("new data acknowledged, p50 / p99", format!("{:.1} / {:.1} ms", replay.ack_ms_p50, replay.ack_ms_p99));
    line("all data visible after", format!("{:.1} s", replay.visible_s));
    line("memory, server", format!("{} MiB", replay.resident >> 20));
    println!();
}

fn line(what: &str, value: impl AsRef<str>) {
    println!("  {what:<34} {}", value.as_ref());
}

fn print(name: &str, phase: &Phase) {
    println!(
        "\n{name}: {} events of {:.0} bytes, {:.0} as sent",
        phase.events, phase.bytes_per_event, phase.sent_bytes_per_event
    );
    line("events acknowledged a second", format!("{:.0}", phase.acknowledged_per_second));
    line(
        "events stored a second",
        format!("{:.0} (all stored {:.1} s after the load)", phase.stored_per_second, phase.stored_after_s),
    );
    line("acknowledged after, p50 / p99", format!("{:.1} / {:.1} ms", phase.ack_ms_p50, phase.ack_ms_p99));
    if let (Some(p50), Some(p99)) = (phase.visible_ms_p50, phase.visible_ms_p99) {
        line("visible after that, p50 / p99", format!("{p50:.0} / {p99:.0} ms"));
    }
    line("CPU, server", format!("{:.2} µs/event", phase.serve_us));
    let merged = phase
        .engine_merged_us
        .map_or(String::new(), |us| format!(", {us:.2} with merges (quiet after {:.0} s)", phase.quiet_after_s));
    line("CPU, engine", format!("{:.2} µs/event{merged}", phase.engine_us));
    if let Some(us) = phase.engine_merged_us {
        line("CPU, server and engine", format!("{:.2} µs/event", phase.serve_us + us));
    }
    line("CPU, generator", format!("{:.2} µs/event", phase.generator_us));
    line("events an insert", format!("{:.0}", phase.events_per_insert));
    line("memory, highest", format!("server {} MiB, engine {} MiB", phase.resident >> 20, phase.engine_resident >> 20));
    let threads = |threads: &[(String, f64)]| {
        let threads: Vec<String> = threads.iter().map(|(name, us)| format!("{name} {us:.2}")).collect();
        threads.join(", ")
    };
    line("server's threads, µs", threads(&phase.serve_threads_us));
    line("engine's threads, µs", threads(&phase.engine_threads_us));
    let parts: Vec<String> = phase.parts.iter().map(|(at, parts)| format!("{parts}@{at}")).collect();
    line("parts@second", parts.join(" "));
    if phase.refused > 0 {
        line("answers to come again", phase.refused.to_string());
    }
}
