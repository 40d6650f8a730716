//! Migrations: applied once, whoever comes first, and forgiving towards a newer version.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use data_encoding::HEXLOWER;
use futures_util::future::join_all;
use mirrory::{
    app::{StartError, open_store},
    config::DatabaseKind,
    store::migrations::MigrationError,
};
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, migrate::Migrate};
use tokio::time::timeout;

use crate::harness::{Hold, Store, on_both_stores};

on_both_stores!(
    eight_instances_that_start_at_once_apply_each_migration_once,
    opening_again_keeps_what_is_there,
    an_unknown_newer_migration_is_left_alone,
    a_migration_that_was_changed_or_cut_off_is_refused,
);

const DEADLINE: Duration = Duration::from_secs(10);

/// How many there are for the database.
fn migrations(store: &Store) -> i64 {
    let folder = match store.kind() {
        DatabaseKind::Postgres => "migrations/postgres",
        DatabaseKind::Sqlite => "migrations/sqlite",
    };
    i64::try_from(std::fs::read_dir(folder).unwrap().count()).unwrap()
}

async fn eight_instances_that_start_at_once_apply_each_migration_once(store: Store) {
    let databases = join_all((0..8).map(|_| store.open())).await;
    for database in &databases {
        assert_eq!(mirrory::store::changes::end(database).await.unwrap().seq, 0);
    }
    let applied = "SELECT count(*) FROM _sqlx_migrations WHERE success";
    assert_eq!(store.number(applied).await, migrations(&store));
    assert_eq!(store.number("SELECT count(*) FROM change_counter").await, 1);
}

async fn opening_again_keeps_what_is_there(store: Store) {
    let (site_id, secret) = store.instance().await.create_site().await;
    let again = store.instance().await;
    assert!(again.sites.find(site_id).await.unwrap().is_some());
    assert!(again.sites.authenticate(&secret).await.unwrap().is_some());
}

async fn an_unknown_newer_migration_is_left_alone(store: Store) {
    store.open().await;
    let newer = "INSERT INTO _sqlx_migrations \
                 (version, description, success, checksum, execution_time) \
                 SELECT 29991231235959, 'of a later version', success, checksum, 1 \
                 FROM _sqlx_migrations LIMIT 1; \
                 ALTER TABLE sites ADD COLUMN of_a_later_version TEXT";
    store.execute(newer).await.unwrap();
    let instance = store.instance().await;
    let (site_id, _) = instance.create_site().await;
    assert!(instance.sites.find(site_id).await.unwrap().is_some());
    let versions = "SELECT count(*) FROM _sqlx_migrations";
    assert_eq!(store.number(versions).await, migrations(&store) + 1);
}

async fn a_migration_that_was_changed_or_cut_off_is_refused(store: Store) {
    let database = store.open().await;
    for (doing, undoing) in [
        (
            "UPDATE _sqlx_migrations SET success = FALSE",
            "UPDATE _sqlx_migrations SET success = TRUE",
        ),
        (
            "UPDATE _sqlx_migrations SET checksum = (SELECT checksum FROM _sqlx_migrations \
             ORDER BY version DESC LIMIT 1)",
            "",
        ),
    ] {
        store.execute(doing).await.unwrap();
        let refused = open_store(&store.config.database, DEADLINE).await;
        assert!(
            matches!(refused, Err(StartError::Migrate(_))),
            "{refused:?}"
        );
        // The failed attempt holds nothing that another instance would wait for.
        assert!(database.migrate().await.is_err());
        store.execute(undoing).await.unwrap();
    }
}

#[tokio::test]
async fn tables_that_are_up_to_date_are_opened_while_another_instance_migrates() {
    let store = Store::postgres().await;
    store.open().await;
    let url = store.config.database.url.expose();
    let mut other = PgConnection::connect(url).await.unwrap();
    other.lock().await.unwrap();
    let opened = timeout(DEADLINE, open_store(&store.config.database, DEADLINE)).await;
    opened.unwrap().unwrap();
}

