//! The only SQL of the tokens room.
//!
//! A token's state and its site's are read, and a token is bound, in one statement each, so these
//! look into the table of sites too.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::record::{HeldToken, TokenRecord, TokenState};
use crate::{
    sites::{SiteState, SiteStatus},
    store::{Database, StoreError, Tx, affected, in_tx, read, write},
    types::{
        clock::Timestamp,
        ids::{MachineId, SiteId, TokenId, WpUserId},
    },
};

const INSERT: &str = "\
INSERT INTO tokens (token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, bound_at) \
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Takes an idempotency key, if it is free or what it stood for is too old to be repeated.
const TAKE_KEY: &str = "\
INSERT INTO idempotency_keys (site_id, key_digest, request_digest, token_id, created_at) \
VALUES ($1, $2, $3, $4, $5) \
ON CONFLICT (site_id, key_digest) DO UPDATE SET request_digest = excluded.request_digest, \
  token_id = excluded.token_id, created_at = excluded.created_at \
WHERE idempotency_keys.created_at <= $6";

const FIND_KEY: &str = "\
SELECT idempotency_keys.request_digest, tokens.token_id, tokens.site_id, tokens.user_id, \
  tokens.coins, tokens.issued_at, tokens.expires_at, tokens.machine_id, tokens.revoked_at \
FROM idempotency_keys JOIN tokens ON tokens.token_id = idempotency_keys.token_id \
WHERE idempotency_keys.site_id = $1 AND idempotency_keys.key_digest = $2 \
  AND idempotency_keys.created_at > $3";

const FIND: &str = "\
SELECT tokens.token_id, tokens.site_id, tokens.user_id, tokens.coins, tokens.issued_at, \
  tokens.expires_at, tokens.machine_id, tokens.revoked_at, \
  sites.status AS site_status, sites.plan AS site_plan \
FROM tokens LEFT JOIN sites ON sites.site_id = tokens.site_id AND sites.deleted_at IS NULL \
WHERE tokens.token_id = $1";

/// Binds a token to a machine, or finds it bound to it, if it is still good: of any number of
/// machines that race, exactly one gets a row.
const BIND: &str = "\
UPDATE tokens SET machine_id = $2, bound_at = COALESCE(bound_at, $3) \
WHERE token_id = $1 AND (machine_id IS NULL OR machine_id = $2) \
  AND revoked_at IS NULL AND expires_at > $3 \
  AND EXISTS (SELECT 1 FROM sites WHERE sites.site_id = tokens.site_id \
    AND sites.deleted_at IS NULL AND sites.status = 'active')";

const REVOKE: &str = "\
UPDATE tokens SET revoked_at = $2 WHERE token_id = $1 AND revoked_at IS NULL";

const RELEASE: &str = "\
UPDATE tokens SET machine_id = NULL, bound_at = NULL \
WHERE token_id = $1 AND machine_id IS NOT NULL";

const LIST: &str = "\
SELECT token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, revoked_at \
FROM tokens WHERE site_id = $1 ORDER BY token_id DESC LIMIT $2";

const LIST_OF_USER: &str = "\
SELECT token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, revoked_at \
FROM tokens WHERE site_id = $1 AND user_id = $3 ORDER BY token_id DESC LIMIT $2";

const SWEEP: &str = "\
DELETE FROM tokens WHERE token_id IN \
(SELECT token_id FROM tokens WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)";

const SWEEP_KEYS: &str = "\
DELETE FROM idempotency_keys WHERE (site_id, key_digest) IN \
(SELECT site_id, key_digest FROM idempotency_keys WHERE created_at <= $1 \
ORDER BY created_at LIMIT $2)";

/// An idempotency key and the request that it stands for, as digests: all that is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    key: Vec<u8>,
    request: Vec<u8>,
}

impl Idempotency {
    /// Digests a key and the request made with it.
    #[must_use]
    pub fn new(key: &str, user_id: WpUserId, machine_id: Option<&MachineId>) -> Self {
        let mut request = Sha256::new().chain_update(user_id.get().to_be_bytes());
        if let Some(machine_id) = machine_id {
            request.update(machine_id.as_str());
        }
        Self {
            key: Sha256::digest(key).to_vec(),
            request: request.finalize().to_vec(),
        }
    }

