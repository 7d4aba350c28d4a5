//! Turns for questions: a few run at a time, the others wait, and who waits goes by what the question took before.
//!
//! In: a name for the question. Out: a turn, which ends when it is dropped. Each question is due some times as long after it was
//! asked as it runs, and the one that is due first goes next. So a short one does not wait behind long ones for many times its own
//! length, and a long one is not put off for ever by short ones: what is asked later than it is due comes after it. Who is known to run
//! for a moment only may also take the one further turn that is kept for such, since the others may just have begun with long ones.
//!
//! Invariant: turns given and turns free are always as many together as there are. One that is given to somebody who has gone is
//! passed on.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How many times as long as it runs a question may take, waiting included, before others go first. Chosen: five at once each take about
/// that on two cores.
const PATIENCE: u32 = 6;
/// What a question is taken to run that was not asked before. Chosen: most take less.
const UNKNOWN: Duration = Duration::from_secs(2);
/// Up to how long a question is one of a moment. Chosen: it takes a half of the cores from the others for two of these.
const MOMENT: Duration = Duration::from_secs(1);
/// By which part of what it took more than before a question is taken to run longer: beside others it takes longer than alone.
const GROWS_BY: u32 = 8;
/// How many questions are remembered. Chosen: some times what the saved ones of a few projects are.
const MAX_REMEMBERED: usize = 1_024;

/// The turns of a server.
#[derive(Debug)]
pub struct Turns(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    /// Whether the turn for those of a moment is.
    is_moment_free: bool,
    /// Who waits, by when they are due; the number tells those apart that are due at once.
    waiting: BTreeMap<(Instant, u64), Waiting>,
    next_number: u64,
    /// What each question runs, about as if alone.
    runs: HashMap<String, Duration>,
}

#[derive(Debug)]
struct Waiting {
    question: String,
    is_of_moment: bool,
    given: oneshot::Sender<Turn>,
}

/// A turn of a question; ends when dropped.
#[derive(Debug)]
pub struct Turn {
    /// `None` once it was passed on.
    turns: Option<Arc<Turns>>,
    /// Whether it is the one for those of a moment.
    is_of_moment: bool,
    question: String,
    begun: Instant,
}

impl Turns {
    /// So many at a time, and one of a moment.
    pub fn new(count: usize) -> Arc<Self> {
        let state =
            State { free: count, is_moment_free: true, waiting: BTreeMap::new(), next_number: 0, runs: HashMap::new() };
        Arc::new(Self(Mutex::new(state)))
    }

    /// Waits for a turn. `question` is whatever names those that run about as long.
    pub async fn take(self: &Arc<Self>, question: String) -> Turn {
        loop {
            let given = match self.queue(&question) {
                Place::Free { is_of_moment } => return self.turn(question, is_of_moment),
                Place::Waits(given) => given,
            };
            if let Ok(mut turn) = given.await {
                turn.begun = Instant::now();
                return turn;
            }
        }
    }

    /// Takes a free turn, or a place among those who wait.
    fn queue(&self, question: &str) -> Place {
        let mut state = self.state();
        if state.free > 0 {
            state.free -= 1;
            return Place::Free { is_of_moment: false };
        }
        let known = state.runs.get(question).copied();
        let is_of_moment = known.is_some_and(|runs| runs <= MOMENT);
        if is_of_moment && std::mem::take(&mut state.is_moment_free) {
            return Place::Free { is_of_moment };
        }
        let due = Instant::now() + known.unwrap_or(UNKNOWN) * PATIENCE;
        let place = (due, state.next_number);
        state.next_number += 1;
        let (given, receiver) = oneshot::channel();
        state.waiting.insert(place, Waiting { question: question.to_owned(), is_of_moment, given });
        Place::Waits(receiver)
    }

    fn turn(self: &Arc<Self>, question: String, is_of_moment: bool) -> Turn {
        Turn { turns: Some(Arc::clone(self)), is_of_moment, question, begun: Instant::now() }
    }

    /// Gives a turn that has ended to who is due first, or keeps it.
    fn pass_on(self: &Arc<Self>, is_of_moment: bool) {
        loop {
            let next = {
                let mut state = self.state();
                let place = state.waiting.iter().find(|(_, waiting)| waiting.is_of_moment || !is_of_moment);
                let place = place.map(|(place, _)| *place);
                match (place.and_then(|place| state.waiting.remove(&place)), is_of_moment) {
                    (Some(waiting), _) => waiting,
                    (None, true) => {
                        state.is_moment_free = true;
                        return;
                    }
                    (None, false) => {
                        state.free += 1;
                        return;
                    }
                }
            };
            let Waiting { question, given, .. } = next;
            match given.send(self.turn(question, is_of_moment)) {
                Ok(()) => return,
                // Nobody waits for it any more: the next one.
                Err(mut turn) => turn.turns = None,
            }
        }
    }

