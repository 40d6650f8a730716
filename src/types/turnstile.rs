//! Turnstiles: requests about the same subject pass one at a time, and no more than so many wait.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::OwnedMutexGuard, time::timeout};

/// Enough that threads seldom meet at one lock.
const SHARDS: u64 = 16;

/// Too many are at the same subject already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests about the same wait")]
pub struct Crowded;

/// Who is at which subject, within an instance. It remembers what somebody is at, and nothing else.
/// Clones share it.
#[derive(Debug)]
pub(crate) struct Turnstile<K>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K> {
    shards: Box<[Mutex<Subjects<K>>]>,
    hasher: RandomState,
    most: usize,
}

type Subjects<K> = HashMap<K, Subject>;

#[derive(Debug, Default)]
struct Subject {
    /// Who has the turn holds it.
    turn: Arc<tokio::sync::Mutex<()>>,
    places: usize,
}

impl<K: Eq + Hash + Clone> Turnstile<K> {
    /// Nobody is there yet; `most` may be at one subject, who has the turn among them.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Inner {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            most,
        }))
    }

    /// Takes a place at a subject, without a wait.
    ///
    /// # Errors
    /// When all places at it are taken.
    pub(crate) fn enter(&self, key: K) -> Result<Place<K>, Crowded> {
        let mut subjects = self.0.subjects(&key);
        let subject = subjects.entry(key.clone()).or_default();
        if subject.places >= self.0.most {
            return Err(Crowded);
        }
        subject.places += 1;
        let turn = Arc::clone(&subject.turn);
        drop(subjects);
        Ok(Place {
            turnstile: self.clone(),
            key,
            turn,
        })
    }
}

impl<K: Eq + Hash> Inner<K> {
    fn subjects(&self, key: &K) -> MutexGuard<'_, Subjects<K>> {
        let shard = usize::try_from(self.hasher.hash_one(key) % SHARDS).unwrap_or_default();
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for Turnstile<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A place at a subject. Dropped, it is free for the next one.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash> {
    turnstile: Turnstile<K>,
    key: K,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl<K: Eq + Hash> Place<K> {
    /// Waits for the turn, in the order in which it was asked for; none when it does not come within
    /// `patience`.
    pub(crate) async fn turn(self, patience: Duration) -> Option<Turn<K>> {
        let lock = Arc::clone(&self.turn);
        let (guard, has_waited) = match Arc::clone(&lock).try_lock_owned() {
            Ok(guard) => (guard, false),
            Err(_) => (timeout(patience, lock.lock_owned()).await.ok()?, true),
        };
        Some(Turn {
            _guard: guard,
            has_waited,
            _place: self,
        })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut subjects = self.turnstile.0.subjects(&self.key);
        if let Some(subject) = subjects.get_mut(&self.key) {
            subject.places -= 1;
            if subject.places == 0 {
                subjects.remove(&self.key);
            }
        }
    }
}

/// The turn at a subject; the next one's begins when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<K: Eq + Hash> {
    // Before the place: whoever comes when that is free must find the turn free, too.
    _guard: OwnedMutexGuard<()>,
    /// Whether another request had the turn before it, and may have changed what was known.
    pub(crate) has_waited: bool,
    _place: Place<K>,
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, poll};

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn is_empty<K>(turnstile: &Turnstile<K>) -> bool {
        let mut shards = turnstile.0.shards.iter();
        shards.all(|shard| shard.lock().unwrap().is_empty())
    }

    #[tokio::test]
    async fn the_next_turn_begins_when_the_one_before_ends() {
        let turnstile = Turnstile::new(2);
        let first = turnstile.enter(1).unwrap().turn(LONG).await.unwrap();
        let mut waiting = Box::pin(turnstile.enter(1).unwrap().turn(LONG));
        assert!(poll!(&mut waiting).is_pending());
        let other = turnstile.enter(2).unwrap().turn(LONG).now_or_never();
        assert!(!other.flatten().unwrap().has_waited, "another subject");
        drop(first);
        assert!(waiting.await.unwrap().has_waited);
    }

    #[tokio::test]
    async fn who_finds_every_place_taken_is_told_at_once() {
        let turnstile = Turnstile::new(3);
        let places: Vec<_> = (0..3).map(|_| turnstile.enter("a").unwrap()).collect();
        assert_eq!(turnstile.enter("a").unwrap_err(), Crowded);
        assert!(turnstile.enter("b").is_ok(), "another subject");
        drop(places);
        assert!(turnstile.enter("a").is_ok());
    }

    #[tokio::test]
    async fn nothing_is_left_behind_by_who_ended_or_gave_up() {
        let turnstile = Turnstile::new(3);
        let first = turnstile.enter(1).unwrap().turn(LONG).await.unwrap();
        let late = turnstile.enter(1).unwrap().turn(Duration::ZERO).await;
        assert!(late.is_none());
        let mut gone = Box::pin(turnstile.enter(1).unwrap().turn(LONG));
        assert!(poll!(&mut gone).is_pending());
        drop(gone);
        assert!(turnstile.enter(1).is_ok());
        drop(first);
        assert!(is_empty(&turnstile));
    }
}
