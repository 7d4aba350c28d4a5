//! What does one recorded event cost its caller, beside the ways others record one?
//!
//! Run: `cargo bench -p gemba --bench record`. Each figure is the time of one call in a burst that fits half a ring, begun
//! with empty rings; p50, p99 and p99.9 over bursts. After each burst everything is flushed, outside the clock. At the end
//! nothing may have been dropped and everything recorded must have been delivered, else the run fails. The peers record the
//! same three attributes; their batches are thrown away by an exporter that does nothing, ours go over HTTP to a server that
//! answers 200.
//!
//! Then, one call at a time at 100,000 a second: warm, and with 1 MiB of other memory read before each (as a request's own work
//! does), the clock's own cost taken off. The same again in a process that is pinned to one core, so that the drain thread
//! has the caller's. What an event costs behind the ring is measured by the bench `delivery`.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a program that prints its measurements")]

mod support;

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, SdkLoggerProvider};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing_subscriber::layer::SubscriberExt as _;

/// Calls in a burst: half a ring of 64 KiB holds 600 records of 54 bytes.
const BURST: u32 = 500;
/// Bursts measured per line.
const BURSTS: usize = 1_000;
/// Bursts before measuring.
const WARM_UP: usize = 50;

/// Measures bursts of `call` and prints one line; `settle` empties the queues between bursts.
fn measure(what: &str, burst: u32, mut call: impl FnMut(u32), mut settle: impl FnMut()) {
    let mut nanos = Vec::with_capacity(BURSTS);
    for round in 0..WARM_UP + BURSTS {
        let begin = Instant::now();
        for number in 0..burst {
            call(number);
        }
        let taken = begin.elapsed();
        settle();
        if round >= WARM_UP {
            nanos.push(taken.as_secs_f64() * 1e9 / f64::from(burst));
        }
    }
    nanos.sort_by(f64::total_cmp);
    let at = |permille: usize| nanos.get(nanos.len() * permille / 1000).copied().unwrap_or(f64::NAN);
    println!("{what:<64} {:>9.1} {:>9.1} {:>9.1}", at(500), at(990), at(999));
}

fn flush() {
    assert_eq!(gemba::flush(Duration::from_secs(10)), Ok(()), "the server answers");
}

/// Two threads at once, each its own bursts, with `around` around them; the figure is the slower one's median.
fn measure_two_threads(what: &str, around: impl Fn(&mut dyn FnMut()) + Sync) {
    let bursts = || {
        let mut nanos = Vec::with_capacity(BURSTS);
        for _ in 0..BURSTS {
            let begin = Instant::now();
            for number in 0..BURST {
                gemba::feature!("bench.two", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true));
            }
            nanos.push(begin.elapsed().as_secs_f64() * 1e9 / f64::from(BURST));
            flush();
        }
        nanos.sort_by(f64::total_cmp);
        (nanos[BURSTS / 2], nanos[BURSTS * 99 / 100], nanos[BURSTS * 999 / 1000])
    };
    let run = || {
        let mut figures = (f64::NAN, f64::NAN, f64::NAN);
        around(&mut || figures = bursts());
        figures
    };
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        (run(), other.join())
    });
    let other = other.unwrap_or(one);
    let slower = if one.0 > other.0 { one } else { other };
    println!("{what:<64} {:>9.1} {:>9.1} {:>9.1}", slower.0, slower.1, slower.2);
}

/// Calls one at a time, each begun at a multiple of 10 microseconds; `before` runs ahead of each, outside the clock.
fn measure_paced(what: &str, mut before: impl FnMut(), mut call: impl FnMut(u32)) {
    const CALLS: u32 = 50_000;
    const PACE: Duration = Duration::from_micros(10);
    let clock = median((0..1_000).map(|_| Instant::now().elapsed().as_secs_f64() * 1e9).collect());
    let mut nanos = Vec::with_capacity(CALLS as usize);
    let mut due = Instant::now();
    for number in 0..CALLS {
        before();
        due = (due + PACE).max(Instant::now());
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        let begin = Instant::now();
        call(number);
        nanos.push((begin.elapsed().as_secs_f64() * 1e9 - clock).max(0.0));
    }
    flush();
    nanos.sort_by(f64::total_cmp);
    let at = |permille: usize| nanos.get(nanos.len() * permille / 1000).copied().unwrap_or(f64::NAN);
    println!("{what:<64} {:>9.1} {:>9.1} {:>9.1}", at(500), at(990), at(999));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn paced_lines() {
    measure_paced(
        "gemba: feature!, 3 attributes, 100 k/s",
        || (),
        |number| {
            gemba::feature!("bench.paced", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true));
        },
    );
    // Larger than a core's own caches, so that the record's cache lines are gone each time.
    let mut other = vec![1_u64; 1024 * 1024 / 8];
    let evict = || {
        for word in other.iter_mut().step_by(8) {
            *word = word.wrapping_mul(3);
        }
        black_box(&other);
    };
    measure_paced("gemba: feature!, 3 attributes, at most 100 k/s, cold caches", evict, |number| {
        gemba::feature!("bench.cold", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true));
    });
}

