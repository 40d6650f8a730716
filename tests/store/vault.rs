//! What is kept sealed, and the master key that opens it.

use mirrory::{
    app::{StartError, open_keys},
    config::DatabaseKind,
    keys::{Algorithm, Keys, KeysError, vault::VaultError},
    store::freshness::Freshness,
};

use crate::{
    harness::{Store, on_both_stores},
    keys::{Ring, claims},
};

on_both_stores!(
    another_master_key_opens_nothing,
    a_sealed_key_does_not_open_in_the_place_of_another,
    a_changed_sealed_key_does_not_open,
    a_key_is_stored_only_sealed,
    without_a_configured_master_key,
);

async fn open(store: &Store) -> Result<Keys, StartError> {
    let freshness = Freshness::new(store.clock.clone());
    let database = store.open().await;
    open_keys(
        &store.config,
        &database,
        &store.clock,
        &store.randomness,
        freshness,
    )
    .await
}

async fn refused(store: &Store) -> VaultError {
    match open(store).await {
        Err(StartError::Keys(KeysError::Vault(error))) => error,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("the keys open"),
    }
}

async fn another_master_key_opens_nothing(mut store: Store) {
    Ring::open(&store).await;
    let other = "//////////////////////////////////////////8=".to_owned();
    let right = store.config.secrets.master_key.replace(other.into());
    assert_eq!(refused(&store).await, VaultError::WrongMasterKey);
    store.config.secrets.master_key = right;
    assert!(open(&store).await.is_ok(), "nothing was made anew");
    assert_eq!(store.number("SELECT count(*) FROM signing_keys").await, 1);
}

async fn a_sealed_key_does_not_open_in_the_place_of_another(store: Store) {
    let ring = Ring::open(&store).await;
    ring.rotate(Algorithm::HS256, &store).await;
    let swapped = "UPDATE signing_keys SET sealed = \
                   (SELECT sealed FROM signing_keys WHERE singleton = 'first')";
    store.execute(swapped).await.unwrap();
    assert_eq!(refused(&store).await, VaultError::NotSealedHere);
}

async fn a_changed_sealed_key_does_not_open(store: Store) {
    Ring::open(&store).await;
    store
        .execute("UPDATE signing_keys SET algorithm = 'ES256'")
        .await
        .unwrap();
    assert_eq!(refused(&store).await, VaultError::NotSealedHere);
    let shortened = match store.kind() {
        DatabaseKind::Postgres => "substring(sealed for 20)",
        DatabaseKind::Sqlite => "substr(sealed, 1, 20)",
    };
    let sql = format!("UPDATE signing_keys SET algorithm = 'HS256', sealed = {shortened}");
    store.execute(&sql).await.unwrap();
    assert_eq!(refused(&store).await, VaultError::NotSealedHere);
}

async fn a_key_is_stored_only_sealed(store: Store) {
    let ring = Ring::open(&store).await;
    let key = ring.keys.generate(Algorithm::EdDSA).await.unwrap();
    let end = store.clock.now();
    let actor = mirrory::store::changes::Actor::Operator;
    crate::harness::commit!(ring.database, |tx| ring.keys.rotate(tx, actor, &key, end));
    let sealed: Vec<Vec<u8>> = store.column("SELECT sealed FROM signing_keys").await;
    assert_eq!(sealed.len(), 2);
    for sealed in sealed {
        // PKCS#8 says in the clear what kind of key it is (RFC 8410, section 3).
        let names_ed25519 = sealed.windows(3).any(|bytes| bytes == [0x2b, 0x65, 0x70]);
        assert!(sealed.len() >= 12 + 32 + 16 && !names_ed25519);
    }
    let wrapped: Vec<Vec<u8>> = store.column("SELECT wrapped FROM data_keys").await;
    assert_eq!(wrapped[0].len(), 12 + 32 + 16);
}

/// The embedded store makes a master key beside itself; PostgreSQL must be given one.
async fn without_a_configured_master_key(mut store: Store) {
    store.config.secrets.master_key = None;
    let Some(file) = store.folder().map(|folder| folder.join("master.key")) else {
        assert!(matches!(open(&store).await, Err(StartError::NoMasterKey)));
        assert_eq!(store.number("SELECT count(*) FROM data_keys").await, 0);
        return;
    };
    let opened = futures_util::future::join_all((0..8).map(|_| open(&store))).await;
    let opened: Vec<Keys> = opened.into_iter().map(Result::unwrap).collect();
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let claims = claims(&store);
    let token = opened[0].sign(&claims).await.unwrap();
    for keys in opened.into_iter().skip(1) {
        assert_eq!(keys.verify(&token).await.unwrap().unwrap(), claims);
    }

    let kept = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let lost = open(&store).await;
    assert!(
        matches!(lost, Err(StartError::LostMasterKey(_))),
        "and makes no other"
    );
    assert!(!file.exists());
    std::fs::write(&file, b"no key").unwrap();
    assert!(matches!(
        open(&store).await,
        Err(StartError::MasterKeyFile { .. })
    ));
    std::fs::write(&file, kept).unwrap();
    assert!(open(&store).await.is_ok());
}
