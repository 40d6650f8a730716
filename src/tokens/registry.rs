//! What can be done with tokens: the room's rules over its store.

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use uuid::Uuid;

use super::{
    last_use::PendingUses,
    memory::TokenMemory,
    record::{HeldToken, NotedRecord, TokenRecord, TokenState},
    store::{self, Idempotency, Inserted, KeyUse, NewBinding, NewToken, TokenFilter, TokenStore},
    turns::{AT_ONE_SUBJECT, Subject},
};
use crate::{
    keys::TokenClaims,
    sites::Sites,
    store::{
        Database, StoreError, Tx,
        changes::SeenChange,
        follower::{Following, Follows},
        freshness::Freshness,
    },
    telemetry::metrics::Metrics,
    types::{
        clock::{Clock, Monotonic, Timestamp},
        ids::{MachineId, SiteId, TokenId, WpUserId},
        randomness::Randomness,
        turnstile::Turnstile,
    },
};

/// How long an idempotency key stands for its request.
pub const KEY_LIFETIME: Duration = Duration::from_hours(24);

/// How long a record is kept after its token has ended.
pub const KEPT_AFTER_END: Duration = Duration::from_hours(30 * 24);

/// How tokens are made.
#[derive(Clone, Copy, Debug)]
pub struct TokenSettings {
    /// How long a token is good for.
    pub time_to_live: Duration,
    /// What one costs; written on its record.
    pub coins: i64,
}

/// The tokens of a store.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub(super) store: TokenStore,
    memory: TokenMemory,
    pub(super) settings: TokenSettings,
    pub(super) clock: Clock,
    pub(super) randomness: Randomness,
    pub(super) turns: Turnstile<Subject>,
    uses: PendingUses,
    /// Up to when this instance has removed idempotency keys, in microseconds.
    pub(super) keys_swept_to: Arc<AtomicI64>,
}

impl Tokens {
    /// The tokens of `database`.
    #[must_use]
    pub fn new(
        database: Database,
        settings: TokenSettings,
        clock: Clock,
        randomness: Randomness,
    ) -> Self {
        Self {
            store: TokenStore::new(database),
            memory: TokenMemory::new(0, Freshness::new(clock.clone())),
            settings,
            clock,
            randomness,
            turns: Turnstile::new(AT_ONE_SUBJECT),
            uses: PendingUses::default(),
            keys_swept_to: Arc::default(),
        }
    }

    /// The same tokens, about `capacity` of them remembered while the change log is followed.
    #[must_use]
    pub fn remembering(mut self, capacity: usize, freshness: Freshness) -> Self {
        self.memory = TokenMemory::new(capacity, freshness);
        self
    }

    /// Has its look-ups in memory and its batches measured.
    pub(crate) fn measured_by(&self, metrics: &Metrics) {
        self.memory.measured_by(metrics);
        self.store.measured_by(metrics);
    }

    /// A token with the state of its site, if both are remembered and may be trusted now.
    #[must_use]
    pub fn remembered(
        &self,
        token_id: TokenId,
        sites: &Sites,
        now: Monotonic,
    ) -> Option<HeldToken> {
        self.memory.get(token_id, sites, now)
    }

    /// A new record, not yet written; bound from birth when a machine is named.
    #[must_use]
    pub fn draft(
        &self,
        site_id: SiteId,
        user_id: WpUserId,
        machine_id: Option<MachineId>,
    ) -> TokenRecord {
        let now = self.clock.now();
        let issued_at = now.whole_second();
        TokenRecord {
            token_id: TokenId::new(now, &self.randomness),
            site_id,
            user_id,
            coins: self.settings.coins,
            issued_at,
            expires_at: issued_at.after(self.settings.time_to_live),
            machine_id,
            last_validated_at: None,
            state: TokenState::Active,
        }
    }

    /// Makes a record durable, together with its idempotency key.
    ///
    /// # Errors
    /// When the store fails. After a time-out the record may be there all the same; its idempotency
    /// key tells.
    pub async fn insert(
        &self,
        record: &TokenRecord,
        idempotency: Option<&Idempotency>,
    ) -> Result<Inserted, StoreError> {
        let row = NewToken {
            record: record.clone(),
            idempotency: idempotency.copied(),
            created_at: self.clock.now(),
        };
        self.store.insert(row).await
    }

    /// What an idempotency key of a site stands for.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find_key(
        &self,
        site_id: SiteId,
        idempotency: &Idempotency,
    ) -> Result<Option<KeyUse>, StoreError> {
        self.store
            .find_key(site_id, idempotency, self.clock.now().before(KEY_LIFETIME))
            .await
    }

    /// A record with the state of its site, as they are in the store; remembered, if only changes can
    /// make it untrue.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find(&self, token_id: TokenId) -> Result<Option<HeldToken>, StoreError> {
        let reading = self.memory.reading();
        let held = self.store.find(token_id).await?;
        if let Some(HeldToken { record, .. }) = &held {
            self.memory.keep(reading, record);
        }
        Ok(held)
    }

    /// Binds a token to a machine, if the claims are those of its record and it is still good. What
    /// is told, and remembered, is its record; none when it could not be bound to this machine, or
    /// was bound to it and used within the last
    /// [step](crate::types::clock::LAST_USE_STEP): its record, to be looked up, tells.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn bind(
        &self,
        claims: TokenClaims,
        machine_id: &MachineId,
    ) -> Result<Option<Arc<NotedRecord>>, StoreError> {
        let reading = self.memory.reading();
        let binding = NewBinding {
            claims,
            machine_id: machine_id.clone(),
            asked_at: self.clock.now(),
        };
        let record = self.store.bind(binding).await?;
        Ok(record.map(|record| {
            let record = Arc::new(NotedRecord::new(record));
            self.memory.keep(reading, &record);
            record
        }))
    }

    /// Notes that the machine a token is bound to was told that it is valid; written later.
    pub fn note_use(&self, token_id: TokenId, used_at: Timestamp) {
        self.uses.note(token_id, used_at);
    }

    /// Writes the uses that were noted, each token's at most once a minute.
    ///
    /// # Errors
    /// When the store fails; the next time writes what is left.
    pub async fn flush_uses(&self) -> Result<(), StoreError> {
        self.uses.flush(&self.store).await
    }

    /// The newest tokens of a site, or of one of its users.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(
        &self,
        site_id: SiteId,
        user_id: Option<WpUserId>,
        limit: i64,
    ) -> Result<Vec<TokenRecord>, StoreError> {
        let state = None;
        let filter = TokenFilter { user_id, state };
        self.page(site_id, &filter, Uuid::max(), limit).await
    }

    /// Up to `limit` tokens of a site whose ids are below `before`, the newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn page(
        &self,
        site_id: SiteId,
        filter: &TokenFilter,
        before: Uuid,
        limit: i64,
    ) -> Result<Vec<TokenRecord>, StoreError> {
        let now = self.clock.now();
        self.store.page(site_id, filter, now, before, limit).await
    }

    /// When the last token ends that may have been or may yet be issued before `moment`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn latest_end(
        &self,
        tx: &mut Tx,
        moment: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let issued = store::latest_end(tx).await?.unwrap_or(moment);
        Ok(issued.max(moment.after(self.settings.time_to_live)))
    }
}

impl Follows for Tokens {
    fn apply<'a>(&'a self, changes: &'a [SeenChange]) -> Following<'a> {
        self.memory.apply(changes)
    }

    fn reset(&self) -> Following<'_> {
        self.memory.reset()
    }
}
