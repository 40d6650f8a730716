//! Last uses written together.

use sqlx::postgres::PgBindIterExt;

use super::{TokenStore, json};
use crate::{
    store::{
        StoreError, affected,
        database::{Pools, with_connection},
    },
    types::{
        clock::{LAST_USE_STEP, Timestamp},
        ids::TokenId,
    },
};

/// Leaves alone what was written within the last step ($3) or is later, as by another instance. The
/// rows are locked in one order, so that no two instances wait for each other.
const TOUCH_IN_POSTGRES: &str = "\
UPDATE tokens SET last_validated_at = held.used_at \
FROM (SELECT tokens.token_id, used.used_at \
  FROM unnest($1, $2) AS used (token_id, used_at) \
  JOIN tokens ON tokens.token_id = used.token_id \
  WHERE tokens.machine_id IS NOT NULL \
    AND (tokens.last_validated_at IS NULL OR tokens.last_validated_at <= used.used_at - $3) \
  ORDER BY tokens.token_id FOR UPDATE OF tokens) AS held \
WHERE tokens.token_id = held.token_id";

const TOUCH_IN_SQLITE: &str = "\
UPDATE tokens SET last_validated_at = used.used_at \
FROM (SELECT unhex(value ->> 0, '-') AS token_id, value ->> 1 AS used_at FROM json_each($1)) \
  AS used \
WHERE tokens.token_id = used.token_id AND tokens.machine_id IS NOT NULL \
  AND (tokens.last_validated_at IS NULL OR tokens.last_validated_at <= used.used_at - $2)";

pub(super) const LAST_USE_STEP_MICROS: i64 = LAST_USE_STEP.as_secs().cast_signed() * 1_000_000;

impl TokenStore {
    /// Writes when tokens were last used, of those that are still bound.
    pub(in crate::tokens) async fn touch(
        &self,
        uses: &[(TokenId, Timestamp)],
    ) -> Result<(), StoreError> {
        if uses.is_empty() {
            return Ok(());
        }
        match self.database.pools() {
            Pools::Postgres(pool) => with_connection!(self.database, pool, |connection| affected(
                sqlx::query(TOUCH_IN_POSTGRES)
                    .bind(uses.iter().map(|(token_id, _)| token_id).bind_iter())
                    .bind(uses.iter().map(|(_, used_at)| used_at).bind_iter())
                    .bind(LAST_USE_STEP_MICROS)
                    .execute(connection)
            ))?,
            Pools::Sqlite { writer, .. } => {
                let touched = json(
                    uses.iter()
                        .map(|(token_id, used_at)| (token_id.as_uuid(), used_at.as_micros())),
                )?;
                with_connection!(self.database, writer, |connection| affected(
                    sqlx::query(TOUCH_IN_SQLITE)
                        .bind(touched)
                        .bind(LAST_USE_STEP_MICROS)
                        .execute(connection)
                ))?
            }
        };
        Ok(())
    }
}
