//! The store: whether it answers, keeps what it is given, and has the tables of this version.

use std::time::Duration;

use super::{Check, Status};
use crate::{
    config::{Config, DatabaseKind},
    error::Chain,
    health::MAX_SKEW,
    store::{
        Database, StoreError,
        database::{Pools, with_connection},
        migrations, read,
    },
    types::clock::Clock,
};

const LOOK_AT_THE_STORE: &str = "see what the database's own log says";

/// The oldest version that the tests are run with.
const OLDEST_POSTGRES: i64 = 150_000;

/// How far the clock may be off and nothing be wrong.
const USUAL_SKEW: Duration = Duration::from_secs(1);

/// How far behind a replica may be that is to take over.
const USUAL_LAG: Duration = Duration::from_secs(10);

const VERSION_OF_POSTGRES: &str = "\
SELECT current_setting('server_version'), current_setting('server_version_num')::BIGINT";

const VERSION_OF_SQLITE: &str = "SELECT sqlite_version(), 0";

const DURABILITY: &str = "\
SELECT current_setting('fsync'), current_setting('full_page_writes'), \
  current_setting('synchronous_commit')";

const CONNECTIONS: &str = "\
SELECT current_setting('max_connections')::BIGINT \
  - current_setting('superuser_reserved_connections')::BIGINT";

/// Who may not see the others' states sees how many there are.
const REPLICAS: &str = "\
SELECT count(*), count(state), count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')), \
  coalesce(max(extract(epoch FROM replay_lag)) * 1000000, 0)::BIGINT \
FROM pg_stat_replication";

fn failed(check: &'static str, error: &StoreError) -> Check {
    Check::failed(check, Chain(error).to_string(), LOOK_AT_THE_STORE)
}

pub(super) async fn version(config: &Config, database: &Database) -> Check {
    let (name, sql) = match database.kind() {
        DatabaseKind::Postgres => ("PostgreSQL", VERSION_OF_POSTGRES),
        DatabaseKind::Sqlite => ("SQLite", VERSION_OF_SQLITE),
    };
    let asked: Result<(String, i64), _> = read!(database, |connection| sqlx::query_as(sql)
        .fetch_one(connection));
    match asked {
        Err(error) => failed("store", &error),
        Ok((version, number)) => {
            let detail = format!("{name} {version}, {}", config.database.redacted());
            if database.kind() == DatabaseKind::Postgres && number < OLDEST_POSTGRES {
                let advice = "this is only known to work with PostgreSQL 15 and newer: upgrade it";
                return Check::warning("store", detail, advice);
            }
            Check::ok("store", detail)
        }
    }
}

pub(super) async fn clock(database: &Database, clock: &Clock) -> Check {
    let skew = match database.now().await {
        Ok(now) => clock.now().distance(now),
        Err(error) => return failed("clock", &error),
    };
    let detail = format!("{} ms off the store's", skew.as_millis());
    let advice = "let both machines set their clocks by NTP (chrony, systemd-timesyncd)";
    if skew > MAX_SKEW {
        Check::failed("clock", detail, advice)
    } else if skew > USUAL_SKEW {
        Check::warning("clock", detail, advice)
    } else {
        Check::ok("clock", detail)
    }
}

/// How the migrations stand, and whether there are tables to look into.
pub(super) async fn migrations(database: &Database) -> (Check, bool) {
    const CHECK: &str = "migrations";
    let standing = match migrations::standing(database).await {
        Ok(standing) => standing,
        Err(error) => return (failed(CHECK, &error), false),
    };
    let list = |versions: &[i64]| {
        let versions: Vec<_> = versions.iter().map(i64::to_string).collect();
        versions.join(", ")
    };
    let check = if !standing.changed.is_empty() {
        let detail = format!(
            "changed since they were applied: {}",
            list(&standing.changed)
        );
        let advice = "run the version of the program that the store was made with, or a newer one";
        Check::failed(CHECK, detail, advice)
    } else if !standing.unfinished.is_empty() {
        let detail = format!("begun and not finished: {}", list(&standing.unfinished));
        let advice = "restore the store from the back-up that was made before the upgrade";
        Check::failed(CHECK, detail, advice)
    } else if !standing.unknown.is_empty() {
        let detail = format!("of a newer version: {}", list(&standing.unknown));
        let advice = "upgrade this program when the upgrade of the others has proven good";
        Check::warning(CHECK, detail, advice)
    } else if !standing.missing.is_empty() {
        let detail = format!("not yet applied: {}", list(&standing.missing));
        let advice = "`mirrory migrate` applies them, and so does the next start";
        Check::warning(CHECK, detail, advice)
    } else {
        Check::ok(CHECK, format!("all {} applied", standing.applied))
    };
    let has_tables = check.status != Status::Failed && standing.applied > 0;
    (check, has_tables)
}

