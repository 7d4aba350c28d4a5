//! Several nodes on one ClickHouse: who is there, whose turn it is, and what one asks of all others.
//!
//! In: leases of the store ([`crate::store::leases`]). Out: a [`Turn`], which one node has at a time, and an [`Asked`], once every
//! other node did what was asked. A server with an engine of its own has no others: its turns are a lock, and it asks nobody.
//!
//! Names of leases: `node/N` while node N runs; `upkeep`, `alerts` for turns; `ask/stored` and `ask/still` while the holder asks
//! the others to store what they acknowledged and, for the second, to insert nothing from then on; `answer/H/N` once node N did
//! what holder H asked.

use crate::control::ControlError;
use crate::http::error::chain;
use crate::http::{App, Phase};
use crate::pipeline::{Held, HoldFor, NotHeld};
use crate::store::leases::{self, Lease, LeaseError, Term};
use crate::store::{Client, StoreError};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{MutexGuard, watch};
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
}

impl Asked {
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
        return Ok(Asked { lease: None });
    }
    let deadline = Instant::now() + ASK_PATIENCE;
    let lease = leases::wait(&app.store, what, TURN_PATIENCE).await?;
    app.asking.store(lease.holder(), Ordering::Relaxed);
    let waiting = async {
        loop {
            let silent = silent(app, lease.holder()).await?;
            if silent == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(NodesError::Silent(silent));
            }
            sleep(LOOK_PAUSE).await;
        }
    };
    lease.cover(waiting).await??;
    Ok(Asked { lease: Some(lease) })
}

/// How many other nodes are there and have not answered.
async fn silent(app: &App, holder: u64) -> Result<usize, StoreError> {
    let answered = leases::terms(&app.store, &answers_to(holder)).await?;
    let others = leases::terms(&app.store, "node/").await?;
    let is_silent = |other: &&Term| {
        let node = other.name.trim_start_matches("node/");
        other.is_held() && node != name_of(app) && !answered.iter().any(|answer| answer.name.ends_with(node))
    };
    Ok(others.iter().filter(is_silent).count())
}

fn answers_to(holder: u64) -> String {
    format!("answer/{holder:016x}/")
}

fn name_of(app: &App) -> String {
    format!("{:016x}", app.node)
}

/// Has the others know of this node, and does what they ask, until the server is stopping: everything is stored by then, or
/// waits for the next start.
pub(crate) async fn take_part(app: &App, phases: watch::Receiver<Phase>) {
    tokio::select! {
        () = be_present(app, phases) => {}
        () = answer_others(app) => {}
    }
}

async fn be_present(app: &App, mut phases: watch::Receiver<Phase>) {
    let name = format!("node/{}", name_of(app));
    loop {
        let lease = present(&app.store, &name).await;
        if let Err(error) = &lease {
            tracing::debug!(error = chain(error), "other nodes do not know of this one yet");
        }
        let gone = async {
            match &lease {
                Ok(lease) => lease.lost().await,
                Err(_) => sleep(LOOK_PAUSE).await,
            }
        };
        let is_stopping = tokio::select! {
            () = gone => false,
            // Nobody tells of a phase any more once the server is gone.
            _ = phases.wait_for(|phase| *phase == Phase::Stopping) => true,
        };
        if is_stopping {
            if let Ok(lease) = lease {
                lease.give_up().await;
            }
            return;
        }
    }
}

async fn present(store: &Client, name: &str) -> Result<Lease, LeaseError> {
    leases::prepare(store).await?;
    leases::wait(store, name, TURN_PATIENCE).await
}

async fn answer_others(app: &App) {
    // One asks at a time, since it has the turn.
    let mut done = 0;
    loop {
        let own = app.asking.load(Ordering::Relaxed);
        let is_new = |term: &Term| term.is_held() && term.holder != done && term.holder != own;
        match leases::terms(&app.store, "ask/").await {
            Ok(terms) => {
                if let Some(term) = terms.into_iter().find(is_new) {
                    match answer(app, &term).await {
                        Ok(()) => done = term.holder,
                        Err(error) => tracing::debug!(error = chain(&error), "another node waits for this one"),
                    }
                }
            }
            Err(error) => tracing::debug!(error = chain(&error), "cannot look what other nodes ask"),
        }
        sleep(LOOK_PAUSE).await;
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
    // What a revoked key still lets in is in the log before that is stored.
    app.control.refresh().await?;
    if !app.pipeline.flush(ANSWER_PATIENCE).await {
        return Err(AnswerError::Behind);
    }
    let held: Option<Held> = match asked.name.as_str() {
        STILL => Some(app.pipeline.hold_inserts(HoldFor::Upkeep, ANSWER_PATIENCE).await?),
        _ => None,
    };
    let name = format!("{}{}", answers_to(asked.holder), name_of(app));
    leases::note(&app.store, &name, 1, app.node).await?;
    if held.is_some() {
        until_over(app, asked).await;
    }
    Ok(())
}

/// Waits until what was asked is asked no more.
async fn until_over(app: &App, asked: &Term) {
    let (mut latest, mut since) = (asked.number, Instant::now());
    loop {
        sleep(LOOK_PAUSE).await;
        match leases::terms(&app.store, &asked.name).await {
            Ok(terms) => {
                let Some(term) = terms.iter().find(|term| term.is_held() && term.holder == asked.holder) else {
                    return;
                };
                if term.number != latest {
                    (latest, since) = (term.number, Instant::now());
                } else if since.elapsed() >= leases::LENGTH {
                    // Who asked is gone, whatever the clock of the store says: it would have renewed it many times.
                    return;
                }
            }
            // Who asked may have ClickHouse where this node has not. Waiting costs nothing: without it nothing is inserted.
            Err(error) => tracing::debug!(error = chain(&error), "cannot look whether inserts may go on"),
        }
    }
}
