//! The files of an embedded store: whether it is there, and who may set it up or serve on it.

use std::{
    fs::{File, TryLockError},
    path::PathBuf,
};

use super::start::StartError;
use crate::{
    config::{self, DatabaseKind},
    store::{migrations, sqlite},
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
