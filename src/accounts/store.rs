//! The only SQL of the accounts room.

use super::account::{Account, AccountStatus, LoginName, NewAccount, Role};
use crate::{
    passwords::PasswordHash,
    store::{Database, StoreError, Tx, affected, in_tx, read},
    types::{clock::Timestamp, ids::AccountId},
};

const INSERT: &str = "\
INSERT INTO accounts (account_id, email, email_key, username, username_key, name, role, status, \
password_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 'active', $8, $9) \
ON CONFLICT DO NOTHING \
RETURNING account_id, email, username, name, role, status, created_at";

const FIND: &str = "\
SELECT account_id, email, username, name, role, status, created_at FROM accounts \
WHERE account_id = $1";

const LIST: &str = "\
SELECT account_id, email, username, name, role, status, created_at FROM accounts \
ORDER BY account_id";

const FIND_PROOF: &str = "\
SELECT account_id, status, password_hash FROM accounts WHERE email_key = $1 OR username_key = $1";

const FIND_PROOF_BY_ID: &str = "\
SELECT account_id, status, password_hash FROM accounts WHERE account_id = $1";

/// Also what keeps a change of the password from slipping in before the session is there: either
/// waits for the other at this row.
const CLAIM: &str = "\
UPDATE accounts SET signed_in_at = $2, password_hash = $4 \
WHERE account_id = $1 AND status = 'active' AND password_hash = $3";

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

/// Keeps a new account; none when its e-mail address or username is taken.
pub(super) async fn insert(
    tx: &mut Tx,
    account_id: AccountId,
    account: &NewAccount,
    hash: &PasswordHash,
    now: Timestamp,
) -> Result<Option<Account>, StoreError> {
    let NewAccount {
        email,
        username,
        name,
        role,
    } = account;
    let row: Option<AccountRow> = in_tx!(tx, |connection| sqlx::query_as(INSERT)
        .bind(account_id)
        .bind(email.as_str())
        .bind(LoginName::from(email).as_str())
        .bind(username.as_ref().map(|username| username.as_str()))
        .bind(
            username
                .as_ref()
                .map(|username| LoginName::from(username).as_str().to_owned())
        )
        .bind(name.as_ref().map(|name| name.as_str()))
        .bind(role.as_str())
        .bind(hash)
        .bind(now)
        .fetch_optional(connection))?;
    Ok(row.map(Account::from))
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
