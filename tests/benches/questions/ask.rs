//! The questions, each asked several times.

use super::generate::{DAYS, START_MS};
use super::process::Looked;
use gemba_ingest::store::select::Limits;
use gemba_ingest::store::{Client, funnel, people};
use gemba_queries::funnel::{Funnel, FunnelRequest};
use gemba_queries::{Catalog, Engine, Population, ServerParams, population};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

const DAY_MS: i64 = 86_400_000;
pub(crate) const WINDOW_MS: i64 = 7 * DAY_MS;
/// Behind all events.
const NOW_MS: i64 = START_MS + (DAYS as i64 + 30) * DAY_MS;
pub(crate) const STEPS: [&str; 4] = ["checkout.cart", "checkout.address", "checkout.payment", "checkout.done"];

/// What the question with a person of a million events is called.
const HEAVY: &str = "4 steps, one person of 1 M events more";

/// Begin and end of the run of this number.
pub(crate) fn range(run: usize) -> (i64, i64) {
    let shift = run as i64 * 7_000_003;
    (START_MS + shift, START_MS + (DAYS as i64 - 7) * DAY_MS + shift)
}

pub(crate) fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap().to_string()
}

/// A funnel over the range of a run.
pub(crate) fn funnel_of(question: &Value, run: usize) -> Funnel {
    let mut json = question.clone();
    let (from, to) = range(run);
    json["from"] = time(from).into();
    json["to"] = time(to).into();
    FunnelRequest::parse(json).unwrap().validate(NOW_MS, NOW_MS).unwrap()
}

/// The funnels that are asked, by name.
pub(crate) fn funnels() -> Vec<(&'static str, Value)> {
    let step = |name: &str| json!({ "event": name });
    let steps: Vec<Value> = STEPS.iter().map(|name| step(name)).collect();
    let twelve: Vec<Value> = STEPS.iter().cycle().take(12).map(|name| step(name)).collect();
    vec![
        ("4 steps", json!({"steps": steps, "window_ms": WINDOW_MS})),
        ("4 steps, by country", json!({"steps": steps, "window_ms": WINDOW_MS, "breakdown": "country"})),
        ("12 steps over the same events", json!({"steps": twelve, "window_ms": WINDOW_MS})),
        ("strict: all events are read", json!({"steps": steps, "window_ms": WINDOW_MS, "order": "strict"})),
        ("a step of any event", json!({"steps": [step(STEPS[0]), {}, step(STEPS[3])], "window_ms": WINDOW_MS})),
    ]
}

/// What one question took: wall seconds, CPU seconds of this process and of the engine, peak bytes of both.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    own: f64,
    engine: f64,
    peak: u64,
}

/// Looks at this process and the engine while a question is answered.
struct Watch<'a> {
    engine: Looked,
    own: Looked,
    /// Questions whose name holds this are asked.
    only: &'a str,
}

impl<'a> Watch<'a> {
    fn new(only: &'a str) -> Self {
        Self { own: Looked::own(), engine: Looked::own().child(), only }
    }

    async fn cost(&self, question: impl Future<Output = ()>) -> Cost {
        let both = [self.own, self.engine];
        for process in &both {
            process.forget_peak();
        }
        let cpu = || both.map(Looked::cpu);
        let (before, started) = (cpu(), Instant::now());
        question.await;
        let wall = started.elapsed().as_secs_f64();
        let [own, engine] = cpu();
        let peak = both.iter().map(|process| process.peak()).sum();
        Cost { wall, own: own - before[0], engine: engine - before[1], peak }
    }
}

/// Prints the median by wall time of several runs; the first warms the engine and does not count.
async fn report(watch: &Watch<'_>, name: &str, runs: usize, ask: impl AsyncFn(usize)) {
    if !name.contains(watch.only) {
        return;
    }
    let mut costs = Vec::new();
    for run in 0..=runs {
        let cost = watch.cost(ask(run)).await;
        if run > 0 {
            costs.push(cost);
        }
    }
    costs.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    let Cost { wall, own, engine, peak } = costs[costs.len() / 2];
    println!(
        "{name:<48} {wall:>7.3} s  {own:>6.2} + {engine:>6.2} s CPU  {:>6} MiB  ({:.3} to {:.3} s)",
        peak >> 20,
        costs[0].wall,
        costs[costs.len() - 1].wall
    );
}

/// Asks everything whose name holds `only`.
pub(crate) async fn all(client: &Client, runs: usize, only: &str) {
    let watch = Watch::new(only);
    for (name, question) in funnels() {
        report(&watch, name, runs, |run| ask(client, funnel_of(&question, run))).await;
        if name == "4 steps" && name.contains(only) {
            peers(client, &watch, runs).await;
        }
    }
    if HEAVY.contains(only) {
        one_heavy_person(client, &watch, runs).await;
    }
    saved(client, &watch, runs).await;
}

async fn ask(client: &Client, funnel: Funnel) {
    let answer = funnel::answer(client, &funnel, 1, Limits::default()).await.unwrap();
    assert!(answer.steps.iter().all(|step| step.count > 0), "every step is reached: {:?}", answer.steps);
}

