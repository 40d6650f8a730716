//! Migrations: embedded, for each database its own, applied safely by instances that start at once.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use sqlx::{
    Connection, PgConnection,
    migrate::{
        Migrate,
        MigrateError::{Execute, ExecuteMigration},
        Migrator,
    },
};
use tokio::time::timeout;

use super::{
    Database, StoreError,
    database::Pools,
    postgres::{limit_waiting, unprepare, waited_too_long},
    read,
};
use crate::{config::DatabaseKind, types::clock::Timestamp};

static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");
static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a migration waits for a lock: while it does, other instances' statements on the table
/// wait behind it, and have less than a second.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// How long it waits in silence for another instance that sets up the same store.
const SILENCE: Duration = Duration::from_secs(2);

/// How often it tries again.
const RETRIES: u32 = 4;

/// How long it lets the others through before it tries again.
const PAUSE: Duration = Duration::from_secs(1);

/// Why the tables could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The database failed, or its history is not ours.
    #[error("the migrations could not be applied")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// Something else, as a back-up, holds the tables, and would keep all the statements of other
    /// instances waiting behind a migration.
    #[error(
        "the migrations could not be applied, for something holds the tables, such as a back-up or \
         an open transaction: start again when it has ended"
    )]
    Busy(#[source] sqlx::Error),
    /// No connection to apply them on.
    #[error("no connection to apply the migrations on")]
    Connect(#[from] sqlx::Error),
}

/// The version of the newest migration that this program knows.
pub(crate) fn newest() -> i64 {
    let migrations = POSTGRES.iter().chain(SQLITE.iter());
    let versions = migrations.map(|migration| migration.version);
    versions.max().unwrap_or_default()
}

/// The date of the newest migration that this program knows: no time can be before it. The rest of a
/// version is no time of a day.
pub(crate) fn newest_date() -> Timestamp {
    date_of(newest())
}

/// The midnight with which the day of a migration begins.
fn date_of(version: i64) -> Timestamp {
    let date = version / 1_000_000;
    let (year, month, day) = (date / 10_000, date / 100 % 100, date % 100);
    let text = format!("{year:04}-{month:02}-{day:02}T00:00:00Z");
    Timestamp::parse(&text).unwrap_or(Timestamp::from_micros(0))
}

/// How the migrations of a store compare with those that this program knows.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// How many are applied, as they are known.
    pub(crate) applied: usize,
    /// Known, and not applied.
    pub(crate) missing: Vec<i64>,
    /// Applied, and not known.
    pub(crate) unknown: Vec<i64>,
    /// Applied, and another since.
    pub(crate) changed: Vec<i64>,
    /// Begun, and cut off.
    pub(crate) unfinished: Vec<i64>,
}

impl Standing {
    /// Whether there is nothing to apply, and nothing to refuse. What is not known is no matter.
    pub(crate) fn is_current(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty() && self.unfinished.is_empty()
    }
}

/// Compares, and applies nothing.
pub(crate) async fn standing(database: &Database) -> Result<Standing, StoreError> {
    let (known, has_history) = match database.kind() {
        DatabaseKind::Postgres => (
            &POSTGRES,
            "SELECT count(*) FROM pg_class WHERE oid = to_regclass('_sqlx_migrations')",
        ),
        DatabaseKind::Sqlite => (
            &SQLITE,
            "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'",
        ),
    };
    let (histories,): (i64,) = read!(database, |connection| sqlx::query_as(has_history)
        .fetch_one(connection))?;
    let applied: Vec<(i64, bool, Vec<u8>)> = if histories == 0 {
        Vec::new()
    } else {
        read!(database, |connection| sqlx::query_as(
            "SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version"
        )
        .fetch_all(connection))?
    };
    let mut standing = Standing::default();
    let mut known: BTreeMap<_, _> = known
        .iter()
        .map(|migration| (migration.version, &migration.checksum))
        .collect();
    for (version, is_finished, checksum) in applied {
        match known.remove(&version) {
            _ if !is_finished => standing.unfinished.push(version),
            None => standing.unknown.push(version),
            Some(known) if **known != *checksum => standing.changed.push(version),
            Some(_) => standing.applied += 1,
        }
    }
    standing.missing = known.into_keys().collect();
    Ok(standing)
}

