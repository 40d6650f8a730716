//! The only SQL of the quota room.

use std::time::Duration;

use sqlx::postgres::PgBindIterExt;

use super::{
    report::Report,
    tally::Tally,
    windows::{StoredUsage, Windows},
};
use crate::{
    config::Plan,
    store::{
        Database, StoreError, affected,
        database::{Pools, with_connection},
        json, only_row, read, write,
    },
    types::ids::SiteId,
};

/// Takes `$4` calls, `$5` of them to be spent later, if both windows have them, and rolls a window
/// over that is past: one statement, so that no two instances can take the same call. A window never
/// rolls backwards.
///
/// What is reserved is a part of what is used: the limit holds also beside an instance that knows
/// of no reserved calls, as while a deployment is upgraded.
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
WHERE CASE WHEN usage.day >= excluded.day THEN usage.day_used ELSE 0 END \
    <= $6 - excluded.day_used \
  AND CASE WHEN usage.month >= excluded.month THEN usage.month_used ELSE 0 END \
    <= $7 - excluded.month_used \
RETURNING day, day_used, day_reserved, month, month_used, month_reserved";

/// Moves calls of the windows that they were taken from, as far as these are still the current ones.
/// Nothing falls below zero: what a restored back-up has forgotten stays counted. The rows are
/// locked in one order, so that no two instances wait for each other.
const MOVE_IN_POSTGRES: &str = "\
UPDATE usage SET \
  day_used = CASE WHEN usage.day <> held.day THEN usage.day_used \
    ELSE GREATEST(0, usage.day_used + held.used) END, \
  day_reserved = CASE WHEN usage.day <> held.day THEN usage.day_reserved \
    ELSE GREATEST(0, usage.day_reserved + held.reserved) END, \
  month_used = CASE WHEN usage.month <> held.month THEN usage.month_used \
    ELSE GREATEST(0, usage.month_used + held.used) END, \
  month_reserved = CASE WHEN usage.month <> held.month THEN usage.month_reserved \
    ELSE GREATEST(0, usage.month_reserved + held.reserved) END \
FROM (SELECT moved.site_id, moved.day, moved.month, moved.used, moved.reserved \
  FROM unnest($1, $2, $3, $4, $5) AS moved (site_id, day, month, used, reserved) \
  JOIN usage ON usage.site_id = moved.site_id \
  ORDER BY usage.site_id FOR UPDATE OF usage) AS held \
WHERE usage.site_id = held.site_id";

const MOVE_IN_SQLITE: &str = "\
UPDATE usage SET \
  day_used = CASE WHEN usage.day <> moved.day THEN usage.day_used \
    ELSE max(0, usage.day_used + moved.used) END, \
  day_reserved = CASE WHEN usage.day <> moved.day THEN usage.day_reserved \
    ELSE max(0, usage.day_reserved + moved.reserved) END, \
  month_used = CASE WHEN usage.month <> moved.month THEN usage.month_used \
    ELSE max(0, usage.month_used + moved.used) END, \
  month_reserved = CASE WHEN usage.month <> moved.month THEN usage.month_reserved \
    ELSE max(0, usage.month_reserved + moved.reserved) END \
FROM (SELECT unhex(value ->> 0, '-') AS site_id, value ->> 1 AS day, value ->> 2 AS month, \
  value ->> 3 AS used, value ->> 4 AS reserved FROM json_each($1)) AS moved \
WHERE usage.site_id = moved.site_id";

const FIND: &str = "\
SELECT day, day_used, day_reserved, month, month_used, month_reserved \
FROM usage WHERE site_id = $1";

/// Sorted, so that here too rows are locked in one order.
const COUNT_IN_POSTGRES: &str = "\
INSERT INTO usage_history (site_id, day, issued, validated) \
SELECT site_id, day, issued, validated \
FROM unnest($1, $2, $3, $4) AS counted (site_id, day, issued, validated) \
ORDER BY site_id, day \
ON CONFLICT (site_id, day) DO UPDATE SET \
  issued = usage_history.issued + excluded.issued, \
  validated = usage_history.validated + excluded.validated";

