//! The books of a project: received = stored + pending + rejected + set aside + ignored + deduplicated, asked while data
//! come in.
//!
//! Does not look into the tables itself; that the books tell the truth is what the claims about kills prove.

use gemba_tests::client::{bare, post, send};
use gemba_tests::export::{event, logs, now_ns};
use gemba_tests::server::Server;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
