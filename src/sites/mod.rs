//! ROOM sites: the WordPress installations that issue tokens, their plans, and their proxy secrets.
//!
//! A change takes a transaction and who acts, and writes itself into the change log. It takes the
//! log's lock first, so that two changes of one site follow each other.

pub(crate) mod endpoints;
mod fields;
mod managing;
mod memory;
mod site;
mod store;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    routing::{get, patch, post},
};

pub use managing::owns_any;
pub use memory::SiteReading;
pub use site::{
    InvalidSite, NewSite, Site, SiteName, SiteState, SiteStatus, SiteUpdate, SiteUrl, UnknownStatus,
};

use self::{
    memory::{KnownSecret, SecretName, SiteMemory},
    store::{DEFAULT, SiteStore},
};
use crate::{
    callers::{CallerLayer, Door, Scope},
    state::AppState,
    store::{
        Database, StoreError, Tx,
        changes::{self, Actor, Change, Context, SeenChange, SiteChange},
        follower::{Following, Follows},
        freshness::Freshness,
    },
    types::{
        clock::{Clock, Timestamp},
        ids::{SecretId, SiteId},
        randomness::Randomness,
        secret::{ProxySecret, SecretDigest},
    },
};

/// The endpoints of this room.
pub fn router(state: &AppState) -> Router<AppState> {
    let reading = || CallerLayer::new(state, Door::Scoped(Scope::SitesRead));
    let writing = || CallerLayer::new(state, Door::Scoped(Scope::SitesWrite));
    let all = get(endpoints::list_sites).route_layer(reading());
    let all = all.merge(post(endpoints::create_site).route_layer(writing()));
    let change = patch(endpoints::update_site).delete(endpoints::delete_site);
    let one = get(endpoints::get_site).route_layer(reading());
    let one = one.merge(change.route_layer(writing()));
    let rotate = post(endpoints::rotate_secret).route_layer(writing());
    Router::new()
        .route("/api/v1/sites", all)
        .route("/api/v1/sites/{id}", one)
        .route("/api/v1/sites/{id}/rotate-secret", rotate)
}

/// The longest time that an old secret may go on beside a new one.
pub const MAX_GRACE: Duration = Duration::from_hours(7 * 24);

/// The sites and their secrets.
#[derive(Clone, Debug)]
pub struct Sites {
    store: SiteStore,
    memory: SiteMemory,
    clock: Clock,
    randomness: Randomness,
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

/// A site's new secret, and the end of the one before.
#[derive(Debug)]
pub struct Rotated {
    /// The new secret, to be shown once.
    pub secret: ProxySecret,
    /// Until when the old one is good; none when the site had none.
    pub previous_expires_at: Option<Timestamp>,
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

    /// The site that a presented secret is a live secret of; none whichever part of it is wrong.
    ///
    /// # Errors
    /// When the store must be asked and fails.
    pub async fn authenticate(&self, secret: &ProxySecret) -> Result<Option<Caller>, StoreError> {
        let digest = secret.digest();
        let Some(name) = self.name(secret, &digest) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let known = self.known_secret(name, now).await?;
        let Some((known, state)) = known.filter(|(known, _)| known.is_good(&digest, now)) else {
            return Ok(None);
        };
        Ok(match state {
            SiteState::Present { status, plan } => Some(Caller {
                site_id: known.site_id,
                plan,
                status,
            }),
            SiteState::Deleted => None,
        })
    }

    /// Which secret a presented one claims to be; none when it can be no secret of ours.
    fn name(&self, secret: &ProxySecret, digest: &SecretDigest) -> Option<SecretName> {
        if let Some(secret_id) = secret.id() {
            return Some(SecretName::Made(secret_id));
        }
        let configured = self.configured.as_ref()?;
        configured.matches(digest).then_some(SecretName::Configured)
    }

