//! Tokens taken back for good, or released from their machines.

use super::{registry::Tokens, store};
use crate::{
    store::{
        StoreError, Tx,
        changes::{self, Actor, Change, Context},
    },
    types::ids::{SiteId, TokenId},
};

impl Tokens {
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
