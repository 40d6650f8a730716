//! The store: whether it answers, keeps what it is given, and has the tables of this version.

use std::time::Duration;

use super::{Check, Status};
use crate::{
    config::{Config, DatabaseKind},
    error::Chain,
    moving, sites,
    store::{Database, StoreError, migrations, read, time},
    types::{
        clock::{Clock, Timestamp},
        store_time::{ClockState, MAX_SKEW},
    },
};

const LOOK_AT_THE_STORE: &str = "see what the database's own log says";

/// How far the clock may be off and nothing be wrong.
const USUAL_SKEW: Duration = Duration::from_secs(1);

const VERSION_OF_POSTGRES: &str = "SELECT current_setting('server_version')";

const VERSION_OF_SQLITE: &str = "SELECT sqlite_version()";

pub(super) fn failed(check: &'static str, error: &StoreError) -> Check {
    Check::failed(check, Chain(error).to_string(), LOOK_AT_THE_STORE)
}

pub(super) async fn version(config: &Config, database: &Database) -> Check {
    let (name, sql) = match database.kind() {
        DatabaseKind::Postgres => ("PostgreSQL", VERSION_OF_POSTGRES),
        DatabaseKind::Sqlite => ("SQLite", VERSION_OF_SQLITE),
    };
    let asked: Result<(String,), _> = read!(database, |connection| sqlx::query_as(sql)
        .fetch_one(connection));
    match asked {
        Err(error) => failed("store", &error),
        Ok((version,)) => {
            let detail = format!("{name} {version}, {}", config.database.redacted());
            Check::ok("store", detail)
        }
    }
}

/// What the embedded store has seen, if it has the table for it.
const HAS_SEEN: &str = "SELECT count(*) FROM sqlite_schema WHERE name = 'store_clock'";
const SEEN: &str = "SELECT seen_at FROM store_clock WHERE id = 1";

/// How the clock is beside the store's: PostgreSQL's own, or the greatest time that the embedded store
/// has seen.
pub(super) async fn clock(database: &Database, clock: &Clock) -> Check {
    match database.kind() {
        DatabaseKind::Postgres => beside_the_stores(database, clock).await,
        DatabaseKind::Sqlite => match seen(database).await {
            Ok(seen) => of_seen(seen, clock.now()),
            Err(error) => failed("clock", &error),
        },
    }
}

async fn seen(database: &Database) -> Result<Option<Timestamp>, StoreError> {
    let (tables,): (i64,) = read!(database, |connection| sqlx::query_as(HAS_SEEN)
        .fetch_one(connection))?;
    if tables == 0 {
        return Ok(None);
    }
    let (told,): (Timestamp,) = read!(database, |connection| sqlx::query_as(SEEN)
        .fetch_one(connection))?;
    Ok(time::seen(told))
}

fn of_seen(seen: Option<Timestamp>, now: Timestamp) -> Check {
    let state = ClockState::since(seen, migrations::newest_date(), now);
    let advice = "set the clock by NTP (chrony, systemd-timesyncd); if it is right, run `mirrory clock \
                  accept`";
    match (state, seen) {
        (ClockState::Right, None) => Check::ok("clock", "the store has seen no time yet"),
        (ClockState::Right, Some(seen)) => Check::ok(
            "clock",
            format!("{now}, and the store was used until {seen}"),
        ),
        (ClockState::Wrong(_), _) => Check::failed("clock", state.to_string(), advice),
        (ClockState::Ahead { .. }, _) => Check::warning("clock", state.to_string(), advice),
    }
}

async fn beside_the_stores(database: &Database, clock: &Clock) -> Check {
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

/// Whether the configuration has the plans that sites are on.
pub(super) async fn plans(config: &Config, database: &Database) -> Check {
    const CHECK: &str = "plans";
    match sites::on_unknown_plans(database, &config.plans).await {
        Err(error) => failed(CHECK, &error),
        Ok(unknown) if unknown.is_empty() => Check::ok(CHECK, "those of all sites are configured"),
        Ok(unknown) => {
            let list: Vec<_> = unknown
                .iter()
                .map(|(plan, sites)| format!("{plan} (sites: {sites})"))
                .collect();
            let list = list.join(", ");
            Check::failed(
                CHECK,
                format!("sites are on plans that are not configured: {list}"),
                "their calls are answered 500: configure [plans.NAME] for every instance, or give \
                 each of the sites another plan with `mirrory site set-plan`",
            )
        }
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

/// That the store has only a part of what was exported elsewhere, if so.
pub(super) async fn unfinished_import(database: &Database) -> Option<Check> {
    const CHECK: &str = "import";
    match moving::is_unfinished(database).await {
        Ok(false) => None,
        Ok(true) => {
            let advice =
                "run `mirrory import` again with the whole file, or use another, empty store";
            let detail = "it was begun and is not finished: no server starts on this store";
            Some(Check::failed(CHECK, detail, advice))
        }
        Err(error) => Some(failed(CHECK, &error)),
    }
}
