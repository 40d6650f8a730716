//! What an instance remembers of the store: bounded, and good only while the change log is followed.

use std::{
    fmt,
    hash::Hash,
    sync::{OnceLock, PoisonError, RwLock, RwLockWriteGuard},
};

use quick_cache::sync::Cache;

use super::freshness::Freshness;
use crate::{telemetry::metrics::Lookups, types::clock::Monotonic};

/// A part of the store in memory. Rows that are used stay, of the others the bound lets go.
///
/// A reading of the store may be overtaken: a change is made and followed between the reading and
/// its keeping. So who reads takes a [`Reading`] first, and what a change came between is not kept.
pub struct Memory<Key, Row> {
    rows: Cache<Key, Row>,
    freshness: Freshness,
    /// How many changes were followed.
    changes: RwLock<u64>,
    lookups: OnceLock<Lookups>,
}

/// The moment before the store was read.
#[derive(Clone, Copy, Debug)]
pub struct Reading(u64);

impl<Key: Eq + Hash, Row: Clone> Memory<Key, Row> {
    /// Room for about `capacity` rows.
    #[must_use]
    pub fn new(capacity: usize, freshness: Freshness) -> Self {
        Self {
            rows: Cache::new(capacity),
            freshness,
            changes: RwLock::default(),
            lookups: OnceLock::new(),
        }
    }

    /// Has its look-ups counted; the first call holds.
    pub(crate) fn measured_by(&self, lookups: Lookups) {
        let _first = self.lookups.set(lookups);
    }

    /// A row, if it is remembered and may be trusted now: a moment since which the caller has waited
    /// for nothing.
    #[must_use]
    pub fn get(&self, key: &Key, now: Monotonic) -> Option<Row> {
        let is_trusted = self.freshness.holds_at(now);
        let row = is_trusted.then(|| self.rows.get(key)).flatten();
        if let Some(lookups) = self.lookups.get() {
            lookups.count(row.is_some());
        }
        row
    }

    /// To be taken before the store is read for what shall be kept.
    #[must_use]
    pub fn reading(&self) -> Reading {
        Reading(*self.changes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps what was read, unless a change was followed since.
    pub fn keep(&self, reading: Reading, key: Key, row: Row) {
        let changes = self.changes.read().unwrap_or_else(PoisonError::into_inner);
        if *changes == reading.0 {
            self.rows.insert(key, row);
        }
    }

    /// Forgets some rows, since they were changed.
    pub fn forget(&self, keys: impl IntoIterator<Item = Key>) {
        let _changing = self.changing();
        for key in keys {
            self.rows.remove(&key);
        }
    }

    /// Forgets every row.
    pub fn forget_all(&self) {
        let _changing = self.changing();
        self.rows.clear();
    }

    /// Counts a change; until the guard is dropped nothing is kept.
    fn changing(&self) -> RwLockWriteGuard<'_, u64> {
        let mut changes = self.changes.write().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        changes
    }
}

impl<Key, Row> fmt::Debug for Memory<Key, Row> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Memory")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::clock::{Clock, ManualClock, Timestamp};

    fn memory() -> (Memory<u32, &'static str>, Freshness, Clock, ManualClock) {
        let hand = ManualClock::starting_at(Timestamp::from_seconds(0));
        let freshness = Freshness::new(hand.clock());
        let memory = Memory::new(8, freshness.clone());
        (memory, freshness, hand.clock(), hand)
    }

    #[test]
    fn a_row_is_trusted_only_while_the_log_is_followed() {
        let (memory, freshness, clock, hand) = memory();
        memory.keep(memory.reading(), 1, "row");
        assert_eq!(memory.get(&1, clock.monotonic()), None);
        freshness.extend_from(clock.monotonic());
        assert_eq!(memory.get(&1, clock.monotonic()), Some("row"));
        hand.advance(Duration::from_secs(1));
        assert_eq!(memory.get(&1, clock.monotonic()), None);
    }

    #[test]
    fn what_a_change_overtook_is_not_kept() {
        let (memory, freshness, clock, _) = memory();
        freshness.extend_from(clock.monotonic());
        let overtaken = memory.reading();
        memory.forget([1]);
        memory.keep(overtaken, 1, "stale");
        assert_eq!(memory.get(&1, clock.monotonic()), None);
        memory.keep(memory.reading(), 1, "fresh");
        assert_eq!(memory.get(&1, clock.monotonic()), Some("fresh"));
        let overtaken = memory.reading();
        memory.forget_all();
        memory.keep(overtaken, 1, "stale");
        assert_eq!(memory.get(&1, clock.monotonic()), None);
    }

    #[test]
    fn the_rows_are_bounded() {
        let (memory, freshness, clock, _) = memory();
        freshness.extend_from(clock.monotonic());
        for key in 0..1000 {
            memory.keep(memory.reading(), key, "row");
        }
        let remembered = (0..1000)
            .filter(|key| memory.get(key, clock.monotonic()).is_some())
            .count();
        assert!((1..=8).contains(&remembered), "{remembered}");
    }
}