    /// The digest of the key.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }
}

/// What an idempotency key stands for.
#[derive(Clone, Debug)]
pub enum KeyUse {
    /// The same request was answered with this token.
    Same(TokenRecord),
    /// Another request was.
    Other,
}

/// What became of a new record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is durable.
    Yes,
    /// Its idempotency key was taken meanwhile; nothing was written.
    KeyTaken,
}

#[derive(sqlx::FromRow)]
struct TokenRow {
    token_id: TokenId,
    site_id: SiteId,
    user_id: WpUserId,
    coins: i64,
    issued_at: Timestamp,
    expires_at: Timestamp,
    machine_id: Option<MachineId>,
    revoked_at: Option<Timestamp>,
}

impl From<TokenRow> for TokenRecord {
    fn from(row: TokenRow) -> Self {
        Self {
            token_id: row.token_id,
            site_id: row.site_id,
            user_id: row.user_id,
            coins: row.coins,
            issued_at: row.issued_at,
            expires_at: row.expires_at,
            machine_id: row.machine_id,
            state: row
                .revoked_at
                .map_or(TokenState::Active, |at| TokenState::Revoked { at }),
        }
    }
}

#[derive(sqlx::FromRow)]
struct HeldRow {
    #[sqlx(flatten)]
    token: TokenRow,
    site_status: Option<String>,
    site_plan: Option<String>,
}

impl TryFrom<HeldRow> for HeldToken {
    type Error = StoreError;

    fn try_from(row: HeldRow) -> Result<Self, StoreError> {
        let site = match (row.site_status, row.site_plan) {
            (Some(status), Some(plan)) => SiteState::Present {
                status: SiteStatus::try_from(status)
                    .map_err(|unknown| StoreError::Fault(sqlx::Error::Decode(unknown.into())))?,
                plan: plan.into(),
            },
            _ => SiteState::Deleted,
        };
        Ok(Self {
            record: Arc::new(row.token.into()),
            site,
        })
    }
}

#[derive(sqlx::FromRow)]
struct KeyRow {
    request_digest: Vec<u8>,
    #[sqlx(flatten)]
    token: TokenRow,
}

/// The statement that writes a record; a macro, since its type is each database's own.
macro_rules! insertion {
    ($record:expr, $bound_at:expr) => {
        sqlx::query(INSERT)
            .bind($record.token_id)
            .bind($record.site_id)
            .bind($record.user_id)
            .bind($record.coins)
            .bind($record.issued_at)
            .bind($record.expires_at)
            .bind(&$record.machine_id)
            .bind($bound_at)
    };
}

/// The token records.
#[derive(Clone, Debug)]
pub(super) struct TokenStore {
    database: Database,
}

impl TokenStore {
    pub(super) const fn new(database: Database) -> Self {
        Self { database }
    }

    /// Writes one record, and with it its idempotency key unless that was taken after
    /// `keys_expire`, the moment before which keys are forgotten.
    pub(super) async fn insert(
        &self,
        record: &TokenRecord,
        idempotency: Option<&Idempotency>,
        now: Timestamp,
        keys_expire: Timestamp,
    ) -> Result<Inserted, StoreError> {
        let bound_at = record.machine_id.as_ref().map(|_| now);
        let Some(idempotency) = idempotency else {
            write!(self.database, |connection| affected(
                insertion!(record, bound_at).execute(connection)
            ))?;
            return Ok(Inserted::Yes);
        };
        let mut tx = self.database.begin().await?;
        let taken = in_tx!(&mut tx, |connection| affected(
            sqlx::query(TAKE_KEY)
                .bind(record.site_id)
                .bind(&idempotency.key)
                .bind(&idempotency.request)
                .bind(record.token_id)
                .bind(now)
                .bind(keys_expire)
                .execute(connection)
        ))?;
        if taken == 0 {
            return Ok(Inserted::KeyTaken);
        }
        in_tx!(&mut tx, |connection| affected(
            insertion!(record, bound_at).execute(connection)
        ))?;
        tx.commit().await?;
        Ok(Inserted::Yes)
    }

