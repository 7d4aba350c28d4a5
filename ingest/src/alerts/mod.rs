//! Tells an alert receiver when something is wrong, and when it no longer is.
//!
//! In: what this node knows of itself and of the projects, without asking ClickHouse.
//! Out: `POST`s of a JSON array as Prometheus's Alertmanager takes it at `/api/v2/alerts`: labels that name an alert, annotations
//! for people, `startsAt`, `endsAt`. Whoever is told and what becomes of it is the receiver's.
//!
//! `found` says what is wrong now, `book` compares that with what was told, `send` delivers. What lasts is told again and again and
//! ends by itself after a while, so that nothing stays on that nobody speaks of any more. What was not delivered is told with the
//! next look; there is no queue. What concerns a node it tells itself, also while ClickHouse is away; of what concerns the store
//! (projects fallen silent) one node tells, which has a lease for it.

mod book;
mod found;
mod send;

use crate::clock;
use crate::http::App;
use crate::http::error::chain;
use crate::store::StoreError;
use crate::store::leases::{self, Lease, Watched};
use book::Book;
use found::SetAside;
use send::Receiver;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Where alerts go.
#[derive(Debug, Clone)]
pub struct AlertConfig {
    /// Where they are posted to, as `http://alertmanager:9093/api/v2/alerts`.
    pub url: String,
    /// Free bytes of the log's disk below which it counts as low. Default 4 GiB, four times where data are refused.
    pub disk_low_bytes: u64,
    /// How long ClickHouse may leave this node without an answer. Default 1 min: a restart of it takes less.
    pub unreachable_after: Duration,
    /// Pause between two looks. Default 5 s.
    pub look_every: Duration,
    /// How often what lasts is told. Default 1 min.
    pub repeat_after: Duration,
}

impl AlertConfig {
    /// The defaults, to this address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            disk_low_bytes: 4 << 30,
            unreachable_after: Duration::from_mins(1),
            look_every: Duration::from_secs(5),
            repeat_after: Duration::from_mins(1),
        }
    }
}

/// Deliveries since the process began.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// That the receiver took.
    pub ok: AtomicU64,
    /// That it did not.
    pub failed: AtomicU64,
}

/// Whom an alert concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Node,
    Store,
}

/// Names and values that tell an alert from others.
type Labels = BTreeMap<&'static str, String>;

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alert {
    scope: Scope,
    labels: Labels,
    summary: String,
    /// Since when, ms since the Unix epoch.
    since_ms: i64,
}

fn labels<const N: usize>(name: &str, severity: &str, more: [(&'static str, String); N]) -> Labels {
    let mut labels = Labels::from([("alertname", name.to_owned()), ("severity", severity.to_owned())]);
    labels.extend(more);
    labels
}

fn whole_ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Looks and tells until the server ends.
pub(crate) async fn watch(app: Arc<App>, config: AlertConfig, instance: String) {
    // Nobody tells of a store with other nodes before it is known who does.
    let (turn, has_turn) = watch::channel(!app.pipeline.shares_store());
    // Apart: what a node knows of itself does not wait for a ClickHouse that hangs.
    tokio::join!(take_turns(&app, &config, &turn), tell(&app, &config, &instance, &has_turn));
}

/// Finds out again and again whether this node is the one that tells of the store. While ClickHouse does not answer that stays as it
/// was: whoever told goes on, since nobody can take it over.
async fn take_turns(app: &App, config: &AlertConfig, turn: &watch::Sender<bool>) {
    if !app.pipeline.shares_store() {
        return;
    }
    let (mut lease, mut watched) = (None, Watched::default());
    loop {
        match take_turn(app, &mut lease, &mut watched).await {
            Ok(is_ours) => drop(turn.send_replace(is_ours)),
            Err(error) => tracing::debug!(error = chain(&error), "cannot look which node tells of the projects"),
        }
        sleep(config.look_every).await;
    }
}

async fn take_turn(app: &App, lease: &mut Option<Lease>, watched: &mut Watched) -> Result<bool, StoreError> {
    if lease.as_ref().is_none_or(|lease| !lease.is_sure()) {
        *lease = None;
        leases::prepare(&app.store).await?;
        *lease = leases::take_watched(&app.store, "alerts", watched).await?;
    }
    Ok(lease.is_some())
}

async fn tell(app: &App, config: &AlertConfig, instance: &str, has_turn: &watch::Receiver<bool>) {
    let mut receiver = Receiver::new(&config.url);
    let (repeat_ms, started) = (whole_ms(config.repeat_after), Instant::now());
    let (mut book, mut aside) = (Book::default(), SetAside::default());
    loop {
        let tells_of_store = *has_turn.borrow();
        let (now_ms, tick_ms) = (clock::now_ms(), whole_ms(started.elapsed()));
        let mut found = found::of_node(app, config, instance, &book, now_ms);
        found.extend(aside.look(app, instance, now_ms));
        if tells_of_store {
            found.extend(found::stale(app, now_ms));
        }
        book.look(found, tells_of_store, now_ms);
        let due = book.due(tick_ms, repeat_ms);
        if !due.is_empty() && receiver.take(book.body(&due, now_ms, repeat_ms), &app.alerts).await {
            book.delivered(&due, tick_ms);
        }
        sleep(config.look_every).await;
    }
}
