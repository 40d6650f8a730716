//! Where the master key comes from, and how it is changed: the configuration, or a file beside the
//! embedded store.

use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::{embedded::lock, master_key_file::MasterKeyFile, start::StartError};
use crate::{
    config::{self, Config, DatabaseKind},
    keys::{
        self, KeysError, Rewrapped,
        vault::{MasterKey, Vault, VaultError},
    },
    moving,
    store::{Database, changes::Actor},
    types::{clock::Clock, randomness::Randomness},
};

/// Refuses a configuration without the master key that PostgreSQL needs: its instances share one.
///
/// # Errors
/// When it is missing.
pub fn require_master_key(config: &Config) -> Result<(), StartError> {
    let is_shared = config.database.kind() == DatabaseKind::Postgres;
    if is_shared && config.secrets.master_key.is_none() {
        return Err(StartError::NoMasterKey);
    }
    Ok(())
}

/// Opens the store's vault with the configured master key, or with that of the embedded store, which
/// is made on its first start.
pub(super) async fn open_vault(
    config: &Config,
    database: &Database,
    clock: &Clock,
    randomness: &Randomness,
) -> Result<Vault, StartError> {
    refuse_part(database).await?;
    if let Some(master_key) = configured(config)? {
        return Ok(keys::open_vault(database, &master_key, clock, randomness).await?);
    }
    // Held until the vault is open: processes that start at once must not make two keys, and the
    // key must not be changed meanwhile.
    let _lock = lock(&config.database).await?;
    let file = MasterKeyFile::beside(&config.database)?;
    let master_key = in_force(&file, database, randomness).await?;
    Ok(keys::open_vault(database, &master_key, clock, randomness).await?)
}

/// The master keys that there are, of which one may open the store: mostly one, two while it is being
/// changed, none before the first start on an embedded store. None is made.
///
/// # Errors
/// When PostgreSQL's is not configured, or the file cannot be read.
pub fn present_master_keys(config: &Config) -> Result<Vec<MasterKey>, StartError> {
    if let Some(master_key) = configured(config)? {
        return Ok(vec![master_key]);
    }
    let file = MasterKeyFile::beside(&config.database)?;
    if file.exists() {
        file.read()
    } else {
        Ok(Vec::new())
    }
}

/// Where the master key of an embedded store lies that is not configured.
pub(crate) fn master_key_file(settings: &config::Database) -> Result<PathBuf, StartError> {
    Ok(MasterKeyFile::beside(settings)?.path().to_owned())
}

/// What a change of the master key came to.
#[derive(Debug)]
pub struct RotatedMasterKey {
    /// Whether there was anything to change.
    pub rewrapped: Rewrapped,
    /// The file that the new key is kept in; none when the configuration must be given it.
    pub file: Option<PathBuf>,
}

/// Makes `new` the store's master key. For the key in the file beside an embedded store, a new one
/// is made when none is given.
///
/// Cut off at any point, it leaves a store that opens, and can be called again.
///
/// # Errors
/// When the configured key is not the store's, a new one is needed, or the store fails.
pub async fn rotate_master_key(
    config: &Config,
    database: &Database,
    new: Option<MasterKey>,
    clock: &Clock,
    randomness: &Randomness,
) -> Result<RotatedMasterKey, StartError> {
    refuse_part(database).await?;
    if let Some(old) = configured(config)? {
        let new = new.ok_or(StartError::NoNewMasterKey)?;
        let rewrapped = rewrap(database, (&old, &new), clock, randomness).await?;
        let file = None;
        return Ok(RotatedMasterKey { rewrapped, file });
    }
    let _lock = lock(&config.database).await?;
    let file = MasterKeyFile::beside(&config.database)?;
    let old = in_force(&file, database, randomness).await?;
    // The file is touched only when its key is the store's.
    keys::open_vault(database, &old, clock, randomness).await?;
    let new = new.unwrap_or_else(|| MasterKey::generate(randomness));
    file.write(&[&old, &new])?;
    let rewrapped = rewrap(database, (&old, &new), clock, randomness).await?;
    file.write(&[&new])?;
    Ok(RotatedMasterKey {
        rewrapped,
        file: Some(file.path().to_owned()),
    })
}

/// Refuses a store with an import to be finished: keys that are made or changed there would be in
/// the place of those that are still to come.
async fn refuse_part(database: &Database) -> Result<(), StartError> {
    if moving::is_unfinished(database).await? {
        return Err(StartError::UnfinishedImport);
    }
    Ok(())
}

async fn rewrap(
    database: &Database,
    keys: (&MasterKey, &MasterKey),
    clock: &Clock,
    randomness: &Randomness,
) -> Result<Rewrapped, StartError> {
    let mut tx = database.begin().await?;
    let now = clock.now();
    let rewrapped = keys::rewrap(&mut tx, Actor::Operator, keys, now, randomness).await?;
    tx.commit().await?;
    Ok(rewrapped)
}

fn configured(config: &Config) -> Result<Option<MasterKey>, StartError> {
    require_master_key(config)?;
    let configured = config.secrets.master_key.as_ref();
    configured
        .map(|text| MasterKey::parse(text.expose_secret()))
        .transpose()
        .map_err(|invalid| StartError::MasterKeyFile {
            file: PathBuf::from("secrets.master_key"),
            problem: invalid.to_string(),
        })
}

/// The key in the file that opens the store; one is made when the store needs none yet. Of the two
/// that a change of the key left when it was cut off, the other one goes.
async fn in_force(
    file: &MasterKeyFile,
    database: &Database,
    randomness: &Randomness,
) -> Result<MasterKey, StartError> {
    if !file.exists() {
        if keys::has_vault(database).await? {
            return Err(StartError::LostMasterKey(file.path().to_owned()));
        }
        file.write(&[&MasterKey::generate(randomness)])?;
        let file = file.path().display();
        tracing::info!(%file, "made a master key: back it up apart from the store");
    }
    let keys = file.read()?;
    let is_settled = keys.len() == 1;
    for key in keys {
        if is_settled {
            return Ok(key);
        }
        if keys::opens(database, &key).await? {
            file.write(&[&key])?;
            return Ok(key);
        }
    }
    Err(KeysError::from(VaultError::WrongMasterKey).into())
}
