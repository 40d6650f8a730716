//! ROOM sites: the WordPress installations that issue tokens, their plans, and their proxy secrets.
//!
//! A change takes a transaction and who acts, and writes itself into the change log. It takes the
//! log's lock first, so that two changes of one site follow each other.

mod site;
mod store;

use std::{sync::Arc, time::Duration};

pub use site::{InvalidSite, NewSite, Site, SiteStatus, UnknownStatus};

use self::store::SiteStore;
use crate::{
    store::{
        Database, StoreError, Tx,
        changes::{self, Actor, Change, Context},
    },
    types::{
        clock::{Clock, Timestamp},
        ids::{SecretId, SiteId},
        randomness::Randomness,
        secret::{ProxySecret, SecretDigest},
    },
};

/// The longest time that an old secret may go on beside a new one.
pub const MAX_GRACE: Duration = Duration::from_hours(7 * 24);

/// The sites and their secrets.
#[derive(Clone, Debug)]
pub struct Sites {
    store: SiteStore,
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
            clock,
            randomness,
            configured: configured.map(ProxySecret::digest),
        }
    }

    /// The site that a presented secret is a live secret of; none whichever part of it is wrong.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn authenticate(&self, secret: &ProxySecret) -> Result<Option<Caller>, StoreError> {
        let digest = secret.digest();
        if let Some(secret_id) = secret.id() {
            let found = self
                .store
                .find_by_secret(secret_id, self.clock.now())
                .await?;
            return Ok(found
                .filter(|row| row.digest.matches(&digest))
                .map(|row| Caller {
                    site_id: row.site_id,
                    plan: row.plan.into(),
                    status: row.status,
                }));
        }
        match &self.configured {
            Some(configured) if configured.matches(&digest) => {
                let found = self.store.find_default().await?;
                Ok(found.map(|site| Caller {
                    site_id: site.id,
                    plan: site.plan.into(),
                    status: site.status,
                }))
            }
            _ => Ok(None),
        }
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
        self.record(tx, by, &Change::SiteCreated(site_id)).await?;
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
            let change = Change::SiteCreated(site_id);
            self.record(tx, &Actor::Service.into(), &change).await?;
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
        changes::lock(tx).await?;
        let site = store::set_plan(tx, site_id, plan).await?;
        self.recorded(tx, &by.into(), site, Change::SiteUpdated)
            .await
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
        changes::lock(tx).await?;
        let site = store::set_status(tx, site_id, SiteStatus::Suspended).await?;
        self.recorded(tx, &by.into(), site, Change::SiteSuspended)
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
        changes::lock(tx).await?;
        let site = store::set_status(tx, site_id, SiteStatus::Active).await?;
        self.recorded(tx, &by.into(), site, Change::SiteUpdated)
            .await
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
        self.recorded(tx, &by.into(), site, Change::SiteDeleted)
            .await
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
        let grace_ends = now.after(grace.min(MAX_GRACE));
        let had_one = if grace.is_zero() {
            store::end_all_secrets(tx, site_id).await?
        } else {
            store::end_older_secrets(tx, site_id, grace_ends).await?
        };
        let secret = self.add_secret(tx, site_id, now).await?;
        let change = Change::SecretRotated(site_id);
        self.record(tx, &by.into(), &change).await?;
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

    async fn recorded(
        &self,
        tx: &mut Tx,
        by: &Context,
        site: Option<Site>,
        change: fn(SiteId) -> Change,
    ) -> Result<Option<Site>, StoreError> {
        if let Some(site) = &site {
            self.record(tx, by, &change(site.id)).await?;
        }
        Ok(site)
    }

    async fn record(&self, tx: &mut Tx, by: &Context, change: &Change) -> Result<(), StoreError> {
        changes::record(tx, by, change, self.clock.now(), &self.randomness).await
    }
}
