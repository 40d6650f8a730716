//! Health is more than an answer: a store that cannot be written is none.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::harness::{PATIENCE, Place, free_address};

/// Its user may read the file, and not write it.
#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_that_may_only_be_read_is_not_healthy() {
    let place = Place::sqlite().with("MIRRORY__SERVER__LISTEN", &free_address());
    place.start().await.stop().await;
    let file = place.work().join("data/mirrory.db");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    if fs::File::options().write(true).open(&file).is_ok() {
        println!("skipped: root writes what may only be read; run as nobody, it is tried");
        return;
    }
    let mut server = place.spawn();
    server.address = place.setting("MIRRORY__SERVER__LISTEN").parse().unwrap();
    for path in ["/mirrory/health", "/readyz"] {
        server.wait_for_status("/livez", 200, PATIENCE).await;
        server.wait_for_status(path, 503, PATIENCE).await;
    }
    let health = server.client().get("/mirrory/health").await.unwrap();
    assert_eq!(health.body()["store"]["status"], "down", "{health:?}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    server.stop().await;
}
