//! When tokens were last used: noted in memory, written once a second for many at a time.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    iter, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use super::store::TokenStore;
use crate::{
    store::StoreError,
    types::{
        clock::{LAST_USE_STEP, Timestamp},
        ids::TokenId,
    },
};

/// How many uses may wait to be written, so that a store that is away does not fill the memory.
const PLACES: usize = 65_536;

/// How many uses one statement writes.
const AT_ONCE: usize = 1000;

/// When the use of a token was last noted here; for whoever keeps its record in memory.
#[derive(Debug)]
pub struct LastNoted(AtomicI64);

impl LastNoted {
    /// Begins with what the store knows.
    #[must_use]
    pub fn new(last_validated_at: Option<Timestamp>) -> Self {
        Self(AtomicI64::new(
            last_validated_at.map_or(0, Timestamp::as_micros),
        ))
    }

    /// Whether a use is to be noted now; of many that ask at once, one is told so. While a clock that
    /// was set back catches up none is: the store keeps the latest.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        Timestamp::from_micros(last) <= now.before(LAST_USE_STEP)
            && self
                .0
                .compare_exchange(last, now.as_micros(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// The uses that are not written yet. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingUses(Arc<Mutex<Pending>>);

#[derive(Debug, Default)]
struct Pending {
    uses: BTreeMap<TokenId, Timestamp>,
    let_go: u64,
}

impl PendingUses {
    /// Notes a use, or lets it go when too many wait.
    pub(super) fn note(&self, token_id: TokenId, used_at: Timestamp) {
        let mut pending = self.pending();
        let is_full = pending.uses.len() >= PLACES;
        match pending.uses.entry(token_id) {
            Entry::Occupied(mut noted) => {
                let latest = used_at.max(*noted.get());
                noted.insert(latest);
            }
            Entry::Vacant(place) if !is_full => {
                place.insert(used_at);
            }
            Entry::Vacant(_) => pending.let_go += 1,
        }
    }

    /// Writes them all; what could not be written waits on.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn flush(&self, store: &TokenStore) -> Result<(), StoreError> {
        let let_go = self.let_go();
        if let_go > 0 {
            tracing::warn!(
                let_go,
                "last uses were not noted: too many waited to be written"
            );
        }
        loop {
            let uses = self.take(AT_ONCE);
            if let Err(error) = store.touch(&uses).await {
                for (token_id, used_at) in uses {
                    self.note(token_id, used_at);
                }
                return Err(error);
            }
            if uses.len() < AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Takes up to `limit` of them, sorted by token.
    fn take(&self, limit: usize) -> Vec<(TokenId, Timestamp)> {
        let uses = &mut self.pending().uses;
        iter::from_fn(|| uses.pop_first()).take(limit).collect()
    }

    /// How many were let go since this was last asked.
    fn let_go(&self) -> u64 {
        mem::take(&mut self.pending().let_go)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    const NOON: Timestamp = Timestamp::from_seconds(1_795_262_400);

    fn token(number: usize) -> TokenId {
        TokenId::from_uuid(Uuid::from_u128(number as u128))
    }

    #[test]
    fn a_use_is_due_once_a_minute() {
        let noted = LastNoted::new(None);
        assert!(noted.is_due(NOON));
        assert!(!noted.is_due(NOON));
        assert!(!noted.is_due(NOON.after(Duration::from_secs(59))));
        assert!(noted.is_due(NOON.after(LAST_USE_STEP)));
        assert!(!LastNoted::new(Some(NOON)).is_due(NOON));
    }

    #[test]
    fn a_use_before_the_last_one_is_not_due() {
        let noted = LastNoted::new(Some(NOON));
        assert!(!noted.is_due(NOON.before(LAST_USE_STEP)));
        assert!(noted.is_due(NOON.after(LAST_USE_STEP)));
    }

    #[test]
    fn of_one_token_the_latest_use_is_kept_and_tokens_come_sorted() {
        let pending = PendingUses::default();
        let later = NOON.after(LAST_USE_STEP);
        for (number, used_at) in [(3, NOON), (1, later), (2, NOON), (1, NOON)] {
            pending.note(token(number), used_at);
        }
        assert_eq!(pending.take(2), [(token(1), later), (token(2), NOON)]);
        assert_eq!(pending.take(2), [(token(3), NOON)]);
        assert!(pending.take(2).is_empty());
    }

    #[test]
    fn when_full_only_tokens_that_wait_already_are_noted() {
        let pending = PendingUses::default();
        for number in 0..PLACES + 2 {
            pending.note(token(number), NOON);
        }
        let later = NOON.after(LAST_USE_STEP);
        pending.note(token(0), later);
        assert_eq!([pending.let_go(), pending.let_go()], [2, 0]);
        assert_eq!(pending.take(1), [(token(0), later)]);
        assert_eq!(pending.take(usize::MAX).len(), PLACES - 1);
    }
}
