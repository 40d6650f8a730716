//! Bindings made together.

use std::collections::HashSet;

use sqlx::postgres::PgBindIterExt;
use tokio::time::Instant;

use super::json;
use crate::{
    store::{
        Database, StoreError,
        batches::Work,
        database::{Pools, with_connection},
    },
    types::{
        clock::Timestamp,
        ids::{MachineId, TokenId},
    },
};

/// Binds tokens to machines, or finds them bound to these, if they are still good: of any number of
/// machines that race for one, exactly one gets a row. The rows are locked in the order in which
/// they are asked for, and judged as they are then.
///
/// A site's status is looked up for each token: with `EXISTS`, which the planner takes for a join,
/// it may begin at the sites and read all of their tokens.
const BIND_IN_POSTGRES: &str = "\
UPDATE tokens SET machine_id = held.asked_machine_id, \
  bound_at = COALESCE(tokens.bound_at, held.asked_at), last_validated_at = held.asked_at \
FROM (SELECT tokens.token_id, asked.machine_id AS asked_machine_id, asked.asked_at \
  FROM unnest($1, $2, $3) AS asked (token_id, machine_id, asked_at) \
  JOIN tokens ON tokens.token_id = asked.token_id \
  WHERE (tokens.machine_id IS NULL OR tokens.machine_id = asked.machine_id) \
    AND tokens.revoked_at IS NULL AND tokens.expires_at > asked.asked_at \
    AND (SELECT sites.status FROM sites WHERE sites.site_id = tokens.site_id \
      AND sites.deleted_at IS NULL) = 'active' \
  ORDER BY tokens.token_id FOR UPDATE OF tokens) AS held \
WHERE tokens.token_id = held.token_id \
RETURNING tokens.token_id";

const BIND_IN_SQLITE: &str = "\
UPDATE tokens SET machine_id = asked.machine_id, \
  bound_at = COALESCE(tokens.bound_at, asked.asked_at), last_validated_at = asked.asked_at \
FROM (SELECT unhex(value ->> 0, '-') AS token_id, value ->> 1 AS machine_id, \
  value ->> 2 AS asked_at FROM json_each($1)) AS asked \
WHERE tokens.token_id = asked.token_id \
  AND (tokens.machine_id IS NULL OR tokens.machine_id = asked.machine_id) \
  AND tokens.revoked_at IS NULL AND tokens.expires_at > asked.asked_at \
  AND (SELECT sites.status FROM sites WHERE sites.site_id = tokens.site_id \
    AND sites.deleted_at IS NULL) = 'active' \
RETURNING tokens.token_id";

/// A token to be bound to a machine.
pub(in crate::tokens) struct NewBinding {
    pub(in crate::tokens) token_id: TokenId,
    pub(in crate::tokens) machine_id: MachineId,
    pub(in crate::tokens) asked_at: Timestamp,
}

pub(super) struct Bindings(pub(super) Database);

impl Work for Bindings {
    type Item = NewBinding;
    type Answer = bool;
    type Subject = TokenId;

    fn subject(binding: &NewBinding) -> Option<TokenId> {
        Some(binding.token_id)
    }

    async fn run(
        &self,
        bindings: &[NewBinding],
        deadline: Instant,
    ) -> Result<Vec<bool>, StoreError> {
        let bound: Vec<(TokenId,)> = match self.0.pools() {
            Pools::Postgres(pool) => with_connection!(self.0, pool, deadline, |connection| {
                sqlx::query_as(BIND_IN_POSTGRES)
                    .bind(bindings.iter().map(|asked| asked.token_id).bind_iter())
                    .bind(bindings.iter().map(|asked| &asked.machine_id).bind_iter())
                    .bind(bindings.iter().map(|asked| asked.asked_at).bind_iter())
                    .fetch_all(connection)
            })?,
            Pools::Sqlite { writer, .. } => {
                let asked = json(bindings.iter().map(|asked| {
                    let NewBinding {
                        token_id,
                        machine_id,
                        asked_at,
                    } = asked;
                    (token_id.as_uuid(), machine_id, asked_at.as_micros())
                }))?;
                with_connection!(self.0, writer, deadline, |connection| {
                    sqlx::query_as(BIND_IN_SQLITE)
                        .bind(asked)
                        .fetch_all(connection)
                })?
            }
        };
        let bound: HashSet<TokenId> = bound.into_iter().map(|(token_id,)| token_id).collect();
        Ok(bindings
            .iter()
            .map(|asked| bound.contains(&asked.token_id))
            .collect())
    }
}
