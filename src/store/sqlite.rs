//! The embedded store: where it lies, and how its connections are opened.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{StoreError, database::Pools};
use crate::config;

/// How many connections read.
const READERS: u32 = 4;

/// How much of the file a reader keeps in memory, in KiB, as SQLite writes it: half of the default,
/// since what is read again and again is remembered as rows.
const READER_CACHE: &str = "-1024";

/// How many prepared statements the writer keeps: a batch of records is another one for each number of
/// them, and the usual hundred would push each other out.
const STATEMENTS: usize = 384;

/// Where an embedded store lies.
///
/// # Errors
/// When the URL is none of SQLite's.
pub(crate) fn path(settings: &config::Database) -> Result<PathBuf, StoreError> {
    let options = SqliteConnectOptions::from_str(settings.url.expose())?;
    Ok(options.get_filename().to_owned())
}

/// Opens the connections to an embedded store, which is made when it is not there.
pub(super) async fn open(
    settings: &config::Database,
    deadline: Duration,
) -> Result<Pools, sqlx::Error> {
    let options = options(settings.url.expose(), deadline)?;
    // The writer first: it makes the file and turns on the write-ahead log, which readers cannot.
    let writer = options.clone().statement_cache_capacity(STATEMENTS);
    let writer = pool(1, deadline).connect_with(writer).await?;
    let readers = options.pragma("cache_size", READER_CACHE);
    let readers = pool(READERS, deadline).connect_with(readers).await?;
    Ok(Pools::Sqlite { writer, readers })
}

/// Opens connections that read alone, the one that is to write, too.
pub(super) async fn open_read_only(
    settings: &config::Database,
    deadline: Duration,
) -> Result<Pools, sqlx::Error> {
    let options = SqliteConnectOptions::from_str(settings.url.expose())?;
    let mut log = options.get_filename().as_os_str().to_owned();
    log.push("-wal");
    // Without a write-ahead log nobody has the store open. A reader would make one, and leave it.
    let is_at_rest = !Path::new(&log).exists();
    let options = options
        .create_if_missing(false)
        .read_only(true)
        .immutable(is_at_rest)
        .busy_timeout(deadline);
    let readers = pool(READERS, deadline).connect_with(options).await?;
    let writer = readers.clone();
    Ok(Pools::Sqlite { writer, readers })
}

fn pool(connections: u32, deadline: Duration) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(deadline)
        .test_before_acquire(false)
}

/// How every connection to an embedded store is opened: what is committed survives a power cut.
///
/// # Errors
/// When the URL is none of SQLite's.
pub fn options(url: &str, deadline: Duration) -> Result<SqliteConnectOptions, sqlx::Error> {
    Ok(SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(deadline))
}
