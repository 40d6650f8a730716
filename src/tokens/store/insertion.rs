//! New records written together.

use std::collections::HashSet;

use data_encoding::HEXLOWER;
use serde::Serialize;
use sqlx::{QueryBuilder, Sqlite, postgres::PgBindIterExt};
use tokio::time::Instant;

use super::{Digest, Idempotency, Inserted, json};
use crate::{
    store::{
        Database, StoreError, affected,
        batches::Work,
        connection::Kept,
        database::{Pools, with_connection, with_kept_connection},
        in_tx,
    },
    tokens::{record::TokenRecord, registry::KEY_LIFETIME},
    types::{
        clock::Timestamp,
        ids::{SiteId, TokenId},
    },
};

/// For a lone record: unpacking arrays costs half as much again.
const INSERT_ONE_IN_POSTGRES: &str = "\
INSERT INTO tokens \
  (token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, bound_at) \
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

const INSERT_IN_POSTGRES: &str = "\
INSERT INTO tokens \
  (token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, bound_at) \
SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)";

/// Takes the idempotency keys that are free, or whose lifetime ($12) is over, and writes the records
/// that have theirs or need none. With no key among them, the statement without costs half as much.
const INSERT_WITH_KEYS_IN_POSTGRES: &str = "\
WITH new AS (SELECT * \
  FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS new (token_id, site_id, user_id, \
    coins, issued_at, expires_at, machine_id, bound_at, key_digest, request_digest, created_at)), \
taken AS (INSERT INTO idempotency_keys \
    (site_id, key_digest, request_digest, token_id, created_at) \
  SELECT site_id, key_digest, request_digest, token_id, created_at FROM new \
  WHERE key_digest IS NOT NULL \
  ON CONFLICT (site_id, key_digest) DO UPDATE SET request_digest = excluded.request_digest, \
    token_id = excluded.token_id, created_at = excluded.created_at \
  WHERE idempotency_keys.created_at <= excluded.created_at - $12 \
  RETURNING token_id) \
INSERT INTO tokens \
  (token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, bound_at) \
SELECT token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, bound_at FROM new \
WHERE key_digest IS NULL OR token_id IN (SELECT token_id FROM taken) \
RETURNING token_id";

/// The first half for SQLite, which has no statement that writes into two tables.
const TAKE_KEYS_IN_SQLITE: &str = "\
INSERT INTO idempotency_keys (site_id, key_digest, request_digest, token_id, created_at) \
SELECT unhex(value ->> 1, '-'), unhex(value ->> 8), unhex(value ->> 9), \
  unhex(value ->> 0, '-'), value ->> 10 \
FROM json_each($1) WHERE value ->> 8 IS NOT NULL \
ON CONFLICT (site_id, key_digest) DO UPDATE SET request_digest = excluded.request_digest, \
  token_id = excluded.token_id, created_at = excluded.created_at \
WHERE idempotency_keys.created_at <= excluded.created_at - $2";

/// To be followed by rows of parameters: JSON, from which SQLite takes other arrays here, costs as
/// much as all else that it does for a record.
const INSERT_IN_SQLITE: &str = "\
INSERT INTO tokens \
  (token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, bound_at) ";

const INSERT_WITH_KEYS_IN_SQLITE: &str = "\
INSERT INTO tokens \
  (token_id, site_id, user_id, coins, issued_at, expires_at, machine_id, bound_at) \
SELECT unhex(value ->> 0, '-'), unhex(value ->> 1, '-'), value ->> 2, value ->> 3, value ->> 4, \
  value ->> 5, value ->> 6, value ->> 7 \
FROM json_each($1) WHERE value ->> 8 IS NULL \
  OR EXISTS (SELECT 1 FROM idempotency_keys WHERE site_id = unhex(value ->> 1, '-') \
    AND key_digest = unhex(value ->> 8) AND token_id = unhex(value ->> 0, '-')) \
RETURNING token_id";

const KEY_LIFETIME_MICROS: i64 = KEY_LIFETIME.as_secs().cast_signed() * 1_000_000;

/// A record that is not written yet.
pub(in crate::tokens) struct NewToken {
    pub(in crate::tokens) record: TokenRecord,
    pub(in crate::tokens) idempotency: Option<Idempotency>,
    pub(in crate::tokens) created_at: Timestamp,
}

impl NewToken {
    fn bound_at(&self) -> Option<Timestamp> {
        self.record.machine_id.as_ref().map(|_| self.created_at)
    }

    fn key(&self) -> Option<&Digest> {
        self.idempotency
            .as_ref()
            .map(|idempotency| &idempotency.key)
    }

    fn request(&self) -> Option<&Digest> {
        self.idempotency
            .as_ref()
            .map(|idempotency| &idempotency.request)
    }

    /// The columns, as the statements for SQLite count them.
    fn as_json(&self) -> impl Serialize {
        let record = &self.record;
        (
            record.token_id.as_uuid(),
            record.site_id.as_uuid(),
            record.user_id,
            record.coins,
            record.issued_at.as_micros(),
            record.expires_at.as_micros(),
            record.machine_id.as_ref(),
            self.bound_at().map(Timestamp::as_micros),
            self.key().map(|key| HEXLOWER.encode(key)),
            self.request().map(|request| HEXLOWER.encode(request)),
            self.created_at.as_micros(),
        )
    }
}

