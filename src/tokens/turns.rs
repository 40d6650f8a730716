//! Turns: requests about the same thing pass one at a time within an instance.
//!
//! No promise rests on it; those are statements of the store. But of requests that race for one
//! idempotency key, or for the binding of one token, all but one lose in the store, and until they
//! do they hold a call of the site's quota, which another request may be refused for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::OwnedMutexGuard;

use crate::types::ids::{SiteId, TokenId};

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// What requests can be about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// An idempotency key of a site, as its digest.
    Key(SiteId, [u8; 32]),
    /// The first binding of a token.
    Binding(TokenId),
}

type Waiting = Mutex<HashMap<Subject, Arc<tokio::sync::Mutex<()>>>>;

/// Who has the turn, by subject. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Waiting>);

/// The turn of one request; the next one's begins when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    guard: Option<OwnedMutexGuard<()>>,
    /// Whether another request had the turn before it, and may have changed what was known.
    pub(super) has_waited: bool,
    subject: Subject,
    turns: Turns,
}

impl Turns {
    /// Waits for the turn; none when it does not come in time.
    pub(super) async fn take(&self, subject: Subject) -> Option<Turn> {
        let lock = Arc::clone(self.waiting().entry(subject.clone()).or_default());
        // Made before the wait, so that who gives up leaves nothing behind.
        let mut turn = Turn {
            guard: None,
            has_waited: false,
            subject,
            turns: self.clone(),
        };
        let guard = if let Ok(guard) = Arc::clone(&lock).try_lock_owned() {
            guard
        } else {
            turn.has_waited = true;
            let waiting = tokio::time::timeout(PATIENCE, lock.lock_owned());
            waiting.await.ok()?
        };
        turn.guard = Some(guard);
        Some(turn)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<Subject, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut waiting = self.turns.waiting();
        // Who waits holds the lock's other handle.
        if waiting
            .get(&self.subject)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            waiting.remove(&self.subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn subject(number: u128) -> Subject {
        Subject::Binding(TokenId::from_uuid(Uuid::from_u128(number)))
    }

    #[tokio::test]
    async fn the_next_turn_begins_when_the_one_before_ends() {
        let turns = Turns::default();
        let first = turns.take(subject(1)).await.unwrap();
        let other = turns.take(subject(2)).await;
        assert!(other.is_some(), "another subject does not wait");
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take(subject(1)).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn nothing_is_left_behind_by_who_ended_or_gave_up() {
        let turns = Turns::default();
        let first = turns.take(subject(1)).await.unwrap();
        let impatient = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take(subject(1)).await }
        });
        tokio::task::yield_now().await;
        drop(first);
        impatient.abort();
        drop(impatient.await);
        assert!(turns.waiting().is_empty());
    }
}
