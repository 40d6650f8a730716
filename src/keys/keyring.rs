//! The keys at work: which one signs, and which ones verify.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{
    record::{KeyRecord, signing},
    signer::{
        Algorithm, Jwks, KeyError, Kid, PrivateKey, SigningKey, TokenClaims, UnverifiedToken,
    },
    store::{KeyStore, StoredKey},
    vault::{Vault, VaultError},
};
use crate::{
    store::{
        Database, Share, StoreError,
        changes::SeenChange,
        follower::{Following, Follows},
        freshness::Freshness,
    },
    types::{
        clock::{Clock, Monotonic, Timestamp},
        randomness::Randomness,
    },
};

/// How often an unknown `kid` may make us read the keys again.
const REREAD_INTERVAL: Duration = Duration::from_secs(1);

/// Why the keys could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is sealed cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A key is of no use, or could not be made.
    #[error("a signing key does not work")]
    Key(#[from] KeyError),
    /// No key may sign.
    #[error("there is no key to sign with: make one with `mirrory key rotate`")]
    NoSigningKey,
    /// The key that was to be revoked is the only one.
    #[error("it is the only key that is left: make another first with `mirrory key rotate`")]
    LastKey,
    /// The store's data key was written, and is not there.
    #[error("the store lost its data key as soon as it was made")]
    NoDataKey,
    /// There is nothing under a master key.
    #[error("the store has no keys yet: `mirrory serve` makes them")]
    NothingSealed,
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
    /// How many tokens are recognised without checking their signatures again.
    pub remembered: usize,
}

/// The SHA-256 of a whole token: no other one can be taken for it, and it is none itself.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TokenDigest([u8; 32]);

impl TokenDigest {
    fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl Hash for TokenDigest {
    /// By its beginning: it is spread evenly already.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let beginning = self.0.first_chunk().copied().unwrap_or_default();
        state.write_u64(u64::from_ne_bytes(beginning));
    }
}

/// A token whose signature was checked, by a key that may have gone since.
#[derive(Clone)]
struct Verified {
    key: Arc<SigningKey>,
    claims: TokenClaims,
}

/// The store's signing keys. Clones share them.
#[derive(Clone)]
pub struct Keys(pub(super) Arc<Keyring>);

pub(super) struct Keyring {
    pub(super) store: KeyStore,
    pub(super) vault: Vault,
    settings: KeySettings,
    pub(super) clock: Clock,
    pub(super) randomness: Randomness,
    freshness: Freshness,
    current: RwLock<Arc<Keyset>>,
    /// What a key has signed stays so, and its key is looked at each time: nothing here grows stale.
    verified: Cache<TokenDigest, Verified>,
    /// What came of the last reading of the keys; held while they are read.
    reading: tokio::sync::Mutex<Option<Reading>>,
    /// When an unknown `kid` last made us read.
    reread_at: Mutex<Option<Monotonic>>,
}

/// What came of reading the keys.
#[derive(Clone, Copy)]
enum Reading {
    Done { began: Monotonic },
    Failed { ended: Monotonic },
}

/// The keys as they were read, those that verify ready to use.
#[derive(Default)]
pub(super) struct Keyset {
    pub(super) records: Vec<KeyRecord>,
    usable: HashMap<Kid, Usable>,
}

pub(super) struct Usable {
    record: KeyRecord,
    pub(super) key: Arc<SigningKey>,
}

impl Keyset {
    /// The key that signs now.
    pub(super) fn signing(&self, now: Timestamp) -> Option<&SigningKey> {
        let record = signing(&self.records, now)?;
        let usable = self.usable.get(&record.kid)?;
        Some(usable.key.as_ref())
    }

    /// The key of this id, if tokens that it signed may be valid.
    pub(super) fn verifying(&self, kid: &str, now: Timestamp) -> Option<&Usable> {
        self.usable
            .get(kid)
            .filter(|usable| usable.record.verifies_at(now))
    }
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
            verified: Cache::new(settings.remembered),
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
        let key = keyset.signing(self.0.clock.now());
        Ok(key.ok_or(KeysError::NoSigningKey)?.sign(claims)?)
    }

    /// Checks that a token was made by a live key of ours for this issuer and audience. Its time
    /// and its record are not looked at.
    ///
    /// # Errors
    /// When the store must be asked and fails.
    pub async fn verify(&self, token: &str) -> Result<Result<TokenClaims, Rejected>, KeysError> {
        let digest = TokenDigest::of(token);
        if let Some(claims) = self.0.recognised(&digest) {
            return Ok(Ok(claims));
        }
        // On the heap, for it is large, and most tokens are recognised.
        Box::pin(self.0.check(token, digest)).await
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
            .map(|usable| usable.key.as_ref())
            .collect())
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
                Err(error) => Err(StoreError::unreadable(error)),
            }
        })
    }
}

