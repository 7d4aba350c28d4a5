//! Leases: what at most one of the nodes on a store may do at a time, kept in ClickHouse, which has no transactions.
//!
//! In: a name. Out: a [`Lease`], renewed for as long as it is held, or the word that somebody else has it.
//!
//! A lease has terms, numbered from 1. Whoever wants the next term inserts a row for it and reads back all rows of that term:
//! ClickHouse numbers the inserts of a table in the order in which they become visible, so every reader finds the same one
//! first, and that one has the term. The next term may be wanted by the holder at any time (it renews, or gives up), and by
//! others once [`LENGTH`] has passed since the term began, by the clock of the store.
//!
//! Invariants:
//! 1. A holder counts [`SURE`] from before it sent the row that won, which is less than `LENGTH` from when the store dated that
//!    row. So it stops by itself before anybody else can have the next term, whatever became of its renewals. What may come
//!    between is a clock that runs at another speed, and a statement on its way: the difference of the two is for them.
//! 2. An insert whose outcome is unknown does no harm, however late its row comes. It may be the second of its term, or that of a
//!    renewal which is asked for again until its outcome is known. Or it begins a term that nobody uses: whoever tries again wants
//!    that same number until it is there, so of all late rows one holds up others, until its term runs out.
//! 3. A holder that dies is followed after `LENGTH`; one that ends in order, at once.
//! 4. Who has a term and not the latest has lost. Rows go after a day, numbers begin at 1 then, and a holder that slept that long
//!    wakes up with a high one: without this it and the one that followed would both renew for ever.
//! 5. A clock of the store that is set back makes no term longer for whoever watches it ([`Watched`]). One that is set forward by more
//!    than the difference of 1, and a holder whose own clock stood still (a suspended machine), are beyond what 1 can tell: two may
//!    be at work until the first renews, which is [`RENEWAL`] and a statement later.

use super::{Client, StoreError};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// Table that holds them. It is made beside the migrations, since these take turns by it.
pub const TABLE: &str = "leases";
/// How long a term lasts that is not renewed. Chosen: longer than an engine takes to restart, short beside anything that waits
/// for a lease.
pub const LENGTH: Duration = Duration::from_secs(45);
/// How long its holder relies on it.
const SURE: Duration = Duration::from_secs(35);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(5);
/// How long a statement about leases may take. Chosen: a row takes milliseconds, and twice as long may fail while it is held.
const STATEMENT: Duration = Duration::from_secs(10);
/// Pause between two tries while somebody else has it.
const PAUSE: Duration = Duration::from_millis(250);

/// Rows are wanted for a day by nobody but a reader of the database.
const CREATE: &str = "CREATE TABLE IF NOT EXISTS leases \
    (name LowCardinality(String), term UInt64, holder UInt64, at DateTime64(3, 'UTC') DEFAULT now64(3)) \
    ENGINE = MergeTree ORDER BY (name, term) TTL toDateTime(at) + INTERVAL 1 DAY \
    SETTINGS enable_block_number_column = 1, fsync_after_insert = 1, fsync_part_directory = 1, \
    min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480";

/// Why a lease is not had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else has it.
    #[error("another node is at work on {0}")]
    Held(String),
    /// It ran out while it was relied on: ClickHouse did not answer for too long.
    #[error("{0} could not be kept from other nodes, because ClickHouse did not answer in time")]
    Lost(String),
    /// ClickHouse.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The latest term of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Name of the lease.
    pub name: String,
    /// From 1; 0 before the first.
    pub number: u64,
    /// Who has it; 0 where it was given up.
    pub holder: u64,
    /// Whether it ran out.
    pub is_over: bool,
}

impl Term {
    /// Whether somebody has the lease now.
    pub fn is_held(&self) -> bool {
        self.holder != 0 && !self.is_over
    }
}

/// Terms that are looked at again and again: one that was not renewed for [`LENGTH`] by the clock of this node is over, whatever that
/// of the store says.
#[derive(Debug, Default)]
pub struct Watched(HashMap<String, (u64, Instant)>);

impl Watched {
    /// Whether the term was given up, or not renewed for [`LENGTH`] since it was seen first. Does not ask the clock of the store.
    pub fn is_abandoned(&mut self, term: &Term) -> bool {
        let now = Instant::now();
        let (number, since) = self.0.entry(term.name.clone()).or_insert((term.number, now));
        if *number != term.number {
            (*number, *since) = (term.number, now);
        }
        term.holder == 0 || since.elapsed() >= LENGTH
    }

    /// Whether somebody has the lease now, by either clock.
    pub fn is_held(&mut self, term: &Term) -> bool {
        !self.is_abandoned(term) && term.is_held()
    }
}

