//! The files of an embedded store, and who may read and write them.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::Check;
use crate::{
    app::master_key_file,
    config::{Config, DatabaseKind},
    store::sqlite,
};

const CHECK: &str = "permissions";

pub(super) fn examine(config: &Config) -> Option<Check> {
    if config.database.kind() != DatabaseKind::Sqlite {
        return None;
    }
    let store = sqlite::path(&config.database).ok()?;
    if !store.exists() {
        return None;
    }
    let key = master_key_file(&config.database).ok()?;
    Some(of_files(&store, &key))
}

fn of_files(store: &Path, key: &Path) -> Check {
    // Opened, and nothing written.
    if let Err(error) = File::options().write(true).open(store) {
        let detail = format!("{} cannot be written: {error}", store.display());
        return Check::failed(
            CHECK,
            detail,
            "run as the owner of the file, as the server does",
        );
    }
    let folder = match store.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    if is_open_to_others(key) {
        let detail = format!("others may read the master key in {}", key.display());
        return Check::warning(CHECK, detail, format!("chmod 600 {}", key.display()));
    }
    if is_open_to_others(&folder) && is_open_to_others(store) {
        let detail = format!("others may read the store in {}", folder.display());
        return Check::warning(CHECK, detail, format!("chmod 700 {}", folder.display()));
    }
    Check::ok(
        CHECK,
        format!("only its user may read {}", folder.display()),
    )
}

fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}
