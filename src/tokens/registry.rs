//! What can be done with tokens: the room's rules over its store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use uuid::Uuid;

use super::{
    last_use::PendingUses,
    memory::TokenMemory,
    partitions,
    record::{HeldToken, NotedRecord, TokenRecord, TokenState},
    store::{self, Idempotency, Inserted, KeyUse, NewBinding, NewToken, TokenFilter, TokenStore},
    turns::{Subject, Turn, Turns},
};
use crate::{
    keys::TokenClaims,
    sites::Sites,
    store::{
        Database, StoreError, Tx,
        changes::{self, Actor, Change, Context, SeenChange},
        follower::{Following, Follows},
        freshness::Freshness,
    },
    telemetry::metrics::Metrics,
    types::{
        clock::{Clock, Monotonic, Timestamp},
        ids::{MachineId, SiteId, TokenId, WpUserId},
        randomness::Randomness,
    },
};

/// How long an idempotency key stands for its request.
pub const KEY_LIFETIME: Duration = Duration::from_hours(24);

/// How long a record is kept after its token has ended.
pub const KEPT_AFTER_END: Duration = Duration::from_hours(30 * 24);

/// How many last uses one statement writes.
const USES_AT_ONCE: usize = 1000;

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
    store: TokenStore,
    memory: TokenMemory,
    settings: TokenSettings,
    clock: Clock,
    randomness: Randomness,
    turns: Turns,
    uses: PendingUses,
    /// Up to when this instance has removed idempotency keys, in microseconds.
    keys_swept_to: Arc<AtomicI64>,
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
            turns: Turns::default(),
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

    /// Waits until no other request of this instance is about the same; none when it takes too
    /// long.
    pub(super) async fn turn(&self, subject: Subject) -> Option<Turn> {
        self.turns.take(subject).await
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
        let let_go = self.uses.let_go();
        if let_go > 0 {
            tracing::warn!(
                let_go,
                "last uses were not noted: too many waited to be written"
            );
        }
        loop {
            let uses = self.uses.take(USES_AT_ONCE);
            if let Err(error) = self.store.touch(&uses).await {
                for (token_id, used_at) in uses {
                    self.uses.note(token_id, used_at);
                }
                return Err(error);
            }
            if uses.len() < USES_AT_ONCE {
                return Ok(());
            }
        }
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

    /// Takes a token back, for good, if it is one that the actor may touch.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        token_id: TokenId,
    ) -> Result<(), StoreError> {
        let by = by.into();
        if let Some(site_id) = touchable(tx, by.actor, token_id).await? {
            self.revoke_found(tx, &by, site_id, token_id).await?;
        }
        Ok(())
    }

    /// Takes a token back, for good, if it is one of the site's; whether it is.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke_of(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        site_id: SiteId,
        token_id: TokenId,
    ) -> Result<bool, StoreError> {
        let is_of_site = store::site_of(tx, token_id).await? == Some(site_id);
        if is_of_site {
            self.revoke_found(tx, &by.into(), site_id, token_id).await?;
        }
        Ok(is_of_site)
    }

    async fn revoke_found(
        &self,
        tx: &mut Tx,
        by: &Context,
        site_id: SiteId,
        token_id: TokenId,
    ) -> Result<(), StoreError> {
        // Before the token's row: held while another change has the log, it would keep a whole batch
        // of bindings waiting.
        changes::lock(tx).await?;
        if store::revoke(tx, token_id, self.clock.now()).await? {
            let change = Change::TokenRevoked(token_id, site_id);
            self.record(tx, by, &change).await?;
        }
        Ok(())
    }

    /// Unbinds a token from its machine, if it is one that the actor may touch; the next machine
    /// binds it anew.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn release(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        token_id: TokenId,
    ) -> Result<(), StoreError> {
        let by = by.into();
        if let Some(site_id) = touchable(tx, by.actor, token_id).await? {
            self.release_found(tx, &by, site_id, token_id).await?;
        }
        Ok(())
    }

    /// Unbinds a token from its machine, if it is one of the site's; whether it is.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn release_of(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        site_id: SiteId,
        token_id: TokenId,
    ) -> Result<bool, StoreError> {
        let is_of_site = store::site_of(tx, token_id).await? == Some(site_id);
        if is_of_site {
            self.release_found(tx, &by.into(), site_id, token_id)
                .await?;
        }
        Ok(is_of_site)
    }

    async fn release_found(
        &self,
        tx: &mut Tx,
        by: &Context,
        site_id: SiteId,
        token_id: TokenId,
    ) -> Result<(), StoreError> {
        // Before the token's row: held while another change has the log, it would keep a whole batch
        // of bindings waiting.
        changes::lock(tx).await?;
        if store::release(tx, token_id).await? {
            let change = Change::MachineReleased(token_id, site_id);
            self.record(tx, by, &change).await?;
        }
        Ok(())
    }

    async fn record(&self, tx: &mut Tx, by: &Context, change: &Change) -> Result<(), StoreError> {
        changes::record(tx, by, change, self.clock.now(), &self.randomness).await
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

impl Follows for Tokens {
    fn apply<'a>(&'a self, changes: &'a [SeenChange]) -> Following<'a> {
        self.memory.apply(changes)
    }

    fn reset(&self) -> Following<'_> {
        self.memory.reset()
    }
}

/// The site of a token, if the actor may touch it: an operator any, a site's proxy those of its
/// site. An account must name the site, by `revoke_of` and `release_of`.
async fn touchable(
    tx: &mut Tx,
    actor: Actor,
    token_id: TokenId,
) -> Result<Option<SiteId>, StoreError> {
    let site_id = store::site_of(tx, token_id).await?;
    Ok(site_id.filter(|site_id| match actor {
        Actor::Site(own) => own == *site_id,
        Actor::Operator => true,
        Actor::Account(_) | Actor::ApiToken { .. } | Actor::Nobody => false,
    }))
}
