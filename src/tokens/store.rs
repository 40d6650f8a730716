//! The only SQL of the tokens room.
//!
//! A token's state and its site's are read, and a token is bound, in one statement each, so these
//! look into the table of sites too.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

mod binding;
mod finding;
mod insertion;
mod keys;
mod last_use;
mod partitions;

use self::{binding::Bindings, finding::Findings, insertion::Insertions, partitions::first_id};
pub(super) use self::{binding::NewBinding, insertion::NewToken, partitions::Partition};
use super::{
    record::{HeldToken, TokenRecord, TokenState},
    summary::TokenStatus,
};
use crate::{
    store::{
        Database, StoreError, Tx, affected, batches::Batches, database::Pools, in_tx, json, read,
        write,
    },
    telemetry::metrics::Metrics,
    types::{
        clock::Timestamp,
        ids::{MachineId, SiteId, TokenId, WpUserId},
    },
};

const FIND_KEY: &str = "\
SELECT idempotency_keys.request_digest, tokens.token_id, tokens.site_id, tokens.user_id, \
  tokens.coins, tokens.issued_at, tokens.expires_at, tokens.machine_id, \
  tokens.last_validated_at, tokens.revoked_at \
FROM idempotency_keys JOIN tokens ON tokens.token_id = idempotency_keys.token_id \
WHERE idempotency_keys.site_id = $1 AND idempotency_keys.key_digest = $2 \
  AND idempotency_keys.created_at > $3";

const REVOKE: &str = "\
UPDATE tokens SET revoked_at = $2 WHERE token_id = $1 AND revoked_at IS NULL";

const RELEASE: &str = "\
UPDATE tokens SET machine_id = NULL, bound_at = NULL, last_validated_at = NULL \
WHERE token_id = $1 AND machine_id IS NOT NULL";

/// The newest tokens of a site, of those that one more condition picks. A state that few are in is
/// looked for by an index of its own; the newest tokens are the active ones.
macro_rules! listing {
    ($condition:literal) => {
        concat!(
            "SELECT token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, \
             last_validated_at, revoked_at \
             FROM tokens WHERE site_id = $1 AND token_id < $2 AND ",
            $condition,
            " AND ($4 = '' OR ($4 = 'revoked' AND revoked_at IS NOT NULL) \
             OR ($4 = 'active' AND revoked_at IS NULL AND expires_at > $5) \
             OR ($4 = 'expired' AND revoked_at IS NULL AND expires_at <= $5)) \
             ORDER BY token_id DESC LIMIT $3"
        )
    };
}

const LIST: &str = listing!("TRUE");

const LIST_OF_USER_IN_POSTGRES: &str = listing!("user_id = $6");

/// The entries of the site's index tell which are the user's; see the migration that made it.
const LIST_OF_USER_IN_SQLITE: &str = listing!(
    "token_id IN (SELECT token_id FROM tokens \
     WHERE site_id = $1 AND token_id < $2 AND user_id = $6)"
);

const LIST_REVOKED: &str = listing!("revoked_at IS NOT NULL");

const SWEEP: &str = "\
DELETE FROM tokens WHERE token_id IN \
(SELECT token_id FROM tokens WHERE expires_at <= $1 AND token_id >= $2 \
ORDER BY expires_at LIMIT $3)";

/// How many batches that write may be on their way at once: what comes meanwhile shares the next
/// flush to disk.
const WRITERS: usize = 1;

/// How many batches that read may be: a look need not wait for the one before it.
const READERS: usize = 2;

/// An idempotency key and the request that it stands for, as digests: all that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    key: Digest,
    request: Digest,
}

/// A SHA-256 digest.
pub(super) type Digest = [u8; 32];

impl Idempotency {
    /// Digests a key and the request made with it.
    #[must_use]
    pub fn new(key: &str, user_id: WpUserId, machine_id: Option<&MachineId>) -> Self {
        let mut request = Sha256::new().chain_update(user_id.get().to_be_bytes());
        if let Some(machine_id) = machine_id {
            request.update(machine_id.as_str());
        }
        Self {
            key: Sha256::digest(key).into(),
            request: request.finalize().into(),
        }
    }

    /// The digest of the key.
    pub(super) const fn key(&self) -> Digest {
        self.key
    }
}

/// Which tokens of a site are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenFilter {
    /// Those of this WordPress user.
    pub user_id: Option<WpUserId>,
    /// Those of this state.
    pub state: Option<TokenStatus>,
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
    last_validated_at: Option<Timestamp>,
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
            last_validated_at: row.last_validated_at,
            state: row
                .revoked_at
                .map_or(TokenState::Active, |at| TokenState::Revoked { at }),
        }
    }
}

