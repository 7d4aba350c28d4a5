//! Leases by themselves: of all that want one at most one has it, whatever comes late and whichever clock is wrong.

use gemba_ingest::store::Client;
use gemba_ingest::store::leases::{self, Lease, LeaseError};
use gemba_tests::database::Engine;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long anything that must happen by itself may take.
const PATIENCE: Duration = Duration::from_mins(2);

async fn leased() -> (Engine, Client) {
    let engine = Engine::start();
    let store = engine.database("leased").await;
    leases::prepare(&store).await.unwrap();
    (engine, store)
}

/// Puts a row of another holder into the table.
async fn of_another(store: &Client, term: u64, age_s: u64) {
    let sql = format!("INSERT INTO leases (name, term, holder, at) VALUES ('work', {term}, 7, now64(3) - {age_s})");
    store.execute(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_want_a_lease_at_once_one_has_it_and_the_next_when_it_is_given_up() {
    let (engine, store) = leased().await;
    let (at_work, most, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let work = async || {
        let lease = leases::wait(&store, "work", PATIENCE).await.unwrap();
        most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // As long as it holds the lease, all others ask for it again and again.
        for _ in 0..20 {
            assert!(leases::take(&store, "work").await.unwrap().is_none());
        }
        done.fetch_add(1, Ordering::SeqCst);
        at_work.fetch_sub(1, Ordering::SeqCst);
        lease.give_up().await;
    };
    tokio::join!(work(), work(), work(), work(), work());
    assert_eq!((most.into_inner(), done.into_inner()), (1, 5));
    // It is one lease for each name.
    let (one, other) = (leases::take(&store, "one").await.unwrap(), leases::take(&store, "other").await.unwrap());
    assert!(one.is_some() && other.is_some());
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_died_is_followed_once_its_term_is_over_by_the_clock_of_the_store() {
    let (engine, store) = leased().await;
    let length = leases::LENGTH.as_secs();
    of_another(&store, 1, 0).await;
    assert!(leases::take(&store, "work").await.unwrap().is_none());
    of_another(&store, 2, length + 1).await;
    let lease = leases::take(&store, "work").await.unwrap().unwrap();
    assert!(lease.is_sure());
    assert!(leases::take(&store, "work").await.unwrap().is_none());
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_broken_off_when_its_lease_was_lost() {
    let (engine, store) = leased().await;
    let lease = leases::take(&store, "work").await.unwrap().unwrap();
    // Another one has a later term, however often this one was renewed before.
    of_another(&store, 1_000, 0).await;
    let covered = tokio::time::timeout(PATIENCE, lease.cover(std::future::pending::<()>())).await.unwrap();
    assert!(matches!(covered, Err(LeaseError::Lost(_))), "{covered:?}");
    assert!(!lease.is_sure());
    engine.stop().await;

    // Nobody answers any more.
    let (engine, store) = leased().await;
    let lease = leases::take(&store, "work").await.unwrap().unwrap();
    engine.stop().await;
    // Counted and not measured: while this machine stands still nobody is at work.
    let mut awake = Duration::ZERO;
    let counting = async {
        let tick = Duration::from_millis(100);
        while awake < leases::LENGTH {
            tokio::time::sleep(tick).await;
            awake += tick;
        }
    };
    let covered = tokio::select! {
        covered = lease.cover(std::future::pending::<()>()) => covered,
        () = counting => panic!("it is relied on for longer than a term"),
    };
    assert!(matches!(covered, Err(LeaseError::Lost(_))), "{covered:?}");
}

/// Waits until the holder has renewed twice from here on.
async fn renewed(store: &Client, lease: &Lease) {
    let (mut first, started) = (None, Instant::now());
    loop {
        let terms = leases::terms(store, "work").await.unwrap();
        if let Some(term) = terms.iter().find(|term| term.holder == lease.holder())
            && term.number >= *first.get_or_insert(term.number) + 2
        {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "it is not renewed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_comes_late_is_second_in_its_term_and_changes_nothing() {
    let (engine, store) = leased().await;
    let lease = leases::take(&store, "work").await.unwrap().unwrap();
    of_another(&store, 1, 0).await;
    assert!(leases::take(&store, "work").await.unwrap().is_none());
    renewed(&store, &lease).await;
    assert!(lease.is_sure());
    // Nor does one of a term that is long over, its own or that of who gave up.
    store.execute("INSERT INTO leases (name, term, holder) VALUES ('work', 2, 0)").await.unwrap();
    renewed(&store, &lease).await;
    assert!(lease.is_sure());
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_holders_that_know_nothing_of_each_other_one_loses_and_the_other_goes_on() {
    let (engine, store) = leased().await;
    of_another(&store, 500, leases::LENGTH.as_secs() + 1).await;
    let slept = leases::take(&store, "work").await.unwrap().unwrap();
    // As after a day, when rows are gone and terms begin at 1.
    let followed = loop {
        store.execute("TRUNCATE TABLE leases").await.unwrap();
        // It may have been renewed just then.
        if let Some(lease) = leases::take(&store, "work").await.unwrap() {
            break lease;
        }
    };
    let first = async {
        tokio::select! {
            () = slept.lost() => &followed,
            () = followed.lost() => &slept,
        }
    };
    let left = tokio::time::timeout(PATIENCE, first).await.expect("one of them loses");
    renewed(&store, left).await;
    assert!(left.is_sure());
    assert_ne!(slept.is_sure(), followed.is_sure());
    engine.stop().await;
}
