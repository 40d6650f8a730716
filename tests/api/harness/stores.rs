//! Where a test's store lies: a folder of its own, or a database of its own.

use std::{
    env, fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::postgres;

/// Which store a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Sqlite,
    Postgres,
}

/// An empty store; what it lies in goes when this is dropped.
pub(super) enum Place {
    Folder(PathBuf),
    Database(String),
}

/// Base64 of 32 bytes.
pub(super) const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

impl Place {
    pub(super) async fn make(store: Store) -> Self {
        match store {
            Store::Sqlite => Self::Folder(make_folder()),
            Store::Postgres => {
                // Starting the cluster blocks.
                let cluster = tokio::task::spawn_blocking(postgres::shared).await.unwrap();
                Self::Database(cluster.create_database().await)
            }
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Folder(folder) => format!("sqlite://{}/mirrory.db", folder.display()),
            Self::Database(url) => url.clone(),
        }
    }

    pub(super) fn settings(&self) -> Vec<(String, String)> {
        vec![
            ("MIRRORY__DATABASE__URL".to_owned(), self.url()),
            (
                "MIRRORY__SECRETS__MASTER_KEY".to_owned(),
                MASTER_KEY.to_owned(),
            ),
        ]
    }
}

fn make_folder() -> PathBuf {
    static FOLDERS: AtomicU32 = AtomicU32::new(0);
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = env::temp_dir().join(format!("mirrory-api-{}-{number}", process::id()));
    // A process before may have had the same id and left it.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the temporary folder is writable");
    folder
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Folder(folder) = self {
            // What goes wrong here must not hide why a test failed.
            let _ = fs::remove_dir_all(folder);
        }
    }
}
