//! Whether ClickHouse answers. It is asked even when there is nothing to store, so that a node at rest notices too.
//!
//! In: the store. Out: since when it has not answered, and what went wrong when it was asked last.

use crate::http::App;
use crate::http::error::chain;
use crate::store::StoreError;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Pause between two questions while it answers. Chosen: it costs nothing beside what a node at rest asks anyway.
const PAUSE: Duration = Duration::from_secs(5);
/// The same while it does not, so that its return is seen soon.
const SILENT_PAUSE: Duration = Duration::from_secs(1);
/// How long an answer may take. Chosen: many times what a ClickHouse needs that is busy with questions and merges.
const PATIENCE: Duration = Duration::from_secs(20);

/// When ClickHouse answered last.
#[derive(Debug, Default)]
pub struct Contact {
    silent: Mutex<Option<(Instant, String)>>,
}

/// ClickHouse has not answered for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// Since it was first asked in vain.
    pub lasts: Duration,
    /// What went wrong last.
    pub problem: String,
}

impl Contact {
    fn silent(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        // A plain value: a panic elsewhere leaves it as it was.
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong; `None` while ClickHouse answers, and before it was asked.
    pub fn silence(&self) -> Option<Silence> {
        self.silent().clone().map(|(since, problem)| Silence { lasts: since.elapsed(), problem })
    }

    /// Notes an answer, or that there was none to what was asked at `asked`; whether it answered.
    fn note(&self, asked: Instant, answer: Result<u64, StoreError>) -> bool {
        let mut silent = self.silent();
        *silent = answer.err().map(|error| (silent.as_ref().map_or(asked, |(since, _)| *since), chain(&error)));
        silent.is_none()
    }
}

/// Asks again and again until the server ends.
pub(crate) async fn keep(app: &App) {
    loop {
        let asked = Instant::now();
        let answer = timeout(PATIENCE, app.store.number("SELECT toUInt64(1)")).await;
        let answers = app.contact.note(asked, answer.unwrap_or(Err(StoreError::Timeout)));
        sleep(if answers { PAUSE } else { SILENT_PAUSE }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_lasts_from_the_first_question_in_vain_to_the_next_answer() {
        let contact = Contact::default();
        let first = Instant::now();
        assert!(contact.note(first, Ok(1)) && contact.silence().is_none());
        assert!(!contact.note(first, Err(StoreError::Timeout)));
        let later = first + Duration::from_mins(1);
        assert!(!contact.note(later, Err(StoreError::BrokeOff)));
        assert_eq!(*contact.silent(), Some((first, StoreError::BrokeOff.to_string())));
        assert!(contact.note(later, Ok(1)) && contact.silence().is_none());
    }
}
