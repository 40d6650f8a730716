//! The embedded store: where it lies, and how its connections are opened.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{StoreError, database::Pools, shares::SharedPool};
use crate::config;

/// How many connections read.
const READERS: u32 = 4;

/// How much of the file a reader keeps in memory, in KiB, as SQLite writes it: half of the default,
/// since what is read again and again is remembered as rows.
const READER_CACHE: &str = "-1024";

/// How many prepared statements the writer keeps: a batch of records is another one for each number of
/// them, and the usual hundred would push each other out.
const STATEMENTS: usize = 384;

/// How large SQLite leaves the write-ahead log, in bytes, as SQLite writes it: some four times what it
/// usually grows to. A back-up that takes long makes it larger for as long as it takes.
const LOG_SIZE: &str = "16777216";

/// What SQLite keeps beside a store.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The rights on a file that is for its owner alone.
const PRIVATE: u32 = 0o600;

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
    let store = options.get_filename().to_owned();
    make_private(&store)?;
    // The writer first: it makes the file and turns on the write-ahead log, which readers cannot.
    let writer = options.clone().statement_cache_capacity(STATEMENTS);
    let writer = SharedPool::of_writer(pool(1, deadline).connect_with(writer).await?);
    keep_private(&store)?;
    let readers = options.pragma("cache_size", READER_CACHE);
    let readers = SharedPool::of_many(pool(READERS, deadline).connect_with(readers).await?);
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
    let readers = SharedPool::of_many(pool(READERS, deadline).connect_with(options).await?);
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
        .busy_timeout(deadline)
        .pragma("journal_size_limit", LOG_SIZE))
}

/// Makes the file of a store that is not there yet, for its owner alone. Whatever the umask, SQLite
/// gives those beside it the rights that it has itself.
fn make_private(store: &Path) -> io::Result<()> {
    let mut options = File::options();
    let made = options.write(true).create_new(true).mode(PRIVATE);
    match made.open(store) {
        Ok(file) => file.set_permissions(Permissions::from_mode(PRIVATE)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes the rights of all but its owner from a store and what lies beside it. The files are not
/// opened for that: SQLite would lose its own locks on them.
fn keep_private(store: &Path) -> io::Result<()> {
    // SQLite's names go by the file itself, also where the path is a link to it.
    let store = fs::canonicalize(store)?;
    let beside = BESIDE.map(|ending| {
        let mut name = store.clone().into_os_string();
        name.push(ending);
        PathBuf::from(name)
    });
    for file in beside.iter().chain([&store]) {
        let metadata = file.metadata();
        if metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
            take_from_others(file);
        }
    }
    Ok(())
}

fn take_from_others(file: &Path) {
    let name = file.display();
    match fs::set_permissions(file, Permissions::from_mode(PRIVATE)) {
        Ok(()) => {
            tracing::warn!(file = %name, "others had rights on it: it is its owner's alone now");
        }
        Err(error) => tracing::warn!(
            file = %name,
            %error,
            "others have rights on it, which could not be taken from them"
        ),
    }
}