/// The sole right to what its name says, until it is dropped or cannot be renewed.
#[derive(Debug)]
pub struct Lease {
    name: String,
    holder: u64,
    /// Until when it can be relied on.
    sure_until: watch::Receiver<Instant>,
    /// Dropped to give it up.
    end: Option<oneshot::Sender<()>>,
    renewing: JoinHandle<()>,
}

/// Makes the table where it is missing.
///
/// # Errors
/// Those of ClickHouse.
pub async fn prepare(store: &Client) -> Result<(), StoreError> {
    store.define_table(TABLE, CREATE).await
}

/// The latest terms of the leases whose names begin with `prefix`. The table must exist.
///
/// # Errors
/// Those of ClickHouse.
pub async fn terms(store: &Client, prefix: &str) -> Result<Vec<Term>, StoreError> {
    let sql = format!(
        "SELECT toString(name), latest.1 AS number, latest.2 AS holder, \
         toUInt8(now64(3) >= latest.3 + toIntervalMillisecond({})) AS is_over FROM \
         (SELECT name, argMax((term, holder, at), (toInt64(term), -toInt64(_block_number))) AS latest \
         FROM {TABLE} WHERE startsWith(name, '{prefix}') GROUP BY name) \
         ORDER BY name SETTINGS select_sequential_consistency = 1",
        LENGTH.as_millis()
    );
    bounded(store.catch_up(TABLE)).await?;
    let rows = bounded(store.rows::<(String, u64, u64, u8)>(&sql)).await?;
    let term = |(name, number, holder, is_over)| Term { name, number, holder, is_over: is_over != 0 };
    Ok(rows.into_iter().map(term).collect())
}

/// Takes the lease, unless somebody has it; `None` then. The table must exist. Names are ours, without quotes.
///
/// # Errors
/// Those of ClickHouse.
pub async fn take(store: &Client, name: &str) -> Result<Option<Lease>, StoreError> {
    take_watched(store, name, &mut Watched::default()).await
}

/// The same for whoever tries again and again, and watches meanwhile.
///
/// # Errors
/// Those of ClickHouse.
pub async fn take_watched(store: &Client, name: &str, watched: &mut Watched) -> Result<Option<Lease>, StoreError> {
    let found = terms(store, name).await?.into_iter().find(|term| term.name == name);
    if found.as_ref().is_some_and(|term| watched.is_held(term)) {
        return Ok(None);
    }
    let (number, holder) = (found.map_or(0, |term| term.number) + 1, chance());
    let asked = Instant::now();
    if !claim(store, name, number, holder).await? {
        return Ok(None);
    }
    let (sure, sure_until) = watch::channel(asked + SURE);
    let (end, ended) = oneshot::channel();
    let keeper = Keeper { store: store.clone(), name: name.to_owned(), number, holder, asked: None, sure };
    let renewing = tokio::spawn(keeper.run(ended));
    Ok(Some(Lease { name: name.to_owned(), holder, sure_until, end: Some(end), renewing }))
}

/// Takes the lease, waiting for whoever has it for up to `patience`.
///
/// # Errors
/// [`LeaseError::Held`], and those of ClickHouse.
pub async fn wait(store: &Client, name: &str, patience: Duration) -> Result<Lease, LeaseError> {
    let deadline = Instant::now() + patience;
    let mut watched = Watched::default();
    loop {
        if let Some(lease) = take_watched(store, name, &mut watched).await? {
            return Ok(lease);
        }
        if Instant::now() + PAUSE >= deadline {
            return Err(LeaseError::Held(name.to_owned()));
        }
        // There is nothing to be woken by.
        sleep(PAUSE).await;
    }
}

impl Lease {
    /// Who has it: a number of chance, another one each time it is taken.
    pub fn holder(&self) -> u64 {
        self.holder
    }

    /// Whether it can still be relied on.
    pub fn is_sure(&self) -> bool {
        Instant::now() < *self.sure_until.borrow()
    }

    /// Does something for as long as the lease can be relied on.
    ///
    /// # Errors
    /// [`LeaseError::Lost`]: the work was broken off as a kill would.
    pub async fn cover<T>(&self, work: impl Future<Output = T>) -> Result<T, LeaseError> {
        tokio::select! {
            biased;
            () = self.lost() => Err(LeaseError::Lost(self.name.clone())),
            done = work => Ok(done),
        }
    }

    /// Returns when it can no longer be relied on.
    pub async fn lost(&self) {
        let mut sure_until = self.sure_until.clone();
        loop {
            let until = *sure_until.borrow_and_update();
            if Instant::now() >= until {
                return;
            }
            // Without a keeper nothing renews it, and it runs out.
            if let Ok(Err(_ended)) = timeout_at(until, sure_until.changed()).await {
                sleep_until(until).await;
            }
        }
    }

