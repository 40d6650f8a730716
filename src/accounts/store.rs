//! The only SQL of the accounts room.

use super::account::{Account, AccountStatus, EmailAddress, LoginName, NewAccount, Role, Username};
use crate::{
    passwords::PasswordHash,
    store::{Database, StoreError, Tx, affected, in_tx, read},
    types::{clock::Timestamp, ids::AccountId, name::Name},
};

const INSERT: &str = "\
INSERT INTO accounts (account_id, email, email_key, username, username_key, name, role, status, \
password_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 'active', $8, $9) \
ON CONFLICT DO NOTHING";

const FIND: &str = "\
SELECT accounts.account_id, email, username, name, role, status, accounts.created_at, \
two_factor.confirmed_at AS two_factor_since FROM accounts \
LEFT JOIN two_factor ON two_factor.account_id = accounts.account_id \
WHERE accounts.account_id = $1";

const LIST: &str = "\
SELECT accounts.account_id, email, username, name, role, status, accounts.created_at, \
two_factor.confirmed_at AS two_factor_since FROM accounts \
LEFT JOIN two_factor ON two_factor.account_id = accounts.account_id \
ORDER BY accounts.account_id";

const FIND_PROOF: &str = "\
SELECT account_id, status, password_hash FROM accounts WHERE email_key = $1 OR username_key = $1";

const FIND_PROOF_BY_ID: &str = "\
SELECT account_id, status, password_hash FROM accounts WHERE account_id = $1";

/// Also what keeps a change of the password from slipping in before the session is there: either
/// waits for the other at this row.
const CLAIM: &str = "\
UPDATE accounts SET signed_in_at = $2, password_hash = $4 \
WHERE account_id = $1 AND status = 'active' AND password_hash = $3";

const SET_NAME: &str = "UPDATE accounts SET name = $2 WHERE account_id = $1";

const IS_TAKEN: &str = "\
SELECT account_id FROM accounts WHERE email_key = $2 AND account_id <> $1";

const SET_EMAIL: &str = "\
UPDATE accounts SET email = $2, email_key = $3 WHERE account_id = $1";

const SET_PASSWORD: &str = "\
UPDATE accounts SET password_hash = $3 WHERE account_id = $1 AND password_hash = $2";

const RESET_PASSWORD: &str = "UPDATE accounts SET password_hash = $2 WHERE account_id = $1";

const SET_STATUS: &str = "\
UPDATE accounts SET status = $2 WHERE account_id = $1 AND status <> $2";

const DELETE: &str = "DELETE FROM accounts WHERE account_id = $1";

const ANOTHER_ADMIN: &str = "\
SELECT account_id FROM accounts \
WHERE account_id <> $1 AND role = 'admin' AND status = 'active' LIMIT 1";

#[derive(sqlx::FromRow)]
struct AccountRow {
    account_id: AccountId,
    email: String,
    username: Option<String>,
    name: Option<String>,
    #[sqlx(try_from = "String")]
    role: Role,
    #[sqlx(try_from = "String")]
    status: AccountStatus,
    created_at: Timestamp,
    two_factor_since: Option<Timestamp>,
}

impl From<AccountRow> for Account {
    fn from(row: AccountRow) -> Self {
        Self {
            id: row.account_id,
            email: row.email,
            username: row.username,
            name: row.name,
            role: row.role,
            status: row.status,
            two_factor: row.two_factor_since.is_some(),
            created_at: row.created_at,
        }
    }
}

/// What a password is held against.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Proof {
    /// The account.
    pub account_id: AccountId,
    /// Whether it can be used.
    #[sqlx(try_from = "String")]
    pub status: AccountStatus,
    /// The hash of its password.
    pub password_hash: PasswordHash,
}

#[derive(Clone, Debug)]
pub(super) struct AccountStore {
    database: Database,
}

impl AccountStore {
    pub(super) const fn new(database: Database) -> Self {
        Self { database }
    }

    pub(super) async fn find(&self, account_id: AccountId) -> Result<Option<Account>, StoreError> {
        let row: Option<AccountRow> = read!(self.database, |connection| sqlx::query_as(FIND)
            .bind(account_id)
            .fetch_optional(connection))?;
        Ok(row.map(Account::from))
    }

    pub(super) async fn list(&self) -> Result<Vec<Account>, StoreError> {
        let rows: Vec<AccountRow> = read!(self.database, |connection| sqlx::query_as(LIST)
            .fetch_all(connection))?;
        Ok(rows.into_iter().map(Account::from).collect())
    }

    pub(super) async fn find_proof(&self, name: &LoginName) -> Result<Option<Proof>, StoreError> {
        read!(self.database, |connection| sqlx::query_as(FIND_PROOF)
            .bind(name.as_str())
            .fetch_optional(connection))
    }

    pub(super) async fn find_proof_by_id(
        &self,
        account_id: AccountId,
    ) -> Result<Option<Proof>, StoreError> {
        read!(self.database, |connection| sqlx::query_as(FIND_PROOF_BY_ID)
            .bind(account_id)
            .fetch_optional(connection))
    }
}

