//! What is noticed of a store while it is used: whether our clock agrees with it, and whether it takes
//! writes.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::{Database, StoreError};
use crate::types::{clock::Timestamp, store_time::StoreTime};

#[derive(Debug, Default)]
pub(super) struct Observed {
    time: StoreTime,
    /// The least time that can be, in microseconds.
    least: AtomicI64,
    writes: Writes,
}

#[derive(Debug, Default)]
struct Writes {
    done: AtomicU64,
    /// Whether the last one that was done or refused was refused.
    is_refused: AtomicBool,
}

impl Database {
    /// How our clock compares with the store's time.
    #[must_use]
    pub fn time(&self) -> &StoreTime {
        &self.observed().time
    }

    /// Sets the least time that can be: a clock before it is wrong, also beside an empty store.
    pub fn set_least_time(&self, least: Timestamp) {
        let least = least.as_micros();
        self.observed().least.store(least, Ordering::Relaxed);
    }

    pub(super) fn least_time(&self) -> Timestamp {
        Timestamp::from_micros(self.observed().least.load(Ordering::Relaxed))
    }

    /// Notes what a write came to.
    pub(crate) fn note_write<T>(&self, outcome: &Result<T, StoreError>) {
        let writes = &self.observed().writes;
        match outcome {
            Ok(_) => {
                writes.done.fetch_add(1, Ordering::Relaxed);
                if writes.is_refused.load(Ordering::Relaxed) {
                    writes.is_refused.store(false, Ordering::Relaxed);
                }
            }
            Err(error) if error.is_of_no_writes() => {
                writes.is_refused.store(true, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }

    /// How many writes were done; none when the last one was refused since the store takes none.
    pub(crate) fn writes_done(&self) -> Option<u64> {
        let writes = &self.observed().writes;
        let is_refused = writes.is_refused.load(Ordering::Relaxed);
        (!is_refused).then(|| writes.done.load(Ordering::Relaxed))
    }
}