    /// A secret and the state of its site, from memory or from the store.
    async fn known_secret(
        &self,
        name: SecretName,
        now: Timestamp,
    ) -> Result<Option<(Arc<KnownSecret>, SiteState)>, StoreError> {
        if let Some(known) = self.memory.secret(name) {
            let state = self.state(known.site_id).await?;
            return Ok(Some((known, state)));
        }
        let reading = self.memory.reading();
        let (known, state) = match name {
            SecretName::Made(secret_id) => {
                let Some(row) = self.store.find_by_secret(secret_id, now).await? else {
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

    /// What of a site decides over its tokens and calls, from memory or from the store.
    async fn state(&self, site_id: SiteId) -> Result<SiteState, StoreError> {
        if let Some(state) = self.memory.state(site_id) {
            return Ok(state);
        }
        let reading = self.memory.reading();
        let site = self.store.find(site_id).await?;
        let state = site.map_or(SiteState::Deleted, |site| site.state());
        self.memory.keep_state(reading, site_id, state.clone());
        Ok(state)
    }

    /// The state of a site, if it is remembered and may be trusted.
    #[must_use]
    pub fn remembered(&self, site_id: SiteId) -> Option<SiteState> {
        self.memory.state(site_id)
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

    /// Makes a site, and its first secret, to be shown once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        site: &NewSite,
    ) -> Result<(Site, ProxySecret), StoreError> {
        changes::lock(tx).await?;
        self.create_locked(tx, &by.into(), site).await
    }

    /// Makes a site if there is none in the store, as on a first start.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create_first(
        &self,
        tx: &mut Tx,
        site: &NewSite,
    ) -> Result<Option<(Site, ProxySecret)>, StoreError> {
        changes::lock(tx).await?;
        if !store::is_empty(tx).await? {
            return Ok(None);
        }
        self.create_locked(tx, &Actor::Service.into(), site)
            .await
            .map(Some)
    }

    async fn create_locked(
        &self,
        tx: &mut Tx,
        by: &Context,
        site: &NewSite,
    ) -> Result<(Site, ProxySecret), StoreError> {
        let now = self.clock.now();
        let site_id = SiteId::new(now, &self.randomness);
        let site = store::insert(tx, site_id, site, now).await?;
        let secret = self.add_secret(tx, site_id, now).await?;
        let change = SiteChange::Created {
            name: site.name.clone(),
            plan: site.plan.clone(),
            owner: site.owner,
        };
        self.record(tx, by, site_id, change).await?;
        Ok((site, secret))
    }

    /// Makes the site `default`, which the configured secret belongs to, unless it is there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ensure_default(&self, tx: &mut Tx, plan: &str) -> Result<(), StoreError> {
        changes::lock(tx).await?;
        let now = self.clock.now();
        let site_id = SiteId::new(now, &self.randomness);
        if store::insert_default(tx, site_id, plan, now).await? {
            let change = SiteChange::Created {
                name: DEFAULT.to_owned(),
                plan: plan.to_owned(),
                owner: None,
            };
            self.record(tx, &Actor::Service.into(), site_id, change)
                .await?;
        }
        Ok(())
    }

    /// Puts a site on another plan; its counters stay. None when there is no such site.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn set_plan(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        site_id: SiteId,
        plan: &str,
    ) -> Result<Option<Site>, StoreError> {
        let plan = Some(plan.to_owned());
        let update = SiteUpdate {
            plan,
            ..SiteUpdate::default()
        };
        self.update(tx, by, site_id, &update).await
    }

    /// Stops a site from issuing tokens, and its tokens from being valid.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn suspend(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        site_id: SiteId,
    ) -> Result<Option<Site>, StoreError> {
        self.set_status(tx, by, site_id, SiteStatus::Suspended)
            .await
    }

    /// Undoes [`Sites::suspend`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn resume(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        site_id: SiteId,
    ) -> Result<Option<Site>, StoreError> {
        self.set_status(tx, by, site_id, SiteStatus::Active).await
    }

    /// Deletes a site: at once its secrets are not valid and its tokens are revoked. The rows go
    /// with the clean-up.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        site_id: SiteId,
    ) -> Result<Option<Site>, StoreError> {
        changes::lock(tx).await?;
        let site = store::delete(tx, site_id, self.clock.now()).await?;
        if let Some(site) = &site {
            let change = SiteChange::Deleted { owner: site.owner };
            self.record(tx, &by.into(), site_id, change).await?;
        }
        Ok(site)
    }

    /// Gives a site a new secret. The newest old one stays good for `grace` (at most
    /// [`MAX_GRACE`]), any other ends at once. None when there is no such site.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rotate_secret(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        site_id: SiteId,
        grace: Duration,
    ) -> Result<Option<Rotated>, StoreError> {
        changes::lock(tx).await?;
        if store::find_in(tx, site_id).await?.is_none() {
            return Ok(None);
        }
        let now = self.clock.now();
        let grace = grace.min(MAX_GRACE);
        let grace_ends = now.after(grace);
        let had_one = if grace.is_zero() {
            store::end_all_secrets(tx, site_id).await?
        } else {
            store::end_older_secrets(tx, site_id, grace_ends).await?
        };
        let secret = self.add_secret(tx, site_id, now).await?;
        let change = SiteChange::SecretRotated { grace };
        self.record(tx, &by.into(), site_id, change).await?;
        Ok(Some(Rotated {
            secret,
            previous_expires_at: had_one.then_some(grace_ends),
        }))
    }

    /// Removes up to `limit` rows each of dead secrets and of deleted sites without tokens.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, limit: i64) -> Result<u64, StoreError> {
        let secrets = self.store.sweep_secrets(self.clock.now(), limit).await?;
        let sites = self.store.sweep_sites(limit).await?;
        Ok(secrets.max(sites))
    }

    async fn add_secret(
        &self,
        tx: &mut Tx,
        site_id: SiteId,
        now: Timestamp,
    ) -> Result<ProxySecret, StoreError> {
        let secret_id = SecretId::new(now, &self.randomness);
        let secret = ProxySecret::generate(secret_id, &self.randomness);
        store::insert_secret(tx, secret_id, site_id, &secret.digest(), now).await?;
        Ok(secret)
    }

    async fn record(
        &self,
        tx: &mut Tx,
        by: &Context,
        site_id: SiteId,
        change: SiteChange,
    ) -> Result<(), StoreError> {
        let change = Change::OfSite(site_id, change);
        changes::record(tx, by, &change, self.clock.now(), &self.randomness).await
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
