//! What does one delivered event cost the whole process: recording, encoding, compressing, sending?
//!
//! Run: `cargo bench -p gemba --bench delivery`. Each way runs in a process of its own, so that all of its CPU is the way's; the
//! server runs in this one, unpacks every request and counts the log records in it, which must be as many as were recorded. Ours
//! records three attributes inside a scope with user, session and tenant, so that seven more go with them; the peer, opentelemetry logs
//! with opentelemetry-otlp (HTTP, protobuf, gzip; blocking requests by the same HTTP client as ours), records the three.
//! Batches are of about the same size. CPU is the kernel's account of the process and of each thread.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic, reason = "a program that prints its measurements")]

mod support;

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Compression, LogExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::logs::{BatchConfigBuilder, BatchLogProcessor, SdkLoggerProvider};
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

type Failure = Box<dyn std::error::Error>;

/// Events of each way.
const EVENTS: u32 = 2_000_000;
/// Events recorded before everything is flushed, in both ways: about a batch.
const FLUSHED: u32 = 2_000;
/// Room for that many in one ring, so that the recording thread never has to wait: waiting costs CPU too, and none of ours.
const RING_BYTES: usize = 512 << 10;

/// Nanoseconds of CPU the process has spent, all threads, ended ones too.
fn cpu_ns() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec.unsigned_abs() * 1_000_000_000 + spent.tv_nsec.unsigned_abs()
}

/// Nanoseconds of CPU of the thread of this name (`/proc`, first number of `schedstat`).
fn thread_ns(name: &str) -> Result<u64, Failure> {
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if std::fs::read_to_string(task.join("comm"))?.trim() == name {
            let spent = std::fs::read_to_string(task.join("schedstat"))?;
            return Ok(spent.split(' ').next().unwrap_or_default().parse()?);
        }
    }
    Err(format!("no thread {name}").into())
}

/// Prints one way's figures for the parent: all CPU, and that of recording, draining and encoding where it is known.
fn tell(total_ns: u64, before_sending_ns: Option<u64>) {
    let an_event = |ns: u64| ns as f64 / f64::from(EVENTS);
    println!("{:.1} {:.1}", an_event(total_ns), before_sending_ns.map_or(f64::NAN, an_event));
}

fn ours(server: &str, compression: gemba::Compression) -> Result<(), Failure> {
    let config = gemba::Config::new("bench").without_environment().endpoint(server).compression(compression);
    let guard = config.ring_bytes(RING_BYTES).start()?;
    let (begin, sent) = (cpu_ns(), thread_ns("gemba-send")?);
    gemba::scope().user("u-7").session("s-1").tenant("acme").run(|| {
        for number in 0..EVENTS {
            gemba::feature!("bench.cpu", n = i64::from(number), ratio = black_box(0.5), ok = black_box(true));
            if number % FLUSHED == FLUSHED - 1 {
                assert_eq!(gemba::flush(Duration::from_secs(10)), Ok(()), "the server answers");
            }
        }
    });
    assert_eq!(gemba::flush(Duration::from_secs(10)), Ok(()), "the server answers");
    let (total, sending) = (cpu_ns() - begin, thread_ns("gemba-send")? - sent);
    drop(guard);
    let stats = gemba::stats();
    assert_eq!((stats.dropped_total(), stats.delivered), (0, stats.recorded), "{stats:?}");
    tell(total, Some(total - sending));
    Ok(())
}

/// Sends with the HTTP client that the SDK uses, and waits for the answer.
#[derive(Debug)]
struct Blocking(ureq::Agent);

impl HttpClient for Blocking {
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        let (parts, body) = request.into_parts();
        let answer = self.0.run(Request::from_parts(parts, &body[..])).map_err(HttpError::from).and_then(|answer| {
            let (parts, mut body) = answer.into_parts();
            Ok(Response::from_parts(parts, Bytes::from(body.read_to_vec()?)))
        });
        Box::pin(std::future::ready(answer))
    }
}

fn opentelemetry(server: &str) -> Result<(), Failure> {
    let exporter = LogExporter::builder()
        .with_http()
        .with_http_client(Blocking(ureq::Agent::new_with_defaults()))
        .with_endpoint(format!("{server}/v1/logs"))
        .with_compression(Compression::Gzip)
        .build()?;
    // As many as fit into our batches of 512 KiB, and a queue that holds what is recorded between two flushes.
    let sizes = BatchConfigBuilder::default().with_max_queue_size(16_384).with_max_export_batch_size(2_048).build();
    let processor = BatchLogProcessor::builder(exporter).with_batch_config(sizes).build();
    let provider = SdkLoggerProvider::builder().with_log_processor(processor).build();
    let logger = provider.logger("bench");
    let begin = cpu_ns();
    for number in 0..EVENTS {
        let mut record = logger.create_log_record();
        record.set_event_name("bench");
        record.add_attribute("n", i64::from(number));
        record.add_attribute("ratio", AnyValue::Double(black_box(0.5)));
        record.add_attribute("ok", black_box(true));
        logger.emit(record);
        if number % FLUSHED == FLUSHED - 1 {
            provider.force_flush()?;
        }
    }
    provider.force_flush()?;
    tell(cpu_ns() - begin, None);
    Ok(())
}

/// Runs this program again for one way, and checks that everything arrived.
fn measure(what: &str, way: &str, own: bool) -> Result<(), Failure> {
    let (server, arrived) = support::start_sink()?;
    let output = Command::new(std::env::current_exe()?).args([way, &server]).output()?;
    let (figures, complaint) =
        (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{what}: {figures}{complaint}");
    let (total, before) = figures.trim().split_once(' ').ok_or("no figures")?;
    let records = arrived.records.load(Ordering::Relaxed);
    // Ours also declares the catalogue and says goodbye.
    let others = records - u64::from(EVENTS);
    assert!(if own { others < 100 } else { others == 0 }, "{what}: {records} records arrived");
    let bytes = arrived.bytes.load(Ordering::Relaxed) as f64 / f64::from(EVENTS);
    let batch = records / arrived.requests.load(Ordering::Relaxed);
    println!("{what:<58} {total:>9} {before:>14} {bytes:>9.1} {batch:>9}");
    Ok(())
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["zstd", server] => return ours(server, gemba::Compression::Zstd),
        ["gzip", server] => return ours(server, gemba::Compression::Gzip),
        ["opentelemetry", server] => return opentelemetry(server),
        _ => {}
    }
    println!("{EVENTS} events each, all arrived; ns of CPU and bytes per event");
    println!("{:<58} {:>9} {:>14} {:>9} {:>9}", "", "whole", "until encoded", "bytes", "a batch");
    measure("gemba, zstd level 1", "zstd", true)?;
    measure("gemba, gzip level 1", "gzip", true)?;
    measure("opentelemetry logs + opentelemetry-otlp, gzip", "opentelemetry", false)
}
