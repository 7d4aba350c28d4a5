//! The books of a project: received = stored + pending + rejected + set aside + ignored + deduplicated, asked while data
//! come in.
//!
//! Inserts are kept still meanwhile; what that must not do to others is claimed here as well.
//!
//! Does not look into the tables itself; that the books tell the truth is what the claims about kills prove.

use crate::durability_proxy::Proxy;
use gemba_ingest::config::ClickHouseTarget;
use gemba_ingest::pipeline::HoldFor;
use gemba_tests::client::{Answer, bare, post, send};
use gemba_tests::engine;
use gemba_tests::export::{event, logs, now_ns};
use gemba_tests::server::Server;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Answers of `losses` that are looked at while data come in.
const LOOKS: usize = 8;
/// Named events in a request; one more has no name and is rejected.
const EVENTS: u64 = 200;

/// Records by term, as the saved query tells them.
pub(crate) async fn books(server: &Server) -> BTreeMap<String, i64> {
    let answer = send(bare("GET", &server.url("/api/v1/queries/losses"), Some(&server.keys.read))).await;
    assert_eq!(answer.status, 200);
    let mut terms = BTreeMap::new();
    for row in answer.json()["rows"].as_array().unwrap() {
        *terms.entry(row[0].as_str().unwrap().to_owned()).or_default() += row[3].as_i64().unwrap();
    }
    terms
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_balance_at_every_moment_and_hold_nothing_of_other_projects() {
    let server = Arc::new(Server::start().await);
    let (is_over, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let sending = tokio::spawn({
        let (server, is_over, requests) = (Arc::clone(&server), Arc::clone(&is_over), Arc::clone(&requests));
        async move {
            while !is_over.load(Ordering::Relaxed) {
                let mut records: Vec<_> = (0..EVENTS).map(|index| event(now_ns() + index, "cart", &[])).collect();
                records.push(event(now_ns(), "", &[]));
                let url = server.url("/v1/logs");
                let sent = post(&url, &server.keys.ingest, "application/x-protobuf", logs("shop", records));
                assert_eq!(send(sent).await.status, 200);
                requests.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let mut has_pending = false;
    for look in 0..LOOKS {
        let acknowledged = i64::try_from(requests.load(Ordering::Relaxed) * EVENTS).unwrap();
        let terms = books(&server).await;
        assert_eq!(terms["unexplained"], 0, "look {look}: {terms:?}");
        assert!(terms["received"] >= acknowledged, "look {look}: {acknowledged} were acknowledged before {terms:?}");
        has_pending |= terms["pending"] > 0;
    }
    assert!(has_pending, "nothing was ever on its way, so nothing was proven");
    is_over.store(true, Ordering::Relaxed);
    sending.await.unwrap();
    server.flush().await;
    let sent = i64::try_from(requests.load(Ordering::Relaxed)).unwrap();
    let terms = books(&server).await;
    let events = sent * i64::try_from(EVENTS).unwrap();
    let told = ["received", "stored", "pending", "rejected", "unexplained"].map(|term| terms[term]);
    assert_eq!(told, [events + sent, events, 0, sent, 0], "{terms:?}");
}

async fn ask(server: &Server, question: &str) -> Answer {
    send(bare("GET", &server.url(&format!("/api/v1/queries/{question}")), Some(&server.keys.read))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_are_told_while_a_backup_keeps_the_inserts_still() {
    let server = Server::start().await;
    let records = vec![event(now_ns(), "cart", &[])];
    assert_eq!(server.send_logs(logs("shop", records)).await.status, 200);
    server.flush().await;
    let pipeline = &server.running.app().pipeline;
    let backup = pipeline.hold_inserts(HoldFor::Upkeep, Duration::from_secs(30)).await.unwrap();
    let sent = server.send_logs(logs("shop", vec![event(now_ns(), "cart", &[])])).await;
    assert_eq!(sent.status, 200, "requests are acknowledged meanwhile");
    for question in ["losses", "losses?as_of=now", "feature_usage?from=now%20-%201d&as_of=now"] {
        let answer = ask(&server, question).await;
        assert_eq!(answer.status, 200, "{question}: {:?}", answer.body);
    }
    assert_eq!(books(&server).await["pending"], 1);
    drop(backup);
    server.flush().await;
    assert_eq!(books(&server).await["pending"], 0);
}

/// A server with an insert under way that does not end until the proxy lets it go.
struct Stuck {
    server: Server,
    proxy: Arc<Proxy>,
    engine: gemba_ingest::engine::Supervisor,
    _folder: TempDir,
}

impl Stuck {
    /// A question about the books waits so long at most.
    async fn start(hold_timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine::start(&folder.path().join("engine"));
        let (proxy, address) = Proxy::start(engine.url().strip_prefix("http://").unwrap()).await;
        let password = engine.password().to_owned();
        let server = Server::start_with(|config| {
            let (url, user, database) = (format!("http://{address}"), "default".to_owned(), "default".to_owned());
            config.clickhouse = Some(ClickHouseTarget { url, user, password, database, cluster: None });
            config.limits.hold_timeout = hold_timeout;
        })
        .await;
        proxy.holds.store(true, Ordering::SeqCst);
        assert_eq!(server.send_logs(logs("shop", vec![event(now_ns(), "cart", &[])])).await.status, 200);
        tokio::time::timeout(Duration::from_mins(1), proxy.held.notified()).await.expect("an insert of events");
        Self { server, proxy, engine, _folder: folder }
    }

    async fn stop(self) {
        self.proxy.let_go.notify_one();
        self.server.flush().await;
        assert_eq!(self.server.number("SELECT count() FROM events").await, 1);
        assert!(self.server.running.stop().await);
        self.engine.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_the_books_that_wait_for_an_insert_keep_no_other_question_waiting() {
    let stuck = Stuck::start(Duration::from_hours(1)).await;
    let server = &stuck.server;
    {
        let waiting = async { tokio::join!(ask(server, "losses"), ask(server, "losses"), ask(server, "losses")) };
        tokio::pin!(waiting);
        let all_wait = async {
            while server.running.app().pipeline.waiting_for_hold() < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            biased;
            told = &mut waiting => panic!("told while an insert is under way: {told:?}"),
            waits = tokio::time::timeout(Duration::from_mins(1), all_wait) => waits.expect("all three wait for the insert"),
        }
        tokio::select! {
            biased;
            told = &mut waiting => panic!("told while an insert is under way: {told:?}"),
            answer = ask(server, "feature_usage?from=now%20-%201d") => assert_eq!(answer.status, 200, "{:?}", answer.body),
        }
    }
    stuck.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_that_does_not_end_is_told() {
    let stuck = Stuck::start(Duration::from_millis(200)).await;
    let server = &stuck.server;
    let (one, other) = tokio::join!(ask(server, "losses"), ask(server, "losses"));
    for refused in [one, other] {
        assert_eq!(refused.status, 503, "{:?}", refused.body);
        let error = &refused.json()["error"];
        assert_eq!(error["code"], "inserts_under_way", "{error}");
        assert!(error["message"].as_str().unwrap().contains("an insert is under way and does not end"), "{error}");
        assert!(!error["hint"].as_str().unwrap().is_empty(), "{error}");
    }
    stuck.stop().await;
}

/// A request with two events and one record of a person's properties: rows of two tables.
fn of_two_tables() -> Vec<u8> {
    let properties = event(now_ns(), gemba_conventions::event::USER_SET, &[("user.id", "ann"), ("plan", "pro")]);
    logs("shop", vec![event(now_ns(), "cart", &[]), event(now_ns(), "", &[]), event(now_ns(), "pay", &[]), properties])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_balance_while_a_part_of_a_cut_is_stored_and_the_rest_cannot_be() {
    let server = Server::start().await;
    let store = server.running.app().store.clone();
    store.execute("ALTER TABLE events ADD CONSTRAINT none CHECK name = 'nothing'").await.unwrap();
    store.execute("RENAME TABLE set_aside TO set_aside_away").await.unwrap();
    let sent = post(&server.url("/v1/logs"), &server.keys.ingest, "application/x-protobuf", of_two_tables());
    assert_eq!(send(sent).await.status, 200);
    let is_apart = async || {
        let properties = server.number("SELECT count() FROM properties").await;
        properties == 1 && server.running.app().pipeline.status().refused_cuts == 1
    };
    let waiting = async {
        while !is_apart().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(2), waiting).await.expect("the cut is set apart");
    for _ in 0..LOOKS {
        let terms = books(&server).await;
        // Events that are refused one by one are set aside in the books as soon as that is written down.
        let of = |term: &str| terms.get(term).copied().unwrap_or(0);
        assert_eq!((of("received"), of("rejected"), of("unexplained")), (4, 1, 0), "{terms:?}");
        assert_eq!(of("stored") + of("pending") + of("set_aside"), 3, "{terms:?}");
    }
    store.execute("RENAME TABLE set_aside_away TO set_aside").await.unwrap();
    store.execute("ALTER TABLE events DROP CONSTRAINT none").await.unwrap();
    server.flush().await;
    let terms = books(&server).await;
    assert_eq!((terms["received"], terms["pending"], terms["unexplained"]), (4, 0, 0), "{terms:?}");
}
