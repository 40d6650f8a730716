//! The accounts, and each change of one.

use super::{
    account::{Account, AccountStatus, AccountUpdate, LoginName, NewAccount, Role},
    store::{self, AccountStore, Proof},
};
use crate::{
    api_tokens,
    passwords::PasswordHash,
    sessions, sites,
    store::{
        Database, StoreError, Tx,
        changes::{self, AccountChange, Change, Context},
    },
    two_factor,
    types::{
        clock::Clock,
        ids::{AccountId, SessionId},
        randomness::Randomness,
    },
};

/// Why an account cannot be as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another account has the e-mail address or the username.
    #[error("the e-mail address or the username is taken")]
    Taken,
    /// It is the last admin that can be used.
    #[error("it is the last admin that can be used: make another first")]
    LastAdmin,
    /// Sites belong to it.
    #[error("sites belong to it: delete them or give them to another account first")]
    OwnsSites,
    /// Its password was changed after it was proven.
    #[error("the password was changed meanwhile")]
    Changed,
    /// There is no such account.
    #[error("there is no such account")]
    Gone,
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

    /// One account, as a transaction sees it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find_in(
        tx: &mut Tx,
        account_id: AccountId,
    ) -> Result<Option<Account>, StoreError> {
        store::find_in(tx, account_id).await
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
        if !store::insert(tx, account_id, account, hash, now).await? {
            return Err(AccountError::Taken);
        }
        let created = self.found(tx, account_id).await?;
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
        let now = self.clock.now();
        store::claim(tx, proven.account_id, now, &proven.password_hash, kept).await
    }

    /// Sets those of an account's fields that are given.
    ///
    /// # Errors
    /// When the e-mail address is taken, or the store fails.
    pub async fn update(
        &self,
        tx: &mut Tx,
        by: &Context,
        account_id: AccountId,
        update: &AccountUpdate,
    ) -> Result<Account, AccountError> {
        changes::lock(tx).await?;
        let mut fields = Vec::new();
        if let Some(name) = &update.name {
            store::set_name(tx, account_id, name).await?;
            fields.push("name");
        }
        if let Some(email) = &update.email {
            if store::is_taken(tx, account_id, email).await? {
                return Err(AccountError::Taken);
            }
            store::set_email(tx, account_id, email).await?;
            fields.push("email");
        }
        let updated = self.found(tx, account_id).await?;
        if !fields.is_empty() {
            self.record(tx, by, account_id, AccountChange::Updated(fields))
                .await?;
        }
        Ok(updated)
    }

    /// Gives an account another password, if `proven` is still its own, and ends every session but
    /// `kept`.
    ///
    /// # Errors
    /// When the password was changed meanwhile, or the store fails.
    pub async fn change_password(
        &self,
        tx: &mut Tx,
        by: &Context,
        proven: &Proof,
        hash: &PasswordHash,
        kept: SessionId,
    ) -> Result<(), AccountError> {
        let account_id = proven.account_id;
        if !store::set_password(tx, account_id, &proven.password_hash, hash).await? {
            return Err(AccountError::Changed);
        }
        let ended = sessions::end_others(tx, account_id, kept).await?;
        let change = AccountChange::PasswordChanged { ended };
        self.record(tx, by, account_id, change).await?;
        Ok(self.record_ended(tx, by, account_id, ended).await?)
    }

    /// Gives an account another password, and ends every session and API token.
    ///
    /// # Errors
    /// When there is no such account, or the store fails.
    pub async fn reset_password(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        account_id: AccountId,
        hash: &PasswordHash,
    ) -> Result<Account, AccountError> {
        changes::lock(tx).await?;
        if !store::reset_password(tx, account_id, hash).await? {
            return Err(AccountError::Gone);
        }
        let ended = sessions::end_all(tx, account_id).await?;
        let (by, change) = (by.into(), AccountChange::PasswordChanged { ended });
        self.record(tx, &by, account_id, change).await?;
        self.record_ended(tx, &by, account_id, ended).await?;
        self.end_api_tokens(tx, &by, account_id).await?;
        self.found(tx, account_id).await
    }

    /// Turns the second factor of an account off.
    ///
    /// # Errors
    /// When there is no such account, or the store fails.
    pub async fn reset_two_factor(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        account_id: AccountId,
    ) -> Result<Account, AccountError> {
        let now = self.clock.now();
        two_factor::disable(tx, &by.into(), account_id, now, &self.randomness).await?;
        self.found(tx, account_id).await
    }

    /// Lets an account be of no use until it is enabled again, and ends every session and API token.
    ///
    /// # Errors
    /// When it is the last admin, there is no such account, or the store fails.
    pub async fn disable(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        account_id: AccountId,
    ) -> Result<Account, AccountError> {
        changes::lock(tx).await?;
        self.spare_last_admin(tx, account_id).await?;
        if store::set_status(tx, account_id, AccountStatus::Disabled).await? {
            let ended = sessions::end_all(tx, account_id).await?;
            let by = by.into();
            self.record(tx, &by, account_id, AccountChange::Disabled)
                .await?;
            self.record_ended(tx, &by, account_id, ended).await?;
            self.end_api_tokens(tx, &by, account_id).await?;
        }
        self.found(tx, account_id).await
    }

    /// Undoes [`Self::disable`], but for the sessions and the API tokens.
    ///
    /// # Errors
    /// When there is no such account, or the store fails.
    pub async fn enable(
        &self,
        tx: &mut Tx,
        by: impl Into<Context>,
        account_id: AccountId,
    ) -> Result<Account, AccountError> {
        changes::lock(tx).await?;
        if store::set_status(tx, account_id, AccountStatus::Active).await? {
            self.record(tx, &by.into(), account_id, AccountChange::Enabled)
                .await?;
        }
        self.found(tx, account_id).await
    }

    /// Deletes an account with its sessions, API tokens and second factor.
    ///
    /// # Errors
    /// When it is the last admin, sites belong to it, it is gone already, or the store fails.
    pub async fn delete(
        &self,
        tx: &mut Tx,
        by: &Context,
        account_id: AccountId,
    ) -> Result<(), AccountError> {
        changes::lock(tx).await?;
        self.spare_last_admin(tx, account_id).await?;
        if sites::owns_any(tx, account_id).await? {
            return Err(AccountError::OwnsSites);
        }
        if !store::delete(tx, account_id).await? {
            return Err(AccountError::Gone);
        }
        Ok(self
            .record(tx, by, account_id, AccountChange::Deleted)
            .await?)
    }

    /// Refuses to take away the last admin. Under the lock of changes, so that two who go at once
    /// do not each take the other for the one that stays.
    async fn spare_last_admin(
        &self,
        tx: &mut Tx,
        account_id: AccountId,
    ) -> Result<(), AccountError> {
        let account = self.found(tx, account_id).await?;
        let counts = account.role == Role::Admin && account.status == AccountStatus::Active;
        if counts && !store::has_another_admin(tx, account_id).await? {
            return Err(AccountError::LastAdmin);
        }
        Ok(())
    }

    async fn found(&self, tx: &mut Tx, account_id: AccountId) -> Result<Account, AccountError> {
        let account = store::find_in(tx, account_id).await?;
        account.ok_or(AccountError::Gone)
    }

    async fn record_ended(
        &self,
        tx: &mut Tx,
        by: &Context,
        account_id: AccountId,
        ended: u64,
    ) -> Result<(), StoreError> {
        if ended == 0 {
            return Ok(());
        }
        let change = AccountChange::SessionsEnded(ended);
        self.record(tx, by, account_id, change).await
    }

    async fn end_api_tokens(
        &self,
        tx: &mut Tx,
        by: &Context,
        account_id: AccountId,
    ) -> Result<(), StoreError> {
        for token_id in api_tokens::end_all(tx, account_id).await? {
            let change = AccountChange::ApiTokenRevoked(token_id);
            self.record(tx, by, account_id, change).await?;
        }
        Ok(())
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
