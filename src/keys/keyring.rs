//! The keys at work: which one signs, which ones verify, and how they come and go.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use super::{
    record::{KeyInfo, KeyRecord, described, signing},
    signer::{
        Algorithm, Jwks, KeyError, Kid, PrivateKey, SigningKey, TokenClaims, UnverifiedToken,
    },
    store::{self, KeyStore, Rank},
    vault::{DataKey, MasterKey, Vault, VaultError},
};
use crate::{
    store::{
        Database, StoreError, Tx,
        changes::{self, Actor, Change, SeenChange},
        follower::{Following, Follows},
        freshness::Freshness,
    },
    types::{
        clock::{Clock, Monotonic, Timestamp},
        randomness::Randomness,
    },
};

/// How long after its making a key begins to sign: every instance has heard of it by then.
pub const SIGNS_AFTER: Duration = Duration::from_secs(2);

/// How long a replaced key verifies after the end of the last token that it signed.
pub const VERIFIES_AFTER_LAST_TOKEN: Duration = Duration::from_hours(30 * 24);

/// How long a revoked key is still listed.
const LISTED_AFTER_REVOCATION: Duration = Duration::from_hours(30 * 24);

/// How often an unknown `kid` may make us read the keys again.
const REREAD_INTERVAL: Duration = Duration::from_secs(1);

/// Why the keys could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is sealed cannot be opened.
    #[error("the store's keys cannot be opened")]
    Vault(#[from] VaultError),
    /// A key is of no use, or could not be made.
    #[error("a signing key does not work")]
    Key(#[from] KeyError),
    /// No key may sign.
    #[error("there is no key to sign with: make one with `mirrory key rotate`")]
    NoSigningKey,
    /// The work of making a key was cut off.
    #[error("making a key was cut off")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Why a token is not one of ours: reasons 1 and 2 of a validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It is no JWT with the claims of ours.
    Malformed,
    /// No live key of ours signed it for this issuer and audience.
    BadSignature,
}

/// What every token says of who made it and whom it is for.
#[derive(Clone, Debug)]
pub struct KeySettings {
    /// The claim `iss`.
    pub issuer: String,
    /// The claim `aud`.
    pub audience: String,
}

/// The store's signing keys. Clones share them.
#[derive(Clone)]
pub struct Keys(Arc<Keyring>);

struct Keyring {
    store: KeyStore,
    vault: Vault,
    settings: KeySettings,
    clock: Clock,
    randomness: Randomness,
    freshness: Freshness,
    current: RwLock<Arc<Keyset>>,
    /// When the last reading of the keys began; held while they are read.
    reading: tokio::sync::Mutex<Option<Monotonic>>,
    /// When an unknown `kid` last made us read.
    reread_at: Mutex<Option<Monotonic>>,
}

/// The keys as they were read, those that verify ready to use.
#[derive(Default)]
struct Keyset {
    records: Vec<KeyRecord>,
    usable: HashMap<Kid, Arc<SigningKey>>,
}

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
        store.data_key().await?.unwrap_or(wrapped)
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

impl Keys {
    /// The keys of a store, which `vault` opens. None is read yet.
    #[must_use]
    pub fn new(
        database: Database,
        vault: Vault,
        settings: KeySettings,
        clock: Clock,
        randomness: Randomness,
        freshness: Freshness,
    ) -> Self {
        Self(Arc::new(Keyring {
            store: KeyStore::new(database),
            vault,
            settings,
            clock,
            randomness,
            freshness,
            current: RwLock::default(),
            reading: tokio::sync::Mutex::default(),
            reread_at: Mutex::default(),
        }))
    }

    /// Signs a token with the key whose turn it is.
    ///
    /// # Errors
    /// When there is no such key, or the store must be asked and fails.
    pub async fn sign(&self, claims: &TokenClaims) -> Result<String, KeysError> {
        let keyset = self.0.current().await?;
        let key = signing(&keyset.records, self.0.clock.now())
            .and_then(|record| keyset.usable.get(&record.kid))
            .ok_or(KeysError::NoSigningKey)?;
        Ok(key.sign(claims)?)
    }

    /// Checks that a token was made by a live key of ours for this issuer and audience. Its time
    /// and its record are not looked at.
    ///
    /// # Errors
    /// When the store must be asked and fails.
    pub async fn verify(&self, token: &str) -> Result<Result<TokenClaims, Rejected>, KeysError> {
        let Ok(token) = UnverifiedToken::parse(token) else {
            return Ok(Err(Rejected::Malformed));
        };
        let Some(kid) = token.kid() else {
            return Ok(Err(Rejected::BadSignature));
        };
        let mut keyset = self.0.current().await?;
        if keyset.find(kid).is_none() && self.0.may_reread() {
            keyset = self.0.read().await?;
        }
        let now = self.0.clock.now();
        Ok(keyset
            .find(kid)
            .filter(|(record, _)| record.verifies_at(now))
            .and_then(|(_, key)| key.verify(&token).ok())
            .ok_or(Rejected::BadSignature))
    }

    /// The public halves of the keys that verify, or soon will.
    ///
    /// # Errors
    /// When the store must be asked and fails.
    pub async fn public(&self) -> Result<Jwks, KeysError> {
        let keyset = self.0.current().await?;
        let now = self.0.clock.now();
        Ok(keyset
            .records
            .iter()
            .filter(|record| record.verifies_at(now))
            .filter_map(|record| keyset.usable.get(&record.kid))
            .map(AsRef::as_ref)
            .collect())
    }

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
            changes::record(&mut tx, Actor::Service, &change, now).await?;
            tx.commit().await?;
        }
        self.0.read().await?;
        Ok(())
    }

    /// Adds a key that signs [`SIGNS_AFTER`](super::SIGNS_AFTER) from now. The one that it replaces verifies until
    /// [`VERIFIES_AFTER_LAST_TOKEN`](super::VERIFIES_AFTER_LAST_TOKEN) after `last_token_ends`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rotate(
        &self,
        tx: &mut Tx,
        actor: Actor,
        key: &NewKey,
        last_token_ends: Timestamp,
    ) -> Result<KeyRecord, KeysError> {
        changes::lock(tx).await?;
        let now = self.0.clock.now();
        let record = key.record(now, now.after(SIGNS_AFTER));
        store::insert(tx, &record, &self.seal(key), Rank::Later).await?;
        let until = last_token_ends.after(VERIFIES_AFTER_LAST_TOKEN);
        store::retire_others(tx, &record.kid, until).await?;
        changes::record(tx, actor, &Change::KeyRotated(record.kid.to_string()), now).await?;
        Ok(record)
    }

    /// Ends a key at once: every token that it signed is `bad_signature` from now on. Whether it
    /// had not ended so before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke(&self, tx: &mut Tx, actor: Actor, kid: &Kid) -> Result<bool, KeysError> {
        changes::lock(tx).await?;
        let now = self.0.clock.now();
        let revoked = store::revoke(tx, kid, now).await?;
        if revoked {
            changes::record(tx, actor, &Change::KeyRevoked(kid.to_string()), now).await?;
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

    fn seal(&self, key: &NewKey) -> Vec<u8> {
        let purpose = purpose(&key.kid, key.private_key.algorithm());
        let vault = &self.0.vault;
        vault.seal(&purpose, key.private_key.reveal(), &self.0.randomness)
    }
}

