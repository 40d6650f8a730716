//! The only SQL of the sites room.

use uuid::Uuid;

use super::{
    memory::KnownSecret,
    site::{NewSite, Site, SiteState, SiteStatus, SiteUrl},
};
use crate::{
    store::{Database, StoreError, Tx, affected, in_tx, read, write},
    types::{
        clock::Timestamp,
        ids::{AccountId, SecretId, SiteId},
        secret::SecretDigest,
    },
};

/// What a secret proves.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct CallerRow {
    pub(super) site_id: SiteId,
    pub(super) plan: String,
    #[sqlx(try_from = "String")]
    pub(super) status: SiteStatus,
    pub(super) digest: SecretDigest,
    pub(super) expires_at: Option<Timestamp>,
}

impl CallerRow {
    /// The secret, and the state of its site.
    pub(super) fn split(self) -> (KnownSecret, SiteState) {
        let secret = KnownSecret {
            site_id: self.site_id,
            digest: self.digest,
            expires_at: self.expires_at,
        };
        let state = SiteState::Present {
            status: self.status,
            plan: self.plan.into(),
        };
        (secret, state)
    }
}

#[derive(sqlx::FromRow)]
struct SiteRow {
    site_id: SiteId,
    name: String,
    url: Option<String>,
    plan: String,
    owner_id: Option<AccountId>,
    #[sqlx(try_from = "String")]
    status: SiteStatus,
    created_at: Timestamp,
}

impl From<SiteRow> for Site {
    fn from(row: SiteRow) -> Self {
        Self {
            id: row.site_id,
            name: row.name,
            url: row.url,
            plan: row.plan,
            owner: row.owner_id,
            status: row.status,
            created_at: row.created_at,
        }
    }
}

/// The value of `sites.singleton` on the site of the configured secret.
pub(super) const DEFAULT: &str = "default";

const INSERT: &str = "\
INSERT INTO sites (site_id, name, url, plan, status, created_at, owner_id) \
VALUES ($1, $2, $3, $4, $5, $6, $7) \
RETURNING site_id, name, url, plan, owner_id, status, created_at";

const INSERT_DEFAULT: &str = "\
INSERT INTO sites (site_id, name, plan, status, created_at, singleton) \
VALUES ($1, $2, $3, $4, $5, $2) ON CONFLICT (singleton) DO NOTHING";

const FIND: &str = "\
SELECT site_id, name, url, plan, owner_id, status, created_at FROM sites \
WHERE site_id = $1 AND deleted_at IS NULL";

const LIST: &str = "\
SELECT site_id, name, url, plan, owner_id, status, created_at FROM sites \
WHERE deleted_at IS NULL ORDER BY site_id";

const PAGE: &str = "\
SELECT site_id, name, url, plan, owner_id, status, created_at FROM sites \
WHERE deleted_at IS NULL AND site_id > $1 ORDER BY site_id LIMIT $2";

const PAGE_OF_OWNER: &str = "\
SELECT site_id, name, url, plan, owner_id, status, created_at FROM sites \
WHERE owner_id = $3 AND deleted_at IS NULL AND site_id > $1 ORDER BY site_id LIMIT $2";

const COUNT_OF_OWNER: &str = "\
SELECT count(*) FROM sites JOIN accounts ON accounts.account_id = sites.owner_id \
WHERE sites.owner_id = $1 AND sites.deleted_at IS NULL AND accounts.role = 'owner'";

const COUNT_BY_PLAN: &str = "\
SELECT plan, count(*) FROM sites WHERE deleted_at IS NULL GROUP BY plan ORDER BY plan";

/// Under the lock of changes: nobody else changes the site between a look at it and this.
const UPDATE: &str = "\
UPDATE sites SET name = $2, url = $3, plan = $4, status = $5, owner_id = $6 \
WHERE site_id = $1 AND deleted_at IS NULL";

const DELETE: &str = "\
UPDATE sites SET deleted_at = $2, singleton = NULL WHERE site_id = $1 AND deleted_at IS NULL \
RETURNING site_id, name, url, plan, owner_id, status, created_at";

const FIND_BY_SECRET: &str = "\
SELECT sites.site_id, sites.plan, sites.status, proxy_secrets.digest, proxy_secrets.expires_at \
FROM proxy_secrets JOIN sites ON sites.site_id = proxy_secrets.site_id \
WHERE proxy_secrets.secret_id = $1 \
  AND (proxy_secrets.expires_at IS NULL OR proxy_secrets.expires_at > $2) \
  AND sites.deleted_at IS NULL";

const FIND_DEFAULT: &str = "\
SELECT site_id, name, url, plan, owner_id, status, created_at FROM sites \
WHERE singleton = $1 AND deleted_at IS NULL";

