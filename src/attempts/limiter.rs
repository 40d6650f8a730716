//! What is remembered of each key, in bounded space.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use hashbrown::HashTable;

use super::TooManyAttempts;
use crate::types::clock::Monotonic;

/// The most keys that a limiter remembers.
const KEYS: usize = 65_536;
/// Enough that threads seldom meet at one lock.
const SHARDS: usize = 64;

/// A kind of limit: a pure rule over what is remembered of a key.
pub(super) trait Rule {
    /// What is remembered of a key.
    type State: Copy;

    /// The state with one more event in it, from the state that has not ended yet.
    fn take(
        &self,
        state: Option<Self::State>,
        now: Monotonic,
    ) -> Result<Self::State, TooManyAttempts>;

    /// From when on the state says no more than none at all.
    fn ends(&self, state: Self::State) -> Monotonic;

    /// Whether that moment has come.
    fn has_ended(&self, state: Self::State, now: Monotonic) -> bool {
        self.ends(state) <= now
    }
}

/// No map, which would hash the key once more after its shard was found by it.
type Table<Key, State> = HashTable<(Key, State)>;
type Shard<Key, State> = Mutex<Table<Key, State>>;

/// One [`Rule`] for many keys.
///
/// Keys are spread by a random hash, so that nobody can choose keys that crowd one shard. A full
/// shard first forgets what has ended, then what ends soonest, down to a half: a sweep over a shard
/// pays for half a shard of new keys, so an event costs constant time on average, and the keys that
/// are limited longest are remembered longest.
#[derive(Debug)]
pub(super) struct Limiter<Key, R: Rule> {
    rule: R,
    shards: Box<[Shard<Key, R::State>]>,
    keys_per_shard: usize,
    hasher: RandomState,
}

impl<Key: Eq + Hash, R: Rule> Limiter<Key, R> {
    pub(super) fn new(rule: R) -> Self {
        Self {
            rule,
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            keys_per_shard: KEYS / SHARDS,
            hasher: RandomState::new(),
        }
    }

    /// Counts one event of the key.
    ///
    /// # Errors
    /// When the rule refuses it; nothing is counted then.
    pub(super) fn take(&self, key: Key, now: Monotonic) -> Result<(), TooManyAttempts> {
        let hash = self.hasher.hash_one(&key);
        let mut shard = self.shard(hash);
        if let Some((_, state)) = shard.find_mut(hash, |(known, _)| *known == key) {
            let live = Some(*state).filter(|state| !self.rule.has_ended(*state, now));
            *state = self.rule.take(live, now)?;
        } else {
            let state = self.rule.take(None, now)?;
            if shard.len() >= self.keys_per_shard {
                self.make_room(&mut shard, now);
            }
            shard.insert_unique(hash, (key, state), |(known, _)| self.hasher.hash_one(known));
        }
        Ok(())
    }

    /// Changes what is remembered of the key, if anything is.
    pub(super) fn change(&self, key: &Key, change: impl FnOnce(&R, &mut R::State)) {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        if let Some((_, state)) = shard.find_mut(hash, |(known, _)| known == key) {
            change(&self.rule, state);
        }
    }

    /// The shard of a hash, by other bits of it than the table uses.
    fn shard(&self, hash: u64) -> MutexGuard<'_, Table<Key, R::State>> {
        let [.., byte, _, _] = hash.to_le_bytes();
        let shard = &self.shards[usize::from(byte) % self.shards.len()];
        // A rule that panicked has written nothing: states are replaced whole.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_room(&self, shard: &mut Table<Key, R::State>, now: Monotonic) {
        shard.retain(|(_, state)| !self.rule.has_ended(*state, now));
        let ends = shard.iter().map(|(_, state)| self.rule.ends(*state));
        let mut ends: Vec<_> = ends.collect();
        let Some(last) = ends.len().checked_sub(self.keys_per_shard / 2 + 1) else {
            return;
        };
        let (sooner, &mut last, _) = ends.select_nth_unstable(last);
        // Of those that end at that very moment, no more go than must.
        let mut ties = 1 + sooner.iter().filter(|end| **end == last).count();
        shard.retain(|(_, state)| {
            let end = self.rule.ends(*state);
            if end == last && ties > 0 {
                ties -= 1;
                return false;
            }
            end >= last
        });
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        let lock = |shard: &Shard<Key, R::State>| shard.lock().unwrap().len();
        self.shards.iter().map(lock).sum()
    }
}
