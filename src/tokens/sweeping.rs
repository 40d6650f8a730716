//! The room's part of the clean-up: records and idempotency keys past their use, and whole
//! partitions of them.

use std::sync::atomic::Ordering;

use super::{
    partitions,
    registry::{KEPT_AFTER_END, KEY_LIFETIME, Tokens},
};
use crate::{store::StoreError, types::clock::Timestamp};

impl Tokens {
    /// Removes up to `limit` records past their use; how many.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, limit: i64) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let from = partitions::swept_from(&self.store, now).await?;
        let cutoff = now.before(KEPT_AFTER_END);
        self.store.sweep(cutoff, from, limit).await
    }

    /// Removes up to `limit` idempotency keys past their use, going on where the last time ended;
    /// how many. Older ones that come later, as by an import, wait for another instance to begin.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep_keys(&self, limit: i64) -> Result<u64, StoreError> {
        let from = Timestamp::from_micros(self.keys_swept_to.load(Ordering::Relaxed));
        let until = self.clock.now().before(KEY_LIFETIME);
        let removed = self.store.sweep_keys(from, until, limit).await?;
        if let Some(last) = removed.iter().max() {
            self.keys_swept_to
                .store(last.as_micros(), Ordering::Relaxed);
        }
        Ok(removed.len() as u64)
    }

    /// Makes partitions ahead, and removes those whose records are all past their use; how many.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn turn_partitions(&self) -> Result<u64, StoreError> {
        partitions::turn(&self.store, self.clock.now(), self.settings.time_to_live).await
    }
}