const INSERT_SECRET: &str = "\
INSERT INTO proxy_secrets (secret_id, site_id, digest, created_at) VALUES ($1, $2, $3, $4)";

const END_OLDER_SECRETS: &str = "\
DELETE FROM proxy_secrets WHERE site_id = $1 AND expires_at IS NOT NULL";

const END_ALL_SECRETS: &str = "DELETE FROM proxy_secrets WHERE site_id = $1";

const END_NEWEST_SECRET: &str = "\
UPDATE proxy_secrets SET expires_at = $2 WHERE site_id = $1 AND expires_at IS NULL";

const SWEEP_SECRETS: &str = "\
DELETE FROM proxy_secrets WHERE secret_id IN (\
SELECT secret_id FROM proxy_secrets JOIN sites ON sites.site_id = proxy_secrets.site_id \
WHERE proxy_secrets.expires_at <= $1 OR sites.deleted_at IS NOT NULL LIMIT $2)";

const SWEEP_SITES: &str = "\
DELETE FROM sites WHERE site_id IN (SELECT site_id FROM sites WHERE deleted_at IS NOT NULL \
AND NOT EXISTS (SELECT 1 FROM tokens WHERE tokens.site_id = sites.site_id) LIMIT $1)";

#[derive(Clone, Debug)]
pub(super) struct SiteStore {
    database: Database,
}

impl SiteStore {
    pub(super) const fn new(database: Database) -> Self {
        Self { database }
    }

    pub(super) const fn database(&self) -> &Database {
        &self.database
    }

    /// The site that a live secret of this id belongs to, with the digest to compare.
    pub(super) async fn find_by_secret(
        &self,
        secret_id: SecretId,
        now: Timestamp,
    ) -> Result<Option<CallerRow>, StoreError> {
        read!(self.database, |connection| sqlx::query_as(FIND_BY_SECRET)
            .bind(secret_id)
            .bind(now)
            .fetch_optional(connection))
    }

    pub(super) async fn find_default(&self) -> Result<Option<Site>, StoreError> {
        let row: Option<SiteRow> = read!(self.database, |connection| sqlx::query_as(FIND_DEFAULT)
            .bind(DEFAULT)
            .fetch_optional(connection))?;
        Ok(row.map(Site::from))
    }

    pub(super) async fn find(&self, site_id: SiteId) -> Result<Option<Site>, StoreError> {
        let row: Option<SiteRow> = read!(self.database, |connection| sqlx::query_as(FIND)
            .bind(site_id)
            .fetch_optional(connection))?;
        Ok(row.map(Site::from))
    }

    pub(super) async fn has_any(&self) -> Result<bool, StoreError> {
        let found: Option<(i64,)> = read!(self.database, |connection| sqlx::query_as(
            "SELECT created_at FROM sites WHERE deleted_at IS NULL LIMIT 1"
        )
        .fetch_optional(connection))?;
        Ok(found.is_some())
    }

    pub(super) async fn list(&self) -> Result<Vec<Site>, StoreError> {
        let rows: Vec<SiteRow> = read!(self.database, |connection| sqlx::query_as(LIST)
            .fetch_all(connection))?;
        Ok(rows.into_iter().map(Site::from).collect())
    }

    /// Up to `limit` sites after `after`, the oldest first: all, or those of an account.
    pub(super) async fn page(
        &self,
        owner: Option<AccountId>,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<Site>, StoreError> {
        let rows: Vec<SiteRow> = match owner {
            None => read!(self.database, |connection| sqlx::query_as(PAGE)
                .bind(after)
                .bind(limit)
                .fetch_all(connection))?,
            Some(owner) => read!(self.database, |connection| sqlx::query_as(PAGE_OF_OWNER)
                .bind(after)
                .bind(limit)
                .bind(owner)
                .fetch_all(connection))?,
        };
        Ok(rows.into_iter().map(Site::from).collect())
    }

    /// Removes up to `limit` secrets that are good for nothing any more.
    pub(super) async fn sweep_secrets(
        &self,
        now: Timestamp,
        limit: i64,
    ) -> Result<u64, StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(SWEEP_SECRETS)
                .bind(now)
                .bind(limit)
                .execute(connection)
        ))
    }

    /// Removes up to `limit` deleted sites whose tokens are gone.
    pub(super) async fn sweep_sites(&self, limit: i64) -> Result<u64, StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(SWEEP_SITES).bind(limit).execute(connection)
        ))
    }
}

/// Whether there has never been a site, or all that were are swept away.
pub(super) async fn is_empty(tx: &mut Tx) -> Result<bool, StoreError> {
    let found: Option<(i64,)> = in_tx!(tx, |connection| sqlx::query_as(
        "SELECT created_at FROM sites LIMIT 1"
    )
    .fetch_optional(connection))?;
    Ok(found.is_none())
}

