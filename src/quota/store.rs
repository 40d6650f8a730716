//! The only SQL of the quota room.

use std::time::Duration;

use sqlx::postgres::PgBindIterExt;

use super::{
    report::Report,
    tally::Tally,
    windows::{StoredUsage, Windows},
};
use crate::{
    config::{DatabaseKind, Plan},
    store::{
        Database, StoreError, Tx, affected,
        database::{Pools, with_connection},
        in_tx, json, only_row, read, write,
    },
    types::ids::SiteId,
};

/// Takes `$4` calls, `$5` of them to be spent later, if both windows have them, and rolls a window
/// over that is past: one statement, so that no two instances can take the same call.
///
/// A window never rolls backwards, but from one that a wrong clock began: after `$8` and `$9`, the last
/// ones that a right clock may be in. What the database's own clock says counts there too, since a
/// statement may be late, as of a process that was stopped meanwhile.
///
/// What is reserved is a part of what is used: the limit holds also beside an instance that knows
/// of no reserved calls, as while a deployment is upgraded.
macro_rules! reserve {
    ($latest_day:literal, $latest_month:literal) => {
        concat!(
            "INSERT INTO usage \
               (site_id, day, month, day_used, month_used, day_reserved, month_reserved) \
             VALUES ($1, $2, $3, $4, $4, $5, $5) \
             ON CONFLICT (site_id) DO UPDATE SET day = ",
            reserve!(@now "day", $latest_day, "usage.day", "excluded.day"),
            ", month = ",
            reserve!(@now "month", $latest_month, "usage.month", "excluded.month"),
            ", day_used = ",
            reserve!(@now "day", $latest_day, "usage.day_used", "0"),
            " + excluded.day_used, month_used = ",
            reserve!(@now "month", $latest_month, "usage.month_used", "0"),
            " + excluded.month_used, day_reserved = ",
            reserve!(@now "day", $latest_day, "usage.day_reserved", "0"),
            " + excluded.day_reserved, month_reserved = ",
            reserve!(@now "month", $latest_month, "usage.month_reserved", "0"),
            " + excluded.month_reserved WHERE ",
            reserve!(@now "day", $latest_day, "usage.day_used", "0"),
            " <= $6 - excluded.day_used AND ",
            reserve!(@now "month", $latest_month, "usage.month_used", "0"),
            " <= $7 - excluded.month_used \
             RETURNING day, day_used, day_reserved, month, month_used, month_reserved, resets"
        )
    };
    (@now $window:literal, $latest:literal, $then:literal, $else:literal) => {
        concat!(
            "CASE WHEN usage.", $window, " BETWEEN excluded.", $window, " AND ", $latest,
            " THEN ", $then, " ELSE ", $else, " END"
        )
    };
}

const RESERVE_IN_POSTGRES: &str = reserve!(
    "GREATEST($8, floor(extract(epoch FROM statement_timestamp() + interval '1 minute') \
       / 86400)::bigint)",
    "GREATEST($9, (extract(year FROM (statement_timestamp() + interval '1 minute') \
       AT TIME ZONE 'UTC') * 12 + extract(month FROM (statement_timestamp() \
       + interval '1 minute') AT TIME ZONE 'UTC') - 1)::bigint)"
);

const RESERVE_IN_SQLITE: &str = reserve!(
    "max($8, (unixepoch() + 60) / 86400)",
    "max($9, strftime('%Y', 'now', '+60 seconds') * 12 + strftime('%m', 'now', '+60 seconds') - 1)"
);

/// Moves calls of the windows that they were taken from, as far as these are still the current ones,
/// and were not set to nothing since. Nothing falls below zero: what a restored back-up has forgotten stays counted. The rows are
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
FROM (SELECT moved.site_id, moved.day, moved.month, moved.resets, moved.used, moved.reserved \
  FROM unnest($1, $2, $3, $4, $5, $6) AS moved (site_id, day, month, resets, used, reserved) \
  JOIN usage ON usage.site_id = moved.site_id \
  ORDER BY usage.site_id FOR UPDATE OF usage) AS held \
WHERE usage.site_id = held.site_id AND usage.resets = held.resets";

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
  value ->> 3 AS resets, value ->> 4 AS used, value ->> 5 AS reserved \
  FROM json_each($1)) AS moved \
WHERE usage.site_id = moved.site_id AND usage.resets = moved.resets";

const FIND: &str = "\
SELECT day, day_used, day_reserved, month, month_used, month_reserved, resets \
FROM usage WHERE site_id = $1";

/// Instances give back what they hold no more when they hear of it, and by `resets` that comes to
/// nothing.
const RESET: &str = "\
UPDATE usage SET day = $2, month = $3, day_used = 0, month_used = 0, day_reserved = 0, \
  month_reserved = 0, resets = resets + 1 \
WHERE site_id = $1";

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

    pub(super) const fn database(&self) -> &Database {
        &self.database
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
        let reserve = match self.database.kind() {
            DatabaseKind::Postgres => RESERVE_IN_POSTGRES,
            DatabaseKind::Sqlite => RESERVE_IN_SQLITE,
        };
        let (latest_day, latest_month) = windows.latest;
        write!(self.database, |connection| only_row(
            sqlx::query_as(reserve)
                .bind(site_id)
                .bind(windows.day)
                .bind(windows.month)
                .bind(all.cast_signed())
                .bind(extra.cast_signed())
                .bind(plan.calls_per_day.cast_signed())
                .bind(plan.calls_per_month.cast_signed())
                .bind(latest_day)
                .bind(latest_month)
                .fetch_all(connection)
        ))
    }

    /// Sets what is used and reserved of the day and the month to nothing.
    pub(super) async fn reset(
        &self,
        tx: &mut Tx,
        site_id: SiteId,
        windows: &Windows,
    ) -> Result<(), StoreError> {
        in_tx!(tx, |connection| affected(
            sqlx::query(RESET)
                .bind(site_id)
                .bind(windows.day)
                .bind(windows.month)
                .execute(connection)
        ))?;
        Ok(())
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
                    .bind(tallies().map(|tally| tally.period.resets).bind_iter())
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
                        period.resets,
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

    /// A site's rows from `first_day` to `last_day`, the newest first.
    pub(super) async fn history(
        &self,
        site_id: SiteId,
        first_day: i64,
        last_day: i64,
    ) -> Result<Vec<DayCounts>, StoreError> {
        read!(self.database, |connection| sqlx::query_as(
            "SELECT day, issued, validated FROM usage_history \
             WHERE site_id = $1 AND day BETWEEN $2 AND $3 ORDER BY day DESC"
        )
        .bind(site_id)
        .bind(first_day)
        .bind(last_day)
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