/// Keeps a new account; whether it did, which it does not when a name is taken.
pub(super) async fn insert(
    tx: &mut Tx,
    account_id: AccountId,
    account: &NewAccount,
    hash: &PasswordHash,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let NewAccount {
        email,
        username,
        name,
        role,
    } = account;
    let username_key = username.as_ref().map(LoginName::from);
    let inserted = in_tx!(tx, |connection| affected(
        sqlx::query(INSERT)
            .bind(account_id)
            .bind(email.as_str())
            .bind(LoginName::from(email).as_str())
            .bind(username.as_ref().map(Username::as_str))
            .bind(username_key.as_ref().map(LoginName::as_str))
            .bind(name.as_ref().map(Name::as_str))
            .bind(role.as_str())
            .bind(hash)
            .bind(now)
            .execute(connection)
    ))?;
    Ok(inserted == 1)
}

pub(super) async fn find_in(
    tx: &mut Tx,
    account_id: AccountId,
) -> Result<Option<Account>, StoreError> {
    let row: Option<AccountRow> = in_tx!(tx, |connection| sqlx::query_as(FIND)
        .bind(account_id)
        .fetch_optional(connection))?;
    Ok(row.map(Account::from))
}

pub(super) async fn set_name(
    tx: &mut Tx,
    account_id: AccountId,
    name: &Name,
) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(SET_NAME)
            .bind(account_id)
            .bind(name.as_str())
            .execute(connection)
    ))?;
    Ok(())
}

/// Whether another account has an e-mail address; call it under the lock of changes.
pub(super) async fn is_taken(
    tx: &mut Tx,
    account_id: AccountId,
    email: &EmailAddress,
) -> Result<bool, StoreError> {
    let other: Option<(AccountId,)> = in_tx!(tx, |connection| sqlx::query_as(IS_TAKEN)
        .bind(account_id)
        .bind(LoginName::from(email).as_str())
        .fetch_optional(connection))?;
    Ok(other.is_some())
}

pub(super) async fn set_email(
    tx: &mut Tx,
    account_id: AccountId,
    email: &EmailAddress,
) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(SET_EMAIL)
            .bind(account_id)
            .bind(email.as_str())
            .bind(LoginName::from(email).as_str())
            .execute(connection)
    ))?;
    Ok(())
}

/// Sets another password, if the one that was proven is still there.
pub(super) async fn set_password(
    tx: &mut Tx,
    account_id: AccountId,
    proven: &PasswordHash,
    hash: &PasswordHash,
) -> Result<bool, StoreError> {
    let set = in_tx!(tx, |connection| affected(
        sqlx::query(SET_PASSWORD)
            .bind(account_id)
            .bind(proven)
            .bind(hash)
            .execute(connection)
    ))?;
    Ok(set == 1)
}

/// Sets another password, whatever it was.
pub(super) async fn reset_password(
    tx: &mut Tx,
    account_id: AccountId,
    hash: &PasswordHash,
) -> Result<bool, StoreError> {
    let set = in_tx!(tx, |connection| affected(
        sqlx::query(RESET_PASSWORD)
            .bind(account_id)
            .bind(hash)
            .execute(connection)
    ))?;
    Ok(set == 1)
}

/// Sets whether an account can be used; whether that changed anything.
pub(super) async fn set_status(
    tx: &mut Tx,
    account_id: AccountId,
    status: AccountStatus,
) -> Result<bool, StoreError> {
    let set = in_tx!(tx, |connection| affected(
        sqlx::query(SET_STATUS)
            .bind(account_id)
            .bind(status.as_str())
            .execute(connection)
    ))?;
    Ok(set == 1)
}

/// Removes an account and all that is its own.
pub(super) async fn delete(tx: &mut Tx, account_id: AccountId) -> Result<bool, StoreError> {
    let deleted = in_tx!(tx, |connection| affected(
        sqlx::query(DELETE).bind(account_id).execute(connection)
    ))?;
    Ok(deleted == 1)
}

/// Whether there is an admin besides this account; call it under the lock of changes.
pub(super) async fn has_another_admin(
    tx: &mut Tx,
    account_id: AccountId,
) -> Result<bool, StoreError> {
    let other: Option<(AccountId,)> = in_tx!(tx, |connection| sqlx::query_as(ANOTHER_ADMIN)
        .bind(account_id)
        .fetch_optional(connection))?;
    Ok(other.is_some())
}

/// Notes a sign-in, if the account can be used and its password is still the one that was proven.
pub(super) async fn claim(
    tx: &mut Tx,
    account_id: AccountId,
    now: Timestamp,
    proven: &PasswordHash,
    kept: &PasswordHash,
) -> Result<bool, StoreError> {
    let claimed = in_tx!(tx, |connection| affected(
        sqlx::query(CLAIM)
            .bind(account_id)
            .bind(now)
            .bind(proven)
            .bind(kept)
            .execute(connection)
    ))?;
    Ok(claimed == 1)
}
