//! The file beside the embedded store that holds its master key.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use secrecy::zeroize::Zeroizing;

use super::start::StartError;
use crate::{
    config,
    keys::vault::{InvalidMasterKey, MasterKey},
    new_file::NewFile,
    store::sqlite,
};

const FILE_NAME: &str = "master.key";

/// The file: a line a key. While the master key is changed, both lie in it, so that one of them
/// opens the store whenever the change is cut off.
pub(super) struct MasterKeyFile(PathBuf);

impl MasterKeyFile {
    pub(super) fn beside(settings: &config::Database) -> Result<Self, StartError> {
        Ok(Self(sqlite::path(settings)?.with_file_name(FILE_NAME)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn exists(&self) -> bool {
        self.0.exists()
    }

    /// The keys in it, at least one.
    pub(super) fn read(&self) -> Result<Vec<MasterKey>, StartError> {
        let text = fs::read_to_string(&self.0).map_err(|error| self.unusable(&error))?;
        let text = Zeroizing::new(text);
        let mode = fs::metadata(&self.0)
            .map_err(|error| self.unusable(&error))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            let file = self.0.display();
            tracing::warn!(%file, "others may read the master key: run chmod 600 on it");
        }
        let keys: Result<Vec<_>, _> = text.split_whitespace().map(MasterKey::parse).collect();
        match keys {
            Ok(keys) if keys.is_empty() => Err(self.unusable(&InvalidMasterKey)),
            keys => keys.map_err(|invalid| self.unusable(&invalid)),
        }
    }

    /// Replaces what is in it.
    pub(super) fn write(&self, keys: &[&MasterKey]) -> Result<(), StartError> {
        self.replace(keys).map_err(|error| self.unusable(&error))
    }

    fn replace(&self, keys: &[&MasterKey]) -> io::Result<()> {
        let mut file = NewFile::create(&self.0)?;
        for key in keys {
            writeln!(file, "{}", key.to_base64().as_str())?;
        }
        file.finish()
    }

    fn unusable(&self, problem: &dyn std::error::Error) -> StartError {
        StartError::MasterKeyFile {
            file: self.0.clone(),
            problem: problem.to_string(),
        }
    }
}
