//! The sites as every call needs them: who proves to be which, from memory or from the store.

use std::sync::Arc;

use super::{
    Site, SiteReading, SiteState, SiteStatus,
    memory::{KnownSecret, SecretName, SiteMemory},
    store::SiteStore,
};
use crate::{
    store::{
        Database, StoreError,
        changes::SeenChange,
        follower::{Following, Follows},
        freshness::Freshness,
    },
    telemetry::metrics::Metrics,
    types::{
        clock::{Clock, Moment, Monotonic},
        ids::SiteId,
        randomness::Randomness,
        secret::{ProxySecret, SecretDigest},
    },
};

/// The sites and their secrets.
#[derive(Clone, Debug)]
pub struct Sites {
    pub(super) store: SiteStore,
    memory: SiteMemory,
    pub(super) clock: Clock,
    pub(super) randomness: Randomness,
    /// The secret of the configuration, for the site `default`.
    configured: Option<SecretDigest>,
}

/// A site that has proven itself with a live secret.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The site.
    pub site_id: SiteId,
    /// The name of its plan.
    pub plan: Arc<str>,
    /// Whether it may issue tokens.
    pub status: SiteStatus,
}

/// What memory says of a presented secret.
pub(crate) enum Recalled {
    /// Whose it is; none when it is no live one.
    Known(Option<Caller>),
    /// Nothing.
    Unread(Unread),
}

/// A secret that the store is to be asked about, by whomever it was presented.
pub(crate) struct Unread {
    name: SecretName,
    digest: SecretDigest,
    /// What is remembered of it, when nothing is of its site.
    known: Option<Arc<KnownSecret>>,
    now: Moment,
}

/// The site of a secret, if a digest is that of the secret, and both are live.
fn caller(
    known: &KnownSecret,
    state: SiteState,
    digest: &SecretDigest,
    now: Moment,
) -> Option<Caller> {
    match state {
        SiteState::Present { status, plan } if known.is_good(digest, now.wall) => Some(Caller {
            site_id: known.site_id,
            plan,
            status,
        }),
        SiteState::Present { .. } | SiteState::Deleted => None,
    }
}

impl Sites {
    /// The sites of a store; `configured` is one more secret of the site `default`.
    #[must_use]
    pub fn new(
        database: Database,
        clock: Clock,
        randomness: Randomness,
        configured: Option<&ProxySecret>,
    ) -> Self {
        Self {
            store: SiteStore::new(database),
            memory: SiteMemory::new(&Freshness::new(clock.clone())),
            clock,
            randomness,
            configured: configured.map(ProxySecret::digest),
        }
    }

    /// The same sites, remembered while the change log is followed.
    #[must_use]
    pub fn remembering(mut self, freshness: &Freshness) -> Self {
        self.memory = SiteMemory::new(freshness);
        self
    }

    /// Has its look-ups in memory measured.
    pub(crate) fn measured_by(&self, metrics: &Metrics) {
        self.memory.measured_by(metrics);
    }

    /// The site that a presented secret is a live secret of; none whichever part of it is wrong.
    ///
    /// # Errors
    /// When the store must be asked and fails.
    pub async fn authenticate(&self, secret: &ProxySecret) -> Result<Option<Caller>, StoreError> {
        match self.recall(secret)? {
            Recalled::Known(caller) => Ok(caller),
            Recalled::Unread(unread) => self.look_up(unread).await,
        }
    }

    /// The same by what is remembered, if that tells.
    ///
    /// # Errors
    /// When the clock is wrong.
    pub(crate) fn recall(&self, secret: &ProxySecret) -> Result<Recalled, StoreError> {
        let digest = secret.digest();
        let Some(name) = self.name(secret, &digest) else {
            return Ok(Recalled::Known(None));
        };
        let now = self.clock.moment();
        self.store
            .database()
            .require_right_clock(&self.clock, now)?;
        let known = self.memory.secret(name, now.monotonic);
        let state = known
            .as_ref()
            .and_then(|known| self.memory.state(known.site_id, now.monotonic));
        Ok(match known.as_ref().zip(state) {
            Some((known, state)) => Recalled::Known(caller(known, state, &digest, now)),
            None => Recalled::Unread(Unread {
                name,
                digest,
                known,
                now,
            }),
        })
    }

