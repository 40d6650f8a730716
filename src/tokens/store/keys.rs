//! Removing idempotency keys: of all rows that come and go, those that do so fastest.

use sqlx::AssertSqlSafe;

use super::TokenStore;
use crate::{
    store::{StoreError, database::Pools, write},
    types::clock::Timestamp,
};

impl TokenStore {
    /// Removes up to `limit` of the oldest idempotency keys that were used until `until`, but none
    /// from before `from`; when each of them was used.
    ///
    /// In PostgreSQL what was removed stays in the index until it is cleaned up, so whoever began
    /// with the oldest would read through all of that again. The limit is no parameter, since
    /// PostgreSQL would then plan each statement anew, and to do so look for the oldest one, too.
    pub(in crate::tokens) async fn sweep_keys(
        &self,
        from: Timestamp,
        until: Timestamp,
        limit: i64,
    ) -> Result<Vec<Timestamp>, StoreError> {
        // The place of a row, where it has one: its key lies anywhere in the largest index.
        let row = match self.database.pools() {
            Pools::Postgres(_) => "ctid",
            Pools::Sqlite { .. } => "site_id, key_digest",
        };
        // Looked at again in the end: a key may have been taken anew since it was found.
        let sql = format!(
            "DELETE FROM idempotency_keys WHERE ({row}) IN \
             (SELECT {row} FROM idempotency_keys WHERE created_at BETWEEN $1 AND $2 \
             ORDER BY created_at LIMIT {limit}) AND created_at <= $2 RETURNING created_at"
        );
        let rows: Vec<(Timestamp,)> = write!(self.database, |connection| sqlx::query_as(
            AssertSqlSafe(sql)
        )
        .bind(from)
        .bind(until)
        .fetch_all(connection))?;
        Ok(rows.into_iter().map(|(used_at,)| used_at).collect())
    }
}