/// Binds the columns of records as arrays of PostgreSQL's; a macro, since a statement that tells
/// nothing is of another type than one that does.
macro_rules! bind_records {
    ($statement:expr, $rows:expr) => {{
        let rows: &[NewToken] = $rows;
        let records = || rows.iter().map(|row| &row.record);
        $statement
            .bind(records().map(|record| record.token_id).bind_iter())
            .bind(records().map(|record| record.site_id).bind_iter())
            .bind(records().map(|record| record.user_id).bind_iter())
            .bind(records().map(|record| record.coins).bind_iter())
            .bind(records().map(|record| record.issued_at).bind_iter())
            .bind(records().map(|record| record.expires_at).bind_iter())
            .bind(
                records()
                    .map(|record| record.machine_id.as_ref())
                    .bind_iter(),
            )
            .bind(rows.iter().map(NewToken::bound_at).bind_iter())
    }};
}

pub(super) struct Insertions(pub(super) Database);

impl Work for Insertions {
    type Item = NewToken;
    type Answer = Inserted;
    type Subject = (SiteId, Digest);

    const NAME: &str = "insert tokens";

    fn subject(row: &NewToken) -> Option<(SiteId, Digest)> {
        row.key().map(|key| (row.record.site_id, *key))
    }

    async fn run(
        &self,
        kept: &mut Kept,
        rows: &[NewToken],
        deadline: Instant,
    ) -> Result<Vec<Inserted>, StoreError> {
        if rows.iter().all(|row| row.idempotency.is_none()) {
            self.insert_all(kept, rows, deadline).await?;
            return Ok(vec![Inserted::Yes; rows.len()]);
        }
        let written: Vec<(TokenId,)> = match self.0.pools() {
            Pools::Postgres(pool) => {
                with_kept_connection!(kept, self.0, pool, deadline, |connection| {
                    bind_records!(sqlx::query_as(INSERT_WITH_KEYS_IN_POSTGRES), rows)
                        .bind(rows.iter().map(NewToken::key).bind_iter())
                        .bind(rows.iter().map(NewToken::request).bind_iter())
                        .bind(rows.iter().map(|row| row.created_at).bind_iter())
                        .bind(KEY_LIFETIME_MICROS)
                        .fetch_all(connection)
                })?
            }
            Pools::Sqlite { .. } => self.insert_with_keys_in_sqlite(rows, deadline).await?,
        };
        let written: HashSet<TokenId> = written.into_iter().map(|(token_id,)| token_id).collect();
        let outcome = |row: &NewToken| {
            if written.contains(&row.record.token_id) {
                Inserted::Yes
            } else {
                Inserted::KeyTaken
            }
        };
        Ok(rows.iter().map(outcome).collect())
    }
}

impl Insertions {
    /// Inserts records without idempotency keys: all of them, or none.
    async fn insert_all(
        &self,
        kept: &mut Kept,
        rows: &[NewToken],
        deadline: Instant,
    ) -> Result<(), StoreError> {
        match (self.0.pools(), rows) {
            (Pools::Postgres(pool), [lone]) => {
                with_kept_connection!(kept, self.0, pool, deadline, |connection| affected(
                    sqlx::query(INSERT_ONE_IN_POSTGRES)
                        .bind(lone.record.token_id)
                        .bind(lone.record.site_id)
                        .bind(lone.record.user_id)
                        .bind(lone.record.coins)
                        .bind(lone.record.issued_at)
                        .bind(lone.record.expires_at)
                        .bind(&lone.record.machine_id)
                        .bind(lone.bound_at())
                        .execute(connection)
                ))?
            }
            (Pools::Postgres(pool), _) => {
                with_kept_connection!(kept, self.0, pool, deadline, |connection| {
                    let statement = bind_records!(sqlx::query(INSERT_IN_POSTGRES), rows);
                    affected(statement.execute(connection))
                })?
            }
            (Pools::Sqlite { writer, .. }, _) => {
                let mut statement = insertion_in_sqlite(rows);
                with_connection!(self.0, writer, deadline, |connection| affected(
                    statement.build().execute(connection)
                ))?
            }
        };
        Ok(())
    }

    async fn insert_with_keys_in_sqlite(
        &self,
        rows: &[NewToken],
        deadline: Instant,
    ) -> Result<Vec<(TokenId,)>, StoreError> {
        let new = json(rows.iter().map(NewToken::as_json))?;
        let mut tx = self.0.begin_before(deadline).await?;
        in_tx!(&mut tx, |connection| affected(
            sqlx::query(TAKE_KEYS_IN_SQLITE)
                .bind(&new)
                .bind(KEY_LIFETIME_MICROS)
                .execute(connection)
        ))?;
        let written = in_tx!(&mut tx, |connection| sqlx::query_as(
            INSERT_WITH_KEYS_IN_SQLITE
        )
        .bind(&new)
        .fetch_all(connection))?;
        tx.commit().await?;
        Ok(written)
    }
}

fn insertion_in_sqlite(rows: &[NewToken]) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(INSERT_IN_SQLITE);
    statement.push_values(rows, |mut values, row| {
        let record = &row.record;
        values
            .push_bind(record.token_id)
            .push_bind(record.site_id)
            .push_bind(record.user_id)
            .push_bind(record.coins)
            .push_bind(record.issued_at)
            .push_bind(record.expires_at)
            .push_bind(record.machine_id.clone())
            .push_bind(row.bound_at());
    });
    statement
}