#[derive(sqlx::FromRow)]
struct KeyRow {
    request_digest: Vec<u8>,
    #[sqlx(flatten)]
    token: TokenRow,
}

/// The token records. What every call needs is done in batches.
#[derive(Clone, Debug)]
pub(super) struct TokenStore {
    database: Database,
    insertions: Batches<Insertions>,
    bindings: Batches<Bindings>,
    findings: Batches<Findings>,
}

impl TokenStore {
    pub(super) fn new(database: Database) -> Self {
        let deadline = database.deadline();
        Self {
            insertions: Batches::new(Insertions(database.clone()), WRITERS, deadline),
            bindings: Batches::new(Bindings(database.clone()), WRITERS, deadline),
            findings: Batches::new(Findings(database.clone()), READERS, deadline),
            database,
        }
    }

    pub(super) fn measured_by(&self, metrics: &Metrics) {
        self.insertions.measured_by(metrics);
        self.bindings.measured_by(metrics);
        self.findings.measured_by(metrics);
    }

    /// Writes one record, and with it its idempotency key unless that was taken within its lifetime.
    pub(super) async fn insert(&self, row: NewToken) -> Result<Inserted, StoreError> {
        self.insertions.call(row).await
    }

    /// The record of the token, now bound to the machine; none if it could not be.
    pub(super) async fn bind(
        &self,
        binding: NewBinding,
    ) -> Result<Option<TokenRecord>, StoreError> {
        self.bindings.call(binding).await
    }

    /// A record with the state of its site, not older than the call.
    pub(super) async fn find(&self, token_id: TokenId) -> Result<Option<HeldToken>, StoreError> {
        self.findings.call(token_id).await?
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
            .bind(&idempotency.key[..])
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

    /// Up to `limit` tokens of a site whose ids are below `before`, the newest first.
    pub(super) async fn page(
        &self,
        site_id: SiteId,
        filter: &TokenFilter,
        now: Timestamp,
        before: Uuid,
        limit: i64,
    ) -> Result<Vec<TokenRecord>, StoreError> {
        /// A macro, since its type is each database's own.
        macro_rules! asking {
            ($sql:expr) => {
                sqlx::query_as($sql)
                    .bind(site_id)
                    .bind(before)
                    .bind(limit)
                    .bind(filter.state.map_or("", TokenStatus::as_str))
                    .bind(now)
            };
        }
        let rows: Vec<TokenRow> = match filter {
            TokenFilter {
                user_id: Some(user_id),
                ..
            } => {
                let list = match self.database.pools() {
                    Pools::Postgres(_) => LIST_OF_USER_IN_POSTGRES,
                    Pools::Sqlite { .. } => LIST_OF_USER_IN_SQLITE,
                };
                read!(self.database, |connection| asking!(list)
                    .bind(user_id)
                    .fetch_all(connection))?
            }
            TokenFilter {
                state: Some(TokenStatus::Revoked),
                ..
            } => read!(self.database, |connection| asking!(LIST_REVOKED)
                .fetch_all(connection))?,
            _ => read!(self.database, |connection| asking!(LIST)
                .fetch_all(connection))?,
        };
        Ok(rows.into_iter().map(TokenRecord::from).collect())
    }

    /// Removes up to `limit` records that ended before `cutoff`, of those whose ids were made from
    /// `from` on.
    pub(super) async fn sweep(
        &self,
        cutoff: Timestamp,
        from: Timestamp,
        limit: i64,
    ) -> Result<u64, StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(SWEEP)
                .bind(cutoff)
                .bind(first_id(from))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::migrations::plan_of;

    #[tokio::test]
    async fn each_list_is_read_from_its_index_alone_and_in_its_order() {
        for (listing, plan) in [
            (
                LIST,
                "SEARCH tokens USING INDEX tokens_site (site_id=? AND token_id<?)",
            ),
            (
                LIST_OF_USER_IN_SQLITE,
                "SEARCH tokens USING INDEX tokens_site (site_id=? AND token_id=?); LIST SUBQUERY 1; \
                 SEARCH tokens USING COVERING INDEX tokens_site (site_id=? AND token_id<?); \
                 CREATE BLOOM FILTER",
            ),
            (
                LIST_REVOKED,
                "SEARCH tokens USING INDEX tokens_revoked (site_id=? AND token_id<?)",
            ),
        ] {
            assert_eq!(plan_of(listing).await, plan);
        }
    }
}
