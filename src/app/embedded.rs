//! The files of an embedded store: whether it is there, or may be made, and who may set it up or serve
//! on it.

use std::{
    fs::{File, TryLockError},
    path::PathBuf,
    time::Duration,
};

use super::{
    master_key_file::MasterKeyFile,
    start::{StartError, open_store},
};
use crate::{
    config::{self, DatabaseKind},
    store::{Database, migrations, sqlite},
};

/// Where an embedded store would be made, when it is not there yet.
///
/// # Errors
/// When the URL is none of SQLite's.
pub fn missing_store(settings: &config::Database) -> Result<Option<PathBuf>, StartError> {
    if settings.kind() != DatabaseKind::Sqlite {
        return Ok(None);
    }
    let file = sqlite::path(settings)?;
    Ok((!file.exists()).then(|| std::path::absolute(&file).unwrap_or(file)))
}

/// Opens the store, and makes an embedded one that is not there, but not beside a master key: whoever
/// has that has the key of another store, which would seem to be lost.
///
/// # Errors
/// When the key lies there without its store, or the store cannot be reached, made or migrated.
pub async fn make_store(
    settings: &config::Database,
    deadline: Duration,
) -> Result<Database, StartError> {
    if settings.kind() == DatabaseKind::Sqlite {
        // In this order: a store that another process makes now is there before its key.
        let key = MasterKeyFile::beside(settings)?;
        let has_key = key.exists();
        if let (Some(store), true) = (missing_store(settings)?, has_key) {
            let key = std::path::absolute(key.path()).unwrap_or(key.path().to_owned());
            return Err(StartError::OrphanedMasterKey { key, store });
        }
    }
    make_store_for_import(settings, deadline).await
}

/// Opens the store, and makes an embedded one that is not there, also beside the master key of what is
/// to come into it.
///
/// # Errors
/// When the store cannot be reached, made or migrated.
pub async fn make_store_for_import(
    settings: &config::Database,
    deadline: Duration,
) -> Result<Database, StartError> {
    let missing = missing_store(settings)?;
    let database = open_store(settings, deadline).await?;
    if let Some(file) = missing {
        tracing::warn!(file = %file.display(), "there was no store: made a new one");
    }
    Ok(database)
}

/// Keeps other processes from setting up the same embedded store meanwhile.
pub(super) async fn lock(settings: &config::Database) -> Result<File, StartError> {
    let path = sqlite::path(settings)?;
    migrations::lock_embedded(path)
        .await
        .map_err(|source| StartError::Folder {
            url: settings.redacted(),
            source,
        })
}

/// Keeps other servers off the same embedded store until it is dropped: they would wait for each
/// other inside SQLite, where nothing is fair. Commands may run beside it.
///
/// # Errors
/// When another server has the store, or the lock cannot be made.
pub fn claim_store(settings: &config::Database) -> Result<Option<File>, StartError> {
    if settings.kind() != DatabaseKind::Sqlite {
        return Ok(None);
    }
    let store = sqlite::path(settings)?;
    match migrations::claim_embedded(&store) {
        Ok(claim) => Ok(Some(claim)),
        Err(TryLockError::WouldBlock) => Err(StartError::Served(store)),
        Err(TryLockError::Error(source)) => Err(StartError::Folder {
            url: settings.redacted(),
            source,
        }),
    }
}
