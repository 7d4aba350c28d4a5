//! The processes that the claims start: each records something, and ends in its own way.

use super::support::server::print_figures;
use super::{EVENTS, SCENARIO};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

gemba::funnel! {
    enum Signup = "signup" { Form = "form", Mail = "mail" (was = "email") }
}

/// How the process of this scenario is set up.
fn config_of(scenario: &str) -> gemba::Config {
    let patience = if matches!(scenario, "away" | "silent") { 300 } else { 10_000 };
    let mut config = gemba::Config::new("delivery-test")
        .release("1.2.3")
        .send_interval(Duration::from_millis(20))
        .shutdown_timeout(Duration::from_millis(patience));
    match scenario {
        "slow" => config = config.request_timeout(Duration::from_secs(1)),
        "full" => config = config.max_queue_bytes(32 * 1024),
        "hook_exits" => {
            config = config.max_queue_bytes(32 * 1024).on_error(|_| std::process::exit(HOOK_EXIT));
        }
        "hook" => config = config.on_error(misbehave),
        "chatty" => {
            log::set_logger(&RecordsLines).unwrap();
            log::set_max_level(log::LevelFilter::Trace);
        }
        _ => {}
    }
    config
}

/// The process the other tests start; by itself it has no scenario and ends at once.
#[test]
fn child() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    let guard = config_of(&scenario).start().unwrap();
    if scenario != "disabled" {
        assert!(matches!(gemba::init!("again"), Err(gemba::InitError::AlreadyStarted)));
    }
    match scenario.as_str() {
        "flood" => println!("figure:line={}", flood()),
        "large" => println!("figure:line={}", record_large_ones()),
        "exit" => {
            record_all();
            std::mem::forget(guard);
            // The guard never drops: the figures are the server's to tell.
            std::process::exit(0);
        }
        "fork" => fork_and_record(),
        "panic" => {
            let thread = std::thread::spawn(|| {
                gemba::attempt!("panic.work").run(|| assert!(std::hint::black_box(false), "on purpose"));
            });
            assert!(thread.join().is_err());
            record_all();
        }
        "ignored" => {
            for _ in 0..100 {
                let _ = gemba::attempt!("ignored.guard");
            }
            let held = gemba::attempt!("held.guard");
            gemba::feature!("inside.held");
            drop(held);
            // A form that lets one pass and refuses the others at once.
            let submit = |age: &str| {
                let attempt = gemba::attempt!("form.submit");
                let age: u8 = age.parse()?;
                attempt.complete();
                Ok::<u8, std::num::ParseIntError>(age)
            };
            assert!(submit("33").is_ok());
            assert!((0..50).all(|_| submit("thirty").is_err()));
        }
        "refused" | "hook" => {
            record_all();
            guard.flush(Duration::from_secs(10)).unwrap();
            record_all();
        }
        "short" => {
            for number in 0..500_u32 {
                std::thread::spawn(move || gemba::feature!("short.lived", number = number)).join().unwrap();
            }
        }
        "full" | "hook_exits" => fill_the_queue(&guard),
        "undeclared" => ask_until_declared_again(&guard),
        "few" => {
            for number in 0..5 {
                gemba::feature!("delivery.few", number = number);
            }
        }
        "current" => {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let tasks: Vec<_> = (0..EVENTS)
                    .map(|number| tokio::spawn(async move { gemba::feature!("delivery.used", number = number) }))
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
                // Blocks the only thread of the runtime, whose tasks the delivery must not need.
                drop(guard);
            });
            print_figures();
            return;
        }
        "dies" => {
            let _open = gemba::attempt!("dies.open");
            gemba::attempt!("dies.done").complete();
            guard.flush(Duration::from_secs(10)).unwrap();
            std::process::abort();
        }
        "stopping" => stop_in_the_middle(),
        _ => record_all(),
    }
    drop(guard);
    gemba::feature!("after.stop");
    print_figures();
    println!("figure:hooked={} figure:lines={}", HOOKED.load(Ordering::Relaxed), LINES.load(Ordering::Relaxed));
}

/// What a process ends with that is ended by its hook.
pub(crate) const HOOK_EXIT: i32 = 7;

