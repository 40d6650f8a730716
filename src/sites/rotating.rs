//! Proxy secrets that follow each other.

use std::time::Duration;

use super::{Sites, store};
use crate::{
    store::{
        StoreError, Tx,
        changes::{self, Context, SiteChange},
    },
    types::{
        clock::Timestamp,
        ids::{SecretId, SiteId},
        secret::ProxySecret,
    },
};

/// The longest time that an old secret may go on beside a new one.
pub const MAX_GRACE: Duration = Duration::from_hours(7 * 24);

/// A site's new secret, and the end of the one before.
#[derive(Debug)]
pub struct Rotated {
    /// The new secret, to be shown once.
    pub secret: ProxySecret,
    /// Until when the old one is good; none when the site had none.
    pub previous_expires_at: Option<Timestamp>,
}

impl Sites {
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

    /// Gives a site a secret beside those that it has.
    pub(super) async fn add_secret(
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
}