impl Follows for Keys {
    fn apply<'a>(&'a self, changes: &'a [SeenChange]) -> Following<'a> {
        Box::pin(async move {
            if changes.iter().any(SeenChange::is_of_keys) {
                self.reset().await?;
            }
            Ok(())
        })
    }

    fn reset(&self) -> Following<'_> {
        Box::pin(async move {
            match self.0.read().await {
                Ok(_) => Ok(()),
                Err(KeysError::Store(error)) => Err(error),
                Err(error) => Err(StoreError::Fault(sqlx::Error::Decode(Box::new(error)))),
            }
        })
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

/// What a sealed key is bound to, so that one cannot be put in the place of another.
fn purpose(kid: &Kid, algorithm: Algorithm) -> String {
    format!("signing-key:{kid}:{algorithm}")
}

impl Keyring {
    /// The keys in memory while the change log is followed, else those of the store.
    async fn current(&self) -> Result<Arc<Keyset>, KeysError> {
        if self.freshness.holds() {
            return Ok(self.in_memory());
        }
        self.read().await
    }

    fn in_memory(&self) -> Arc<Keyset> {
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the keys from the store. Callers that wait while another reads share the next
    /// reading's result, never one that began before they asked.
    async fn read(&self) -> Result<Arc<Keyset>, KeysError> {
        let asked = self.clock.monotonic();
        let mut reading = self.reading.lock().await;
        if reading.is_some_and(|began| began > asked) {
            return Ok(self.in_memory());
        }
        let began = self.clock.monotonic();
        let known = self.in_memory();
        let mut keyset = Keyset::default();
        for stored in self.store.list().await? {
            let record = stored.record;
            if record.verifies_at(self.clock.now()) {
                let key = match known.usable.get(&record.kid) {
                    Some(key) => Arc::clone(key),
                    None => Arc::new(self.unseal(&record, &stored.sealed)?),
                };
                keyset.usable.insert(record.kid.clone(), key);
            }
            keyset.records.push(record);
        }
        let keyset = Arc::new(keyset);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&keyset);
        *reading = Some(began);
        Ok(keyset)
    }

    fn unseal(&self, record: &KeyRecord, sealed: &[u8]) -> Result<SigningKey, KeysError> {
        let purpose = purpose(&record.kid, record.algorithm);
        let opened = self.vault.open(&purpose, sealed)?;
        let private_key = PrivateKey::from_bytes(record.algorithm, &opened);
        let KeySettings { issuer, audience } = &self.settings;
        Ok(SigningKey::new(
            record.kid.clone(),
            &private_key,
            issuer,
            audience,
        )?)
    }

    /// Whether an unknown `kid` may make us read the keys now.
    fn may_reread(&self) -> bool {
        let now = self.clock.monotonic();
        let mut reread_at = self
            .reread_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let may = reread_at.is_none_or(|at| now.since(at) >= REREAD_INTERVAL);
        if may {
            *reread_at = Some(now);
        }
        may
    }
}

impl Keyset {
    fn find(&self, kid: &str) -> Option<(&KeyRecord, &SigningKey)> {
        let record = self
            .records
            .iter()
            .find(|record| record.kid.as_str() == kid)?;
        let key = self.usable.get(&record.kid)?;
        Some((record, key))
    }
}
