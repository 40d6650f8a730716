//! The two databases behind one face.

use std::{
    io,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{
    Connection, PgConnection, PgPool, Pool, SqlitePool,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::Instant;

use super::StoreError;
use crate::{
    config::{self, DatabaseKind},
    types::clock::Timestamp,
};

/// How long a server waits for one call to the store before it answers 503.
pub const SERVING_DEADLINE: Duration = Duration::from_secs(1);

/// How long a command waits: it has no caller to answer within a second, and on the embedded store
/// it may stand behind a busy server's writes.
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(10);

const SQLITE_READERS: u32 = 4;

/// An open store. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Database(Arc<Open>);

#[derive(Debug)]
struct Open {
    pools: Pools,
    deadline: Duration,
    doubt: Doubt,
}

/// When a connection last failed. One that has lain idle since before then may be just as dead, and
/// is tried before it is used; else a restart of the server would cost one failed call for each.
#[derive(Clone, Debug)]
pub(crate) struct Doubt(Arc<Mutex<Instant>>);

impl Doubt {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn cast(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn concerns(&self, idle_for: Duration) -> bool {
        let cast = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle_for > TRUSTED_IDLE || idle_for >= cast.elapsed()
    }

    fn was_cast_within(&self, time: Duration) -> bool {
        let cast = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cast.elapsed() <= time
    }
}

/// How long a connection may lie idle and be used without a trial.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// The connections. SQLite lets one writer in at a time, so it has one connection to write with;
/// a second one would only wait for it inside SQLite, where nothing is fair.
#[derive(Clone, Debug)]
pub enum Pools {
    /// PostgreSQL.
    Postgres(PgPool),
    /// The embedded store.
    Sqlite {
        /// The one connection that writes.
        writer: SqlitePool,
        /// The connections that read.
        readers: SqlitePool,
    },
}

impl Database {
    /// Opens the store that `settings` names, without a look at its tables. Each later call is
    /// given `deadline`.
    ///
    /// # Errors
    /// When the store cannot be reached within the deadline, or the embedded one not be made.
    pub async fn open(settings: &config::Database, deadline: Duration) -> Result<Self, StoreError> {
        let doubt = Doubt::new();
        let pools = match settings.url.kind() {
            DatabaseKind::Postgres => open_postgres(settings, deadline, &doubt).await,
            DatabaseKind::Sqlite => open_sqlite(settings, deadline).await,
        };
        Ok(Self(Arc::new(Open {
            pools: pools.map_err(StoreError::of_connecting)?,
            deadline,
            doubt,
        })))
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.0.pools
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.0.deadline
    }

    pub(crate) fn doubt(&self) -> &Doubt {
        &self.0.doubt
    }

    /// Which of the two databases this is.
    #[must_use]
    pub fn kind(&self) -> DatabaseKind {
        match self.pools() {
            Pools::Postgres(_) => DatabaseKind::Postgres,
            Pools::Sqlite { .. } => DatabaseKind::Sqlite,
        }
    }

    /// What the store's own clock says; also the cheapest proof that the store answers.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        let (now,): (Timestamp,) = match self.pools() {
            Pools::Postgres(pool) => with_connection!(self, pool, |connection| sqlx::query_as(
                "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
            )
            .fetch_one(connection))?,
            Pools::Sqlite { readers, .. } => {
                with_connection!(self, readers, |connection| sqlx::query_as(
                    "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
                )
                .fetch_one(connection))?
            }
        };
        Ok(now)
    }

    /// Closes every connection once what runs on it has ended.
    pub async fn close(&self) {
        match self.pools() {
            Pools::Postgres(pool) => pool.close().await,
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
        }
    }
}

/// Where an embedded store lies.
///
/// # Errors
/// When the URL is none of SQLite's.
pub(crate) fn sqlite_path(settings: &config::Database) -> Result<PathBuf, StoreError> {
    let options =
        SqliteConnectOptions::from_str(settings.url.expose()).map_err(StoreError::Fault)?;
    Ok(options.get_filename().to_owned())
}

async fn open_postgres(
    settings: &config::Database,
    deadline: Duration,
    doubt: &Doubt,
) -> Result<Pools, sqlx::Error> {
    let [doubt, doubt_at_end] = [doubt.clone(), doubt.clone()];
    let options = PgConnectOptions::from_str(settings.url.expose())?.application_name("mirrory");
    // The pool tries a refused connection again until the deadline, and then tells that it was
    // late and not why.
    let first = tokio::time::timeout(deadline, PgConnection::connect_with(&options)).await;
    first
        .map_err(|_| sqlx::Error::Io(io::ErrorKind::TimedOut.into()))??
        .close()
        .await?;
    let pool = PgPoolOptions::new()
        .max_connections(settings.max_connections)
        .acquire_timeout(deadline)
        .test_before_acquire(false)
        .before_acquire(move |connection, metadata| {
            let doubtful = doubt.concerns(metadata.idle_for);
            Box::pin(async move {
                if doubtful {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        // The pool tries what is given back and waits for the answer without end: a transaction
        // whose connection fell silent would keep its place for good.
        .after_release(move |connection, _| {
            let doubtful = doubt_at_end.was_cast_within(deadline);
            Box::pin(async move {
                if doubtful {
                    let trial = tokio::time::timeout(deadline, connection.ping());
                    trial.await.map_err(|_| sqlx::Error::PoolTimedOut)??;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options);
    Ok(Pools::Postgres(pool))
}

async fn open_sqlite(
    settings: &config::Database,
    deadline: Duration,
) -> Result<Pools, sqlx::Error> {
    let options = sqlite_options(settings.url.expose(), deadline)?;
    let pool = |connections| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(deadline)
            .test_before_acquire(false)
    };
    // The writer first: it makes the file and turns on the write-ahead log, which readers cannot.
    let writer = pool(1).connect_with(options.clone()).await?;
    let readers = pool(SQLITE_READERS).connect_with(options).await?;
    Ok(Pools::Sqlite { writer, readers })
}

/// How every connection to an embedded store is opened: what is committed survives a power cut.
///
/// # Errors
/// When the URL is none of SQLite's.
pub fn sqlite_options(url: &str, deadline: Duration) -> Result<SqliteConnectOptions, sqlx::Error> {
    Ok(SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(deadline))
}

/// Runs a statement on a connection of `pool`, all within the database's deadline.
///
/// A connection that did not answer in time is closed and not given back: the pool would wait for
/// its answer, and a store that is gone for good would use up the pool.
macro_rules! with_connection {
    ($database:expr, $pool:expr, |$connection:ident| $statement:expr) => {
        async {
            let database: &$crate::store::Database = &$database;
            let deadline = tokio::time::Instant::now() + database.deadline();
            let mut pooled = $crate::store::database::acquire($pool, deadline).await?;
            let answer = {
                let $connection = &mut *pooled;
                $crate::store::tx::before(deadline, database.doubt(), $statement).await
            };
            if let Err($crate::store::StoreError::Timeout) = &answer {
                drop(pooled.detach());
            }
            answer
        }
        .await
    };
}
pub(crate) use with_connection;

/// A connection of `pool`, had before `deadline`.
pub(crate) async fn acquire<DB: sqlx::Database>(
    pool: &Pool<DB>,
    deadline: Instant,
) -> Result<PoolConnection<DB>, StoreError> {
    tokio::time::timeout_at(deadline, pool.acquire())
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
        .map_err(StoreError::of_connecting)
}
