//! Alerts reach a receiver when something is wrong and when it no longer is, from one node of two; and data are refused while the
//! disk of the log fails.

use crate::pair::Pair;
use gemba_ingest::alerts::AlertConfig;
use gemba_ingest::serve::Running;
use gemba_tests::client::{bare, send};
use gemba_tests::export::{event, events, logs, now_ns};
use gemba_tests::server::Server;
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
    assert_eq!(
        (request.method().as_str(), &request.headers()["content-type"]),
        ("POST", &"application/json".parse().unwrap())
    );
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut answer = Response::new(Full::default());
    if refuses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return answer;
    }
    let alerts: Vec<Value> = serde_json::from_slice(&body).unwrap();
    told.lock().unwrap().extend(alerts.into_iter().map(|alert| (path.clone(), alert)));
    answer
}

fn instant(alert: &Value, field: &str) -> Timestamp {
    alert[field].as_str().unwrap().parse().unwrap()
}

/// Whether it is told as something that goes on.
fn lasts(alert: &Value) -> bool {
    instant(alert, "endsAt") > Timestamp::now()
}

fn config(url: String) -> AlertConfig {
    let look_every = Duration::from_millis(100);
    AlertConfig { look_every, repeat_after: Duration::from_secs(20), ..AlertConfig::new(url) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_told_what_is_wrong_and_when_it_is_over_also_after_it_was_away() {
    let receiver = Receiver::start(3).await;
    let server = Server::start_with(|server| {
        server.stale_after = Some(Duration::from_mins(10));
        server.alerts = Some(AlertConfig { disk_low_bytes: u64::MAX, ..config(receiver.url.clone()) });
    })
    .await;
    let low = receiver.until("GembaDiskLow", "begins", lasts).await;
    assert_eq!(receiver.refuses.load(Ordering::SeqCst), 0, "it was refused before it was taken");
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
    let old = "INSERT INTO ledger (project, log, cut, fate, signal, reason, records, received) \
               VALUES (1, 9, 1, 'received', 'logs', '', 5, now64(3) - INTERVAL 30 MINUTE)";
    store.execute(old).await.unwrap();
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
    let metrics = send(bare("GET", &server.url("/metrics"), None)).await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    let failed = metrics.lines().find_map(|line| line.strip_prefix("gemba_alert_deliveries_total{result=\"failed\"} "));
    // One that took too long on a busy machine counts as well.
    assert!(failed.is_some_and(|failed| failed.parse::<u64>().unwrap() >= 3), "{metrics}");
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
    let old = "INSERT INTO ledger (project, log, cut, fate, signal, reason, records, received) \
               VALUES (1, 9, 1, 'received', 'logs', '', 5, now64(3) - INTERVAL 30 MINUTE)";
    pair.store().execute(old).await.unwrap();
    receiver.until("GembaDataStale", "begins", lasts).await;
    // Both know that it fell silent, and each would have told with its next look.
    let knows = async |node: &Running| {
        let metrics = send(bare("GET", &format!("{}/metrics", node.url()), None)).await;
        String::from_utf8(metrics.body.to_vec()).unwrap().contains("gemba_stale_projects 1\n")
    };
    let started = Instant::now();
    while !(knows(&pair.nodes[0]).await && knows(&pair.nodes[1]).await) {
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
