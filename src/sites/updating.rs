//! Changes of a site that stays.

use serde_json::{Value, json};

use super::{Site, SiteStatus, SiteUpdate, Sites, store};
use crate::{
    store::{
        StoreError, Tx,
        changes::{Context, FieldChange, SiteChange},
    },
    types::ids::SiteId,
};

impl Sites {
    /// Sets those of a site's fields that are given. What stays the same is no change. None when
    /// there is no such site.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn update(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        site_id: SiteId,
        update: &SiteUpdate,
    ) -> Result<Option<Site>, StoreError> {
        let Some(before) = self.find_locked(tx, site_id).await? else {
            return Ok(None);
        };
        let after = update.applied_to(&before);
        if after == before {
            return Ok(Some(after));
        }
        store::update(tx, &after).await?;
        let by = by.into();
        for change in changes_between(&before, &after) {
            self.record(tx, &by, site_id, change).await?;
        }
        Ok(Some(after))
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

    async fn set_status(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        site_id: SiteId,
        status: SiteStatus,
    ) -> Result<Option<Site>, StoreError> {
        let update = SiteUpdate {
            status: Some(status),
            ..SiteUpdate::default()
        };
        self.update(tx, by, site_id, &update).await
    }
}

impl SiteUpdate {
    fn applied_to(&self, site: &Site) -> Site {
        let mut site = site.clone();
        if let Some(name) = &self.name {
            name.as_str().clone_into(&mut site.name);
        }
        if let Some(url) = &self.url {
            site.url = url.as_ref().map(|url| url.as_str().to_owned());
        }
        if let Some(plan) = &self.plan {
            site.plan.clone_from(plan);
        }
        if let Some(status) = self.status {
            site.status = status;
        }
        if let Some(owner) = self.owner {
            site.owner = owner;
        }
        site
    }
}

/// A suspension is an event of its own; everything else that was set is one.
fn changes_between(before: &Site, after: &Site) -> Vec<SiteChange> {
    let is_suspended = before.status != after.status && after.status == SiteStatus::Suspended;
    let mut fields = vec![
        ("name", json!(before.name), json!(after.name)),
        ("url", json!(before.url), json!(after.url)),
        ("plan", json!(before.plan), json!(after.plan)),
        ("owner", json!(before.owner), json!(after.owner)),
    ];
    if !is_suspended {
        fields.push(("status", json!(before.status), json!(after.status)));
    }
    let set = |(field, from, to): (&'static str, Value, Value)| {
        (from != to).then_some(FieldChange { field, from, to })
    };
    let fields: Vec<_> = fields.into_iter().filter_map(set).collect();
    let updated = (!fields.is_empty()).then_some(SiteChange::Updated(fields));
    let suspended = is_suspended.then_some(SiteChange::Suspended);
    updated.into_iter().chain(suspended).collect()
}
