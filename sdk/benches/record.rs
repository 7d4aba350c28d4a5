//! What does one recorded event cost its caller, beside the ways others record one?
//!
//! Run: `cargo bench -p gemba --bench record`. Each figure is the time of one call in a burst that fits half a ring, begun
//! with empty rings; p50, p99 and p99.9 over bursts. After each burst everything is flushed, outside the clock. At the end
//! nothing may have been dropped and everything recorded must have been delivered, else the run fails. The peers record the
//! same three attributes; their batches are thrown away by an exporter that does nothing, ours go over HTTP to a server that
//! answers 200.
//!
//! Then, one call at a time at 100,000 a second: warm, and with 1 MiB of other memory read before each (as a request's own work
//! does), the clock's own cost taken off. Last, the CPU of a million
//! events behind the ring, by thread: drain, send.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a program that prints its measurements")]

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, SdkLoggerProvider};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing_subscriber::layer::SubscriberExt as _;

/// Calls in a burst: half a ring of 64 KiB holds 600 records of 54 bytes.
const BURST: u32 = 500;
/// Bursts measured per line.
const BURSTS: usize = 1_000;
/// Bursts before measuring.
const WARM_UP: usize = 50;

/// Answers 200 to every request.
fn start_server() -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || answer(&connection));
        }
    });
    Ok(address)
}

fn answer(mut connection: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    let mut body = Vec::new();
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? <= 2 {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
        }
        if line.is_empty() {
            return None;
        }
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

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

/// Two threads at once, each its own bursts; the figure is the slower one's median.
fn measure_two_threads() {
    let run = || {
        let mut nanos = Vec::with_capacity(BURSTS);
        for _ in 0..BURSTS {
            let begin = Instant::now();
            for number in 0..BURST {
                gemba::feature!("bench.two", n = i64::from(number), ratio = 0.5, ok = true);
            }
            nanos.push(begin.elapsed().as_secs_f64() * 1e9 / f64::from(BURST));
            flush();
        }
        nanos.sort_by(f64::total_cmp);
        (nanos[BURSTS / 2], nanos[BURSTS * 99 / 100], nanos[BURSTS * 999 / 1000])
    };
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(run);
        (run(), other.join())
    });
    let other = other.unwrap_or(one);
    let slower = if one.0 > other.0 { one } else { other };
    println!("{:<64} {:>9.1} {:>9.1} {:>9.1}", "gemba: feature!, two threads", slower.0, slower.1, slower.2);
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

/// Nanoseconds each thread of this process has been running, by name (`/proc`, first number of `schedstat`).
fn cpu_by_thread() -> std::io::Result<BTreeMap<String, u64>> {
    let mut times = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        let name = std::fs::read_to_string(task.join("comm"))?.trim().to_owned();
        let times_of = std::fs::read_to_string(task.join("schedstat"))?;
        let time = times_of.split(' ').next().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
        *times.entry(name).or_default() += time;
    }
    Ok(times)
}

/// CPU of one event behind the ring, by thread; the caller's is in the lines above, and the server's threads are not in it.
fn cpu_lines() -> std::io::Result<()> {
    const EVENTS: u32 = 1_000_000;
    let before = cpu_by_thread()?;
    let recorded_before = gemba::stats().recorded;
    gemba::scope().user("u-7").session("s-1").tenant("acme").run(|| {
        for number in 0..EVENTS {
            gemba::feature!("bench.cpu", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true));
            if number % 100 == 99 {
                // Half a ring wakes the drain thread; the other half is room enough until it has come by.
                let drained = || gemba::stats().recorded - recorded_before;
                while u64::from(number) > drained() + 800 {
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
            if number % 50_000 == 49_999 {
                // Sending is slower than draining on a busy machine; the queue holds 16 MiB.
                flush();
            }
        }
    });
    flush();
    let after = cpu_by_thread()?;
    let spent = |name: &str| {
        let of = |times: &BTreeMap<String, u64>| times.get(name).copied().unwrap_or(0);
        of(&after).saturating_sub(of(&before)) as f64 / f64::from(EVENTS)
    };
    println!("ns of CPU per delivered event, {EVENTS} events:");
    for (what, name) in [("drain and encode", "gemba-drain"), ("compress (zstd 1) and send", "gemba-send")] {
        println!("    {what:<60} {:>9.1}", spent(name));
    }
    Ok(())
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
    let owned = String::from("price between 10 and 20");
    measure(
        "gemba: feature!, 2 numbers and an owned string of 23 bytes",
        BURST - 50,
        |number| gemba::feature!("bench.text", n = i64::from(number), ratio = black_box(0.5), kind = black_box(&owned)),
        flush,
    );
    measure_two_threads();
    measure("gemba: attempt! begun and completed", BURST / 4, |_| gemba::attempt!("bench.attempt").complete(), flush);
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:<64} {:>9} {:>9} {:>9}", "ns per call", "p50", "p99", "p99.9");
    measure(
        "gemba: feature!, 3 attributes, switched off",
        BURST,
        |number| gemba::feature!("bench.off", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true)),
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
    let guard = gemba::Config::new("bench").without_environment().endpoint(start_server()?).start()?;
    gemba_lines();
    paced_lines();
    cpu_lines()?;
    let figures = gemba::stats();
    drop(guard);
    let stats = gemba::stats();
    assert_eq!(stats.dropped_total(), 0, "{stats:?}");
    assert_eq!(stats.delivered, stats.recorded, "{stats:?}");
    println!("gemba: {} recorded, {} delivered, 0 dropped", stats.recorded, stats.delivered);
    assert!(figures.recorded > 0);
    peer_lines();
    Ok(())
}
