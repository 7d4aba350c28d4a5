//! Alerts reach a receiver when something is wrong and when it no longer is, from one node of two, also while ClickHouse is away; and
//! data are refused while the disk of the log fails.

use crate::durability_outage::{Between, Trouble};
use crate::pair::Pair;
use gemba_ingest::alerts::AlertConfig;
use gemba_ingest::config::{ClickHouseTarget, ServeConfig};
use gemba_ingest::serve::{self, Running};
use gemba_tests::client::{bare, post, send};
use gemba_tests::engine;
use gemba_tests::export::{event, events, logs, now_ns};
use gemba_tests::server::{Keys, Server, config as server_config};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything that must happen by itself may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// Where a receiver sends those on whom it redirects.
const ELSEWHERE: &str = "/elsewhere";
/// Tells the books of something that was stored half an hour ago.
const HALF_AN_HOUR_AGO: &str = "INSERT INTO ledger (project, log, cut, fate, signal, reason, records, received) \
    VALUES (1, 9, 1, 'received', 'logs', '', 5, now64(3) - INTERVAL 30 MINUTE)";
/// How it answers what it does not take, one after the other.
const REFUSALS: [u16; 4] = [503, 302, 303, 307];

/// A receiver of alerts: keeps what it was told, with the path it was told under.
struct Receiver {
    url: String,
    told: Arc<Mutex<Vec<(String, Value)>>>,
    /// Deliveries it answers with an error before it takes one.
    refuses: Arc<AtomicUsize>,
}

