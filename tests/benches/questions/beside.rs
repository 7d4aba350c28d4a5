//! Five questions at once, round after round, while data comes in.
//!
//! `gemba serve` works on the engine that holds the events, under its one budget of memory, and takes 50,000 other events a second into a
//! project of their own. First each question is asked alone, then data comes alone, then both at once: what a question takes then,
//! waiting for its turn included, stands beside what it takes alone, and an acknowledgement beside one when nobody asks.

use super::ask::{WINDOW_MS, range, time};
use super::drive::{self, Load};
use super::generate::{DAYS, START_MS};
use super::process::{Looked, quantile_ms};
use gemba_ingest::engine::Supervisor;
use gemba_tests::server::{Keys, Process};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const EVENTS_PER_SECOND: f64 = 50_000.0;
const PROJECT: &str = "live";
/// Length of the time in which data comes alone, and of that in which both go on.
const ALONE: Duration = Duration::from_secs(20);
const BOTH: Duration = Duration::from_secs(90);
/// How often a question is asked alone; the first time does not count.
const RUNS: usize = 4;

/// A question of the five: its name, and how it is asked in the run of a number.
type Question = (&'static str, fn(usize) -> Asked);

/// What is sent.
enum Asked {
    Funnel(Value),
    Saved { name: &'static str, days: i64 },
}

const FIVE: [Question; 5] = [
    ("4 steps", |run| Asked::Funnel(funnel(run, &json!({})))),
    ("4 steps, by country", |run| Asked::Funnel(funnel(run, &json!({ "breakdown": "country" })))),
    ("people a day", |_| Asked::Saved { name: "active_users", days: 30 }),
    ("completion", |_| Asked::Saved { name: "feature_completion", days: 30 }),
    ("weekly retention 8 x 8", |_| Asked::Saved { name: "retention", days: 56 }),
];

fn funnel(run: usize, more: &Value) -> Value {
    let (from, to) = range(run);
    let steps: Vec<Value> = super::ask::STEPS.iter().map(|name| json!({ "event": name })).collect();
    let mut asked = json!({ "steps": steps, "window_ms": WINDOW_MS, "from": time(from), "to": time(to) });
    asked.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    asked
}

/// The server that is asked.
struct Server {
    url: String,
    keys: Keys,
    agent: ureq::Agent,
}

impl Server {
    fn of(process: &Process, folder: &Path) -> Self {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Self { url: process.url.clone(), keys: Keys::of(folder), agent }
    }

    /// How long the answer took.
    fn ask(&self, asked: &Asked, run: usize) -> Duration {
        let key = format!("Bearer {}", self.keys.read);
        let started = Instant::now();
        let answer = match asked {
            Asked::Funnel(body) => {
                let url = format!("{}/api/v1/funnel", self.url);
                self.agent.post(url).header("authorization", key).send(body.to_string())
            }
            Asked::Saved { name, days } => {
                let to = START_MS + (DAYS.cast_signed() - 2) * 86_400_000 + run as i64 * 7_000_003;
                let (from, to) = (time(to - days * 86_400_000), time(to));
                let url = format!("{}/api/v1/queries/{name}?from={from}&to={to}&tz=Asia/Kathmandu", self.url);
                self.agent.get(url).header("authorization", key).call()
            }
        };
        let mut answer = answer.unwrap();
        let text = answer.body_mut().with_config().limit(1 << 30).read_to_string().unwrap();
        let took = started.elapsed();
        assert_eq!(answer.status().as_u16(), 200, "{text}");
        took
    }

    fn admin(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}/api/v1/{path}", self.url))
            .header("authorization", format!("Bearer {}", self.keys.admin));
        let mut answer = self.agent.run(request.body(body.to_owned()).unwrap()).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or_default())
    }
}

