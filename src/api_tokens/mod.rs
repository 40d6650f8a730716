//! ROOM api-tokens: what scripts call the management API with, in the name of an account.

pub(crate) mod endpoints;
mod store;

use axum::{
    Router,
    routing::{delete, get},
};
use serde::Serialize;
use utoipa::ToSchema;

pub use self::store::end_all;

use self::store::ApiTokenStore;
use crate::{
    accounts::Role,
    callers::{CallerLayer, Door, Scopes},
    error::Chain,
    state::AppState,
    store::{
        Database, StoreError, Tx,
        changes::{self, AccountChange, Change, Context},
    },
    types::{
        clock::{Clock, Timestamp},
        ids::{AccountId, ApiTokenId},
        name::Name,
        randomness::Randomness,
        secret::ApiTokenSecret,
    },
};

/// How many live tokens an account has at most.
const TOKENS: i64 = 100;

/// The endpoints of this room.
pub fn router(state: &AppState) -> Router<AppState> {
    let own = || CallerLayer::new(state, Door::OwnAccount);
    let all = get(endpoints::list_api_tokens).post(endpoints::create_api_token);
    let one = delete(endpoints::revoke_api_token);
    Router::new()
        .route("/api/v1/api-tokens", all.route_layer(own()))
        .route("/api/v1/api-tokens/{id}", one.route_layer(own().urgent()))
}

/// An API token as its account sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ApiToken {
    /// Its id.
    pub id: ApiTokenId,
    /// What its account calls it.
    #[schema(examples("nightly report"))]
    pub name: String,
    /// What it may do.
    #[schema(value_type = Vec<crate::callers::Scope>)]
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; never, unless it was given a date.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// An API token as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnedApiToken {
    /// The token.
    #[serde(flatten)]
    pub token: ApiToken,
    /// Whose it is.
    pub account_id: AccountId,
}

/// What an API token is made from.
#[derive(Clone, Debug)]
pub struct NewApiToken {
    /// What its account calls it.
    pub name: Name,
    /// What it may do.
    pub scopes: Scopes,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// What an API token proves.
#[derive(Clone, Debug)]
pub struct ProvenApiToken {
    /// The token.
    pub token_id: ApiTokenId,
    /// Whose it is.
    pub account_id: AccountId,
    /// What that account may do.
    pub role: Role,
    /// What the token may do.
    pub scopes: Scopes,
}

/// The API tokens of a store.
#[derive(Clone, Debug)]
pub struct ApiTokens {
    store: ApiTokenStore,
    clock: Clock,
    randomness: Randomness,
}

impl ApiTokens {
    /// The API tokens of a store.
    #[must_use]
    pub const fn new(database: Database, clock: Clock, randomness: Randomness) -> Self {
        Self {
            store: ApiTokenStore::new(database),
            clock,
            randomness,
        }
    }

    /// What a token proves, if it is live and its account can be used.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn prove(&self, token: &str) -> Result<Option<ProvenApiToken>, StoreError> {
        let Some((token_id, secret)) = ApiTokenSecret::parse(token) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let found = self.store.find_live(token_id, now).await?;
        let Some(live) = found.filter(|live| live.digest.matches(&secret.digest())) else {
            return Ok(None);
        };
        // Who only reads is not refused because that cannot be written.
        if let Err(error) = self.store.touch(token_id, live.last_used_at, now).await {
            tracing::warn!(error = %Chain(&error), "a last use was not written");
        }
        Ok(Some(ProvenApiToken {
            token_id,
            account_id: live.account_id,
            role: live.role,
            scopes: live.scopes,
        }))
    }

    /// The id of a token, if it is live.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn id_of(&self, token: &str) -> Result<Option<ApiTokenId>, StoreError> {
        let Some((token_id, secret)) = ApiTokenSecret::parse(token) else {
            return Ok(None);
        };
        let found = self.store.find_live(token_id, self.clock.now()).await?;
        let is_right = found.is_some_and(|live| live.digest.matches(&secret.digest()));
        Ok(is_right.then_some(token_id))
    }

    /// The tokens of an account, the newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, account_id: AccountId) -> Result<Vec<OwnedApiToken>, StoreError> {
        self.store.list(account_id, self.clock.now()).await
    }

    /// The tokens of all accounts, the newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_all(&self) -> Result<Vec<OwnedApiToken>, StoreError> {
        self.store.list_all(self.clock.now()).await
    }

    /// A token, whosever it is, as a transaction sees it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find_in(
        tx: &mut Tx,
        token_id: ApiTokenId,
    ) -> Result<Option<OwnedApiToken>, StoreError> {
        store::find_in(tx, token_id).await
    }

    /// Makes a token of an account, to be shown once. None when it has 100 already; call it under
    /// the lock of changes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create(
        &self,
        tx: &mut Tx,
        by: &Context,
        account_id: AccountId,
        token: &NewApiToken,
    ) -> Result<Option<(ApiToken, ApiTokenSecret)>, StoreError> {
        let now = self.clock.now();
        if store::count(tx, account_id, now).await? >= TOKENS {
            return Ok(None);
        }
        let token_id = ApiTokenId::new(now, &self.randomness);
        let secret = ApiTokenSecret::generate(token_id, &self.randomness);
        let created = ApiToken {
            id: token_id,
            name: token.name.as_str().to_owned(),
            scopes: token.scopes.clone(),
            created_at: now,
            expires_at: token.expires_at,
            last_used_at: None,
        };
        store::insert(tx, account_id, &created, &secret.digest()).await?;
        let change = AccountChange::ApiTokenCreated(token_id);
        self.record(tx, by, account_id, change).await?;
        Ok(Some((created, secret)))
    }

    /// Ends a token of an account. Whether there was one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke(
        &self,
        tx: &mut Tx,
        by: &Context,
        account_id: AccountId,
        token_id: ApiTokenId,
    ) -> Result<bool, StoreError> {
        let revoked = store::remove(tx, account_id, token_id).await?;
        if revoked {
            let change = AccountChange::ApiTokenRevoked(token_id);
            self.record(tx, by, account_id, change).await?;
        }
        Ok(revoked)
    }

    /// Removes up to `limit` tokens that have ended.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, limit: i64) -> Result<u64, StoreError> {
        self.store.sweep(self.clock.now(), limit).await
    }

    async fn record(
        &self,
        tx: &mut Tx,
        by: &Context,
        account_id: AccountId,
        change: AccountChange,
    ) -> Result<(), StoreError> {
        let change = Change::OfAccount(account_id, change);
        changes::record(tx, by, &change, self.clock.now(), &self.randomness).await
    }
}
