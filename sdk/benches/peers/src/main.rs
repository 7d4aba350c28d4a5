//! What does one record cost its caller with other recorders? As `cargo bench -p gemba --bench record`, for those that are too
//! heavy to be built with the SDK, and with Gemba in the same run.
//!
//! Run: `cargo run --release --manifest-path sdk/benches/peers/Cargo.toml --target-dir target/peers`. Nanoseconds of one call in
//! bursts of 500 from empty queues; p50, p99 and p99.9 over 1,000 bursts. After each burst everything is flushed, outside the
//! clock, and at the end everything recorded must have arrived. Where a peer sends over HTTP it sends to a server here that
//! answers 200; sentry's and ticklog's records are counted where they leave the library.

use sentry_core::protocol::{EnvelopeItem, ItemContainer};
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const BURST: u32 = 500;
const BURSTS: usize = 1_000;
const WARM_UP: usize = 50;
const RECORDED: u64 = (WARM_UP + BURSTS) as u64 * BURST as u64;

/// Records that arrived behind the peer under measurement.
static ARRIVED: AtomicU64 = AtomicU64::new(0);

/// Answers 200 to every request and counts the events in it.
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
        let mark = b"\"event\":\"bench\"";
        let events = body.windows(mark.len()).filter(|bytes| bytes == mark).count();
        ARRIVED.fetch_add(events as u64, Ordering::SeqCst);
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").ok()?;
    }
}

/// Measures bursts of `call` and prints one line; `settle` empties the queues between bursts.
fn measure(what: &str, mut call: impl FnMut(u32), mut settle: impl FnMut()) {
    let mut nanos = Vec::with_capacity(BURSTS);
    for round in 0..WARM_UP + BURSTS {
        let begin = Instant::now();
        for number in 0..BURST {
            call(number);
        }
        let taken = begin.elapsed();
        settle();
        if round >= WARM_UP {
            nanos.push(taken.as_secs_f64() * 1e9 / f64::from(BURST));
        }
    }
    nanos.sort_by(f64::total_cmp);
    let at = |permille: usize| nanos[nanos.len() * permille / 1000];
    println!("{what:<64} {:>9.1} {:>9.1} {:>9.1}", at(500), at(990), at(999));
}

/// Waits until `records` have arrived: a flush of the library may return before its last write.
fn await_arrival(records: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while ARRIVED.load(Ordering::SeqCst) < records {
        assert!(Instant::now() < deadline, "{} of {records} arrived", ARRIVED.load(Ordering::SeqCst));
        std::thread::yield_now();
    }
}

/// Runs one peer, after which exactly what it recorded must have arrived.
fn peer(what: &str, call: impl FnMut(u32), flush: impl Fn()) {
    ARRIVED.store(0, Ordering::SeqCst);
    let mut expected = 0;
    measure(what, call, || {
        expected += u64::from(BURST);
        flush();
        await_arrival(expected);
    });
    assert_eq!(ARRIVED.load(Ordering::SeqCst), RECORDED, "{what}");
}

/// Counts lines.
struct Lines;

impl ticklog::LogSink for Lines {
    fn accept(&mut self, line: &[u8], _level: ticklog::Level) -> std::io::Result<()> {
        black_box(line);
        ARRIVED.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Counts logs.
struct Envelopes;

impl sentry_core::Transport for Envelopes {
    fn send_envelope(&self, envelope: sentry_core::Envelope) {
        for item in envelope.items() {
            if let EnvelopeItem::ItemContainer(ItemContainer::Logs(logs)) = item {
                ARRIVED.fetch_add(logs.len() as u64, Ordering::SeqCst);
            }
        }
    }
}

fn gemba_line(server: &str) -> Result<(), Box<dyn std::error::Error>> {
    let guard = gemba::Config::new("peers").without_environment().endpoint(server).start()?;
    measure(
        "gemba: feature!, 3 attributes",
        |number| gemba::feature!("bench.used", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true)),
        || assert_eq!(gemba::flush(Duration::from_secs(10)), Ok(())),
    );
    drop(guard);
    let stats = gemba::stats();
    assert_eq!((stats.dropped_total(), stats.delivered), (0, stats.recorded), "{stats:?}");
    Ok(())
}

fn ticklog_line() -> Result<(), Box<dyn std::error::Error>> {
    let guard = ticklog::configure! { sink: Lines }?;
    peer(
        "ticklog: info! with 3 values (text, no keys; no context)",
        |number| ticklog::info!("n={} ratio={} ok={}", i64::from(number), black_box(0.5), black_box(true)),
        || (),
    );
    drop(guard);
    Ok(())
}

fn metrics_line() -> Result<(), Box<dyn std::error::Error>> {
    use metrics_util::registry::{AtomicStorage, Registry};
    struct Recorder(Registry<metrics::Key, AtomicStorage>);
    impl metrics::Recorder for Recorder {
        fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
        fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
        fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
        fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
            self.0.get_or_create_counter(key, |counter| Arc::clone(counter).into())
        }
        fn register_gauge(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
            self.0.get_or_create_gauge(key, |gauge| Arc::clone(gauge).into())
        }
        fn register_histogram(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
            self.0.get_or_create_histogram(key, |histogram| Arc::clone(histogram).into())
        }
    }
    metrics::set_global_recorder(Recorder(Registry::new(AtomicStorage))).map_err(|_| "a recorder is set already")?;
    measure(
        "metrics: counter! with 2 static labels (a sum, no events)",
        |_| metrics::counter!("bench", "kind" => "price", "ok" => "true").increment(black_box(1)),
        || (),
    );
    let labels = ["1", "2"];
    measure(
        "metrics: counter! with 1 label known at run time",
        |number| metrics::counter!("bench", "n" => black_box(labels[number as usize % 2])).increment(1),
        || (),
    );
    Ok(())
}

fn sentry_line() {
    let mut options = sentry_core::ClientOptions::default();
    options.dsn = "http://key@127.0.0.1:9/1".parse().ok();
    options.transport =
        Some(Arc::new(|_: &sentry_core::ClientOptions| Arc::new(Envelopes) as Arc<dyn sentry_core::Transport>));
    let client = Arc::new(sentry_core::Client::from(options));
    sentry_core::Hub::current().bind_client(Some(Arc::clone(&client)));
    peer(
        "sentry: logger_info! with 3 attributes",
        |number| {
            sentry_core::logger_info!(n = i64::from(number), ratio = black_box(0.5), ok = black_box(true), "bench");
        },
        || {
            client.flush(Some(Duration::from_secs(10)));
        },
    );
}

fn posthog_line(server: &str) -> Result<(), Box<dyn std::error::Error>> {
    let options = posthog_rs::ClientOptionsBuilder::default()
        .api_key("phc_bench".to_owned())
        .host(server.to_owned())
        .max_batch_size(usize::try_from(BURST)?)
        .flush_at(usize::try_from(BURST)?)
        .build()?;
    let client = posthog_rs::client(options);
    peer(
        "posthog-rs: capture with 3 properties",
        |number| {
            let mut event = posthog_rs::Event::new("bench", "u-7");
            let filled = event
                .insert_prop("n", number)
                .and_then(|()| event.insert_prop("ratio", black_box(0.5)))
                .and_then(|()| event.insert_prop("ok", black_box(true)));
            assert!(filled.is_ok());
            client.capture(event);
        },
        || client.flush(),
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = start_server()?;
    println!("{:<64} {:>9} {:>9} {:>9}", "ns per call", "p50", "p99", "p99.9");
    gemba_line(&server)?;
    ticklog_line()?;
    metrics_line()?;
    sentry_line();
    posthog_line(&server)
}
