//! Several nodes on one ClickHouse: who is there, whose turn it is, and what one asks of all others.
//!
//! In: leases of the store ([`crate::store::leases`]). Out: a [`Turn`], which one node has at a time, and an [`Asked`], once every
//! other node did what was asked. A server with an engine of its own has no others: its turns are a lock, and it asks nobody.
//!
//! Names of leases: `node/N` while node N runs; `upkeep`, `alerts` for turns; `ask/stored` and `ask/still` while the holder asks
//! the others to store what they acknowledged and, for the second, to insert nothing from then on; `answer/H/N` once node N did
//! what holder H asked, with N's clock for a number.
//!
//! Invariant: a node inserts nothing before others know that it is there and it knows that nobody asks for stillness. Whoever asks
//! does so first and then looks who is there, so of the two at least one sees the other.

use crate::clock;
use crate::control::ControlError;
use crate::http::error::chain;
use crate::http::{App, Phase};
use crate::pipeline::{Held, HoldFor, NotHeld};
use crate::store::leases::{self, Lease, LeaseError, Term, Watched};
use crate::store::{Client, StoreError};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{MutexGuard, Notify, watch};
use tokio::time::{Instant, sleep};

/// Pause between two looks for what others ask, or have answered.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// How long a turn is waited for that another node has. Chosen: a node that died is followed before that.
const TURN_PATIENCE: Duration = Duration::from_mins(1);
/// How long storing, and keeping inserts still after it, may take on the node that is asked.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// How long the others are waited for: for their answers, or until one that died counts as gone.
const ASK_PATIENCE: Duration = Duration::from_secs(90);
/// What the others are asked.
const STORED: &str = "ask/stored";
const STILL: &str = "ask/still";

/// Why something that concerns all nodes was not done.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    /// Whose turn it is.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// Another node is there and did not do what it was asked in time.
    #[error("{0} other nodes did not store in time what they acknowledged")]
    Silent(usize),
}

impl From<StoreError> for NodesError {
    fn from(error: StoreError) -> Self {
        Self::Lease(error.into())
    }
}

/// The sole right, of all nodes, to remove or save many rows.
#[derive(Debug)]
pub struct Turn<'a> {
    _here: MutexGuard<'a, ()>,
    /// None where there are no other nodes.
    lease: Option<Lease>,
}

impl Turn<'_> {
    /// Does something while nobody else does its like; broken off, as by a kill, where that cannot be relied on any more.
    ///
    /// # Errors
    /// [`LeaseError::Lost`].
    pub async fn cover<T>(&self, work: impl Future<Output = T>) -> Result<T, LeaseError> {
        covered(self.lease.as_ref(), work).await
    }
}

/// Takes the turn for upkeep.
///
/// # Errors
/// [`LeaseError::Held`] while another node has it, and those of ClickHouse.
pub async fn turn(app: &App) -> Result<Turn<'_>, LeaseError> {
    let here = app.upkeep.lock().await;
    let lease = if app.pipeline.shares_store() {
        leases::prepare(&app.store).await?;
        Some(leases::wait(&app.store, "upkeep", TURN_PATIENCE).await?)
    } else {
        None
    };
    Ok(Turn { _here: here, lease })
}

/// While this is held the others keep to what they were asked.
#[derive(Debug)]
pub struct Asked {
    lease: Option<Lease>,
    times: Option<Times>,
}

/// What the clocks of the others told when they began to store, milliseconds since the epoch.
#[derive(Debug, Clone, Copy)]
struct Times {
    earliest_ms: i64,
    latest_ms: i64,
}

impl Asked {
    /// The latest that any of the others' clocks told when it had done what it was asked, or began to store where it was asked for
    /// that; milliseconds since the epoch, and not before `own_ms`. What they had acknowledged before they were asked was not
    /// received later, by their clocks.
    pub fn latest_ms(&self, own_ms: i64) -> i64 {
        self.times.map_or(own_ms, |times| times.latest_ms.max(own_ms))
    }

    /// The earliest of these times, and not after `own_ms`. Of nodes that were asked to store: what any of them had received up to
    /// it, by its own clock, is stored.
    pub fn earliest_ms(&self, own_ms: i64) -> i64 {
        self.times.map_or(own_ms, |times| times.earliest_ms.min(own_ms))
    }