/// What a sealed key is bound to, so that one cannot be put in the place of another.
pub(super) fn purpose(kid: &Kid, algorithm: Algorithm) -> String {
    format!("signing-key:{kid}:{algorithm}")
}

impl Keyring {
    /// The keys in memory while the change log is followed, else those of the store.
    pub(super) async fn current(&self) -> Result<Arc<Keyset>, KeysError> {
        if self.freshness.holds() {
            return Ok(self.in_memory());
        }
        self.read().await
    }

    /// The keys with that of this id, which an unknown one is looked for in the store for.
    pub(super) async fn knowing(&self, kid: &str) -> Result<Arc<Keyset>, KeysError> {
        let keyset = self.current().await?;
        if keyset.usable.contains_key(kid) || !self.may_reread() {
            return Ok(keyset);
        }
        self.read().await
    }

    /// What a token says that was checked before, by a key that still verifies.
    fn recognised(&self, digest: &TokenDigest) -> Option<TokenClaims> {
        if !self.freshness.holds() {
            return None;
        }
        let known = self.verified.get(digest)?;
        let keyset = self.in_memory();
        keyset.verifying(known.key.kid().as_str(), self.clock.now())?;
        Some(known.claims)
    }

    /// Checks the signature of a token that was not seen before.
    async fn check(
        &self,
        token: &str,
        digest: TokenDigest,
    ) -> Result<Result<TokenClaims, Rejected>, KeysError> {
        let Ok(token) = UnverifiedToken::parse(token) else {
            return Ok(Err(Rejected::Malformed));
        };
        let Some(kid) = token.kid() else {
            return Ok(Err(Rejected::BadSignature));
        };
        let keyset = self.knowing(kid).await?;
        let now = self.clock.now();
        let Some(usable) = keyset.verifying(kid, now) else {
            return Ok(Err(Rejected::BadSignature));
        };
        let Ok(claims) = usable.key.verify(&token) else {
            return Ok(Err(Rejected::BadSignature));
        };
        let key = Arc::clone(&usable.key);
        let verified = Verified { key, claims };
        self.verified.insert(digest, verified);
        Ok(Ok(claims))
    }

    fn in_memory(&self) -> Arc<Keyset> {
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the keys from the store. Callers that wait while another reads share what comes of the
    /// next reading: its keys if it began after they asked, its failure if it ended after.
    pub(super) async fn read(&self) -> Result<Arc<Keyset>, KeysError> {
        let asked = self.clock.monotonic();
        let mut last = timeout(self.store.deadline(), self.reading.lock())
            .await
            .map_err(|_| StoreError::Timeout)?;
        match *last {
            Some(Reading::Done { began }) if began > asked => return Ok(self.in_memory()),
            Some(Reading::Failed { ended }) if ended > asked => {
                return Err(StoreError::Timeout.into());
            }
            _ => {}
        }
        let began = self.clock.monotonic();
        // Who manages waits for this beside who calls, and with the share of none of them.
        let listed = Share::Upkeep.around(self.store.list()).await;
        let stored = listed.inspect_err(|_| {
            let ended = self.clock.monotonic();
            *last = Some(Reading::Failed { ended });
        })?;
        let keyset = Arc::new(self.open(stored)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&keyset);
        // Only now: who waits takes what is in memory, and must find these keys there.
        *last = Some(Reading::Done { began });
        Ok(keyset)
    }

    fn open(&self, stored: Vec<StoredKey>) -> Result<Keyset, KeysError> {
        let known = self.in_memory();
        let now = self.clock.now();
        let mut keyset = Keyset::default();
        for StoredKey { record, sealed } in stored {
            if record.verifies_at(now) {
                let key = match known.usable.get(&record.kid) {
                    Some(usable) => Arc::clone(&usable.key),
                    None => Arc::new(self.unseal(&record, &sealed)?),
                };
                let usable = Usable {
                    record: record.clone(),
                    key,
                };
                keyset.usable.insert(record.kid.clone(), usable);
            }
            keyset.records.push(record);
        }
        Ok(keyset)
    }

    fn unseal(&self, record: &KeyRecord, sealed: &[u8]) -> Result<SigningKey, KeysError> {
        let purpose = purpose(&record.kid, record.algorithm);
        let opened = self.vault.open(&purpose, sealed)?;
        let private_key = PrivateKey::from_bytes(record.algorithm, &opened);
        let KeySettings {
            issuer, audience, ..
        } = &self.settings;
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