    /// The same by what is in the store, which is then remembered.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn look_up(&self, unread: Unread) -> Result<Option<Caller>, StoreError> {
        let Unread {
            name,
            digest,
            known,
            now,
        } = unread;
        let found = match known {
            Some(known) => {
                let state = self.state(known.site_id).await?;
                Some((known, state))
            }
            None => self.known_secret(name, now).await?,
        };
        Ok(found.and_then(|(known, state)| caller(&known, state, &digest, now)))
    }

    /// Which secret a presented one claims to be; none when it can be no secret of ours.
    fn name(&self, secret: &ProxySecret, digest: &SecretDigest) -> Option<SecretName> {
        if let Some(secret_id) = secret.id() {
            return Some(SecretName::Made(secret_id));
        }
        let configured = self.configured.as_ref()?;
        configured.matches(digest).then_some(SecretName::Configured)
    }

    /// A secret and the state of its site, from the store.
    async fn known_secret(
        &self,
        name: SecretName,
        now: Moment,
    ) -> Result<Option<(Arc<KnownSecret>, SiteState)>, StoreError> {
        let reading = self.memory.reading();
        let (known, state) = match name {
            SecretName::Made(secret_id) => {
                let Some(row) = self.store.find_by_secret(secret_id, now.wall).await? else {
                    return Ok(None);
                };
                row.split()
            }
            SecretName::Configured => {
                let (Some(site), Some(digest)) =
                    (self.store.find_default().await?, self.configured.clone())
                else {
                    return Ok(None);
                };
                let known = KnownSecret {
                    site_id: site.id,
                    digest,
                    expires_at: None,
                };
                (known, site.state())
            }
        };
        let known = Arc::new(known);
        self.memory
            .keep_state(reading, known.site_id, state.clone());
        self.memory.keep_secret(reading, name, Arc::clone(&known));
        Ok(Some((known, state)))
    }

    /// What of a site decides over its tokens and calls, from the store.
    async fn state(&self, site_id: SiteId) -> Result<SiteState, StoreError> {
        let reading = self.memory.reading();
        let site = self.store.find(site_id).await?;
        let state = site.map_or(SiteState::Deleted, |site| site.state());
        self.memory.keep_state(reading, site_id, state.clone());
        Ok(state)
    }

    /// The state of a site, if it is remembered and may be trusted now.
    #[must_use]
    pub fn remembered(&self, site_id: SiteId, now: Monotonic) -> Option<SiteState> {
        self.memory.state(site_id, now)
    }

    /// To be taken before a site's state is read together with something else.
    #[must_use]
    pub fn reading(&self) -> SiteReading {
        self.memory.reading()
    }

    /// Remembers a state that was read together with something else.
    pub fn remember(&self, reading: SiteReading, site_id: SiteId, state: SiteState) {
        self.memory.keep_state(reading, site_id, state);
    }

    /// A site that is not deleted.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find(&self, site_id: SiteId) -> Result<Option<Site>, StoreError> {
        self.store.find(site_id).await
    }

    /// Every site that is not deleted, the oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<Site>, StoreError> {
        self.store.list().await
    }

    /// Whether there is a site that is not deleted.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_any(&self) -> Result<bool, StoreError> {
        self.store.has_any().await
    }

    /// Removes up to `limit` dead secrets.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep_secrets(&self, limit: i64) -> Result<u64, StoreError> {
        self.store.sweep_secrets(self.clock.now(), limit).await
    }

    /// Removes up to `limit` deleted sites without tokens.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, limit: i64) -> Result<u64, StoreError> {
        self.store.sweep_sites(limit).await
    }
}

impl Follows for Sites {
    fn apply<'a>(&'a self, changes: &'a [SeenChange]) -> Following<'a> {
        self.memory.apply(changes)
    }

    fn reset(&self) -> Following<'_> {
        self.memory.reset()
    }
}