impl Receiver {
    async fn start(refuses: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (told, refuses) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(refuses)));
        let receiver = Self { url, told: Arc::clone(&told), refuses: Arc::clone(&refuses) };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (told, refuses) = (Arc::clone(&told), Arc::clone(&refuses));
                let answer = service_fn(move |request: Request<Incoming>| {
                    let (told, refuses) = (Arc::clone(&told), Arc::clone(&refuses));
                    async move { Ok::<_, hyper::Error>(take(request, &told, &refuses).await) }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        receiver
    }

    /// What was told of an alert, in order.
    fn of(&self, name: &str) -> Vec<(String, Value)> {
        let told = self.told.lock().unwrap();
        told.iter().filter(|(_, alert)| alert["labels"]["alertname"] == name).cloned().collect()
    }

    /// Waits until something was told of an alert.
    async fn until(&self, name: &str, what: &str, is_met: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            if let Some((_, alert)) = self.of(name).into_iter().find(|(_, alert)| is_met(alert)) {
                return alert;
            }
            assert!(started.elapsed() < PATIENCE, "{name} {what}: {:?}", self.of(name));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn take(
    request: Request<Incoming>,
    told: &Mutex<Vec<(String, Value)>>,
    refuses: &AtomicUsize,
) -> Response<Full<bytes::Bytes>> {
    if request.uri().path() == ELSEWHERE {
        told.lock().unwrap().push((ELSEWHERE.to_owned(), Value::Null));
        return Response::default();
    }
    assert_eq!(
        (request.method().as_str(), &request.headers()["content-type"]),
        ("POST", &"application/json".parse().unwrap())
    );
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut answer = Response::new(Full::default());
    if let Ok(left) = refuses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
        *answer.status_mut() = StatusCode::from_u16(REFUSALS[left % REFUSALS.len()]).unwrap();
        answer.headers_mut().insert("location", ELSEWHERE.parse().unwrap());
        return answer;
    }
    let mut alerts: Vec<Value> = serde_json::from_slice(&body).unwrap();
    for alert in &mut alerts {
        alert["lasts"] = (instant(alert, "endsAt") > Timestamp::now()).into();
    }
    told.lock().unwrap().extend(alerts.into_iter().map(|alert| (path.clone(), alert)));
    answer
}

fn instant(alert: &Value, field: &str) -> Timestamp {
    alert[field].as_str().unwrap().parse().unwrap()
}

/// Whether it was told as something that goes on.
fn lasts(alert: &Value) -> bool {
    alert["lasts"] == true
}

/// Whether this is a line of a node's metrics.
async fn knows(node: &Running, line: &str) -> bool {
    let metrics = send(bare("GET", &format!("{}/metrics", node.url()), None)).await;
    String::from_utf8(metrics.body.to_vec()).unwrap().lines().any(|found| found == line)
}

fn config(url: String) -> AlertConfig {
    let look_every = Duration::from_millis(100);
    AlertConfig { look_every, repeat_after: Duration::from_secs(20), ..AlertConfig::new(url) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_told_what_is_wrong_and_when_it_is_over_also_after_it_refused_and_redirected() {
    let receiver = Receiver::start(REFUSALS.len()).await;
    let server = Server::start_with(|server| {
        server.stale_after = Some(Duration::from_mins(10));
        server.alerts = Some(AlertConfig { disk_low_bytes: u64::MAX, ..config(receiver.url.clone()) });
    })
    .await;
    let low = receiver.until("GembaDiskLow", "begins", lasts).await;
    assert_eq!(receiver.refuses.load(Ordering::SeqCst), 0, "it was refused before it was taken");
    assert!(receiver.told.lock().unwrap().iter().all(|(path, _)| path != ELSEWHERE), "a redirect is no delivery");
    let port = server.running.url().rsplit(':').next().unwrap().to_owned();
    assert!(low["labels"]["instance"].as_str().unwrap().ends_with(&format!(":{port}")), "{low}");
    assert_eq!(low["labels"]["severity"], "warning");
    assert!(low["annotations"]["summary"].as_str().unwrap().contains("MiB"), "{low}");
    assert!(instant(&low, "startsAt") < Timestamp::now(), "{low}");

    // The log's folder cannot be written until it is back.
    let (log, away) = (server.running.data().join("log"), server.running.data().join("log.away"));
    std::fs::rename(&log, &away).unwrap();
    assert_eq!(server.send_logs(events(&["a"], "one")).await.status, 503);
    let refused = receiver.until("GembaDataRefused", "begins", lasts).await;
    assert!(refused["annotations"]["summary"].as_str().unwrap().ends_with("disk_failed"), "{refused}");
    std::fs::rename(&away, &log).unwrap();
    let over = receiver.until("GembaDataRefused", "ends", |alert| !lasts(alert)).await;
    assert_eq!((&over["labels"], &over["startsAt"]), (&refused["labels"], &refused["startsAt"]));

    // Nothing for half an hour, of which twenty minutes are too many.
    let store = &server.running.app().store;
    store.execute(HALF_AN_HOUR_AGO).await.unwrap();
    let stale = receiver.until("GembaDataStale", "begins", lasts).await;
    assert_eq!(stale["labels"]["project"], "default");
    let since = Timestamp::now().duration_since(instant(&stale, "startsAt")).as_secs();
    assert!((20 * 60..25 * 60).contains(&since), "{since} s: {stale}");
    server.send_logs(events(&["a"], "two")).await;
    receiver.until("GembaDataStale", "ends", |alert| !lasts(alert)).await;

    assert!(receiver.of("GembaRecordsSetAside").is_empty());
    let large = event(now_ns(), "large", &[("text", &"y".repeat(2 << 20))]);
    server.send_logs(logs("claims", vec![large])).await;
    let aside = receiver.until("GembaRecordsSetAside", "begins", lasts).await;
    assert_eq!((&aside["labels"]["project"], &aside["labels"]["reason"]), (&"default".into(), &"too_large".into()));
    assert_eq!(aside["labels"]["instance"], low["labels"]["instance"]);
    let metrics = send(bare("GET", &server.url("/metrics"), None)).await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    let failed = metrics.lines().find_map(|line| line.strip_prefix("gemba_alert_deliveries_total{result=\"failed\"} "));
    // One that took too long on a busy machine counts as well.
    assert!(failed.is_some_and(|failed| failed.parse::<usize>().unwrap() >= REFUSALS.len()), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_one_tells_of_the_projects_and_the_other_when_that_one_is_gone() {
    let receiver = Receiver::start(0).await;
    let pair = Pair::start_with(|server| {
        let node = server.data.file_name().unwrap().to_str().unwrap();
        server.stale_after = Some(Duration::from_mins(10));
        let url = format!("{}/{node}", receiver.url);
        server.alerts = Some(AlertConfig { repeat_after: Duration::from_millis(500), ..config(url) });
    })
    .await;
    pair.store().execute(HALF_AN_HOUR_AGO).await.unwrap();
    receiver.until("GembaDataStale", "begins", lasts).await;
    // Both know that it fell silent, and each would have told with its next look.
    let silent = "gemba_stale_projects 1";
    let started = Instant::now();
    while !(knows(&pair.nodes[0], silent).await && knows(&pair.nodes[1], silent).await) {
        assert!(started.elapsed() < PATIENCE, "one node does not see it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = receiver.of("GembaDataStale").len();
    while receiver.of("GembaDataStale").len() < before + 5 {
        assert!(started.elapsed() < PATIENCE, "it is told no more");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = receiver.of("GembaDataStale");
    let sender = told[0].0.clone();
    assert!(told.iter().all(|(path, _)| *path == sender), "{told:?}");

    let gone = usize::from(sender == "/second");
    let pair = pair.stop_one(gone).await;
    let started = Instant::now();
    while !receiver.of("GembaDataStale").iter().any(|(path, _)| *path != sender) {
        assert!(started.elapsed() < PATIENCE, "nobody follows {sender}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pair.stop().await;
}

/// A ClickHouse behind something that makes trouble.
fn behind(between: &Between, password: &str) -> ClickHouseTarget {
    let (url, user) = (between.address.clone(), "default".to_owned());
    ClickHouseTarget { url, user, password: password.to_owned(), database: "default".to_owned(), cluster: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_at_rest_tells_that_clickhouse_is_away_and_what_it_sets_aside_meanwhile_also_after_a_restart() {
    let receiver = Receiver::start(0).await;
    let folder = tempfile::tempdir().unwrap();
    let engine = engine::start(&folder.path().join("engine"));
    let between = Between::start(engine.url().strip_prefix("http://").unwrap()).await;
    let data = folder.path().join("data");
    let start = async |path: &str| {
        let alerts = config(format!("{}{path}", receiver.url));
        let config = ServeConfig {
            clickhouse: Some(behind(&between, engine.password())),
            alerts: Some(AlertConfig { unreachable_after: Duration::from_millis(300), ..alerts }),
            drain_timeout: Duration::from_millis(100),
            ..server_config(&data)
        };
        serve::start(config).await.unwrap()
    };
    let told_at = |at: &str, name: &str| {
        let told = receiver.of(name).into_iter().filter(|(path, _)| path == at);
        told.map(|(_, alert)| alert).collect::<Vec<_>>()
    };
    let first = start("/first").await;
    assert!(knows(&first, "gemba_store_reachable 1").await);
    between.make(Trouble::Away);
    let away = receiver.until("GembaStoreUnreachable", "begins", lasts).await;
    assert!(away["annotations"]["summary"].as_str().unwrap().contains("no answer from ClickHouse for"), "{away}");
    assert!(knows(&first, "gemba_store_reachable 0").await && knows(&first, "gemba_records_pending 0").await);
    let ready = send(bare("GET", &format!("{}/readyz", first.url()), None)).await;
    assert!(ready.status == 200 && ready.json()["store_problem"].is_string(), "{ready:?}");

    let keys = Keys::of(&data);
    let large = logs("claims", vec![event(now_ns(), "large", &[("text", &"y".repeat(2 << 20))])]);
    let request = post(&format!("{}/v1/logs", first.url()), &keys.ingest, "application/x-protobuf", large);
    assert_eq!(send(request).await.status, 200);
    let aside = receiver.until("GembaRecordsSetAside", "begins", lasts).await;
    assert_eq!((&aside["labels"]["project"], &aside["labels"]["reason"]), (&"default".into(), &"too_large".into()));

    // It is not stored yet, so whoever comes next tells of it again.
    assert!(!first.stop().await);
    let second = start("/second").await;
    let started = Instant::now();
    while told_at("/second", "GembaRecordsSetAside").is_empty()
        || told_at("/second", "GembaStoreUnreachable").is_empty()
    {
        assert!(started.elapsed() < PATIENCE, "{:?}", receiver.told.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        told_at("/second", "GembaRecordsSetAside")[0]["annotations"]["summary"].as_str().unwrap().starts_with("1 ")
    );
    between.make(Trouble::None);
    let over = receiver.until("GembaStoreUnreachable", "ends", |alert| !lasts(alert)).await;
    assert!(
        told_at("/second", "GembaStoreUnreachable").contains(&over)
            && told_at("/second", "GembaRecordsSetAside").iter().all(lasts)
    );
    assert!(knows(&second, "gemba_store_reachable 1").await);
    second.stop().await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_clickhouse_is_away_the_node_that_told_of_the_projects_goes_on_and_the_other_does_not_begin() {
    let receiver = Receiver::start(0).await;
    let folder = tempfile::tempdir().unwrap();
    let engine = engine::start(&folder.path().join("engine"));
    let between = Between::start(engine.url().strip_prefix("http://").unwrap()).await;
    let target = behind(&between, engine.password());
    let pair = Pair::start_on(folder, engine, |server| {
        let node = server.data.file_name().unwrap().to_str().unwrap();
        let alerts = config(format!("{}/{node}", receiver.url));
        let (unreachable_after, repeat_after) = (Duration::from_millis(300), Duration::from_millis(500));
        server.stale_after = Some(Duration::from_mins(10));
        server.clickhouse = Some(target.clone());
        server.alerts = Some(AlertConfig { unreachable_after, repeat_after, ..alerts });
    })
    .await;
    pair.store().execute(HALF_AN_HOUR_AGO).await.unwrap();
    receiver.until("GembaDataStale", "begins", lasts).await;
    let started = Instant::now();
    let silent = "gemba_stale_projects 1";
    while !(knows(&pair.nodes[0], silent).await && knows(&pair.nodes[1], silent).await) {
        assert!(started.elapsed() < PATIENCE, "one node does not see it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    between.make(Trouble::Away);
    // Each of itself.
    for node in &pair.nodes {
        let port = format!(":{}", node.url().rsplit(':').next().unwrap());
        let is_of_node = |alert: &Value| alert["labels"]["instance"].as_str().unwrap().ends_with(&port);
        receiver.until("GembaStoreUnreachable", "begins", |alert| lasts(alert) && is_of_node(alert)).await;
    }
    let before = receiver.of("GembaDataStale").len();
    while receiver.of("GembaDataStale").len() < before + 5 {
        assert!(started.elapsed() < PATIENCE, "it is told no more");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = receiver.of("GembaDataStale");
    assert!(told.iter().all(|(path, alert)| *path == told[0].0 && lasts(alert)), "{told:?}");
    between.make(Trouble::None);
    receiver.until("GembaStoreUnreachable", "ends", |alert| !lasts(alert)).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_of_the_log_fails_data_are_refused_and_readyz_says_so_until_it_works_again() {
    let server = Server::start().await;
    let ready = async || {
        let answer = send(bare("GET", &server.url("/readyz"), None)).await;
        (answer.status.as_u16(), answer.json()["refusing"].clone(), answer.json()["accepts_data"].clone())
    };
    let accepting = async || {
        let answer = send(bare("GET", &server.url("/metrics"), None)).await;
        String::from_utf8(answer.body.to_vec()).unwrap().contains("gemba_accepting 1\n")
    };
    assert_eq!(ready().await, (200, Value::Null, true.into()));
    let (log, away) = (server.running.data().join("log"), server.running.data().join("log.away"));
    std::fs::rename(&log, &away).unwrap();
    let refused = server.send_logs(events(&["a"], "one")).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0, "{refused:?}");
    let started = Instant::now();
    while ready().await != (503, "disk_failed".into(), false.into()) {
        assert!(started.elapsed() < PATIENCE, "{:?}", ready().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!accepting().await);
    // Whoever comes is refused without the disk being asked.
    assert_eq!(server.send_logs(events(&["a"], "two")).await.status, 503);
    std::fs::rename(&away, &log).unwrap();
    let started = Instant::now();
    while ready().await.0 != 200 {
        assert!(started.elapsed() < PATIENCE, "{:?}", ready().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(accepting().await);
    assert_eq!(server.send_logs(events(&["a"], "three")).await.status, 200);
    server.flush().await;
    assert_eq!(server.number("SELECT toUInt64(groupUniqArray(strings['marker']) = ['three']) FROM events").await, 1);
}
