//! The only SQL of the quota room.

use super::{
    tally::{Moved, Period, Tally},
    windows::{StoredUsage, Windows},
};
use crate::{
    config::Plan,
    store::{Database, StoreError, affected, read, write},
    types::ids::SiteId,
};

/// Takes `$4` calls as used and `$5` as reserved if both windows have them, and rolls a window over
/// that is past: one statement, so that no two instances can take the same call. A window never
/// rolls backwards.
const RESERVE: &str = "\
INSERT INTO usage \
  (site_id, day, month, day_used, month_used, day_reserved, month_reserved) \
VALUES ($1, $2, $3, $4, $4, $5, $5) \
ON CONFLICT (site_id) DO UPDATE SET \
  day = CASE WHEN usage.day >= excluded.day THEN usage.day ELSE excluded.day END, \
  month = CASE WHEN usage.month >= excluded.month THEN usage.month ELSE excluded.month END, \
  day_used = CASE WHEN usage.day >= excluded.day THEN usage.day_used ELSE 0 END \
    + excluded.day_used, \
  month_used = CASE WHEN usage.month >= excluded.month THEN usage.month_used ELSE 0 END \
    + excluded.month_used, \
  day_reserved = CASE WHEN usage.day >= excluded.day THEN usage.day_reserved ELSE 0 END \
    + excluded.day_reserved, \
  month_reserved = CASE WHEN usage.month >= excluded.month THEN usage.month_reserved ELSE 0 END \
    + excluded.month_reserved \
WHERE CASE WHEN usage.day >= excluded.day THEN usage.day_used + usage.day_reserved ELSE 0 END \
    <= $6 - excluded.day_used - excluded.day_reserved \
  AND CASE WHEN usage.month >= excluded.month THEN usage.month_used + usage.month_reserved \
    ELSE 0 END <= $7 - excluded.month_used - excluded.month_reserved \
RETURNING day, day_used, day_reserved, month, month_used, month_reserved";

/// Moves calls of the windows that they were taken from, as far as these are still the current ones.
/// Nothing falls below zero: what a restored back-up has forgotten stays counted.
const MOVE: &str = "\
UPDATE usage SET \
  day_used = CASE WHEN day <> $2 THEN day_used \
    WHEN day_used + $4 < 0 THEN 0 ELSE day_used + $4 END, \
  day_reserved = CASE WHEN day <> $2 THEN day_reserved \
    WHEN day_reserved + $5 < 0 THEN 0 ELSE day_reserved + $5 END, \
  month_used = CASE WHEN month <> $3 THEN month_used \
    WHEN month_used + $4 < 0 THEN 0 ELSE month_used + $4 END, \
  month_reserved = CASE WHEN month <> $3 THEN month_reserved \
    WHEN month_reserved + $5 < 0 THEN 0 ELSE month_reserved + $5 END \
WHERE site_id = $1";

const FIND: &str = "\
SELECT day, day_used, day_reserved, month, month_used, month_reserved \
FROM usage WHERE site_id = $1";

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

    /// Takes `calls` calls as used and `extra` as reserved; none when a window has too few left.
    pub(super) async fn reserve(
        &self,
        site_id: SiteId,
        calls: u64,
        extra: u64,
        windows: &Windows,
        plan: &Plan,
    ) -> Result<Option<StoredUsage>, StoreError> {
        let all = calls.saturating_add(extra);
        if all > plan.calls_per_day || all > plan.calls_per_month {
            return Ok(None);
        }
        write!(self.database, |connection| sqlx::query_as(RESERVE)
            .bind(site_id)
            .bind(windows.day)
            .bind(windows.month)
            .bind(calls.cast_signed())
            .bind(extra.cast_signed())
            .bind(plan.calls_per_day.cast_signed())
            .bind(plan.calls_per_month.cast_signed())
            .fetch_optional(connection))
    }

    /// Adds to what is used and to what is reserved of a day and a month, or takes away.
    pub(super) async fn move_calls(
        &self,
        site_id: SiteId,
        period: Period,
        moved: Moved,
    ) -> Result<(), StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(MOVE)
                .bind(site_id)
                .bind(period.day)
                .bind(period.month)
                .bind(moved.used)
                .bind(moved.reserved)
                .execute(connection)
        ))?;
        Ok(())
    }

    pub(super) async fn find(&self, site_id: SiteId) -> Result<Option<StoredUsage>, StoreError> {
        read!(self.database, |connection| sqlx::query_as(FIND)
            .bind(site_id)
            .fetch_optional(connection))
    }

    /// Adds what calls came to to a site's row of their day.
    pub(super) async fn count(&self, site_id: SiteId, tally: &Tally) -> Result<(), StoreError> {
        write!(self.database, |connection| affected(
            sqlx::query(COUNT)
                .bind(site_id)
                .bind(tally.period.day)
                .bind(tally.issued)
                .bind(tally.validated)
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