/// Asks and prints. `folder` is where the server keeps its log and its keys.
pub(crate) fn measure(engine: &Supervisor, folder: &Path) {
    // As long as it is the only child.
    let looked = Looked::own().child();
    let (url, user, password) = (engine.url(), engine.user().to_owned(), engine.password().to_owned());
    let store = ["--clickhouse", &url, "--clickhouse-user", &user, "--clickhouse-password", &password];
    let mut process = Process::start(folder, &[&["--no-own-use"], &store[..]].concat());
    let server = Server::of(&process, folder);
    // What an earlier run left that was broken off.
    server.admin("DELETE", "projects/live", "");
    let (status, made) = server.admin("POST", "projects", &json!({ "name": PROJECT }).to_string());
    assert_eq!(status, 201, "{made}");
    let load = Load {
        url: process.url.clone(),
        key: made["ingest_key"].as_str().unwrap().to_owned(),
        connections: 8,
        time: ALONE,
        rate: Some(EVENTS_PER_SECOND),
        gzip_percent: 30,
        traced_percent: 25,
    };

    let alone: Vec<f64> = FIVE.iter().map(|question| alone(&server, question)).collect();
    let idle = drive::send(&load);
    looked.forget_peak();
    let (beside, times) = together(&server, &Load { time: BOTH, ..load.clone() });

    println!(
        "five questions at once beside {EVENTS_PER_SECOND} events/s, seconds: alone, then median and most of several, ratio"
    );
    for (((name, _), alone), mut times) in FIVE.iter().zip(&alone).zip(times) {
        let count = times.len();
        let [median, most] = [0.5, 1.0].map(|share| quantile_ms(&mut times, share) / 1e3);
        println!("{name:<48} {alone:>7.3} s  {median:>7.3} s  {most:>7.3} s of {count:>3}  {:>5.1}", median / alone);
    }
    for (name, sent) in [("alone", &idle), ("beside questions", &beside)] {
        let mut latencies: Vec<Duration> = sent.acks.iter().map(|ack| ack.latency).collect();
        let [p50, p99] = [0.5, 0.99].map(|share| quantile_ms(&mut latencies, share));
        println!(
            "acknowledged, {name:<34} {:>9.0} events/s  p50 {p50:.1} ms  p99 {p99:.1} ms  {} refused",
            sent.rate(),
            sent.refused
        );
    }
    println!("peak memory of the engine {} MiB", looked.peak() >> 20);

    drive::flush(&load);
    let (status, removed) = server.admin("DELETE", "projects/live", "");
    assert_eq!(status, 200, "{removed}");
    process.signal("TERM");
    assert!(process.wait(Duration::from_mins(1)).success());
}

/// Median of several, seconds.
fn alone(server: &Server, (_, asked): &Question) -> f64 {
    server.ask(&asked(0), 0);
    let mut times: Vec<Duration> = (1..RUNS).map(|run| server.ask(&asked(run), run)).collect();
    quantile_ms(&mut times, 0.5) / 1e3
}

/// What became of the load, and the times of each question: all five at once, and again when all are answered, each time another one
/// first.
fn together(server: &Server, load: &Load) -> (drive::Sent, Vec<Vec<Duration>>) {
    let mut times = vec![Vec::new(); FIVE.len()];
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| drive::send(load));
        let mut round = 0;
        while !sending.is_finished() {
            let asked = (0..FIVE.len()).map(|place| {
                let which = (round + place) % FIVE.len();
                // Ranges nobody has asked about.
                let run = RUNS + round * FIVE.len() + which;
                (which, scope.spawn(move || server.ask(&FIVE[which].1(run), run)))
            });
            let took: Vec<_> =
                asked.collect::<Vec<_>>().into_iter().map(|(which, asked)| (which, asked.join().unwrap())).collect();
            // A round that data came beside to its end.
            if !sending.is_finished() {
                for (which, took) in took {
                    times[which].push(took);
                }
            }
            round += 1;
        }
        (sending.join().unwrap(), times)
    })
}