    /// Does something while the others keep to it; broken off where that cannot be relied on any more.
    ///
    /// # Errors
    /// [`LeaseError::Lost`].
    pub async fn cover<T>(&self, work: impl Future<Output = T>) -> Result<T, LeaseError> {
        covered(self.lease.as_ref(), work).await
    }
}

/// Does something for as long as a lease can be relied on; without other nodes to its end.
async fn covered<T>(lease: Option<&Lease>, work: impl Future<Output = T>) -> Result<T, LeaseError> {
    match lease {
        None => Ok(work.await),
        Some(lease) => lease.cover(work).await,
    }
}

/// Asks every other node to store what it acknowledged before, having looked for revoked keys and tombstones first.
///
/// # Errors
/// [`NodesError`]; asking again can help.
pub async fn stored(app: &App) -> Result<Asked, NodesError> {
    ask(app, STORED).await
}

/// Asks the same, and that nothing is inserted from then on for as long as the answer is held.
///
/// # Errors
/// [`NodesError`]; asking again can help.
pub async fn still(app: &App) -> Result<Asked, NodesError> {
    ask(app, STILL).await
}

async fn ask(app: &App, what: &str) -> Result<Asked, NodesError> {
    if !app.pipeline.shares_store() {
        return Ok(Asked { lease: None, times: None });
    }
    let deadline = Instant::now() + ASK_PATIENCE;
    let lease = leases::wait(&app.store, what, TURN_PATIENCE).await?;
    app.asking.store(lease.holder(), Ordering::Relaxed);
    let waiting = async {
        let mut watched = Watched::default();
        loop {
            let (silent, times) = others(app, lease.holder(), &mut watched).await?;
            if silent == 0 {
                return Ok(times);
            }
            if Instant::now() >= deadline {
                return Err(NodesError::Silent(silent));
            }
            sleep(LOOK_PAUSE).await;
        }
    };
    let times = lease.cover(waiting).await??;
    Ok(Asked { lease: Some(lease), times })
}

/// How many other nodes are there and have not answered, and the times that the others answered with.
async fn others(app: &App, holder: u64, watched: &mut Watched) -> Result<(usize, Option<Times>), StoreError> {
    let answered = leases::terms(&app.store, &answers_to(holder)).await?;
    let others = leases::terms(&app.store, "node/").await?;
    let is_silent = |other: &&Term| {
        let node = other.name.trim_start_matches("node/");
        watched.is_held(other) && node != name_of(app) && !answered.iter().any(|answer| answer.name.ends_with(node))
    };
    let silent = others.iter().filter(is_silent).count();
    let told_ms = answered.iter().map(|answer| answer.number.cast_signed());
    let times =
        told_ms.clone().min().zip(told_ms.max()).map(|(earliest_ms, latest_ms)| Times { earliest_ms, latest_ms });
    Ok((silent, times))
}

fn answers_to(holder: u64) -> String {
    format!("answer/{holder:016x}/")
}

fn name_of(app: &App) -> String {
    format!("{:016x}", app.node)
}

/// Has the others know of this node, and does what they ask, until the server is stopping: everything is stored by then, or
/// waits for the next start. `still` keeps the inserts from beginning.
pub(crate) async fn take_part(app: &App, still: Option<Held>, mut phases: watch::Receiver<Phase>) {
    let (mut presence, known) = (None, Notify::new());
    tokio::select! {
        // Nobody tells of a phase any more once the server is gone.
        _ = phases.wait_for(|phase| *phase == Phase::Stopping) => {}
        () = be_present(app, &mut presence, &known) => {}
        () = answer_others(app, still, &known) => {}
    }
    if let Some(lease) = presence {
        lease.give_up().await;
    }
}

/// Keeps the lease of this node's name, and takes it again when it was lost. Tells when others know of the node.
async fn be_present(app: &App, presence: &mut Option<Lease>, known: &Notify) {
    let name = format!("node/{}", name_of(app));
    let mut has_failed = false;
    loop {
        let present = present(&app.store, &name).await;
        if present.is_ok() && std::mem::take(&mut has_failed) {
            app.pipeline.store_worked();
        }
        match present {
            Ok(Some(lease)) => {
                known.notify_one();
                presence.insert(lease).lost().await;
                *presence = None;
                tracing::debug!("other nodes take this one for gone, because ClickHouse did not answer in time");
                continue;
            }
            // Nobody else takes the name: a row that came late is there, by which the others know of it just as well.
            Ok(None) => known.notify_one(),
            Err(error) => {
                // No insert finds out then, at the start for one.
                if app.pipeline.is_kept_still() {
                    app.pipeline.store_failed(&error);
                    has_failed = true;
                }
                tracing::debug!(error = chain(&error), "other nodes do not know of this one yet");
            }
        }
        sleep(LOOK_PAUSE).await;
    }
}

