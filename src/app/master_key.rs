//! Where the master key comes from: the configuration, or a file beside the embedded store.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use secrecy::ExposeSecret;

use super::start::{StartError, lock};
use crate::{
    config::{Config, DatabaseKind},
    keys::{self, vault::MasterKey},
    store::{Database, sqlite},
    types::randomness::Randomness,
};

const FILE_NAME: &str = "master.key";

/// Refuses a configuration without the master key that PostgreSQL needs: its instances share one.
///
/// # Errors
/// When it is missing.
pub fn require_master_key(config: &Config) -> Result<(), StartError> {
    let is_shared = config.database.url.kind() == DatabaseKind::Postgres;
    if is_shared && config.secrets.master_key.is_none() {
        return Err(StartError::NoMasterKey);
    }
    Ok(())
}

/// The configured master key, or that of the embedded store, which is made on its first start.
pub(super) async fn resolve(
    config: &Config,
    database: &Database,
    randomness: &Randomness,
) -> Result<MasterKey, StartError> {
    require_master_key(config)?;
    match &config.secrets.master_key {
        Some(configured) => MasterKey::parse(configured.expose_secret()).map_err(|invalid| {
            StartError::MasterKeyFile {
                file: PathBuf::from("secrets.master_key"),
                problem: invalid.to_string(),
            }
        }),
        None => embedded(config, database, randomness).await,
    }
}

async fn embedded(
    config: &Config,
    database: &Database,
    randomness: &Randomness,
) -> Result<MasterKey, StartError> {
    // Held until the key is there: two processes that start at once must not make two.
    let _lock = lock(&config.database).await?;
    let file = sqlite::path(&config.database)?.with_file_name(FILE_NAME);
    if !file.exists() {
        if keys::has_vault(database).await? {
            return Err(StartError::LostMasterKey(file));
        }
        write(&file, &MasterKey::generate(randomness)).map_err(|error| unusable(&file, &error))?;
        tracing::info!(file = %file.display(), "made a master key: back it up apart from the store");
    }
    read(&file)
}

fn read(file: &Path) -> Result<MasterKey, StartError> {
    let text = fs::read_to_string(file).map_err(|error| unusable(file, &error))?;
    let mode = fs::metadata(file)
        .map_err(|error| unusable(file, &error))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %file.display(), "others may read the master key: run chmod 600 on it");
    }
    MasterKey::parse(&text).map_err(|invalid| unusable(file, &invalid))
}

/// Writes the whole key under another name first, so that the file is never seen half written.
fn write(file: &Path, master_key: &MasterKey) -> io::Result<()> {
    let unfinished = file.with_extension("key.new");
    if unfinished.exists() {
        fs::remove_file(&unfinished)?;
    }
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let mut writer = options.open(&unfinished)?;
    writeln!(writer, "{}", master_key.to_base64().as_str())?;
    writer.sync_all()?;
    fs::rename(&unfinished, file)?;
    match file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

fn unusable(file: &Path, problem: &dyn std::error::Error) -> StartError {
    StartError::MasterKeyFile {
        file: file.to_owned(),
        problem: problem.to_string(),
    }
}
