//! Keeping inserts still, so that what is stored can be counted or saved as a whole.
//!
//! In: who wants it, and how long it may wait. Out: a [`Held`], during which no insert is under way and none begins, or what was in
//! the way. Requests are acknowledged all the while; nobody who stores knows of it but by waiting for a slot.
//!
//! Invariants:
//! 1. A hold is shared: who wants one while another lasts joins it, so that a question never waits for a backup. One of
//!    questions alone is closed to others soon, so that it ends.
//! 2. Inserts go on for as long as they were kept from it before they are kept from it again: between two holds, and between
//!    two tries to get one. Those who ask again and again, however many, take half of the time at most. For upkeep it is
//!    [`LONGEST_REST`] at most.
//! 3. While what was set apart is being stored a hold waits for that without keeping anybody from inserting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

/// How long the first try waits for the inserts under way, with nothing new begun; each further one waits twice as long.
/// Chosen: an insert takes less than a second on a quiet machine.
const FIRST_TRY: Duration = Duration::from_secs(1);
/// Longest time inserts are left alone for upkeep. Chosen: a backup may take an hour, after which a question should not wait for
/// another one.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// For how long a hold of questions is joined by further ones. Chosen: questions asked together share one, and a queue of
/// them cannot keep it up for ever.
const JOINED_FOR: Duration = Duration::from_secs(1);
/// Questions that share such a hold, which are answered one by one. Chosen: they take a few seconds together.
const MAX_QUESTIONS: usize = 8;

/// What inserts are kept still for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldFor {
    /// A question, which takes about a second.
    Question,
    /// A backup or another work that may take long; joined for as long as it lasts.
    Upkeep,
}

/// Why inserts could not be kept still in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotHeld {
    /// ClickHouse is away, or slow.
    #[error("an insert is under way and does not end")]
    InsertUnderWay,
    /// What was set apart is being stored.
    #[error("records that ClickHouse had refused are being stored")]
    Mending,
    /// Another question has them still, and was there too long to be joined.
    #[error("another question keeps the inserts still")]
    Held,
    /// They were still so long that they are left alone for a while.
    #[error("inserts were kept still until just now and go on first")]
    Resting,
}

/// While this is held no insert is under way.
#[derive(Debug)]
pub struct Held {
    hold: Arc<Hold>,
    why: HoldFor,
}

impl Held {
    /// Takes part in a hold, unless it is closed to others.
    fn join(hold: Arc<Hold>, why: HoldFor) -> Option<Self> {
        let is_let_in = hold.joined().enter(why, hold.since);
        // Made only then: whoever leaves is counted out.
        is_let_in.then(|| Self { hold, why })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.why == HoldFor::Upkeep {
            let mut joined = self.hold.joined();
            joined.upkeep -= 1;
            joined.upkeep_ended = Some(Instant::now());
        }
    }
}

/// What all that joined it share.
#[derive(Debug)]
struct Hold {
    _slots: OwnedSemaphorePermit,
    _mending: OwnedSemaphorePermit,
    /// Since when no insert could begin.
    began: Instant,
    /// Since when none is under way.
    since: Instant,
    joined: Mutex<Joined>,
    last: Arc<Mutex<Last>>,
}

/// Who joined a hold.
#[derive(Debug, Default)]
struct Joined {
    /// Questions, those that have left included.
    questions: usize,
    /// Works that are still at it.
    upkeep: usize,
    /// When the last of those that are not was done.
    upkeep_ended: Option<Instant>,
}

impl Joined {
    /// Counts one more in; false where the hold, which lasts `since` then, is closed.
    fn enter(&mut self, why: HoldFor, since: Instant) -> bool {
        let is_open = self.upkeep > 0 || self.questions < MAX_QUESTIONS && since.elapsed() < JOINED_FOR;
        if is_open {
            *(if why == HoldFor::Upkeep { &mut self.upkeep } else { &mut self.questions }) += 1;
        }
        is_open
    }
}