    fn remember(&self, question: String, took: Duration) {
        let mut state = self.state();
        if state.runs.len() >= MAX_REMEMBERED && !state.runs.contains_key(&question) {
            state.runs.clear();
        }
        let runs = state.runs.entry(question).or_insert(took);
        *runs = took.min(*runs + took.saturating_sub(*runs) / GROWS_BY);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // What is in it holds after every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of asking for a turn.
enum Place {
    /// It can be had.
    Free { is_of_moment: bool },
    /// It will be given here.
    Waits(oneshot::Receiver<Turn>),
}

impl Turn {
    /// Ends the turn and remembers how long the question ran. One that is dropped instead was broken off.
    pub fn end(mut self) {
        if let Some(turns) = &self.turns {
            turns.remember(std::mem::take(&mut self.question), self.begun.elapsed());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.pass_on(self.is_of_moment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn free(turns: &Turns) -> usize {
        turns.state().free
    }

    /// Whether a future has ended by now, without waiting.
    fn ended<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_ran_shortest_goes_first_unless_others_are_overdue() {
        let turns = Turns::new(1);
        turns.remember("short".to_owned(), Duration::from_millis(1_100));
        turns.remember("long".to_owned(), Duration::from_secs(20));
        let mut first = pin!(turns.take("new".to_owned()));
        let running = ended(first.as_mut()).unwrap();
        let mut long = pin!(turns.take("long".to_owned()));
        let mut unknown = pin!(turns.take("unknown".to_owned()));
        let mut short = pin!(turns.take("short".to_owned()));
        let mut again = pin!(turns.take("short".to_owned()));
        assert!(ended(long.as_mut()).is_none() && ended(unknown.as_mut()).is_none());
        assert!(ended(short.as_mut()).is_none() && ended(again.as_mut()).is_none());
        running.end();
        let turn = ended(short.as_mut()).expect("the shortest");
        assert!(ended(again.as_mut()).is_none() && ended(unknown.as_mut()).is_none() && ended(long.as_mut()).is_none());
        drop(turn);
        let turn = ended(again.as_mut()).expect("as short, asked later");
        drop(turn);
        let turn = ended(unknown.as_mut()).expect("taken to run two seconds");
        drop(turn);
        drop(ended(long.as_mut()).expect("the longest"));
        assert_eq!(free(&turns), 1);

        // What is long, but was asked so long ago that it is due, goes before anything that is asked now.
        let running = ended(pin!(turns.take("new".to_owned())).as_mut()).unwrap();
        turns.state().runs.extend([("due".to_owned(), Duration::from_millis(2)), ("short".to_owned(), Duration::ZERO)]);
        let _taken = ended(pin!(turns.take("due".to_owned())).as_mut()).expect("the turn of a moment");
        let mut due = pin!(turns.take("due".to_owned()));
        assert!(ended(due.as_mut()).is_none());
        std::thread::sleep(Duration::from_millis(2) * PATIENCE);
        let mut short = pin!(turns.take("short".to_owned()));
        assert!(ended(short.as_mut()).is_none());
        drop(running);
        assert!(ended(short.as_mut()).is_none());
        drop(ended(due.as_mut()).expect("what is due"));
        drop(ended(short.as_mut()).expect("what is left"));
        assert_eq!(free(&turns), 1);
    }

    #[test]
    fn a_turn_for_somebody_who_has_gone_is_passed_on() {
        let turns = Turns::new(1);
        let running = ended(pin!(turns.take("a".to_owned())).as_mut()).unwrap();
        {
            let mut gone_before = Box::pin(turns.take("a".to_owned()));
            assert!(ended(gone_before.as_mut()).is_none());
        }
        let mut gone_after = Box::pin(turns.take("a".to_owned()));
        assert!(ended(gone_after.as_mut()).is_none());
        let mut waits = pin!(turns.take("a".to_owned()));
        assert!(ended(waits.as_mut()).is_none());
        drop(running);
        // It was given the turn, and goes without having looked.
        drop(gone_after);
        drop(ended(waits.as_mut()).expect("the one who still waits"));
        assert_eq!(free(&turns), 1);
    }

    #[test]
    fn a_question_of_a_moment_has_a_turn_of_its_own_and_no_other_takes_it() {
        let turns = Turns::new(1);
        turns.remember("moment".to_owned(), MOMENT);
        let long = ended(pin!(turns.take("long".to_owned())).as_mut()).unwrap();
        let mut waits = pin!(turns.take("long".to_owned()));
        assert!(ended(waits.as_mut()).is_none());
        let moment = ended(pin!(turns.take("moment".to_owned())).as_mut()).expect("beside the long one");
        let mut second = pin!(turns.take("moment".to_owned()));
        assert!(ended(second.as_mut()).is_none(), "one at a time");
        drop(moment);
        assert!(ended(waits.as_mut()).is_none(), "not for this one");
        drop(ended(second.as_mut()).expect("for the next of a moment"));
        assert!(ended(waits.as_mut()).is_none() && turns.state().is_moment_free);
        drop(long);
        drop(ended(waits.as_mut()).expect("its turn"));
        assert_eq!(free(&turns), 1);
    }

    #[test]
    fn what_a_question_runs_is_what_it_takes_alone_and_follows_what_it_takes_later() {
        let turns = Turns::new(1);
        let runs = |took: u64| {
            turns.remember("one".to_owned(), Duration::from_millis(took));
            turns.state().runs["one"]
        };
        assert_eq!(runs(800), Duration::from_millis(800));
        assert_eq!(runs(1_600), Duration::from_millis(900), "beside others, or for good");
        assert_eq!(runs(700), Duration::from_millis(700));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let turns = Turns::new(1);
        for number in 0..3 * MAX_REMEMBERED {
            turns.remember(number.to_string(), UNKNOWN);
        }
        assert!(turns.state().runs.len() <= MAX_REMEMBERED);
    }
}