async fn present(store: &Client, name: &str) -> Result<Option<Lease>, StoreError> {
    leases::prepare(store).await?;
    leases::take(store, name).await
}

async fn answer_others(app: &App, still: Option<Held>, known: &Notify) {
    known.notified().await;
    until_nobody_asks_for_stillness(app).await;
    drop(still);
    // One asks at a time, since it has the turn.
    let mut done = 0;
    loop {
        match find_asked(app, "ask/", done).await {
            Ok(Some(term)) => match answer(app, &term).await {
                Ok(()) => done = term.holder,
                Err(error) => tracing::debug!(error = chain(&error), "another node waits for this one"),
            },
            Ok(None) => {}
            Err(error) => tracing::debug!(error = chain(&error), "cannot look what other nodes ask"),
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// What another node asks now, of what begins with `prefix`; nothing that the holder `done` asks.
async fn find_asked(app: &App, prefix: &str, done: u64) -> Result<Option<Term>, StoreError> {
    let terms = leases::terms(&app.store, prefix).await?;
    // After it: what this node asks may have become visible just now.
    let own = app.asking.load(Ordering::Relaxed);
    let is_new = |term: &Term| term.is_held() && term.holder != done && term.holder != own;
    Ok(terms.into_iter().find(is_new))
}

/// At a start, before anything is inserted. What lies in the log since an earlier run is not stored for whoever asks: it may be past
/// waiting for that, and at work by now.
async fn until_nobody_asks_for_stillness(app: &App) {
    let mut done = 0;
    loop {
        match find_asked(app, STILL, done).await {
            Ok(Some(asked)) => {
                tracing::info!("another node keeps inserts still, for a backup or the like: this one begins after it");
                keep_still(app, &asked).await;
                done = asked.holder;
            }
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(error = chain(&error), "cannot look whether inserts may begin");
                sleep(LOOK_PAUSE).await;
            }
        }
    }
}

/// Why this node did not do what another one asked.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NotHeld(#[from] NotHeld),
    #[error("not everything acknowledged is stored yet")]
    Behind,
}

async fn answer(app: &App, asked: &Term) -> Result<(), AnswerError> {
    let now_ms = clock::now_ms();
    // What a revoked key still lets in is in the log before that is stored.
    app.store.catch_up("control").await?;
    app.control.refresh().await?;
    if !app.pipeline.flush(ANSWER_PATIENCE).await {
        return Err(AnswerError::Behind);
    }
    if asked.name == STILL {
        let _held = app.pipeline.hold_inserts(HoldFor::Upkeep, ANSWER_PATIENCE).await?;
        keep_still(app, asked).await;
    } else {
        tell(app, asked, now_ms).await?;
    }
    Ok(())
}

/// Writes down that this node did what was asked, having begun at a time.
async fn tell(app: &App, asked: &Term, now_ms: i64) -> Result<(), StoreError> {
    let name = format!("{}{}", answers_to(asked.holder), name_of(app));
    leases::note(&app.store, &name, now_ms.cast_unsigned(), app.node).await
}

/// Says that nothing is inserted, and waits until that is asked no more.
async fn keep_still(app: &App, asked: &Term) {
    let (mut is_told, mut watched) = (false, Watched::default());
    loop {
        if !is_told {
            match tell(app, asked, clock::now_ms()).await {
                Ok(()) => is_told = true,
                // It may be there all the same, or come late, so it is kept to either way.
                Err(error) => tracing::debug!(error = chain(&error), "another node waits for this one"),
            }
        }
        sleep(LOOK_PAUSE).await;
        match leases::terms(&app.store, &asked.name).await {
            Ok(terms) => {
                // Not by the clock of the store: whoever asks goes on as long as it can renew.
                let is_kept = |term: &Term| term.holder == asked.holder && !watched.is_abandoned(term);
                if !terms.iter().any(is_kept) {
                    return;
                }
            }
            // Who asked may have ClickHouse where this node has not. Waiting costs nothing: without it nothing is inserted.
            Err(error) => tracing::debug!(error = chain(&error), "cannot look whether inserts may go on"),
        }
    }
}