impl Hold {
    fn joined(&self) -> MutexGuard<'_, Joined> {
        // Numbers alone: no panic leaves them half written.
        self.joined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long inserts are to be left alone after it.
    fn rest(&self) -> Duration {
        match self.joined().upkeep_ended {
            None => self.began.elapsed(),
            Some(ended) => (ended - self.began).min(LONGEST_REST) + ended.elapsed(),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        Last::note(&self.last, self.rest(), false);
    }
}

/// The last time that inserts were kept from beginning.
#[derive(Debug, Default)]
struct Last {
    /// When that ended, and how long they are left alone from then on.
    ended: Option<(Instant, Duration)>,
    /// It was a try that an insert under way brought to nothing.
    was_in_vain: bool,
}

impl Last {
    fn note(last: &Mutex<Self>, rest: Duration, was_in_vain: bool) {
        // Put in one step.
        *last.lock().unwrap_or_else(PoisonError::into_inner) =
            Self { ended: Some((Instant::now(), rest)), was_in_vain };
    }
}

/// Gives holds.
#[derive(Debug)]
pub(super) struct Holds {
    /// One for each insert that may be under way, `max_inserts` in all.
    inserts: Arc<Semaphore>,
    max_inserts: u32,
    /// One for the inserts of what was set apart.
    mending: Arc<Semaphore>,
    first_try: Duration,
    /// The hold that lasts, if any.
    current: Mutex<Weak<Hold>>,
    last: Arc<Mutex<Last>>,
    /// Had by the one that tries to get a hold; the others wait and join it.
    trying: tokio::sync::Mutex<()>,
    /// What it waits for.
    obstacle: Mutex<NotHeld>,
    /// How many want a hold and have none yet.
    waiting: AtomicUsize,
}

/// Counts one that waits for as long as it is there, also where whoever waits gives up.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    // Relaxed: a number to look at, which orders nothing.
    fn in_line(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Holds {
    pub(super) fn new(inserts: Arc<Semaphore>, max_inserts: usize, mending: Arc<Semaphore>) -> Self {
        Self {
            inserts,
            max_inserts: u32::try_from(max_inserts).unwrap_or(u32::MAX),
            mending,
            first_try: FIRST_TRY,
            current: Mutex::new(Weak::new()),
            last: Arc::default(),
            trying: tokio::sync::Mutex::new(()),
            obstacle: Mutex::new(NotHeld::InsertUnderWay),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits until no insert is under way, at most `timeout`, or joins a hold that lasts.
    ///
    /// # Errors
    /// [`NotHeld`]; asking again can help.
    pub(super) async fn hold(&self, why: HoldFor, timeout: Duration) -> Result<Held, NotHeld> {
        let deadline = Instant::now() + timeout;
        if let Some(held) = self.join(why) {
            return Ok(held);
        }
        let _waits = Waits::in_line(&self.waiting);
        let Ok(_trying) = timeout_at(deadline, self.trying.lock()).await else { return Err(*self.obstacle()) };
        if let Some(held) = self.join(why) {
            return Ok(held);
        }
        Ok(self.begin(self.take(deadline).await?, why))
    }

    /// A hold for upkeep where nothing is being inserted; `None` where something is.
    pub(super) fn hold_at_once(&self) -> Option<Held> {
        let mending = Arc::clone(&self.mending).try_acquire_owned().ok()?;
        let slots = Arc::clone(&self.inserts).try_acquire_many_owned(self.max_inserts).ok()?;
        Some(self.begin(self.made(slots, mending, Instant::now()), HoldFor::Upkeep))
    }

    /// Whether a hold lasts that is not for questions alone.
    pub(super) fn is_for_upkeep(&self) -> bool {
        self.current().upgrade().is_some_and(|hold| hold.joined().upkeep > 0)
    }

    fn begin(&self, hold: Hold, why: HoldFor) -> Held {
        // It is new, so whoever made it is let in.
        hold.joined().enter(why, Instant::now());
        let hold = Arc::new(hold);
        *self.current() = Arc::downgrade(&hold);
        Held { hold, why }
    }

    fn made(&self, slots: OwnedSemaphorePermit, mending: OwnedSemaphorePermit, began: Instant) -> Hold {
        let (joined, last) = (Mutex::default(), Arc::clone(&self.last));
        Hold { _slots: slots, _mending: mending, began, since: Instant::now(), joined, last }
    }

    async fn take(&self, deadline: Instant) -> Result<Hold, NotHeld> {
        let mut longest = self.first_try;
        loop {
            // Had by the mender while it stores, or by a hold; nobody who inserts waits meanwhile.
            let is_held = self.current().upgrade().is_some();
            self.waits_for(if is_held { NotHeld::Held } else { NotHeld::Mending });
            let mending = timeout_at(deadline, Arc::clone(&self.mending).acquire_owned()).await;
            // The semaphore is never closed.
            let Ok(Ok(mending)) = mending else { return Err(*self.obstacle()) };
            let (rest, resting) = self.rest();
            if !rest.is_zero() {
                drop(mending);
                self.waits_for(resting);
                if Instant::now() + rest >= deadline {
                    return Err(resting);
                }
                sleep(rest).await;
                continue;
            }
            self.waits_for(NotHeld::InsertUnderWay);
            let began = Instant::now();
            let slots = Arc::clone(&self.inserts).acquire_many_owned(self.max_inserts);
            if let Ok(Ok(slots)) = timeout_at(deadline.min(began + longest), slots).await {
                return Ok(self.made(slots, mending, began));
            }
            // Nobody could begin an insert for so long.
            Last::note(&self.last, began.elapsed().min(LONGEST_REST), true);
            if Instant::now() >= deadline {
                return Err(NotHeld::InsertUnderWay);
            }
            longest *= 2;
        }
    }

    fn join(&self, why: HoldFor) -> Option<Held> {
        let hold = self.current().upgrade()?;
        Held::join(hold, why)
    }

    /// How long inserts are still to be left alone, and what to tell of meanwhile: after a try in vain, whosesoever, it is still
    /// the insert that does not end.
    fn rest(&self) -> (Duration, NotHeld) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |(at, rest): (Instant, Duration)| rest.saturating_sub(at.elapsed());
        let resting = if last.was_in_vain { NotHeld::InsertUnderWay } else { NotHeld::Resting };
        (last.ended.map_or(Duration::ZERO, left), resting)
    }

    fn waits_for(&self, obstacle: NotHeld) {
        *self.obstacle() = obstacle;
    }

    // Each of these holds a single value, which no panic leaves half written.
    fn obstacle(&self) -> MutexGuard<'_, NotHeld> {
        self.obstacle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> MutexGuard<'_, Weak<Hold>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const PATIENCE: Duration = Duration::from_mins(1);

    struct Bench {
        holds: Holds,
        inserts: Arc<Semaphore>,
        mending: Arc<Semaphore>,
    }

    /// Two inserts at a time.
    fn bench() -> Bench {
        let (inserts, mending) = (Arc::new(Semaphore::new(2)), Arc::new(Semaphore::new(1)));
        let holds = Holds::new(Arc::clone(&inserts), 2, Arc::clone(&mending));
        Bench { holds: Holds { first_try: Duration::from_millis(5), ..holds }, inserts, mending }
    }

    fn is_waiting<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
        matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
    }

    #[tokio::test]
    async fn a_hold_is_joined_and_ends_with_the_last_of_those_who_did() {
        let Bench { holds, inserts, .. } = bench();
        let backup = holds.hold(HoldFor::Upkeep, PATIENCE).await.unwrap();
        let question = holds.hold(HoldFor::Question, Duration::ZERO).await.unwrap();
        drop(backup);
        assert_eq!(inserts.available_permits(), 0);
        drop(question);
        assert_eq!(inserts.available_permits(), 2);
    }

    #[tokio::test]
    async fn several_that_wait_get_one_hold() {
        let Bench { holds, inserts, .. } = bench();
        let insert = inserts.acquire().await.unwrap();
        let mut first = pin!(holds.hold(HoldFor::Question, PATIENCE));
        let mut second = pin!(holds.hold(HoldFor::Upkeep, PATIENCE));
        assert!(is_waiting(first.as_mut()) && is_waiting(second.as_mut()));
        drop(insert);
        let (first, second) = tokio::join!(first, second);
        assert!(Arc::ptr_eq(&first.unwrap().hold, &second.unwrap().hold));
    }

    #[tokio::test]
    async fn while_what_was_set_apart_is_stored_inserts_go_on() {
        let Bench { holds, inserts, mending } = bench();
        let mends = mending.acquire().await.unwrap();
        let mut holding = pin!(holds.hold(HoldFor::Question, PATIENCE));
        assert!(is_waiting(holding.as_mut()));
        assert_eq!(inserts.available_permits(), 2);
        let refused = holds.take(Instant::now()).await;
        assert_eq!(refused.map(drop), Err(NotHeld::Mending));
        drop(mends);
        drop(holding.await.unwrap());
    }

    #[tokio::test]
    async fn an_insert_that_does_not_end_keeps_the_others_only_for_a_moment() {
        let Bench { holds, inserts, .. } = bench();
        let stuck = inserts.acquire().await.unwrap();
        let mut holding = pin!(holds.hold(HoldFor::Question, PATIENCE));
        for _ in 0..3 {
            tokio::select! {
                biased;
                held = &mut holding => panic!("{held:?} while an insert is under way"),
                other = inserts.acquire() => drop(other.unwrap()),
            }
        }
        drop(stuck);
        drop(holding.await.unwrap());
        let _stuck = inserts.acquire().await.unwrap();
        sleep(holds.rest().0).await;
        // Whoever asks after it, while the inserts are left alone because of it, is told the same.
        for timeout in [4 * holds.first_try, Duration::ZERO] {
            let refused = holds.hold(HoldFor::Question, timeout).await;
            assert!(matches!(refused, Err(NotHeld::InsertUnderWay)), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_hold_is_joined_by_a_few_questions_and_by_any_number_while_upkeep_lasts() {
        let Bench { holds, .. } = bench();
        let mut held = vec![holds.hold(HoldFor::Question, PATIENCE).await.unwrap()];
        for _ in 1..MAX_QUESTIONS {
            held.push(holds.hold(HoldFor::Question, Duration::ZERO).await.unwrap());
        }
        let refused = holds.hold(HoldFor::Question, Duration::ZERO).await;
        assert!(matches!(refused, Err(NotHeld::Held)), "{refused:?}");
        drop(held);
        let mut held = vec![holds.hold(HoldFor::Upkeep, PATIENCE).await.unwrap()];
        for _ in 0..=MAX_QUESTIONS {
            held.push(holds.hold(HoldFor::Question, Duration::ZERO).await.unwrap());
        }
    }

    #[tokio::test]
    async fn inserts_rest_as_long_as_questions_kept_them_still_and_not_as_long_as_upkeep_did() {
        let long = 3 * LONGEST_REST;
        for (why, least, most) in
            [(HoldFor::Question, long, 2 * long), (HoldFor::Upkeep, LONGEST_REST, LONGEST_REST + long / 2)]
        {
            let Bench { holds, .. } = bench();
            let mut hold = holds.take(Instant::now() + PATIENCE).await.unwrap();
            hold.began -= long;
            assert!(hold.joined().enter(why, Instant::now()));
            drop(Held { hold: Arc::new(hold), why });
            let rest = holds.rest().0;
            assert!(least < rest + Duration::from_secs(1) && rest < most, "{why:?}: {rest:?}");
        }
    }

    #[tokio::test]
    async fn after_a_hold_inserts_are_left_alone_as_long_as_it_lasted() {
        let Bench { holds, .. } = bench();
        let held = holds.hold(HoldFor::Question, PATIENCE).await.unwrap();
        let began = Instant::now();
        sleep(Duration::from_millis(30)).await;
        let lasted = began.elapsed();
        drop(held);
        let ended = Instant::now();
        assert_eq!(holds.take(ended).await.map(drop), Err(NotHeld::Resting));
        drop(holds.hold(HoldFor::Question, PATIENCE).await.unwrap());
        assert!(ended.elapsed() >= lasted.min(LONGEST_REST), "{:?} after {lasted:?}", ended.elapsed());
    }
}
