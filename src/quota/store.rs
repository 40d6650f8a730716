//! The only SQL of the quota room.

use super::windows::{StoredUsage, Windows};
use crate::{
    config::Plan,
    store::{Database, StoreError, affected, read, write},
    types::ids::SiteId,
};

/// Takes `$4` calls if both windows have them, and rolls a window over that is past: one statement,
/// so that no two instances can take the same call. A window never rolls backwards.
const RESERVE: &str = "\
INSERT INTO usage (site_id, day, month, day_used, month_used) VALUES ($1, $2, $3, $4, $4) \
ON CONFLICT (site_id) DO UPDATE SET \
  day = CASE WHEN usage.day >= excluded.day THEN usage.day ELSE excluded.day END, \
  month = CASE WHEN usage.month >= excluded.month THEN usage.month ELSE excluded.month END, \
  day_used = CASE WHEN usage.day >= excluded.day THEN usage.day_used ELSE 0 END \
    + excluded.day_used, \
  month_used = CASE WHEN usage.month >= excluded.month THEN usage.month_used ELSE 0 END \
    + excluded.month_used \
WHERE CASE WHEN usage.day >= excluded.day THEN usage.day_used ELSE 0 END \
    <= $5 - excluded.day_used \
  AND CASE WHEN usage.month >= excluded.month THEN usage.month_used ELSE 0 END \
    <= $6 - excluded.month_used \
RETURNING day, day_used, month, month_used";

/// Returns calls to the windows they were taken from, as far as these are still the current ones.
const GIVE_BACK: &str = "\
UPDATE usage SET \
  day_used = CASE WHEN day = $2 AND day_used >= $4 THEN day_used - $4 ELSE day_used END, \
  month_used = CASE WHEN month = $3 AND month_used >= $4 THEN month_used - $4 \
    ELSE month_used END \
WHERE site_id = $1";

const FIND: &str = "SELECT day, day_used, month, month_used FROM usage WHERE site_id = $1";

const COUNT: &str = "\
INSERT INTO usage_history (site_id, day, issued, validated) VALUES ($1, $2, $3, $4) \
ON CONFLICT (site_id, day) DO UPDATE SET \
  issued = usage_history.issued + excluded.issued, \
  validated = usage_history.validated + excluded.validated";

/// What a site was charged for on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DayCounts {
    /// Days since 1970-01-01, UTC.
    pub day: i64,
    /// Tokens issued.
    pub issued: i64,
    /// Verdicts of `valid: true`.
    pub validated: i64,
}

#[derive(Clone, Debug)]
pub(super) struct QuotaStore {
    database: Database,
}

impl QuotaStore {
    pub(super) const fn new(database: Database) -> Self {
        Self { database }
    }

    /// Takes `calls` calls; none when a window has too few left.
    pub(super) async fn reserve(
        &self,
        site_id: SiteId,
        calls: u64,
        windows: &Windows,
        plan: &Plan,
    ) -> Result<Option<StoredUsage>, StoreError> {
        if calls > plan.calls_per_day || calls > plan.calls_per_month {
            return Ok(None);
        }
        write!(self.database, |connection| sqlx::query_as(RESERVE)
            .bind(site_id)
            .bind(windows.day)
            .bind(windows.month)
            .bind(calls.cast_signed())
            .bind(plan.calls_per_day.cast_signed())
            .bind(plan.calls_per_month.cast_signed())
            .fetch_optional(connection))
    }

    pub(super) async fn give_back(
        &self,
        site_id: SiteId,
        calls: u64,
        day: i64,
        month: i64,
    ) -> Result<(), StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(GIVE_BACK)
                .bind(site_id)
                .bind(day)
                .bind(month)
                .bind(calls.cast_signed())
                .execute(connection)
        ))?;
        Ok(())
    }

    pub(super) async fn find(&self, site_id: SiteId) -> Result<Option<StoredUsage>, StoreError> {
        read!(self.database, |connection| sqlx::query_as(FIND)
            .bind(site_id)
            .fetch_optional(connection))
    }

    /// Adds to a site's row of a day.
    pub(super) async fn count(
        &self,
        site_id: SiteId,
        day: i64,
        issued: i64,
        validated: i64,
    ) -> Result<(), StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(COUNT)
                .bind(site_id)
                .bind(day)
                .bind(issued)
                .bind(validated)
                .execute(connection)
        ))?;
        Ok(())
    }

    /// A site's rows from `first_day` on, the newest first.
    pub(super) async fn history(
        &self,
        site_id: SiteId,
        first_day: i64,
    ) -> Result<Vec<DayCounts>, StoreError> {
        read!(self.database, |connection| sqlx::query_as(
            "SELECT day, issued, validated FROM usage_history \
             WHERE site_id = $1 AND day >= $2 ORDER BY day DESC"
        )
        .bind(site_id)
        .bind(first_day)
        .fetch_all(connection))
    }

    /// Removes up to `limit` counters of sites that are gone.
    pub(super) async fn sweep_counters(&self, limit: i64) -> Result<u64, StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(
                "DELETE FROM usage WHERE site_id IN (SELECT site_id FROM usage WHERE NOT EXISTS \
                 (SELECT 1 FROM sites WHERE sites.site_id = usage.site_id) LIMIT $1)"
            )
            .bind(limit)
            .execute(connection)
        ))
    }

    /// Removes up to `limit` rows of days before `day`.
    pub(super) async fn sweep_history(&self, day: i64, limit: i64) -> Result<u64, StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(
                "DELETE FROM usage_history WHERE (site_id, day) IN \
                 (SELECT site_id, day FROM usage_history WHERE day < $1 LIMIT $2)"
            )
            .bind(day)
            .bind(limit)
            .execute(connection)
        ))
    }
}
