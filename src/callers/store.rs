//! The only SQL of the callers room.

use uuid::Uuid;

use crate::{
    accounts::Role,
    passwords::PasswordHash,
    store::{StoreError, Tx, in_tx},
    types::{
        clock::Timestamp,
        ids::{AccountId, ApiTokenId, SessionId},
    },
};

const OF_SESSION: &str = "\
SELECT accounts.password_hash FROM accounts \
JOIN sessions ON sessions.account_id = accounts.account_id \
WHERE accounts.account_id = $1 AND accounts.role = $2 AND accounts.status = 'active' \
AND sessions.session_id = $3 AND sessions.expires_at > $4";

const OF_API_TOKEN: &str = "\
SELECT accounts.password_hash FROM accounts \
JOIN api_tokens ON api_tokens.account_id = accounts.account_id \
WHERE accounts.account_id = $1 AND accounts.role = $2 AND accounts.status = 'active' \
AND api_tokens.token_id = $3 AND (api_tokens.expires_at IS NULL OR api_tokens.expires_at > $4)";

/// The password of an account that can be used and has this role, by a session that goes on.
pub(super) async fn of_session(
    tx: &mut Tx,
    (account_id, role): (AccountId, Role),
    session_id: SessionId,
    now: Timestamp,
) -> Result<Option<PasswordHash>, StoreError> {
    find(
        tx,
        OF_SESSION,
        (account_id, role),
        session_id.as_uuid(),
        now,
    )
    .await
}

/// The same, by an API token that has not ended.
pub(super) async fn of_api_token(
    tx: &mut Tx,
    (account_id, role): (AccountId, Role),
    token_id: ApiTokenId,
    now: Timestamp,
) -> Result<Option<PasswordHash>, StoreError> {
    find(
        tx,
        OF_API_TOKEN,
        (account_id, role),
        token_id.as_uuid(),
        now,
    )
    .await
}

async fn find(
    tx: &mut Tx,
    sql: &'static str,
    (account_id, role): (AccountId, Role),
    by: Uuid,
    now: Timestamp,
) -> Result<Option<PasswordHash>, StoreError> {
    let found: Option<(PasswordHash,)> = in_tx!(tx, |connection| sqlx::query_as(sql)
        .bind(account_id)
        .bind(role.as_str())
        .bind(by)
        .bind(now)
        .fetch_optional(connection))?;
    Ok(found.map(|(hash,)| hash))
}
