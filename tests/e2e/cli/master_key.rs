//! `mirrory key rotate-master`

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio, thread::sleep, time::Duration};

use super::MACHINE;
use crate::{
    harness::{MASTER_KEY, Place},
    postgres,
};

const NEW: &str = "YW5vdGhlciBtYXN0ZXIga2V5IG9mIHRoZSBlMmUgdHM=";

const ROTATE: [&str; 4] = ["key", "rotate-master", "--new-key-file", "new.key"];

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_key_is_replaced_while_a_server_runs() {
    let place = Place::postgres(postgres::shared()).await;
    let server = place.start().await;
    let site = place.create_site("enterprise");
    let token = server.client().token(&site.secret).await;
    fs::write(place.work().join("new.key"), format!("{NEW}\n")).unwrap();
    let done = place.run(["key", "rotate-master"]);
    assert!(done.complaint().contains("--new-key-file"), "{done:?}");

    for (mode, status, is_warned) in [(0o644, "rotated", true), (0o600, "unchanged", false)] {
        let file = place.work().join("new.key");
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        let done = place.run([&ROTATE[..], &["--json"]].concat());
        assert_eq!(done.document()["status"], status);
        assert_eq!(done.stderr.contains("chmod 600"), is_warned, "{done:?}");
    }
    let verdict = server.client().validate(&token, MACHINE).await;
    assert!(verdict.is_valid(), "the running server goes on");
    let done = place.run(["key", "list"]);
    assert_eq!(done.code, Some(1));
    assert!(done.complaint().contains("master key"), "{done:?}");
    server.stop().await;

    let place = place.with("MIRRORY__SECRETS__MASTER_KEY", NEW);
    let server = place.start().await;
    assert!(server.client().validate(&token, MACHINE).await.is_valid());
    for (file, text) in place.said() {
        assert!(
            !text.contains(NEW) && !text.contains(MASTER_KEY),
            "{file:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_beside_an_embedded_store_is_replaced_while_a_server_runs() {
    let place = Place::sqlite();
    let server = place.start().await;
    let site = place.create_site("enterprise");
    let token = server.client().token(&site.secret).await;
    let file = place.work().join("data/master.key");
    let old = fs::read_to_string(&file).unwrap();
    let rotated = place.ask(["key", "rotate-master"]);
    assert_eq!(rotated["status"], "rotated");
    assert_eq!(rotated["file"], "data/master.key");
    let new = fs::read_to_string(&file).unwrap();
    assert_ne!(new, old);
    assert!(server.client().validate(&token, MACHINE).await.is_valid());
    server.stop().await;
    let server = place.start().await;
    assert!(server.client().validate(&token, MACHINE).await.is_valid());
    for (file, text) in place.said() {
        assert!(
            !text.contains(new.trim()) && !text.contains(old.trim()),
            "{file:?}"
        );
    }
}

#[test]
fn the_store_opens_wherever_a_rotation_is_killed() {
    let place = Place::sqlite();
    place.create_site("free");
    let keys = place.ask(["key", "list"]);
    let step = Duration::from_micros(800);
    let mut patience = Duration::ZERO;
    loop {
        let mut command = place.program(["key", "rotate-master"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut rotation = command.spawn().unwrap();
        sleep(patience);
        let is_done = rotation.try_wait().unwrap().is_some();
        rotation.kill().unwrap();
        rotation.wait().unwrap();
        assert_eq!(place.ask(["key", "list"]), keys, "after {patience:?}");
        if is_done {
            return;
        }
        patience += step;
    }
}
