//! PostgreSQL: its servers, and whether it keeps what it is given and has room for all that connect.

use std::time::Duration;

use super::{Check, store::failed};
use crate::{
    config::{self, Config},
    error::Chain,
    store::{
        Database,
        database::{COMMAND_DEADLINE, Pools, with_connection},
        servers::{Surveyed, survey},
    },
};

/// How far behind a replica may be that is to take over.
const USUAL_LAG: Duration = Duration::from_secs(10);

const DURABILITY: &str = "\
SELECT current_setting('fsync'), current_setting('full_page_writes')";

const CONNECTIONS: &str = "\
SELECT current_setting('max_connections')::BIGINT \
  - current_setting('superuser_reserved_connections')::BIGINT";

/// Who may not see the others' states sees how many there are.
const REPLICAS: &str = "\
SELECT count(*), count(state), count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')), \
  coalesce(max(extract(epoch FROM replay_lag)) * 1000000, 0)::BIGINT \
FROM pg_stat_replication";

/// Each server of `database.urls`, and that one of them takes writes.
pub(super) async fn each_server(settings: &config::Database) -> Vec<Check> {
    const CHECK: &str = "servers";
    let urls = &settings.urls;
    if urls.is_empty() {
        return Vec::new();
    }
    let surveyed = match survey(urls, COMMAND_DEADLINE).await {
        Ok(surveyed) => surveyed,
        Err(error) => return vec![failed(CHECK, &error)],
    };
    let mut checks = Vec::new();
    let mut writable = Vec::new();
    for (url, server) in urls.iter().zip(surveyed) {
        let place = url.redacted();
        if server.identity.is_ok() && !server.is_named_before {
            writable.push(place);
        }
        checks.push(of_server(place, server));
    }
    if writable.len() > 1 {
        let detail = format!("more than one takes writes: {}", writable.join(", "));
        let advice = "end the one that is wrong, which is not the one on the highest timeline, and let \
                      it follow the other";
        checks.push(Check::failed(CHECK, detail, advice));
    }
    checks
}

fn of_server(place: &str, server: Surveyed) -> Check {
    const CHECK: &str = "server";
    match server.identity {
        Ok(identity) => {
            let timeline = identity.timeline;
            Check::ok(
                CHECK,
                format!("{place} takes writes, on timeline {timeline}"),
            )
        }
        Err(error) => match error.refusal() {
            Some(refusal) if refusal.is_read_only() => {
                Check::ok(CHECK, format!("{place} is read-only, as a replica is"))
            }
            Some(refusal) => Check::warning(
                CHECK,
                format!("{place}: {}", refusal.problem),
                &refusal.advice,
            ),
            None => Check::warning(
                CHECK,
                format!("{place}: {}", Chain(&error)),
                "start it, or take it out of database.urls",
            ),
        },
    }
}

/// What an embedded store has no need of.
pub(super) async fn examine(config: &Config, database: &Database) -> Vec<Check> {
    let Pools::Postgres(pool) = database.pools() else {
        return Vec::new();
    };
    let durability: Result<(String, String), _> =
        with_connection!(database, pool, |connection| sqlx::query_as(DURABILITY)
            .fetch_one(connection));
    let connections: Result<(i64,), _> =
        with_connection!(database, pool, |connection| sqlx::query_as(CONNECTIONS)
            .fetch_one(connection));
    let replicas: Result<(i64, i64, i64, i64), _> =
        with_connection!(database, pool, |connection| sqlx::query_as(REPLICAS)
            .fetch_one(connection));
    vec![
        durability.map_or_else(|error| failed("durability", &error), of_durability),
        connections.map_or_else(
            |error| failed("connections", &error),
            |(places,)| of_connections(config.database.max_connections, places),
        ),
        replicas.map_or_else(|error| failed("replication", &error), of_replicas),
    ]
}

fn of_durability((fsync, full_page_writes): (String, String)) -> Check {
    let all = [("fsync", fsync), ("full_page_writes", full_page_writes)];
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
    // One more listens for changes, and another looks for the server that takes writes.
    let wanted = i64::from(wanted) + 2;
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
    use crate::doctor::Status;

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
        assert_eq!(of_durability((on(), on())).status, Status::Ok);
        let check = of_durability((on(), "off".to_owned()));
        assert_eq!(check.status, Status::Warning);
        assert!(check.detail.ends_with(": full_page_writes"), "{check:?}");
    }

    #[test]
    fn an_instance_needs_places_for_all_its_connections() {
        assert_eq!(of_connections(16, 18).status, Status::Ok);
        assert_eq!(of_connections(16, 17).status, Status::Warning);
    }
}