/// Faster than the drain; the line it records on.
fn flood() -> u32 {
    let line = line!() + 2;
    for number in 0..200_000_u32 {
        gemba::feature!("flood.used", number = number);
    }
    line
}

/// One record that a ring takes and two that are more than half of its 64 KiB; the line it records on.
fn record_large_ones() -> u32 {
    let line = line!() + 2;
    for length in [30_000, 40_000, 50_000] {
        gemba::feature!("large.used", note = "x".repeat(length));
    }
    line
}

/// Calls of [`misbehave`].
static HOOKED: AtomicU64 = AtomicU64::new(0);
/// Lines that [`RecordsLines`] was given.
static LINES: AtomicU64 = AtomicU64::new(0);

/// A hook that does everything a hook must not.
fn misbehave(_: gemba::Problem) {
    HOOKED.fetch_add(1, Ordering::Relaxed);
    gemba::feature!("hook.used");
    gemba::attempt!("hook.tried").complete();
    assert_eq!(gemba::flush(Duration::from_mins(1)), Err(gemba::FlushError::Timeout), "it waits for itself");
    panic!("on purpose");
}

/// A host that records each line of its log, those of the SDK's own HTTP client among them.
struct RecordsLines;

impl log::Log for RecordsLines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        LINES.fetch_add(1, Ordering::Relaxed);
        gemba::feature!("log.line");
    }

    fn flush(&self) {}
}

fn ask_until_declared_again(guard: &gemba::Guard) {
    gemba::query::Database::new(gemba::query::Dialect::Sqlite)
        .run_text("SELECT 1 FROM refused", || Ok::<_, ()>(1))
        .unwrap();
    record_all();
    // What was refused is told again after 5 s.
    let until = std::time::Instant::now() + Duration::from_secs(8);
    while std::time::Instant::now() < until {
        guard.flush(Duration::from_secs(5)).unwrap();
        gemba::query::Database::new(gemba::query::Dialect::Sqlite)
            .run_text("SELECT 1 FROM refused", || Ok::<_, ()>(1))
            .unwrap();
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn fill_the_queue(guard: &gemba::Guard) {
    // One batch is on its way until the server has answered, one waits; each that comes meanwhile finds no room.
    for _ in 0..5 {
        record_all();
        let waited = guard.flush(Duration::from_millis(50));
        assert_eq!(waited, Err(gemba::FlushError::Timeout), "the server has not answered yet");
    }
    // With room again, for the report.
    guard.flush(Duration::from_secs(10)).unwrap();
}

/// What is cut off after the process has said that it stops.
fn stop_in_the_middle() {
    let mut future = Box::pin(gemba::attempt!("stopping.future").run_async(std::future::pending::<()>()));
    let polled = future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(polled.is_pending());
    let bare = gemba::attempt!("stopping.bare");
    let finished = gemba::attempt!("stopping.finished");
    gemba::shutting_down();
    drop(future);
    drop(bare);
    finished.complete();
}

fn record_all() {
    gemba::scope().user("u-7").session("secret").tenant("acme").run(|| {
        for number in 0..EVENTS {
            gemba::feature!(
                "delivery.used",
                was = "delivery.use",
                number = number,
                big = u64::MAX,
                name = "ä",
                ok = true,
                ratio = 0.5
            );
        }
        let _ = gemba::attempt!("delivery.tried").run(|| Err::<(), _>(std::fmt::Error));
        gemba::step!(Signup::Mail, plan = "pro");
    });
}

/// Records in the parent and in a forked child, which inherits everything and must send nothing of it.
fn fork_and_record() {
    record_all();
    #[expect(unsafe_code, reason = "the claim is about fork")]
    // SAFETY: the children only record (which does nothing there), drop nothing and leave by the C library's ways.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0);
        if pid == 0 {
            gemba::feature!("fork.child");
            assert_eq!(gemba::flush(Duration::from_secs(1)), Err(gemba::FlushError::Closed));
            libc::_exit(0);
        }
        // The second leaves as a program does, through what is registered for the exit.
        let leaving = libc::fork();
        assert!(leaving >= 0);
        if leaving == 0 {
            gemba::feature!("fork.leaving");
            libc::exit(0);
        }
        for pid in [pid, leaving] {
            let mut status = 0;
            assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
            assert_eq!(status, 0);
        }
    }
}