/// `WHERE true` tells the grammar that `ON CONFLICT` begins no join.
const COUNT_IN_SQLITE: &str = "\
INSERT INTO usage_history (site_id, day, issued, validated) \
SELECT unhex(value ->> 0, '-'), value ->> 1, value ->> 2, value ->> 3 \
FROM json_each($1) WHERE true \
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

    pub(super) fn deadline(&self) -> Duration {
        self.database.deadline()
    }

    /// Takes `calls` calls, and reserves `extra` more; none when a window has too few left.
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
        write!(self.database, |connection| only_row(
            sqlx::query_as(RESERVE)
                .bind(site_id)
                .bind(windows.day)
                .bind(windows.month)
                .bind(all.cast_signed())
                .bind(extra.cast_signed())
                .bind(plan.calls_per_day.cast_signed())
                .bind(plan.calls_per_month.cast_signed())
                .fetch_all(connection)
        ))
    }

    /// Adds to what is used and to what is reserved of days and months, or takes away.
    pub(super) async fn move_calls(&self, reports: &[Report]) -> Result<(), StoreError> {
        let moving = || reports.iter().filter(|report| report.tally.moves_calls());
        if moving().next().is_none() {
            return Ok(());
        }
        let tallies = || moving().map(|report| &report.tally);
        match self.database.pools() {
            Pools::Postgres(pool) => with_connection!(self.database, pool, |connection| affected(
                sqlx::query(MOVE_IN_POSTGRES)
                    .bind(moving().map(Report::site_id).bind_iter())
                    .bind(tallies().map(|tally| tally.period.day).bind_iter())
                    .bind(tallies().map(|tally| tally.period.month).bind_iter())
                    .bind(tallies().map(|tally| tally.moved.used).bind_iter())
                    .bind(tallies().map(|tally| tally.moved.reserved).bind_iter())
                    .execute(connection)
            ))?,
            Pools::Sqlite { writer, .. } => {
                let moved = json(moving().map(|report| {
                    let Tally { period, moved, .. } = report.tally;
                    let site_id = report.site_id().as_uuid();
                    (
                        site_id,
                        period.day,
                        period.month,
                        moved.used,
                        moved.reserved,
                    )
                }))?;
                with_connection!(self.database, writer, |connection| affected(
                    sqlx::query(MOVE_IN_SQLITE).bind(moved).execute(connection)
                ))?
            }
        };
        Ok(())
    }

    pub(super) async fn find(&self, site_id: SiteId) -> Result<Option<StoredUsage>, StoreError> {
        read!(self.database, |connection| sqlx::query_as(FIND)
            .bind(site_id)
            .fetch_optional(connection))
    }

    /// Adds what calls came to to the rows of sites and days.
    pub(super) async fn count(&self, reports: &[Report]) -> Result<(), StoreError> {
        let counting = || {
            let counts_outcomes = |report: &&Report| report.tally.counts_outcomes();
            reports.iter().filter(counts_outcomes)
        };
        if counting().next().is_none() {
            return Ok(());
        }
        let tallies = || counting().map(|report| &report.tally);
        match self.database.pools() {
            Pools::Postgres(pool) => with_connection!(self.database, pool, |connection| affected(
                sqlx::query(COUNT_IN_POSTGRES)
                    .bind(counting().map(Report::site_id).bind_iter())
                    .bind(tallies().map(|tally| tally.period.day).bind_iter())
                    .bind(tallies().map(|tally| tally.issued).bind_iter())
                    .bind(tallies().map(|tally| tally.validated).bind_iter())
                    .execute(connection)
            ))?,
            Pools::Sqlite { writer, .. } => {
                let counted = json(counting().map(|report| {
                    let Tally {
                        period,
                        issued,
                        validated,
                        ..
                    } = report.tally;
                    (report.site_id().as_uuid(), period.day, issued, validated)
                }))?;
                with_connection!(self.database, writer, |connection| affected(
                    sqlx::query(COUNT_IN_SQLITE)
                        .bind(counted)
                        .execute(connection)
                ))?
            }
        };
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