/// The files of the migrations, as `postgres/….sql` and `sqlite/….sql`, with their SHA-256.
fn files() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files = BTreeMap::new();
    for database in ["postgres", "sqlite"] {
        for entry in fs::read_dir(folder.join(database)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let digest = Sha256::digest(fs::read(&path).unwrap());
            files.insert(format!("{database}/{name}"), HEXLOWER.encode(&digest));
        }
    }
    files
}

/// What is sure to have been applied somewhere, in the order of its making: the lines of
/// `sha256sum`, of which a new migration needs one at the end for each database.
fn listed() -> Vec<(String, String)> {
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/checksums.txt");
    let list = fs::read_to_string(list).unwrap();
    let parse = |line: &str| {
        let (digest, name) = line.split_once("  ").expect("a line of sha256sum");
        (name.to_owned(), digest.to_owned())
    };
    list.lines().map(parse).collect()
}

#[test]
fn a_migration_never_changes_once_it_is_listed() {
    let mut files = files();
    for (name, digest) in listed() {
        let found = files.remove(&name);
        assert_eq!(
            found.as_ref(),
            Some(&digest),
            "{name} was changed or removed: stores that have applied it would refuse to start, so \
             undo that and add a migration instead",
        );
    }
    let missing: Vec<_> = files.into_keys().collect();
    assert!(
        missing.is_empty(),
        "not yet listed; do: cd migrations && sha256sum {} >> checksums.txt",
        missing.join(" ")
    );
}

#[test]
fn a_new_migration_comes_after_all_that_there_were() {
    for database in ["postgres/", "sqlite/"] {
        let names: Vec<_> = listed()
            .into_iter()
            .filter_map(|(name, _)| name.starts_with(database).then_some(name))
            .collect();
        for pair in names.windows(2) {
            assert!(
                pair[0] < pair[1],
                "{} is listed after {}: it would be applied before it on a new store, and after it \
                 on one that there is; give it a later name",
                pair[1],
                pair[0]
            );
        }
    }
}

/// As an older instance left it: the newest but one migration is not applied.
const RESERVED_CALLS_ARE_MISSING: &str = "\
ALTER TABLE usage DROP COLUMN day_reserved, DROP COLUMN month_reserved; \
DELETE FROM _sqlx_migrations WHERE version = 20261121110100";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_waits_for_a_back_up_gives_way_to_calls_and_in_the_end_up() {
    let store = Store::postgres().await;
    let database = store.open().await;
    store.execute(RESERVED_CALLS_ARE_MISSING).await.unwrap();
    let back_up = Hold::with(&store, "LOCK TABLE usage IN ACCESS SHARE MODE").await;
    let migrating = database.migrate();
    let calling = async {
        store.until_waiting(1).await;
        // This ends only because the migration stops waiting; the back-up goes on.
        store.number("SELECT count(day) FROM usage").await
    };
    let (given_up, _) = tokio::join!(migrating, calling);
    assert!(
        matches!(given_up, Err(MigrationError::Busy(_))),
        "{given_up:?}"
    );
    back_up.release().await;
    database.migrate().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_is_applied_once_the_tables_are_free() {
    let store = Store::postgres().await;
    let database = store.open().await;
    store.execute(RESERVED_CALLS_ARE_MISSING).await.unwrap();
    let back_up = Hold::with(&store, "LOCK TABLE usage IN ACCESS SHARE MODE").await;
    let ending = async {
        store.until_waiting(1).await;
        while store.waiting().await > 0 {
            tokio::task::yield_now().await;
        }
        back_up.release().await;
    };
    let (migrated, ()) = tokio::join!(database.migrate(), ending);
    migrated.unwrap();
    let applied = "SELECT count(*) FROM _sqlx_migrations WHERE success";
    assert_eq!(store.number(applied).await, migrations(&store));
}