pub(super) async fn find_in(tx: &mut Tx, site_id: SiteId) -> Result<Option<Site>, StoreError> {
    let row: Option<SiteRow> = in_tx!(tx, |connection| sqlx::query_as(FIND)
        .bind(site_id)
        .fetch_optional(connection))?;
    Ok(row.map(Site::from))
}

pub(super) async fn insert(
    tx: &mut Tx,
    site_id: SiteId,
    site: &NewSite,
    now: Timestamp,
) -> Result<Site, StoreError> {
    let row: SiteRow = in_tx!(tx, |connection| sqlx::query_as(INSERT)
        .bind(site_id)
        .bind(site.name.as_str())
        .bind(site.url.as_ref().map(SiteUrl::as_str))
        .bind(&site.plan)
        .bind(SiteStatus::Active.as_str())
        .bind(now)
        .bind(site.owner)
        .fetch_one(connection))?;
    Ok(row.into())
}

/// Makes the site `default` unless it is there; whether it made it.
pub(super) async fn insert_default(
    tx: &mut Tx,
    site_id: SiteId,
    plan: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let inserted = in_tx!(tx, |connection| affected(
        sqlx::query(INSERT_DEFAULT)
            .bind(site_id)
            .bind(DEFAULT)
            .bind(plan)
            .bind(SiteStatus::Active.as_str())
            .bind(now)
            .execute(connection)
    ))?;
    Ok(inserted == 1)
}

/// Writes a site down as it is to be; whether it was there.
pub(super) async fn update(tx: &mut Tx, site: &Site) -> Result<bool, StoreError> {
    let updated = in_tx!(tx, |connection| affected(
        sqlx::query(UPDATE)
            .bind(site.id)
            .bind(&site.name)
            .bind(&site.url)
            .bind(&site.plan)
            .bind(site.status.as_str())
            .bind(site.owner)
            .execute(connection)
    ))?;
    Ok(updated == 1)
}

/// Whether any site that is not deleted belongs to an account.
pub(super) async fn any_of(tx: &mut Tx, account_id: AccountId) -> Result<bool, StoreError> {
    let found: Option<(SiteId,)> = in_tx!(tx, |connection| sqlx::query_as(
        "SELECT site_id FROM sites WHERE owner_id = $1 AND deleted_at IS NULL LIMIT 1"
    )
    .bind(account_id)
    .fetch_optional(connection))?;
    Ok(found.is_some())
}

/// How many sites that are not deleted belong to an account of the role `owner`.
pub(super) async fn count_of_owner(tx: &mut Tx, account_id: AccountId) -> Result<i64, StoreError> {
    let (count,): (i64,) = in_tx!(tx, |connection| sqlx::query_as(COUNT_OF_OWNER)
        .bind(account_id)
        .fetch_one(connection))?;
    Ok(count)
}

/// How many sites are on each plan.
pub(super) async fn count_by_plan(database: &Database) -> Result<Vec<(String, i64)>, StoreError> {
    read!(database, |connection| sqlx::query_as(COUNT_BY_PLAN)
        .fetch_all(connection))
}

pub(super) async fn delete(
    tx: &mut Tx,
    site_id: SiteId,
    now: Timestamp,
) -> Result<Option<Site>, StoreError> {
    let row: Option<SiteRow> = in_tx!(tx, |connection| sqlx::query_as(DELETE)
        .bind(site_id)
        .bind(now)
        .fetch_optional(connection))?;
    Ok(row.map(Site::from))
}

pub(super) async fn insert_secret(
    tx: &mut Tx,
    secret_id: SecretId,
    site_id: SiteId,
    digest: &SecretDigest,
    now: Timestamp,
) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(INSERT_SECRET)
            .bind(secret_id)
            .bind(site_id)
            .bind(digest)
            .bind(now)
            .execute(connection)
    ))?;
    Ok(())
}

/// Gives the newest secret until `grace_ends` and ends those before it; whether there was one.
pub(super) async fn end_older_secrets(
    tx: &mut Tx,
    site_id: SiteId,
    grace_ends: Timestamp,
) -> Result<bool, StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(END_OLDER_SECRETS)
            .bind(site_id)
            .execute(connection)
    ))?;
    let ended = in_tx!(tx, |connection| affected(
        sqlx::query(END_NEWEST_SECRET)
            .bind(site_id)
            .bind(grace_ends)
            .execute(connection)
    ))?;
    Ok(ended > 0)
}

/// Ends every secret at once, whatever the clocks of the instances say; whether there was one.
pub(super) async fn end_all_secrets(tx: &mut Tx, site_id: SiteId) -> Result<bool, StoreError> {
    let ended = in_tx!(tx, |connection| affected(
        sqlx::query(END_ALL_SECRETS)
            .bind(site_id)
            .execute(connection)
    ))?;
    Ok(ended > 0)
}
