//! `mirrory doctor`: beside a running server, and where something is wrong.

use std::{collections::BTreeMap, fs, net::TcpListener, path::PathBuf};

use serde_json::Value;

use crate::harness::{Done, Place, free_address, on_both_stores};

on_both_stores! {
    beside_a_running_server_all_is_well_and_nothing_is_changed,
    without_its_keys_it_fails_and_says_what_to_do,
}

fn checks(done: &Done) -> BTreeMap<String, Value> {
    let checks = done.document();
    let name = |check: &Value| (check["check"].as_str().unwrap().to_owned(), check.clone());
    checks.as_array().unwrap().iter().map(name).collect()
}

/// Every file of a place and what is in it.
fn files(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    let data = place.work().join("data");
    let Ok(entries) = fs::read_dir(data) else {
        return BTreeMap::new();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

async fn beside_a_running_server_all_is_well_and_nothing_is_changed(place: Place) {
    let place = place.with("MIRRORY__TELEMETRY__METRICS_LISTEN", &free_address());
    let server = place.start().await;
    let address = server.address.to_string();
    let place = place.with("MIRRORY__SERVER__LISTEN", &address);
    place.create_site("free");
    let done = place.run(["doctor", "--json"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    let checks = checks(&done);
    for (name, check) in &checks {
        let is_of_tests = name == "durability" && !place.is_embedded();
        let expected = if is_of_tests { "warning" } else { "ok" };
        assert_eq!(check["status"], expected, "{check}");
    }
    let listen = checks["listen"]["detail"].as_str().unwrap();
    assert!(listen.contains("healthy"), "{listen}");
    let metrics = checks["metrics_listen"]["detail"].as_str().unwrap();
    assert!(metrics.contains("shows its metrics"), "{metrics}");
    let done = place.run(["doctor"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    assert!(done.stdout.contains("ok       signing_keys"), "{done:?}");
    server.stop().await;

    let before = files(&place);
    assert_eq!(place.run(["doctor"]).code, Some(0));
    assert_eq!(files(&place), before);
}

async fn without_its_keys_it_fails_and_says_what_to_do(place: Place) {
    place.start().await.stop().await;
    let place = place.without("MIRRORY__SECRETS__MASTER_KEY");
    let key = place.work().join("data/master.key");
    if place.is_embedded() {
        fs::remove_file(&key).unwrap();
    }
    let done = place.run(["doctor", "--json"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let check = &checks(&done)["master_key"];
    assert_eq!(check["status"], "failed");
    assert!(check["advice"].as_str().unwrap().contains("key"), "{check}");
    assert!(!key.exists());
    let done = place.run(["doctor"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stdout.contains("FAILED   master_key"), "{done:?}");
    assert!(done.stdout.contains(" -> "), "{done:?}");
}

#[test]
fn what_cannot_be_reached_or_listened_on_fails_and_the_rest_is_looked_at() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::on_database("postgres://mirrory:hidden@127.0.0.1:1/mirrory")
        .with("MIRRORY__SERVER__LISTEN", &address)
        .with("MIRRORY__TELEMETRY__METRICS_LISTEN", "203.0.113.1:9464");
    let done = place.run(["doctor", "--json"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let found = checks(&done);
    assert_eq!(found["store"]["status"], "failed");
    for (check, setting) in [
        ("listen", "server.listen"),
        ("metrics_listen", "telemetry.metrics_listen"),
    ] {
        assert_eq!(found[check]["status"], "failed");
        let advice = found[check]["advice"].as_str().unwrap();
        assert!(advice.contains(setting), "{advice}");
    }
    assert_eq!(found["trusted_proxies"]["status"], "ok");
    assert!(!done.stdout.contains("hidden"), "{done:?}");
    let place = place.with("MIRRORY__SERVER__LISTEN", "0.0.0.0:0");
    let found = checks(&place.run(["doctor", "--json"]));
    assert_eq!(found["trusted_proxies"]["status"], "warning");
    assert_eq!(found["listen"]["status"], "ok");
}

#[test]
fn a_bad_configuration_is_a_check_that_failed() {
    let place = Place::sqlite().with("MIRRORY__SERVER__LISTEN", "nowhere");
    let done = place.run(["doctor", "--json"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let check = &checks(&done)["configuration"];
    assert_eq!(check["status"], "failed");
    assert!(check["detail"].as_str().unwrap().contains("server.listen"));
}

#[test]
fn a_store_that_is_not_there_is_not_made() {
    let place = Place::sqlite();
    let done = place.run(["doctor", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(checks(&done)["store"]["status"], "warning");
    assert_eq!(fs::read_dir(place.work()).unwrap().count(), 0);
}
