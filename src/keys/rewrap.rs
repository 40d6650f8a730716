//! Changing the master key: the one data key is wrapped anew, and nothing else is touched. Servers
//! hold the data key in memory, and notice nothing.

use super::{
    keyring::KeysError,
    store::{self, KeyStore},
    vault::MasterKey,
};
use crate::{
    store::{
        Database, StoreError, Tx,
        changes::{self, Change, Context},
    },
    types::{clock::Timestamp, randomness::Randomness},
};

/// When the data key was wrapped under the new master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrapped {
    /// In this transaction.
    Now,
    /// Before: the new master key was the store's already.
    Before,
}

/// Whether the store has a data key, and this master key opens it.
///
/// # Errors
/// When the store fails.
pub async fn opens(database: &Database, master_key: &MasterKey) -> Result<bool, StoreError> {
    let wrapped = KeyStore::new(database.clone()).data_key().await?;
    Ok(wrapped.is_some_and(|wrapped| master_key.unwrap(&wrapped).is_ok()))
}

/// Makes `new` the store's master key in place of `old`.
///
/// # Errors
/// When neither is the store's master key, there is nothing that it opens, or the store fails.
pub async fn rewrap(
    tx: &mut Tx,
    by: impl Into<Context>,
    (old, new): (&MasterKey, &MasterKey),
    now: Timestamp,
    randomness: &Randomness,
) -> Result<Rewrapped, KeysError> {
    changes::lock(tx).await?;
    let wrapped = store::data_key(tx).await?.ok_or(KeysError::NothingSealed)?;
    if new.unwrap(&wrapped).is_ok() {
        return Ok(Rewrapped::Before);
    }
    let data_key = old.unwrap(&wrapped)?;
    store::replace_data_key(tx, &new.wrap(&data_key, randomness)).await?;
    changes::record(tx, &by.into(), &Change::MasterKeyRotated, now, randomness).await?;
    Ok(Rewrapped::Now)
}