/// In a scope that was opened inside a span of tracing-opentelemetry, which is still current; one thread, then two.
fn in_active_span() {
    let spans = SdkTracerProvider::builder().with_batch_exporter(Nowhere).build();
    let layer = tracing_opentelemetry::layer().with_tracer(spans.tracer("bench"));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let _span = tracing::info_span!("request").entered();
        gemba::scope().user("u-7").session("s-1").tenant("acme").run(|| {
            measure(
                "gemba: feature!, 3 attributes, in a scope and an active span",
                BURST,
                |number| {
                    gemba::feature!("bench.span", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true));
                },
                flush,
            );
        });
    });
    measure_two_threads("gemba: the same, two threads", |work| {
        let layer = tracing_opentelemetry::layer().with_tracer(spans.tracer("bench"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _span = tracing::info_span!("request").entered();
            gemba::scope().user("u-7").session("s-1").tenant("acme").run(work);
        });
    });
    assert!(spans.shutdown().is_ok());
}

/// Queries counted by name and by a text that has been seen before, outside and inside of a scope.
fn query_lines() {
    let by_name = |_| gemba::query!("bench.by_name", Sqlite).start().finish(Some(3));
    measure("gemba: named query timed and counted", BURST, by_name, flush);
    let columns: Vec<String> = (0..40).map(|column| format!("column_{column:03}")).collect();
    let sql = format!("SELECT {} FROM orders WHERE customer_id = 4711 AND state = 'open'", columns.join(", "));
    let sql = sql.get(..sql.len().min(512)).unwrap_or(&sql);
    let database = gemba::query::Database::new(gemba::query::Dialect::Sqlite);
    let by_text = |_| assert_eq!(database.run_text(black_box(sql), || Ok::<u32, String>(3)), Ok(3));
    measure("gemba: query by a text of 512 bytes seen before", BURST, by_text, flush);
    gemba::scope().user("u-7").run(|| {
        measure("gemba: named query, in a scope", BURST, by_name, flush);
        measure("gemba: query by text, in a scope", BURST, by_text, flush);
    });
}

fn gemba_lines() {
    measure(
        "gemba: feature!, 3 attributes",
        BURST,
        |number| gemba::feature!("bench.bare", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true)),
        flush,
    );
    gemba::scope().user("u-7").session("s-1").tenant("acme").run(|| {
        measure(
            "gemba: feature!, 3 attributes, in a scope",
            BURST,
            |number| {
                gemba::feature!("bench.scope", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true));
            },
            flush,
        );
    });
    in_active_span();
    let owned = String::from("price between 10 and 20");
    measure(
        "gemba: feature!, 2 numbers and an owned string of 23 bytes",
        BURST - 50,
        |number| gemba::feature!("bench.text", n = i64::from(number), ratio = black_box(0.5), kind = black_box(&owned)),
        flush,
    );
    measure_two_threads("gemba: feature!, two threads", |work| work());
    measure("gemba: attempt! begun and completed", BURST / 4, |_| gemba::attempt!("bench.attempt").complete(), flush);
    query_lines();
    measure(
        "gemba: scope with user, session and tenant, entered and left",
        BURST,
        |number| gemba::scope().user(number).session("s-1").tenant("acme").run(|| ()),
        flush,
    );
    let mut scoped = Box::pin(
        gemba::scope().user("u-7").run_async(std::future::poll_fn(|_| black_box(std::task::Poll::<()>::Pending))),
    );
    measure(
        "gemba: one poll of a future in a scope",
        BURST,
        |_| {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(black_box(std::future::Future::poll(black_box(scoped.as_mut()), &mut context)).is_pending());
        },
        flush,
    );
}

/// Exports nothing, but counts.
#[derive(Debug, Clone, Copy)]
struct Nowhere;

static EXPORTED: AtomicU64 = AtomicU64::new(0);