    /// Gives it up and returns when the store knows, or does not answer.
    pub async fn give_up(mut self) {
        drop(self.end.take());
        // It ends by itself; a panic in it leaves the lease to run out.
        if (&mut self.renewing).await.is_err() {
            tracing::debug!(name = self.name, "a lease was not given up and runs out");
        }
    }
}

/// Renews a lease until it is given up or lost.
struct Keeper {
    store: Client,
    name: String,
    number: u64,
    holder: u64,
    /// When the next term was first asked for, while it is not known who has it: its row may be there since then.
    asked: Option<Instant>,
    sure: watch::Sender<Instant>,
}

impl Keeper {
    async fn run(mut self, mut ended: oneshot::Receiver<()>) {
        // The other end is only ever dropped.
        while timeout(RENEWAL, &mut ended).await.is_err() {
            let asked = *self.asked.get_or_insert_with(Instant::now);
            match claim(&self.store, &self.name, self.number + 1, self.holder).await {
                Ok(true) => {
                    self.number += 1;
                    self.asked = None;
                    self.sure.send_replace(asked + SURE);
                }
                Ok(false) => {
                    tracing::warn!(name = self.name, "another node took over a lease that had run out here");
                    self.sure.send_replace(asked);
                    return;
                }
                // The same term is tried again.
                Err(error) => tracing::debug!(%error, name = self.name, "a lease could not be renewed"),
            }
        }
        if let Err(error) = want(&self.store, &self.name, self.number + 1, 0).await {
            tracing::debug!(%error, name = self.name, "a lease could not be given up and runs out");
        }
    }
}

/// Writes down that a node did something of this name, and a number that it has to tell. The table must exist.
///
/// # Errors
/// Those of ClickHouse; the note may be there all the same, and noting it again changes nothing.
pub async fn note(store: &Client, name: &str, number: u64, node: u64) -> Result<(), StoreError> {
    insert(store, name, number, node, "insert_deduplicate = 0").await
}

/// Wants a term; true where this holder was first and nobody has a later one.
async fn claim(store: &Client, name: &str, number: u64, holder: u64) -> Result<bool, StoreError> {
    let inserted = want(store, name, number, holder).await;
    bounded(store.catch_up(TABLE)).await?;
    let latest = format!(
        "SELECT countIf(term = {number}), \
         argMax((term, holder), (toInt64(term), -toInt64(_block_number))) = ({number}, {holder}) \
         FROM {TABLE} WHERE name = '{name}' SETTINGS select_sequential_consistency = 1"
    );
    match bounded(store.rows::<(u64, u8)>(&latest)).await?.first() {
        // Also where the insert was not answered in time: the row says what became of it.
        Some((rows, is_ours)) if *rows > 0 => Ok(*is_ours != 0),
        _ => inserted.map(|()| false),
    }
}

/// Inserts the row of who wants a term. On a cluster the first one is the only one: the replicas of a table do not number inserts in
/// the order in which they become visible, but of two with one token they keep the one that was committed first.
async fn want(store: &Client, name: &str, number: u64, holder: u64) -> Result<(), StoreError> {
    insert(store, name, number, holder, &store.once(&format!("{name}/{number}"))).await
}

async fn insert(store: &Client, name: &str, number: u64, holder: u64, settings: &str) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO {TABLE} (name, term, holder) SETTINGS async_insert = 0, {settings} \
         VALUES ('{name}', {number}, {holder})"
    );
    bounded(store.execute(&sql)).await
}

async fn bounded<T>(statement: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(STATEMENT, statement).await.unwrap_or(Err(StoreError::Timeout))
}

/// A number that no other holder has; never 0.
pub(crate) fn chance() -> u64 {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        // The next best thing that differs between two processes.
        let now = crate::clock::now_ms().cast_unsigned();
        return (now << 22 | u64::from(std::process::id())).max(1);
    }
    u64::from_le_bytes(bytes).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_that_is_watched_and_not_renewed_is_over_though_the_clock_of_the_store_was_set_back() {
        let mut watched = Watched::default();
        // By the clock of the store it lasts for as long as that was set back.
        let term = Term { name: "work".to_owned(), number: 1, holder: 7, is_over: false };
        assert!(watched.is_held(&term));
        for (_, since) in watched.0.values_mut() {
            *since -= LENGTH;
        }
        assert!(!watched.is_held(&term) && watched.is_abandoned(&term));
        assert!(watched.is_held(&Term { number: 2, ..term.clone() }), "it was renewed");
        let over = Term { number: 3, is_over: true, ..term.clone() };
        assert!(!watched.is_held(&over) && !watched.is_abandoned(&over), "by the clock of the store alone");
        assert!(watched.is_abandoned(&Term { number: 4, holder: 0, ..term }));
    }
}
