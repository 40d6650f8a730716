//! Records read together.

use std::collections::HashMap;

use sqlx::postgres::PgBindIterExt;
use tokio::time::Instant;

use super::{TokenRow, json};
use crate::{
    sites::{SiteState, SiteStatus},
    store::{
        Database, StoreError,
        batches::Work,
        connection::Kept,
        database::{Pools, with_connection, with_kept_connection},
    },
    tokens::record::HeldToken,
    types::ids::TokenId,
};

const FIND_IN_POSTGRES: &str = "\
SELECT tokens.token_id, tokens.site_id, tokens.user_id, tokens.coins, tokens.issued_at, \
  tokens.expires_at, tokens.machine_id, tokens.last_validated_at, tokens.revoked_at, \
  sites.status AS site_status, sites.plan AS site_plan \
FROM unnest($1) AS asked (token_id) \
JOIN tokens ON tokens.token_id = asked.token_id \
LEFT JOIN sites ON sites.site_id = tokens.site_id AND sites.deleted_at IS NULL";

const FIND_IN_SQLITE: &str = "\
SELECT tokens.token_id, tokens.site_id, tokens.user_id, tokens.coins, tokens.issued_at, \
  tokens.expires_at, tokens.machine_id, tokens.last_validated_at, tokens.revoked_at, \
  sites.status AS site_status, sites.plan AS site_plan \
FROM json_each($1) AS asked \
JOIN tokens ON tokens.token_id = unhex(asked.value, '-') \
LEFT JOIN sites ON sites.site_id = tokens.site_id AND sites.deleted_at IS NULL";

/// Looks records up. The same one may be asked for more than once in a batch.
pub(super) struct Findings(pub(super) Database);

impl Work for Findings {
    type Item = TokenId;
    type Answer = Result<Option<HeldToken>, StoreError>;
    type Subject = ();

    const NAME: &str = "find tokens";

    fn subject(_: &TokenId) -> Option<()> {
        None
    }

    async fn run(
        &self,
        kept: &mut Kept,
        token_ids: &[TokenId],
        deadline: Instant,
    ) -> Result<Vec<Self::Answer>, StoreError> {
        let rows: Vec<HeldRow> = match self.0.pools() {
            Pools::Postgres(pool) => {
                with_kept_connection!(kept, self.0, pool, deadline, |connection| {
                    sqlx::query_as(FIND_IN_POSTGRES)
                        .bind(token_ids.iter().bind_iter())
                        .fetch_all(connection)
                })?
            }
            Pools::Sqlite { readers, .. } => {
                let asked = json(token_ids.iter().map(|token_id| token_id.as_uuid()))?;
                with_connection!(self.0, readers, deadline, |connection| {
                    sqlx::query_as(FIND_IN_SQLITE)
                        .bind(asked)
                        .fetch_all(connection)
                })?
            }
        };
        // One that cannot be read, as when a later version wrote it, fails its own callers alone.
        let found: HashMap<_, _> = rows
            .into_iter()
            .map(|row| (row.token.token_id, HeldToken::try_from(row)))
            .collect();
        Ok(token_ids
            .iter()
            .map(|id| found.get(id).cloned().transpose())
            .collect())
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
                status: SiteStatus::try_from(status).map_err(StoreError::unreadable)?,
                plan: plan.into(),
            },
            _ => SiteState::Deleted,
        };
        Ok(Self::new(row.token.into(), site))
    }
}
