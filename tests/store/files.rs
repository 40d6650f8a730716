//! The files of an embedded store: whose they are, and how large they get.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use sqlx::{Connection, SqliteConnection};

use crate::harness::Store;

const ENDINGS: [&str; 3] = ["", "-wal", "-shm"];

/// A store in a folder that others may look into.
async fn in_an_open_folder() -> (Store, PathBuf) {
    let store = Store::sqlite().await;
    let folder = store.folder().unwrap().clone();
    fs::create_dir(&folder).unwrap();
    permit(&folder, 0o755);
    let file = folder.join("mirrory.db");
    (store, file)
}

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn beside(store: &Path, ending: &str) -> PathBuf {
    format!("{}{ending}", store.display()).into()
}

fn are_private(store: &Path) {
    for ending in ENDINGS {
        let mode = fs::metadata(beside(store, ending))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{ending}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_store_is_for_its_owner_alone() {
    let (store, file) = in_an_open_folder().await;
    let instance = store.instance().await;
    are_private(&file);
    instance.create_site().await;
    are_private(&file);
    let lock = fs::metadata(beside(&file, ".lock")).unwrap().permissions();
    assert_eq!(lock.mode() & 0o777, 0o600, "who reads it could hold it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_others_could_read_is_taken_from_them() {
    for mode in [0o644, 0o640, 0o666, 0o660] {
        let (store, file) = in_an_open_folder().await;
        let instance = store.instance().await;
        for ending in ENDINGS {
            permit(&beside(&file, ending), mode);
        }
        let another = store.instance().await;
        are_private(&file);
        instance.database.close().await;
        another.database.close().await;
        permit(&file, mode);
        let _again = store.instance().await;
        are_private(&file);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_behind_a_link_is_for_its_owner_alone() {
    let (store, link) = in_an_open_folder().await;
    let file = link.with_file_name("elsewhere.db");
    symlink(&file, &link).unwrap();
    let instance = store.instance().await;
    instance.create_site().await;
    are_private(&file);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_long_read_made_of_the_log_does_not_stay() {
    const MIB: u64 = 1 << 20;
    let (store, file) = in_an_open_folder().await;
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    let url = store.config.database.url.expose();
    let mut reader = SqliteConnection::connect(url).await.unwrap();
    let reading = sqlx::raw_sql("BEGIN; SELECT count(*) FROM sites").execute(&mut reader);
    reading.await.unwrap();
    let much = "CREATE TABLE much (bytes BLOB); INSERT INTO much VALUES (zeroblob(25000000)); \
                DELETE FROM much";
    store.execute(much).await.unwrap();
    let length = || fs::metadata(beside(&file, "-wal")).unwrap().len();
    assert!(length() > 20 * MIB, "{}", length());
    reader.close().await.unwrap();
    // The first writes the log back, the second begins it anew.
    for _ in 0..2 {
        instance.issue(site_id).await;
    }
    assert!(length() <= 16 * MIB, "{}", length());
}
