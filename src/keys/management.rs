//! How keys come and go: the vault that they lie in, rotation, revocation, clean-up.

use std::time::Duration;

use super::{
    keyring::{Keyring, Keys, KeysError, purpose},
    record::{KeyInfo, KeyRecord, described},
    signer::{Algorithm, Kid, PrivateKey},
    store::{self, KeyStore, Rank},
    vault::{DataKey, MasterKey, Vault},
};
use crate::{
    store::{
        Database, StoreError, Tx,
        changes::{self, Actor, Change, Context},
    },
    types::{
        clock::{Clock, Timestamp},
        randomness::Randomness,
    },
};

/// How long after its making a key begins to sign: every instance has heard of it by then.
pub const SIGNS_AFTER: Duration = Duration::from_secs(2);

/// How long a replaced key verifies after the end of the last token that it signed.
pub const VERIFIES_AFTER_LAST_TOKEN: Duration = Duration::from_hours(30 * 24);

/// How long a revoked key is still listed.
const LISTED_AFTER_REVOCATION: Duration = Duration::from_hours(30 * 24);

/// A key that was made and is not yet in the store.
pub struct NewKey {
    kid: Kid,
    private_key: PrivateKey,
}

/// Opens the store's vault, or makes it on the first start. Of instances that race to make it, one
/// wins and the others use its data key.
///
/// # Errors
/// When the master key is not the one that the store was made with.
pub async fn open_vault(
    database: &Database,
    master_key: &MasterKey,
    clock: &Clock,
    randomness: &Randomness,
) -> Result<Vault, KeysError> {
    let store = KeyStore::new(database.clone());
    let wrapped = if let Some(wrapped) = store.data_key().await? {
        wrapped
    } else {
        let wrapped = master_key.wrap(&DataKey::generate(randomness), randomness);
        store.insert_data_key(&wrapped, clock.now()).await?;
        store.data_key().await?.ok_or(KeysError::NoDataKey)?
    };
    Ok(Vault::new(master_key.unwrap(&wrapped)?))
}

/// Whether the store has been given its data key, so that its master key must be there already.
///
/// # Errors
/// When the store fails.
pub async fn has_vault(database: &Database) -> Result<bool, StoreError> {
    let store = KeyStore::new(database.clone());
    Ok(store.data_key().await?.is_some())
}

/// Whether the store has a signing key, so that a start makes none.
///
/// # Errors
/// When the store fails.
pub async fn has_keys(database: &Database) -> Result<bool, StoreError> {
    let known = KeyStore::new(database.clone()).list().await?;
    Ok(!known.is_empty())
}

impl Keys {
    /// Every key that is kept, with its state, the oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<KeyInfo>, KeysError> {
        let keyset = self.0.read().await?;
        Ok(described(&keyset.records, self.0.clock.now()))
    }

    /// The newest key, if it was made to sign after the one that signs now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn successor(&self) -> Result<Option<KeyRecord>, KeysError> {
        let keyset = self.0.read().await?;
        let now = self.0.clock.now();
        let pending = keyset
            .records
            .iter()
            .filter(|record| record.verifies_at(now) && record.signs_from > now)
            .max_by_key(|record| record.signs_from);
        Ok(pending.cloned())
    }

    /// Makes a key, away from the threads that serve: RSA takes up to a second.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub async fn generate(&self, algorithm: Algorithm) -> Result<NewKey, KeysError> {
        let randomness = self.0.randomness.clone();
        let making = tokio::task::spawn_blocking(move || {
            Ok(NewKey {
                kid: Kid::generate(&randomness),
                private_key: PrivateKey::generate(algorithm, &randomness)?,
            })
        });
        making.await?
    }

    /// Gives a store its first key, which signs at once, unless it has one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ensure_first(
        &self,
        database: &Database,
        algorithm: Algorithm,
    ) -> Result<(), KeysError> {
        if !self.0.read().await?.records.is_empty() {
            return Ok(());
        }
        let key = self.generate(algorithm).await?;
        let now = self.0.clock.now();
        let record = key.record(now, now);
        let mut tx = database.begin().await?;
        changes::lock(&mut tx).await?;
        if store::insert(&mut tx, &record, &self.seal(&key), Rank::First).await? {
            let change = Change::KeyRotated(record.kid.to_string());
            self.record(&mut tx, &Actor::Operator.into(), &change)
                .await?;
            tx.commit().await?;
        }
        self.0.read().await?;
        Ok(())
    }

    /// Adds a key that signs [`SIGNS_AFTER`] from now. The one that it replaces verifies until
    /// [`VERIFIES_AFTER_LAST_TOKEN`] after `last_token_ends`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rotate(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        key: &NewKey,
        last_token_ends: Timestamp,
    ) -> Result<KeyRecord, KeysError> {
        changes::lock(tx).await?;
        let now = self.0.clock.now();
        let record = key.record(now, now.after(SIGNS_AFTER));
        store::insert(tx, &record, &self.seal(key), Rank::Later).await?;
        let until = last_token_ends.after(VERIFIES_AFTER_LAST_TOKEN);
        store::retire_others(tx, &record.kid, until).await?;
        let change = Change::KeyRotated(record.kid.to_string());
        self.record(tx, &by.into(), &change).await?;
        Ok(record)
    }

    /// Ends a key at once: every token that it signed is `bad_signature` from now on. Whether it
    /// had not ended so before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        kid: &Kid,
    ) -> Result<bool, KeysError> {
        changes::lock(tx).await?;
        let now = self.0.clock.now();
        let revoked = store::revoke(tx, kid, now).await?;
        if !store::any_left(tx).await? {
            return Err(KeysError::LastKey);
        }
        if revoked {
            let change = Change::KeyRevoked(kid.to_string());
            self.record(tx, &by.into(), &change).await?;
        }
        Ok(revoked)
    }

    /// Removes up to `limit` keys that nothing needs any more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, limit: i64) -> Result<u64, StoreError> {
        let now = self.0.clock.now();
        let cutoff = now.before(LISTED_AFTER_REVOCATION);
        self.0.store.sweep(now, cutoff, limit).await
    }

    async fn record(&self, tx: &mut Tx, by: &Context, change: &Change) -> Result<(), StoreError> {
        let Keyring {
            clock, randomness, ..
        } = &*self.0;
        changes::record(tx, by, change, clock.now(), randomness).await
    }

    fn seal(&self, key: &NewKey) -> Vec<u8> {
        let purpose = purpose(&key.kid, key.private_key.algorithm());
        let vault = &self.0.vault;
        vault.seal(&purpose, key.private_key.reveal(), &self.0.randomness)
    }
}

impl NewKey {
    fn record(&self, created_at: Timestamp, signs_from: Timestamp) -> KeyRecord {
        KeyRecord {
            kid: self.kid.clone(),
            algorithm: self.private_key.algorithm(),
            created_at,
            signs_from,
            verifies_until: None,
            revoked_at: None,
        }
    }
}
