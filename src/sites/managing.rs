//! What those who run sites do with them: see theirs, make them, delete them.

use uuid::Uuid;

use super::{
    NewSite, Site, Sites,
    store::{self, DEFAULT},
};
use crate::{
    config::Plans,
    store::{
        Database, StoreError, Tx,
        changes::{self, Actor, Change, Context, SiteChange},
    },
    types::{
        ids::{AccountId, SiteId},
        secret::ProxySecret,
    },
};

/// Whether any site that is not deleted belongs to an account. Under the lock of changes the answer
/// stays true until the commit.
///
/// # Errors
/// When the store fails.
pub async fn owns_any(tx: &mut Tx, account_id: AccountId) -> Result<bool, StoreError> {
    store::any_of(tx, account_id).await
}

/// Whether one more site may belong to an account: an owner has up to `most` (0: any number), an
/// admin any. Under the lock of changes the answer stays true until the commit.
///
/// # Errors
/// When the store fails.
pub async fn may_own_another(
    tx: &mut Tx,
    account_id: AccountId,
    most: u32,
) -> Result<bool, StoreError> {
    Ok(most == 0 || store::count_of_owner(tx, account_id).await? < i64::from(most))
}

/// The plans that `plans` lacks and sites are on, and how many sites each.
///
/// # Errors
/// When the store fails.
pub async fn on_unknown_plans(
    database: &Database,
    plans: &Plans,
) -> Result<Vec<(String, i64)>, StoreError> {
    let mut counts = store::count_by_plan(database).await?;
    counts.retain(|(plan, _)| !plans.contains_key(plan.as_str()));
    Ok(counts)
}

/// Whether there is the site of the configuration's secret.
///
/// # Errors
/// When the store fails.
pub async fn has_default(database: &Database) -> Result<bool, StoreError> {
    let found = store::SiteStore::new(database.clone())
        .find_default()
        .await?;
    Ok(found.is_some())
}

impl Sites {
    /// Up to `limit` sites whose ids are above `after`, the oldest first: all, or those that belong
    /// to an account.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn page(
        &self,
        owner: Option<AccountId>,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<Site>, StoreError> {
        self.store.page(owner, after, limit).await
    }

    /// A site that is not deleted, as a transaction sees it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find_in(&self, tx: &mut Tx, site_id: SiteId) -> Result<Option<Site>, StoreError> {
        store::find_in(tx, site_id).await
    }

    /// A site that is not deleted, and that nobody else changes before the end of the transaction.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find_locked(
        &self,
        tx: &mut Tx,
        site_id: SiteId,
    ) -> Result<Option<Site>, StoreError> {
        changes::lock(tx).await?;
        store::find_in(tx, site_id).await
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
        self.create_locked(tx, &Actor::Operator.into(), site)
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
            self.record(tx, &Actor::Operator.into(), site_id, change)
                .await?;
        }
        Ok(())
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

    /// Writes down what was changed of a site.
    pub(super) async fn record(
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
