//! The only SQL of the api-tokens room.

use super::{ApiToken, OwnedApiToken};
use crate::{
    accounts::Role,
    callers::Scopes,
    store::{Database, StoreError, Tx, affected, in_tx, read, write},
    types::{
        clock::{LAST_USE_STEP, Timestamp},
        ids::{AccountId, ApiTokenId},
        secret::SecretDigest,
    },
};

const INSERT: &str = "\
INSERT INTO api_tokens (token_id, account_id, name, scopes, digest, created_at, expires_at) \
VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// A token that has not ended, of an account that can be used.
const FIND_LIVE: &str = "\
SELECT api_tokens.account_id, api_tokens.scopes, api_tokens.digest, api_tokens.last_used_at, \
accounts.role FROM api_tokens \
JOIN accounts ON accounts.account_id = api_tokens.account_id \
WHERE api_tokens.token_id = $1 \
AND (api_tokens.expires_at IS NULL OR api_tokens.expires_at > $2) AND accounts.status = 'active'";

const TOUCH: &str = "\
UPDATE api_tokens SET last_used_at = $2 \
WHERE token_id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";

const LIST: &str = "\
SELECT token_id, account_id, name, scopes, created_at, expires_at, last_used_at FROM api_tokens \
WHERE account_id = $1 AND (expires_at IS NULL OR expires_at > $2) ORDER BY token_id DESC";

const LIST_ALL: &str = "\
SELECT token_id, account_id, name, scopes, created_at, expires_at, last_used_at FROM api_tokens \
WHERE expires_at IS NULL OR expires_at > $1 ORDER BY token_id DESC";

const FIND: &str = "\
SELECT token_id, account_id, name, scopes, created_at, expires_at, last_used_at FROM api_tokens \
WHERE token_id = $1";

const COUNT: &str = "\
SELECT count(*) FROM api_tokens \
WHERE account_id = $1 AND (expires_at IS NULL OR expires_at > $2)";

const REMOVE: &str = "DELETE FROM api_tokens WHERE token_id = $1 AND account_id = $2";

/// Also those that have ended by this instance's clock: another's may not say so.
const END_ALL: &str = "DELETE FROM api_tokens WHERE account_id = $1 RETURNING token_id";

const SWEEP: &str = "\
DELETE FROM api_tokens WHERE token_id IN \
(SELECT token_id FROM api_tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)";

/// What a token proves.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct LiveRow {
    pub(super) account_id: AccountId,
    #[sqlx(try_from = "String")]
    pub(super) scopes: Scopes,
    pub(super) digest: SecretDigest,
    pub(super) last_used_at: Option<Timestamp>,
    #[sqlx(try_from = "String")]
    pub(super) role: Role,
}

#[derive(sqlx::FromRow)]
struct ApiTokenRow {
    token_id: ApiTokenId,
    account_id: AccountId,
    name: String,
    #[sqlx(try_from = "String")]
    scopes: Scopes,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
}

impl From<ApiTokenRow> for OwnedApiToken {
    fn from(row: ApiTokenRow) -> Self {
        Self {
            token: ApiToken {
                id: row.token_id,
                name: row.name,
                scopes: row.scopes,
                created_at: row.created_at,
                expires_at: row.expires_at,
                last_used_at: row.last_used_at,
            },
            account_id: row.account_id,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct ApiTokenStore {
    database: Database,
}

impl ApiTokenStore {
    pub(super) const fn new(database: Database) -> Self {
        Self { database }
    }

    pub(super) async fn find_live(
        &self,
        token_id: ApiTokenId,
        now: Timestamp,
    ) -> Result<Option<LiveRow>, StoreError> {
        read!(self.database, |connection| sqlx::query_as(FIND_LIVE)
            .bind(token_id)
            .bind(now)
            .fetch_optional(connection))
    }

    /// Notes a use, unless one was noted in the last minute.
    pub(super) async fn touch(
        &self,
        token_id: ApiTokenId,
        last_used_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if last_used_at.is_some_and(|last| last > now.before(LAST_USE_STEP)) {
            return Ok(());
        }
        write!(self.database, |connection| affected(
            sqlx::query(TOUCH)
                .bind(token_id)
                .bind(now)
                .execute(connection)
        ))?;
        Ok(())
    }

    pub(super) async fn list(
        &self,
        account_id: AccountId,
        now: Timestamp,
    ) -> Result<Vec<OwnedApiToken>, StoreError> {
        let rows: Vec<ApiTokenRow> = read!(self.database, |connection| sqlx::query_as(LIST)
            .bind(account_id)
            .bind(now)
            .fetch_all(connection))?;
        Ok(rows.into_iter().map(OwnedApiToken::from).collect())
    }

    pub(super) async fn list_all(&self, now: Timestamp) -> Result<Vec<OwnedApiToken>, StoreError> {
        let rows: Vec<ApiTokenRow> = read!(self.database, |connection| sqlx::query_as(LIST_ALL)
            .bind(now)
            .fetch_all(connection))?;
        Ok(rows.into_iter().map(OwnedApiToken::from).collect())
    }

    /// Removes up to `limit` tokens that have ended.
    pub(super) async fn sweep(&self, now: Timestamp, limit: i64) -> Result<u64, StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(SWEEP).bind(now).bind(limit).execute(connection)
        ))
    }
}

/// How many live tokens an account has; call it under the lock of changes.
pub(super) async fn count(
    tx: &mut Tx,
    account_id: AccountId,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let (count,): (i64,) = in_tx!(tx, |connection| sqlx::query_as(COUNT)
        .bind(account_id)
        .bind(now)
        .fetch_one(connection))?;
    Ok(count)
}

pub(super) async fn insert(
    tx: &mut Tx,
    account_id: AccountId,
    token: &ApiToken,
    digest: &SecretDigest,
) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(INSERT)
            .bind(token.id)
            .bind(account_id)
            .bind(&token.name)
            .bind(token.scopes.to_string())
            .bind(digest)
            .bind(token.created_at)
            .bind(token.expires_at)
            .execute(connection)
    ))?;
    Ok(())
}

pub(super) async fn find_in(
    tx: &mut Tx,
    token_id: ApiTokenId,
) -> Result<Option<OwnedApiToken>, StoreError> {
    let row: Option<ApiTokenRow> = in_tx!(tx, |connection| sqlx::query_as(FIND)
        .bind(token_id)
        .fetch_optional(connection))?;
    Ok(row.map(OwnedApiToken::from))
}

/// Removes every token of an account; which.
///
/// # Errors
/// When the store fails.
pub async fn end_all(tx: &mut Tx, account_id: AccountId) -> Result<Vec<ApiTokenId>, StoreError> {
    let ended: Vec<(ApiTokenId,)> = in_tx!(tx, |connection| sqlx::query_as(END_ALL)
        .bind(account_id)
        .fetch_all(connection))?;
    Ok(ended.into_iter().map(|(token_id,)| token_id).collect())
}

/// Removes a token of an account; whether there was one.
pub(super) async fn remove(
    tx: &mut Tx,
    account_id: AccountId,
    token_id: ApiTokenId,
) -> Result<bool, StoreError> {
    let removed = in_tx!(tx, |connection| affected(
        sqlx::query(REMOVE)
            .bind(token_id)
            .bind(account_id)
            .execute(connection)
    ))?;
    Ok(removed == 1)
}