    /// What an idempotency key of the site stands for, if it was used after `keys_expire`.
    pub(super) async fn find_key(
        &self,
        site_id: SiteId,
        idempotency: &Idempotency,
        keys_expire: Timestamp,
    ) -> Result<Option<KeyUse>, StoreError> {
        let row: Option<KeyRow> = read!(self.database, |connection| sqlx::query_as(FIND_KEY)
            .bind(site_id)
            .bind(&idempotency.key)
            .bind(keys_expire)
            .fetch_optional(connection))?;
        Ok(row.map(|row| {
            if row.request_digest == idempotency.request {
                KeyUse::Same(row.token.into())
            } else {
                KeyUse::Other
            }
        }))
    }

    pub(super) async fn find(&self, token_id: TokenId) -> Result<Option<HeldToken>, StoreError> {
        let row: Option<HeldRow> = read!(self.database, |connection| sqlx::query_as(FIND)
            .bind(token_id)
            .fetch_optional(connection))?;
        row.map(HeldToken::try_from).transpose()
    }

    /// Whether the token is now bound to the machine, and was still good when it was.
    pub(super) async fn bind(
        &self,
        token_id: TokenId,
        machine_id: &MachineId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let bound = write!(self.database, |connection| affected(
            sqlx::query(BIND)
                .bind(token_id)
                .bind(machine_id)
                .bind(now)
                .execute(connection)
        ))?;
        Ok(bound == 1)
    }

    pub(super) async fn list(
        &self,
        site_id: SiteId,
        user_id: Option<WpUserId>,
        limit: i64,
    ) -> Result<Vec<TokenRecord>, StoreError> {
        let rows: Vec<TokenRow> = match user_id {
            Some(user_id) => read!(self.database, |connection| sqlx::query_as(LIST_OF_USER)
                .bind(site_id)
                .bind(limit)
                .bind(user_id)
                .fetch_all(connection))?,
            None => read!(self.database, |connection| sqlx::query_as(LIST)
                .bind(site_id)
                .bind(limit)
                .fetch_all(connection))?,
        };
        Ok(rows.into_iter().map(TokenRecord::from).collect())
    }

    /// Removes up to `limit` records that ended before `cutoff`.
    pub(super) async fn sweep(&self, cutoff: Timestamp, limit: i64) -> Result<u64, StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(SWEEP)
                .bind(cutoff)
                .bind(limit)
                .execute(connection)
        ))
    }

    /// Removes up to `limit` idempotency keys that were used before `keys_expire`.
    pub(super) async fn sweep_keys(
        &self,
        keys_expire: Timestamp,
        limit: i64,
    ) -> Result<u64, StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(SWEEP_KEYS)
                .bind(keys_expire)
                .bind(limit)
                .execute(connection)
        ))
    }
}

/// The site of a token, whatever became of the site.
pub(super) async fn site_of(tx: &mut Tx, token_id: TokenId) -> Result<Option<SiteId>, StoreError> {
    let row: Option<(SiteId,)> = in_tx!(tx, |connection| sqlx::query_as(
        "SELECT site_id FROM tokens WHERE token_id = $1"
    )
    .bind(token_id)
    .fetch_optional(connection))?;
    Ok(row.map(|(site_id,)| site_id))
}

/// Takes a token back; whether it was not before.
pub(super) async fn revoke(
    tx: &mut Tx,
    token_id: TokenId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let revoked = in_tx!(tx, |connection| affected(
        sqlx::query(REVOKE)
            .bind(token_id)
            .bind(now)
            .execute(connection)
    ))?;
    Ok(revoked == 1)
}

/// Unbinds a token; whether it was bound.
pub(super) async fn release(tx: &mut Tx, token_id: TokenId) -> Result<bool, StoreError> {
    let released = in_tx!(tx, |connection| affected(
        sqlx::query(RELEASE).bind(token_id).execute(connection)
    ))?;
    Ok(released == 1)
}

/// When the last of all tokens ends.
pub(super) async fn latest_end(tx: &mut Tx) -> Result<Option<Timestamp>, StoreError> {
    let (end,): (Option<Timestamp>,) = in_tx!(tx, |connection| sqlx::query_as(
        "SELECT MAX(expires_at) FROM tokens"
    )
    .fetch_one(connection))?;
    Ok(end)
}