impl LogExporter for Nowhere {
    async fn export(&self, batch: LogBatch<'_>) -> opentelemetry_sdk::error::OTelSdkResult {
        EXPORTED.fetch_add(batch.iter().count() as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl SpanExporter for Nowhere {
    async fn export(&self, batch: Vec<SpanData>) -> opentelemetry_sdk::error::OTelSdkResult {
        EXPORTED.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl fastrace::collector::Reporter for Nowhere {
    fn report(&mut self, spans: Vec<fastrace::collector::SpanRecord>) {
        EXPORTED.fetch_add(spans.len() as u64, Ordering::Relaxed);
    }
}

/// Runs the lines of one peer and asserts that it delivered what it recorded, `burst` calls at a time.
fn peer(what: &str, call: impl FnMut(u32), settle: impl FnMut()) {
    let before = EXPORTED.load(Ordering::Relaxed);
    measure(what, BURST, call, settle);
    let delivered = EXPORTED.load(Ordering::Relaxed) - before;
    let recorded = (WARM_UP + BURSTS) as u64 * u64::from(BURST);
    assert!(delivered >= recorded, "{what}: {delivered} delivered of {recorded}");
}

fn peer_lines() {
    let logs = SdkLoggerProvider::builder().with_batch_exporter(Nowhere).build();
    let logger = logs.logger("bench");
    peer(
        "opentelemetry logs + batch processor, 3 attributes",
        |number| {
            let mut record = logger.create_log_record();
            record.set_event_name("bench");
            record.add_attribute("n", i64::from(number));
            record.add_attribute("ratio", AnyValue::Double(black_box(0.5)));
            record.add_attribute("ok", black_box(true));
            logger.emit(record);
        },
        || assert!(logs.force_flush().is_ok()),
    );
    let spans = SdkTracerProvider::builder().with_batch_exporter(Nowhere).build();
    let layer = tracing_opentelemetry::layer().with_tracer(spans.tracer("bench"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        peer(
            "tracing + tracing-opentelemetry, a span, 3 attributes",
            |number| {
                let _span =
                    tracing::info_span!("bench", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true))
                        .entered();
            },
            || assert!(spans.force_flush().is_ok()),
        );
    });
    fastrace::set_reporter(Nowhere, fastrace::collector::Config::default());
    let mut root = None;
    peer(
        "fastrace, a local span, 3 properties",
        |number| {
            let (_guard, _) = &*root.get_or_insert_with(|| {
                let root = fastrace::Span::root("root", fastrace::collector::SpanContext::random());
                let guard = root.set_local_parent();
                (guard, root)
            });
            let _span = fastrace::local::LocalSpan::enter_with_local_parent("bench").with_properties(|| {
                [("n", number.to_string()), ("ratio", black_box(0.5).to_string()), ("ok", black_box(true).to_string())]
            });
            if number + 1 == BURST {
                root = None;
            }
        },
        fastrace::flush,
    );
}

/// The lines of a process whose threads share one core.
fn pinned_lines() -> Result<(), Box<dyn std::error::Error>> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let allowed = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core)).ok_or("no core")?;
    let mut one = CpuSet::new();
    one.set(first);
    // Threads started from here on inherit it.
    sched_setaffinity(None, &one)?;
    let guard = gemba::Config::new("bench").without_environment().endpoint(support::start_sink()?.0).start()?;
    measure(
        "gemba: feature!, 3 attributes, drain on the caller's core",
        BURST,
        |number| gemba::feature!("bench.bare", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true)),
        flush,
    );
    measure_paced(
        "gemba: the same, 100 k/s",
        || (),
        |number| gemba::feature!("bench.paced", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true)),
    );
    drop(guard);
    let stats = gemba::stats();
    assert_eq!((stats.dropped_total(), stats.delivered), (0, stats.recorded), "{stats:?}");
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().any(|argument| argument == "pinned") {
        return pinned_lines();
    }
    println!("{:<64} {:>9} {:>9} {:>9}", "ns per call", "p50", "p99", "p99.9");
    measure(
        "gemba: feature!, 3 attributes, switched off",
        BURST,
        |number| gemba::feature!("bench.off", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true)),
        || (),
    );
    // What the loop itself costs is in every line; beside calls of one load and one branch it shows.
    measure(
        "the loop around nothing",
        BURST,
        |number| {
            black_box(number);
        },
        || (),
    );
    measure(
        "reading the clock alone (Instant)",
        BURST,
        |_| {
            black_box(Instant::now());
        },
        || (),
    );
    let guard = gemba::Config::new("bench").without_environment().endpoint(support::start_sink()?.0).start()?;
    gemba_lines();
    paced_lines();
    let figures = gemba::stats();
    drop(guard);
    let stats = gemba::stats();
    assert_eq!(stats.dropped_total(), 0, "{stats:?}");
    assert_eq!(stats.delivered, stats.recorded, "{stats:?}");
    println!("gemba: {} recorded, {} delivered, 0 dropped", stats.recorded, stats.delivered);
    assert!(figures.recorded > 0);
    let pinned = std::process::Command::new(std::env::current_exe()?).arg("pinned").status()?;
    assert!(pinned.success());
    peer_lines();
    Ok(())
}
