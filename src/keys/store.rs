//! The only SQL of the keys room.

use std::time::Duration;

use super::{
    record::KeyRecord,
    signer::{Algorithm, Kid},
};
use crate::{
    store::{Database, StoreError, Tx, affected, in_tx, read, write},
    types::clock::Timestamp,
};

const LIST: &str = "\
SELECT kid, algorithm, sealed, created_at, signs_from, verifies_until, revoked_at \
FROM signing_keys ORDER BY signs_from, kid";

const INSERT: &str = "\
INSERT INTO signing_keys (kid, algorithm, sealed, created_at, signs_from, singleton) \
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (singleton) DO NOTHING";

/// Gives every key but the newest an end, unless it has one.
const RETIRE_OTHERS: &str = "\
UPDATE signing_keys SET verifies_until = $2 \
WHERE kid <> $1 AND revoked_at IS NULL AND verifies_until IS NULL";

const REVOKE: &str = "\
UPDATE signing_keys SET revoked_at = $2 WHERE kid = $1 AND revoked_at IS NULL";

/// The newest key that is left has no end: after a successor was revoked, it signs on.
const REOPEN_NEWEST: &str = "\
UPDATE signing_keys SET verifies_until = NULL WHERE kid = (\
SELECT kid FROM signing_keys WHERE revoked_at IS NULL AND (verifies_until IS NULL OR \
verifies_until > $1) ORDER BY signs_from DESC, kid DESC LIMIT 1)";

const SWEEP: &str = "\
DELETE FROM signing_keys WHERE kid IN \
(SELECT kid FROM signing_keys WHERE verifies_until <= $1 OR revoked_at <= $2 LIMIT $3)";

/// The value of `signing_keys.singleton` on a store's first key.
const FIRST: &str = "first";

/// A key as it is stored.
pub(super) struct StoredKey {
    pub(super) record: KeyRecord,
    pub(super) sealed: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct KeyRow {
    kid: Kid,
    algorithm: String,
    sealed: Vec<u8>,
    created_at: Timestamp,
    signs_from: Timestamp,
    verifies_until: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl TryFrom<KeyRow> for StoredKey {
    type Error = StoreError;

    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        let algorithm = row
            .algorithm
            .parse::<Algorithm>()
            .map_err(StoreError::unreadable)?;
        Ok(Self {
            record: KeyRecord {
                kid: row.kid,
                algorithm,
                created_at: row.created_at,
                signs_from: row.signs_from,
                verifies_until: row.verifies_until,
                revoked_at: row.revoked_at,
            },
            sealed: row.sealed,
        })
    }
}

/// Whether a key is the first of its store, of which there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    First,
    Later,
}

const DATA_KEY: &str = "SELECT wrapped FROM data_keys WHERE id = 1";

#[derive(Clone, Debug)]
pub(super) struct KeyStore {
    database: Database,
}

impl KeyStore {
    pub(super) const fn new(database: Database) -> Self {
        Self { database }
    }

    /// How long a call to the store may take.
    pub(super) fn deadline(&self) -> Duration {
        self.database.deadline()
    }

    pub(super) async fn list(&self) -> Result<Vec<StoredKey>, StoreError> {
        let rows: Vec<KeyRow> = read!(self.database, |connection| sqlx::query_as(LIST)
            .fetch_all(connection))?;
        rows.into_iter().map(StoredKey::try_from).collect()
    }

    /// The wrapped data key.
    pub(super) async fn data_key(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let row: Option<(Vec<u8>,)> = read!(self.database, |connection| sqlx::query_as(DATA_KEY)
            .fetch_optional(connection))?;
        Ok(row.map(|(wrapped,)| wrapped))
    }

    /// Keeps a wrapped data key, unless another instance was first.
    pub(super) async fn insert_data_key(
        &self,
        wrapped: &[u8],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(
                "INSERT INTO data_keys (id, wrapped, created_at) VALUES (1, $1, $2) \
                 ON CONFLICT (id) DO NOTHING"
            )
            .bind(wrapped)
            .bind(now)
            .execute(connection)
        ))?;
        Ok(())
    }

    /// Removes up to `limit` keys that verify no more, or were revoked before `cutoff`.
    pub(super) async fn sweep(
        &self,
        now: Timestamp,
        cutoff: Timestamp,
        limit: i64,
    ) -> Result<u64, StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(SWEEP)
                .bind(now)
                .bind(cutoff)
                .bind(limit)
                .execute(connection)
        ))
    }
}

/// The wrapped data key.
pub(super) async fn data_key(tx: &mut Tx) -> Result<Option<Vec<u8>>, StoreError> {
    let row: Option<(Vec<u8>,)> = in_tx!(tx, |connection| sqlx::query_as(DATA_KEY)
        .fetch_optional(connection))?;
    Ok(row.map(|(wrapped,)| wrapped))
}

/// Keeps the data key as it is wrapped now.
pub(super) async fn replace_data_key(tx: &mut Tx, wrapped: &[u8]) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query("UPDATE data_keys SET wrapped = $1 WHERE id = 1")
            .bind(wrapped)
            .execute(connection)
    ))?;
    Ok(())
}

/// Keeps a key; whether it did, which for a first one another instance may have done.
pub(super) async fn insert(
    tx: &mut Tx,
    record: &KeyRecord,
    sealed: &[u8],
    rank: Rank,
) -> Result<bool, StoreError> {
    let singleton = match rank {
        Rank::First => Some(FIRST),
        Rank::Later => None,
    };
    let inserted = in_tx!(tx, |connection| affected(
        sqlx::query(INSERT)
            .bind(&record.kid)
            .bind(record.algorithm.name())
            .bind(sealed)
            .bind(record.created_at)
            .bind(record.signs_from)
            .bind(singleton)
            .execute(connection)
    ))?;
    Ok(inserted == 1)
}

pub(super) async fn retire_others(
    tx: &mut Tx,
    newest: &Kid,
    until: Timestamp,
) -> Result<(), StoreError> {
    in_tx!(tx, |connection| affected(
        sqlx::query(RETIRE_OTHERS)
            .bind(newest)
            .bind(until)
            .execute(connection)
    ))?;
    Ok(())
}

/// Ends a key at once; whether it had not ended so before.
pub(super) async fn revoke(tx: &mut Tx, kid: &Kid, now: Timestamp) -> Result<bool, StoreError> {
    let revoked = in_tx!(tx, |connection| affected(
        sqlx::query(REVOKE).bind(kid).bind(now).execute(connection)
    ))?;
    in_tx!(tx, |connection| affected(
        sqlx::query(REOPEN_NEWEST).bind(now).execute(connection)
    ))?;
    Ok(revoked == 1)
}

/// Whether any key is left that is not revoked.
pub(super) async fn any_left(tx: &mut Tx) -> Result<bool, StoreError> {
    let left: Option<(Kid,)> = in_tx!(tx, |connection| {
        sqlx::query_as(
        "SELECT kid FROM signing_keys WHERE revoked_at IS NULL AND verifies_until IS NULL LIMIT 1"
    )
    .fetch_optional(connection)
    })?;
    Ok(left.is_some())
}
