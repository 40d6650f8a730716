//! An embedded store: whether its file is whole, and has room to grow.

use std::{path::Path, time::Duration};

use sqlx::SqlitePool;
use tokio::time::Instant;

use super::Check;
use crate::{
    config::{Config, DatabaseKind},
    error::Chain,
    store::{Database, StoreError, database::Pools, sqlite},
};

/// How long the file is looked through.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// SQLite is asked after so many of its steps whether it is to go on.
const STEPS: i32 = 100;

/// SQLite's code of what was told to end.
const INTERRUPTED: &str = "9";

const MIB: u64 = 1 << 20;

/// Less may be used up within days, or within hours.
const LITTLE: u64 = 1024 * MIB;
const NEXT_TO_NONE: u64 = 32 * MIB;

/// Whether what was read of the file within `patience` is whole.
pub(super) async fn quick_check(database: &Database, patience: Duration) -> Option<Check> {
    const CHECK: &str = "file";
    let Pools::Sqlite { readers, .. } = database.pools() else {
        return None;
    };
    let advice = "end the server, and restore the store from your last back-up";
    Some(
        match look_through(readers, Instant::now() + patience).await {
            Ok(Some(found)) if found == "ok" => Check::ok(CHECK, "SQLite finds no fault in it"),
            Ok(Some(fault)) => Check::failed(CHECK, format!("it is damaged: {fault}"), advice),
            Ok(None) => Check::ok(
                CHECK,
                format!("SQLite found no fault within {patience:?}, and did not come to its end"),
            ),
            Err(error) => Check::failed(CHECK, Chain(&error).to_string(), advice),
        },
    )
}

/// What SQLite says of the file; nothing if the time was too short.
async fn look_through(readers: &SqlitePool, end: Instant) -> Result<Option<String>, StoreError> {
    let mut connection = readers.acquire().await?;
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(STEPS, move || Instant::now() < end);
    drop(handle);
    let found = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut *connection)
        .await;
    connection.lock_handle().await?.remove_progress_handler();
    match found {
        Ok(found) => Ok(Some(found)),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(INTERRUPTED) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// How much room is left where the store lies.
pub(super) fn free_space(config: &Config) -> Option<Check> {
    if config.database.kind() != DatabaseKind::Sqlite {
        return None;
    }
    let store = sqlite::path(&config.database).ok()?;
    let folder = match store.parent()? {
        folder if folder.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    folder
        .is_dir()
        .then(|| of_free_space(folder, free_in(folder)))
}

fn free_in(folder: &Path) -> Result<u64, rustix::io::Errno> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

fn of_free_space(folder: &Path, free: Result<u64, rustix::io::Errno>) -> Check {
    const CHECK: &str = "free_space";
    let folder = folder.display();
    let free = match free {
        Ok(free) => free,
        Err(error) => {
            let detail = format!("{folder} does not tell how much room it has: {error}");
            return Check::warning(CHECK, detail, "see that the disk is well");
        }
    };
    let detail = format!("{} MiB in {folder}", free / MIB);
    let advice = "make room: when the disk is full nothing can be issued, bound or revoked";
    if free < NEXT_TO_NONE {
        Check::failed(CHECK, detail, advice)
    } else if free < LITTLE {
        Check::warning(CHECK, detail, advice)
    } else {
        Check::ok(CHECK, detail)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqlitePoolOptions;

    use super::*;
    use crate::doctor::Status;

    #[tokio::test]
    async fn a_file_is_looked_through_no_longer_than_there_is_time() {
        let one = SqlitePoolOptions::new().max_connections(1);
        let pool = one.connect("sqlite::memory:").await.unwrap();
        sqlx::raw_sql(
            "CREATE TABLE numbers AS WITH RECURSIVE numbers (number) AS \
             (SELECT 1 UNION ALL SELECT number + 1 FROM numbers LIMIT 10000) SELECT number FROM numbers",
        )
        .execute(&pool)
        .await
        .unwrap();
        for (patience, found) in [(Duration::ZERO, None), (PATIENCE, Some("ok"))] {
            let looked = look_through(&pool, Instant::now() + patience).await;
            assert_eq!(looked.unwrap().as_deref(), found);
        }
    }

    #[test]
    fn there_is_to_be_room_for_some_time() {
        for (free, status) in [
            (0, Status::Failed),
            (32 * MIB - 1, Status::Failed),
            (32 * MIB, Status::Warning),
            (1024 * MIB - 1, Status::Warning),
            (1024 * MIB, Status::Ok),
            (u64::MAX, Status::Ok),
        ] {
            let check = of_free_space(Path::new("/data"), Ok(free));
            assert_eq!(check.status, status, "{check:?}");
            assert!(check.detail.contains(" MiB in /data"), "{check:?}");
        }
        let check = of_free_space(Path::new("/data"), Err(rustix::io::Errno::NOENT));
        assert_eq!(check.status, Status::Warning);
        assert!(free_in(Path::new("/")).unwrap() > 0);
    }
}
