//! ROOM accounts: the people who run sites, their roles, and what proves them.
//!
//! Nothing of an account is kept in memory: each request of the management API reads it from the
//! store, so that what was disabled or deleted is refused at once.

mod account;
pub(crate) mod own;
mod store;

use axum::{Router, routing::get};

pub use account::{
    Account, AccountName, AccountStatus, EmailAddress, InvalidAccount, LoginName, NewAccount, Role,
    UnknownWord, Username,
};
pub use store::Proof;

use self::store::AccountStore;
use crate::{
    callers::{CallerLayer, Door},
    passwords::PasswordHash,
    state::AppState,
    store::{
        Database, StoreError, Tx,
        changes::{self, AccountChange, Change, Context},
    },
    types::{
        clock::{Clock, Timestamp},
        ids::AccountId,
        randomness::Randomness,
    },
};

/// The endpoints of this room.
pub fn router(state: &AppState) -> Router<AppState> {
    let own = CallerLayer::new(state, Door::OwnAccount);
    Router::new().route("/api/v1/account", get(own::get_account).route_layer(own))
}

/// Why an account cannot be as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another account has the e-mail address or the username.
    #[error("the e-mail address or the username is taken")]
    Taken,
}

/// The accounts of a store.
#[derive(Clone, Debug)]
pub struct Accounts {
    store: AccountStore,
    clock: Clock,
    randomness: Randomness,
}

impl Accounts {
    /// The accounts of a store.
    #[must_use]
    pub fn new(database: Database, clock: Clock, randomness: Randomness) -> Self {
        Self {
            store: AccountStore::new(database),
            clock,
            randomness,
        }
    }

    /// One account.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find(&self, account_id: AccountId) -> Result<Option<Account>, StoreError> {
        self.store.find(account_id).await
    }

    /// Every account, the oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<Account>, StoreError> {
        self.store.list().await
    }

    /// What the password of whoever is called so is held against.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find_proof(&self, name: &LoginName) -> Result<Option<Proof>, StoreError> {
        self.store.find_proof(name).await
    }

    /// What the password of an account is held against.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find_proof_by_id(
        &self,
        account_id: AccountId,
    ) -> Result<Option<Proof>, StoreError> {
        self.store.find_proof_by_id(account_id).await
    }

    /// Makes an account.
    ///
    /// # Errors
    /// When its e-mail address or username is taken, or the store fails.
    pub async fn create(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        account: &NewAccount,
        hash: &PasswordHash,
    ) -> Result<Account, AccountError> {
        changes::lock(tx).await?;
        let now = self.clock.now();
        let account_id = AccountId::new(now, &self.randomness);
        let created = store::insert(tx, account_id, account, hash, now).await?;
        let created = created.ok_or(AccountError::Taken)?;
        let change = AccountChange::Created {
            role: created.role.as_str(),
        };
        self.record(tx, &by.into(), account_id, change).await?;
        Ok(created)
    }

    /// Notes that somebody signs in who has proven `proven`, and keeps `kept` in its place. Whether
    /// the account can still be used and has that password.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claim(
        &self,
        tx: &mut Tx,
        proven: &Proof,
        kept: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let now: Timestamp = self.clock.now();
        store::claim(tx, proven.account_id, now, &proven.password_hash, kept).await
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
