//! Bindings made together.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::postgres::PgBindIterExt;
use tokio::time::Instant;

use super::{json, last_use::LAST_USE_STEP_MICROS};
use crate::{
    keys::TokenClaims,
    store::{
        Database, StoreError,
        batches::Work,
        connection::Kept,
        database::{Pools, with_connection, with_kept_connection},
    },
    tokens::record::{TokenRecord, TokenState},
    types::{
        clock::Timestamp,
        ids::{MachineId, TokenId},
    },
};

/// Binds tokens to machines, if their records agree with the claims and they are still good: of any
/// number of machines that race for one, exactly one gets a row. What is bound to the machine already
/// gets one if its last use was written a step ($8) ago or earlier.
///
/// The rows are locked in one order, whatever the plan, and judged as they are then. The id alone is
/// asked for with `=`: else the planner may take another index, as the one of ends while no two
/// tokens end at once, and read all that do so later. A site's status is looked up for each token:
/// with `EXISTS`, which the planner takes for a join, it may begin at the sites and read all of
/// their tokens.
const BIND_IN_POSTGRES: &str = "\
UPDATE tokens SET machine_id = held.asked_machine_id, \
  bound_at = COALESCE(tokens.bound_at, held.asked_at), last_validated_at = held.asked_at \
FROM (SELECT tokens.token_id, asked.machine_id AS asked_machine_id, asked.asked_at \
  FROM unnest($1, $2, $3, $4, $5, $6, $7) AS asked \
    (token_id, site_id, user_id, issued_at, expires_at, machine_id, asked_at) \
  JOIN tokens ON tokens.token_id = asked.token_id \
  WHERE tokens.site_id IS NOT DISTINCT FROM asked.site_id \
    AND tokens.user_id IS NOT DISTINCT FROM asked.user_id \
    AND tokens.issued_at IS NOT DISTINCT FROM asked.issued_at \
    AND tokens.expires_at IS NOT DISTINCT FROM asked.expires_at \
    AND (tokens.machine_id IS NULL OR tokens.machine_id = asked.machine_id \
      AND (tokens.last_validated_at IS NULL OR tokens.last_validated_at <= asked.asked_at - $8)) \
    AND tokens.revoked_at IS NULL AND asked.expires_at > asked.asked_at \
    AND (SELECT sites.status FROM sites WHERE sites.site_id = tokens.site_id \
      AND sites.deleted_at IS NULL) = 'active' \
  ORDER BY tokens.token_id FOR UPDATE OF tokens) AS held \
WHERE tokens.token_id = held.token_id \
RETURNING tokens.token_id, tokens.coins";

const BIND_IN_SQLITE: &str = "\
UPDATE tokens SET machine_id = asked.machine_id, \
  bound_at = COALESCE(tokens.bound_at, asked.asked_at), last_validated_at = asked.asked_at \
FROM (SELECT unhex(value ->> 0, '-') AS token_id, unhex(value ->> 1, '-') AS site_id, \
  value ->> 2 AS user_id, value ->> 3 AS issued_at, value ->> 4 AS expires_at, \
  value ->> 5 AS machine_id, value ->> 6 AS asked_at FROM json_each($1)) AS asked \
WHERE tokens.token_id = asked.token_id AND tokens.site_id = asked.site_id \
  AND tokens.user_id = asked.user_id AND tokens.issued_at = asked.issued_at \
  AND tokens.expires_at = asked.expires_at \
  AND (tokens.machine_id IS NULL OR tokens.machine_id = asked.machine_id \
    AND (tokens.last_validated_at IS NULL OR tokens.last_validated_at <= asked.asked_at - $2)) \
  AND tokens.revoked_at IS NULL AND tokens.expires_at > asked.asked_at \
  AND (SELECT sites.status FROM sites WHERE sites.site_id = tokens.site_id \
    AND sites.deleted_at IS NULL) = 'active' \
RETURNING tokens.token_id, tokens.coins";

/// A token to be bound to a machine.
pub(in crate::tokens) struct NewBinding {
    pub(in crate::tokens) claims: TokenClaims,
    pub(in crate::tokens) machine_id: MachineId,
    pub(in crate::tokens) asked_at: Timestamp,
}

impl NewBinding {
    /// The record, once the claims have been found to be its.
    fn record(&self, coins: i64) -> TokenRecord {
        TokenRecord {
            token_id: self.claims.token_id,
            site_id: self.claims.site_id,
            user_id: self.claims.user_id,
            coins,
            issued_at: self.claims.issued_at,
            expires_at: self.claims.expires_at,
            machine_id: Some(self.machine_id.clone()),
            last_validated_at: Some(self.asked_at),
            state: TokenState::Active,
        }
    }

    /// The columns, as the statement for SQLite counts them.
    fn as_json(&self) -> impl Serialize {
        (
            self.claims.token_id.as_uuid(),
            self.claims.site_id.as_uuid(),
            self.claims.user_id,
            self.claims.issued_at.as_micros(),
            self.claims.expires_at.as_micros(),
            &self.machine_id,
            self.asked_at.as_micros(),
        )
    }
}

pub(super) struct Bindings(pub(super) Database);

impl Work for Bindings {
    type Item = NewBinding;
    type Answer = Option<TokenRecord>;
    type Subject = TokenId;

    const NAME: &str = "bind tokens";

    fn subject(binding: &NewBinding) -> Option<TokenId> {
        Some(binding.claims.token_id)
    }

    async fn run(
        &self,
        kept: &mut Kept,
        bindings: &[NewBinding],
        deadline: Instant,
    ) -> Result<Vec<Option<TokenRecord>>, StoreError> {
        let claims = || bindings.iter().map(|asked| asked.claims);
        let bound: Vec<(TokenId, i64)> = match self.0.pools() {
            Pools::Postgres(pool) => {
                with_kept_connection!(kept, self.0, pool, deadline, |connection| {
                    sqlx::query_as(BIND_IN_POSTGRES)
                        .bind(claims().map(|claims| claims.token_id).bind_iter())
                        .bind(claims().map(|claims| claims.site_id).bind_iter())
                        .bind(claims().map(|claims| claims.user_id).bind_iter())
                        .bind(claims().map(|claims| claims.issued_at).bind_iter())
                        .bind(claims().map(|claims| claims.expires_at).bind_iter())
                        .bind(bindings.iter().map(|asked| &asked.machine_id).bind_iter())
                        .bind(bindings.iter().map(|asked| asked.asked_at).bind_iter())
                        .bind(LAST_USE_STEP_MICROS)
                        .fetch_all(connection)
                })?
            }
            Pools::Sqlite { writer, .. } => {
                let asked = json(bindings.iter().map(NewBinding::as_json))?;
                with_connection!(self.0, writer, deadline, |connection| {
                    sqlx::query_as(BIND_IN_SQLITE)
                        .bind(asked)
                        .bind(LAST_USE_STEP_MICROS)
                        .fetch_all(connection)
                })?
            }
        };
        let coins: HashMap<TokenId, i64> = bound.into_iter().collect();
        Ok(bindings
            .iter()
            .map(|asked| Some(asked.record(*coins.get(&asked.claims.token_id)?)))
            .collect())
    }
}