/// ClickHouse's own function over the rows of the four steps.
async fn peers(client: &Client, watch: &Watch<'_>, runs: usize) {
    let names = STEPS.map(|name| format!("'{name}'")).join(", ");
    let rows = |run: usize| {
        let (from, to) = range(run);
        format!(
            "FROM events WHERE project = 1 AND name IN ({names}) AND time >= fromUnixTimestamp64Milli({from}, 'UTC') \
             AND time < fromUnixTimestamp64Milli({}, 'UTC')",
            to + WINDOW_MS
        )
    };
    println!("  rows: {}", client.number(&format!("SELECT count() {}", rows(1))).await.unwrap());
    let heavy = "(SELECT unit FROM events WHERE project = 1 GROUP BY unit HAVING count() > 1000)";
    client.execute("CREATE OR REPLACE TABLE heavy (unit UInt64) ENGINE = MergeTree ORDER BY unit").await.unwrap();
    client.execute(&format!("INSERT INTO heavy SELECT unit FROM {heavy}")).await.unwrap();
    let conditions = STEPS.map(|name| format!("name = '{name}'")).join(", ");
    let modes = [
        ("  windowFunnel", "", ""),
        (
            "  windowFunnel strict_once, people of <= 1,000",
            ", 'strict_once'",
            " AND unit NOT IN (SELECT unit FROM heavy)",
        ),
    ];
    for (name, mode, light) in modes {
        report(watch, name, runs, async |run| {
            let sql = format!(
                "SELECT count() FROM (SELECT level, count() FROM (SELECT unit, \
                 windowFunnel({WINDOW_MS}{mode})(toUInt64(toUnixTimestamp64Milli(time)), {conditions}) AS level {}{light} \
                 GROUP BY unit) GROUP BY level)",
                rows(run)
            );
            assert!(client.number(&sql).await.unwrap() > 0);
        })
        .await;
    }
    client.execute("DROP TABLE heavy").await.unwrap();
}

/// The four steps with one person more, of a million events.
async fn one_heavy_person(client: &Client, watch: &Watch<'_>, runs: usize) {
    let names = STEPS.map(|name| format!("'{name}'")).join(", ");
    client
        .execute(&format!(
            "INSERT INTO events (project, retention_class, name, kind, day, unit, time, received, record) \
             SELECT 1, 9, [{names}][number % 3 + 1], 'step', toDate(at), 12345, at, '2026-03-30 00:00:00', 1 \
             FROM (SELECT number, fromUnixTimestamp64Milli({START_MS} + toInt64(number) * 5000, 'UTC') AS at \
             FROM numbers(1000000))"
        ))
        .await
        .unwrap();
    let four = funnels().swap_remove(0).1;
    report(watch, HEAVY, runs, |run| ask(client, funnel_of(&four, run))).await;
    client.execute("ALTER TABLE events DROP PARTITION (9, '2026-03-30')").await.unwrap();
}

/// Saved queries over 30 days and people's comings and goings over 56, within the memory a question has.
async fn saved(client: &Client, watch: &Watch<'_>, runs: usize) {
    let catalog = Catalog::builtin().unwrap();
    /// What the line is called, the saved query, its parameters, days.
    type Asked = (&'static str, &'static str, &'static [(&'static str, &'static str)], i64);
    const ONE_RELEASE: &str = r#"{"service.version": "1.6", "deployment.environment.name": "production"}"#;
    const ONE_FEATURE: &str = r#"[{"event": "feature.n2", "measure": "users"}]"#;
    let questions: [Asked; 16] = [
        ("trend of one feature, one release", "usage_over_time", &[("name", "feature.n2"), ("release", "1.6")], 30),
        ("trend of all", "usage_over_time", &[], 30),
        ("use of features, release and environment", "feature_usage", &[("where", ONE_RELEASE)], 30),
        ("use of features", "feature_usage", &[], 30),
        ("completion, release and environment", "feature_completion", &[("where", ONE_RELEASE)], 30),
        ("completion", "feature_completion", &[], 30),
        ("outcomes with reasons", "feature_outcomes", &[], 30),
        ("people a day, one feature", "trends", &[("series", ONE_FEATURE)], 30),
        ("people a day, release and environment", "active_users", &[("where", ONE_RELEASE)], 30),
        ("people a day", "active_users", &[], 30),
        ("stickiness", "stickiness", &[], 30),
        ("lifecycle", "lifecycle", &[], 56),
        ("weekly retention 8 x 8", "retention", &[], 56),
        ("paths after a feature", "paths", &[("event", "feature.n5")], 30),
        ("before the first use of a feature", "before_first", &[("event", "feature.n50")], 30),
        ("what is hard to use", "usability_targets", &[], 30),
    ];
    for (name, query, given, days) in questions {
        let query = catalog.get(query).unwrap();
        report(watch, name, runs, async |run| {
            let to = START_MS + 58 * DAY_MS + run as i64 * 7_000_003;
            let mut values: BTreeMap<String, String> =
                given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            values.insert("from".to_owned(), time(to - days * DAY_MS));
            values.insert("to".to_owned(), time(to));
            values.insert("tz".to_owned(), "Asia/Kathmandu".to_owned());
            let only = values.remove("where").map(|json| population::conditions("where", &json).unwrap());
            let server = ServerParams { project: 1, now_ms: to, pending_records: 0, booked_records: 0 };
            let bound = query.bind(&values, &server).unwrap();
            let population = Population::default().narrowed(only.unwrap_or_default());
            let found = if query.engine == Engine::ClickHouse {
                people::ask(client, &bound, &population, Limits::default()).await.unwrap()
            } else {
                funnel::saved(client, query.engine, &bound, 1, (to, to), Limits::default(), &population).await.unwrap()
            };
            assert!(!found.rows.is_empty(), "{name} has an answer");
        })
        .await;
    }
}