impl Database {
    /// Applies what is missing. Several instances may do so at once: PostgreSQL makes them wait on
    /// an advisory lock, and the embedded store's callers hold a lock of their own.
    ///
    /// A migration that this binary does not know is left alone, so that an older instance can
    /// restart during a rolling upgrade.
    ///
    /// # Errors
    /// When a migration fails, or one that was applied has changed since.
    pub async fn migrate(&self) -> Result<(), MigrationError> {
        match self.pools() {
            // On a connection of its own, closed at the end: given back to the pool, a failed
            // migration would keep the advisory lock, and every other instance would hang.
            Pools::Postgres(pool) => {
                let mut connection = pool.acquire().await?.detach();
                let outcome = migrate_postgres(&mut connection).await;
                // What went wrong before matters more than a bad farewell.
                let closed = connection.close().await;
                outcome?;
                closed?;
            }
            Pools::Sqlite { writer, .. } => {
                let mut connection = writer.acquire().await?;
                connection.close_on_drop();
                forgiving(&SQLITE).run(&mut *connection).await?;
            }
        }
        Ok(())
    }
}

async fn migrate_postgres(connection: &mut PgConnection) -> Result<(), MigrationError> {
    unprepare(connection).await?;
    told_when_long(connection.lock()).await?;
    limit_waiting(connection, LOCK_PATIENCE).await?;
    let mut migrator = forgiving(&POSTGRES);
    migrator.set_locking(false);
    let mut retries = 0..RETRIES;
    loop {
        match migrator.run(&mut *connection).await {
            Err(Execute(error) | ExecuteMigration(error, _)) if waited_too_long(&error) => {
                if retries.next().is_none() {
                    return Err(MigrationError::Busy(error));
                }
                tracing::warn!("a migration waits for tables that are in use");
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

/// Waits for the lock under which a store is set up, as long as another's migrations take.
async fn told_when_long<T>(locking: impl Future<Output = T>) -> T {
    let mut locking = pin!(locking);
    if let Ok(locked) = timeout(SILENCE, locking.as_mut()).await {
        return locked;
    }
    tracing::warn!("waiting for another instance, which migrates the store or sets it up");
    locking.await
}

fn forgiving(migrator: &'static Migrator) -> Migrator {
    let mut migrator = Migrator {
        migrations: migrator.migrations.clone(),
        ..Migrator::DEFAULT
    };
    migrator.set_ignore_missing(true);
    migrator
}

/// Keeps other processes from setting up the same embedded store until it is dropped; SQLite has
/// no lock that outlasts a transaction, and the file with the master key is no part of one.
///
/// # Errors
/// When the folder or the lock file cannot be made.
pub(crate) async fn lock_embedded(store: PathBuf) -> io::Result<File> {
    let locking = tokio::task::spawn_blocking(move || {
        let file = lock_file(&store, ".lock")?;
        file.lock()?;
        Ok(file)
    });
    told_when_long(locking).await.map_err(io::Error::other)?
}

/// Keeps other servers off an embedded store until it is dropped.
///
/// # Errors
/// When another server has it, or the folder or the lock file cannot be made.
pub(crate) fn claim_embedded(store: &Path) -> Result<File, TryLockError> {
    let file = lock_file(store, ".server").map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// A file beside the store, never the store itself: SQLite loses its own locks on that when any
/// handle to it is closed.
fn lock_file(store: &Path, ending: &str) -> io::Result<File> {
    if let Some(folder) = store
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    // The file itself, also where the path is a link to it.
    let store = fs::canonicalize(store).unwrap_or_else(|_| store.to_owned());
    let mut name = store.into_os_string();
    name.push(ending);
    // Who may read it could hold the lock.
    let mut options = File::options();
    options.create(true).append(true).mode(0o600).open(name)
}

/// How the embedded store goes about a statement, over its tables as they are now.
#[cfg(test)]
pub(crate) async fn plan_of(statement: &'static str) -> String {
    let mut connection = sqlx::SqliteConnection::connect("sqlite::memory:")
        .await
        .unwrap();
    SQLITE.run(&mut connection).await.unwrap();
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let steps: Vec<String> = steps.into_iter().map(|(.., step)| step).collect();
    steps.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_dates_from_the_midnight_of_its_day() {
        let date = |version| date_of(version).to_string();
        assert_eq!(date(20_261_121_100_300), "2026-11-21T00:00:00Z");
        assert_eq!(
            date(20_261_201_120_199),
            "2026-12-01T00:00:00Z",
            "no time of a day"
        );
        assert!(newest_date() >= date_of(20_261_201_120_100));
    }
}
