//! Settings as people paste them, and what must not come of it.

use std::fs;

use crate::{harness::Place, server::Server};

/// What a server has logged, once it has ended.
async fn log(server: Server) -> String {
    let file = server.stderr_file.clone();
    server.stop().await;
    fs::read_to_string(file).unwrap()
}

/// What lies beside the store, but what is there only while it is open.
fn files(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.work().join("data")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_kept = |name: &String| !name.ends_with("-wal") && !name.ends_with("-shm");
    let mut names: Vec<_> = names.filter(is_kept).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_ends_of_an_env_file_make_no_second_store() {
    let place = Place::sqlite();
    place.start().await.stop().await;
    let site = place.create_site("free");
    let before = files(&place);
    let config = place.work().join("shop.toml");
    fs::write(&config, "[tokens]\r\nissuer = \" shop\\r\"\r\n").unwrap();
    let place = place
        .with("DATABASE_URL", "sqlite://data/mirrory.db\r")
        .with("MIRRORY_CONFIG", " shop.toml\r\n")
        .with("MIRRORY__TOKENS__COINS", "7\r")
        .with("MIRRORY__TELEMETRY__OTLP_ENDPOINT", "\r")
        .with("MIRRORY__BOOTSTRAP__PROXY_SECRET", "a secret of my own\r\n");
    let sites = place.ask(["site", "list"]);
    assert!(
        sites
            .as_array()
            .unwrap()
            .iter()
            .any(|shown| shown["id"] == site.id)
    );
    let shown = place.ask(["config"]);
    assert_eq!(shown["tokens"]["issuer"], "shop");
    assert_eq!(shown["tokens"]["coins"], 7);
    let server = place.start().await;
    let secret = "a secret of my own";
    assert_eq!(server.client().generate(secret, 1).await.status, 200);
    server.stop().await;
    assert_eq!(files(&place), before);
    let place = place.with("MIRRORY_CONFIG", "");
    assert_eq!(place.ask(["config"])["tokens"]["issuer"], "mirrory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_that_it_makes_a_store() {
    let place = Place::sqlite();
    let made = "there was no store: made a new one";
    let first = log(place.start().await).await;
    let line = first.lines().find(|line| line.contains(made)).unwrap();
    assert!(
        line.contains("WARN") && line.contains("data/mirrory.db"),
        "{line}"
    );
    let second = log(place.start().await).await;
    assert!(!second.contains(made), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_key_without_its_store_stops_the_start_and_no_import() {
    let place = Place::sqlite();
    place.start().await.stop().await;
    let sites = place.ask(["site", "list"]);
    place.ask(["export", "--output", "house.ndjson"]);
    let lost = |place: &Place| {
        for arguments in [
            &["serve"][..],
            &["migrate"],
            &["site", "create", "--name", "Shop"],
        ] {
            let done = place.run(arguments);
            assert_eq!(done.code, Some(1), "{arguments:?} {done:?}");
            let line = done.complaint();
            assert!(line.contains("there is no store "), "{line}");
            assert!(line.contains("data/master.key"), "{line}");
            assert!(line.contains("run `mirrory import`"), "{line}");
        }
        let done = place.run(["doctor"]);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stdout.contains("its master key is there"), "{done:?}");
    };
    let place = place.with("DATABASE_URL", "sqlite://data/mirory.db");
    lost(&place);
    assert!(!place.work().join("data/mirory.db").exists());

    let destination = Place::sqlite();
    fs::create_dir(destination.work().join("data")).unwrap();
    let key = place.work().join("data/master.key");
    fs::copy(key, destination.work().join("data/master.key")).unwrap();
    lost(&destination);
    let file = place.work().join("house.ndjson");
    destination.ask(["import", file.to_str().unwrap()]);
    destination.start().await.stop().await;
    assert_eq!(destination.ask(["site", "list"]), sites);
}

#[test]
fn a_word_that_filters_nothing_stops_the_start() {
    let place = Place::sqlite().with("RUST_LOG", "warning");
    for arguments in [&["serve"][..], &["site", "list"], &["doctor"]] {
        let done = place.run(arguments);
        assert_eq!(done.code, Some(1), "{done:?}");
        let line = done.complaint();
        assert!(
            line.contains("bad RUST_LOG: `warning` is no level"),
            "{line}"
        );
    }
    assert!(!place.work().join("data").exists());
    for good in ["info", "WARN\r", "mirrory=debug,sqlx=warn", ""] {
        let place = Place::sqlite().with("RUST_LOG", good);
        assert_eq!(place.run(["config"]).code, Some(0), "{good:?}");
    }
}

#[test]
fn a_url_of_another_program_is_refused_with_what_to_write_here() {
    let url = "postgres://me:hunter2@db.example/mirrory?schema=public";
    let done = Place::on_database(url).run(["serve"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let line = done.complaint();
    assert!(
        line.contains("`schema`") && line.contains("options[search_path]"),
        "{line}"
    );
    assert!(!line.contains("hunter2"), "{line}");
}
