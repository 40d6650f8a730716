//! Another master key in the place of the one that a store was made with.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use mirrory::{
    app::{RotatedMasterKey, StartError, open_keys, rotate_master_key},
    keys::{
        KeysError, Rewrapped,
        vault::{MasterKey, VaultError},
    },
    store::freshness::Freshness,
};

use crate::{
    harness::{Store, on_both_stores},
    keys::{Ring, claims},
};

on_both_stores!(
    what_was_sealed_opens_with_the_new_key_alone,
    a_running_instance_notices_nothing,
    a_rotation_that_was_done_can_be_repeated,
    two_rotations_at_once_leave_one_of_their_keys,
    a_rotation_that_is_not_recorded_does_not_happen,
    with_the_wrong_key_nothing_is_changed,
    the_configured_key_needs_a_new_one,
);

const NEW: &str = "EBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8=";
const OTHER: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

const REFUSE_ROWS_SQLITE: &str = "\
CREATE TRIGGER refuse BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'refused'); END";

async fn rotate(store: &Store, new: Option<&str>) -> Result<RotatedMasterKey, StartError> {
    let new = new.map(|text| MasterKey::parse(text).unwrap());
    let database = store.open().await;
    rotate_master_key(
        &store.config,
        &database,
        new,
        &store.clock,
        &store.randomness,
    )
    .await
}

fn configure(store: &mut Store, key: &str) {
    store.config.secrets.master_key = Some(key.to_owned().into());
}

async fn opens(store: &Store) -> Result<(), StartError> {
    let freshness = Freshness::new(store.clock.clone());
    let database = store.open().await;
    let (clock, randomness) = (&store.clock, &store.randomness);
    let opened = open_keys(&store.config, &database, clock, randomness, freshness);
    opened.await.map(drop)
}

fn is_wrong_key<T>(outcome: &Result<T, StartError>) -> bool {
    matches!(
        outcome,
        Err(StartError::Keys(KeysError::Vault(
            VaultError::WrongMasterKey
        )))
    )
}

async fn what_was_sealed_opens_with_the_new_key_alone(mut store: Store) {
    let ring = Ring::open(&store).await;
    let claims = claims(&store);
    let token = ring.keys.sign(&claims).await.unwrap();
    let rotated = rotate(&store, Some(NEW)).await.unwrap();
    assert_eq!((rotated.rewrapped, rotated.file), (Rewrapped::Now, None));
    assert!(
        is_wrong_key(&opens(&store).await),
        "the old key opens nothing"
    );
    configure(&mut store, NEW);
    let ring = Ring::open(&store).await;
    let verified = ring.keys.verify(&token).await.unwrap();
    assert_eq!(verified.unwrap(), claims);
    let rows = "SELECT count(*) FROM audit_log WHERE event = 'master_key.rotated' \
                AND actor_kind = 'operator'";
    assert_eq!(store.number(rows).await, 1);
}

async fn a_running_instance_notices_nothing(store: Store) {
    let ring = Ring::open(&store).await;
    let before = ring.keys.sign(&claims(&store)).await.unwrap();
    rotate(&store, Some(NEW)).await.unwrap();
    // It makes, seals and opens keys as before.
    ring.rotate(mirrory::keys::Algorithm::HS256, &store).await;
    assert_eq!(ring.keys.list().await.unwrap().len(), 2);
    assert!(ring.keys.verify(&before).await.unwrap().is_ok());
}

async fn a_rotation_that_was_done_can_be_repeated(mut store: Store) {
    Ring::open(&store).await;
    rotate(&store, Some(NEW)).await.unwrap();
    let again = rotate(&store, Some(NEW)).await.unwrap();
    assert_eq!(again.rewrapped, Rewrapped::Before);
    configure(&mut store, NEW);
    let again = rotate(&store, Some(NEW)).await.unwrap();
    assert_eq!(again.rewrapped, Rewrapped::Before);
    opens(&store).await.unwrap();
    let rows = "SELECT count(*) FROM audit_log WHERE event = 'master_key.rotated'";
    assert_eq!(store.number(rows).await, 1);
}

async fn two_rotations_at_once_leave_one_of_their_keys(mut store: Store) {
    Ring::open(&store).await;
    let (one, other) = tokio::join!(rotate(&store, Some(NEW)), rotate(&store, Some(OTHER)));
    assert!(one.is_ok() ^ other.is_ok(), "{one:?} {other:?}");
    configure(&mut store, if one.is_ok() { NEW } else { OTHER });
    opens(&store).await.unwrap();
}