/// What an embedded store has no need of.
pub(super) async fn of_postgres(config: &Config, database: &Database) -> Vec<Check> {
    let Pools::Postgres(pool) = database.pools() else {
        return Vec::new();
    };
    let durability: Result<(String, String, String), _> =
        with_connection!(database, pool, |connection| sqlx::query_as(DURABILITY)
            .fetch_one(connection));
    let connections: Result<(i64,), _> =
        with_connection!(database, pool, |connection| sqlx::query_as(CONNECTIONS)
            .fetch_one(connection));
    let is_replica: Result<(bool,), _> = with_connection!(database, pool, |connection| {
        sqlx::query_as("SELECT pg_is_in_recovery()").fetch_one(connection)
    });
    let replicas: Result<(i64, i64, i64, i64), _> =
        with_connection!(database, pool, |connection| sqlx::query_as(REPLICAS)
            .fetch_one(connection));
    vec![
        durability.map_or_else(|error| failed("durability", &error), of_durability),
        connections.map_or_else(
            |error| failed("connections", &error),
            |(places,)| of_connections(config.database.max_connections, places),
        ),
        match (is_replica, replicas) {
            (Err(error), _) | (_, Err(error)) => failed("replication", &error),
            (Ok((true,)), _) => Check::failed(
                "replication",
                "this is a replica, which can only be read",
                "name the primary in database.url, or promote this one",
            ),
            (Ok((false,)), Ok(replicas)) => of_replicas(replicas),
        },
    ]
}

fn of_durability(settings: (String, String, String)) -> Check {
    let (fsync, full_page_writes, synchronous_commit) = settings;
    let all = [
        ("fsync", fsync),
        ("full_page_writes", full_page_writes),
        ("synchronous_commit", synchronous_commit),
    ];
    let off: Vec<_> = all
        .into_iter()
        .filter(|(_, value)| value == "off")
        .map(|(name, _)| name)
        .collect();
    if off.is_empty() {
        return Check::ok("durability", "what is committed survives a power cut");
    }
    let off = off.join(", ");
    Check::warning(
        "durability",
        format!("off in PostgreSQL: {off}"),
        format!("a power cut may lose tokens that were issued: turn on {off}"),
    )
}

fn of_connections(wanted: u32, places: i64) -> Check {
    // One more listens for changes.
    let wanted = i64::from(wanted) + 1;
    let detail = format!("an instance takes up to {wanted} of PostgreSQL's {places}");
    if wanted > places {
        let advice = "lower database.max_connections, or raise PostgreSQL's max_connections";
        return Check::warning("connections", detail, advice);
    }
    Check::ok("connections", detail)
}

fn of_replicas((all, seen, synchronous, lag_micros): (i64, i64, i64, i64)) -> Check {
    const CHECK: &str = "replication";
    let lag = Duration::from_micros(lag_micros.unsigned_abs());
    let detail = format!(
        "{all} replicas, {synchronous} of them synchronous, {} ms behind at most",
        lag.as_millis()
    );
    if all == 0 {
        Check::ok(CHECK, "there are no replicas")
    } else if seen < all {
        Check::warning(
            CHECK,
            format!("{all} replicas, whose states the role of database.url may not see"),
            "to have them looked at: GRANT pg_monitor TO that role",
        )
    } else if lag > USUAL_LAG {
        let advice = "see what holds the replicas up: their disks, the network, a long query";
        Check::warning(CHECK, detail, advice)
    } else if synchronous == 0 {
        let advice = "a fail-over may lose tokens that were issued just before: set \
                      synchronous_standby_names";
        Check::warning(CHECK, detail, advice)
    } else {
        Check::ok(CHECK, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_to_be_seen_near_and_synchronous() {
        let second = 1_000_000;
        for (replicas, status, part) in [
            ((0, 0, 0, 0), Status::Ok, "no replicas"),
            ((2, 2, 1, second), Status::Ok, "1000 ms"),
            ((2, 1, 0, 0), Status::Warning, "may not see"),
            ((1, 1, 1, 11 * second), Status::Warning, "11000 ms"),
            ((1, 1, 0, 0), Status::Warning, "0 of them synchronous"),
        ] {
            let check = of_replicas(replicas);
            assert_eq!(check.status, status, "{check:?}");
            assert!(check.detail.contains(part), "{check:?}");
        }
    }

    #[test]
    fn what_is_off_is_named() {
        let on = || "on".to_owned();
        assert_eq!(of_durability((on(), on(), on())).status, Status::Ok);
        let check = of_durability((on(), on(), "off".to_owned()));
        assert_eq!(check.status, Status::Warning);
        assert!(check.detail.ends_with(": synchronous_commit"), "{check:?}");
    }

    #[test]
    fn an_instance_needs_places_for_all_its_connections() {
        assert_eq!(of_connections(16, 17).status, Status::Ok);
        assert_eq!(of_connections(17, 17).status, Status::Warning);
    }
}