async fn a_rotation_that_is_not_recorded_does_not_happen(mut store: Store) {
    Ring::open(&store).await;
    refuse_rows(&store).await;
    assert!(rotate(&store, Some(NEW)).await.is_err());
    opens(&store).await.unwrap();
    configure(&mut store, NEW);
    assert!(is_wrong_key(&opens(&store).await));
}

/// Makes the audit log refuse every row.
async fn refuse_rows(store: &Store) {
    let refuse = match store.kind() {
        mirrory::config::DatabaseKind::Postgres => {
            "ALTER TABLE audit_log ADD CONSTRAINT refuse CHECK (count > 1) NOT VALID"
        }
        mirrory::config::DatabaseKind::Sqlite => REFUSE_ROWS_SQLITE,
    };
    store.execute(refuse).await.unwrap();
}

async fn with_the_wrong_key_nothing_is_changed(mut store: Store) {
    Ring::open(&store).await;
    let right = store.config.secrets.master_key.clone();
    configure(&mut store, OTHER);
    assert!(is_wrong_key(&rotate(&store, Some(NEW)).await));
    store.config.secrets.master_key = right;
    opens(&store).await.unwrap();
}

async fn the_configured_key_needs_a_new_one(store: Store) {
    Ring::open(&store).await;
    let refused = rotate(&store, None).await;
    assert!(matches!(refused, Err(StartError::NoNewMasterKey)));
    opens(&store).await.unwrap();
}

/// An embedded store whose master key lies beside it, and the file.
async fn with_file() -> (Store, PathBuf) {
    let mut store = Store::sqlite().await;
    store.config.secrets.master_key = None;
    opens(&store).await.unwrap();
    let file = store.folder().unwrap().join("master.key");
    (store, file)
}

fn lines(file: &PathBuf) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_file_beside_the_store_is_replaced() {
    let (store, file) = with_file().await;
    let old = lines(&file);
    let rotated = rotate(&store, None).await.unwrap();
    assert_eq!(rotated.file, Some(file.clone()));
    let made = lines(&file);
    assert_eq!(made.len(), 1);
    assert_ne!(made, old);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    opens(&store).await.unwrap();

    rotate(&store, Some(NEW)).await.unwrap();
    assert_eq!(lines(&file), [NEW]);
    opens(&store).await.unwrap();
    fs::write(&file, &old[0]).unwrap();
    assert!(is_wrong_key(&opens(&store).await));
}

#[tokio::test]
async fn cut_off_before_the_store_is_changed_the_old_key_opens_it() {
    let (store, file) = with_file().await;
    let old = lines(&file);
    refuse_rows(&store).await;
    assert!(rotate(&store, Some(NEW)).await.is_err());
    assert_eq!(lines(&file), [old[0].as_str(), NEW]);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    opens(&store).await.unwrap();
    assert_eq!(lines(&file), old, "a start ends what was begun");
}

#[tokio::test]
async fn cut_off_after_the_store_was_changed_the_new_key_opens_it() {
    let (store, file) = with_file().await;
    let old = lines(&file);
    rotate(&store, Some(NEW)).await.unwrap();
    let cut_off = format!("{}\n{NEW}\n", old[0]);
    fs::write(&file, &cut_off).unwrap();
    opens(&store).await.unwrap();
    assert_eq!(lines(&file), [NEW]);

    fs::write(&file, &cut_off).unwrap();
    let again = rotate(&store, Some(NEW)).await.unwrap();
    assert_eq!(again.rewrapped, Rewrapped::Before);
    assert_eq!(lines(&file), [NEW]);
    rotate(&store, Some(OTHER)).await.unwrap();
    assert_eq!(lines(&file), [OTHER]);
    opens(&store).await.unwrap();
}

#[tokio::test]
async fn half_a_file_under_another_name_is_no_key() {
    let (store, file) = with_file().await;
    fs::write(file.with_extension("key.new"), &NEW[..9]).unwrap();
    opens(&store).await.unwrap();
    rotate(&store, Some(OTHER)).await.unwrap();
    assert_eq!(lines(&file), [OTHER]);
    assert!(!file.with_extension("key.new").exists());
}

#[tokio::test]
async fn a_file_whose_keys_open_nothing_is_left_as_it_is() {
    let (store, file) = with_file().await;
    let wrong = format!("{NEW}\n{OTHER}\n");
    fs::write(&file, &wrong).unwrap();
    assert!(is_wrong_key(&opens(&store).await));
    assert!(is_wrong_key(&rotate(&store, None).await));
    fs::write(&file, NEW).unwrap();
    assert!(is_wrong_key(&rotate(&store, Some(OTHER)).await));
    assert_eq!(lines(&file), [NEW]);
}
